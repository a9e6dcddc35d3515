//! Antelope's two webhooks: what devices say and how they are, signed.

use serde_json::json;
use sim::receiver::{Answer, Called};

use super::{called, called_in_time, count, listed, receiver, until_count};
use crate::{
    antelope::{ANN, APP_ID, Antelope, BOB, HELLO, KEY, token},
    harness::PATIENCE,
};

/// Checks what every call has, and gives its body.
fn checked(call: &Called, event: &str) -> String {
    let header = |name: &str| call.headers[name].as_str();
    let body = String::from_utf8(call.body.to_vec()).unwrap();
    assert_eq!(call.method, "POST");
    assert!(call.is_signed_by_antelope(APP_ID, KEY));
    assert!(!call.is_signed_by_antelope(APP_ID, "another"));
    assert_eq!((header("x-app-id"), header("x-topvdn-event")), (APP_ID, event));
    assert_eq!(header("user-agent"), "Topvdn");
    body
}

async fn webhooks(antelope: &Antelope, webhook: &str, state: &str) {
    let body = json!({ "webhook": webhook, "state_webhook": state });
    assert_eq!(antelope.server("POST", "/v2/apps/webhook", &body).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_pushes_with_callback_1_and_what_it_sends_up_reaches_the_apps_server() {
    let antelope = Antelope::new().await;
    let server = receiver(&antelope.world).await;
    webhooks(&antelope, &server.url("/hook"), "").await;
    let push = |callback: u8| json!({ "msg": HELLO, "flag": 3, "callback": callback, "access_tokens": [token(BOB)] });
    assert_eq!(antelope.push_by(ANN, &push(0)).await.0, 200);
    assert_eq!(antelope.push_by(ANN, &push(1)).await.0, 200);
    let body = checked(&called(&server, 1).await[0], "device-message");
    let created = called(&server, 1).await[0].json()["data"]["created"].as_i64().unwrap();
    let wanted = format!(
        "{{\"data\": {{\"msg\": \"{HELLO}\", \"to\": [{BOB}], \"from\": {ANN}, \"created\": \
         {created}}}, \"event\": \"device-message\"}}"
    );
    assert_eq!(body, wanted);
    let mut device = antelope.connect(ANN).await;
    device.send_raw(r#"{"t":"uplink","content":"hello"}"#).await.unwrap();
    assert!(device.next_within(PATIENCE).await.is_some());
    let calls = called(&server, 2).await;
    checked(&calls[1], "device-message");
    let data = &calls[1].json()["data"];
    assert_eq!((&data["msg"], &data["to"]), (&json!(HELLO), &json!([])));
    assert_eq!(data["from"], ANN);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_server_hears_of_a_device_that_connects_and_of_one_that_goes() {
    let antelope = Antelope::new().await;
    let server = receiver(&antelope.world).await;
    webhooks(&antelope, "", &server.url("/state")).await;
    let mut device = antelope.connect(ANN).await;
    let body = checked(&called(&server, 1).await[0], "device-state");
    assert_eq!(
        body,
        format!("{{\"data\": {{\"device\": {ANN}, \"state\": 1}}, \"event\": \"device-state\"}}")
    );
    device.close().await.unwrap();
    let calls = called(&server, 2).await;
    checked(&calls[1], "device-state");
    assert_eq!(calls[1].json()["data"], json!({ "device": ANN, "state": 0 }));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_apps_server_is_not_asked_for_again() {
    let antelope = Antelope::new().await;
    let server = receiver(&antelope.world).await;
    server.answer(Answer::Status(400, String::new()));
    webhooks(&antelope, &server.url("/hook"), "").await;
    let push = json!({ "msg": HELLO, "flag": 3, "callback": 1, "access_tokens": [] });
    assert_eq!(antelope.push_by(ANN, &push).await.0, 200);
    until_count(&antelope.world, "given_up", 1).await;
    let row = &listed(&antelope.world, "given_up").await[0];
    assert_eq!((&row["calls"], &row["status"]), (&json!(1), &json!(400)));
    assert_eq!((server.count(), count(&antelope.world.admin, "postponed").await), (1, 0));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_had_no_time_is_called_again() {
    let antelope = Antelope::with_clock().await;
    let server = receiver(&antelope.world).await;
    webhooks(&antelope, &server.url("/hook"), "").await;
    let push = json!({ "msg": HELLO, "flag": 3, "callback": 1, "access_tokens": [] });
    for (number, status) in [(1, 408), (2, 429)] {
        server.plan([Answer::Status(status, String::new())]);
        assert_eq!(antelope.push_by(ANN, &push).await.0, 200);
        called_in_time(&antelope.world, &server, 2 * number).await;
        until_count(&antelope.world, "answered", i64::try_from(number).unwrap()).await;
        let row = &listed(&antelope.world, "answered").await[0];
        assert_eq!((&row["calls"], &row["attempts"][0]["status"]), (&json!(2), &json!(status)));
    }
    antelope.world.stop().await;
}
