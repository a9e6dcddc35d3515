//! Tasks on their way: starts those that are due, walks their audience in order of device number as
//! of the position at which it was cut, and hands it on in chunks. After a restart, or on another
//! node, it goes on behind the chunks that are recorded. A start is decided in the ledger, so a
//! task starts once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use domain::{
    Decide, Event, Metadata, Recorded, Stream,
    device::Binding,
    facts::{Fact, Key},
    message::MessageId,
    notification::Notification,
    route::Strategy,
    task::{Audience, FinishTask, StartTask, Started, Task, Totals},
};
use projections::{
    Fault,
    registry::{
        self, TaskRow,
        audience::{TargetRow, Users, named_targets, targets_after, targets_at, users_of_app},
    },
};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Machine,
    chunk::{self, Begin},
    chunk_turn::ChunkTurn,
    lane::VendorLane,
    room::{Place, Room},
    shown,
    wording::Wording,
};
use crate::{
    app::Server,
    delivery::channel::Sender,
    directory::AppEntry,
    feed::follow::Follower,
    ledger::{Context, Lane, Refused},
};

/// Chunks of one task that are sent at once; those that wait for a vendor, or for a slow one's
/// answer, are not counted.
const CHUNKS: usize = 8;
/// Tasks that are worked on at once, half of them of one app. One that waits for its vendor needs
/// little.
const TASKS: usize = 128;
/// Longest time between two looks for tasks that are due.
const LOOK: Duration = Duration::from_secs(2);
/// Time between two looks at what was committed.
const PACE: Duration = Duration::from_millis(10);
/// How often something is recorded again when the ledger fails, and the pause before each.
const RETRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// The tasks under way: what cancels each, and its job.
type Running = HashMap<MessageId, (CancellationToken, tokio::task::Id)>;

/// Works until its lease is lost. Safe to cancel: what is under way then is in the ledger.
pub(super) async fn run(machine: &Arc<Machine>, server: &Arc<Server>) -> Result<(), Fault> {
    let head = server.ledger.fresh_head().await?;
    let mut follower = Follower::new(&server.ledger, head).paced(PACE);
    let mut jobs: JoinSet<MessageId> = JoinSet::new();
    let mut running: Running = HashMap::new();
    let room = Room::of(TASKS);
    loop {
        let next = take_up(machine, server, &room, &mut jobs, &mut running).await?;
        loop {
            tokio::select! {
                batch = follower.next() => {
                    let batch = batch?;
                    let ended = batch.events().iter().filter_map(ended);
                    ended.filter_map(|task| running.get(&task)).for_each(|(token, _)| token.cancel());
                    if batch.events().iter().any(|e| matches!(e.stream, Stream::Task(_))) {
                        break;
                    }
                }
                Some(ended) = jobs.join_next(), if !jobs.is_empty() => {
                    match ended {
                        Ok(task) => drop(running.remove(&task)),
                        Err(error) => {
                            tracing::error!(%error, "a task failed");
                            running.retain(|_, (_, job)| *job != error.id());
                        }
                    }
                    break;
                }
                () = server.clock.sleep_until(next.unwrap_or(i64::MAX)), if next.is_some() => break,
                () = tokio::time::sleep(LOOK) => break,
            }
        }
    }
}

/// The task that an event ends.
fn ended(recorded: &Recorded) -> Option<MessageId> {
    match (&recorded.stream, &recorded.event) {
        (Stream::Task(task), Event::TaskEnded(_)) => Some(*task),
        _ => None,
    }
}

/// Starts what is due and goes on with what started; gives when the next is due, in µs.
async fn take_up(
    machine: &Arc<Machine>,
    server: &Arc<Server>,
    room: &Arc<Room>,
    jobs: &mut JoinSet<MessageId>,
    running: &mut Running,
) -> Result<Option<i64>, Fault> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let open = registry::open_tasks(&mut checkout.conn()).await?;
    drop(checkout);
    let mut next = None;
    for row in open {
        if running.contains_key(&row.task) {
            continue;
        }
        let now = server.clock.now();
        if let Some(start_at) = row.start_at.filter(|at| *at > now) {
            next = Some(next.map_or(start_at, |next: i64| next.min(start_at)));
            continue;
        }
        // It is looked for again when another ends.
        let Some(place) = room.enter(&row.app) else { continue };
        let cancelled = CancellationToken::new();
        let (id, token) = (row.task, cancelled.clone());
        let (machine, server) = (Arc::clone(machine), Arc::clone(server));
        let job = jobs.spawn(async move {
            let task = row.task;
            if let Err(fault) = work(&machine, &server, row, cancelled).await {
                tracing::error!(%fault, %task, "a task could not go on; it is taken up again");
                tokio::time::sleep(PAUSE).await;
            }
            drop(place);
            task
        });
        running.insert(id, (token, job.id()));
    }
    Ok(next)
}

