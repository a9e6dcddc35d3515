//! A server that stops, or dies, while receivers are slow or dead: nobody else is called again, and
//! what waits keeps its order.

use std::time::Duration;

use serde_json::json;
use sim::receiver::Answer;

use super::{
    called, called_in_time, configure, contents, count, dead, hand_in, hand_in_numbers, hook,
    listed, numbers, receiver, until_count,
};
use crate::harness::{Place, World, until};

/// Starts a server again that has forgotten how far it got, as if it had died long ago.
pub(super) async fn forgotten(place: Place, clock: pushledger::clock::Clock) -> World {
    place
        .backdoor()
        .await
        .run("UPDATE subscriptions SET position = 0 WHERE name = 'callbacks'")
        .await;
    World::start(place, clock).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_a_receiver_is_slow_has_nobody_else_called_again() {
    let world = World::new().await;
    let (fast, silent) = (receiver(&world).await, receiver(&world).await);
    silent.answer(Answer::Silence);
    hook(&world, &silent.url("/")).await;
    configure(&world, json!({ "uplink": { "callbackUrl": fast.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "first")]).await;
    called(&silent, 1).await;
    hand_in(&world.url, &[("gw-2", "1", "second")]).await;
    until_count(&world, "answered", 2).await;
    let world = world.restart().await;
    silent.answer(Answer::ok());
    // What was under way at the silent one is called again, and only that.
    called(&silent, 4).await;
    until_count(&world, "answered", 4).await;
    hand_in(&world.url, &[("gw-3", "1", "third")]).await;
    until_count(&world, "answered", 6).await;
    assert_eq!(contents(&fast.calls()), ["first", "second", "third"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_two_seconds_for_a_slow_receiver_waits_in_the_view() {
    let world = World::with_clock().await;
    let silent = receiver(&world).await;
    silent.answer(Answer::Silence);
    hook(&world, &silent.url("/")).await;
    hand_in_numbers(&world.url, 0..40).await;
    called(&silent, 32).await;
    assert_eq!(count(&world.admin, "postponed").await, 0);
    world.clock.advance(Duration::from_secs(2));
    until_count(&world, "postponed", 8).await;
    assert!(listed(&world, "postponed").await.iter().all(|row| row["reason"] == "queue_full"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_the_pause_before_the_next_call_goes_on_counting_calls() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    server.answer(Answer::Status(500, String::new()));
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "first")]).await;
    called_in_time(&world, &server, 2).await;
    let world = world.restart().await;
    until_count(&world, "postponed", 1).await;
    let row = &listed(&world, "postponed").await[0];
    assert_eq!((&row["calls"], &row["reason"]), (&json!(2), &json!("status")));
    called_in_time(&world, &server, 4).await;
    until_count(&world, "given_up", 1).await;
    assert_eq!(server.count(), 4);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_backlog_keeps_its_order_and_doubles_nothing() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 600).await;
    // Whether a receiver was left alone is forgotten: it is called as soon as the server is back.
    server.answer(Answer::ok());
    let world = world.restart().await;
    hand_in_numbers(&world.url, 600..650).await;
    called_in_time(&world, &server, 13).await;
    until_count(&world, "answered", 647).await;
    assert_eq!(numbers(&server.calls()[12..]), (3..650).collect::<Vec<_>>());
    assert_eq!(count(&world.admin, "given_up").await, 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_again_after_a_crash_is_not_called_again_if_it_was_recorded() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 40).await;
    let clock = world.clock.clone();
    server.answer(Answer::ok());
    let world = forgotten(world.stop().await, clock).await;
    hand_in_numbers(&world.url, 40..50).await;
    called_in_time(&world, &server, 13).await;
    until_count(&world, "answered", 47).await;
    assert_eq!(numbers(&server.calls()[12..]), (3..50).collect::<Vec<_>>());
    assert_eq!(count(&world.admin, "given_up").await, 3);
    let calls = server.count();
    let clock = world.clock.clone();
    let world = forgotten(world.stop().await, clock).await;
    hand_in_numbers(&world.url, 50..51).await;
    called(&server, calls + 1).await;
    until_count(&world, "answered", 48).await;
    assert_eq!(numbers(&server.calls()[calls..]), [50]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_again_while_it_catches_up_gets_the_rest_in_order() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 1_200).await;
    // It takes the probe and one batch, then fails until it is left alone again.
    server.plan([Answer::ok(), Answer::ok()]);
    let before = server.count();
    until("it was not left alone again", async || {
        world.clock.advance(Duration::from_millis(100));
        let metrics = world.running.server.metrics.render();
        server.count() >= before + 12 && metrics.contains("pushledger_circuits_open 1")
    })
    .await;
    server.answer(Answer::ok());
    until("it never got what waited", async || {
        world.clock.advance(Duration::from_millis(100));
        count(&world.admin, "postponed").await == 0
    })
    .await;
    let failed: usize = listed(&world, "given_up").await.len();
    let calls = server.calls();
    let mut good = numbers(&calls[before..before + 2]);
    // The calls in between failed: of each only the last time counts, if any did.
    let rest = numbers(&calls[before + 2..]);
    let mut last: Vec<usize> = Vec::new();
    for number in rest {
        last.retain(|own| *own != number);
        last.push(number);
    }
    good.append(&mut last);
    assert!(good.is_sorted(), "{good:?}");
    assert_eq!(good.len(), 1_197);
    assert!(failed >= 3);
    world.stop().await;
}
