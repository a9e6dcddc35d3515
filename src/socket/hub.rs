//! The hub of a node: which devices are connected here, and a follower of the ledger that hands
//! each connection what concerns it. It holds no messages: a connection that can't keep up is told
//! to read what is kept for it instead.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use domain::{
    Event, Recorded, Stream,
    device::Device,
    message::{MessageId, Progress, RecallOp, RecallResult},
    task::chunk::ChunkDelivered,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    frames::{MessageFrame, TaskFrame},
    unanswered::{Left, Unanswered},
};
use crate::{clock::Clock, feed::follow::Follower, ledger::Ledger, metrics::Metrics};

/// Items that wait for a connection before it has to read from the database.
const QUEUE_ITEMS: usize = 256;
/// Messages that are now or never and wait for a connection; what finds no room is dropped.
const NOW_OR_NEVER: usize = 128;
/// Tasks whose frames are remembered while their chunks come by.
const TASKS: usize = 64;

type Tasks = HashMap<MessageId, TaskFrame>;

/// Something for a connection.
#[derive(Debug)]
pub(super) enum Item {
    /// A message.
    Message(Arc<MessageFrame>),
    /// A recall of a message.
    Control(MessageId, RecallOp),
    /// What an older connection of the device, which this one replaced, still waited for.
    Unanswered(Vec<Unanswered>),
}

/// A message that is kept nowhere, for a connection. It has a queue of its own, as it can't be read
/// later, and is no reason for what is kept to wait.
#[derive(Debug)]
pub(super) struct NowOrNever {
    pub(super) frame: Arc<MessageFrame>,
    /// In µs.
    pub(super) handed_at: i64,
}

/// A newer connection of the same device took over.
pub(super) const CLOSE_REPLACED: (u16, &str) = (4001, "a newer connection took over");
/// The device now has another user, or unregistered, or its app is gone.
pub(super) const CLOSE_CHANGED: (u16, &str) = (4002, "the registration changed");

struct Connection {
    number: i64,
    /// When it came, as [`Presence`](super::presence::Presence) counts the time.
    since: i64,
    app: String,
    account: Option<Uuid>,
    items: mpsc::Sender<Item>,
    now_or_never: mpsc::Sender<NowOrNever>,
    missed: Arc<Missed>,
    closing: Closing,
}

/// What found no room, and has to be read from the database.
#[derive(Default)]
pub(super) struct Missed {
    /// Position of the latest such item; 0 for none.
    position: AtomicI64,
    told: Notify,
}

impl Missed {
    fn any(&self) -> bool {
        self.position.load(Ordering::Acquire) > 0
    }

    fn note(&self, position: i64) {
        self.position.fetch_max(position, Ordering::AcqRel);
        self.told.notify_one();
    }

    /// Position up to which to read, if anything was missed; later items find room again.
    pub(super) fn take(&self) -> Option<i64> {
        Some(self.position.swap(0, Ordering::AcqRel)).filter(|position| *position > 0)
    }

