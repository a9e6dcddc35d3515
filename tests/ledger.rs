//! What the ledger promises, whatever is asked of it at once: one order without holes, one
//! decision for each command, nothing changed afterwards, nothing private where it cannot be
//! erased.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use domain::{
    Append, Decide, Event, IdempotencyRef, Metadata, Recorded, Stream,
    facts::{Facts, Stop},
    label::{CreateLabel, DeleteLabel},
    message::{DeliveriesAdvanced, MessageId},
};
use futures_util::future::join_all;
use projections::{
    Fault,
    db::{Pool, Tx},
    on,
};
use pushledger::{
    clock::Clock,
    ledger::{Context, Done, Lane, Refused, leaf},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sim::{Caller, Reply};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::harness::{
    ADMIN_TOKEN, PACKAGE, UMS_KEY, UMS_SYSTEM_KEY, World, dump, message, ok, registration, until,
};

/// Everything that was ever recorded.
async fn history(world: &World) -> Vec<Recorded> {
    let page = world.running.server.ledger.read(0, i64::MAX).await.unwrap();
    assert_eq!(page.unreadable, []);
    page.events
}

/// The committer at work on a command that takes as long as the test likes. Whatever is asked of
/// the ledger in that time waits, and is one group after it.
struct Busy {
    done: std::sync::mpsc::Sender<()>,
    command: JoinHandle<Result<Done, Refused>>,
}

impl Busy {
    async fn new(world: &World) -> Busy {
        let (entered, is_entered) = std::sync::mpsc::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        let command = Slow { entered, is_done: Mutex::new(is_done) };
        // A command with a key is decided by the committer alone.
        let key = Some(IdempotencyRef { key: "slow".to_owned(), request: String::new() });
        let metadata = Metadata { idempotency: key, ..Metadata::default() };
        let context = Context { metadata, ..Context::default() };
        let ledger = world.running.server.ledger.clone();
        let command = async move { ledger.execute(Lane::Interactive, context, command).await };
        let command = tokio::spawn(command);
        until("it never began", async || is_entered.try_recv().is_ok()).await;
        Busy { done, command }
    }

    /// Goes on once so many commands wait.
    async fn until_waiting(self, world: &World, commands: usize) {
        let ledger = &world.running.server.ledger;
        until("they never came", async || ledger.waiting().0 >= commands).await;
        self.end().await;
    }

    async fn end(self) {
        self.done.send(()).unwrap();
        self.command.await.unwrap().unwrap();
    }
}

/// A command that says when it is being decided, and decides when it is told to.
struct Slow {
    entered: std::sync::mpsc::Sender<()>,
    is_done: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Decide for Slow {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        self.entered.send(()).unwrap();
        tokio::task::block_in_place(|| self.is_done.lock().unwrap().recv()).unwrap();
        Ok(Vec::new())
    }
}

async fn run(tx: &mut Tx, sql: &'static str) -> Result<u64, Fault> {
    Ok(on!(tx.conn(), c => sqlx::query(sql).execute(&mut *c).await?.rows_affected()))
}

/// A call with an idempotency key.
async fn keyed(caller: &Caller, path: &str, body: &Value, key: &str) -> Reply {
    let body = body.to_string();
    let mut headers = caller.headers(path, &body, Clock::System.now() / 1_000);
    headers.push(("Idempotency-Key".to_owned(), key.to_owned()));
    caller.call_with(path, &body, &headers).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_have_no_holes_and_times_never_go_back_under_concurrent_appends() {
    let world = World::new().await;
    let work = (0..32).map(|n| {
        let world = &world;
        async move {
            let client = format!("c-{n}");
            let caller = world.register(&client).await;
            for _ in 0..6 {
                world.push(&client, json!({})).await;
            }
            ok(&caller, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
        }
    });
    join_all(work).await;
    let head = world.head().await;
    let events = history(&world).await;
    // The app; then of each client its registration, its pushes and its farewell, at least.
    assert!(events.len() > 32 * 8, "{}", events.len());
    let mut versions: HashMap<String, i64> = HashMap::new();
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.position, i64::try_from(index).unwrap() + 1);
        assert!(index == 0 || events[index - 1].recorded_at <= event.recorded_at);
        let version = versions.entry(event.stream.to_string()).or_default();
        *version += 1;
        assert_eq!(event.version, *version, "{}", event.stream);
    }
    // Deliveries may have ended since.
    assert!(i64::try_from(events.len()).unwrap() >= head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_never_fall_behind_a_clock_that_was_set_back() {
    const HOUR_MICROS: i64 = 3_600_000_000;
    let mut world = World::with_clock().await;
    world.register("c-1").await;
    let mut last = history(&world).await.last().unwrap().recorded_at;
    // Times are the database's own where it has a clock. So that it is behind, the head goes ahead.
    if world.place.on_postgres() {
        last += HOUR_MICROS;
        let ahead = format!("UPDATE head SET recorded_at = {last}");
        world.place.backdoor().await.run(&ahead).await;
        world = world.restart().await;
    } else if let Clock::Manual(now) = &world.clock {
        now.send_modify(|now| *now -= HOUR_MICROS);
    }
    let before = world.head().await;
    for client in ["c-2", "c-3", "c-4"] {
        world.register(client).await;
    }
    let events = history(&world).await;
    assert!(events.is_sorted_by_key(|recorded| recorded.recorded_at));
    let new: Vec<i64> =
        events.iter().filter(|e| e.position > before).map(|e| e.recorded_at).collect();
    assert_eq!(new, [last; 3]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_of_one_client_at_once_make_one_device_that_was_registered_and_then_updated()
{
    let world = World::new().await;
    for n in 0..10 {
        let client = format!("c-{n}");
        // Both are decided while neither is recorded.
        let busy = Busy::new(&world).await;
        let registrations = [world.register(&client), world.register(&client)];
        tokio::join!(join_all(registrations), busy.until_waiting(&world, 2));
    }
    let events = history(&world).await;
    let mut devices: BTreeMap<String, Vec<(&str, i64)>> = BTreeMap::new();
    for event in &events {
        if let Stream::Device(_) = event.stream {
            let history = devices.entry(event.stream.to_string()).or_default();
            history.push((event.event.name(), event.position));
        }
    }
    assert_eq!(devices.len(), 10);
    for history in devices.values() {
        let [("device.registered", first), ("device.updated", second)] = history[..] else {
            panic!("another history: {history:?}");
        };
        for (as_of, status) in [(first, "REGISTERED"), (second, "UPDATED")] {
            let query = format!(
                "{{ asOf(moment: {as_of}) {{ app(appId: \"demo\") {{ devices {{ nodes {{ number status }} }} }} }} }}"
            );
            let data = world.graphql(&query).await;
            let listed = data["asOf"]["app"]["devices"]["nodes"].as_array().unwrap();
            assert!(listed.contains(&json!({ "number": first, "status": status })), "{data}");
        }
    }
    world.stop().await;
}

/// A command that wants to take a place in a stream that is taken.
struct Broken(MessageId);

impl Decide for Broken {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        let event = DeliveriesAdvanced { accepted: 1, steps: Vec::new() }.into();
        Ok(vec![Append { stream: Stream::Message(self.0), version: 1, event }])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_command_never_fails_its_neighbours() {
    let world = World::new().await;
    world.register("c-1").await;
    let taken = world.push("c-1", json!({})).await.parse().unwrap();
    let busy = Busy::new(&world).await;
    let ledger = &world.running.server.ledger;
    let context = Context { app: "demo".to_owned(), ..Context::default() };
    let good = || async { join_all((0..5).map(|n| world.push("c-1", json!({ "n": n })))).await };
    let bad = ledger.execute(Lane::Interactive, context, Broken(taken));
    let release = busy.until_waiting(&world, 11);
    let (before, bad, after, ()) = tokio::join!(good(), bad, good(), release);
    assert!(matches!(bad, Err(Refused::Fault(_))), "{bad:?}");
    for id in before.iter().chain(&after) {
        assert_eq!(world.status(id).await["status"], 0);
    }
    let events = history(&world).await;
    let pushes = events.iter().filter(|e| matches!(e.event, Event::MessageAccepted(_))).count();
    assert_eq!(pushes, 11);
    assert_eq!(world.head().await, i64::try_from(events.len()).unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_committed_alone_leaves_its_neighbours_together() {
    let world = World::new().await;
    world.register("c-1").await;
    let ledger = &world.running.server.ledger;
    let context = || Context { app: "demo".to_owned(), ..Context::default() };
    let (app, name) = ("demo".to_owned(), "vip".to_owned());
    let (description, most, new_label) = (String::new(), 9, Uuid::now_v7());
    let label = CreateLabel { app: app.clone(), name: name.clone(), description, most, new_label };
    ledger.execute(Lane::Interactive, context(), label).await.unwrap();
    let commits = async || crate::metrics::series(&world).await["group_events_count"];
    let before = commits().await;
    let busy = Busy::new(&world).await;
    let pushes = || async { join_all((0..5).map(|n| world.push("c-1", json!({ "n": n })))).await };
    let delete = ledger.execute(Lane::Interactive, context(), DeleteLabel { app, name });
    let release = busy.until_waiting(&world, 11);
    let (_, deleted, _, ()) = tokio::join!(pushes(), delete, pushes(), release);
    deleted.unwrap();
    // The busy command, those before it, it, and those after it.
    let groups = commits().await - before;
    assert!((2.0..=4.0).contains(&groups), "{groups} commits for 11 commands");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_the_same_answer_for_ever_and_no_event() {
    let world = World::new().await;
    world.register("c-1").await;
    let path = "/umse/v2/msgPush";
    let body = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": { "n": 1 } });
    let other = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": { "n": 2 } });
    let cloud = world.cloud();
    // Ten at once are one.
    let same = (0..10).map(|_| keyed(&cloud, path, &body, "order-7"));
    let replies = join_all(same).await;
    let first = replies[0].clone();
    assert_eq!(first.ret_code, "00000");
    let head = world.head().await;
    let is_first = |reply: &Reply| {
        assert_eq!((&reply.ret_code, &reply.data), (&first.ret_code, &first.data));
        assert_eq!(reply.headers["ledger-position"], first.headers["ledger-position"]);
    };
    replies.iter().for_each(is_first);
    let world = world.restart().await;
    let cloud = world.cloud();
    is_first(&keyed(&cloud, path, &body, "order-7").await);
    // The same key for something else, be it another body or another call.
    assert_eq!(keyed(&cloud, path, &other, "order-7").await.ret_code, "C00005");
    let elsewhere = keyed(&cloud, "/umse/v2/msgPushtry", &body, "order-7").await;
    assert_eq!(elsewhere.ret_code, "C00005");
    assert_eq!(world.head().await, head);
    // Another key is another message.
    let another = keyed(&cloud, path, &body, "order-8").await;
    assert_eq!(another.ret_code, "00000");
    assert_ne!(another.data, first.data);
    // A refusal is kept for nobody: the same call may work later.
    let later = json!({ "dst": { "type": 0, "Id": ["c-2"] }, "message": {} });
    assert_eq!(keyed(&cloud, path, &later, "order-9").await.ret_code, "H32006");
    world.register("c-2").await;
    assert_eq!(keyed(&cloud, path, &later, "order-9").await.ret_code, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_to_change_or_remove_events() {
    let world = World::new().await;
    let ledger = world.running.server.ledger.database().ledger_write.clone();
    let before = dump(&ledger, "events").await;
    let mut statements = vec![
        "UPDATE events SET body = '{}'",
        "UPDATE events SET private = NULL, private_salt = NULL WHERE position = 1",
        "DELETE FROM events",
        "DELETE FROM events WHERE position = 1",
    ];
    if world.place.on_postgres() {
        statements.push("TRUNCATE events");
    } else {
        statements.push("INSERT OR REPLACE INTO events SELECT * FROM events");
    }
    for sql in statements {
        let mut tx = ledger.begin().await.unwrap();
        let refused = run(&mut tx, sql).await.expect_err(sql);
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
        drop(tx);
        assert_eq!(dump(&ledger, "events").await, before, "{sql}");
    }
    world.stop().await;
}

type Row = (
    (i64, String, String, i64, String, i64, i64),
    (Vec<u8>, String, String, Option<String>, Option<Vec<u8>>, Vec<u8>),
);

/// The rows of `events`, as they are stored.
async fn rows(pool: &Pool) -> Vec<Row> {
    const SQL: &str = "SELECT position, app, stream, version, type, schema, recorded_at, \
         event_id, metadata, body, private, private_salt, leaf FROM events ORDER BY position";
    let mut checkout = pool.checkout().await.unwrap();
    on!(checkout.conn(), c => {
        use sqlx::Row;
        let rows = sqlx::query(SQL).fetch_all(&mut *c).await.unwrap();
        rows.iter().map(|r| (
            (r.get(0), r.get(1), r.get(2), r.get(3), r.get(4), r.get(5), r.get(6)),
            (r.get(7), r.get(8), r.get(9), r.get(10), r.get(11), r.get(12)),
        )).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_leaf_is_the_hash_of_its_row_and_the_chain_goes_over_all_of_them() {
    let world = World::new().await;
    a_life(&world).await;
    let pool = world.running.server.ledger.database().ledger_read.clone();
    let rows = rows(&pool).await;
    assert!(rows.len() > 10);
    let mut chain = [0_u8; 32].to_vec();
    for (header, (id, metadata, body, private, salt, stored)) in &rows {
        let (position, app, stream, version, name, schema, recorded_at) = header;
        let columns: [&[u8]; 9] = [
            &position.to_be_bytes(),
            app.as_bytes(),
            stream.as_bytes(),
            &version.to_be_bytes(),
            name.as_bytes(),
            &schema.to_be_bytes(),
            &recorded_at.to_be_bytes(),
            id,
            metadata.as_bytes(),
        ];
        assert_eq!(private.is_some(), salt.is_some());
        assert!(salt.as_ref().is_none_or(|salt| salt.len() == 16));
        let private = private.as_deref().unwrap_or_default();
        let salt = salt.as_deref().unwrap_or_default();
        assert_eq!(leaf(&columns, body, salt, private).as_slice(), stored, "{position}");
        assert_ne!(leaf(&columns, &format!("{body} "), salt, private).as_slice(), stored);
        chain = Sha256::new().chain_update(&chain).chain_update(stored).finalize().to_vec();
    }
    let mut checkout = pool.checkout().await.unwrap();
    let (position, head): (i64, Vec<u8>) = on!(checkout.conn(), c => {
        sqlx::query_as("SELECT position, chain FROM head").fetch_one(&mut *c).await.unwrap()
    });
    drop(checkout);
    assert_eq!(position, i64::try_from(rows.len()).unwrap());
    assert_eq!(head, chain);
    world.stop().await;
}

/// One of everything that can be recorded, with names that are easy to find again; gives an
/// access token.
async fn a_life(world: &World) -> String {
    let more = json!({ "deviceId": "secret-hardware", "deviceName": "secret-nickname",
                       "userName": "secret-name", "pushId": "secret-push-id" });
    let caller = world.register_of("secret-user", "secret-client", more).await;
    let path = "/admin/v1/apps/demo/owners/secret-machine";
    let owner = json!({ "userId": "secret-user", "bindKey": "secret-bind-key" });
    assert_eq!(world.admin.put(path, Some(&owner)).await.unwrap().0, 204);
    let body = json!({ "deviceId": "secret-machine", "encryptedData": "secret-bind-key",
                       "message": { "text": "secret-payload" } });
    ok(&world.terminal("secret-other"), "/ums/v2/msgPushToHost", &body).await;
    assert_eq!(world.admin.delete(path, None).await.unwrap().0, 204);
    let mut device = world.connect(&caller).await;
    let body = json!({ "dst": { "type": 0, "Id": ["secret-client"] },
                       "message": { "text": "secret-payload" } });
    let reply = keyed(&caller, "/ums/v2/msgPush", &body, "secret-key").await;
    assert_eq!(reply.ret_code, "00000");
    let id = reply.data["msgId"].as_str().unwrap().to_owned();
    message(&mut device).await;
    message(&mut device).await;
    world.until_status(&id, 2).await;
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 3 });
    ok(&caller, "/ums/v2/report", &report).await;
    let recall = format!("/admin/v1/apps/demo/messages/{id}/recall");
    assert_eq!(world.admin.post(&recall, None).await.unwrap().0, 200);
    ok(&caller, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    let mut again = registration("secret-client");
    again["pushId"] = json!("secret-push-id");
    ok(&caller, "/ums/v2/register", &again).await;
    let change = json!({ "name": "Other" });
    assert_eq!(world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap().0, 200);
    drop(device);
    caller.access_token.unwrap()
}

/// Names of all tables of the ledger's database.
async fn tables(world: &World) -> Vec<String> {
    let sql = if world.place.on_postgres() {
        "SELECT table_schema || '.' || table_name FROM information_schema.tables \
         WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    } else {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    };
    let pool = &world.running.server.ledger.database().ledger_read;
    let mut checkout = pool.checkout().await.unwrap();
    let names: Vec<(String,)> =
        on!(checkout.conn(), c => sqlx::query_as(sql).fetch_all(&mut *c).await.unwrap());
    names.into_iter().map(|(name,)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_where_it_cannot_be_erased_and_no_secret_is_stored_in_clear() {
    let world = World::new().await;
    let token = a_life(&world).await;
    let pool = world.running.server.ledger.database().ledger_read.clone();
    let mut found = 0;
    for (header, (_, metadata, body, private, ..)) in rows(&pool).await {
        for text in [&header.2, &metadata, &body] {
            assert!(!text.contains("secret-") && !text.contains(&token), "{text}");
        }
        found += private.unwrap_or_default().matches("secret-").count();
    }
    // They were there to be found: each is in `private`, where it belongs.
    assert!(found >= 10, "{found}");
    let key_file = std::fs::read_to_string(world.place.directory.path().join("master.key"));
    let master_key = key_file.unwrap().trim().to_owned();
    let secrets = [
        UMS_KEY,
        UMS_SYSTEM_KEY,
        ADMIN_TOKEN,
        &token,
        &master_key,
        "secret-bind-key",
        "secret-key",
    ];
    let in_hex = |secret: &str| pushledger::secrets::hex(secret.as_bytes());
    let tables = tables(&world).await;
    assert!(tables.len() >= 10, "{tables:?}");
    for table in tables {
        let stored = dump(&pool, &table).await.join("\n").to_lowercase();
        for secret in secrets {
            assert!(!stored.contains(secret), "{secret} is in {table}");
            assert!(!stored.contains(&in_hex(secret)), "{secret} is in {table}");
        }
    }
    let place = world.stop().await;
    // With SQLite the files hold nothing else than what is in the tables.
    for file in std::fs::read_dir(place.directory.path()).unwrap() {
        let file = file.unwrap();
        if file.file_name() == "master.key" {
            continue;
        }
        let bytes = std::fs::read(file.path()).unwrap();
        for secret in secrets {
            let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!there, "{secret} is in {:?}", file.file_name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_arrive_together_become_one_event() {
    let world = World::new().await;
    let clients: Vec<String> = (0..50).map(|n| format!("c-{n}")).collect();
    let connect = async |client: &String| world.connect(&world.register(client).await).await;
    let mut devices = join_all(clients.iter().map(connect)).await;
    let body = json!({ "dst": { "type": 0, "Id": clients }, "message": {} });
    let data = ok(&world.cloud(), "/umse/v2/msgPush", &body).await;
    let id = data["msgId"].as_str().unwrap().to_owned();
    // While the ledger is busy, all devices get the message and say so.
    let busy = Busy::new(&world).await;
    for device in &mut devices {
        assert_eq!(message(device).await.0, id);
    }
    busy.end().await;
    until("not all were received", async || {
        let info = world.status(&id).await;
        let devices = info["devices"].as_array().unwrap();
        devices.iter().all(|device| device["stage"] == "received")
    })
    .await;
    let steps: Vec<usize> = history(&world)
        .await
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::DeliveriesAdvanced(advanced) => Some(advanced.steps.len()),
            _ => None,
        })
        .collect();
    assert_eq!(steps.iter().sum::<usize>(), 100);
    assert!(steps.len() <= 20, "{} events: {steps:?}", steps.len());
    drop(devices);
    world.stop().await;
}
