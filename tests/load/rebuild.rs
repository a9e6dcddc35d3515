//! Measures how fast the views and the registry are made again: fills a ledger with pushes that
//! were delivered and reported, throws both away, and folds everything from position 1.
//!
//! `cargo run --release --example rebuild -- [EVENTS] [DATABASE]`; the database must be empty.
#![expect(clippy::print_stdout, reason = "the result")]

mod fill;

use std::{sync::Arc, time::Instant};

use projections::registry;
use pushledger::{
    clock::Clock,
    feed::views,
    ledger::{Database, Ledger},
    metrics::Metrics,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use fill::{DEVICES, devices, pushes};

type Failure = Box<dyn std::error::Error + Send + Sync>;

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
