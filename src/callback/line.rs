//! What waits for one receiver in memory, and whether it may be called: lanes in which callbacks go
//! out one call after the other, what is held back until earlier ones came from the view, and the
//! circuit. It does nothing by itself: [`receiver`](super::receiver) asks it, tells it the time in µs,
//! and does what it says. So every decision is here, and can be tried without a server.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use domain::{
    Recorded,
    callback::{MAX_RETRY_AFTER_MICROS, Outcome, Policy, Reason, State, Verdict},
};

use super::{
    budget::Share,
    kind::{Endpoint, Entry},
};

/// Callbacks that wait in memory for one receiver; others wait in the view.
pub(super) const QUEUE: usize = 1_024;
/// Bytes of them, at most; one alone may be longer.
pub(super) const QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Callbacks of an ordered kind that are held in memory until those before them, which wait in the
/// view, are taken up.
const HELD: usize = 4_096;
/// How long a callback that is not recorded yet may wait in memory, in µs: the checkpoint waits for
/// it.
pub(super) const LATE_MICROS: i64 = 2_000_000;
/// Bytes of one call's callbacks, at most; one alone may be longer.
const BATCH_BYTES: usize = 1024 * 1024;
/// Callbacks that are worded at once.
pub(super) const DESK: usize = 64;
/// Callbacks that are read from the view at once.
pub(super) const PAGE: usize = 256;
/// Calls in a row that may fail before the circuit opens.
const FAILURES: u32 = 10;
/// How long a circuit stays open before a callback probes it, at first and at most, in µs.
const OPEN_FIRST_MICROS: i64 = 5_000_000;
const OPEN_LAST_MICROS: i64 = 60_000_000;

/// A callback on its way.
#[derive(Debug)]
pub(super) struct Item {
    /// Position of the event that it is about.
    pub(super) position: i64,
    pub(super) what: What,
    /// Bytes of it.
    pub(super) bytes: usize,
    /// Calls so far.
    pub(super) calls: u32,
    /// Whether the view has it.
    pub(super) again: bool,
    /// Whether it may be held in memory behind others that wait in the view.
    pub(super) hold: bool,
    /// Whether it finds out if an open circuit may be closed.
    pub(super) probe: bool,
    /// When it was taken up, in µs.
    pub(super) since: i64,
    #[expect(dead_code, reason = "it is given back when this is dropped")]
    pub(super) share: Share,
}

/// What a callback says.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// It is worded.
    Said(Vec<Entry>),
    /// It will be, from this event.
    Event(Arc<Recorded>),
}

impl Item {
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.what {
            What::Said(entries) => entries,
            What::Event(_) => &[],
        }
    }
}

/// Where a callback went.
#[derive(Debug)]
#[must_use]
pub(super) enum Placed {
    /// Somebody will come to it.
    Waits,
    /// It is the first in that lane, on which somebody has to work from now on.
    Lane(usize),
    /// It is the first of those that are to be worded.
    Desk,
    /// These have to wait in the view instead, for a reason.
    Leaves(Vec<Item>, Reason),
}

#[derive(Debug, Default)]
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
    /// One batch finds out.
    Probing,
}

/// What is known of the callbacks that wait in the view.
#[derive(Debug)]
struct View {
    /// Whether there may be some that are not in memory too.
    any: bool,
    /// Position of the newest event whose callback left memory for it: what comes before that cannot
    /// be held to come after it.
    newest: i64,
    /// Position at which it knows of all that others recorded.
    until: i64,
    /// When to look for what is due, in µs.
    look_at: i64,
    /// Positions at which it does not show yet how things are.
    stale: BTreeMap<i64, Stale>,
}

/// A callback of which the view does not know what came.
#[derive(Debug)]
struct Stale {
    /// Whether it will be found to wait; else it is in memory, or settled.
    waits: bool,
    /// Position of the record that says so, once there is one.
    record: Option<i64>,
}

/// What to look for in the view.
#[derive(Debug)]
pub(super) struct Look {
    /// So many at most.
    pub(super) room: usize,
    /// Not these.
    pub(super) known: Vec<i64>,
    /// Only those of events before this position.
    pub(super) before: i64,
}

/// All of this for one receiver.
#[derive(Debug)]
pub(super) struct Line {
    policy: Policy,
    endpoint: Option<Arc<Endpoint>>,
    lanes: Vec<Lane>,
    /// What is not worded yet.
    desk: Lane,
    /// What comes after all that waits in the view.
    held: Vec<Item>,
    /// Callbacks in lanes and on the desk, without those that are being called about.
    waiting: usize,
    /// Bytes of those and of what is held.
    bytes: usize,
    failures: u32,
    circuit: Circuit,
    /// How long the circuit stays open the next time.
    pause: i64,
    view: View,
    closed: bool,
}

