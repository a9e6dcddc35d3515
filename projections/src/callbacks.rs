//! The view `callbacks`: each callback that was not answered at its first call, where it stands and
//! why, and for each receiver how many stand where. Good callbacks are only counted, so that ten
//! thousand of them a second are no rows. The callback engine reads what is due here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded,
    callback::{Attempt, CallbacksCalled, CallbacksReplayed, Kind, Outcome, Reason},
};
use uuid::Uuid;

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, scalars,
};

/// One callback as the view keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackRow {
    /// The receiver's opaque id.
    pub receiver: Uuid,
    /// Position of the event that it is about.
    pub position: i64,
    /// The app.
    pub app: String,
    /// What it is about.
    pub kind: Kind,
    /// Where it stands.
    pub outcome: Outcome,
    /// Calls so far.
    pub calls: i64,
    /// Why it waits, or was given up.
    pub reason: Option<Reason>,
    /// HTTP status of the last answer.
    pub status: Option<i64>,
    /// When it is due, in µs, if it waits.
    pub due_at: Option<i64>,
    /// When this was recorded, in µs.
    pub at: i64,
    /// The calls so far, of which the last [`MAX_ATTEMPTS`] are kept.
    pub attempts: Vec<Attempt>,
}

/// How many callbacks of a receiver stand where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountRow {
    /// The receiver's opaque id.
    pub receiver: Uuid,
    /// The app.
    pub app: String,
    /// What they are about.
    pub kind: Kind,
    /// Where they stand.
    pub outcome: Outcome,
    /// How many.
    pub callbacks: i64,
}

/// Columns of a row, in the order in which it is written and read.
const COLUMNS: [&str; 11] = [
    "receiver", "position", "app", "kind", "outcome", "calls", "reason", "status", "due_at", "at",
    "attempts",
];

static UPSERT: LazyLock<Insert> = LazyLock::new(|| {
    let set = COLUMNS[4..].iter().map(|c| format!("{c} = excluded.{c}")).collect::<Vec<_>>();
    let tail = format!("ON CONFLICT (receiver, position) DO UPDATE SET {}", set.join(", "));
    Insert::new("callbacks", &COLUMNS, tail)
});

static COUNT: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["receiver", "outcome", "app", "kind", "callbacks"];
    let tail = "ON CONFLICT (receiver, outcome) DO UPDATE SET \
                callbacks = callback_counts.callbacks + excluded.callbacks";
    Insert::new("callback_counts", &columns, tail)
});

/// Calls that are listed of a callback. Of those that an operator asks for again there may be more.
pub const MAX_ATTEMPTS: usize = 32;
/// How long a callback that was answered in the end stays listed, in µs: 30 days.
const LISTED_MICROS: i64 = 30 * 86_400 * 1_000_000;
/// Callbacks that one statement asks again for.
const STEP: i64 = 4_096;

/// What a page changes.
#[derive(Default)]
struct Page {
    rows: BTreeMap<(Uuid, i64), CallbackRow>,
    dirty: BTreeSet<(Uuid, i64)>,
    counts: BTreeMap<(Uuid, Outcome), (String, Kind, i64)>,
}

impl Page {
    fn count(&mut self, receiver: Uuid, outcome: Outcome, app: &str, kind: Kind, by: i64) {
        let entry = self.counts.entry((receiver, outcome));
        entry.or_insert_with(|| (app.to_owned(), kind, 0)).2 += by;
    }

    async fn called(
        &mut self,
        conn: &mut Conn<'_>,
        recorded: &Recorded,
        called: &CallbacksCalled,
    ) -> Result<(), Fault> {
        let (app, receiver, kind) = (&recorded.app, called.receiver, called.kind);
        for group in &called.groups {
            let outcome = group.state.outcome;
            // Only these were never anywhere else.
            if outcome == Outcome::Answered && group.state.calls <= 1 && !group.again {
                self.count(receiver, outcome, app, kind, group.count.into());
                continue;
            }
            let positions = group.callbacks.numbers();
            let unread = positions.iter().filter(|at| !self.rows.contains_key(&(receiver, **at)));
            let unread: Vec<i64> = unread.copied().collect();
            for row in by_positions(conn, receiver, &unread).await? {
                self.rows.insert((receiver, row.position), row);
            }
            for position in positions {
                let before = self.rows.remove(&(receiver, position));
                if let Some(before) = &before {
                    self.count(receiver, before.outcome, app, kind, -1);
                }
                let mut attempts = before.map(|before| before.attempts).unwrap_or_default();
                attempts.extend_from_slice(&group.attempts);
                attempts.drain(..attempts.len().saturating_sub(MAX_ATTEMPTS));
                self.count(receiver, outcome, app, kind, 1);
                let row = CallbackRow {
                    receiver,
                    position,
                    app: app.clone(),
                    kind,
                    outcome,
                    calls: group.state.calls.into(),
                    reason: group.state.reason,
                    status: group.state.status.map(i64::from),
                    due_at: group.state.due_at,
                    at: recorded.recorded_at,
                    attempts,
                };
                self.rows.insert((receiver, position), row);
                self.dirty.insert((receiver, position));
            }
        }
        Ok(())
    }

