//! The ledger: one ordered log of facts in one database.
//!
//! A handler hands in a command. It is decided at once on cached [`state`]; the [`committer`]
//! takes whatever has arrived and commits it as one group, deciding again, under the lock of the
//! `head` row, every command whose facts moved in between. So a conflict never reaches a caller,
//! and positions are 1, 2, 3, … in the order of commits, with any number of nodes on one database.

mod away;
mod committer;
pub(crate) mod events;
pub mod generations;
mod group;
mod queue;
pub(crate) mod record;
mod state;
pub mod store;
mod stored;
mod wal;
mod write;

use std::{sync::Arc, time::Duration};

use domain::{
    Decide, Metadata, Recorded, Rejection,
    facts::{Fact, Facts, Key, Stop},
    message::MessageId,
};
use projections::{Fault, db::Pool};
use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{clock::Clock, metrics::Metrics};

pub use away::Away;
pub(crate) use away::away;
pub(crate) use committer::may_pass;
pub use queue::Lane;
pub use record::leaf;
pub use store::Database;
pub use stored::Stored;
pub(crate) use stored::{blank_erased, read as read_rows, write as write_stored};

use queue::{Job, Prepared, Queue};
use state::State;

/// Groups that a slow follower may be behind before it reads from the database instead.
const GROUPS_KEPT: usize = 128;
/// Events of a group that is handed to followers in memory; larger ones they read themselves.
const GROUP_SHARED_EVENTS: usize = 512;
/// How often other nodes' appends are looked for, at first and at most.
const POLL_FIRST: Duration = Duration::from_millis(50);
const POLL_LAST: Duration = Duration::from_millis(400);
/// Rounds of loading facts before a decision is given up as a bug.
const MAX_ROUNDS: usize = 16;

/// A handle on the ledger; cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    clock: Clock,
    metrics: Arc<Metrics>,
    state: State,
    queue: Queue,
    head: watch::Sender<i64>,
    groups: broadcast::Sender<Arc<Vec<Recorded>>>,
}

/// Who asks for a command, and how.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The app; empty for what belongs to no app.
    pub app: String,
    /// Actor, interface and request; its idempotency reference makes the command repeatable.
    pub metadata: Metadata,
}

/// A command took effect, and is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Position of its first event; 0 when there was nothing to do.
    pub first: i64,
    /// Position of its last event.
    pub last: i64,
    /// Whether this is the answer to an earlier request with the same idempotency key.
    pub repeated: bool,
}

/// Why a command took no effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refused {
    /// The business said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The queue is full; later may work.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The database has no room; later may work, once there is some again.
    #[error("the database has no room left")]
    NoRoom,
    /// The server is going away.
    #[error("the server is shutting down")]
    Closing,
    /// Something broke. What is durable is unknown.
    #[error("the ledger failed: {0}")]
    Fault(Arc<Fault>),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Detached { .. } => Refused::Rejected(Rejection::Detached),
            fault => Refused::Fault(Arc::new(fault)),
        }
    }
}

/// A run of events in order, and those among them that this program cannot read.
#[derive(Debug, Default)]
pub struct Page {
    /// The events that could be read.
    pub events: Vec<Recorded>,
    /// Position and reason of those that could not.
    pub unreadable: Vec<(i64, String)>,
    /// Position of the last of either; `None` for an empty page.
    pub last: Option<i64>,
}

