//! The last rebuild that somebody asked for, as a row beside the ledger: any node is asked, one
//! makes it, and all tell how far it is. Each change names the state that it goes on from, so that
//! one who comes late (a node that lost its lease, a cancellation after the swap) changes nothing.

use projections::{
    Fault,
    db::{self, Conn, Pool, Sql},
    on,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::ledger::generations;

/// Where a rebuild stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A node will begin with it.
    Wanted,
    /// A node makes the next generation.
    Running,
    /// The next generation is live.
    Done,
    /// An operator cancelled it.
    Cancelled,
    /// It could not be made.
    Failed,
    /// Its node ended; nobody goes on with it.
    Interrupted,
}

impl State {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, State::Wanted | State::Running)
    }
}

/// A rebuild. Times are in µs since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// Where it stands.
    pub state: State,
    /// Whether what is set aside in the live generation may be set aside in the next.
    pub keep_aside: bool,
    /// The generation that it makes, or made.
    pub generation: Option<i64>,
    /// Events that are folded.
    pub position: i64,
    /// Events that are to be folded, as far as is known.
    pub target: i64,
    /// Events folded in a second, so far.
    pub rate: i64,
    /// When it was asked for.
    pub asked_at: i64,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it was over.
    pub ended_at: Option<i64>,
    /// Position of the event that it stopped at.
    pub stopped_at: Option<i64>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl Rebuild {
    /// How much of it is made, in percent.
    #[must_use]
    pub fn percent(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share, shown to people")]
        match (self.state, self.target) {
            (State::Done, _) => 100.0,
            (_, ..=0) => 0.0,
            (_, target) => (self.position as f64 * 1_000.0 / target as f64).floor() / 10.0,
        }
    }

    /// How long it will take at the pace that it had so far, if that can be told.
    #[must_use]
    pub fn seconds_left(&self) -> Option<i64> {
        match self.state {
            State::Running if self.rate > 0 => Some((self.target - self.position) / self.rate),
            _ => None,
        }
    }
}

/// The generation that is live, and the last rebuild.
#[derive(Debug, Clone)]
pub struct Status {
    /// The generation that the pointer names.
    pub live: i64,
    /// The last rebuild, if there ever was one.
    pub rebuild: Option<Rebuild>,
}

/// Reads where it all stands.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn status(ledger: &Pool) -> Result<Status, Fault> {
    type Row = (
        String,
        i64,
        Option<i64>,
        i64,
        i64,
        i64,
        i64,
        Option<i64>,
        Option<i64>,
        Option<i64>,
        Option<String>,
    );
    const SQL: &str = "SELECT state, keep_aside, generation, position, target, rate, asked_at, \
         started_at, ended_at, stopped_at, reason FROM views_rebuild";
    // The pointer last: it moves together with the state, and never back.
    let mut checkout = ledger.checkout().await?;
    let row: Option<Row> =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_optional(&mut *c).await?);
    drop(checkout);
    let live = generations::live(ledger).await?;
    let Some(row) = row else { return Ok(Status { live, rebuild: None }) };
    let rebuild = Rebuild {
        state: db::from_name(row.0)?,
        keep_aside: row.1 != 0,
        generation: row.2,
        position: row.3,
        target: row.4,
        rate: row.5,
        asked_at: row.6,
        started_at: row.7,
        ended_at: row.8,
        stopped_at: row.9,
        reason: row.10,
    };
    Ok(Status { live, rebuild: Some(rebuild) })
}

