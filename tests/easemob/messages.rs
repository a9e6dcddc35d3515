//! `/{org}/{app}/push/message` and `push/task/broadcast`: a notification that is kept, read, and
//! pushed to everyone by its id.

use domain::{Event, Stream, message::Protocol, route::Strategy};
use serde_json::{Value, json};

use super::{APP, Easemob, ORG, hello, ok, refused};
use crate::harness::PATIENCE;

const NOW_MS: i64 = 1_700_000_000_000;

async fn keep(easemob: &Easemob, message: &Value) -> i64 {
    let answer = ok(easemob.cloud.post("/push/message", Some(message)).await.unwrap());
    answer["data"].as_i64().unwrap_or_else(|| panic!("no id in {answer}"))
}

async fn gone(easemob: &Easemob, id: &str) {
    let path = format!("/push/message/{id}");
    for answer in [easemob.cloud.get(&path, None).await, easemob.cloud.post(&path, None).await] {
        let description = format!("push message not exists of {id}");
        refused(&answer.unwrap(), 400, "ResourceNotFoundException", &description);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_kept_for_nobody_and_read_by_its_id_with_either_method() {
    let easemob = Easemob::with_clock().await;
    easemob.user("ann").await;
    let message = json!({ "title": "Hello1234", "subTitle": "Hello", "content": "Hello",
                          "vivo": {} });
    let before = easemob.world.head().await;
    let answer = easemob.cloud.post("/push/message", Some(&message)).await.unwrap();
    assert_eq!(answer.2["ledger-position"], (before + 1).to_string());
    let answer = ok(answer);
    let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(names, ["data", "duration", "timestamp"]);
    let id = answer["data"].as_i64().unwrap();
    let page = easemob.world.running.server.ledger.read(before, 9).await.unwrap();
    let Event::MessageAccepted(accepted) = &page.events[0].event else { panic!("{page:?}") };
    assert_eq!((page.events.len(), accepted.protocol), (1, Protocol::Easemob));
    assert_eq!((accepted.targets.len(), accepted.users, accepted.unresolved), (0, 0, 0));
    let mut expected = message.clone();
    crate::harness::merge(
        &mut expected,
        json!({ "appkey": format!("{ORG}#{APP}"),
                                                  "timestamp": NOW_MS }),
    );
    easemob.world.clock.advance(std::time::Duration::from_secs(90));
    let path = format!("/push/message/{id}");
    for answer in [easemob.cloud.get(&path, None).await, easemob.cloud.post(&path, None).await] {
        let answer = ok(answer.unwrap());
        assert_eq!(answer["data"], expected);
        assert_eq!(answer["timestamp"], NOW_MS + 90_000);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_notification_is_shown_as_it_was_written_with_whose_it_is() {
    let easemob = Easemob::new().await;
    let body = r#"{"title":"Hi","ext":{"exact":0.10,"large":1e400},"appkey":"mine","timestamp":1}"#;
    let kept = easemob.raw("POST", "/push/message", &[], body.as_bytes()).await;
    let kept: Value = serde_json::from_slice(&kept.body).unwrap();
    let path = format!("/push/message/{}", kept["data"]);
    let shown = String::from_utf8(easemob.raw("GET", &path, &[], b"").await.body).unwrap();
    assert!(shown.contains(r#""ext":{"exact":0.10,"large":1e400}"#), "{shown}");
    assert!(shown.contains(&format!(r#""appkey":"{ORG}#{APP}""#)), "{shown}");
    assert!(!shown.contains("mine") && !shown.contains(r#""timestamp":1,"#), "{shown}");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_pushes_a_kept_notification_to_everyone_as_a_task() {
    let easemob = Easemob::new().await;
    let message = json!({ "title": "Kept", "content": "Hello", "ext": { "n": 1 } });
    let id = keep(&easemob, &message).await;
    let mut devices = Vec::new();
    for name in ["ann", "bob"] {
        easemob.user(name).await;
        devices.push(easemob.connect(name, "phone").await);
    }
    // As a number, as the document has it, and as the text that a common client sends.
    for (given, strategy) in [(json!(id), 1), (json!(id.to_string()), 3)] {
        let body = json!({ "pushMsgId": given, "strategy": strategy, "type": "IM",
                           "pushFunc": "ALL" });
        let answer = ok(easemob.cloud.post("/push/task/broadcast", Some(&body)).await.unwrap());
        let task = answer["data"].as_i64().unwrap_or_else(|| panic!("no task in {answer}"));
        assert_ne!(task, id);
        for device in &mut devices {
            let got = tokio::time::timeout(PATIENCE, crate::harness::message(device)).await;
            assert_eq!(got.unwrap(), (task.to_string(), message.clone()));
        }
        let status = ok(easemob.cloud.get(&format!("/push/task/{task}"), None).await.unwrap());
        assert_eq!(status["data"]["audience"], "everyone", "{status}");
    }
    drop(devices);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_has_the_default_strategy_and_may_wait_for_its_time() {
    let easemob = Easemob::with_clock().await;
    let id = keep(&easemob, &hello()).await;
    // The clock stands at 2023-11-15 06:13:20 in Shanghai.
    let body = json!({ "pushMsgId": id, "startDate": "2023-11-15 08:00:00" });
    let before = easemob.world.head().await;
    let answer = ok(easemob.cloud.post("/push/task/broadcast", Some(&body)).await.unwrap());
    let page = easemob.world.running.server.ledger.read(before, 1).await.unwrap();
    let Event::TaskCreated(created) = &page.events[0].event else { panic!("{page:?}") };
    assert_eq!(created.strategy, Strategy::VendorOnly);
    let path = format!("/push/task/{}", answer["data"]);
    let status = ok(easemob.cloud.get(&path, None).await.unwrap());
    assert_eq!(status["data"]["status"], "scheduled");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_counts_among_the_full_pushes_of_five_minutes() {
    let easemob = Easemob::with_clock().await;
    let id = keep(&easemob, &hello()).await;
    let body = json!({ "pushMsgId": id });
    for _ in 0..3 {
        let at = json!({ "pushMsgId": id, "startDate": "2023-11-15 08:00:00" });
        ok(easemob.cloud.post("/push/task/broadcast", Some(&at)).await.unwrap());
    }
    let answer = easemob.cloud.post("/push/task/broadcast", Some(&body)).await.unwrap();
    refused(&answer, 403, "LimitException", "limit request");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_cannot_be_shown_is_a_bad_request_and_not_kept() {
    let easemob = Easemob::new().await;
    let head = easemob.world.head().await;
    let long = json!({ "other": "x".repeat(65_536) }).to_string();
    for (body, error, detail) in [
        ("", "json_parse", None),
        ("[]", "json_parse", None),
        ("7", "json_parse", None),
        (r#"{"title":1}"#, "MessageException", Some("title must be a string")),
        (r#"{"apns":[]}"#, "MessageException", Some("apns must be an object")),
        (&long, "MessageException", Some("pushMessage must not be longer than 64 KiB")),
    ] {
        let reply = easemob.raw("POST", "/push/message", &[], body.as_bytes()).await;
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &answer["error"]), (400, &json!(error)), "{body:.40}");
        assert_eq!(answer["detail"].as_str(), detail, "{body:.40}");
    }
    assert_eq!(easemob.world.head().await, head);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_kept_is_neither_shown_nor_broadcast() {
    let easemob = Easemob::new().await;
    // A push to a user, even to one that there is not, is no notification that was kept.
    let push = json!({ "targets": ["nobody"], "pushMessage": hello() });
    let before = easemob.world.head().await;
    ok(easemob.cloud.post("/push/single", Some(&push)).await.unwrap());
    let page = easemob.world.running.server.ledger.read(before, 1).await.unwrap();
    let Stream::Message(pushed) = page.events[0].stream else { panic!("{page:?}") };
    let pushed = pushed.to_string();
    easemob.world.register("c-1").await;
    let ums = easemob.world.push("c-1", json!({ "n": 1 })).await;
    for id in ["1", "x", "0", "99999999999999999999", &pushed, &ums] {
        gone(&easemob, id).await;
    }
    let head = easemob.world.head().await;
    let named = "pushMsgId must be the id of a push notification";
    let illegal = "IllegalArgumentException";
    let unknown = "ResourceNotFoundException";
    let one_of = "strategy must be 0, 1, 2, 3 or 4";
    let mine = keep(&easemob, &hello()).await;
    for (body, error, description) in [
        (json!({}), illegal, "pushMsgId must be provided".to_owned()),
        (json!({ "pushMsgId": null }), illegal, "pushMsgId must be provided".to_owned()),
        (json!({ "pushMsgId": "x" }), illegal, named.to_owned()),
        (json!({ "pushMsgId": -1 }), illegal, named.to_owned()),
        (json!({ "pushMsgId": 1.5 }), illegal, named.to_owned()),
        (json!({ "pushMsgId": [1] }), illegal, named.to_owned()),
        (json!({ "pushMsgId": 1 }), unknown, "push message not exists of 1".to_owned()),
        (json!({ "pushMsgId": pushed }), unknown, format!("push message not exists of {pushed}")),
        (json!({ "pushMsgId": mine, "strategy": 5 }), illegal, one_of.to_owned()),
    ] {
        let answer = easemob.cloud.post("/push/task/broadcast", Some(&body)).await.unwrap();
        refused(&answer, 400, error, &description);
    }
    assert_eq!(easemob.world.head().await, head + 1);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_app_neither_reads_nor_broadcasts_what_was_kept() {
    let easemob = Easemob::new().await;
    let id = keep(&easemob, &hello()).await;
    let other = json!({ "appId": "other", "name": "Other", "easemob": { "orgName": ORG,
        "appName": "other", "clientId": "client-2", "clientSecret": "zq-other-secret" } });
    let made = easemob.world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap();
    assert_eq!(made.0, 201, "{}", made.1);
    let base = format!("{}/{ORG}/other", easemob.world.url);
    let ask = json!({ "grant_type": "client_credentials", "client_id": "client-2",
                      "client_secret": "zq-other-secret" });
    let token = ok(sim::Admin::new(&base, "").post("/token", Some(&ask)).await.unwrap());
    let other = sim::Admin::new(&base, token["access_token"].as_str().unwrap());
    let body = json!({ "pushMsgId": id });
    let description = format!("push message not exists of {id}");
    for answer in [
        other.get(&format!("/push/message/{id}"), None).await.unwrap(),
        other.post("/push/task/broadcast", Some(&body)).await.unwrap(),
    ] {
        refused(&answer, 400, "ResourceNotFoundException", &description);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_keeps_a_notification_and_broadcasts_it_once() {
    let easemob = Easemob::new().await;
    let twice = async |path: &str, body: &Value| {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let key = [("idempotency-key", path)];
            let reply = easemob.raw("POST", path, &key, body.to_string().as_bytes()).await;
            let answer: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(reply.status, 200, "{answer}");
            answers.push(answer["data"].clone());
        }
        assert_eq!(answers[0], answers[1], "{path}");
        answers[0].clone()
    };
    let before = easemob.world.head().await;
    let id = twice("/push/message", &hello()).await;
    twice("/push/task/broadcast", &json!({ "pushMsgId": id })).await;
    let names = easemob.names_after(before).await;
    let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
    assert_eq!((count("message.accepted"), count("task.created")), (1, 1), "{names:?}");
    easemob.world.stop().await;
}
