//! `message`: neither its form nor its content is looked at; it passes through byte for byte.

use serde_json::json;
use sim::Incoming;

use super::{CLOUD_PUSH, CLOUD_TRY, PUSH, TO_HOST, TRY, call, refusal, set_owner};
use crate::harness::{ADMIN_TOKEN, PATIENCE, RawClient, World};

/// Most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 65_536;

/// Objects whose text any parser that reads and writes them again would change.
const TEXTS: [&str; 13] = [
    r"{}",
    r#"{"msgName":"门铃 🔔","msgType":3}"#,
    "{ \"msgName\" :\t\"a  b\" ,\r\n\n  \"body\" : { \"view\" : { } } }",
    r#"{"escapes":"\u95e8\u94c3 \ud83d\udd14 \/ \" \\ \b\f\n\r\t \u00e9 \u0041"}"#,
    r#"{"a":1.0,"b":1e5,"c":1E+05,"d":-0,"e":-0.0,"f":0.10,"g":1e999,"h":-1e-999}"#,
    r#"{"big":123456789012345678901234567890,"long":0.1000000000000000055511151231257827}"#,
    r#"{"z":1,"a":2,"z":3}"#,
    r#"{"":null,"t":true,"f":false,"list":[[],{},[[]]]}"#,
    r#"{"nul":"\u0000","delete":"\u007f"}"#,
    r#"{"alone":"\ud800","reversed":"\udd14\ud83d"}"#,
    r#"{"t":"control","op":"recall","id":"1"}"#,
    "{\"html\":\"</script><!-- & ' -->\",\"separators\":\"\u{2028}\u{2029}\"}",
    r#"{"retCode":"00000","dst":{"type":0,"Id":["c-2"]},"message":{"message":{}}}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn every_push_passes_its_message_through_byte_for_byte() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    set_owner(&world, "mac", "ann", "key").await;
    let mut device = world.connect(&ann).await;
    let cloud = world.cloud();
    for text in TEXTS {
        let push = format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"message": {text} }}"#);
        let to_host = format!(r#"{{"deviceId":"mac","encryptedData":"key","message":{text}}}"#);
        for (caller, path, body) in [
            (&ann, PUSH, &push),
            (&ann, TRY, &push),
            (&cloud, CLOUD_PUSH, &push),
            (&cloud, CLOUD_TRY, &push),
            (&ann, TO_HOST, &to_host),
        ] {
            assert_eq!(call(caller, path, body).await.ret_code, "00000", "{path} {body}");
            match device.next_within(PATIENCE).await {
                Some(Incoming::Message { raw_payload, .. }) => assert_eq!(raw_payload, text),
                other => panic!("{other:?} came for {text}"),
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_in_the_database_comes_byte_for_byte_too() {
    let world = World::new().await;
    world.register("c-1").await;
    for text in TEXTS {
        let body = format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"message":{text}}}"#);
        assert_eq!(call(&world.cloud(), CLOUD_PUSH, &body).await.ret_code, "00000");
    }
    let world = world.restart().await;
    let mut device = world.connect(&world.terminal("c-1")).await;
    for text in TEXTS {
        match device.next_within(PATIENCE).await {
            Some(Incoming::Message { raw_payload, .. }) => assert_eq!(raw_payload, text),
            other => panic!("{other:?} came for {text}"),
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_without_message_delivers_null() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let mut device = world.connect(&ann).await;
    let cloud = world.cloud();
    for body in
        [r#"{"dst":{"type":0,"Id":["c-1"]}}"#, r#"{"dst":{"type":0,"Id":["c-1"]},"message":null}"#]
    {
        for (caller, path) in [(&ann, PUSH), (&ann, TRY), (&cloud, CLOUD_PUSH), (&cloud, CLOUD_TRY)]
        {
            assert_eq!(call(caller, path, body).await.ret_code, "00000", "{path}");
            match device.next_within(PATIENCE).await {
                Some(Incoming::Message { raw_payload, .. }) => assert_eq!(raw_payload, "null"),
                other => panic!("{other:?} came"),
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_the_host_is_required() {
    let world = World::new().await;
    world.register_of("ann", "c-1", json!({})).await;
    set_owner(&world, "mac", "ann", "key").await;
    let mut body = json!({ "deviceId": "mac", "encryptedData": "key" });
    let terminal = world.terminal("fridge");
    assert_eq!(refusal(&world, &terminal, TO_HOST, &body).await, "B00001");
    body["message"] = json!(null);
    assert_eq!(refusal(&world, &terminal, TO_HOST, &body).await, "B00001");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_object_is_of_the_wrong_type() {
    let world = World::new().await;
    world.register("c-1").await;
    for wrong in [json!("text"), json!(1), json!(true), json!([{}])] {
        let body = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": wrong });
        assert_eq!(refusal(&world, &world.cloud(), CLOUD_PUSH, &body).await, "B00002");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_at_most_64_kib_as_it_is_written() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let of = |bytes: usize| {
        let filler = bytes - r#"{"a":""}"#.len();
        format!(r#"{{"a":"{}{}"}}"#, "门".repeat(filler / 3), "a".repeat(filler % 3))
    };
    let push = |text: &str| format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"message": {text} }}"#);
    let longest = of(MESSAGE_BYTES_MAX);
    assert_eq!(call(&world.cloud(), CLOUD_PUSH, &push(&longest)).await.ret_code, "00000");
    match device.next_within(PATIENCE).await {
        Some(Incoming::Message { raw_payload, .. }) => assert_eq!(raw_payload, longest),
        other => panic!("{other:?} came"),
    }
    let longer = of(MESSAGE_BYTES_MAX + 1);
    assert_eq!(call(&world.cloud(), CLOUD_PUSH, &push(&longer)).await.ret_code, "B00006");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_nested_as_deep_as_it_is_long() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let text = format!(r#"{{"a":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    let body = format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"message":{text}}}"#);
    assert_eq!(call(&world.cloud(), CLOUD_PUSH, &body).await.ret_code, "00000");
    match device.next_within(PATIENCE).await {
        Some(Incoming::Message { raw_payload, .. }) => assert_eq!(raw_payload, text),
        other => panic!("{other:?} came"),
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_tree_can_hold_still_shows_in_the_history() {
    let world = World::new().await;
    world.register("c-1").await;
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for text in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, &deep] {
        let body = format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"message":{text}}}"#);
        let reply = call(&world.cloud(), CLOUD_PUSH, &body).await;
        let id = reply.data["msgId"].as_str().unwrap();
        let query = format!(
            "{{ app(appId: \"demo\") {{ message(id: \"{id}\") {{ events {{ private }} }} }} }}"
        );
        let data = world.graphql(&query).await;
        let private = data["app"]["message"]["events"][0]["private"].as_str().unwrap();
        assert!(private.contains(text), "{private}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_shows_each_number_of_a_message_as_it_came() {
    let world = World::new().await;
    world.register("c-1").await;
    let text = concat!(
        r#"{"a":9007199254740993,"b":123456789012345678901234567890,"c":1.50,"d":-0,"#,
        r#""e":0.1000000000000000055511151231257827,"f":1E+05}"#
    );
    let body = format!(r#"{{"dst":{{"type":0,"Id":["c-1"]}},"message":{text}}}"#);
    let reply = call(&world.cloud(), CLOUD_PUSH, &body).await;
    let id = reply.data["msgId"].as_str().unwrap();
    let query = format!(
        "{{ app(appId: \"demo\") {{ message(id: \"{id}\") {{ events {{ private }} }} }} }}"
    );
    let data = world.graphql(&query).await;
    assert!(data["app"]["message"]["events"][0]["private"].is_object(), "{data}");
    let bearer = [("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))];
    let query = serde_json::json!({ "query": query }).to_string();
    let reply = RawClient::new(&world).send("POST", "/graphql", &bearer, query.as_bytes()).await;
    let answer = String::from_utf8(reply.body).unwrap();
    assert!(answer.contains(text), "{answer}");
    world.stop().await;
}
