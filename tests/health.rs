//! Whether a server lives and takes calls, and the id by which a call is found again in answers,
//! logs and history.

use std::{net::SocketAddr, sync::Arc};

use pushledger::{clock::Clock, http};
use serde_json::{Value, json};
use sim::Caller;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    ADMIN_TOKEN, Place, Process, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY, World, registration,
};

const PUSH: &str = "/umse/v2/msgPush";

/// Status and text of an answer.
async fn ask(url: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{url}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn is(status: u16, text: &str) -> (u16, String) {
    (status, format!("{text}\n"))
}

/// Another door to a server, which stays open while the server's own is closed.
struct BackDoor {
    url: String,
    close: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

impl BackDoor {
    async fn open(world: &World) -> BackDoor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = http::router(Arc::clone(&world.running.server));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let close = CancellationToken::new();
        let serving = axum::serve(listener, service);
        let serving = serving.with_graceful_shutdown(close.clone().cancelled_owned());
        BackDoor { url, close, served: tokio::spawn(async move { serving.await }) }
    }

    async fn close(self) {
        self.close.cancel();
        self.served.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_ready_until_its_database_is_gone_and_once_it_is_back() {
    let world = World::new().await;
    assert_eq!(ask(&world.url, "/healthz").await, is(200, "ok"));
    assert_eq!(ask(&world.url, "/readyz").await, is(200, "ready"));
    let mut backdoor = world.place.backdoor().await;
    backdoor.run("ALTER TABLE head RENAME TO away").await;
    assert_eq!(ask(&world.url, "/readyz").await, is(503, "database does not answer"));
    assert_eq!(ask(&world.url, "/healthz").await, is(200, "ok"));
    backdoor.run("ALTER TABLE away RENAME TO head").await;
    assert_eq!(ask(&world.url, "/readyz").await, is(200, "ready"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_lives_but_is_not_ready_and_at_last_turns_calls_away() {
    let world = World::new().await;
    world.register("c-1").await;
    let door = BackDoor::open(&world).await;
    let url = &door.url;
    let cloud = Caller::new(url, UMS_SYSTEM, UMS_SYSTEM_KEY);
    let push = json!({ "dst": { "type": 0, "Id": ["c-1"] } }).to_string();
    world.running.server.stop_token().cancel();
    assert_eq!(ask(url, "/readyz").await, is(503, "draining"));
    assert_eq!(ask(url, "/healthz").await, is(200, "ok"));
    // What was begun is finished, as long as the ledger takes commands.
    assert_eq!(cloud.call(PUSH, &push).await.unwrap().ret_code, "00000");
    world.running.server.ledger.close();
    let reply = cloud.call(PUSH, &push).await.unwrap();
    assert_eq!((reply.status, &*reply.ret_code), (200, "A00001"));
    let terminal = Caller::new(url, UMS_APP, UMS_KEY).with_client_id("c-2");
    let reply = terminal.call("/ums/v2/register", &registration("c-2").to_string()).await.unwrap();
    assert_eq!(reply.ret_code, "A00001");
    door.close().await;
    world.stop().await;
}

/// Pushes with a request id; gives code and id of the answer.
async fn pushed(cloud: &Caller, id: &str) -> (String, String) {
    let body = json!({ "dst": { "type": 0, "Id": ["c-1"] } }).to_string();
    let mut headers = cloud.headers(PUSH, &body, Clock::System.now() / 1_000);
    headers.push(("X-Request-ID".to_owned(), id.to_owned()));
    let reply = cloud.call_with(PUSH, &body, &headers).await.unwrap();
    (reply.ret_code, reply.headers["x-request-id"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_and_its_events_have_the_callers_request_id_if_that_is_sane() {
    let world = World::new().await;
    world.register("c-1").await;
    let cloud = world.cloud();
    let longest = "r".repeat(64);
    for (given, kept) in
        [("r-4711", true), (&*longest, true), (&*"r".repeat(65), false), ("", false)]
    {
        let (code, id) = pushed(&cloud, given).await;
        assert_eq!((&*code, id == given), ("00000", kept), "{given}: {id}");
        assert!((1..=64).contains(&id.len()), "{id}");
        let ledger = &world.running.server.ledger;
        let page = ledger.read(world.head().await - 1, 1).await.unwrap();
        assert_eq!(page.events[0].event.name(), "message.accepted");
        assert_eq!(page.events[0].metadata.request.as_deref(), Some(&*id));
    }
    // A refusal has one too.
    let reply = world.terminal("c-1").call("/ums/v2/devlist", "{").await.unwrap();
    assert_ne!(reply.ret_code, "00000");
    assert_eq!(reply.headers["x-request-id"].len(), 32);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_call_that_failed_has_the_id_of_its_answer() {
    let place = Place::new().await;
    let server = Process::start(&place).await;
    let admin = sim::Admin::new(server.url(), ADMIN_TOKEN);
    let app = json!({ "appId": "demo", "ums": { "appId": UMS_APP, "appKey": UMS_KEY,
                      "systemId": UMS_SYSTEM, "systemKey": UMS_SYSTEM_KEY } });
    assert_eq!(admin.post("/admin/v1/apps", Some(&app)).await.unwrap().0, 201);
    let terminal = Caller::new(server.url(), UMS_APP, UMS_KEY).with_client_id("c-1");
    let reply = terminal.call("/ums/v2/register", &registration("c-1").to_string()).await.unwrap();
    assert_eq!(reply.ret_code, "00000");
    let cloud = Caller::new(server.url(), UMS_SYSTEM, UMS_SYSTEM_KEY);
    let mut backdoor = place.backdoor().await;
    backdoor.run("ALTER TABLE head RENAME TO away").await;
    let answered = pushed(&cloud, "r-of-a-failure").await;
    backdoor.run("ALTER TABLE away RENAME TO head").await;
    assert_eq!(answered, ("A00004".to_owned(), "r-of-a-failure".to_owned()));
    let log = server.log().await;
    let lines = log.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_it: Vec<Value> = lines.filter(|line| line["span"]["id"] == "r-of-a-failure").collect();
    assert!(of_it.iter().any(|line| line["level"] == "ERROR"), "{of_it:?} in {log:#?}");
    assert!(of_it.iter().all(|line| line["span"]["path"] == PUSH), "{of_it:?}");
}
