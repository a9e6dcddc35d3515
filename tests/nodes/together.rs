//! Nodes that work together: what one does, the other knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use domain::{Event, message::Progress};
use futures_util::future::join_all;
use pushledger::{clock::Clock, delivery::expiry};
use serde_json::json;
use sim::{Admin, Caller, Device, DeviceOptions, Incoming};

use super::{PUSH, accepted, at, history, to};
use crate::harness::{
    ADMIN_TOKEN, PACKAGE, PATIENCE, Process, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY, World,
    message, ok, registration, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_registered_through_one_node_is_known_to_the_other_at_once() {
    let world = World::new().await;
    let second = world.second().await;
    let cloud = at(&second, &world.cloud());
    let work = (0..8).map(|writer| {
        let (world, cloud) = (&world, &cloud);
        async move {
            for n in 0..5 {
                let client = format!("c-{writer}-{n}");
                let caller = world.register(&client).await;
                ok(cloud, PUSH, &to(&client, json!({}))).await;
                ok(&caller, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
                let body = to(&client, json!({})).to_string();
                assert_eq!(cloud.call(PUSH, &body).await.unwrap().ret_code, "H32006");
            }
        }
    });
    join_all(work).await;
    history(&world).await;
    second.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_at_one_node_hears_of_everything_that_happens_at_the_other() {
    let world = World::new().await;
    let second = world.second().await;
    let cloud = at(&second, &world.cloud());
    let alice = world.register_of("alice", "c-1", json!({})).await;
    let options = DeviceOptions { auto_ack: false, ..DeviceOptions::new(&alice, PACKAGE) };
    let mut device = Device::connect(options).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..20 {
        let data = ok(&cloud, PUSH, &to("c-1", json!({ "n": n }))).await;
        ids.push(data["msgId"].as_str().unwrap().to_owned());
    }
    for id in &ids {
        assert_eq!(message(&mut device).await.0, *id);
        device.ack(id).await.unwrap();
    }
    // The other node knows what the device said.
    let last = ids.last().unwrap();
    until("the acknowledgement was never seen", async || {
        let info = ok(&cloud, "/umse/v2/getmsgstat", &json!({ "msgId": last })).await;
        info["status"] == 2
    })
    .await;
    let admin = Admin::new(&cloud.base_url, ADMIN_TOKEN);
    let recall = format!("/admin/v1/apps/demo/messages/{last}/recall");
    assert_eq!(admin.post(&recall, None).await.unwrap().0, 200);
    let control = Incoming::Control { op: "recall".to_owned(), id: last.clone() };
    assert_eq!(device.next_within(PATIENCE).await, Some(control));
    let bob = at(&second, &world.user("bob", "c-1").await);
    let mut body = registration("c-1");
    body["userId"] = json!("bob");
    ok(&bob, "/ums/v2/register", &body).await;
    match device.next_within(PATIENCE).await {
        Some(Incoming::Closed { code: 4002, .. }) => {}
        other => panic!("not closed: {other:?}"),
    }
    second.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_nodes_at_it_each_delivery_expires_once() {
    let world = World::with_clock().await;
    let second = world.second().await;
    // Whoever holds the lease: here both do.
    let server = Arc::clone(&second.server);
    let expiring = tokio::spawn(async move { expiry::run(&server).await });
    let clients: Vec<String> = (0..5).map(|n| format!("c-{n}")).collect();
    for client in &clients {
        world.register(client).await;
    }
    let push = |_| async {
        let body = json!({ "dst": { "type": 0, "Id": clients }, "message": {}, "expires": 60 });
        ok(&world.cloud(), PUSH, &body).await["msgId"].as_str().unwrap().to_owned()
    };
    let ids = join_all((0..40).map(push)).await;
    world.clock.advance(Duration::from_secs(60));
    for id in &ids {
        until("a delivery never ended", async || {
            let info = world.status(id).await;
            let devices = info["devices"].as_array().unwrap();
            devices.iter().all(|device| device["ended"] == "expired_offline")
        })
        .await;
    }
    expiring.abort();
    // The one may have been cut short in the middle of a command; what it asked for ends first.
    let _ = expiring.await;
    second.shutdown().await;
    let mut ends: BTreeMap<(String, i64), usize> = BTreeMap::new();
    for recorded in history(&world).await {
        let Event::DeliveriesAdvanced(advanced) = recorded.event else { continue };
        for step in advanced.steps {
            assert!(matches!(step.what, Progress::Ended(_)));
            *ends.entry((recorded.stream.to_string(), step.device)).or_default() += 1;
        }
    }
    assert_eq!(ends.len(), 200);
    assert!(ends.values().all(|times| *times == 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_writers_in_two_processes_make_one_ledger_and_see_no_conflict() {
    const WRITERS: usize = 64;
    const ROUNDS: usize = 8;
    let world = World::new().await;
    on_postgres!(world);
    for writer in 0..WRITERS {
        world.register(&format!("c-{writer}")).await;
    }
    world.register("shared").await;
    let place = world.stop().await;
    let nodes = [Process::start(&place).await, Process::start(&place).await];
    let work = (0..WRITERS).map(|writer| {
        let base_url = nodes[writer % 2].url();
        let (cloud, shared) = callers(&base_url);
        async move {
            let mut ids = Vec::new();
            for n in 0..ROUNDS {
                // Everybody changes the same device, and pushes to its own and to that one.
                ok(&shared, "/ums/v2/register", &registration("shared")).await;
                let own = format!("c-{writer}");
                let body = json!({ "dst": { "type": 0, "Id": [own, "shared"] },
                                   "message": { "n": n } });
                let data = ok(&cloud, PUSH, &body).await;
                ids.push(data["msgId"].as_str().unwrap().to_owned());
            }
            ids
        }
    });
    let answered = join_all(work).await;
    for node in nodes {
        assert!(node.terminate().await);
    }
    let world = World::start(place, Clock::System).await;
    let events = history(&world).await;
    let accepted = accepted(&events);
    assert_eq!(accepted.len(), WRITERS * ROUNDS);
    for ids in &answered {
        let positions: Vec<i64> = ids.iter().map(|id| accepted[id]).collect();
        assert!(positions.is_sorted(), "a writer's own pushes changed places");
    }
    let all: BTreeSet<&String> = answered.iter().flatten().collect();
    assert_eq!(all.len(), WRITERS * ROUNDS);
    let updates = events.iter().filter(|e| matches!(e.event, Event::DeviceUpdated(_)));
    assert_eq!(updates.count(), WRITERS * ROUNDS);
    world.stop().await;
}

/// The app's cloud, and the terminal `shared`, at a node.
fn callers(base_url: &str) -> (Caller, Caller) {
    let shared = Caller::new(base_url, UMS_APP, UMS_KEY).with_client_id("shared");
    (Caller::new(base_url, UMS_SYSTEM, UMS_SYSTEM_KEY), shared)
}
