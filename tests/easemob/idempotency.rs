//! Pushes with an `Idempotency-Key`.

use serde_json::{Value, json};

use super::{Easemob, hello};

async fn keyed(easemob: &Easemob, path: &str, body: &Value, key: &str) -> (u16, Value) {
    let body = body.to_string();
    let reply = easemob.raw("POST", path, &[("idempotency-key", key)], body.as_bytes()).await;
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gives_the_same_answer_and_pushes_once() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    drop(easemob.connect("ann", "phone").await);
    let body = json!({ "targets": ["ann"], "strategy": 1, "pushMessage": hello() });
    for path in ["/push/single", "/push/async/ann", "/push/sync/ann"] {
        let before = easemob.world.head().await;
        let (status, first) = keyed(&easemob, path, &body, path).await;
        assert_eq!(status, 200, "{first}");
        let (status, second) = keyed(&easemob, path, &body, path).await;
        assert_eq!((status, &second["data"]), (200, &first["data"]), "{path}");
        let names = easemob.names_after(before).await;
        let pushes = names.iter().filter(|name| **name == "message.accepted").count();
        assert_eq!(pushes, 1, "{path}: {names:?}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_request_is_400_and_a_long_one_too() {
    let easemob = Easemob::new().await;
    let body = |title: &str| json!({ "pushMessage": { "title": title } });
    assert_eq!(keyed(&easemob, "/push/async/ann", &body("one"), "k").await.0, 200);
    let head = easemob.world.head().await;
    for (path, title) in [("/push/async/ann", "two"), ("/push/async/bob", "one")] {
        let (status, answer) = keyed(&easemob, path, &body(title), "k").await;
        assert_eq!((status, &answer["error"]), (400, &json!("IllegalArgumentException")));
    }
    let (status, answer) = keyed(&easemob, "/push/async/ann", &body("x"), &"k".repeat(201)).await;
    assert_eq!((status, &answer["error"]), (400, &json!("IllegalArgumentException")));
    assert_eq!(easemob.world.head().await, head);
    // Without a key, or with an empty one, each call is a push of its own.
    for _ in 0..2 {
        assert_eq!(keyed(&easemob, "/push/async/ann", &body("one"), "").await.0, 200);
    }
    assert_eq!(easemob.world.head().await, head + 2);
    easemob.world.stop().await;
}
