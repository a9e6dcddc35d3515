//! UCloud's two pushes, sentence by sentence.

use serde_json::{Value, json};
use sim::{Incoming, receiver::Answer};

use super::{
    called, called_in_time, configure, count, hand_in, listed, post, receiver, replay, until_count,
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
async fn a_report_says_what_became_of_each_delivery() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "reportUrl": server.url("/report") } })).await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let id = world.push("c-1", json!({ "n": 1 })).await;
    let message = device.next_within(PATIENCE).await.unwrap();
    assert!(matches!(message, Incoming::Message { .. }), "{message:?}");
    let calls = called(&server, 1).await;
    let body = calls[0].json();
    let entry = &body["Data"][0];
    assert_eq!((&body["MsgType"], &entry["SessionNo"]), (&json!(2), &json!(id)));
    assert_eq!((&entry["Phone"], &entry["CostCount"]), (&json!("c-1"), &json!(1)));
    assert_eq!(entry["ReceiptResult"], "发送成功");
    assert_eq!((&entry["ReceiptCode"], &entry["ReceiptDesc"]), (&json!("Delivrd"), &json!("ok")));
    assert!(entry["ReceiptTime"].as_i64().unwrap() > 1_700_000_000);
    // Displaying it later is no second report.
    device.report(&id, 3).await.unwrap();
    world.until_status(&id, 3).await;
    device.close().await.unwrap();
    let away = world.push("c-1", json!({ "n": 2 })).await;
    let path = format!("/admin/v1/apps/demo/messages/{away}/recall");
    assert_eq!(world.admin.post(&path, None).await.unwrap().0, 200);
    let calls = called(&server, 2).await;
    let entry = &calls[1].json()["Data"][0];
    assert_eq!((&entry["SessionNo"], &entry["ReceiptResult"]), (&json!(away), &json!("发送失败")));
    world.stop().await;
}
