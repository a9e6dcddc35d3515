//! Measures how fast statistics are told: fills a ledger with deliveries of a month (chunks of tasks,
//! and single pushes that were delivered and reported), folds the views, and asks a thousand times.
//!
//! `cargo run --release --example statistics -- [DELIVERIES] [SINGLE] [DATABASE]`; the database must be
//! empty. SINGLE of the deliveries are pushes of their own, of three events each.
#![expect(clippy::print_stdout, reason = "the result")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::DateTime;
use domain::{
    Decide, Metadata, Stream,
    device::{Channel, Identity, Profile, RegisterDevice},
    message::{
        AdvanceDeliveries, Ending, MessageId, MessagePrivate, Progress, Protocol, RawJson,
        Reporter, Step,
    },
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
    task::{
        CreateTask, FinishTask, StartTask, TaskAudience, TaskLimits, Totals,
        chunk::{Delivered, Kind, Outcome, RecordChunk},
    },
    vendor::Vendor,
};
use futures_util::{StreamExt, stream};
use graphql::statistics::ask::{self, Asked, Bucket, Filter, Key};
use pushledger::{
    clock::Clock,
    feed::views,
    ids::MessageIds,
    ledger::{Context, Database, Done, Lane, Ledger},
    metrics::Metrics,
};
use serde_json::value::RawValue;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const APP: &str = "load";
/// Devices that everything goes to: phones, televisions and speakers.
const DEVICES: usize = 20_000;
const TYPES: [&str; 3] = ["01", "03", "08"];
/// Devices of one chunk.
const CHUNK: usize = 2_000;
/// Commands under way while the ledger is filled.
const CONCURRENT: usize = 1_000;
/// All of it happens within so long.
const MONTH: Duration = Duration::from_secs(30 * 86_400);
/// Steps in which that goes by.
const STEPS: u32 = 500;
/// Questions of each kind.
const QUESTIONS: usize = 1_000;
/// Questions as of a position.
const OLD_QUESTIONS: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let deliveries: usize = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let single: usize = arguments.next().map_or(Ok(500_000), |text| text.parse())?;
    let directory = std::env::temp_dir().join(format!("statistics-{}", std::process::id()));
    let url = arguments.next().unwrap_or_else(|| format!("sqlite:{}", directory.display()));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let database = Database::open(&url).await?;
    let clock = Clock::manual(1_790_000_000_000_000);
    let metrics = Arc::new(Metrics::default());
    let ledger = Ledger::start(database, clock.clone(), metrics, &tasks, &stop).await?;
    let begin = clock.now();

    let filling = Instant::now();
    let messages = fill(&ledger, &clock, deliveries.saturating_sub(single), single).await?;
    let head = ledger.head();
    println!("{deliveries} deliveries in {head} events, recorded in {:.0?}", filling.elapsed());
    let folding = Instant::now();
    let (views, runner) = views::start(&ledger, 0).await?;
    let stop_views = CancellationToken::new();
    let run = tokio::spawn(runner.run(Arc::new(Metrics::default()), stop_views.clone()));
    views.watch().wait_for(|at| *at >= head).await?;
    println!("folded in {:.0?}", folding.elapsed());
    stop_views.cancel();
    run.await?;

    println!("{:<44} {:>9} {:>9} {:>9}", "what", "p50", "p99", "aim");
    let times = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
    let range = (times(begin), times(clock.now() + 1));
    let keys = vec![Key::Channel, Key::DeviceType];
    let mut asked = Asked::new(range, Bucket::Day, keys, Filter::default(), None)?;
    asked.times = false;
    let pool = ledger.database().views.clone();
    let mut took = Vec::with_capacity(QUESTIONS);
    for _ in 0..QUESTIONS {
        let since = Instant::now();
        ask::read(&pool, APP, &asked).await?;
        took.push(since.elapsed());
    }
    told("a month by day, channel and device type", took, "50 ms");
    let mut took = Vec::with_capacity(QUESTIONS);
    for at in 0..QUESTIONS.min(messages.len()) {
        let id = messages[at * messages.len() / QUESTIONS.min(messages.len())];
        let since = Instant::now();
        ledger.read_stream(&Stream::Message(id).to_string(), 0, 1_000).await?;
        took.push(since.elapsed());
    }
    told("the history of a message", took, "5 ms");
    for (what, timed) in [("the same as of the middle", false), ("that with times of steps", true)]
    {
        (asked.as_of, asked.times) = (Some(head / 2), timed);
        let mut took = Vec::with_capacity(OLD_QUESTIONS);
        for _ in 0..OLD_QUESTIONS {
            let since = Instant::now();
            ask::read(&pool, APP, &asked).await?;
            took.push(since.elapsed());
        }
        told(what, took, "2 s");
    }
    ledger.close();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    ledger.database().close().await;
    // With PostgreSQL there is nothing of ours in it.
    let _ = std::fs::remove_dir_all(directory);
    Ok(())
}

fn told(what: &str, mut took: Vec<Duration>, aim: &str) {
    took.sort_unstable();
    let share = |hundredths| took.get(took.len() * hundredths / 100).copied().unwrap_or_default();
    let [half, most] = [share(50), share(99)].map(|time| format!("{time:.1?}"));
    println!("{what:<44} {half:>9} {most:>9} {aim:>9}");
}

