//! One device that registered through UMS gets what is sent by calls of every protocol of its app,
//! and the ledger tells the story.

use domain::{
    Event,
    facts::{Fact, Key},
    message::{Protocol, Stage},
};
use serde_json::{Value, json};
use sim::{Admin, Device, DeviceOptions, Incoming};

use super::{SENDMSG, Tencent, message};
use crate::{
    antelope::{self, ANN as CID, APP_ID, HELLO, KEY},
    easemob,
    harness::{PACKAGE, PATIENCE, World, until},
};

/// The next message of a device: its id and its protocol.
async fn next(device: &mut Device) -> (String, String) {
    loop {
        match device.next_within(PATIENCE).await {
            Some(Incoming::Message { id, protocol, .. }) => return (id, protocol),
            // What it reported by itself is durable.
            Some(Incoming::Receipt { .. }) => {}
            other => panic!("no message but {other:?}"),
        }
    }
}

async fn link(world: &World, path: &str, body: Value) -> u16 {
    let path = format!("/admin/v1/apps/demo/{path}/addresses");
    world.admin.put(&path, Some(&body)).await.unwrap().0
}

/// A UMS device of `user-1` whose account is also Easemob's `ann` and Tencent's `bob`.
async fn everything() -> (Tencent, Admin, sim::Caller, i64) {
    let world = World::new().await;
    let token = easemob::speak(&world).await;
    antelope::speak(&world).await;
    super::speak(&world, json!({})).await;
    let caller = world.register_of("user-1", "c-1", json!({})).await;
    let (_, page) = (0, world.running.server.ledger.fact(Key::account("demo", "user-1")).await);
    let Fact::Account(Some(account)) = page.unwrap() else { panic!("no account") };
    let devices = world.running.server.ledger.fact(Key::AccountDevices(account)).await.unwrap();
    let Fact::Devices(devices) = devices else { panic!("no devices") };
    let number = devices[0].number;
    let cloud = Admin::new(easemob::base(&world), token);
    (Tencent { world }, cloud, caller, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_gets_messages_of_every_protocol_and_one_ledger_tells_the_story() {
    let (tencent, cloud, caller, number) = everything().await;
    let world = &tencent.world;
    let accounts = json!({ "Accounts": ["Ann"] });
    assert_eq!(tencent.call(super::IMPORT_MANY, &accounts).await["ErrorCode"], 0);
    let head = world.head().await;
    let both = json!({ "easemob": "Ann", "tencent": "bob" });
    assert_eq!(link(world, "accounts/ums/user-1", both).await, 204);
    assert_eq!(link(world, &format!("devices/{number}"), json!({ "antelope": CID })).await, 204);
    let options = DeviceOptions { auto_report: Some(3), ..DeviceOptions::new(&caller, PACKAGE) };
    let mut device = Device::connect(options).await.unwrap();
    until("it never connected", async || world.running.server.hub.connected(number)).await;

    let push = json!({ "strategy": 1, "targets": ["ann"], "pushMessage": easemob::hello() });
    easemob::ok(cloud.post("/push/single", Some(&push)).await.unwrap());
    let mut ids = vec![next(&mut device).await];
    assert_eq!(tencent.call(SENDMSG, &message(1)).await["ErrorCode"], 0);
    ids.push(next(&mut device).await);
    let headers = [("X-APP-ID", APP_ID), ("X-APP-Key", KEY)];
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let payload = json!({ "proxy": 0, "payload": { "msg": HELLO, "flag": 3, "clients": [CID] } });
    let mut raw = crate::harness::RawClient::new(world);
    let pushed = payload.to_string();
    let answer = raw.send("POST", "/v2/message/server/push", &headers, pushed.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    ids.push(next(&mut device).await);
    let id = world.push("c-1", json!({ "text": "hi" })).await;
    ids.push(next(&mut device).await);
    assert_eq!(ids[3].0, id);
    let protocols: Vec<_> = ids.iter().map(|(_, protocol)| protocol.as_str()).collect();
    assert_eq!(protocols, ["easemob", "tencent", "antelope", "ums"]);

    // Every one of them was shown, and the events alone say so.
    for (id, _) in &ids {
        let key = Key::Message(id.parse().unwrap());
        let shown = async || {
            let fact = world.running.server.ledger.fact(key.clone()).await.unwrap();
            let Fact::Message(Some(message)) = fact else { panic!("no message") };
            message.deliveries[&number].stage == Stage::Displayed
        };
        until("it was never shown", shown).await;
    }
    let events = tencent.events(head).await;
    let names: Vec<_> = events.iter().map(|event| event.event.name()).collect();
    assert_eq!(names[..2], ["account.linked", "device.linked"]);
    let accepted = events.iter().filter_map(|event| match &event.event {
        Event::MessageAccepted(push) => Some((push.protocol, push.targets[0].device)),
        _ => None,
    });
    let of = |protocol| (protocol, number);
    let wanted = [Protocol::Easemob, Protocol::Tencent, Protocol::Antelope, Protocol::Ums].map(of);
    assert_eq!(accepted.collect::<Vec<_>>(), wanted);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_given_once_and_taken_from_nobody() {
    let (tencent, cloud, _, number) = everything().await;
    let world = &tencent.world;
    easemob::ok(
        cloud.post("/users", Some(&json!({ "username": "bob", "password": "x" }))).await.unwrap(),
    );
    let head = world.head().await;
    let account = "accounts/ums/user-1";
    for (path, body, status) in [
        (account, json!({ "easemob": "bob" }), 409),
        (account, json!({ "ums": "another" }), 409),
        (account, json!({ "easemob": "a b" }), 400),
        (account, json!({ "tencent": "x".repeat(33) }), 400),
        (account, json!({ "unknown": "x" }), 400),
        ("accounts/ums/nobody", json!({ "tencent": "x" }), 404),
        ("accounts/other/user-1", json!({ "tencent": "x" }), 404),
        ("devices/999999", json!({ "antelope": CID }), 404),
        ("devices/x", json!({ "antelope": CID }), 404),
    ] {
        assert_eq!(link(world, path, body.clone()).await, status, "{path} {body}");
    }
    let device = format!("devices/{number}");
    assert_eq!(link(world, &device, json!({ "antelope": 7 })).await, 400);
    assert_eq!(world.head().await, head);
    assert_eq!(link(world, account, json!({ "tencent": "x" })).await, 204);
    assert_eq!(link(world, account, json!({ "tencent": "x" })).await, 204);
    assert_eq!(link(world, account, json!({ "tencent": "y" })).await, 409);
    assert_eq!(link(world, &device, json!({ "antelope": CID })).await, 204);
    assert_eq!(link(world, &device, json!({ "antelope": CID + 1 })).await, 409);
    assert_eq!(world.head().await, head + 2);
    tencent.world.stop().await;
}
