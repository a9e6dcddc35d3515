//! Moves the oldest events of a ledger into an export, and back. Before one goes, the export is verified
//! as a whole, and its row is compared with the ledger's, in the very transaction that removes it. What is
//! away is a beginning of the ledger at every moment, so that a crash needs no mending: the next run
//! goes on from there.

use std::path::Path;

use projections::{
    Fault,
    db::{Conn, Tx},
    on,
};
use serde::Serialize;

use super::{
    super::{
        Checkpoints, keys,
        note::Verifier,
        reading::rows,
        tiles::{self, signed},
        verify::{self, NotVerified, Wrong},
    },
    Opened, other,
};
use crate::{
    feed::views,
    ledger::{self, Away, Ledger, Stored, blank_erased, read_rows, write_stored},
};

/// How long events stay at least, in days, unless somebody says otherwise: a report about a message that
/// is away is refused, and a device may be off for weeks.
pub const KEEP_DAYS: u32 = 30;

/// Events removed in one transaction, which holds up appends.
const BATCH_EVENTS: usize = 2_000;
/// The first event stays, as the ledger is named after it.
const FIRST: i64 = 2;

/// What moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Events that moved now.
    pub events: i64,
    /// The last position that is away; 0 if nothing is.
    pub away: i64,
    /// Up to where more could go, and what is in the way of the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
}

/// Up to where events may be detached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// The last position that may go.
    pub position: i64,
    /// Why not the next, for people.
    pub reason: String,
}

/// Which events are to go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Going {
    /// The last of them; as many as may go if absent.
    pub to: Option<i64>,
    /// None that was recorded at this time in µs or later, if that is said.
    pub before: Option<i64>,
}

/// Removes events from the ledger that lie in an export. With `trusted` keys its checkpoint has to be
/// signed by one of them; else by one that the ledger lists.
///
/// # Errors
/// [`NotVerified`] says what is wrong, or why some may not go; of what was compared before that,
/// some may have been removed.
pub async fn detach(
    ledger: &Ledger,
    directory: &Path,
    trusted: &[Verifier],
    going: Going,
) -> Result<Moved, NotVerified> {
    let opened = of_this(ledger, directory, trusted).await?;
    let name = directory.canonicalize().map_err(other)?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let limit = limit(ledger, opened.manifest.events, going.before).await?;
    let last = going.to.unwrap_or(limit.position);
    if last > limit.position {
        let Limit { position, reason } = limit;
        return Err(other(format!("only events up to {position} may be detached: {reason}")));
    }
    let away = ledger.away().await?.map_or(FIRST - 1, |away| away.last);
    if last <= away {
        let away = if away < FIRST { 0 } else { away };
        return Ok(Moved { events: 0, away, limit: Some(limit) });
    }
    // All are compared before the first goes.
    let mut pages = opened.rows(FIRST, last);
    while let Some(page) = pages.recv().await {
        let page = page?;
        let mut checkout = ledger.database().ledger_read.checkout().await?;
        in_tree(&mut checkout.conn(), &page).await?;
        let here = page.iter().position(|row| row.position > away).unwrap_or(page.len());
        same(&mut checkout.conn(), &page[here..]).await?;
    }
    // From here on some lie in the export alone.
    opened.sync().map_err(other)?;
    let mut pages = opened.rows(away + 1, last);
    while let Some(page) = pages.recv().await {
        for batch in page?.chunks(BATCH_EVENTS) {
            remove(ledger, batch, &name).await?;
        }
    }
    Ok(Moved { events: last - away, away: last, limit: Some(limit) })
}

/// Puts back whatever is away, from an export that holds it.
///
/// # Errors
/// [`NotVerified`] says what is wrong; some files may have been put back before.
pub async fn attach(
    ledger: &Ledger,
    directory: &Path,
    trusted: &[Verifier],
) -> Result<Moved, NotVerified> {
    let Some(away) = ledger.away().await? else { return Ok(Moved::default()) };
    let opened = of_this(ledger, directory, trusted).await?;
    holds(&opened, &away)?;
    for range in opened.manifest.ranges.iter().rev() {
        let (first, last) = (range.first.max(FIRST), range.last.min(away.last));
        if first <= last {
            put_back(ledger, &opened, first, last).await?;
        }
    }
    Ok(Moved { events: away.last - FIRST + 1, away: 0, limit: None })
}

