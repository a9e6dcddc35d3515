//! A device that does not acknowledge.

use std::time::Duration;

use domain::{
    message::{Ending, Stage},
    route::Strategy,
};
use serde_json::json;
use sim::Device;

use super::{close_code, nothing_else_comes, push_many, quiet};
use crate::{
    harness::{World, merge, message, ok, registration, until},
    vendors::{DAY, Post},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_acknowledges_nothing_for_10_s_is_closed_with_1013_and_loses_nothing() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let ids = push_many(&world, "c-1", 300).await;
    let mut device = quiet(&caller).await;
    for id in &ids[..256] {
        assert_eq!(message(&mut device).await.0, *id);
    }
    world.clock.advance(Duration::from_secs(9));
    // An acknowledgement makes room for one more, and the time begins anew.
    device.ack(&ids[0]).await.unwrap();
    assert_eq!(message(&mut device).await.0, ids[256]);
    world.clock.advance(Duration::from_secs(9));
    device.ack(&ids[1]).await.unwrap();
    assert_eq!(message(&mut device).await.0, ids[257]);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(close_code(&mut device).await, 1013);
    world.until_status(&ids[1], 2).await;
    let mut device = world.connect(&caller).await;
    for id in &ids[2..] {
        assert_eq!(message(&mut device).await.0, *id);
    }
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_fills_the_window_too() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let payload = json!({ "n": n, "text": "x".repeat(60_000) });
        ids.push(world.push("c-1", payload).await);
    }
    let mut device = quiet(&caller).await;
    // 17 of them are less than a mebibyte, 18 are more.
    for id in &ids[..18] {
        assert_eq!(message(&mut device).await.0, *id);
    }
    device.ack(&ids[0]).await.unwrap();
    assert_eq!(message(&mut device).await.0, ids[18]);
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(close_code(&mut device).await, 1013);
    drop(device);
    world.stop().await;
}

/// A device that no vendor reaches, connected, and acknowledging nothing by itself.
async fn bare() -> (Post, Device) {
    let post = Post::new().await;
    let caller = post.world.terminal("bare");
    let mut body = registration("bare");
    // A speaker on the M2M channel, which is no push vendor's.
    merge(&mut body, json!({ "deviceType": "08", "collab3th": 1 }));
    ok(&caller, "/ums/v2/register", &body).await;
    let device = quiet(&caller).await;
    post.present("bare").await;
    (post, device)
}

/// Fills the window; gives what the device has to acknowledge.
async fn filled(post: &Post, device: &mut Device) -> Vec<String> {
    let ids = push_many(&post.world, "bare", 256).await;
    for id in &ids {
        assert_eq!(message(device).await.0, *id);
    }
    ids
}

/// Waits until connections were handed all that was accepted.
async fn handed_out(world: &World) {
    let head = world.head().await;
    until("the hub is behind", async || world.running.server.hub.position() >= head).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_now_or_never_and_what_is_kept_take_turns_on_a_busy_connection() {
    const EACH: usize = 20;
    let (post, mut device) = bare().await;
    let unanswered = filled(&post, &mut device).await;
    let kept = push_many(&post.world, "bare", EACH).await;
    let mut now = Vec::new();
    for _ in 0..EACH {
        now.push(post.push(&["bare"], Strategy::PresentOnly, DAY).await.to_string());
    }
    handed_out(&post.world).await;
    for id in unanswered {
        device.ack(&id).await.unwrap();
    }
    let mut came = Vec::new();
    for _ in 0..2 * EACH {
        let (id, _) = message(&mut device).await;
        device.ack(&id).await.unwrap();
        came.push(id);
    }
    let is_kept: Vec<bool> = came.iter().map(|id| kept.contains(id)).collect();
    assert!(is_kept.windows(2).all(|two| two[0] != two[1]), "{is_kept:?}");
    let (came_kept, came_now): (Vec<String>, Vec<String>) =
        came.into_iter().partition(|id| kept.contains(id));
    assert_eq!((came_kept, came_now), (kept, now));
    nothing_else_comes(&post.world, "bare", &mut device).await;
    drop(device);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_now_or_never_does_not_come_once_its_device_counts_as_away() {
    let (post, mut device) = bare().await;
    let world = &post.world;
    let unanswered = filled(&post, &mut device).await;
    let now = post.push(&["bare"], Strategy::PresentOnly, DAY).await;
    handed_out(world).await;
    // As long as `ackWaitMs`, and not long enough for the connection to be given up.
    world.clock.advance(Duration::from_secs(5));
    for id in unanswered {
        device.ack(&id).await.unwrap();
    }
    nothing_else_comes(world, "bare", &mut device).await;
    until("its delivery never ended", async || {
        world.clock.advance(Duration::from_secs(1));
        post.delivery(now, "bare").await.ended == Some(Ending::NotPresent)
    })
    .await;
    drop(device);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_now_or_never_comes_to_a_device_that_has_yet_to_read_what_it_missed() {
    let (post, mut device) = bare().await;
    let world = &post.world;
    // More than the device takes before it answers, so that what no vendor is a way for waits.
    let mut left: Vec<String> = push_many(world, "bare", 257).await;
    let kept = post.push(&["bare"], Strategy::VendorElseOnline, DAY).await;
    post.until(kept, "bare", |delivery| delivery.failed.is_some()).await;
    let now = post.push(&["bare"], Strategy::PresentOnly, DAY).await;
    handed_out(world).await;
    left.extend([kept.to_string(), now.to_string()]);
    while !left.is_empty() {
        let (id, _) = message(&mut device).await;
        device.ack(&id).await.unwrap();
        left.retain(|own| *own != id);
    }
    post.until(now, "bare", |delivery| delivery.stage == Stage::Received).await;
    nothing_else_comes(world, "bare", &mut device).await;
    drop(device);
    post.world.stop().await;
}
