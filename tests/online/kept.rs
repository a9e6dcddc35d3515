//! Order, and each message once.

use std::collections::BTreeSet;

use serde_json::json;
use sim::Incoming;

use super::{nothing_else_comes, push_many, quiet, received};
use crate::harness::{PATIENCE, World, dump, message, until};

#[tokio::test(flavor = "multi_thread")]
async fn kept_messages_come_in_order_of_acceptance_and_live_ones_after_them() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut pushed = push_many(&world, "c-1", 320).await;
    let mut device = world.connect(&caller).await;
    let mut came = Vec::new();
    for _ in 0..100 {
        came.push(message(&mut device).await.0);
    }
    // These are pushed while kept ones are still on their way.
    pushed.extend(push_many(&world, "c-1", 5).await);
    while came.len() < pushed.len() {
        came.push(message(&mut device).await.0);
    }
    assert_eq!(came, pushed);
    assert_eq!(device.duplicates(), 0);
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_on_a_busy_connection_comes_in_its_turn() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    // More than the window and more than the queue behind it, before the first acknowledgement.
    let mut pushed = push_many(&world, "c-1", 256 + 256 + 20).await;
    let mut came = Vec::new();
    while came.len() < 256 {
        came.push(message(&mut device).await.0);
    }
    // From now on the queue empties and fills at the same time.
    let more = push_many(&world, "c-1", 60);
    let take = async {
        let mut acknowledged = 0;
        while came.len() < 256 + 256 + 80 {
            device.ack(&came[acknowledged]).await.unwrap();
            acknowledged += 1;
            came.push(message(&mut device).await.0);
        }
    };
    let (more, ()) = tokio::join!(more, take);
    pushed.extend(more);
    assert_eq!(came, pushed);
    assert_eq!(device.duplicates(), 0);
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_comes_again_on_the_next_connection_and_nothing_else_does() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let ids = push_many(&world, "c-1", 3).await;
    let mut device = quiet(&caller).await;
    for id in &ids {
        assert_eq!(message(&mut device).await.0, *id);
    }
    device.ack(&ids[1]).await.unwrap();
    received(&world, &ids[1], "c-1").await;
    drop(device);
    let mut device = world.connect(&caller).await;
    assert_eq!(message(&mut device).await.0, ids[0]);
    assert_eq!(message(&mut device).await.0, ids[2]);
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_shown_once_and_in_order_however_often_the_connection_is_cut() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let push = push_many(&world, "c-1", 150);
    let take = async {
        let mut came = Vec::new();
        while came.len() < 150 {
            match device.next_within(PATIENCE).await {
                Some(Incoming::Message { id, .. }) => came.push(id),
                other => panic!("no message but {other:?}"),
            }
            if came.len() % 7 == 0 {
                device.reconnect().await.unwrap();
            }
        }
        came
    };
    let (pushed, came) = tokio::join!(push, take);
    assert_eq!(came, pushed);
    assert_eq!(came.iter().collect::<BTreeSet<_>>().len(), 150);
    // The acknowledgements of the copies settle what is still open.
    device.close().await.unwrap();
    let mut device = world.connect(&caller).await;
    let views = world.running.server.ledger.database().views.live().read.clone();
    until("something stayed pending", async || {
        let next = device.next_within(std::time::Duration::from_millis(1)).await;
        assert!(matches!(next, None | Some(Incoming::Message { .. })), "{next:?}");
        dump(&views, "pending").await.is_empty()
    })
    .await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_many_connected_devices_reaches_each_once() {
    let world = World::new().await;
    let mut devices = Vec::new();
    let clients: Vec<String> = (0..20).map(|n| format!("c-{n}")).collect();
    for client in &clients {
        let caller = world.register(client).await;
        devices.push(world.connect(&caller).await);
    }
    let body = json!({ "dst": { "type": 0, "Id": clients }, "message": { "n": 1 } });
    let id = super::push_as(&world, body).await;
    for (client, device) in clients.iter().zip(&mut devices) {
        assert_eq!(message(device).await.0, id);
        nothing_else_comes(&world, client, device).await;
    }
    drop(devices);
    world.stop().await;
}
