//! `/v2/message/server/push`: the app's server pushes in its own name, or in that of devices.

use domain::{
    message::{Ending, Protocol, Sender, Stage},
    resend::Resend,
    route::Strategy,
};
use serde_json::{Value, json};

use super::{ANN, APP_ID, Antelope, BOB, HELLO, HIGH, KEY, NOBODYS, OLD_KEY, message, seen};

const PATH: &str = "/v2/message/server/push";

fn batch(clients: Value) -> Value {
    json!({ "proxy": 0, "payload": { "msg": HELLO, "flag": 3, "clients": clients } })
}

fn proxied(messages: &[(u32, u32)]) -> Value {
    let item = |&(from, to): &_| json!({ "from": from, "to": to, "flag": 3, "msg": HELLO });
    json!({ "proxy": 1, "payload": messages.iter().map(item).collect::<Vec<_>>() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_reaches_each_device_as_from_no_device() {
    let antelope = Antelope::new().await;
    let mut devices = [antelope.connect(BOB).await, antelope.connect(HIGH).await];
    let head = antelope.world.head().await;
    let (status, answer) = antelope.push(&batch(json!([BOB, HIGH, BOB]))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    let accepted = antelope.accepted(head).await;
    let [(id, event)] = &accepted[..] else { panic!("{accepted:?}") };
    assert_eq!((event.protocol, event.sender), (Protocol::Antelope, Sender::Cloud));
    assert_eq!((event.strategy, event.resend), (Strategy::PresentOnly, Some(Resend::Once)));
    assert_eq!((event.targets.len(), event.callback), (2, false));
    for (device, cid) in devices.iter_mut().zip([BOB, HIGH]) {
        assert_eq!(message(device).await, (id.to_string(), seen(HELLO, 0)));
        device.next_within(std::time::Duration::from_millis(1)).await;
        antelope.until(*id, cid, |delivery| delivery.stage == Stage::Received).await;
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proxied_messages_come_from_their_devices_and_each_is_one_event() {
    let antelope = Antelope::new().await;
    let (mut bob, mut ann) = (antelope.connect(BOB).await, antelope.connect(ANN).await);
    let head = antelope.world.head().await;
    // A device that sends need not have connected.
    let (status, answer) = antelope.push(&proxied(&[(ANN, BOB), (HIGH, BOB), (BOB, ANN)])).await;
    assert_eq!(status, 200, "{answer}");
    let accepted = antelope.accepted(head).await;
    assert_eq!(accepted.len(), 3);
    assert!(accepted.iter().all(|(_, event)| event.sender == Sender::Terminal));
    assert_eq!(message(&mut bob).await.1, seen(HELLO, ANN));
    assert_eq!(message(&mut bob).await.1, seen(HELLO, HIGH));
    assert_eq!(message(&mut ann).await.1, seen(HELLO, BOB));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_push_is_a_success_that_stores_no_message() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    assert_eq!(antelope.push(&proxied(&[])).await.0, 200);
    assert_eq!(antelope.world.head().await, head);
    assert_eq!(antelope.push(&batch(json!([]))).await.0, 200);
    let accepted = antelope.accepted(head).await;
    assert_eq!((accepted.len(), accepted[0].1.targets.len()), (1, 0));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_unknown_or_away_is_no_error_and_the_message_says_why() {
    let antelope = Antelope::new().await;
    drop(antelope.connect(BOB).await);
    let number = antelope.number(BOB).await;
    let server = &antelope.world.running.server;
    crate::harness::until("it stays", async || !server.hub.connected(number)).await;
    let (id, event) = antelope.push_to(&[BOB, ANN], 2).await;
    assert_eq!((event.targets.len(), event.unresolved), (1, 1));
    antelope.until(id, BOB, |delivery| delivery.ended == Some(Ending::NotPresent)).await;
    // Nothing is kept: what it gets when it comes back is what is pushed then.
    let mut device = antelope.connect(BOB).await;
    let (next, _) = antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut device).await.0, next.to_string());
    let query = format!(
        "{{ app(appId: \"demo\") {{ message(id: \"{id}\") \
         {{ protocol sender unresolved deliveries {{ stage ended }} }} }} }}"
    );
    let shown = antelope.world.graphql(&query).await;
    assert_eq!(
        shown["app"]["message"],
        json!({ "protocol": "ANTELOPE", "sender": "CLOUD", "unresolved": 1,
                "deliveries": [{ "stage": "ACCEPTED", "ended": "NOT_PRESENT" }] })
    );
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_outside_the_apps_ranges_is_400_and_the_whole_push_stores_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    for cid in [0, 1, 4_999_999, 5_010_000, NOBODYS, HIGH - 1, HIGH + 10, u32::MAX] {
        assert_eq!(antelope.push(&batch(json!([BOB, cid]))).await.0, 400, "{cid}");
        assert_eq!(antelope.push(&proxied(&[(ANN, BOB), (ANN, cid)])).await.0, 400, "{cid}");
        assert_eq!(antelope.push(&proxied(&[(ANN, BOB), (cid, BOB)])).await.0, 400, "{cid}");
    }
    assert_eq!(antelope.world.head().await, head);
    for cid in [5_000_000, 5_009_999, HIGH, HIGH + 9] {
        assert_eq!(antelope.push(&batch(json!([cid]))).await.0, 200, "{cid}");
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_mistyped_parameters_are_400_and_store_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    let payload = batch(json!([BOB]))["payload"].clone();
    let item = proxied(&[(ANN, BOB)])["payload"][0].clone();
    let without = |of: &Value, name: &str| {
        let mut of = of.clone();
        of.as_object_mut().unwrap().remove(name);
        of
    };
    let with = |of: &Value, name: &str, value: Value| {
        let mut of = of.clone();
        of[name] = value;
        of
    };
    let of = |proxy: i64, payload: Value| json!({ "proxy": proxy, "payload": payload });
    let one = |item: Value| of(1, json!([item]));
    let long = "A".repeat(344);
    let mut wrong = vec![
        json!({ "payload": payload }),
        json!({ "proxy": 0 }),
        json!({ "proxy": "0", "payload": payload }),
        json!({ "proxy": null, "payload": payload }),
        of(2, payload.clone()),
        of(-1, payload.clone()),
        of(1, payload.clone()),
        of(0, json!([item])),
        of(0, json!(null)),
        of(0, with(&payload, "clients", json!("5003062"))),
        of(0, with(&payload, "clients", json!(["5003062"]))),
        of(0, with(&payload, "clients", json!([5_003_062.5]))),
        of(0, with(&payload, "clients", json!([-1]))),
        of(0, with(&payload, "clients", json!([4_294_967_296_i64]))),
        of(0, with(&payload, "clients", json!(vec![BOB; 1_001]))),
        of(1, json!(vec![item.clone(); 201])),
        one(with(&item, "from", json!("5000001"))),
        one(with(&item, "to", json!([BOB]))),
        one(json!(null)),
        one(json!([ANN, BOB, 2, HELLO])),
        of(0, json!([HELLO, 2, [BOB]])),
    ];
    for name in ["msg", "clients"] {
        wrong.push(of(0, without(&payload, name)));
    }
    for name in ["msg", "from", "to"] {
        wrong.push(one(without(&item, name)));
    }
    for (name, value) in [
        ("msg", json!("?")),
        ("msg", json!(1)),
        ("msg", json!(long)),
        ("flag", json!(1)),
        ("flag", json!("3")),
    ] {
        wrong.push(of(0, with(&payload, name, value.clone())));
        wrong.push(one(with(&item, name, value)));
    }
    for body in wrong {
        let (status, answer) = antelope.push(&body).await;
        assert_eq!(status, 400, "{body:.200}: {answer}");
    }
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_shows_its_id_and_any_of_its_keys_or_is_401() {
    let antelope = Antelope::new().await;
    let body = batch(json!([BOB])).to_string().into_bytes();
    let call = async |id: Option<&str>, key: Option<&str>| {
        let headers: Vec<(&str, &str)> = id
            .map(|id| ("X-APP-ID", id))
            .into_iter()
            .chain(key.map(|key| ("X-APP-Key", key)))
            .collect();
        antelope.raw("POST", PATH, &headers, &body).await.0
    };
    assert_eq!(call(Some(APP_ID), Some(KEY)).await, 200);
    assert_eq!(call(Some(APP_ID), Some(OLD_KEY)).await, 200);
    let head = antelope.world.head().await;
    let cut = &KEY[..31];
    for (id, key) in [
        (None, None),
        (Some(APP_ID), None),
        (None, Some(KEY)),
        (Some(APP_ID), Some("")),
        (Some(APP_ID), Some(cut)),
        (Some(APP_ID), Some("0123456789ABCDEF0123456789ABCDEF")),
        (Some("demo"), Some(KEY)),
        (Some("DEMO"), Some(KEY)),
        (Some(""), Some(KEY)),
    ] {
        assert_eq!(call(id, key).await, 401, "{id:?} {key:?}");
    }
    // A device's token is none of a server's credentials.
    let token = super::token(ANN);
    assert_eq!(antelope.raw("POST", PATH, &[("X-Client-Token", &token)], &body).await.0, 401);
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_app_is_401() {
    let antelope = Antelope::new().await;
    antelope.world.admin.delete("/admin/v1/apps/demo", None).await.unwrap();
    assert_eq!(antelope.push(&batch(json!([BOB]))).await.0, 401);
    antelope.world.stop().await;
}
