//! Tasks that go to a push vendor.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    Event, Rejection,
    account::RegisterUser,
    device::{Bind, BindDevice},
    label::{ChangeMembers, CreateLabel, DeleteLabel},
    route::Strategy,
    task::TaskAudience,
};
use pushledger::ledger::{Lane, Refused};
use sim::fakes::{Fault, JpushFake, Outage};
use uuid::Uuid;

use super::{
    all_deliveries, cancel, chunks, context, count, create, finished, post_of, recorded_once,
    register, statistics, task, token, until_task,
};
use crate::{
    harness::{PATIENCE, World, until},
    vendors::Post,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_to_5000_devices_counts_what_the_vendor_saw() {
    let of = |n: usize| if n % 1_000 == 7 { String::new() } else { token(n) };
    let post = post_of((0..5_000).map(of)).await;
    let slow = Fault::TooMany { retry_after_seconds: None };
    let failing = Fault::Status { status: 503, retry_after_seconds: None };
    post.jpush.plan([slow, failing, Fault::Reset, Fault::Lost, Fault::Quota]);
    for username in ["ann", "bob"] {
        let (app, username) = ("demo".to_owned(), username.to_owned());
        let (nickname, new_account) = (None, Uuid::now_v7());
        let command = RegisterUser { app, username, nickname, new_account };
        let ledger = &post.world.running.server.ledger;
        ledger.execute(Lane::Interactive, context(), command).await.unwrap();
    }
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    let done = until_task(&post.world, id, finished).await;

    assert_eq!(done.targets(), 5_000);
    assert_eq!(count(&done, "", "accepted", "no_binding"), 5);
    let seen = post.jpush.stats();
    let sent = count(&done, "jpush", "sent", "");
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (sent.unsigned_abs(), 0));
    // One call met an empty quota.
    let refused: i64 =
        done.cells.iter().filter(|c| c.ended == "quota_exhausted").map(|c| c.deliveries).sum();
    assert!(refused > 0 && sent + refused == 4_995, "{done:?}");
    assert_eq!(done.unobservable(), sent);
    assert_eq!((done.task.users, done.task.unbound), (Some(2), Some(2)));
    let handed: i64 = done.latencies[0].iter().map(|(_, deliveries)| deliveries).sum();
    assert_eq!(handed, sent);

    let chunks = chunks(&post.world, id).await;
    assert_eq!(recorded_once(&chunks), 5_000);
    let bytes: usize = chunks.iter().map(|e| e.event.encode().unwrap().0.len()).sum();
    assert!(bytes < 5 * 5_000, "{bytes} bytes of the ledger");
    let all: i64 = all_deliveries(&post.world).await.iter().map(|cell| cell.3).sum();
    assert_eq!(all, 5_000);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_behind_its_recorded_chunks_after_a_restart() {
    let post = post_of((0..9_000).map(token)).await;
    // The first call, and so the first chunk, has no answer when the server stops.
    post.jpush.plan([Fault::Slow { ms: 30_000 }]);
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    until("no chunk was recorded", async || chunks(&post.world, id).await.len() >= 4).await;
    let before = chunks(&post.world, id).await;
    let Post { world, jpush } = post;
    let world = world.restart().await;
    let done = until_task(&world, id, finished).await;
    let after = chunks(&world, id).await;
    assert_eq!(recorded_once(&after), 9_000);
    assert_eq!(after[..before.len()], before);
    assert_eq!(count(&done, "jpush", "sent", ""), 9_000);
    // The call that had no answer was made again, with its key of before.
    let seen = jpush.stats();
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (9_000, 0));
    let cids = cids(&jpush);
    let once: BTreeSet<&String> = cids.iter().collect();
    assert!(once.len() < cids.len(), "no call was made again");
    world.stop().await;
}

