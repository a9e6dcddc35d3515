//! Several nodes on one database, and a database that fails under them. What needs locks that
//! several processes share, or connections that can be cut, is asked of PostgreSQL only.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use domain::{
    Event, Recorded, Stream,
    message::{MessageAccepted, MessageId, Progress, Protocol, Sender, Target},
    route::Strategy,
};
use futures_util::future::join_all;
use pushledger::{app::Running, clock::Clock, delivery::expiry, ledger::leaf, secrets::hex};
use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Incoming, Reply};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::harness::{PACKAGE, PATIENCE, Process, World, message, ok, registration, until};

const PUSH: &str = "/umse/v2/msgPush";

/// The same caller at another node.
fn at(node: &Running, caller: &Caller) -> Caller {
    Caller { base_url: format!("http://{}", node.address), ..caller.clone() }
}

fn to(client: &str, message: Value) -> Value {
    json!({ "dst": { "type": 0, "Id": [client] }, "message": message })
}

/// Everything that was ever recorded, which has to be in order and without holes.
async fn history(world: &World) -> Vec<Recorded> {
    let page = world.running.server.ledger.read(0, i64::MAX).await.unwrap();
    assert_eq!(page.unreadable, []);
    let mut versions: HashMap<String, i64> = HashMap::new();
    for (index, event) in page.events.iter().enumerate() {
        assert_eq!(event.position, i64::try_from(index).unwrap() + 1);
        assert!(index == 0 || page.events[index - 1].recorded_at <= event.recorded_at);
        let version = versions.entry(event.stream.to_string()).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "{}", event.stream);
    }
    page.events
}

/// Where each message was accepted.
fn accepted(events: &[Recorded]) -> BTreeMap<String, i64> {
    let push = |recorded: &Recorded| match (&recorded.stream, &recorded.event) {
        (Stream::Message(id), Event::MessageAccepted(_)) => {
            Some((id.to_string(), recorded.position))
        }
        _ => None,
    };
    events.iter().filter_map(push).collect()
}

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
    let admin = sim::Admin::new(&cloud.base_url, crate::harness::ADMIN_TOKEN);
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
    let server = std::sync::Arc::clone(&second.server);
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

/// What only PostgreSQL can be asked.
macro_rules! on_postgres {
    ($world:expr) => {
        if !$world.place.on_postgres() {
            // SQLite has one writer, and no connections that somebody else could cut.
            $world.stop().await;
            return;
        }
    };
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
    use crate::harness::{UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY};
    let shared = Caller::new(base_url, UMS_APP, UMS_KEY).with_client_id("shared");
    (Caller::new(base_url, UMS_SYSTEM, UMS_SYSTEM_KEY), shared)
}

/// Another node's append of a push to one device, in a transaction that is not over: it holds the
/// head and has written its event.
async fn append_slowly(other: &mut PgConnection, device: i64) -> MessageId {
    let id = MessageId(1_600_000_000_000_999_000);
    let accepted = MessageAccepted {
        protocol: Protocol::Ums,
        sender: Sender::Cloud,
        strategy: Strategy::OnlineElseKept,
        expires_at: i64::MAX,
        burn: false,
        targets: vec![Target { device, account: None }],
        unresolved: 0,
        private: None,
    };
    let (body, _) = Event::from(accepted).encode().unwrap();
    let run = |sql: String| sqlx::query(sqlx::AssertSqlSafe(sql));
    run("BEGIN".to_owned()).execute(&mut *other).await.unwrap();
    let (position, at): (i64, i64) =
        sqlx::query_as("SELECT position + 1, recorded_at FROM head FOR UPDATE")
            .fetch_one(&mut *other)
            .await
            .unwrap();
    let (event_id, stream) = (Uuid::now_v7(), format!("message/{id}"));
    let metadata = r#"{"actor":"cloud","via":"ums"}"#;
    let header: [&[u8]; 9] = [
        &position.to_be_bytes(),
        b"demo",
        stream.as_bytes(),
        &1_i64.to_be_bytes(),
        b"message.accepted",
        &1_i64.to_be_bytes(),
        &at.to_be_bytes(),
        event_id.as_bytes(),
        metadata.as_bytes(),
    ];
    let leaf = hex(&leaf(&header, &body, &[], ""));
    let event_id = hex(event_id.as_bytes());
    let insert = format!(
        "INSERT INTO events VALUES ({position}, 'demo', '{stream}', 1, 'message.accepted', 1, \
         {at}, '\\x{event_id}', '{metadata}', '{body}', NULL, NULL, '\\x{leaf}')"
    );
    run(insert).execute(&mut *other).await.unwrap();
    let head = format!(
        "UPDATE head SET position = {position}, chain = sha256(chain || '\\x{leaf}'::bytea)"
    );
    run(head).execute(&mut *other).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_overtakes_an_append_that_takes_its_time() {
    let world = World::new().await;
    on_postgres!(world);
    let second = world.second().await;
    let caller = world.register("c-1").await;
    let data = world.graphql("{ app(appId: \"demo\") { devices { nodes { number } } } }").await;
    let number = data["app"]["devices"]["nodes"][0]["number"].as_i64().unwrap();
    let mut here = world.connect(&caller).await;
    let before = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut here).await.0, before);
    world.until_status(&before, 2).await;
    let mut other = PgConnection::connect(&world.place.database()).await.unwrap();
    let slow = append_slowly(&mut other, number).await.to_string();
    let head = world.head().await;
    let clouds = [world.cloud(), at(&second, &world.cloud())];
    let pushes = (0..20).map(|n| {
        let cloud = clouds[n % 2].clone();
        async move {
            let data = ok(&cloud, PUSH, &to("c-1", json!({ "n": n }))).await;
            data["msgId"].as_str().unwrap().to_owned()
        }
    });
    let release = async {
        const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
             AND datname = current_database() AND query LIKE '%FROM head FOR UPDATE'";
        let mut watcher = PgConnection::connect(&world.place.database()).await.unwrap();
        until("the nodes never waited", async || {
            let (waiting,): (i64,) = sqlx::query_as(WAITING).fetch_one(&mut watcher).await.unwrap();
            waiting == 2
        })
        .await;
        // Both nodes wait, and no reader sees what is not committed, or anything after it.
        for server in [&world.running.server, &second.server] {
            assert_eq!(server.ledger.fresh_head().await.unwrap(), head);
            assert_eq!(server.ledger.read(head, 10).await.unwrap().last, None);
            assert!(server.hub.position() <= head && server.views.position() <= head);
        }
        sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    };
    let (ids, ()) = tokio::join!(join_all(pushes), release);
    let events = history(&world).await;
    let accepted = accepted(&events);
    assert_eq!(accepted[&slow], head + 1);
    let mut expected: Vec<&String> = ids.iter().chain([&slow]).collect();
    expected.sort_by_key(|id| accepted[*id]);
    let mut came = Vec::new();
    while came.len() < expected.len() {
        came.push(message(&mut here).await.0);
    }
    assert!(came.iter().eq(expected), "the device saw another order");
    drop(here);
    second.shutdown().await;
    world.stop().await;
}

