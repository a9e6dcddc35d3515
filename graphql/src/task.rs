//! A push to an audience that is not named, and what became of it.

use async_graphql::{Context, Enum, ID, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::{Stream, message::Protocol, route::Strategy};
use projections::{
    task_chunks,
    task_statistics::{Counts as Stored, TaskRow},
};

use crate::{
    Hidden as _, Sources,
    event::Event,
    loaders::{CountsOf, StreamNamed, load},
    message::{history, named},
    moment,
    statistics::{Counts, as_of, tally::Tally},
    time,
    timeline::{TimelineEntry, timeline},
    words::{ProtocolName, StrategyName, TaskStanding},
};

/// A push to a label, to a list or to everyone.
pub(crate) struct Task {
    row: TaskRow,
    as_of: Option<i64>,
}

impl Task {
    /// A task as it is now.
    pub(crate) fn now(row: TaskRow) -> Task {
        Task { row, as_of: None }
    }

    /// A task as it was at a position; nothing if it was not created yet.
    pub(crate) async fn at(sources: &Sources, row: TaskRow, position: i64) -> Result<Option<Task>> {
        let stream = Stream::Task(row.task).to_string();
        let events = moment::stream(sources, &stream, position).await?;
        Ok(row.as_of(&events).map(|row| Task { row, as_of: Some(position) }))
    }

    /// Position up to which it is told.
    fn until(&self) -> i64 {
        self.as_of.unwrap_or(i64::MAX)
    }
}

/// Who a task is for.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum TaskAudience {
    /// Every registered device of the app.
    Everyone,
    /// The devices of a label's users.
    Label,
    /// The devices of some users.
    Users,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, SimpleObject)]
pub(crate) struct TaskProgress {
    /// Position that this includes.
    pub(crate) position: i64,
    /// Where the task stands.
    pub(crate) state: TaskStanding,
    /// Devices that had their turn so far.
    pub(crate) targets: i64,
    /// Deliveries that were handed over.
    pub(crate) sent: i64,
    /// Deliveries that the devices have.
    pub(crate) received: i64,
    /// Deliveries that were shown.
    pub(crate) displayed: i64,
    /// Deliveries that their users answered.
    pub(crate) acknowledged: i64,
    /// Deliveries that stopped trying.
    pub(crate) ended: i64,
}

impl TaskProgress {
    /// The progress of a task with its counts.
    pub(crate) fn of(position: i64, row: &TaskRow, tally: &Tally) -> TaskProgress {
        use domain::message::Stage::{Acknowledged, Displayed, Received, Sent};
        TaskProgress {
            position,
            state: row.state().into(),
            targets: tally.targets(),
            sent: tally.reached(Sent),
            received: tally.reached(Received),
            displayed: tally.reached(Displayed),
            acknowledged: tally.reached(Acknowledged),
            ended: tally.ended(),
        }
    }
}

/// A push to a label, to a list or to everyone.
#[Object]
impl Task {
    /// The id that the caller got.
    async fn id(&self) -> ID {
        self.row.task.to_string().into()
    }

    /// Ledger position as of which it is told; null: now.
    async fn as_of(&self) -> Option<i64> {
        self.as_of
    }

    /// Position of its creation in the ledger.
    async fn position(&self) -> i64 {
        self.row.position
    }

    /// Who it is for.
    async fn audience(&self) -> TaskAudience {
        match self.row.kind.as_str() {
            "everyone" => TaskAudience::Everyone,
            "label" => TaskAudience::Label,
            _ => TaskAudience::Users,
        }
    }

    /// The label's name, if it is for one.
    async fn label(&self) -> Option<&str> {
        self.row.label.as_deref()
    }

    /// Protocol that it came by.
    async fn protocol(&self) -> Result<ProtocolName> {
        named(&self.row.protocol).map(|protocol: Protocol| protocol.into())
    }

    /// How it travels.
    async fn strategy(&self) -> Result<StrategyName> {
        named(&self.row.strategy).map(|strategy: Strategy| strategy.into())
    }

    /// The same as Easemob numbers it: 0 to 4.
    async fn strategy_number(&self) -> Result<i64> {
        named(&self.row.strategy).map(|strategy: Strategy| strategy as i64)
    }

    /// Where it stands.
    async fn state(&self) -> TaskStanding {
        self.row.state().into()
    }

    /// When it was created.
    async fn created_at(&self) -> DateTime<Utc> {
        time(self.row.created_at)
    }

    /// When it is to start; null: at once.
    async fn start_at(&self) -> Option<DateTime<Utc>> {
        self.row.start_at.map(time)
    }

    /// When it started: its deliveries count as accepted then.
    async fn started_at(&self) -> Option<DateTime<Utc>> {
        self.row.started_at.map(time)
    }

    /// When it stops being worth delivering.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.row.expires_at.map(time)
    }

    /// When it ended.
    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.row.ended_at.map(time)
    }

    /// Users of its audience, once it finished.
    async fn users(&self) -> Option<i64> {
        self.row.users
    }

    /// Those of them without a device, once it finished.
    async fn users_without_device(&self) -> Option<i64> {
        self.row.unbound
    }

    /// Users that were named and that nobody knows.
    async fn unresolved(&self) -> i64 {
        self.row.unresolved
    }

    /// How far its deliveries got.
    async fn statistics(&self, ctx: &Context<'_>) -> Result<Counts> {
        if let Some(position) = self.as_of {
            let snapshot = ctx.data::<Sources>()?.views.snapshot().await;
            let (mut snapshot, app, task) = (snapshot.hidden()?, &self.row.app, self.row.task);
            let conn = &mut snapshot.conn();
            return as_of::of_task(conn, app, task, position).await.map(Counts).hidden();
        }
        let stored: Stored = load(ctx, CountsOf(self.row.task.0)).await?.unwrap_or_default();
        Tally::of_task(&stored).map(Counts).hidden()
    }

    /// Its story on one device, in order, with what each event means; empty if the device is not
    /// one of its targets.
    #[graphql(complexity = "20 * child_complexity")]
    async fn timeline(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Number of the device.")] device: i64,
    ) -> Result<Vec<TimelineEntry>> {
        let chunk = {
            let mut checkout = ctx.data::<Sources>()?.views.checkout().await.hidden()?;
            let found = task_chunks::chunk_of(&mut checkout.conn(), self.row.task, device).await;
            found.hidden()?
        };
        let Some(chunk) = chunk else { return Ok(Vec::new()) };
        let stream = Stream::Chunk(self.row.task, chunk).to_string();
        let events = load(ctx, StreamNamed(stream)).await?.unwrap_or_default();
        let known = events.partition_point(|event| event.position <= self.until());
        Ok(timeline(&events[..known], device))
    }

    /// Its own history, in order, without its chunks'.
    #[graphql(complexity = "5 * child_complexity")]
    async fn events(&self, ctx: &Context<'_>) -> Result<Vec<Event>> {
        history(ctx, Stream::Task(self.row.task), self.until()).await
    }
}
