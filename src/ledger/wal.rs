//! SQLite's write-ahead logs: moved into their databases often and little at a time, on a schedule
//! of our own instead of by whichever commit finds the log too long. So no commit waits for it for
//! long, and the logs start over instead of growing for as long as events keep coming.

use std::time::Duration;

use projections::{Fault, db::Pool};
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio_util::sync::CancellationToken;

use super::Database;

/// Time between two looks. What is moved competes with commits for the disk: after 3 s there is
/// so much of it that one in a hundred commits waits twice as long.
const PERIOD: Duration = Duration::from_millis(300);

/// One database's log.
struct Log {
    /// Generation of the views, or none for the ledger.
    generation: Option<i64>,
    own: SqliteConnection,
    writer: SqlitePool,
    /// Frames in the log when it was last moved, and how many of them were.
    seen: (i64, i64),
}

/// Moves the logs whenever there is anything new, until told to stop.
pub(super) async fn run(database: Database, stop: CancellationToken) {
    let mut logs = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if let Err(fault) = checkpoint(&database, &mut logs).await {
            tracing::warn!(%fault, "a write-ahead log could not be moved");
            logs.clear();
        }
    }
}

/// Moves most of each log while commits go on; the little that came meanwhile is moved with the
/// writer held back, so that nothing is left and the next commit starts the log over.
async fn checkpoint(database: &Database, logs: &mut Vec<Log>) -> Result<(), Fault> {
    const SQL: &str = "PRAGMA wal_checkpoint(PASSIVE)";
    let generation = database.views.live().number;
    // A generation that is not live any more is about to be removed.
    if logs.iter().all(|log| log.generation != Some(generation)) {
        logs.clear();
        *logs = open(database).await?;
    }
    for log in logs {
        let (_, frames, moved): (i64, i64, i64) =
            sqlx::query_as(SQL).fetch_one(&mut log.own).await?;
        if log.seen == (frames, moved) {
            continue;
        }
        let mut writer = match log.writer.acquire().await {
            // Its generation went just now.
            Err(sqlx::Error::PoolClosed) => continue,
            writer => writer?,
        };
        let (_, frames, moved) =
            sqlx::query_as::<_, (i64, i64, i64)>(SQL).fetch_one(&mut *writer).await?;
        log.seen = (frames, moved);
    }
    Ok(())
}

async fn open(database: &Database) -> Result<Vec<Log>, Fault> {
    let mut logs = Vec::new();
    let live = database.views.live();
    for (generation, pool) in [(None, &database.ledger_write), (Some(live.number), &live.write)] {
        if let Pool::Sqlite(pool) = pool {
            let own = SqliteConnection::connect_with(&pool.connect_options()).await?;
            logs.push(Log { generation, own, writer: pool.clone(), seen: (0, 0) });
        }
    }
    Ok(logs)
}
