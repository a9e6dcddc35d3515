//! Tasks over our own channel: handed to devices that are here, kept for those that come.

use std::time::Duration;

use domain::{Event, route::Strategy, task::TaskAudience};
use pushledger::delivery::tasks::NewTask;
use serde_json::json;
use sim::{Device, DeviceOptions, fakes::Fault};

use super::{
    all_deliveries, cancel, chunks, count, create, post_of, recorded_once, register, statistics,
    task, token, until_now, until_task,
};
use crate::{
    harness::{PACKAGE, Place, World, message, ok, registration, until},
    vendors::Post,
};

async fn silent(world: &World, client: &str) -> Device {
    let caller = world.terminal(client);
    let options = DeviceOptions { auto_ack: false, ..DeviceOptions::new(&caller, PACKAGE) };
    Device::connect(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_kept_for_devices_that_are_away_and_ends_for_those_that_never_come() {
    let world = World::with_clock().await;
    for client in ["here", "late", "never", "mute"] {
        world.register(client).await;
    }
    let mut here = world.connect(&world.terminal("here")).await;
    let mut mute = silent(&world, "mute").await;
    let new = task(TaskAudience::Everyone, Strategy::OnlineElseKept);
    let id = create(&world, NewTask { keep_seconds: 600, ..new }).await;
    assert_eq!(message(&mut here).await.0, id.to_string());
    assert_eq!(message(&mut mute).await.0, id.to_string());
    let now = until_now(&world, id, |s| {
        count(s, "online", "received", "") == 1
            && count(s, "online", "sent", "") == 1
            && super::finished(s)
    });
    let now = now.await;
    assert_eq!((now.targets(), count(&now, "online", "routed", "")), (4, 2));
    assert_eq!(now.task.ended.as_deref(), Some("finished"));

    let mut late = world.connect(&world.terminal("late")).await;
    let (got, payload) = message(&mut late).await;
    assert_eq!((got, payload), (id.to_string(), json!({"title": "hello", "content": "everyone"})));
    until_now(&world, id, |s| count(s, "online", "received", "") == 2).await;
    // It has it: it does not come again. On another connection it reports.
    late.reconnect().await.unwrap();
    let other = world.push("late", json!({ "after": "that" })).await;
    assert_eq!(message(&mut late).await.0, other);
    late.report(&id.to_string(), 3).await.unwrap();
    until_task(&world, id, |s| count(s, "online", "displayed", "") == 1).await;

    world.clock.advance(Duration::from_secs(600));
    let over = until_task(&world, id, |s| {
        count(s, "online", "routed", "expired_offline") == 1
            && count(s, "online", "sent", "expired_unacknowledged") == 1
    });
    let over = over.await;
    assert_eq!(over.targets(), 4);
    let times = |buckets: &[(i64, i64)]| buckets.iter().map(|(_, count)| count).sum::<i64>();
    assert_eq!((times(&over.latencies[0]), times(&over.latencies[1])), (3, 2));
    // The message counts beside the task.
    let all: i64 = all_deliveries(&world).await.iter().map(|cell| cell.3).sum();
    assert_eq!(all, 5);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_stays_silent_is_reached_over_the_vendor_too() {
    let post = post_of((0..3).map(token)).await;
    let mut mute = silent(&post.world, "c-0").await;
    let mut here = post.world.connect(&post.world.terminal("c-1")).await;
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::OnlineElseVendor)).await;
    assert_eq!(message(&mut mute).await.0, id.to_string());
    assert_eq!(message(&mut here).await.0, id.to_string());
    let done = until_task(&post.world, id, super::finished).await;
    assert_eq!(count(&done, "jpush", "sent", ""), 2);
    assert_eq!(count(&done, "online", "received", ""), 1);
    assert_eq!(post.jpush.accepted(&token(0)), 1);
    assert_eq!(post.jpush.accepted(&token(1)), 0);
    assert_eq!(post.jpush.accepted(&token(2)), 1);
    assert_eq!(recorded_once(&chunks(&post.world, id).await), 3);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_task_ends_when_it_is_cancelled_or_the_device_unregisters() {
    let world = World::with_clock().await;
    for client in ["gone", "away"] {
        world.register(client).await;
    }
    let first = create(&world, task(TaskAudience::Everyone, Strategy::OnlineElseKept)).await;
    until_task(&world, first, |s| count(s, "online", "routed", "") == 2).await;
    let body = json!({ "appPackage": PACKAGE });
    ok(&world.terminal("gone"), "/ums/v2/unreg", &body).await;
    until_task(&world, first, |s| count(s, "online", "routed", "unregistered") == 1).await;
    // It finished, as all had their turn; what is kept can be taken back all the same.
    until_task(&world, first, super::finished).await;
    cancel(&world, first).await.unwrap();
    until_task(&world, first, |s| count(s, "online", "routed", "recalled") == 1).await;
    assert!(cancel(&world, first).await.is_err(), "it was cancelled twice");
    let mut away = world.connect(&world.terminal("away")).await;
    let other = world.push("away", json!({ "after": "that" })).await;
    assert_eq!(message(&mut away).await.0, other);
    ok(&world.terminal("gone"), "/ums/v2/register", &registration("gone")).await;
    let mut gone = world.connect(&world.terminal("gone")).await;
    let other = world.push("gone", json!({ "after": "that" })).await;
    assert_eq!(message(&mut gone).await.0, other);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_do_not_wait_for_what_a_vendor_says_of_others() {
    // One that takes its time, and one that is left alone for as long as it wants.
    let slow = Fault::Slow { ms: 600_000 };
    let is_slow = |fault: &Fault| matches!(fault, Fault::Slow { .. });
    let closed = Fault::TooMany { retry_after_seconds: Some(3_000) };
    for fault in [slow, closed] {
        let post = post_of((0..4).map(token)).await;
        let world = &post.world;
        post.jpush.plan_share(fault.clone(), 1_000);
        let everyone = || task(TaskAudience::Everyone, Strategy::OnlineElseVendor);
        if !is_slow(&fault) {
            let first =
                create(world, NewTask { strategy: Strategy::VendorOnly, ..everyone() }).await;
            until_task(world, first, |s| count(s, "jpush", "routed", "") == 4).await;
        }
        let mut here = world.connect(&world.terminal("c-0")).await;
        let number = post.number("c-0").await;
        let present = async || world.running.server.hub.connected(number);
        until("the device never counted as connected", present).await;
        let id = create(world, everyone()).await;
        // The second that a vendor is waited for is over, and not what a device may be silent for.
        let mut seconds = if is_slow(&fault) { 30 } else { 0 };
        if is_slow(&fault) {
            let asked = async || post.jpush.stats().pushes_accepted == 1;
            until("the vendor was not asked", asked).await;
        }
        let waits = async || {
            if seconds > 0 {
                seconds -= 1;
                world.clock.advance(Duration::from_secs(1));
            }
            let found = statistics(world, id).await;
            count(&found, "jpush", "routed", "") == 3
                && count(&found, "online", "received", "") == 1
        };
        let (got, ()) = tokio::join!(message(&mut here), until("the others wait", waits));
        assert_eq!(got.0, id.to_string(), "{fault:?}");
        // One that comes now does not wait either.
        let mut late = world.connect(&world.terminal("c-1")).await;
        assert_eq!(message(&mut late).await.0, id.to_string(), "{fault:?}");
        until_now(world, id, |s| count(s, "online", "received", "") == 2).await;
        drop((here, late));
        post.world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_takes_while_its_task_is_cancelled_or_expires_counts_as_sent() {
    for ending in ["recalled", "expired_offline"] {
        let mut place = Place::new().await;
        place.vendor_call = Duration::from_secs(300);
        let post = Post::on(World::with_clock_at(place).await).await;
        let world = &post.world;
        register(&world.running.server, (0..3).map(token)).await;
        post.jpush.plan_share(Fault::Slow { ms: 600_000 }, 1_000);
        let new = task(TaskAudience::Everyone, Strategy::OnlineElseVendor);
        let id = create(world, NewTask { keep_seconds: 1_800, ..new }).await;
        // It is asked and has yet to answer; meanwhile it is kept.
        let asked = async || post.jpush.stats().pushes_accepted == 1;
        until("the vendor was not asked", asked).await;
        until("nothing was kept", async || {
            world.clock.advance(Duration::from_millis(500));
            count(&statistics(world, id).await, "jpush", "routed", "") == 3
        })
        .await;
        if ending == "recalled" {
            cancel(world, id).await.unwrap();
        } else {
            world.clock.advance(Duration::from_secs(1_800));
        }
        until_now(world, id, |s| count(s, "jpush", "routed", ending) == 3).await;
        post.jpush.clear_plans();
        let done = until_now(world, id, |s| count(s, "jpush", "sent", "") == 3).await;
        assert_eq!((done.targets(), post.jpush.stats().tokens_accepted), (3, 3), "{done:?}");
        assert_eq!(recorded_once(&chunks(world, id).await), 3);
        let all: i64 = all_deliveries(world).await.iter().map(|cell| cell.3).sum();
        assert_eq!(all, 3);
        post.world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_which_there_is_nothing_to_record_hides_none_after_it() {
    let post = post_of((0..2).map(token)).await;
    let mut mute = silent(&post.world, "c-0").await;
    let number = post.number("c-0").await;
    let present = async || post.world.running.server.hub.connected(number);
    until("the device never counted as connected", present).await;
    // Who is away is put off until the vendor has refused who stays silent, of which nothing is said:
    // it is kept as it was.
    let failing = Fault::Status { status: 500, retry_after_seconds: None };
    post.jpush.plan([failing.clone(), failing.clone(), failing, Fault::Quota]);
    let id = create(&post.world, task(TaskAudience::Everyone, Strategy::OnlineElseVendor)).await;
    assert_eq!(message(&mut mute).await.0, id.to_string());
    for (attempt, pause) in [(1, 750), (2, 1_500), (3, 5_000)] {
        until("the vendor was not asked again", async || {
            let recorded = chunks(&post.world, id).await.into_iter();
            let attempts = recorded.filter(|e| matches!(e.event, Event::ChunkDelivered(_)));
            attempts.count() == attempt
        })
        .await;
        post.world.clock.advance(Duration::from_millis(pause));
    }
    until("nobody asked for the silent", async || post.jpush.stats().faults == 4).await;
    let done = until_task(&post.world, id, super::finished).await;
    assert_eq!(post.jpush.stats().faults, 4);
    assert_eq!(post.jpush.accepted(&token(1)), 1);
    assert_eq!(count(&done, "jpush", "sent", ""), 1, "{done:?}");
    assert_eq!(count(&done, "online", "sent", ""), 1, "{done:?}");
    drop(mute);
    post.world.stop().await;
}
