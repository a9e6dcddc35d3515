//! The view `delivery_stats`: how many deliveries there are, by the quarter of an hour in which they
//! were accepted, protocol, way, stage and reason. Messages and chunks hand in what moved from one
//! cell to another; a late report moves a delivery within the quarter that it was accepted in.
//! Beside them are histograms of how long the steps took ([`crate::latency`]), which add up.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{
    message::{Delivery, Ending, Protocol, Stage},
    task::state::{State, Way},
    vendor::{ONLINE, Observes, Vendor, capabilities},
};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql},
    latency::{Latencies, Step},
    on, rows,
};

/// Length of a bucket of time, in µs: 15 minutes.
pub const BUCKET_MICROS: i64 = 900_000_000;

/// Lengths of the buckets that quarters are rolled up to, in µs: hours, and days of UTC. A month of
/// quarters is too many rows to add up while somebody waits.
pub const ROLLED_MICROS: [i64; 2] = [3_600_000_000, 86_400_000_000];

static ADD: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "bucket_at", "protocol", "way", "stage", "ended", "deliveries"];
    let tail = "ON CONFLICT (app, bucket_at, protocol, way, stage, ended) \
                DO UPDATE SET deliveries = delivery_stats.deliveries + excluded.deliveries";
    Insert::new("delivery_stats", &columns, tail)
});

static ADD_LATENCIES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "bucket_at", "protocol", "way", "step", "millis", "deliveries"];
    let tail = "ON CONFLICT (app, bucket_at, protocol, way, step, millis) \
                DO UPDATE SET deliveries = delivery_latencies.deliveries + excluded.deliveries";
    Insert::new("delivery_latencies", &columns, tail)
});

static ADD_ROLLED: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "grain", "bucket_at", "protocol", "way", "stage", "ended", "deliveries"];
    let tail = "ON CONFLICT (app, grain, bucket_at, protocol, way, stage, ended) \
                DO UPDATE SET deliveries = delivery_rollups.deliveries + excluded.deliveries";
    Insert::new("delivery_rollups", &columns, tail)
});
static ADD_ROLLED_LATENCIES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "grain", "bucket_at", "protocol", "way", "step", "millis", "deliveries"];
    let tail = "ON CONFLICT (app, grain, bucket_at, protocol, way, step, millis) \
                DO UPDATE SET deliveries = latency_rollups.deliveries + excluded.deliveries";
    Insert::new("latency_rollups", &columns, tail)
});

/// Where a delivery is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The way that it went.
    pub way: Way,
    /// How far it got.
    pub stage: Stage,
    /// Why it stopped, if it did.
    pub ended: Option<Ending>,
}

impl Cell {
    /// Where a delivery of a message is counted.
    #[must_use]
    pub fn of(delivery: &Delivery) -> Cell {
        Cell { way: way_of(delivery), stage: delivery.stage, ended: delivery.ended }
    }

    /// Where a delivery of a chunk is counted.
    #[must_use]
    pub fn of_state(state: State) -> Cell {
        Cell { way: state.way(), stage: state.stage(), ended: state.ended() }
    }

    /// What can be told of it once it was handed over. What can't is unobservable: neither pending
    /// nor zero.
    #[must_use]
    pub fn observes(self) -> Observes {
        match self.way {
            Way::Vendor(vendor) => capabilities(vendor),
            Way::Online | Way::Undecided => ONLINE,
        }
    }

    /// The cell of stored names.
    pub(crate) fn of_names(way: &str, stage: String, ended: String) -> Result<Cell, Fault> {
        let ended = if ended.is_empty() { None } else { Some(db::from_name(ended)?) };
        Ok(Cell { way: way_named(way)?, stage: db::from_name(stage)?, ended })
    }

    /// Its names, as they are stored; none for none.
    pub(crate) fn names(self) -> Result<[String; 3], Fault> {
        let ended = self.ended.map_or("", Ending::name);
        Ok([self.way.name().to_owned(), db::name_of(self.stage)?, ended.to_owned()])
    }
}