    async fn replayed(
        &mut self,
        conn: &mut Conn<'_>,
        recorded: &Recorded,
        replayed: &CallbacksReplayed,
    ) -> Result<(), Fault> {
        self.write(conn).await?;
        let (receiver, at) = (replayed.receiver.to_string(), recorded.recorded_at);
        let changed = match &replayed.callbacks {
            None => again_all(conn, &receiver, at).await?,
            Some(positions) => again(conn, &receiver, &positions.numbers(), at).await?,
        };
        let changed = i64::try_from(changed).unwrap_or(i64::MAX);
        let (app, kind, receiver) = (&recorded.app, replayed.kind, replayed.receiver);
        if changed > 0 {
            self.count(receiver, Outcome::GivenUp, app, kind, -changed);
            self.count(receiver, Outcome::Postponed, app, kind, changed);
        }
        Ok(())
    }

    /// Writes what changed, and forgets it.
    async fn write(&mut self, conn: &mut Conn<'_>) -> Result<(), Fault> {
        let Page { mut rows, dirty, counts } = std::mem::take(self);
        let mut values: Vec<Value> = Vec::with_capacity(dirty.len() * COLUMNS.len());
        let mut answered: BTreeMap<Uuid, i64> = BTreeMap::new();
        for row in dirty.iter().filter_map(|key| rows.remove(key)) {
            if row.outcome == Outcome::Answered {
                let at = answered.entry(row.receiver).or_default();
                *at = row.at.max(*at);
            }
            values.extend([
                row.receiver.to_string().into(),
                row.position.into(),
                row.app.into(),
                row.kind.name().into(),
                place(row.outcome).into(),
                row.calls.into(),
                row.reason.map(|reason| reason.name().to_owned()).into(),
                row.status.into(),
                row.due_at.into(),
                row.at.into(),
                written(&row.attempts)?.into(),
            ]);
        }
        UPSERT.run(conn, values).await?;
        for (receiver, at) in answered {
            remove_answered(conn, receiver, at - LISTED_MICROS).await?;
        }
        let mut values: Vec<Value> = Vec::new();
        for ((receiver, outcome), (app, kind, by)) in counts {
            values.extend([
                receiver.to_string().into(),
                place(outcome).into(),
                app.into(),
                kind.name().into(),
                by.into(),
            ]);
        }
        COUNT.run(conn, values).await
    }
}

/// Removes what a receiver answered before a time.
async fn remove_answered(conn: &mut Conn<'_>, receiver: Uuid, before: i64) -> Result<(), Fault> {
    const SQL: &str = "DELETE FROM callbacks WHERE receiver = $1 AND outcome = 0 AND at < $2";
    let receiver = receiver.to_string();
    on!(conn.again(), c => {
        sqlx::query(SQL).bind(receiver).bind(before).execute(&mut *c).await?.rows_affected()
    });
    Ok(())
}

/// Lets some that were given up wait again, due at once; gives how many they were.
async fn again(
    conn: &mut Conn<'_>,
    receiver: &str,
    positions: &[i64],
    at: i64,
) -> Result<u64, Fault> {
    const SQL: Sql = scalars!(
        "UPDATE callbacks SET outcome = 1, calls = 0, reason = 'replayed', due_at = $3, at = $3 \
         WHERE receiver = $2 AND outcome = 2 AND position IN \
         (SELECT CAST(list.value AS BIGINT) FROM ",
        ")"
    );
    let (sql, list) = (conn.text(SQL), db::list(positions)?);
    Ok(on!(conn.again(), c => {
        let query = sqlx::query(sql).bind(list).bind(receiver).bind(at);
        query.execute(&mut *c).await?.rows_affected()
    }))
}

