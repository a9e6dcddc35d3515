//! Who read what belongs to people, and who was refused, is found in the access log; and what cannot
//! be logged is not told.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use projections::{db::Pool, on};
use pushledger::{
    access::{Access, store},
    config::Config,
};
use serde_json::{Value, json};
use sim::{Admin, Caller};

use crate::{
    analysts::{answer, live::Follower, operator},
    easemob,
    harness::{PATIENCE, Place, RawClient, UMS_APP, World, code, message, ok, registration, until},
    tencent,
};

const LOG: &str = "/admin/v1/access";

/// The rows that an operator reads, the newest first.
async fn rows(admin: &Admin, query: &str) -> Vec<Value> {
    let (status, page, _) = admin.get(&format!("{LOG}{query}"), None).await.unwrap();
    assert_eq!(status, 200, "{page}");
    page["accesses"].as_array().unwrap().clone()
}

/// The only row of some that has this in a field.
fn only<'a>(rows: &'a [Value], field: &str, value: &str) -> &'a Value {
    let found: Vec<_> = rows.iter().filter(|row| row[field] == value).collect();
    assert_eq!(found.len(), 1, "{field} {value}: {rows:#?}");
    found[0]
}

/// The pool of the log.
fn pool(world: &World) -> Pool {
    world.running.server.ledger.database().access.clone()
}

