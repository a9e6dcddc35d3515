//! The section `antelope` of an app, as operators change and see it.

use serde_json::{Value, json};

use super::{Antelope, HIGH, KEY, OLD_KEY, section};
use crate::{
    easemob::change_app,
    harness::{World, dump},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_section_with_ranges_alone_gets_an_id_and_a_key_which_is_told_once() {
    let world = World::new().await;
    let change = json!({ "antelope": { "cidRanges": [[1, 9]] } });
    let told = change_app(&world, change).await["antelope"].clone();
    let key = told["appKey"].as_str().unwrap().to_owned();
    assert_eq!((key.len(), told["appId"].as_str().unwrap().len()), (32, 4));
    assert_eq!(told["cidRanges"], json!([[1, 9]]));
    let (_, shown, _) = world.admin.get("/admin/v1/apps/demo", None).await.unwrap();
    assert!(shown["antelope"].get("appKey").is_none());
    assert_eq!(shown["antelope"]["appKeys"], told["appKeys"]);
    let entry = world.running.server.directory.app("demo").await.unwrap().unwrap();
    assert_eq!(entry.antelope_keys, [key]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_sealed_at_rest_and_open_again_after_a_restart() {
    let antelope = Antelope::new().await;
    let database = antelope.world.running.server.ledger.database().ledger_read.clone();
    for table in ["secrets", "events", "apps"] {
        let rows = dump(&database, table).await.join("\n");
        assert!(!rows.contains(KEY) && !rows.contains(OLD_KEY), "{table} tells a key");
    }
    let world = antelope.world.restart().await;
    let entry = world.running.server.directory.app("demo").await.unwrap().unwrap();
    assert_eq!(entry.antelope_keys, [KEY, OLD_KEY]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sections_that_make_no_sense_are_refused_and_change_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    let many: Vec<Value> = (0..101).map(|n| json!([n * 10 + 1, n * 10 + 2])).collect();
    for wrong in [
        json!({ "cidRanges": [] }),
        json!({ "cidRanges": many }),
        json!({ "cidRanges": [[0, 9]] }),
        json!({ "cidRanges": [[9, 8]] }),
        json!({ "cidRanges": [[1, 9], [9, 10]] }),
        json!({ "cidRanges": [[20, 30], [1, 99]] }),
        json!({ "cidRanges": [[1, 4_294_967_296_i64]] }),
        json!({ "cidRanges": [[1]] }),
        json!({ "cidRanges": [[1, 2, 3]] }),
        json!({ "cidRanges": "1-9" }),
        json!({ "appId": "" }),
        json!({ "appId": "with space" }),
        json!({ "appId": "x".repeat(41) }),
        json!({ "appId": "门" }),
        json!({ "appKeys": [] }),
        json!({ "appKey": "short" }),
        json!({ "appKeys": [KEY, "zq-33-characters-are-one-too-many"] }),
        json!({ "appKey": "zq-32 characters with many a gap" }),
        json!({ "webhook": "zq-nonsense" }),
        json!({ "stateWebhook": "ftp://a.example.com" }),
        json!({ "unknown": 1 }),
    ] {
        let change = json!({ "antelope": wrong });
        let changed = antelope.world.admin.patch("/admin/v1/apps/demo", Some(&change)).await;
        let (status, body, _) = changed.unwrap();
        assert_eq!(status, 400, "{change}: {body}");
        assert!(!body.to_string().contains("zq-"), "{body} tells a secret");
    }
    let first = json!({ "appId": "new", "antelope": {} });
    let (status, body, _) =
        antelope.world.admin.post("/admin/v1/apps", Some(&first)).await.unwrap();
    assert_eq!(status, 400, "{body}");
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_apps_share_an_id_or_a_number() {
    let antelope = Antelope::new().await;
    for (id, ranges, status) in [
        ("Demo", json!([[1, 9]]), 409),
        ("Othr", json!([[5_009_999, 5_009_999]]), 409),
        ("Othr", json!([[1, 9], [HIGH + 9, HIGH + 10]]), 409),
        ("demo", json!([[1, 9]]), 201),
    ] {
        let app = json!({ "appId": "other", "antelope": { "appId": id, "cidRanges": ranges } });
        let made = antelope.world.admin.post("/admin/v1/apps", Some(&app)).await.unwrap();
        assert_eq!(made.0, status, "{app}: {}", made.1);
    }
    // An app's own ranges may change in any way.
    let wider = json!({ "antelope": { "cidRanges": [[10, 5_010_000]] } });
    let shown = change_app(&antelope.world, wider).await;
    assert_eq!(shown["antelope"]["cidRanges"], json!([[10, 5_010_000]]));
    assert_eq!(shown["antelope"]["appId"], section()["appId"]);
    antelope.world.stop().await;
}
