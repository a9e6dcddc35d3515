//! `admin_getroammsg`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ROAM, Tencent, WITHDRAW, message_with, text};
use crate::harness::merge;

const MAX: u32 = 4_000_000_000;

fn ask(more: Value) -> Value {
    let mut body = json!({ "From_Account": "bob", "To_Account": "Ann", "MaxCnt": 100,
                           "MinTime": 0, "MaxTime": MAX });
    merge(&mut body, more);
    body
}

/// The texts of an answer, in order.
fn texts(answer: &Value) -> Vec<&str> {
    assert_eq!(answer["ErrorCode"], 0, "{answer}");
    let list = answer["MsgList"].as_array().unwrap();
    assert_eq!(answer["MsgCnt"], list.len());
    list.iter().map(|m| m["MsgBody"][0]["MsgContent"]["Text"].as_str().unwrap()).collect()
}

/// Says something; `more` is what else its body has.
async fn say(tencent: &Tencent, words: &str, seq: u32, more: Value) -> String {
    let random = u32::try_from(words.len()).unwrap() * 1_000 + seq;
    let mut body = message_with(random, json!({ "MsgSeq": seq, "MsgBody": text(words) }));
    merge(&mut body, more);
    tencent.send(&body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_read_back_by_time_and_number_whoever_spoke() {
    let tencent = Tencent::with_clock().await;
    say(&tencent, "third", 9, json!({})).await;
    say(&tencent, "first", 2, json!({})).await;
    let back = json!({ "From_Account": "bob", "To_Account": "Ann" });
    say(&tencent, "second", 5, back).await;
    say(&tencent, "elsewhere", 6, json!({ "To_Account": "carl" })).await;
    tencent.world.clock.advance(Duration::from_secs(1));
    let time = tencent.world.clock.now() / 1_000_000;
    let key = say(&tencent, "last", 1, json!({})).await;
    let answer = tencent.call(ROAM, &ask(json!({}))).await;
    assert_eq!(texts(&answer), ["first", "second", "third", "last"]);
    assert_eq!((&answer["Complete"], &answer["LastMsgTime"]), (&json!(1), &json!(time - 1)));
    let random = 4_001;
    let wanted = json!({ "From_Account": "Ann", "To_Account": "bob", "MsgSeq": 1,
        "MsgRandom": random, "MsgTimeStamp": time, "MsgFlagBits": 0, "MsgKey": key,
        "MsgBody": text("last"), "CloudCustomData": "your cloud custom data" });
    assert_eq!(answer["MsgList"][3], wanted);
    // The other account finds the same.
    let other = ask(json!({ "From_Account": "Ann", "To_Account": "bob" }));
    assert_eq!(tencent.call(ROAM, &other).await["MsgList"], answer["MsgList"]);
    let times = ask(json!({ "MinTime": time, "MaxTime": time }));
    assert_eq!(texts(&tencent.call(ROAM, &times).await), ["last"]);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_back_in_time_from_the_last_key() {
    let tencent = Tencent::with_clock().await;
    for second in 0..3 {
        for seq in 1..=3 {
            say(&tencent, &format!("{second}-{seq}"), seq + second * 10, json!({})).await;
        }
        tencent.world.clock.advance(Duration::from_secs(1));
    }
    let (mut pages, mut more) = (Vec::new(), json!({ "MaxCnt": 4 }));
    loop {
        let answer = tencent.call(ROAM, &ask(more.clone())).await;
        pages.push(texts(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>());
        if answer["Complete"] == 1 {
            break;
        }
        more["MaxTime"] = answer["LastMsgTime"].clone();
        more["LastMsgKey"] = answer["LastMsgKey"].clone();
    }
    assert_eq!(
        pages,
        [vec!["1-3", "2-1", "2-2", "2-3"], vec!["0-2", "0-3", "1-1", "1-2"], vec!["0-1"]]
    );
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withdrawn_is_flagged_and_what_was_not_kept_is_not_found() {
    let tencent = Tencent::with_clock().await;
    let key = say(&tencent, "gone", 1, json!({})).await;
    say(&tencent, "now", 2, json!({ "MsgLifeTime": 0 })).await;
    say(&tencent, "unsynced", 3, json!({ "SyncOtherMachine": 2 })).await;
    say(&tencent, "copied", 4, json!({ "SyncOtherMachine": 1 })).await;
    let body = json!({ "From_Account": "Ann", "To_Account": "bob", "MsgKey": key });
    assert_eq!(tencent.call(WITHDRAW, &body).await["ErrorCode"], 0);
    let answer = tencent.call(ROAM, &ask(json!({}))).await;
    assert_eq!(texts(&answer), ["gone", "unsynced", "copied"]);
    let flags: Vec<_> =
        answer["MsgList"].as_array().unwrap().iter().map(|m| m["MsgFlagBits"].clone()).collect();
    assert_eq!(flags, [8, 0, 0]);
    let sender = ask(json!({ "From_Account": "Ann", "To_Account": "bob" }));
    assert_eq!(texts(&tencent.call(ROAM, &sender).await), ["gone", "copied"]);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_ask_wrongly_has_its_code() {
    let tencent = Tencent::new().await;
    for (more, code) in [
        (json!({ "From_Account": "nobody" }), 90_048),
        (json!({ "To_Account": "nobody" }), 90_048),
        (json!({ "From_Account": 1 }), 90_008),
        (json!({ "To_Account": null }), 90_003),
        (json!({ "MaxCnt": 0 }), 90_001),
        (json!({ "MaxCnt": "9" }), 90_001),
        (json!({ "MinTime": -1 }), 90_001),
        (json!({ "MaxTime": null }), 90_001),
        (json!({ "LastMsgKey": "x" }), 90_054),
        (json!({ "LastMsgKey": "1_2_3" }), 90_054),
    ] {
        tencent.refused(ROAM, &ask(more), code).await;
    }
    let empty = tencent.call(ROAM, &ask(json!({}))).await;
    let wanted = json!({ "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0, "Complete": 1,
        "MsgCnt": 0, "LastMsgTime": 0, "LastMsgKey": "", "MsgList": [] });
    assert_eq!(empty, wanted);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_100_messages_however_many_are_asked_for() {
    let tencent = Tencent::with_clock().await;
    for seq in 1..=101 {
        say(&tencent, "one of many", seq, json!({})).await;
    }
    let answer = tencent.call(ROAM, &ask(json!({ "MaxCnt": 1_000 }))).await;
    assert_eq!((texts(&answer).len(), &answer["Complete"]), (100, &json!(0)));
    let more = json!({ "MaxTime": answer["LastMsgTime"], "LastMsgKey": answer["LastMsgKey"] });
    let rest = tencent.call(ROAM, &ask(more)).await;
    assert_eq!((texts(&rest).len(), &rest["Complete"]), (1, &json!(1)));
    tencent.world.stop().await;
}
