//! Measures how fast the views and the registry are made: fills a ledger with pushes that were
//! delivered and reported, has the runner of the views catch up with it from position 1, rebuilds
//! them into the next generation as an operator would, and folds the registry into an empty database.
//!
//! `cargo run --release --example rebuild -- [EVENTS] [DATABASE]`; the database must be empty.
#![expect(clippy::print_stdout, reason = "the result")]

mod fill;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use projections::registry;
use pushledger::{
    clock::Clock,
    feed::{
        rebuild::{Rebuilds, State},
        views,
    },
    ledger::{Database, Ledger},
    metrics::Metrics,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use fill::{DEVICES, devices, pushes};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Events of a page when the registry is made again.
const PAGE_EVENTS: i64 = 4_000;
/// Time between two looks at whether the rebuild is done.
const LOOK: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let events: i64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let directory = std::env::temp_dir().join(format!("rebuild-{}", std::process::id()));
    let url = arguments.next().unwrap_or_else(|| format!("sqlite:{}", directory.display()));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let ledger = start(&url, &tasks, &stop).await?;
    let filling = Instant::now();
    let numbers = devices(&ledger).await?;
    pushes(&ledger, &numbers, (events - DEVICES) / 3).await?;
    let head = ledger.head();
    report("appended", head, filling);

    let folding = Instant::now();
    let (views, runner) = views::start(&ledger, 0).await?;
    let stop_views = CancellationToken::new();
    let run = tokio::spawn(runner.run(Arc::new(Metrics::default()), stop_views.clone()));
    let mut position = views.watch();
    position.wait_for(|at| *at >= head).await?;
    report("views caught up", head, folding);

    let rebuilds = Rebuilds::new(
        &ledger,
        &views,
        &Clock::System,
        &Arc::new(Metrics::default()),
        Uuid::now_v7(),
    );
    let rebuilds = Arc::new(rebuilds);
    let rebuilding = tokio::spawn(Arc::clone(&rebuilds).run(stop_views.clone()));
    let folding = Instant::now();
    rebuilds.ask(false).await?;
    let done = async || {
        let state = rebuilds.status().await?.rebuild.map(|rebuild| rebuild.state);
        match state {
            Some(State::Wanted | State::Running) => Ok(false),
            Some(State::Done) => Ok(true),
            state => Err(Failure::from(format!("the views were not rebuilt: {state:?}"))),
        }
    };
    while !done().await? {
        tokio::time::sleep(LOOK).await;
    }
    report("views rebuilt", head, folding);
    stop_views.cancel();
    rebuilding.await?;
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
