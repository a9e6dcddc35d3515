//! The section `ums.jwt` of an app, as operators change and see it.

use serde_json::{Value, json};

use super::{SECRET, Signer, configure, judged};
use crate::harness::{World, dump};

async fn read(world: &World) -> Value {
    let (status, body, _) = world.admin.get("/admin/v1/apps/demo", None).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_makes_no_sense_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let before = read(&world).await;
    let url = "https://login.example.com/keys";
    let long = format!("https://login.example.com/{}", "x".repeat(1_000));
    for jwt in [
        json!({}),
        json!({ "issuer": "login" }),
        json!({ "hs256Secret": SECRET, "jwksUrl": url }),
        json!({ "hs256Secret": &SECRET[..31] }),
        json!({ "hs256Secret": "x".repeat(201) }),
        json!({ "hs256Secrets": [] }),
        json!({ "hs256Secrets": [SECRET, "short"] }),
        json!({ "hs256Secrets": [{ "fingerprint": "0123456789abcdef" }] }),
        json!({ "hs256Secrets": vec![SECRET; 11] }),
        json!({ "hs256Secret": SECRET, "issuer": "" }),
        json!({ "hs256Secret": SECRET, "audience": "x".repeat(201) }),
        json!({ "hs256Secret": SECRET, "audience": ["push"] }),
        json!({ "hs256Secret": SECRET, "algorithm": "none" }),
        json!({ "jwksUrl": "" }),
        json!({ "jwksUrl": "login.example.com/keys" }),
        json!({ "jwksUrl": "file:///etc/passwd" }),
        json!({ "jwksUrl": "https://user:secret@login.example.com/keys" }),
        json!({ "jwksUrl": "https://login.example.com/keys#1" }),
        json!({ "jwksUrl": long }),
        json!([]),
        json!("secret"),
    ] {
        let change = json!({ "ums": { "jwt": jwt } });
        let (status, body, _) =
            world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
        assert_eq!(status, 400, "{change}: {body}");
        assert!(!body.to_string().contains(SECRET), "{body}");
    }
    assert_eq!(read(&world).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_replaces_the_one_before_and_null_ends_it() {
    let world = World::new().await;
    assert!(read(&world).await["ums"].get("jwt").is_none());
    let first = json!({ "hs256Secret": SECRET, "issuer": "login", "audience": "push" });
    let told = configure(&world, first).await;
    let keys = told["hs256Secrets"].clone();
    let shown = json!({ "hs256Secrets": keys, "issuer": "login", "audience": "push" });
    assert_eq!(read(&world).await["ums"]["jwt"], shown);
    // What says nothing of it leaves it as it is.
    let change = json!({ "ums": { "appPackages": [] } });
    let (_, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
    assert_eq!(body["ums"]["jwt"], shown);
    let kept = configure(&world, json!({ "hs256Secrets": keys })).await;
    assert_eq!(kept, json!({ "hs256Secrets": keys }));
    let url = json!({ "jwksUrl": "https://login.example.com/keys?v=1", "issuer": "login" });
    // A query may hold a credential, so it is not told again.
    let shown = json!({ "jwksUrl": "https://login.example.com/keys?…", "issuer": "login" });
    assert_eq!(configure(&world, url).await, shown);
    assert_eq!(read(&world).await["ums"]["jwt"], shown);
    configure(&world, Value::Null).await;
    assert!(read(&world).await["ums"].get("jwt").is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_server_makes_signs_tokens() {
    let world = World::with_clock().await;
    let told = configure(&world, json!({ "hs256Secrets": [{ "generate": true }] })).await;
    let secret = told["hs256Secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32);
    assert_eq!(judged(&world, &Signer::hs256(secret).ann(&world)).await, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_told_once_and_lies_sealed() {
    let world = World::with_clock().await;
    let told = configure(&world, json!({ "hs256Secret": SECRET })).await;
    assert_eq!(told["hs256Secret"], SECRET);
    let token = Signer::hs256(SECRET).ann(&world);
    assert_eq!(judged(&world, &token).await, "00000");
    let change = json!({ "ums": { "jwt": { "hs256Secrets": told["hs256Secrets"] } } });
    let app = "/admin/v1/apps/demo";
    let answers = [
        world.admin.patch(app, Some(&change)).await.unwrap(),
        world.admin.get(app, None).await.unwrap(),
        world.admin.get("/admin/v1/apps", None).await.unwrap(),
    ];
    for (status, body, _) in answers {
        assert_eq!(status, 200, "{body}");
        assert!(!body.to_string().contains(SECRET), "{body}");
    }
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let database = world.running.server.ledger.database().clone();
    let mut found = 0;
    for table in ["events", "apps", "secrets", "access_tokens"] {
        for row in dump(&database.ledger_read, table).await {
            found += 1;
            let row = row.to_lowercase();
            for kept in [&SECRET.to_lowercase(), &hex, &token.to_lowercase()] {
                assert!(!row.contains(kept.as_str()), "{table}: {row}");
            }
        }
    }
    assert!(found > 4, "only {found} rows were looked at");
    // It can be opened again.
    let world = world.restart().await;
    assert_eq!(judged(&world, &token).await, "00000");
    world.stop().await;
}
