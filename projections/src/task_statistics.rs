//! The view `task_statistics`: each task, how many deliveries of it are where, and how long their
//! steps took. What moved comes from its chunks ([`crate::task_chunks`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    message::{MessageId, Protocol},
    task::{Audience, How, TaskCreated, TaskEnded},
    vendor::{ONLINE, Observes, Vendor, capabilities},
};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql},
    delivery_stats::{CELL, Cell, TIMES, What, adding, push},
    device_kinds::Kind,
    latency::Step,
    on, scalars,
};

static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "task",
        "app",
        "position",
        "kind",
        "label",
        "protocol",
        "strategy",
        "created_at",
        "start_at",
        "unresolved",
    ];
    Insert::new("task_statistics", &columns, "")
});
static ADD_DELIVERIES: LazyLock<Insert> =
    LazyLock::new(|| adding("task_deliveries", &["task"], CELL));
static ADD_LATENCIES: LazyLock<Insert> =
    LazyLock::new(|| adding("task_latencies", &["task"], TIMES));

/// What chunks have to know of their task.
#[derive(Debug, Clone)]
pub(crate) struct Traits {
    pub(crate) app: String,
    pub(crate) protocol: Protocol,
    pub(crate) started_at: i64,
    pub(crate) expires_at: i64,
}

/// Folds the tasks of a page; gives what its chunks have to know of theirs.
pub(crate) async fn apply(
    conn: &mut Conn<'_>,
    page: &[Recorded],
) -> Result<BTreeMap<i64, Traits>, Fault> {
    let mut of_chunks: BTreeSet<i64> = BTreeSet::new();
    for recorded in page {
        match (&recorded.stream, &recorded.event) {
            (Stream::Chunk(task, _), _) => {
                of_chunks.insert(task.0);
            }
            (Stream::Task(task), Event::TaskCreated(e)) => {
                created(conn, *task, recorded, e).await?;
            }
            (Stream::Task(task), Event::TaskStarted(e)) => {
                const SQL: &str = "UPDATE task_statistics SET started_position = $2, \
                     started_at = $3, expires_at = $4 WHERE task = $1";
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(task.0).bind(recorded.position);
                    let query = query.bind(recorded.recorded_at).bind(e.expires_at);
                    query.execute(&mut *c).await?.rows_affected()
                });
            }
            (Stream::Task(task), Event::TaskEnded(e)) => {
                const SQL: &str = "UPDATE task_statistics SET ended = $2, ended_at = $3, \
                     users = $4, unbound = $5 WHERE task = $1";
                let [users, unbound] = counted(e);
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(task.0).bind(e.how.name());
                    let query = query.bind(recorded.recorded_at).bind(users).bind(unbound);
                    query.execute(&mut *c).await?.rows_affected()
                });
            }
            _ => {}
        }
    }
    traits(conn, of_chunks.into_iter().collect()).await
}

/// Users, and those without a device. A cancelled task counts none: they are asked for as of its
/// start.
fn counted(e: &TaskEnded) -> [Option<i64>; 2] {
    let finished = e.how == How::Finished;
    let count = |n| finished.then(|| i64::try_from(n).unwrap_or(i64::MAX));
    [e.totals.users, e.totals.unbound].map(count)
}

async fn created(
    conn: &mut Conn<'_>,
    task: MessageId,
    recorded: &Recorded,
    e: &TaskCreated,
) -> Result<(), Fault> {
    let label = match &e.audience {
        Audience::Label { name, .. } => Some(name.clone()),
        Audience::Everyone | Audience::Users(_) => None,
    };
    let values = vec![
        task.0.into(),
        recorded.app.as_str().into(),
        recorded.position.into(),
        e.audience.kind().into(),
        label.into(),
        e.protocol.name().into(),
        db::name_of(e.strategy)?.into(),
        recorded.recorded_at.into(),
        e.start_at.into(),
        i64::from(e.unresolved).into(),
    ];
    INSERT.run(conn, values).await
}

