//! The read side. The [`registry`] is folded inside every append; the other views follow the
//! ledger on their own and may be thrown away at any time, since a replay makes them again.
//!
//! A view folds a page of events in memory and writes one statement per table; see [`apply`] for
//! the list. Nothing here reads a clock or calls out.

pub mod callbacks;
pub mod chats;
pub mod db;
pub mod delivery_stats;
pub mod device_kinds;
pub mod histogram;
pub mod journal;
pub mod latency;
pub mod live;
pub mod message_status;
pub mod noted;
pub mod pending;
pub mod registry;
pub mod task_chunks;
pub mod task_statistics;
pub mod uplinks;

use domain::Recorded;

use db::Conn;
use delivery_stats::Moves;

/// The database failed, or holds something that this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What the database said.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The views have not read far enough in time; later they will have.
    #[error("the views are behind position {0}")]
    Behind(i64),
    /// A stored value does not fit its type.
    #[error("{what}: {cause}")]
    Stored {
        /// Which value.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// What was asked for needs events that were moved into an export.
    #[error("the events from 2 to {last} are detached, in the export {export}: attach it first")]
    Detached {
        /// The last position that is away.
        last: i64,
        /// The name of the export's folder.
        export: String,
    },
}

impl Fault {
    /// A stored value that does not fit its type.
    pub fn stored(what: &'static str, cause: impl ToString) -> Fault {
        Fault::Stored { what, cause: cause.to_string() }
    }

    /// Whether PostgreSQL gave up a statement: mostly as it took longer than it may, waits for locks
    /// included, but also as somebody cancelled it, which has the same code. SQLite gives none up.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        let Fault::Database(sqlx::Error::Database(error)) = self else { return false };
        // `query_canceled`.
        error.code().is_some_and(|code| code == "57014")
    }
}

/// Folds one page into every view. One line a view.
///
/// # Errors
/// [`Fault`] when the database fails; nothing was applied then, if the caller rolls back.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let mut moves = Moves::default();
    device_kinds::apply(conn, page).await?;
    message_status::apply(conn, page, &mut moves).await?;
    pending::apply(conn, page).await?;
    callbacks::apply(conn, page).await?;
    chats::apply(conn, page).await?;
    uplinks::apply(conn, page).await?;
    noted::apply(conn, page).await?;
    let tasks = task_statistics::apply(conn, page).await?;
    task_chunks::apply(conn, page, &tasks, &mut moves).await?;
    delivery_stats::apply(conn, moves).await?;
    journal::close(conn, page).await
}

/// Name of every table that [`apply`] writes, for tests and rebuilds.
pub const TABLES: &[&str] = &[
    "messages",
    "deliveries",
    "pending",
    "task_statistics",
    "task_deliveries",
    "task_latencies",
    "task_chunks",
    "delivery_stats",
    "delivery_latencies",
    "delivery_rollups",
    "latency_rollups",
    "device_kinds",
    "device_numbers",
    "journal",
    "journal_sums",
    "journal_spans",
    "uplinks",
    "callbacks",
    "callback_counts",
    "chat_messages",
    "noted_presence",
];
