//! The committer: the one task of a node that appends. It commits at once when idle; what arrives
//! during one commit is the next group.
//!
//! In one transaction it locks and reads `head`, catches up with what other nodes appended, looks
//! idempotency keys up, decides again what needs deciding, and writes events, registry, keys and
//! head. A failure that may pass is tried again with the whole group; when the outcome of a commit
//! is unknown, the event ids at those positions tell, under the lock.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use domain::{
    Append, Event, Recorded, Stream,
    facts::{Fact, Facts, Key, Stop, touched},
};
use projections::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, registry, rows,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    Context, Done, Inner, MAX_ROUNDS, Refused,
    queue::Job,
    record::{self, Row},
    store,
};
use crate::clock::Clock;

/// How long a group is tried before its callers are told that the ledger failed.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Pause before a group is tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_LAST: Duration = Duration::from_millis(500);
/// Events of other nodes that are read one by one; beyond, everything cached is forgotten.
const CATCH_UP: i64 = 10_000;

/// Commits groups until the queue is closed and empty.
pub(super) async fn run(inner: Arc<Inner>) {
    while let Some(jobs) = inner.queue.take_group().await {
        commit(&inner, jobs).await;
    }
}

/// Commits a group; one that fails for good is taken apart, so that one bad command never fails
/// its neighbours.
async fn commit(inner: &Inner, jobs: Vec<Job>) {
    match commit_with_retries(inner, &jobs).await {
        Ok(committed) => answer(inner, jobs, committed),
        Err(GivenUp { apart: true, .. }) if jobs.len() > 1 => {
            for job in jobs {
                Box::pin(commit(inner, vec![job])).await;
            }
        }
        Err(GivenUp { fault, .. }) => {
            tracing::error!(%fault, commands = jobs.len(), "commands could not be committed");
            let fault = Arc::new(fault);
            for job in jobs {
                // A caller that went away is no error.
                let _ = job.reply.send(Err(Refused::Fault(Arc::clone(&fault))));
            }
        }
    }
}

/// A group that could not be committed.
struct GivenUp {
    fault: Fault,
    /// Whether its commands may work one by one: not while the database is away, and not when the
    /// group may have been committed after all.
    apart: bool,
}

async fn commit_with_retries(inner: &Inner, jobs: &[Job]) -> Result<Group, GivenUp> {
    let began = Instant::now();
    let mut pause = RETRY_FIRST;
    let mut unknown: Option<Group> = None;
    let mut conflicts = 0;
    loop {
        let fault = match attempt(inner, jobs, &mut unknown).await {
            Ok(group) => return Ok(group),
            Err(fault) => fault,
        };
        match verdict(&fault) {
            Verdict::Fatal => {
                tracing::error!(%fault, "the disk failed; what is durable is unknown; stopping");
                std::process::abort();
            }
            Verdict::Conflict if conflicts == 0 => {
                // The cache and the database disagree: believe the database.
                conflicts += 1;
                inner.state.forget(0);
            }
            Verdict::Passing if began.elapsed() < GIVE_UP => {
                tracing::warn!(%fault, "a group is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_LAST);
            }
            Verdict::Conflict | Verdict::Final => {
                return Err(GivenUp { fault, apart: unknown.is_none() });
            }
            Verdict::Passing => return Err(GivenUp { fault, apart: false }),
        }
    }
}

/// What a failure means for a group.
enum Verdict {
    /// It may work the next time.
    Passing,
    /// A row was there already.
    Conflict,
    /// It will fail again.
    Final,
    /// The disk did not do what it said.
    Fatal,
}

fn verdict(fault: &Fault) -> Verdict {
    let Fault::Database(error) = fault else { return Verdict::Final };
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => Verdict::Passing,
            _ => Verdict::Final,
        };
    };
    if database.is_unique_violation() {
        return Verdict::Conflict;
    }
    let code = database.code().unwrap_or_default();
    if let Ok(sqlite) = code.parse::<i32>()
        && code.len() < 5
    {
        // The low byte of an extended SQLite code: busy, locked; input/output.
        return match sqlite & 0xff {
            5 | 6 => Verdict::Passing,
            10 => Verdict::Fatal,
            _ => Verdict::Final,
        };
    }
    // Serialization, deadlock, cancelled by a timeout, lock not available, shutdown, connection.
    match code.as_ref() {
        "40001" | "40P01" | "57014" | "55P03" | "25P03" => Verdict::Passing,
        code if code.starts_with("08") || code.starts_with("57P") => Verdict::Passing,
        _ => Verdict::Final,
    }
}

