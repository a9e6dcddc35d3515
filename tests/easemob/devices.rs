//! Devices of Easemob users on the device socket.

use serde_json::json;
use sim::{Device, DeviceOptions, Error, Incoming};

use super::{Easemob, hello, ok};
use crate::harness::{PATIENCE, World, message};

fn options(easemob: &Easemob, token: &str, device: &str) -> DeviceOptions {
    DeviceOptions::of_easemob(&easemob.world.url, token, device)
}

/// Status and type of a refused handshake.
async fn refusal(options: DeviceOptions, in_query: bool) -> (u16, String) {
    let connected = match in_query {
        true => Device::connect_by_query(options).await,
        false => Device::connect(options).await,
    };
    match connected {
        Err(Error::Refused { status, body }) => {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            (status, body["error"].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_connects_with_its_users_token_and_gets_messages_as_they_were_pushed() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let token = easemob.token_of("ann").await;
    let mut by_header = Device::connect(options(&easemob, &token, "phone")).await.unwrap();
    let by_query = Device::connect_by_query(options(&easemob, &token, "tablet")).await;
    let mut by_query = by_query.unwrap();
    let body = r#"{"strategy":1,"pushMessage": {"title":"Hi", "ext":{"n":18446744073709551616}}}"#;
    let reply = easemob.raw("POST", "/push/async/ANN", &[], body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    for device in [&mut by_header, &mut by_query] {
        match device.next_within(PATIENCE).await {
            Some(Incoming::Message { protocol, raw_payload, .. }) => {
                assert_eq!(protocol, "easemob");
                assert_eq!(raw_payload, r#"{"title":"Hi", "ext":{"n":18446744073709551616}}"#);
            }
            other => panic!("no message but {other:?}"),
        }
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_connects_with_a_token_that_its_app_inherited_for_it() {
    let easemob = Easemob::new().await;
    let body = json!({ "grant_type": "inherit", "username": "ann", "autoCreateUser": true });
    let answer = ok(easemob.cloud.post("/token", Some(&body)).await.unwrap());
    let token = answer["access_token"].as_str().unwrap();
    let mut device = Device::connect(options(&easemob, token, "phone")).await.unwrap();
    let push = json!({ "strategy": 4, "pushMessage": hello() });
    let pushed = ok(easemob.cloud.post("/push/sync/ann", Some(&push)).await.unwrap());
    assert_eq!(pushed["data"][0]["pushStatus"], "SUCCESS", "{pushed}");
    assert_eq!(message(&mut device).await.1, hello());
    // It ends with its user.
    ok(easemob.cloud.delete("/users/ann", None).await.unwrap());
    let expected = (401, "auth_bad_access_token".to_owned());
    assert_eq!(refusal(options(&easemob, token, "phone"), false).await, expected);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_gets_what_was_kept_and_connecting_again_stores_nothing() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    drop(easemob.connect("ann", "phone").await);
    let head = easemob.world.head().await;
    let mut device = easemob.connect("ann", "phone").await;
    assert_eq!(easemob.world.head().await, head);
    drop(device);
    let body = json!({ "strategy": 1, "pushMessage": hello() });
    ok(easemob.cloud.post("/push/async/ann", Some(&body)).await.unwrap());
    device = easemob.connect("ann", "phone").await;
    assert_eq!(message(&mut device).await.1, hello());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_keeps_its_bindings_when_it_connects() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let bound = easemob.bind("ann", "phone", "jpush", "token").await;
    let _device = easemob.connect("ann", "phone").await;
    let read = ok(easemob.cloud.get("/users/ann/push/binding", None).await.unwrap());
    assert_eq!(read["entities"], bound);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_a_users_token_or_a_device_id_is_refused() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let token = easemob.token_of("ann").await;
    let head = easemob.world.head().await;
    let nobodys = "0123456789abcdef0123456789abcdef";
    for in_query in [false, true] {
        for (token, device, status, error) in [
            ("junk", "phone", 401, "auth_bad_access_token"),
            (nobodys, "phone", 401, "auth_bad_access_token"),
            (&easemob.cloud.token, "phone", 401, "unauthorized"),
            (&token, "", 400, "illegal_argument"),
            (&token, &"d".repeat(101), 400, "illegal_argument"),
        ] {
            let refused = refusal(options(&easemob, token, device), in_query).await;
            assert_eq!(refused, (status, error.to_owned()), "{token} {device}");
        }
    }
    assert_eq!(
        refusal(options(&easemob, &token, "a\u{0}b"), true).await,
        (400, "illegal_argument".to_owned())
    );
    easemob.configure(json!({ "pushOpen": false })).await;
    let refused = refusal(options(&easemob, &token, "phone"), false).await;
    assert_eq!(refused, (403, "ServiceNotOpenException".to_owned()));
    assert_eq!(easemob.world.head().await, head + 1);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_users_devices_are_told_and_do_not_come_back() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let token = easemob.token_of("ann").await;
    let mut device = Device::connect(options(&easemob, &token, "phone")).await.unwrap();
    ok(easemob.cloud.delete("/users/ann", None).await.unwrap());
    match device.next_within(PATIENCE).await {
        Some(Incoming::Closed { code, .. }) => assert_eq!(code, 4002),
        other => panic!("{other:?}"),
    }
    let refused = refusal(options(&easemob, &token, "phone"), false).await;
    assert_eq!(refused, (401, "auth_bad_access_token".to_owned()));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_of_ums_connects_as_before_beside_it() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut terminal = world.connect(&caller).await;
    let id = world.push("c-1", json!({ "n": 1 })).await;
    assert_eq!(message(&mut terminal).await, (id, json!({ "n": 1 })));
    world.stop().await;
}
