//! The view `delivery_stats`: how many deliveries there are, by the quarter of an hour in which they
//! were accepted, protocol, kind of device, way, stage and reason. Messages and chunks hand in what
//! each event moved from one cell to another; a late report moves a delivery within the quarter that
//! it was accepted in. Beside them are histograms of how long the steps took ([`crate::latency`]),
//! which add up. The same moves go into the statistics of tasks and into the [`crate::journal`].

mod sums;

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{
    message::{Delivery, Ending, MessageId, Protocol, Stage},
    task::state::{State, Way},
    vendor::{ONLINE, Observes, Vendor, capabilities},
};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    device_kinds::Kind,
    histogram::bucket_of,
    journal,
    latency::Step,
    on, rows, task_statistics,
};

pub use sums::{
    LatencyRow, Span, StatsRow, SumRow, between, latencies, latencies_of_tasks, position, sums,
    sums_of_tasks,
};

/// Length of a bucket of time, in µs: 15 minutes.
pub const BUCKET_MICROS: i64 = 900_000_000;

/// Lengths of the buckets that quarters are rolled up to, in µs: hours, and days of UTC. A month of
/// quarters is too many rows to add up while somebody waits.
pub const ROLLED_MICROS: [i64; 2] = [3_600_000_000, 86_400_000_000];

/// The columns of a table of cells, and of one of times, after those that name what is counted.
pub(crate) const CELL: [&str; 4] = ["kind", "way", "stage", "ended"];
pub(crate) const TIMES: [&str; 4] = ["kind", "way", "step", "millis"];

/// An insert that adds to what a table counts by some columns and by [`CELL`] or [`TIMES`].
pub(crate) fn adding(table: &str, by: &[&str], own: [&str; 4]) -> Insert {
    let mut columns = [by, &own].concat();
    let tail = format!(
        "ON CONFLICT ({}) DO UPDATE SET deliveries = {table}.deliveries + excluded.deliveries",
        columns.join(", ")
    );
    columns.push("deliveries");
    Insert::new(table, &columns, tail)
}

const BY_QUARTER: [&str; 3] = ["app", "bucket_at", "protocol"];
const BY_GRAIN: [&str; 4] = ["app", "grain", "bucket_at", "protocol"];
static ADD: LazyLock<Insert> = LazyLock::new(|| adding("delivery_stats", &BY_QUARTER, CELL));
static ADD_LATENCIES: LazyLock<Insert> =
    LazyLock::new(|| adding("delivery_latencies", &BY_QUARTER, TIMES));
static ADD_ROLLED: LazyLock<Insert> = LazyLock::new(|| adding("delivery_rollups", &BY_GRAIN, CELL));
static ADD_ROLLED_LATENCIES: LazyLock<Insert> =
    LazyLock::new(|| adding("latency_rollups", &BY_GRAIN, TIMES));

/// Where a delivery is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
pub(crate) fn way_named(name: &str) -> Result<Way, Fault> {
    let all = Vendor::ALL.into_iter().map(Way::Vendor);
    let found = all.chain([Way::Online, Way::Undecided]).find(|way| way.name() == name);
    found.ok_or_else(|| Fault::stored("way", name))
}

/// What one count is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Begin of the quarter of an hour in which the deliveries were accepted, in µs.
    pub bucket_at: i64,
    /// The protocol.
    pub protocol: Protocol,
    /// Their task.
    pub task: Option<MessageId>,
    /// The kind of their devices.
    pub kind: Kind,
    /// What is counted.
    pub what: What,
}

/// What is counted of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// Those that are in a cell.
    In(Cell),
    /// Those of which a step, which came over a way, took as long as a bucket
    /// ([`crate::histogram`]) says.
    Took(Way, Step, i64),
}

/// What an event moved: so many deliveries more are counted there, or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Position of the event.
    pub position: i64,
    /// Where they are counted.
    pub key: Key,
    /// How many.
    pub deliveries: i64,
}