/// Works on one task to its end.
async fn work(
    machine: &Arc<Machine>,
    server: &Arc<Server>,
    row: TaskRow,
    cancelled: CancellationToken,
) -> Result<(), Fault> {
    let (id, app) = (row.task, row.app);
    let entry = server.directory.app(&app).await.map_err(|e| Fault::stored("app", e))?;
    let Some(entry) = entry else { return Ok(()) };
    let (now, chunk_devices) = (server.clock.now(), server.chunk_devices);
    let start = StartTask { task: id, now, chunk_devices };
    must(server, &app, start).await?;
    let Fact::Task(Some(task)) = server.ledger.fact(Key::Task(id)).await? else {
        return Err(Fault::stored("task", format!("{id} is unknown")));
    };
    let Some(started) = task.started.filter(|_| task.ended.is_none()) else { return Ok(()) };
    let notification = notification(server, &task).await?;
    let wording = Wording::new(id, started.expires_at, notification);
    let sender = machine.sender(server).await?.clone();
    let job = Job {
        machine: Arc::clone(machine),
        server: Arc::clone(server),
        sender,
        entry,
        id,
        strategy: task.strategy,
        started,
        wording,
        cancelled,
        turns: Arc::new(Semaphore::new(CHUNKS)),
    };
    Arc::new(job).walk(&task.audience).await
}

/// What a vendor shows.
async fn notification(server: &Server, task: &Task) -> Result<Notification, Fault> {
    let page = server.ledger.read_at(&[task.position]).await?;
    let created = page.events.into_iter().next().map(|recorded| recorded.event);
    let Some(Event::TaskCreated(created)) = created else {
        return Err(Fault::stored("task", "its event cannot be read"));
    };
    shown(created.protocol, created.private)
}

/// A task under way.
pub(super) struct Job {
    machine: Arc<Machine>,
    pub(super) server: Arc<Server>,
    sender: Sender,
    pub(super) entry: Arc<AppEntry>,
    pub(super) id: MessageId,
    pub(super) strategy: Strategy,
    pub(super) started: Started,
    pub(super) wording: Wording,
    pub(super) cancelled: CancellationToken,
    turns: Arc<Semaphore>,
}

impl Job {
    /// The lane of the vendor that a binding leads to.
    pub(super) fn lane(&self, binding: &Binding, package: &str) -> Option<Arc<VendorLane>> {
        let config = self.entry.config.vendor_of(binding, package)?;
        let (config, channel) = self.entry.vendors.iter().find(|(own, _)| own == config)?;
        Some(self.machine.lane(&self.sender, self.entry.id(), (config, channel)))
    }

    /// Waits for a turn to send.
    pub(super) async fn turn(&self) -> ChunkTurn {
        // The semaphore is never closed.
        ChunkTurn::of(Arc::clone(&self.turns).acquire_owned().await.ok())
    }

    /// A place among the chunks whose vendor is slow, unless the app has its share of them.
    pub(super) fn slow_place(&self) -> Option<Place> {
        self.machine.slow.enter(self.entry.id())
    }

    /// Has a command decided and recorded, again and again while the ledger fails.
    pub(super) async fn must(
        &self,
        command: impl Decide + Clone + Send + Sync + 'static,
    ) -> Result<(), Fault> {
        must(&self.server, self.entry.id(), command).await
    }

