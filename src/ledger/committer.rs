//! The committer: the one task of a node that appends. It commits at once when idle; what arrives
//! during one commit is the next group.
//!
//! In one transaction it locks and reads `head`, catches up with what other nodes appended, looks
//! idempotency keys up, decides again what needs deciding, and writes events, registry, keys and
//! head. Most groups need none of that: they are written in one round trip, which does nothing if
//! the head is elsewhere than this node left it. A failure that may pass is tried again with the
//! whole group; when the outcome of a commit is unknown, the event ids at those positions tell,
//! under the lock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::facts::{Fact, Key, forgets, touched};
use projections::{Fault, db::Conn, registry};

use super::{
    Inner, Refused, events,
    group::{Group, known_keys},
    queue::Job,
    write::{self, AT_ONCE_EVENTS, Head},
};

/// How long a group is tried before its callers are told that the ledger failed.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Pause before a group is tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(5);
const RETRY_LAST: Duration = Duration::from_millis(500);
/// How long the end of the ledger, and the database's clock, are taken to be as they were seen.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Events of other nodes that are read one by one; beyond, everything cached is forgotten.
const CATCH_UP: i64 = 10_000;

/// Commits groups until the queue is closed and empty.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut committer = Committer { inner, tip: None };
    while let Some(jobs) = committer.inner.queue.take_group().await {
        committer.commit(jobs).await;
    }
}

struct Committer {
    inner: Arc<Inner>,
    /// The end of the ledger as this node left it.
    tip: Option<Tip>,
}

struct Tip {
    head: Head,
    looked: Instant,
    /// Whether nobody else appended between the last two looks.
    alone: bool,
}

/// A group that could not be committed.
struct GivenUp {
    fault: Fault,
    /// Whether its commands may work one by one: not while the database is away, and not when the
    /// group may have been committed after all.
    apart: bool,
}

impl Committer {
    /// Commits a group; one that fails for good is taken apart, so that one bad command never
    /// fails its neighbours.
    async fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.len() > 1 && jobs.iter().any(|job| job.command.alone()) {
            for jobs in apart(jobs) {
                Box::pin(self.commit(jobs)).await;
            }
            return;
        }
        match self.commit_with_retries(&jobs).await {
            Ok(committed) => answer(&self.inner, jobs, committed),
            Err(GivenUp { apart: true, .. }) if jobs.len() > 1 => {
                for job in jobs {
                    Box::pin(self.commit(vec![job])).await;
                }
            }
            Err(GivenUp { fault, .. }) => {
                tracing::error!(%fault, commands = jobs.len(), "commands could not be committed");
                let refused = match verdict(&fault) {
                    Verdict::NoRoom => Refused::NoRoom,
                    _ => Refused::from(fault),
                };
                for job in jobs {
                    // A caller that went away is no error.
                    let _ = job.reply.send(Err(refused.clone()));
                }
            }
        }
    }

    async fn commit_with_retries(&mut self, jobs: &[Job]) -> Result<Group, GivenUp> {
        let began = Instant::now();
        let mut pause = RETRY_FIRST;
        let mut unknown: Option<Group> = None;
        let mut conflicts = 0;
        loop {
            let fault = match self.attempt(jobs, &mut unknown).await {
                Ok(group) => {
                    // Counted here, so that one whose outcome was unknown counts too.
                    if !group.events.is_empty() {
                        self.inner.metrics.committed(group.events.len(), began.elapsed());
                    }
                    return Ok(group);
                }
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
                    self.inner.state.forget(0);
                }
                Verdict::Passing if began.elapsed() < GIVE_UP => {
                    tracing::warn!(%fault, "a group is tried again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_LAST);
                }
                Verdict::Conflict | Verdict::Final => {
                    return Err(GivenUp { fault, apart: unknown.is_none() });
                }
                Verdict::NoRoom | Verdict::Passing => {
                    return Err(GivenUp { fault, apart: false });
                }
            }
        }
    }

    async fn attempt(&mut self, jobs: &[Job], unknown: &mut Option<Group>) -> Result<Group, Fault> {
        let began = Instant::now();
        if unknown.is_none()
            && let Some(group) = self.at_once(jobs, unknown).await?
        {
            return Ok(group);
        }
        let before = self.tip.take();
        let inner = &self.inner;
        let mut tx = inner.database.ledger_write.begin().await?;
        let head = write::lock_head(&mut tx.conn(), &inner.clock).await?;
        // Forgotten only once it is settled: looking may fail too.
        if let Some(group) = unknown {
            if write::settled(&mut tx.conn(), group).await? {
                return unknown.take().ok_or_else(|| Fault::stored("group", "gone"));
            }
            *unknown = None;
        }
        catch_up(inner, &mut tx.conn(), head.position).await?;
        let mut group = Group::after(&head, inner.clock.now());
        let known = known_keys(&mut tx.conn(), jobs).await?;
        for job in jobs {
            let outcome = group.take(inner, &mut tx.conn(), job, &known).await?;
            group.outcomes.push(outcome);
        }
        if group.events.is_empty() {
            return Ok(group);
        }
        let alone = before.is_none_or(|tip| tip.head.position == head.position);
        let end = write::write(&mut tx.conn(), &group, head).await?;
        if let Err(fault) = tx.commit().await {
            *unknown = Some(group);
            return Err(fault);
        }
        self.tip = Some(Tip { head: end, looked: began, alone });
        Ok(group)
    }

    /// Writes a group in one round trip, if it is small, rests on nothing that has to be read,
    /// and changes nothing but the log. `None` when it has to go the long way.
    async fn at_once(
        &mut self,
        jobs: &[Job],
        unknown: &mut Option<Group>,
    ) -> Result<Option<Group>, Fault> {
        let inner = &self.inner;
        let Some(tip) = &mut self.tip else { return Ok(None) };
        let fresh = tip.alone && tip.looked.elapsed() < LOOK_AGAIN;
        if !fresh || inner.state.as_of() != tip.head.position || jobs.len() > AT_ONCE_EVENTS {
            return Ok(None);
        }
        let mut group = Group::after(&tip.head, inner.clock.now());
        for job in jobs {
            let Some(done) = group.take_prepared(inner, job) else { return Ok(None) };
            group.outcomes.push(Ok(done));
        }
        if group.events.len() > AT_ONCE_EVENTS || group.events.iter().any(registry::concerns) {
            return Ok(None);
        }
        match write::write_at_once(&inner.database.ledger_write, &group, &tip.head).await {
            Ok(Some(end)) => {
                tip.head = end;
                Ok(Some(group))
            }
            Ok(None) => {
                tip.alone = false;
                Ok(None)
            }
            Err(fault) => {
                *unknown = Some(group);
                Err(fault)
            }
        }
    }
}

