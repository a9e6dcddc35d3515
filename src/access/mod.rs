//! The access log: who read what belongs to people, and which calls were refused. It lies apart
//! from the ledger, as it is no fact of any app: it has a retention, and nothing is folded from it.
//! Nobody is named in it, only numbered, so that erasing somebody need not reach it.
//!
//! What an operator reads is durable here before it is told ([`AccessLog::read`]). What an app's
//! own server reads of its users, and what is refused, is gathered by caller and kind and written
//! soon after ([`AccessLog::told`], [`AccessLog::refused`]): a flood becomes one row with a count.

mod gathered;
mod origin;
mod proxies;
pub mod store;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use projections::{Fault, db::Pool};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, metrics::Metrics, tokens::Operator};
use gathered::Gathered;
pub use origin::{Denied, Origin};
pub use proxies::Proxies;

/// Reads that wait to be written, and rows of one transaction.
const QUEUE_ROWS: usize = 1_024;
const BATCH_ROWS: usize = 256;
/// How long a read waits for its row.
const WAIT: Duration = Duration::from_secs(5);
/// Time between two writes of what was gathered of reads, and so many of them for refusals.
const TICK: Duration = Duration::from_secs(10);
const REFUSED_TICKS: u32 = 6;
/// Subjects that one row names.
pub const MAX_SUBJECTS: usize = 16;
/// Fields that one row names.
const MAX_FIELDS: usize = 64;
/// Time between two rows of somebody who follows something.
const FOLLOWING: Duration = Duration::from_secs(10);
/// A day, in µs.
const DAY_MICROS: i64 = 86_400_000_000;

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was told personal data.
    Answered,
    /// It was refused, as nobody knew the caller, or the caller may not do that.
    Refused,
}

impl Outcome {
    /// Its stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
        }
    }
}

/// One call, or some of the same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// When, in µs; of the first call.
    pub at: i64,
    /// When, of the last call.
    pub last_at: i64,
    /// What came of it.
    pub outcome: Outcome,
    /// Whose credential it was: `operator:3`, `app:demo`, `os:root`; `nobody` if none was known.
    pub caller: String,
    /// The credential's role.
    pub role: Option<String>,
    /// The address that it came from.
    pub address: Option<String>,
    /// Id of the request; of the first.
    pub request: Option<String>,
    /// The interface.
    pub via: &'static str,
    /// Route, GraphQL operation or command.
    pub operation: String,
    /// The app that it is about, where it is one.
    pub app: Option<String>,
    /// What was read, where that differs from call to call.
    pub fields: BTreeSet<String>,
    /// Whom it is about, by number, where they are few.
    pub subjects: BTreeSet<String>,
    /// Records that were told; `None` where that is not known beforehand.
    pub records: Option<i64>,
    /// Calls that the row stands for.
    pub calls: i64,
    /// The code that a refusal was answered with.
    pub code: Option<String>,
}

/// A row as it is kept.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "they are the fields of `Access`, with the row's number")]
pub struct Row {
    pub number: i64,
    pub at: i64,
    pub last_at: i64,
    pub outcome: Outcome,
    pub caller: String,
    pub role: Option<String>,
    pub address: Option<String>,
    pub request: Option<String>,
    pub via: String,
    pub operation: String,
    pub app: Option<String>,
    pub fields: Vec<String>,
    pub subjects: Vec<String>,
    pub records: Option<i64>,
    pub calls: i64,
    pub code: Option<String>,
}

impl Access {
    /// A call over an interface that was told personal data.
    #[must_use]
    pub fn answered(caller: String, via: &'static str, operation: String) -> Access {
        Access {
            at: 0,
            last_at: 0,
            outcome: Outcome::Answered,
            caller,
            role: None,
            address: None,
            request: None,
            via,
            operation,
            app: None,
            fields: BTreeSet::new(),
            subjects: BTreeSet::new(),
            records: None,
            calls: 1,
            code: None,
        }
    }

    /// The same, of an app.
    #[must_use]
    pub fn of(mut self, app: impl Into<Option<String>>) -> Access {
        self.app = app.into();
        self
    }

    /// The same, with so many records.
    #[must_use]
    pub fn with(mut self, records: usize) -> Access {
        self.records = Some(i64::try_from(records).unwrap_or(i64::MAX));
        self
    }

