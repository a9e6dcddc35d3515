//! Why the server closes a connection, and what that means for what the device still had to get.

use serde_json::json;
use sim::{Device, DeviceOptions, Error};

use super::{close_code, ends, nothing_else_comes, push_as, quiet, share};
use crate::harness::{PACKAGE, World, message, ok, registration};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_of_a_device_closes_the_first_with_4001() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut first = world.connect(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut first).await.0, id);
    world.until_status(&id, 2).await;
    let mut second = world.connect(&caller).await;
    assert_eq!(close_code(&mut first).await, 4001);
    nothing_else_comes(&world, "c-1", &mut second).await;
    drop(second);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_closes_with_4002_and_ends_what_was_addressed_to_the_former_one() {
    let world = World::new().await;
    let alice = world.register_of("alice", "c-1", json!({})).await;
    let mut device = quiet(&alice).await;
    let to_alice = json!({ "dst": { "type": 2, "Id": ["alice"], "devType": ["01"] } });
    let to_alice = push_as(&world, to_alice).await;
    let to_device = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, to_alice);
    assert_eq!(message(&mut device).await.0, to_device);
    let bob = world.register_of("bob", "c-1", json!({})).await;
    assert_eq!(close_code(&mut device).await, 4002);
    ends(&world, &to_alice, "c-1", "owner_changed").await;
    assert!(share(&world, &to_device, "c-1").await["ended"].is_null());
    match Device::connect(DeviceOptions::new(&alice, PACKAGE)).await {
        Err(Error::Refused { status: 401, body }) => assert!(body.contains("D00008"), "{body}"),
        other => panic!("not refused: {other:?}"),
    }
    let mut device = world.connect(&bob).await;
    assert_eq!(message(&mut device).await.0, to_device);
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_for_the_former_user_never_reaches_the_next_one() {
    let world = World::new().await;
    world.register_of("alice", "c-1", json!({})).await;
    let to_alice = json!({ "dst": { "type": 2, "Id": ["alice"], "devType": ["01"] } });
    let to_alice = push_as(&world, to_alice).await;
    let to_device = world.push("c-1", json!({})).await;
    let bob = world.register_of("bob", "c-1", json!({})).await;
    // At once, before anything can have ended.
    let mut device = world.connect(&bob).await;
    assert_eq!(message(&mut device).await.0, to_device);
    nothing_else_comes(&world, "c-1", &mut device).await;
    ends(&world, &to_alice, "c-1", "owner_changed").await;
    let to_bob = json!({ "dst": { "type": 2, "Id": ["bob"], "devType": ["01"] } });
    let to_bob = push_as(&world, to_bob).await;
    assert_eq!(message(&mut device).await.0, to_bob);
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_again_under_the_same_user_leaves_the_connection_alone() {
    let world = World::new().await;
    let alice = world.register_of("alice", "c-1", json!({})).await;
    let mut device = world.connect(&alice).await;
    world.register_of("alice", "c-1", json!({ "deviceName": "phone" })).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unregistering_closes_with_4002_and_ends_what_was_pending() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let sent = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, sent);
    let received = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, received);
    device.ack(&received).await.unwrap();
    world.until_status(&received, 2).await;
    ok(&caller, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    assert_eq!(close_code(&mut device).await, 4002);
    ends(&world, &sent, "c-1", "unregistered").await;
    assert!(share(&world, &received, "c-1").await["ended"].is_null());
    match Device::connect(DeviceOptions::new(&caller, PACKAGE)).await {
        Err(Error::Refused { status: 403, body }) => assert!(body.contains("H32006"), "{body}"),
        other => panic!("not refused: {other:?}"),
    }
    // Back again it starts anew.
    ok(&caller, "/ums/v2/register", &registration("c-1")).await;
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_1001_and_keeps_the_last_acknowledgement() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    // The server says goodbye before it has read the acknowledgement, or after; both count.
    world.running.server.stop_token().cancel();
    device.ack(&id).await.unwrap();
    assert_eq!(close_code(&mut device).await, 1001);
    // The device's half of the goodbye leaves with its next look at the network.
    assert!(device.next().await.is_none());
    let world = world.restart().await;
    assert_eq!(share(&world, &id, "c-1").await["stage"], "received");
    world.stop().await;
}