/// SQLite's code for a write-ahead log whose index found no room, before anything was written.
const SQLITE_IOERR_SHMSIZE: i32 = 10 | (19 << 8);

/// What a failure means for a group.
enum Verdict {
    /// It may work the next time.
    Passing,
    /// A row was there already.
    Conflict,
    /// There is no room; nothing was written.
    NoRoom,
    /// It will fail again.
    Final,
    /// The disk did not do what it said.
    Fatal,
}

/// Whether what the database refused may work in a moment.
pub(crate) fn may_pass(fault: &Fault) -> bool {
    matches!(verdict(fault), Verdict::Passing)
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
        // The low byte of an extended SQLite code: busy, locked; input/output; full. Of the second
        // kind one says no more than that the index of the log could not grow.
        return match sqlite & 0xff {
            5 | 6 => Verdict::Passing,
            10 if sqlite == SQLITE_IOERR_SHMSIZE => Verdict::NoRoom,
            10 => Verdict::Fatal,
            13 => Verdict::NoRoom,
            _ => Verdict::Final,
        };
    }
    // Serialization, deadlock, cancelled by a timeout, lock not available, shutdown, full disk,
    // connection.
    match code.as_ref() {
        "40001" | "40P01" | "57014" | "55P03" | "25P03" => Verdict::Passing,
        "53100" => Verdict::NoRoom,
        code if code.starts_with("08") || code.starts_with("57P") => Verdict::Passing,
        _ => Verdict::Final,
    }
}

/// The same commands in the same order: each that is to be committed alone by itself, and those
/// between them together.
fn apart(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let mut groups: Vec<Vec<Job>> = Vec::new();
    let mut open = false;
    for job in jobs {
        let alone = job.command.alone();
        match groups.last_mut() {
            Some(group) if open && !alone => group.push(job),
            _ => groups.push(vec![job]),
        }
        open = !alone;
    }
    groups
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
    let page = events::read(conn, seen, head - seen).await?;
    if !page.unreadable.is_empty() {
        inner.state.forget(head);
        return Ok(());
    }
    if page.events.iter().any(|recorded| forgets(&recorded.event)) {
        inner.state.forget(head);
        return Ok(());
    }
    let keys = page.events.iter().flat_map(|e| touched(e.place(), &e.event));
    inner.state.advance(head, keys.map(|key| (key, None)).collect());
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
        if group.events.iter().any(|recorded| forgets(&recorded.event)) {
            inner.state.forget(last);
        } else {
            inner.state.advance(last, changed);
        }
        inner.publish(std::mem::take(&mut group.events), last);
    }
    for (job, outcome) in jobs.into_iter().zip(group.outcomes) {
        // A caller that went away is no error.
        let _ = job.reply.send(outcome);
    }
}
