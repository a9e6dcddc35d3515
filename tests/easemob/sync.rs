//! `/{org}/{app}/push/sync/{target}`: the answer is what became of the push.

use std::time::Duration;

use domain::{
    Event, Stream,
    message::{AdvanceDeliveries, Ending, MessageId, Progress, Step},
    vendor::Vendor,
};
use pushledger::ledger::{Context, Lane};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Easemob, change_app, hello, ok};
use crate::{
    channels::config_json,
    harness::{message, until},
};

/// An app with a vendor that takes calls and never answers, and with ann's phone bound to it.
async fn ready() -> (Easemob, TcpListener) {
    let easemob = Easemob::with_clock().await;
    let vendor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut credentials = config_json(Vendor::Jpush);
    credentials["baseUrl"] = json!(format!("http://{}", vendor.local_addr().unwrap()));
    let vendors = json!([{ "name": "jpush", "credentials": credentials }]);
    change_app(&easemob.world, json!({ "vendors": vendors })).await;
    easemob.user("ann").await;
    easemob.bind("ann", "phone", "jpush", "token-1").await;
    (easemob, vendor)
}

/// A push that is under way: its message, its devices, and the answer to come.
struct Under {
    message: MessageId,
    devices: Vec<i64>,
    answer: JoinHandle<Value>,
}

async fn push(easemob: &Easemob, name: &str, strategy: Option<i64>) -> Under {
    let (ledger, before) =
        (easemob.world.running.server.ledger.clone(), easemob.world.head().await);
    let (cloud, path) = (easemob.cloud.clone(), format!("/push/sync/{name}"));
    let body = json!({ "strategy": strategy, "pushMessage": hello() });
    let answer = tokio::spawn(async move {
        let answer = ok(cloud.post(&path, Some(&body)).await.unwrap());
        assert_eq!(answer["data"].as_array().unwrap().len(), 1, "{answer}");
        answer["data"][0].clone()
    });
    let mut found = None;
    until("the push was never accepted", async || {
        let page = ledger.read(before, 100).await.unwrap();
        found =
            page.events.into_iter().find_map(|recorded| match (recorded.stream, recorded.event) {
                (Stream::Message(id), Event::MessageAccepted(e)) => {
                    Some((id, e.targets.iter().map(|target| target.device).collect()))
                }
                _ => None,
            });
        found.is_some()
    })
    .await;
    let (message, devices) = found.unwrap();
    Under { message, devices, answer }
}

/// Says what the vendor did with the message for one device.
async fn vendor_says(easemob: &Easemob, under: &Under, device: usize, what: Progress, word: &str) {
    let step = Step {
        vendor: Some(Vendor::Jpush),
        word: Some(word.to_owned()),
        ..Step::of_server(under.devices[device], what)
    };
    let command = AdvanceDeliveries { message: under.message, steps: vec![step] };
    let context = Context { app: "demo".to_owned(), ..Context::default() };
    let ledger = &easemob.world.running.server.ledger;
    ledger.execute(Lane::Bulk, context, command).await.unwrap();
}

fn success(request: &str) -> Value {
    json!({ "pushStatus": "SUCCESS", "data": { "code": 200, "message": "Success", "data": {
        "expireTokens": [], "sendResult": true, "requestId": request, "failTokens": [],
        "msgCode": 200 } } })
}

