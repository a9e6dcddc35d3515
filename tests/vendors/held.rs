//! When everything waits for a vendor, and when only the call that failed: a lane is held by a vendor
//! that asks for a pause, and by one that takes nothing. The call that fails is a task's, as the
//! ledger then knows when its answer has been taken in.

use std::time::Duration;

use domain::{
    Event, Stream,
    message::{Delivery, MessageId},
    route::Strategy,
    task::TaskAudience,
    vendor::{FIRST_PAUSE_MICROS, FIRST_QUICK_PAUSE_MICROS},
};
use serde_json::json;
use sim::fakes::{Fault, Jpush, JpushFake, Options};

use super::{DAY, Post, token};
use crate::{
    harness::{merge, ok, registration, until},
    tasks::{chunks, create, task},
};

const FAILING: Fault = Fault::Status { status: 503, retry_after_seconds: None };
const CLIENTS: [&str; 3] = ["a", "b", "c"];

/// Three clients, to whom the vendor has taken a message each.
async fn post() -> Post {
    let post = Post::new().await;
    for client in CLIENTS {
        post.world.register(client).await;
    }
    goes_at_once(&post).await;
    post
}

fn sent(delivery: &Delivery) -> bool {
    delivery.vendor.is_some()
}

async fn push(post: &Post, client: &str) -> MessageId {
    post.push(&[client], Strategy::VendorOnly, DAY).await
}

/// Messages are sent without any time passing.
async fn goes_at_once(post: &Post) {
    for client in CLIENTS {
        let id = push(post, client).await;
        post.until(id, client, sent).await;
    }
}

/// No message is sent before that time, in µs, and all are then.
async fn goes_from(post: &Post, time: i64) {
    let mut ids = Vec::new();
    for client in CLIENTS {
        ids.push((push(post, client).await, client));
    }
    for (id, client) in ids {
        post.while_time_passes(id, client, sent).await;
        let at = sent_at(post, id).await;
        assert!(at >= time, "{client} was sent to {} µs early", time - at);
    }
}

/// When it was recorded that a message was sent, in µs.
async fn sent_at(post: &Post, id: MessageId) -> i64 {
    let stream = Stream::Message(id).to_string();
    let page = post.world.running.server.ledger.read_stream(&stream, 0, 100).await.unwrap();
    let advanced = page.events.iter().find(|e| matches!(e.event, Event::DeliveriesAdvanced(_)));
    advanced.expect("a step").recorded_at
}

/// A task to all clients, which is one call.
async fn begun(post: &Post) -> MessageId {
    create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await
}

/// Waits until so many attempts of a task are over.
async fn attempts(post: &Post, task: MessageId, made: usize) {
    let enough = async || chunks(&post.world, task).await.len() >= made;
    until("no attempt was recorded", enough).await;
}

/// The longest that a pause of so many µs may become.
fn at_most(pause: i64) -> Duration {
    Duration::from_micros(pause.unsigned_abs()) * 3 / 2
}

/// Has a call fail once, and everything else go on.
async fn fails_alone(post: &Post) {
    let accepted = post.jpush.accepted(&token("a"));
    post.jpush.plan([FAILING]);
    let task = begun(post).await;
    attempts(post, task, 1).await;
    goes_at_once(post).await;
    assert_eq!(post.jpush.accepted(&token("a")), accepted + 1);
    post.world.clock.advance(at_most(FIRST_QUICK_PAUSE_MICROS));
    attempts(post, task, 2).await;
    assert_eq!(post.jpush.accepted(&token("a")), accepted + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_that_fails_among_others_waits_alone_and_briefly() {
    let post = post().await;
    fails_alone(&post).await;
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_takes_nothing_is_left_alone_until_it_is_back_and_then_is_as_before() {
    let post = post().await;
    post.jpush.plan_share(FAILING, 1_000);
    let task = begun(&post).await;
    attempts(&post, task, 1).await;
    // Nothing gets through for a while: with one more call that fails it counts as away.
    post.world.clock.advance(Duration::from_secs(10));
    attempts(&post, task, 2).await;
    post.jpush.clear_plans();
    goes_from(&post, post.world.clock.now() + FIRST_PAUSE_MICROS).await;
    attempts(&post, task, 3).await;
    fails_alone(&post).await;
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_asks_for_a_pause_is_left_alone_with_everything() {
    for fault in [
        Fault::TooMany { retry_after_seconds: None },
        Fault::TooMany { retry_after_seconds: Some(30) },
        Fault::Status { status: 503, retry_after_seconds: Some(30) },
    ] {
        let post = post().await;
        post.jpush.plan([fault]);
        let task = begun(&post).await;
        attempts(&post, task, 1).await;
        goes_from(&post, post.world.clock.now() + FIRST_PAUSE_MICROS).await;
        attempts(&post, task, 2).await;
        post.world.stop().await;
    }
}

/// Adds the credentials of another package at the same vendor, with a client `d` of it.
async fn other_package(post: &Post) -> JpushFake {
    let other = JpushFake::start(Jpush::default(), Options::default()).await.unwrap();
    let own = other.credentials();
    let vendors = json!({ "vendors": [{ "name": "jpush-cert" }, {
        "name": "other", "appPackages": ["com.acme.other"],
        "credentials": {
            "vendor": "jpush", "baseUrl": other.url(),
            "appKey": own.app_key, "masterSecret": own.master_secret,
        },
    }] });
    let changed = post.world.admin.patch("/admin/v1/apps/demo", Some(&vendors)).await.unwrap();
    assert_eq!(changed.0, 200, "{}", changed.1);
    let mut body = registration("d");
    merge(&mut body, json!({ "appPackage": "com.acme.other" }));
    ok(&post.world.terminal("d"), "/ums/v2/register", &body).await;
    let id = push(post, "d").await;
    post.until(id, "d", sent).await;
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_for_one_package_holds_up_none_of_another_at_the_same_vendor() {
    let post = post().await;
    let other = other_package(&post).await;
    post.jpush.plan([Fault::Status { status: 503, retry_after_seconds: Some(30) }]);
    other.plan([FAILING]);
    let task = begun(&post).await;
    attempts(&post, task, 1).await;
    let accepted = || (post.jpush.accepted(&token("a")), other.accepted(&token("d")));
    assert_eq!(accepted(), (1, 1));
    post.world.clock.advance(at_most(FIRST_QUICK_PAUSE_MICROS));
    attempts(&post, task, 2).await;
    assert_eq!(accepted(), (1, 2));
    post.world.clock.advance(Duration::from_secs(45));
    attempts(&post, task, 3).await;
    assert_eq!(accepted(), (2, 2));
    post.world.stop().await;
}
