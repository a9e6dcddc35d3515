//! Commands on their way to the committer: two bounded lanes, and apps take turns in each, so
//! that neither a flood of chunks nor one busy app holds up the others.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{Append, Decide, facts::Key};
use tokio::sync::{Notify, oneshot};

use super::{Context, Done, Refused};

/// Commands that may wait in the interactive lane before callers are turned away.
const MAX_INTERACTIVE: usize = 8_192;
/// Commands that may wait in the bulk lane before producers are held back.
const MAX_BULK: usize = 4_096;
/// Commands of one group. A command makes at most three or four events.
const MAX_GROUP: usize = 1_500;

/// Which lane a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer; turned away when full.
    Interactive,
    /// Outcomes and other work of the server itself; held back when full.
    Bulk,
}

/// A command with the channel for its answer.
pub(super) struct Job {
    pub(super) command: Arc<dyn Decide + Send + Sync>,
    pub(super) context: Context,
    pub(super) prepared: Option<Prepared>,
    pub(super) reply: oneshot::Sender<Result<Done, Refused>>,
}

/// A decision that was made outside the transaction, and what it rests on.
pub(super) struct Prepared {
    pub(super) as_of: i64,
    pub(super) keys: Vec<Key>,
    pub(super) appends: Vec<Append>,
}

/// The two lanes.
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    arrived: Notify,
    taken: Notify,
}

#[derive(Default)]
struct Lanes {
    interactive: Turns,
    bulk: Turns,
    closed: bool,
}

/// Jobs by app, and whose turn it is.
#[derive(Default)]
struct Turns {
    by_app: HashMap<String, VecDeque<Job>>,
    order: VecDeque<String>,
    count: usize,
}

impl Turns {
    fn push(&mut self, job: Job) {
        self.count += 1;
        if let Some(jobs) = self.by_app.get_mut(&job.context.app) {
            jobs.push_back(job);
            return;
        }
        let app = job.context.app.clone();
        self.order.push_back(app.clone());
        self.by_app.insert(app, VecDeque::from([job]));
    }

    fn pop(&mut self) -> Option<Job> {
        let app = self.order.pop_front()?;
        let jobs = self.by_app.get_mut(&app)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.by_app.remove(&app);
        } else {
            self.order.push_back(app);
        }
        self.count -= 1;
        Some(job)
    }

    fn take(&mut self, most: usize, into: &mut Vec<Job>) {
        into.extend(std::iter::from_fn(|| self.pop()).take(most));
    }
}

impl Queue {
    pub(super) fn new() -> Queue {
        Queue { lanes: Mutex::default(), arrived: Notify::new(), taken: Notify::new() }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a command; waits for room in the bulk lane only.
    pub(super) async fn push(&self, lane: Lane, job: Job) -> Result<(), Refused> {
        loop {
            let taken = self.taken.notified();
            {
                let mut lanes = self.lanes();
                if lanes.closed {
                    return Err(Refused::Closing);
                }
                let (turns, most) = match lane {
                    Lane::Interactive => (&mut lanes.interactive, MAX_INTERACTIVE),
                    Lane::Bulk => (&mut lanes.bulk, MAX_BULK),
                };
                if turns.count < most {
                    turns.push(job);
                    drop(lanes);
                    self.arrived.notify_one();
                    return Ok(());
                }
            }
            if lane == Lane::Interactive {
                return Err(Refused::Overloaded);
            }
            taken.await;
        }
    }

    /// Everything that waits, up to a group; `None` once closed and empty.
    pub(super) async fn take_group(&self) -> Option<Vec<Job>> {
        loop {
            let mut group = Vec::new();
            {
                let mut lanes = self.lanes();
                // Bulk gets at least a quarter, and all that interactive leaves.
                let bulk = lanes.bulk.count.min(MAX_GROUP / 4);
                lanes.interactive.take(MAX_GROUP - bulk, &mut group);
                let left = MAX_GROUP - group.len();
                lanes.bulk.take(left, &mut group);
                if group.is_empty() && lanes.closed {
                    return None;
                }
            }
            if !group.is_empty() {
                self.taken.notify_waiters();
                return Some(group);
            }
            self.arrived.notified().await;
        }
    }

    pub(super) fn waiting(&self) -> (usize, usize) {
        let lanes = self.lanes();
        (lanes.interactive.count, lanes.bulk.count)
    }

    pub(super) fn close(&self) {
        self.lanes().closed = true;
        self.arrived.notify_one();
        self.taken.notify_waiters();
    }
}
