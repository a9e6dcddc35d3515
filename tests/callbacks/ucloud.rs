//! UCloud's two pushes, sentence by sentence.

use std::time::Duration;

use serde_json::{Value, json};
use sim::{Incoming, receiver::Answer};

use super::{
    called, called_in_time, configure, count, dead, hand_in, hand_in_numbers, hook, listed,
    numbers, post, post_for, receiver, replay, until_count,
};
use crate::harness::{PATIENCE, World};

/// Contents of all entries of a call.
fn contents(call: &sim::receiver::Called) -> Vec<String> {
    let body = call.json();
    let data = body["Data"].as_array().unwrap();
    data.iter().map(|entry| entry["ReplyContent"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uplink_of_a_phone_is_posted_in_the_documents_words() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/uplink?from=us") } })).await;
    let message = json!({ "id": "gw-1", "phone": "18512345678", "content": "好的，收到了",
        "extendCode": "12345", "userId": "you man c define the content by yrself",
        "replyTime": 1_573_552_778 });
    let (status, body) = post(&world.url, &json!({ "messages": [message] })).await;
    assert_eq!((status, body), (200, json!({ "accepted": 1, "repeated": 0 })));
    let calls = called(&server, 1).await;
    let wanted = concat!(
        r#"{"MsgType":0,"Data":[{"ExtendCode":"12345","#,
        r#""UserId":"you man c define the content by yrself","#,
        r#""Phone":"18512345678","ReplyContent":"好的，收到了","ReplyTime":1573552778}]}"#
    );
    assert_eq!(std::str::from_utf8(&calls[0].body).unwrap(), wanted);
    assert_eq!(calls[0].target, "/uplink?from=us");
    assert_eq!(calls[0].headers["content-type"], "application/json; charset=utf-8");
    until_count(&world, "answered", 1).await;
    assert!(listed(&world, "answered").await.is_empty(), "a good callback is a row");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_hands_in_again_adds_nothing_and_what_it_changes_is_refused() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let (first, second) = (("gw-1", "1", "TD"), ("gw-2", "2", "T"));
    assert_eq!(hand_in(&world.url, &[first]).await.1, json!({ "accepted": 1, "repeated": 0 }));
    let again = hand_in(&world.url, &[first, second]).await;
    assert_eq!(again, (200, json!({ "accepted": 1, "repeated": 1 })));
    let (status, body) = hand_in(&world.url, &[("gw-1", "1", "other")]).await;
    assert_eq!((status, &body["conflicts"]), (409, &json!(["gw-1"])));
    until_count(&world, "answered", 2).await;
    let all: Vec<String> = server.calls().iter().flat_map(contents).collect();
    assert_eq!(all, ["TD", "T"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_has_a_token_for_uplinks_alone_and_ids_of_its_own() {
    let world = World::new().await;
    let operator = json!({ "name": "gateway", "role": "uplink", "appId": "demo" });
    let (status, made, _) = world.admin.post("/admin/v1/operators", Some(&operator)).await.unwrap();
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    let client = reqwest::Client::new();
    let send = async |path: &str, body: Value| {
        let request = client.post(format!("{}{path}", world.url)).bearer_auth(token);
        let request = request.header("x-app-id", "demo").body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
    };
    let message = |content: &str| json!([{ "id": "1", "phone": "185", "content": content }]);
    let path = "/uplink/v1/messages";
    for (source, content, wanted) in [
        (json!("a"), "from a", (200, 1, 0)),
        (json!("b"), "from b", (200, 1, 0)),
        (Value::Null, "from nowhere", (200, 1, 0)),
        (json!("a"), "from a", (200, 0, 1)),
        (json!("b"), "from a", (409, 0, 0)),
    ] {
        let body = json!({ "source": source, "messages": message(content) });
        let (status, answer) = send(path, body).await;
        let counts = (status, answer["accepted"].as_i64(), answer["repeated"].as_i64());
        assert_eq!(counts, (wanted.0, Some(wanted.1), Some(wanted.2)), "{source} {content}");
    }
    let (status, _) = send(path, json!({ "source": "", "messages": message("x") })).await;
    assert_eq!(status, 400);
    let tokens = json!({ "userId": "u", "clientId": "c" });
    assert_eq!(send("/admin/v1/apps/demo/access-tokens", tokens).await.0, 403);
    assert_eq!(send("/graphql", json!({ "query": "{ __typename }" })).await.0, 403);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_an_uplink_is_refused_and_stores_nothing() {
    let world = World::new().await;
    let head = world.head().await;
    for body in [
        json!({}),
        json!({ "messages": [] }),
        json!({ "messages": [{ "id": "1", "phone": "1" }] }),
        json!({ "messages": [{ "id": "", "phone": "1", "content": "a" }] }),
        json!({ "messages": [{ "id": "1", "phone": "1", "content": "a".repeat(17_000) }] }),
    ] {
        let (status, answer) = post(&world.url, &body).await;
        assert_eq!((status, &answer["status"]), (400, &json!(400)), "{body}");
    }
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uplink_of_a_connected_device_is_durable_before_it_is_answered_and_called_back() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let mut say = async |frame: Value| {
        device.send_raw(frame.to_string()).await.unwrap();
        device.next_within(PATIENCE).await.unwrap()
    };
    let text = |incoming: Incoming| match incoming {
        Incoming::Unknown { text } => serde_json::from_str::<Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    let frame = json!({ "t": "uplink", "id": "u-1", "content": "hello", "userId": "ann" });
    let uplinked = json!({ "t": "uplinked", "id": "u-1" });
    assert_eq!(text(say(frame.clone()).await), uplinked);
    assert_eq!(text(say(frame).await), uplinked, "a repeated frame has the same answer");
    let other = say(json!({ "t": "uplink", "id": "u-1", "content": "bye" })).await;
    assert!(matches!(other, Incoming::Refused { .. }), "{other:?}");
    let json = json!({ "t": "uplink", "content": { "n": 1 } });
    assert_eq!(text(say(json).await), json!({ "t": "uplinked" }));
    until_count(&world, "answered", 2).await;
    let entries: Vec<Value> =
        server.calls().iter().flat_map(|c| c.json()["Data"].as_array().unwrap().clone()).collect();
    assert_eq!(entries[0]["Phone"], "c-1");
    assert_eq!(entries[0]["UserId"], "ann");
    assert_eq!(entries[0]["ReplyContent"], "hello");
    assert_eq!(entries[1]["ReplyContent"], r#"{"n":1}"#);
    assert_eq!(entries.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_together_goes_in_batches_of_at_most_200_and_in_order() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let ids: Vec<String> = (0..450).map(|n| format!("gw-{n}")).collect();
    let uplinks: Vec<_> = ids.iter().map(|id| (id.as_str(), "185", id.as_str())).collect();
    assert_eq!(hand_in(&world.url, &uplinks).await.0, 200);
    until_count(&world, "answered", 450).await;
    let calls = server.calls();
    assert!(calls.iter().all(|call| (1..=200).contains(&contents(call).len())));
    assert!(calls.len() < 100, "{} calls for 450 uplinks", calls.len());
    assert_eq!(calls.iter().flat_map(contents).collect::<Vec<_>>(), ids);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_push_goes_out_three_more_times_a_second_apart_and_then_waits_for_an_operator() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    server.answer(Answer::Status(200, r#"{"code":7,"message":"no"}"#.to_owned()));
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "185", "one"), ("gw-2", "186", "two")]).await;
    let calls = called_in_time(&world, &server, 4).await;
    until_count(&world, "given_up", 2).await;
    assert_eq!(server.count(), 4, "it went on");
    for pair in calls.windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!((1_000_000..1_500_000).contains(&gap), "{gap} µs apart");
        assert_eq!(pair[0].body, pair[1].body, "the body changed");
        assert_eq!(pair[0].headers["x-entry-ids"], pair[1].headers["x-entry-ids"]);
    }
    let rows = listed(&world, "given_up").await;
    let shown = |row: &Value| (row["calls"].clone(), row["reason"].clone(), row["status"].clone());
    assert!(rows.iter().all(|row| shown(row) == (json!(4), json!("refused"), json!(200))));
    // The receiver is mended: first one is asked for again, then the rest.
    server.answer(Answer::ok());
    replay(&world, &rows[0]["receiver"], Some(json!([rows[1]["position"]]))).await;
    let calls = called(&server, 5).await;
    assert_eq!(contents(&calls[4]), ["one"]);
    replay(&world, &rows[0]["receiver"], None).await;
    let calls = called(&server, 6).await;
    assert_eq!(contents(&calls[5]), ["two"]);
    until_count(&world, "answered", 2).await;
    assert_eq!(count(&world.admin, "given_up").await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_by_its_status_and_by_its_code_however_that_is_written() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let code = r#"{"code":0,"message":"ok"}"#;
    let as_printed = "{\n    code: 0,\n    message: \"ok\"\n}";
    let (mut calls, mut again) = (0, 0);
    for (number, (status, body, is_success)) in [
        (200, code, true),
        (201, code, true),
        (200, r#"{"code":"0"}"#, true),
        (200, as_printed, true),
        (500, code, false),
        (404, code, false),
        (200, r#"{"code":7,"message":"no"}"#, false),
        (200, r#"{"message":"ok"}"#, false),
        (200, "ok", false),
        (200, "", false),
    ]
    .into_iter()
    .enumerate()
    {
        server.plan([Answer::Status(status, body.to_owned())]);
        hand_in(&world.url, &[(&format!("gw-{number}"), "185", "hello")]).await;
        (calls, again) = if is_success { (calls + 1, again) } else { (calls + 2, again + 1) };
        called_in_time(&world, &server, calls).await;
        until_count(&world, "answered", i64::try_from(number).unwrap() + 1).await;
        // What was answered at its first call is counted alone.
        assert_eq!(listed(&world, "answered").await.len(), again, "{status} {body}");
    }
    assert_eq!(server.count(), calls);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_64_kib_is_read_and_a_longer_one_is_none() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let long =
        |bytes: usize| Answer::Status(200, r#"{"code":0}"#.to_owned() + &" ".repeat(bytes - 10));
    server.plan([long(64 * 1024), long(64 * 1024 + 1)]);
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    until_count(&world, "answered", 1).await;
    assert!(listed(&world, "answered").await.is_empty(), "64 KiB were not read");
    hand_in(&world.url, &[("gw-2", "185", "hello")]).await;
    called_in_time(&world, &server, 3).await;
    until_count(&world, "answered", 2).await;
    let row = &listed(&world, "answered").await[0];
    assert_eq!((&row["calls"], &row["attempts"][0]["reason"]), (&json!(2), &json!("too_long")));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_before_the_next_push_counts_from_the_answer() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    let (held, go) = Answer::held(500);
    server.plan([held]);
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    let begun = called(&server, 1).await[0].at;
    world.clock.advance(Duration::from_millis(1_500));
    let answered = world.clock.now();
    go.notify_one();
    let again = called_in_time(&world, &server, 2).await[1].at;
    assert!(again >= answered + 1_000_000, "{} µs after its begin", again - begun);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_during_a_push_goes_together_in_the_next_one() {
    let world = World::new().await;
    let (server, witness) = (receiver(&world).await, receiver(&world).await);
    let (held, go) = Answer::held(200);
    server.plan([held]);
    hook(&world, &witness.url("/")).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in_numbers(&world.url, 0..1).await;
    called(&server, 1).await;
    for number in 1..7 {
        hand_in_numbers(&world.url, number..number + 1).await;
    }
    // Once the webhook is called about the last one, those before it wait for this receiver too.
    called(&witness, 7).await;
    go.notify_one();
    let calls = called(&server, 2).await;
    let next = numbers(&calls[1..2]);
    assert!(next.starts_with(&[1, 2, 3, 4, 5]), "{next:?}");
    until_count(&world, "answered", 14).await;
    assert_eq!(numbers(&server.calls()), (0..7).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_has_no_more_than_a_mebibyte_of_entries() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    // What waits for a dead receiver follows all together.
    dead(&world, &server, 4).await;
    let long = "a".repeat(16 * 1024);
    let ids: Vec<String> = (0..200).map(|n| format!("gw-{n}")).collect();
    for some in ids.chunks(50) {
        let uplinks: Vec<_> = some.iter().map(|id| (id.as_str(), "1", long.as_str())).collect();
        assert_eq!(hand_in(&world.url, &uplinks).await.0, 200);
    }
    until_count(&world, "postponed", 201).await;
    server.answer(Answer::ok());
    called_in_time(&world, &server, 13).await;
    until_count(&world, "answered", 201).await;
    let calls = server.calls().split_off(12);
    let entries = |call: &sim::receiver::Called| contents(call).len();
    assert_eq!(calls.iter().map(entries).sum::<usize>(), 201);
    // An entry has some 60 bytes beside its content.
    assert!(calls.iter().all(|call| entries(call) <= 63 && call.body.len() <= 1024 * 1024));
    assert!(calls.iter().any(|call| entries(call) == 63), "none was full");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_at_most_1000_messages_of_16_kib_with_names_of_200_bytes_in_1_mib() {
    let world = World::new().await;
    let message = |number: usize| json!({ "id": format!("{number}"), "phone": "1", "content": "" });
    let many =
        |messages: usize| json!({ "messages": (0..messages).map(message).collect::<Vec<_>>() });
    let with = |name: &str, length: usize| {
        let mut message = json!({ "id": name, "phone": "1", "content": "a" });
        message[name] = json!("a".repeat(length));
        json!({ "messages": [message] })
    };
    let mut refused = vec![many(1_001), with("content", 16 * 1024 + 1)];
    for name in ["id", "phone", "extendCode", "userId"] {
        refused.push(with(name, 201));
    }
    let head = world.head().await;
    for body in refused {
        let (status, answer) = post(&world.url, &body).await;
        assert_eq!((status, &answer["status"]), (400, &json!(400)), "{answer}");
    }
    // White space counts.
    let spaced = |bytes: usize| {
        let body = with("content", 1).to_string();
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let send = async |body: String| post_for("demo", &world.url, body).await.0;
    assert_eq!(send(spaced((1 << 20) + 1)).await, 413);
    assert_eq!(world.head().await, head);
    assert_eq!(send(spaced(1 << 20)).await, 200);
    assert_eq!(post(&world.url, &many(1_000)).await.1["accepted"], 1_000);
    for (name, length) in
        [("content", 16 * 1024), ("id", 200), ("phone", 200), ("extendCode", 200), ("userId", 200)]
    {
        let mut body = with(name, length);
        if name != "id" {
            // The one with white space has taken the field's name for its id.
            body["messages"][0]["id"] = json!(format!("longest-{name}"));
        }
        let taken = post(&world.url, &body).await;
        assert_eq!(taken, (200, json!({ "accepted": 1, "repeated": 0 })), "{name}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_named_by_what_it_says_or_by_its_address_in_its_protocol() {
    let antelope = crate::antelope::Antelope::new().await;
    let mut number = antelope.connect(crate::antelope::ANN).await;
    let tencent = crate::tencent::Tencent::of(antelope.world, json!({})).await;
    let mut phone = tencent.connect("bob", "bobs-phone").await;
    let world = &tencent.world;
    let server = receiver(world).await;
    configure(world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let mut terminal = world.connect(&world.register("c-1").await).await;
    let said = json!({ "t": "uplink", "content": "a", "phone": "18512345678" });
    let unsaid = json!({ "t": "uplink", "content": "a" });
    let mut phones = Vec::new();
    let mut say = async |device: &mut sim::Device, frame: &Value| {
        device.send_raw(frame.to_string()).await.unwrap();
        let answer = device.next_within(PATIENCE).await;
        assert!(matches!(&answer, Some(Incoming::Unknown { text }) if text.contains("uplinked")));
        let body = called(&server, phones.len() + 1).await[phones.len()].json();
        phones.push(body["Data"][0]["Phone"].as_str().unwrap().to_owned());
    };
    say(&mut terminal, &said).await;
    say(&mut terminal, &unsaid).await;
    say(&mut phone, &unsaid).await;
    // Whatever it says: its number is all that its protocol knows of it.
    say(&mut number, &said).await;
    let cid = crate::antelope::ANN.to_string();
    assert_eq!(phones, ["18512345678", "c-1", "bobs-phone", &cid]);
    tencent.world.stop().await;
}