/// The way that a delivery of a message went.
pub(crate) fn way_of(delivery: &Delivery) -> Way {
    match delivery.vendor {
        Some(vendor) => Way::Vendor(vendor),
        None if delivery.stage >= Stage::Sent => Way::Online,
        None => Way::Undecided,
    }
}

/// The way of a stored name.
fn way_named(name: &str) -> Result<Way, Fault> {
    let all = Vendor::ALL.into_iter().map(Way::Vendor);
    let found = all.chain([Way::Online, Way::Undecided]).find(|way| way.name() == name);
    found.ok_or_else(|| Fault::stored("way", name))
}

/// What moved, by app, bucket of acceptance and protocol.
#[derive(Debug, Default)]
pub struct Moves(BTreeMap<(String, i64, Protocol), Cells>);

impl Moves {
    /// The cells of what an app accepted at a time, in µs, by a protocol.
    pub fn of(&mut self, app: &str, accepted_at: i64, protocol: Protocol) -> &mut Cells {
        let bucket = accepted_at - accepted_at.rem_euclid(BUCKET_MICROS);
        self.0.entry((app.to_owned(), bucket, protocol)).or_default()
    }
}

/// How many deliveries each cell gained, or lost, and how long steps took.
#[derive(Debug, Default)]
pub struct Cells {
    deliveries: BTreeMap<Cell, i64>,
    latencies: Latencies,
}

impl Cells {
    /// So many deliveries are now in another cell; before they were in none, or in that one.
    pub fn note(&mut self, before: Option<Cell>, after: Cell, deliveries: i64) {
        if before == Some(after) {
            return;
        }
        if let Some(before) = before {
            *self.deliveries.entry(before).or_default() -= deliveries;
        }
        *self.deliveries.entry(after).or_default() += deliveries;
    }

    /// Adds others.
    fn add(&mut self, others: &Cells) {
        for (cell, deliveries) in &others.deliveries {
            *self.deliveries.entry(*cell).or_default() += deliveries;
        }
        self.latencies.add(&others.latencies);
    }

    /// Steps took so long.
    pub(crate) fn took(&mut self, latencies: &Latencies) {
        self.latencies.add(latencies);
    }
}

/// Adds what moved.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn apply(conn: &mut Conn<'_>, moves: Moves) -> Result<(), Fault> {
    let (mut values, mut times) = (Vec::new(), Vec::new());
    let mut fewer: Vec<(String, i64, &'static str, [String; 3])> = Vec::new();
    let mut rolled = Rolled::new();
    for ((app, bucket, protocol), cells) in moves.0 {
        for grain in ROLLED_MICROS {
            let at = bucket - bucket.rem_euclid(grain);
            rolled.entry((app.clone(), grain, at, protocol)).or_default().add(&cells);
        }
        let protocol = protocol.name();
        for ((way, step, millis), deliveries) in cells.latencies.0 {
            times.extend([app.as_str().into(), bucket.into(), protocol.into()]);
            times.extend([way.name().into(), step.name().into()]);
            times.extend([millis.into(), deliveries.into()]);
        }
        let moved = cells.deliveries.into_iter().filter(|(_, deliveries)| *deliveries != 0);
        for (cell, deliveries) in moved {
            values.extend([app.as_str().into(), bucket.into(), protocol.into()]);
            values.extend(cell.names()?.map(Into::into));
            values.push(deliveries.into());
            if deliveries < 0 {
                fewer.push((app.clone(), bucket, protocol, cell.names()?));
            }
        }
    }
    ADD.run(conn, values).await?;
    ADD_LATENCIES.run(conn, times).await?;
    remove_empty(conn, &fewer).await?;
    roll(conn, rolled).await
}

/// What moved, by app, length and begin of a bucket, and protocol.
type Rolled = BTreeMap<(String, i64, i64, Protocol), Cells>;

