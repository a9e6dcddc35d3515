//! Views that are rebuilt while they are read: nobody notices, and whatever ends it before leaves
//! those that are read as they are.

use std::{process::Command, time::Duration};

use projections::{db::Pool, on};
use pushledger::{
    clock::Clock,
    feed::{
        effects::{self, LEASE, Lease},
        rebuild::{self, State},
    },
    ledger::Database,
};
use serde_json::{Value, json};
use sim::Admin;
use uuid::Uuid;

use super::{
    Stored, caught_up,
    history::live,
    rebuilt::is_what_its_events_make,
    tables,
    unreadable::{append, metrics, set_aside},
};
use crate::{
    audit::unlock,
    harness::{ADMIN_TOKEN, PATIENCE, Place, World, message, until},
};

const REBUILD: &str = "/admin/v1/views/rebuild";
const SET_ASIDE: &str = "/admin/v1/views/set-aside";

fn database(world: &World) -> &Database {
    world.running.server.ledger.database()
}

async fn ask(world: &World, body: Option<Value>) -> (u16, Value) {
    let (status, body, _) = world.admin.post(REBUILD, body.as_ref()).await.unwrap();
    (status, body)
}

async fn status(admin: &Admin) -> Value {
    let (status, body, _) = admin.get(REBUILD, None).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

/// Waits until the last rebuild is over; gives it.
async fn over(world: &World) -> Value {
    until("the rebuild is not over", async || {
        let state = status(&world.admin).await["rebuild"]["state"].clone();
        !["wanted", "running"].contains(&state.as_str().unwrap())
    })
    .await;
    status(&world.admin).await
}

/// Waits until only this generation is there.
async fn alone(database: &Database, number: i64) {
    until("a former generation stays", async || {
        database.views.live().number == number
            && database.generations.all().await.unwrap() == [number]
    })
    .await;
}

async fn rebuilt(world: &World, number: i64) {
    let (code, asked) = ask(world, None).await;
    assert_eq!(code, 202, "{asked}");
    let shown = over(world).await;
    assert_eq!(shown["rebuild"]["state"], "done", "{shown}");
    assert_eq!((&shown["live"], &shown["rebuild"]["generation"]), (&json!(number), &json!(number)));
    assert_eq!(shown["rebuild"]["percent"], 100.0, "{shown}");
    assert!(shown["rebuild"]["endedAt"].is_number(), "{shown}");
    // GraphQL tells the same.
    let query = "{ audit { views { live rebuild { state generation percent position target \
                 eventsPerSecond secondsLeft keepAside endedAt stoppedAt } } } }";
    let told = world.graphql(query).await["audit"]["views"].clone();
    assert_eq!((&told["live"], &told["rebuild"]["state"]), (&json!(number), &json!("DONE")));
    for field in ["generation", "percent", "position", "target", "eventsPerSecond", "keepAside"] {
        assert_eq!(told["rebuild"][field], shown["rebuild"][field], "{field}");
    }
    assert!(told["rebuild"]["endedAt"].is_string() && told["rebuild"]["stoppedAt"].is_null());
    alone(database(world), number).await;
}

async fn rows(views: &Pool) -> Vec<Vec<String>> {
    tables(views, projections::TABLES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_are_rebuilt_under_load_equal_the_live_ones_row_for_row() {
    let world = World::with_clock().await;
    // Pushes and reports go on, and each is seen by whoever reads after it, across every swap.
    let reading = async {
        for number in 2..5 {
            let from = world.head().await;
            until("nothing happens", async || world.head().await > from + 20).await;
            let (code, asked) = ask(&world, None).await;
            assert_eq!(code, 202, "{asked}");
            while database(&world).views.live().number < number {
                let head = world.head().await;
                let query = format!("{{ position(atLeast: {head}) }}");
                let data = world.graphql(&query).await;
                assert!(data["position"].as_i64().unwrap() >= head, "{data} after {head}");
                let mut views = database(&world).views.checkout().await.unwrap();
                const SQL: &str = "SELECT position FROM checkpoint";
                let (rows,): (i64,) = on!(views.conn(), c => {
                    sqlx::query_as(SQL).fetch_one(&mut *c).await.unwrap()
                });
                assert!(rows >= head, "the rows are at {rows}, before {head}");
            }
            over(&world).await;
        }
    };
    tokio::join!(live(&world, 11, 400), reading);
    caught_up(&world).await;
    alone(database(&world), 4).await;
    let shown = metrics(&world).await;
    assert!(shown.contains("\npushledger_views_generation 4\n"), "{shown}");
    assert!(shown.contains("\npushledger_views_rebuilds_total{outcome=\"done\"} 3\n"), "{shown}");
    let place = world.stop().await;
    let stored = Stored::read(&place).await;
    assert!(stored.events.len() > 400);
    is_what_its_events_make(&stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_while_another_generation_takes_the_place_of_its_own() {
    let world = World::with_clock().await;
    for client in ["c-1", "c-2", "c-3"] {
        world.register(client).await;
        world.push(client, json!({})).await;
    }
    caught_up(&world).await;
    let before = rows(&database(&world).views.live().read).await;
    let mut reading = database(&world).views.checkout().await.unwrap();
    let (code, _) = ask(&world, None).await;
    assert_eq!(code, 202);
    assert_eq!(over(&world).await["live"], 2);
    // This one still has its connection, and others get theirs from the next generation.
    until("no other is live", async || database(&world).views.live().number == 2).await;
    const SQL: &str = "SELECT COUNT(*) FROM messages";
    let (messages,): (i64,) =
        on!(reading.conn(), c => sqlx::query_as(SQL).fetch_one(&mut *c).await.unwrap());
    assert!(messages > 0);
    let head = world.head().await;
    let id =
        world.graphql("{ app(appId: \"demo\") { messages(first: 1) { nodes { id } } } }").await;
    assert!(id["app"]["messages"]["nodes"][0]["id"].is_string(), "{id}");
    assert!(database(&world).generations.all().await.unwrap().contains(&1), "it is still read");
    drop(reading);
    alone(database(&world), 2).await;
    assert_eq!(world.head().await, head);
    assert_eq!(rows(&database(&world).views.live().read).await, before);
    // The next start finds it, and goes on with it.
    let world = world.restart().await;
    assert_eq!(database(&world).views.live().number, 2);
    assert_eq!(rows(&database(&world).views.live().read).await, before);
    assert_eq!(status(&world.admin).await["rebuild"]["state"], "done");
    rebuilt(&world, 3).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_view_can_fold_stops_a_rebuild_and_one_after_a_fix_includes_it() {
    let world = World::new().await;
    world.register("c-1").await;
    let before = world.push("c-1", json!({})).await;
    // A push as a later version might have stored it, and what was reported on it.
    let body = r#"{"protocol":"ums","sender":"cloud","strategy":"online_else_kept","expires_at":4000000000000000,"targets":[{"device":2}]}"#;
    let push = append(&world, "message/77", "message.accepted", 99, body).await;
    let other = append(&world, "task/9", "task.paused", 1, "{}").await;
    let after = world.push("c-1", json!({})).await;
    caught_up(&world).await;
    let (code, asked) = ask(&world, Some(json!({ "keepAside": false }))).await;
    assert_eq!(code, 202, "{asked}");
    let shown = over(&world).await;
    assert_eq!(shown["rebuild"]["state"], "failed", "{shown}");
    assert_eq!(shown["rebuild"]["stoppedAt"], push, "{shown}");
    let reason = shown["rebuild"]["reason"].as_str().unwrap();
    assert!(reason.contains("message.accepted schema 99"), "{reason}");
    // What was live is, and goes on.
    assert_eq!(shown["live"], 1);
    alone(database(&world), 1).await;
    let query = "{ app(appId: \"demo\") { messages { nodes { id } } } }";
    let both = json!([{ "id": after }, { "id": before }]);
    assert_eq!(world.graphql(query).await["app"]["messages"]["nodes"], both);
    is_listed(&world, &[(push, "message.accepted", 99), (other, "task.paused", 1)]).await;
    // On demand they are left out once more.
    let (code, _) = ask(&world, Some(json!({ "keepAside": true }))).await;
    assert_eq!(code, 202);
    let shown = over(&world).await;
    assert_eq!(shown["rebuild"]["state"], "done", "{shown}");
    until("it is not live", async || database(&world).views.live().number > 1).await;
    assert_eq!(set_aside(&world).await, [push, other]);
    // The program learns to read them: for this one they say what it knows.
    let mut backdoor = world.place.backdoor().await;
    for sql in unlock(&world.place) {
        backdoor.run(sql).await;
    }
    let learned = format!("UPDATE events SET schema = 1 WHERE position = {push}");
    backdoor.run(&learned).await;
    let known = "UPDATE events SET type = 'owner.removed' WHERE position =";
    backdoor.run(&format!("{known} {other}")).await;
    let (_, page, _) = world.admin.get(SET_ASIDE, None).await.unwrap();
    let readable: Vec<&Value> =
        page["events"].as_array().unwrap().iter().map(|event| &event["readable"]).collect();
    assert_eq!(readable, [&json!(true), &json!(true)], "{page}");
    assert_eq!(world.graphql(query).await["app"]["messages"]["nodes"], both, "not folded late");
    ask(&world, None).await;
    let shown = over(&world).await;
    assert_eq!(shown["rebuild"]["state"], "done", "{shown}");
    let live = shown["live"].as_i64().unwrap();
    alone(database(&world), live).await;
    assert_eq!(set_aside(&world).await, Vec::<i64>::new());
    let all = json!([{ "id": after }, { "id": "77" }, { "id": before }]);
    assert_eq!(world.graphql(query).await["app"]["messages"]["nodes"], all);
    world.stop().await;
}

/// Checks that exactly these are shown as set aside, over each interface.
async fn is_listed(world: &World, expected: &[(i64, &str, i64)]) {
    let shown = |events: &Value| -> Vec<(i64, String, i64)> {
        let events = events.as_array().unwrap().iter();
        let one = |event: &Value| {
            assert_eq!((&event["app"], &event["readable"]), (&json!("demo"), &json!(false)));
            assert!(event["error"].as_str().unwrap().contains("unknown event"), "{event}");
            let name = event["type"].as_str().unwrap().to_owned();
            (event["position"].as_i64().unwrap(), name, event["schema"].as_i64().unwrap())
        };
        events.map(one).collect()
    };
    let expected: Vec<_> =
        expected.iter().map(|(at, name, schema)| (*at, (*name).to_owned(), *schema)).collect();
    let (code, page, _) = world.admin.get(SET_ASIDE, None).await.unwrap();
    assert_eq!((code, &page["next"]), (200, &Value::Null), "{page}");
    assert_eq!(shown(&page["events"]), expected);
    let (mut paged, mut next) = (Vec::new(), 0);
    loop {
        let path = format!("{SET_ASIDE}?limit=1&after={next}");
        let (_, page, _) = world.admin.get(&path, None).await.unwrap();
        paged.extend(shown(&page["events"]));
        match page["next"].as_i64() {
            Some(after) => next = after,
            None => break,
        }
    }
    assert_eq!(paged, expected);
    for wrong in ["limit=0", "limit=101", "limit=x", "before=1"] {
        let (code, body, _) = world.admin.get(&format!("{SET_ASIDE}?{wrong}"), None).await.unwrap();
        assert_eq!(code, 400, "{wrong}: {body}");
    }
    let fields = "{ position app type schema error readable }";
    let data = world.graphql(&format!("{{ audit {{ setAside {{ nodes {fields} }} }} }}")).await;
    assert_eq!(shown(&data["audit"]["setAside"]["nodes"]), expected);
    let (text, lines) = cli(&world.place, &["views", "set-aside"]);
    assert!(text, "{lines}");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown(&json!(lines)), expected);
}

/// Runs a command beside the server; gives whether it succeeded, and what it printed.
fn cli(place: &Place, arguments: &[&str]) -> (bool, String) {
    let config = place.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    command.args(["--database", &config.database]).arg("--data").arg(&config.data);
    let output = command.args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_runs_is_cancelled_and_no_other_begins_meanwhile() {
    let world = World::new().await;
    let (code, refused, _) = world.admin.delete(REBUILD, None).await.unwrap();
    assert_eq!(code, 409, "{refused}");
    assert_eq!(status(&world.admin).await, json!({ "live": 1, "rebuild": null }));
    // What it keeps aside it reads from the live generation, whose connections are all taken.
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(database(&world).views.checkout().await.unwrap());
    }
    let (code, asked) = ask(&world, Some(json!({ "keepAside": true }))).await;
    assert_eq!(code, 202, "{asked}");
    until("it does not run", async || status(&world.admin).await["rebuild"]["state"] == "running")
        .await;
    let (code, refused) = ask(&world, None).await;
    assert_eq!(code, 409, "{refused}");
    let (code, cancelled, _) = world.admin.delete(REBUILD, None).await.unwrap();
    assert_eq!((code, &cancelled["rebuild"]["state"]), (200, &json!("cancelled")), "{cancelled}");
    drop(taken);
    let told = "\npushledger_views_rebuilds_total{outcome=\"cancelled\"} 1\n";
    until("it goes on", async || metrics(&world).await.contains(told)).await;
    alone(database(&world), 1).await;
    assert_eq!(status(&world.admin).await["rebuild"]["state"], "cancelled");
    for wrong in [json!({ "keepAside": 1 }), json!({ "unknown": true }), json!([])] {
        assert_eq!(ask(&world, Some(wrong.clone())).await.0, 400, "{wrong}");
    }
    // The number of the one that was never made is not given again.
    rebuilt(&world, 3).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_leaves_the_live_generation_and_removes_the_half_made_one() {
    let world = World::new().await;
    world.register("c-1").await;
    world.push("c-1", json!({})).await;
    caught_up(&world).await;
    let before = rows(&database(&world).views.live().read).await;
    let place = world.stop().await;
    // What a node leaves that dies while it makes the second generation.
    let bare = Database::open(&place.database()).await.unwrap();
    bare.generations.open_to_make(2).await.unwrap().close().await;
    assert!(rebuild::ask(&bare.ledger_write, false, 0).await.unwrap());
    let mut backdoor = place.backdoor().await;
    backdoor
        .run("UPDATE views_rebuild SET state = 'running', generation = 2, started_at = 1")
        .await;
    bare.close().await;
    let world = World::start(place, Clock::System).await;
    assert_eq!(rows(&database(&world).views.live().read).await, before);
    let shown = over(&world).await;
    assert_eq!(shown["rebuild"]["state"], "interrupted", "{shown}");
    alone(database(&world), 1).await;
    assert_eq!(rows(&database(&world).views.live().read).await, before);
    rebuilt(&world, 3).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_leaves_no_half_made_generation() {
    let world = World::new().await;
    world.register("c-1").await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(database(&world).views.checkout().await.unwrap());
    }
    ask(&world, Some(json!({ "keepAside": true }))).await;
    until("it does not run", async || status(&world.admin).await["rebuild"]["state"] == "running")
        .await;
    let stopping = world.running.shutdown();
    let giving_back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(taken);
    };
    tokio::join!(stopping, giving_back);
    let bare = Database::open(&world.place.database()).await.unwrap();
    let status = rebuild::status(&bare.ledger_read).await.unwrap();
    // It may have been done before it was told to stop.
    let live = match status.rebuild.unwrap().state {
        State::Interrupted => 1,
        State::Done => 2,
        other => panic!("{other:?}"),
    };
    assert_eq!((status.live, bare.generations.all().await.unwrap()), (live, vec![live]));
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_rolled_back_to_before_a_rebuild_pauses_effects() {
    let world = World::new().await;
    world.register("c-1").await;
    world.push("c-1", json!({})).await;
    caught_up(&world).await;
    rebuilt(&world, 2).await;
    let place = world.stop().await;
    // The pointer went back with the ledger; the second generation has seen what is not there now.
    let mut backdoor = place.backdoor().await;
    backdoor.run("UPDATE views_live SET generation = 1").await;
    let bare = Database::open(&place.database()).await.unwrap();
    let second = bare.generations.open(2).await.unwrap();
    let mut tx = second.write.begin().await.unwrap();
    const SQL: &str = "UPDATE checkpoint SET position = position + 1000";
    on!(tx.conn(), c => {
        sqlx::query(SQL).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
    second.close().await;
    bare.close().await;
    let world = World::start(place, Clock::System).await;
    let paused = effects::paused(&database(&world).ledger_read).await.unwrap();
    assert_eq!(paused.as_deref(), Some("the ledger was rolled back"));
    caught_up(&world).await;
    alone(database(&world), 1).await;
    let place = world.stop().await;
    is_what_its_events_make(&Stored::read(&place).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_nodes_rebuilds_and_all_of_them_read_the_next_generation() {
    let world = World::new().await;
    let second = world.second().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    let other = Admin::new(format!("http://{}", second.address), ADMIN_TOKEN);
    let (code, asked, _) = other.post(REBUILD, None).await.unwrap();
    assert_eq!(code, 202, "{asked}");
    let shown = over(&world).await;
    assert_eq!(shown["rebuild"]["state"], "done", "{shown}");
    for server in [&world.running.server, &second.server] {
        let database = server.ledger.database();
        alone(database, 2).await;
        let id = world.push("c-1", json!({})).await;
        assert_eq!(message(&mut device).await.0, id);
        let head = server.ledger.fresh_head().await.unwrap();
        server.views.reached(head, PATIENCE).await.unwrap();
        assert!(super::position(&database.views.live().read).await >= head);
    }
    assert_eq!(status(&other).await["live"], 2);
    second.shutdown().await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_another_node_has_the_lease_of_waits_and_can_be_cancelled() {
    let world = World::new().await;
    let (ledger, clock) = (&world.running.server.ledger, &world.clock);
    until("the server has the lease", async || {
        // It looks after half-made generations once, when it starts.
        Lease::new(ledger, clock, rebuild::NAME, Uuid::nil()).hold(LEASE * 6).await.unwrap()
    })
    .await;
    assert_eq!(ask(&world, None).await.0, 202);
    let (code, shown, _) = world.admin.delete(REBUILD, None).await.unwrap();
    assert_eq!((code, &shown["rebuild"]["state"]), (200, &json!("cancelled")), "{shown}");
    assert_eq!(shown["rebuild"]["generation"], Value::Null);
    alone(database(&world), 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_a_running_server_to_rebuild_and_waits_for_it() {
    let world = World::new().await;
    world.register("c-1").await;
    world.push("c-1", json!({})).await;
    caught_up(&world).await;
    let (done, text) = cli(&world.place, &["views", "cancel"]);
    assert!(!done && text.contains("no rebuild is under way"), "{text}");
    let (done, text) = cli(&world.place, &["views", "rebuild", "--wait"]);
    assert!(done && text.contains("100.0 %"), "{text}");
    let (done, text) = cli(&world.place, &["views", "status"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert!(done && shown["live"] == 2 && shown["rebuild"]["state"] == "done", "{text}");
    assert_eq!(cli(&world.place, &["views", "set-aside"]), (true, String::new()));
    append(&world, "task/9", "task.paused", 1, "{}").await;
    caught_up(&world).await;
    let (done, text) = cli(&world.place, &["views", "rebuild", "--wait"]);
    assert!(!done && text.contains("it failed at position"), "{text}");
    let (done, text) = cli(&world.place, &["views", "rebuild", "--wait", "--keep-aside"]);
    assert!(done, "{text}");
    // Without a server it waits for the next.
    let place = world.stop().await;
    let (done, text) = cli(&place, &["views", "rebuild", "--keep-aside"]);
    assert!(done && text.contains("No server runs"), "{text}");
    let world = World::start(place, Clock::System).await;
    let shown = over(&world).await;
    assert_eq!(shown["rebuild"]["state"], "done", "{shown}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_a_rebuild_is_and_how_long_it_takes_is_told_alike_everywhere() {
    let world = World::new().await;
    world.register("c-1").await;
    rebuilt(&world, 2).await;
    let (ledger, clock) = (&world.running.server.ledger, &world.clock);
    until("the server has the lease", async || {
        // Else it calls what nobody makes interrupted.
        Lease::new(ledger, clock, rebuild::NAME, Uuid::nil()).hold(LEASE * 6).await.unwrap()
    })
    .await;
    // As its node notes it while it makes it.
    let mut backdoor = world.place.backdoor().await;
    for (position, rate, percent, left) in [(0, 0, 0.0, None), (250, 100, 24.9, Some(7))] {
        let sql = format!(
            "UPDATE views_rebuild SET state = 'running', ended_at = NULL, position = {position}, \
             target = 1001, rate = {rate}"
        );
        backdoor.run(&sql).await;
        let told =
            [
                status(&world.admin).await["rebuild"].clone(),
                serde_json::from_str::<Value>(&cli(&world.place, &["views", "status"]).1).unwrap()
                    ["rebuild"]
                    .clone(),
                world
                    .graphql(
                        "{ audit { views { rebuild { state position target percent eventsPerSecond \
                     secondsLeft } } } }",
                    )
                    .await["audit"]["views"]["rebuild"]
                    .clone(),
            ];
        for told in told {
            assert_eq!(told["state"].as_str().unwrap().to_lowercase(), "running", "{told}");
            assert_eq!((&told["position"], &told["target"]), (&json!(position), &json!(1_001)));
            assert_eq!(
                (&told["percent"], &told["eventsPerSecond"]),
                (&json!(percent), &json!(rate))
            );
            assert_eq!(told["secondsLeft"], json!(left), "{told}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_of_all_apps_rebuilds_and_sees_what_was_set_aside() {
    let world = World::new().await;
    for (role, app) in [("admin", Some("demo")), ("auditor", None), ("analyst", None)] {
        let body = json!({ "name": "somebody", "role": role, "appId": app });
        let (code, made, _) = world.admin.post("/admin/v1/operators", Some(&body)).await.unwrap();
        assert_eq!(code, 201, "{made}");
        let other = Admin::new(&world.url, made["token"].as_str().unwrap());
        assert_eq!(other.get(REBUILD, None).await.unwrap().0, 403, "{role}");
        assert_eq!(other.post(REBUILD, None).await.unwrap().0, 403, "{role}");
        assert_eq!(other.delete(REBUILD, None).await.unwrap().0, 403, "{role}");
        assert_eq!(other.get(SET_ASIDE, None).await.unwrap().0, 403, "{role}");
        let query = json!({ "query": "{ audit { setAside { nodes { position } } } }" });
        let (_, answer, _) = other.post("/graphql", Some(&query)).await.unwrap();
        assert_eq!(answer["errors"].is_null(), role == "auditor", "{role}: {answer}");
    }
    world.stop().await;
}
