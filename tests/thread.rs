//! The thinnest thread through every layer: register, push, receive, report, status, history.

use serde_json::json;
use sim::Incoming;

use crate::harness::{PACKAGE, PATIENCE, World, message, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_from_push_to_report() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let id = world.push("c-1", json!({ "msgName": "门铃", "body": { "n": 1 } })).await;
    let (received, payload) = message(&mut device).await;
    assert_eq!(received, id);
    assert_eq!(payload, json!({ "msgName": "门铃", "body": { "n": 1 } }));
    world.until_status(&id, 2).await;
    device.report(&id, 3).await.unwrap();
    match device.next_within(PATIENCE).await {
        Some(Incoming::Receipt { id: of, status: 3 }) => assert_eq!(of, id),
        _ => panic!("no receipt came"),
    }
    assert_eq!(world.status(&id).await["status"], 3);
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 4 });
    ok(&caller, "/ums/v2/report", &report).await;
    let info = world.status(&id).await;
    assert_eq!(info["status"], 4);
    assert_eq!(info["devices"][0]["stage"], "acknowledged");
    let data = world
        .graphql(&format!(
            "{{ app(appId: \"demo\") {{ devices {{ nodes {{ clientId status }} }} \
             message(id: \"{id}\") {{ deliveries {{ stage umsStatus }} events {{ type }} }} }} }}"
        ))
        .await;
    assert_eq!(data["app"]["devices"]["nodes"][0]["clientId"], "c-1");
    assert_eq!(data["app"]["message"]["deliveries"][0]["stage"], "ACKNOWLEDGED");
    assert_eq!(data["app"]["message"]["events"][0]["type"], "message.accepted");
    world.stop().await;
}
