//! Makes durable what came of callbacks, many in one event, and knows how far the checkpoint may
//! go: up to the first event whose callbacks are not all recorded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    Metadata,
    callback::{Attempt, CallbacksCalled, Group, MAX_CALLBACKS, RecordCallbacks, State},
};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Engine, receiver::Receiver};
use crate::ledger::{Context, Lane, Refused};

/// Outcomes that may wait to be recorded.
pub(super) const WAITING: usize = 16_384;
/// Time between two records: what came meanwhile becomes one event for each receiver.
const PACE: Duration = Duration::from_millis(500);
/// Records that wait for one commit.
const CONCURRENT: usize = 256;
/// Pause before a record is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// What came of one callback.
pub(super) struct Settled {
    pub(super) receiver: Arc<Receiver>,
    pub(super) position: i64,
    pub(super) again: bool,
    pub(super) state: State,
    /// The calls since it was recorded before.
    pub(super) attempts: Vec<Attempt>,
}

/// Which events have callbacks that are not recorded.
pub(super) struct Tracker(Mutex<Open>);

struct Open {
    read: i64,
    by_position: BTreeMap<i64, usize>,
}

impl Tracker {
    pub(super) fn new(read: i64) -> Tracker {
        Tracker(Mutex::new(Open { read, by_position: BTreeMap::new() }))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a callback about an event.
    pub(super) fn begin(&self, position: i64) {
        *self.open().by_position.entry(position).or_default() += 1;
    }

    /// All events up to a position were handed out.
    pub(super) fn read(&self, position: i64) {
        self.open().read = position;
    }

    /// A callback about an event is recorded, or turned out to be none.
    pub(super) fn end(&self, position: i64) {
        let mut open = self.open();
        if let Some(count) = open.by_position.get_mut(&position) {
            *count -= 1;
            if *count == 0 {
                open.by_position.remove(&position);
            }
        }
    }

    /// Up to where all callbacks are recorded.
    pub(super) fn settled_up_to(&self) -> i64 {
        let open = self.open();
        open.by_position.keys().next().map_or(open.read, |first| open.read.min(first - 1))
    }
}

/// In whose name the engine records.
pub(super) fn context(app: &str) -> Context {
    let (actor, via) = ("server".to_owned(), "callbacks".to_owned());
    let metadata = Metadata { actor, via, ..Metadata::default() };
    Context { app: app.to_owned(), metadata }
}

/// Records until the engine is done and nothing is left.
pub(super) async fn run(
    engine: Arc<Engine>,
    mut outcomes: mpsc::Receiver<Settled>,
    done: Arc<CancellationToken>,
) {
    let mut batch: Vec<Settled> = Vec::with_capacity(WAITING);
    loop {
        let came = tokio::select! {
            biased;
            came = outcomes.recv_many(&mut batch, WAITING) => came,
            // The engine has a sender itself: the end is told, not seen.
            () = done.cancelled() => 0,
        };
        if came == 0 {
            return;
        }
        let rest = tokio::time::sleep(PACE);
        flush(&engine, std::mem::take(&mut batch)).await;
        tokio::select! {
            () = rest => {}
            () = done.cancelled() => {}
        }
    }
}

/// Positions of the events by what came of their callbacks, whether that was recorded before, and the
/// calls.
type Groups = BTreeMap<(State, bool, Vec<Attempt>), Vec<i64>>;

async fn flush(engine: &Arc<Engine>, batch: Vec<Settled>) {
    let mut by_receiver: HashMap<Uuid, (Arc<Receiver>, Groups)> = HashMap::new();
    for settled in batch {
        let Settled { receiver, position, again, state, attempts } = settled;
        let entry = by_receiver.entry(receiver.id);
        let (_, groups) = entry.or_insert_with(|| (receiver, Groups::new()));
        groups.entry((state, again, attempts)).or_default().push(position);
    }
    let records = by_receiver.into_values().flat_map(|(receiver, groups)| {
        let mut records: Vec<(Arc<Receiver>, Groups, usize)> = Vec::new();
        for (key, positions) in groups {
            for chunk in positions.chunks(MAX_CALLBACKS) {
                let full =
                    |(_, _, count): &&mut (_, _, usize)| count + chunk.len() <= MAX_CALLBACKS;
                match records.last_mut().filter(full) {
                    Some((_, groups, count)) => {
                        groups.entry(key.clone()).or_default().extend_from_slice(chunk);
                        *count += chunk.len();
                    }
                    None => {
                        let groups = Groups::from([(key.clone(), chunk.to_vec())]);
                        records.push((Arc::clone(&receiver), groups, chunk.len()));
                    }
                }
            }
        }
        records
    });
    stream::iter(records)
        .for_each_concurrent(CONCURRENT, |(receiver, groups, _)| record(engine, receiver, groups))
        .await;
}

/// Records what came of some callbacks of a receiver, until the ledger has it.
async fn record(engine: &Arc<Engine>, receiver: Arc<Receiver>, groups: Groups) {
    let event = CallbacksCalled {
        kind: receiver.kind,
        receiver: receiver.id,
        groups: groups
            .iter()
            .map(|((state, again, attempts), positions)| {
                Group::of(*state, *again, positions.clone()).after(attempts.clone())
            })
            .collect(),
    };
    let position = loop {
        let command = RecordCallbacks { called: event.clone(), new_record: Uuid::now_v7() };
        let context = context(&receiver.app);
        match engine.server.ledger.execute(Lane::Bulk, context, command).await {
            Ok(done) => break done.last,
            // They are called about again after the next start.
            Err(Refused::Closing) => return,
            Err(refused) => {
                tracing::error!(%refused, "what came of callbacks could not be recorded");
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    for ((_, again, _), positions) in groups {
        for source in positions {
            receiver.line().recorded(source, position);
            if !again {
                engine.tracker.end(source);
            }
        }
    }
}
