//! Tencent IM's callbacks: what was sent, read and withdrawn, who came and went, and whether a message
//! may be sent at all.

use std::{collections::HashMap, time::Duration};

use domain::{Event, callback::Kind};
use pushledger::{clock::Clock, config::Config};
use serde_json::{Value, json};
use sim::receiver::{Answer, Called, Receiver};

use super::{called, called_in_time, count, listed, receiver, replay, until_count};
use crate::{
    harness::{Place, RawClient, World, until},
    tencent::{
        APP, BATCH, SENDMSG, Tencent, WITHDRAW, answered, message, message_with, next, target, text,
    },
};

const TOKEN: &str = "tok-7f3a";

/// A world whose app is called about these.
async fn world(clock: bool, callbacks: &[&str], more: Value) -> (Tencent, Receiver) {
    let world = if clock { World::with_clock().await } else { World::new().await };
    let server = receiver(&world).await;
    server.answer(Answer::Status(200, ok()));
    let mut section = json!({ "callbackUrl": server.url("/im"), "callbackToken": TOKEN,
                              "callbacks": callbacks });
    crate::harness::merge(&mut section, more);
    (Tencent::of(world, section).await, server)
}

fn ok() -> String {
    json!({ "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0 }).to_string()
}

/// Checks the query of a call, which is signed, and gives its body.
fn checked(call: &Called, command: &str, caller: &str, platform: &str) -> Value {
    let (path, query) = call.target.split_once('?').unwrap();
    assert_eq!(path, "/im");
    let parts: Vec<(&str, &str)> = query.split('&').map(|p| p.split_once('=').unwrap()).collect();
    let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    let wanted = [
        "SdkAppid",
        "CallbackCommand",
        "contenttype",
        "ClientIP",
        "OptPlatform",
        "Sign",
        "RequestTime",
    ];
    assert_eq!(names, wanted);
    let of: HashMap<&str, &str> = parts.into_iter().collect();
    let (app, command_of) = (APP.to_string(), call.json()["CallbackCommand"].clone());
    assert_eq!((of["SdkAppid"], of["CallbackCommand"]), (&*app, command));
    assert_eq!((of["contenttype"], of["ClientIP"], of["OptPlatform"]), ("json", caller, platform));
    assert_eq!(call.method, "POST");
    assert!(call.is_signed_by_tencent(TOKEN) && !call.is_signed_by_tencent("another"));
    let id = call.headers.get("x-entry-ids");
    assert_eq!(id.is_some(), command != "C2C.CallbackBeforeSendMsg", "{id:?}");
    assert_eq!(call.headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(command_of, command);
    call.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_message_was_sent_the_apps_server_is_told_each_field() {
    let (tencent, server) = world(true, &["C2C.CallbackAfterSendMsg"], json!({})).await;
    let head = tencent.world.head().await;
    let key = tencent.send(&message(2_837_546)).await;
    let calls = called(&server, 1).await;
    let (id, accepted) = tencent.accepted(head).await.remove(0);
    let time = accepted.chat.unwrap().time;
    let wanted = format!(
        "{{\"CallbackCommand\":\"C2C.CallbackAfterSendMsg\",\"From_Account\":\"Ann\",\
         \"To_Account\":\"bob\",\"MsgSeq\":48374,\"MsgRandom\":2837546,\"MsgTime\":{time},\
         \"MsgKey\":\"{key}\",\"MsgId\":\"{id}-{time}-2837546\",\"OnlineOnlyFlag\":0,\
         \"SendMsgResult\":0,\"ErrorInfo\":\"send msg succeed\",\"UnreadMsgNum\":1,\
         \"MsgBody\":{},\"CloudCustomData\":\"your cloud custom data\"}}",
        text("red packet")
    );
    checked(&calls[0], "C2C.CallbackAfterSendMsg", "127.0.0.1", "RESTAPI");
    assert_eq!(String::from_utf8_lossy(&calls[0].body), wanted);
    tencent.send(&message_with(2, json!({ "From_Account": "carl" }))).await;
    let now = json!({ "MsgLifeTime": 0, "CloudCustomData": "" });
    tencent.send(&message_with(3, now)).await;
    let calls = called(&server, 3).await;
    let told = |n: usize| checked(&calls[n], "C2C.CallbackAfterSendMsg", "127.0.0.1", "RESTAPI");
    assert_eq!((&told(1)["UnreadMsgNum"], &told(1)["OnlineOnlyFlag"]), (&json!(2), &json!(0)));
    assert_eq!((&told(2)["UnreadMsgNum"], &told(2)["OnlineOnlyFlag"]), (&json!(2), &json!(1)));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_could_not_be_sent_is_told_with_its_code_and_minus_one() {
    let words = json!({ "words": ["bad"] });
    let (tencent, server) = world(false, &["C2C.CallbackAfterSendMsg"], words).await;
    let body = message_with(1, json!({ "MsgBody": text("so bad") }));
    assert_eq!(tencent.call(SENDMSG, &body).await["ErrorCode"], 80_001);
    let calls = called(&server, 1).await;
    let told = checked(&calls[0], "C2C.CallbackAfterSendMsg", "127.0.0.1", "RESTAPI");
    assert_eq!((&told["SendMsgResult"], &told["UnreadMsgNum"]), (&json!(80_001), &json!(-1)));
    assert_ne!(told["ErrorInfo"], "send msg succeed");
    assert_eq!(told["MsgBody"], text("so bad"));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_sent_to_many_or_switched_off_is_told_nobody() {
    let (tencent, server) = world(false, &["C2C.CallbackAfterSendMsg"], json!({})).await;
    let forbidden = json!({ "ForbidCallbackControl": ["ForbidAfterSendMsgCallback"] });
    tencent.send(&message_with(1, forbidden)).await;
    let many = message_with(2, json!({ "To_Account": ["bob"] }));
    let key = tencent.call(BATCH, &many).await["MsgKey"].clone();
    let withdraw = json!({ "From_Account": "Ann", "To_Account": "bob", "MsgKey": key });
    assert_eq!(tencent.call(WITHDRAW, &withdraw).await["ErrorCode"], 0);
    tencent.configure(json!({ "callbacks": [] })).await;
    tencent.send(&message(3)).await;
    tencent.configure(json!({ "callbacks": ["C2C.CallbackAfterSendMsg"] })).await;
    tencent.send(&message(4)).await;
    let calls = called(&server, 1).await;
    assert_eq!((calls.len(), &calls[0].json()["MsgRandom"]), (1, &json!(4)));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_signed_and_a_query_of_the_url_stays() {
    let (tencent, server) = world(false, &["C2C.CallbackAfterSendMsg"], json!({})).await;
    let section = json!({ "callbackToken": "", "callbackUrl": server.url("/im?k=v") });
    tencent.configure(section).await;
    tencent.send(&message(1)).await;
    let target = called(&server, 1).await[0].target.clone();
    let wanted = format!(
        "/im?k=v&SdkAppid={APP}&CallbackCommand=C2C.CallbackAfterSendMsg&contenttype=json\
         &ClientIP=127.0.0.1&OptPlatform=RESTAPI"
    );
    assert_eq!(target, wanted);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_read_and_one_that_is_withdrawn_are_told_once() {
    let both = ["C2C.CallbackAfterMsgReport", "C2C.CallbackAfterMsgWithDraw"];
    let (tencent, server) = world(false, &both, json!({})).await;
    let kept = tencent.send(&message(1)).await;
    let mut phone = tencent.connect_with("bob", "phone", Some(4)).await;
    let mut pad = tencent.connect_with("bob", "pad", Some(4)).await;
    let head = tencent.world.head().await;
    tencent.send(&message(2)).await;
    next(&mut phone).await;
    next(&mut pad).await;
    let calls = called(&server, 1).await;
    let told = checked(&calls[0], "C2C.CallbackAfterMsgReport", "", "Unknown");
    let time = tencent.accepted(head).await[0].1.chat.unwrap().time;
    assert_eq!((&told["Report_Account"], &told["Peer_Account"]), (&json!("bob"), &json!("Ann")));
    assert_eq!((&told["LastReadTime"], &told["UnreadMsgNum"]), (&json!(time), &json!(1)));
    assert!(told["EventTime"].as_i64().unwrap() > time * 1_000);
    let withdraw = json!({ "From_Account": "Ann", "To_Account": "bob", "MsgKey": kept });
    assert_eq!(tencent.call(WITHDRAW, &withdraw).await["ErrorCode"], 0);
    let calls = called(&server, 2).await;
    let told = checked(&calls[1], "C2C.CallbackAfterMsgWithDraw", "", "RESTAPI");
    let wanted = json!({ "CallbackCommand": "C2C.CallbackAfterMsgWithDraw", "From_Account": "Ann",
                         "To_Account": "bob", "MsgKey": kept, "UnreadMsgNum": 0 });
    assert_eq!(told, wanted);
    until_count(&tencent.world, "answered", 2).await;
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_server_hears_of_a_device_of_an_account_that_comes_and_goes() {
    let (tencent, server) = world(false, &["State.StateChange"], json!({})).await;
    let mut phone = tencent.connect("bob", "phone").await;
    let calls = called(&server, 1).await;
    let told = checked(&calls[0], "State.StateChange", "", "Unknown");
    let info = json!({ "Action": "Login", "To_Account": "bob", "Reason": "Register" });
    assert_eq!(told["Info"], info);
    assert!(told["EventTime"].as_i64().unwrap() > 1_600_000_000_000);
    phone.close().await.unwrap();
    let calls = called(&server, 2).await;
    let told = checked(&calls[1], "State.StateChange", "", "Unknown");
    let info = json!({ "Action": "Disconnect", "To_Account": "bob", "Reason": "LinkClose" });
    assert_eq!(told["Info"], info);
    tencent.configure(json!({ "callbacks": [] })).await;
    let head = tencent.world.head().await;
    drop(tencent.connect("bob", "phone").await);
    let events = tencent.events(head).await;
    assert!(!events.iter().any(|event| matches!(event.event, Event::PresenceChanged(_))));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_matters_and_no_failure_is_called_again_unless_the_app_wants_that() {
    let (tencent, server) = world(true, &["C2C.CallbackAfterSendMsg"], json!({})).await;
    for (number, answer) in [
        Answer::Status(200, r#"{"ActionStatus":"FAIL","ErrorCode":1,"ErrorInfo":"no"}"#.to_owned()),
        Answer::Status(200, "no JSON".to_owned()),
        Answer::Status(500, ok()),
        Answer::Cut,
    ]
    .into_iter()
    .enumerate()
    {
        server.plan([answer]);
        tencent.send(&message(u32::try_from(number).unwrap())).await;
        called(&server, number + 1).await;
    }
    until_count(&tencent.world, "answered", 2).await;
    until_count(&tencent.world, "given_up", 2).await;
    let row = listed(&tencent.world, "given_up").await[0].clone();
    assert_eq!((&row["kind"], &row["calls"]), (&json!("tencent"), &json!(1)));
    tencent.configure(json!({ "retries": 2 })).await;
    server.plan([Answer::Cut, Answer::Status(503, String::new())]);
    tencent.send(&message(9)).await;
    let calls = called_in_time(&tencent.world, &server, 7).await;
    // The same bytes each time, signed each time.
    assert!(calls[4..].iter().all(|call| call.body == calls[4].body));
    let id = |index: usize| calls[index].headers["x-entry-ids"].clone();
    assert!((5..7).all(|index| id(index) == id(4)), "a double has another id");
    for call in &calls[4..] {
        checked(call, "C2C.CallbackAfterSendMsg", "127.0.0.1", "RESTAPI");
    }
    until_count(&tencent.world, "answered", 3).await;
    assert_eq!(count(&tencent.world.admin, "given_up").await, 2);
    // What an operator asks for again says what it said then.
    tencent.send(&message(10)).await;
    called_in_time(&tencent.world, &server, 8).await;
    replay(&tencent.world, &row["receiver"], Some(json!([row["position"]]))).await;
    let calls = called_in_time(&tencent.world, &server, 9).await;
    let first = calls[..4].iter().find(|call| call.body == calls[8].body);
    let first = first.unwrap_or_else(|| panic!("{}", calls[8].json()));
    assert_eq!(first.headers["x-entry-ids"], calls[8].headers["x-entry-ids"]);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_answers_is_given_2_seconds() {
    let (tencent, server) = world(false, &["C2C.CallbackAfterSendMsg"], json!({})).await;
    server.plan([Answer::Silence]);
    let begun = std::time::Instant::now();
    tencent.send(&message(1)).await;
    until_count(&tencent.world, "given_up", 1).await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(listed(&tencent.world, "given_up").await[0]["reason"], "timeout");
    tencent.world.stop().await;
}

const BEFORE: [&str; 2] = ["C2C.CallbackBeforeSendMsg", "C2C.CallbackAfterSendMsg"];

fn answer(body: &Value) -> Answer {
    Answer::Status(200, body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_message_is_sent_the_apps_server_is_asked_and_may_refuse() {
    let (tencent, server) = world(true, &BEFORE, json!({})).await;
    for (refusal, code, info) in [
        (json!({ "ErrorCode": 1, "ErrorInfo": "no" }), 20_006, "refused by the app's server"),
        (json!({ "ErrorCode": 120_001, "ErrorInfo": "low" }), 120_001, "low"),
        (json!({ "ErrorCode": 130_000, "ErrorInfo": "high" }), 130_000, "high"),
    ] {
        server.plan([answer(&refusal)]);
        let head = tencent.world.head().await;
        let told = tencent.call(SENDMSG, &message(1)).await;
        assert_eq!((&told["ErrorCode"], &told["ErrorInfo"]), (&json!(code), &json!(info)));
        assert_eq!(tencent.world.head().await, head);
    }
    tencent.send(&message(2)).await;
    let calls = called(&server, 5).await;
    let asked = checked(&calls[3], "C2C.CallbackBeforeSendMsg", "127.0.0.1", "RESTAPI");
    let after = checked(&calls[4], "C2C.CallbackAfterSendMsg", "127.0.0.1", "RESTAPI");
    let mut wanted = after.clone();
    wanted["CallbackCommand"] = json!("C2C.CallbackBeforeSendMsg");
    for name in ["SendMsgResult", "ErrorInfo", "UnreadMsgNum"] {
        wanted.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(asked, wanted);
    let forbidden = json!({ "ForbidCallbackControl":
        ["ForbidBeforeSendMsgCallback", "ForbidAfterSendMsgCallback"] });
    tencent.send(&message_with(3, forbidden)).await;
    let many = message_with(4, json!({ "To_Account": ["bob"] }));
    assert_eq!(tencent.call(BATCH, &many).await["ErrorCode"], 0);
    assert_eq!(server.count(), 5);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_server_may_change_a_message_and_everybody_sees_it_changed() {
    let words = json!({ "words": ["bad"] });
    let (tencent, server) = world(true, &BEFORE, words).await;
    let mut phone = tencent.connect("bob", "phone").await;
    let changed = json!({ "ErrorCode": 0, "MsgBody": text("changed"), "CloudCustomData": "new" });
    server.plan([answer(&changed)]);
    tencent.send(&message_with(1, json!({ "MsgBody": text("bad") }))).await;
    let (_, seen) = next(&mut phone).await;
    assert_eq!((&seen["MsgBody"], &seen["CloudCustomData"]), (&text("changed"), &json!("new")));
    let told = called(&server, 2).await[1].json();
    assert_eq!((&told["MsgBody"], &told["CloudCustomData"]), (&text("changed"), &json!("new")));
    // What makes no message, and what makes no sense, changes nothing.
    for (random, odd) in [
        (2, json!({ "ErrorCode": 0, "MsgBody": [] })),
        (3, json!({ "ErrorCode": 0, "MsgBody": text(&"x".repeat(9_000)) })),
        (4, json!({ "ErrorCode": 7 })),
        (5, json!([])),
    ] {
        server.plan([answer(&odd)]);
        tencent.send(&message(random)).await;
        assert_eq!(next(&mut phone).await.1["MsgBody"], text("red packet"), "{odd}");
    }
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_a_message_is_sent_unless_the_app_wants_80003() {
    let (tencent, server) = world(false, &BEFORE[..1], json!({})).await;
    for (random, odd) in [
        (1, Answer::Status(500, ok())),
        (2, Answer::Cut),
        (3, Answer::Status(200, "no JSON".to_owned())),
        (4, Answer::Silence),
    ] {
        server.plan([odd.clone(), odd]);
        tencent.configure(json!({ "refuseUnanswered": false })).await;
        tencent.send(&message(random)).await;
        tencent.configure(json!({ "refuseUnanswered": true })).await;
        tencent.refused(SENDMSG, &message(random + 100), 80_003).await;
    }
    tencent.send(&message(9)).await;
    until("it was never asked", async || server.count() == 9).await;
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_not_asked_again_and_has_the_first_answer() {
    let (tencent, server) = world(true, &BEFORE[..1], json!({})).await;
    let changed = json!({ "ErrorCode": 0, "MsgBody": text("changed") });
    let refusal = json!({ "ErrorCode": 1, "ErrorInfo": "no" });
    server.plan([answer(&changed), answer(&refusal)]);
    let first = tencent.call(SENDMSG, &message(1)).await;
    let head = tencent.world.head().await;
    let second = tencent.call(SENDMSG, &message(1)).await;
    assert_eq!((&first["ErrorCode"], &second), (&json!(0), &first));
    assert_eq!((server.count(), tencent.world.head().await), (1, head));
    // A second later it is another message, of which the app thinks otherwise.
    tencent.world.clock.advance(Duration::from_secs(1));
    tencent.refused(SENDMSG, &message(1), 20_006).await;
    assert_eq!(server.count(), 2);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_about_a_message_to_who_is_unknown() {
    let (tencent, server) = world(false, &BEFORE[..1], json!({})).await;
    let unknown = message_with(1, json!({ "To_Account": "nobody" }));
    tencent.refused(SENDMSG, &unknown, 90_012).await;
    assert_eq!(server.count(), 0);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_views_that_stand_still_and_the_callback_comes_later() {
    let (tencent, server) = world(false, &["C2C.CallbackAfterSendMsg"], json!({})).await;
    let world = tencent.world;
    let hook = receiver(&world).await;
    let body = json!({ "url": hook.url("/"), "events": ["message.accepted"] });
    let path = "/admin/v1/apps/demo/webhooks";
    assert_eq!(world.admin.post(path, Some(&body)).await.unwrap().0, 201);
    let tencent = Tencent { world };
    let mut views = tencent.world.place.views().await;
    let lock = match tencent.world.place.on_postgres() {
        true => "BEGIN; LOCK TABLE views_1.checkpoint",
        false => "BEGIN IMMEDIATE",
    };
    views.run(lock).await;
    let head = tencent.world.head().await;
    tencent.send(&message(1)).await;
    // Webhooks come last among the receivers of an event, and need no views.
    called(&hook, 1).await;
    let ledger = tencent.world.running.server.ledger.clone();
    let begun = std::time::Instant::now();
    let stopping = tokio::spawn(tencent.world.stop());
    until("the callback was not put off", async || {
        let events = ledger.read(head, 100).await.unwrap().events;
        events.iter().any(|recorded| match &recorded.event {
            Event::CallbacksCalled(called) => called.kind == Kind::Tencent,
            _ => false,
        })
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(server.count(), 0);
    views.run("ROLLBACK").await;
    let world = World::start(stopping.await.unwrap(), Clock::System).await;
    called(&server, 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_is_who_a_trusted_proxy_says_and_else_who_connects() {
    for (trusted, caller) in [(&["127.0.0.0/8"][..], "203.0.113.7"), (&[], "127.0.0.1")] {
        let place = Place::new().await;
        let trusted_proxies = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let config = Config { trusted_proxies, ..place.config() };
        let world = World::start_with(place, &config, Clock::System).await.with_app().await;
        let server = receiver(&world).await;
        let section = json!({ "callbackUrl": server.url("/im"), "callbackToken": TOKEN,
                              "callbacks": ["C2C.CallbackAfterSendMsg"] });
        let tencent = Tencent::of(world, section).await;
        let header = ("x-forwarded-for".to_owned(), "198.51.100.1, 203.0.113.7".to_owned());
        let mut client = RawClient::new(&tencent.world);
        let body = message(1).to_string();
        let sent = client.send("POST", &target(SENDMSG), &[header], body.as_bytes()).await;
        assert_eq!(answered(&sent)["ErrorCode"], 0);
        let calls = called(&server, 1).await;
        checked(&calls[0], "C2C.CallbackAfterSendMsg", caller, "RESTAPI");
        tencent.world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_of_one_account_come_in_the_order_of_its_messages() {
    const MESSAGES: usize = 40;
    let callbacks = ["C2C.CallbackAfterSendMsg"];
    let (tencent, server) = world(false, &callbacks, json!({ "retries": 1 })).await;
    // Some fail once, some take a while: none that comes later overtakes them.
    server.plan([Answer::Cut, Answer::Late(Duration::from_millis(200), 200), Answer::Cut]);
    for number in 0..MESSAGES {
        let to = if number % 2 == 0 { "bob" } else { "carl" };
        let body = json!({ "To_Account": to });
        tencent.send(&message_with(u32::try_from(number).unwrap(), body)).await;
    }
    until_count(&tencent.world, "answered", i64::try_from(MESSAGES).unwrap()).await;
    for to in ["bob", "carl"] {
        let calls = server.calls().into_iter().map(|call| call.json());
        let own = calls.filter(|body| body["To_Account"] == to);
        let mut randoms: Vec<u64> = own.map(|body| body["MsgRandom"].as_u64().unwrap()).collect();
        assert!(randoms.is_sorted(), "{to}: {randoms:?}");
        randoms.dedup();
        assert_eq!(randoms.len(), MESSAGES / 2);
    }
    tencent.world.stop().await;
}