/// An export has all that is away.
pub(in super::super) fn holds(opened: &Opened, away: &Away) -> Result<(), NotVerified> {
    match opened.manifest.events < away.last {
        true => Err(other(format!("the export ends before {}, which is away", away.last))),
        false => Ok(()),
    }
}

/// Opens an export that is right, and of this ledger.
async fn of_this(
    ledger: &Ledger,
    directory: &Path,
    trusted: &[Verifier],
) -> Result<Opened, NotVerified> {
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let origin = keys::origin(&mut checkout.conn()).await?.unwrap_or_default();
    let own = keys::all(&mut checkout.conn()).await?;
    drop(checkout);
    let own: Vec<Verifier> = own.iter().map(|key| key.verifier(&origin)).collect();
    let trusted = if trusted.is_empty() { &own } else { trusted };
    verify::export(directory, &[], trusted).await?;
    let opened = Opened::open(directory)?;
    match opened.manifest.origin == origin {
        true => Ok(opened),
        false => Err(other("the export is of another ledger")),
    }
}

/// Up to where events may go: what has not been read, or may still move, stays.
async fn limit(ledger: &Ledger, exported: i64, before: Option<i64>) -> Result<Limit, NotVerified> {
    const EFFECTS: &str = "SELECT name, position FROM subscriptions";
    const NOT_READ: &str = "SELECT position FROM checkpoint";
    const STAYS: [(&str, &str); 5] = [
        ("SELECT MIN(position) FROM set_aside", "the event there is set aside, in no view"),
        ("SELECT MIN(position) FROM pending", "a device still has to get the message there"),
        (
            "SELECT MIN(m.position) FROM messages m JOIN deliveries d ON d.message = m.message \
             WHERE d.due > 0",
            "a delivery of the message there is under way",
        ),
        (
            "SELECT MIN(t.position) FROM task_statistics t WHERE t.ended IS NULL OR EXISTS \
             (SELECT 1 FROM task_chunks c WHERE c.task = t.task \
             AND (c.open > 0 OR c.unsent > 0 OR c.kept > 0))",
            "the task there is not over",
        ),
        (
            "SELECT MIN(position) FROM callbacks WHERE outcome = 1",
            "the callback about the event there waits",
        ),
    ];
    let database = ledger.database();
    let mut checkout = database.ledger_read.checkout().await?;
    let sealed = Checkpoints::last(&mut checkout.conn()).await?.map_or(0, |last| last.size);
    let effects: Vec<(String, i64)> = on!(checkout.conn(), c => {
        sqlx::query_as(EFFECTS).fetch_all(&mut *c).await.map_err(Fault::from)?
    });
    drop(checkout);
    let mut limits = vec![
        (exported, "the export ends there".to_owned()),
        (signed(sealed), "nothing later is sealed".to_owned()),
        (ledger.fresh_head().await? - 1, "the last event stays".to_owned()),
    ];
    let effect = |(name, at)| (at, format!("the duty `{name}` has not read further"));
    limits.extend(effects.into_iter().map(effect));
    if let Some(before) = before {
        limits.push((ledger.before(before).await?, "the next was recorded too lately".to_owned()));
    }
    let mut views = database.views.checkout().await?;
    let (read,): (i64,) = on!(views.conn(), c => {
        sqlx::query_as(NOT_READ).fetch_one(&mut *c).await.map_err(Fault::from)?
    });
    limits.push((read, "the views have not read further".to_owned()));
    for (sql, reason) in STAYS {
        let (position,): (Option<i64>,) = on!(views.conn(), c => {
            sqlx::query_as(sql).fetch_one(&mut *c).await.map_err(Fault::from)?
        });
        limits.extend(position.map(|position| (position - 1, reason.to_owned())));
    }
    let least = limits.into_iter().min_by_key(|(position, _)| *position);
    let (position, reason) = least.unwrap_or_default();
    Ok(Limit { position: position.max(0), reason })
}

