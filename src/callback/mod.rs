//! The callback engine: calls the servers of apps about what happened. It follows the ledger from
//! its checkpoint; each event may concern receivers of its app, as they are configured then. One
//! node runs it, under a lease. At least once: what was called and not yet recorded when a node
//! died is called again, with the same id and the same bytes.
//!
//! [`kind`] is what a kind of callback is made of, with one file each; [`receiver`] is one URL with
//! its lanes and circuit; [`record`] makes outcomes durable and moves the checkpoint; [`due`] takes
//! up again what was postponed. So one dead receiver delays nobody: what it cannot take soon is
//! recorded as postponed, and the checkpoint goes on.

mod antelope;
mod due;
mod kind;
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

use domain::{Event, Recorded, callback::State};
use projections::Fault;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    app::Server,
    feed::{effects, follow::Follower},
};

pub use kind::{Endpoint, endpoints};
pub(crate) use webhook::{SECRET_PREFIX, document};

use due::Taken;
use receiver::{Item, Receiver};
use record::{Settled, Tracker};

/// Name of the checkpoint.
pub const NAME: &str = "callbacks";
/// Time between two looks at what was committed.
const PACE: Duration = Duration::from_millis(5);
/// Time between two notes of the checkpoint.
const NOTE: Duration = Duration::from_secs(1);
/// Longest wait for calls under way when the engine stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause before reading goes on after a fault.
const PAUSE: Duration = Duration::from_secs(1);

/// What all tasks of the engine share.
struct Engine {
    server: Arc<Server>,
    receivers: Mutex<HashMap<Uuid, Arc<Receiver>>>,
    tracker: Tracker,
    taken: Mutex<Taken>,
    settled: mpsc::Sender<Settled>,
    lanes: TaskTracker,
    stop: CancellationToken,
}

/// Calls until told to stop; then lets the calls under way end, and records what came of them.
///
/// # Errors
/// [`Fault`] when the database fails at the start.
pub async fn run(server: &Arc<Server>, stop: CancellationToken) -> Result<(), Fault> {
    let from = effects::checkpoint(&server.ledger, NAME).await?;
    let (settled, outcomes) = mpsc::channel(record::WAITING);
    let engine = Arc::new(Engine {
        server: Arc::clone(server),
        receivers: Mutex::default(),
        tracker: Tracker::new(from),
        taken: Mutex::default(),
        settled,
        lanes: TaskTracker::new(),
        stop: stop.clone(),
    });
    let done = Arc::new(CancellationToken::new());
    let recorder = record::run(Arc::clone(&engine), outcomes, Arc::clone(&done));
    let work = async {
        due::prepare(&engine, from).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(&engine, from) => {}
            () = note(&engine, from) => {}
            () = due::run(&engine) => {}
        }
        engine.lanes.close();
        if tokio::time::timeout(DRAIN, engine.lanes.wait()).await.is_err() {
            tracing::warn!("some callbacks did not end in time; they are called again");
        }
        done.cancel();
    };
    tokio::join!(work, recorder);
    // A server that is told to stop makes no callback twice.
    effects::advance(&server.ledger, NAME, engine.tracker.settled_up_to()).await?;
    server.metrics.callbacks_stopped();
    Ok(())
}

/// Reads the ledger and hands each event to the receivers that it concerns.
async fn follow(engine: &Arc<Engine>, from: i64) {
    let server = &engine.server;
    let mut follower = Follower::new(&server.ledger, from).paced(PACE);
    loop {
        let batch = match follower.next().await {
            Ok(batch) => batch,
            Err(fault) => {
                tracing::error!(%fault, "callbacks cannot read the ledger");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        for recorded in batch.events() {
            engine.take(recorded).await;
        }
        engine.tracker.read(batch.last());
        server.metrics.lag(NAME, server.ledger.head() - batch.last());
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
    /// Hands one event to the receivers that it concerns.
    async fn take(self: &Arc<Self>, recorded: &Recorded) {
        match &recorded.event {
            Event::AppCreated(_) | Event::AppChanged(_) | Event::AppDeleted(_) => {
                self.know_apps(recorded.position).await;
            }
            Event::CallbacksReplayed(replayed) => {
                let (kind, id) = (replayed.kind, replayed.receiver);
                self.receiver(id, kind, &recorded.app).kept(recorded.position, 0);
                return;
            }
            Event::CallbacksCalled(_) => return,
            _ => {}
        }
        let Some(app) = self.server.directory.known(&recorded.app) else { return };
        for endpoint in app.callbacks.iter().filter(|own| own.concerns(recorded)) {
            let entry = loop {
                match endpoint.entry(&self.server, recorded).await {
                    Ok(entry) => break entry,
                    Err(fault) => {
                        tracing::error!(%fault, "a callback cannot be worded yet");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            let Some(entry) = entry else { continue };
            self.tracker.begin(recorded.position).await;
            let item = Item { entry, calls: 0, again: false };
            let receiver = self.receiver(endpoint.receiver, endpoint.kind, endpoint.app());
            receiver.offer(self, endpoint, item).await;
        }
    }

    /// The apps as of the event that is read now: what comes after it may need them.
    async fn know_apps(&self, position: i64) {
        while let Err(error) = self.server.directory.known_as_of(position).await {
            tracing::error!(%error, "the apps cannot be loaded");
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn receivers(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Receiver>>> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(&self, id: Uuid, kind: domain::callback::Kind, app: &str) -> Arc<Receiver> {
        let mut receivers = self.receivers();
        let new = || Arc::new(Receiver::new(id, kind, app));
        Arc::clone(receivers.entry(id).or_insert_with(new))
    }

    /// Has what came of an item recorded.
    async fn settle(&self, receiver: &Arc<Receiver>, item: &Item, state: State) {
        self.settle_at(receiver, item.entry.position, item.again, state).await;
    }

    async fn settle_at(&self, receiver: &Arc<Receiver>, position: i64, again: bool, state: State) {
        let settled = Settled { receiver: Arc::clone(receiver), position, again, state };
        receiver.settling(&state);
        self.server.metrics.callback(receiver.kind.name(), state.outcome.name());
        // The recorder outlives every lane.
        let _ = self.settled.send(settled).await;
    }
}
