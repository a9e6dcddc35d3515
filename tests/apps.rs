//! The sections `easemob`, `vendors` and `delivery` of an app, as operators change and see them, and
//! what the directory makes of them. `jwt::settings` does the same for `ums.jwt`.

use std::sync::Arc;

use domain::vendor::Vendor;
use pushledger::directory::AppEntry;
use serde_json::{Value, json};

use crate::{
    channels::config_json,
    harness::{World, dump},
};

async fn read(world: &World) -> Value {
    let (status, body, _) = world.admin.get("/admin/v1/apps/demo", None).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

async fn change(world: &World, change: Value) -> Value {
    let (status, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
    assert_eq!(status, 200, "{change}: {body}");
    body
}

async fn entry(world: &World) -> Arc<AppEntry> {
    world.running.server.directory.app("demo").await.unwrap().unwrap()
}

fn vendor(name: &str, vendor: Vendor) -> Value {
    json!({ "name": name, "credentials": config_json(vendor) })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_easemob_section_gets_every_default_and_tells_its_secret_once() {
    let world = World::new().await;
    assert!(read(&world).await.get("easemob").is_none());
    let told = change(&world, json!({ "easemob": {} })).await["easemob"].clone();
    let secret = told["clientSecret"].as_str().unwrap().to_owned();
    assert_eq!((secret.len(), &told["orgName"]), (32, &json!("pushledger")));
    assert_eq!((&told["appName"], &told["pushOpen"]), (&json!("demo"), &json!(true)));
    assert_eq!(
        told["limits"],
        json!({
            "targets": 100, "runningTasks": 3, "createdTasks": 3, "labels": 100, "labelUsers": 20_000,
            "syncPerSecond": 1, "asyncPerSecond": 200, "singlePerSecond": 10, "listPerSecond": 10,
            "taskPerSecond": 1, "broadcastPerSecond": 1, "messagePerSecond": 1,
            "receiptPerSecond": 1_000, "taskQueryPerSecond": 10, "labelPerSecond": 10, "labelUserPerSecond": 30,
            "registrationPerSecond": 100, "batchDeletePerSecond": 30, "batchStatusPerSecond": 50,
            "bindingPerSecond": 100, "userPerSecond": 100, "tokenPerSecond": 300,
        })
    );
    let shown = read(&world).await["easemob"].clone();
    assert!(shown.get("clientSecret").is_none());
    assert_eq!(shown["clientSecrets"], told["clientSecrets"]);
    assert_eq!(shown["clientId"], told["clientId"]);
    let entry = entry(&world).await;
    assert_eq!(entry.easemob_secrets[0].1, secret);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_easemob_change_leaves_out_stays_and_secrets_overlap_for_rotation() {
    let world = World::new().await;
    let first = json!({ "orgName": "Acme", "appName": "Shop", "clientId": "id",
        "clientSecret": "first", "pushOpen": false, "limits": { "labels": 7 } });
    let told = change(&world, json!({ "easemob": first })).await["easemob"].clone();
    let kept = told["clientSecrets"][0].clone();
    let second = json!({ "clientSecrets": [kept, "second"], "limits": { "targets": 5 } });
    let told = change(&world, json!({ "easemob": second })).await["easemob"].clone();
    assert_eq!(told["clientSecret"], "second");
    assert_eq!((&told["orgName"], &told["clientId"]), (&json!("Acme"), &json!("id")));
    assert_eq!((&told["limits"]["labels"], &told["limits"]["targets"]), (&json!(7), &json!(5)));
    assert_eq!(told["pushOpen"], false);
    let entry = entry(&world).await;
    let secrets: Vec<_> = entry.easemob_secrets.iter().map(|(_, secret)| &**secret).collect();
    assert_eq!(secrets, ["first", "second"]);
    let directory = &world.running.server.directory;
    let found = directory.easemob("aCME", "sHOP").await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&found, &entry));
    assert!(directory.easemob("acme", "other").await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_never_have_one_easemob_path_whatever_its_case() {
    let world = World::new().await;
    change(&world, json!({ "easemob": { "orgName": "acme", "appName": "shop" } })).await;
    let other = json!({ "appId": "other", "easemob": { "orgName": "ACME", "appName": "Shop" } });
    let (status, body, _) = world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap();
    assert_eq!(status, 409, "{body}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sections_that_make_no_sense_are_refused_and_change_nothing() {
    let world = World::new().await;
    let before = read(&world).await;
    let many: Vec<Value> = (0..21).map(|n| vendor(&n.to_string(), Vendor::Jpush)).collect();
    let mut bad_key = config_json(Vendor::Apns);
    bad_key["p8"] = json!("zq-not-a-key");
    let easemob = |section: Value| json!({ "easemob": section });
    let vendors = |section: Value| json!({ "vendors": section });
    for wrong in [
        easemob(json!({ "orgName": "" })),
        easemob(json!({ "orgName": "a/b" })),
        easemob(json!({ "orgName": "Admin" })),
        easemob(json!({ "orgName": "umse" })),
        easemob(json!({ "appName": "门" })),
        easemob(json!({ "appName": "x".repeat(101) })),
        easemob(json!({ "clientId": "" })),
        easemob(json!({ "clientSecrets": [] })),
        easemob(json!({ "limits": { "targets": 0 } })),
        easemob(json!({ "limits": { "targets": 1_001 } })),
        easemob(json!({ "limits": { "labels": null } })),
        easemob(json!({ "limits": { "unknown": 1 } })),
        easemob(json!({ "limits": [] })),
        easemob(json!({ "unknown": 1 })),
        vendors(json!([{ "name": "p" }])),
        vendors(json!([{ "name": "", "credentials": config_json(Vendor::Jpush) }])),
        vendors(json!([vendor("p", Vendor::Jpush), vendor("p", Vendor::Fcm)])),
        vendors(json!([{ "name": "p", "credentials": { "vendor": "carrier pigeon" } }])),
        vendors(json!([{ "name": "p", "credentials": {} }])),
        vendors(json!([{ "name": "p", "credentials": bad_key }])),
        vendors(json!(many)),
        vendors(json!({})),
        json!({ "delivery": { "ackWaitMs": 0 } }),
        json!({ "delivery": { "keepSeconds": 2_592_001 } }),
        json!({ "delivery": { "keepSeconds": 0 } }),
        json!({ "delivery": { "unknown": 1 } }),
    ] {
        let (status, body, _) =
            world.admin.patch("/admin/v1/apps/demo", Some(&wrong)).await.unwrap();
        assert_eq!(status, 400, "{wrong}: {body}");
        assert!(!body.to_string().contains("zq-"), "{body} tells a secret");
    }
    assert_eq!(read(&world).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vendors_are_shown_by_fingerprint_and_a_given_list_replaces_the_one_before() {
    let world = World::new().await;
    let list: Vec<Value> = Vendor::ALL.iter().map(|own| vendor(own.name(), *own)).collect();
    let told = change(&world, json!({ "vendors": list })).await;
    assert!(!told.to_string().contains("zq-"), "{told} tells a secret");
    let names: Vec<_> = told["vendors"].as_array().unwrap().iter().map(|v| &v["vendor"]).collect();
    assert_eq!(names, ["jpush", "fcm", "apns", "huawei"]);
    let before = entry(&world).await;
    assert_eq!(before.vendors.len(), 4);
    // What has its name of before and no credentials keeps them, and its channel with them.
    let list = json!([{ "name": "apns", "appPackages": ["com.acme"] }, { "name": "jpush" }]);
    let told = change(&world, json!({ "vendors": list, "name": "Renamed" })).await;
    assert_eq!(told["vendors"][0]["appPackages"], json!(["com.acme"]));
    let after = entry(&world).await;
    assert_eq!(after.vendors.len(), 2);
    assert!(Arc::ptr_eq(&after.vendors[0].1, &before.vendors[2].1));
    assert!(Arc::ptr_eq(&after.vendors[1].1, &before.vendors[0].1));
    assert_eq!(after.vendors[0].0.app_packages, ["com.acme"]);
    // Other credentials are another channel.
    let mut other = config_json(Vendor::Jpush);
    other["masterSecret"] = json!("another");
    let list = json!([{ "name": "jpush", "credentials": other }]);
    change(&world, json!({ "vendors": list })).await;
    let last = entry(&world).await;
    assert!(!Arc::ptr_eq(&last.vendors[0].1, &after.vendors[1].1));
    // A change that says nothing of vendors leaves them.
    change(&world, json!({ "name": "Again" })).await;
    assert!(Arc::ptr_eq(&entry(&world).await.vendors[0].1, &last.vendors[0].1));
    change(&world, json!({ "vendors": [] })).await;
    assert!(entry(&world).await.vendors.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sealed_at_rest_and_open_again_after_a_restart() {
    let world = World::new().await;
    let list = json!([vendor("p", Vendor::Jpush)]);
    change(&world, json!({ "vendors": list, "easemob": { "clientSecret": "zq-client" } })).await;
    let database = world.running.server.ledger.database().ledger_read.clone();
    for table in ["secrets", "events", "apps"] {
        let rows = dump(&database, table).await.join("\n");
        assert!(!rows.contains("zq-"), "{table} tells a secret");
    }
    let world = world.restart().await;
    let entry = entry(&world).await;
    assert_eq!(entry.vendors[0].1.config().vendor(), Vendor::Jpush);
    assert_eq!(entry.easemob_secrets[0].1, "zq-client");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_has_defaults_and_what_is_left_out_stays() {
    let world = World::new().await;
    let defaults = json!({ "ackWaitMs": 5_000, "keepSeconds": 86_400 });
    assert_eq!(read(&world).await["delivery"], defaults);
    change(&world, json!({ "delivery": { "keepSeconds": 60 } })).await;
    let told = change(&world, json!({ "delivery": { "ackWaitMs": 100 } })).await;
    assert_eq!(told["delivery"], json!({ "ackWaitMs": 100, "keepSeconds": 60 }));
    world.stop().await;
}