    /// The same about these, if they are few.
    #[must_use]
    pub fn about(mut self, subjects: impl IntoIterator<Item = String>) -> Access {
        self.subjects.extend(subjects.into_iter().take(MAX_SUBJECTS + 1));
        if self.subjects.len() > MAX_SUBJECTS {
            self.subjects.clear();
        }
        self
    }

    /// The same, having read these.
    #[must_use]
    pub fn reading(mut self, fields: impl IntoIterator<Item = String>) -> Access {
        self.fields.extend(fields.into_iter().take(MAX_FIELDS));
        self
    }
}

/// How an operator is called here, as in the ledger's metadata.
#[must_use]
pub fn operator(operator: &Operator) -> (String, Option<String>) {
    (format!("operator:{}", operator.number), projections::db::name_of(operator.role).ok())
}

/// What was to be read cannot be logged, and is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the access log cannot be written, and personal data is not told without it")]
pub struct Unlogged;

enum Item {
    Row(Box<Access>, oneshot::Sender<Result<(), Unlogged>>),
    /// Write what was gathered.
    Flush(oneshot::Sender<Result<(), Unlogged>>),
}

/// The log of a server.
pub struct AccessLog {
    pool: Pool,
    clock: Clock,
    metrics: Arc<Metrics>,
    queue: mpsc::Sender<Item>,
    told: Mutex<Gathered>,
    refused: Mutex<Gathered>,
    failing: AtomicBool,
}

/// The log's writing half.
pub struct Writer {
    log: Arc<AccessLog>,
    queue: mpsc::Receiver<Item>,
}

impl AccessLog {
    /// A log in a database, and what writes it.
    #[must_use]
    pub fn new(pool: Pool, clock: Clock, metrics: Arc<Metrics>) -> (Arc<AccessLog>, Writer) {
        let (sender, queue) = mpsc::channel(QUEUE_ROWS);
        let log = Arc::new(AccessLog {
            pool,
            clock,
            metrics,
            queue: sender,
            told: Mutex::default(),
            refused: Mutex::default(),
            failing: AtomicBool::new(false),
        });
        let writer = Writer { log: Arc::clone(&log), queue };
        (log, writer)
    }

    /// Logs what an operator is about to be told; it is durable when this returns.
    ///
    /// # Errors
    /// [`Unlogged`]: it must not be told.
    pub async fn read(&self, access: Access) -> Result<(), Unlogged> {
        let access = Box::new(self.now(access));
        self.ask(|done| Item::Row(access, done)).await
    }

    /// Logs what an app's own server is about to be told of its users; written soon after.
    ///
    /// # Errors
    /// [`Unlogged`]: it must not be told.
    pub fn told(&self, access: Access) -> Result<(), Unlogged> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Unlogged);
        }
        match locked(&self.told).add(self.now(access)) {
            true => Ok(()),
            false => {
                // Room is made at once, so that many callers of one app do not keep others waiting.
                let _ = self.queue.try_send(Item::Flush(oneshot::channel().0));
                Err(Unlogged)
            }
        }
    }

    /// Logs a call that was refused, soon after; what finds no room is counted.
    pub fn refused(&self, access: Access) {
        if !locked(&self.refused).add(self.now(access)) {
            self.metrics.access_dropped();
        }
    }

    /// A page of the log, with all that this node has gathered.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn page(&self, asked: &store::Asked) -> Result<Vec<Row>, Fault> {
        // What can't be written now is read later.
        let _ = self.ask(Item::Flush).await;
        store::page(&self.pool, asked).await
    }

    /// Removes what is older than so many days.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn remove_old(&self, days: u32) -> Result<(), Fault> {
        store::remove_before(&self.pool, self.clock.now() - i64::from(days) * DAY_MICROS).await
    }

    /// Whoever follows something, with a row before the first of it is told.
    #[must_use]
    pub fn following(self: &Arc<Self>, access: Access) -> Following {
        Following { log: Arc::clone(self), access: access.with(0), written: None }
    }

    fn now(&self, mut access: Access) -> Access {
        access.last_at = self.clock.now();
        access.at = access.last_at;
        access
    }

    async fn ask(
        &self,
        item: impl FnOnce(oneshot::Sender<Result<(), Unlogged>>) -> Item,
    ) -> Result<(), Unlogged> {
        let (done, written) = oneshot::channel();
        let asked = async {
            self.queue.send(item(done)).await.map_err(|_| Unlogged)?;
            written.await.map_err(|_| Unlogged)?
        };
        tokio::time::timeout(WAIT, asked).await.map_err(|_| Unlogged)?
    }

    /// Takes what was gathered: reads, and refusals if their time has come.
    fn gathered(&self, refusals: bool) -> Vec<Access> {
        let mut rows = locked(&self.told).take();
        if refusals {
            rows.extend(locked(&self.refused).take());
        }
        rows
    }

    /// Writes rows; what was gathered is put back if that fails.
    async fn write(&self, asked: Vec<Access>, gathered: Vec<Access>) -> Result<(), Unlogged> {
        let (first, mut rows) = (asked.len(), asked);
        rows.extend(gathered);
        if rows.is_empty() {
            return Ok(());
        }
        let written = store::write(&self.pool, &rows).await;
        self.failing.store(written.is_err(), Ordering::Relaxed);
        self.metrics.access_failing(written.is_err());
        let Err(fault) = written else {
            self.metrics.accesses_written(rows.len());
            return Ok(());
        };
        tracing::error!(%fault, "the access log could not be written");
        for row in rows.drain(first..) {
            let back = match row.outcome {
                Outcome::Answered => &self.told,
                Outcome::Refused => &self.refused,
            };
            if !locked(back).add(row) {
                self.metrics.access_dropped();
            }
        }
        Err(Unlogged)
    }
}

