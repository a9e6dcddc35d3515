//! The keys of apps at rest: what was refused leaves none behind.

use std::process::Command;

use serde_json::json;

use crate::harness::{ADMIN_TOKEN, RawClient, World, dump};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_or_repeated_call_leaves_no_secret_behind() {
    let world = World::new().await;
    let table = "secrets";
    let pool = world.running.server.ledger.database().ledger_read.clone();
    let before = dump(&pool, table).await;
    assert_eq!(before.len(), 2);
    let admin = ("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut raw = RawClient::new(&world);
    let keys = json!({ "ums": { "appKey": "a new key", "systemKey": "and another" } });
    // Bad only after a good key.
    let half = json!({ "ums": { "appKey": "a new key", "systemKeys": [] } });
    let taken = json!({ "appId": "demo", "ums": {} });
    let taken_ums = json!({ "appId": "other", "ums": { "appId": crate::harness::UMS_APP } });
    let (apps, demo) = ("/admin/v1/apps", "/admin/v1/apps/demo");
    for (method, path, more, body, status) in [
        ("POST", apps, vec![], &taken, 409),
        ("POST", apps, vec![], &taken_ums, 409),
        ("PATCH", demo, vec![header("if-match", "\"7\"")], &keys, 412),
        ("PATCH", demo, vec![], &half, 400),
    ] {
        let headers = [vec![admin.clone()], more].concat();
        let reply = raw.send(method, path, &headers, body.to_string().as_bytes()).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert_eq!(dump(&pool, table).await, before, "{method} {path} {body}");
    }
    // What took effect stays, and its repetition adds nothing.
    let (headers, body) = ([admin, header("idempotency-key", "k")], keys.to_string());
    let reply = raw.send("PATCH", demo, &headers, body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let after = dump(&pool, table).await;
    assert_eq!(after.len(), 4);
    let body = json!({ "appId": "more", "ums": {} }).to_string();
    let headers = [headers[0].clone(), header("idempotency-key", "m")];
    for (status, secrets) in [(201, 6), (200, 6)] {
        let reply = raw.send("POST", apps, &headers, body.as_bytes()).await;
        assert_eq!((reply.status, dump(&pool, table).await.len()), (status, secrets), "{reply:?}");
    }
    let config = world.place.config();
    let mut create = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    create.args(["app", "create", "demo", "--database", &config.database]);
    let output = create.arg("--data").arg(&config.data).output().unwrap();
    assert!(!output.status.success(), "the app was created twice");
    assert_eq!(dump(&pool, table).await.len(), 6);
    // Every key that stayed still opens.
    let world = world.restart().await;
    assert_eq!(world.running.server.directory.all().len(), 2);
    world.stop().await;
}
