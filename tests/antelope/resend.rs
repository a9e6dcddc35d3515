//! Flags 2 and 3: how often a message is sent to a device that does not answer, and how it ends. The
//! clock is the test's.

use std::time::Duration;

use domain::message::{Ending, Stage};
use serde_json::json;
use sim::{Device, DeviceOptions, Incoming};

use super::{ANN, Antelope, BOB, HELLO, message, token};
use crate::harness::until;

/// How long a look at the wire takes; what matters is what has come by then.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until a message came so many times again.
async fn again(device: &mut Device, times: u64) {
    until("it was not sent again", async || {
        let other = device.next_within(LOOK).await;
        assert!(other.is_none(), "{other:?}");
        device.duplicates() >= times
    })
    .await;
    assert_eq!(device.duplicates(), times);
}

/// Checks that a device got nothing again: the answer to what it says now comes next.
async fn nothing_again(device: &mut Device, times: u64) {
    device.send_raw("no frame").await.unwrap();
    match device.next_within(crate::harness::PATIENCE).await {
        Some(Incoming::Refused { .. }) => assert_eq!(device.duplicates(), times),
        other => panic!("{other:?}"),
    }
}

fn advance(antelope: &Antelope, millis: u64) {
    antelope.world.clock.advance(Duration::from_millis(millis));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_flag_2_a_message_is_sent_five_times_1_2_3_and_5_seconds_apart_and_then_dropped() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut device).await.0, id.to_string());
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    for (times, seconds) in (1..).zip([1, 2, 3, 5]) {
        advance(&antelope, seconds * 1_000 - 1);
        nothing_again(&mut device, times - 1).await;
        advance(&antelope, 1);
        again(&mut device, times).await;
    }
    advance(&antelope, 4_999);
    nothing_again(&mut device, 4).await;
    assert_eq!(antelope.delivery(id, BOB).await.ended, None);
    advance(&antelope, 1);
    antelope.until(id, BOB, |delivery| delivery.ended == Some(Ending::Unacknowledged)).await;
    advance(&antelope, 10_000);
    nothing_again(&mut device, 4).await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_flag_3_a_message_is_sent_once_and_then_dropped() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 3).await;
    assert_eq!(message(&mut device).await.0, id.to_string());
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    advance(&antelope, 4_999);
    nothing_again(&mut device, 0).await;
    assert_eq!(antelope.delivery(id, BOB).await.ended, None);
    advance(&antelope, 1);
    antelope.until(id, BOB, |delivery| delivery.ended == Some(Ending::Unacknowledged)).await;
    nothing_again(&mut device, 0).await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_the_sending_whenever_it_comes() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    advance(&antelope, 1_000);
    again(&mut device, 1).await;
    device.ack(&id.to_string()).await.unwrap();
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Received).await;
    advance(&antelope, 60_000);
    nothing_again(&mut device, 1).await;
    let delivery = antelope.delivery(id, BOB).await;
    assert_eq!((delivery.stage, delivery.ended), (Stage::Received, None));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_end_still_counts() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 3).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    advance(&antelope, 5_000);
    antelope.until(id, BOB, |delivery| delivery.ended == Some(Ending::Unacknowledged)).await;
    device.ack(&id.to_string()).await.unwrap();
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Received).await;
    assert_eq!(antelope.delivery(id, BOB).await.ended, Some(Ending::Unacknowledged));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_in_time_gets_a_message_of_flag_2_again_and_none_of_flag_3() {
    let antelope = Antelope::with_clock().await;
    for (flag, times) in [(2, 1), (3, 0)] {
        let mut device = antelope.quiet(BOB).await;
        let (id, _) = antelope.push_to(&[BOB], flag).await;
        message(&mut device).await;
        antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
        device.reconnect().await.unwrap();
        // It is connected again once it is answered.
        nothing_again(&mut device, 0).await;
        advance(&antelope, 1_000);
        if times > 0 {
            again(&mut device, times).await;
        } else {
            nothing_again(&mut device, 0).await;
        }
        device.ack(&id.to_string()).await.unwrap();
        antelope.until(id, BOB, |delivery| delivery.stage == Stage::Received).await;
    }
    antelope.world.stop().await;
}

