//! What is read from the statistics: sums of cells and of times over spans of time.

use domain::{message::Protocol, task::state::Way};

use super::{BUCKET_MICROS, Cell, way_named};
use crate::{
    Fault,
    db::{self, Conn},
    device_kinds::Kind,
    latency::Step,
    on,
};

/// A row of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsRow {
    /// Begin of the quarter of an hour, in µs.
    pub bucket_at: i64,
    /// The protocol.
    pub protocol: String,
    /// The way: `online`, a vendor, or nothing as long as there is none.
    pub way: String,
    /// The stage.
    pub stage: String,
    /// The reason for its end, or nothing.
    pub ended: String,
    /// Deliveries.
    pub deliveries: i64,
}

/// An app's rows of a span of time in µs, of all kinds of devices together, from its begin to before its end.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn between(
    conn: &mut Conn<'_>,
    app: &str,
    (from, to): (i64, i64),
) -> Result<Vec<StatsRow>, Fault> {
    const SQL: &str = "SELECT bucket_at, protocol, way, stage, ended, \
         CAST(SUM(deliveries) AS BIGINT) FROM delivery_stats \
         WHERE app = $1 AND bucket_at >= $2 AND bucket_at < $3 \
         GROUP BY bucket_at, protocol, way, stage, ended ORDER BY bucket_at, protocol, way, stage, ended";
    type Row = (i64, String, String, String, String, i64);
    let rows: Vec<Row> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(from).bind(to).fetch_all(&mut *c).await?
    });
    let row = |(bucket_at, protocol, way, stage, ended, deliveries)| StatsRow {
        bucket_at,
        protocol,
        way,
        stage,
        ended,
        deliveries,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// A part of a span of time in which buckets are numbered: a time `t` in µs lies in bucket
/// `(t + offset) / width`. All of these are whole multiples of the grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Begin in µs.
    pub from: i64,
    /// End in µs; not part of it.
    pub to: i64,
    /// µs that are added before a bucket is numbered.
    pub offset: i64,
    /// Length of a bucket in µs.
    pub width: i64,
    /// Length of the buckets that are added up, in µs: [`BUCKET_MICROS`] or one of
    /// [`super::ROLLED_MICROS`].
    pub grain: i64,
    /// Whether kinds of devices are told apart.
    pub kinds: bool,
}

/// Deliveries of a bucket, by protocol and cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumRow {
    /// Number of the bucket, as its [`Span`] says.
    pub bucket: i64,
    /// The protocol.
    pub protocol: Protocol,
    /// The kind of their devices; 0 where nobody asked.
    pub kind: Kind,
    /// Where they are.
    pub cell: Cell,
    /// How many.
    pub deliveries: i64,
}

/// How many deliveries of a bucket took so long for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyRow {
    /// Number of the bucket, as its [`Span`] says.
    pub bucket: i64,
    /// The protocol.
    pub protocol: Protocol,
    /// The kind of their devices; 0 where nobody asked.
    pub kind: Kind,
    /// The way over which the step came.
    pub way: Way,
    /// The step.
    pub step: Step,
    /// Its time: a bucket of a histogram ([`crate::histogram`]).
    pub millis: i64,
    /// How many.
    pub deliveries: i64,
}

/// A kind as it is stored.
fn kind_of(kind: i64) -> Result<Kind, Fault> {
    Kind::try_from(kind).map_err(|cause| Fault::stored("kind", cause))
}

/// The sums of an app's deliveries of a span; at most `limit` rows.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn sums(
    conn: &mut Conn<'_>,
    app: &str,
    span: Span,
    limit: i64,
) -> Result<Vec<SumRow>, Fault> {
    const QUARTERS: &str = "SELECT (bucket_at + $4) / $5, protocol, \
         CASE WHEN $7 = 1 THEN kind ELSE 0 END, way, stage, ended, CAST(SUM(deliveries) AS BIGINT) FROM delivery_stats \
         WHERE app = $1 AND bucket_at >= $2 AND bucket_at < $3 GROUP BY 1, 2, 3, 4, 5, 6 LIMIT $6";
    const ROLLED: &str = "SELECT (bucket_at + $4) / $5, protocol, \
         CASE WHEN $7 = 1 THEN kind ELSE 0 END, way, stage, ended, CAST(SUM(deliveries) AS BIGINT) FROM delivery_rollups \
         WHERE app = $1 AND grain = $8 AND bucket_at >= $2 AND bucket_at < $3 \
         GROUP BY 1, 2, 3, 4, 5, 6 LIMIT $6";
    type Row = (i64, String, i64, String, String, String, i64);
    let Span { from, to, offset, width, grain, kinds } = span;
    let quarters = grain == BUCKET_MICROS;
    let sql = if quarters { QUARTERS } else { ROLLED };
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(sql).bind(app).bind(from).bind(to).bind(offset).bind(width);
        let query = query.bind(limit).bind(i64::from(kinds));
        let query = if quarters { query } else { query.bind(grain) };
        query.fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, kind, way, stage, ended, deliveries): Row| {
        let (protocol, cell) = (db::from_name(protocol)?, Cell::of_names(&way, stage, ended)?);
        Ok(SumRow { bucket, protocol, kind: kind_of(kind)?, cell, deliveries })
    };
    rows.into_iter().map(row).collect()
}

