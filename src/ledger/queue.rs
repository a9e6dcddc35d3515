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
/// What one group has at most: commands, events, and bytes of events, as far as can be told before
/// they are decided. One command of each lane goes in however large it is, or it would wait for ever.
const GROUP: Room = Room { commands: 1_500, events: 5_000, bytes: 4 * 1024 * 1024 };

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

    fn peek(&self) -> Option<&Job> {
        self.by_app.get(self.order.front()?)?.front()
    }

    /// Takes what there is room for, in turns; `always` takes one at least.
    fn take(&mut self, room: &mut Room, mut always: bool, into: &mut Vec<Job>) {
        while let Some(left) = self.peek().and_then(|job| room.after(job, always)) {
            *room = left;
            always = false;
            into.extend(self.pop());
        }
    }
}

/// What a group has still room for.
#[derive(Debug, Clone, Copy)]
struct Room {
    commands: usize,
    events: usize,
    bytes: usize,
}

impl Room {
    fn quarter(self) -> Room {
        let Room { commands, events, bytes } = self;
        Room { commands: commands / 4, events: events / 4, bytes: bytes / 4 }
    }

    /// The room beside some commands.
    fn without(self, jobs: &[Job]) -> Room {
        jobs.iter().fold(self, |room, job| room.after(job, true).unwrap_or(room))
    }

    /// The room after one more command, if it fits or has to go.
    fn after(self, job: &Job, always: bool) -> Option<Room> {
        let (events, bytes) = (job.events(), job.command.bytes());
        let fits = self.commands > 0 && self.events >= events && self.bytes >= bytes;
        (fits || always).then(|| Room {
            commands: self.commands.saturating_sub(1),
            events: self.events.saturating_sub(events),
            bytes: self.bytes.saturating_sub(bytes),
        })
    }
}

impl Job {
    /// How many events it makes, as far as is known.
    fn events(&self) -> usize {
        self.prepared.as_ref().map_or(1, |prepared| prepared.appends.len())
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
                let (mut quarter, mut bulk) = (GROUP.quarter(), Vec::new());
                lanes.bulk.take(&mut quarter, true, &mut bulk);
                let mut room = GROUP.without(&bulk);
                lanes.interactive.take(&mut room, true, &mut group);
                lanes.bulk.take(&mut room, false, &mut bulk);
                group.append(&mut bulk);
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

#[cfg(test)]
mod tests {
    use domain::facts::{Facts, Stop};

    use super::*;

    /// A command of a size.
    struct Sized(usize);

    impl Decide for Sized {
        fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
            Ok(Vec::new())
        }

        fn bytes(&self) -> usize {
            self.0
        }
    }

    fn job(app: &str, bytes: usize) -> Job {
        let context = Context { app: app.to_owned(), ..Context::default() };
        let (reply, _) = oneshot::channel();
        Job { command: Arc::new(Sized(bytes)), context, prepared: None, reply }
    }

    /// A job whose decision has so many events.
    fn decided(app: &str, events: usize) -> Job {
        let event = domain::app::AppDeleted {}.into();
        let append = Append { stream: domain::Stream::App(app.to_owned()), version: 1, event };
        let prepared = Prepared { as_of: 0, keys: Vec::new(), appends: vec![append; events] };
        Job { prepared: Some(prepared), ..job(app, 1) }
    }

    async fn fill(queue: &Queue, lane: Lane, app: &str, jobs: usize) {
        for _ in 0..jobs {
            assert!(queue.push(lane, job(app, 1)).await.is_ok());
        }
    }

    /// How many of the next group are of each app, whose names tell the lanes apart too.
    async fn next(queue: &Queue) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for job in queue.take_group().await.unwrap_or_default() {
            *counts.entry(job.context.app).or_default() += 1;
        }
        counts
    }

