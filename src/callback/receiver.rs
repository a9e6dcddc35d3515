//! One receiver: makes the calls that its [`line`](super::line) lets out, one after the other in each
//! lane, and has what came of them recorded. What is in a lane is in memory and will be settled soon;
//! whatever can't be is postponed at once, so that nobody waits for it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    app::DisableWebhook,
    callback::{Attempt, Kind, Next, Outcome, Reason, State, Verdict},
};
use futures_util::{StreamExt, stream};
use projections::Fault;
use uuid::Uuid;

use super::{
    Engine, PAUSE,
    budget::Share,
    kind::{self, Endpoint, Entry},
    line::{Item, Line, Placed, What},
    record::Settled,
};
use crate::{
    ledger::Lane as LedgerLane,
    outbound::{Answer, CallError},
};

/// Longest pause between two calls that is waited for in a lane, in µs.
const SOON_MICROS: i64 = 5_000_000;
/// Callbacks of one receiver that are worded at once, if that needs the database.
const WORDED: usize = 4;

/// One receiver.
pub(super) struct Receiver {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) app: String,
    line: Mutex<Line>,
}

impl Receiver {
    pub(super) fn new(id: Uuid, kind: Kind, app: &str) -> Receiver {
        let line = Mutex::new(Line::new(kind.policy()));
        Receiver { id, kind, app: app.to_owned(), line }
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a callback of an event that was just read, or postpones it.
    pub(super) async fn offer(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        endpoint: &Arc<Endpoint>,
        item: Item,
    ) {
        let placed = {
            let mut line = self.line();
            line.configured(Some(endpoint), engine.server.clock.now());
            line.place(item, engine.budget.is_full())
        };
        self.go_on(engine, placed).await;
    }

    /// Does what follows from where a callback was placed.
    pub(super) async fn go_on(self: &Arc<Self>, engine: &Arc<Engine>, placed: Placed) {
        match placed {
            Placed::Waits => {}
            Placed::Lane(index) => self.start(engine, Some(index)),
            Placed::Desk => self.start(engine, None),
            Placed::Leaves(items, reason) => self.postpone(engine, items, reason).await,
        }
    }

    /// Has somebody work on a lane, or word what is to be worded.
    fn start(self: &Arc<Self>, engine: &Arc<Engine>, lane: Option<usize>) {
        let (receiver, shared) = (Arc::clone(self), Arc::clone(engine));
        match lane {
            Some(index) => {
                engine.lanes.spawn(async move { receiver.work(&shared, index).await });
            }
            None => {
                engine.lanes.spawn(async move { receiver.word(&shared).await });
            }
        }
    }

    /// Has callbacks wait in the view, due as soon as the circuit and those before them allow.
    async fn postpone(self: &Arc<Self>, engine: &Engine, items: Vec<Item>, reason: Reason) {
        let now = engine.server.clock.now();
        for item in items {
            let state = State {
                outcome: Outcome::Postponed,
                calls: item.calls,
                reason: Some(reason),
                status: None,
                due_at: Some(now),
            };
            engine.settle(self, &item, state).await;
        }
    }

    /// Gives callbacks up that are not to be called about.
    async fn give_up(self: &Arc<Self>, engine: &Engine, items: Vec<Item>, reason: Reason) {
        for item in items {
            engine.settle(self, &item, given_up(item.calls, reason)).await;
        }
    }

    /// Has what waited too long wait in the view instead.
    pub(super) async fn hurry(self: &Arc<Self>, engine: &Engine) {
        let late = self.line().late(engine.server.clock.now());
        for (item, reason) in late {
            self.postpone(engine, vec![item], reason).await;
        }
    }

    /// Takes nothing any more: what is not being called about waits in the view.
    pub(super) async fn close(self: &Arc<Self>, engine: &Engine) {
        let left = self.line().close();
        self.postpone(engine, left, Reason::Stopped).await;
    }

    /// Words callbacks whose wording needs the database, and hands them on in order.
    async fn word(self: &Arc<Self>, engine: &Arc<Engine>) {
        loop {
            let items = self.line().worded_next();
            if items.is_empty() {
                return;
            }
            let mut worded = stream::iter(items)
                .map(|item| async move {
                    let said = self.said(engine, &item).await;
                    (item, said)
                })
                .buffered(WORDED);
            while let Some((item, said)) = worded.next().await {
                match said {
                    // There is nothing to say.
                    Ok(entries) if entries.is_empty() => engine.tracker.end(item.position),
                    Ok(entries) => {
                        let item = engine.worded(item, entries);
                        let placed = self.line().place(item, engine.budget.is_full());
                        self.go_on(engine, placed).await;
                    }
                    Err(reason @ Reason::Stopped) => {
                        self.postpone(engine, vec![item], reason).await;
                    }
                    Err(reason) => self.give_up(engine, vec![item], reason).await,
                }
            }
        }
    }

    /// What a callback says, or why it cannot be said.
    async fn said(&self, engine: &Engine, item: &Item) -> Result<Vec<Entry>, Reason> {
        let What::Event(recorded) = &item.what else { return Ok(item.entries().to_vec()) };
        loop {
            // It only reads, so it may be left half-way: a stop does not wait for the views.
            let entries = tokio::select! {
                biased;
                entries = kind::entries(self.kind, &engine.server, recorded) => entries,
                () = engine.stop.cancelled() => return Err(Reason::Stopped),
            };
            match entries {
                Ok(entries) => return Ok(entries),
                Err(fault @ (Fault::Stored { .. } | Fault::Detached { .. })) => {
                    tracing::error!(%fault, position = item.position, "no callback can be made");
                    return Err(Reason::Unreadable);
                }
                Err(fault) => tracing::error!(%fault, "a callback cannot be worded yet"),
            }
            tokio::select! {
                () = engine.stop.cancelled() => return Err(Reason::Stopped),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Calls about what is in a lane until it is empty.
    async fn work(self: &Arc<Self>, engine: &Arc<Engine>, index: usize) {
        let policy = self.kind.policy();
        let gather = u64::try_from(policy.gather_micros).unwrap_or(0);
        loop {
            if gather > 0 && self.line().gathered(index) < policy.batch {
                tokio::time::sleep(Duration::from_micros(gather)).await;
            }
            // As it is now: what waited must not go to where the receiver was.
            let endpoint = engine.endpoint(self);
            let (batch, others) = {
                let mut line = self.line();
                line.configured(endpoint.as_ref(), engine.server.clock.now());
                let others = if endpoint.is_none() { line.take_all() } else { Vec::new() };
                (line.batch(index), others)
            };
            self.give_up(engine, others, Reason::NotConfigured).await;
            match endpoint {
                Some(endpoint) if !batch.is_empty() => self.deliver(engine, &endpoint, batch).await,
                _ => return,
            }
        }
    }

    /// Calls until the batch is answered, given up or has to wait for long.
    async fn deliver(
        self: &Arc<Self>,
        engine: &Engine,
        endpoint: &Arc<Endpoint>,
        batch: Vec<Item>,
    ) {
        let (clock, policy) = (&engine.server.clock, endpoint.policy());
        let entries = batch.iter().flat_map(|item| item.entries().iter().cloned());
        let entries: Vec<Entry> = entries.collect();
        let mut probe = batch.iter().any(|item| item.probe);
        let mut calls = batch.first().map_or(0, |item| item.calls);
        let mut attempts = Vec::new();
        // What one event has to tell may take several calls.
        let mut left = &entries[..];
        let state = loop {
            let (part, rest) = left.split_at(left.len().min(policy.batch));
            let (at, begun) = (clock.now(), Instant::now());
            let answer = tokio::select! {
                answer = call(engine, endpoint, part) => answer,
                // It may have arrived. It is made again as if it had not.
                () = engine.cut.cancelled() => {
                    let (outcome, reason) = (Outcome::Postponed, Some(Reason::Stopped));
                    let due_at = Some(clock.now());
                    break State { outcome, calls, reason, status: None, due_at };
                }
            };
            let now = clock.now();
            engine.server.metrics.callback_called(self.kind, answer.is_ok(), begun.elapsed());
            let verdict = endpoint.verdict(&answer, now);
            let status = answer.ok().map(|answer| answer.status.as_u16());
            if verdict == Verdict::Accepted && !rest.is_empty() {
                left = rest;
                continue;
            }
            calls = calls.saturating_add(1);
            let took = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
            attempts.push(Attempt { at, took, status, reason: verdict.reason() });
            let state = |outcome, reason, due_at| State { outcome, calls, reason, status, due_at };
            let next = policy.next(calls, verdict);
            let is_soon = |pause| policy.ordered && pause <= SOON_MICROS;
            let soon = matches!(next, Next::Again(pause, _) if is_soon(pause));
            let leaving = self.line().judge(verdict, &mut probe, soon, now);
            self.postpone(engine, leaving, Reason::CircuitOpen).await;
            match next {
                Next::Answered => break state(Outcome::Answered, None, None),
                Next::GivenUp(reason) => {
                    if reason == Reason::Gone {
                        self.gone(engine).await;
                    }
                    break state(Outcome::GivenUp, Some(reason), None);
                }
                Next::Again(pause, reason) => {
                    let due_at = now.saturating_add(pause);
                    let postponed = state(Outcome::Postponed, Some(reason), Some(due_at));
                    let may_go_on = || self.line().may_go_on(probe);
                    if !soon || !may_go_on() {
                        break postponed;
                    }
                    tokio::select! {
                        () = engine.stop.cancelled() => break postponed,
                        () = clock.sleep_until(due_at) => {}
                    }
                    if !may_go_on() {
                        break postponed;
                    }
                }
            }
        };
        for item in &batch {
            // Ten thousand good ones a second are only counted.
            let good = state.outcome == Outcome::Answered && state.calls <= 1 && !item.again;
            let attempts = if good { Vec::new() } else { attempts.clone() };
            let (receiver, position, again) = (Arc::clone(self), item.position, item.again);
            engine.record(Settled { receiver, position, again, state, attempts }).await;
        }
    }

    /// Switches a webhook off that wants no more calls, and gives up what waits for it in memory.
    async fn gone(self: &Arc<Self>, engine: &Engine) {
        let others = self.line().take_all();
        self.give_up(engine, others, Reason::Gone).await;
        let command = DisableWebhook { app_id: self.app.clone(), webhook: self.id };
        let context = super::record::context(&self.app);
        let done = engine.server.ledger.execute(LedgerLane::Bulk, context, command).await;
        if let Err(refused) = done {
            tracing::warn!(%refused, "a webhook that is gone could not be switched off");
        }
        if let Err(error) = engine.server.directory.reload().await {
            tracing::warn!(%error, "the apps cannot be loaded");
        }
    }
}

/// One call about some callbacks.
async fn call(
    engine: &Engine,
    endpoint: &Endpoint,
    entries: &[Entry],
) -> Result<Answer, CallError> {
    let request = endpoint.request(entries, engine.server.clock.now())?;
    engine.server.outbound.send(request, endpoint.limits()).await
}

/// A callback that is not called about.
pub(super) fn given_up(calls: u32, reason: Reason) -> State {
    let (outcome, reason) = (Outcome::GivenUp, Some(reason));
    State { outcome, calls, reason, status: None, due_at: None }
}

impl Engine {
    /// A callback that is worded now.
    fn worded(&self, item: Item, entries: Vec<Entry>) -> Item {
        let bytes = entries.iter().map(|entry| entry.body.len()).sum();
        let share = Share::new(&self.budget, bytes);
        Item { what: What::Said(entries), bytes, share, ..item }
    }
}
