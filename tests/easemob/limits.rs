//! How often an app may call, and what a call too many is told.

use std::time::Duration;

use serde_json::{Value, json};
use sim::{
    Answer,
    fakes::{JpushFake, Outage},
};

use super::{CLIENT, Easemob, SECRET, hello, ok, refused, tasks::audience};

/// Each group of calls with its limit: one of its calls, how many of it a second, and what one more
/// is answered with.
const GROUPS: [(&str, &str, &str, u16, u16); 20] = [
    ("syncPerSecond", "POST", "/push/sync/nobody", 1, 403),
    ("asyncPerSecond", "POST", "/push/async/nobody", 200, 403),
    ("singlePerSecond", "POST", "/push/single", 10, 403),
    ("listPerSecond", "POST", "/push/list", 10, 403),
    ("listPerSecond", "POST", "/push/list/label", 10, 403),
    ("taskPerSecond", "POST", "/push/task", 1, 403),
    ("broadcastPerSecond", "POST", "/push/task/broadcast", 1, 403),
    ("messagePerSecond", "POST", "/push/message", 1, 403),
    ("messagePerSecond", "GET", "/push/message/1", 1, 403),
    ("receiptPerSecond", "POST", "/push/report/huawei", 1_000, 429),
    ("taskQueryPerSecond", "GET", "/push/task/1", 10, 403),
    ("labelPerSecond", "GET", "/push/label", 10, 403),
    ("labelUserPerSecond", "GET", "/push/label/gone/user", 30, 403),
    ("registrationPerSecond", "POST", "/users", 100, 429),
    ("batchDeletePerSecond", "DELETE", "/users", 30, 429),
    ("batchStatusPerSecond", "POST", "/users/batch/status", 50, 429),
    ("bindingPerSecond", "PUT", "/users/nobody/push/binding", 100, 429),
    ("bindingPerSecond", "GET", "/users/nobody/push/binding", 100, 429),
    ("userPerSecond", "GET", "/users", 100, 429),
    ("tokenPerSecond", "POST", "/token", 300, 429),
];

/// Calls that share the calls of another: how often that other is called first.
const SHARED: [(&str, &str, &str, &str); 5] = [
    ("POST", "/push/list", "POST", "/push/list/label"),
    ("GET", "/push/message/1", "POST", "/push/message/1"),
    ("GET", "/push/task/1", "GET", "/push/task/1/statistics"),
    ("PUT", "/users/nobody/push/binding", "GET", "/users/nobody/push/binding"),
    ("GET", "/users", "GET", "/users/nobody/status"),
];

/// A body with which each of the calls comes to no more than an answer.
fn body(path: &str) -> Value {
    match path {
        "/push/single" => json!({ "targets": ["nobody"], "pushMessage": hello() }),
        "/push/sync/nobody" | "/push/async/nobody" => json!({ "pushMessage": hello() }),
        "/push/message" => hello(),
        "/token" => json!({ "grant_type": "client_credentials", "client_id": CLIENT,
                            "client_secret": SECRET }),
        "/push/report/huawei" => json!({ "statuses": [] }),
        _ => json!({}),
    }
}

async fn send(easemob: &Easemob, method: &str, path: &str) -> Answer {
    let body = body(path);
    match method {
        "GET" => easemob.cloud.get(path, None).await,
        "PUT" => easemob.cloud.put(path, Some(&body)).await,
        "DELETE" => easemob.cloud.delete(path, None).await,
        _ => easemob.cloud.post(path, Some(&body)).await,
    }
    .unwrap()
}

/// One call too many, as the two kinds of calls word it.
fn too_many(answer: &Answer, status: u16) {
    match status {
        403 => refused(answer, 403, "LimitException", "limit request"),
        _ => refused(answer, 429, "reach_limit", "This request has reached API limit."),
    }
    let exception = if status == 403 { "LimitException" } else { "ReachLimitException" };
    assert_eq!(answer.1["exception"], exception);
    assert_eq!(answer.2["retry-after"], "1");
}

/// Takes so many calls of a group and then refuses one.
async fn takes(easemob: &Easemob, (method, path): (&str, &str), calls: u16, status: u16) {
    for call in 0..calls {
        let answer = send(easemob, method, path).await;
        let limited = answer.0 == 429 || answer.1["error"] == "LimitException";
        assert!(!limited, "call {call} of {method} {path}: {}", answer.1);
    }
    too_many(&send(easemob, method, path).await, status);
}

/// The limits that an app has by itself, on a clock that stands still.
async fn documented() -> Easemob {
    let easemob = Easemob::with_clock().await;
    let limits = GROUPS.map(|(name, _, _, calls, _)| (name.to_owned(), calls.into()));
    let limits: serde_json::Map<String, Value> = limits.into_iter().collect();
    let told = easemob.configure(json!({ "limits": limits })).await;
    let by_itself = serde_json::to_value(domain::app::EasemobLimits::default()).unwrap();
    for (name, limit) in by_itself.as_object().unwrap() {
        assert_eq!(&told["limits"][name], limit, "{name}");
    }
    pause(&easemob);
    easemob
}