fn locked(gathered: &Mutex<Gathered>) -> MutexGuard<'_, Gathered> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Writes until told to stop, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.reset();
        let mut ticks = 0_u32;
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => break,
                item = self.queue.recv() => item,
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    let gathered = self.log.gathered(ticks.is_multiple_of(REFUSED_TICKS));
                    // It was logged why; it is tried again with the next.
                    let _ = self.log.write(Vec::new(), gathered).await;
                    continue;
                }
            };
            let Some(first) = first else { break };
            self.group(first).await;
        }
        self.queue.close();
        while let Some(item) = self.queue.recv().await {
            self.group(item).await;
        }
        let gathered = self.log.gathered(true);
        // Nobody is left to be told that it fails.
        let _ = self.log.write(Vec::new(), gathered).await;
    }

    /// Writes all that waits, in one transaction.
    async fn group(&mut self, first: Item) {
        let (mut rows, mut waiting, mut flush) = (Vec::new(), Vec::new(), false);
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                Item::Row(row, done) => {
                    rows.push(*row);
                    waiting.push(done);
                }
                Item::Flush(done) => {
                    flush = true;
                    waiting.push(done);
                }
            }
            next = if waiting.len() < BATCH_ROWS { self.queue.try_recv().ok() } else { None };
        }
        let gathered = if flush { self.log.gathered(true) } else { Vec::new() };
        let written = self.log.write(rows, gathered).await;
        for done in waiting {
            // Who went meanwhile was told nothing.
            let _ = done.send(written);
        }
    }
}

/// Somebody who is told more and more: a row before the first of it, and then now and again, before
/// more is told, with what was told since the last row.
pub struct Following {
    log: Arc<AccessLog>,
    access: Access,
    written: Option<Instant>,
}

impl Following {
    /// So much more is about to be told.
    ///
    /// # Errors
    /// [`Unlogged`]: it must not be told.
    pub async fn told(
        &mut self,
        records: usize,
        fields: BTreeSet<String>,
        subjects: BTreeSet<String>,
    ) -> Result<(), Unlogged> {
        let more = i64::try_from(records).unwrap_or(i64::MAX);
        self.access.records = self.access.records.map(|before| before.saturating_add(more));
        // Another kind of data is not told before its own row.
        let new = fields.iter().any(|field| !self.access.fields.contains(field));
        self.access = self.access.clone().reading(fields).about(subjects);
        if !new && self.written.is_some_and(|at| at.elapsed() < FOLLOWING) {
            return Ok(());
        }
        self.log.read(self.access.clone()).await?;
        self.written = Some(Instant::now());
        self.access.records = Some(0);
        self.access.subjects.clear();
        Ok(())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.access.records.is_some_and(|records| records > 0) && self.written.is_some() {
            // Its begin is durable; without room only the count of its end is lost.
            let _ = self.log.told(self.access.clone());
        }
    }
}
