//! `report`: what a device says of a message over REST.

use serde_json::{Value, json};

use super::{CLOUD_PUSH, REGISTER, REPORT, UNREG, call, other_app, refusal};
use crate::harness::{PACKAGE, World, message, ok, registration};

fn status(id: &str, status: i64) -> Value {
    json!({ "appPackage": PACKAGE, "msgId": id, "status": status })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reports_received_displayed_and_answered() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    for (number, stage) in [(2, "received"), (3, "displayed"), (4, "acknowledged")] {
        let reply = call(&caller, REPORT, &status(&id, number).to_string()).await;
        assert_eq!((reply.ret_code.as_str(), &reply.data), ("00000", &Value::Null));
        assert_eq!(reply.headers["ledger-position"], world.head().await.to_string());
        let info = world.status(&id).await;
        assert_eq!(info["status"], number);
        assert_eq!(info["devices"][0]["stage"], stage);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_reported_once_and_never_after_a_later_one() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    ok(&caller, REPORT, &status(&id, 2)).await;
    assert_eq!(refusal(&world, &caller, REPORT, &status(&id, 2)).await, "H32008");
    ok(&caller, REPORT, &status(&id, 4)).await;
    for before in [2, 3, 4] {
        assert_eq!(refusal(&world, &caller, REPORT, &status(&id, before)).await, "H32008");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_on_the_socket_does_not_stand_in_the_way_of_the_first_report() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let id = world.push("c-1", json!({})).await;
    message(&mut device).await;
    tokio::select! {
        _ = world.until_status(&id, 2) => {}
        more = device.next() => panic!("{more:?} came"),
    }
    ok(&caller, REPORT, &status(&id, 2)).await;
    assert_eq!(refusal(&world, &caller, REPORT, &status(&id, 2)).await, "H32008");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_reported_over_rest_is_not_sent_to_it_any_more() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let reported = world.push("c-1", json!({})).await;
    ok(&caller, REPORT, &status(&reported, 2)).await;
    let next = world.push("c-1", json!({})).await;
    let mut device = world.connect(&caller).await;
    assert_eq!(message(&mut device).await.0, next);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_device_of_a_message_reports_for_itself() {
    let world = World::new().await;
    let (one, other) = (world.register("c-1").await, world.register("c-2").await);
    let body = json!({ "dst": { "type": 0, "Id": ["c-1", "c-2"] } });
    let data = ok(&world.cloud(), CLOUD_PUSH, &body).await;
    let id = data["msgId"].as_str().unwrap();
    ok(&one, REPORT, &status(id, 3)).await;
    ok(&other, REPORT, &status(id, 2)).await;
    let info = world.status(id).await;
    assert_eq!(
        (&info["devices"][0]["status"], &info["devices"][1]["status"]),
        (&json!(3), &json!(2))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_exist_or_went_to_others_cannot_be_reported() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let stranger = world.register("c-2").await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(refusal(&world, &caller, REPORT, &status("1", 2)).await, "H32007");
    assert_eq!(refusal(&world, &caller, REPORT, &status("no number", 2)).await, "H32007");
    assert_eq!(refusal(&world, &stranger, REPORT, &status(&id, 2)).await, "H32007");
    assert_eq!(refusal(&world, &world.terminal("c-9"), REPORT, &status(&id, 2)).await, "H32007");
    let (theirs, _) = other_app(&world).await;
    let theirs = theirs.with_client_id("c-1");
    ok(&theirs, REGISTER, &registration("c-1")).await;
    assert_eq!(refusal(&world, &theirs, REPORT, &status(&id, 2)).await, "H32007");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_the_app_does_not_know_cannot_report() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    let body = json!({ "appPackage": "com.acme.unknown", "msgId": id, "status": 2 });
    assert_eq!(refusal(&world, &caller, REPORT, &body).await, "H32005");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_of_a_user_reports_for_that_user_alone() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let id = world.push("c-1", json!({})).await;
    let body = status(&id, 2);
    assert_eq!(refusal(&world, &world.terminal("c-1"), REPORT, &body).await, "D00008");
    let bob = world.user("bob", "c-1").await;
    assert_eq!(refusal(&world, &bob, REPORT, &body).await, "D00008");
    ok(&ann, REPORT, &body).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_unregistered_still_reports_what_it_got() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
    ok(&caller, REPORT, &status(&id, 3)).await;
    assert_eq!(world.status(&id).await["status"], 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_status_can_be_reported() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let id = world.push("c-1", json!({})).await;
    for other in [-1, 0, 1, 5, 6, 7] {
        assert_eq!(refusal(&world, &caller, REPORT, &status(&id, other)).await, "B00004");
    }
    world.stop().await;
}
