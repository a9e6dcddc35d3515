//! Subscriptions over a WebSocket: admitted with a token, told what changes, bounded.

use std::{sync::Arc, time::Duration};

use domain::{route::Strategy, task::TaskAudience};
use futures_util::{SinkExt as _, StreamExt as _};
use pushledger::{clock::Clock, config::Config, ledger::Context};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use super::{another, operator, push, user};
use crate::{
    harness::{ADMIN_TOKEN, PATIENCE, Place, World, until},
    tasks,
};

/// A client of `graphql-transport-ws`.
pub struct Follower(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Follower {
    async fn connect(world: &World) -> Follower {
        Follower::connection(world).await.unwrap()
    }

    /// A connection, or the status with which it was refused.
    async fn connection(world: &World) -> Result<Follower, u16> {
        let url = world.url.replace("http", "ws") + "/graphql";
        let mut request = url.into_client_request().unwrap();
        let protocol = HeaderValue::from_static("graphql-transport-ws");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Follower(socket)),
            Err(Error::Http(refused)) => Err(refused.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn admitted(world: &World, token: &str) -> Follower {
        let mut own = Follower::connect(world).await;
        let payload = json!({ "authorization": format!("Bearer {token}") });
        own.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(own.next().await.unwrap()["type"], "connection_ack");
        own
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub async fn subscribe(&mut self, id: &str, query: &str) {
        let payload = json!({ "query": query });
        self.send(json!({ "id": id, "type": "subscribe", "payload": payload })).await;
    }

    /// The next message, or the code with which the server closed.
    pub async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("nothing came");
            match next {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The data of the next answer to a subscription.
    pub async fn data(&mut self) -> Value {
        let message = self.next().await.unwrap();
        assert_eq!(message["type"], "next", "{message}");
        assert!(message["payload"]["errors"].is_null(), "{message}");
        message["payload"]["data"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_from_a_position_on_and_can_be_taken_up_again() {
    let world = World::new().await;
    another(&world, "other").await;
    super::label(&world, "demo", "news").await;
    let mut own = Follower::admitted(&world, ADMIN_TOKEN).await;
    let query = |after: &str| {
        format!(
            "subscription {{ events(appId: \"demo\", after: {after}, types: [\"account.*\", \
             \"device.*\"]) {{ position type private }} }}"
        )
    };
    own.subscribe("1", &query("0")).await;
    user(&world, "demo", "ann", "news").await;
    let first = own.data().await["events"].clone();
    assert_eq!(first["type"], "account.opened");
    assert_eq!(first["private"]["username"], "ann");
    assert_eq!(own.data().await["events"]["type"], "device.bound");
    drop(own);
    super::label(&world, "other", "news").await;
    user(&world, "other", "zoe", "news").await;
    user(&world, "demo", "bob", "news").await;
    // An analyst goes on after the first, and sees nothing private.
    let analyst = operator(&world, "analyst", Some("demo")).await;
    let mut again = Follower::admitted(&world, &analyst.token).await;
    again.subscribe("1", &query(&first["position"].to_string())).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = again.data().await["events"].clone();
        assert!(event["private"].is_null());
        seen.push(event["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, ["device.bound", "account.opened", "device.bound"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_a_message_and_statistics_are_told_of_as_they_go_on() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let audience = TaskAudience::Everyone;
    let task = tasks::create(&world, tasks::task(audience, Strategy::OnlineElseKept)).await;
    let mut own = Follower::admitted(&world, ADMIN_TOKEN).await;
    let query = |id: &dyn std::fmt::Display| {
        format!(
            "subscription {{ taskProgress(appId: \"demo\", taskId: \"{id}\") \
             {{ position state targets sent }} }}"
        )
    };
    // The views may not know of it yet.
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    own.subscribe("task", &query(&task)).await;
    loop {
        let told = own.data().await["taskProgress"].clone();
        if told["state"] == "FINISHED" {
            assert_eq!(told["targets"], 1);
            break;
        }
    }
    assert_eq!(own.next().await.unwrap(), json!({ "id": "task", "type": "complete" }));

    let id = world.push("c-1", json!({ "n": 1 })).await;
    let devices = world.graphql("{ app(appId: \"demo\") { devices { nodes { number } } } }").await;
    let device = devices["app"]["devices"]["nodes"][0]["number"].clone();
    let story = format!(
        "subscription {{ messageTimeline(appId: \"demo\", messageId: \"{id}\", device: {device}) \
         {{ step }} }}"
    );
    own.subscribe("story", &story).await;
    assert_eq!(own.data().await["messageTimeline"]["step"], "ACCEPTED");
    let mut phone = world.connect(&caller).await;
    // The task's comes first.
    for _ in 0..2 {
        crate::harness::message(&mut phone).await;
    }
    let mut steps = Vec::new();
    while steps.last().is_none_or(|step| step != "RECEIVED") {
        steps.push(own.data().await["messageTimeline"]["step"].as_str().unwrap().to_owned());
    }
    own.send(json!({ "id": "story", "type": "complete" })).await;

    let begin = chrono::DateTime::from_timestamp_micros(world.clock.now()).unwrap();
    let ticks = format!(
        "subscription {{ deliveryStats(appId: \"demo\", range: {{ from: \"{}\" }}) \
         {{ position total {{ targets }} }} }}",
        begin.to_rfc3339()
    );
    own.subscribe("ticks", &ticks).await;
    let mut told = Value::Null;
    while told["total"]["targets"] != 2 {
        let message = own.next().await.unwrap();
        if message["id"] == "ticks" {
            assert!(message["payload"]["errors"].is_null(), "{message}");
            told = message["payload"]["data"]["deliveryStats"].clone();
        }
    }
    world.push("c-1", json!({ "n": 2 })).await;
    let before = told["position"].as_i64().unwrap();
    while told["total"]["targets"] != 3 {
        told = own.data().await["deliveryStats"].clone();
    }
    assert!(told["position"].as_i64().unwrap() > before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_admitted_asks_for_too_much_or_for_another_app_is_told_so() {
    let world = World::new().await;
    another(&world, "other").await;
    super::label(&world, "other", "news").await;
    user(&world, "other", "zoe", "news").await;
    let id = push(&world, "other", &["zoe"]).await;
    let new = tasks::task(TaskAudience::Label("news".to_owned()), Strategy::OnlineElseKept);
    let context = Context { app: "other".to_owned(), ..Context::default() };
    let (task, _) =
        pushledger::delivery::tasks::create(&world.running.server, context, new).await.unwrap();
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    for payload in [json!({}), json!({ "authorization": "Bearer wrong" })] {
        let mut own = Follower::connect(&world).await;
        own.send(json!({ "type": "connection_init", "payload": payload })).await;
        assert!(own.next().await.is_err());
    }
    let mut early = Follower::connect(&world).await;
    early.subscribe("1", "subscription { events(appId: \"demo\") { position } }").await;
    assert!(early.next().await.is_err());

    let analyst = operator(&world, "analyst", Some("demo")).await;
    let mut own = Follower::admitted(&world, &analyst.token).await;
    for (n, query) in [
        "{ apps { appId } }".to_owned(),
        "subscription { events(appId: \"other\", after: 0) { position } }".to_owned(),
        format!(
            "subscription {{ messageTimeline(appId: \"demo\", messageId: \"{id}\", device: 1) {{ step }} }}"
        ),
        "subscription { taskProgress(appId: \"demo\", taskId: \"1\") { sent } }".to_owned(),
        format!("subscription {{ taskProgress(appId: \"demo\", taskId: \"{task}\") {{ sent }} }}"),
        format!("subscription {{ taskProgress(appId: \"other\", taskId: \"{task}\") {{ sent }} }}"),
        format!("subscription {{ {} }}", STATISTICS.replace("demo", "other")),
        "subscription { deliveryStats(appId: \"demo\", range: { from: \"2023-01-01T00:00:00Z\" }, \
         everySeconds: 0) { position } }"
            .to_owned(),
    ]
    .iter()
    .enumerate()
    {
        own.subscribe(&n.to_string(), query).await;
        let told = own.next().await.unwrap();
        let told = if told["type"] == "next" { told["payload"]["errors"].clone() } else { told };
        assert!(told.to_string().contains("message"), "{query}: {told}");
        // What was refused is over.
        if let Ok(message) = tokio::time::timeout(PATIENCE, own.next()).await {
            assert_eq!(message.unwrap()["type"], "complete", "{query}");
        }
    }
    let events = "subscription { events(appId: \"demo\") { position } }";
    for n in 0..16 {
        own.subscribe(&format!("e{n}"), events).await;
    }
    own.subscribe("one too many", events).await;
    let told = own.next().await.unwrap();
    // Which of them is looked at last, nobody says.
    assert!(told.to_string().contains("at most 16"), "{told}");
    assert_eq!(own.next().await.unwrap()["type"], "complete");
    // One that is over makes room, whichever of the first 16 has a seat.
    let other = if told["id"] == "e0" { "e1" } else { "e0" };
    own.send(json!({ "id": other, "type": "complete" })).await;
    let story = "{ position total { targets } }";
    let ticks = STATISTICS.replace(SHORT, story);
    own.subscribe("again", &format!("subscription {{ {ticks} }}")).await;
    let told = loop {
        let told = own.next().await.unwrap();
        if told["id"] == "again" {
            break told;
        }
    };
    assert_eq!(told["payload"]["data"]["deliveryStats"]["total"]["targets"], 0, "{told}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_answers_no_ping_or_has_a_token_that_was_withdrawn_is_let_go() {
    let place = Place::new().await;
    let config = Config { follow_beat: Duration::from_secs(2), ..place.config() };
    let world = World::start_with(place, &config, Clock::System).await.with_app().await;
    let events = "subscription { events(appId: \"demo\") { type } }";
    let withdrawn = async {
        let body = json!({ "name": "somebody", "role": "analyst" });
        let (_, made, _) = world.admin.post("/admin/v1/operators", Some(&body)).await.unwrap();
        let mut own = Follower::admitted(&world, made["token"].as_str().unwrap()).await;
        own.subscribe("1", events).await;
        // It stays for as long as it answers and the token is known.
        assert!(tokio::time::timeout(Duration::from_secs(5), own.next()).await.is_err());
        let (_, all, _) = world.admin.get("/admin/v1/operators", None).await.unwrap();
        let somebody = all.as_array().unwrap().iter().find(|own| own["name"] == "somebody");
        let path = format!("/admin/v1/operators/{}", somebody.unwrap()["number"]);
        assert_eq!(world.admin.delete(&path, None).await.unwrap().0, 204);
        assert_eq!(own.next().await, Err(4403));
    };
    let deaf = async {
        let mut own = Follower::admitted(&world, ADMIN_TOKEN).await;
        own.subscribe("1", events).await;
        // Whoever does not read answers no ping.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(own.next().await, Err(1001));
    };
    let mute = async {
        let mut own = Follower::connect(&world).await;
        assert_eq!(own.next().await, Err(4408));
    };
    tokio::join!(withdrawn, deaf, mute);
    world.stop().await;
}

/// What is asked of statistics, and the answer that is asked for.
const STATISTICS: &str = "deliveryStats(appId: \"demo\", range: { from: \"2026-01-01T00:00:00Z\", \
                          to: \"2026-02-01T00:00:00Z\" }) { position }";
const SHORT: &str = "{ position }";

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_has_the_limits_of_a_query_and_a_node_those_of_its_connections() {
    let world = World::new().await;
    let mut own = Follower::admitted(&world, ADMIN_TOKEN).await;
    // Each is small for itself.
    let stages = "counts { stages { stage reached pending ended unobservable } }";
    let rows = |n: usize| format!("a{n}: rows {{ {stages} }}");
    let many: String = (0..40).map(rows).collect();
    let much = STATISTICS.replace(SHORT, &format!("{{ {many} }}"));
    own.subscribe("much", &format!("subscription {{ {much} }}")).await;
    let told = own.next().await.unwrap();
    assert!(told.to_string().contains("Query is too complex."), "{told}");
    let less = STATISTICS.replace(SHORT, &format!("{{ {} }}", rows(0)));
    own.subscribe("less", &format!("subscription {{ {less} }}")).await;
    while own.next().await.unwrap()["id"] != "less" {}
    // All but one have a connection, and then all.
    let followers = Arc::clone(&world.running.server.followers);
    let others = u32::try_from(followers.available_permits() - 1).unwrap();
    let taken = Arc::clone(&followers).acquire_many_owned(others).await.unwrap();
    let last = Follower::admitted(&world, ADMIN_TOKEN).await;
    assert_eq!(Follower::connection(&world).await.err(), Some(503));
    drop(last);
    until("who goes makes no room", async || Follower::connection(&world).await.is_ok()).await;
    drop(taken);
    world.stop().await;
}
