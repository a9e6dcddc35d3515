//! The seven states of a message: 0 not sent, 1 sent, 2 received, 3 displayed, 4 answered,
//! 5 taken back, 6 replaced by an empty message.

use serde_json::{Value, json};
use sim::{Device, DeviceOptions, Incoming};

use super::CLOUD_PUSH;
use crate::harness::{PACKAGE, PATIENCE, World, message, ok};

/// A device that leaves every answer to the test.
async fn silent(world: &World, client: &str) -> Device {
    let caller = world.register(client).await;
    let options = DeviceOptions { auto_ack: false, ..DeviceOptions::new(&caller, PACKAGE) };
    Device::connect(options).await.unwrap()
}

/// Takes a message back (`recall`) or puts an empty one in its place (`replace`); gives what that
/// means for its one device.
async fn take_back(world: &World, id: &str, op: &str) -> Value {
    let path = format!("/admin/v1/apps/demo/messages/{id}/{op}");
    let (status, body, _) = world.admin.post(&path, None).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body["devices"][0]["result"].clone()
}

async fn control(device: &mut Device) -> (String, String) {
    match device.next_within(PATIENCE).await {
        Some(Incoming::Control { op, id }) => (op, id),
        other => panic!("{other:?} came"),
    }
}

async fn report(device: &mut Device, id: &str, status: u8) {
    device.report(id, status).await.unwrap();
    let receipt = device.next_within(PATIENCE).await;
    assert_eq!(receipt, Some(Incoming::Receipt { id: id.to_owned(), status }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_0_by_1_2_and_3_to_4() {
    let world = World::new().await;
    world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(world.status(&id).await["status"], 0);
    let mut device = silent(&world, "c-1").await;
    assert_eq!(message(&mut device).await.0, id);
    world.until_status(&id, 1).await;
    device.ack(&id).await.unwrap();
    world.until_status(&id, 2).await;
    for status in [3, 4] {
        report(&mut device, &id, status).await;
        assert_eq!(world.status(&id).await["status"], status);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_never_falls() {
    let world = World::new().await;
    let mut device = silent(&world, "c-1").await;
    let id = world.push("c-1", json!({})).await;
    message(&mut device).await;
    for status in [4, 3, 2] {
        report(&mut device, &id, status).await;
        assert_eq!(world.status(&id).await["status"], 4);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_taken_back_or_replaced_before_it_was_sent_is_at_5_or_6() {
    let world = World::new().await;
    world.register("c-1").await;
    for (op, status) in [("recall", 5), ("replace", 6)] {
        let id = world.push("c-1", json!({})).await;
        assert_eq!(take_back(&world, &id, op).await, "stopped_before_sending");
        let info = world.status(&id).await;
        assert_eq!(info["status"], status);
        assert_eq!(info["devices"][0]["ended"], "recalled");
        assert!(info.get("pushTime").is_none());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_device_took_away_or_replaced_unseen_is_at_5_or_6() {
    let world = World::new().await;
    let mut device = silent(&world, "c-1").await;
    for (op, status) in [("recall", 5), ("replace", 6)] {
        let id = world.push("c-1", json!({})).await;
        message(&mut device).await;
        device.ack(&id).await.unwrap();
        world.until_status(&id, 2).await;
        assert_eq!(take_back(&world, &id, op).await, "requested");
        assert_eq!(world.status(&id).await["status"], 2);
        assert_eq!(control(&mut device).await, (op.to_owned(), id.clone()));
        device.ack_control(&id, op).await.unwrap();
        let info = world.until_status(&id, status).await;
        assert_eq!(info["devices"][0]["recall"], "replaced_unseen");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_displayed_can_no_longer_be_taken_back() {
    let world = World::new().await;
    let mut device = silent(&world, "c-1").await;
    let id = world.push("c-1", json!({})).await;
    message(&mut device).await;
    report(&mut device, &id, 3).await;
    assert_eq!(take_back(&world, &id, "recall").await, "too_late");
    assert_eq!(world.status(&id).await["status"], 3);
    report(&mut device, &id, 4).await;
    assert_eq!(world.status(&id).await["status"], 4);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_several_devices_is_where_its_furthest_device_is() {
    let world = World::new().await;
    let mut devices = Vec::new();
    for client in ["c-1", "c-2", "c-3"] {
        devices.push(silent(&world, client).await);
    }
    let body = json!({ "dst": { "type": 0, "Id": ["c-1", "c-2", "c-3"] }, "message": {} });
    let data = ok(&world.cloud(), CLOUD_PUSH, &body).await;
    let id = data["msgId"].as_str().unwrap();
    for device in &mut devices {
        message(device).await;
    }
    report(&mut devices[1], id, 3).await;
    let info = world.until(id, |info| info["devices"][2]["status"] == 1).await;
    assert_eq!(info["status"], 3);
    report(&mut devices[2], id, 4).await;
    let info = world.status(id).await;
    assert_eq!(info["status"], 4);
    let of_each: Vec<_> = (0..3).map(|at| info["devices"][at]["status"].clone()).collect();
    assert_eq!(of_each, [json!(1), json!(3), json!(4)]);
    world.stop().await;
}
