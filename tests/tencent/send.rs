//! `sendmsg`.

use std::time::Duration;

use domain::{
    Event, Stream,
    chat::Chat,
    facts::{Fact, Key},
    message::{Protocol, Sender},
    route::Strategy,
};
use serde_json::{Value, json};

use super::{ADMIN, APP, SENDMSG, Tencent, message, message_with, next, text, usersig};
use crate::harness::{World, until};

/// What a device sees of the message.
fn seen(random: u32, time: i64) -> Value {
    json!({ "From_Account": "Ann", "To_Account": "bob", "MsgSeq": 48_374, "MsgRandom": random,
            "MsgTime": time, "MsgKey": format!("48374_{random}_{time}"),
            "MsgBody": text("red packet"), "CloudCustomData": "your cloud custom data" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_one_event_and_reaches_every_device_of_the_account() {
    let tencent = Tencent::with_clock().await;
    let mut phone = tencent.connect("bob", "phone").await;
    let mut pad = tencent.connect("bob", "pad").await;
    let (head, time) = (tencent.world.head().await, tencent.world.clock.now() / 1_000_000);
    let answer = tencent.call(SENDMSG, &message(2_837_546)).await;
    let key = format!("48374_2837546_{time}");
    let wanted = json!({ "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0,
                         "MsgTime": time, "MsgKey": key });
    assert_eq!(answer, wanted);
    for device in [&mut phone, &mut pad] {
        assert_eq!(next(device).await, ("tencent".to_owned(), seen(2_837_546, time)));
    }
    let accepted = tencent.accepted(head).await;
    let (ann, bob) = (tencent.account("Ann").await, tencent.account("bob").await);
    let event = &accepted[0].1;
    assert_eq!((accepted.len(), event.protocol), (1, Protocol::Tencent));
    assert_eq!((event.sender, event.strategy), (Sender::User(ann), Strategy::OnlineElseVendor));
    let (seq, random) = (48_374, 2_837_546);
    let chat = Chat { to: bob, seq, random, time, uncounted: false, unsynced: false };
    assert_eq!((event.chat, event.callback), (Some(chat), true));
    assert!(event.targets.iter().all(|target| target.account == Some(bob)));
    assert_eq!(event.expires_at, tencent.world.clock.now() + 86_400_000_000);
    let private = event.private.as_ref().unwrap();
    assert_eq!(private.caller.as_deref(), Some("127.0.0.1"));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_a_device_that_is_away_and_one_for_those_that_are_there_does_not() {
    let tencent = Tencent::new().await;
    drop(tencent.connect("bob", "phone").await);
    let hub = &tencent.world.running.server.hub;
    let (head, bob) = (tencent.world.head().await, tencent.account("bob").await);
    let kept = message_with(1, json!({ "MsgBody": text("kept") }));
    tencent.send(&kept).await;
    let device = tencent.accepted(head).await[0].1.targets[0].device;
    until("the device never went", async || !hub.connected(device)).await;
    let now = message_with(2, json!({ "MsgBody": text("now"), "MsgLifeTime": 0 }));
    let before = tencent.world.head().await;
    tencent.send(&now).await;
    let (_, accepted) = tencent.accepted(before).await.remove(0);
    assert_eq!(accepted.strategy, Strategy::PresentOnly);
    assert_eq!(accepted.targets[0].account, Some(bob));
    let mut phone = tencent.connect("bob", "phone").await;
    assert_eq!(next(&mut phone).await.1["MsgBody"], text("kept"));
    let later = message_with(3, json!({ "MsgBody": text("later"), "MsgLifeTime": 0 }));
    tencent.send(&later).await;
    assert_eq!(next(&mut phone).await.1["MsgBody"], text("later"));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_worth_delivering_for_its_life_time_and_for_a_day_at_most() {
    let tencent = Tencent::with_clock().await;
    for (random, (asked, seconds)) in
        (1..).zip([(30, 30), (86_400, 86_400), (86_401, 86_400), (604_800, 86_400)])
    {
        let head = tencent.world.head().await;
        tencent.send(&message_with(random, json!({ "MsgLifeTime": asked }))).await;
        let expires_at = tencent.accepted(head).await[0].1.expires_at;
        assert_eq!(expires_at - tencent.world.clock.now(), seconds * 1_000_000, "{asked}");
    }
    drop(tencent.connect("carl", "phone").await);
    let (ledger, hub) = (&tencent.world.running.server.ledger, &tencent.world.running.server.hub);
    let devices = ledger.fact(Key::AccountDevices(tencent.account("carl").await)).await.unwrap();
    let Fact::Devices(devices) = devices else { panic!("no devices") };
    until("the device never went", async || !hub.connected(devices[0].number)).await;
    let head = tencent.world.head().await;
    for (random, words, asked) in [(10, "soon over", 30), (11, "kept", 60)] {
        let more = json!({ "To_Account": "carl", "MsgBody": text(words), "MsgLifeTime": asked });
        tencent.send(&message_with(random, more)).await;
    }
    let (id, _) = tencent.accepted(head).await.remove(0);
    let stream = Stream::Message(id).to_string();
    tencent.world.clock.advance(Duration::from_secs(31));
    until("it never ended", async || {
        let events = ledger.read_stream(&stream, 0, 9).await.unwrap().events;
        events.iter().any(|event| matches!(event.event, Event::DeliveriesAdvanced(_)))
    })
    .await;
    let mut phone = tencent.connect("carl", "phone").await;
    assert_eq!(next(&mut phone).await.1["MsgBody"], text("kept"));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_looks_at_may_be_there_or_not() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    let more = json!({ "MsgTimeStamp": 1, "Nonsense": { "a": [1] } });
    tencent.send(&message_with(1, more)).await;
    let sig = usersig(ADMIN);
    let bare = format!("{SENDMSG}?sdkappid={APP}&identifier={ADMIN}&usersig={sig}");
    for (random, query) in [(2, ""), (3, "&random=x&contenttype=xml&more=1")] {
        let body = message(random).to_string();
        let answer = tencent.raw("POST", &format!("{bare}{query}"), body.as_bytes()).await;
        assert_eq!(answer["ErrorCode"], 0, "{answer}");
    }
    assert_eq!(tencent.accepted(head).await.len(), 3);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_within_a_second_has_the_first_answer_and_no_new_event() {
    let tencent = Tencent::with_clock().await;
    let head = tencent.world.head().await;
    let first = tencent.call(SENDMSG, &message(7)).await;
    // Without a number of its own it would get another one.
    let again = message_with(7, json!({ "MsgSeq": 1, "MsgBody": text("another") }));
    assert_eq!(tencent.call(SENDMSG, &again).await, first);
    assert_eq!(tencent.events(head).await.len(), 1);
    tencent.send(&message(8)).await;
    tencent.send(&message_with(7, json!({ "To_Account": "carl" }))).await;
    tencent.send(&message_with(7, json!({ "From_Account": "carl" }))).await;
    assert_eq!(tencent.events(head).await.len(), 4);
    tencent.world.clock.advance(Duration::from_secs(1));
    assert_ne!(tencent.send(&message(7)).await, first["MsgKey"]);
    assert_eq!(tencent.events(head).await.len(), 5);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sender_it_is_the_apps_own_account_and_a_number_is_made() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    let body = json!({ "To_Account": "bob", "MsgRandom": 1, "MsgBody": text("hi") });
    let key = tencent.send(&body).await;
    let events = tencent.events(head).await;
    assert!(matches!(events[0].event, Event::AccountOpened(_)), "{events:?}");
    let own = tencent.account(ADMIN).await;
    let (_, accepted) = tencent.accepted(head).await.remove(0);
    assert_eq!(accepted.sender, Sender::User(own));
    assert_eq!(key, accepted.chat.unwrap().key());
    let again = json!({ "To_Account": "bob", "MsgRandom": 2, "MsgBody": text("hi") });
    tencent.send(&again).await;
    assert_eq!(tencent.events(head).await.len(), 3);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_gets_a_copy_if_it_wants_one() {
    let tencent = Tencent::new().await;
    let mut own = tencent.connect("Ann", "phone").await;
    let head = tencent.world.head().await;
    for (random, sync) in [(1, json!({})), (2, json!({ "SyncOtherMachine": 2 }))] {
        tencent.send(&message_with(random, sync)).await;
    }
    assert_eq!(tencent.accepted(head).await.len(), 2);
    let head = tencent.world.head().await;
    tencent.send(&message_with(3, json!({ "SyncOtherMachine": 1 }))).await;
    let accepted = tencent.accepted(head).await;
    assert_eq!((accepted.len(), accepted[1].1.chat), (2, None));
    // For those of its devices that are there.
    assert_eq!(accepted[1].1.strategy, Strategy::PresentOnly);
    assert_eq!(next(&mut own).await.1["MsgRandom"], 3);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_pushed_goes_to_no_vendor() {
    let tencent = Tencent::new().await;
    let data = json!([{ "MsgType": "TIMCustomElem", "MsgContent": { "Data": "d" } }]);
    for (random, (more, strategy)) in [
        (json!({}), Strategy::OnlineElseVendor),
        (json!({ "OfflinePushInfo": { "PushFlag": 1 } }), Strategy::OnlineElseKept),
        (json!({ "SendMsgControl": ["WithMuteNotifications"] }), Strategy::OnlineElseKept),
        (json!({ "MsgBody": data }), Strategy::OnlineElseKept),
        (
            json!({ "MsgBody": data, "OfflinePushInfo": { "Desc": "look" } }),
            Strategy::OnlineElseVendor,
        ),
        (json!({ "SendMsgControl": ["NoLastMsg", "Unknown"] }), Strategy::OnlineElseVendor),
    ]
    .into_iter()
    .enumerate()
    {
        let head = tencent.world.head().await;
        let body = message_with(u32::try_from(random).unwrap(), more);
        tencent.send(&body).await;
        assert_eq!(tencent.accepted(head).await[0].1.strategy, strategy, "{body}");
    }
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_field_has_its_code_and_stores_nothing() {
    let tencent = Tencent::new().await;
    let element = |kind: &str, content: Value| json!([{ "MsgType": kind, "MsgContent": content }]);
    let custom = json!({ "MsgType": "TIMCustomElem", "MsgContent": { "Data": "d" } });
    for (more, code) in [
        (json!({ "SyncOtherMachine": "1" }), 90_031),
        (json!({ "SyncOtherMachine": 3 }), 90_031),
        (json!({ "From_Account": 1 }), 90_008),
        (json!({ "From_Account": "" }), 90_008),
        (json!({ "From_Account": "nobody" }), 90_008),
        (json!({ "To_Account": null }), 90_003),
        (json!({ "To_Account": "" }), 90_003),
        (json!({ "To_Account": ["bob"] }), 90_003),
        (json!({ "To_Account": "nobody" }), 90_012),
        (json!({ "To_Account": "Bob" }), 90_012),
        (json!({ "MsgLifeTime": "1" }), 90_044),
        (json!({ "MsgLifeTime": -1 }), 90_044),
        (json!({ "MsgLifeTime": 604_801 }), 90_026),
        (json!({ "MsgSeq": "1" }), 90_001),
        (json!({ "MsgSeq": 4_294_967_296_i64 }), 90_001),
        (json!({ "MsgRandom": null }), 90_005),
        (json!({ "MsgRandom": "1" }), 90_005),
        (json!({ "MsgRandom": 4_294_967_296_i64 }), 90_005),
        (json!({ "MsgTimeStamp": "now" }), 90_006),
        (json!({ "MsgBody": null }), 90_007),
        (json!({ "MsgBody": {} }), 90_007),
        (json!({ "MsgBody": [] }), 90_002),
        (json!({ "MsgBody": [7] }), 90_010),
        (json!({ "MsgBody": [{}] }), 90_010),
        (json!({ "MsgBody": element("TIMTextElem", json!({})) }), 90_002),
        (json!({ "MsgBody": element("TIMOtherElem", json!({})) }), 90_002),
        (json!({ "MsgBody": [custom, custom] }), 90_002),
        (json!({ "MsgBody": text(&"x".repeat(8_200)) }), 93_000),
        (json!({ "CloudCustomData": 1 }), 90_001),
        (json!({ "ForbidCallbackControl": "x" }), 90_001),
        (json!({ "SendMsgControl": [1] }), 90_001),
        (json!({ "OfflinePushInfo": [] }), 90_043),
        (json!({ "OfflinePushInfo": { "PushFlag": 2 } }), 90_043),
        (json!({ "OfflinePushInfo": { "Ext": "no json" } }), 90_043),
    ] {
        tencent.refused(SENDMSG, &message_with(1, more), code).await;
    }
    let mut missing = message(1);
    for (name, code) in [("MsgBody", 90_007), ("MsgRandom", 90_005), ("To_Account", 90_003)] {
        missing.as_object_mut().unwrap().remove(name);
        tencent.refused(SENDMSG, &missing, code).await;
    }
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_8_kib_is_sent_and_one_byte_more_is_93000() {
    let tencent = Tencent::new().await;
    let empty = text("").to_string().len();
    let of = |bytes: usize| json!({ "MsgBody": text(&"x".repeat(bytes - empty)) });
    tencent.refused(SENDMSG, &message_with(1, of(8_193)), 93_000).await;
    tencent.send(&message_with(1, of(8_192))).await;
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_of_the_apps_list_stops_a_message_with_80001_and_that_is_a_fact() {
    let tencent = Tencent::of(World::new().await, json!({ "words": ["红包", "Spam"] })).await;
    let head = tencent.world.head().await;
    let body = message_with(1, json!({ "MsgBody": text("buy SPAM now") }));
    for _ in 0..2 {
        let answer = tencent.call(SENDMSG, &body).await;
        assert_eq!(
            (&answer["ErrorCode"], &answer["ActionStatus"]),
            (&json!(80_001), &json!("FAIL"))
        );
    }
    let events = tencent.events(head).await;
    assert!(matches!(events[0].event, Event::MessageFiltered(_)), "{events:?}");
    assert_eq!((events.len(), tencent.unread("bob").await), (1, 0));
    tencent.send(&message_with(2, json!({ "MsgBody": text("hi") }))).await;
    // What is no text is not looked through.
    let data =
        json!([{ "MsgType": "TIMCustomElem", "MsgContent": { "Data": "spam", "Desc": "spam" } }]);
    tencent.send(&message_with(3, json!({ "MsgBody": data }))).await;
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_count_as_unread_until_a_device_shows_them() {
    let tencent = Tencent::new().await;
    for (random, more) in [
        (1, json!({})),
        (2, json!({ "From_Account": "carl" })),
        (3, json!({ "SendMsgControl": ["NoUnread"] })),
        (4, json!({ "MsgLifeTime": 0 })),
        (5, json!({ "To_Account": "carl" })),
    ] {
        tencent.send(&message_with(random, more)).await;
    }
    assert_eq!((tencent.unread("bob").await, tencent.unread("carl").await), (2, 1));
    let mut phone = tencent.connect_with("bob", "phone", Some(3)).await;
    // Only what is sent from now on: the others found no device.
    tencent.send(&message(6)).await;
    assert_eq!(next(&mut phone).await.1["MsgRandom"], 6);
    until("it was never read", async || tencent.unread("bob").await == 2).await;
    tencent.world.stop().await;
}