    /// Walks the audience from where it got to, and ends the task once all had their turn.
    async fn walk(self: Arc<Self>, audience: &Audience) -> Result<(), Fault> {
        let mut walk = Walk::new(&self, audience).await?;
        let mut chunks: JoinSet<Result<(), Fault>> = JoinSet::new();
        let mut totals = Totals::default();
        loop {
            while let Some(ended) = chunks.try_join_next() {
                ended.map_err(|error| Fault::stored("chunk", error))??;
            }
            let turn = tokio::select! {
                () = self.cancelled.cancelled() => break,
                turn = self.turn() => turn,
            };
            let number = walk.number;
            let begin = match walk.next(&self).await? {
                None => break,
                Some(begin) => begin,
            };
            totals.chunks += 1;
            totals.devices += match &begin {
                Begin::Devices(targets) => targets.len() as u64,
                Begin::Recorded(chunk) => chunk.states.len() as u64,
            };
            chunks.spawn(chunk::deliver(Arc::clone(&self), number, begin, turn));
        }
        // Counting users takes a look at every device, so it goes along with the sending.
        let users = walk.users(&self).await;
        while let Some(ended) = chunks.join_next().await {
            ended.map_err(|error| Fault::stored("chunk", error))??;
        }
        if self.cancelled.is_cancelled() {
            return Ok(());
        }
        let Users { users, unbound } = users?;
        self.must(FinishTask { task: self.id, totals: Totals { users, unbound, ..totals } }).await
    }
}

/// A walk through an audience.
struct Walk {
    /// The next chunk.
    number: i64,
    /// The last device number of the one before.
    after: i64,
    /// Numbers that are still to come, if the audience is not everyone.
    named: Option<VecDeque<i64>>,
    users: Users,
}

impl Walk {
    async fn new(job: &Job, audience: &Audience) -> Result<Walk, Fault> {
        let mut checkout = job.server.ledger.database().ledger_read.checkout().await?;
        let named = named_targets(&mut checkout.conn(), audience, job.started.position).await?;
        let (named, users) = named.unzip();
        let (named, users) = (named.map(VecDeque::from), users.unwrap_or_default());
        Ok(Walk { number: 1, after: 0, named, users })
    }

    /// The next chunk; `None` at the end of the audience.
    async fn next(&mut self, job: &Job) -> Result<Option<Begin>, Fault> {
        let number = self.number;
        self.number += 1;
        if let Some(chunk) = job.recorded(number).await? {
            self.after = chunk.last;
            if let Some(named) = &mut self.named {
                named.retain(|number| *number > chunk.last);
            }
            return Ok(Some(Begin::Recorded(chunk)));
        }
        let targets = self.page(job).await?;
        let Some(last) = targets.last() else { return Ok(None) };
        self.after = last.number;
        Ok(Some(Begin::Devices(targets)))
    }

    async fn page(&mut self, job: &Job) -> Result<Vec<TargetRow>, Fault> {
        let (as_of, limit) = (job.started.position, job.started.chunk_devices);
        let mut checkout = job.server.ledger.database().ledger_read.checkout().await?;
        let mut conn = checkout.conn();
        match &mut self.named {
            None => targets_after(&mut conn, job.entry.id(), as_of, self.after, limit.into()).await,
            Some(named) => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(named.len());
                let numbers: Vec<i64> = named.drain(..limit).collect();
                if numbers.is_empty() {
                    return Ok(Vec::new());
                }
                targets_at(&mut conn, &numbers, as_of).await
            }
        }
    }

    async fn users(&self, job: &Job) -> Result<Users, Fault> {
        if self.named.is_some() {
            return Ok(self.users);
        }
        let mut checkout = job.server.ledger.database().ledger_read.checkout().await?;
        users_of_app(&mut checkout.conn(), job.entry.id(), job.started.position).await
    }
}

async fn execute(
    server: &Server,
    app: &str,
    command: impl Decide + Send + Sync + 'static,
) -> Result<(), Refused> {
    let metadata =
        Metadata { actor: "server".to_owned(), via: super::NAME.to_owned(), ..Metadata::default() };
    let context = Context { app: app.to_owned(), metadata };
    server.ledger.execute(Lane::Bulk, context, command).await.map(drop)
}

async fn must(
    server: &Server,
    app: &str,
    command: impl Decide + Clone + Send + Sync + 'static,
) -> Result<(), Fault> {
    let mut recorded = execute(server, app, command.clone()).await;
    for _ in 0..RETRIES {
        match &recorded {
            Err(Refused::NoRoom | Refused::Overloaded | Refused::Fault(_)) => {}
            Ok(()) | Err(Refused::Rejected(_) | Refused::Closing) => break,
        }
        tokio::time::sleep(PAUSE).await;
        recorded = execute(server, app, command.clone()).await;
    }
    recorded.map_err(|refused| Fault::stored("task", refused))
}
