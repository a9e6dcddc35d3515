//! Takes up again what was postponed: looks into the view, receiver by receiver, as far as each has
//! room and its circuit allows. What was taken up is remembered until the view knows what came of
//! it, so that nothing is taken up twice. What waits in memory for too long it has postponed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use domain::{
    Event, Recorded,
    callback::{Outcome, Reason},
};
use futures_util::{StreamExt, stream};
use projections::{
    Fault,
    callbacks::{self, CallbackRow},
};
use uuid::Uuid;

use super::{
    Engine, PAUSE,
    budget::Share,
    kind,
    line::{Item, Look, What},
    receiver::{Receiver, given_up},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Receivers that are looked for at once.
const LOOKS: usize = 2;
/// Looks between two searches for receivers that are no more.
const FORGET: u32 = 100;
/// Longest wait for the views before they are waited for again.
const VIEWS: Duration = Duration::from_secs(30);
/// Events read at once to see what came of those before.
const PAGE_EVENTS: i64 = 2_000;

/// What is recorded of the callbacks about events after the checkpoint: by receiver the positions of
/// the events. Reading these again makes none of them again.
#[derive(Default)]
pub(super) struct Former(HashMap<Uuid, HashSet<i64>>);

impl Former {
    pub(super) fn has(&self, receiver: Uuid, position: i64) -> bool {
        self.0.get(&receiver).is_some_and(|own| own.contains(&position))
    }

    fn note(&mut self, recorded: &Recorded, from: i64) {
        let Event::CallbacksCalled(called) = &recorded.event else { return };
        let own = self.0.entry(called.receiver).or_default();
        let positions = called.groups.iter().flat_map(|group| group.callbacks.numbers());
        own.extend(positions.filter(|position| *position > from));
    }
}

/// Finds the receivers at which something waits, before new callbacks could overtake it, and what is
/// recorded of the events after the checkpoint. None if the engine is to stop before.
pub(super) async fn prepare(engine: &Arc<Engine>, from: i64, head: i64) -> Option<Former> {
    let found = async || {
        let reached = engine.server.views.reached(head, VIEWS).await;
        reached.map_err(|behind| Fault::stored("views", behind))?;
        let mut former = Former::default();
        let mut next = from;
        while next < head {
            let page = engine.server.ledger.read(next, PAGE_EVENTS).await?;
            page.events.iter().for_each(|recorded| former.note(recorded, from));
            let Some(last) = page.last else { break };
            next = last;
        }
        let mut views = engine.server.ledger.database().views.checkout().await?;
        Ok((callbacks::waiting(&mut views.conn()).await?, former))
    };
    loop {
        let found: Result<_, Fault> = tokio::select! {
            () = engine.stop.cancelled() => return None,
            found = found() => found,
        };
        match found {
            Ok((waiting, former)) => {
                for row in waiting {
                    engine.receiver(row.receiver, row.kind, &row.app).line().kept(head, 0);
                }
                return Some(former);
            }
            Err(fault) => {
                tracing::error!(%fault, "callbacks that wait cannot be read");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Looks for what is due, for as long as the engine runs.
pub(super) async fn run(engine: &Arc<Engine>) {
    let mut round = 0_u32;
    loop {
        tokio::time::sleep(LOOK).await;
        round = round.wrapping_add(1);
        let receivers: Vec<Arc<Receiver>> = engine.receivers().values().cloned().collect();
        let loads: Vec<(usize, bool)> = receivers.iter().map(|own| own.line().load()).collect();
        let waiting = loads.iter().map(|load| load.0).sum();
        let open = loads.iter().filter(|load| load.1).count();
        engine.server.metrics.callbacks_waiting(waiting, open);
        for receiver in &receivers {
            receiver.hurry(engine).await;
        }
        let looks = receivers.iter().map(|receiver| async move {
            if let Err(fault) = look(engine, receiver).await {
                tracing::error!(%fault, "callbacks that are due cannot be read");
                tokio::time::sleep(PAUSE).await;
            }
        });
        stream::iter(looks).for_each_concurrent(LOOKS, |look| look).await;
        drop(receivers);
        if round.is_multiple_of(FORGET) {
            engine.forget();
        }
    }
}

impl Engine {
    /// Forgets the receivers that no app has any more and that nothing is left of.
    fn forget(&self) {
        self.receivers().retain(|_, receiver| {
            // Somebody else who knows it may be about to hand it something.
            let known = Arc::strong_count(receiver) > 1 || !receiver.line().is_over();
            known || self.endpoint(receiver).is_some()
        });
    }
}

/// Takes up what is due at a receiver, as far as it has room.
async fn look(engine: &Arc<Engine>, receiver: &Arc<Receiver>) -> Result<(), Fault> {
    let (server, now) = (&engine.server, engine.server.clock.now());
    if receiver.line().waits() {
        let endpoint = engine.endpoint(receiver);
        receiver.line().configured(endpoint.as_ref(), now);
    }
    let views = server.views.position();
    let Some(wanted) = receiver.line().look(now, views) else { return Ok(()) };
    if engine.budget.is_full() {
        return Ok(());
    }
    let (rows, next) = due(engine, receiver, &wanted, now).await?;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    // What was detached is given up like what cannot be read; it must not hold up the others.
    let events = server.ledger.read_here(&positions).await?.events;
    let events: HashMap<i64, &Recorded> = events.iter().map(|own| (own.position, own)).collect();
    let configured = engine.endpoint(receiver).is_some();
    let mut took = false;
    for row in rows {
        let event = events.get(&row.position).filter(|_| configured);
        let said = match event {
            Some(event) => kind::entries(receiver.kind, server, event).await,
            None => Ok(Vec::new()),
        };
        let calls = u32::try_from(row.calls).unwrap_or(u32::MAX);
        let reason = match said {
            Ok(entries) if !entries.is_empty() => {
                let bytes = entries.iter().map(|entry| entry.body.len()).sum();
                let item = Item {
                    position: row.position,
                    what: What::Said(entries),
                    bytes,
                    calls,
                    again: true,
                    hold: false,
                    probe: false,
                    since: now,
                    share: Share::new(&engine.budget, bytes),
                };
                let Some(placed) = receiver.line().take_up(item, now) else { break };
                receiver.go_on(engine, placed).await;
                took = true;
                continue;
            }
            Ok(_) if !configured => Reason::NotConfigured,
            Ok(_) if event.is_some() => Reason::Erased,
            Ok(_) | Err(Fault::Stored { .. } | Fault::Detached { .. }) => Reason::Unreadable,
            Err(fault) => return Err(fault),
        };
        engine.settle_at(receiver, row.position, true, given_up(calls, reason)).await;
        took = true;
    }
    let placed = receiver.line().looked(views, took, next);
    for placed in placed {
        receiver.go_on(engine, placed).await;
    }
    Ok(())
}

/// What may be taken up, and when the next is due. Where order matters nothing overtakes what waits,
/// due or not.
async fn due(
    engine: &Engine,
    receiver: &Receiver,
    wanted: &Look,
    now: i64,
) -> Result<(Vec<CallbackRow>, Option<i64>), Fault> {
    let limit = wanted.room + wanted.known.len();
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let ordered = receiver.kind.policy().ordered;
    let mut checkout = engine.server.ledger.database().views.checkout().await?;
    let rows = if ordered {
        callbacks::in_order(&mut checkout.conn(), receiver.id, most).await?
    } else {
        callbacks::due(&mut checkout.conn(), receiver.id, now, most).await?
    };
    let whole = rows.len() < limit;
    let known: HashSet<i64> = wanted.known.iter().copied().collect();
    let mut rows: Vec<CallbackRow> =
        rows.into_iter().filter(|row| !known.contains(&row.position)).collect();
    let due = |row: &CallbackRow| row.due_at.unwrap_or(0) <= now && row.position < wanted.before;
    let ready = rows.iter().take_while(|row| due(row)).count();
    let next = match rows.get(ready) {
        Some(row) => Some(row.due_at.unwrap_or(0)),
        None if !whole => Some(now),
        None if ordered => None,
        None => callbacks::next_due(&mut checkout.conn(), receiver.id, now).await?,
    };
    rows.truncate(ready.min(wanted.room));
    debug_assert!(rows.iter().all(|row| row.outcome == Outcome::Postponed));
    Ok((rows, next))
}