/// What the events of a page moved, by app.
#[derive(Debug, Default)]
pub struct Moves(BTreeMap<String, Vec<Moved>>);

impl Moves {
    /// Takes up what was noted of an app.
    pub(crate) fn add(&mut self, app: &str, noted: Noted) {
        let mut moved = noted.moved;
        tidy(&mut moved);
        match self.0.get_mut(app) {
            Some(own) => own.append(&mut moved),
            None => drop(self.0.insert(app.to_owned(), moved)),
        }
    }
}

/// Puts what moved in order of position, and together what is counted in the same place.
fn tidy(moved: &mut Vec<Moved>) {
    moved.sort_by_key(|own| (own.position, own.key));
    moved.dedup_by(|next, own| {
        let same = (next.position, next.key) == (own.position, own.key);
        if same {
            own.deliveries += next.deliveries;
        }
        same
    });
    moved.retain(|own| own.deliveries != 0);
}

/// What moved of deliveries that were accepted together.
#[derive(Debug)]
pub(crate) struct Noted {
    bucket_at: i64,
    protocol: Protocol,
    task: Option<MessageId>,
    moved: Vec<Moved>,
}

impl Noted {
    /// Nothing yet, of what was accepted at a time, in µs, by a protocol.
    pub(crate) fn of(accepted_at: i64, protocol: Protocol, task: Option<MessageId>) -> Noted {
        let bucket_at = accepted_at - accepted_at.rem_euclid(BUCKET_MICROS);
        Noted { bucket_at, protocol, task, moved: Vec::new() }
    }

    fn push(&mut self, position: i64, kind: Kind, what: What, deliveries: i64) {
        let Noted { bucket_at, protocol, task, .. } = *self;
        let key = Key { bucket_at, protocol, task, kind, what };
        self.moved.push(Moved { position, key, deliveries });
    }

    /// An event put so many deliveries into another cell; before they were in none, or in that one.
    pub(crate) fn moved(
        &mut self,
        (position, kind): (i64, Kind),
        before: Option<Cell>,
        after: Cell,
        deliveries: i64,
    ) {
        if before == Some(after) {
            return;
        }
        if let Some(before) = before {
            self.push(position, kind, What::In(before), -deliveries);
        }
        self.push(position, kind, What::In(after), deliveries);
    }

    /// A step of a delivery ended with an event, after so many ms.
    pub(crate) fn took(
        &mut self,
        (position, kind): (i64, Kind),
        way: Way,
        step: Step,
        millis: i64,
    ) {
        self.push(position, kind, What::Took(way, step, bucket_of(millis)), 1);
    }
}

/// Counts by what they are counted by, before kind, way and so on.
type Counts<By> = BTreeMap<(By, Kind, What), i64>;

/// Adds what moved.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn apply(conn: &mut Conn<'_>, mut moves: Moves) -> Result<(), Fault> {
    let mut quarters: Counts<(&str, i64, Protocol)> = BTreeMap::new();
    let mut of_tasks: Counts<MessageId> = BTreeMap::new();
    moves.0.values_mut().for_each(tidy);
    for (app, moved) in &moves.0 {
        for Moved { key, deliveries, .. } in moved {
            let by = (app.as_str(), key.bucket_at, key.protocol);
            *quarters.entry((by, key.kind, key.what)).or_default() += deliveries;
            if let Some(task) = key.task {
                *of_tasks.entry((task, key.kind, key.what)).or_default() += deliveries;
            }
        }
    }
    quarters.retain(|_, deliveries| *deliveries != 0);
    of_tasks.retain(|_, deliveries| *deliveries != 0);
    let mut rolled: Counts<(&str, i64, i64, Protocol)> = BTreeMap::new();
    for (((app, bucket, protocol), kind, what), deliveries) in &quarters {
        for grain in ROLLED_MICROS {
            let by = (*app, grain, bucket - bucket.rem_euclid(grain), *protocol);
            *rolled.entry((by, *kind, *what)).or_default() += deliveries;
        }
    }
    rolled.retain(|_, deliveries| *deliveries != 0);
    add_quarters(conn, quarters).await?;
    add_rolled(conn, rolled).await?;
    task_statistics::add(conn, of_tasks).await?;
    journal::append(conn, &moves.0).await
}

