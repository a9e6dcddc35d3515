//! Statistics as GraphQL says them: [`ask`] reads them, [`tally`] counts, [`csv`] writes the same for
//! the export. Deliveries are counted in the bucket in which they were accepted, so that each bucket
//! is a cohort: a late report changes the bucket of its delivery.

pub(crate) mod as_of;
pub mod ask;
pub mod csv;
pub mod tally;

use async_graphql::{Context, Enum, ID, InputObject, Object, OneofObject, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::message::{MessageId, Stage};
use projections::{latency::Step, message_status, task_statistics};

use crate::{
    Hidden as _, Sources,
    list::TimeRange,
    message::Message,
    time,
    words::{Channel, DeliveryEnding, DeliveryStage, ProtocolName, STAGES, VendorName},
};
use ask::{Answer, Asked, Bucket, Filter, Group, Key, NoAnswer};
use tally::Tally;

/// Rows of one answer, at most.
const MAX_GROUPS: usize = 10_000;
/// Items of one list of a filter, at most.
const MAX_WANTED: usize = 200;

/// Length of a bucket of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Bucket")]
pub(crate) enum StatsBucket {
    /// A quarter of an hour.
    Quarter,
    /// An hour of the caller's time zone.
    Hour,
    /// A day of the caller's time zone.
    Day,
    /// A week of the caller's time zone, from Monday on.
    Week,
    /// All of the range.
    Total,
}

/// What deliveries are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Key")]
pub(crate) enum StatsKey {
    /// The protocol that the push came by.
    Protocol,
    /// The way to the device.
    Channel,
    /// The push vendor; null of our own channel.
    Vendor,
    /// Why it stopped trying; null while it did not.
    Reason,
    /// The task; null of a message.
    Task,
    /// The label that a task went to; null of anything else.
    Label,
    /// What the device is (`01` to `08`), as it registered first; null where its protocol does not
    /// say. Of an app's more than 1,000 kinds of devices the later ones are `(other)`.
    DeviceType,
    /// The app package of the device, as it registered first; null where its protocol does not say.
    AppPackage,
}

/// What is counted; what is absent limits nothing. At most 200 items in a list.
#[derive(Debug, Clone, Default, InputObject)]
pub(crate) struct StatsFilter {
    /// Pushes that came by these protocols.
    protocols: Option<Vec<ProtocolName>>,
    /// Deliveries on these ways.
    channels: Option<Vec<Channel>>,
    /// Deliveries that ended for these reasons. Times of steps are then not told.
    reasons: Option<Vec<DeliveryEnding>>,
    /// Deliveries of these tasks.
    tasks: Option<Vec<ID>>,
    /// Deliveries of tasks that went to these labels.
    labels: Option<Vec<String>>,
    /// Deliveries to devices of these types.
    device_types: Option<Vec<String>>,
    /// Deliveries to devices of these app packages.
    app_packages: Option<Vec<String>>,
}

/// One of what a funnel is about.
#[derive(Debug, Clone, OneofObject)]
pub(crate) enum FunnelOf {
    /// A task by its id.
    Task(ID),
    /// A message by its id.
    Message(ID),
    /// All tasks that went to a label, by its name.
    Label(String),
    /// Everything that was accepted in a span of time.
    Range(TimeRange),
}

/// A step whose time is measured, where both of its ends were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Step")]
pub(crate) enum LatencyStep {
    /// From acceptance (of a task: from its start) until it was handed over.
    HandedOver,
    /// From acceptance until the device had it.
    Received,
    /// From then until the device showed it.
    Displayed,
    /// From then until its user answered it.
    Acknowledged,
}

/// All deliveries by what is to be said of a stage; the four add up to the targets.
#[derive(Debug, Clone, SimpleObject)]
struct StageCount {
    /// The stage.
    stage: DeliveryStage,
    /// Deliveries that got there, or further.
    reached: i64,
    /// Deliveries that may still get there, and it will be told.
    pending: i64,
    /// Deliveries that stopped trying before.
    ended: i64,
    /// Deliveries that were handed over on a way that does not tell of this stage: neither zero nor
    /// pending.
    unobservable: i64,
}

/// From one stage to another, over what could be observed.
#[derive(Debug, Clone, SimpleObject)]
struct Conversion {
    /// The first stage.
    from: DeliveryStage,
    /// The second.
    to: DeliveryStage,
    /// Deliveries that got to the first stage, on ways that tell of the second.
    base: i64,
    /// Those of them that got to the second.
    reached: i64,
    /// Their share, 0 to 1; null if there are none.
    rate: Option<f64>,
    /// Deliveries that got to the first stage on ways that do not tell of the second. They are in
    /// neither side of the rate.
    left_out: i64,
    /// Those of them whose devices told of it by themselves.
    left_out_reached: i64,
}

/// How long a step took, in ms, each right within a fifth.
#[derive(Debug, Clone, SimpleObject)]
struct Latency {
    /// The step.
    step: LatencyStep,
    /// Deliveries that were measured: both ends of the step were recorded.
    deliveries: i64,
    /// Half of them took less.
    p50: Option<i64>,
    /// 90 of 100 took less.
    p90: Option<i64>,
    /// 99 of 100 took less.
    p99: Option<i64>,
}

/// How many deliveries stopped trying for a reason.
#[derive(Debug, Clone, SimpleObject)]
struct ReasonCount {
    /// The reason.
    reason: DeliveryEnding,
    /// How many.
    deliveries: i64,
}

/// Deliveries counted.
pub(crate) struct Counts(pub(crate) Tally);

/// Deliveries counted: one message to one device each.
#[Object]
impl Counts {
    /// All deliveries: one message to one device each.
    async fn targets(&self) -> i64 {
        self.0.targets()
    }

    /// Deliveries that stopped trying, whatever they had got to.
    async fn ended(&self) -> i64 {
        self.0.ended()
    }

    /// What is to be said of each stage, in order.
    #[graphql(complexity = "6 * child_complexity")]
    async fn stages(&self) -> Vec<StageCount> {
        STAGES.into_iter().map(|stage| count(&self.0, stage)).collect()
    }

    /// What is to be said of one stage.
    async fn stage(&self, #[graphql(desc = "The stage.")] of: DeliveryStage) -> StageCount {
        count(&self.0, of.into())
    }

    /// Deliveries that stopped trying, by reason.
    #[graphql(complexity = "10 * child_complexity")]
    async fn reasons(&self) -> Vec<ReasonCount> {
        reasons(&self.0, false)
    }

    /// From one stage to another, over what could be observed.
    async fn conversion(
        &self,
        #[graphql(desc = "The stage that deliveries are counted from.")] from: DeliveryStage,
        #[graphql(desc = "A later stage.")] to: DeliveryStage,
    ) -> Result<Conversion> {
        let (begin, end): (Stage, Stage) = (from.into(), to.into());
        if begin >= end {
            return Err("to must be a later stage than from".into());
        }
        let tally::Converted { base, reached, left_out, left_out_reached } =
            self.0.conversion(begin, end);
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let rate = (base > 0).then(|| reached as f64 / base as f64);
        Ok(Conversion { from, to, base, reached, rate, left_out, left_out_reached })
    }

    /// How long each step took; null where deliveries are told apart by reason.
    #[graphql(complexity = "4 * child_complexity")]
    async fn latencies(&self) -> Option<Vec<Latency>> {
        let latency = |step| {
            let (deliveries, [p50, p90, p99]) = self.0.latency(step, [0.5, 0.9, 0.99])?;
            Some(Latency { step: step.into(), deliveries, p50, p90, p99 })
        };
        Step::ALL.into_iter().map(latency).collect()
    }

    /// The time in ms below which a share of the measured deliveries lies.
    async fn percentile(
        &self,
        #[graphql(desc = "The step.")] step: LatencyStep,
        #[graphql(desc = "0 to 1.")] share: f64,
    ) -> Result<Option<i64>> {
        if !(0.0..=1.0).contains(&share) {
            return Err("share must be 0 to 1".into());
        }
        Ok(self.0.latency(step.into(), [share]).and_then(|(_, [time])| time))
    }
}

fn count(tally: &Tally, stage: Stage) -> StageCount {
    let tally::Split { reached, pending, ended, unobservable } = tally.split(stage);
    StageCount { stage: stage.into(), reached, pending, ended, unobservable }
}

fn reasons(tally: &Tally, unsent: bool) -> Vec<ReasonCount> {
    let reasons = tally.reasons(unsent).into_iter();
    reasons.map(|(reason, deliveries)| ReasonCount { reason: reason.into(), deliveries }).collect()
}

/// Deliveries that are counted together.
pub(crate) struct StatsRow {
    group: Group,
    counts: Counts,
}

/// Deliveries of one bucket of time and one group.
#[Object]
impl StatsRow {
    /// Begin of the bucket; null of the whole range.
    async fn begins(&self) -> Option<DateTime<Utc>> {
        self.group.begins.map(time)
    }

    /// The protocol, if it was asked for.
    async fn protocol(&self) -> Option<ProtocolName> {
        self.group.protocol.map(Into::into)
    }

    /// The way, if it was asked for; null as long as there is none.
    async fn channel(&self) -> Option<Channel> {
        self.group.way.and_then(Channel::of)
    }

    /// The push vendor, if it was asked for; null of our own channel.
    async fn vendor(&self) -> Option<VendorName> {
        self.group.vendor.map(Into::into)
    }

    /// Why they stopped trying, if it was asked for; null of those that did not.
    async fn reason(&self) -> Option<DeliveryEnding> {
        self.group.reason.map(Into::into)
    }

    /// The task, if it was asked for; null of messages.
    async fn task(&self) -> Option<ID> {
        self.group.task.map(|task| task.to_string().into())
    }

    /// The label's name, if it was asked for; null of what went to none.
    async fn label(&self) -> Option<&str> {
        self.group.label.as_deref()
    }

    /// The device type, if it was asked for; null where the device's protocol does not say.
    async fn device_type(&self) -> Option<&str> {
        self.group.device_type.as_deref()
    }

    /// The app package, if it was asked for; null where the device's protocol does not say.
    async fn app_package(&self) -> Option<&str> {
        self.group.app_package.as_deref()
    }

    /// The counts.
    async fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Statistics of deliveries by when they were accepted. Buckets and groups without any are left out.
#[derive(SimpleObject)]
pub(crate) struct DeliveryStats {
    /// Ledger position that this includes, exactly: everything up to it and nothing after.
    pub(crate) position: i64,
    /// Begin of the range, at a quarter of an hour.
    from: DateTime<Utc>,
    /// End of the range, at a quarter of an hour; not part of it.
    to: DateTime<Utc>,
    /// The time zone of days and weeks.
    time_zone: String,
    /// The counts of everything together.
    total: Counts,
    /// The counts of each group, in order of time.
    rows: Vec<StatsRow>,
}

/// How far deliveries got.
#[derive(SimpleObject)]
pub(crate) struct Funnel {
    /// Ledger position that this includes.
    position: i64,
    /// The counts.
    counts: Counts,
}

/// Why deliveries were not sent.
#[derive(SimpleObject)]
pub(crate) struct WhyNotSent {
    /// Ledger position that this includes, exactly.
    position: i64,
    /// All deliveries.
    targets: i64,
    /// Deliveries that were handed over.
    sent: i64,
    /// Deliveries that were not, and still may be.
    pending: i64,
    /// Deliveries that were not and will not be, by reason.
    reasons: Vec<ReasonCount>,
}

/// A question as a caller puts it at a time, in µs.
pub(crate) fn asked(
    now: i64,
    range: TimeRange,
    bucket: StatsBucket,
    keys: Vec<StatsKey>,
    filter: Option<StatsFilter>,
    zone: Option<&str>,
) -> Result<Asked> {
    fn list<T, U: From<T>>(list: Option<Vec<T>>) -> Result<Option<Vec<U>>> {
        if list.as_ref().is_some_and(|list| list.len() > MAX_WANTED) {
            return Err(format!("filter: at most {MAX_WANTED} items in a list").into());
        }
        Ok(list.map(|list| list.into_iter().map(Into::into).collect()))
    }
    let filter = filter.unwrap_or_default();
    let tasks: Option<Vec<ID>> = list(filter.tasks)?;
    let tasks = tasks.map(|tasks| tasks.iter().filter_map(|task| task.parse().ok()).collect());
    let filter = Filter {
        protocols: list(filter.protocols)?,
        ways: list(filter.channels)?,
        reasons: list(filter.reasons)?,
        tasks,
        labels: list(filter.labels)?,
        device_types: list(filter.device_types)?,
        app_packages: list(filter.app_packages)?,
    };
    let keys = keys.into_iter().map(Into::into).collect();
    // What is recorded in this very moment is part of it.
    let range = (range.from, range.to.unwrap_or_else(|| time(now + 1)));
    Asked::new(range, bucket.into(), keys, filter, zone).map_err(refusal)
}

fn refusal(no_answer: NoAnswer) -> async_graphql::Error {
    match no_answer {
        NoAnswer::Fault(fault) => match Err::<(), _>(fault).hidden() {
            Err(hidden) => hidden,
            Ok(()) => "internal error".into(),
        },
        NoAnswer::Refused(why) => why.into(),
    }
}

/// Answers a question about an app.
pub(crate) async fn stats(sources: &Sources, app: &str, asked: &Asked) -> Result<DeliveryStats> {
    let Answer { position, groups } =
        ask::read(&sources.views, app, asked).await.map_err(refusal)?;
    if groups.len() > MAX_GROUPS {
        let much =
            format!("more than {MAX_GROUPS} rows: a shorter range or longer buckets may work");
        return Err(much.into());
    }
    let mut total = Tally::default();
    for tally in groups.values() {
        total.add(tally);
    }
    let row = |(group, tally)| StatsRow { group, counts: Counts(tally) };
    Ok(DeliveryStats {
        position,
        from: time(asked.from),
        to: time(asked.to),
        time_zone: asked.zone.name().to_owned(),
        total: Counts(total),
        rows: groups.into_iter().map(row).collect(),
    })
}

/// Whether somebody looks at how long steps took. That is many rows, which are read only then.
pub(crate) fn times_are_looked_at(ctx: &Context<'_>) -> bool {
    let (total, rows) = (ctx.look_ahead().field("total"), ctx.look_ahead().field("rows"));
    let timed = |field| total.field(field).exists() || rows.field("counts").field(field).exists();
    timed("latencies") || timed("percentile")
}

/// How far the deliveries of something got; nothing if there is no such thing.
pub(crate) async fn funnel(
    sources: &Sources,
    app: &str,
    of: FunnelOf,
    as_of: Option<i64>,
) -> Result<Option<Funnel>> {
    let now = sources.history.now();
    let (position, tally) = match of {
        FunnelOf::Task(id) => {
            let Ok(task) = id.parse::<MessageId>() else { return Ok(None) };
            let position = sources.progress.position();
            let mut checkout = sources.views.checkout().await.hidden()?;
            let found = task_statistics::find(&mut checkout.conn(), app, task).await.hidden()?;
            let Some(found) = found else { return Ok(None) };
            if let Some(position) = as_of {
                if found.task.position > position {
                    return Ok(None);
                }
                let conn = &mut checkout.conn();
                let tally = as_of::of_task(conn, app, task, position).await.hidden()?;
                return Ok(Some(Funnel { position, counts: Counts(tally) }));
            }
            let counts = task_statistics::Counts { cells: found.cells, latencies: found.latencies };
            (position, Tally::of_task(&counts).hidden()?)
        }
        FunnelOf::Message(id) => {
            let Ok(message) = id.parse::<MessageId>() else { return Ok(None) };
            if let Some(position) = as_of {
                let found = Message::at(sources, app, message, position).await?;
                let tally = found.and_then(|found| found.tally());
                return Ok(tally.map(|tally| Funnel { position, counts: Counts(tally) }));
            }
            let position = sources.progress.position();
            let mut checkout = sources.views.checkout().await.hidden()?;
            let conn = &mut checkout.conn();
            let found = message_status::find(conn, app, message).await.hidden()?;
            let Some(found) = found else { return Ok(None) };
            let rows = message_status::deliveries(conn, &[message.0]).await.hidden()?;
            (position, Tally::of_message(found.accepted_at, &rows))
        }
        FunnelOf::Label(label) => {
            // Tasks of any time: what a label limits is not much.
            let range = TimeRange { from: time(now), to: None };
            let filter = StatsFilter { labels: Some(vec![label]), ..StatsFilter::default() };
            let question = asked(now, range, StatsBucket::Total, Vec::new(), Some(filter), None)?;
            let question = Asked { from: 0, as_of, ..question };
            total(sources, app, &question).await?
        }
        FunnelOf::Range(range) => {
            let question = asked(now, range, StatsBucket::Total, Vec::new(), None, None)?;
            let question = Asked { as_of, ..question };
            total(sources, app, &question).await?
        }
    };
    Ok(Some(Funnel { position, counts: Counts(tally) }))
}

/// Why deliveries that were accepted in a span of time were not sent.
pub(crate) async fn why_not_sent(
    sources: &Sources,
    app: &str,
    (range, filter): (TimeRange, Option<StatsFilter>),
    as_of: Option<i64>,
) -> Result<WhyNotSent> {
    let now = sources.history.now();
    let mut question = asked(now, range, StatsBucket::Total, Vec::new(), filter, None)?;
    (question.times, question.as_of) = (false, as_of);
    let (position, tally) = total(sources, app, &question).await?;
    let sent = tally.split(Stage::Sent);
    Ok(WhyNotSent {
        position,
        targets: tally.targets(),
        sent: sent.reached,
        pending: sent.pending,
        reasons: reasons(&tally, true),
    })
}

async fn total(sources: &Sources, app: &str, question: &Asked) -> Result<(i64, Tally)> {
    let answer = ask::read(&sources.views, app, question).await.map_err(refusal)?;
    let tally = answer.groups.into_values().next().unwrap_or_default();
    Ok((answer.position, tally))
}
