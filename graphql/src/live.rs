//! Subscriptions: what a query would answer, told again whenever it changes, and events as they come.
//! Each connection has a bounded number of [`Seats`].

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_graphql::{Context, ID, Result, Subscription as Subscribed};
use domain::{Recorded, Stream as Name, message::MessageId};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream, Stream},
};
use projections::{registry, task_statistics};

use crate::{
    Hidden as _, Sources, Viewer, access,
    app::EventFilter,
    event::Event,
    list::TimeRange,
    statistics::{self, DeliveryStats, StatsBucket, StatsFilter, StatsKey, tally::Tally},
    task::TaskProgress,
    timeline::{TimelineEntry, timeline},
};

/// Events read at once.
const PAGE: i64 = 500;
/// Longest pause between two ticks that may be asked for, in seconds.
const MAX_TICK_SECONDS: i64 = 3_600;
/// Time between two looks at a task, at least.
const TASK_PACE: Duration = Duration::from_millis(200);

/// How many subscriptions one connection may have at once.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    most: usize,
}

impl Seats {
    /// So many seats.
    #[must_use]
    pub fn new(most: usize) -> Arc<Seats> {
        Arc::new(Seats { taken: AtomicUsize::new(0), most })
    }

    fn take(self: &Arc<Seats>) -> Result<Seat> {
        if self.taken.fetch_add(1, Ordering::SeqCst) < self.most {
            return Ok(Seat(Arc::clone(self)));
        }
        self.taken.fetch_sub(1, Ordering::SeqCst);
        Err(format!("at most {} subscriptions on one connection", self.most).into())
    }
}

/// A seat that is taken, until it is dropped.
struct Seat(Arc<Seats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What can be followed.
pub struct Subscription;

type Told<T> = BoxStream<'static, Result<T>>;

/// What can be followed, over a WebSocket.
#[Subscribed]
impl Subscription {
    /// How far a task is: now, and whenever it goes on. Ends once the task has ended.
    async fn task_progress(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The app.")] app_id: String,
        #[graphql(desc = "The task.")] task_id: ID,
    ) -> Result<Told<TaskProgress>> {
        let (seat, sources) = begin(ctx, &app_id).await?;
        let task: MessageId = task_id.parse().map_err(|_| "no such task")?;
        if progress(&sources, &app_id, task).await?.is_none() {
            return Err("no such task".into());
        }
        let positions = sources.progress.positions(TASK_PACE);
        let begin = (positions, None::<TaskProgress>, sources, app_id, seat);
        Ok(stream::try_unfold(begin, move |(mut positions, last, sources, app, seat)| async move {
            use crate::words::TaskStanding::{Cancelled, Finished};
            if last.as_ref().is_some_and(|last| matches!(last.state, Finished | Cancelled)) {
                return Ok(None);
            }
            while positions.next().await.is_some() {
                let Some(now) = progress(&sources, &app, task).await? else { break };
                let told = |last: &TaskProgress| {
                    *last == TaskProgress { position: last.position, ..now.clone() }
                };
                if !last.as_ref().is_some_and(told) {
                    return Ok(Some((now.clone(), (positions, Some(now), sources, app, seat))));
                }
            }
            Ok(None)
        })
        .boxed())
    }

    /// The story of a message on one device: what happened, and whatever happens next.
    async fn message_timeline(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The app.")] app_id: String,
        #[graphql(desc = "The message.")] message_id: ID,
        #[graphql(desc = "Number of the device.")] device: i64,
        #[graphql(default, desc = "Position after which it begins.")] after: i64,
    ) -> Result<Told<TimelineEntry>> {
        let (seat, sources) = begin(ctx, &app_id).await?;
        let message: MessageId = message_id.parse().map_err(|_| "no such message")?;
        let stream = Name::Message(message).to_string();
        let first = sources.history.stream(&stream, 0, 1).await.hidden()?;
        if first.first().is_none_or(|event| event.app != app_id) {
            return Err("no such message".into());
        }
        let heads = sources.history.heads();
        let begin = (heads, 0_i64, VecDeque::new(), sources, stream, seat);
        Ok(stream::try_unfold(begin, move |state| async move {
            let (mut heads, mut version, mut waiting, sources, stream, seat) = state;
            loop {
                if let Some(entry) = waiting.pop_front() {
                    return Ok(Some((entry, (heads, version, waiting, sources, stream, seat))));
                }
                let read: Vec<Recorded> =
                    sources.history.stream(&stream, version, PAGE).await.hidden()?;
                let Some(last) = read.last() else {
                    if heads.next().await.is_none() {
                        return Ok(None);
                    }
                    continue;
                };
                version = last.version;
                let entries = timeline(&read, device).into_iter();
                waiting.extend(entries.filter(|entry| entry.position > after));
            }
        })
        .boxed())
    }

    /// Statistics: now, and again when the views have moved on.
    #[graphql(complexity = "50 + 20 * child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the field")]
    async fn delivery_stats(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The app.")] app_id: String,
        #[graphql(desc = "When they were accepted; at most 1,100 days.")] range: TimeRange,
        #[graphql(desc = "Length of a bucket of time.", default_with = "StatsBucket::Total")]
        bucket: StatsBucket,
        #[graphql(desc = "What deliveries are told apart by.", default)] group_by: Vec<StatsKey>,
        #[graphql(desc = "What is counted.")] filter: Option<StatsFilter>,
        #[graphql(desc = "IANA name of the zone of days and weeks; UTC if absent.")]
        time_zone: Option<String>,
        #[graphql(desc = "Seconds between two ticks, 1 to 3,600.", default = 1)] every_seconds: i64,
    ) -> Result<Told<DeliveryStats>> {
        let (seat, sources) = begin(ctx, &app_id).await?;
        if !(1..=MAX_TICK_SECONDS).contains(&every_seconds) {
            return Err("everySeconds must be 1 to 3600".into());
        }
        let pace = Duration::from_secs(every_seconds.unsigned_abs());
        let positions = sources.progress.positions(pace);
        // A range without an end grows with time.
        let ask = move |now| {
            let (keys, filter, zone) = (group_by.clone(), filter.clone(), time_zone.as_deref());
            statistics::asked(now, range, bucket, keys, filter, zone)
        };
        // What is wrong with the question is told at once.
        ask(sources.history.now())?;
        Ok(positions
            .then(move |_| {
                let _seat = &seat;
                let (asked, sources, app) =
                    (ask(sources.history.now()), sources.clone(), app_id.clone());
                async move { statistics::stats(&sources, &app, &asked?).await }
            })
            .boxed())
    }

    /// Events of an app from a position on, as they come. A reader that was cut off goes on after
    /// the position of the last event that it got.
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The app.")] app_id: String,
        #[graphql(desc = "Position after which they begin; the last one if absent.")] after: Option<
            i64,
        >,
        #[graphql(desc = "Events of these types; `device.*` is a family.")] types: Option<
            Vec<String>,
        >,
    ) -> Result<Told<Event>> {
        let (seat, sources) = begin(ctx, &app_id).await?;
        let mut heads = sources.history.heads();
        let head = heads.next().await.unwrap_or_default();
        let filter = EventFilter { app: app_id, types: types.unwrap_or_default() };
        Ok(followed(sources, heads, after.unwrap_or(head).max(0))
            .filter_map(move |read| {
                let _seat = &seat;
                let told = match read {
                    Ok(recorded) if filter.wants(&recorded) => {
                        Some(Event::new(&recorded).map_err(Into::into))
                    }
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                };
                async move { told }
            })
            .boxed())
    }
}