fn kept(request: &str) -> Value {
    let mut kept = success(request);
    kept["data"]["message"] = json!("Kept until the device connects");
    kept["data"]["data"]["sendResult"] = json!(false);
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_took_is_a_success_with_the_vendors_own_id() {
    let (easemob, _vendor) = ready().await;
    let under = push(&easemob, "ann", None).await;
    vendor_says(&easemob, &under, 0, Progress::Sent, "104410638-fd").await;
    assert_eq!(under.answer.await.unwrap(), success("104410638-fd"));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_refused_is_a_failure_in_the_documents_words() {
    let (easemob, _vendor) = ready().await;
    for (ending, status, desc) in [
        (Ending::DeadToken, "FAIL", "bad device token"),
        (Ending::Muted, "FAIL", "user ignore push"),
        (Ending::Unfit, "FAIL", "invalid message"),
        (Ending::QuotaExhausted, "FAIL", "notifier out of limit"),
        (Ending::Misconfigured, "FAIL", "invalid notifier"),
        (Ending::ExpiredUnsent, "FAIL", "expire message"),
        (Ending::VendorUnavailable, "ERROR", "push yet but fail"),
    ] {
        let under = push(&easemob, "ann", None).await;
        vendor_says(&easemob, &under, 0, Progress::Ended(ending), "code").await;
        let expected = json!({ "pushStatus": status, "desc": desc });
        assert_eq!(under.answer.await.unwrap(), expected, "{ending:?}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_device_has_no_push_binding() {
    let (easemob, _vendor) = ready().await;
    easemob.user("bob").await;
    for strategy in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
        let under = push(&easemob, "bob", strategy).await;
        let expected = json!({ "pushStatus": "FAIL", "desc": "no push binding" });
        assert_eq!(under.answer.await.unwrap(), expected, "{strategy:?}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_without_a_binding_has_no_push_binding() {
    let (easemob, _vendor) = ready().await;
    easemob.user("bob").await;
    drop(easemob.connect("bob", "phone").await);
    let under = push(&easemob, "bob", None).await;
    vendor_says(&easemob, &under, 0, Progress::Ended(Ending::NoBinding), "none").await;
    let expected = json!({ "pushStatus": "FAIL", "desc": "no push binding" });
    assert_eq!(under.answer.await.unwrap(), expected);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_not_there_does_not_exist() {
    let (easemob, _vendor) = ready().await;
    for name in ["nobody", "a%20b"] {
        let under = push(&easemob, name, None).await;
        let expected = json!({ "pushStatus": "FAIL", "desc": "appUser not exists" });
        assert_eq!(under.answer.await.unwrap(), expected);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connected_device_was_sent_is_a_success_with_our_own_id() {
    let (easemob, _vendor) = ready().await;
    let mut device = easemob.connect("ann", "phone").await;
    let here = json!({ "ann": "online" });
    until("ann never came online", async || {
        ok(easemob.cloud.get("/users/ann/status", None).await.unwrap())["data"] == here
    })
    .await;
    for strategy in [1, 3, 4] {
        let under = push(&easemob, "ann", Some(strategy)).await;
        let (id, payload) = message(&mut device).await;
        assert_eq!(payload, hello());
        assert_eq!(under.answer.await.unwrap(), success(&id), "{strategy}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_device_that_is_away_is_a_success_that_says_so() {
    let (easemob, _vendor) = ready().await;
    easemob.user("bob").await;
    drop(easemob.connect("bob", "phone").await);
    let away = json!({ "bob": "offline" });
    until("bob stayed online", async || {
        ok(easemob.cloud.get("/users/bob/status", None).await.unwrap())["data"] == away
    })
    .await;
    // Over our channel alone; or because there is no vendor to go on to.
    for (name, strategy) in [("ann", 1), ("bob", 1), ("bob", 3)] {
        let under = push(&easemob, name, Some(strategy)).await;
        let expected = kept(&under.message.to_string());
        assert_eq!(under.answer.await.unwrap(), expected, "{name} {strategy}");
    }
    // Because the vendor failed.
    for strategy in [0, 3] {
        let under = push(&easemob, "ann", Some(strategy)).await;
        vendor_says(&easemob, &under, 0, Progress::Failed(Ending::DeadToken), "dead").await;
        let expected = kept(&under.message.to_string());
        assert_eq!(under.answer.await.unwrap(), expected, "{strategy}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_online_only_push_to_a_device_that_is_away_is_dropped() {
    let (easemob, _vendor) = ready().await;
    let under = push(&easemob, "ann", Some(4)).await;
    vendor_says(&easemob, &under, 0, Progress::Ended(Ending::NotPresent), "away").await;
    let expected = json!({ "pushStatus": "FAIL", "desc": "message ignore push" });
    assert_eq!(under.answer.await.unwrap(), expected);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_of_several_that_was_reached_is_enough() {
    let (easemob, _vendor) = ready().await;
    easemob.bind("ann", "tablet", "jpush", "token-2").await;
    let under = push(&easemob, "ann", None).await;
    vendor_says(&easemob, &under, 0, Progress::Ended(Ending::DeadToken), "dead").await;
    assert!(!under.answer.is_finished());
    vendor_says(&easemob, &under, 1, Progress::Sent, "word-2").await;
    assert_eq!(under.answer.await.unwrap(), success("word-2"));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_does_not_come_within_20_seconds_is_an_error() {
    let (easemob, _vendor) = ready().await;
    let under = push(&easemob, "ann", None).await;
    let answer = under.answer;
    until("the answer never came", async || {
        easemob.world.clock.advance(Duration::from_millis(100));
        answer.is_finished()
    })
    .await;
    assert_eq!(answer.await.unwrap(), json!({ "pushStatus": "ERROR", "desc": "timeout" }));
    let waited = easemob.world.clock.now() - 1_700_000_000_000_000;
    assert!(waited >= 20_000_000, "{waited}");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_another_node_records_is_seen() {
    let (easemob, _vendor) = ready().await;
    let second = easemob.world.second().await;
    let under = push(&easemob, "ann", None).await;
    let step = Step {
        vendor: Some(Vendor::Jpush),
        word: Some("word".to_owned()),
        ..Step::of_server(under.devices[0], Progress::Sent)
    };
    let command = AdvanceDeliveries { message: under.message, steps: vec![step] };
    let context = Context { app: "demo".to_owned(), ..Context::default() };
    second.server.ledger.execute(Lane::Bulk, context, command).await.unwrap();
    assert_eq!(under.answer.await.unwrap(), success("word"));
    second.shutdown().await;
    easemob.world.stop().await;
}
