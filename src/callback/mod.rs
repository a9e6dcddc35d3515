//! The callback engine: calls the servers of apps about what happened. It follows the ledger from
//! its checkpoint; each event may concern receivers of its app, as they are configured then. One
//! node runs it, under a lease. At least once: what was called and not yet recorded when a node
//! died is called again, with the same id and the same bytes.
//!
//! [`kind`] is what a kind of callback is made of, with one file each; [`line`] decides what waits for
//! a receiver and whether it may be called, [`receiver`] calls it; [`record`] makes outcomes durable
//! and moves the checkpoint; [`due`] takes up again what was postponed; [`budget`] bounds what is in
//! memory. So one dead receiver delays nobody: what it cannot take soon is recorded as postponed, and
//! neither reading nor the checkpoint waits for it.

mod antelope;
mod budget;
mod due;
mod kind;
mod line;
#[cfg(test)]
mod line_tests;
mod receiver;
mod record;
pub(crate) mod tencent;
mod ucloud;
mod webhook;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    Event, Recorded,
    callback::{Kind, Outcome, Reason, State},
};
use projections::Fault;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    app::Server,
    feed::{effects, follow::Follower},
};

pub use kind::{Endpoint, endpoints};
pub(crate) use webhook::{SECRET_PREFIX, document};

use budget::{Budget, Share};
use due::Former;
use line::{Item, What};
use receiver::{Receiver, given_up};
use record::{Settled, Tracker};

/// Name of the checkpoint.
pub const NAME: &str = "callbacks";
/// Time between two looks at what was committed.
const PACE: Duration = Duration::from_millis(5);
/// Time between two notes of the checkpoint.
const NOTE: Duration = Duration::from_secs(1);
/// Longest wait for calls under way when the engine stops; then they are postponed.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause before reading goes on after a fault.
const PAUSE: Duration = Duration::from_secs(1);

/// What all tasks of the engine share.
struct Engine {
    server: Arc<Server>,
    receivers: Mutex<HashMap<Uuid, Arc<Receiver>>>,
    tracker: Tracker,
    budget: Arc<Budget>,
    settled: mpsc::Sender<Settled>,
    lanes: TaskTracker,
    stop: CancellationToken,
    /// Calls under way are not waited for any longer.
    cut: CancellationToken,
}

/// Calls until told to stop; then lets the calls under way end, and records what came of them.
///
/// # Errors
/// [`Fault`] when the database fails at the start.
pub async fn run(server: &Arc<Server>, stop: CancellationToken) -> Result<(), Fault> {
    let from = effects::checkpoint(&server.ledger, NAME).await?;
    let head = server.ledger.fresh_head().await?;
    let (settled, outcomes) = mpsc::channel(record::WAITING);
    let engine = Arc::new(Engine {
        server: Arc::clone(server),
        receivers: Mutex::default(),
        tracker: Tracker::new(from),
        budget: Arc::default(),
        settled,
        lanes: TaskTracker::new(),
        stop,
        cut: CancellationToken::new(),
    });
    let done = Arc::new(CancellationToken::new());
    let recorder = record::run(Arc::clone(&engine), outcomes, Arc::clone(&done));
    let work = async {
        if let Some(former) = due::prepare(&engine, from, head).await {
            // What is read again is in its place before anything is taken up from behind it.
            let caught_up = Notify::new();
            let due = async {
                caught_up.notified().await;
                due::run(&engine).await;
            };
            tokio::select! {
                // It ends when it is told to stop, between two events.
                () = follow(&engine, from, Some((former, head)), &caught_up) => {}
                () = note(&engine, from) => {}
                () = due => {}
            }
        }
        end(&engine).await;
        done.cancel();
    };
    tokio::join!(work, recorder);
    // A server that is told to stop makes no callback twice.
    effects::advance(&server.ledger, NAME, engine.tracker.settled_up_to()).await?;
    server.metrics.callbacks_stopped();
    Ok(())
}