impl Ledger {
    /// Opens the ledger on a database and starts its committer.
    ///
    /// # Errors
    /// [`Fault`] when the head cannot be read.
    pub async fn start(
        database: Database,
        clock: Clock,
        metrics: Arc<Metrics>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Ledger, Fault> {
        let position = store::head(&database).await?;
        let inner = Arc::new(Inner {
            database,
            clock,
            metrics,
            state: State::new(position),
            queue: Queue::new(),
            head: watch::Sender::new(position),
            groups: broadcast::Sender::new(GROUPS_KEPT),
        });
        let ledger = Ledger { inner };
        tasks.spawn(committer::run(Arc::clone(&ledger.inner)));
        tasks.spawn(watch_head(Arc::clone(&ledger.inner), stop.clone()));
        if let Pool::Sqlite(_) = ledger.inner.database.ledger_write {
            tasks.spawn(wal::run(ledger.inner.database.clone(), stop.clone()));
        }
        Ok(ledger)
    }

    /// Decides a command and makes its events durable.
    ///
    /// # Errors
    /// [`Refused`] says why nothing took effect.
    pub async fn execute(
        &self,
        lane: Lane,
        context: Context,
        command: impl Decide + Send + Sync + 'static,
    ) -> Result<Done, Refused> {
        let command: Arc<dyn Decide + Send + Sync> = Arc::new(command);
        // A keyed command is decided only where its key is looked up: under the lock.
        let prepared = if context.metadata.idempotency.is_some() {
            None
        } else {
            match self.decide(command.as_ref()).await? {
                prepared if prepared.appends.is_empty() => {
                    return Ok(Done { first: 0, last: 0, repeated: false });
                }
                prepared => Some(prepared),
            }
        };
        let (reply, answer) = oneshot::channel();
        let job = Job { command, context, prepared, reply };
        self.inner.queue.push(lane, job).await?;
        answer.await.unwrap_or(Err(Refused::Closing))
    }

    /// Decides on cached state; a refusal is confirmed on fresh state before it is believed.
    async fn decide(&self, command: &(dyn Decide + Send + Sync)) -> Result<Prepared, Refused> {
        match self.decide_on(command, true).await {
            Err(Refused::Rejected(_)) => self.decide_on(command, false).await,
            decided => decided,
        }
    }

    async fn decide_on(
        &self,
        command: &(dyn Decide + Send + Sync),
        cached: bool,
    ) -> Result<Prepared, Refused> {
        let as_of = self.inner.state.as_of();
        let mut facts = Facts::default();
        for _ in 0..MAX_ROUNDS {
            match command.decide(&facts) {
                Ok(appends) => return Ok(Prepared { as_of, keys: facts.into_used(), appends }),
                Err(Stop::Rejected(rejection)) => return Err(rejection.into()),
                Err(Stop::Need(keys)) => self.load(&mut facts, keys, cached).await?,
            }
        }
        Err(Fault::stored("decision", "asks for facts without end").into())
    }

    async fn load(&self, facts: &mut Facts, keys: Vec<Key>, cached: bool) -> Result<(), Fault> {
        let mut missing = Vec::new();
        for key in keys {
            match self.inner.state.get(&key).filter(|_| cached) {
                Some(fact) => facts.insert(key, fact),
                None => missing.push(key),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let as_of = self.inner.state.as_of();
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        for (key, fact) in store::load_all(&mut checkout.conn(), missing).await? {
            self.inner.state.fill(&key, &fact, as_of);
            facts.insert(key, fact);
        }
        Ok(())
    }

    /// A fact as the ledger has it now, for queries that must not be behind.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn fact(&self, key: Key) -> Result<Fact, Fault> {
        let as_of = self.inner.state.as_of();
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        let fact = store::load(&mut checkout.conn(), &key).await?;
        self.inner.state.fill(&key, &fact, as_of);
        Ok(fact)
    }

    /// A fact as this node remembers it, which may be a moment old; else as the ledger has it now.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn remembered(&self, key: Key) -> Result<Fact, Fault> {
        match self.inner.state.get(&key) {
            Some(fact) => Ok(fact),
            None => self.fact(key).await,
        }
    }

    /// What came of an earlier request of an app with an idempotency key, if there was one. Another
    /// may be on its way: only [`execute`](Ledger::execute) decides.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn repeated(&self, app: &str, key: &str) -> Result<Option<Done>, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        store::repeated(&mut checkout.conn(), app, key).await
    }