async fn run(pool: &Pool, sql: &str) -> Result<(), sqlx::Error> {
    let mut checkout = pool.checkout().await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    on!(checkout.conn(), c => sqlx::query(sql).execute(&mut *c).await.map(drop))
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_graphql_tells_are_logged_by_number_and_those_it_hides_are_not() {
    let world = World::new().await;
    world.register_of("alice", "client-a", json!({})).await;
    let auditor = operator(&world, "auditor", None).await;
    let analyst = operator(&world, "analyst", None).await;
    let query = "{ app(appId: \"demo\") { devices(first: 5) { nodes { number clientId \
                 user { umsUser } } } } }";
    for own in [&analyst, &auditor] {
        let told = answer(&world, own, query).await;
        assert!(told["errors"].is_null(), "{told}");
    }
    // What hides nothing private is not logged.
    answer(&world, &auditor, "{ app(appId: \"demo\") { name devices { nodes { number } } } }")
        .await;
    let all = rows(&world.admin, "?outcome=answered").await;
    assert_eq!(all.len(), 1, "{all:#?}");
    let row = &all[0];
    assert_eq!((&row["via"], &row["role"]), (&json!("graphql"), &json!("auditor")));
    assert_eq!((&row["app"], &row["records"]), (&json!("demo"), &json!(2)));
    assert_eq!(row["fields"], json!(["account.umsUser", "device.clientId"]));
    assert_eq!(row["subjects"].as_array().unwrap().len(), 2);
    assert_eq!((&row["address"], &row["operation"]), (&json!("127.0.0.1"), &json!("query")));
    assert!(row["caller"].as_str().unwrap().starts_with("operator:"));
    assert!(!row["request"].as_str().unwrap().is_empty());
    // Nobody is named there.
    let text = serde_json::to_string(&all).unwrap();
    assert!(!text.contains("alice") && !text.contains("client-a"), "{text}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_auditors_in_pages_with_filters_and_reading_it_is_logged() {
    let world = World::new().await;
    world.register_of("alice", "client-a", json!({})).await;
    let (auditor, analyst) =
        (operator(&world, "auditor", None).await, operator(&world, "analyst", None).await);
    let query = "{ app(appId: \"demo\") { devices { nodes { clientId } } } }";
    for _ in 0..3 {
        answer(&world, &auditor, query).await;
    }
    let (status, _, _) = analyst.get(LOG, None).await.unwrap();
    assert_eq!(status, 403);
    let all = rows(&auditor, "").await;
    assert_eq!(all.iter().filter(|row| row["via"] == "graphql").count(), 3);
    let refused = only(&all, "outcome", "refused");
    assert_eq!((&refused["code"], &refused["role"]), (&json!("403"), &json!("analyst")));
    assert_eq!(refused["operation"], "GET /admin/v1/access");
    let again = rows(&auditor, "?outcome=answered").await;
    only(&again, "operation", "GET /admin/v1/access");
    assert_eq!(again[0]["operation"], "GET /admin/v1/access");
    // Pages go on where the last ended.
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let path = format!("{LOG}?outcome=answered&app=demo&limit=2{next}");
        let (_, page, _) = auditor.get(&path, None).await.unwrap();
        seen.extend(page["accesses"].as_array().unwrap().iter().map(|row| row["number"].clone()));
        let Some(before) = page["next"].as_i64() else { break };
        next = format!("&before={before}");
    }
    // Reading it with the filter is of the app too.
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(rows(&auditor, "?caller=operator:999").await.is_empty());
    assert!(rows(&auditor, "?to=2020-01-01T00:00:00Z").await.is_empty());
    for wrong in ["?limit=0", "?limit=201", "?outcome=maybe", "?from=yesterday", "?what=1"] {
        let (status, _, _) = auditor.get(&format!("{LOG}{wrong}"), None).await.unwrap();
        assert_eq!(status, 400, "{wrong}");
    }
    // GraphQL tells the same.
    let query = "{ accessLog(filter: { outcome: ANSWERED, app: \"demo\" }, first: 100) { \
                 nodes { number via fields calls } pageInfo { hasNextPage } } }";
    let told = answer(&world, &auditor, query).await;
    let nodes = told["data"]["accessLog"]["nodes"].as_array().unwrap();
    let told = nodes.iter().filter(|row| row["fields"] == json!(["device.clientId"])).count();
    assert_eq!(told, 3);
    let newest = rows(&auditor, "?limit=1").await.remove(0);
    assert_eq!(newest["fields"], json!(["accessLog"]));
    let refused = answer(&world, &analyst, query).await;
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("auditor"), "{refused}");
    let denied = rows(&auditor, "?outcome=refused").await;
    only(&denied, "operation", "query accessLog");
    // Whoever is bound to one app reads of that app alone.
    let bound = operator(&world, "auditor", Some("demo")).await;
    assert!(rows(&bound, "").await.iter().all(|row| row["app"] == "demo"));
    let (status, _, _) = bound.get(&format!("{LOG}?app=other"), None).await.unwrap();
    assert_eq!(status, 400);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_of_events_is_logged_before_it_is_told() {
    let world = World::new().await;
    world.register_of("alice", "client-a", json!({})).await;
    let path = "/admin/v1/apps/demo/events?wait=0&types=device.registered";
    let (_, told, _) = world.admin.get(path, None).await.unwrap();
    assert_eq!(told["events"].as_array().unwrap().len(), 1);
    let row = rows(&world.admin, "?app=demo&outcome=answered").await.remove(0);
    assert_eq!(row["operation"], "GET /admin/v1/apps/{app_id}/events");
    assert_eq!((&row["records"], &row["calls"]), (&json!(1), &json!(1)));
    assert!(row["subjects"][0].as_str().unwrap().starts_with("event:"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_apps_server_reads_of_its_users_is_gathered_and_what_people_read_is_not() {
    let easemob = easemob::Easemob::new().await;
    let world = &easemob.world;
    tencent::speak(world, json!({})).await;
    world.register_of("alice", "client-a", json!({})).await;
    let id = world.push("client-a", json!({})).await;
    for _ in 0..4 {
        ok(&world.cloud(), "/umse/v2/devlist", &json!({ "userId": "alice" })).await;
        world.status(&id).await;
    }
    // A terminal reads what is its own.
    let own = world.user("alice", "client-a").await;
    ok(&own, "/ums/v2/devlist", &json!({})).await;
    easemob.user("bob").await;
    easemob.cloud.get("/users/bob", None).await.unwrap();
    easemob.cloud.get("/users?limit=5", None).await.unwrap();
    let token = easemob.token_of("bob").await;
    easemob.with_token(&token).get("/users/bob", None).await.unwrap();
    let all = rows(&world.admin, "?caller=app:demo").await;
    let devlist = only(&all, "operation", "POST /umse/v2/devlist");
    assert_eq!((&devlist["calls"], &devlist["records"]), (&json!(4), &json!(4)));
    assert!(devlist["subjects"][0].as_str().unwrap().starts_with("account:"));
    assert_eq!((&devlist["role"], &devlist["app"]), (&json!("cloud"), &json!("demo")));
    let stat = only(&all, "operation", "POST /umse/v2/getmsgstat");
    assert_eq!(stat["subjects"], json!([format!("message:{id}")]));
    let user = only(&all, "operation", "GET /{org}/{app}/users/{username}");
    assert_eq!((&user["calls"], &user["via"]), (&json!(1), &json!("easemob")));
    only(&all, "operation", "GET /{org}/{app}/users");
    assert_eq!(all.len(), 4, "{all:#?}");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_an_apps_server_reads_back_is_logged_with_both_accounts() {
    let tencent = tencent::Tencent::new().await;
    let world = &tencent.world;
    tencent.send(&tencent::message(1)).await;
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    let asked = |from: &str, to: &str| {
        json!({ "From_Account": from, "To_Account": to, "MaxCnt": 10, "MinTime": 0,
                "MaxTime": 4_000_000_000_u32 })
    };
    for _ in 0..2 {
        assert_eq!(tencent.call(tencent::ROAM, &asked("bob", "Ann")).await["MsgCnt"], 1);
    }
    // Where nothing is told nothing is logged.
    assert_eq!(tencent.call(tencent::ROAM, &asked("bob", "carl")).await["MsgCnt"], 0);
    let all = rows(&world.admin, "?caller=app:demo").await;
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!((&all[0]["via"], &all[0]["calls"]), (&json!("tencent"), &json!(2)));
    assert_eq!((&all[0]["records"], &all[0]["app"]), (&json!(2), &json!("demo")));
    assert_eq!(all[0]["operation"], format!("POST {}", tencent::ROAM));
    let [ann, bob] = [tencent.account("Ann").await, tencent.account("bob").await];
    let mut subjects = vec![format!("account:{ann}"), format!("account:{bob}")];
    subjects.sort_unstable();
    assert_eq!(all[0]["subjects"], json!(subjects));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_logged_before_its_first_private_event_and_not_without_one() {
    let world = World::new().await;
    let auditor = operator(&world, "auditor", None).await;
    let analyst = operator(&world, "analyst", None).await;
    let query = "subscription Watch { events(appId: \"demo\", after: 0, \
                 types: [\"device.*\"]) { position private } }";
    let mut seen = Vec::new();
    for own in [&analyst, &auditor] {
        let mut follower = Follower::admitted(&world, &own.token).await;
        follower.subscribe("1", query).await;
        seen.push(follower);
    }
    // Nothing was told yet.
    assert!(rows(&world.admin, "?outcome=answered&app=demo").await.is_empty());
    world.register_of("alice", "client-a", json!({})).await;
    for follower in &mut seen {
        follower.data().await;
    }
    let all = rows(&world.admin, "?outcome=answered&app=demo").await;
    let row = only(&all, "role", "auditor");
    assert!(row["operation"].as_str().unwrap().starts_with("subscription"), "{row}");
    assert_eq!((&row["via"], &row["fields"]), (&json!("graphql"), &json!(["event.private"])));
    assert!(row["subjects"][0].as_str().unwrap().starts_with("event:"), "{row}");
    assert!(all.iter().all(|row| row["role"] != "analyst"), "{all:#?}");
    assert!(!serde_json::to_string(&all).unwrap().contains("alice"));
    drop(seen);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_every_face_are_logged_with_their_codes_and_a_flood_is_one_row() {
    let easemob = easemob::Easemob::new().await;
    let world = &easemob.world;
    tencent::speak(world, json!({})).await;
    let forged = Caller::new(&world.url, UMS_APP, "0".repeat(32)).with_client_id("client-a");
    for _ in 0..50 {
        assert_eq!(code(&forged, "/ums/v2/register", &registration("client-a")).await, "D00001");
    }
    let junk = Admin::new(&world.url, "junk");
    junk.get("/admin/v1/apps", None).await.unwrap();
    junk.post("/graphql", Some(&json!({ "query": "{ position }" }))).await.unwrap();
    junk.post("/uplink/v1/messages", Some(&json!({}))).await.unwrap();
    easemob.with_token("junk").get("/users/bob", None).await.unwrap();
    junk.get("/v2/apps/webhook", None).await.unwrap();
    let path = format!("{}?sdkappid={}&identifier=x&usersig=junk", tencent::ROAM, tencent::APP);
    junk.post(&path, Some(&json!({}))).await.unwrap();
    let upgrade = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let upgrade = upgrade.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bob = easemob.user("bob").await;
    assert!(bob["username"].is_string(), "{bob}");
    let socket = format!("sdkappid={}&usersig=junk&userId=x&deviceId=d", tencent::APP);
    for query in [
        &format!("appId={UMS_APP}&timestamp=1&sign=x&clientId=c&appPackage=p"),
        "appId=nobody&timestamp=1&sign=x&clientId=c&appPackage=p",
        &socket,
        // The app's own token is no device's.
        &format!("token={}&deviceId=d", easemob.cloud.token),
        "token=junk&deviceId=d",
        "client_token=junk",
    ] {
        let path = format!("/connect?{query}");
        let reply = RawClient::new(world).send("GET", &path, &upgrade, b"").await;
        assert!([401, 403].contains(&reply.status), "{query}: {reply:?}");
    }
    // An operator who is known, and may not do that.
    let bound = operator(world, "admin", Some("demo")).await;
    assert_eq!(bound.get("/admin/v1/apps/other", None).await.unwrap().0, 404);
    // A wrong body is no refusal of who calls.
    world.admin.post("/admin/v1/apps", Some(&json!({}))).await.unwrap();
    let all = rows(&world.admin, "?outcome=refused&limit=100").await;
    let ums = only(&all, "via", "ums");
    assert_eq!((&ums["code"], &ums["calls"]), (&json!("D00001"), &json!(50)));
    assert_eq!((&ums["app"], &ums["caller"]), (&json!("demo"), &json!("nobody")));
    assert_eq!(ums["operation"], "POST /ums/v2/register");
    for (via, code) in [
        ("graphql", "401"),
        ("uplink", "401"),
        ("easemob", "auth_bad_access_token"),
        ("antelope", "401"),
        ("tencent", "70003"),
    ] {
        assert_eq!(only(&all, "via", via)["code"], code, "{via}");
    }
    let socket = all.iter().filter(|row| row["via"] == "socket");
    let mut socket: Vec<_> = socket.map(|row| (row["app"].as_str(), &row["code"])).collect();
    socket.sort_by_key(|(app, code)| (*app, code.to_string()));
    let expected = [
        (None, "401"),
        (None, "C00001"),
        (None, "auth_bad_access_token"),
        (Some("demo"), "70003"),
        (Some("demo"), "D00001"),
        (Some("demo"), "unauthorized"),
    ];
    let told = socket.iter().map(|(app, code)| (*app, code.as_str().unwrap()));
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let codes: Vec<_> = all.iter().filter(|row| row["via"] == "admin").collect();
    assert_eq!(codes.len(), 2, "{codes:#?}");
    let hidden = codes.iter().find(|row| row["code"] == "404").unwrap();
    assert_eq!((&hidden["app"], &hidden["role"]), (&json!("demo"), &json!("admin")));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_log_cannot_be_written_nothing_private_is_told_and_pushes_go_on() {
    let world = World::new().await;
    let caller = world.register_of("alice", "client-a", json!({})).await;
    let auditor = operator(&world, "auditor", None).await;
    let analyst = operator(&world, "analyst", None).await;
    let pool = pool(&world);
    run(&pool, "ALTER TABLE accesses RENAME TO gone").await.unwrap();
    let head = world.head().await;
    world.running.server.views.reached(head, crate::harness::PATIENCE).await.unwrap();
    let query = json!({ "query": "{ app(appId: \"demo\") { devices { nodes { clientId } } } }" });
    let (status, refused, _) = auditor.post("/graphql", Some(&query)).await.unwrap();
    assert_eq!(status, 503, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("access log"), "{refused}");
    let (status, _, _) = analyst.post("/graphql", Some(&query)).await.unwrap();
    assert_eq!(status, 200);
    let events = "/admin/v1/apps/demo/events?wait=0";
    assert_eq!(world.admin.get(events, None).await.unwrap().0, 503);
    assert_eq!(auditor.get(LOG, None).await.unwrap().0, 500);
    let devlist = json!({ "userId": "alice" });
    assert_eq!(code(&world.cloud(), "/umse/v2/devlist", &devlist).await, "A00001");
    let mut device = world.connect(&caller).await;
    let id = world.push("client-a", json!({ "text": "hello" })).await;
    assert_eq!(message(&mut device).await.0, id);
    run(&pool, "ALTER TABLE gone RENAME TO accesses").await.unwrap();
    let (status, _, _) = auditor.post("/graphql", Some(&query)).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(code(&world.cloud(), "/umse/v2/devlist", &devlist).await, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_more_kinds_than_there_is_room_for_have_room_made_at_once() {
    let world = World::new().await;
    let log = &world.running.server.access;
    let told = |address: usize| {
        let access = Access::answered("app:demo".to_owned(), "ums", "devlist".to_owned());
        log.told(Access { address: Some(address.to_string()), ..access })
    };
    let full = (0..).find(|address| told(*address).is_err()).unwrap();
    let began = Instant::now();
    until("no room was made", async || told(full).is_ok()).await;
    // What is gathered is written every 10 s.
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(rows(&world.admin, "?caller=app:demo&limit=200").await.len() == 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_never_changed_and_go_by_age_alone() {
    let world = World::with_clock().await;
    world.register_of("alice", "client-a", json!({})).await;
    let query = "{ app(appId: \"demo\") { devices { nodes { clientId } } } }";
    answer(&world, &world.admin, query).await;
    let pool = pool(&world);
    for sql in ["UPDATE accesses SET caller = 'nobody'", "DELETE FROM accesses"] {
        let refused = run(&pool, sql).await.expect_err(sql).to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
    }
    let log = &world.running.server.access;
    let kept = async || {
        store::page(&pool, &store::Asked { limit: 100, ..Default::default() }).await.unwrap().len()
    };
    world.clock.advance(Duration::from_secs(179 * 86_400));
    answer(&world, &world.admin, query).await;
    log.remove_old(180).await.unwrap();
    assert_eq!(kept().await, 2);
    world.clock.advance(Duration::from_secs(2 * 86_400));
    log.remove_old(180).await.unwrap();
    assert_eq!(kept().await, 1);
    let mut checkout = pool.checkout().await.unwrap();
    let left: (i64,) = on!(checkout.conn(), c => {
        sqlx::query_as("SELECT COUNT(*) FROM expiring").fetch_one(&mut *c).await.unwrap()
    });
    assert_eq!(left.0, 0);
    drop(checkout);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_rows_for_as_many_days_as_it_was_told_and_no_longer() {
    let world = World::with_clock().await;
    world.register_of("alice", "client-a", json!({})).await;
    let query = "{ app(appId: \"demo\") { devices { nodes { clientId } } } }";
    answer(&world, &world.admin, query).await;
    let kept = async |world: &World| {
        let told = rows(&world.admin, "?outcome=answered").await;
        told.iter().filter(|row| row["via"] == "graphql").count()
    };
    world.clock.advance(Duration::from_secs(2 * 86_400));
    let (clock, mut place) = (world.clock.clone(), world.stop().await);
    for (days, left) in [(3, 1), (1, 0)] {
        let config = Config { access_days: days, ..place.config() };
        let world = World::start_with(place, &config, clock.clone()).await;
        until("old rows stay", async || kept(&world).await == left).await;
        place = world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_gathered_is_written_when_the_server_stops() {
    let world = World::new().await;
    Admin::new(&world.url, "junk").get("/admin/v1/apps", None).await.unwrap();
    let world = world.restart().await;
    let all = rows(&world.admin, "?outcome=refused").await;
    only(&all, "via", "admin");
    world.stop().await;
}

fn command(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let config = place.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    command.args(arguments).args(["--database", &config.database]).arg("--data").arg(&config.data);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_logs_what_it_reads_by_the_systems_user() {
    let world = World::new().await;
    world.register_of("alice", "client-a", json!({})).await;
    let place = world.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    command(&place, &["replay", "--without-private"]);
    command(&place, &["replay", "--app", "demo"]);
    command(&place, &["replay", "--as-of", "1", "--view", "devices"]);
    command(&place, &["export", export.to_str().unwrap()]);
    let told = command(&place, &["access", "--outcome", "answered"]);
    let told: Vec<_> = told
        .iter()
        .map(|row| (row["operation"].as_str().unwrap(), row["fields"].to_string()))
        .collect();
    let expected = [
        ("access", "[]"),
        ("export", "[\"private\"]"),
        ("replay", "[\"devices\"]"),
        ("replay", "[\"private\"]"),
    ];
    assert_eq!(told, expected.map(|(operation, fields)| (operation, fields.to_owned())));
    // What is restored elsewhere is read there.
    let restored = Place::new().await;
    command(&restored, &["import", export.to_str().unwrap()]);
    let told = command(&restored, &["access", "--outcome", "answered"]);
    let told: Vec<_> = told.iter().map(|row| (&row["operation"], &row["fields"])).collect();
    assert_eq!(told[1..], [(&json!("import"), &json!(["private"]))]);
    let own = command(&place, &["access", "--limit", "1"]).remove(0);
    assert!(own["caller"].as_str().unwrap().starts_with("os:"), "{own}");
    assert_eq!(own["via"], "cli");
}
