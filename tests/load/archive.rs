//! Measures the audit side: what a push costs in bytes, what sealing costs the write path, and how fast
//! a long ledger is verified, exported, detached, attached and imported, beside what the disk itself writes.
//!
//! `cargo run --release --example archive -- [EVENTS] [DATABASE [IMPORT_DATABASE]]`; the databases must be empty.
#![expect(clippy::print_stdout, reason = "the result")]
#![expect(clippy::cast_precision_loss, reason = "far below 2^52")]

mod fill;

use std::{
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use projections::db::Conn;
use pushledger::{
    audit::{archive, sealer::Sealer, verify},
    clock::Clock,
    feed::views,
    ledger::{Database, Ledger},
    metrics::Metrics,
    secrets::MasterKey,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Pairs of runs with and without the sealer, and messages of each run.
const PAIRS: usize = 6;
const RUN_MESSAGES: i64 = 10_000;
/// Bytes of the file that shows what the disk writes.
const DISK_BYTES: usize = 512 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let events: i64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = std::env::temp_dir().join(format!("archive-{}", std::process::id()));
    let url = |name: &str| format!("sqlite:{}", folder.join(name).display());
    let first = arguments.next().unwrap_or_else(|| url("ledger"));
    let second = arguments.next().unwrap_or_else(|| url("imported"));
    std::fs::create_dir_all(&folder)?;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let metrics = Arc::new(Metrics::default());
    let ledger = Database::open(&first).await?;
    let ledger = Ledger::start(ledger, Clock::System, metrics, &tasks, &stop).await?;
    let numbers = fill::devices(&ledger).await?;
    fold(&ledger).await?;
    let before = sizes(&ledger).await?;
    fill::pushes(&ledger, &numbers, RUN_MESSAGES).await?;
    fold(&ledger).await?;
    for ((table, before), (_, after)) in before.iter().zip(sizes(&ledger).await?) {
        let each = (after - before) as f64 / RUN_MESSAGES as f64;
        println!("bytes a push: {table}: {each:.0}");
    }
    sealing(&ledger, &folder, &numbers).await?;
    let filling = Instant::now();
    let left = events - ledger.head();
    fill::pushes(&ledger, &numbers, left.max(0) / 3).await?;
    report("appended", left.max(0), filling);
    fold(&ledger).await?;
    seal(&ledger, &folder).await?;
    let head = ledger.head();

    disk(&folder)?;
    for _ in 0..3 {
        let verifying = Instant::now();
        let found = verify::live(&ledger, None, &[], None).await?;
        report("verified", i64::try_from(found.events)?, verifying);
    }
    let export = folder.join("export");
    let exporting = Instant::now();
    archive::write(&ledger, &export, None).await?;
    report("exported", head, exporting);
    let bytes = files(&export)?;
    println!("the export has {bytes} bytes, {:.0} an event", bytes as f64 / head as f64);
    let verifying = Instant::now();
    verify::export(&export, &[], &[]).await?;
    report("export verified", head, verifying);
    let importing = Instant::now();
    let other = Database::open(&second).await?;
    archive::import(&other, &export, &[], None, Clock::System.now()).await?;
    report("imported", head, importing);
    other.close().await;
    let moving = Instant::now();
    let moved = archive::detach(&ledger, &export, &[], archive::Going::default()).await?;
    report("detached", moved.events, moving);
    let moving = Instant::now();
    let moved = archive::attach(&ledger, &export, &[]).await?;
    report("attached", moved.events, moving);
    ledger.close();
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    ledger.database().close().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}

fn report(what: &str, events: i64, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("{what}: {events} events in {seconds:.2} s = {:.0} events/s", events as f64 / seconds);
}

/// Brings the views up to the head.
async fn fold(ledger: &Ledger) -> Result<(), Failure> {
    let (views, runner) = views::start(ledger, 0).await?;
    let stop = CancellationToken::new();
    let run = tokio::spawn(runner.run(Arc::new(Metrics::default()), stop.clone()));
    let head = ledger.head();
    views.watch().wait_for(|at| *at >= head).await?;
    stop.cancel();
    Ok(run.await?)
}

async fn sealer(ledger: &Ledger, folder: &Path) -> Result<Sealer, Failure> {
    let database = ledger.database();
    let master = MasterKey::load(None, folder, database).await?;
    Ok(Sealer::open(&database.ledger_read, &database.ledger_write, &master, None).await?)
}

async fn seal(ledger: &Ledger, folder: &Path) -> Result<(), Failure> {
    let mut sealer = sealer(ledger, folder).await?;
    loop {
        let before = sealer.sealed();
        sealer.seal(Clock::System.now()).await?;
        if sealer.sealed() == before {
            return Ok(());
        }
    }
}

/// The same pushes with a sealer beside them that seals at its pace, and without, in turns.
async fn sealing(ledger: &Ledger, folder: &Path, numbers: &[(i64, i64)]) -> Result<(), Failure> {
    let (mut with, mut without) = (Duration::ZERO, Duration::ZERO);
    for pair in 0..PAIRS * 2 {
        // Each of a pair is first as often as the other.
        let seals = (pair % 2 == 0) != (pair % 4 >= 2);
        seal(ledger, folder).await?;
        let stop = CancellationToken::new();
        let (mut own, ending) = (sealer(ledger, folder).await?, stop.clone());
        let beside = tokio::spawn(async move {
            while seals && !ending.is_cancelled() {
                if own.seal(Clock::System.now()).await.is_err() {
                    return;
                }
                // 4,096 events come sooner than a second here.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        let begin = Instant::now();
        fill::pushes(ledger, numbers, RUN_MESSAGES).await?;
        *(if seals { &mut with } else { &mut without }) += begin.elapsed();
        stop.cancel();
        beside.await?;
    }
    let (with, without) = (with.as_secs_f64(), without.as_secs_f64());
    let events = (PAIRS as i64 * RUN_MESSAGES * 3) as f64;
    println!(
        "appended {:.0} events/s with a sealer, {:.0} without: sealing costs {:.1} %",
        events / with,
        events / without,
        (with / without - 1.0) * 100.0
    );
    Ok(())
}

/// Bytes of each table with its indexes.
async fn sizes(ledger: &Ledger) -> Result<Vec<(String, i64)>, Failure> {
    const SQLITE: &str = "SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat s \
         JOIN sqlite_schema m ON m.name = s.name WHERE s.aggregate = TRUE GROUP BY 1 ORDER BY 1";
    const PAGES: &str =
        "SELECT 'file', page_count * page_size FROM pragma_page_count(), pragma_page_size()";
    const POSTGRES: &str = "SELECT relname::text, pg_total_relation_size(oid)::bigint FROM pg_class \
         WHERE relkind = 'r' AND relnamespace IN ('public'::regnamespace, 'views_1'::regnamespace) \
         ORDER BY 1";
    let database = ledger.database();
    let mut all: Vec<(String, i64)> = Vec::new();
    let views = database.views.live();
    for pool in [&database.ledger_read, &views.read] {
        let mut checkout = pool.checkout().await?;
        match checkout.conn() {
            Conn::Sqlite(c) => {
                // Not every build of SQLite has that table.
                let rows: Result<Vec<(String, i64)>, _> =
                    sqlx::query_as(SQLITE).fetch_all(&mut *c).await;
                all.extend(rows.unwrap_or_default());
                let file: Vec<(String, i64)> = sqlx::query_as(PAGES).fetch_all(&mut *c).await?;
                all.extend(file);
            }
            Conn::Postgres(c) => {
                all.extend(sqlx::query_as(POSTGRES).fetch_all(&mut *c).await?);
                break;
            }
        }
    }
    Ok(all)
}

/// Writes a file, as fast as the disk takes it.
fn disk(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("disk");
    let mut file = std::fs::File::create(&path)?;
    let begin = Instant::now();
    let block = vec![7_u8; 1 << 20];
    for _ in 0..DISK_BYTES >> 20 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let rate = DISK_BYTES as f64 / begin.elapsed().as_secs_f64() / 1e6;
    println!("the disk writes {rate:.0} MB/s");
    Ok(std::fs::remove_file(path)?)
}

/// Bytes of the files in a folder.
fn files(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