/// Asks for a rebuild; false while one is wanted or runs.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn ask(ledger: &Pool, keep_aside: bool, now: i64) -> Result<bool, Fault> {
    // The number of the generation before stays, so that it is not given again.
    const SQL: &str = "INSERT INTO views_rebuild \
         (one, state, keep_aside, position, target, rate, asked_at) \
         VALUES (1, 'wanted', $1, 0, 0, 0, $2) ON CONFLICT (one) DO UPDATE SET state = 'wanted', \
         keep_aside = excluded.keep_aside, position = 0, target = 0, rate = 0, \
         asked_at = excluded.asked_at, started_at = NULL, ended_at = NULL, stopped_at = NULL, \
         reason = NULL WHERE views_rebuild.state NOT IN ('wanted', 'running')";
    let mut tx = ledger.begin().await?;
    let rows = on!(tx.conn(), c => {
        let query = sqlx::query(SQL).bind(i64::from(keep_aside)).bind(now);
        query.execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(rows > 0)
}

/// Cancels the rebuild; false if none is wanted or runs.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn cancel(ledger: &Pool, now: i64) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE views_rebuild SET state = 'cancelled', ended_at = $1 \
         WHERE state IN ('wanted', 'running')";
    let mut tx = ledger.begin().await?;
    let rows = on!(tx.conn(), c => {
        sqlx::query(SQL).bind(now).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(rows > 0)
}

/// The wanted rebuild begins; false if it is not wanted any more.
pub(super) async fn begin(ledger: &Pool, generation: i64, now: i64) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE views_rebuild SET state = 'running', generation = $1, \
         started_at = $2 WHERE state = 'wanted'";
    let mut tx = ledger.begin().await?;
    let rows = on!(tx.conn(), c => {
        sqlx::query(SQL).bind(generation).bind(now).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(rows > 0)
}

/// Notes how far a generation is; false if it is not to be made any more.
pub(super) async fn note(
    ledger: &Pool,
    generation: i64,
    (position, target, rate): (i64, i64, i64),
) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE views_rebuild SET position = $2, target = $3, rate = $4 \
         WHERE state = 'running' AND generation = $1";
    let mut tx = ledger.begin().await?;
    let rows = on!(tx.conn(), c => {
        let query = sqlx::query(SQL).bind(generation).bind(position).bind(target).bind(rate);
        query.execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(rows > 0)
}

/// A generation that was being made never will be.
pub(super) async fn end(
    ledger: &Pool,
    generation: i64,
    (state, stopped_at, reason): (State, Option<i64>, Option<&str>),
    now: i64,
) -> Result<(), Fault> {
    const SQL: &str = "UPDATE views_rebuild SET state = $2, stopped_at = $3, reason = $4, \
         ended_at = $5 WHERE state = 'running' AND generation = $1";
    let (mut tx, state) = (ledger.begin().await?, db::name_of(state)?);
    on!(tx.conn(), c => {
        let query = sqlx::query(SQL).bind(generation).bind(state).bind(stopped_at).bind(reason);
        query.bind(now).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await
}

/// Makes a generation the live one, in one transaction with the end of its rebuild; false if it is
/// not to be made any more.
pub(super) async fn swap(ledger: &Pool, generation: i64, now: i64) -> Result<bool, Fault> {
    const SQL: &str = "UPDATE views_rebuild SET state = 'done', ended_at = $2 \
         WHERE state = 'running' AND generation = $1";
    let mut tx = ledger.begin().await?;
    let rows = on!(tx.conn(), c => {
        sqlx::query(SQL).bind(generation).bind(now).execute(&mut *c).await?.rows_affected()
    });
    if rows == 0 {
        return Ok(false);
    }
    generations::point(&mut tx.conn(), generation).await?;
    tx.commit().await?;
    Ok(true)
}

/// Why a rebuild stopped at an event may quote it: blanks that where the event was erased.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn blank(conn: &mut Conn<'_>, positions: &[i64]) -> Result<(), Fault> {
    const SQL: Sql = Sql {
        sqlite: "UPDATE views_rebuild SET reason = 'erased' \
                 WHERE stopped_at IN (SELECT value FROM json_each($1))",
        postgres: "UPDATE views_rebuild SET reason = 'erased' WHERE stopped_at = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    let (sql, list) = (conn.text(SQL), db::list(positions)?);
    on!(conn.again(), c => sqlx::query(sql).bind(list).execute(&mut *c).await?.rows_affected());
    Ok(())
}

/// Notes which generation a node reads from now on.
pub(super) async fn reads(ledger: &Pool, node: &str, generation: i64) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO views_readers (node, generation) VALUES ($1, $2) \
         ON CONFLICT (node) DO UPDATE SET generation = excluded.generation";
    let mut tx = ledger.begin().await?;
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(node).bind(generation).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await
}

/// The generation that each node reads that runs now; none where it has not said so yet.
pub(super) async fn readers(ledger: &Pool, now: i64) -> Result<Vec<Option<i64>>, Fault> {
    const SQL: &str = "SELECT readers.generation FROM leases \
         LEFT JOIN views_readers AS readers ON readers.node = leases.node \
         WHERE leases.name LIKE 'node/%' AND leases.until > $1";
    let mut checkout = ledger.checkout().await?;
    let rows: Vec<(Option<i64>,)> =
        on!(checkout.conn(), c => sqlx::query_as(SQL).bind(now).fetch_all(&mut *c).await?);
    Ok(rows.into_iter().map(|(generation,)| generation).collect())
}

/// Forgets what nodes read that do not run any more.
pub(super) async fn forget_readers(ledger: &Pool, now: i64) -> Result<(), Fault> {
    const SQL: &str = "DELETE FROM views_readers WHERE node NOT IN \
         (SELECT node FROM leases WHERE name LIKE 'node/%' AND until > $1)";
    let mut tx = ledger.begin().await?;
    on!(tx.conn(), c => sqlx::query(SQL).bind(now).execute(&mut *c).await?.rows_affected());
    tx.commit().await
}
