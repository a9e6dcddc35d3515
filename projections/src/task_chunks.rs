//! The view `task_chunks`: the deliveries of tasks by the thousand, as the domain packs them. A
//! device that connects finds what is kept for it here, and the fan-out what is still open. What
//! moves goes into the statistics of the task and of its app.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    message::{MessageId, Stage},
    task::{chunk::Chunk, packed::Packed, state::State},
};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    delivery_stats::{Cell, Moves, Noted},
    device_kinds::{Kind, Kinds},
    latency::Step,
    on, rows,
    task_statistics::Traits,
};

static UPSERT: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "task",
        "chunk",
        "app",
        "first",
        "last",
        "started",
        "version",
        "attempt",
        "since",
        "expires_at",
        "open",
        "unsent",
        "kept",
        "devices",
        "states",
        "reached",
    ];
    let changing = ["version", "attempt", "since", "open", "unsent", "kept", "states", "reached"];
    let set = changing.map(|column| format!("{column} = excluded.{column}"));
    let tail = format!("ON CONFLICT (task, chunk) DO UPDATE SET {}", set.join(", "));
    Insert::new("task_chunks", &columns, tail)
});

/// A chunk on its way through a page.
struct Row {
    chunk: Chunk,
    /// Position from which on a device could have what is kept for it here.
    since: i64,
    /// For each delivery that was handed over when it got to its stage, in ms after the start and
    /// one; 0: not yet.
    reached: Vec<u32>,
}

type Rows = BTreeMap<(i64, i64), Row>;

/// Folds one page.
pub(crate) async fn apply(
    conn: &mut Conn<'_>,
    page: &[Recorded],
    tasks: &BTreeMap<i64, Traits>,
    moves: &mut Moves,
) -> Result<(), Fault> {
    let touched: BTreeSet<(i64, i64)> = page
        .iter()
        .filter_map(|recorded| match recorded.stream {
            Stream::Chunk(task, chunk) => Some((task.0, chunk)),
            _ => None,
        })
        .collect();
    if touched.is_empty() {
        return Ok(());
    }
    let mut rows = load(conn, &touched).await?;
    let told = page.iter().filter(|recorded| matches!(recorded.stream, Stream::Chunk(..)));
    let told = told.flat_map(|recorded| match &recorded.event {
        Event::DeliveriesAdvanced(e) => e.steps.iter().map(|step| step.device).collect(),
        _ => Vec::new(),
    });
    let kinds_of_steps = Kinds::of(conn, told.collect()).await?;
    for recorded in page {
        let Stream::Chunk(task, chunk) = recorded.stream else { continue };
        let traits = tasks.get(&task.0);
        let traits = traits.ok_or_else(|| Fault::stored("task", format!("{task} is unknown")))?;
        // A page has many chunks, of thousands of devices each: those are not held all at once.
        let own = match &recorded.event {
            Event::ChunkDelivered(e) => Some(Kinds::of(conn, e.devices.numbers()).await?),
            _ => None,
        };
        let kinds = own.as_ref().unwrap_or(&kinds_of_steps);
        let mut noted = Noted::of(traits.started_at, traits.protocol, Some(task));
        fold(&mut rows, (task.0, chunk), recorded, traits, (kinds, &mut noted));
        moves.add(&traits.app, noted);
    }
    let mut values = Vec::with_capacity(rows.len() * 16);
    for ((task, chunk), row) in rows {
        if let Some(traits) = tasks.get(&task) {
            push(&mut values, (task, chunk), row, traits);
        }
    }
    UPSERT.run(conn, values).await
}

fn fold(
    rows: &mut Rows,
    key: (i64, i64),
    recorded: &Recorded,
    traits: &Traits,
    (kinds, noted): (&Kinds, &mut Noted),
) {
    let before = rows.remove(&key);
    let (states, mut since, mut reached, chunk) = match before {
        Some(row) => (Some(row.chunk.states.clone()), row.since, row.reached, Some(row.chunk)),
        None => (None, 0, Vec::new(), None),
    };
    let Some(chunk) = Chunk::evolve(chunk, recorded.place(), &recorded.event) else { return };
    reached.resize(chunk.states.len(), 0);
    if let Event::ChunkDelivered(e) = &recorded.event
        && e.online()
    {
        since = recorded.position;
    }
    let now = (recorded.recorded_at - traits.started_at).max(0) / 1_000;
    let (position, devices) = (recorded.position, chunk.devices.numbers());
    if let (Event::DeliveriesAdvanced(e), Some(states)) = (&recorded.event, &states) {
        let mut states = states.clone();
        for step in &e.steps {
            let Ok(at) = devices.binary_search(&step.device) else { continue };
            let (Some(state), Some(reached)) = (states.get_mut(at), reached.get_mut(at)) else {
                continue;
            };
            let before = state.stage();
            *state = state.advance(step);
            arrive(noted, (position, kinds.get(step.device)), (before, *state), reached, now);
        }
    }
    let mut changes: HashMap<(Kind, Option<State>, State), i64> = HashMap::new();
    for ((at, after), device) in chunk.states.iter().enumerate().zip(devices) {
        let before = states.as_ref().and_then(|states| states.get(at)).copied();
        if before == Some(*after) {
            continue;
        }
        let kind = kinds.get(device);
        *changes.entry((kind, before, *after)).or_default() += 1;
        if matches!(recorded.event, Event::ChunkDelivered(_)) {
            let before = before.map_or(Stage::Accepted, State::stage);
            arrive(noted, (position, kind), (before, *after), &mut reached[at], now);
        }
    }
    for ((kind, before, after), deliveries) in changes {
        let (before, after) = (before.map(Cell::of_state), Cell::of_state(after));
        noted.moved((position, kind), before, after, deliveries);
    }
    rows.insert(key, Row { chunk, since, reached });
}