async fn traits(conn: &mut Conn<'_>, tasks: Vec<i64>) -> Result<BTreeMap<i64, Traits>, Fault> {
    if tasks.is_empty() {
        return Ok(BTreeMap::new());
    }
    const SQL: Sql = scalars!(
        "SELECT task, app, protocol, started_at, expires_at FROM task_statistics \
         WHERE started_at IS NOT NULL AND task IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, tasks) = (conn.text(SQL), db::list(&tasks)?);
    let rows: Vec<(i64, String, String, i64, i64)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(tasks).fetch_all(&mut *c).await?
    });
    let traits = |(task, app, protocol, started_at, expires_at)| {
        let protocol = db::from_name(protocol)?;
        Ok((task, Traits { app, protocol, started_at, expires_at }))
    };
    rows.into_iter().map(traits).collect()
}

/// Adds what moved.
pub(crate) async fn add(
    conn: &mut Conn<'_>,
    moved: BTreeMap<(MessageId, Kind, What), i64>,
) -> Result<(), Fault> {
    // A page has few of them, and each is found by its key.
    const REMOVE: &str = "DELETE FROM task_deliveries WHERE task = $1 AND kind = $2 \
         AND way = $3 AND stage = $4 AND ended = $5 AND deliveries = 0";
    let (mut cells, mut times, mut fewer) = (Vec::new(), Vec::new(), Vec::new());
    for ((task, kind, what), deliveries) in moved {
        let own = (kind, what);
        let lost = push([&mut cells, &mut times], [task.0.into()], own, deliveries)?;
        fewer.extend(lost.map(|(kind, names)| (task.0, kind, names)));
    }
    ADD_DELIVERIES.run(conn, cells).await?;
    ADD_LATENCIES.run(conn, times).await?;
    for (task, kind, [way, stage, ended]) in fewer {
        on!(conn.again(), c => {
            let query = sqlx::query(REMOVE).bind(task).bind(kind).bind(way).bind(stage);
            query.bind(ended).execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}

/// A task as the view keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The task.
    pub task: MessageId,
    /// The app.
    pub app: String,
    /// Position of its creation.
    pub position: i64,
    /// `everyone`, `label` or `users`.
    pub kind: String,
    /// The label's name.
    pub label: Option<String>,
    /// How it came.
    pub protocol: String,
    /// How it travels.
    pub strategy: String,
    /// When it was created, and is to start, in µs.
    pub created_at: i64,
    /// When it is to start, in µs.
    pub start_at: Option<i64>,
    /// When it started, in µs.
    pub started_at: Option<i64>,
    /// When it expires, in µs.
    pub expires_at: Option<i64>,
    /// When it ended, in µs.
    pub ended_at: Option<i64>,
    /// `finished` or `cancelled`.
    pub ended: Option<String>,
    /// Users of its audience, once it finished.
    pub users: Option<i64>,
    /// Those of them without a device.
    pub unbound: Option<i64>,
    /// Users that were named and that nobody knows.
    pub unresolved: i64,
}

/// Deliveries that are in the same cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellRow {
    /// `online`, a vendor, or nothing as long as there is none.
    pub way: String,
    /// The stage.
    pub stage: String,
    /// The reason for its end, or nothing.
    pub ended: String,
    /// Deliveries.
    pub deliveries: i64,
}

/// The stages from which on a delivery is handed over, in order.
pub const HANDED_OVER: [&str; 4] = ["sent", "received", "displayed", "acknowledged"];

impl CellRow {
    /// The cell that they are in.
    ///
    /// # Errors
    /// [`Fault`] for names that this program did not write.
    pub fn cell(&self) -> Result<Cell, Fault> {
        Cell::of_names(&self.way, self.stage.clone(), self.ended.clone())
    }

    /// Whether these got to a stage (one of [`HANDED_OVER`]), or further.
    #[must_use]
    pub fn got_to(&self, stage: &str) -> bool {
        HANDED_OVER.iter().skip_while(|known| **known != stage).any(|known| *known == self.stage)
    }

    /// What can be told of these deliveries once they were handed over. What can't is unobservable:
    /// neither pending nor zero.
    #[must_use]
    pub fn observes(&self) -> Observes {
        let vendor = Vendor::ALL.into_iter().find(|vendor| vendor.name() == self.way);
        vendor.map_or(ONLINE, capabilities)
    }

    /// Whether these were handed over, and nobody will say whether the device has them.
    #[must_use]
    pub fn unobservable(&self) -> bool {
        self.stage == "sent" && !self.observes().received
    }
}

/// A task with its counts. The deliveries of all cells together are its targets so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStatistics {
    /// The task.
    pub task: TaskRow,
    /// Deliveries by way, stage and reason.
    pub cells: Vec<CellRow>,
    /// How long the steps took: for each of [`Step::ALL`], buckets ([`crate::histogram`]) with their
    /// deliveries, in order.
    pub latencies: [Vec<(i64, i64)>; 4],
}

