//! A device that does not acknowledge.

use std::time::Duration;

use domain::{message::Stage, route::Strategy};
use serde_json::json;

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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_now_or_never_comes_to_a_device_that_has_yet_to_read_what_it_missed() {
    let post = Post::new().await;
    let world = &post.world;
    let caller = world.terminal("bare");
    let mut body = registration("bare");
    // A speaker on the M2M channel, which is no push vendor's.
    merge(&mut body, json!({ "deviceType": "08", "collab3th": 1 }));
    ok(&caller, "/ums/v2/register", &body).await;
    let mut device = quiet(&caller).await;
    post.present("bare").await;
    // More than the device takes before it answers, so that what no vendor is a way for waits.
    let mut left: Vec<String> = push_many(world, "bare", 257).await;
    let kept = post.push(&["bare"], Strategy::VendorElseOnline, DAY).await;
    post.until(kept, "bare", |delivery| delivery.failed.is_some()).await;
    let now = post.push(&["bare"], Strategy::PresentOnly, DAY).await;
    let head = world.head().await;
    until("the hub is behind", async || world.running.server.hub.position() >= head).await;
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
