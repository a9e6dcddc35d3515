//! What an auditor is promised: every event is under a signed root, a proof of it is short, and
//! whoever alters, removes, inserts or rolls back anything is found out.

mod accessed;
mod archived;
mod detached;
mod erased;
mod erased_away;
mod erased_others;
mod impossible;
mod random;
mod replayed;
mod returned;
mod sealed;
mod tampered;

pub(crate) use erased::erase;

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use projections::{db::Pool, on};
use pushledger::{
    app::Running,
    audit::{
        archive,
        merkle::Hash,
        note::{Checkpoint, Verifier},
    },
    clock::Clock,
    config::Config,
    ledger::Stored,
};
use serde_json::{Value, json};
use sim::Admin;

use crate::{
    harness::{ADMIN_TOKEN, Place, RawClient, World, message, ok, until},
    views::Bare,
};

/// A server with a witness.
async fn witnessed(place: Place, witness: &Path) -> World {
    let config = Config { witness: Some(witness.to_owned()), ..place.config() };
    let clock = Clock::System;
    let running = Running::start(&config, clock.clone()).await.unwrap();
    let url = format!("http://{}", running.address);
    let admin = Admin::new(&url, ADMIN_TOKEN);
    World { place, running, clock, url, admin }
}

/// Some events of many kinds: devices of users, pushes that are received and reported, a recall.
async fn live(world: &World, devices: std::ops::Range<usize>) {
    for n in devices {
        let (user, client) = (format!("user-{n}"), format!("client-{n}"));
        let caller = world.register_of(&user, &client, json!({})).await;
        let mut device = world.connect(&caller).await;
        let id = world.push(&client, json!({ "text": format!("payload-{n}") })).await;
        assert_eq!(message(&mut device).await.0, id);
        world.until_status(&id, 2).await;
        let report = json!({ "appPackage": crate::harness::PACKAGE, "msgId": id, "status": 3 });
        ok(&caller, "/ums/v2/report", &report).await;
        world.push(&client, json!({})).await;
        let recall = format!("/admin/v1/apps/demo/messages/{id}/recall");
        world.admin.post(&recall, None).await.unwrap();
    }
}

/// The text of a page that auditors read.
async fn text(world: &World, path: &str) -> (u16, String) {
    let headers = [("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))];
    let reply = RawClient::new(world).send("GET", path, &headers, b"").await;
    (reply.status, String::from_utf8(reply.body).unwrap())
}

/// The keys that the server says it signs with.
async fn keys(world: &World) -> Vec<Verifier> {
    let (_, body, _) = world.admin.get("/admin/v1/audit/keys", None).await.unwrap();
    let keys = body.as_array().unwrap().iter();
    keys.map(|key| key["key"].as_str().unwrap().parse().unwrap()).collect()
}

/// Waits until everything is sealed; gives the checkpoint.
async fn sealed(world: &World) -> Checkpoint {
    let mut found = None;
    until("nothing was sealed", async || {
        let head = u64::try_from(world.head().await).unwrap();
        let (status, note) = text(world, "/admin/v1/audit/checkpoint").await;
        if status == 200 {
            let checkpoint = Checkpoint::verified(&note, &keys(world).await).unwrap();
            found = Some(checkpoint).filter(|checkpoint| checkpoint.size == head);
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}

fn hash(value: &Value) -> Hash {
    STANDARD.decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn hashes(proof: &Value) -> Vec<Hash> {
    proof["proof"].as_array().unwrap().iter().map(hash).collect()
}

/// All events of a ledger on which no server runs, as they come out of an export of it.
pub(crate) async fn through_an_export(bare: &Bare, place: &Place) -> Vec<domain::Recorded> {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    archived::seal_rest(bare, place).await;
    archive::write(&bare.ledger, &export, None).await.unwrap();
    let file = std::fs::File::open(export.join("events-000000000001.jsonl.zst")).unwrap();
    let text = zstd::decode_all(file).unwrap();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice::<Stored>(line).unwrap().recorded().unwrap()).collect()
}

/// Every leaf, in order.
async fn leaves(pool: &Pool) -> Vec<Hash> {
    const SQL: &str = "SELECT leaf FROM events ORDER BY position";
    let mut checkout = pool.checkout().await.unwrap();
    let rows: Vec<(Vec<u8>,)> =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await.unwrap());
    rows.into_iter().map(|(leaf,)| leaf.try_into().unwrap()).collect()
}

/// What keeps events from being changed, taken away.
pub(crate) fn unlock(place: &Place) -> Vec<&'static str> {
    if place.on_postgres() {
        vec![
            "DROP TRIGGER events_are_never_removed ON events",
            "DROP TRIGGER events_are_never_updated ON events",
        ]
    } else {
        vec!["DROP TRIGGER events_are_never_updated", "DROP TRIGGER events_are_never_deleted"]
    }
}