/// Notes how long the steps took that end when a delivery gets to a stage, `now` ms after its task
/// started: those of which both ends were recorded.
fn arrive(
    noted: &mut Noted,
    place: (i64, Kind),
    (before, after): (Stage, State),
    reached: &mut u32,
    now: i64,
) {
    if after.stage() <= before || after.stage() < Stage::Sent {
        return;
    }
    let way = after.way();
    if before < Stage::Sent {
        noted.took(place, way, Step::HandedOver, now);
    }
    let since = (now + 1 - i64::from(*reached)).max(0);
    match (before, after.stage()) {
        (_, Stage::Received) => noted.took(place, way, Step::Received, now),
        (Stage::Received, Stage::Displayed) => noted.took(place, way, Step::Displayed, since),
        (Stage::Displayed, Stage::Acknowledged) => {
            noted.took(place, way, Step::Acknowledged, since);
        }
        // What was passed over has no time of its own.
        _ => {}
    }
    *reached = u32::try_from(now + 1).unwrap_or(u32::MAX);
}

fn push(values: &mut Vec<Value>, (task, chunk): (i64, i64), row: Row, traits: &Traits) {
    let Row { chunk: own, since, reached } = row;
    let count = |so: fn(State) -> bool| {
        let all = own.states.iter().filter(|state| so(**state)).count();
        Value::from(i64::try_from(all).unwrap_or(i64::MAX))
    };
    let first = own.devices.numbers().first().copied().unwrap_or(own.last);
    values.extend([
        task.into(),
        chunk.into(),
        traits.app.as_str().into(),
        first.into(),
        own.last.into(),
        own.started.into(),
        own.version.into(),
        i64::from(own.attempt).into(),
        since.into(),
        traits.expires_at.into(),
        count(State::open),
        count(State::unsent),
        count(State::kept),
        own.devices.0.into(),
        own.states.iter().flat_map(|state| state.0.to_le_bytes()).collect::<Vec<u8>>().into(),
        reached.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<u8>>().into(),
    ]);
}

async fn load(conn: &mut Conn<'_>, touched: &BTreeSet<(i64, i64)>) -> Result<Rows, Fault> {
    const SQL: Sql = rows!(
        "SELECT t.task, t.chunk, t.last, t.started, t.version, t.attempt, t.since, t.devices, \
         t.states, t.reached FROM ",
        " JOIN task_chunks t ON t.task = CAST(list.value->>0 AS BIGINT) \
         AND t.chunk = CAST(list.value->>1 AS BIGINT)"
    );
    type Stored = (i64, i64, i64, i64, i64, i64, i64, Vec<u8>, Vec<u8>, Vec<u8>);
    let (sql, touched) = (conn.text(SQL), db::list(&touched.iter().collect::<Vec<_>>())?);
    let found: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(touched).fetch_all(&mut *c).await?
    });
    let row = |stored: Stored| {
        let (task, chunk, last, started, version, attempt, since, devices, ..) = stored;
        let own = Chunk {
            started,
            version,
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
            last,
            devices: Packed(devices),
            states: states_of(&stored.8),
        };
        let reached = stored.9.chunks_exact(4);
        let reached =
            reached.filter_map(|b| Some(u32::from_le_bytes(b.try_into().ok()?))).collect();
        ((task, chunk), Row { chunk: own, since, reached })
    };
    Ok(found.into_iter().map(row).collect())
}

fn states_of(bytes: &[u8]) -> Vec<State> {
    let pairs = bytes.chunks_exact(2);
    pairs.filter_map(|pair| Some(State(u16::from_le_bytes(pair.try_into().ok()?)))).collect()
}

/// A delivery of a task that is kept for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptRow {
    /// The task.
    pub task: MessageId,
    /// The chunk.
    pub chunk: i64,
    /// Position from which on the device could have it.
    pub since: i64,
}

/// Deliveries of an app's tasks that are kept for a device, in the order in which it could have
/// them, after a position, that expire later than a time in µs.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn kept_for(
    conn: &mut Conn<'_>,
    app: &str,
    device: i64,
    after: i64,
    expires_after: i64,
) -> Result<Vec<KeptRow>, Fault> {
    const SQL: &str = "SELECT task, chunk, since, devices, states FROM task_chunks \
         WHERE kept > 0 AND app = $1 AND last >= $2 AND first <= $2 AND since > $3 \
         AND expires_at > $4 ORDER BY since, task";
    type Stored = (i64, i64, i64, Vec<u8>, Vec<u8>);
    let found: Vec<Stored> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(device).bind(after).bind(expires_after);
        query.fetch_all(&mut *c).await?
    });
    let kept = found.into_iter().filter_map(|(task, chunk, since, devices, states)| {
        let at = Packed(devices).numbers().binary_search(&device).ok()?;
        let state = states_of(&states).get(at).copied()?;
        state.kept().then_some(KeptRow { task: MessageId(task), chunk, since })
    });
    Ok(kept.collect())
}

