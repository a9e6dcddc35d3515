//! `Idempotency-Key`, on any command: the same request again has the same answer and no event.

use serde_json::{Value, json};
use sim::Caller;

use super::{
    CLOUD_PUSH, CLOUD_TRY, PUSH, REGISTER, REPORT, TO_HOST, TRY, UNREG, call, devices_of, keyed,
    other_app, set_owner,
};
use crate::harness::{PACKAGE, SIGNED_AT_MS, World, merge, ok, registration};

fn to(client: &str) -> String {
    json!({ "dst": { "type": 0, "Id": [client] }, "message": {} }).to_string()
}

/// Makes a request twice with one key and once without: the second says the same and stores
/// nothing, the third has the code given.
async fn twice(world: &World, caller: &Caller, path: &str, body: &str, third: &str) {
    let key = format!("key of {path}");
    let first = keyed(caller, path, body, &key).await;
    assert_eq!(first.ret_code, "00000", "{path} {body}");
    let head = world.head().await;
    let second = keyed(caller, path, body, &key).await;
    assert_eq!((&second.ret_code, &second.data), (&first.ret_code, &first.data), "{path}");
    assert_eq!(second.headers["ledger-position"], first.headers["ledger-position"]);
    assert_eq!(world.head().await, head, "{path} stored something");
    assert_eq!(call(caller, path, body).await.ret_code, third, "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_again_with_its_key_says_the_same_and_stores_nothing() {
    let world = World::new().await;
    let ann = world.user("ann", "c-1").await;
    let mut register = registration("c-1");
    merge(&mut register, json!({ "userId": "ann" }));
    twice(&world, &ann, REGISTER, &register.to_string(), "00000").await;
    set_owner(&world, "mac", "ann", "bind key").await;
    let to_host = json!({ "deviceId": "mac", "encryptedData": "bind key", "message": {} });
    twice(&world, &ann, TO_HOST, &to_host.to_string(), "00000").await;
    for (caller, path) in
        [(&ann, PUSH), (&ann, TRY), (&world.cloud(), CLOUD_PUSH), (&world.cloud(), CLOUD_TRY)]
    {
        twice(&world, caller, path, &to("c-1"), "00000").await;
    }
    let id = world.push("c-1", json!({})).await;
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 2 });
    twice(&world, &ann, REPORT, &report.to_string(), "H32008").await;
    // A device that nothing was pushed to: ending what is pending would be events of its own.
    let quiet = world.register("c-2").await;
    let unreg = json!({ "appPackage": PACKAGE });
    twice(&world, &quiet, UNREG, &unreg.to_string(), "H32006").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_again_with_its_key_stays_at_status_1() {
    let world = World::new().await;
    let ann = world.user("ann", "c-1").await;
    let mut body = registration("c-1");
    merge(&mut body, json!({ "userId": "ann" }));
    for _ in 0..3 {
        assert_eq!(keyed(&ann, REGISTER, &body.to_string(), "k").await.ret_code, "00000");
        assert_eq!(devices_of(&world, "ann").await[0]["status"], 1);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_again_with_its_key_answers_the_first_id_even_if_the_device_is_gone() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let first = keyed(&world.cloud(), CLOUD_PUSH, &to("c-1"), "k").await;
    ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
    let second = keyed(&world.cloud(), CLOUD_PUSH, &to("c-1"), "k").await;
    assert_eq!((second.ret_code.as_str(), second.data), ("00000", first.data));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_over_a_restart() {
    let world = World::new().await;
    world.register("c-1").await;
    let first = keyed(&world.cloud(), CLOUD_PUSH, &to("c-1"), "k").await;
    let world = world.restart().await;
    let second = keyed(&world.cloud(), CLOUD_PUSH, &to("c-1"), "k").await;
    assert_eq!((second.ret_code.as_str(), second.data), ("00000", first.data));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_request_is_a_duplicate() {
    let world = World::new().await;
    world.register("c-1").await;
    world.register("c-2").await;
    let cloud = world.cloud();
    assert_eq!(keyed(&cloud, CLOUD_PUSH, &to("c-1"), "k").await.ret_code, "00000");
    let head = world.head().await;
    let other_body = keyed(&cloud, CLOUD_PUSH, &to("c-2"), "k").await;
    let other_call = keyed(&cloud, CLOUD_TRY, &to("c-1"), "k").await;
    for reply in [other_body, other_call] {
        assert_eq!((reply.ret_code.as_str(), reply.data), ("C00005", Value::Null));
    }
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_terminals_may_choose_the_same_key() {
    let world = World::new().await;
    let (one, other) = (world.register("c-1").await, world.register("c-2").await);
    let unreg = json!({ "appPackage": PACKAGE }).to_string();
    assert_eq!(keyed(&one, UNREG, &unreg, "1").await.ret_code, "00000");
    let before = world.head().await;
    assert_eq!(keyed(&other, UNREG, &unreg, "1").await.ret_code, "00000");
    assert!(world.head().await > before, "the second terminal got the first one's answer");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_may_choose_the_same_key() {
    let world = World::new().await;
    let (theirs, _) = other_app(&world).await;
    let theirs = theirs.with_client_id("c-1");
    let body = registration("c-1").to_string();
    assert_eq!(keyed(&world.terminal("c-1"), REGISTER, &body, "1").await.ret_code, "00000");
    let before = world.head().await;
    assert_eq!(keyed(&theirs, REGISTER, &body, "1").await.ret_code, "00000");
    assert!(world.head().await > before, "the second app got the first one's answer");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_does_not_use_its_key_up() {
    let world = World::new().await;
    assert_eq!(keyed(&world.cloud(), CLOUD_PUSH, &to("c-1"), "k").await.ret_code, "H32006");
    world.register("c-1").await;
    assert_eq!(keyed(&world.cloud(), CLOUD_PUSH, &to("c-1"), "k").await.ret_code, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_have_any_bytes_and_at_most_200_of_them() {
    let world = World::new().await;
    world.register("c-1").await;
    let cloud = world.cloud();
    for key in ["订单-1", "a b", &"k".repeat(200)] {
        let first = keyed(&cloud, CLOUD_PUSH, &to("c-1"), key).await;
        let second = keyed(&cloud, CLOUD_PUSH, &to("c-1"), key).await;
        assert_eq!((first.ret_code.as_str(), first.data), ("00000", second.data), "{key}");
    }
    let reply = keyed(&cloud, CLOUD_PUSH, &to("c-1"), &"k".repeat(201)).await;
    assert_eq!(reply.ret_code, "B00006");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_id_is_no_key_as_real_clients_reuse_them() {
    let world = World::new().await;
    world.register("c-1").await;
    let (cloud, body) = (world.cloud(), to("c-1"));
    let headers = cloud.headers(CLOUD_PUSH, &body, SIGNED_AT_MS);
    let first = cloud.call_with(CLOUD_PUSH, &body, &headers).await.unwrap();
    let second = cloud.call_with(CLOUD_PUSH, &body, &headers).await.unwrap();
    assert_eq!((first.ret_code.as_str(), second.ret_code.as_str()), ("00000", "00000"));
    assert_ne!(first.data, second.data);
    world.stop().await;
}