    /// Events after a position, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read(&self, after: i64, limit: i64) -> Result<Page, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        events::read(&mut checkout.conn(), after, limit).await
    }

    /// The events at some positions, in order.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_at(&self, positions: &[i64]) -> Result<Page, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        events::read_at(&mut checkout.conn(), positions).await
    }

    /// The same, without those that are away.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_here(&self, positions: &[i64]) -> Result<Page, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        events::read_here(&mut checkout.conn(), positions).await
    }

    /// What is away, in an export, if anything is.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn away(&self) -> Result<Option<Away>, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        away::away(&mut checkout.conn()).await
    }

    /// The streams whose beginnings are away, after a position, in order of where they begin: that, the
    /// stream, and how many versions are away.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn detached_streams(
        &self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<(i64, String, i64)>, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        away::streams(&mut checkout.conn(), after, limit).await
    }

    /// The message or task that a command made, however long ago.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn push_of(&self, done: Done) -> Result<Option<MessageId>, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        store::push_of(&mut checkout.conn(), done.first, done.last).await
    }

    /// Events of a stream after a version, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_stream(&self, stream: &str, after: i64, limit: i64) -> Result<Page, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        events::read_stream(&mut checkout.conn(), stream, after, limit).await
    }

    /// Events of a stream that are not away, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_stream_here(&self, stream: &str, limit: i64) -> Result<Page, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        events::read_stream_here(&mut checkout.conn(), stream, limit).await
    }

    /// The first events of some streams, at most `limit` of each, in order of stream and version.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_streams(&self, streams: &[String], limit: i64) -> Result<Page, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        events::read_streams(&mut checkout.conn(), streams, limit).await
    }

    /// The position of the last event that was recorded before a time in µs; 0 for none. Times
    /// never go back along the ledger, so it is found by halving. Among events that are away it is
    /// the last with which a stream began: no message, task or device lies in between.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn before(&self, time: i64) -> Result<i64, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        let (mut before, mut after, mut answer) = (0, self.head() + 1, 0);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            let (found, at) = match store::recorded_at(&mut checkout.conn(), middle).await? {
                Some(at) => (middle, Some(at)),
                None => match away::began(&mut checkout.conn(), middle).await? {
                    Some((first, at)) => (first, Some(at)),
                    None => (middle, None),
                },
            };
            match at {
                Some(at) if at < time => (before, answer) = (middle, found),
                Some(_) => after = found,
                None => after = middle,
            }
        }
        Ok(answer)
    }

    /// The time by which this node records events, in µs.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.inner.clock.now()
    }

    /// Events after a position as they lie there, in order, at most `limit`.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_stored(&self, after: i64, limit: i64) -> Result<Vec<Stored>, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        stored::read(&mut checkout.conn(), after, limit).await
    }

    /// Position, stream and body of the events at some positions as they lie there, in order,
    /// without those that are away.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn read_bodies(
        &self,
        positions: &[i64],
    ) -> Result<Vec<(i64, String, String)>, Fault> {
        let mut checkout = self.inner.database.ledger_read.checkout().await?;
        stored::bodies(&mut checkout.conn(), positions).await
    }

    /// The last position that this node knows of.
    #[must_use]
    pub fn head(&self) -> i64 {
        *self.inner.head.borrow()
    }

    /// The last position in the database.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn fresh_head(&self) -> Result<i64, Fault> {
        store::head(&self.inner.database).await
    }

    /// Told of every new head.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.inner.head.subscribe()
    }

    /// Groups as they are committed here; other nodes' are not among them.
    #[must_use]
    pub fn groups(&self) -> broadcast::Receiver<Arc<Vec<Recorded>>> {
        self.inner.groups.subscribe()
    }

    /// Commands that wait, in the interactive and the bulk lane.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        self.inner.queue.waiting()
    }

    /// The databases beneath.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// Forgets all facts that are cached here: some name who was erased.
    pub fn forget(&self) {
        self.inner.state.forget(self.inner.state.as_of());
    }

    /// Takes no more commands; what waits is still committed.
    pub fn close(&self) {
        self.inner.queue.close();
    }
}

/// Sees what other nodes, or the command line, append to the same database.
async fn watch_head(inner: Arc<Inner>, stop: CancellationToken) {
    let mut pause = POLL_FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        match store::head(&inner.database).await {
            Ok(position) if inner.publish_head(position) => pause = POLL_FIRST,
            Ok(_) => pause = (pause * 2).min(POLL_LAST),
            Err(fault) => tracing::warn!(%fault, "the head of the ledger cannot be read"),
        }
    }
}

impl Inner {
    /// Raises the known head; false if it was known.
    fn publish_head(&self, position: i64) -> bool {
        self.head.send_if_modified(|head| {
            let higher = position > *head;
            *head = position.max(*head);
            higher
        })
    }

    /// Hands a committed group to followers.
    fn publish(&self, events: Vec<Recorded>, position: i64) {
        if events.len() <= GROUP_SHARED_EVENTS && self.groups.receiver_count() > 0 {
            // Nobody listening is no error.
            let _ = self.groups.send(Arc::new(events));
        }
        self.publish_head(position);
    }
}