async fn execute(
    ledger: &Ledger,
    command: impl Decide + Send + Sync + 'static,
) -> Result<Done, Failure> {
    let context = Context { app: APP.to_owned(), metadata: Metadata::default() };
    Ok(ledger.execute(Lane::Bulk, context, command).await?)
}

/// Registers the devices, then pushes to all of them by tasks and to some by messages, step by step
/// through a month; gives the messages.
async fn fill(
    ledger: &Ledger,
    clock: &Clock,
    by_tasks: usize,
    single: usize,
) -> Result<Vec<MessageId>, Failure> {
    let devices = stream::iter(0..DEVICES).map(|n| register(ledger, n)).buffered(CONCURRENT);
    let devices: Vec<Result<i64, Failure>> = devices.collect().await;
    let devices: Vec<i64> = devices.into_iter().collect::<Result<_, _>>()?;
    // Those of a chunk are in order of number; they registered many at once.
    let mut in_order = devices.clone();
    in_order.sort_unstable();
    let ids = MessageIds::new(0, 0, i64::MAX);
    let (mut chunks, mut messages) = (0, Vec::new());
    for step in 1..=STEPS as usize {
        clock.advance(MONTH / STEPS);
        let wanted = by_tasks / CHUNK * step / STEPS as usize;
        while chunks < wanted {
            let most = (wanted - chunks).min(DEVICES / CHUNK);
            task(ledger, clock, &ids, &in_order[..most * CHUNK]).await?;
            chunks += most;
        }
        let wanted = single * step / STEPS as usize;
        let pushed = stream::iter(messages.len()..wanted)
            .map(|n| message(ledger, clock, &ids, n % DEVICES, devices[n % DEVICES]))
            .buffer_unordered(CONCURRENT);
        let pushed: Vec<Result<MessageId, Failure>> = pushed.collect().await;
        messages.extend(pushed.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    Ok(messages)
}

async fn register(ledger: &Ledger, n: usize) -> Result<i64, Failure> {
    let command = RegisterDevice {
        app: APP.to_owned(),
        allowed_packages: Vec::new(),
        user: None,
        profile: Profile {
            app_package: "com.example.load".to_owned(),
            device_type: TYPES[n % TYPES.len()].to_owned(),
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
    Ok(execute(ledger, command).await?.first)
}

fn private() -> Result<MessagePrivate, Failure> {
    Ok(MessagePrivate {
        destinations: RawJson(RawValue::from_string("{}".to_owned())?),
        payload: Some(RawJson(RawValue::from_string(r#"{"text":"a usual message"}"#.to_owned())?)),
        caller: None,
    })
}

/// A task to some devices: most are handed to a vendor, some are kept, some end.
async fn task(
    ledger: &Ledger,
    clock: &Clock,
    ids: &MessageIds,
    devices: &[i64],
) -> Result<(), Failure> {
    let id = ids.at(clock.now()).ok_or("the node has no number")?;
    let create = CreateTask {
        app: APP.to_owned(),
        id,
        protocol: Protocol::Easemob,
        audience: TaskAudience::Everyone,
        strategy: Strategy::OnlineElseVendor,
        keep_seconds: 86_400,
        start_at: None,
        now: clock.now(),
        limits: TaskLimits { running: u32::MAX, created: u32::MAX },
        private: private()?,
    };
    execute(ledger, create).await?;
    let chunk_devices = u32::try_from(CHUNK)?;
    execute(ledger, StartTask { task: id, now: clock.now(), chunk_devices }).await?;
    for (chunk, own) in (1..).zip(devices.chunks(CHUNK)) {
        let kind = |device: i64| match device % 10 {
            0 => Kind::ended(Ending::NoBinding, None),
            1 => Kind { outcome: Outcome::Online, reason: None, vendor: None },
            _ => Kind { outcome: Outcome::Sent, reason: None, vendor: Some(Vendor::Jpush) },
        };
        let deliveries =
            own.iter().map(|device| Delivered { device: *device, kind: kind(*device), word: None });
        let deliveries = deliveries.collect();
        execute(ledger, RecordChunk { task: id, chunk, attempt: 1, deliveries }).await?;
    }
    execute(ledger, FinishTask { task: id, totals: Totals::default() }).await?;
    Ok(())
}

/// A push to one device, which has it and shows it.
async fn message(
    ledger: &Ledger,
    clock: &Clock,
    ids: &MessageIds,
    client: usize,
    device: i64,
) -> Result<MessageId, Failure> {
    let id = ids.at(clock.now()).ok_or("the node has no number")?;
    let push = PushMessage {
        app: APP.to_owned(),
        id,
        protocol: Protocol::Ums,
        sender: PushSender::Cloud,
        destinations: Destinations::Clients(vec![format!("c-{client}")]),
        strategy: Strategy::OnlineElseVendor,
        mode: Mode::Strict,
        expires_at: clock.now() + 86_400_000_000,
        burn: false,
        resend: None,
        callback: false,
        private: private()?,
        new_account: Uuid::now_v7(),
    };
    execute(ledger, push).await?;
    let step = |what, by| Step { by, ..Step::of_server(device, what) };
    let sent =
        vec![step(Progress::Sent, Reporter::Server), step(Progress::Received, Reporter::Socket)];
    let displayed = vec![step(Progress::Displayed, Reporter::Socket)];
    for steps in [sent, displayed] {
        execute(ledger, AdvanceDeliveries { message: id, steps }).await?;
    }
    Ok(id)
}
