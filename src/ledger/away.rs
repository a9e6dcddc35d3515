//! What is away: the oldest events of a ledger may be detached, into an export. Positions and versions
//! have no holes, so a read sees by itself that something is missing, and asks here what it is.

use domain::message::MessageId;
use projections::{
    Fault,
    db::{self, Conn, Sql},
    on,
};

/// The events from 2 to some position, while they are in an export alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// The last of them.
    pub last: i64,
    /// When that was recorded, in µs since the epoch.
    pub recorded_at: i64,
    /// The name of the export's folder.
    pub export: String,
}

impl Away {
    /// What a reader of one of them is told.
    #[must_use]
    pub fn fault(self) -> Fault {
        Fault::Detached { last: self.last, export: self.export }
    }
}

/// What is away, if anything is.
pub(crate) async fn away(conn: &mut Conn<'_>) -> Result<Option<Away>, Fault> {
    const SQL: &str = "SELECT last, recorded_at, export FROM detached";
    let found: Option<(i64, i64, String)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_optional(&mut *c).await?);
    Ok(found.map(|(last, recorded_at, export)| Away { last, recorded_at, export }))
}

/// Why no event lies at a position below the head.
pub(super) async fn missing(conn: &mut Conn<'_>, position: i64) -> Fault {
    match away(conn).await {
        Ok(Some(away)) if position <= away.last => away.fault(),
        Ok(_) => Fault::stored("ledger", format!("the event at {position} is missing")),
        Err(fault) => fault,
    }
}

/// Refuses to read streams of which a version after some one is away. What is away of a stream is its
/// beginning, so that only of one that does not begin where it was asked for anybody has to ask.
pub(super) async fn lacks(conn: &mut Conn<'_>, streams: &[&str], after: i64) -> Result<(), Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT stream FROM detached_streams WHERE version > $2 \
                 AND stream IN (SELECT value FROM json_each($1)) LIMIT 1",
        postgres: "SELECT stream FROM detached_streams WHERE version > $2 \
                   AND stream IN (SELECT json_array_elements_text($1::json)) LIMIT 1",
    };
    let (sql, streams) = (conn.text(SQL), db::list(streams)?);
    let found: Option<(String,)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(streams).bind(after).fetch_optional(&mut *c).await?
    });
    match found {
        None => Ok(()),
        Some(_) => match away(conn).await? {
            Some(away) => Err(away.fault()),
            // It came back in between: whoever asks again finds it.
            None => Err(Fault::stored("ledger", "a stream is being attached")),
        },
    }
}

/// The push that began within some positions, if it is away.
pub(super) async fn push(
    conn: &mut Conn<'_>,
    first: i64,
    last: i64,
) -> Result<Option<MessageId>, Fault> {
    const SQL: &str =
        "SELECT stream FROM detached_streams WHERE first BETWEEN $1 AND $2 ORDER BY first";
    let rows: Vec<(String,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(first).bind(last).fetch_all(&mut *c).await?
    });
    let id = |(stream,): (String,)| match stream.parse().ok()? {
        domain::Stream::Message(id) | domain::Stream::Task(id) => Some(id),
        _ => None,
    };
    Ok(rows.into_iter().find_map(id))
}

/// The last position up to another at which a stream began that is away, and when that was.
pub(super) async fn began(conn: &mut Conn<'_>, position: i64) -> Result<Option<(i64, i64)>, Fault> {
    const SQL: &str = "SELECT first, recorded_at FROM detached_streams WHERE first <= $1 \
         ORDER BY first DESC LIMIT 1";
    Ok(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(position).fetch_optional(&mut *c).await?
    }))
}

/// Streams that began after a position and are away, in order of where they begin: that, the stream,
/// and how many versions are away.
pub(super) async fn streams(
    conn: &mut Conn<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, String, i64)>, Fault> {
    const SQL: &str = "SELECT first, stream, version FROM detached_streams WHERE first > $1 \
         ORDER BY first LIMIT $2";
    Ok(on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(after).bind(limit).fetch_all(&mut *c).await?
    }))
}
