//! `register`: states, fields, users and packages of a registration.

use std::time::Duration;

use serde_json::{Value, json};

use super::{REGISTER, UNREG, call, change_app, devices_of, each, refusal};
use crate::harness::{PACKAGE, UMS_APP, World, merge, ok, registration};

fn with(client: &str, more: Value) -> Value {
    let mut body = registration(client);
    merge(&mut body, more);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_registration_has_status_1_and_every_further_one_3() {
    let world = World::new().await;
    for status in [1, 3, 3] {
        world.register_of("ann", "c-1", json!({})).await;
        let devices = devices_of(&world, "ann").await;
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0]["status"], status);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_unregistered_has_status_2_and_is_back_at_1_when_it_registers_again() {
    let world = World::new().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    world.register_of("ann", "c-1", json!({})).await;
    ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
    let query = "{ app(appId: \"demo\") { devices { nodes { clientId status } } } }";
    let data = world.graphql(query).await;
    let expected = json!([{ "clientId": "c-1", "status": "UNREGISTERED" }]);
    assert_eq!(data["app"]["devices"]["nodes"], expected);
    world.register_of("ann", "c-1", json!({})).await;
    assert_eq!(devices_of(&world, "ann").await[0]["status"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_first_registration_stays() {
    let world = World::with_clock().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    for unregister_before in [false, true] {
        world.clock.advance(Duration::from_secs(3_600));
        if unregister_before {
            ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
        }
        world.register_of("ann", "c-1", json!({ "pushId": "new" })).await;
        let device = &devices_of(&world, "ann").await[0];
        assert_eq!(device["pushId"], "new");
        assert_eq!(device["regTime"], "2023-11-15 06:13:20");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_list_shows_every_field_of_a_registration_to_the_letter() {
    let world = World::with_clock().await;
    let more = json!({
        "userName": "安妮 \"A\" ", "deviceId": "00-11-22-AA", "pushId": "100d85590\t8f",
        "deviceName": "客厅 🛋", "deviceType": "08", "typeId": "201c80c70c50031c1201", "collab3th": 1,
    });
    world.register_of("ann", "c-1", more).await;
    let expected = json!([{
        "userId": "ann", "userName": "安妮 \"A\" ", "clientId": "c-1", "deviceId": "00-11-22-AA",
        "deviceName": "客厅 🛋", "pushId": "100d85590\t8f", "deviceType": "08",
        "typeId": "201c80c70c50031c1201", "appPackage": PACKAGE,
        "regTime": "2023-11-15 06:13:20", "status": 1, "collab3th": 1,
    }]);
    assert_eq!(Value::from(devices_of(&world, "ann").await), expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_a_registration_left_out_are_left_out_of_the_list() {
    let world = World::with_clock().await;
    // Clients send null and the empty text for what they don't have.
    let more = json!({ "userName": null, "deviceId": "", "deviceName": null, "typeId": "" });
    world.register_of("ann", "c-1", more).await;
    let expected = json!([{
        "userId": "ann", "clientId": "c-1", "pushId": "push-c-1", "deviceType": "01",
        "appPackage": PACKAGE, "regTime": "2023-11-15 06:13:20", "status": 1, "collab3th": 0,
    }]);
    assert_eq!(Value::from(devices_of(&world, "ann").await), expected);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_replaces_all_that_the_one_before_had_said() {
    let world = World::new().await;
    let more = json!({ "deviceId": "mac", "deviceName": "hall", "typeId": "t", "userName": "A" });
    world.register_of("ann", "c-1", more).await;
    world.register_of("ann", "c-1", json!({ "deviceType": "02", "deviceId": "mac-2" })).await;
    let device = &devices_of(&world, "ann").await[0];
    assert_eq!((&device["deviceType"], &device["deviceId"]), (&json!("02"), &json!("mac-2")));
    for gone in ["deviceName", "typeId", "userName"] {
        assert!(device.get(gone).is_none(), "{device}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_answers_null_and_the_position_that_includes_it() {
    let world = World::new().await;
    let reply = call(&world.terminal("c-1"), REGISTER, &registration("c-1").to_string()).await;
    assert_eq!((reply.ret_code.as_str(), reply.ret_info.as_str()), ("00000", "success"));
    assert_eq!(reply.data, Value::Null);
    assert_eq!(reply.headers["ledger-position"], world.head().await.to_string());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_without_package_gets_the_apps_id_or_its_first_package() {
    let world = World::new().await;
    let nameless = json!({ "appPackage": null });
    world.register_of("ann", "c-1", nameless.clone()).await;
    assert_eq!(each(&devices_of(&world, "ann").await, "appPackage"), UMS_APP);
    change_app(&world, json!({ "ums": { "appPackages": ["com.acme.first", PACKAGE] } })).await;
    world.register_of("bob", "c-2", nameless).await;
    assert_eq!(each(&devices_of(&world, "bob").await, "appPackage"), "com.acme.first");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_the_app_does_not_list_is_refused() {
    let world = World::new().await;
    change_app(&world, json!({ "ums": { "appPackages": [PACKAGE] } })).await;
    world.register("c-1").await;
    let body = with("c-1", json!({ "appPackage": "com.acme.other" }));
    assert_eq!(refusal(&world, &world.terminal("c-1"), REGISTER, &body).await, "H32005");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_package_of_a_client_is_registered_on_its_own() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    world.register_of("ann", "c-1", json!({ "appPackage": "com.acme.other" })).await;
    let devices = devices_of(&world, "ann").await;
    assert_eq!(each(&devices, "appPackage"), "com.acme.app com.acme.other");
    assert_eq!((&devices[0]["status"], &devices[1]["status"]), (&json!(1), &json!(1)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_registers_before_login_without_user_and_after_login_with_one() {
    let world = World::new().await;
    world.register("c-1").await;
    assert_eq!(devices_of(&world, "ann").await.len(), 0);
    world.register_of("ann", "c-1", json!({})).await;
    let devices = devices_of(&world, "ann").await;
    assert_eq!((devices.len(), &devices[0]["status"]), (1, &json!(3)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_user_id_a_registered_device_keeps_its_user_and_a_returning_one_has_none() {
    let world = World::new().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    world.register("c-1").await;
    assert_eq!(devices_of(&world, "ann").await[0]["status"], 3);
    ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
    world.register("c-1").await;
    assert_eq!(devices_of(&world, "ann").await.len(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_takes_a_device_over_by_registering_it() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    world.register_of("bob", "c-1", json!({})).await;
    assert_eq!(devices_of(&world, "ann").await.len(), 0);
    let devices = devices_of(&world, "bob").await;
    assert_eq!((each(&devices, "userId"), &devices[0]["status"]), ("bob".to_owned(), &json!(3)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_id_must_be_the_one_of_the_token() {
    let world = World::new().await;
    let body = with("c-1", json!({ "userId": "ann" }));
    assert_eq!(refusal(&world, &world.terminal("c-1"), REGISTER, &body).await, "D00008");
    let bob = world.user("bob", "c-1").await;
    assert_eq!(refusal(&world, &bob, REGISTER, &body).await, "D00008");
    // Users are compared to the letter.
    let ann = world.user("Ann", "c-1").await;
    assert_eq!(refusal(&world, &ann, REGISTER, &body).await, "D00008");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_id_must_be_the_one_of_the_header() {
    let world = World::new().await;
    let body = registration("c-1");
    assert_eq!(refusal(&world, &world.terminal("c-2"), REGISTER, &body).await, "B00004");
    assert_eq!(refusal(&world, &world.terminal("C-1"), REGISTER, &body).await, "B00004");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_client_id_leaves_the_former_registration_until_it_is_unregistered() {
    let world = World::new().await;
    let former = world.register_of("ann", "c-1", json!({ "deviceId": "mac" })).await;
    world.register_of("ann", "c-2", json!({ "deviceId": "mac" })).await;
    assert_eq!(each(&devices_of(&world, "ann").await, "clientId"), "c-1 c-2");
    ok(&former, UNREG, &json!({ "appPackage": PACKAGE })).await;
    assert_eq!(each(&devices_of(&world, "ann").await, "clientId"), "c-2");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_type_of_the_document_registers_and_no_other() {
    let world = World::new().await;
    for number in 1..=8 {
        let device_type = format!("{number:02}");
        world.register_of("ann", &device_type, json!({ "deviceType": device_type })).await;
    }
    let listed = each(&devices_of(&world, "ann").await, "deviceType");
    assert_eq!(listed, "01 02 03 04 05 06 07 08");
    for other in ["00", "09", "1", "001", "01 ", "phone"] {
        let body = with("c-1", json!({ "deviceType": other }));
        assert_eq!(refusal(&world, &world.terminal("c-1"), REGISTER, &body).await, "C00006");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_m2m_channel_is_for_smart_speakers_alone() {
    let world = World::new().await;
    let speaker = json!({ "deviceType": "08", "collab3th": 1 });
    world.register_of("ann", "c-1", speaker).await;
    assert_eq!(devices_of(&world, "ann").await[0]["collab3th"], 1);
    for (device_type, channel) in [("01", 1), ("07", 1), ("08", 2), ("01", 2), ("08", -1)] {
        let body = with("c-2", json!({ "deviceType": device_type, "collab3th": channel }));
        assert_eq!(refusal(&world, &world.terminal("c-2"), REGISTER, &body).await, "H32004");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_registers_with_its_device_id_for_all_three_ids() {
    let world = World::new().await;
    let id = "C8934641B9D8";
    let body = json!({ "clientId": id, "deviceId": id, "pushId": id, "deviceType": "08",
                       "collab3th": 1, "appPackage": PACKAGE, "userId": "ann" });
    ok(&world.user("ann", id).await, REGISTER, &body).await;
    let device = &devices_of(&world, "ann").await[0];
    for field in ["clientId", "deviceId", "pushId"] {
        assert_eq!(device[field], id);
    }
    world.stop().await;
}