/// Evens out what was taken.
fn pause(easemob: &Easemob) {
    easemob.world.clock.advance(Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_takes_its_calls_of_a_second_and_refuses_one_more() {
    let easemob = documented().await;
    for (_, method, path, calls, status) in GROUPS {
        pause(&easemob);
        takes(&easemob, (method, path), calls, status).await;
        // What is taken does not come out of any other group's calls.
        let other = if path == "/users" { "/push/label" } else { "/users" };
        let answer = send(&easemob, "GET", other).await;
        assert_eq!(answer.0, 200, "{path} used up the calls of {other}: {}", answer.1);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_calls_share_the_calls_of_others() {
    let easemob = documented().await;
    for (method, path, other_method, other) in SHARED {
        pause(&easemob);
        let mut groups = GROUPS.into_iter();
        let group = groups.find(|(_, m, p, ..)| (*m, *p) == (method, path)).unwrap();
        takes(&easemob, (method, path), group.3, group.4).await;
        too_many(&send(&easemob, other_method, other).await, group.4);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_is_an_app_s_own_and_moves_its_group_alone() {
    let easemob = documented().await;
    for (name, method, path, calls, status) in GROUPS {
        easemob.configure(json!({ "limits": { name: 3 } })).await;
        pause(&easemob);
        takes(&easemob, (method, path), 3, status).await;
        easemob.configure(json!({ "limits": { name: calls } })).await;
    }
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

/// The ways to create a task, and who each is for.
async fn every_kind(easemob: &Easemob) -> [(&'static str, Value); 4] {
    let kept = ok(easemob.cloud.post("/push/message", Some(&hello())).await.unwrap());
    [
        ("/push/task", json!({ "pushMessage": hello() })),
        ("/push/list", json!({ "pushMessage": hello(), "targets": ["u-0"] })),
        ("/push/list/label", json!({ "pushMessage": hello(), "targets": ["fans"] })),
        ("/push/task/broadcast", json!({ "pushMsgId": kept["data"] })),
    ]
}

/// Three tasks that a vendor's outage keeps under way.
async fn three_at_once(easemob: &Easemob, jpush: &JpushFake) -> Vec<i64> {
    jpush.set_outage(Outage::Unavailable).await;
    let body = json!({ "pushMessage": hello(), "targets": ["fans"] });
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let task = ok(easemob.cloud.post("/push/list/label", Some(&body)).await.unwrap());
        tasks.push(task["data"]["taskId"].as_i64().unwrap());
    }
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tasks_are_under_way_at_once_and_no_fourth_of_any_kind() {
    let (easemob, jpush) = audience().await;
    // However many were created of late.
    easemob.configure(json!({ "limits": { "createdTasks": 1_000 } })).await;
    let tasks = three_at_once(&easemob, &jpush).await;
    for (path, body) in every_kind(&easemob).await {
        let answer = easemob.cloud.post(path, Some(&body)).await.unwrap();
        refused(&answer, 403, "LimitException", "limit request");
        assert_eq!(answer.1["detail"], "an app has at most 3 tasks under way", "{path}");
    }
    // Nor one for later, as those under way may still be then.
    let later = json!({ "pushMessage": hello(), "startDate": "2023-11-15 08:00:00" });
    let later = easemob.cloud.post("/push/task", Some(&later)).await.unwrap();
    assert_eq!(later.0, 403, "{}", later.1);
    // The first that ends makes room for one.
    ok(easemob.cloud.delete(&format!("/push/task/{}", tasks[0]), None).await.unwrap());
    let [(path, body), ..] = every_kind(&easemob).await;
    ok(easemob.cloud.post(path, Some(&body)).await.unwrap());
    let answer = easemob.cloud.post(path, Some(&body)).await.unwrap();
    refused(&answer, 403, "LimitException", "limit request");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_tasks_there_may_be_is_an_app_s_own() {
    let (easemob, jpush) = audience().await;
    easemob.configure(json!({ "limits": { "createdTasks": 4, "runningTasks": 1_000 } })).await;
    three_at_once(&easemob, &jpush).await;
    let [(path, body), ..] = every_kind(&easemob).await;
    ok(easemob.cloud.post(path, Some(&body)).await.unwrap());
    for (path, body) in every_kind(&easemob).await {
        let answer = easemob.cloud.post(path, Some(&body)).await.unwrap();
        refused(&answer, 403, "LimitException", "limit request");
        let detail = "an app has at most 4 tasks within five minutes";
        assert_eq!(answer.1["detail"], detail, "{path}");
    }
    easemob.world.stop().await;
}
