//! Erasures while events are away, or are brought back from where they are not blank.

use std::path::Path;

use pushledger::{
    audit::{
        archive::{self, Export, Opened},
        verify,
    },
    clock::Clock,
};
use serde_json::{Value, json};

use super::{
    detached::{all, attach, detach, export, pushed, pushes, stopped},
    erased::{ERASURES, erase},
    text,
};
use crate::{
    harness::{Place, World, dump, until},
    views::Bare,
};

/// Waits until the last erasure is done.
async fn done(world: &World) {
    until("the erasure is not done", async || {
        let (_, list, _): (_, Value, _) = world.admin.get(ERASURES, None).await.unwrap();
        list[0]["done"] == true
    })
    .await;
}

/// Every value of the ledger's events, and of an export's lines.
async fn events(place: &Place) -> String {
    let bare = Bare::open(place).await;
    let events = dump(&bare.ledger.database().ledger_read, "events").await.join("\n");
    bare.close().await;
    events
}

fn exported(directory: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "zst") {
            let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
            all.push_str(&String::from_utf8(bytes).unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_comes_back_blank_from_an_export_that_is_older_than_the_erasure() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new, third] = ["old", "new", "third"].map(|name| folder.path().join(name));
    let world = World::new().await;
    pushes(&world).await;
    let place = stopped(world).await;
    export(&place, &old, None).await;
    let end = Opened::open(&old).unwrap();
    assert!(exported(&old).contains("payload-1-"));
    let world = World::start(place, Clock::System).await;
    erase(&world, json!({ "user": { "protocol": "ums", "name": "user-1" } })).await;
    let place = stopped(world).await;
    let before = all(&place).await;
    export(&place, &new, None).await;
    let last = verify::export(&old, &[], &[]).await.unwrap().events as i64;
    detach(&place, &new, Some(last)).await.unwrap();
    // Whoever reads the old export as a part of this ledger sees it blank too.
    let bare = Bare::open(&place).await;
    let report = verify::live(&bare.ledger, None, &[], Some(end.clone())).await.unwrap();
    assert_eq!(report.away, 0);
    let written = Export { detached: Some(end), ..Export::default() };
    written.write(&bare.ledger, &third).await.unwrap();
    bare.close().await;
    assert!(!exported(&third).contains("payload-1-") && exported(&third).contains("payload-2-"));
    verify::export(&third, &[], &[]).await.unwrap();
    attach(&place, &old).await.unwrap();
    let now = events(&place).await;
    assert!(!now.contains("payload-1-") && now.contains("payload-2-"));
    assert_eq!(all(&place).await, before);
    let bare = Bare::open(&place).await;
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_is_erased_while_its_uplinks_are_away_is_known_until_they_are_back() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    let uplink = ("gw-1", "18500001111", "words-of-a-phone");
    assert_eq!(crate::callbacks::hand_in(&world.url, &[uplink]).await.0, 200);
    pushes(&world).await;
    let place = stopped(world).await;
    export(&place, &directory, None).await;
    detach(&place, &directory, None).await.unwrap();
    let world = World::start(place, Clock::System).await;
    let body = json!({ "subject": { "phone": uplink.1 }, "reason": "objection" });
    let (status, erasure, _) = world.admin.post(ERASURES, Some(&body)).await.unwrap();
    assert_eq!(status, 202, "{erasure}");
    until("nothing was blanked", async || {
        let lag = "pushledger_lag_events{subscriber=\"erasures\"} 0";
        text(&world, "/metrics").await.1.lines().any(|line| line == lag)
    })
    .await;
    let world = world.restart().await;
    let ledger = &world.running.server.ledger;
    archive::attach(ledger, &directory, &[]).await.unwrap();
    done(&world).await;
    let events = dump(&ledger.database().ledger_read, "events").await.join("\n");
    assert!(!events.contains(uplink.1) && !events.contains(uplink.2), "{events}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_looks_while_events_come_back_looks_again() {
    let (_folder, directory, place) = pushed().await;
    export(&place, &directory, None).await;
    detach(&place, &directory, None).await.unwrap();
    let world = World::start(place, Clock::System).await;
    // What it does last of all has to wait.
    let mut backdoor = world.place.presence().await;
    let lock = match world.place.on_postgres() {
        true => "BEGIN; LOCK TABLE presence_1.connections",
        false => "BEGIN IMMEDIATE",
    };
    backdoor.run(lock).await;
    let subject = json!({ "user": { "protocol": "ums", "name": "user-1" } });
    let body = json!({ "subject": subject, "reason": "consent_withdrawn" });
    let (status, erasure, _) = world.admin.post(ERASURES, Some(&body)).await.unwrap();
    assert_eq!(status, 202, "{erasure}");
    let ledger = &world.running.server.ledger;
    let read = &ledger.database().ledger_read;
    until("nothing was blanked", async || !dump(read, "erased").await.is_empty()).await;
    archive::attach(ledger, &directory, &[]).await.unwrap();
    backdoor.run("ROLLBACK").await;
    done(&world).await;
    let events = dump(read, "events").await.join("\n");
    assert!(!events.contains("payload-1-") && events.contains("payload-2-"));
    world.stop().await;
}
