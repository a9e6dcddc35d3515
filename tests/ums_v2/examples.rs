//! The contract's own examples, replayed as they are printed.

use serde_json::{Value, json};
use sim::Caller;

use super::{CLOUD_PUSH, CLOUD_TRY, PUSH, TRY, call, each, set_owner};
use crate::harness::World;

/// `dst` as the table of terminal pushes prints it.
const OF_TERMINALS: [&str; 4] = [
    r#"{"type":0,"Id":["A","B"]}"#,
    r#"{"type":1,"Id":["mac1","mac2"]}"#,
    r#"{"type":2,"devType":["01","02"]}"#,
    r#"{"type":3,"appType":["appPackage_A","appPackage_B"]}"#,
];

/// `dst` as the table of cloud pushes prints it; the third lacks a comma there.
const OF_CLOUDS: [&str; 4] = [
    r#"{"type":0,"Id":["A","B"]}"#,
    r#"{"type":1,"Id":["mac1","mac2"]}"#,
    r#"{"type":2,"Id":["userId1","userId2"],"devType":["01","02"]}"#,
    r#"{"type":3,"Id":["userId1","userId2"],"appType":["appPackage_A","appPackage_B"]}"#,
];

/// The message, line by line, with the two marks that its print lacks.
const MESSAGE: &str = r#"{  
"msgName": "msg-name",
  "msgType": 3,
    "body":{
      "view": {  
         },       
        "extData":{
        }
      }
}"#;

/// Two users with a phone and a tablet each, on the clients, hardware and packages of the samples.
async fn sample(world: &World) -> Caller {
    let of = |user: &str, client: &str, device_type: &str, mac: &str, package: &str| {
        let more = json!({ "deviceType": device_type, "deviceId": mac, "appPackage": package });
        let (user, client) = (user.to_owned(), client.to_owned());
        async move { world.register_of(&user, &client, more).await }
    };
    let caller = of("userId1", "A", "01", "mac1", "appPackage_A").await;
    of("userId1", "B", "02", "mac2", "appPackage_B").await;
    of("userId2", "C", "01", "mac3", "appPackage_A").await;
    of("userId2", "D", "02", "mac4", "appPackage_B").await;
    caller
}

#[tokio::test(flavor = "multi_thread")]
async fn the_destinations_of_the_document_reach_what_it_says() {
    let world = World::new().await;
    let terminal = sample(&world).await;
    let own = ["A B"; 4];
    let everybodys = ["A B", "A B", "A B C D", "A B C D"];
    for (caller, paths, samples, reached) in [
        (&terminal, [PUSH, TRY], OF_TERMINALS, own),
        (&world.cloud(), [CLOUD_PUSH, CLOUD_TRY], OF_CLOUDS, everybodys),
    ] {
        for path in paths {
            for (dst, reached) in samples.into_iter().zip(reached) {
                let body = format!(r#"{{"expires":60,"dst":{dst},"message":{MESSAGE}}}"#);
                let reply = call(caller, path, &body).await;
                assert_eq!(reply.ret_code, "00000", "{path} {dst}");
                let info = world.status(reply.data["msgId"].as_str().unwrap()).await;
                assert_eq!(each(info["devices"].as_array().unwrap(), "clientId"), reached, "{dst}");
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_destination_that_lacks_a_comma_is_no_json() {
    let world = World::new().await;
    sample(&world).await;
    let body = r#"{"dst":{"type":2,"Id":["userId1","userId2"]"devType":["01","02"]}}"#;
    assert_eq!(call(&world.cloud(), CLOUD_PUSH, body).await.ret_code, "B00004");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_the_document_comes_as_it_is_printed() {
    let world = World::new().await;
    let terminal = world.register_of("userId1", "A", json!({})).await;
    set_owner(&world, "mac1", "userId1", "bindkey").await;
    let mut device = world.connect(&terminal).await;
    let push = format!(r#"{{"dst":{{"type":0,"Id":["A"]}},"message":{MESSAGE}}}"#);
    let to_host = format!(r#"{{"deviceId":"mac1","encryptedData":"bindkey","message":{MESSAGE}}}"#);
    for (caller, path, body) in [
        (&terminal, PUSH, &push),
        (&world.cloud(), CLOUD_PUSH, &push),
        (&terminal, super::TO_HOST, &to_host),
    ] {
        let reply = call(caller, path, body).await;
        assert_eq!(reply.ret_code, "00000", "{path}");
        let printed: Value = serde_json::from_str(MESSAGE).unwrap();
        match device.next_within(crate::harness::PATIENCE).await {
            Some(sim::Incoming::Message { id, payload, raw_payload, .. }) => {
                assert_eq!((json!(id), payload), (reply.data["msgId"].clone(), printed));
                assert_eq!(raw_payload, MESSAGE);
            }
            other => panic!("{other:?} came"),
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_prints_the_message_without_two_marks_and_that_is_no_json() {
    let world = World::new().await;
    world.register("A").await;
    let printed = MESSAGE.replace("\"body\":", "body");
    let body = format!(r#"{{"dst":{{"type":0,"Id":["A"]}},"message":{printed}}}"#);
    assert_eq!(call(&world.cloud(), CLOUD_PUSH, &body).await.ret_code, "B00004");
    world.stop().await;
}
