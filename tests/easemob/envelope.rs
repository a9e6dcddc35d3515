//! The envelopes of answers: which names are there, and no others.

use serde_json::{Value, json};

use super::{APP, Easemob, ORG, hello, ok};

fn names(answer: &Value) -> Vec<&str> {
    answer.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_answer_has_timestamp_data_and_duration_and_no_more() {
    let easemob = Easemob::with_clock().await;
    let body = json!({ "pushMessage": hello() });
    let answer = ok(easemob.cloud.post("/push/async/ann", Some(&body)).await.unwrap());
    assert_eq!(names(&answer), ["data", "duration", "timestamp"]);
    assert_eq!(answer["timestamp"], 1_700_000_000_000_i64);
    assert_eq!(answer["duration"], 0);
    let answer = ok(easemob.cloud.get("/push/label", None).await.unwrap());
    assert_eq!(names(&answer), ["data", "duration", "timestamp"]);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_answer_says_what_was_asked_of_which_application() {
    let easemob = Easemob::with_clock().await;
    let application = easemob.configure(json!({})).await["application"].clone();
    easemob.user("ann").await;
    let answer = easemob.cloud.get("/users/ann", None).await.unwrap();
    assert_eq!(answer.2["content-type"], "application/json;charset=UTF-8");
    let answer = ok(answer);
    assert_eq!(
        names(&answer),
        [
            "action",
            "application",
            "applicationName",
            "count",
            "duration",
            "entities",
            "organization",
            "path",
            "timestamp",
            "uri"
        ]
    );
    assert_eq!((&answer["action"], &answer["path"]), (&json!("get"), &json!("/users")));
    assert_eq!(answer["application"], application);
    assert_eq!((&answer["organization"], &answer["applicationName"]), (&json!(ORG), &json!(APP)));
    let uri = format!("{}/{ORG}/{APP}/users/ann", easemob.world.url);
    assert_eq!(answer["uri"], uri);
    assert_eq!(answer["timestamp"], 1_700_000_000_000_i64);
    let status = ok(easemob.cloud.get("/users/ann/status", None).await.unwrap());
    assert!(status.get("entities").is_none() && status["data"].is_object());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bindings_answer_is_the_short_form() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let body = json!({ "device_id": "d", "device_token": "t", "notifier_name": "n" });
    let put = ok(easemob.cloud.put("/users/ann/push/binding", Some(&body)).await.unwrap());
    assert_eq!(names(&put), ["action", "duration", "entities", "timestamp"]);
    assert_eq!(put["action"], "put");
    let get = ok(easemob.cloud.get("/users/ann/push/binding", None).await.unwrap());
    assert_eq!((names(&get), &get["action"]), (names(&put), &json!("get")));
    easemob.world.stop().await;
}

/// The number behind a name in the text of an answer, which must be nothing but digits.
fn digits<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{text}"));
    rest.split([',', '}']).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_numbers_above_2_to_the_53_digit_by_digit() {
    let easemob = Easemob::new().await;
    easemob.label("vip").await;
    let label = json!({ "targets": ["vip"], "pushMessage": hello() }).to_string();
    let everyone = json!({ "pushMessage": hello() }).to_string();
    for (path, body, name) in [
        ("/push/list/label", &label, "taskId"),
        ("/push/task", &everyone, "data"),
        ("/push/message", &hello().to_string(), "data"),
    ] {
        let reply = easemob.raw("POST", path, &[], body.as_bytes()).await;
        let text = String::from_utf8(reply.body).unwrap();
        let id = digits(&text, name);
        let number: i64 = id.parse().unwrap();
        assert!(number > 1 << 53, "{text}");
        let kind = if path == "/push/message" { "message" } else { "task" };
        let found = easemob.raw("GET", &format!("/push/{kind}/{id}"), &[], b"").await;
        assert_eq!(found.status, 200, "{found:?}");
        if kind == "task" {
            let text = String::from_utf8(found.body).unwrap();
            assert_eq!(digits(&text, "taskId"), id);
        } else {
            let broadcast = format!(r#"{{"pushMsgId":{id}}}"#);
            let path = "/push/task/broadcast";
            assert_eq!(easemob.raw("POST", path, &[], broadcast.as_bytes()).await.status, 200);
        }
        // Its neighbour is another id, which a reader of doubles would take for the same.
        let other = format!("/push/{kind}/{}", number ^ 1);
        assert_ne!(easemob.raw("GET", &other, &[], b"").await.status, 200);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_tells_the_position_that_includes_it() {
    let easemob = Easemob::new().await;
    let user = json!({ "username": "ann", "password": super::PASSWORD });
    ok(easemob.cloud.post("/users", Some(&user)).await.unwrap());
    let push = json!({ "pushMessage": hello() });
    for (path, body) in [("/push/async/ann", push), ("/push/label", json!({ "name": "vip" }))] {
        let answer = easemob.cloud.post(path, Some(&body)).await.unwrap();
        let position = answer.2["ledger-position"].parse::<i64>().unwrap();
        assert_eq!(position, easemob.world.head().await, "{path}");
    }
    easemob.world.stop().await;
}