/// Adds what moved to the hours and days.
async fn roll(conn: &mut Conn<'_>, rolled: Rolled) -> Result<(), Fault> {
    const REMOVE: Sql = rows!(
        "DELETE FROM delivery_rollups WHERE deliveries = 0 \
         AND (app, grain, bucket_at, protocol, way, stage, ended) IN \
         (SELECT list.value->>0, CAST(list.value->>1 AS BIGINT), CAST(list.value->>2 AS BIGINT), \
         list.value->>3, list.value->>4, list.value->>5, list.value->>6 FROM ",
        ")"
    );
    let (mut values, mut times, mut fewer) = (Vec::new(), Vec::new(), Vec::new());
    for ((app, grain, bucket, protocol), cells) in rolled {
        let protocol = protocol.name();
        for ((way, step, millis), deliveries) in cells.latencies.0 {
            times.extend([app.as_str().into(), grain.into(), bucket.into(), protocol.into()]);
            times.extend([way.name().into(), step.name().into()]);
            times.extend([millis.into(), deliveries.into()]);
        }
        let moved = cells.deliveries.into_iter().filter(|(_, deliveries)| *deliveries != 0);
        for (cell, deliveries) in moved {
            let names = cell.names()?;
            if deliveries < 0 {
                let [way, stage, ended] = names.clone();
                fewer.push((app.clone(), grain, bucket, protocol, way, stage, ended));
            }
            values.extend([app.as_str().into(), grain.into(), bucket.into(), protocol.into()]);
            values.extend(names.map(Into::into));
            values.push(deliveries.into());
        }
    }
    ADD_ROLLED.run(conn, values).await?;
    ADD_ROLLED_LATENCIES.run(conn, times).await?;
    if !fewer.is_empty() {
        let (sql, fewer) = (conn.text(REMOVE), db::list(&fewer)?);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(fewer).execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}

/// Removes those of some cells that have no delivery any more.
async fn remove_empty(
    conn: &mut Conn<'_>,
    cells: &[(String, i64, &'static str, [String; 3])],
) -> Result<(), Fault> {
    // A page has few of them, and each is found by its key.
    const SQL: &str = "DELETE FROM delivery_stats WHERE app = $1 AND bucket_at = $2 \
         AND protocol = $3 AND way = $4 AND stage = $5 AND ended = $6 AND deliveries = 0";
    for (app, bucket, protocol, [way, stage, ended]) in cells {
        on!(conn.again(), c => {
            let query = sqlx::query(SQL).bind(app).bind(bucket).bind(protocol);
            let query = query.bind(way).bind(stage).bind(ended);
            query.execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}

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

/// An app's rows of a span of time in µs, from its begin to before its end.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn between(
    conn: &mut Conn<'_>,
    app: &str,
    (from, to): (i64, i64),
) -> Result<Vec<StatsRow>, Fault> {
    const SQL: &str = "SELECT bucket_at, protocol, way, stage, ended, deliveries \
         FROM delivery_stats WHERE app = $1 AND bucket_at >= $2 AND bucket_at < $3 \
         ORDER BY bucket_at, protocol, way, stage, ended";
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
    /// [`ROLLED_MICROS`].
    pub grain: i64,
}

/// Deliveries of a bucket, by protocol and cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumRow {
    /// Number of the bucket, as its [`Span`] says.
    pub bucket: i64,
    /// The protocol.
    pub protocol: Protocol,
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
    /// The way over which the step came.
    pub way: Way,
    /// The step.
    pub step: Step,
    /// Its time: a bucket of a histogram ([`crate::histogram`]).
    pub millis: i64,
    /// How many.
    pub deliveries: i64,
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
    const QUARTERS: &str = "SELECT (bucket_at + $4) / $5, protocol, way, stage, ended, \
         CAST(SUM(deliveries) AS BIGINT) FROM delivery_stats \
         WHERE app = $1 AND bucket_at >= $2 AND bucket_at < $3 GROUP BY 1, 2, 3, 4, 5 LIMIT $6";
    const ROLLED: &str = "SELECT (bucket_at + $4) / $5, protocol, way, stage, ended, \
         CAST(SUM(deliveries) AS BIGINT) FROM delivery_rollups \
         WHERE app = $1 AND grain = $7 AND bucket_at >= $2 AND bucket_at < $3 \
         GROUP BY 1, 2, 3, 4, 5 LIMIT $6";
    type Row = (i64, String, String, String, String, i64);
    let Span { from, to, offset, width, grain } = span;
    let quarters = grain == BUCKET_MICROS;
    let sql = if quarters { QUARTERS } else { ROLLED };
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(sql).bind(app).bind(from).bind(to).bind(offset).bind(width);
        let query = query.bind(limit);
        let query = if quarters { query } else { query.bind(grain) };
        query.fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, way, stage, ended, deliveries): Row| {
        let (protocol, cell) = (db::from_name(protocol)?, Cell::of_names(&way, stage, ended)?);
        Ok(SumRow { bucket, protocol, cell, deliveries })
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
    const QUARTERS: &str = "SELECT (bucket_at + $4) / $5, protocol, way, step, millis, \
         CAST(SUM(deliveries) AS BIGINT) FROM delivery_latencies \
         WHERE app = $1 AND bucket_at >= $2 AND bucket_at < $3 GROUP BY 1, 2, 3, 4, 5 LIMIT $6";
    const ROLLED: &str = "SELECT (bucket_at + $4) / $5, protocol, way, step, millis, \
         CAST(SUM(deliveries) AS BIGINT) FROM latency_rollups \
         WHERE app = $1 AND grain = $7 AND bucket_at >= $2 AND bucket_at < $3 \
         GROUP BY 1, 2, 3, 4, 5 LIMIT $6";
    type Row = (i64, String, String, String, i64, i64);
    let Span { from, to, offset, width, grain } = span;
    let quarters = grain == BUCKET_MICROS;
    let sql = if quarters { QUARTERS } else { ROLLED };
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(sql).bind(app).bind(from).bind(to).bind(offset).bind(width);
        let query = query.bind(limit);
        let query = if quarters { query } else { query.bind(grain) };
        query.fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, way, step, millis, deliveries): Row| {
        let (protocol, way, step) =
            (db::from_name(protocol)?, way_named(&way)?, Step::named(&step)?);
        Ok(LatencyRow { bucket, protocol, way, step, millis, deliveries })
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
    const SQL: &str = "SELECT (t.started_at + $4) / $5, t.protocol, d.way, d.stage, d.ended, \
         t.label, CASE WHEN $6 = 1 THEN t.task END, CAST(SUM(d.deliveries) AS BIGINT) \
         FROM task_statistics t JOIN task_deliveries d ON d.task = t.task \
         WHERE t.app = $1 AND t.started_at >= $2 AND t.started_at < $3 \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 LIMIT $7";
    type Row = (i64, String, String, String, String, Option<String>, Option<i64>, i64);
    let (Span { from, to, offset, width, .. }, each) = (span, i64::from(each));
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(from).bind(to).bind(offset).bind(width);
        query.bind(each).bind(limit).fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, way, stage, ended, label, task, deliveries): Row| {
        let (protocol, cell) = (db::from_name(protocol)?, Cell::of_names(&way, stage, ended)?);
        Ok((task, label, SumRow { bucket, protocol, cell, deliveries }))
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
    const SQL: &str = "SELECT (t.started_at + $4) / $5, t.protocol, d.way, d.step, t.label, \
         CASE WHEN $6 = 1 THEN t.task END, d.millis, CAST(SUM(d.deliveries) AS BIGINT) \
         FROM task_statistics t JOIN task_latencies d ON d.task = t.task \
         WHERE t.app = $1 AND t.started_at >= $2 AND t.started_at < $3 \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 LIMIT $7";
    type Row = (i64, String, String, String, Option<String>, Option<i64>, i64, i64);
    let (Span { from, to, offset, width, .. }, each) = (span, i64::from(each));
    let rows: Vec<Row> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(from).bind(to).bind(offset).bind(width);
        query.bind(each).bind(limit).fetch_all(&mut *c).await?
    });
    let row = |(bucket, protocol, way, step, label, task, millis, deliveries): Row| {
        let (protocol, way, step) =
            (db::from_name(protocol)?, way_named(&way)?, Step::named(&step)?);
        Ok((task, label, LatencyRow { bucket, protocol, way, step, millis, deliveries }))
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