/// A group on its way, and after the commit what its callers are told.
struct Group {
    /// The last position before it.
    base: i64,
    recorded_at: i64,
    events: Vec<Recorded>,
    outcomes: Vec<Result<Done, Refused>>,
    working: HashMap<Key, Fact>,
    changed: HashSet<Key>,
    last_of_stream: HashMap<Stream, usize>,
    /// Keys first used in this group.
    keys: HashMap<(String, String), (String, Done)>,
}

async fn attempt(inner: &Inner, jobs: &[Job], unknown: &mut Option<Group>) -> Result<Group, Fault> {
    let began = Instant::now();
    let mut tx = inner.database.ledger_write.begin().await?;
    let head = lock_head(&mut tx.conn(), &inner.clock).await?;
    // Forgotten only once it is settled: looking may fail too.
    if let Some(group) = unknown {
        if settled(&mut tx.conn(), group).await? {
            return unknown.take().ok_or_else(|| Fault::stored("group", "gone"));
        }
        *unknown = None;
    }
    catch_up(inner, &mut tx.conn(), head.position).await?;
    let mut group = Group {
        base: head.position,
        recorded_at: head.now.max(head.recorded_at),
        events: Vec::with_capacity(jobs.len()),
        outcomes: Vec::with_capacity(jobs.len()),
        working: HashMap::new(),
        changed: HashSet::new(),
        last_of_stream: HashMap::new(),
        keys: HashMap::new(),
    };
    let known = known_keys(&mut tx.conn(), jobs).await?;
    for job in jobs {
        let outcome = group.take(inner, &mut tx.conn(), job, &known).await?;
        group.outcomes.push(outcome);
    }
    if group.events.is_empty() {
        return Ok(group);
    }
    write(&mut tx.conn(), &group, head.chain).await?;
    let size = group.events.len();
    match tx.commit().await {
        Ok(()) => {
            inner.metrics.committed(size, began.elapsed());
            Ok(group)
        }
        Err(fault) => {
            *unknown = Some(group);
            Err(fault)
        }
    }
}

struct Head {
    position: i64,
    recorded_at: i64,
    chain: Vec<u8>,
    now: i64,
}

/// Locks the head row, in a statement of its own so that it sees the latest commit.
async fn lock_head(conn: &mut Conn<'_>, clock: &Clock) -> Result<Head, Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position, recorded_at, chain, 0 FROM head",
        postgres: "SELECT position, recorded_at, chain, \
                   (extract(epoch from clock_timestamp()) * 1000000)::bigint FROM head FOR UPDATE",
    };
    let sql = conn.text(SQL);
    let (position, recorded_at, chain, database_now): (i64, i64, Vec<u8>, i64) =
        on!(conn.again(), c => sqlx::query_as(sql).fetch_one(&mut *c).await?);
    // Many nodes share the database, so its clock orders them; one that stands still is a test's.
    let now = match clock {
        Clock::System if database_now > 0 => database_now,
        Clock::System | Clock::Manual(_) => clock.now(),
    };
    Ok(Head { position, recorded_at, chain, now })
}

/// Whether a group whose commit failed is there after all.
async fn settled(conn: &mut Conn<'_>, group: &Group) -> Result<bool, Fault> {
    let Some(first) = group.events.first() else { return Ok(false) };
    const SQL: &str = "SELECT event_id FROM events WHERE position = $1";
    let found: Option<(Vec<u8>,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(first.position).fetch_optional(&mut *c).await?
    });
    Ok(found.is_some_and(|(id,)| id == first.event_id.as_bytes()))
}

/// Drops from the cache what others changed since this node last looked.
async fn catch_up(inner: &Inner, conn: &mut Conn<'_>, head: i64) -> Result<(), Fault> {
    let seen = inner.state.as_of();
    if seen == head {
        return Ok(());
    }
    if seen > head || head - seen > CATCH_UP {
        inner.state.forget(head);
        return Ok(());
    }
    let page = store::read(conn, seen, head - seen).await?;
    if !page.unreadable.is_empty() {
        inner.state.forget(head);
        return Ok(());
    }
    let keys = page.events.iter().flat_map(|e| touched(e.place(), &e.event));
    inner.state.advance(head, keys.map(|key| (key, None)).collect());
    Ok(())
}

type KnownKeys = HashMap<(String, String), (String, Done)>;

