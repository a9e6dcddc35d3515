//! When a receiver that answers 500 is called again, kind by kind, until it is given up, on a clock
//! that the test moves; and what an hour of that costs. The table is in `docs/webhooks.md`.

use std::{collections::BTreeSet, time::Duration};

use domain::Event;
use serde_json::{Value, json};
use sim::receiver::{Answer, Called, Receiver};

use super::{
    called, called_when_due, configure, count, dead, hand_in, hook, judged, listed, numbers,
    receiver, replay, until_count,
};
use crate::{
    antelope::{ANN, Antelope, HELLO, token},
    harness::{World, until},
    tencent::{Tencent, message},
};

async fn failing(world: &World) -> Receiver {
    let server = receiver(world).await;
    server.answer(Answer::Status(500, String::new()));
    server
}

/// Waits for every call of one callback, each so many seconds after the one before and no earlier.
async fn called_after(world: &World, server: &Receiver, pauses: &[i64]) -> Vec<Called> {
    let mut calls = called(server, 1).await;
    for (count, pause) in (1..).zip(pauses) {
        judged(world, count).await;
        let due = calls[count - 1].at + pause * 1_000_000;
        calls = called_when_due(world, server, count, due).await;
        assert_eq!(calls[count].at, due, "a pause of {pause} s");
    }
    until_count(world, "given_up", 1).await;
    // A day later nobody has called again.
    world.clock.advance(Duration::from_secs(86_400));
    assert_eq!(count(&world.admin, "postponed").await, 0);
    assert_eq!(server.count(), pauses.len() + 1, "it went on");
    let row = &listed(world, "given_up").await[0];
    let wanted = (json!(pauses.len() + 1), json!("status"), json!(500));
    assert_eq!((row["calls"].clone(), row["reason"].clone(), row["status"].clone()), wanted);
    assert!(calls.iter().all(|call| call.body == calls[0].body), "the body changed");
    let id = |call: &Called| call.headers["x-entry-ids"].clone();
    assert!(calls.iter().all(|call| id(call) == id(&calls[0])), "a double has another id");
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn ucloud_is_called_again_after_1_1_and_1_s() {
    let world = World::with_clock().await;
    let server = failing(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    called_after(&world, &server, &[1, 1, 1]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ucloud_reports_are_pushed_again_after_1_1_and_1_s() {
    let world = World::with_clock().await;
    let server = failing(&world).await;
    configure(&world, json!({ "uplink": { "reportUrl": server.url("/") } })).await;
    world.register("c-1").await;
    let id = world.push("c-1", json!({ "n": 1 })).await;
    let recall = format!("/admin/v1/apps/demo/messages/{id}/recall");
    assert_eq!(world.admin.post(&recall, None).await.unwrap().0, 200);
    let calls = called_after(&world, &server, &[1, 1, 1]).await;
    assert_eq!(calls[3].json()["Data"][0]["SessionNo"], json!(id));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn antelopes_webhooks_are_called_again_after_1_and_5_s() {
    let antelope = Antelope::with_clock().await;
    let server = failing(&antelope.world).await;
    let hooks = json!({ "webhook": server.url("/hook"), "state_webhook": "" });
    assert_eq!(antelope.server("POST", "/v2/apps/webhook", &hooks).await.0, 200);
    let push = json!({ "msg": HELLO, "flag": 3, "callback": 1, "access_tokens": [token(ANN)] });
    assert_eq!(antelope.push_by(ANN, &push).await.0, 200);
    called_after(&antelope.world, &server, &[1, 5]).await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tencents_callback_is_called_again_after_1_2_and_5_s_where_the_app_wants_that() {
    for (retries, pauses) in [(0, &[][..]), (1, &[1][..]), (3, &[1, 2, 5][..])] {
        let world = World::with_clock().await;
        let server = failing(&world).await;
        let section = json!({ "callbackUrl": server.url("/im"), "retries": retries,
                              "callbacks": ["C2C.CallbackAfterSendMsg"] });
        let tencent = Tencent::of(world, section).await;
        tencent.send(&message(1)).await;
        called_after(&tencent.world, &server, pauses).await;
        tencent.world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_called_ten_times_within_76_hours_and_then_given_up() {
    let world = World::with_clock().await;
    let server = failing(&world).await;
    hook(&world, &server.url("/")).await;
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    let mut came = called(&server, 1).await[0].at;
    const HOUR: i64 = 3_600;
    let pauses = [5, 300, 1_800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
    for (calls, pause) in (1..).zip(pauses) {
        // It waits in the view, to whose time the clock then jumps.
        let row: Value = waits_after(&world, calls).await;
        let due = row["dueAt"].as_i64().unwrap() * 1_000;
        assert_eq!(due, came + pause * 1_000_000, "a pause of {pause} s");
        came = called_when_due(&world, &server, calls, due).await[calls].at;
        assert_eq!(came, due, "a pause of {pause} s");
    }
    until_count(&world, "given_up", 1).await;
    let row = &listed(&world, "given_up").await[0];
    assert_eq!((&row["calls"], &row["reason"]), (&json!(10), &json!("status")));
    let calls = server.calls();
    assert!(calls.iter().all(|call| call.body == calls[0].body), "the body changed");
    let id = |call: &Called| call.headers["webhook-id"].clone();
    assert!(calls.iter().all(|call| id(call) == id(&calls[0])), "a double has another id");
    let stamp = |call: &Called| call.headers["webhook-timestamp"].clone();
    assert_ne!(stamp(&calls[0]), stamp(&calls[9]), "receivers refuse what is old");
    world.stop().await;
}

/// The callback that waits after so many calls.
async fn waits_after(world: &World, calls: usize) -> Value {
    let mut found = Value::Null;
    until("it was not postponed", async || {
        let rows = listed(world, "postponed").await;
        found = rows.into_iter().find(|row| row["calls"] == json!(calls)).unwrap_or_default();
        !found.is_null()
    })
    .await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_500_costs_few_calls_and_loses_nothing() {
    const UPLINKS: usize = 200;
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, UPLINKS).await;
    // The circuit lets a probe through after 5, 10, 20, 40 s and then once a minute at most.
    const PROBES: usize = 4 + (3_600 - 75) / 60;
    let (before, over) = (server.count(), world.clock.now() + 3_600_000_000);
    let head = world.head().await;
    until("an hour never passed", async || {
        world.clock.advance(Duration::from_secs(1));
        world.clock.now() >= over
    })
    .await;
    let calls = server.count() - before;
    // Each probe is called as often as its protocol says, and then given up.
    assert!((4..=4 * PROBES).contains(&calls), "{calls} calls within an hour");
    let events = world.running.server.ledger.read(head, 2_000).await.unwrap().events;
    let told = events.iter().filter(|event| matches!(event.event, Event::CallbacksCalled(_)));
    let told = told.count();
    assert!((1..=PROBES).contains(&told), "{told} events tell of {PROBES} probes at most");
    server.answer(Answer::ok());
    until("it never got what waited", async || {
        world.clock.advance(Duration::from_millis(100));
        count(&world.admin, "postponed").await == 0
    })
    .await;
    let row = listed(&world, "given_up").await.swap_remove(0);
    assert!(count(&world.admin, "given_up").await > 3, "no probe was given up");
    replay(&world, &row["receiver"], None).await;
    until_count(&world, "answered", i64::try_from(UPLINKS).unwrap()).await;
    let came: BTreeSet<usize> = numbers(&server.calls()).into_iter().collect();
    assert!(came.into_iter().eq(0..UPLINKS));
    world.stop().await;
}
