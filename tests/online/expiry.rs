//! What expires, when, and why. The clock is the test's.

use std::time::Duration;

use serde_json::json;

use super::{control, ends, nothing_else_comes, push_as, quiet, received, share};
use crate::harness::{World, message, until};

/// A push to one client that expires after some seconds.
async fn push_for(world: &World, client: &str, seconds: i64) -> String {
    let dst = json!({ "type": 0, "Id": [client] });
    push_as(world, json!({ "dst": dst, "message": {}, "expires": seconds })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_expires_when_it_is_due_and_not_before() {
    let world = World::with_clock().await;
    world.register("c-1").await;
    let (late, soon) = (push_for(&world, "c-1", 60).await, push_for(&world, "c-1", 59).await);
    let accepted = world.clock.now();
    world.clock.advance(Duration::from_secs(58));
    let marker = push_for(&world, "c-1", 1).await;
    world.clock.advance(Duration::from_millis(999));
    for id in [&late, &soon, &marker] {
        assert!(share(&world, id, "c-1").await["ended"].is_null());
    }
    world.clock.advance(Duration::from_millis(1));
    ends(&world, &soon, "c-1", "expired_offline").await;
    ends(&world, &marker, "c-1", "expired_offline").await;
    // One look at the time ended both of these; it left the other.
    assert!(share(&world, &late, "c-1").await["ended"].is_null());
    world.clock.advance(Duration::from_secs(1));
    ends(&world, &late, "c-1", "expired_offline").await;
    let info = world.status(&late).await;
    assert_eq!((&info["status"], info.get("pushTime")), (&json!(0), None));
    assert_eq!(info["devices"][0]["reason"], "expired_offline");
    let query = format!(
        "{{ app(appId: \"demo\") {{ message(id: \"{late}\") \
         {{ expiresAt deliveries {{ ended endedAt stage }} }} }} }}"
    );
    let data = world.graphql(&query).await;
    let (message, delivery) = (&data["app"]["message"], &data["app"]["message"]["deliveries"][0]);
    assert_eq!(delivery["ended"], "EXPIRED_OFFLINE");
    assert_eq!(delivery["stage"], "ACCEPTED");
    assert_eq!(delivery["endedAt"], message["expiresAt"]);
    assert_eq!(world.clock.now(), accepted + 60_000_000);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_got_it_and_never_said_so_lets_it_expire_unacknowledged() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let (silent, acknowledged) =
        (push_for(&world, "c-1", 60).await, push_for(&world, "c-1", 60).await);
    assert_eq!(message(&mut device).await.0, silent);
    assert_eq!(message(&mut device).await.0, acknowledged);
    device.ack(&acknowledged).await.unwrap();
    received(&world, &acknowledged, "c-1").await;
    world.until_status(&silent, 1).await;
    world.clock.advance(Duration::from_secs(60));
    ends(&world, &silent, "c-1", "expired_unacknowledged").await;
    assert!(share(&world, &acknowledged, "c-1").await["ended"].is_null());
    // What the device says later still counts; what ended stays ended.
    device.report(&silent, 3).await.unwrap();
    world.until_status(&silent, 3).await;
    assert_eq!(share(&world, &silent, "c-1").await["ended"], "expired_unacknowledged");
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_not_sent_on_connection() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let short = push_for(&world, "c-1", 60).await;
    let long = push_for(&world, "c-1", 120).await;
    world.clock.advance(Duration::from_secs(60));
    // At once, whether or not its end has been recorded.
    let mut device = world.connect(&caller).await;
    assert_eq!(message(&mut device).await.0, long);
    nothing_else_comes(&world, "c-1", &mut device).await;
    ends(&world, &short, "c-1", "expired_offline").await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_has_expired_is_not_sent_again() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = push_for(&world, "c-1", 60).await;
    assert_eq!(message(&mut device).await.0, id);
    world.until_status(&id, 1).await;
    drop(device);
    world.clock.advance(Duration::from_secs(60));
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    ends(&world, &id, "c-1", "expired_unacknowledged").await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_is_not_answered_in_time_has_an_unknown_result() {
    let world = World::with_clock().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = push_for(&world, "c-1", 60).await;
    assert_eq!(message(&mut device).await.0, id);
    device.ack(&id).await.unwrap();
    received(&world, &id, "c-1").await;
    let path = format!("/admin/v1/apps/demo/messages/{id}/recall");
    assert_eq!(world.admin.post(&path, None).await.unwrap().0, 200);
    assert_eq!(control(&mut device).await.1, id);
    drop(device);
    world.clock.advance(Duration::from_secs(60));
    until("the recall never ended", async || {
        share(&world, &id, "c-1").await["recall"] == "unknown"
    })
    .await;
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_many_expires_on_each_device_by_its_own_reason() {
    let world = World::with_clock().await;
    let clients: Vec<String> = (0..30).map(|n| format!("c-{n}")).collect();
    let mut devices = Vec::new();
    for client in &clients {
        let caller = world.register(client).await;
        if devices.len() < 10 {
            devices.push(quiet(&caller).await);
        }
    }
    let dst = json!({ "type": 0, "Id": clients });
    let id = push_as(&world, json!({ "dst": dst, "message": {}, "expires": 60 })).await;
    for device in &mut devices {
        assert_eq!(message(device).await.0, id);
    }
    let count = async |name: &str, value: &str| {
        let info = world.status(&id).await;
        let devices = info["devices"].as_array().unwrap();
        devices.iter().filter(|device| device[name] == value).count()
    };
    until("not all were sent", async || count("stage", "sent").await == 10).await;
    for (device, client) in devices.iter_mut().zip(&clients).take(5) {
        device.ack(&id).await.unwrap();
        received(&world, &id, client).await;
    }
    world.clock.advance(Duration::from_secs(60));
    until("not all expired", async || count("ended", "expired_offline").await == 20).await;
    until("not all expired", async || count("ended", "expired_unacknowledged").await == 5).await;
    assert_eq!(count("stage", "received").await, 5);
    drop(devices);
    world.stop().await;
}