/// Idempotency keys of the group that were used before: their request, and what it did.
async fn known_keys(conn: &mut Conn<'_>, jobs: &[Job]) -> Result<KnownKeys, Fault> {
    let keys: Vec<(&str, &str)> = jobs
        .iter()
        .filter_map(|job| {
            let key = job.context.metadata.idempotency.as_ref()?;
            Some((job.context.app.as_str(), key.key.as_str()))
        })
        .collect();
    if keys.is_empty() {
        return Ok(KnownKeys::new());
    }
    const SQL: Sql = rows!(
        "SELECT i.app, i.key, i.request, i.first, i.last FROM ",
        " JOIN idempotency i ON i.app = list.value->>0 AND i.key = list.value->>1"
    );
    let (sql, keys) = (conn.text(SQL), db::list(&keys)?);
    let found: Vec<(String, String, String, i64, i64)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(keys).fetch_all(&mut *c).await?
    });
    let known = |(app, key, request, first, last)| {
        ((app, key), (request, Done { first, last, repeated: true }))
    };
    Ok(found.into_iter().map(known).collect())
}

impl Group {
    /// Adds one command's events, deciding it again if its facts moved.
    async fn take(
        &mut self,
        inner: &Inner,
        conn: &mut Conn<'_>,
        job: &Job,
        known: &KnownKeys,
    ) -> Result<Result<Done, Refused>, Fault> {
        let app = &job.context.app;
        if let Some(reference) = &job.context.metadata.idempotency {
            let name = (app.clone(), reference.key.clone());
            if let Some((request, done)) = known.get(&name).or_else(|| self.keys.get(&name)) {
                if *request == reference.request {
                    return Ok(Ok(Done { repeated: true, ..*done }));
                }
                return self.key_reused(conn, done).await;
            }
        }
        let still_true = job.prepared.as_ref().filter(|prepared| {
            let here = prepared.keys.iter().any(|key| self.changed.contains(key));
            !here && !inner.state.moved(&prepared.keys, prepared.as_of)
        });
        let appends = match still_true {
            Some(prepared) => prepared.appends.clone(),
            None => match self.decide(inner, conn, job).await? {
                Ok(appends) => appends,
                Err(refused) => return Ok(Err(refused)),
            },
        };
        let done = self.append(inner, &job.context, appends);
        if let Some(reference) = &job.context.metadata.idempotency
            && done.first > 0
        {
            let name = (app.clone(), reference.key.clone());
            self.keys.insert(name, (reference.request.clone(), done));
        }
        Ok(Ok(done))
    }

    async fn key_reused(
        &self,
        conn: &mut Conn<'_>,
        done: &Done,
    ) -> Result<Result<Done, Refused>, Fault> {
        let page = store::read(conn, done.first - 1, done.last - done.first + 1).await?;
        let here = self.events.iter().filter(|e| (done.first..=done.last).contains(&e.position));
        let message = page.events.iter().chain(here).find_map(|e| match &e.stream {
            Stream::Message(id) => Some(*id),
            _ => None,
        });
        let rejection = domain::Rejection::KeyReused { position: done.first, message };
        Ok(Err(rejection.into()))
    }

    async fn decide(
        &mut self,
        inner: &Inner,
        conn: &mut Conn<'_>,
        job: &Job,
    ) -> Result<Result<Vec<Append>, Refused>, Fault> {
        let mut facts = Facts::default();
        for _ in 0..MAX_ROUNDS {
            match job.command.decide(&facts) {
                Ok(appends) => return Ok(Ok(appends)),
                Err(Stop::Rejected(rejection)) => return Ok(Err(rejection.into())),
                Err(Stop::Need(keys)) => {
                    for key in keys {
                        let fact = self.fact(inner, conn, &key).await?;
                        facts.insert(key, fact);
                    }
                }
            }
        }
        Err(Fault::stored("decision", "asks for facts without end"))
    }

    /// A fact as of now: of this group, else cached, else read and brought up to this group.
    async fn fact(&mut self, inner: &Inner, conn: &mut Conn<'_>, key: &Key) -> Result<Fact, Fault> {
        if let Some(fact) = self.working.get(key) {
            return Ok(fact.clone());
        }
        let cached = inner.state.get(key).filter(|_| !self.changed.contains(key));
        let fact = match cached {
            Some(fact) => fact,
            None => {
                let mut fact = store::load(conn, key).await?;
                if self.changed.contains(key) {
                    for e in &self.events {
                        if touched(e.place(), &e.event).contains(key) {
                            fact = fact.evolve(key, e.place(), &e.event);
                        }
                    }
                }
                fact
            }
        };
        self.working.insert(key.clone(), fact.clone());
        Ok(fact)
    }