/// The same for all, as records of earlier versions ask for: in steps, so that no statement takes
/// longer than the database allows.
async fn again_all(conn: &mut Conn<'_>, receiver: &str, at: i64) -> Result<u64, Fault> {
    let (mut changed, mut after) = (0, 0);
    loop {
        let positions = given_up(conn, receiver, after, STEP).await?;
        let Some(last) = positions.last() else { return Ok(changed) };
        after = *last;
        changed += again(conn, receiver, &positions, at).await?;
    }
}

/// Positions of what a receiver gave up, after a position.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn given_up(
    conn: &mut Conn<'_>,
    receiver: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<i64>, Fault> {
    const SQL: &str = "SELECT position FROM callbacks WHERE receiver = $1 AND outcome = 2 \
         AND position > $2 ORDER BY position LIMIT $3";
    let rows: Vec<(i64,)> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(receiver).bind(after).bind(limit);
        query.fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(|(position,)| position).collect())
}

/// Folds one page.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let mut changes = Page::default();
    for recorded in page {
        match &recorded.event {
            Event::CallbacksCalled(called) => changes.called(conn, recorded, called).await?,
            Event::CallbacksReplayed(again) => changes.replayed(conn, recorded, again).await?,
            _ => {}
        }
    }
    changes.write(conn).await
}

fn place(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Answered => 0,
        Outcome::Postponed => 1,
        Outcome::GivenUp => 2,
    }
}

fn outcome(place: i64) -> Result<Outcome, Fault> {
    let known = usize::try_from(place).ok().and_then(|place| Outcome::ALL.get(place));
    known.copied().ok_or_else(|| Fault::stored("outcome", place))
}

fn uuid(text: &str) -> Result<Uuid, Fault> {
    text.parse().map_err(|cause| Fault::stored("receiver", cause))
}

/// Attempts as they are stored: JSON, or nothing.
fn written(attempts: &[Attempt]) -> Result<Option<String>, Fault> {
    let text = (!attempts.is_empty()).then(|| serde_json::to_string(attempts));
    text.transpose().map_err(|cause| Fault::stored("attempts", cause))
}

fn read(attempts: Option<&str>) -> Result<Vec<Attempt>, Fault> {
    let attempts = attempts.map(serde_json::from_str).transpose();
    Ok(attempts.map_err(|cause| Fault::stored("attempts", cause))?.unwrap_or_default())
}

type Stored = (
    String,
    i64,
    String,
    String,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    i64,
    Option<String>,
);

fn row(stored: Stored) -> Result<CallbackRow, Fault> {
    let (receiver, position, app, kind, place, calls, reason, status, due_at, at, attempts) =
        stored;
    Ok(CallbackRow {
        receiver: uuid(&receiver)?,
        position,
        app,
        kind: db::from_name(kind)?,
        outcome: outcome(place)?,
        calls,
        reason: reason.map(db::from_name).transpose()?,
        status,
        due_at,
        at,
        attempts: read(attempts.as_deref())?,
    })
}

/// Rows of a receiver by position.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_positions(
    conn: &mut Conn<'_>,
    receiver: Uuid,
    positions: &[i64],
) -> Result<Vec<CallbackRow>, Fault> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    const SQL: Sql = scalars!(
        "SELECT receiver, position, app, kind, outcome, calls, reason, status, due_at, at, \
         attempts FROM callbacks WHERE receiver = $2 AND position IN (SELECT CAST(list.value AS BIGINT) FROM ",
        ") ORDER BY position"
    );
    let (sql, list, receiver) = (conn.text(SQL), db::list(positions)?, receiver.to_string());
    let rows: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(list).bind(receiver).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// What is due at a receiver, in the order in which it became so.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn due(
    conn: &mut Conn<'_>,
    receiver: Uuid,
    now: i64,
    limit: i64,
) -> Result<Vec<CallbackRow>, Fault> {
    const SQL: &str = "SELECT receiver, position, app, kind, outcome, calls, reason, status, \
         due_at, at, attempts FROM callbacks WHERE receiver = $1 AND outcome = 1 AND due_at <= $2 \
         ORDER BY due_at, position LIMIT $3";
    let receiver = receiver.to_string();
    let rows: Vec<Stored> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(receiver).bind(now).bind(limit);
        query.fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// What waits at a receiver whose order matters, in the order of its events, due or not.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn in_order(
    conn: &mut Conn<'_>,
    receiver: Uuid,
    limit: i64,
) -> Result<Vec<CallbackRow>, Fault> {
    const SQL: &str = "SELECT receiver, position, app, kind, outcome, calls, reason, status, \
         due_at, at, attempts FROM callbacks WHERE receiver = $1 AND outcome = 1 ORDER BY position LIMIT $2";
    let receiver = receiver.to_string();
    let rows: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(receiver).bind(limit).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// When the next callback of a receiver is due after a time, if any is.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn next_due(
    conn: &mut Conn<'_>,
    receiver: Uuid,
    after: i64,
) -> Result<Option<i64>, Fault> {
    const SQL: &str =
        "SELECT MIN(due_at) FROM callbacks WHERE receiver = $1 AND outcome = 1 AND due_at > $2";
    let receiver = receiver.to_string();
    let (next,): (Option<i64>,) = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(receiver).bind(after).fetch_one(&mut *c).await?
    });
    Ok(next)
}

