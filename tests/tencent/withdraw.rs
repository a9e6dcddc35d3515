//! `admin_msgwithdraw`.

use domain::Event;
use serde_json::{Value, json};
use sim::Incoming;

use super::{BATCH, Tencent, WITHDRAW, message, message_with, next};
use crate::harness::PATIENCE;

fn withdrawal(key: &str) -> Value {
    json!({ "From_Account": "Ann", "To_Account": "bob", "MsgKey": key })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_withdrawn_once_and_its_device_is_told() {
    let tencent = Tencent::new().await;
    let mut phone = tencent.connect("bob", "phone").await;
    let key = tencent.send(&message(1)).await;
    next(&mut phone).await;
    let head = tencent.world.head().await;
    let answer = tencent.call(WITHDRAW, &withdrawal(&key)).await;
    assert_eq!(answer, json!({ "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0 }));
    let events = tencent.events(head).await;
    assert!(events.iter().any(|event| matches!(event.event, Event::RecallRequested(_))));
    let control = phone.next_within(PATIENCE).await;
    assert!(matches!(control, Some(Incoming::Control { .. })), "{control:?}");
    let again = tencent.call(WITHDRAW, &withdrawal(&key)).await;
    assert_eq!(again["ErrorCode"], 20_023);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reached_no_device_and_what_was_sent_to_many_is_withdrawn_too() {
    let tencent = Tencent::new().await;
    let key = tencent.send(&message(1)).await;
    assert_eq!(tencent.unread("bob").await, 1);
    assert_eq!(tencent.call(WITHDRAW, &withdrawal(&key)).await["ErrorCode"], 0);
    assert_eq!(tencent.unread("bob").await, 0);
    let many = message_with(2, json!({ "To_Account": ["bob", "carl"] }));
    let key = tencent.call(BATCH, &many).await["MsgKey"].as_str().unwrap().to_owned();
    assert_eq!(tencent.call(WITHDRAW, &withdrawal(&key)).await["ErrorCode"], 0);
    // Carl still has his.
    assert_eq!((tencent.unread("bob").await, tencent.unread("carl").await), (0, 1));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_ask_wrongly_has_its_code() {
    let tencent = Tencent::new().await;
    let key = tencent.send(&message(1)).await;
    let mut other = key.clone();
    other.push('7');
    for (body, code) in [
        (withdrawal(&other), 20_022),
        (json!({ "From_Account": "bob", "To_Account": "Ann", "MsgKey": key }), 20_022),
        (json!({ "From_Account": "Ann", "To_Account": "nobody", "MsgKey": key }), 20_022),
        (json!({ "From_Account": "nobody", "To_Account": "bob", "MsgKey": key }), 90_008),
        (json!({ "To_Account": "bob", "MsgKey": key }), 90_008),
        (json!({ "From_Account": 1, "To_Account": "bob", "MsgKey": key }), 90_008),
        (json!({ "From_Account": "Ann", "MsgKey": key }), 90_003),
        (json!({ "From_Account": "Ann", "To_Account": 1, "MsgKey": key }), 90_003),
        (json!({ "From_Account": "Ann", "To_Account": "bob" }), 90_054),
        (json!({ "From_Account": "Ann", "To_Account": "bob", "MsgKey": 1 }), 90_054),
        (withdrawal("1_2"), 90_054),
        (withdrawal("1_2_3_4"), 90_054),
        (withdrawal("a_b_c"), 90_054),
        (withdrawal("4294967296_1_1"), 90_054),
        (withdrawal(&"1".repeat(51)), 90_054),
    ] {
        tencent.refused(WITHDRAW, &body, code).await;
    }
    tencent.world.stop().await;
}
