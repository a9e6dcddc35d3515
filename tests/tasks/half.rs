//! A task that is cancelled when half of it is sent.

use std::time::Duration;

use domain::{
    device::{Bind, BindDevice},
    route::Strategy,
    task::TaskAudience,
};
use pushledger::{
    delivery::{
        reach::{Reach, reach},
        tasks::NewTask,
    },
    ledger::Lane,
};
use sim::fakes::Fault;
use uuid::Uuid;

use super::{
    cancel, chunks, context, create, recorded_once, sent::user, statistics, task, until_task,
};
use crate::{
    harness::{World, until},
    vendors::Post,
};

const CHUNK: u32 = 5;
const CHUNKS: usize = 16;
/// Chunks that are sent before the vendor falls silent.
const SENT: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_half_sent_tells_how_many_users_it_reached() {
    let Post { world, jpush } = Post::on(World::in_chunks_of(CHUNK).await).await;
    let devices = CHUNKS * CHUNK as usize;
    for n in 0..devices {
        user(&world, &format!("u-{n}"), true).await;
    }
    user(&world, "nobody", false).await;
    // A second device of a user that the first chunk reaches; the last chunk has no turn.
    let tablet = BindDevice {
        app: "demo".to_owned(),
        username: "u-0".to_owned(),
        device_id: "tablet".to_owned(),
        change: Bind::Token("jpush-cert".to_owned(), "push-tablet".to_owned()),
        new_device: Uuid::now_v7(),
    };
    world.running.server.ledger.execute(Lane::Bulk, context(), tablet).await.unwrap();
    // So many calls are answered, and then none for as long as the test runs.
    let silent = (0..CHUNKS).map(|_| Fault::Slow { ms: 600_000 });
    jpush.plan((0..SENT).map(|_| Fault::GoAway).chain(silent));
    let new = task(TaskAudience::Everyone, Strategy::VendorOnly);
    let id = create(&world, NewTask { keep_seconds: 3_600, ..new }).await;
    let sent = i64::try_from(SENT * CHUNK as usize).unwrap();
    until("the first chunks were never sent", async || {
        statistics(&world, id).await.reached("sent") == sent
    })
    .await;
    let server = &world.running.server;
    let size = |reached| {
        let users = devices as u64 + 1;
        // As many devices as users: one has none, and one has two.
        Some(Reach { users, unbound: 1, devices: users, reached })
    };
    let running = statistics(&world, id).await;
    assert_eq!(reach(server, &running).await.unwrap(), size(None));

    cancel(&world, id).await.unwrap();
    let over = until_task(&world, id, |s| s.task.ended.as_deref() == Some("cancelled")).await;
    assert_eq!((over.targets(), over.reached("sent")), (sent, sent), "{over:?}");
    assert_eq!(over.task.users, None, "a cancelled task counts no users by itself");
    assert_eq!(reach(server, &over).await.unwrap(), size(Some(sent.unsigned_abs())));
    // No further chunk has its turn.
    let asked = jpush.stats().requests;
    for _ in 0..100 {
        world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(jpush.stats().requests, asked);
    assert_eq!(recorded_once(&chunks(&world, id).await), SENT * CHUNK as usize);
    assert!(cancel(&world, id).await.is_err(), "it was cancelled twice");
    world.stop().await;
}
