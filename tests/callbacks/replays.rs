//! What an operator asks for again, and why a callback waits meanwhile.

use std::time::Duration;

use domain::callback::{CallbacksCalled, Group, Kind, Outcome, Reason, RecordCallbacks, State};
use pushledger::ledger::{Context, Lane};
use serde_json::{Value, json};
use sim::receiver::Answer;
use uuid::Uuid;

use super::{
    called, called_in_time, configure, dead, hand_in, hand_in_numbers, hook, hook_of, listed,
    receiver, replay, until_count,
};
use crate::{
    harness::{World, until},
    views::unreadable::append,
};

const REPLAY: &str = "/admin/v1/apps/demo/callbacks/replay";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_is_called_as_if_for_the_first_time_and_32_attempts_are_kept() {
    const ROUNDS: usize = 9;
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    server.answer(Answer::Status(500, String::new()));
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    for round in 1..=ROUNDS {
        called_in_time(&world, &server, 4 * round).await;
        until_count(&world, "given_up", 1).await;
        let row = &listed(&world, "given_up").await[0];
        assert_eq!(row["calls"], 4, "in round {round}");
        let attempts = row["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), (4 * round).min(32));
        // The last ones, oldest first: each was made before it came, and after the one before.
        let at = |attempt: &Value| attempt["at"].as_i64().unwrap();
        let came: Vec<i64> = server.calls().iter().map(|call| call.at / 1_000).collect();
        let kept = came.len() - attempts.len();
        for (index, own) in (kept..).zip(attempts) {
            assert!(at(own) <= came[index], "{own} came before it was made");
            assert!(index == 0 || came[index - 1] < at(own), "{own} is that of another call");
        }
        if round < ROUNDS {
            // So that no two calls are made at the same time.
            world.clock.advance(Duration::from_millis(1));
            replay(&world, &row["receiver"], None).await;
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_asks_for_the_oldest_4096_and_says_whether_there_are_more() {
    const UPLINKS: usize = 4_200;
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    let url = server.url("/");
    configure(&world, json!({ "uplink": { "callbackUrl": url } })).await;
    dead(&world, &server, UPLINKS).await;
    configure(&world, json!({ "uplink": { "callbackUrl": "" } })).await;
    until_count(&world, "given_up", i64::try_from(UPLINKS).unwrap()).await;
    server.answer(Answer::ok());
    configure(&world, json!({ "uplink": { "callbackUrl": url } })).await;
    let receiver = listed(&world, "given_up").await[0]["receiver"].clone();
    let ask = async || {
        let body = json!({ "receiver": receiver });
        world.admin.post(REPLAY, Some(&body)).await.unwrap()
    };
    for (asked, more) in [(4_096, true), (104, false), (0, false)] {
        let (status, answer, _) = ask().await;
        assert_eq!((status, answer), (202, json!({ "asked": asked, "more": more })));
    }
    until_count(&world, "answered", i64::try_from(UPLINKS).unwrap()).await;
    let came = super::numbers(&server.calls()[12..]);
    assert_eq!(came.len(), UPLINKS, "something was called twice");
    assert_eq!(came[..4_096], (0..4_096).collect::<Vec<_>>()[..]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_after_a_stop_or_for_an_operator_says_so() {
    let world = World::with_clock().await;
    let (server, hooked) = (receiver(&world).await, receiver(&world).await);
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    server.answer(Answer::Status(500, String::new()));
    hand_in(&world.url, &[("gw-1", "185", "given up")]).await;
    called_in_time(&world, &server, 4).await;
    until_count(&world, "given_up", 1).await;
    server.answer(Answer::Silence);
    replay(&world, &listed(&world, "given_up").await[0]["receiver"], None).await;
    until("it does not wait", async || {
        listed(&world, "postponed").await.first().is_some_and(|row| row["reason"] == "replayed")
    })
    .await;
    // One is under way, as it has longer than a server that stops, and one is in memory behind another.
    hooked.answer(Answer::Silence);
    hook(&world, &hooked.url("/")).await;
    called(&server, 5).await;
    hand_in(&world.url, &[("gw-2", "185", "stopped")]).await;
    called(&hooked, 1).await;
    let world = world.restart().await;
    let stopped = async || {
        let rows = listed(&world, "postponed").await;
        rows.iter().filter(|row| row["reason"] == "stopped").count()
    };
    until("they do not wait", async || stopped().await == 2).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_a_receiver_catches_up_waits_behind_the_older_ones() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 1_000).await;
    server.plan([Answer::ok()]);
    let (held, go) = Answer::held(200);
    server.answer(held);
    // The probe closes the circuit; the first batch after it is answered once another event waits.
    called_in_time(&world, &server, 14).await;
    hand_in_numbers(&world.url, 1_000..1_001).await;
    until("it was not held back", async || {
        world.clock.advance(Duration::from_millis(500));
        listed(&world, "postponed").await.first().is_some_and(|row| row["reason"] == "behind")
    })
    .await;
    server.answer(Answer::ok());
    go.notify_one();
    until_count(&world, "answered", 998).await;
    assert_eq!(super::numbers(&server.calls()[12..]), (3..1_001).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_has_waiting_about_an_event_of_its_own_is_given_up_as_unreadable() {
    let world = World::new().await;
    let server = receiver(&world).await;
    let hook = hook_of(&world, json!({ "url": server.url("/") })).await;
    let stream = format!("device/{}", Uuid::now_v7());
    let position = append(&world, &stream, "device.renamed", 1, "{}").await;
    let state = State {
        outcome: Outcome::Postponed,
        calls: 1,
        reason: Some(Reason::Timeout),
        status: None,
        due_at: Some(0),
    };
    let waits = CallbacksCalled {
        kind: Kind::Webhook,
        receiver: hook.parse().unwrap(),
        groups: vec![Group::of(state, false, vec![position])],
    };
    let command = RecordCallbacks { called: waits, new_record: Uuid::now_v7() };
    let context = Context { app: "demo".to_owned(), ..Context::default() };
    world.running.server.ledger.execute(Lane::Bulk, context, command).await.unwrap();
    // As the older version finds it that runs after it.
    let world = world.restart().await;
    until_count(&world, "given_up", 1).await;
    let row = &listed(&world, "given_up").await[0];
    assert_eq!((&row["position"], &row["reason"]), (&json!(position), &json!("unreadable")));
    // It holds nobody up.
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    assert_eq!(called(&server, 1).await[0].json()["type"], "uplink.received");
    world.stop().await;
}
