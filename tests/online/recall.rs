//! Taking a message back, replacing it, and burning it after display.

use serde_json::{Value, json};
use sim::Incoming;

use super::{control, nothing_else_comes, push_as, quiet, received, share};
use crate::harness::{PATIENCE, World, message, until};

/// The admin's answer to a recall or a replacement.
async fn take_back(world: &World, id: &str, op: &str) -> (u16, Value) {
    let path = format!("/admin/v1/apps/demo/messages/{id}/{op}");
    let (status, body, _) = world.admin.post(&path, None).await.unwrap();
    (status, body)
}

/// What a recall meant at once, for a message to one device.
async fn at_once(world: &World, id: &str, op: &str) -> String {
    let (status, body) = take_back(world, id, op).await;
    assert_eq!(status, 200, "{body}");
    let devices = body["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 1, "{body}");
    devices[0]["result"].as_str().unwrap().to_owned()
}

/// Waits until a recall's result on one device is final, and checks it.
async fn results_in(world: &World, id: &str, client: &str, result: &str, status: i64) {
    until("the recall was never answered", async || {
        share(world, id, client).await["recall"] != "requested"
    })
    .await;
    let share = share(world, id, client).await;
    assert_eq!(share["recall"], result, "{share}");
    assert_eq!(share["status"], status, "{share}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recalled_before_it_is_sent_never_reaches_the_device() {
    for (op, status) in [("recall", 5), ("replace", 6)] {
        let world = World::new().await;
        let caller = world.register("c-1").await;
        let id = world.push("c-1", json!({})).await;
        assert_eq!(at_once(&world, &id, op).await, "stopped_before_sending");
        assert_eq!(world.status(&id).await["status"], status);
        let share = share(&world, &id, "c-1").await;
        assert_eq!(share["ended"], "recalled");
        assert_eq!(share["recall"], "stopped_before_sending");
        let mut device = world.connect(&caller).await;
        nothing_else_comes(&world, "c-1", &mut device).await;
        drop(device);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_has_a_message_unseen_is_told_to_take_it_away() {
    for (op, status) in [("recall", 5), ("replace", 6)] {
        let world = World::new().await;
        let caller = world.register("c-1").await;
        let mut device = quiet(&caller).await;
        let id = world.push("c-1", json!({})).await;
        assert_eq!(message(&mut device).await.0, id);
        device.ack(&id).await.unwrap();
        received(&world, &id, "c-1").await;
        assert_eq!(at_once(&world, &id, op).await, "requested");
        assert_eq!(control(&mut device).await, (op.to_owned(), id.clone()));
        assert_eq!(world.status(&id).await["status"], 2);
        device.ack_control(&id, op).await.unwrap();
        results_in(&world, &id, "c-1", "replaced_unseen", status).await;
        assert_eq!(world.status(&id).await["status"], status);
        drop(device);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_sent_and_not_acknowledged_is_recalled_on_the_device() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    world.until_status(&id, 1).await;
    assert_eq!(at_once(&world, &id, "recall").await, "requested");
    assert_eq!(control(&mut device).await, ("recall".to_owned(), id.clone()));
    device.ack_control(&id, "recall").await.unwrap();
    results_in(&world, &id, "c-1", "replaced_unseen", 5).await;
    // It is not sent again either.
    drop(device);
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_displayed_is_too_late_to_recall() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    device.report(&id, 3).await.unwrap();
    world.until_status(&id, 3).await;
    assert_eq!(at_once(&world, &id, "recall").await, "too_late");
    assert_eq!(world.status(&id).await["status"], 3);
    let receipt = device.next_within(PATIENCE).await;
    assert!(matches!(receipt, Some(Incoming::Receipt { .. })), "{receipt:?}");
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_display_answers_a_recall_with_too_late() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    device.ack(&id).await.unwrap();
    received(&world, &id, "c-1").await;
    assert_eq!(at_once(&world, &id, "replace").await, "requested");
    assert_eq!(control(&mut device).await.0, "replace");
    device.report(&id, 3).await.unwrap();
    results_in(&world, &id, "c-1", "too_late", 3).await;
    // The control was answered by it, so that it does not come again.
    drop(device);
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_device_gets_the_control_whenever_it_comes_until_it_answers() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    device.ack(&id).await.unwrap();
    received(&world, &id, "c-1").await;
    device.close().await.unwrap();
    assert_eq!(at_once(&world, &id, "recall").await, "requested");
    for _ in 0..2 {
        let mut device = quiet(&caller).await;
        assert_eq!(control(&mut device).await, ("recall".to_owned(), id.clone()));
    }
    let mut device = quiet(&caller).await;
    assert_eq!(control(&mut device).await.1, id);
    device.ack_control(&id, "recall").await.unwrap();
    results_in(&world, &id, "c-1", "replaced_unseen", 5).await;
    drop(device);
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_recalled_once_and_only_if_there_is_one() {
    let world = World::new().await;
    world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(take_back(&world, &id, "recall").await.0, 200);
    assert_eq!(take_back(&world, &id, "recall").await.0, 409);
    assert_eq!(take_back(&world, &id, "replace").await.0, 409);
    assert_eq!(take_back(&world, "1700000000000000001", "recall").await.0, 404);
    assert_eq!(take_back(&world, "no-id", "recall").await.0, 404);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_on_each_device_is_the_same_in_every_answer() {
    let world = World::new().await;
    let clients = ["away", "has-it", "saw-it"];
    let callers = [
        world.register(clients[0]).await,
        world.register(clients[1]).await,
        world.register(clients[2]).await,
    ];
    let mut has_it = quiet(&callers[1]).await;
    let mut saw_it = quiet(&callers[2]).await;
    let body = json!({ "dst": { "type": 0, "Id": clients }, "message": { "n": 1 } });
    let id = push_as(&world, body).await;
    assert_eq!(message(&mut has_it).await.0, id);
    has_it.ack(&id).await.unwrap();
    received(&world, &id, "has-it").await;
    assert_eq!(message(&mut saw_it).await.0, id);
    saw_it.report(&id, 3).await.unwrap();
    world.until_status(&id, 3).await;
    let (status, body) = take_back(&world, &id, "recall").await;
    assert_eq!(status, 200);
    let results = |items: &Value, field: &str| -> Vec<String> {
        let items = items.as_array().unwrap().iter();
        items.map(|item| item[field].as_str().unwrap().to_lowercase()).collect()
    };
    let at_once = ["stopped_before_sending", "requested", "too_late"];
    assert_eq!(results(&body["devices"], "result"), at_once);
    assert_eq!(results(&world.status(&id).await["devices"], "recall"), at_once);
    assert_eq!(results(&in_graphql(&world, &id).await, "recallResult"), at_once);
    assert_eq!(control(&mut has_it).await.1, id);
    has_it.ack_control(&id, "recall").await.unwrap();
    results_in(&world, &id, "has-it", "replaced_unseen", 5).await;
    let finally = ["stopped_before_sending", "replaced_unseen", "too_late"];
    assert_eq!(results(&world.status(&id).await["devices"], "recall"), finally);
    let deliveries = in_graphql(&world, &id).await;
    assert_eq!(results(&deliveries, "recallResult"), finally);
    assert_eq!(results(&deliveries, "recall"), ["recall"; 3]);
    let statuses: Vec<_> = deliveries.as_array().unwrap().iter().map(|d| &d["umsStatus"]).collect();
    assert_eq!(statuses, [5, 5, 3]);
    assert_eq!(deliveries[0]["ended"], "RECALLED");
    // The message as a whole is where its furthest device is.
    assert_eq!(world.status(&id).await["status"], 3);
    drop((has_it, saw_it));
    world.stop().await;
}

/// A message's deliveries as GraphQL shows them, in order of device number.
async fn in_graphql(world: &World, id: &str) -> Value {
    let fields = "recall recallResult ended umsStatus";
    let query = format!(
        "{{ app(appId: \"demo\") {{ message(id: \"{id}\") {{ deliveries {{ {fields} }} }} }} }}"
    );
    world.graphql(&query).await["app"]["message"]["deliveries"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_burns_vanishes_elsewhere_once_one_device_has_displayed_it() {
    let world = World::new().await;
    let clients = ["reader", "has-it", "away"];
    let callers = [
        world.register(clients[0]).await,
        world.register(clients[1]).await,
        world.register(clients[2]).await,
    ];
    let mut reader = quiet(&callers[0]).await;
    let mut has_it = quiet(&callers[1]).await;
    let body = json!({ "dst": { "type": 0, "Id": clients }, "message": {}, "isBurn": true });
    let id = push_as(&world, body).await;
    assert_eq!(message(&mut reader).await.0, id);
    assert_eq!(message(&mut has_it).await.0, id);
    has_it.ack(&id).await.unwrap();
    received(&world, &id, "has-it").await;
    reader.report(&id, 3).await.unwrap();
    assert_eq!(control(&mut has_it).await, ("recall".to_owned(), id.clone()));
    has_it.ack_control(&id, "recall").await.unwrap();
    results_in(&world, &id, "has-it", "replaced_unseen", 5).await;
    results_in(&world, &id, "away", "stopped_before_sending", 5).await;
    let read = share(&world, &id, "reader").await;
    assert_eq!((&read["status"], &read["recall"]), (&json!(3), &Value::Null));
    let mut away = world.connect(&callers[2]).await;
    nothing_else_comes(&world, "away", &mut away).await;
    drop((reader, has_it, away));
    world.stop().await;
}
