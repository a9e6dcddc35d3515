//! Devices of accounts on the device socket.

use serde_json::json;
use sim::{Device, DeviceOptions};

use super::{APP, KEY, Tencent, message, next, usersig};
use crate::harness::RawClient;
use pushledger::tencent::sign;

fn upgrade() -> Vec<(String, String)> {
    [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_known_from_its_first_connection_and_connecting_again_stores_nothing() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    drop(tencent.connect("bob", "phone").await);
    let names = async || {
        let events = tencent.events(head).await;
        events.iter().map(|event| event.event.name()).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["device.bound"]);
    let mut phone = tencent.connect("bob", "phone").await;
    assert_eq!(names().await, ["device.bound"]);
    tencent.send(&message(1)).await;
    assert_eq!(next(&mut phone).await.1["MsgRandom"], 1);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_a_valid_signature_is_401_and_says_why() {
    let tencent = Tencent::with_clock().await;
    let head = tencent.world.head().await;
    let now = tencent.world.clock.now() / 1_000_000;
    let mut raw = RawClient::new(&tencent.world);
    let query = |user: &str, sig: &str, device: &str| {
        format!("/connect?sdkappid={APP}&userId={user}&usersig={sig}&deviceId={device}")
    };
    for (target, code) in [
        (query("bob", "x", "phone"), 70_003),
        (query("bob", &usersig("Ann"), "phone"), 70_013),
        (query("bob", &sign("other", APP, "bob", now, 60), "phone"), 70_009),
        (query("bob", &sign(KEY, APP, "bob", now - 61, 60), "phone"), 70_001),
        (query("", &usersig("bob"), "phone"), 60_004),
        (query("nobody", &usersig("nobody"), "phone"), 90_048),
        (query("bob", &usersig("bob"), ""), 90_001),
        (query("bob", &usersig("bob"), &"x".repeat(101)), 90_001),
    ] {
        let reply = raw.send("GET", &target, &upgrade(), b"").await;
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &body["ErrorCode"]), (401, &json!(code)), "{target}");
    }
    assert_eq!(tencent.world.head().await, head);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_closes_the_one_before() {
    let tencent = Tencent::new().await;
    let mut first = tencent.connect("bob", "phone").await;
    let options =
        DeviceOptions::of_tencent(&tencent.world.url, APP, "bob", usersig("bob"), "phone");
    let _second = Device::connect(options).await.unwrap();
    let closed = first.next_within(crate::harness::PATIENCE).await;
    assert!(matches!(closed, Some(sim::Incoming::Closed { code: 4001, .. })), "{closed:?}");
    tencent.world.stop().await;
}
