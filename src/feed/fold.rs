//! One page of events on its way into one generation of the views: all of its rows together with the
//! checkpoint, in one transaction, so that a view has seen each event exactly once. The runner of the
//! live generation and a rebuild of the next fold by the same code, and differ in what becomes of an
//! event that no view can fold.

use std::collections::BTreeSet;

use domain::Recorded;
use projections::{
    Fault,
    db::{Conn, Pool, Sql},
    on,
};

use crate::ledger::{self, generations::Checkpoint};

/// A page of events, without holes.
pub(super) struct Page {
    pub(super) events: Vec<Recorded>,
    /// Position and reason of those that cannot be read.
    pub(super) unreadable: Vec<(i64, String)>,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Page {
    /// A page as it was read after a position; none if nothing is there.
    pub(super) fn read(after: i64, page: ledger::Page) -> Option<Page> {
        let ledger::Page { events, unreadable, last } = page;
        Some(Page { events, unreadable, first: after + 1, last: last? })
    }
}

/// What becomes of an event that cannot be read or folded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unfoldable<'a> {
    /// It is set aside, and everything after it goes on.
    SetAside,
    /// Nothing of the page is folded, unless it is one of these, which are set aside.
    Stops(&'a BTreeSet<i64>),
}

/// What became of a page.
pub(super) enum Folded {
    /// It is folded, all of it but so many events that were set aside.
    Here { aside: usize },
    /// Another node was there before; the views are at this position.
    Elsewhere(i64),
    /// Nothing is: this event stops it, for this reason.
    Stopped(i64, String),
}

/// Folds a page into a generation.
///
/// # Errors
/// [`Fault`] when the database fails; nothing was folded then.
pub(super) async fn fold(
    views: &Pool,
    page: &Page,
    unfoldable: Unfoldable<'_>,
) -> Result<Folded, Fault> {
    let mut tx = views.begin().await?;
    let (position, _) = checkpoint(&mut tx.conn()).await?;
    if position != page.first - 1 {
        return Ok(Folded::Elsewhere(position));
    }
    let event_id = page.events.last().filter(|event| event.position == page.last);
    let event_id = event_id.map(|event| event.event_id.as_bytes().to_vec());
    let mut aside = page.unreadable.clone();
    match projections::apply(&mut tx.conn(), &page.events).await {
        Ok(()) => {}
        Err(fault @ Fault::Stored { .. }) => {
            drop(tx);
            tx = views.begin().await?;
            let (position, _) = checkpoint(&mut tx.conn()).await?;
            if position != page.first - 1 {
                return Ok(Folded::Elsewhere(position));
            }
            aside.extend(one_by_one(&mut tx.conn(), &page.events, fault).await?);
            aside.sort_unstable();
        }
        Err(fault) => return Err(fault),
    }
    if let Unfoldable::Stops(but) = unfoldable
        && let Some((position, reason)) = aside.iter().find(|(at, _)| !but.contains(at))
    {
        return Ok(Folded::Stopped(*position, reason.clone()));
    }
    for (position, error) in &aside {
        tracing::error!(position, error, "an event was set aside");
        const SQL: &str = "INSERT INTO set_aside (position, error) VALUES ($1, $2)";
        on!(tx.conn(), c => {
            sqlx::query(SQL).bind(*position).bind(error).execute(&mut *c).await?.rows_affected()
        });
    }
    const SQL: &str = "UPDATE checkpoint SET position = $1, event_id = $2";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(page.last).bind(event_id).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(Folded::Here { aside: aside.len() })
}

/// Folds a page event by event, to find those that no view can fold: nothing of them is.
async fn one_by_one(
    conn: &mut Conn<'_>,
    events: &[Recorded],
    fault: Fault,
) -> Result<Vec<(i64, String)>, Fault> {
    tracing::error!(%fault, "a page is folded event by event");
    let mut aside = Vec::new();
    for event in events {
        run(conn, "SAVEPOINT event").await?;
        match projections::apply(conn, std::slice::from_ref(event)).await {
            Ok(()) => {}
            Err(fault @ Fault::Stored { .. }) => {
                run(conn, "ROLLBACK TO SAVEPOINT event").await?;
                aside.push((event.position, fault.to_string()));
            }
            Err(fault) => return Err(fault),
        }
        run(conn, "RELEASE SAVEPOINT event").await?;
    }
    Ok(aside)
}

async fn run(conn: &mut Conn<'_>, sql: &'static str) -> Result<(), Fault> {
    on!(conn.again(), c => sqlx::query(sql).execute(&mut *c).await?.rows_affected());
    Ok(())
}

/// Reads and locks the checkpoint.
pub(super) async fn checkpoint(conn: &mut Conn<'_>) -> Result<Checkpoint, Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position, event_id FROM checkpoint",
        postgres: "SELECT position, event_id FROM checkpoint FOR UPDATE",
    };
    let sql = conn.text(SQL);
    Ok(on!(conn.again(), c => sqlx::query_as(sql).fetch_one(&mut *c).await?))
}

/// Empties the views.
pub(super) async fn reset(conn: &mut Conn<'_>) -> Result<(), Fault> {
    for table in projections::TABLES.iter().chain(&["set_aside"]) {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
        on!(conn.again(), c => sqlx::query(sql).execute(&mut *c).await?.rows_affected());
    }
    const SQL: &str = "UPDATE checkpoint SET position = 0, event_id = NULL";
    on!(conn.again(), c => sqlx::query(SQL).execute(&mut *c).await?.rows_affected());
    Ok(())
}
