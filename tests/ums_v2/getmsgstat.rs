//! `getmsgstat`, of terminals and of clouds: who may read it, and every field of the answer.

use std::time::Duration;

use serde_json::{Value, json};
use sim::Caller;

use super::{
    CLOUD_PUSH, CLOUD_STATUS, PUSH, STATUS, TO_HOST, call, change_app, other_app, refusal,
    set_owner,
};
use crate::harness::{PACKAGE, World, message, ok};

async fn pushed(caller: &Caller, dst: Value) -> String {
    let data = ok(caller, PUSH, &json!({ "dst": dst, "message": {} })).await;
    data["msgId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn message_info_has_every_field_of_the_document_and_the_devices() {
    let world = World::with_clock().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let bob = world.register_of("bob", "c-2", json!({})).await;
    let id = pushed(&ann, json!({ "type": 0, "Id": ["c-2"] })).await;
    let mut expected = json!({
        "mesgId": id, "userId": "ann", "revTime": "2023-11-15 06:13:20", "status": 0,
        "devices": [{ "clientId": "c-2", "appPackage": PACKAGE, "status": 0, "stage": "accepted" }],
    });
    assert_eq!(world.status(&id).await, expected);
    world.clock.advance(Duration::from_secs(61));
    let mut device = world.connect(&bob).await;
    message(&mut device).await;
    expected["pushTime"] = json!("2023-11-15 06:14:21");
    expected["status"] = json!(2);
    expected["devices"][0]["status"] = json!(2);
    expected["devices"][0]["stage"] = json!("received");
    // The acknowledgement leaves while the device waits for more.
    let info = tokio::select! {
        info = world.until_status(&id, 2) => info,
        more = device.next() => panic!("{more:?} came"),
    };
    assert_eq!(info, expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_is_the_sender_and_absent_for_clouds_and_terminals_without_login() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    set_owner(&world, "mac", "ann", "key").await;
    let by_ann = pushed(&ann, json!({ "type": 0, "Id": ["c-1"] })).await;
    assert_eq!(world.status(&by_ann).await["userId"], "ann");
    let by_cloud = world.push("c-1", json!({})).await;
    assert!(world.status(&by_cloud).await.get("userId").is_none());
    let body = json!({ "deviceId": "mac", "encryptedData": "key", "message": {} });
    let data = ok(&world.terminal("fridge"), TO_HOST, &body).await;
    let by_fridge = data["msgId"].as_str().unwrap();
    assert!(world.status(by_fridge).await.get("userId").is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_in_the_zone_of_the_app() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(world.status(&id).await["revTime"], "2023-11-15 06:13:20");
    change_app(&world, json!({ "timezone": "America/New_York" })).await;
    assert_eq!(world.status(&id).await["revTime"], "2023-11-14 17:13:20");
    let mut device = world.connect(&caller).await;
    message(&mut device).await;
    let info = world.until(&id, |info| info.get("pushTime").is_some()).await;
    assert_eq!(info["pushTime"], "2023-11-14 17:13:20");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_is_spelled_meg_id_or_msg_id_by_anybody() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let id = pushed(&ann, json!({ "type": 0, "Id": ["c-1"] })).await;
    for (caller, path) in [(&ann, STATUS), (&world.cloud(), CLOUD_STATUS)] {
        for field in ["megId", "msgId"] {
            assert_eq!(ok(caller, path, &json!({ field: id })).await["mesgId"], json!(id));
        }
        assert_eq!(refusal(&world, caller, path, &json!({ "mesgId": id })).await, "B00001");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_may_read_it_on_any_terminal() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    world.register_of("bob", "c-2", json!({})).await;
    let id = pushed(&ann, json!({ "type": 0, "Id": ["c-2"] })).await;
    assert_eq!(ok(&ann, STATUS, &json!({ "megId": id })).await["mesgId"], json!(id));
    let elsewhere = world.user("ann", "c-9").await;
    assert_eq!(ok(&elsewhere, STATUS, &json!({ "megId": id })).await["mesgId"], json!(id));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_may_read_it_whether_user_or_device() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    let nobodys = world.register("c-2").await;
    let dst = json!({ "type": 3, "Id": ["ann"], "appType": [PACKAGE] });
    let data = ok(&world.cloud(), CLOUD_PUSH, &json!({ "dst": dst })).await;
    let to_ann = data["msgId"].as_str().unwrap();
    // She was addressed, so she may ask on any terminal.
    let ann = world.user("ann", "c-9").await;
    assert_eq!(ok(&ann, STATUS, &json!({ "megId": to_ann })).await["mesgId"], json!(to_ann));
    let to_device = world.push("c-2", json!({})).await;
    let info = ok(&nobodys, STATUS, &json!({ "megId": to_device })).await;
    assert_eq!(info["mesgId"], json!(to_device));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_anybody_else_the_message_does_not_exist() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let bob = world.register_of("bob", "c-2", json!({})).await;
    let id = pushed(&ann, json!({ "type": 0, "Id": ["c-1"] })).await;
    let (_, their_cloud) = other_app(&world).await;
    let body = json!({ "msgId": id });
    assert_eq!(refusal(&world, &bob, STATUS, &body).await, "H32007");
    assert_eq!(refusal(&world, &world.terminal("c-9"), STATUS, &body).await, "H32007");
    // The device of a user is spoken for by that user.
    assert_eq!(refusal(&world, &world.terminal("c-1"), STATUS, &body).await, "H32007");
    let bob_there = world.user("bob", "c-1").await;
    assert_eq!(refusal(&world, &bob_there, STATUS, &body).await, "H32007");
    assert_eq!(refusal(&world, &their_cloud, CLOUD_STATUS, &body).await, "H32007");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_no_message_has_does_not_exist() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    for id in ["1", "0", "1700000000000000000", "9999999999999999999", "abc", "-1", "1 ", "１"] {
        let body = json!({ "msgId": id });
        assert_eq!(refusal(&world, &ann, STATUS, &body).await, "H32007", "{id}");
        assert_eq!(refusal(&world, &world.cloud(), CLOUD_STATUS, &body).await, "H32007", "{id}");
    }
    for (wrong, code) in [(json!(""), "B00001"), (json!(null), "B00001"), (json!(7), "B00004")] {
        assert_eq!(refusal(&world, &ann, STATUS, &json!({ "megId": wrong })).await, code);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_status_says_nothing_new_to_the_ledger() {
    let world = World::new().await;
    world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    let before = world.head().await;
    let reply = call(&world.cloud(), CLOUD_STATUS, &json!({ "msgId": id }).to_string()).await;
    assert_eq!(reply.ret_code, "00000");
    assert_eq!(world.head().await, before);
    world.stop().await;
}
