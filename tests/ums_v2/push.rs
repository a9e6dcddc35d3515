//! What a push answers, how long its message lives, and whose it is.

use std::time::Duration;

use serde_json::{Value, json};
use sim::Incoming;

use super::{CLOUD_PUSH, CLOUD_TRY, PUSH, TRY, call, each, refusal};
use crate::harness::{PATIENCE, World, message, ok};

fn to(client: &str) -> Value {
    json!({ "dst": { "type": 0, "Id": [client] }, "message": { "msgName": "m" } })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_push_call_answers_a_message_id_of_the_time_and_where_it_came_from() {
    let world = World::with_clock().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let mut before = String::new();
    for (caller, path) in
        [(&ann, PUSH), (&ann, TRY), (&world.cloud(), CLOUD_PUSH), (&world.cloud(), CLOUD_TRY)]
    {
        let reply = call(caller, path, &to("c-1").to_string()).await;
        assert_eq!(reply.ret_code, "00000", "{path}");
        assert_eq!(reply.data.as_object().unwrap().len(), 1);
        let id = reply.data["msgId"].as_str().unwrap().to_owned();
        // Milliseconds, three digits of the node, a sequence.
        assert!(id.starts_with("1700000000000000"), "{id}");
        assert!(id.len() == 19 && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
        assert!(id > before, "{id} came after {before}");
        assert_eq!(reply.headers["ledger-position"], world.head().await.to_string());
        before = id;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_has_no_id_and_stores_nothing() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    assert_eq!(refusal(&world, &ann, PUSH, &to("nobody")).await, "H32006");
    assert_eq!(refusal(&world, &ann, TRY, &to("nobody")).await, "H32011");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_named_twice_to_a_device_comes_once() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({ "deviceId": "mac" })).await;
    let mut device = world.connect(&ann).await;
    let twice = json!({ "dst": { "type": 0, "Id": ["c-1", "c-1"] }, "message": { "n": 1 } });
    ok(&ann, PUSH, &twice).await;
    ok(&ann, PUSH, &json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": { "n": 2 } })).await;
    assert_eq!(message(&mut device).await.1, json!({ "n": 1 }));
    assert_eq!(message(&mut device).await.1, json!({ "n": 2 }));
    assert_eq!(device.duplicates(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_lives_for_a_day_unless_its_sender_says_otherwise() {
    let world = World::with_clock().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let mut device = world.connect(&ann).await;
    for (expires, seconds) in [
        (None, 86_400),
        (Some(Value::Null), 86_400),
        (Some(json!(1)), 1),
        (Some(json!(3_600)), 3_600),
        (Some(json!(86_400)), 86_400),
    ] {
        for (caller, path) in [(&ann, PUSH), (&world.cloud(), CLOUD_TRY)] {
            let mut body = to("c-1");
            if let Some(expires) = &expires {
                body["expires"] = expires.clone();
            }
            ok(caller, path, &body).await;
            match device.next_within(PATIENCE).await {
                Some(Incoming::Message { expires_at, .. }) => {
                    assert_eq!(expires_at, 1_700_000_000_000 + seconds * 1_000);
                }
                other => panic!("{other:?} came"),
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expires_is_a_whole_number_of_1_to_86400_seconds() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let whole = |code| [("0", code), ("-1", code), ("86401", code), ("99999999999999999999", code)];
    let others = [("\"60\"", "B00002"), ("1.5", "B00002"), ("true", "B00002"), ("[1]", "B00002")];
    for (expires, code) in whole("B00003").into_iter().chain(others) {
        let body = format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"expires":{expires}}}"#);
        for (caller, path) in
            [(&ann, PUSH), (&ann, TRY), (&world.cloud(), CLOUD_PUSH), (&world.cloud(), CLOUD_TRY)]
        {
            assert_eq!(call(caller, path, &body).await.ret_code, code, "{path} {body}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_before_the_device_comes_is_not_sent() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let mut body = to("c-1");
    body["expires"] = json!(60);
    let data = ok(&world.cloud(), CLOUD_PUSH, &body).await;
    let id = data["msgId"].as_str().unwrap();
    world.clock.advance(Duration::from_secs(61));
    let info = world.until(id, |info| !info["devices"][0]["ended"].is_null()).await;
    assert_eq!(info["devices"][0]["ended"], "expired_offline");
    let mut device = world.connect(&caller).await;
    let next = world.push("c-1", json!({ "msgName": "next" })).await;
    assert_eq!(message(&mut device).await.0, next);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_to_a_user_does_not_reach_the_next_user_of_the_device() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    let body = json!({ "dst": { "type": 3, "Id": ["ann"], "appType": ["com.acme.app"] } });
    let data = ok(&world.cloud(), CLOUD_PUSH, &body).await;
    let id = data["msgId"].as_str().unwrap();
    let bob = world.register_of("bob", "c-1", json!({})).await;
    let info = world.until(id, |info| !info["devices"][0]["ended"].is_null()).await;
    assert_eq!(info["devices"][0]["ended"], "owner_changed");
    let mut device = world.connect(&bob).await;
    let next = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, next);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_burns_is_taken_away_elsewhere_once_one_device_displayed_it() {
    let world = World::new().await;
    let phone = world.register_of("ann", "c-1", json!({})).await;
    let tablet = world.register_of("ann", "c-2", json!({ "deviceType": "02" })).await;
    let (mut phone, mut tablet) = (world.connect(&phone).await, world.connect(&tablet).await);
    let dst = json!({ "type": 2, "Id": ["ann"], "devType": ["01", "02"] });
    let body = json!({ "dst": dst, "message": {}, "isBurn": true });
    let data = ok(&world.cloud(), CLOUD_PUSH, &body).await;
    let id = data["msgId"].as_str().unwrap();
    assert_eq!(message(&mut phone).await.0, id);
    assert_eq!(message(&mut tablet).await.0, id);
    phone.report(id, 3).await.unwrap();
    match tablet.next_within(PATIENCE).await {
        Some(Incoming::Control { op, id: of }) => assert_eq!((op.as_str(), &*of), ("recall", id)),
        other => panic!("{other:?} came"),
    }
    // The tablet's answer leaves while it waits for more.
    let taken = |info: &Value| info["devices"][1]["recall"] == "replaced_unseen";
    let info = tokio::select! {
        info = world.until(id, taken) => info,
        more = tablet.next() => panic!("{more:?} came"),
    };
    assert_eq!(each(info["devices"].as_array().unwrap(), "clientId"), "c-1 c-2");
    assert_eq!(
        (&info["devices"][0]["status"], &info["devices"][1]["status"]),
        (&json!(3), &json!(5))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_burn_is_a_truth_value() {
    let world = World::new().await;
    world.register("c-1").await;
    let mut body = to("c-1");
    for no in [json!("true"), json!(1), json!({})] {
        body["isBurn"] = no;
        assert_eq!(refusal(&world, &world.cloud(), CLOUD_PUSH, &body).await, "B00002");
    }
    for yes in [json!(true), json!(false), json!(null)] {
        body["isBurn"] = yes;
        ok(&world.cloud(), CLOUD_PUSH, &body).await;
    }
    world.stop().await;
}