/// How long the steps of an app's deliveries of a span took; at most `limit` rows.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn latencies(
    conn: &mut Conn<'_>,
    app: &str,
    span: Span,
    limit: i64,
) -> Result<Vec<LatencyRow>, Fault> {
    const QUARTERS: &str = "SELECT (bucket_at + $4) / $5, protocol, \
         CASE WHEN $7 = 1 THEN kind ELSE 0 END, way, step, millis, CAST(SUM(deliveries) AS BIGINT) FROM delivery_latencies \
         WHERE app = $1 AND bucket_at >= $2 AND bucket_at < $3 GROUP BY 1, 2, 3, 4, 5, 6 LIMIT $6";
    const ROLLED: &str = "SELECT (bucket_at + $4) / $5, protocol, \
         CASE WHEN $7 = 1 THEN kind ELSE 0 END, way, step, millis, CAST(SUM(deliveries) AS BIGINT) FROM latency_rollups \
         WHERE app = $1 AND grain = $8 AND bucket_at >= $2 AND bucket_at < $3 \
         GROUP BY 1, 2, 3, 4, 5, 6 LIMIT $6";
    type Row = (i64, String, i64, String, String, i64, i64);
    let Span { from, to, offset, width, grain, kinds } = span;
    let quarters = grain == BUCKET_MICROS;
    let sql = if quarters { QUARTERS } else { ROLLED };
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(sql).bind(app).bind(from).bind(to).bind(offset).bind(width);
        let query = query.bind(limit).bind(i64::from(kinds));
        let query = if quarters { query } else { query.bind(grain) };
        query.fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, kind, way, step, millis, deliveries): Row| {
        let (protocol, way, step) =
            (db::from_name(protocol)?, way_named(&way)?, Step::named(&step)?);
        Ok(LatencyRow { bucket, protocol, kind: kind_of(kind)?, way, step, millis, deliveries })
    };
    rows.into_iter().map(row).collect()
}

/// The same of an app's tasks that started in a span, each with its label: a task's deliveries are
/// accepted when it starts. With `each` a row is one task's, else a label's.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn sums_of_tasks(
    conn: &mut Conn<'_>,
    app: &str,
    span: Span,
    each: bool,
    limit: i64,
) -> Result<Vec<(Option<i64>, Option<String>, SumRow)>, Fault> {
    const SQL: &str = "SELECT (t.started_at + $4) / $5, t.protocol, \
         CASE WHEN $8 = 1 THEN d.kind ELSE 0 END, d.way, d.stage, d.ended, t.label, CASE WHEN $6 = 1 THEN t.task END, CAST(SUM(d.deliveries) AS BIGINT) \
         FROM task_statistics t JOIN task_deliveries d ON d.task = t.task \
         WHERE t.app = $1 AND t.started_at >= $2 AND t.started_at < $3 \
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 LIMIT $7";
    type Row = (i64, String, i64, String, String, String, Option<String>, Option<i64>, i64);
    let Span { from, to, offset, width, kinds, .. } = span;
    let (each, kinds) = (i64::from(each), i64::from(kinds));
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(from).bind(to).bind(offset).bind(width);
        query.bind(each).bind(limit).bind(kinds).fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, kind, way, stage, ended, label, task, deliveries): Row| {
        let (protocol, cell) = (db::from_name(protocol)?, Cell::of_names(&way, stage, ended)?);
        Ok((task, label, SumRow { bucket, protocol, kind: kind_of(kind)?, cell, deliveries }))
    };
    rows.into_iter().map(row).collect()
}

/// As [`sums_of_tasks`], of how long their steps took.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn latencies_of_tasks(
    conn: &mut Conn<'_>,
    app: &str,
    span: Span,
    each: bool,
    limit: i64,
) -> Result<Vec<(Option<i64>, Option<String>, LatencyRow)>, Fault> {
    const SQL: &str = "SELECT (t.started_at + $4) / $5, t.protocol, \
         CASE WHEN $8 = 1 THEN d.kind ELSE 0 END, d.way, d.step, t.label, \
         CASE WHEN $6 = 1 THEN t.task END, d.millis, CAST(SUM(d.deliveries) AS BIGINT) \
         FROM task_statistics t JOIN task_latencies d ON d.task = t.task \
         WHERE t.app = $1 AND t.started_at >= $2 AND t.started_at < $3 \
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 LIMIT $7";
    type Row = (i64, String, i64, String, String, Option<String>, Option<i64>, i64, i64);
    let Span { from, to, offset, width, kinds, .. } = span;
    let (each, kinds) = (i64::from(each), i64::from(kinds));
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(from).bind(to).bind(offset).bind(width);
        query.bind(each).bind(limit).bind(kinds).fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, kind, way, step, label, task, millis, deliveries): Row| {
        let (protocol, way, step) =
            (db::from_name(protocol)?, way_named(&way)?, Step::named(&step)?);
        Ok((
            task,
            label,
            LatencyRow { bucket, protocol, kind: kind_of(kind)?, way, step, millis, deliveries },
        ))
    };
    rows.into_iter().map(row).collect()
}

/// Position that the views include, in the snapshot of this connection.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn position(conn: &mut Conn<'_>) -> Result<i64, Fault> {
    const SQL: &str = "SELECT position FROM checkpoint";
    let (position,): (i64,) = on!(conn.again(), c => sqlx::query_as(SQL).fetch_one(&mut *c).await?);
    Ok(position)
}
