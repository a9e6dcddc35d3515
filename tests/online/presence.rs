//! Who is connected, on a single node.

use pushledger::ledger::Database;
use serde_json::{Value, json};

use crate::harness::{World, dump, until};

/// Which clients are online, as operators see it.
async fn online(world: &World) -> Value {
    let query = "{ app(appId: \"demo\") { devices { nodes { clientId online } } } }";
    let data = world.graphql(query).await;
    let nodes = data["app"]["devices"]["nodes"].as_array().unwrap().clone();
    nodes.into_iter().map(|node| json!([node["clientId"], node["online"]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_online_for_as_long_as_it_is_connected() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    world.register("c-2").await;
    assert_eq!(online(&world).await, json!([["c-1", false], ["c-2", false]]));
    let device = world.connect(&caller).await;
    until("it is never online", async || {
        online(&world).await == json!([["c-1", true], ["c-2", false]])
    })
    .await;
    let second = world.connect(&caller).await;
    drop(device);
    // The second counts a moment after its handshake.
    until("it goes with the first connection", async || {
        online(&world).await == json!([["c-1", true], ["c-2", false]])
    })
    .await;
    drop(second);
    until("it stays online", async || {
        online(&world).await == json!([["c-1", false], ["c-2", false]])
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_made_known_together_and_a_server_that_stops_leaves_none() {
    const DEVICES: usize = 50;
    let world = World::new().await;
    let mut devices = Vec::new();
    for n in 0..DEVICES {
        let caller = world.register(&format!("c-{n}")).await;
        devices.push(world.connect(&caller).await);
    }
    let head = world.head().await;
    let presence = world.running.server.ledger.database().presence.clone();
    until("not every connection was made known", async || {
        dump(&presence, "connections").await.len() == DEVICES
    })
    .await;
    devices.truncate(DEVICES / 2);
    until("a connection is known that is gone", async || {
        dump(&presence, "connections").await.len() == DEVICES / 2
    })
    .await;
    assert_eq!(world.head().await, head, "presence is no event");
    let place = world.stop().await;
    let database = Database::open(&place.database()).await.unwrap();
    for table in ["connections", "nodes"] {
        assert_eq!(dump(&database.presence, table).await, Vec::<String>::new());
    }
    database.close().await;
}
