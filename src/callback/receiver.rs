//! One receiver: lanes in which callbacks go out one call after the other, and a circuit that
//! opens when it fails often and closes when a call works again. What is in a lane is in memory and
//! will be settled soon; whatever can't be is postponed at once, so that nobody waits for it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    app::DisableWebhook,
    callback::{Kind, Next, Outcome, Reason, State, Verdict},
};
use uuid::Uuid;

use super::{
    Engine,
    kind::{Endpoint, Entry},
};
use crate::{
    ledger::Lane as LedgerLane,
    outbound::{Answer, CallError},
};

/// Callbacks that wait in memory for one receiver; others wait in the view.
pub(super) const QUEUE: usize = 1_024;
/// Bytes of one call's callbacks, at most; one alone may be longer.
const BATCH_BYTES: usize = 1024 * 1024;
/// Calls in a row that may fail before the circuit opens.
const FAILURES: u32 = 10;
/// Callbacks of an ordered kind that are held in memory until those before them, which wait in the
/// view, are taken up.
const HELD: usize = 4_096;
/// How long a circuit stays open before a callback probes it, at first and at most, in µs.
const OPEN_FIRST_MICROS: i64 = 5_000_000;
const OPEN_LAST_MICROS: i64 = 60_000_000;
/// Longest pause between two calls that is waited for in a lane, in µs.
const SOON_MICROS: i64 = 5_000_000;

/// A callback on its way.
pub(super) struct Item {
    pub(super) entry: Entry,
    /// Calls so far.
    pub(super) calls: u32,
    /// Whether it was recorded before.
    pub(super) again: bool,
}

/// One receiver.
pub(super) struct Receiver {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) app: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lanes: Vec<Lane>,
    /// What comes after all that waits in the view.
    held: Vec<Item>,
    /// Callbacks in lanes that are not being called about.
    waiting: usize,
    endpoint: Option<Arc<Endpoint>>,
    failures: u32,
    circuit: Circuit,
    /// How long the circuit stays open the next time.
    pause: i64,
    kept: Kept,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Item>,
    busy: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Circuit {
    #[default]
    Closed,
    /// Nothing is called before that time.
    Open(i64),
    /// One callback finds out.
    Probing,
}

/// What is known of the callbacks that wait in the view.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// Whether there may be some.
    any: bool,
    /// Postponements that are not recorded yet.
    unrecorded: usize,
    /// Position at which the view knows of all that were recorded.
    until: i64,
    /// When to look for what is due, in µs.
    look_at: i64,
}

