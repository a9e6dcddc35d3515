//! The section `tencent` of an app, as operators change and see it.

use serde_json::json;

use super::{APP, KEY, Tencent};
use crate::{
    easemob::change_app,
    harness::{World, dump},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_section_with_an_id_alone_gets_a_key_which_is_told_once() {
    let world = World::new().await;
    let told =
        change_app(&world, json!({ "tencent": { "sdkAppId": APP } })).await["tencent"].clone();
    let key = told["secretKey"].as_str().unwrap().to_owned();
    assert_eq!((&told["admin"], key.len()), (&json!("administrator"), 32));
    assert_eq!(told["callbacks"], json!(["C2C.CallbackAfterSendMsg"]));
    assert_eq!((&told["retries"], &told["refuseUnanswered"]), (&json!(0), &json!(false)));
    let (_, shown, _) = world.admin.get("/admin/v1/apps/demo", None).await.unwrap();
    assert!(shown["tencent"].get("secretKey").is_none());
    assert_eq!(shown["tencent"]["secretKeys"], told["secretKeys"]);
    let entry = world.running.server.directory.app("demo").await.unwrap().unwrap();
    assert_eq!(entry.tencent_keys, [key]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_the_token_are_sealed_at_rest_and_open_again_after_a_restart() {
    let token = "zq-callback-token";
    let tencent = Tencent::of(World::new().await, json!({ "callbackToken": token })).await;
    let database = tencent.world.running.server.ledger.database().ledger_read.clone();
    for table in ["secrets", "events", "apps"] {
        let rows = dump(&database, table).await.join("\n");
        assert!(!rows.contains(KEY) && !rows.contains(token), "{table} tells a secret");
    }
    let world = tencent.world.restart().await;
    let entry = world.running.server.directory.app("demo").await.unwrap().unwrap();
    assert_eq!(entry.tencent_token.as_deref(), Some(token));
    let shown = change_app(&world, json!({ "tencent": { "callbackToken": "" } })).await;
    assert!(shown["tencent"].get("callbackToken").is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sections_that_make_no_sense_are_refused_and_change_nothing() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    for wrong in [
        json!({ "sdkAppId": 0 }),
        json!({ "sdkAppId": -1 }),
        json!({ "admin": "" }),
        json!({ "admin": "x".repeat(33) }),
        json!({ "words": [""] }),
        json!({ "words": vec!["x"; 1_001] }),
        json!({ "words": ["x".repeat(101)] }),
        json!({ "callbackUrl": "ftp://example.com" }),
        json!({ "callbackUrl": "https://user@example.com" }),
        json!({ "callbackToken": "x".repeat(65) }),
        json!({ "callbacks": ["C2C.Callback"] }),
        json!({ "retries": 4 }),
        json!({ "unknown": 1 }),
        json!({ "secretKeys": [] }),
    ] {
        let body = json!({ "tencent": wrong });
        let answer = tencent.world.admin.patch("/admin/v1/apps/demo", Some(&body)).await.unwrap();
        assert_eq!(answer.0, 400, "{body}");
    }
    let other = json!({ "appId": "other", "tencent": { "sdkAppId": APP } });
    let answer = tencent.world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap();
    assert_eq!(answer.0, 409);
    let without = json!({ "appId": "other", "tencent": {} });
    let answer = tencent.world.admin.post("/admin/v1/apps", Some(&without)).await.unwrap();
    assert_eq!(answer.0, 400);
    assert_eq!(tencent.world.head().await, head);
    tencent.world.stop().await;
}
