//! The read side. The [`registry`] is folded inside every append; the other views follow the
//! ledger on their own and may be thrown away at any time, since a replay makes them again.
//!
//! A view folds a page of events in memory and writes one statement per table; see [`apply`] for
//! the list. Nothing here reads a clock or calls out.

pub mod db;
pub mod message_status;
pub mod pending;
pub mod registry;

use domain::Recorded;

use db::Conn;

/// The database failed, or holds something that this program did not write.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// What the database said.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A stored value does not fit its type.
    #[error("{what}: {cause}")]
    Stored {
        /// Which value.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

impl Fault {
    /// A stored value that does not fit its type.
    pub fn stored(what: &'static str, cause: impl ToString) -> Fault {
        Fault::Stored { what, cause: cause.to_string() }
    }
}

/// Folds one page into every view. One line a view.
///
/// # Errors
/// [`Fault`] when the database fails; nothing was applied then, if the caller rolls back.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    message_status::apply(conn, page).await?;
    pending::apply(conn, page).await?;
    Ok(())
}

/// Name of every table that [`apply`] writes, for tests and rebuilds.
pub const TABLES: &[&str] = &["messages", "deliveries", "pending"];