impl Receiver {
    pub(super) fn new(id: Uuid, kind: Kind, app: &str) -> Receiver {
        let lanes = (0..kind.policy().lanes).map(|_| Lane::default()).collect();
        let inner = Inner { lanes, pause: OPEN_FIRST_MICROS, ..Inner::default() };
        Receiver { id, kind, app: app.to_owned(), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a callback of an event that was just read, or postpones it.
    pub(super) async fn offer(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        endpoint: &Arc<Endpoint>,
        item: Item,
    ) {
        let (reason, mut late) = {
            let mut inner = self.inner();
            inner.configured(endpoint);
            let reason = if inner.circuit != Circuit::Closed {
                Reason::CircuitOpen
            } else if self.kind.policy().ordered && inner.kept.any {
                if inner.held.len() < HELD {
                    inner.held.push(item);
                    return;
                }
                Reason::Behind
            } else if inner.waiting >= QUEUE {
                Reason::QueueFull
            } else {
                drop(inner);
                return self.push(engine, item);
            };
            (reason, std::mem::take(&mut inner.held))
        };
        late.push(item);
        self.postpone(engine, late, reason, engine.server.clock.now()).await;
    }

    /// Has callbacks wait in the view, due as soon as the circuit and those before them allow.
    async fn postpone(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        items: Vec<Item>,
        reason: Reason,
        now: i64,
    ) {
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

    /// Takes callbacks from the view; the caller has asked for [`room`](Receiver::room).
    pub(super) fn take_up(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        endpoint: &Arc<Endpoint>,
        item: Item,
    ) {
        self.inner().configured(endpoint);
        self.push(engine, item);
    }

    fn push(self: &Arc<Self>, engine: &Arc<Engine>, item: Item) {
        let mut inner = self.inner();
        let lanes = inner.lanes.len() as u64;
        let index = usize::try_from(item.entry.order % lanes.max(1)).unwrap_or(0);
        inner.waiting += 1;
        let lane = &mut inner.lanes[index];
        lane.queue.push_back(item);
        if !lane.busy {
            lane.busy = true;
            let (receiver, engine) = (Arc::clone(self), Arc::clone(engine));
            let lanes = engine.lanes.clone();
            lanes.spawn(async move { receiver.work(&engine, index).await });
        }
    }

    /// Calls about what is in a lane until it is empty.
    async fn work(self: &Arc<Self>, engine: &Arc<Engine>, index: usize) {
        let gather = u64::try_from(self.kind.policy().gather_micros).unwrap_or(0);
        while !engine.stop.is_cancelled() {
            if gather > 0 && self.inner().lanes[index].queue.len() < self.kind.policy().batch {
                tokio::time::sleep(Duration::from_micros(gather)).await;
            }
            let Some((endpoint, batch)) = self.batch(index) else { return };
            self.deliver(engine, &endpoint, batch).await;
        }
    }

    /// The next call's callbacks; an empty lane has nobody who works on it.
    fn batch(&self, index: usize) -> Option<(Arc<Endpoint>, Vec<Item>)> {
        let mut inner = self.inner();
        let endpoint = inner.endpoint.clone();
        let lane = &mut inner.lanes[index];
        let (mut batch, mut bytes): (Vec<Item>, usize) = (Vec::new(), 0);
        while batch.len() < self.kind.policy().batch {
            let fits = |item: &mut Item| {
                let same = batch.first().is_none_or(|first| first.calls == item.calls);
                same && (batch.is_empty() || bytes + item.entry.body.len() <= BATCH_BYTES)
            };
            let Some(item) = lane.queue.pop_front_if(fits) else { break };
            bytes += item.entry.body.len();
            batch.push(item);
        }
        lane.busy = !batch.is_empty() && endpoint.is_some();
        inner.waiting -= batch.len();
        endpoint.filter(|_| !batch.is_empty()).map(|endpoint| (endpoint, batch))
    }

    /// Calls until the batch is answered, given up or has to wait for long.
    async fn deliver(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        endpoint: &Arc<Endpoint>,
        batch: Vec<Item>,
    ) {
        let (clock, policy) = (&engine.server.clock, endpoint.policy());
        let entries: Vec<Entry> = batch.iter().map(|item| item.entry.clone()).collect();
        let mut calls = batch.first().map_or(0, |item| item.calls);
        let state = loop {
            let answer = self.call(engine, endpoint, &entries).await;
            calls = calls.saturating_add(1);
            let now = clock.now();
            let verdict = endpoint.verdict(&answer, now);
            let status = answer.ok().map(|answer| answer.status.as_u16());
            self.judged(engine, verdict, now).await;
            let state = |outcome, reason, due_at| State { outcome, calls, reason, status, due_at };
            match policy.next(calls, verdict) {
                Next::Answered => break state(Outcome::Answered, None, None),
                Next::GivenUp(reason) => {
                    if reason == Reason::Gone {
                        self.disable(engine).await;
                    }
                    break state(Outcome::GivenUp, Some(reason), None);
                }
                Next::Again(pause, reason) if !policy.ordered || pause > SOON_MICROS => {
                    let due_at = Some(now.saturating_add(pause));
                    break state(Outcome::Postponed, Some(reason), due_at);
                }
                Next::Again(pause, _) => tokio::select! {
                    // Not settled: it is read again after the next start.
                    () = engine.stop.cancelled() => return,
                    () = clock.sleep_until(now.saturating_add(pause)) => {}
                },
            }
        };
        for item in &batch {
            engine.settle(self, item, state).await;
        }
    }

    async fn call(
        &self,
        engine: &Arc<Engine>,
        endpoint: &Arc<Endpoint>,
        entries: &[Entry],
    ) -> Result<Answer, CallError> {
        let request = endpoint.request(entries, engine.server.clock.now())?;
        let answer = engine.server.outbound.send(request, endpoint.limits()).await;
        engine.server.metrics.callback_called(self.kind.name(), answer.is_ok());
        answer
    }

    /// Opens or closes the circuit by what a call came to.
    async fn judged(self: &Arc<Self>, engine: &Arc<Engine>, verdict: Verdict, now: i64) {
        let drained = self.inner().judge(verdict, now);
        self.postpone(engine, drained, Reason::CircuitOpen, now).await;
    }

    /// Switches a webhook off that wants no more calls.
    async fn disable(&self, engine: &Arc<Engine>) {
        let command = DisableWebhook { app_id: self.app.clone(), webhook: self.id };
        let context = super::record::context(&self.app);
        let done = engine.server.ledger.execute(LedgerLane::Bulk, context, command).await;
        if let Err(refused) = done {
            tracing::warn!(%refused, "a webhook that is gone could not be switched off");
        }
    }

    /// An outcome is on its way to the ledger.
    pub(super) fn settling(&self, state: &State) {
        let mut inner = self.inner();
        if state.outcome == Outcome::Postponed {
            inner.kept.unrecorded += 1;
            inner.kept.any = true;
            inner.kept.look_at = inner.kept.look_at.min(state.due_at.unwrap_or(0));
        }
    }

    /// An outcome was recorded.
    pub(super) fn recorded(&self, state: &State, position: i64) {
        if state.outcome != Outcome::Postponed {
            return;
        }
        let mut inner = self.inner();
        inner.kept.unrecorded = inner.kept.unrecorded.saturating_sub(1);
        inner.kept.until = inner.kept.until.max(position);
    }

    /// The view has, or will have at a position, something that is due at a time in µs.
    pub(super) fn kept(&self, position: i64, due_at: i64) {
        let mut inner = self.inner();
        inner.kept.any = true;
        inner.kept.until = inner.kept.until.max(position);
        inner.kept.look_at = inner.kept.look_at.min(due_at);
    }

    /// How many of those that wait in the view can be taken up now.
    pub(super) fn room(&self, now: i64) -> usize {
        let mut inner = self.inner();
        if !inner.kept.any || inner.kept.look_at > now {
            return 0;
        }
        match inner.circuit {
            Circuit::Closed => (QUEUE / 2).saturating_sub(inner.waiting),
            Circuit::Open(until) if until <= now => {
                inner.circuit = Circuit::Probing;
                1
            }
            Circuit::Open(_) | Circuit::Probing => 0,
        }
    }

    /// What a look into the view found: whether it took anything up, and when the next is due.
    /// Once nothing waits there, what was held goes on.
    pub(super) fn looked(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        views: i64,
        took: bool,
        next: Option<i64>,
    ) {
        let now = engine.server.clock.now();
        let mut inner = self.inner();
        // Nothing was there that could have found out.
        if !took && inner.circuit == Circuit::Probing && inner.waiting == 0 {
            inner.circuit = if next.is_some() { Circuit::Open(now) } else { Circuit::Closed };
        }
        let sure = inner.kept.unrecorded == 0 && views >= inner.kept.until;
        match next {
            Some(next) if sure && !took => inner.kept.look_at = next,
            Some(_) => {}
            None if sure => {
                inner.kept = Kept { look_at: i64::MAX, ..Kept::default() };
                let held = std::mem::take(&mut inner.held);
                drop(inner);
                held.into_iter().for_each(|item| self.push(engine, item));
            }
            None => {}
        }
    }

    /// Callbacks that wait in memory, and whether the circuit is open.
    pub(super) fn load(&self) -> (usize, bool) {
        let inner = self.inner();
        (inner.waiting + inner.held.len(), inner.circuit != Circuit::Closed)
    }
}

impl Inner {
    /// Takes over how the app has the receiver now; another URL is not to blame for the last.
    fn configured(&mut self, endpoint: &Arc<Endpoint>) {
        match &self.endpoint {
            Some(own) if Arc::ptr_eq(own, endpoint) => return,
            Some(own) if own.url != endpoint.url && self.circuit != Circuit::Probing => {
                self.failures = 0;
                // What was kept still goes first.
                if let Circuit::Open(_) = self.circuit {
                    self.circuit = Circuit::Open(0);
                }
            }
            Some(_) | None => {}
        }
        self.endpoint = Some(Arc::clone(endpoint));
    }

    /// What follows from a call for the calls after it; gives what has to leave the lanes.
    fn judge(&mut self, verdict: Verdict, now: i64) -> Vec<Item> {
        let (failed, asked) = match verdict {
            Verdict::Accepted | Verdict::Declined | Verdict::Gone => (false, None),
            Verdict::Failed { wait_micros, .. } => (true, wait_micros),
        };
        if !failed {
            self.failures = 0;
            self.pause = OPEN_FIRST_MICROS;
            self.circuit = Circuit::Closed;
            return Vec::new();
        }
        self.failures = self.failures.saturating_add(1);
        let wait = asked.map(|wait| wait.min(domain::callback::MAX_RETRY_AFTER_MICROS));
        if wait.is_none() && self.failures < FAILURES && self.circuit == Circuit::Closed {
            return Vec::new();
        }
        if self.circuit == Circuit::Probing {
            self.pause = (self.pause * 2).min(OPEN_LAST_MICROS);
        }
        let until = now.saturating_add(wait.unwrap_or(self.pause));
        self.circuit = match self.circuit {
            // Of calls that were under way together, the last says how long.
            Circuit::Open(earlier) => Circuit::Open(earlier.max(until)),
            Circuit::Closed | Circuit::Probing => Circuit::Open(until),
        };
        self.waiting = 0;
        let mut drained: Vec<Item> =
            self.lanes.iter_mut().flat_map(|lane| lane.queue.drain(..)).collect();
        drained.append(&mut self.held);
        drained
    }
}