/// Every event after a position, and all that come.
fn followed(
    sources: Sources,
    heads: BoxStream<'static, i64>,
    after: i64,
) -> impl Stream<Item = Result<Recorded>> + Send {
    let begin = (sources, heads, after, Vec::new().into_iter());
    stream::try_unfold(begin, |(sources, mut heads, mut after, mut read)| async move {
        loop {
            if let Some(recorded) = read.next() {
                return Ok(Some((recorded, (sources, heads, after, read))));
            }
            let (more, last) = sources.history.after(after, PAGE).await.hidden()?;
            match last {
                Some(last) => (after, read) = (last, more.into_iter()),
                None if heads.next().await.is_none() => return Ok(None),
                None => {}
            }
        }
    })
}

/// A seat, for a viewer who may see an app that is there.
async fn begin(ctx: &Context<'_>, app_id: &str) -> Result<(Seat, Sources)> {
    let (sources, viewer) = (ctx.data::<Sources>()?, ctx.data::<Viewer>()?);
    let seat = ctx.data::<Arc<Seats>>()?.take()?;
    let known = viewer.sees(app_id) && {
        let mut checkout = sources.registry.checkout().await.hidden()?;
        let apps = registry::apps(&mut checkout.conn()).await.hidden()?;
        apps.iter().any(|app| !app.deleted && app.config.app_id == app_id)
    };
    if !viewer.sees(app_id) {
        access::deny(ctx, "app");
    }
    if !known {
        return Err("no such app".into());
    }
    access::into_app(ctx, app_id);
    Ok((seat, sources.clone()))
}

async fn progress(sources: &Sources, app: &str, task: MessageId) -> Result<Option<TaskProgress>> {
    let position = sources.progress.position();
    let mut checkout = sources.views.checkout().await.hidden()?;
    let found = task_statistics::find(&mut checkout.conn(), app, task).await.hidden()?;
    let Some(found) = found else { return Ok(None) };
    let counts = task_statistics::Counts { cells: found.cells, latencies: found.latencies };
    let tally = Tally::of_task(&counts).hidden()?;
    Ok(Some(TaskProgress::of(position, &found.task, &tally)))
}