/// The idempotency keys of all pushes that JPush got.
fn cids(jpush: &JpushFake) -> Vec<String> {
    let pushes = jpush.requests().into_iter().filter(|request| request.path == "/v3/push");
    pushes.map(|push| push.json()["cid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_away_through_a_restart_gets_all_of_a_task_once_it_is_back() {
    let post = post_of((0..3_000).map(token)).await;
    post.jpush.set_outage(Outage::Unavailable).await;
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    let waits =
        |s: &projections::task_statistics::TaskStatistics| count(s, "jpush", "routed", "") == 3_000;
    until_task(&post.world, id, waits).await;
    let Post { world, jpush } = post;
    let world = world.restart().await;
    jpush.set_outage(Outage::None).await;
    let done = until_task(&world, id, finished).await;
    assert_eq!(count(&done, "jpush", "sent", ""), 3_000);
    assert_eq!(done.targets(), 3_000);
    let seen = jpush.stats();
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (3_000, 0));
    assert_eq!(recorded_once(&chunks(&world, id).await), 3_000);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_task_starts_once_on_two_servers_and_after_a_restart() {
    let post = post_of((0..100).map(token)).await;
    let Post { world, jpush } = post;
    // Within a lease, so that it is one server's to the end.
    let start_at = Some(world.clock.now() + 5_000_000);
    let new = task(TaskAudience::Everyone, Strategy::VendorOnly);
    let id = create(&world, pushledger::delivery::tasks::NewTask { start_at, ..new }).await;
    let world = world.restart().await;
    let second = world.second().await;
    world.clock.advance(Duration::from_secs(4));
    assert_eq!(statistics(&world, id).await.task.started_at, None);
    // One who registers before the start is among the audience.
    register(&world.running.server, (0..101).map(token)).await;
    world.clock.advance(Duration::from_secs(1));
    let ended = async || finished(&statistics(&world, id).await);
    until("the task never ended", ended).await;
    let done = statistics(&world, id).await;
    assert_eq!(count(&done, "jpush", "sent", ""), 101);
    assert!(done.task.started_at >= start_at);
    let events = world.running.server.ledger.read(0, i64::MAX).await.unwrap().events;
    let starts = events.iter().filter(|e| matches!(e.event, Event::TaskStarted(_)));
    assert_eq!(starts.count(), 1);
    assert_eq!(recorded_once(&chunks(&world, id).await), 101);
    let seen = jpush.stats();
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (101, 0));
    second.shutdown().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_task_starts_on_the_server_that_is_left() {
    let Post { world, jpush } = post_of((0..3).map(token)).await;
    let start_at = Some(world.clock.now() + 5_000_000);
    let new = task(TaskAudience::Everyone, Strategy::VendorOnly);
    create(&world, pushledger::delivery::tasks::NewTask { start_at, ..new }).await;
    let second = world.second().await;
    let World { place, running, clock, .. } = world;
    running.shutdown().await;
    assert_eq!(jpush.stats().requests, 0);
    clock.advance(Duration::from_secs(5));
    let sent = jpush.until(|seen| seen.tokens_accepted == 3);
    tokio::time::timeout(PATIENCE, sent).await.unwrap();
    let events = second.server.ledger.read(0, i64::MAX).await.unwrap().events;
    let starts = events.iter().filter(|e| matches!(e.event, Event::TaskStarted(_)));
    assert_eq!(starts.count(), 1);
    second.shutdown().await;
    drop(place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_on_its_way_sends_nothing_more() {
    let post = post_of((0..3_000).map(token)).await;
    post.jpush.set_outage(Outage::Unavailable).await;
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    until_task(&post.world, id, |s| count(s, "jpush", "routed", "") == 3_000).await;
    cancel(&post.world, id).await.unwrap();
    let over = until_task(&post.world, id, |s| count(s, "jpush", "routed", "recalled") == 3_000);
    let over = over.await;
    assert_eq!(over.task.ended.as_deref(), Some("cancelled"));
    post.jpush.set_outage(Outage::None).await;
    let asked = post.jpush.stats().requests;
    for _ in 0..2_000 {
        post.world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let seen = post.jpush.stats();
    assert_eq!((seen.tokens_accepted, seen.requests), (0, asked));
    let again = cancel(&post.world, id).await;
    assert!(matches!(again, Err(Refused::Rejected(Rejection::TaskOver))), "{again:?}");
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_no_vendor_can_have_given_spoils_nothing_for_its_neighbours() {
    let post = post_of([token(0), "x".repeat(4_097), token(2)]).await;
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    let done = until_task(&post.world, id, finished).await;
    assert_eq!(count(&done, "jpush", "sent", ""), 2, "{done:?}");
    assert_eq!(count(&done, "jpush", "accepted", "unfit"), 1, "{done:?}");
    assert_eq!(post.jpush.stats().pushes_accepted, 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_call_of_a_task_holds_no_other_back() {
    let post = post_of((0..5_000).map(token)).await;
    post.jpush.plan([Fault::Status { status: 503, retry_after_seconds: None }]);
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    // No time passes: all but the call that was refused are sent.
    let sent = tokio::time::timeout(PATIENCE, post.jpush.until(|s| s.tokens_accepted == 4_000));
    assert!(sent.await.is_ok(), "{:?}", post.jpush.stats());
    let done = until_task(&post.world, id, finished).await;
    assert_eq!(count(&done, "jpush", "sent", ""), 5_000);
    let seen = post.jpush.stats();
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (5_000, 0));
    post.world.stop().await;
}

/// An Easemob user, with a device that is bound to the vendor or without any.
pub(super) async fn user(world: &World, username: &str, bound: bool) {
    let ledger = &world.running.server.ledger;
    let (app, username) = ("demo".to_owned(), username.to_owned());
    let (nickname, new_account) = (None, Uuid::now_v7());
    let command =
        RegisterUser { app: app.clone(), username: username.clone(), nickname, new_account };
    ledger.execute(Lane::Interactive, context(), command).await.unwrap();
    if bound {
        let change = Bind::Token("jpush-cert".to_owned(), format!("push-{username}"));
        let (device_id, new_device) = ("phone".to_owned(), Uuid::now_v7());
        let command = BindDevice { app, username, device_id, change, new_device };
        ledger.execute(Lane::Interactive, context(), command).await.unwrap();
    }
}

async fn change(world: &World, usernames: &[&str], join: bool) {
    let usernames = usernames.iter().map(|name| (*name).to_owned()).collect();
    let (app, name, most) = ("demo".to_owned(), "vip".to_owned(), 100);
    let command = ChangeMembers { app, name, usernames, join, most };
    let ledger = &world.running.server.ledger;
    ledger.execute(Lane::Interactive, context(), command).await.unwrap();
}

/// Creates the label `vip`.
async fn vip(world: &World) {
    let (app, name) = ("demo".to_owned(), "vip".to_owned());
    let (description, most, new_label) = (String::new(), 9, Uuid::now_v7());
    let command = CreateLabel { app, name, description, most, new_label };
    world.running.server.ledger.execute(Lane::Interactive, context(), command).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_was_deleted_before_the_task_starts_is_nobody() {
    let Post { world, jpush } = Post::new().await;
    user(&world, "ann", true).await;
    vip(&world).await;
    change(&world, &["ann"], true).await;
    let start_at = Some(world.clock.now() + 5_000_000);
    let new = task(TaskAudience::Label("vip".to_owned()), Strategy::VendorOnly);
    let id = create(&world, pushledger::delivery::tasks::NewTask { start_at, ..new }).await;
    let command = DeleteLabel { app: "demo".to_owned(), name: "vip".to_owned() };
    world.running.server.ledger.execute(Lane::Interactive, context(), command).await.unwrap();
    // The name's next label is another one.
    vip(&world).await;
    change(&world, &["ann"], true).await;
    let started = until_task(&world, id, |s| s.task.started_at.is_some());
    world.clock.advance(Duration::from_secs(5));
    started.await;
    let done = until_task(&world, id, finished).await;
    assert_eq!((done.task.users, done.targets()), (Some(0), 0));
    assert_eq!(jpush.accepted("push-ann"), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_deleted_after_the_task_started_is_who_was_in_it_then() {
    let Post { world, jpush } = Post::new().await;
    for username in ["ann", "bob"] {
        user(&world, username, true).await;
    }
    vip(&world).await;
    change(&world, &["ann", "bob"], true).await;
    jpush.set_outage(Outage::Unavailable).await;
    let new = task(TaskAudience::Label("vip".to_owned()), Strategy::VendorOnly);
    let id = create(&world, new).await;
    until_task(&world, id, |s| s.task.started_at.is_some()).await;
    let command = DeleteLabel { app: "demo".to_owned(), name: "vip".to_owned() };
    world.running.server.ledger.execute(Lane::Interactive, context(), command).await.unwrap();
    // After a restart the audience is read again, as of the start.
    let world = world.restart().await;
    jpush.set_outage(Outage::None).await;
    let done = until_task(&world, id, finished).await;
    assert_eq!((done.task.users, done.task.unbound, done.targets()), (Some(2), Some(0), 2));
    assert_eq!(count(&done, "jpush", "sent", ""), 2);
    assert_eq!((jpush.accepted("push-ann"), jpush.accepted("push-bob")), (1, 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_is_who_is_in_it_when_the_task_starts() {
    let Post { world, jpush } = Post::new().await;
    for (username, bound) in [("ann", true), ("bob", true), ("eve", true), ("zoe", false)] {
        user(&world, username, bound).await;
    }
    vip(&world).await;
    change(&world, &["ann", "bob", "zoe"], true).await;
    // Within a lease, so that it is one server's to the end.
    let start_at = Some(world.clock.now() + 5_000_000);
    let new = task(TaskAudience::Label("vip".to_owned()), Strategy::VendorOnly);
    let id = create(&world, pushledger::delivery::tasks::NewTask { start_at, ..new }).await;
    change(&world, &["bob"], false).await;
    let started = until_task(&world, id, |s| s.task.started_at.is_some());
    world.clock.advance(Duration::from_secs(4));
    started.await;
    change(&world, &["eve"], true).await;
    let done = until_task(&world, id, finished).await;
    assert_eq!((done.task.users, done.task.unbound, done.targets()), (Some(2), Some(1), 1));
    tokio::time::timeout(PATIENCE, jpush.until(|seen| seen.tokens_accepted == 1)).await.unwrap();
    assert_eq!(jpush.accepted("push-ann"), 1);
    world.stop().await;
}