    fn append(&mut self, inner: &Inner, context: &Context, appends: Vec<Append>) -> Done {
        let mut done = Done { first: 0, last: 0, repeated: false };
        for append in appends {
            let index = self.place(context, append);
            let position = self.events[index].position;
            done.first = if done.first == 0 { position } else { done.first.min(position) };
            done.last = done.last.max(position);
            let recorded = &self.events[index];
            for key in touched(recorded.place(), &recorded.event) {
                let cached = || inner.state.get(&key).filter(|_| !self.changed.contains(&key));
                let new = || match &key {
                    Key::Message(_) if recorded.version == 1 => Some(Fact::Message(None)),
                    _ => None,
                };
                let before = self.working.remove(&key).or_else(cached).or_else(new);
                if let Some(fact) = before {
                    let after = fact.evolve(&key, recorded.place(), &recorded.event);
                    self.working.insert(key.clone(), after);
                }
                self.changed.insert(key);
            }
        }
        done
    }

    /// Gives an event its place. Steps of one message that arrive together become one event.
    fn place(&mut self, context: &Context, append: Append) -> usize {
        // An event with an idempotency key of its own stays one, so that the index of keys can be
        // made again from the ledger.
        if context.metadata.idempotency.is_none()
            && let Some(&index) = self.last_of_stream.get(&append.stream)
            && let (Event::DeliveriesAdvanced(before), Event::DeliveriesAdvanced(more)) =
                (&mut self.events[index].event, &append.event)
        {
            before.steps.extend(more.steps.iter().cloned());
            return index;
        }
        let index = self.events.len();
        let before = self.last_of_stream.insert(append.stream.clone(), index);
        // A merged event took one version where the decider had counted two.
        let version = before.map_or(append.version, |before| self.events[before].version + 1);
        self.events.push(Recorded {
            position: self.base + 1 + i64::try_from(index).unwrap_or(i64::MAX),
            app: context.app.clone(),
            stream: append.stream,
            version,
            recorded_at: self.recorded_at,
            event_id: Uuid::now_v7(),
            metadata: context.metadata.clone(),
            event: append.event,
        });
        index
    }

    fn last(&self) -> i64 {
        self.events.last().map_or(self.base, |recorded| recorded.position)
    }
}

static INSERT_EVENTS: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("events", &record::COLUMNS, ""));
static INSERT_KEYS: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("idempotency", &["app", "key", "request", "first", "last"], ""));

async fn write(conn: &mut Conn<'_>, group: &Group, chain: Vec<u8>) -> Result<(), Fault> {
    let mut salts = vec![0; group.events.len() * record::SALT_BYTES];
    getrandom::fill(&mut salts).map_err(|error| Fault::stored("randomness", error))?;
    let mut values: Vec<Value> = Vec::with_capacity(group.events.len() * record::COLUMNS.len());
    let mut chain = chain;
    for (recorded, salt) in group.events.iter().zip(salts.chunks(record::SALT_BYTES)) {
        let salt = salt.try_into().map_err(|error| Fault::stored("salt", error))?;
        let row = Row::new(recorded, salt)?;
        chain = Sha256::new().chain_update(&chain).chain_update(row.leaf).finalize().to_vec();
        values.extend(row.values());
    }
    INSERT_EVENTS.run(conn, values).await?;
    registry::apply(conn, &group.events).await?;
    let mut values: Vec<Value> = Vec::new();
    for ((app, key), (request, done)) in &group.keys {
        let texts = [app, key, request].map(|text| Value::from(text.as_str()));
        values.extend(texts);
        values.extend([done.first.into(), done.last.into()]);
    }
    INSERT_KEYS.run(conn, values).await?;
    const SQL: &str = "UPDATE head SET position = $1, recorded_at = $2, chain = $3";
    let last = group.last();
    on!(conn.again(), c => {
        sqlx::query(SQL)
            .bind(last)
            .bind(group.recorded_at)
            .bind(chain)
            .execute(&mut *c)
            .await?
            .rows_affected()
    });
    Ok(())
}

/// Moves the state on, tells followers and then callers.
fn answer(inner: &Inner, jobs: Vec<Job>, mut group: Group) {
    let last = group.last();
    if !group.events.is_empty() {
        let mut changed: Vec<(Key, Option<Fact>)> = Vec::with_capacity(group.changed.len());
        for key in std::mem::take(&mut group.changed) {
            let fact = group.working.remove(&key);
            changed.push((key, fact));
        }
        inner.state.advance(last, changed);
        inner.publish(std::mem::take(&mut group.events), last);
    }
    for (job, outcome) in jobs.into_iter().zip(group.outcomes) {
        // A caller that went away is no error.
        let _ = job.reply.send(outcome);
    }
}
