//! `msgPushToHost`: to the phones of whoever owns a physical device.

use serde_json::{Value, json};
use sim::Caller;

use super::{TO_HOST, call, each, refusal, set_owner};
use crate::harness::World;

fn to_host(device: &str, key: &str) -> Value {
    json!({ "deviceId": device, "encryptedData": key, "message": { "msgName": "door open" } })
}

/// The clients that a push to the host goes to.
async fn reached(world: &World, caller: &Caller, body: &Value) -> String {
    let reply = call(caller, TO_HOST, &body.to_string()).await;
    assert_eq!(reply.ret_code, "00000", "{body}");
    let info = world.status(reply.data["msgId"].as_str().unwrap()).await;
    each(info["devices"].as_array().unwrap(), "clientId")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_phone_app_of_the_owner_gets_it_and_nothing_else() {
    let world = World::new().await;
    for (client, device_type) in [("a-1", "01"), ("a-2", "02"), ("a-4", "04"), ("a-8", "08")] {
        world.register_of("ann", client, json!({ "deviceType": device_type })).await;
    }
    world.register_of("ann", "a-9", json!({ "appPackage": "com.acme.other" })).await;
    world.register_of("bob", "b-1", json!({})).await;
    world.register("n-1").await;
    set_owner(&world, "mac", "ann", "bind key").await;
    let body = to_host("mac", "bind key");
    assert_eq!(reached(&world, &world.terminal("fridge"), &body).await, "a-1 a-9");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_with_the_bind_key_may_push_whether_logged_in_or_not() {
    let world = World::new().await;
    world.register_of("ann", "a-1", json!({})).await;
    set_owner(&world, "mac", "ann", "bind key").await;
    let body = to_host("mac", "bind key");
    for caller in [world.terminal("fridge"), world.user("bob", "b-1").await] {
        assert_eq!(reached(&world, &caller, &body).await, "a-1");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_key_that_does_not_fit_is_refused() {
    let world = World::new().await;
    world.register_of("ann", "a-1", json!({})).await;
    set_owner(&world, "mac", "ann", "bind key").await;
    set_owner(&world, "mac-2", "ann", "other key").await;
    for wrong in ["bind  key", "BIND KEY", "other key"] {
        let code = refusal(&world, &world.terminal("f"), TO_HOST, &to_host("mac", wrong)).await;
        assert_eq!(code, "H32009", "{wrong}");
    }
    // A new bind key takes the place of the former.
    set_owner(&world, "mac", "ann", "new key").await;
    let former = to_host("mac", "bind key");
    assert_eq!(refusal(&world, &world.terminal("f"), TO_HOST, &former).await, "H32009");
    assert_eq!(reached(&world, &world.terminal("f"), &to_host("mac", "new key")).await, "a-1");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_nobody_owns_has_no_host() {
    let world = World::new().await;
    world.register_of("ann", "a-1", json!({ "deviceId": "mac" })).await;
    let body = to_host("mac", "bind key");
    assert_eq!(refusal(&world, &world.terminal("f"), TO_HOST, &body).await, "H32010");
    set_owner(&world, "mac", "ann", "bind key").await;
    let path = "/admin/v1/apps/demo/owners/mac";
    assert_eq!(world.admin.delete(path, None).await.unwrap().0, 204);
    assert_eq!(refusal(&world, &world.terminal("f"), TO_HOST, &body).await, "H32010");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_a_registered_phone_cannot_be_reached() {
    let world = World::new().await;
    world.register_of("ann", "a-4", json!({ "deviceType": "04" })).await;
    set_owner(&world, "mac", "ann", "bind key").await;
    set_owner(&world, "mac-2", "never seen", "bind key").await;
    for device in ["mac", "mac-2"] {
        let body = to_host(device, "bind key");
        assert_eq!(refusal(&world, &world.terminal("f"), TO_HOST, &body).await, "H32011");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_id_bind_key_and_message_are_required() {
    let world = World::new().await;
    for field in ["deviceId", "encryptedData", "message"] {
        let mut body = to_host("mac", "bind key");
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(refusal(&world, &world.terminal("f"), TO_HOST, &body).await, "B00001");
    }
    world.stop().await;
}