/// The leaves of some rows of an export are those in the ledger's tree, and are their hashes.
async fn in_tree(conn: &mut Conn<'_>, page: &[Stored]) -> Result<(), NotVerified> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(()) };
    let leaves = tiles::of(conn, first.position, last.position).await?;
    for (index, row) in page.iter().enumerate() {
        let leaf = row.computed_leaf().map_err(|why| Wrong::new(row.position, why))?;
        if leaves.get(index) != Some(&leaf) || leaf.as_slice() != row.leaf {
            let reason = "the export has another event than was sealed";
            return Err(Wrong::new(row.position, reason).into());
        }
    }
    Ok(())
}

/// Some rows of an export are the ledger's.
async fn same(conn: &mut Conn<'_>, page: &[Stored]) -> Result<(), NotVerified> {
    let Some(first) = page.first() else { return Ok(()) };
    let limit = i64::try_from(page.len()).unwrap_or(i64::MAX);
    let rows = read_rows(conn, first.position - 1, limit).await?;
    for (index, row) in page.iter().enumerate() {
        if rows.get(index) != Some(row) {
            let reason = "the export has another row than the ledger; if something was erased since, \
                          export it anew";
            return Err(Wrong::new(row.position, reason).into());
        }
    }
    Ok(())
}

/// Begins a transaction that moves events. One at a time does, and no erasure meanwhile: each writes the only
/// row of `erasing` first, and the other waits for it.
async fn begin(ledger: &Ledger) -> Result<Tx, Fault> {
    let mut tx = ledger.database().ledger_write.begin().await?;
    if let Conn::Postgres(c) = tx.conn() {
        for sql in
            ["SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0"]
        {
            sqlx::query(sql).execute(&mut *c).await?;
        }
    }
    on!(tx.conn(), c => {
        sqlx::query("INSERT INTO erasing (one) VALUES (1)").execute(&mut *c).await?.rows_affected()
    });
    Ok(tx)
}

