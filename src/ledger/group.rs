//! A group of commands on its way to one commit: which events it makes, and what each caller is
//! told. A decision made outside the transaction stands if none of its facts moved; otherwise it is
//! made again here, on facts as of now.

use std::collections::{HashMap, HashSet};

use domain::{
    Append, Event, Recorded, Stream,
    facts::{Fact, Facts, Key, Stop, touched},
};
use projections::{
    Fault,
    db::{self, Conn, Sql},
    on, rows,
};
use uuid::Uuid;

use super::{
    Context, Done, Inner, MAX_ROUNDS, Refused,
    queue::{Job, Prepared},
    store,
    write::Head,
};

/// A group on its way, and after the commit what its callers are told.
pub(super) struct Group {
    /// The last position before it.
    pub(super) base: i64,
    pub(super) recorded_at: i64,
    pub(super) events: Vec<Recorded>,
    pub(super) outcomes: Vec<Result<Done, Refused>>,
    pub(super) working: HashMap<Key, Fact>,
    pub(super) changed: HashSet<Key>,
    last_of_stream: HashMap<Stream, usize>,
    /// Keys first used in this group.
    pub(super) keys: HashMap<(String, String), (String, Done)>,
}

pub(super) type KnownKeys = HashMap<(String, String), (String, Done)>;

/// Idempotency keys of the group that were used before: their request, and what it did.
pub(super) async fn known_keys(conn: &mut Conn<'_>, jobs: &[Job]) -> Result<KnownKeys, Fault> {
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
    /// A group that follows the head.
    pub(super) fn after(head: &Head, now: i64) -> Group {
        Group {
            base: head.position,
            recorded_at: (now + head.ahead).max(head.recorded_at),
            events: Vec::new(),
            outcomes: Vec::new(),
            working: HashMap::new(),
            changed: HashSet::new(),
            last_of_stream: HashMap::new(),
            keys: HashMap::new(),
        }
    }

    /// Adds one command's events, deciding it again if its facts moved.
    pub(super) async fn take(
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
        let appends = match self.still_true(inner, job) {
            Some(prepared) => prepared.appends.clone(),
            None => match self.decide(inner, conn, job).await {
                Ok(Ok(appends)) => appends,
                Ok(Err(refused)) => return Ok(Err(refused)),
                // What one command asks for is away: its neighbours need not know.
                Err(fault @ Fault::Detached { .. }) => return Ok(Err(fault.into())),
                Err(fault) => return Err(fault),
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

    /// Adds a command whose decision still stands and needs no look at the database.
    pub(super) fn take_prepared(&mut self, inner: &Inner, job: &Job) -> Option<Done> {
        let unkeyed = job.context.metadata.idempotency.is_none();
        let prepared = self.still_true(inner, job).filter(|_| unkeyed)?;
        Some(self.append(inner, &job.context, prepared.appends.clone()))
    }

    fn still_true<'j>(&self, inner: &Inner, job: &'j Job) -> Option<&'j Prepared> {
        job.prepared.as_ref().filter(|prepared| {
            let here = prepared.keys.iter().any(|key| self.changed.contains(key));
            !here && !inner.state.moved(&prepared.keys, prepared.as_of)
        })
    }

    async fn key_reused(
        &self,
        conn: &mut Conn<'_>,
        done: &Done,
    ) -> Result<Result<Done, Refused>, Fault> {
        let stream = |e: &Recorded| match &e.stream {
            Stream::Message(id) | Stream::Task(id) => Some(*id),
            _ => None,
        };
        let here = self.events.iter().filter(|e| (done.first..=done.last).contains(&e.position));
        let message = match here.filter_map(stream).next() {
            Some(message) => Some(message),
            None => store::push_of(conn, done.first, done.last).await?,
        };
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
                Err(Stop::Need(keys)) => self.load(inner, conn, keys, &mut facts).await?,
            }
        }
        Err(Fault::stored("decision", "asks for facts without end"))
    }

    /// Loads facts as of now: of this group, else cached, else read and brought up to this group.
    async fn load(
        &mut self,
        inner: &Inner,
        conn: &mut Conn<'_>,
        keys: Vec<Key>,
        facts: &mut Facts,
    ) -> Result<(), Fault> {
        let mut missing = Vec::new();
        for key in keys {
            let cached = || inner.state.get(&key).filter(|_| !self.changed.contains(&key));
            match self.working.get(&key).cloned().or_else(cached) {
                Some(fact) => {
                    self.working.entry(key.clone()).or_insert_with(|| fact.clone());
                    facts.insert(key, fact);
                }
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for (key, mut fact) in store::load_all(conn, missing).await? {
            if self.changed.contains(&key) {
                for e in &self.events {
                    if touched(e.place(), &e.event).contains(&key) {
                        fact = fact.evolve(&key, e.place(), &e.event);
                    }
                }
            }
            self.working.insert(key.clone(), fact.clone());
            facts.insert(key, fact);
        }
        Ok(())
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
                    Key::Task(_) if recorded.version == 1 => Some(Fact::Task(None)),
                    Key::Chunk(..) if recorded.version == 1 => Some(Fact::Chunk(None)),
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

    /// The position that the ledger ends at after it.
    pub(super) fn last(&self) -> i64 {
        self.events.last().map_or(self.base, |recorded| recorded.position)
    }
}