impl Line {
    pub(super) fn new(policy: Policy) -> Line {
        Line {
            policy,
            endpoint: None,
            lanes: (0..policy.lanes.max(1)).map(|_| Lane::default()).collect(),
            desk: Lane::default(),
            held: Vec::new(),
            waiting: 0,
            bytes: 0,
            failures: 0,
            circuit: Circuit::Closed,
            pause: OPEN_FIRST_MICROS,
            view: View {
                any: false,
                newest: 0,
                until: 0,
                look_at: i64::MAX,
                stale: BTreeMap::new(),
            },
            closed: false,
        }
    }

    /// Takes over how the app has the receiver now, if it still has it.
    pub(super) fn configured(&mut self, endpoint: Option<&Arc<Endpoint>>, now: i64) {
        match (&self.endpoint, endpoint) {
            (Some(own), Some(new)) if Arc::ptr_eq(own, new) => return,
            (Some(own), Some(new)) if own.is_called_like(new) => {}
            // What it is now is not to blame for what it was.
            (_, Some(_)) => self.try_soon(now),
            (_, None) => (self.failures, self.circuit) = (0, Circuit::Closed),
        }
        self.endpoint = endpoint.cloned();
    }

    /// Lets an open circuit be probed at once. What was kept still goes first.
    pub(super) fn try_soon(&mut self, now: i64) {
        (self.failures, self.pause) = (0, OPEN_FIRST_MICROS);
        if let Circuit::Open(_) = self.circuit {
            self.circuit = Circuit::Open(now);
        }
    }

    /// Takes a callback that no record says anything about; `full` says that no more fits into memory.
    /// What is not worded is worded first, as it may turn out to be none, and comes again.
    pub(super) fn place(&mut self, item: Item, full: bool) -> Placed {
        let worded = matches!(item.what, What::Said(_));
        let reason = if self.closed {
            Reason::Stopped
        } else if worded && self.circuit != Circuit::Closed {
            Reason::CircuitOpen
        } else if worded && self.policy.ordered && self.view.any {
            let hold = item.hold && item.position > self.view.newest;
            if hold && !full && self.held.len() < HELD && self.fits(&item) {
                self.bytes += item.bytes;
                self.held.push(item);
                return Placed::Waits;
            }
            Reason::Behind
        } else if full || self.waiting >= QUEUE || !self.fits(&item) {
            Reason::QueueFull
        } else {
            return self.queue(item);
        };
        let mut leaving = self.release_held();
        leaving.push(item);
        self.left(&leaving);
        Placed::Leaves(leaving, reason)
    }

