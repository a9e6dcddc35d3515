//! What all calls have in common: ids of requests and their repetition, wrong paths, methods and
//! bodies, and what a full queue is answered.

use domain::app::DeleteApp;
use futures_util::{StreamExt, stream::FuturesUnordered};
use pushledger::{
    http::antelope::interface::Interface,
    ledger::{Context, Lane, Refused},
};
use serde_json::{Value, json};

use super::{ANN, APP_ID, Answer, Antelope, BOB, HELLO, KEY, token};
use crate::harness::RawClient;

const CLIENT: &str = "/v2/message/client/push";
const SERVER: &str = "/v2/message/server/push";

fn batch(cid: u32) -> Value {
    json!({ "proxy": 0, "payload": { "msg": HELLO, "clients": [cid] } })
}

/// A push by the app's server with one header more.
async fn push_with(antelope: &Antelope, header: (&str, &str), body: &Value) -> Answer {
    let headers = [("X-APP-ID", APP_ID), ("X-APP-Key", KEY), header];
    antelope.raw("POST", SERVER, &headers, body.to_string().as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_an_id_of_32_hex_digits_or_its_callers_own_in_header_and_body() {
    let antelope = Antelope::new().await;
    let made = |answer: &Answer| answer.1["request_id"].as_str().unwrap().to_owned();
    let (one, two) = (antelope.push(&batch(BOB)).await, antelope.push(&batch(BOB)).await);
    let hex = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(hex(&made(&one)) && hex(&made(&two)) && made(&one) != made(&two));
    let refused = antelope.push(&json!({})).await;
    assert!(refused.0 == 400 && hex(&made(&refused)));
    for (id, status, body) in [("my-id-1", 200, batch(BOB)), ("my-id-2", 400, json!({}))] {
        let answer = push_with(&antelope, ("X-Request-ID", id), &body).await;
        assert_eq!((answer.0, &*made(&answer)), (status, id));
    }
    let (longest, longer) = ("i".repeat(64), "i".repeat(65));
    let answer = push_with(&antelope, ("X-Request-ID", &longest), &batch(BOB)).await;
    assert_eq!(made(&answer), longest);
    assert!(hex(&made(&push_with(&antelope, ("X-Request-ID", &longer), &batch(BOB)).await)));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_the_same_body_gives_the_same_answer_and_pushes_once() {
    let antelope = Antelope::new().await;
    for header in [("Idempotency-Key", "k-1"), ("Idempotency-Key", &*"i".repeat(200))] {
        let first = push_with(&antelope, header, &batch(BOB)).await;
        assert_eq!(first.0, 200, "{}", first.1);
        let head = antelope.world.head().await;
        assert_eq!(push_with(&antelope, header, &batch(BOB)).await, first);
        assert_eq!(antelope.world.head().await, head);
    }
    // Several messages of one call are one push.
    let item = json!({ "from": ANN, "to": BOB, "msg": HELLO });
    let several = json!({ "proxy": 1, "payload": [item, item] });
    let head = antelope.world.head().await;
    let first = push_with(&antelope, ("Idempotency-Key", "r-2"), &several).await;
    assert_eq!(push_with(&antelope, ("Idempotency-Key", "r-2"), &several).await, first);
    assert_eq!(antelope.accepted(head).await.len(), 2);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_with_another_body_is_400_and_names_the_first_message() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    push_with(&antelope, ("Idempotency-Key", "r-1"), &batch(BOB)).await;
    let (id, _) = antelope.accepted(head).await.remove(0);
    let head = antelope.world.head().await;
    let (status, answer) = push_with(&antelope, ("Idempotency-Key", "r-1"), &batch(ANN)).await;
    assert_eq!((status, &answer["message_id"]), (400, &json!(id.to_string())), "{answer}");
    let (status, _) =
        push_with(&antelope, ("Idempotency-Key", &"i".repeat(201)), &batch(BOB)).await;
    assert_eq!(status, 400);
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_device_has_keys_of_its_own_and_a_refusal_uses_none_up() {
    let antelope = Antelope::new().await;
    let body = json!({ "msg": HELLO, "callback": 0, "access_tokens": [] });
    let call = async |cid: u32, body: &Value| {
        let headers = [("X-Client-Token", &*token(cid)), ("Idempotency-Key", "1")];
        antelope.raw("POST", CLIENT, &headers, body.to_string().as_bytes()).await.0
    };
    assert_eq!(call(ANN, &json!({})).await, 400);
    assert_eq!(call(ANN, &body).await, 200);
    let head = antelope.world.head().await;
    assert_eq!(call(BOB, &body).await, 200);
    assert_eq!(antelope.accepted(head).await.len(), 1);
    assert_eq!(push_with(&antelope, ("Idempotency-Key", "1"), &batch(BOB)).await.0, 200);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_that_repeats_names_each_request_and_every_push_is_made() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    for body in [batch(BOB), batch(BOB), batch(ANN)] {
        let (status, answer) = push_with(&antelope, ("X-Request-ID", "trace-1"), &body).await;
        assert_eq!((status, &answer["request_id"]), (200, &json!("trace-1")), "{answer}");
    }
    assert_eq!(antelope.accepted(head).await.len(), 3);
    antelope.world.stop().await;
}

/// Credentials of a call.
fn credentials(interface: Interface) -> Vec<(&'static str, String)> {
    match interface.of_device() {
        true => vec![("X-Client-Token", token(ANN))],
        false => vec![("X-APP-ID", APP_ID.to_owned()), ("X-APP-Key", KEY.to_owned())],
    }
}

async fn call(antelope: &Antelope, interface: Interface, method: &str, body: &[u8]) -> Answer {
    let own = credentials(interface);
    let headers: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, &**value)).collect();
    antelope.raw(method, interface.path(), &headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_is_404_and_another_method_405_and_says_which_there_are() {
    let antelope = Antelope::new().await;
    for path in [
        "/v2/nothing",
        "/v2/message",
        "/v2/message/client/push/",
        "/v2/message/client/PUSH",
        "/v2//message/client/push",
        "/v2/devices/%69ds",
    ] {
        assert_eq!(antelope.raw("POST", path, &[], b"{}").await.0, 404, "{path}");
    }
    let mut raw = RawClient::new(&antelope.world);
    for interface in Interface::ALL {
        for method in ["PUT", "DELETE", "PATCH", "PURGE"] {
            assert_eq!(call(&antelope, interface, method, b"{}").await.0, 405, "{method}");
        }
        let reply = raw.send("PUT", interface.path(), &[], b"").await;
        assert!(reply.headers["allow"].contains(interface.method().as_str()), "{reply:?}");
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_object_of_text_are_400_and_store_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    let deep = [&br#"{"a":"#[..], "[".repeat(100_000).as_bytes()].concat();
    let nested = format!(r#"{{"msg":{}1{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    let posts = Interface::ALL.into_iter().filter(|interface| interface.method() == "POST");
    for interface in posts {
        for body in [
            &b""[..],
            b"{",
            b"null",
            b"[]",
            b"7",
            b"\"text\"",
            b"{\"a\":}",
            b"{} {}",
            b"\xff",
            b"{\"x\":\"\xff\"}",
            b"{\"\xc3\x28\":1}",
            b"{\"msg\":\"\\ud800\"}",
            // The values of an object are none.
            b"[null,null]",
            b"[\"aGVsbG8=\",2,0,[]]",
            &deep,
        ] {
            // What it ignores, it does not look into.
            let lenient =
                matches!(interface, Interface::State | Interface::SetWebhook | Interface::Tokens);
            if lenient && body.starts_with(b"{\"msg\"") {
                continue;
            }
            let (status, answer) = call(&antelope, interface, "POST", body).await;
            assert_eq!(status, 400, "{interface:?} {body:.40?}: {answer}");
        }
        let (status, answer) = call(&antelope, interface, "POST", nested.as_bytes()).await;
        assert!(status == 400 || status == 200, "{interface:?}: {answer}");
    }
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_256_kib_is_read_and_a_longer_one_is_400_however_long() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    let padded = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
    let lenient = [Interface::State, Interface::SetWebhook];
    for interface in Interface::ALL {
        for long in [padded(262_145), padded(10_000_000)] {
            let method = interface.method();
            let (status, answer) =
                call(&antelope, interface, method.as_str(), long.as_bytes()).await;
            assert_eq!((status, &answer["error"]), (400, &json!("the body is too long")));
        }
    }
    for interface in lenient {
        let fits = padded(262_144);
        assert_eq!(call(&antelope, interface, "POST", fits.as_bytes()).await.0, 200);
    }
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_as_json_whatever_its_content_type_says_and_unknown_names_are_ignored() {
    let antelope = Antelope::new().await;
    for kind in
        ["application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded"]
    {
        let answer = push_with(&antelope, ("Content-Type", kind), &batch(BOB)).await;
        assert_eq!(answer.0, 200, "{kind}");
    }
    let mut more = batch(BOB);
    more["unknown"] = json!({ "deep": [[[]]] });
    assert_eq!(antelope.push(&more).await.0, 200);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_500_while_the_queue_is_full() {
    let antelope = Antelope::new().await;
    let mut backdoor = antelope.world.place.backdoor().await;
    let begin = if antelope.world.place.on_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" };
    antelope.push(&batch(BOB)).await;
    backdoor.run(begin).await;
    backdoor.run("UPDATE head SET position = position").await;
    // Nothing is committed now, so whatever is sent waits, until one is turned away.
    let ledger = &antelope.world.running.server.ledger;
    let command = DeleteApp { app_id: "demo".to_owned() };
    let send = || {
        let context = Context { app: "other".to_owned(), ..Context::default() };
        ledger.execute(Lane::Interactive, context, command.clone())
    };
    let mut waiting = FuturesUnordered::new();
    loop {
        waiting.push(send());
        match futures_util::poll!(waiting.next()) {
            std::task::Poll::Pending => {}
            std::task::Poll::Ready(answer) => {
                assert!(matches!(answer, Some(Err(Refused::Overloaded))), "{answer:?}");
                break;
            }
        }
    }
    let (status, answer) = antelope.push(&batch(BOB)).await;
    assert_eq!((status, &answer["error"]), (500, &json!("too many commands are waiting")));
    backdoor.run("COMMIT").await;
    while waiting.next().await.is_some() {}
    drop(waiting);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_tells_the_position_that_includes_what_the_call_did() {
    let antelope = Antelope::new().await;
    let headers = [("X-APP-ID", APP_ID), ("X-APP-Key", KEY)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = batch(BOB).to_string();
    let mut raw = RawClient::new(&antelope.world);
    let reply = raw.send("POST", SERVER, &headers, body.as_bytes()).await;
    let head = antelope.world.head().await;
    assert_eq!(reply.headers["ledger-position"], head.to_string());
    antelope.world.stop().await;
}