/// Puts a count's own columns behind those that it is counted by: among the cells, or the times.
/// Gives the names of its cell if that lost deliveries.
pub(crate) fn push(
    [cells, times]: [&mut Vec<Value>; 2],
    by: impl IntoIterator<Item = Value>,
    (kind, what): (Kind, What),
    deliveries: i64,
) -> Result<Option<(i64, [String; 3])>, Fault> {
    let kind = i64::from(kind);
    match what {
        What::In(cell) => {
            let names = cell.names()?;
            cells.extend(by);
            cells.push(kind.into());
            cells.extend(names.iter().map(|name| Value::from(name.as_str())));
            cells.push(deliveries.into());
            Ok((deliveries < 0).then_some((kind, names)))
        }
        What::Took(way, step, millis) => {
            times.extend(by);
            times.extend([kind.into(), way.name().into(), step.name().into()]);
            times.extend([millis.into(), deliveries.into()]);
            Ok(None)
        }
    }
}

async fn add_quarters(
    conn: &mut Conn<'_>,
    counts: Counts<(&str, i64, Protocol)>,
) -> Result<(), Fault> {
    // A page has few of them, and each is found by its key.
    const REMOVE: &str = "DELETE FROM delivery_stats WHERE app = $1 AND bucket_at = $2 \
         AND protocol = $3 AND kind = $4 AND way = $5 AND stage = $6 AND ended = $7 \
         AND deliveries = 0";
    let (mut cells, mut times, mut fewer) = (Vec::new(), Vec::new(), Vec::new());
    for (((app, bucket, protocol), kind, what), deliveries) in counts {
        let by = [app.into(), bucket.into(), protocol.name().into()];
        let lost = push([&mut cells, &mut times], by, (kind, what), deliveries)?;
        fewer.extend(lost.map(|(kind, names)| (app, bucket, protocol.name(), kind, names)));
    }
    ADD.run(conn, cells).await?;
    ADD_LATENCIES.run(conn, times).await?;
    for (app, bucket, protocol, kind, [way, stage, ended]) in fewer {
        on!(conn.again(), c => {
            let query = sqlx::query(REMOVE).bind(app).bind(bucket).bind(protocol).bind(kind);
            let query = query.bind(way).bind(stage).bind(ended);
            query.execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}

/// Adds what moved to the hours and days.
async fn add_rolled(
    conn: &mut Conn<'_>,
    counts: Counts<(&str, i64, i64, Protocol)>,
) -> Result<(), Fault> {
    const REMOVE: Sql = rows!(
        "DELETE FROM delivery_rollups WHERE deliveries = 0 \
         AND (app, grain, bucket_at, protocol, kind, way, stage, ended) IN \
         (SELECT list.value->>0, CAST(list.value->>1 AS BIGINT), CAST(list.value->>2 AS BIGINT), \
         list.value->>3, CAST(list.value->>4 AS BIGINT), list.value->>5, list.value->>6, \
         list.value->>7 FROM ",
        ")"
    );
    let (mut cells, mut times, mut fewer) = (Vec::new(), Vec::new(), Vec::new());
    for (((app, grain, bucket, protocol), kind, what), deliveries) in counts {
        let protocol = protocol.name();
        let by = [app.into(), grain.into(), bucket.into(), protocol.into()];
        let lost = push([&mut cells, &mut times], by, (kind, what), deliveries)?;
        fewer.extend(lost.map(|(kind, [way, stage, ended])| {
            (app, grain, bucket, protocol, kind, way, stage, ended)
        }));
    }
    ADD_ROLLED.run(conn, cells).await?;
    ADD_ROLLED_LATENCIES.run(conn, times).await?;
    if !fewer.is_empty() {
        let (sql, fewer) = (conn.text(REMOVE), db::list(&fewer)?);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(fewer).execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}