async fn commit(mut tx: Tx) -> Result<(), Fault> {
    on!(tx.conn(), c => {
        sqlx::query("DELETE FROM erasing").execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await
}

/// Removes a run of events, and notes that they are away.
async fn remove(ledger: &Ledger, batch: &[Stored], export: &str) -> Result<(), NotVerified> {
    const AWAY: &str = "INSERT INTO detached (one, last, recorded_at, export) \
         VALUES (1, $1, $2, $3) ON CONFLICT (one) DO UPDATE SET last = excluded.last, \
         recorded_at = excluded.recorded_at, export = excluded.export";
    const GUARD: &str = "INSERT INTO detaching (one, first, last) VALUES (1, $1, $2)";
    const STREAMS: &str = "INSERT INTO detached_streams (stream, first, recorded_at, version) \
         SELECT stream, MIN(position), MIN(recorded_at), MAX(version) FROM events \
         WHERE position BETWEEN $1 AND $2 GROUP BY stream \
         ON CONFLICT (stream) DO UPDATE SET version = excluded.version";
    const EVENTS: &str = "DELETE FROM events WHERE position BETWEEN $1 AND $2";
    let (Some(begin_), Some(end)) = (batch.first(), batch.last()) else { return Ok(()) };
    let (first, last) = (begin_.position, end.position);
    let mut tx = begin(ledger).await?;
    let away = ledger::away(&mut tx.conn()).await?.map_or(FIRST - 1, |away| away.last);
    if first != away + 1 {
        return Err(other("somebody else attaches or detaches events at the same time"));
    }
    same(&mut tx.conn(), batch).await?;
    let removed = on!(tx.conn(), c => {
        let away = sqlx::query(AWAY).bind(last).bind(end.recorded_at).bind(export);
        away.execute(&mut *c).await.map_err(Fault::from)?;
        let mut removed = 0;
        for sql in [GUARD, STREAMS, EVENTS] {
            let done = sqlx::query(sql).bind(first).bind(last).execute(&mut *c).await;
            removed = done.map_err(Fault::from)?.rows_affected();
        }
        let over = sqlx::query("DELETE FROM detaching").execute(&mut *c).await;
        over.map_err(Fault::from)?;
        removed
    });
    if removed != batch.len() as u64 {
        return Err(other(format!("{removed} events went where {} should", batch.len())));
    }
    Ok(commit(tx).await?)
}

/// Puts back the last events that are away, of one file.
async fn put_back(
    ledger: &Ledger,
    opened: &Opened,
    first: i64,
    last: i64,
) -> Result<(), NotVerified> {
    // A stream that began before lacks only the versions before those that are back.
    const STREAMS: &str = "UPDATE detached_streams SET version = back.least - 1 FROM \
         (SELECT stream, MIN(version) AS least FROM events \
         WHERE position BETWEEN $1 AND $2 GROUP BY stream) AS back \
         WHERE back.stream = detached_streams.stream";
    const BACK: &str = "DELETE FROM detached_streams WHERE first >= $1";
    const AWAY: &str = "UPDATE detached SET last = $1, recorded_at = $2";
    let mut tx = begin(ledger).await?;
    if ledger::away(&mut tx.conn()).await?.map(|away| away.last) != Some(last) {
        return Err(other("somebody else attaches or detaches events at the same time"));
    }
    // The event before is read too, as its time is noted.
    let mut pages = opened.rows(first - 1, last);
    let mut before = None;
    while let Some(page) = pages.recv().await {
        let mut page = page?;
        if before.is_none() {
            before = Some(page.remove(0).recorded_at);
        }
        // What was erased since the export was made comes back blank.
        blank_erased(&mut tx.conn(), &mut page).await?;
        in_tree(&mut tx.conn(), &page).await?;
        write_stored(&mut tx.conn(), page).await?;
    }
    on!(tx.conn(), c => {
        let query = sqlx::query(STREAMS).bind(first).bind(last);
        query.execute(&mut *c).await.map_err(Fault::from)?;
        sqlx::query(BACK).bind(first).execute(&mut *c).await.map_err(Fault::from)?;
        let query = match first {
            FIRST => sqlx::query("DELETE FROM detached"),
            _ => sqlx::query(AWAY).bind(first - 1).bind(before),
        };
        query.execute(&mut *c).await.map_err(Fault::from)?;
    });
    Ok(commit(tx).await?)
}

/// Looks whether an export is right, of this ledger, and holds what is away.
///
/// # Errors
/// [`NotVerified`] says what is wrong.
pub async fn check(ledger: &Ledger, directory: &Path) -> Result<(), NotVerified> {
    let opened = of_this(ledger, directory, &[]).await?;
    match ledger.away().await? {
        Some(away) => holds(&opened, &away),
        None => Ok(()),
    }
}

/// Folds what is away into views that were just emptied, from the export that holds it.
///
/// # Errors
/// [`NotVerified`] when the export is another ledger's, or cannot be read.
pub async fn fold(ledger: &Ledger, directory: &Path) -> Result<(), NotVerified> {
    let Some(away) = ledger.away().await? else { return Ok(()) };
    let opened = of_this(ledger, directory, &[]).await?;
    // With the first that is here: by its id the views know the ledger again.
    let mut pages = rows(ledger.clone(), away.last + 1, Some(opened)).await?;
    while let Some(page) = pages.recv().await {
        views::fold_rows(ledger.database(), &page?).await?;
    }
    Ok(())
}

/// Has the database give room back that removed events left; whoever appends waits meanwhile.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn compact(ledger: &Ledger) -> Result<(), Fault> {
    let mut checkout = ledger.database().ledger_write.checkout().await?;
    match checkout.conn() {
        Conn::Sqlite(c) => {
            sqlx::query("VACUUM").execute(&mut *c).await?;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *c).await?;
        }
        Conn::Postgres(c) => {
            sqlx::query("SET statement_timeout = 0").execute(&mut *c).await?;
            let done = sqlx::query("VACUUM (FULL, ANALYZE) events").execute(&mut *c).await;
            sqlx::query("RESET statement_timeout").execute(&mut *c).await?;
            done?;
        }
    }
    Ok(())
}
