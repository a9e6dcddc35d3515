//! `/{org}/{app}/users/{username}/push/binding`: devices and their vendors' tokens.

use serde_json::{Value, json};

use super::{Easemob, ok, refused};

fn bound(device: &str, notifier: &str, token: &str) -> Value {
    json!({ "device_id": device, "device_token": token, "notifier_name": notifier })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_answers_with_all_bindings_of_that_device() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let one = easemob.bind("ANN", "phone", "jpush", "token-1").await;
    assert_eq!(one, json!([bound("phone", "jpush", "token-1")]));
    let two = easemob.bind("ann", "phone", "apns", "token-2").await;
    let both = json!([bound("phone", "apns", "token-2"), bound("phone", "jpush", "token-1")]);
    assert_eq!(two, both);
    // Another device, and another token under the same name.
    easemob.bind("ann", "tablet", "jpush", "token-3").await;
    let again = easemob.bind("ann", "phone", "jpush", "token-4").await;
    assert_eq!(again[1], bound("phone", "jpush", "token-4"));
    let all = ok(easemob.cloud.get("/users/ann/push/binding", None).await.unwrap());
    let tokens: Vec<_> =
        all["entities"].as_array().unwrap().iter().map(|e| &e["device_token"]).collect();
    assert_eq!(tokens, ["token-2", "token-4", "token-3"]);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_token_ends_one_binding_and_an_empty_name_all_of_the_device() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    for notifier in ["a", "b", "c"] {
        easemob.bind("ann", "phone", notifier, "token").await;
    }
    easemob.bind("ann", "tablet", "a", "token").await;
    let left = easemob.bind("ann", "phone", "b", "").await;
    assert_eq!(left, json!([bound("phone", "a", "token"), bound("phone", "c", "token")]));
    assert_eq!(easemob.bind("ann", "phone", "", "whatever").await, json!([]));
    let all = ok(easemob.cloud.get("/users/ann/push/binding", None).await.unwrap());
    assert_eq!(all["entities"], json!([bound("tablet", "a", "token")]));
    // What is not there can be ended too.
    assert_eq!(easemob.bind("ann", "watch", "a", "").await, json!([]));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_breaks_a_rule_is_400_and_stores_nothing() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let head = easemob.world.head().await;
    let path = "/users/ann/push/binding";
    let invalid = |name: &str| format!("parameters is invalid : {name}");
    for (body, description) in [
        (json!({}), invalid("device_id")),
        (bound("", "n", "t"), invalid("device_id")),
        (json!({ "device_id": 1 }), invalid("device_id")),
        (json!({ "device_id": "d" }), invalid("device_token")),
        (json!({ "device_id": "d", "device_token": null }), invalid("device_token")),
        (json!({ "device_id": "d", "device_token": "t" }), invalid("notifier_name")),
        (bound("d", "n", "a\u{0}b"), invalid("device_token")),
        (
            bound(&"d".repeat(101), "n", "t"),
            "device_id must not be longer than 100 characters".to_owned(),
        ),
        (
            bound("d", "n", &"t".repeat(4_097)),
            "device_token must not be longer than 4096 characters".to_owned(),
        ),
    ] {
        let answer = easemob.cloud.put(path, Some(&body)).await.unwrap();
        refused(&answer, 400, "IllegalArgumentException", &description);
    }
    assert_eq!(easemob.world.head().await, head);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_at_most_16_bindings() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    for n in 0..16 {
        easemob.bind("ann", "phone", &format!("n{n:02}"), "token").await;
    }
    let body = bound("phone", "one more", "token");
    let answer = easemob.cloud.put("/users/ann/push/binding", Some(&body)).await.unwrap();
    let description = "a device has at most 16 bindings";
    refused(&answer, 400, "IllegalArgumentException", description);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_user_has_no_bindings_and_gets_none() {
    let easemob = Easemob::new().await;
    let path = "/users/nobody/push/binding";
    let body = bound("d", "n", "t");
    let description = "Entity user requires a property named username";
    for answer in [
        easemob.cloud.put(path, Some(&body)).await.unwrap(),
        easemob.cloud.get(path, None).await.unwrap(),
    ] {
        refused(&answer, 400, "RequiredPropertyNotFoundException", description);
    }
    easemob.world.stop().await;
}
