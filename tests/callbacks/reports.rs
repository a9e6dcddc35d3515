//! UCloud's reports on deliveries: what became of each, in whose words, and what is reported of a push
//! to many.

use domain::{route::Strategy, task::TaskAudience};
use serde_json::{Value, json};
use sim::{Incoming, receiver::Receiver};

use super::{called, called_in_time, configure, receiver, until_count};
use crate::{
    harness::{PACKAGE, PATIENCE, World, message, ok, until},
    tasks::{create, statistics, task},
    vendors::Post,
};

/// Has the app `demo` report to a receiver.
async fn reporting(world: &World) -> Receiver {
    let server = receiver(world).await;
    configure(world, json!({ "uplink": { "reportUrl": server.url("/report") } })).await;
    server
}

/// What was reported so far: phone, result and code of each.
fn reported(server: &Receiver) -> Vec<(String, String, String)> {
    let entries = |call: &sim::receiver::Called| call.json()["Data"].as_array().unwrap().clone();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entries = server.calls().iter().flat_map(entries).collect::<Vec<_>>();
    let entries = entries.iter().map(|entry| {
        assert_eq!((&entry["CostCount"], entry["ReceiptTime"].is_i64()), (&json!(1), true));
        (text(entry, "Phone"), text(entry, "ReceiptResult"), text(entry, "ReceiptCode"))
    });
    entries.collect()
}

fn report(phone: &str, result: &str, code: &str) -> (String, String, String) {
    (phone.to_owned(), result.to_owned(), code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_what_became_of_each_delivery() {
    let world = World::new().await;
    let server = reporting(&world).await;
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
    let names =
        ["CostCount", "Phone", "ReceiptCode", "ReceiptDesc", "ReceiptResult", "ReceiptTime"];
    let names = [&names[..], &["SessionNo"]].concat();
    let mut told: Vec<_> = entry.as_object().unwrap().keys().collect();
    told.sort_unstable();
    assert_eq!(told, names);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_took_is_reported_as_handed_and_again_once_the_device_says_more() {
    let post = Post::new().await;
    let server = reporting(&post.world).await;
    post.world.register("c-1").await;
    let id = post.world.push("c-1", json!({ "n": 1 })).await;
    called_in_time(&post.world, &server, 1).await;
    assert_eq!(reported(&server), [report("c-1", "状态未知", "Handed")]);
    // What the notification brought shows it, and says so.
    let body = json!({ "appPackage": PACKAGE, "msgId": id, "status": 3 });
    ok(&post.world.terminal("c-1"), "/ums/v2/report", &body).await;
    called_in_time(&post.world, &server, 2).await;
    assert_eq!(reported(&server)[1], report("c-1", "发送成功", "Delivrd"));
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_is_reported_with_its_reason() {
    let world = World::with_clock().await;
    let server = reporting(&world).await;
    world.register("c-1").await;
    world.push("c-1", json!({ "n": 1 })).await;
    let body = json!({ "appPackage": PACKAGE });
    ok(&world.terminal("c-1"), "/ums/v2/unreg", &body).await;
    called(&server, 1).await;
    assert_eq!(reported(&server), [report("c-1", "发送失败", "unregistered")]);
    until_count(&world, "answered", 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_push_to_everyone_only_what_devices_say_is_reported() {
    let post = Post::new().await;
    let server = reporting(&post.world).await;
    for client in ["here", "away"] {
        post.world.register(client).await;
    }
    let mut here = post.world.connect(&post.world.terminal("here")).await;
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::OnlineElseVendor)).await;
    assert_eq!(message(&mut here).await.0, id.to_string());
    called_in_time(&post.world, &server, 1).await;
    until_count(&post.world, "answered", 1).await;
    // That the vendor took it is in the ledger, where reports come from.
    until("it was never handed over", async || {
        statistics(&post.world, id).await.reached("sent") == 2
    })
    .await;
    assert_eq!(post.jpush.accepted("push-away"), 1);
    // What comes after it is reported after it: so nothing was said of the one that is away.
    let other = post.world.push("here", json!({ "n": 2 })).await;
    assert_eq!(message(&mut here).await.0, other);
    called_in_time(&post.world, &server, 2).await;
    let delivered = report("here", "发送成功", "Delivrd");
    assert_eq!(reported(&server), [delivered.clone(), delivered]);
    assert_eq!(server.calls()[0].json()["Data"][0]["SessionNo"], id.to_string());
    post.world.stop().await;
}