    /// Returns after something was missed.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

/// Tells a connection to close, and why.
#[derive(Clone, Default)]
struct Closing {
    now: CancellationToken,
    reason: Arc<OnceLock<(u16, &'static str)>>,
}

/// A connection's end of the hub.
pub(super) struct Subscription {
    hub: Arc<Hub>,
    device: i64,
    pub(super) number: i64,
    pub(super) items: mpsc::Receiver<Item>,
    pub(super) now_or_never: mpsc::Receiver<NowOrNever>,
    pub(super) missed: Arc<Missed>,
    /// What the device's last connection waited for.
    pub(super) left: Vec<Unanswered>,
    /// Everything up to this position has to be read; what follows comes as items.
    pub(super) from: i64,
    /// Cancelled when the connection has to close.
    pub(super) closed: CancellationToken,
    reason: Arc<OnceLock<(u16, &'static str)>>,
}

impl Subscription {
    /// Why it has to close.
    pub(super) fn reason(&self) -> (u16, &'static str) {
        self.reason.get().copied().unwrap_or(CLOSE_REPLACED)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut connections = self.hub.connections();
        if connections.get(&self.device).is_some_and(|own| own.number == self.number) {
            connections.remove(&self.device);
            self.hub.metrics.connections.dec();
            drop(connections);
            self.hub.changed().insert(self.device);
        }
    }
}

/// What is to be known elsewhere of a device: its connection's number and when it came, or that it
/// has none any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) device: i64,
    pub(super) connection: Option<(i64, i64)>,
}

/// The connections of this node.
pub struct Hub {
    connections: Mutex<HashMap<i64, Connection>>,
    /// Devices whose connection is another than was last made known elsewhere.
    changed: Mutex<BTreeSet<i64>>,
    /// What connections that ended waited for, by device.
    left: Mutex<Left>,
    numbers: AtomicI64,
    position: AtomicI64,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Hub {
    /// A hub that hands out what comes after a position.
    #[must_use]
    pub fn new(position: i64, metrics: Arc<Metrics>, clock: Clock) -> Arc<Hub> {
        let connections = Mutex::default();
        let position = AtomicI64::new(position);
        let (changed, numbers) = (Mutex::default(), AtomicI64::new(1));
        let left = Mutex::default();
        Arc::new(Hub { connections, changed, left, numbers, position, metrics, clock })
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<i64, Connection>> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a connection that ends waited for: its device's next connection goes on with it.
    /// What none takes ends without us (`delivery/machine`).
    pub(super) fn leave(&self, device: i64, number: i64, waiting: Vec<Unanswered>, now: i64) {
        if waiting.is_empty() {
            return;
        }
        let connections = self.connections();
        match connections.get(&device).filter(|own| own.number != number) {
            // Without room for it there, it is given up.
            Some(newer) => drop(newer.items.try_send(Item::Unanswered(waiting))),
            None => self.left().keep(device, waiting, now),
        }
    }

    /// Whether a device is connected to this node.
    #[must_use]
    pub fn connected(&self, device: i64) -> bool {
        self.connections().contains_key(&device)
    }

    /// Those of some devices that are connected to this node.
    #[must_use]
    pub fn present(&self, devices: &[i64]) -> HashSet<i64> {
        let connections = self.connections();
        devices.iter().copied().filter(|device| connections.contains_key(device)).collect()
    }

    /// Takes some of what changed since it was last taken.
    pub(super) fn take_changes(&self, most: usize) -> Vec<Change> {
        let devices: Vec<i64> = {
            let mut changed = self.changed();
            std::iter::from_fn(|| changed.pop_first()).take(most).collect()
        };
        // A device is noted after it changed, so what is seen here is never older than the note.
        let connections = self.connections();
        let now = |device| connections.get(&device).map(|own| (own.number, own.since));
        devices.into_iter().map(|device| Change { device, connection: now(device) }).collect()
    }

    /// Has some devices count as changed once more.
    pub(super) fn note_changes(&self, devices: impl IntoIterator<Item = i64>) {
        self.changed().extend(devices);
    }

    /// Has every connection count as changed.
    pub(super) fn note_all(&self) {
        let devices: Vec<i64> = self.connections().keys().copied().collect();
        self.note_changes(devices);
    }

    /// Closes a connection because of a newer one at another node; false if it is not there.
    pub(super) fn replaced(&self, device: i64, number: i64) -> bool {
        let connections = self.connections();
        let own = connections.get(&device).filter(|own| own.number == number);
        own.inspect(|own| close(own, CLOSE_REPLACED)).is_some()
    }

    /// How far the hub has read.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    /// Adds a connection; an older one of the same device is closed.
    pub(super) fn subscribe(self: &Arc<Self>, app: &str, of: &Device, since: i64) -> Subscription {
        let (device, account, app) = (of.number, of.account, app.to_owned());
        let (items_to, items) = mpsc::channel(QUEUE_ITEMS);
        let (now_or_never_to, now_or_never) = mpsc::channel(NOW_OR_NEVER);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let missed = Arc::<Missed>::default();
        let closing = Closing::default();
        let (closed, reason) = (closing.now.clone(), Arc::clone(&closing.reason));
        let connection = Connection {
            number,
            since,
            app,
            account,
            items: items_to,
            now_or_never: now_or_never_to,
            missed: Arc::clone(&missed),
            closing,
        };
        let mut connections = self.connections();
        match connections.insert(device, connection) {
            Some(older) => close(&older, CLOSE_REPLACED),
            None => {
                self.metrics.connections.inc();
            }
        }
        // The position is moved under the same lock, after what it covers was handed out.
        let from = self.position();
        let left = self.left().take(device);
        drop(connections);
        self.changed().insert(device);
        let hub = Arc::clone(self);
        Subscription {
            hub,
            device,
            number,
            items,
            now_or_never,
            missed,
            left,
            from,
            closed,
            reason,
        }
    }

    /// Follows the ledger until told to stop.
    pub async fn follow(self: Arc<Self>, ledger: Ledger, stop: CancellationToken) {
        let mut follower = Follower::new(&ledger, self.position());
        let mut tasks = Tasks::new();
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = follower.next() => batch,
            };
            match batch {
                Ok(batch) => {
                    self.learn(&ledger, batch.events(), &mut tasks).await;
                    self.hand_out(batch.events(), batch.last(), &tasks);
                }
                Err(fault) => {
                    tracing::error!(%fault, "the gateway cannot read the ledger");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Makes the frames of tasks that some events put on our own channel.
    async fn learn(&self, ledger: &Ledger, events: &[Recorded], tasks: &mut Tasks) {
        if self.connections().is_empty() {
            return;
        }
        for recorded in events {
            let (Stream::Chunk(task, _), Event::ChunkDelivered(e)) =
                (&recorded.stream, &recorded.event)
            else {
                continue;
            };
            if tasks.contains_key(task) || !e.online() {
                continue;
            }
            if tasks.len() >= TASKS {
                tasks.clear();
            }
            match TaskFrame::of(ledger, *task).await {
                Ok(Some(frame)) => drop(tasks.insert(*task, frame)),
                // Connections read it for themselves.
                Ok(None) => {}
                Err(fault) => tracing::error!(%fault, %task, "the frame of a task cannot be made"),
            }
        }
    }

    fn hand_out(&self, events: &[Recorded], last: i64, tasks: &Tasks) {
        let connections = self.connections();
        if !connections.is_empty() {
            let now = self.clock.now();
            for recorded in events {
                concern(&connections, recorded, tasks, now);
            }
        }
        self.position.store(last, Ordering::Release);
    }
}

fn concern(
    connections: &HashMap<i64, Connection>,
    recorded: &Recorded,
    tasks: &Tasks,
    handed_at: i64,
) {
    match &recorded.event {
        Event::MessageAccepted(push) => {
            if !push.strategy.online_first() {
                return;
            }
            let mut frame = None;
            for target in &push.targets {
                let Some(connection) = connections.get(&target.device) else { continue };
                let frame = frame.get_or_insert_with(|| MessageFrame::of(recorded));
                let Some(frame) = frame.clone() else { continue };
                if frame.now_or_never {
                    // Without room for it, the device counts as one that is not there.
                    drop(connection.now_or_never.try_send(NowOrNever { frame, handed_at }));
                } else {
                    hand(connection, Item::Message(frame), recorded.position);
                }
            }
        }
        // What no vendor was a way for is kept from here on: the connection reads it there.
        Event::DeliveriesAdvanced(advanced) => {
            for step in &advanced.steps {
                if let (Progress::Failed(_), Some(connection)) =
                    (step.what, connections.get(&step.device))
                {
                    connection.missed.note(recorded.position);
                }
            }
        }
        Event::ChunkDelivered(chunk) if chunk.online() => {
            hand_chunk(connections, recorded, chunk, tasks);
        }
        Event::RecallRequested(recall) => {
            let Stream::Message(id) = recorded.stream else { return };
            for recalled in &recall.results {
                if recalled.result == RecallResult::Requested
                    && let Some(connection) = connections.get(&recalled.device)
                {
                    hand(connection, Item::Control(id, recall.op), recorded.position);
                }
            }
        }
        Event::DeviceUpdated(e) => changed(connections, e.device, Some(e.account)),
        Event::DeviceReturned(e) => changed(connections, e.device, Some(e.account)),
        Event::DeviceUnregistered(e) => changed(connections, e.device, None),
        Event::AppDeleted(_) => {
            let own = connections.values().filter(|connection| connection.app == recorded.app);
            own.for_each(|connection| close(connection, CLOSE_CHANGED));
        }
        Event::AppCreated(_)
        | Event::AppChanged(_)
        | Event::AccountOpened(_)
        | Event::AccountLinked(_)
        | Event::AccountClosed(_)
        | Event::DeviceLinked(_)
        | Event::MessageFiltered(_)
        | Event::LabelCreated(_)
        | Event::LabelDeleted(_)
        | Event::LabelMembersChanged(_)
        | Event::DeviceBound(_)
        | Event::DeviceAdmitted(_)
        | Event::TokenDied(_)
        | Event::DeviceRegistered(_)
        | Event::OwnerSet(_)
        | Event::PresenceChanged(_)
        | Event::UplinkReceived(_)
        | Event::CallbacksCalled(_)
        | Event::CallbacksReplayed(_)
        | Event::SubjectErased(_)
        | Event::OwnerRemoved(_)
        | Event::TaskCreated(_)
        | Event::TaskStarted(_)
        | Event::ChunkDelivered(_)
        | Event::TaskEnded(_) => {}
    }
}

/// Hands a task to those of a chunk's devices that are connected here.
fn hand_chunk(
    connections: &HashMap<i64, Connection>,
    recorded: &Recorded,
    delivered: &ChunkDelivered,
    tasks: &Tasks,
) {
    let Stream::Chunk(task, chunk) = recorded.stream else { return };
    let frame = tasks.get(&task).map(|frame| frame.for_chunk(chunk, recorded.position));
    for (device, kind) in delivered.outcomes() {
        if kind.online()
            && let Some(connection) = connections.get(&device)
        {
            match &frame {
                Some(frame) => {
                    hand(connection, Item::Message(Arc::clone(frame)), recorded.position);
                }
                None => connection.missed.note(recorded.position),
            }
        }
    }
}

/// Closes a device's connection unless it still speaks for the same user.
fn changed(connections: &HashMap<i64, Connection>, device: i64, account: Option<Option<Uuid>>) {
    let Some(connection) = connections.get(&device) else { return };
    if account != Some(connection.account) {
        close(connection, CLOSE_CHANGED);
    }
}

fn close(connection: &Connection, reason: (u16, &'static str)) {
    // The first reason is the one that counts.
    let _ = connection.closing.reason.set(reason);
    connection.closing.now.cancel();
}

fn hand(connection: &Connection, item: Item, position: i64) {
    // Without room the connection reads what it missed from the database. Until it has begun to,
    // later items stay out too: they would overtake what it missed.
    if connection.missed.any() || connection.items.try_send(item).is_err() {
        connection.missed.note(position);
    }
}
