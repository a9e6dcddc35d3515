//! The number of a node, which is part of the message ids that it makes.

use std::time::Duration;

use serde_json::json;

use crate::harness::World;

/// The node's number in a message id.
fn node_of(id: &str) -> &str {
    &id[13..16]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_loses_its_number_makes_no_more_ids_with_it_and_takes_another() {
    let world = World::with_clock().await;
    world.register("c-1").await;
    let before = world.push("c-1", json!({})).await;
    assert_eq!(node_of(&before), "000");
    // Nobody can renew a lease while the database is held, and so its time runs out.
    let mut backdoor = world.place.backdoor().await;
    let hold = match world.place.on_postgres() {
        true => "BEGIN; LOCK TABLE leases",
        false => "BEGIN IMMEDIATE",
    };
    backdoor.run(hold).await;
    world.clock.advance(Duration::from_secs(60));
    let (ids, now) = (&world.running.server.ids, world.clock.now());
    assert_eq!(ids.at(now), None, "its time is over, and it makes ids");
    let until = now + 60_000_000;
    let take = format!(
        "UPDATE leases SET node = 'another', until = {until} WHERE name = 'node/000'; COMMIT"
    );
    backdoor.run(&take).await;
    // Who pushes meanwhile waits for a moment, and is not refused.
    let after = world.push("c-1", json!({})).await;
    assert_eq!(node_of(&after), "001");
    assert!(after > before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_at_once_makes_no_id_twice() {
    let world = World::with_clock().await;
    world.register("c-1").await;
    // The clock stands still: all of these are of one time.
    let mut ids = vec![world.push("c-1", json!({})).await, world.push("c-1", json!({})).await];
    let world = world.restart().await;
    ids.extend([world.push("c-1", json!({})).await, world.push("c-1", json!({})).await]);
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    world.stop().await;
}
