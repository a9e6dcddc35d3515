//! What holds for every kind: receivers that are slow, wrong, dead or lie, and a server that dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sim::{
    Admin,
    receiver::{Answer, Called, Receiver},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    called, called_in_time, configure, contents, count, dead, hand_in, hook, listed, post_for,
    receiver, replay, until_count,
};
use crate::{
    harness::{ADMIN_TOKEN, PATIENCE, Place, Process, World, until},
    tencent::{self, IMPORT_MANY, SENDMSG, message, target},
    vendors::Post,
};

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_answer_badly_has_a_reason_and_none_leads_elsewhere() {
    let world = World::with_clock().await;
    let (server, elsewhere) = (receiver(&world).await, receiver(&world).await);
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let to = elsewhere.url("/stolen");
    for (number, (answer, reason)) in [
        (Answer::Status(500, String::new()), "status"),
        (Answer::Status(200, "no JSON".to_owned()), "refused"),
        (Answer::With(302, "location", to), "redirected"),
        (Answer::Flood(1 << 20), "too_long"),
        (Answer::Cut, "unreachable"),
    ]
    .into_iter()
    .enumerate()
    {
        // One answer well in between: no circuit is to open here.
        server.plan([Answer::ok(), answer.clone(), answer.clone(), answer.clone(), answer]);
        let before = server.count();
        hand_in(&world.url, &[(&format!("ok-{number}"), "1", "fine")]).await;
        called(&server, before + 1).await;
        hand_in(&world.url, &[(&format!("bad-{number}"), "1", "bad")]).await;
        called_in_time(&world, &server, before + 5).await;
        until_count(&world, "given_up", 1 + i64::try_from(number).unwrap()).await;
        assert_eq!(listed(&world, "given_up").await[0]["reason"], reason);
    }
    assert_eq!(elsewhere.count(), 0, "a redirect was followed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_is_waited_for_5_seconds_and_called_again() {
    let world = World::new().await;
    let server = receiver(&world).await;
    server.plan([Answer::Silence]);
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "hello")]).await;
    let calls = called(&server, 2).await;
    let gap = calls[1].at - calls[0].at;
    assert!((5_900_000..10_000_000).contains(&gap), "{gap} µs for 5 s and a pause of 1 s");
    until_count(&world, "answered", 1).await;
    assert_eq!(listed(&world, "answered").await[0]["calls"], 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_what_was_called_answered_and_given_up() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    let no = Answer::Status(503, String::new());
    server.plan([Answer::ok(), no.clone(), no.clone(), no.clone(), no]);
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "good")]).await;
    called(&server, 1).await;
    hand_in(&world.url, &[("gw-2", "1", "bad")]).await;
    called_in_time(&world, &server, 5).await;
    until_count(&world, "given_up", 1).await;
    until_count(&world, "answered", 1).await;
    let query = json!({ "query": "{ app(appId: \"demo\") { \
        callbacks(outcome: GIVEN_UP) { nodes { kind calls reason status \
            attempts { at latencyMs status reason } } pageInfo { hasNextPage } } \
        callbackCounts { outcome callbacks } } }" });
    let (status, answer, _) = world.admin.post("/graphql", Some(&query)).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let mut app = answer["data"]["app"].clone();
    // Each call, a second after the one before.
    let attempts = app["callbacks"]["nodes"][0].as_object_mut().unwrap().remove("attempts");
    let attempts: Vec<Value> = serde_json::from_value(attempts.unwrap()).unwrap();
    let at = |attempt: &Value| attempt["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(attempts.len(), 4);
    assert!(
        attempts.windows(2).all(|pair| (at(&pair[1]) - at(&pair[0])).num_milliseconds() >= 1_000)
    );
    for attempt in &attempts {
        assert_eq!((&attempt["status"], &attempt["reason"]), (&json!(503), &json!("status")));
        assert!((0..20_000).contains(&attempt["latencyMs"].as_i64().unwrap()), "{attempt}");
    }
    // The admin API lists the same.
    let wanted = attempts.iter().map(|own| {
        json!({ "at": at(own).timestamp_millis(), "latencyMs": own["latencyMs"],
                "status": 503, "reason": "status" })
    });
    let wanted: Vec<Value> = wanted.collect();
    assert_eq!(listed(&world, "given_up").await[0]["attempts"], json!(wanted));
    let node = json!({ "kind": "ucloud_uplink", "calls": 4, "reason": "status", "status": 503 });
    assert_eq!(app["callbacks"], json!({ "nodes": [node], "pageInfo": { "hasNextPage": false } }));
    let count = |outcome: &str| json!({ "outcome": outcome, "callbacks": 1 });
    assert_eq!(app["callbackCounts"], json!([count("ANSWERED"), count("GIVEN_UP")]));
    let metrics = world.running.server.metrics.render();
    for line in [
        "pushledger_callbacks_total{kind=\"ucloud_uplink\",outcome=\"answered\",reason=\"\"} 1",
        "pushledger_callbacks_total{kind=\"ucloud_uplink\",outcome=\"given_up\",reason=\"status\"} 1",
        "pushledger_callback_calls_total{kind=\"ucloud_uplink\",answered=\"yes\"} 5",
        "pushledger_callback_call_seconds_count{kind=\"ucloud_uplink\"} 5",
        "pushledger_circuits_open 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_makes_no_callback_twice() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    let ids: Vec<String> = (0..100).map(|n| format!("gw-{n}")).collect();
    let uplinks: Vec<_> = ids.iter().map(|id| (id.as_str(), "1", id.as_str())).collect();
    hand_in(&world.url, &uplinks).await;
    called(&server, 1).await;
    let world = world.restart().await;
    until_count(&world, "answered", 100).await;
    assert_eq!(contents(&server.calls()), ids);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_allowed_is_not_called() {
    let world = World::with_clock().await;
    configure(&world, json!({ "uplink": { "callbackUrl": "http://169.254.169.254/latest" } }))
        .await;
    hand_in(&world.url, &[("gw-1", "1", "secret")]).await;
    until("it was not given up", async || {
        world.clock.advance(Duration::from_millis(20));
        count(&world.admin, "given_up").await == 1
    })
    .await;
    assert_eq!(listed(&world, "given_up").await[0]["reason"], "not_allowed");
    world.stop().await;
}

/// Everything that one connection says that gets no answer, until it is closed.
async fn said(listener: &TcpListener) -> Vec<u8> {
    let heard = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 3];
        stream.read_exact(&mut heard).await.unwrap();
        // Whoever speaks in clear says all at once; a handshake ends with an answer that is none.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        // A caller that sees what this is may cut the connection.
        let _ = stream.read_to_end(&mut heard).await;
        heard
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("nobody called")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_url_is_called_over_tls_and_nothing_of_it_goes_out_in_clear() {
    let world = World::with_clock().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/in-private", listener.local_addr().unwrap());
    configure(&world, json!({ "uplink": { "callbackUrl": url } })).await;
    hand_in(&world.url, &[("gw-1", "1", "secret")]).await;
    let heard = said(&listener).await;
    // A record of a handshake, of TLS 1.0 or later.
    assert_eq!(heard[..2], [22, 3], "{heard:?}");
    for word in ["POST", "in-private", "secret"] {
        let is_there = heard.windows(word.len()).any(|some| some == word.as_bytes());
        assert!(!is_there, "{word} went out in clear");
    }
    drop(listener);
    until("it was not given up", async || {
        world.clock.advance(Duration::from_millis(20));
        count(&world.admin, "given_up").await == 1
    })
    .await;
    assert_eq!(listed(&world, "given_up").await[0]["reason"], "unreachable");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_nobody_vouches_for_is_told_nothing() {
    let Post { world, jpush } = Post::new().await;
    // It answers over TLS whatever is asked, under a certificate that signs itself.
    configure(&world, json!({ "uplink": { "callbackUrl": jpush.tls_url() } })).await;
    hand_in(&world.url, &[("gw-1", "1", "secret")]).await;
    until("it was not given up", async || {
        world.clock.advance(Duration::from_millis(20));
        count(&world.admin, "given_up").await == 1
    })
    .await;
    let row = &listed(&world, "given_up").await[0];
    assert_eq!((&row["reason"], &row["calls"]), (&json!("unreachable"), &json!(4)));
    assert_eq!(jpush.requests().len(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_url_under_another_app_is_another_receiver() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    let uplink = json!({ "callbackUrl": server.url("/") });
    configure(&world, json!({ "uplink": uplink })).await;
    dead(&world, &server, 5).await;
    let other = json!({ "appId": "other", "uplink": uplink });
    assert_eq!(world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    server.answer(Answer::ok());
    let body = json!({ "messages": [{ "id": "gw-1", "phone": "1", "content": "of the other" }] });
    assert_eq!(post_for("other", &world.url, body.to_string()).await.0, 200);
    // The clock stands still: one is left alone, the other is not.
    assert_eq!(contents(&called(&server, 13).await[12..]), ["of the other"]);
    assert_eq!(count(&world.admin, "postponed").await, 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_configured_before_an_event_is_read_hears_of_it() {
    let world = World::with_clock().await;
    let (server, witness) = (receiver(&world).await, receiver(&world).await);
    hook(&world, &witness.url("/")).await;
    hand_in(&world.url, &[("gw-1", "1", "early")]).await;
    // It is read by now.
    called(&witness, 1).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-2", "1", "late")]).await;
    assert_eq!(contents(&called(&server, 1).await), ["late"]);
    // The webhook's two, and this one.
    until_count(&world, "answered", 3).await;
    // As if the server had been down since before the first.
    let clock = world.clock.clone();
    let world = super::stops::forgotten(world.stop().await, clock).await;
    assert_eq!(contents(&called(&server, 2).await[1..]), ["early"]);
    until_count(&world, "answered", 4).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_is_left_alone_and_gets_everything_in_order_once_it_is_back() {
    let world = World::with_clock().await;
    let (dead, alive) = (receiver(&world).await, receiver(&world).await);
    dead.answer(Answer::Status(500, String::new()));
    hook(&world, &alive.url("/")).await;
    configure(&world, json!({ "uplink": { "callbackUrl": dead.url("/") } })).await;
    let mut said = Vec::new();
    // Each is given up after its four calls, until the circuit opens at the tenth.
    for number in 0..3 {
        said.push(format!("{number}"));
        hand_in(&world.url, &[(&format!("gw-{number}"), "1", &said[number])]).await;
        called_in_time(&world, &dead, (number * 4 + 4).min(12)).await;
    }
    until_count(&world, "given_up", 3).await;
    for number in 3..40 {
        said.push(format!("{number}"));
        hand_in(&world.url, &[(&format!("gw-{number}"), "1", &said[number])]).await;
    }
    // Nobody else waits for it.
    called(&alive, 40).await;
    until_count(&world, "postponed", 37).await;
    assert_eq!(dead.count(), 12, "it was not left alone");
    assert!(listed(&world, "postponed").await.iter().all(|row| row["reason"] == "circuit_open"));
    // It comes back. One callback finds out, then the rest follows, and what was given up is asked
    // for.
    dead.answer(Answer::ok());
    until("it never got what waited", async || {
        world.clock.advance(Duration::from_millis(100));
        // What comes meanwhile does not overtake.
        if said.len() < 80 {
            let text = said.len().to_string();
            hand_in(&world.url, &[(&format!("gw-{text}"), "1", &text)]).await;
            said.push(text);
        }
        contents(&dead.calls()[12..]).len() >= 77
    })
    .await;
    assert_eq!(contents(&dead.calls()[12..]), said[3..]);
    until_count(&world, "postponed", 0).await;
    let rows = listed(&world, "given_up").await;
    replay(&world, &rows[0]["receiver"], None).await;
    // The answers to 80 webhooks are counted too.
    until_count(&world, "answered", 160).await;
    assert_eq!(contents(&dead.calls()[12..])[77..], said[..3]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_goes_on_when_the_one_that_calls_stops() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "first")]).await;
    called(&server, 1).await;
    let second = world.second().await;
    let url = format!("http://{}", second.address);
    let place = world.stop().await;
    hand_in(&url, &[("gw-2", "1", "second")]).await;
    let calls = called(&server, 2).await;
    assert_eq!(contents(&calls), ["first", "second"]);
    second.shutdown().await;
    drop(place);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_receiver_outlives_a_restart() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    server.answer(Answer::Status(500, String::new()));
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "first")]).await;
    called(&server, 1).await;
    // Its pause is not over: it waits in the view, and the second behind it.
    let world = world.restart().await;
    server.answer(Answer::ok());
    hand_in(&world.url, &[("gw-2", "1", "second")]).await;
    called_in_time(&world, &server, 2).await;
    until_count(&world, "answered", 2).await;
    assert_eq!(contents(&server.calls()[1..]), ["first", "second"]);
    world.stop().await;
}

/// A call of Tencent's protocol that has to succeed.
async fn tell(url: &str, path: &str, body: &Value) -> Value {
    let call = reqwest::Client::new().post(format!("{url}{}", target(path)));
    let answer = call.body(body.to_string()).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["ErrorCode"], 0, "{answer}");
    answer
}

/// Whether calls about so many events have as many ids, and the same bytes each time.
fn doubles_are_the_same(calls: &[Called], header: &str, events: usize) {
    let mut by_id = BTreeMap::new();
    for call in calls {
        let first = by_id.entry(call.headers[header].clone()).or_insert(call.body.clone());
        assert_eq!(*first, call.body, "a double is another");
    }
    assert_eq!(by_id.len(), events, "an event has two ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_a_call_and_its_record_loses_nothing_and_doubles_have_the_same_id() {
    let place = Place::new().await;
    let server = Receiver::start(|| 0).await.unwrap();
    let mut process = Process::start(&place).await;
    let admin = Admin::new(process.url(), ADMIN_TOKEN);
    let chat = Receiver::start(|| 0).await.unwrap();
    let mut section = tencent::section();
    section["callbackUrl"] = json!(chat.url("/im"));
    section["callbacks"] = json!(["C2C.CallbackAfterSendMsg"]);
    let app = json!({ "appId": "demo", "uplink": { "callbackUrl": server.url("/") },
                      "tencent": section });
    assert_eq!(admin.post("/admin/v1/apps", Some(&app)).await.unwrap().0, 201);
    let accounts = json!({ "Accounts": ["Ann", "bob"] });
    tell(&process.url(), IMPORT_MANY, &accounts).await;
    let hooked = Receiver::start(|| 0).await.unwrap();
    let hook = json!({ "url": hooked.url("/"), "events": ["uplink.*"] });
    assert_eq!(admin.post("/admin/v1/apps/demo/webhooks", Some(&hook)).await.unwrap().0, 201);
    let (mut said, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..3 {
        for number in 0..20 {
            let sent = tell(&process.url(), SENDMSG, &message(round * 20 + number)).await;
            keys.insert(sent["MsgKey"].as_str().unwrap().to_owned());
        }
        let ids: Vec<String> = (0..50).map(|n| format!("{round}-{n}")).collect();
        let uplinks: Vec<_> = ids.iter().map(|id| (id.as_str(), "1", id.as_str())).collect();
        assert_eq!(hand_in(&process.url(), &uplinks).await.0, 200);
        said.extend(ids.iter().cloned());
        // At least one call came; whether it was recorded is left to chance.
        let calls = usize::try_from(round).unwrap() + 1;
        server.after(calls, PATIENCE).await.expect("no call came");
        process.kill();
        process = Process::start(&place).await;
    }
    let got = async || contents(&server.calls()).into_iter().collect::<BTreeSet<_>>() == said;
    until("something was lost", got).await;
    let key = |call: &Called| call.json()["MsgKey"].as_str().unwrap().to_owned();
    let got = async || chat.calls().iter().map(key).collect::<BTreeSet<_>>() == keys;
    until("a callback about a message was lost", got).await;
    doubles_are_the_same(&chat.calls(), "x-entry-ids", keys.len());
    let hook_said = |call: &Called| {
        let content = call.json()["data"]["private"]["content"].clone();
        content.as_str().unwrap().to_owned()
    };
    let got = async || hooked.calls().iter().map(hook_said).collect::<BTreeSet<_>>() == said;
    until("a webhook was lost", got).await;
    doubles_are_the_same(&hooked.calls(), "webhook-id", said.len());
    let mut by_id = BTreeMap::new();
    for call in server.calls() {
        let body = call.json();
        let entries = body["Data"].as_array().unwrap().iter();
        for (id, entry) in call.headers["x-entry-ids"].split(',').zip(entries) {
            let first = by_id.entry(id.to_owned()).or_insert_with(|| entry.clone());
            assert_eq!(first, entry, "a double of {id} is another");
        }
    }
    assert_eq!(by_id.len(), said.len(), "an uplink has two ids");
}
