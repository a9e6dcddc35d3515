//! What `/metrics` says of appends, deliveries, connections, queues and subscribers.

use std::{collections::HashMap, time::Duration};

use domain::device::{Channel, Identity, Profile, RegisterDevice};
use futures_util::{StreamExt, stream::FuturesUnordered};
use pushledger::ledger::{Context, Lane};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{PACKAGE, PATIENCE, RawClient, World, message, ok, until};

/// Every series by its name and labels, as written.
pub async fn series(world: &World) -> HashMap<String, f64> {
    let reply = RawClient::new(world).send("GET", "/metrics", &[], b"").await;
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.strip_prefix("pushledger_").unwrap().to_owned(), value.parse().unwrap())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// Deliveries at a stage, with a reason, once the views are there.
async fn deliveries(world: &World, stage: &str, reason: &str) -> f64 {
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    let name = format!("deliveries_total{{stage=\"{stage}\",reason=\"{reason}\"}}");
    series(world).await.get(&name).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_connections_and_every_step_of_a_delivery_are_counted() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    world.register("c-2").await;
    assert_eq!(series(&world).await["connections"], 0.0);
    let mut device = world.connect(&caller).await;
    until("no connection is counted", async || series(&world).await["connections"] == 1.0).await;
    let both = json!({ "dst": { "type": 0, "Id": ["c-1", "c-2"] }, "expires": 60 });
    let pushed = ok(&world.cloud(), "/umse/v2/msgPush", &both).await;
    let id = pushed["msgId"].as_str().unwrap().to_owned();
    assert_eq!(message(&mut device).await.0, id);
    // The acknowledgement leaves while the device waits for more.
    tokio::select! {
        _ = world.until_status(&id, 2) => {}
        more = device.next() => panic!("{more:?} came"),
    }
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 3 });
    ok(&caller, "/ums/v2/report", &report).await;
    drop(device);
    until("the connection stays counted", async || series(&world).await["connections"] == 0.0)
        .await;
    world.clock.advance(Duration::from_secs(60));
    until("nothing expired", async || deliveries(&world, "ended", "expired_offline").await > 0.0)
        .await;
    for (stage, reason, count) in [
        ("accepted", "", 2.0),
        ("sent", "", 1.0),
        ("received", "", 1.0),
        ("displayed", "", 1.0),
        ("acknowledged", "", 0.0),
        ("failed", "no_binding", 0.0),
        ("ended", "expired_offline", 1.0),
        ("ended", "expired_unacknowledged", 0.0),
    ] {
        assert_eq!(deliveries(&world, stage, reason).await, count, "{stage} {reason}");
    }
    let now = series(&world).await;
    // Nobody else appends to this ledger.
    let appended = now["events_appended_total"];
    assert_eq!((appended, appended), (now["head_position"], world.head().await as f64));
    assert_eq!(now["group_events_sum"], appended);
    let groups = now["group_events_count"];
    assert!((1.0..=appended).contains(&groups), "{groups} groups");
    assert_eq!(now["commit_seconds_count"], groups);
    assert!(now["commit_seconds_sum"] > 0.0);
    assert_eq!(now["requests_total{route=\"/ums/v2/register\",code=\"00000\"}"], 2.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_wait_are_counted_by_their_lane() {
    let world = World::new().await;
    world.register("c-1").await;
    let register = RegisterDevice {
        app: "demo".to_owned(),
        allowed_packages: Vec::new(),
        user: None,
        profile: Profile {
            app_package: PACKAGE.to_owned(),
            device_type: "01".to_owned(),
            type_id: None,
            channel: Channel::Jpush,
        },
        identity: Identity { client_id: "c-1".to_owned(), ..Identity::default() },
        new_device: Uuid::nil(),
        new_account: Uuid::nil(),
    };
    let mut backdoor = world.place.backdoor().await;
    backdoor.run(if world.place.on_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" }).await;
    backdoor.run("UPDATE head SET position = position").await;
    // Nothing is committed now. What came at first is under way, and what comes later waits.
    let ledger = &world.running.server.ledger;
    let mut waiting = FuturesUnordered::new();
    until("nothing waits", async || {
        let context = Context { app: "demo".to_owned(), ..Context::default() };
        waiting.push(ledger.execute(Lane::Interactive, context, register.clone()));
        let none = futures_util::poll!(waiting.next()).is_pending();
        assert!(none, "something was committed");
        series(&world).await["queue_commands{lane=\"interactive\"}"] > 0.0
    })
    .await;
    assert_eq!(series(&world).await["queue_commands{lane=\"bulk\"}"], 0.0);
    backdoor.run("COMMIT").await;
    while let Some(answer) = waiting.next().await {
        answer.unwrap();
    }
    drop(waiting);
    assert_eq!(series(&world).await["queue_commands{lane=\"interactive\"}"], 0.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscriber_says_how_far_it_is_behind() {
    let world = World::new().await;
    let names = ["views", "gateway", "endings", "vendors", "callbacks", "seals", "erasures"];
    let lag = |name: &str| format!("lag_events{{subscriber=\"{name}\"}}");
    until("a subscriber says nothing", async || {
        let now = series(&world).await;
        names.iter().all(|name| now.contains_key(&lag(name)))
    })
    .await;
    world.register("c-1").await;
    world.push("c-1", json!({})).await;
    until("a subscriber stays behind", async || {
        let now = series(&world).await;
        names.iter().all(|name| now[&lag(name)] == 0.0)
    })
    .await;
    world.stop().await;
}