/// Receivers at which something waits, each with its app and kind.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn waiting(conn: &mut Conn<'_>) -> Result<Vec<CountRow>, Fault> {
    const SQL: &str = "SELECT receiver, app, kind, outcome, callbacks FROM callback_counts \
         WHERE outcome = 1 AND callbacks > 0 ORDER BY receiver";
    let rows: Vec<(String, String, String, i64, i64)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    rows.into_iter().map(counted).collect()
}

/// How many callbacks of an app stand where, by receiver.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn counts(conn: &mut Conn<'_>, app: &str) -> Result<Vec<CountRow>, Fault> {
    const SQL: &str = "SELECT receiver, app, kind, outcome, callbacks FROM callback_counts \
         WHERE app = $1 AND callbacks <> 0 ORDER BY kind, receiver, outcome";
    let rows: Vec<(String, String, String, i64, i64)> =
        on!(conn.again(), c => sqlx::query_as(SQL).bind(app).fetch_all(&mut *c).await?);
    rows.into_iter().map(counted).collect()
}

fn counted(
    (receiver, app, kind, place, callbacks): (String, String, String, i64, i64),
) -> Result<CountRow, Fault> {
    let (receiver, kind) = (uuid(&receiver)?, db::from_name(kind)?);
    Ok(CountRow { receiver, app, kind, outcome: outcome(place)?, callbacks })
}

/// Position before which the page after this one begins; none if this is the last. A page ends
/// between two events.
#[must_use]
pub fn next_page(rows: &[CallbackRow], limit: i64) -> Option<i64> {
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
    rows.last().filter(|_| full).map(|row| row.position)
}

/// Callbacks of an app that stand somewhere, newest event first, before a position: so many, and
/// all others of the last event.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page(
    conn: &mut Conn<'_>,
    app: &str,
    outcome: Outcome,
    before: i64,
    limit: i64,
) -> Result<Vec<CallbackRow>, Fault> {
    const SQL: &str = "SELECT receiver, position, app, kind, outcome, calls, reason, status, \
         due_at, at, attempts FROM callbacks WHERE app = $1 AND outcome = $2 AND position < $3 AND position >= \
         COALESCE((SELECT position FROM callbacks WHERE app = $1 AND outcome = $2 \
         AND position < $3 ORDER BY position DESC LIMIT 1 OFFSET $4 - 1), 0) \
         ORDER BY position DESC, receiver";
    let outcome = place(outcome);
    let rows: Vec<Stored> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(outcome).bind(before).bind(limit);
        query.fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// Callbacks of an app that stand somewhere, newest event first, after one of the list (its event and
/// receiver).
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn list(
    conn: &mut Conn<'_>,
    app: &str,
    outcome: Outcome,
    after: &(i64, String),
    limit: i64,
) -> Result<Vec<CallbackRow>, Fault> {
    const SQL: &str = "SELECT receiver, position, app, kind, outcome, calls, reason, status, \
         due_at, at, attempts FROM callbacks WHERE app = $1 AND outcome = $2 AND (position < $3 \
         OR (position = $3 AND receiver > $4)) ORDER BY position DESC, receiver LIMIT $5";
    let ((position, receiver), outcome) = (after, place(outcome));
    let rows: Vec<Stored> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(outcome).bind(position).bind(receiver);
        query.bind(limit).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}
