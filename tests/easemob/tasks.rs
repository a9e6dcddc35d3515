//! Tasks: pushes to a label, to a list and to everyone, and our own calls that read and cancel
//! them. What statistics say is compared with what the vendor counted.

use std::time::Duration;

use serde_json::{Value, json};
use sim::fakes::{Jpush, JpushFake, Options, Outage};

use super::{Easemob, change_app, hello, ok, refused};
use crate::harness::{PATIENCE, merge};

/// An app with JPush, and users bound to it: `u-0` to `u-9`, of which `u-8` is bound to a vendor
/// that the app does not have, and `u-9` has no device.
pub async fn audience() -> (Easemob, JpushFake) {
    let easemob = Easemob::with_clock().await;
    let jpush = JpushFake::start(Jpush::default(), Options::default()).await.unwrap();
    let own = jpush.credentials();
    let credentials = json!({ "vendor": "jpush", "baseUrl": jpush.url(), "appKey": own.app_key,
                              "masterSecret": own.master_secret });
    let vendors = json!([{ "name": "jpush-cert", "credentials": credentials }]);
    change_app(&easemob.world, json!({ "vendors": vendors })).await;
    easemob.label("fans").await;
    let names: Vec<String> = (0..10).map(|n| format!("u-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        easemob.user(name).await;
        if n < 9 {
            let certificate = if n == 8 { "no-such-cert" } else { "jpush-cert" };
            easemob.bind(name, "phone", certificate, &format!("token-{n}")).await;
        }
    }
    let body = json!({ "usernames": names });
    ok(easemob.cloud.post("/push/label/fans/user", Some(&body)).await.unwrap());
    (easemob, jpush)
}

fn push(more: Value) -> Value {
    let mut body = json!({ "pushMessage": hello() });
    merge(&mut body, more);
    body
}

async fn create(easemob: &Easemob, path: &str, more: Value) -> i64 {
    let answer = ok(easemob.cloud.post(path, Some(&push(more))).await.unwrap());
    let data = &answer["data"];
    data["taskId"].as_i64().or(data.as_i64()).unwrap_or_else(|| panic!("no task in {answer}"))
}

async fn status(easemob: &Easemob, task: i64) -> Value {
    ok(easemob.cloud.get(&format!("/push/task/{task}"), None).await.unwrap())["data"].clone()
}

async fn statistics(easemob: &Easemob, task: i64) -> Value {
    let path = format!("/push/task/{task}/statistics");
    ok(easemob.cloud.get(&path, None).await.unwrap())["data"].clone()
}

/// Waits until a task has a status, while time passes.
async fn until(easemob: &Easemob, task: i64, wanted: &str) -> Value {
    let reached = async {
        loop {
            let status = status(easemob, task).await;
            if status["status"] == wanted {
                return status;
            }
            easemob.world.clock.advance(Duration::from_millis(100));
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the task never came so far")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_label_reaches_its_users_and_counts_every_outcome() {
    let (easemob, jpush) = audience().await;
    let task = create(&easemob, "/push/list/label", json!({ "targets": ["fans"] })).await;
    let done = until(&easemob, task, "finished").await;
    assert_eq!(
        (&done["users"], &done["usersWithoutDevice"], &done["targets"]),
        (&json!(10), &json!(1), &json!(9)),
        "{done}"
    );
    assert_eq!((&done["audience"], &done["label"]), (&json!("label"), &json!("fans")));
    let found = statistics(&easemob, task).await;
    assert_eq!((&found["sent"], &found["unobservable"]), (&json!(8), &json!(8)), "{found}");
    assert_eq!(found["ended"], json!({ "no_binding": 1 }), "{found}");
    // One whose vendor the app does not have, and one without any device.
    assert_eq!(found["failures"], json!({ "no push binding": 2 }), "{found}");
    assert_eq!((&found["devices"], &found["usersReached"]), (&json!(9), &json!(8)), "{found}");
    let all: i64 = found["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| cell["deliveries"].as_i64().unwrap())
        .sum();
    assert_eq!(Some(all), found["targets"].as_i64());
    // What the vendor counted is what the statistics say.
    let stats = jpush.stats();
    assert_eq!((stats.tokens_accepted, stats.tokens_repeated), (8, 0));
    assert!(found["latencyMs"]["handedOver"]["p50"].is_i64(), "{found}");
    // No device said anything, so there is nothing to measure.
    for step in ["received", "displayed", "acknowledged"] {
        assert_eq!(found["latencyMs"][step], json!({ "p50": null, "p99": null }), "{found}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_tells_how_large_its_audience_is_as_soon_as_it_started() {
    let (easemob, jpush) = audience().await;
    let at = json!({ "targets": ["fans"], "startDate": "2023-11-15 08:00:00" });
    let later = create(&easemob, "/push/list/label", at).await;
    jpush.set_outage(Outage::Unavailable).await;
    let label = create(&easemob, "/push/list/label", json!({ "targets": ["fans"] })).await;
    let everyone = create(&easemob, "/push/task", json!({})).await;
    for task in [label, everyone] {
        let running = until(&easemob, task, "running").await;
        let audience = json!([10, 1, 9, null]);
        assert_eq!(numbers(&running), audience, "{running}");
        assert_eq!(numbers(&statistics(&easemob, task).await), audience);
    }
    let waiting = status(&easemob, later).await;
    assert_eq!(numbers(&waiting), json!([null, null, null, null]), "{waiting}");
    // Who joins now was not there.
    easemob.user("u-10").await;
    easemob.bind("u-10", "phone", "jpush-cert", "token-10").await;
    jpush.set_outage(Outage::None).await;
    for task in [label, everyone] {
        let done = until(&easemob, task, "finished").await;
        assert_eq!(numbers(&done), json!([10, 1, 9, 8]), "{done}");
    }
    easemob.world.stop().await;
}

/// Users, those without a device, devices, and users that it got to.
fn numbers(task: &Value) -> Value {
    json!([task["users"], task["usersWithoutDevice"], task["devices"], task["usersReached"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_steps_of_a_task_s_deliveries_are_measured() {
    let (easemob, _jpush) = audience().await;
    let mut device = easemob.connect("u-3", "phone").await;
    let here = json!({ "targets": ["u-3"], "strategy": 4 });
    let task = create(&easemob, "/push/list", here).await;
    let (id, _) = crate::harness::message(&mut device).await;
    assert_eq!(id, task.to_string());
    for (stage, name) in [(3, "displayed"), (4, "acknowledged")] {
        device.report(&id, stage).await.unwrap();
        crate::harness::until("the report never counted", async || {
            statistics(&easemob, task).await[name] == 1
        })
        .await;
    }
    let found = statistics(&easemob, task).await;
    for step in ["handedOver", "received", "displayed", "acknowledged"] {
        let times = &found["latencyMs"][step];
        assert!(times["p50"].is_i64() && times["p99"].is_i64(), "{step}: {found}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_list_and_to_everyone_are_tasks_too() {
    let (easemob, jpush) = audience().await;
    let list = json!({ "targets": ["u-0", "U-2", "nobody"] });
    let listed = create(&easemob, "/push/list", list).await;
    until(&easemob, listed, "finished").await;
    let found = statistics(&easemob, listed).await;
    assert_eq!((&found["sent"], &found["users"]), (&json!(2), &json!(2)), "{found}");
    // A name that nobody has is told apart from users.
    assert_eq!(found["unknownUsers"], 1, "{found}");
    assert_eq!(found["failures"], json!({ "appUser not exists": 1 }), "{found}");
    let accepted = ["token-0", "token-1", "token-2"].map(|token| jpush.accepted(token));
    assert_eq!((accepted, &found["usersReached"]), ([1, 0, 1], &json!(2)));
    let everyone = create(&easemob, "/push/task", json!({})).await;
    let done = until(&easemob, everyone, "finished").await;
    assert_eq!(done["audience"], "everyone");
    assert_eq!(statistics(&easemob, everyone).await["sent"], 8);
    assert_eq!((jpush.accepted("token-0"), jpush.accepted("token-7")), (2, 1));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_starts_at_its_time_in_the_app_s_zone_and_not_before() {
    let (easemob, jpush) = audience().await;
    // The clock stands at 2023-11-15 06:13:20 in Shanghai.
    let at = json!({ "targets": ["fans"], "startDate": "2023-11-15 08:00:00" });
    let task = create(&easemob, "/push/list/label", at).await;
    let waiting = status(&easemob, task).await;
    assert_eq!(
        (&waiting["status"], &waiting["startDate"]),
        (&json!("scheduled"), &json!("2023-11-15 08:00:00"))
    );
    easemob.world.clock.advance(Duration::from_secs(3_600));
    assert_eq!(status(&easemob, task).await["status"], "scheduled");
    assert_eq!(jpush.stats().pushes_accepted, 0);
    // A restart does not make it forget.
    let Easemob { world, cloud } = easemob;
    let world = world.restart().await;
    let cloud = sim::Admin::new(super::base(&world), cloud.token);
    let easemob = Easemob { world, cloud };
    easemob.world.clock.advance(Duration::from_secs(2_800));
    until(&easemob, task, "finished").await;
    assert_eq!(jpush.stats().tokens_accepted, 8);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_is_cancelled_and_never_starts() {
    let (easemob, jpush) = audience().await;
    let at = json!({ "startDate": "2023-11-15 08:00:00" });
    let task = create(&easemob, "/push/task", at).await;
    let path = format!("/push/task/{task}");
    assert_eq!(ok(easemob.cloud.delete(&path, None).await.unwrap())["data"], "success");
    let cancelled = status(&easemob, task).await;
    assert_eq!(
        (&cancelled["status"], numbers(&cancelled)),
        (&json!("cancelled"), json!([0, 0, 0, 0]))
    );
    easemob.world.clock.advance(Duration::from_secs(10_000));
    // Another task that starts later is done: the cancelled one would have been, too.
    let other = create(&easemob, "/push/list", json!({ "targets": ["u-0"] })).await;
    until(&easemob, other, "finished").await;
    assert_eq!(jpush.stats().tokens_accepted, 1);
    let again = easemob.cloud.delete(&path, None).await.unwrap();
    assert_eq!(again.0, 400, "{}", again.1);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_keeps_for_a_device_that_is_away_comes_when_it_does() {
    let (easemob, jpush) = audience().await;
    let task =
        create(&easemob, "/push/list/label", json!({ "targets": ["fans"], "strategy": 1 })).await;
    until(&easemob, task, "finished").await;
    assert_eq!(jpush.stats().pushes_accepted, 0);
    let mut device = easemob.connect("u-3", "phone").await;
    let (id, payload) = crate::harness::message(&mut device).await;
    assert_eq!((id, &payload["content"]), (task.to_string(), &json!("Hello")));
    let taken = tokio::spawn(async move { while device.next().await.is_some() {} });
    let received = async {
        while statistics(&easemob, task).await["received"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, received).await.expect("the acknowledgement never counted");
    taken.abort();
    // It is not kept any more.
    let mut again = easemob.connect("u-3", "phone").await;
    let marker = json!({ "targets": ["u-3"], "strategy": 1, "pushMessage": hello() });
    let answer = ok(easemob.cloud.post("/push/single", Some(&marker)).await.unwrap());
    assert_eq!(answer["data"][0]["pushStatus"], "ASYNC_SUCCESS");
    assert_ne!(crate::harness::message(&mut again).await.0, task.to_string());
    drop(again);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_finished_is_cancelled_for_those_that_it_is_kept_for() {
    let (easemob, _jpush) = audience().await;
    let mut here = easemob.connect("u-0", "phone").await;
    let kept = json!({ "targets": ["fans"], "strategy": 1 });
    let task = create(&easemob, "/push/list/label", kept).await;
    until(&easemob, task, "finished").await;
    assert_eq!(crate::harness::message(&mut here).await.0, task.to_string());
    crate::harness::until("the acknowledgement never counted", async || {
        statistics(&easemob, task).await["received"] == 1
    })
    .await;
    let path = format!("/push/task/{task}");
    assert_eq!(ok(easemob.cloud.delete(&path, None).await.unwrap())["data"], "success");
    crate::harness::until("what was kept never ended", async || {
        statistics(&easemob, task).await["ended"] == json!({ "recalled": 8 })
    })
    .await;
    let found = statistics(&easemob, task).await;
    assert_eq!((&found["targets"], &found["received"]), (&json!(9), &json!(1)), "{found}");
    let failures = json!({ "message ignore push": 8, "no push binding": 1 });
    assert_eq!(found["failures"], failures, "{found}");
    let status = status(&easemob, task).await;
    assert_eq!((&status["status"], numbers(&status)), (&json!("cancelled"), json!([10, 1, 9, 1])));
    // Nothing is kept now: neither for who comes, nor to be cancelled once more.
    let mut late = easemob.connect("u-3", "phone").await;
    let marker = json!({ "targets": ["u-3"], "strategy": 1, "pushMessage": hello() });
    ok(easemob.cloud.post("/push/single", Some(&marker)).await.unwrap());
    assert_ne!(crate::harness::message(&mut late).await.0, task.to_string());
    let again = easemob.cloud.delete(&path, None).await.unwrap();
    refused(&again, 400, "IllegalArgumentException", "the task has ended");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fourth_task_within_five_minutes_is_refused_and_full_pushes_count_though_they_ended() {
    let (easemob, _jpush) = audience().await;
    for _ in 0..3 {
        let task = create(&easemob, "/push/task", json!({})).await;
        until(&easemob, task, "finished").await;
    }
    for (path, more) in [("/push/task", json!({})), ("/push/list", json!({ "targets": ["u-0"] }))] {
        let answer = easemob.cloud.post(path, Some(&push(more))).await.unwrap();
        refused(&answer, 403, "LimitException", "limit request");
    }
    easemob.world.clock.advance(Duration::from_secs(301));
    create(&easemob, "/push/task", json!({})).await;
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_label_gives_its_slot_back_when_it_ended() {
    let (easemob, _jpush) = audience().await;
    for _ in 0..5 {
        let task = create(&easemob, "/push/list/label", json!({ "targets": ["fans"] })).await;
        until(&easemob, task, "finished").await;
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_task_is_told_and_nothing_is_stored() {
    let (easemob, _jpush) = audience().await;
    let head = easemob.world.head().await;
    let illegal = "IllegalArgumentException";
    let date = "startDate must have the form yyyy-MM-dd HH:mm:ss";
    let span = "startDate must be 1 hour to 30 days from now";
    for (path, body, error, description) in [
        ("/push/list/label", push(json!({})), illegal, "targets must be provided"),
        (
            "/push/list/label",
            push(json!({ "targets": ["a", "b"] })),
            illegal,
            "targets must have 1 to 1 items",
        ),
        (
            "/push/list/label",
            push(json!({ "targets": ["nope"] })),
            "ResourceNotFoundException",
            "push label not exists of nope",
        ),
        ("/push/list", push(json!({ "targets": [] })), illegal, "targets must have 1 to 100 items"),
        ("/push/task", json!({}), "MessageException", "bad_request"),
        ("/push/task", push(json!({ "pushMessage": [] })), "MessageException", "bad_request"),
        ("/push/task", push(json!({ "strategy": 5 })), illegal, "strategy must be 0, 1, 2, 3 or 4"),
        ("/push/task", push(json!({ "startDate": "tomorrow" })), illegal, date),
        ("/push/task", push(json!({ "startDate": "2023-13-01 00:00:00" })), illegal, date),
        ("/push/task", push(json!({ "startDate": "2023-11-15 07:13:19" })), illegal, span),
        ("/push/task", push(json!({ "startDate": "2023-12-15 06:13:21" })), illegal, span),
    ] {
        let answer = easemob.cloud.post(path, Some(&body)).await.unwrap();
        refused(&answer, 400, error, description);
    }
    for path in ["/push/task/1", "/push/task/x", "/push/task/1/statistics"] {
        let answer = easemob.cloud.get(path, None).await.unwrap();
        refused(&answer, 404, "service_resource_not_found", "push task not exists");
    }
    assert_eq!(easemob.world.head().await, head);
    easemob.world.stop().await;
}