    #[tokio::test]
    async fn bulk_has_a_quarter_of_a_full_group_and_whatever_interactive_leaves() {
        let queue = Queue::new();
        fill(&queue, Lane::Interactive, "now", 3_000).await;
        fill(&queue, Lane::Bulk, "bulk", 2_000).await;
        for (now, bulk) in [(1_125, 375), (1_125, 375), (750, 750), (0, 500)] {
            let counts = next(&queue).await;
            let of = |app: &str| counts.get(app).copied().unwrap_or(0);
            assert_eq!((of("now"), of("bulk")), (now, bulk));
        }
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[tokio::test]
    async fn interactive_has_all_of_a_group_while_no_bulk_waits() {
        let queue = Queue::new();
        fill(&queue, Lane::Interactive, "now", 1_600).await;
        assert_eq!(next(&queue).await["now"], 1_500);
        assert_eq!(next(&queue).await["now"], 100);
    }

    #[tokio::test]
    async fn apps_take_turns_so_that_a_busy_one_holds_nobody_up() {
        let queue = Queue::new();
        fill(&queue, Lane::Interactive, "busy", 1_600).await;
        fill(&queue, Lane::Interactive, "calm", 3).await;
        fill(&queue, Lane::Interactive, "quiet", 1).await;
        let group = queue.take_group().await.unwrap_or_default();
        let order: Vec<&str> = group.iter().map(|job| &*job.context.app).take(7).collect();
        assert_eq!(order, ["busy", "calm", "quiet", "busy", "calm", "busy", "calm"]);
        assert_eq!(group.len(), 1_500);
    }

    #[tokio::test]
    async fn interactive_is_turned_away_and_bulk_held_back_where_no_more_may_wait() {
        let queue = Queue::new();
        fill(&queue, Lane::Interactive, "now", MAX_INTERACTIVE).await;
        fill(&queue, Lane::Bulk, "bulk", MAX_BULK).await;
        let turned_away = queue.push(Lane::Interactive, job("now", 1)).await;
        assert!(matches!(turned_away, Err(Refused::Overloaded)));
        let mut held_back = std::pin::pin!(queue.push(Lane::Bulk, job("late", 1)));
        assert!(futures_util::poll!(held_back.as_mut()).is_pending());
        assert_eq!(queue.waiting(), (MAX_INTERACTIVE, MAX_BULK));
        next(&queue).await;
        assert!(held_back.await.is_ok());
        assert_eq!(queue.waiting().1, MAX_BULK - 375 + 1);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_has_and_takes_no_more() {
        let queue = Queue::new();
        fill(&queue, Lane::Interactive, "now", 1).await;
        queue.close();
        let refused = queue.push(Lane::Bulk, job("bulk", 1)).await;
        assert!(matches!(refused, Err(Refused::Closing)));
        assert_eq!(next(&queue).await["now"], 1);
        assert!(queue.take_group().await.is_none());
    }

    #[tokio::test]
    async fn a_group_has_at_most_4_mib_and_5_000_events_and_a_larger_command_is_one_by_itself() {
        let queue = Queue::new();
        for bytes in [3 << 20, 1 << 20, 1, 9 << 20, 1] {
            assert!(queue.push(Lane::Interactive, job("now", bytes)).await.is_ok());
        }
        for commands in [2, 1, 1, 1] {
            assert_eq!(next(&queue).await["now"], commands);
        }
        for events in [4_000, 1_000, 1, 6_000] {
            assert!(queue.push(Lane::Interactive, decided("now", events)).await.is_ok());
        }
        for commands in [2, 1, 1] {
            assert_eq!(next(&queue).await["now"], commands);
        }
        // A large one has its turn however much comes before it.
        fill(&queue, Lane::Interactive, "now", 2_000).await;
        assert!(queue.push(Lane::Bulk, job("bulk", 9 << 20)).await.is_ok());
        let both = HashMap::from([("bulk".to_owned(), 1), ("now".to_owned(), 1)]);
        assert_eq!(next(&queue).await, both);
        assert_eq!(next(&queue).await["now"], 1_500);
    }
}
