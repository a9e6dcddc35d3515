//! What a commit writes. A group is written under the lock of the `head` row, which orders all
//! appends of all nodes; a small one that changes nothing but the log goes in one round trip.

use std::sync::{Arc, LazyLock};

use projections::{
    Fault,
    db::{self, Conn, Insert, Pool, Sql, Value},
    on, registry,
};
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use super::{
    group::Group,
    record::{self, Row},
};
use crate::clock::Clock;

/// Events that are written in one round trip at most; with more, the trips weigh little.
pub(super) const AT_ONCE_EVENTS: usize = 64;

/// The end of the ledger.
pub(super) struct Head {
    pub(super) position: i64,
    pub(super) recorded_at: i64,
    chain: Vec<u8>,
    /// The time that orders events minus this node's own, in µs.
    pub(super) ahead: i64,
}

/// Locks the head row, in a statement of its own so that it sees the latest commit.
pub(super) async fn lock_head(conn: &mut Conn<'_>, clock: &Clock) -> Result<Head, Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position, recorded_at, chain, 0 FROM head",
        postgres: "SELECT position, recorded_at, chain, \
                   (extract(epoch from clock_timestamp()) * 1000000)::bigint FROM head FOR UPDATE",
    };
    let sql = conn.text(SQL);
    let (position, recorded_at, chain, database_now): (i64, i64, Vec<u8>, i64) =
        on!(conn.again(), c => sqlx::query_as(sql).fetch_one(&mut *c).await?);
    // Many nodes share the database, so its clock orders them; one that stands still is a test's.
    let ahead = match clock {
        Clock::System if database_now > 0 => database_now - clock.now(),
        Clock::System | Clock::Manual(_) => 0,
    };
    Ok(Head { position, recorded_at, chain, ahead })
}

/// Whether a group whose commit failed is there after all.
pub(super) async fn settled(conn: &mut Conn<'_>, group: &Group) -> Result<bool, Fault> {
    let Some(first) = group.events.first() else { return Ok(false) };
    const SQL: &str = "SELECT event_id FROM events WHERE position = $1";
    let found: Option<(Vec<u8>,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(first.position).fetch_optional(&mut *c).await?
    });
    Ok(found.is_some_and(|(id,)| id == first.event_id.as_bytes()))
}

static EVENTS: LazyLock<Insert> = LazyLock::new(|| Insert::new("events", &record::COLUMNS, ""));
static KEYS: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("idempotency", &["app", "key", "request", "first", "last"], ""));

/// Writes a group in a transaction that holds the head's lock. Gives the end of the ledger after
/// it.
pub(super) async fn write(conn: &mut Conn<'_>, group: &Group, head: Head) -> Result<Head, Fault> {
    let (values, end) = rows(group, &head)?;
    EVENTS.run(conn, values).await?;
    registry::apply(conn, &group.events).await?;
    let mut values: Vec<Value> = Vec::new();
    for ((app, key), (request, done)) in &group.keys {
        let texts = [app, key, request].map(|text| Value::from(text.as_str()));
        values.extend(texts);
        values.extend([done.first.into(), done.last.into()]);
    }
    KEYS.run(conn, values).await?;
    const SQL: &str = "UPDATE head SET position = $1, recorded_at = $2, chain = $3";
    on!(conn.again(), c => {
        let query = sqlx::query(SQL).bind(end.position).bind(end.recorded_at).bind(&end.chain);
        query.execute(&mut *c).await?.rows_affected()
    });
    Ok(end)
}

/// The rows of a group's events, and the end of the ledger after them.
fn rows(group: &Group, head: &Head) -> Result<(Vec<Value>, Head), Fault> {
    let mut salts = vec![0; group.events.len() * record::SALT_BYTES];
    getrandom::fill(&mut salts).map_err(|error| Fault::stored("randomness", error))?;
    let mut values: Vec<Value> = Vec::with_capacity(group.events.len() * record::COLUMNS.len());
    let mut chain = head.chain.clone();
    for (recorded, salt) in group.events.iter().zip(salts.chunks(record::SALT_BYTES)) {
        let salt = salt.try_into().map_err(|error| Fault::stored("salt", error))?;
        let row = Row::new(recorded, salt)?;
        chain = Sha256::new().chain_update(&chain).chain_update(row.leaf).finalize().to_vec();
        values.extend(row.values());
    }
    let (position, recorded_at, ahead) = (group.last(), group.recorded_at, head.ahead);
    Ok((values, Head { position, recorded_at, chain, ahead }))
}

/// The whole of a short commit, for each number of rows. An event that another process put at one
/// of these positions is a conflict, and all of it is rolled back.
static AT_ONCE_SQLITE: LazyLock<Vec<Arc<str>>> = LazyLock::new(|| {
    let text = |rows| {
        let insert = EVENTS.of_rows(rows);
        let head = "UPDATE head SET position = ?, recorded_at = ?, chain = ?";
        Arc::from(format!("BEGIN IMMEDIATE; {insert}; {head}; COMMIT"))
    };
    (1..=AT_ONCE_EVENTS).map(text).collect()
});

/// The same for PostgreSQL: moving the head takes its lock, and without it there is no insert.
static AT_ONCE_POSTGRES: LazyLock<Arc<str>> = LazyLock::new(|| {
    let insert = EVENTS.of_columns("moved, ", 5);
    Arc::from(format!(
        "WITH moved AS (UPDATE head SET position = $1, recorded_at = $2, chain = $3 \
         WHERE position = $4 RETURNING 1) {insert}"
    ))
});

/// Writes a group that changes nothing but the log, in one round trip. `None` if the head was
/// elsewhere: nothing was written then. After any other failure the outcome is unknown.
pub(super) async fn write_at_once(
    pool: &Pool,
    group: &Group,
    head: &Head,
) -> Result<Option<Head>, Fault> {
    let (values, end) = rows(group, head)?;
    let mut checkout = pool.checkout().await?;
    let written = match checkout.conn() {
        Conn::Sqlite(c) => {
            let text = Arc::clone(&AT_ONCE_SQLITE[group.events.len() - 1]);
            let query = db::bind(sqlx::query(AssertSqlSafe(text)), values);
            let query = query.bind(end.position).bind(end.recorded_at).bind(&end.chain);
            let written = query.execute(&mut *c).await;
            if written.is_err() {
                // What failed before it began has nothing to roll back.
                let _ = sqlx::query("ROLLBACK").execute(&mut *c).await;
            }
            written.map(|_| true)
        }
        Conn::Postgres(c) => {
            let query = sqlx::query(AssertSqlSafe(Arc::clone(&AT_ONCE_POSTGRES)));
            let query = query.bind(end.position).bind(end.recorded_at).bind(&end.chain);
            let query = db::bind_columns(query.bind(head.position), values, record::COLUMNS.len());
            query.execute(&mut *c).await.map(|done| done.rows_affected() > 0)
        }
    };
    match written {
        Ok(true) => Ok(Some(end)),
        Ok(false) => Ok(None),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
