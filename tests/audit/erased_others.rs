//! Whoever is erased, of whichever protocol, and whatever happens meanwhile: a crash, another node that
//! is late, readers of every kind. What is private to them is found nowhere afterwards.

use std::time::Duration;

use domain::{
    Append, Decide, Event, Stream,
    facts::{Facts, Stop},
    message::MessageId,
};
use pushledger::{
    clock::Clock,
    ledger::{Context, Lane},
};
use serde_json::json;
use sim::Admin;

use super::erased::{ERASURES, dumped, erase, found};
use crate::{
    easemob,
    harness::{ADMIN_TOKEN, PATIENCE, Process, World, until},
    tencent,
    views::unreadable::append_private,
};

/// Checks that some texts are in the database now.
async fn known(world: &World, needles: &[&str]) {
    let all = dumped(world).await;
    needles.iter().for_each(|needle| assert!(all.contains(needle), "{needle} is not there"));
}

/// Checks that some texts are nowhere any more: in no table, and in no file of an embedded database.
async fn gone(world: &World, needles: &[&str]) {
    let all = dumped(world).await;
    needles.iter().for_each(|needle| assert!(!all.contains(needle), "{needle} in {all}"));
    if !world.place.on_postgres() {
        assert_eq!(found(world.place.directory.path(), needles), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_easemob_user_with_devices_labels_and_pushes_is_found_nowhere() {
    let easemob = easemob::Easemob::new().await;
    let world = &easemob.world;
    let nick = json!({ "username": "zq-emma", "password": "zq-pass", "nickname": "zq-nick" });
    easemob::ok(easemob.cloud.post("/users", Some(&nick)).await.unwrap());
    easemob.user("stays").await;
    easemob.bind("zq-emma", "zq-phone", "fcm", "zq-token").await;
    easemob.label("news").await;
    let members = json!({ "usernames": ["zq-emma", "stays"] });
    easemob::ok(easemob.cloud.post("/push/label/news/user", Some(&members)).await.unwrap());
    let push = json!({ "targets": ["zq-emma"],
                       "pushMessage": { "title": "t", "content": "zq-content" } });
    easemob::ok(easemob.cloud.post("/push/single", Some(&push)).await.unwrap());
    let needles = ["zq-emma", "zq-nick", "zq-phone", "zq-token", "zq-content"];
    known(world, &needles).await;
    let erasure =
        erase(world, json!({ "user": { "protocol": "easemob", "name": "ZQ-Emma" } })).await;
    assert_eq!(erasure["accounts"].as_array().unwrap().len(), 1, "{erasure}");
    gone(world, &needles).await;
    known(world, &["stays"]).await;
    assert_eq!(easemob.cloud.get("/users/zq-emma", None).await.unwrap().0, 404);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tencent_user_is_found_nowhere_and_its_conversations_are_blank() {
    let tencent = tencent::Tencent::new().await;
    let names = json!({ "Accounts": ["zq-tina"] });
    assert_eq!(tencent.call(tencent::IMPORT_MANY, &names).await["ErrorCode"], 0);
    let message = |random, from: &str, to: &str, text: &str| {
        let more =
            json!({ "From_Account": from, "To_Account": to, "MsgBody": tencent::text(text) });
        tencent::message_with(random, more)
    };
    let (sent, got, other) = (
        message(1, "zq-tina", "bob", "zq-said"),
        message(2, "bob", "zq-tina", "zq-heard"),
        message(3, "Ann", "bob", "stays here"),
    );
    for body in [&sent, &got, &other] {
        tencent.send(body).await;
    }
    let (world, needles) = (&tencent.world, ["zq-tina", "zq-said", "zq-heard"]);
    known(world, &needles).await;
    erase(world, json!({ "user": { "protocol": "tencent", "name": "zq-tina" } })).await;
    gone(world, &needles).await;
    known(world, &["stays here"]).await;
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phones_uplinks_are_blank_and_what_it_writes_later_is_not() {
    let world = World::new().await;
    let hand_in = async |id: &str, phone: &str, content: &str| {
        let body = json!({ "messages": [{ "id": id, "phone": phone, "content": content }] });
        let url = format!("{}/uplink/v1/messages", world.url);
        let call = reqwest::Client::new().post(url).bearer_auth(ADMIN_TOKEN);
        let call = call.header("x-app-id", "demo").body(body.to_string());
        assert_eq!(call.send().await.unwrap().status(), 200);
    };
    hand_in("zq-id-1", "+8613900001111", "zq-first").await;
    hand_in("id-2", "+8613900002222", "other stays").await;
    let needles = ["+8613900001111", "zq-first", "zq-id-1"];
    known(&world, &needles).await;
    let erasure = erase(&world, json!({ "phone": "+8613900001111" })).await;
    assert_eq!(erasure["phone"], true);
    gone(&world, &needles).await;
    hand_in("zq-id-3", "+8613900001111", "zq-later").await;
    known(&world, &["+8613900001111", "zq-later", "other stays"]).await;
    // Asked for once more, the later ones go too.
    erase(&world, json!({ "phone": "+8613900001111" })).await;
    gone(&world, &["+8613900001111", "zq-later"]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_by_number_is_found_nowhere_and_its_user_stays() {
    let world = World::new().await;
    let more = json!({ "deviceName": "zq-name", "deviceId": "zq-mac" });
    world.register_of("alice-stays", "zq-client", more).await;
    world.register_of("alice-stays", "client-stays", json!({})).await;
    world.push("zq-client", json!({ "text": "zq-payload" })).await;
    let query = "{ app(appId: \"demo\") { devices { nodes { number clientId } } } }";
    let told = world.graphql(query).await;
    let nodes = told["app"]["devices"]["nodes"].as_array().unwrap();
    let own = nodes.iter().find(|node| node["clientId"] == "zq-client").unwrap();
    let needles = ["zq-client", "zq-name", "zq-mac", "zq-payload"];
    known(&world, &needles).await;
    let erasure = erase(&world, json!({ "device": own["number"] })).await;
    assert_eq!(erasure["devices"], json!([own["number"]]));
    gone(&world, &needles).await;
    known(&world, &["alice-stays", "client-stays"]).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_afterwards_is_shown_the_blank() {
    let world = World::new().await;
    world.register_of("zq-alice", "zq-client", json!({})).await;
    let id = world.push("zq-client", json!({ "text": "zq-payload" })).await;
    erase(&world, json!({ "user": { "protocol": "ums", "name": "zq-alice" } })).await;
    let query = format!(
        "{{ app(appId: \"demo\") {{ devices {{ nodes {{ clientId userId }} }} \
         message(id: \"{id}\") {{ events {{ type private }} }} \
         callbacks(outcome: GIVEN_UP) {{ nodes {{ kind }} }} }} }}"
    );
    let told = world.graphql(&query).await;
    let events = told["app"]["message"]["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["type"] == "message.accepted"));
    assert!(events.iter().all(|event| event["private"].is_null()), "{told}");
    let (_, feed, _) =
        world.admin.get("/admin/v1/apps/demo/events?wait=0&limit=1000", None).await.unwrap();
    let (_, callbacks, _) = world.admin.get("/admin/v1/apps/demo/callbacks", None).await.unwrap();
    for text in [told.to_string(), feed.to_string(), callbacks.to_string()] {
        assert!(!text.contains("zq-"), "{text}");
    }
    world.stop().await;
}

/// What another node appends though it should not have, as it is late.
struct Late(Append);

impl Decide for Late {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        Ok(vec![self.0.clone()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_after_the_erasure_is_blanked_too() {
    let world = World::new().await;
    world.register_of("zq-alice", "zq-client", json!({})).await;
    let id: MessageId =
        world.push("zq-client", json!({ "text": "zq-payload" })).await.parse().unwrap();
    let other = world.second().await;
    let stream = Stream::Message(id).to_string();
    let first = other.server.ledger.read_stream(&stream, 0, 1).await.unwrap().events.remove(0);
    assert!(matches!(first.event, Event::MessageAccepted(_)));
    erase(&world, json!({ "user": { "protocol": "ums", "name": "zq-alice" } })).await;
    let late = other.server.ids.next(&world.clock).await.unwrap();
    let append = Append { stream: Stream::Message(late), version: 1, event: first.event };
    let context = Context { app: "demo".to_owned(), ..Context::default() };
    let done = other.server.ledger.execute(Lane::Interactive, context, Late(append)).await.unwrap();
    until("what came late is not blank", async || {
        let row =
            world.running.server.ledger.read_stored(done.last - 1, 1).await.unwrap().remove(0);
        row.private.is_none()
    })
    .await;
    until("what came late is in a file", async || {
        world.place.on_postgres() || found(world.place.directory.path(), &["zq-payload"]).is_empty()
    })
    .await;
    other.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_stored_about_the_erased_is_blanked_though_this_one_cannot_read_it() {
    let world = World::new().await;
    world.register_of("zq-alice", "zq-client", json!({})).await;
    world.register_of("bob-stays", "client-stays", json!({})).await;
    let query = "{ app(appId: \"demo\") { devices { nodes { stream user { account } } } } }";
    let devices = world.graphql(query).await["app"]["devices"]["nodes"].clone();
    let text = |of: &serde_json::Value| of.as_str().unwrap().to_owned();
    let [alice, bob] = [0, 1].map(|n| text(&devices[n]["user"]["account"]));
    let phone = text(&devices[0]["stream"]).replace("device/", "");
    let (pushed, private) = (("message.accepted", 99), Some(r#"{"note":"zq-note"}"#));
    let to = |account: &str| format!(r#"{{"targets":[{{"account":"{account}"}}]}}"#);
    append_private(&world, "message/88", pushed, &to(&alice), private).await;
    append_private(&world, &format!("note/{phone}"), ("note.taken", 1), "{}", private).await;
    let other = Some(r#"{"note":"note-stays"}"#);
    append_private(&world, "message/89", pushed, &to(&bob), other).await;
    append_private(&world, "note/1", ("note.taken", 1), "[]", None).await;
    known(&world, &["zq-note", "note-stays"]).await;
    erase(&world, json!({ "user": { "protocol": "ums", "name": "zq-alice" } })).await;
    gone(&world, &["zq-alice", "zq-client", "zq-note"]).await;
    // And what it stores afterwards.
    let late = append_private(&world, "message/90", pushed, &to(&alice), private).await;
    until("what came late is not blank", async || {
        let row = world.running.server.ledger.read_stored(late - 1, 1).await.unwrap().remove(0);
        row.private.is_none() && row.erased.is_some()
    })
    .await;
    known(&world, &["bob-stays", "note-stays"]).await;
    let place = world.stop().await;
    let bare = crate::views::Bare::open(&place).await;
    let report = pushledger::audit::verify::live(&bare.ledger, None, &[], None).await.unwrap();
    assert_eq!(report.unknown, 3, "{report:?}");
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_over_two_nodes_during_the_erasure_leave_nothing() {
    let world = World::new().await;
    world.register_of("zq-alice", "zq-client", json!({})).await;
    let other = world.second().await;
    let push = async |url: &str, node: &str| {
        let cloud =
            sim::Caller::new(url, crate::harness::UMS_SYSTEM, crate::harness::UMS_SYSTEM_KEY);
        let mut accepted = 0;
        for n in 0..1_000 {
            let body = json!({ "dst": { "type": 0, "Id": ["zq-client"] },
                               "message": { "text": format!("zq-{node}-{n}") } });
            let reply = cloud.call("/umse/v2/msgPush", &body.to_string()).await.unwrap();
            if reply.ret_code != "00000" {
                break;
            }
            accepted += 1;
        }
        accepted
    };
    let elsewhere = format!("http://{}", other.address);
    let erasing = async {
        until("nothing was pushed", async || world.head().await > 20).await;
        erase(&world, json!({ "user": { "protocol": "ums", "name": "zq-alice" } })).await
    };
    let (one, two, _) = tokio::join!(push(&world.url, "one"), push(&elsewhere, "two"), erasing);
    assert!(one + two > 0);
    until("something was left", async || {
        let all = dumped(&world).await;
        !all.contains("zq-one") && !all.contains("zq-two") && !all.contains("zq-client")
    })
    .await;
    other.shutdown().await;
    world.stop().await;
}

/// Waits until each erasure of the app is done.
async fn all_done(admin: &Admin, erasures: usize) {
    until("an erasure is not done", async || {
        let Ok((200, list, _)) = admin.get(ERASURES, None).await else { return false };
        let list = list.as_array().unwrap().clone();
        list.len() == erasures && list.iter().all(|own| own["done"] == true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_while_it_erases_finishes_after_its_next_start() {
    const USERS: u64 = 5;
    let world = World::new().await;
    for n in 0..USERS {
        let client = format!("zq-client-{n}");
        world.register_of(&format!("zq-user-{n}"), &client, json!({})).await;
        for m in 0..40 {
            world.push(&client, json!({ "text": format!("zq-payload-{n}-{m}") })).await;
        }
    }
    let place = world.stop().await;
    for n in 0..USERS {
        let mut server = Process::start(&place).await;
        let admin = Admin::new(server.url(), ADMIN_TOKEN);
        let subject = json!({ "user": { "protocol": "ums", "name": format!("zq-user-{n}") } });
        let body = json!({ "subject": subject, "reason": "objection" });
        assert_eq!(admin.post(ERASURES, Some(&body)).await.unwrap().0, 202);
        // Sooner or later within the erasure, which takes some tens of ms.
        tokio::time::sleep(Duration::from_millis(n * 15)).await;
        server.kill();
    }
    let world = World::start(place, Clock::System).await;
    // The lease of a node that was killed runs out first.
    all_done(&world.admin, USERS as usize).await;
    gone(&world, &["zq-user-", "zq-client-", "zq-payload-"]).await;
    let place = world.stop().await;
    let bare = crate::views::Bare::open(&place).await;
    pushledger::audit::verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_was_cut_off_before_it_was_noted_begins_again_and_changes_nothing() {
    let world = World::new().await;
    world.register_of("zq-alice", "zq-client", json!({})).await;
    world.push("zq-client", json!({ "text": "zq-payload" })).await;
    erase(&world, json!({ "user": { "protocol": "ums", "name": "zq-alice" } })).await;
    until("the delivery to who is gone never ended", async || {
        let events = world.running.server.ledger.read(0, 100).await.unwrap().events;
        events.iter().any(|recorded| matches!(recorded.event, Event::DeliveriesAdvanced(_)))
    })
    .await;
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    let before = dumped(&world).await;
    let place = world.stop().await;
    place
        .backdoor()
        .await
        .run("UPDATE subscriptions SET position = 0 WHERE name = 'erasures'")
        .await;
    let world = World::start(place, Clock::System).await;
    all_done(&world.admin, 1).await;
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    assert_eq!(dumped(&world).await, before);
    gone(&world, &["zq-alice", "zq-client", "zq-payload"]).await;
    world.stop().await;
}