impl TaskStatistics {
    /// Devices that had their turn so far.
    #[must_use]
    pub fn targets(&self) -> i64 {
        self.cells.iter().map(|cell| cell.deliveries).sum()
    }

    /// Deliveries that got to a stage (one of [`HANDED_OVER`]), or further.
    #[must_use]
    pub fn reached(&self, stage: &str) -> i64 {
        let got = self.cells.iter().filter(|cell| cell.got_to(stage));
        got.map(|cell| cell.deliveries).sum()
    }

    /// Deliveries that are handed over, and nobody will say whether the device has them.
    #[must_use]
    pub fn unobservable(&self) -> i64 {
        let all = self.cells.iter().filter(|cell| cell.unobservable());
        all.map(|cell| cell.deliveries).sum()
    }
}

macro_rules! select_tasks {
    ($tail:literal) => {
        concat!(
            "SELECT task, app, position, kind, label, protocol, strategy, created_at, start_at, ",
            "started_at, expires_at, ended_at, ended, users, unbound, unresolved ",
            "FROM task_statistics ",
            $tail
        )
    };
}

type Stored = (
    i64,
    String,
    i64,
    String,
    Option<String>,
    String,
    String,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    i64,
);

fn row(stored: Stored) -> TaskRow {
    let (task, app, position, kind, label, protocol, strategy, created_at, ..) = stored;
    TaskRow {
        task: MessageId(task),
        app,
        position,
        kind,
        label,
        protocol,
        strategy,
        created_at,
        start_at: stored.8,
        started_at: stored.9,
        expires_at: stored.10,
        ended_at: stored.11,
        ended: stored.12,
        users: stored.13,
        unbound: stored.14,
        unresolved: stored.15,
    }
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It waits for its time, or for its turn.
    Waiting,
    /// Its devices have their turn.
    Running,
    /// All had their turn.
    Finished,
    /// It was cancelled.
    Cancelled,
}

impl TaskRow {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match (&self.ended, self.started_at) {
            (Some(ended), _) if ended == "cancelled" => TaskState::Cancelled,
            (Some(_), _) => TaskState::Finished,
            (None, Some(_)) => TaskState::Running,
            (None, None) => TaskState::Waiting,
        }
    }
}

impl TaskRow {
    /// The same as it was when only these events of its stream were there; nothing before the first.
    #[must_use]
    pub fn as_of(self, events: &[Recorded]) -> Option<TaskRow> {
        let any = |so: fn(&Event) -> bool| events.iter().any(|recorded| so(&recorded.event));
        let mut row = self;
        if !any(|event| matches!(event, Event::TaskCreated(_))) {
            return None;
        }
        if !any(|event| matches!(event, Event::TaskStarted(_))) {
            (row.started_at, row.expires_at) = (None, None);
        }
        // A task that finished may be cancelled for those that it is kept for.
        let last = events.iter().rev().find_map(|recorded| match &recorded.event {
            Event::TaskEnded(e) => Some((recorded.recorded_at, e)),
            _ => None,
        });
        row.ended_at = last.map(|(at, _)| at);
        row.ended = last.map(|(_, e)| e.how.name().to_owned());
        [row.users, row.unbound] = last.map_or([None; 2], |(_, e)| counted(e));
        Some(row)
    }
}