/// A push with an idempotency key, tried until it is answered with success.
async fn insist(cloud: &Caller, body: &Value, key: &str) -> String {
    let body = body.to_string();
    let again = async {
        loop {
            let mut headers = cloud.headers(PUSH, &body, Clock::System.now() / 1_000);
            headers.push(("Idempotency-Key".to_owned(), key.to_owned()));
            match cloud.call_with(PUSH, &body, &headers).await {
                Ok(Reply { ret_code, data, .. }) if ret_code == "00000" => {
                    return data["msgId"].as_str().unwrap().to_owned();
                }
                Ok(reply) => assert!(reply.ret_code.starts_with('A'), "{reply:?}"),
                Err(error) => panic!("the server did not answer: {error}"),
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, again).await.expect("it never succeeded")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_outcome_was_lost_is_appended_once() {
    const WRITERS: usize = 8;
    const ROUNDS: usize = 15;
    let world = World::new().await;
    on_postgres!(world);
    world.register("c-1").await;
    let (cloud, answers) = (world.cloud(), AtomicUsize::new(0));
    let write = |writer: usize| {
        let (cloud, answers) = (&cloud, &answers);
        async move {
            let mut ids: Vec<(String, Option<String>)> = Vec::new();
            for n in 0..ROUNDS {
                let name = format!("{writer}-{n}");
                let body = to("c-1", json!({ "name": name }));
                let id = if writer % 2 == 0 {
                    Some(insist(cloud, &body, &name).await)
                } else {
                    let reply = cloud.call(PUSH, &body.to_string()).await.unwrap();
                    assert!(reply.ret_code == "00000" || reply.ret_code.starts_with('A'));
                    reply.data["msgId"].as_str().map(str::to_owned)
                };
                ids.push((name, id));
                answers.fetch_add(1, Ordering::Relaxed);
            }
            ids
        }
    };
    // Cuts connections of the server, those that commit first, again and again.
    let cut = async {
        const CUT: &str = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'pushledger' \
             ORDER BY query = 'COMMIT' DESC, state = 'active' DESC, random() LIMIT 2) AS victims";
        let mut own = PgConnection::connect(&world.place.database()).await.unwrap();
        let mut seen = 0;
        while answers.load(Ordering::Relaxed) < WRITERS * ROUNDS {
            sqlx::query(CUT).execute(&mut own).await.unwrap();
            until("nothing was answered any more", async || {
                let now = answers.load(Ordering::Relaxed);
                let moved = now > seen || now == WRITERS * ROUNDS;
                seen = now;
                moved
            })
            .await;
        }
    };
    let (written, ()) = tokio::join!(join_all((0..WRITERS).map(write)), cut);
    let events = history(&world).await;
    let mut times: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for recorded in &events {
        if let (Event::MessageAccepted(push), Stream::Message(id)) =
            (&recorded.event, &recorded.stream)
        {
            let payload = push.private.as_ref().unwrap().payload.as_ref().unwrap();
            let payload: Value = serde_json::from_str(payload.0.get()).unwrap();
            let name = payload["name"].as_str().unwrap().to_owned();
            times.entry(name).or_default().push(id.to_string());
        }
    }
    for (name, id) in written.into_iter().flatten() {
        match (id, times.get(&name)) {
            (Some(id), Some(found)) => assert_eq!(*found, [id], "{name}"),
            (Some(_), None) => panic!("{name} was answered and is not there"),
            (None, Some(found)) => assert_eq!(found.len(), 1, "{name}"),
            (None, None) => {}
        }
    }
    // The views come through it too.
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    world.stop().await;
}
