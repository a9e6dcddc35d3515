//! `batchsendmsg`.

use serde_json::{Value, json};

use super::{BATCH, ROAM, Tencent, message_with, next};

fn batch(random: u32, to: Value) -> Value {
    message_with(random, json!({ "To_Account": to }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_many_accounts_under_one_key() {
    let tencent = Tencent::new().await;
    let mut phone = tencent.connect("carl", "phone").await;
    let head = tencent.world.head().await;
    let body = batch(1, json!(["bob", "carl", "bob"]));
    let answer = tencent.call(BATCH, &body).await;
    let accepted = tencent.accepted(head).await;
    let keys: Vec<_> = accepted.iter().map(|(_, event)| event.chat.unwrap().key()).collect();
    let key = answer["MsgKey"].as_str().unwrap();
    assert_eq!(keys, [key, key]);
    assert_eq!((&answer["ActionStatus"], &answer["ErrorCode"]), (&json!("OK"), &json!(0)));
    // The app's server is not called about any of them.
    assert!(accepted.iter().all(|(_, event)| !event.callback));
    assert_eq!(next(&mut phone).await.1["To_Account"], "carl");
    assert_eq!(tencent.call(BATCH, &body).await, answer);
    assert_eq!(tencent.accepted(head).await.len(), 2);
    let ask = json!({ "From_Account": "bob", "To_Account": "Ann", "MaxCnt": 9, "MinTime": 0,
                      "MaxTime": 4_000_000_000_u32 });
    assert_eq!(tencent.call(ROAM, &ask).await["MsgCnt"], 1);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_there_are_not_are_named_and_if_there_is_none_it_is_90012() {
    let tencent = Tencent::new().await;
    let body = batch(1, json!(["x", "bob", "y"]));
    let answer = tencent.call(BATCH, &body).await;
    let missing = json!([{ "To_Account": "x", "ErrorCode": 70_107 },
                         { "To_Account": "y", "ErrorCode": 70_107 }]);
    assert_eq!((&answer["ActionStatus"], &answer["ErrorList"]), (&json!("SomeError"), &missing));
    assert_eq!(answer["ErrorCode"], 0);
    assert_eq!(tencent.call(BATCH, &body).await, answer);
    tencent.refused(BATCH, &batch(2, json!(["x", "y"])), 90_012).await;
    assert_eq!(
        tencent.call(BATCH, &batch(3, json!(["x"]))).await["ErrorInfo"],
        "invalid To_Account"
    );
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_500_accounts_are_90011_and_no_list_90003() {
    let tencent = Tencent::new().await;
    let many: Vec<String> = (0..501).map(|n| format!("u{n}")).collect();
    tencent.refused(BATCH, &batch(1, json!(many)), 90_011).await;
    for to in [json!("bob"), json!([]), json!([1]), json!([""]), json!(null)] {
        tencent.refused(BATCH, &batch(1, to), 90_003).await;
    }
    tencent
        .refused(BATCH, &message_with(1, json!({ "To_Account": ["bob"], "MsgBody": [] })), 90_002)
        .await;
    tencent.world.stop().await;
}
