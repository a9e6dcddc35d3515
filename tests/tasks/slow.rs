//! Tasks whose vendor works and takes its time to answer: only what it was asked for waits for it.

use std::time::Duration;

use domain::{route::Strategy, task::TaskAudience};
use serde_json::json;
use sim::fakes::Fault;

use super::{
    chunks, count, create, finished, recorded_once, register, statistics, task, token, until_task,
};
use crate::{
    harness::{World, merge, message, ok, registration, until},
    vendors::Post,
};

/// Chunks that a task sends at once, while it waits for no vendor.
const TURNS: usize = 8;
const CHUNKS: usize = 12;
const CHUNK: u32 = 2;

/// A task whose vendor holds back every answer, to devices that are bound to it and one that is
/// connected and in the last chunk, with another: it gets its message, and the others theirs once the
/// vendor answers.
async fn reaches_the_last(strategy: Strategy, bound: bool) {
    let post = Post::on(World::in_chunks_of(CHUNK).await).await;
    let (world, others) = (&post.world, CHUNKS * CHUNK as usize - 1);
    register(&world.running.server, (0..others).map(token)).await;
    let mut body = registration("last");
    if !bound {
        // A speaker on the M2M channel, which is no push vendor's.
        merge(&mut body, json!({ "deviceType": "08", "collab3th": 1 }));
    }
    ok(&world.terminal("last"), "/ums/v2/register", &body).await;
    let mut last = world.connect(&world.terminal("last")).await;
    post.present("last").await;
    post.jpush.plan_share(Fault::Slow { ms: 600_000 }, 1_000);
    let id = create(world, task(TaskAudience::Everyone, strategy)).await;
    for asked in [TURNS, CHUNKS] {
        let all = async || post.jpush.stats().pushes_accepted == asked as u64;
        until("a chunk had no turn", all).await;
        // The second that a vendor is waited for is over.
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(message(&mut last).await.0, id.to_string());
    let meanwhile = statistics(world, id).await;
    assert_eq!(count(&meanwhile, "jpush", "sent", ""), 0, "{meanwhile:?}");

    post.jpush.clear_plans();
    let others = i64::try_from(others).unwrap();
    let done = until_task(world, id, |s| {
        finished(s)
            && count(s, "jpush", "sent", "") == others
            && count(s, "online", "received", "") == 1
    });
    assert_eq!(done.await.targets(), others + 1);
    assert_eq!(recorded_once(&chunks(world, id).await), CHUNKS * CHUNK as usize);
    let seen = post.jpush.stats();
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (others.unsigned_abs(), 0));
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_do_not_wait_for_what_a_slow_vendor_says_of_chunks_before_theirs() {
    reaches_the_last(Strategy::OnlineElseVendor, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_bound_to_none_does_not_wait_for_the_vendor_of_others() {
    reaches_the_last(Strategy::VendorElseOnline, false).await;
}
