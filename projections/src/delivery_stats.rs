//! The view `delivery_stats`: how many deliveries there are, by the quarter of an hour in which they
//! were accepted, protocol, way, stage and reason. Messages and chunks hand in what moved from one
//! cell to another; a late report moves a delivery within the quarter that it was accepted in.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{
    message::{Delivery, Ending, Protocol, Stage},
    task::state::{State, Way},
};

use crate::{
    Fault,
    db::{self, Conn, Insert},
    on,
};

/// Length of a bucket of time, in µs: 15 minutes.
pub const BUCKET_MICROS: i64 = 900_000_000;

static ADD: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["app", "bucket_at", "protocol", "way", "stage", "ended", "deliveries"];
    let tail = "ON CONFLICT (app, bucket_at, protocol, way, stage, ended) \
                DO UPDATE SET deliveries = delivery_stats.deliveries + excluded.deliveries";
    Insert::new("delivery_stats", &columns, tail)
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
        let way = match delivery.vendor {
            Some(vendor) => Way::Vendor(vendor),
            None if delivery.stage >= Stage::Sent => Way::Online,
            None => Way::Undecided,
        };
        Cell { way, stage: delivery.stage, ended: delivery.ended }
    }

    /// Where a delivery of a chunk is counted.
    #[must_use]
    pub fn of_state(state: State) -> Cell {
        Cell { way: state.way(), stage: state.stage(), ended: state.ended() }
    }

    /// Its names, as they are stored; none for none.
    pub(crate) fn names(self) -> Result<[String; 3], Fault> {
        let ended = self.ended.map_or("", Ending::name);
        Ok([self.way.name().to_owned(), db::name_of(self.stage)?, ended.to_owned()])
    }
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

/// How many deliveries each cell gained, or lost.
#[derive(Debug, Default)]
pub struct Cells(BTreeMap<Cell, i64>);

impl Cells {
    /// So many deliveries are now in another cell; before they were in none, or in that one.
    pub fn note(&mut self, before: Option<Cell>, after: Cell, deliveries: i64) {
        if before == Some(after) {
            return;
        }
        if let Some(before) = before {
            *self.0.entry(before).or_default() -= deliveries;
        }
        *self.0.entry(after).or_default() += deliveries;
    }
}

/// Adds what moved.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn apply(conn: &mut Conn<'_>, moves: Moves) -> Result<(), Fault> {
    let mut values = Vec::new();
    let mut fewer: Vec<(String, i64, &'static str, [String; 3])> = Vec::new();
    for ((app, bucket, protocol), cells) in moves.0 {
        let protocol = protocol.name();
        for (cell, deliveries) in cells.0.into_iter().filter(|(_, deliveries)| *deliveries != 0) {
            values.extend([app.as_str().into(), bucket.into(), protocol.into()]);
            values.extend(cell.names()?.map(Into::into));
            values.push(deliveries.into());
            if deliveries < 0 {
                fewer.push((app.clone(), bucket, protocol, cell.names()?));
            }
        }
    }
    ADD.run(conn, values).await?;
    remove_empty(conn, &fewer).await
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
