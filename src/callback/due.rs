//! Takes up again what was postponed: looks into the view, receiver by receiver, as far as each has
//! room and its circuit allows. What was taken up is remembered until the view knows what came of
//! it, so that nothing is taken up twice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use domain::callback::{Outcome, Reason, State};
use projections::{
    Fault,
    callbacks::{self, CallbackRow},
};
use uuid::Uuid;

use super::{
    Engine,
    receiver::{Item, Receiver},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for the views before the first look.
const VIEWS: Duration = Duration::from_secs(30);
/// Callbacks that are read at once.
const PAGE: usize = 256;

/// What was taken up, by receiver and position, with the position of the record of what came of it.
#[derive(Default)]
pub(super) struct Taken(HashMap<Uuid, BTreeMap<i64, Option<i64>>>);

impl Taken {
    /// What came of it is recorded at a position.
    pub(super) fn record(&mut self, receiver: Uuid, source: i64, position: i64) {
        if let Some(record) = self.0.get_mut(&receiver).and_then(|own| own.get_mut(&source)) {
            *record = Some(position);
        }
    }

    /// Forgets what the view knows, and gives what is left of a receiver.
    fn left(&mut self, receiver: Uuid, views: i64) -> &mut BTreeMap<i64, Option<i64>> {
        let own = self.0.entry(receiver).or_default();
        own.retain(|_, record| record.is_none_or(|position| position > views));
        own
    }
}

impl Engine {
    pub(super) fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the receivers at which something waits, before new callbacks could overtake it.
pub(super) async fn prepare(engine: &Arc<Engine>, from: i64) {
    let found = async || {
        let reached = engine.server.views.reached(from, VIEWS).await;
        reached.map_err(|behind| Fault::stored("views", behind))?;
        let mut views = engine.server.ledger.database().views_read.checkout().await?;
        callbacks::waiting(&mut views.conn()).await
    };
    loop {
        match found_or_stopped(engine, found()).await {
            None => return,
            Some(Ok(waiting)) => {
                for row in waiting {
                    engine.receiver(row.receiver, row.kind, &row.app).kept(from, 0);
                }
                return;
            }
            Some(Err(fault)) => tracing::error!(%fault, "callbacks that wait cannot be read"),
        }
    }
}

/// Looks for what is due, for as long as the engine runs.
pub(super) async fn run(engine: &Arc<Engine>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let receivers: Vec<Arc<Receiver>> = engine.receivers().values().cloned().collect();
        let loads: Vec<(usize, bool)> = receivers.iter().map(|own| own.load()).collect();
        let waiting = loads.iter().map(|load| load.0).sum();
        let open = loads.iter().filter(|load| load.1).count();
        engine.server.metrics.callbacks_waiting(waiting, open);
        for receiver in receivers {
            let room = receiver.room(engine.server.clock.now()).min(PAGE);
            if room == 0 {
                continue;
            }
            if let Err(fault) = look(engine, &receiver, room).await {
                tracing::error!(%fault, "callbacks that are due cannot be read");
                receiver.looked(engine, 0, false, Some(engine.server.clock.now()));
            }
        }
    }
}

/// Takes up what is due at a receiver, as far as it has room.
async fn look(engine: &Arc<Engine>, receiver: &Arc<Receiver>, room: usize) -> Result<(), Fault> {
    let (server, now) = (&engine.server, engine.server.clock.now());
    let views = server.views.position();
    let left = engine.taken().left(receiver.id, views).clone();
    let limit = i64::try_from(room + left.len()).unwrap_or(i64::MAX);
    let mut checkout = server.ledger.database().views_read.checkout().await?;
    let rows = callbacks::due(&mut checkout.conn(), receiver.id, now, limit).await?;
    let next = callbacks::next_due(&mut checkout.conn(), receiver.id).await?;
    drop(checkout);
    let rows = rows.into_iter().filter(|row| !left.contains_key(&row.position));
    let rows: Vec<CallbackRow> = rows.take(room).collect();
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let events = server.ledger.read_at(&positions).await?.events;
    let events: HashMap<i64, _> = events.iter().map(|event| (event.position, event)).collect();
    let app = server.directory.known(&receiver.app);
    let endpoint = app.and_then(|app| {
        app.callbacks.iter().find(|own| own.receiver == receiver.id).map(Arc::clone)
    });
    let mut called = false;
    for row in rows {
        let event = events.get(&row.position);
        let entry = match (&endpoint, event) {
            (Some(endpoint), Some(event)) => endpoint.entry(server, event).await?,
            _ => None,
        };
        engine.taken().left(receiver.id, views).insert(row.position, None);
        let calls = u32::try_from(row.calls).unwrap_or(u32::MAX);
        match (&endpoint, entry) {
            (Some(endpoint), Some(entry)) => {
                called = true;
                receiver.take_up(engine, endpoint, Item { entry, calls, again: true });
            }
            (endpoint, _) => {
                let reason = match endpoint {
                    Some(_) => Reason::Erased,
                    None => Reason::NotConfigured,
                };
                let (outcome, reason) = (Outcome::GivenUp, Some(reason));
                let state = State { outcome, calls, reason, status: None, due_at: None };
                engine.settle_at(receiver, row.position, true, state).await;
            }
        }
    }
    if !called {
        receiver.looked(engine, views, called, next);
    }
    Ok(())
}

async fn found_or_stopped<T>(engine: &Arc<Engine>, found: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = engine.stop.cancelled() => None,
        found = found => Some(found),
    }
}