/// Has a device that got a message and never answered leave; the test reads nothing of it any more.
async fn leaves(antelope: &Antelope, device: Device) {
    drop(device);
    let number = antelope.number(BOB).await;
    let hub = &antelope.world.running.server.hub;
    until("it never left", async || !hub.connected(number)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_late_gets_nothing_of_what_was_dropped() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    leaves(&antelope, device).await;
    advance(&antelope, 20_000);
    antelope.until(id, BOB, |delivery| delivery.ended == Some(Ending::Unacknowledged)).await;
    let mut device = antelope.quiet(BOB).await;
    // What was due would come between the answers.
    for _ in 0..3 {
        nothing_again(&mut device, 0).await;
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_gets_nothing_again_once_the_time_of_the_message_is_over() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    leaves(&antelope, device).await;
    advance(&antelope, 10_000);
    let mut device = antelope.quiet(BOB).await;
    assert_eq!(message(&mut device).await.0, id.to_string());
    for (times, seconds) in (1..).zip([2, 3]) {
        advance(&antelope, seconds * 1_000);
        again(&mut device, times).await;
    }
    advance(&antelope, 1_000);
    antelope.until(id, BOB, |delivery| delivery.ended == Some(Ending::Unacknowledged)).await;
    advance(&antelope, 4_000);
    for _ in 0..3 {
        nothing_again(&mut device, 2).await;
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_that_left_never_answered_ends_when_its_time_is_over() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    drop(device);
    // Looks at it once, and once more when all tries would be over.
    until("it never ended", async || {
        advance(&antelope, 1_000);
        antelope.delivery(id, BOB).await.ended == Some(Ending::Unacknowledged)
    })
    .await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_the_server_stopped_ends_after_it_started_again() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    let antelope = Antelope { world: antelope.world.restart().await };
    assert_eq!(antelope.delivery(id, BOB).await.ended, None);
    until("it never ended", async || {
        advance(&antelope, 1_000);
        antelope.delivery(id, BOB).await.ended == Some(Ending::Unacknowledged)
    })
    .await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_that_came_to_another_node_never_answered_ends_when_its_time_is_over() {
    let antelope = Antelope::with_clock().await;
    let other = antelope.world.second().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    leaves(&antelope, device).await;
    // The other node has read of the message once it hands out a later one.
    let connect = async |cid: u32| {
        let url = format!("http://{}", other.address);
        Device::connect(DeviceOptions::of_antelope(url, token(cid))).await.unwrap()
    };
    let mut ann = connect(ANN).await;
    let number = antelope.number(ANN).await;
    let presence = &antelope.world.running.server.presence;
    until("it is not known to be there", async || {
        presence.present(&[number]).await.unwrap().contains(&number)
    })
    .await;
    antelope.push_to(&[ANN], 2).await;
    message(&mut ann).await;
    let mut device = connect(BOB).await;
    // All tries are over after 16 s. After 30 s the devices would be pinged, whom nobody reads.
    let mut left = 25;
    until("it never ended", async || {
        if left > 0 {
            advance(&antelope, 1_000);
            left -= 1;
        }
        antelope.delivery(id, BOB).await.ended == Some(Ending::Unacknowledged)
    })
    .await;
    nothing_again(&mut device, 0).await;
    drop((ann, device));
    other.shutdown().await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_wait_for_answers_take_no_place_from_what_needs_a_decision() {
    /// Calls of 200 messages: a few more than may wait at once (`delivery/machine/mod.rs`).
    const CALLS: usize = 82;
    let antelope = Antelope::with_clock().await;
    drop(antelope.connect(ANN).await);
    let ann = antelope.number(ANN).await;
    let hub = &antelope.world.running.server.hub;
    until("it never left", async || !hub.connected(ann)).await;
    let _bob = antelope.quiet(BOB).await;
    let item = json!({ "from": ANN, "to": BOB, "msg": HELLO });
    let body = json!({ "proxy": 1, "payload": vec![item; 200] });
    for _ in 0..CALLS {
        let (status, answer) = antelope.push(&body).await;
        assert_eq!(status, 200, "{answer}");
    }
    // Nothing is over as long as the clock stands still.
    let (id, _) = antelope.push_to(&[ANN], 2).await;
    antelope.until(id, ANN, |delivery| delivery.ended == Some(Ending::NotPresent)).await;
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recalled_is_not_sent_again() {
    let antelope = Antelope::with_clock().await;
    let mut device = antelope.quiet(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    message(&mut device).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Sent).await;
    let path = format!("/admin/v1/apps/demo/messages/{id}/recall");
    assert_eq!(antelope.world.admin.post(&path, None).await.unwrap().0, 200);
    match device.next_within(crate::harness::PATIENCE).await {
        Some(Incoming::Control { op, .. }) => assert_eq!(op, "recall"),
        other => panic!("{other:?}"),
    }
    advance(&antelope, 20_000);
    nothing_again(&mut device, 0).await;
    assert_eq!(antelope.delivery(id, BOB).await.ended, None);
    antelope.world.stop().await;
}
