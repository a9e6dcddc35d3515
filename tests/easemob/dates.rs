//! `startDate`: its two bounds to the second, and what it means where clocks are changed.

use std::sync::Arc;

use domain::message::MessageId;
use pushledger::{clock::Clock, delivery::tasks};
use serde_json::{Value, json};
use sim::Answer;

use super::{Easemob, change_app, hello, ok, refused};
use crate::harness::{Place, World};

/// An app of that zone, on a clock that stands at a time in s since the epoch.
async fn at(zone: &str, seconds: i64) -> Easemob {
    let world = World::start(Place::new().await, Clock::manual(seconds * 1_000_000)).await;
    let easemob = Easemob::of(world.with_app().await).await;
    change_app(&easemob.world, json!({ "timezone": zone })).await;
    easemob.configure(json!({ "limits": { "createdTasks": 1_000, "runningTasks": 1_000 } })).await;
    easemob
}

async fn create(easemob: &Easemob, date: &str) -> Answer {
    let body = json!({ "pushMessage": hello(), "startDate": date });
    easemob.cloud.post("/push/task", Some(&body)).await.unwrap()
}

/// When a task is to start, in s since the epoch, and as it is shown.
async fn start(easemob: &Easemob, date: &str) -> (i64, Value) {
    let task = ok(create(easemob, date).await)["data"].as_i64().unwrap();
    let status = ok(easemob.cloud.get(&format!("/push/task/{task}"), None).await.unwrap());
    let server = Arc::clone(&easemob.world.running.server);
    let found = tasks::statistics(&server, "demo", MessageId(task)).await.unwrap().unwrap();
    (found.task.start_at.unwrap() / 1_000_000, status["data"]["startDate"].clone())
}

const SPAN: &str = "startDate must be 1 hour to 30 days from now";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_and_the_last_second_are_taken_and_those_beside_them_are_not() {
    // 2023-11-15 06:13:20 in Shanghai.
    let now = 1_700_000_000;
    let easemob = at("Asia/Shanghai", now).await;
    for (date, after) in [
        ("2023-11-15 07:13:20", 3_600),
        ("2023-11-15 07:13:21", 3_601),
        ("2023-12-15 06:13:19", 30 * 86_400 - 1),
        ("2023-12-15 06:13:20", 30 * 86_400),
    ] {
        assert_eq!(start(&easemob, date).await, (now + after, json!(date)));
    }
    for date in ["2023-11-15 07:13:19", "2023-12-15 06:13:21", "2023-11-15 06:13:20"] {
        refused(&create(&easemob, date).await, 400, "IllegalArgumentException", SPAN);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_clocks_skip_counts_as_if_they_had_not_been_changed() {
    // 2024-03-09 12:00:00 in New York, where 2:00 of the next day is 3:00.
    let now = 1_710_003_600;
    let easemob = at("America/New_York", now).await;
    let midnight = now + 12 * 3_600;
    for (date, after, shown) in [
        ("2024-03-10 01:59:59", 7_199, "2024-03-10 01:59:59"),
        ("2024-03-10 02:00:00", 7_200, "2024-03-10 03:00:00"),
        ("2024-03-10 02:30:00", 9_000, "2024-03-10 03:30:00"),
        ("2024-03-10 03:00:00", 7_200, "2024-03-10 03:00:00"),
    ] {
        assert_eq!(start(&easemob, date).await, (midnight + after, json!(shown)), "{date}");
    }
    // The bounds are spans of time, not of what clocks show: 30 days are an hour more by them.
    let last = "2024-04-08 13:00:00";
    assert_eq!(start(&easemob, last).await, (now + 30 * 86_400, json!(last)));
    let later = create(&easemob, "2024-04-08 13:00:01").await;
    refused(&later, 400, "IllegalArgumentException", SPAN);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_clocks_repeat_is_the_first_of_the_two() {
    // 2024-11-03 00:00:00 in New York, where 2:00 is 1:00 once more.
    let midnight = 1_730_606_400;
    let easemob = at("America/New_York", midnight).await;
    for (date, after) in [
        ("2024-11-03 01:00:00", 3_600),
        ("2024-11-03 01:30:00", 5_400),
        ("2024-11-03 01:59:59", 7_199),
        ("2024-11-03 02:00:00", 10_800),
    ] {
        assert_eq!(start(&easemob, date).await, (midnight + after, json!(date)), "{date}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_clocks_may_be_other_than_an_hour() {
    // 2024-10-05 12:00:00 on Lord Howe Island, where 2:00 of the next day is 2:30.
    let now = 1_728_091_800;
    let easemob = at("Australia/Lord_Howe", now).await;
    let skipped = start(&easemob, "2024-10-06 02:15:00").await;
    assert_eq!(skipped, (now + 14 * 3_600 + 900, json!("2024-10-06 02:45:00")));
    easemob.world.stop().await;
}
