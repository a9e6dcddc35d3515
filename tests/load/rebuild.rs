//! Measures how fast the views and the registry are made again: fills a ledger with pushes that
//! were delivered and reported, throws both away, and folds everything from position 1.
//!
//! `cargo run --release --example rebuild -- [EVENTS] [DATABASE]`; the database must be empty.
#![expect(clippy::print_stdout, reason = "the result")]

use std::{sync::Arc, time::Instant};

use domain::{
    Metadata,
    device::{Channel, Identity, Profile, RegisterDevice},
    message::{AdvanceDeliveries, MessagePrivate, Progress, Protocol, RawJson, Reporter, Step},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
};
use futures_util::{StreamExt, stream};
use projections::registry;
use pushledger::{
    clock::Clock,
    feed::views,
    ids::MessageIds,
    ledger::{Context, Database, Lane, Ledger},
    metrics::Metrics,
};
use serde_json::value::RawValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Devices that the pushes go to.
const DEVICES: i64 = 1_000;
/// Commands under way while the ledger is filled.
const CONCURRENT: usize = 1_000;
/// Events of a page when the registry is made again.
const PAGE_EVENTS: i64 = 4_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let events: i64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let directory = std::env::temp_dir().join(format!("rebuild-{}", std::process::id()));
    let url = arguments.next().unwrap_or_else(|| format!("sqlite:{}", directory.display()));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let ledger = start(&url, &tasks, &stop).await?;
    let filling = Instant::now();
    fill(&ledger, events).await?;
    let head = ledger.head();
    report("appended", head, filling);

    let folding = Instant::now();
    let (views, runner) = views::start(&ledger, 0).await?;
    let stop_views = CancellationToken::new();
    let run = tokio::spawn(runner.run(Arc::new(Metrics::default()), stop_views.clone()));
    let mut position = views.watch();
    position.wait_for(|at| *at >= head).await?;
    report("views rebuilt", head, folding);
    stop_views.cancel();
    run.await?;

    let folding = Instant::now();
    let scratch = std::env::temp_dir().join(format!("rebuild-{}-registry", std::process::id()));
    let registry = Database::open(&format!("sqlite:{}", scratch.display())).await?;
    let mut after = 0;
    while after < head {
        let page = ledger.read(after, PAGE_EVENTS).await?;
        let mut tx = registry.ledger_write.begin().await?;
        registry::apply(&mut tx.conn(), &page.events).await?;
        tx.commit().await?;
        after = page.last.unwrap_or(head);
    }
    report("registry rebuilt (SQLite)", head, folding);
    registry.close().await;
    ledger.close();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    ledger.database().close().await;
    for directory in [directory, scratch] {
        // With PostgreSQL there is nothing of ours in the first.
        let _ = std::fs::remove_dir_all(directory);
    }
    Ok(())
}

fn report(what: &str, events: i64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = events as f64 / seconds;
    println!("{what}: {events} events in {seconds:.2} s = {rate:.0} events/s");
}

async fn start(
    url: &str,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Ledger, Failure> {
    let database = Database::open(url).await?;
    let metrics = Arc::new(Metrics::default());
    Ok(Ledger::start(database, Clock::System, metrics, tasks, stop).await?)
}

fn context() -> Context {
    Context { app: "load".to_owned(), metadata: Metadata::default() }
}

/// Registers the devices, then pushes, delivers and reports until there are enough events.
async fn fill(ledger: &Ledger, events: i64) -> Result<(), Failure> {
    let numbers = stream::iter(0..DEVICES)
        .map(|n| async move {
            let command = RegisterDevice {
                app: "load".to_owned(),
                allowed_packages: Vec::new(),
                user: None,
                profile: Profile {
                    app_package: "com.example.load".to_owned(),
                    device_type: "01".to_owned(),
                    type_id: None,
                    channel: Channel::Jpush,
                },
                identity: Identity {
                    client_id: format!("c-{n}"),
                    push_id: format!("p-{n}"),
                    ..Identity::default()
                },
                new_device: Uuid::now_v7(),
                new_account: Uuid::now_v7(),
            };
            let done = ledger.execute(Lane::Interactive, context(), command).await?;
            Ok::<_, Failure>((n, done.first))
        })
        .buffered(CONCURRENT)
        .collect::<Vec<_>>()
        .await;
    let numbers: Vec<(i64, i64)> = numbers.into_iter().collect::<Result<_, _>>()?;
    let ids = MessageIds::new(0, 0, i64::MAX);
    let messages = (events - DEVICES) / 3;
    let payload: Box<RawValue> = serde_json::from_str(PAYLOAD)?;
    let delivered = stream::iter(0..messages)
        .map(|n| {
            let (client, device) = numbers[usize::try_from(n % DEVICES).unwrap_or(0)];
            message(ledger, &ids, client, device, payload.clone())
        })
        .buffer_unordered(CONCURRENT)
        .collect::<Vec<Result<(), Failure>>>()
        .await;
    delivered.into_iter().collect()
}

const PAYLOAD: &str =
    r#"{"msgName":"load","msgType":3,"body":{"view":{},"extData":{"text":"a usual message"}}}"#;

async fn message(
    ledger: &Ledger,
    ids: &MessageIds,
    client: i64,
    device: i64,
    payload: Box<RawValue>,
) -> Result<(), Failure> {
    let now = Clock::System.now();
    let id = ids.at(now).ok_or("the node has no number")?;
    let destinations = RawValue::from_string(format!(r#"{{"type":0,"Id":["c-{client}"]}}"#))?;
    let push = PushMessage {
        app: "load".to_owned(),
        id,
        protocol: Protocol::Ums,
        sender: PushSender::Cloud,
        destinations: Destinations::Clients(vec![format!("c-{client}")]),
        strategy: Strategy::OnlineElseVendor,
        mode: Mode::Strict,
        expires_at: now + 86_400_000_000,
        burn: false,
        resend: None,
        callback: false,
        private: MessagePrivate {
            destinations: RawJson(destinations),
            payload: Some(RawJson(payload)),
            caller: None,
        },
        new_account: Uuid::now_v7(),
    };
    ledger.execute(Lane::Bulk, context(), push).await?;
    let step = |what, by| Step { by, ..Step::of_server(device, what) };
    let sent =
        vec![step(Progress::Sent, Reporter::Server), step(Progress::Received, Reporter::Socket)];
    let displayed = vec![step(Progress::Displayed, Reporter::Socket)];
    for steps in [sent, displayed] {
        let command = AdvanceDeliveries { message: id, steps };
        ledger.execute(Lane::Bulk, context(), command).await?;
    }
    Ok(())
}
