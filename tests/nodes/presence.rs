//! Which device is connected where, as every node sees it.

use std::time::Duration;

use projections::on;
use pushledger::app::Running;
use serde_json::json;
use sim::{Caller, Device, DeviceOptions, Incoming};
use tokio::runtime::Runtime;

use super::at;
use crate::harness::{PACKAGE, PATIENCE, World, dump, message, until};

/// A device that leaves its acknowledgements to the test.
async fn quiet(caller: &Caller) -> Device {
    let options = DeviceOptions { auto_ack: false, ..DeviceOptions::new(caller, PACKAGE) };
    Device::connect(options).await.unwrap()
}

/// The number of the only device.
async fn number(world: &World) -> i64 {
    let data = world.graphql("{ app(appId: \"demo\") { devices { nodes { number } } } }").await;
    data["app"]["devices"]["nodes"][0]["number"].as_i64().unwrap()
}

async fn present(node: &Running, device: i64) -> bool {
    node.server.presence.present(&[device]).await.unwrap().contains(&device)
}

async fn until_present(node: &Running, device: i64, wanted: bool) {
    until("presence never changed", async || present(node, device).await == wanted).await;
}

/// Waits for the server's goodbye, which has to be the next frame.
async fn replaced(device: &mut Device) {
    match device.next_within(PATIENCE).await {
        Some(Incoming::Closed { code: 4001, .. }) => {}
        other => panic!("not replaced: {other:?}"),
    }
}

/// Checks that nothing else is on its way to a device: what is pushed now comes next.
async fn nothing_else_comes(world: &World, device: &mut Device) {
    let marker = world.push("c-1", json!({ "marker": true })).await;
    assert_eq!(message(device).await.0, marker);
    device.ack(&marker).await.unwrap();
    world.until_status(&marker, 2).await;
    // What is kept is read from the views; the acknowledgement has to be there before the next
    // connection asks.
    let (views, head) = (&world.running.server.views, world.head().await);
    views.reached(head, PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_at_another_node_closes_the_first_and_gets_what_is_kept_once() {
    let world = World::new().await;
    let second = world.second().await;
    let caller = world.register("c-1").await;
    let device = number(&world).await;
    let mut here = quiet(&caller).await;
    let kept = [world.push("c-1", json!({})).await, world.push("c-1", json!({})).await];
    for id in &kept {
        assert_eq!(message(&mut here).await.0, *id);
    }
    until_present(&second, device, true).await;
    let mut there = quiet(&at(&second, &caller)).await;
    for id in &kept {
        assert_eq!(message(&mut there).await.0, *id);
    }
    replaced(&mut here).await;
    nothing_else_comes(&world, &mut there).await;
    assert_eq!(there.duplicates(), 0, "it got a message twice");
    // And back again: it is the newer connection that stays, wherever it is.
    let mut back = quiet(&caller).await;
    for id in &kept {
        assert_eq!(message(&mut back).await.0, *id);
        back.ack(id).await.unwrap();
    }
    replaced(&mut there).await;
    nothing_else_comes(&world, &mut back).await;
    assert_eq!(back.duplicates(), 0, "it got a message twice");
    assert!(present(&world.running, device).await);
    until("the other node was never told", async || {
        dump(&second.server.ledger.database().presence, "connections").await.len() == 1
    })
    .await;
    assert!(present(&second, device).await);
    drop(back);
    until_present(&second, device, false).await;
    second.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_takes_its_connections_along() {
    let world = World::with_clock().await;
    let second = world.second().await;
    let caller = world.register("c-1").await;
    let device = number(&world).await;
    let there = world.connect(&at(&second, &caller)).await;
    until_present(&world.running, device, true).await;
    second.shutdown().await;
    assert!(!present(&world.running, device).await);
    drop(there);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_node_that_dies_count_until_its_time_is_over() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let device = number(&world).await;
    // A node that can be killed: nothing of it runs any more once its runtime is gone.
    let runtime = Runtime::new().unwrap();
    let (config, clock) = (world.place.config(), world.clock.clone());
    let doomed = runtime.spawn(async move { Running::start(&config, clock).await });
    let doomed = doomed.await.unwrap().unwrap();
    let mut there = quiet(&at(&doomed, &caller)).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut there).await.0, id);
    until_present(&world.running, device, true).await;
    runtime.shutdown_background();
    drop(there);
    let presence = &world.running.server.ledger.database().presence;
    assert_eq!(dump(presence, "connections").await.len(), 1);
    world.clock.advance(Duration::from_secs(29));
    assert!(present(&world.running, device).await);
    world.clock.advance(Duration::from_secs(1));
    assert!(!present(&world.running, device).await);
    // What the dead node left is in nobody's way, and goes in the end.
    let mut here = quiet(&caller).await;
    assert_eq!(message(&mut here).await.0, id);
    assert!(present(&world.running, device).await);
    world.clock.advance(Duration::from_secs(61));
    until("the dead node's rows never went", async || {
        dump(presence, "nodes").await.len() == 1 && dump(presence, "connections").await.len() == 1
    })
    .await;
    assert!(present(&world.running, device).await);
    drop((here, doomed));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_forgotten_makes_its_connections_known_again() {
    let world = World::with_clock().await;
    let second = world.second().await;
    let caller = world.register("c-1").await;
    let device = number(&world).await;
    let there = world.connect(&at(&second, &caller)).await;
    until_present(&world.running, device, true).await;
    // As a crash of PostgreSQL does, or other nodes when this one sleeps for long.
    let mut checkout = world.running.server.ledger.database().presence.checkout().await.unwrap();
    for sql in ["DELETE FROM connections", "DELETE FROM nodes"] {
        on!(checkout.conn(), c => {
            sqlx::query(sql).execute(&mut *c).await.unwrap().rows_affected()
        });
    }
    drop(checkout);
    assert!(!present(&world.running, device).await);
    world.clock.advance(Duration::from_secs(10));
    until_present(&world.running, device, true).await;
    drop(there);
    second.shutdown().await;
    world.stop().await;
}