/// Tasks of an app between two positions, newest first; those in one state if it is said.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn tasks(
    conn: &mut Conn<'_>,
    app: &str,
    (after, before): (i64, i64),
    state: Option<TaskState>,
    limit: i64,
) -> Result<Vec<TaskRow>, Fault> {
    const SQL: &str = select_tasks!(
        "WHERE app = $1 AND position < $2 AND position > $3 AND ($4 = '' OR $4 = \
         CASE WHEN ended IS NOT NULL THEN ended WHEN started_at IS NULL THEN 'waiting' \
         ELSE 'running' END) ORDER BY position DESC LIMIT $5"
    );
    let state = match state {
        None => "",
        Some(TaskState::Waiting) => "waiting",
        Some(TaskState::Running) => "running",
        Some(TaskState::Finished) => "finished",
        Some(TaskState::Cancelled) => "cancelled",
    };
    let rows: Vec<Stored> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(before).bind(after).bind(state);
        query.bind(limit).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(row).collect())
}

/// One task of an app with its counts.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn find(
    conn: &mut Conn<'_>,
    app: &str,
    task: MessageId,
) -> Result<Option<TaskStatistics>, Fault> {
    const TASK: &str = select_tasks!("WHERE app = $1 AND task = $2");
    let found: Option<Stored> = on!(conn.again(), c => {
        sqlx::query_as(TASK).bind(app).bind(task.0).fetch_optional(&mut *c).await?
    });
    let Some(found) = found else { return Ok(None) };
    let counts = counts(conn, &[task.0]).await?.remove(&task.0).unwrap_or_default();
    Ok(Some(TaskStatistics { task: row(found), cells: counts.cells, latencies: counts.latencies }))
}

/// What is counted of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Deliveries by way, stage and reason.
    pub cells: Vec<CellRow>,
    /// How long the steps took, as in [`TaskStatistics`].
    pub latencies: [Vec<(i64, i64)>; 4],
}

/// The counts of some tasks, in two statements.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn counts(conn: &mut Conn<'_>, tasks: &[i64]) -> Result<BTreeMap<i64, Counts>, Fault> {
    const CELLS: Sql = scalars!(
        "SELECT task, way, stage, ended, CAST(SUM(deliveries) AS BIGINT) FROM task_deliveries \
         WHERE task IN (SELECT CAST(value AS BIGINT) FROM ",
        ") GROUP BY task, way, stage, ended ORDER BY task, way, stage, ended"
    );
    const LATENCIES: Sql = scalars!(
        "SELECT task, step, millis, CAST(SUM(deliveries) AS BIGINT) FROM task_latencies \
         WHERE task IN (SELECT CAST(value AS BIGINT) FROM ",
        ") GROUP BY task, step, millis ORDER BY task, step, millis"
    );
    let tasks = db::list(tasks)?;
    let (sql, times) = (conn.text(CELLS), conn.text(LATENCIES));
    let cells: Vec<(i64, String, String, String, i64)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(&tasks).fetch_all(&mut *c).await?
    });
    let times: Vec<(i64, String, i64, i64)> = on!(conn.again(), c => {
        sqlx::query_as(times).bind(&tasks).fetch_all(&mut *c).await?
    });
    let mut counts: BTreeMap<i64, Counts> = BTreeMap::new();
    for (task, way, stage, ended, deliveries) in cells {
        let own = counts.entry(task).or_default();
        own.cells.push(CellRow { way, stage, ended, deliveries });
    }
    for (task, step, millis, deliveries) in times {
        let step = Step::named(&step)?;
        counts.entry(task).or_default().latencies[step as usize].push((millis, deliveries));
    }
    Ok(counts)
}

/// The labels that some tasks went to, of those that went to one.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn labels(conn: &mut Conn<'_>, tasks: &[i64]) -> Result<BTreeMap<i64, String>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT task, label FROM task_statistics WHERE label IS NOT NULL \
         AND task IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, tasks) = (conn.text(SQL), db::list(tasks)?);
    let rows: Vec<(i64, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(tasks).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().collect())
}
