//! `/v2/message/client/push`: a device pushes to devices, to its app's server, or to both.

use domain::{
    message::{Protocol, Sender},
    resend::Resend,
    route::Strategy,
};
use pushledger::antelope::sign;
use serde_json::{Value, json};

use super::{ANN, Antelope, BOB, EXPIRE, HELLO, HIGH, KEY, NOBODYS, OLD_KEY, message, seen, token};

fn body(cids: &[u32]) -> Value {
    let tokens: Vec<String> = cids.iter().copied().map(token).collect();
    json!({ "msg": HELLO, "flag": 2, "callback": 1, "access_tokens": tokens })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_one_or_more_devices_with_name_body_and_source() {
    let antelope = Antelope::new().await;
    let mut devices = [antelope.connect(BOB).await, antelope.connect(HIGH).await];
    let (status, answer) = antelope.push_by(ANN, &body(&[BOB, HIGH])).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["request_id"].as_str().unwrap().len(), 32);
    for device in &mut devices {
        assert_eq!(message(device).await.1, seen(HELLO, ANN));
    }
    let (status, answer) = antelope.push_by(ANN, &body(&[BOB])).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(message(&mut devices[0]).await.1, seen(HELLO, ANN));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_push_is_one_event_with_all_that_a_callback_needs_and_no_token() {
    let antelope = Antelope::new().await;
    let _device = antelope.quiet(BOB).await;
    let head = antelope.world.head().await;
    antelope.push_by(ANN, &body(&[BOB, HIGH, BOB])).await;
    let accepted = antelope.accepted(head).await;
    let [(_, event)] = &accepted[..] else { panic!("{accepted:?}") };
    assert_eq!((event.protocol, event.sender), (Protocol::Antelope, Sender::Terminal));
    assert_eq!(
        (event.strategy, event.resend),
        (Strategy::PresentOnly, Some(Resend::UntilAnswered))
    );
    assert!(event.callback);
    // One of the three never connected.
    assert_eq!((event.targets.len(), event.unresolved), (1, 1));
    let private = event.private.clone().unwrap();
    assert_eq!(private.destinations.0.get(), format!("[{BOB},{HIGH},{BOB}]"));
    let payload: Value = serde_json::from_str(private.payload.unwrap().0.get()).unwrap();
    assert_eq!(payload, seen(HELLO, ANN));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_devices_a_message_goes_to_nobody_but_maybe_the_app() {
    let antelope = Antelope::new().await;
    for callback in [0, 1] {
        let head = antelope.world.head().await;
        let body = json!({ "msg": HELLO, "callback": callback, "access_tokens": [] });
        assert_eq!(antelope.push_by(ANN, &body).await.0, 200);
        let accepted = antelope.accepted(head).await;
        let [(_, event)] = &accepted[..] else { panic!("{accepted:?}") };
        assert_eq!((event.callback, event.targets.len()), (callback == 1, 0));
        assert_eq!(event.unresolved, 0);
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_is_2_unless_it_is_3_and_nothing_else() {
    let antelope = Antelope::new().await;
    for (flag, resend) in [
        (json!(null), Resend::UntilAnswered),
        (json!(2), Resend::UntilAnswered),
        (json!(3), Resend::Once),
    ] {
        let head = antelope.world.head().await;
        let mut body = body(&[BOB]);
        body["flag"] = flag;
        assert_eq!(antelope.push_by(ANN, &body).await.0, 200);
        assert_eq!(antelope.accepted(head).await[0].1.resend, Some(resend));
    }
    let mut without = body(&[BOB]);
    without.as_object_mut().unwrap().remove("flag");
    let head = antelope.world.head().await;
    assert_eq!(antelope.push_by(ANN, &without).await.0, 200);
    assert_eq!(antelope.accepted(head).await[0].1.resend, Some(Resend::UntilAnswered));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_mistyped_parameters_are_400_and_store_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    let with = |name: &str, value: Value| {
        let mut body = body(&[BOB]);
        body[name] = value;
        body
    };
    let without = |name: &str| {
        let mut body = body(&[BOB]);
        body.as_object_mut().unwrap().remove(name);
        body
    };
    for body in [
        without("msg"),
        without("callback"),
        without("access_tokens"),
        with("msg", json!(null)),
        with("msg", json!(7)),
        with("msg", json!("hello!")),
        with("msg", json!("aGVsbG8")),
        with("msg", json!("aGVs bG8=")),
        // Good in the alphabet for URLs.
        with("msg", json!("-_-_")),
        with("flag", json!("2")),
        with("flag", json!(1)),
        with("flag", json!(4)),
        with("flag", json!(2.0)),
        with("callback", json!("1")),
        with("callback", json!(2)),
        with("callback", json!(true)),
        with("access_tokens", json!(token(BOB))),
        with("access_tokens", json!([BOB])),
        with("access_tokens", json!([null])),
        with("access_tokens", json!(vec![token(BOB); 1_001])),
        json!([]),
        json!("text"),
        json!(null),
    ] {
        let (status, answer) = antelope.push_by(ANN, &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
    }
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_access_token_refuses_the_whole_push_with_401() {
    let antelope = Antelope::new().await;
    let other = json!({ "appId": "other", "antelope": {
        "appId": "Othr", "appKeys": [OLD_KEY], "cidRanges": [[NOBODYS, NOBODYS]] } });
    assert_eq!(antelope.world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    let mut device = antelope.connect(BOB).await;
    let head = antelope.world.head().await;
    for bad in [
        String::new(),
        "wrong".to_owned(),
        sign(KEY, BOB, 0, 1),
        sign(KEY, NOBODYS, 0, EXPIRE),
        // It is valid, but of another app.
        sign(OLD_KEY, NOBODYS, 0, EXPIRE),
    ] {
        let mut body = body(&[BOB]);
        body["access_tokens"] = json!([token(BOB), bad]);
        let (status, answer) = antelope.push_by(ANN, &body).await;
        assert_eq!(status, 401, "{bad}: {answer}");
    }
    assert_eq!(antelope.world.head().await, head);
    antelope.push_by(HIGH, &body(&[BOB])).await;
    assert_eq!(message(&mut device).await.1, seen(HELLO, HIGH));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_256_bytes_at_most_once_decoded() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let antelope = Antelope::new().await;
    let mut device = antelope.connect(BOB).await;
    for (bytes, status) in [(0, 200), (1, 200), (255, 200), (256, 200), (257, 400), (300, 400)] {
        let mut body = body(&[BOB]);
        let msg = STANDARD.encode(vec![0xff; bytes]);
        body["msg"] = json!(msg);
        assert_eq!(antelope.push_by(ANN, &body).await.0, status, "{bytes}");
        if status == 200 {
            // As it came, to the byte.
            assert_eq!(message(&mut device).await.1, seen(&msg, ANN));
        }
    }
    antelope.world.stop().await;
}
