//! Pushes to large audiences, with a strict fake JPush at the other end and devices on the socket:
//! what the statistics say is what happened, once each, through faults, restarts and cancellation.

mod half;
mod kept;
mod sent;
mod slow;

use std::collections::BTreeSet;

use domain::{
    Event, Metadata, Recorded, Stream,
    device::{Channel, Identity, Profile, RegisterDevice},
    message::{MessageId, MessagePrivate, Protocol, RawJson},
    route::Strategy,
    task::{TaskAudience, TaskLimits},
};
use futures_util::{StreamExt, stream};
use projections::{delivery_stats, task_statistics::TaskStatistics};
use pushledger::{
    app::Server,
    delivery::tasks::{self, NewTask},
    ledger::{Context, Lane, Refused},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    harness::{PACKAGE, PATIENCE, World, until},
    vendors::Post,
};

pub(crate) fn context() -> Context {
    Context { app: "demo".to_owned(), metadata: Metadata::default() }
}

/// Registers clients `c-0`, `c-1`, … with these tokens, straight through the ledger.
pub(crate) async fn register(server: &Server, tokens: impl IntoIterator<Item = String>) {
    let all = stream::iter(tokens.into_iter().enumerate()).map(|(n, push_id)| async move {
        let command = RegisterDevice {
            app: "demo".to_owned(),
            allowed_packages: Vec::new(),
            user: None,
            profile: Profile {
                app_package: PACKAGE.to_owned(),
                device_type: "01".to_owned(),
                type_id: None,
                channel: Channel::Jpush,
            },
            identity: Identity { client_id: format!("c-{n}"), push_id, ..Identity::default() },
            new_device: Uuid::now_v7(),
            new_account: Uuid::now_v7(),
        };
        server.ledger.execute(Lane::Interactive, context(), command).await.unwrap();
    });
    all.buffered(512).collect::<()>().await;
}

pub(crate) fn token(n: usize) -> String {
    format!("push-c-{n}")
}

pub(crate) fn task(audience: TaskAudience, strategy: Strategy) -> NewTask {
    let json = |text: &str| RawJson(RawValue::from_string(text.to_owned()).unwrap());
    NewTask {
        protocol: Protocol::Easemob,
        audience,
        strategy,
        keep_seconds: 86_400,
        start_at: None,
        limits: TaskLimits { running: 3, created: 3 },
        private: MessagePrivate {
            destinations: json("null"),
            payload: Some(json(r#"{"title":"hello","content":"everyone"}"#)),
            caller: None,
        },
    }
}

pub(crate) async fn create(world: &World, new: NewTask) -> MessageId {
    tasks::create(&world.running.server, context(), new).await.unwrap().0
}

pub(crate) async fn cancel(world: &World, task: MessageId) -> Result<(), Refused> {
    tasks::cancel(&world.running.server, context(), task).await.map(drop)
}

/// What a task came to, as of now.
pub(crate) async fn statistics(world: &World, task: MessageId) -> TaskStatistics {
    let server = &world.running.server;
    server.views.reached(world.head().await, PATIENCE).await.unwrap();
    tasks::statistics(server, "demo", task).await.unwrap().expect("a task")
}

/// Deliveries in a cell.
pub(crate) fn count(statistics: &TaskStatistics, way: &str, stage: &str, ended: &str) -> i64 {
    let cells = statistics.cells.iter();
    let mut own = cells.filter(|c| (&*c.way, &*c.stage, &*c.ended) == (way, stage, ended));
    own.next().map_or(0, |cell| cell.deliveries)
}

/// Waits until a task is as wanted, while time passes a second at a time.
pub(crate) async fn until_task(
    world: &World,
    task: MessageId,
    so: impl Fn(&TaskStatistics) -> bool,
) -> TaskStatistics {
    let mut last = statistics(world, task).await;
    until("the task never got so far", async || {
        world.clock.advance(std::time::Duration::from_secs(1));
        last = statistics(world, task).await;
        so(&last)
    })
    .await;
    last
}

/// The same, without any time passing, so that devices stay that are here and answer nothing.
pub(crate) async fn until_now(
    world: &World,
    task: MessageId,
    so: impl Fn(&TaskStatistics) -> bool,
) -> TaskStatistics {
    until("the task never got so far", async || so(&statistics(world, task).await)).await;
    statistics(world, task).await
}

pub(crate) fn finished(statistics: &TaskStatistics) -> bool {
    statistics.task.ended.as_deref() == Some("finished")
}

/// The events of a task's chunks.
pub(crate) async fn chunks(world: &World, task: MessageId) -> Vec<Recorded> {
    let events = world.running.server.ledger.read(0, i64::MAX).await.unwrap().events;
    let own = |e: &Recorded| matches!(e.stream, Stream::Chunk(of, _) if of == task);
    events.into_iter().filter(own).collect()
}

/// Checks that each attempt at each chunk was recorded once, and each device is in one chunk; gives
/// the devices.
pub(crate) fn recorded_once(chunks: &[Recorded]) -> usize {
    let (mut attempts, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for recorded in chunks {
        let Event::ChunkDelivered(e) = &recorded.event else { continue };
        assert!(attempts.insert((recorded.stream.to_string(), e.attempt)), "{e:?}");
        if e.attempt == 1 {
            let numbers = e.devices.numbers();
            assert_eq!((numbers.first(), numbers.last()), (Some(&e.first), Some(&e.last)));
            assert!(numbers.into_iter().all(|number| devices.insert(number)));
        }
    }
    devices.len()
}

/// All deliveries of the app, by way, stage and reason, however many.
async fn all_deliveries(world: &World) -> Vec<(String, String, String, i64)> {
    let views = world.running.server.ledger.database().views.live().read.clone();
    let mut checkout = views.checkout().await.unwrap();
    let rows = delivery_stats::between(&mut checkout.conn(), "demo", (0, i64::MAX)).await.unwrap();
    let mut cells: std::collections::BTreeMap<_, i64> = std::collections::BTreeMap::new();
    for row in rows {
        *cells.entry((row.way, row.stage, row.ended)).or_default() += row.deliveries;
    }
    cells.into_iter().map(|((way, stage, ended), n)| (way, stage, ended, n)).collect()
}

async fn post_of(tokens: impl IntoIterator<Item = String>) -> Post {
    let post = Post::new().await;
    register(&post.world.running.server, tokens).await;
    post
}