/// Has everything that waits in memory postponed, and lets the calls under way end.
async fn end(engine: &Arc<Engine>) {
    let receivers: Vec<Arc<Receiver>> = engine.receivers().values().cloned().collect();
    for receiver in receivers {
        receiver.close(engine).await;
    }
    engine.lanes.close();
    if tokio::time::timeout(DRAIN, engine.lanes.wait()).await.is_err() {
        tracing::warn!("some callbacks did not end in time; they are called again");
        engine.cut.cancel();
        engine.lanes.wait().await;
    }
}

/// Reads the ledger and hands each event to the receivers that it concerns. `former` is what is
/// recorded of the events up to a position, which were read before.
async fn follow(
    engine: &Arc<Engine>,
    from: i64,
    mut former: Option<(Former, i64)>,
    caught_up: &Notify,
) {
    let server = &engine.server;
    let mut follower = Follower::new(&server.ledger, from).paced(PACE);
    let reading = server.metrics.reading(NAME, from);
    loop {
        if former.as_ref().is_some_and(|(_, head)| follower.position() >= *head) {
            former = None;
        }
        if former.is_none() {
            caught_up.notify_one();
        }
        let batch = tokio::select! {
            () = engine.stop.cancelled() => return,
            batch = follower.next() => batch,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(fault) => {
                tracing::error!(%fault, "callbacks cannot read the ledger");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        for recorded in batch.events() {
            let before = former.as_ref().filter(|(_, head)| recorded.position <= *head);
            if !engine.take(recorded, before.map(|(former, _)| former)).await {
                return;
            }
            engine.tracker.read(recorded.position);
        }
        for (position, error) in batch.unreadable() {
            // Whom it concerns cannot be known.
            tracing::error!(position, error, "nobody is called about an event");
            let (outcome, reason) = (Outcome::GivenUp, Some(Reason::Unreadable));
            server.metrics.callback(None, outcome, reason);
        }
        engine.tracker.read(batch.last());
        reading.reached(batch.last());
    }
}

/// Notes how far the engine has got. Apart from reading: it waits for the ledger's one writer.
async fn note(engine: &Arc<Engine>, mut noted: i64) {
    loop {
        tokio::time::sleep(NOTE).await;
        let position = engine.tracker.settled_up_to();
        if position > noted {
            match effects::advance(&engine.server.ledger, NAME, position).await {
                Ok(()) => noted = position,
                Err(fault) => tracing::warn!(%fault, "a checkpoint was not noted"),
            }
        }
    }
}

impl Engine {
    /// Hands one event to the receivers that it concerns, but for those of which a record says what
    /// came of it; false if the engine is to stop before that is done.
    async fn take(self: &Arc<Self>, recorded: &Recorded, former: Option<&Former>) -> bool {
        if self.stop.is_cancelled() {
            return false;
        }
        let event = &recorded.event;
        let of_apps =
            matches!(event, Event::AppCreated(_) | Event::AppChanged(_) | Event::AppDeleted(_));
        if of_apps && !self.know_apps(recorded.position).await {
            return false;
        }
        match event {
            Event::CallbacksReplayed(replayed) => {
                let receiver = self.receiver(replayed.receiver, replayed.kind, &recorded.app);
                let mut line = receiver.line();
                line.kept(recorded.position, 0);
                line.try_soon(self.server.clock.now());
                return true;
            }
            Event::CallbacksCalled(called) => {
                // The node that had the lease before may have recorded it only now.
                let states = called.groups.iter().map(|group| &group.state);
                let waiting = states.filter(|state| state.outcome == Outcome::Postponed);
                if let Some(due_at) = waiting.map(|state| state.due_at.unwrap_or(0)).min() {
                    let receiver = self.receiver(called.receiver, called.kind, &recorded.app);
                    receiver.line().kept(recorded.position, due_at);
                }
                return true;
            }
            _ => {}
        }
        let Some(app) = self.server.directory.known(&recorded.app) else { return true };
        let mut worded: Vec<(Kind, Worded)> = Vec::new();
        for endpoint in app.callbacks.iter().filter(|own| own.concerns(recorded)) {
            let (id, kind, position) = (endpoint.receiver, endpoint.kind, recorded.position);
            if former.is_some_and(|former| former.has(id, position)) {
                continue;
            }
            let known = worded.iter().position(|(own, _)| *own == kind);
            let index = match known {
                Some(index) => index,
                None => {
                    let Some(said) = self.word(kind, recorded).await else { return false };
                    worded.push((kind, said));
                    worded.len() - 1
                }
            };
            let receiver = self.receiver(id, kind, endpoint.app());
            match &worded[index].1 {
                Worded::Nothing => {}
                Worded::Never => {
                    self.tracker.begin(position);
                    let state = given_up(0, Reason::Unreadable);
                    self.settle_at(&receiver, position, false, state).await;
                }
                Worded::Said(what, share) => {
                    self.tracker.begin(position);
                    let item = Item {
                        position,
                        what: what.clone(),
                        bytes: share.bytes(),
                        calls: 0,
                        again: false,
                        hold: former.is_none(),
                        probe: false,
                        since: self.server.clock.now(),
                        share: share.clone(),
                    };
                    receiver.offer(self, endpoint, item).await;
                }
            }
        }
        true
    }

    /// What a kind of callback says about an event: worded once, for all its receivers.
    async fn word(&self, kind: Kind, recorded: &Recorded) -> Option<Worded> {
        if kind::is_worded_late(kind) {
            let bytes = recorded.event.encode().map_or(0, |(body, private)| {
                body.len() + private.map_or(0, |private| private.len())
            });
            let what = What::Event(Arc::new(recorded.clone()));
            return Some(Worded::Said(what, Share::new(&self.budget, bytes)));
        }
        loop {
            match kind::entries(kind, &self.server, recorded).await {
                Ok(entries) if entries.is_empty() => return Some(Worded::Nothing),
                Ok(entries) => {
                    let bytes = entries.iter().map(|entry| entry.body.len()).sum();
                    let share = Share::new(&self.budget, bytes);
                    return Some(Worded::Said(What::Said(entries), share));
                }
                Err(fault @ (Fault::Stored { .. } | Fault::Detached { .. })) => {
                    tracing::error!(%fault, position = recorded.position, "no callback can be made");
                    return Some(Worded::Never);
                }
                Err(fault) => tracing::error!(%fault, "a callback cannot be worded yet"),
            }
            if self.pauses().await {
                return None;
            }
        }
    }

    /// Lets a fault pass; true if the engine is to stop meanwhile.
    async fn pauses(&self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = tokio::time::sleep(PAUSE) => false,
        }
    }

    /// The apps as of the event that is read now: what comes after it may need them.
    async fn know_apps(&self, position: i64) -> bool {
        while let Err(error) = self.server.directory.known_as_of(position).await {
            tracing::error!(%error, "the apps cannot be loaded");
            if self.pauses().await {
                return false;
            }
        }
        true
    }

    fn receivers(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Receiver>>> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(&self, id: Uuid, kind: Kind, app: &str) -> Arc<Receiver> {
        let mut receivers = self.receivers();
        let new = || Arc::new(Receiver::new(id, kind, app));
        Arc::clone(receivers.entry(id).or_insert_with(new))
    }

    /// A receiver as its app has it now, if it still has it.
    fn endpoint(&self, receiver: &Receiver) -> Option<Arc<Endpoint>> {
        let app = self.server.directory.known(&receiver.app)?;
        app.callbacks.iter().find(|own| own.receiver == receiver.id).map(Arc::clone)
    }

    /// Has what came of an item recorded, which was not called about.
    async fn settle(&self, receiver: &Arc<Receiver>, item: &Item, state: State) {
        self.settle_at(receiver, item.position, item.again, state).await;
    }

    /// The same of the callback about an event.
    async fn settle_at(&self, receiver: &Arc<Receiver>, position: i64, again: bool, state: State) {
        let (receiver, attempts) = (Arc::clone(receiver), Vec::new());
        self.record(Settled { receiver, position, again, state, attempts }).await;
    }

    async fn record(&self, settled: Settled) {
        let Settled { receiver, position, again, state, .. } = &settled;
        receiver.line().settling(*position, *again, state);
        self.server.metrics.callback(Some(receiver.kind), state.outcome, state.reason);
        // The recorder outlives every lane.
        let _ = self.settled.send(settled).await;
    }
}

/// What a kind of callback says about an event.
enum Worded {
    /// There is nothing to say.
    Nothing,
    /// It will never be said.
    Never,
    Said(What, Share),
}
