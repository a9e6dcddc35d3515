//! How often an app may call, and what a call too many is told.

use std::time::Duration;

use serde_json::json;

use super::{CLIENT, Easemob, SECRET, hello, ok, refused};

/// The documented limits, on a clock that stands still.
async fn documented() -> Easemob {
    let easemob = Easemob::with_clock().await;
    easemob
        .configure(json!({ "limits": {
        "syncPerSecond": 1, "asyncPerSecond": 200, "singlePerSecond": 10, "labelPerSecond": 10,
        "labelUserPerSecond": 30, "userPerSecond": 100, "tokenPerSecond": 300,
        "listPerSecond": 10, "taskPerSecond": 1,
    } }))
        .await;
    // What was taken with the former limits is evened out.
    easemob.world.clock.advance(Duration::from_secs(2));
    easemob
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_takes_its_calls_of_a_second_and_refuses_one_more() {
    let easemob = documented().await;
    let push = json!({ "pushMessage": hello() });
    let none = json!({});
    let single = json!({ "targets": ["nobody"], "pushMessage": hello() });
    let token = json!({ "grant_type": "client_credentials", "client_id": CLIENT,
                        "client_secret": SECRET });
    for (method, path, body, calls, status) in [
        ("POST", "/push/sync/nobody", &push, 1, 403),
        ("POST", "/push/async/nobody", &push, 200, 403),
        ("POST", "/push/single", &single, 10, 403),
        ("POST", "/push/list", &none, 10, 403),
        ("POST", "/push/task", &none, 1, 403),
        ("POST", "/push/message", &push, 1, 403),
        ("GET", "/push/message/1", &push, 1, 403),
        ("POST", "/push/message/1", &push, 0, 403),
        ("POST", "/push/task/broadcast", &none, 1, 403),
        ("GET", "/push/label", &push, 10, 403),
        ("GET", "/push/label/gone/user", &push, 30, 403),
        ("GET", "/users", &push, 100, 429),
        ("POST", "/token", &token, 300, 429),
    ] {
        let send = async || match method {
            "GET" => easemob.cloud.get(path, None).await.unwrap(),
            _ => easemob.cloud.post(path, Some(body)).await.unwrap(),
        };
        for call in 0..calls {
            let answer = send().await;
            assert!(![403, 429].contains(&answer.0), "call {call} of {path}: {}", answer.1);
        }
        let answer = send().await;
        match status {
            403 => refused(&answer, 403, "LimitException", "limit request"),
            _ => refused(&answer, 429, "reach_limit", "This request has reached API limit."),
        }
        assert_eq!(answer.2["retry-after"], "1", "{path}");
    }
    easemob.world.clock.advance(Duration::from_secs(1));
    ok(easemob.cloud.post("/push/sync/nobody", Some(&push)).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_token_uses_up_nobodys_calls() {
    let easemob = documented().await;
    let push = json!({ "pushMessage": hello() });
    let stranger = easemob.with_token("");
    for _ in 0..5 {
        assert_eq!(stranger.post("/push/sync/nobody", Some(&push)).await.unwrap().0, 401);
    }
    ok(easemob.cloud.post("/push/sync/nobody", Some(&push)).await.unwrap());
    easemob.world.stop().await;
}
