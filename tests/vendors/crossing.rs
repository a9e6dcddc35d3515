//! When a device is reached another way, or is not to be reached any more, while its vendor is away:
//! the vendor is not asked again for it, and still is for the others of the same call. The same for
//! a message and for a task.

use std::time::Duration;

use domain::{
    message::{Ending, Stage},
    route::Strategy,
    task::TaskAudience,
};
use serde_json::json;
use sim::{
    DeviceOptions,
    fakes::{Fault, Outage},
};

use super::{DAY, Post, token, ways::living};
use crate::{
    harness::{PACKAGE, message, ok},
    tasks::{
        chunks, count, create, finished, recorded_once, statistics, task, until_now, until_task,
    },
};

impl Post {
    /// Waits until a push was refused, if the vendor is away.
    async fn asked(&self) {
        let asked = self.jpush.until(|stats| stats.requests > 0);
        tokio::time::timeout(crate::harness::PATIENCE, asked).await.unwrap();
    }

    /// Whatever was put off has had its turn once as much time has passed again, and the vendor has
    /// taken a message that was pushed after each part of it.
    async fn all_had_their_turn(&self) {
        self.world.register("marker").await;
        for _ in 0..20 {
            self.world.clock.advance(Duration::from_secs(30));
            let marker = self.push(&["marker"], Strategy::VendorOnly, DAY).await;
            self.until(marker, "marker", |delivery| delivery.vendor.is_some()).await;
        }
    }

    fn accepted<const N: usize>(&self, clients: [&str; N]) -> [u32; N] {
        clients.map(|client| self.jpush.accepted(&token(client)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_reached_left_or_is_not_to_get_it_any_more_is_not_asked_for_again() {
    let post = Post::new().await;
    let world = &post.world;
    let clients = ["reached", "left", "recalled", "waits"];
    for client in clients {
        world.register(client).await;
    }
    post.jpush.set_outage(Outage::Unavailable).await;
    let together = post.push(&["reached", "left", "waits"], Strategy::OnlineElseVendor, DAY).await;
    let recalled = post.push(&["recalled"], Strategy::OnlineElseVendor, DAY).await;
    post.asked().await;

    let device = living(post.connected("reached").await);
    post.until(together, "reached", |delivery| delivery.stage >= Stage::Received).await;
    ok(&world.terminal("left"), "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    post.until(together, "left", |delivery| delivery.ended == Some(Ending::Unregistered)).await;
    let path = format!("/admin/v1/apps/demo/messages/{recalled}/recall");
    let (status, body, _) = world.admin.post(&path, None).await.unwrap();
    assert_eq!((status, &body["devices"][0]["result"]), (200, &json!("stopped_before_sending")));

    let later = post.push(&["waits"], Strategy::VendorOnly, DAY).await;
    post.jpush.set_outage(Outage::None).await;
    post.while_time_passes(later, "waits", |delivery| delivery.vendor.is_some()).await;
    post.while_time_passes(together, "waits", |delivery| delivery.vendor.is_some()).await;
    post.all_had_their_turn().await;
    assert_eq!(post.accepted(clients), [0, 0, 0, 2]);
    assert_eq!(post.delivery(together, "reached").await.vendor, None);
    device.abort();
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_of_a_task_was_reached_or_left_is_not_asked_for_again() {
    let post = Post::new().await;
    let world = &post.world;
    let clients = ["reached", "left", "waits"];
    for client in clients {
        world.register(client).await;
    }
    post.jpush.set_outage(Outage::Unavailable).await;
    let new = task(TaskAudience::Everyone, Strategy::OnlineElseVendor);
    let id = create(world, new).await;
    until_task(world, id, |s| count(s, "jpush", "routed", "") == 3).await;

    // Who comes finds it, though a vendor is asked for it too.
    let mut device = world.connect(&world.terminal("reached")).await;
    assert_eq!(message(&mut device).await.0, id.to_string());
    let device = living(device);
    ok(&world.terminal("left"), "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    until_now(world, id, |s| {
        count(s, "online", "received", "") == 1 && count(s, "jpush", "routed", "unregistered") == 1
    })
    .await;

    post.jpush.set_outage(Outage::None).await;
    let over = until_task(world, id, finished).await;
    post.all_had_their_turn().await;
    assert_eq!(post.accepted(clients), [0, 0, 1]);
    assert_eq!((over.targets(), count(&over, "jpush", "sent", "")), (3, 1), "{over:?}");
    assert_eq!(recorded_once(&chunks(world, id).await), 3);
    device.abort();
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stayed_silent_and_answers_while_the_vendor_is_away_gets_it_once() {
    for as_task in [false, true] {
        let post = Post::new().await;
        let world = &post.world;
        for client in ["mute", "away"] {
            world.register(client).await;
        }
        let caller = world.terminal("mute");
        let options = DeviceOptions { auto_ack: false, ..DeviceOptions::new(&caller, PACKAGE) };
        let mut mute = sim::Device::connect(options).await.unwrap();
        post.present("mute").await;
        post.jpush.plan_share(Fault::Status { status: 503, retry_after_seconds: None }, 1_000);
        let id = match as_task {
            true => create(world, task(TaskAudience::Everyone, Strategy::OnlineElseVendor)).await,
            false => post.push(&["mute", "away"], Strategy::OnlineElseVendor, DAY).await,
        };
        let (own, _) = message(&mut mute).await;
        assert_eq!(own, id.to_string());
        // Both are asked for: one at once, and the other after its silence.
        crate::harness::until("the vendor was not asked for both", async || {
            world.clock.advance(Duration::from_secs(1));
            let pushes = post.jpush.requests().into_iter().filter(|r| r.path == "/v3/push");
            let asked = pushes.filter_map(|push| push.json()["audience"].as_object().cloned());
            let asked: String = asked.map(|to| json!(to).to_string()).collect();
            asked.contains(&token("mute")) && asked.contains(&token("away"))
        })
        .await;
        // As much time has passed, its connection may be over by now.
        mute.reconnect().await.unwrap();
        mute.ack(&own).await.unwrap();
        let received = async || match as_task {
            true => count(&statistics(world, id).await, "online", "received", "") == 1,
            false => post.delivery(id, "mute").await.stage == Stage::Received,
        };
        crate::harness::until("the answer was not recorded", received).await;
        post.jpush.clear_plans();
        crate::harness::until("the other was not sent it", async || {
            world.clock.advance(Duration::from_secs(1));
            post.accepted(["away"]) == [1]
        })
        .await;
        post.all_had_their_turn().await;
        assert_eq!(post.accepted(["mute", "away"]), [0, 1], "as a task: {as_task}");
        drop(mute);
        post.world.stop().await;
    }
}
