//! Who may connect, and what everybody else is told.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Error, ums::sign};
use tokio::net::TcpListener;

use super::nothing_else_comes;
use crate::harness::{PACKAGE, RawClient, UMS_APP, UMS_KEY, World, ok};

/// The status and the code with which a device is refused.
async fn refused(options: DeviceOptions) -> (u16, String) {
    let headers = Device::connect(options.clone()).await;
    let query = Device::connect_by_query(options).await;
    let [headers, query] = [headers, query].map(|connected| match connected {
        Err(Error::Refused { status, body }) => (status, code(body.as_bytes())),
        other => panic!("not refused: {other:?}"),
    });
    assert_eq!(headers, query);
    headers
}

/// The code in an envelope, which has to be whole.
fn code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    assert!(body["retInfo"].is_string() && body["data"].is_null(), "{body}");
    assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
    body["retCode"].as_str().unwrap().to_owned()
}

fn because(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn of(caller: &Caller) -> DeviceOptions {
    DeviceOptions::new(caller, PACKAGE)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_count_in_headers_and_in_the_query() {
    let world = World::new().await;
    let alice = world.register_of("alice", "c 1+%?&=", json!({})).await;
    let mut device = Device::connect_by_query(of(&alice)).await.unwrap();
    nothing_else_comes(&world, "c 1+%?&=", &mut device).await;
    drop(device);
    let bob = world.register_of("bob", "c-2", json!({})).await;
    let mut device = world.connect(&bob).await;
    nothing_else_comes(&world, "c-2", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_credential_that_is_missing_is_b00001() {
    let world = World::new().await;
    world.register("c-1").await;
    let timestamp = "1700000000000";
    let all = [
        ("appId", UMS_APP.to_owned()),
        ("clientId", "c-1".to_owned()),
        ("appPackage", PACKAGE.to_owned()),
        ("timestamp", timestamp.to_owned()),
        ("sign", sign("/connect", b"", UMS_APP, UMS_KEY, timestamp)),
    ];
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    for missing in 0..all.len() {
        let upgrade = upgrade.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let given = all.iter().enumerate().filter(|(index, _)| *index != missing);
        let given = given.map(|(_, (name, value))| ((*name).to_owned(), value.clone()));
        let headers: Vec<(String, String)> = upgrade.chain(given).collect();
        let reply = RawClient::new(&world).send("GET", "/connect", &headers, b"").await;
        let missing = all[missing].0;
        assert_eq!((reply.status, code(&reply.body)), because(401, "B00001"), "{missing}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_app_and_a_wrong_sign_are_refused() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let stranger = DeviceOptions { app_id: "MB-OTHER-0001".to_owned(), ..of(&caller) };
    assert_eq!(refused(stranger).await, because(401, "C00001"));
    // A cloud's id and key are not a terminal's.
    let cloud = world.cloud();
    let cloud = DeviceOptions { app_id: cloud.app_id, app_key: cloud.app_key, ..of(&caller) };
    assert_eq!(refused(cloud).await, because(401, "C00001"));
    let forger = DeviceOptions { app_key: "0".repeat(32), ..of(&caller) };
    assert_eq!(refused(forger).await, because(401, "D00001"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_of_a_user_needs_a_valid_token_of_that_user_and_client() {
    let world = World::with_clock().await;
    let alice = world.register_of("alice", "c-1", json!({})).await;
    let with = |token: Option<&str>| DeviceOptions {
        access_token: token.map(str::to_owned),
        ..of(&alice)
    };
    assert_eq!(refused(with(None)).await, because(401, "D00008"));
    assert_eq!(refused(with(Some("no-such-token"))).await, because(401, "D00003"));
    let elsewhere = world.token("alice", "c-2").await;
    assert_eq!(refused(with(Some(&elsewhere))).await, because(401, "D00005"));
    let bob = world.token("bob", "c-1").await;
    assert_eq!(refused(with(Some(&bob))).await, because(401, "D00008"));
    let other = json!({ "appId": "other", "name": "Other", "ums": {} });
    assert_eq!(world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    let foreign = json!({ "userId": "alice", "clientId": "c-1" });
    let path = "/admin/v1/apps/other/access-tokens";
    let (_, foreign, _) = world.admin.post(path, Some(&foreign)).await.unwrap();
    let foreign = foreign["accessToken"].as_str();
    assert_eq!(refused(with(foreign)).await, because(401, "D00005"));
    let short = json!({ "userId": "alice", "clientId": "c-1", "ttlSeconds": 60 });
    let path = "/admin/v1/apps/demo/access-tokens";
    let (_, short, _) = world.admin.post(path, Some(&short)).await.unwrap();
    let short = short["accessToken"].as_str();
    drop(Device::connect(with(short)).await.unwrap());
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refused(with(short)).await, because(401, "D00004"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_registered_is_refused_with_h32006() {
    let world = World::new().await;
    assert_eq!(refused(of(&world.terminal("c-1"))).await, because(403, "H32006"));
    let caller = world.register("c-1").await;
    let elsewhere = DeviceOptions { app_package: "com.acme.other".to_owned(), ..of(&caller) };
    assert_eq!(refused(elsewhere).await, because(403, "H32006"));
    ok(&caller, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    assert_eq!(refused(of(&caller)).await, because(403, "H32006"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_database_is_gone_answers_503_a00001() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    world.running.server.ledger.database().ledger_read.close().await;
    assert_eq!(refused(of(&caller)).await, because(503, "A00001"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_answers_503_a00001() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    // A door that stays open while the server drains: its own closes at once.
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", door.local_addr().unwrap());
    let router = pushledger::http::router(Arc::clone(&world.running.server));
    let door = tokio::spawn(async { axum::serve(door, router).await });
    world.running.server.stop_token().cancel();
    let options = DeviceOptions { base_url, ..of(&caller) };
    assert_eq!(refused(options).await, because(503, "A00001"));
    door.abort();
    // What the door holds of the server goes before the server does.
    let _ = door.await;
    world.stop().await;
}
