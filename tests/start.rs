//! What a server needs to start, and what it says when that is not there.

use pushledger::{app::Running, clock::Clock};
use serde_json::json;

use crate::harness::{Place, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_that_is_gone_is_asked_for_and_never_replaced() {
    let world = World::new().await;
    world.register("c-1").await;
    let place = world.stop().await;
    let file = place.directory.path().join("master.key");
    let key = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let Err(error) = Running::start(&place.config(), Clock::System).await else {
        panic!("it started without its key");
    };
    assert!(error.to_string().contains("master.key"), "{error}");
    assert!(!file.exists(), "another key took its place");
    let mut other = place.config();
    other.master_key = Some("ab".repeat(32));
    assert!(Running::start(&other, Clock::System).await.is_err(), "it started with another's key");

    std::fs::write(&file, key).unwrap();
    let world = World::start(place, Clock::System).await;
    world.push("c-1", json!({})).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_answers_before_it_wrote_is_refused() {
    let place = Place::new().await;
    if !place.on_postgres() {
        return;
    }
    let database = place.database();
    let name = database.rsplit('/').next().unwrap();
    let mut backdoor = place.backdoor().await;
    backdoor.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let Err(error) = Running::start(&place.config(), Clock::System).await else {
        panic!("it started where what it answers may be lost");
    };
    assert!(error.to_string().contains("synchronous_commit is off"), "{error}");
    backdoor.run(&format!("ALTER DATABASE {name} RESET synchronous_commit")).await;
    World::start(place, Clock::System).await.stop().await;
}
