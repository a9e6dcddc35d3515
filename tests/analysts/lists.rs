//! Lists: pages with cursors that stay good, filters, and a page of many that costs what a page of one
//! does.

use std::time::Duration;

use domain::route::Strategy;
use domain::task::{TaskAudience, TaskLimits};
use pushledger::{clock::Clock, config::Config, delivery::tasks::NewTask};
use serde_json::{Value, json};

use super::{another, answer, given_up, label, operator, push, uplink, user};
use crate::{
    harness::{ADMIN_TOKEN, Backdoor, PACKAGE, Place, Process, World, ok, until},
    tasks,
};

/// All pages of a list, a few items each.
async fn all(world: &World, list: &str, arguments: &str, item: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), "null".to_owned());
    loop {
        let query = format!(
            "{{ app(appId: \"demo\") {{ {list}(first: 2, after: {after}{arguments}) \
             {{ edges {{ cursor node {{ {item} }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
        );
        let page = world.graphql(&query).await["app"][list].clone();
        let edges = page["edges"].as_array().unwrap();
        assert!(edges.len() <= 2);
        items.extend(edges.iter().map(|edge| edge["node"].clone()));
        if page["pageInfo"]["hasNextPage"] == false {
            return items;
        }
        assert_eq!(page["pageInfo"]["endCursor"], edges.last().unwrap()["cursor"]);
        after = page["pageInfo"]["endCursor"].to_string();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_list_has_all_its_items_once_in_order_whatever_the_page() {
    let world = World::with_clock().await;
    label(&world, "demo", "news").await;
    for name in ["ann", "bob", "carl", "dora", "emil"] {
        user(&world, "demo", name, "news").await;
    }
    let phone = world.register_of("ums-ann", "c-1", json!({})).await;
    ok(&phone, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    let mut messages = Vec::new();
    for users in [["ann", "bob"], ["bob", "carl"], ["dora", "emil"]] {
        messages.push(push(&world, "demo", &users).await.to_string());
        world.clock.advance(Duration::from_secs(10));
    }
    let middle = world.clock.now();
    messages.push(push(&world, "demo", &["ann"]).await.to_string());
    let audience = TaskAudience::Label("news".to_owned());
    let task = tasks::create(&world, tasks::task(audience, Strategy::OnlineElseKept)).await;

    let users =
        all(&world, "users", "", "username umsUser devices { number } labels { name }").await;
    assert_eq!(users.len(), 6);
    assert_eq!(users[0]["username"], "ann");
    assert_eq!(users[0]["labels"], json!([{ "name": "news" }]));
    assert_eq!(users[5]["umsUser"], "ums-ann");
    let fields = "number kind deviceType user { username } status statusNumber";
    let devices = all(&world, "devices", "", fields).await;
    assert_eq!(devices.len(), 6);
    // Words, with the protocol's numbers beside them.
    let words = [("kind", "PHONE"), ("deviceType", "01"), ("status", "UNREGISTERED")];
    words.into_iter().for_each(|(field, word)| assert_eq!(devices[5][field], word));
    assert_eq!((&devices[5]["statusNumber"], &devices[0]["kind"]), (&json!(2), &json!("UNKNOWN")));
    assert!(devices.is_sorted_by_key(|device| device["number"].as_i64()));
    let number = devices[0]["number"].as_i64().unwrap();
    for (filter, expected) in [
        (", status: UNREGISTERED", 1),
        (", status: REGISTERED", 5),
        (", appPackage: \"com.acme.app\"", 1),
        (", user: \"ann\"", 1),
        (", user: \"ANN\", status: UNREGISTERED", 0),
        (", user: \"ums-ann\"", 1),
        (", user: \"nobody\"", 0),
    ] {
        assert_eq!(all(&world, "devices", filter, "number").await.len(), expected, "{filter}");
    }
    let labels =
        all(&world, "labels", "", "name members users(first: 3) { nodes { username } }").await;
    assert_eq!(labels[0]["members"], 5);
    assert_eq!(labels[0]["users"]["nodes"].as_array().unwrap().len(), 3);
    let found = all(&world, "messages", "", "id protocol strategy strategyNumber").await;
    let way = (&json!("ONLINE_ELSE_KEPT"), &json!(1));
    assert_eq!((&found[0]["strategy"], &found[0]["strategyNumber"]), way);
    let ids: Vec<_> = found.iter().rev().map(|message| message["id"].clone()).collect();
    assert_eq!(ids, messages);
    assert_eq!(found[0]["protocol"], "EASEMOB");
    let at = |micros: i64| chrono::DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339();
    let range = format!(", range: {{ from: \"{}\" }}", at(middle));
    assert_eq!(all(&world, "messages", &range, "id").await.len(), 1);
    let range = format!(", range: {{ from: \"2020-01-01T00:00:00Z\", to: \"{}\" }}", at(middle));
    assert_eq!(all(&world, "messages", &range, "id").await.len(), 3);
    assert_eq!(all(&world, "messages", ", protocol: UMS", "id").await.len(), 0);

    let states = "id state audience label strategy strategyNumber statistics { targets }";
    let found = all(&world, "tasks", "", states).await;
    assert_eq!((&found[0]["strategy"], &found[0]["strategyNumber"]), way);
    assert_eq!(found[0]["id"], task.to_string());
    assert_eq!(found[0]["label"], "news");
    assert_eq!(all(&world, "tasks", ", state: CANCELLED", "id").await.len(), 0);

    let events = all(&world, "events", "", "position type").await;
    let ledger = world.running.server.ledger.read(0, i64::MAX).await.unwrap().events;
    let ledger = ledger.iter().filter(|event| event.app == "demo");
    assert!(events.len() <= ledger.count());
    assert!(events.is_sorted_by_key(|event| event["position"].as_i64()));
    let bound = all(&world, "events", ", types: [\"device.*\"]", "type").await;
    assert_eq!(bound.len(), 7);
    let stream = format!(", stream: \"message/{}\"", messages[0]);
    let own = all(&world, "events", &stream, "type stream").await;
    assert_eq!(own[0]["type"], "message.accepted");

    let timeline = format!(
        "{{ app(appId: \"demo\") {{ message(id: \"{}\") {{ timeline(device: {number}) \
         {{ position step meaning by }} deliveries {{ device registration {{ number }} \
         timeline {{ step }} }} }} }} }}",
        messages[0]
    );
    let message = world.graphql(&timeline).await["app"]["message"].clone();
    assert_eq!(message["timeline"][0]["step"], "ACCEPTED");
    assert_eq!(message["timeline"][0]["meaning"], "the push was accepted over easemob");
    assert_eq!(message["deliveries"][0]["registration"]["number"], number);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uplinks_are_listed_and_only_those_who_may_see_them_read_them() {
    let world = World::new().await;
    another(&world, "other").await;
    let client = reqwest::Client::new();
    for (app, n) in [("demo", 1), ("demo", 2), ("other", 3)] {
        let message = json!({ "id": format!("m-{n}"), "phone": "13800001111", "content": "hi" });
        let request = client.post(format!("{}/uplink/v1/messages", world.url));
        let request = request.bearer_auth(ADMIN_TOKEN).header("x-app-id", app);
        let sent = request.body(json!({ "messages": [message] }).to_string()).send().await;
        assert_eq!(sent.unwrap().status(), 200);
    }
    let found = all(&world, "uplinks", "", "source from content device").await;
    let uplink = json!({ "source": "SMS", "from": "13800001111", "content": "hi", "device": null });
    assert_eq!(found, [uplink.clone(), uplink]);
    let analyst = operator(&world, "analyst", Some("demo")).await;
    let query = "{ app(appId: \"demo\") { uplinks { nodes { source from content } } } }";
    let seen = answer(&world, &analyst, query).await;
    let hidden = json!({ "source": "SMS", "from": null, "content": null });
    assert_eq!(seen["data"]["app"]["uplinks"]["nodes"], json!([hidden.clone(), hidden]));
    world.stop().await;
}

/// Statements that a query ran on the database, as the program logs them.
fn statements(log: &[String], request: &str) -> usize {
    let marked = format!("\"id\":\"{request}\"");
    let ran = |line: &&String| line.contains("sqlx::query") && line.contains(&marked);
    log.iter().filter(ran).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_many_costs_as_many_statements_as_a_page_of_one() {
    let world = World::new().await;
    label(&world, "demo", "news").await;
    for n in 0..20 {
        user(&world, "demo", &format!("user-{n}"), "news").await;
        push(&world, "demo", &[&format!("user-{n}"), "user-0"]).await;
        given_up(&world, "demo", 1 + n).await;
        uplink(&world, "demo", "13800001111", "hi").await;
        let audience = TaskAudience::Label("news".to_owned());
        let limits = TaskLimits { running: 100, created: 100 };
        let new = tasks::task(audience, Strategy::OnlineElseKept);
        tasks::create(&world, NewTask { limits, ..new }).await;
    }
    let (head, place) = (world.head().await, world.stop().await);
    let process = Process::logging(&place, "info,sqlx::query=debug").await;
    let ask = async |first: usize| {
        let query = format!(
            "{{ app(appId: \"demo\", atLeast: {head}) {{ \
               messages(first: {first}) {{ nodes {{ id deliveries {{ device timeline {{ step }} \
                 registration {{ online user {{ username labels {{ name }} devices {{ number }} }} }} }} \
                 events {{ type }} counts {{ targets }} user {{ username }} }} }} \
               users(first: {first}) {{ nodes {{ username devices {{ number online }} \
                 labels {{ name members }} }} }} \
               tasks(first: {first}) {{ nodes {{ id state statistics {{ targets }} }} }} \
               callbacks(outcome: GIVEN_UP, first: {first}) {{ nodes {{ position attempts \
                 {{ at latencyMs status reason }} }} }} \
               uplinks(first: {first}) {{ nodes {{ from content device }} }} \
               events(first: {first}) {{ nodes {{ type body private }} }} }} }}"
        );
        let request = reqwest::Client::new().post(format!("{}/graphql", process.url()));
        let request =
            request.bearer_auth(ADMIN_TOKEN).header("x-request-id", format!("ask-{first}"));
        let body = json!({ "query": query }).to_string();
        let answer: Value = serde_json::from_slice(
            &request.body(body).send().await.unwrap().bytes().await.unwrap(),
        )
        .unwrap();
        assert!(answer["errors"].is_null(), "{answer}");
        for list in ["messages", "users", "tasks", "callbacks", "uplinks", "events"] {
            let nodes = answer["data"]["app"][list]["nodes"].as_array().unwrap();
            assert_eq!(nodes.len(), first, "{list}");
            let attempts = |node: &Value| node["attempts"].as_array().unwrap().len() == 2;
            assert!(list != "callbacks" || nodes.iter().all(attempts), "{nodes:?}");
        }
    };
    ask(1).await;
    ask(20).await;
    let log = process.log().await;
    let (one, many) = (statements(&log, "ask-1"), statements(&log, "ask-20"));
    assert!(one > 5, "{one} statements are counted");
    // What two lists ask for of the same kind may come together or, on a busy machine, just not. To
    // ask for one thing of each of 20 alone would take 19 statements more.
    assert!(many < one + 15, "{many} statements, not {one}");
}

/// What of a type, and the type itself, has no description.
fn undescribed(kind: &Value) -> Vec<String> {
    let name = kind["name"].as_str().unwrap();
    let says_nothing = |described: &Value| {
        described["description"].as_str().is_none_or(|text| text.trim().is_empty())
    };
    let mut silent = Vec::new();
    // The library makes connections and `ID`, and gives them none.
    if says_nothing(kind) && !name.ends_with("Connection") && name != "ID" {
        silent.push(name.to_owned());
    }
    for list in ["fields", "inputFields", "enumValues"] {
        for part in kind[list].as_array().into_iter().flatten() {
            let arguments = part["args"].as_array().into_iter().flatten();
            for described in std::iter::once(part).chain(arguments) {
                if says_nothing(described) {
                    silent.push(format!("{name}.{}: {}", part["name"], described["name"]));
                }
            }
        }
    }
    silent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_asks_for_too_much_is_told_so() {
    let world = World::new().await;
    label(&world, "demo", "news").await;
    user(&world, "demo", "ann", "news").await;
    let analyst = operator(&world, "analyst", None).await;
    let much = "{ app(appId: \"demo\") { messages(first: 200) { nodes { deliveries { timeline \
                { position step meaning vendor word reason by } } } } } }";
    // Few fields, on 16 levels and then on three more.
    let nested = |times: usize| {
        let begin = "labels { users(first: 1) { nodes { ".repeat(times);
        let end = "} } } ".repeat(times);
        let nodes = format!("nodes {{ {begin} username {end} }}");
        format!("{{ app(appId: \"demo\") {{ users(first: 1) {{ {nodes} }} }} }}")
    };
    for (query, why) in
        [(much.to_owned(), "Query is too complex."), (nested(5), "Query is nested too deep.")]
    {
        let refused = answer(&world, &analyst, &query).await;
        assert_eq!(refused["errors"][0]["message"], why, "{refused}");
        assert_eq!(refused["data"], Value::Null, "{refused}");
    }
    let seen = answer(&world, &analyst, &nested(4)).await;
    assert!(seen["errors"].is_null(), "{seen}");
    // Pages of every list are bounded.
    for list in [
        "users",
        "devices",
        "labels",
        "messages",
        "tasks",
        "uplinks",
        "events",
        "callbacks(outcome: GIVEN_UP",
        "label(name: \"news\") { users",
    ] {
        let open = if list.ends_with("GIVEN_UP") { ", " } else { "(" };
        let close = if list.contains('{') { "}" } else { "" };
        for (first, fits) in [(-1, false), (0, false), (1, true), (200, true), (201, false)] {
            let list =
                format!("{list}{open}first: {first}) {{ pageInfo {{ hasNextPage }} }} {close}");
            let told =
                answer(&world, &analyst, &format!("{{ app(appId: \"demo\") {{ {list} }} }}")).await;
            let why = if fits { Value::Null } else { json!("first must be 1 to 200") };
            assert_eq!(told["errors"][0]["message"], why, "{list}: {told}");
        }
    }
    for list in ["accessLog(first: 201)", "audit { setAside(first: 201)"] {
        let close = if list.contains('{') { "}" } else { "" };
        let query = format!("{{ {list} {{ pageInfo {{ hasNextPage }} }} {close} }}");
        let told = answer(&world, &world.admin, &query).await;
        assert_eq!(told["errors"][0]["message"], "first must be 1 to 200", "{list}: {told}");
    }
    // The usual introspection is neither.
    let types = "ofType { kind name ".repeat(7);
    let reference = format!("kind name {types} {}", "}".repeat(7));
    let usual = format!(
        "{{ __schema {{ queryType {{ name }} subscriptionType {{ name }} types {{ kind name description \
         fields(includeDeprecated: true) {{ name description args {{ name description \
         type {{ {reference} }} defaultValue }} type {{ {reference} }} }} \
         inputFields {{ name description }} \
         enumValues(includeDeprecated: true) {{ name description }} }} }} }}"
    );
    let seen = answer(&world, &analyst, &usual).await;
    assert!(seen["errors"].is_null(), "{}", seen["errors"]);
    let mut silent = Vec::new();
    for kind in seen["data"]["__schema"]["types"].as_array().unwrap() {
        // What begins with this is GraphQL's own.
        if !kind["name"].as_str().unwrap().starts_with("__") {
            silent.extend(undescribed(kind));
        }
    }
    assert_eq!(silent, Vec::<String>::new());
    // A position that is far away is waited for, and not for ever.
    let far = "{ position(atLeast: 1000000000) }";
    let refused = answer(&world, &analyst, far).await;
    assert!(refused["errors"][0]["message"].as_str().unwrap().contains("not reached"), "{refused}");
    let (_, seen, headers) =
        analyst.post("/graphql", Some(&json!({ "query": "{ position }" }))).await.unwrap();
    let position = seen["data"]["position"].as_i64().unwrap();
    assert!(seen["extensions"]["ledgerPosition"].as_i64().unwrap() <= position);
    assert!(headers["ledger-position"].parse::<i64>().unwrap() <= position);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_takes_too_long_is_refused_and_the_next_one_is_answered() {
    let place = Place::new().await;
    // Long enough for any query that waits for nothing, and short of what the first waits for.
    let config = Config { query_run: Duration::from_secs(2), ..place.config() };
    let world = World::start_with(place, &config, Clock::System).await.with_app().await;
    // Which would be waited for for 5 seconds.
    let far = "{ app(appId: \"demo\") { appId } position(atLeast: 1000000000) }";
    let refused = answer(&world, &world.admin, far).await;
    assert_eq!(refused["data"], Value::Null, "{refused}");
    let errors = refused["errors"].as_array().unwrap();
    let [error] = &errors[..] else { panic!("{refused}") };
    assert_eq!(error["extensions"]["code"], "TOO_LONG");
    assert!(error["message"].as_str().unwrap().contains("too long"), "{error}");
    assert!(refused["extensions"]["ledgerPosition"].is_i64(), "{refused}");
    let soon = answer(&world, &world.admin, "{ app(appId: \"demo\") { appId } }").await;
    assert_eq!(soon["data"], json!({ "app": { "appId": "demo" } }));
    world.stop().await;
}

/// SQLite waits for nobody and gives up no statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_statement_postgresql_gives_up_is_refused_as_any_that_takes_too_long() {
    let place = Place::new().await;
    if !place.on_postgres() {
        return;
    }
    let config = Config { query_run: Duration::from_secs(60), ..place.config() };
    let world = World::start_with(place, &config, Clock::System).await.with_app().await;
    let mut backdoor = world.place.backdoor().await;
    backdoor.run("BEGIN; LOCK TABLE devices").await;
    // Whether it runs out of time, by itself in 10 seconds, or is cancelled: the code is the same.
    let query = "{ app(appId: \"demo\") { devices(first: 1) { nodes { number } } } }";
    let asked = answer(&world, &world.admin, query);
    let cancelled = async {
        let Backdoor::Postgres(mut other) = world.place.backdoor().await else { panic!("SQLite") };
        const CANCEL: &str = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("it never waited", async || {
            !sqlx::query(CANCEL).fetch_all(&mut other).await.unwrap().is_empty()
        })
        .await;
    };
    let (refused, ()) = tokio::join!(asked, cancelled);
    assert_eq!(refused["errors"][0]["extensions"]["code"], "TOO_LONG", "{refused}");
    backdoor.run("ROLLBACK").await;
    world.stop().await;
}