    /// Notes that these will be in the view: whatever comes before they are recorded waits behind
    /// them.
    fn left<'a>(&mut self, items: impl IntoIterator<Item = &'a Item>) {
        for item in items {
            self.view.any = true;
            self.view.newest = self.view.newest.max(item.position);
        }
    }

    fn fits(&self, item: &Item) -> bool {
        self.bytes == 0 || self.bytes + item.bytes <= QUEUE_BYTES
    }

    fn release_held(&mut self) -> Vec<Item> {
        let held = std::mem::take(&mut self.held);
        self.bytes -= held.iter().map(|item| item.bytes).sum::<usize>();
        held
    }

    fn queue(&mut self, item: Item) -> Placed {
        self.waiting += 1;
        self.bytes += item.bytes;
        let lanes = self.lanes.len() as u64;
        let (lane, placed) = match &item.what {
            What::Event(_) => (&mut self.desk, Placed::Desk),
            What::Said(entries) => {
                let order = entries.first().map_or(0, |entry| entry.order);
                let index = usize::try_from(order % lanes).unwrap_or(0);
                (&mut self.lanes[index], Placed::Lane(index))
            }
        };
        lane.queue.push_back(item);
        if std::mem::replace(&mut lane.busy, true) { Placed::Waits } else { placed }
    }

    /// The next ones to word; without any nobody works on them any more.
    pub(super) fn worded_next(&mut self) -> Vec<Item> {
        let many = self.desk.queue.len().min(DESK);
        let items: Vec<Item> = self.desk.queue.drain(..many).collect();
        self.desk.busy = !items.is_empty();
        self.went(&items);
        items
    }

    /// The next call's callbacks; without any nobody works on the lane any more.
    pub(super) fn batch(&mut self, index: usize) -> Vec<Item> {
        let lane = &mut self.lanes[index];
        let (mut batch, mut entries, mut bytes): (Vec<Item>, _, _) = (Vec::new(), 0, 0);
        while entries < self.policy.batch {
            let fits = |item: &mut Item| match batch.first() {
                None => true,
                Some(first) => {
                    first.calls == item.calls
                        && entries + item.entries().len() <= self.policy.batch
                        && bytes + item.bytes <= BATCH_BYTES
                }
            };
            let Some(item) = lane.queue.pop_front_if(fits) else { break };
            entries += item.entries().len();
            bytes += item.bytes;
            batch.push(item);
        }
        lane.busy = !batch.is_empty();
        self.went(&batch);
        batch
    }

    /// How many of a lane wait to go with the next call.
    pub(super) fn gathered(&self, index: usize) -> usize {
        self.lanes[index].queue.len()
    }

    fn went(&mut self, items: &[Item]) {
        self.waiting -= items.len();
        self.bytes -= items.iter().map(|item| item.bytes).sum::<usize>();
    }

    /// What follows from a call for the calls after it; gives what has to wait in the view from now
    /// on. `probe` says whether this batch finds out about an open circuit: one that opens the circuit
    /// and is called again soon goes on finding out, so that its protocol's pauses hold.
    pub(super) fn judge(
        &mut self,
        verdict: Verdict,
        probe: &mut bool,
        soon: bool,
        now: i64,
    ) -> Vec<Item> {
        let wait = match verdict {
            Verdict::Accepted | Verdict::Declined | Verdict::Gone => {
                (self.failures, self.pause) = (0, OPEN_FIRST_MICROS);
                self.circuit = Circuit::Closed;
                return Vec::new();
            }
            Verdict::Failed { wait_micros, .. } => wait_micros,
        };
        let wait = wait.map(|wait| wait.min(MAX_RETRY_AFTER_MICROS));
        // Another call that worked may have closed the circuit meanwhile.
        *probe &= self.circuit == Circuit::Probing;
        self.failures = self.failures.saturating_add(1);
        match self.circuit {
            Circuit::Closed if wait.is_none() && self.failures < FAILURES => return Vec::new(),
            // It was under way before; who probes finds out.
            Circuit::Probing if !*probe => return Vec::new(),
            Circuit::Open(until) => {
                // Of calls that were under way together, the last says how long.
                let asked = wait.map_or(until, |wait| now.saturating_add(wait));
                self.circuit = Circuit::Open(until.max(asked));
            }
            Circuit::Closed | Circuit::Probing if soon => {
                (self.circuit, *probe) = (Circuit::Probing, true);
            }
            Circuit::Closed | Circuit::Probing => {
                self.circuit = Circuit::Open(now.saturating_add(wait.unwrap_or(self.pause)));
                self.pause = (self.pause * 2).min(OPEN_LAST_MICROS);
            }
        }
        self.leave()
    }

    /// Whether a batch that failed may be called again.
    pub(super) fn may_go_on(&self, probe: bool) -> bool {
        let probes = probe && self.circuit == Circuit::Probing;
        !self.closed && (probes || self.circuit == Circuit::Closed)
    }

    /// Has all that waits for a call leave memory; gives what no record says anything about. The rest
    /// is in the view, as it was.
    fn leave(&mut self) -> Vec<Item> {
        let waiting = self.lanes.iter_mut().flat_map(|lane| lane.queue.drain(..));
        let waiting: Vec<Item> = waiting.collect();
        self.went(&waiting);
        let held = self.release_held();
        let (again, mut new): (Vec<Item>, _) = waiting.into_iter().partition(|own| own.again);
        new.extend(held);
        for item in again {
            self.view.stale.remove(&item.position);
            self.view.any = true;
            self.view.look_at = 0;
        }
        self.left(&new);
        new
    }

    /// All that waits, for whatever comes of it.
    pub(super) fn take_all(&mut self) -> Vec<Item> {
        let lanes = self.lanes.iter_mut().chain([&mut self.desk]);
        let mut all: Vec<Item> = lanes.flat_map(|lane| lane.queue.drain(..)).collect();
        all.append(&mut self.held);
        (self.waiting, self.bytes) = (0, 0);
        all
    }

    /// Takes nothing any more; gives what has to wait in the view.
    pub(super) fn close(&mut self) -> Vec<Item> {
        self.closed = true;
        let mut left = self.leave();
        left.append(&mut self.take_all());
        left
    }

    /// What waited so long that the checkpoint should not wait for it any longer, each with why it
    /// waits. Of an ordered lane all that comes after it goes too.
    pub(super) fn late(&mut self, now: i64) -> Vec<(Item, Reason)> {
        let is_late = |item: &Item| !item.again && now - item.since >= LATE_MICROS;
        let mut late = Vec::new();
        for lane in &mut self.lanes {
            let Some(first) = lane.queue.iter().position(is_late) else { continue };
            let ordered = self.policy.ordered;
            let mut index = first;
            while let Some(item) = lane.queue.get(index) {
                if item.again || !(ordered || is_late(item)) {
                    index += 1;
                } else {
                    late.extend(lane.queue.remove(index).map(|item| (item, Reason::QueueFull)));
                }
            }
        }
        self.waiting -= late.len();
        self.bytes -= late.iter().map(|(item, _)| item.bytes).sum::<usize>();
        if self.held.first().is_some_and(is_late) {
            late.extend(self.release_held().into_iter().map(|item| (item, Reason::Behind)));
        }
        self.left(late.iter().map(|(item, _)| item));
        late
    }

    /// What came of a callback is on its way to the ledger.
    pub(super) fn settling(&mut self, position: i64, again: bool, state: &State) {
        let waits = state.outcome == Outcome::Postponed;
        if waits {
            self.view.any = true;
            self.view.look_at = self.view.look_at.min(state.due_at.unwrap_or(0));
        }
        if waits || again {
            self.view.stale.insert(position, Stale { waits, record: None });
        }
    }

    /// What came of a callback was recorded at a position.
    pub(super) fn recorded(&mut self, position: i64, record: i64) {
        if let Some(stale) = self.view.stale.get_mut(&position) {
            stale.record = Some(record);
        }
    }

    /// The view has, or will have at a position, something that is due at a time in µs.
    pub(super) fn kept(&mut self, position: i64, due_at: i64) {
        self.view.any = true;
        self.view.until = self.view.until.max(position);
        self.view.look_at = self.view.look_at.min(due_at);
    }

    /// Whether to look into the view, which is at a position, and for what.
    pub(super) fn look(&mut self, now: i64, views: i64) -> Option<Look> {
        self.view.stale.retain(|_, own| own.record.is_none_or(|record| record > views));
        let soon = self.view.any && self.view.look_at <= now && !self.closed;
        if !soon {
            return None;
        }
        let room = match self.circuit {
            _ if self.endpoint.is_none() => PAGE,
            Circuit::Closed if self.bytes >= QUEUE_BYTES / 2 => 0,
            Circuit::Closed => (QUEUE / 2).saturating_sub(self.waiting).min(PAGE),
            Circuit::Open(_) if self.may_probe(now) => 1,
            Circuit::Open(_) | Circuit::Probing => 0,
        };
        let waits = || self.view.stale.iter().filter(|(_, own)| own.waits);
        let before = if self.policy.ordered { waits().map(|(at, _)| *at).next() } else { None };
        let before = before.unwrap_or(i64::MAX);
        let known = || self.view.stale.keys().copied().collect();
        (room > 0).then(|| Look { room, known: known(), before })
    }

    /// Where order matters, what is still under way has to end before a callback probes.
    fn may_probe(&self, now: i64) -> bool {
        let over = matches!(self.circuit, Circuit::Open(until) if until <= now);
        over && !(self.policy.ordered && self.lanes.iter().any(|lane| lane.busy))
    }

    /// Takes a callback from the view, unless something changed since the look.
    pub(super) fn take_up(&mut self, mut item: Item, now: i64) -> Option<Placed> {
        if self.closed || !self.fits(&item) {
            return None;
        }
        if self.circuit != Circuit::Closed {
            if !self.may_probe(now) {
                return None;
            }
            (self.circuit, item.probe) = (Circuit::Probing, true);
        }
        self.view.stale.insert(item.position, Stale { waits: false, record: None });
        Some(self.queue(item))
    }

    /// What a look into the view, when it was at a position, came to: whether anything was taken up,
    /// and when the next is due. Once nothing waits there, what was held goes on.
    pub(super) fn looked(&mut self, views: i64, took: bool, next: Option<i64>) -> Vec<Placed> {
        let sure = views >= self.view.until && !self.view.stale.values().any(|own| own.waits);
        if took || !sure {
            return Vec::new();
        }
        if let Some(next) = next {
            self.view.look_at = next;
            return Vec::new();
        }
        (self.view.any, self.view.look_at) = (false, i64::MAX);
        let held = self.release_held();
        held.into_iter().map(|item| self.place(item, false)).collect()
    }

    /// Callbacks that wait in memory, and whether the circuit is open.
    pub(super) fn load(&self) -> (usize, bool) {
        (self.waiting + self.held.len(), self.circuit != Circuit::Closed)
    }

    /// Whether it matters at the moment how the app has the receiver.
    pub(super) fn waits(&self) -> bool {
        self.view.any || self.circuit != Circuit::Closed
    }

    /// Whether nothing is left that anybody would have to know.
    pub(super) fn is_over(&self) -> bool {
        let busy = self.lanes.iter().chain([&self.desk]).any(|lane| lane.busy);
        !self.waits() && !busy && self.waiting == 0 && self.view.stale.is_empty()
    }
}
