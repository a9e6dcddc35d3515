//! `unreg`: a device wants nothing more.

use serde_json::json;

use super::{CLOUD_PUSH, DEVLIST, REGISTER, UNREG, devices_of, each, other_app, refusal};
use crate::harness::{PACKAGE, World, code, ok, registration};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_unregistered_is_not_listed_and_not_pushed_to() {
    let world = World::new().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    assert_eq!(ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await, json!(null));
    assert_eq!(ok(&caller, DEVLIST, &json!({})).await, json!([]));
    let push = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": {} });
    assert_eq!(code(&world.cloud(), CLOUD_PUSH, &push).await, "H32006");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_registered_cannot_unregister() {
    let world = World::new().await;
    let body = json!({ "appPackage": PACKAGE });
    let caller = world.register("c-1").await;
    ok(&caller, UNREG, &body).await;
    assert_eq!(refusal(&world, &caller, UNREG, &body).await, "H32006");
    assert_eq!(refusal(&world, &world.terminal("c-2"), UNREG, &body).await, "H32006");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_the_app_does_not_know_is_refused() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    // Another app's package is not this one's.
    let (terminal, _) = other_app(&world).await;
    let mut body = registration("c-1");
    body["appPackage"] = json!("com.other.app");
    ok(&terminal.with_client_id("c-1"), REGISTER, &body).await;
    for package in ["com.acme.unknown", "COM.ACME.APP", "com.other.app"] {
        let body = json!({ "appPackage": package });
        assert_eq!(refusal(&world, &caller, UNREG, &body).await, "H32005");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_of_a_user_is_unregistered_by_that_user_alone() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let body = json!({ "appPackage": PACKAGE });
    assert_eq!(refusal(&world, &world.terminal("c-1"), UNREG, &body).await, "D00008");
    let bob = world.user("bob", "c-1").await;
    assert_eq!(refusal(&world, &bob, UNREG, &body).await, "D00008");
    ok(&ann, UNREG, &body).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_package_of_a_client_unregisters_and_the_other_stays() {
    let world = World::new().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    world.register_of("ann", "c-1", json!({ "appPackage": "com.acme.other" })).await;
    ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
    assert_eq!(each(&devices_of(&world, "ann").await, "appPackage"), "com.acme.other");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_for_a_device_ends_when_it_unregisters() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({ "msgName": "late" })).await;
    ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
    let info = world.until(&id, |info| !info["devices"][0]["ended"].is_null()).await;
    assert_eq!(info["devices"][0]["ended"], "unregistered");
    assert_eq!(info["status"], 0);
    world.stop().await;
}