/// The chunk of a task that a device is in, if it is in one.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn chunk_of(
    conn: &mut Conn<'_>,
    task: MessageId,
    device: i64,
) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT chunk, devices FROM task_chunks \
         WHERE task = $1 AND first <= $2 AND last >= $2";
    let found: Vec<(i64, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(task.0).bind(device).fetch_all(&mut *c).await?
    });
    let mut own = found.into_iter();
    let own =
        own.find(|(_, devices)| Packed(devices.clone()).numbers().binary_search(&device).is_ok());
    Ok(own.map(|(chunk, _)| chunk))
}

/// Device numbers from the first to the last, between which the audience has no others.
pub type Span = (i64, i64);

/// The devices of a task that it was handed to, by us or by a vendor, in order.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn handed_over(conn: &mut Conn<'_>, task: MessageId) -> Result<Vec<Span>, Fault> {
    const SQL: &str = "SELECT devices, states FROM task_chunks WHERE task = $1 ORDER BY chunk";
    let found: Vec<(Vec<u8>, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(task.0).fetch_all(&mut *c).await?
    });
    let mut spans: Vec<Span> = Vec::new();
    for (devices, states) in found {
        // Spans end with their chunk: the one after it may not be there.
        let mut open = false;
        for (device, state) in Packed(devices).numbers().into_iter().zip(states_of(&states)) {
            let handed_over = state.stage() >= Stage::Sent;
            match spans.last_mut() {
                Some(span) if open && handed_over => span.1 = device,
                _ if handed_over => spans.push((device, device)),
                _ => {}
            }
            open = handed_over;
        }
    }
    Ok(spans)
}

/// The chunks of a task, each with the version up to which it is known.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn versions(conn: &mut Conn<'_>, task: MessageId) -> Result<Vec<(i64, i64)>, Fault> {
    const SQL: &str = "SELECT chunk, version FROM task_chunks WHERE task = $1 ORDER BY chunk";
    Ok(on!(conn.again(), c => sqlx::query_as(SQL).bind(task.0).fetch_all(&mut *c).await?))
}

/// The deliveries of a chunk by device number, in order; none if there is no such chunk.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn states(
    conn: &mut Conn<'_>,
    task: MessageId,
    chunk: i64,
) -> Result<Vec<(i64, State)>, Fault> {
    const SQL: &str = "SELECT devices, states FROM task_chunks WHERE task = $1 AND chunk = $2";
    let found: Option<(Vec<u8>, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(task.0).bind(chunk).fetch_optional(&mut *c).await?
    });
    let of = |(devices, states): (Vec<u8>, Vec<u8>)| {
        Packed(devices).numbers().into_iter().zip(states_of(&states)).collect()
    };
    Ok(found.map(of).unwrap_or_default())
}

/// Chunks of a task, and whether something of them is unsent and may still be sent.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn recorded(conn: &mut Conn<'_>, task: MessageId) -> Result<(i64, bool), Fault> {
    const SQL: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(unsent), 0) AS BIGINT) \
         FROM task_chunks WHERE task = $1";
    let (chunks, unsent): (i64, i64) = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(task.0).fetch_one(&mut *c).await?
    });
    Ok((chunks, unsent > 0))
}

/// Chunks that are open though their time is over, or that have something unsent though their task
/// was cancelled; each with its app.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn to_end(
    conn: &mut Conn<'_>,
    now: i64,
    limit: i64,
) -> Result<Vec<(String, MessageId, i64)>, Fault> {
    const EXPIRED: &str = "SELECT app, task, chunk FROM task_chunks \
         WHERE open > 0 AND expires_at <= $1 ORDER BY expires_at LIMIT $2";
    const CANCELLED: &str = "SELECT c.app, c.task, c.chunk FROM task_chunks c \
         JOIN task_statistics t ON t.task = c.task \
         WHERE c.unsent > 0 AND t.ended = 'cancelled' LIMIT $1";
    type Stored = (String, i64, i64);
    let expired: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(EXPIRED).bind(now).bind(limit).fetch_all(&mut *c).await?
    });
    let cancelled: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(CANCELLED).bind(limit).fetch_all(&mut *c).await?
    });
    let all = expired.into_iter().chain(cancelled);
    Ok(all.map(|(app, task, chunk)| (app, MessageId(task), chunk)).collect())
}

/// When the next open chunk expires, in µs.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn next_expiry(conn: &mut Conn<'_>) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT MIN(expires_at) FROM task_chunks WHERE open > 0";
    let (next,): (Option<i64>,) =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_one(&mut *c).await?);
    Ok(next)
}
