//! What is asked of the statistics, and the answer read from the views in one snapshot: deliveries by
//! bucket of acceptance and by keys. Buckets of days and weeks are those of the caller's time zone.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use domain::{
    message::{Ending, MessageId, Protocol},
    task::state::Way,
    vendor::Vendor,
};
use projections::{
    Fault,
    db::Conn,
    delivery_stats::{
        self, BUCKET_MICROS, LatencyRow, ROLLED_MICROS, Span, SumRow, latencies_of_tasks,
        sums_of_tasks,
    },
    device_kinds::{self, Kind, KindRow},
    live::LiveViews,
};

use super::{as_of, tally::Tally};

/// Longest range, in days.
pub const MAX_DAYS: i64 = 1_100;
/// Rows of a view that one answer adds up, at most.
pub(super) const MAX_ROWS: i64 = 200_000;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// The first day of the epoch was a Thursday; weeks begin on Mondays.
const THURSDAY: i64 = 3 * DAY;

/// Length of a bucket of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// A quarter of an hour.
    Quarter,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week from Monday on.
    Week,
    /// All of the range.
    Total,
}

/// What deliveries are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The protocol.
    Protocol,
    /// The way.
    Channel,
    /// The push vendor; none of our own channel.
    Vendor,
    /// Why it stopped trying.
    Reason,
    /// The task; none of a message.
    Task,
    /// The label that it went to.
    Label,
    /// What kind of device it went to; none where the device's protocol does not say.
    DeviceType,
    /// The app package of the device; none where its protocol does not say.
    AppPackage,
}

/// What is counted; an absent list is all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of these protocols.
    pub protocols: Option<Vec<Protocol>>,
    /// On these ways.
    pub ways: Option<Vec<Way>>,
    /// Ended for these reasons.
    pub reasons: Option<Vec<Ending>>,
    /// Of these tasks.
    pub tasks: Option<Vec<MessageId>>,
    /// Of tasks to these labels.
    pub labels: Option<Vec<String>>,
    /// To devices of these types.
    pub device_types: Option<Vec<String>>,
    /// To devices of these app packages.
    pub app_packages: Option<Vec<String>>,
}

/// A question.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Begin of the range in µs, at a quarter of an hour.
    pub from: i64,
    /// Its end, at a quarter of an hour; not part of it.
    pub to: i64,
    /// Length of a bucket.
    pub bucket: Bucket,
    /// What deliveries are told apart by.
    pub keys: Vec<Key>,
    /// What is counted.
    pub filter: Filter,
    /// The caller's time zone.
    pub zone: Tz,
    /// Whether times of steps are wanted.
    pub times: bool,
    /// Ledger position as of which it is asked; where the views are if absent.
    pub as_of: Option<i64>,
}

/// Deliveries that are counted together. Only asked keys are set.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Begin of the bucket in µs.
    pub begins: Option<i64>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// The way.
    pub way: Option<Way>,
    /// The vendor.
    pub vendor: Option<Vendor>,
    /// Why they stopped trying.
    pub reason: Option<Ending>,
    /// The label.
    pub label: Option<String>,
    /// The task.
    pub task: Option<i64>,
    /// The device type.
    pub device_type: Option<String>,
    /// The app package.
    pub app_package: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Ledger position that it includes, exactly.
    pub position: i64,
    /// Counts by group, in order.
    pub groups: BTreeMap<Group, Tally>,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The question is wrong, or asks for too much.
    #[error("{0}")]
    Refused(String),
}

impl NoAnswer {
    pub(super) fn refused(why: impl Into<String>) -> NoAnswer {
        NoAnswer::Refused(why.into())
    }
}

impl Asked {
    /// A question about a range, in which quarters of an hour are whole.
    ///
    /// # Errors
    /// [`NoAnswer::Refused`] for a range or a time zone that makes no sense.
    pub fn new(
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        bucket: Bucket,
        keys: Vec<Key>,
        filter: Filter,
        zone: Option<&str>,
    ) -> Result<Asked, NoAnswer> {
        let zone = zone.unwrap_or("UTC");
        let zone: Tz = zone
            .parse()
            .map_err(|_| NoAnswer::refused(format!("timeZone: no zone is called {zone:.64}")))?;
        let from = from.timestamp_micros().max(0);
        let from = from - from.rem_euclid(BUCKET_MICROS);
        let longest = from.saturating_add(MAX_DAYS * DAY);
        let to = to.timestamp_micros();
        let to = to.saturating_add((-to).rem_euclid(BUCKET_MICROS));
        if to <= from {
            return Err(NoAnswer::refused("range: its end must be after its begin"));
        }
        if to > longest {
            return Err(NoAnswer::refused(format!("range: at most {MAX_DAYS} days")));
        }
        Ok(Asked { from, to, bucket, keys, filter, zone, times: true, as_of: None })
    }

    fn by(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }

    /// Whether kinds of devices have to be told apart.
    pub(super) fn of_kinds(&self) -> bool {
        self.by(Key::DeviceType)
            || self.by(Key::AppPackage)
            || self.filter.device_types.is_some()
            || self.filter.app_packages.is_some()
    }

    /// Whether tasks have to be told from messages.
    pub(super) fn of_tasks(&self) -> bool {
        self.by(Key::Task) || self.by(Key::Label) || self.only_tasks()
    }

    /// Whether only tasks are counted.
    pub(super) fn only_tasks(&self) -> bool {
        self.filter.tasks.is_some() || self.filter.labels.is_some()
    }

    /// Whether times are wanted, and kept apart in the way that is asked for: they are not by reason.
    pub(super) fn timed(&self) -> bool {
        self.times && !self.by(Key::Reason) && self.filter.reasons.is_none()
    }

    /// The zone's distance from UTC at a time, in µs.
    fn offset(&self, at: i64) -> i64 {
        let at = DateTime::from_timestamp_micros(at).unwrap_or_default();
        let offset = self.zone.offset_from_utc_datetime(&at.naive_utc()).fix();
        i64::from(offset.local_minus_utc()) * SECOND
    }

    /// The range in pieces in which the zone's distance from UTC stays the same, and in which as long
    /// buckets are added up as fit.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for span in self.zoned() {
            roll(span, &ROLLED_MICROS, &mut spans);
        }
        spans
    }

    /// The range in pieces in which the zone's distance from UTC stays the same.
    pub(super) fn zoned(&self) -> Vec<Span> {
        let (offset, width) = match self.bucket {
            // A bucket that all of time fits into.
            Bucket::Total => {
                return vec![self.span(self.from, self.to, 0, i64::MAX / 2 / DAY * DAY)];
            }
            Bucket::Quarter => return vec![self.span(self.from, self.to, 0, BUCKET_MICROS)],
            Bucket::Hour => (0, HOUR),
            Bucket::Day => (0, DAY),
            Bucket::Week => (THURSDAY, WEEK),
        };
        let mut spans = Vec::new();
        let mut from = self.from;
        while from < self.to {
            let (own, to) = (self.offset(from), self.same_until(from));
            let shift =
                if self.bucket == Bucket::Hour { own.rem_euclid(HOUR) } else { own + offset };
            spans.push(self.span(from, to, shift, width));
            from = to;
        }
        spans
    }

    /// The first quarter of an hour after a time in which the zone's distance from UTC is another
    /// than it was then; the end of the range if there is none. A zone changes once a day at most.
    fn same_until(&self, from: i64) -> i64 {
        let own = self.offset(from);
        let mut same = from;
        while same < self.to {
            let next = (same + DAY).min(self.to);
            let mut other = next - BUCKET_MICROS;
            if self.offset(other) == own {
                same = next;
                continue;
            }
            while same < other {
                let middle = same + (other - same) / BUCKET_MICROS / 2 * BUCKET_MICROS;
                if self.offset(middle) == own {
                    same = middle + BUCKET_MICROS;
                } else {
                    other = middle;
                }
            }
            return same;
        }
        self.to
    }

    /// The same question in parts of some buckets each, in order; no bucket is in two of them.
    #[must_use]
    pub fn slices(&self, buckets: usize) -> Vec<Asked> {
        let mut slices = Vec::new();
        let mut from = self.from;
        while from < self.to && self.bucket != Bucket::Total {
            let mut to = from;
            for _ in 0..buckets {
                to = self.next(to).min(self.to);
            }
            slices.push(Asked { from, to, ..self.clone() });
            from = to;
        }
        if slices.is_empty() {
            slices.push(self.clone());
        }
        slices
    }

    /// When the bucket ends that a time lies in, in µs.
    fn next(&self, at: i64) -> i64 {
        let one = Asked { from: at, to: at + BUCKET_MICROS, ..self.clone() };
        let next = one.zoned().first().and_then(|span| {
            let number = (at + span.offset) / span.width;
            self.begins(*span, number + 1)
        });
        next.filter(|next| *next > at).unwrap_or(at + BUCKET_MICROS)
    }

    fn span(&self, from: i64, to: i64, offset: i64, width: i64) -> Span {
        Span { from, to, offset, width, grain: BUCKET_MICROS, kinds: self.of_kinds() }
    }

    /// When a bucket begins, in µs, by its number.
    fn begins(&self, span: Span, number: i64) -> Option<i64> {
        match self.bucket {
            Bucket::Total => None,
            Bucket::Quarter | Bucket::Hour => Some(number * span.width - span.offset),
            Bucket::Day => Some(self.midnight(number)),
            Bucket::Week => Some(self.midnight(number * 7 - 3)),
        }
    }

    /// The first moment of a day of the zone, counted from the epoch; where a change of the zone
    /// skips midnight, the first moment after it.
    fn midnight(&self, day: i64) -> i64 {
        let epoch = NaiveDate::default();
        let days = Days::new(day.unsigned_abs());
        let date = if day < 0 { epoch - days } else { epoch + days };
        let hours = (0..4).filter_map(|hour| NaiveTime::from_hms_opt(hour, 0, 0));
        let mut moments =
            hours.filter_map(|time| self.zone.from_local_datetime(&date.and_time(time)).earliest());
        moments.next().map_or(day * DAY, |moment| moment.timestamp_micros())
    }

    fn wants(&self, row: &Row<'_>) -> bool {
        fn any<T: PartialEq>(list: &Option<Vec<T>>, own: Option<&T>) -> bool {
            list.as_ref().is_none_or(|list| own.is_some_and(|own| list.contains(own)))
        }
        fn among(list: &Option<Vec<String>>, own: Option<&str>) -> bool {
            list.as_ref()
                .is_none_or(|list| own.is_some_and(|own| list.iter().any(|one| one == own)))
        }
        let task = row.task.map(MessageId);
        any(&self.filter.protocols, Some(&row.protocol))
            && any(&self.filter.ways, Some(&row.way))
            && (!row.counts || any(&self.filter.reasons, row.reason.as_ref()))
            && any(&self.filter.tasks, task.as_ref())
            && among(&self.filter.labels, row.label)
            && among(&self.filter.device_types, told(row.kind, |kind| &kind.device_type))
            && among(&self.filter.app_packages, told(row.kind, |kind| &kind.app_package))
    }

    fn group(&self, span: Span, bucket: i64, row: &Row<'_>) -> Group {
        let vendor = match row.way {
            Way::Vendor(vendor) => Some(vendor),
            Way::Online | Way::Undecided => None,
        };
        Group {
            begins: self.begins(span, bucket),
            protocol: Some(row.protocol).filter(|_| self.by(Key::Protocol)),
            way: Some(row.way).filter(|_| self.by(Key::Channel)),
            vendor: vendor.filter(|_| self.by(Key::Vendor)),
            reason: row.reason.filter(|_| self.by(Key::Reason)),
            label: row.label.map(str::to_owned).filter(|_| self.by(Key::Label)),
            task: row.task.filter(|_| self.by(Key::Task)),
            device_type: told(row.kind, |kind| &kind.device_type)
                .filter(|_| self.by(Key::DeviceType))
                .map(str::to_owned),
            app_package: told(row.kind, |kind| &kind.app_package)
                .filter(|_| self.by(Key::AppPackage))
                .map(str::to_owned),
        }
    }
}

/// Splits a span: into its middle, in buckets as long as fit, and what is left at both ends.
fn roll(span: Span, grains: &[i64], spans: &mut Vec<Span>) {
    let Some((grain, shorter)) = grains.split_last() else {
        if span.from < span.to {
            spans.push(span);
        }
        return;
    };
    let from = span.from + (-span.from).rem_euclid(*grain);
    let to = span.to - span.to.rem_euclid(*grain);
    if span.offset % grain != 0 || span.width % grain != 0 || from >= to {
        return roll(span, shorter, spans);
    }
    roll(Span { to: from, ..span }, shorter, spans);
    spans.push(Span { from, to, grain: *grain, ..span });
    roll(Span { from: to, ..span }, shorter, spans);
}

/// What a row of a view is told apart by.
struct Row<'a> {
    protocol: Protocol,
    way: Way,
    reason: Option<Ending>,
    task: Option<i64>,
    label: Option<&'a str>,
    kind: Option<&'a KindRow>,
    /// Whether it counts deliveries, and not times.
    counts: bool,
}

/// What is told of a kind of device, if anything is.
fn told(kind: Option<&KindRow>, of: impl Fn(&KindRow) -> &String) -> Option<&str> {
    kind.map(|kind| of(kind).as_str()).filter(|text| !text.is_empty())
}

/// Rows of tasks, each with its label, and of what is no task's.
pub(super) type Rows<T> = Vec<(Option<i64>, Option<String>, T)>;

/// A question while it is answered.
pub(super) struct Reading<'a> {
    pub(super) app: &'a str,
    pub(super) asked: &'a Asked,
    kinds: BTreeMap<Kind, KindRow>,
    groups: BTreeMap<Group, Tally>,
}

/// Answers a question about an app.
///
/// # Errors
/// [`NoAnswer`] when the database fails, or the question asks for too much.
pub async fn read(views: &LiveViews, app: &str, asked: &Asked) -> Result<Answer, NoAnswer> {
    let mut snapshot = views.snapshot().await?;
    let mut conn = snapshot.conn();
    let position = delivery_stats::position(&mut conn).await?;
    let kinds = match asked.of_kinds() {
        true => device_kinds::kinds(&mut conn, app).await?,
        false => BTreeMap::new(),
    };
    let mut reading = Reading { app, asked, kinds, groups: BTreeMap::new() };
    match asked.as_of {
        Some(as_of) if as_of > position => {
            let behind = format!("the views have not reached position {as_of} yet");
            return Err(NoAnswer::refused(behind));
        }
        Some(as_of) => as_of::read(&mut conn, &mut reading, as_of).await?,
        None => {
            for span in asked.spans() {
                count(&mut conn, &mut reading, span).await?;
                if asked.timed() {
                    measure(&mut conn, &mut reading, span).await?;
                }
            }
        }
    }
    let mut groups = reading.groups;
    groups.retain(|_, tally| {
        tally.cells.retain(|_, count| *count != 0);
        !tally.cells.is_empty()
    });
    Ok(Answer { position: asked.as_of.unwrap_or(position), groups })
}

fn bounded<T>(rows: Vec<T>) -> Result<Vec<T>, NoAnswer> {
    if i64::try_from(rows.len()).is_ok_and(|rows| rows < MAX_ROWS) { Ok(rows) } else { Err(much()) }
}

/// The refusal of what is too much.
pub(super) fn much() -> NoAnswer {
    NoAnswer::refused("too much is asked for: a shorter range or longer buckets may work")
}

async fn count(conn: &mut Conn<'_>, reading: &mut Reading<'_>, span: Span) -> Result<(), NoAnswer> {
    let Reading { app, asked, .. } = *reading;
    let all = match asked.only_tasks() {
        true => Vec::new(),
        false => bounded(delivery_stats::sums(conn, app, span, MAX_ROWS).await?)?,
    };
    let key = |row: &SumRow| (row.bucket, row.protocol, row.kind, row.cell);
    let mut rest: BTreeMap<_, i64> = all.iter().map(|row| (key(row), row.deliveries)).collect();
    let mut rows: Rows<SumRow> = Vec::new();
    if asked.of_tasks() {
        let each = asked.by(Key::Task) || asked.filter.tasks.is_some();
        rows = bounded(sums_of_tasks(conn, app, span, each, MAX_ROWS).await?)?;
        // What is left over without the tasks' is the messages'.
        for (_, _, row) in &rows {
            *rest.entry(key(row)).or_default() -= row.deliveries;
        }
    }
    let rest = rest.into_iter().filter(|_| !asked.only_tasks());
    rows.extend(rest.map(|((bucket, protocol, kind, cell), deliveries)| {
        (None, None, SumRow { bucket, protocol, kind, cell, deliveries })
    }));
    reading.add_counts(span, rows);
    Ok(())
}

async fn measure(
    conn: &mut Conn<'_>,
    reading: &mut Reading<'_>,
    span: Span,
) -> Result<(), NoAnswer> {
    let Reading { app, asked, .. } = *reading;
    let all = match asked.only_tasks() {
        true => Vec::new(),
        false => bounded(delivery_stats::latencies(conn, app, span, MAX_ROWS).await?)?,
    };
    let key = |row: &LatencyRow| {
        let LatencyRow { bucket, protocol, kind, way, step, millis, .. } = *row;
        (bucket, protocol, kind, way, step, millis)
    };
    let mut rest: BTreeMap<_, i64> = all.iter().map(|row| (key(row), row.deliveries)).collect();
    let mut rows: Rows<LatencyRow> = Vec::new();
    if asked.of_tasks() {
        let each = asked.by(Key::Task) || asked.filter.tasks.is_some();
        rows = bounded(latencies_of_tasks(conn, app, span, each, MAX_ROWS).await?)?;
        for (_, _, row) in &rows {
            *rest.entry(key(row)).or_default() -= row.deliveries;
        }
    }
    let rest = rest.into_iter().filter(|_| !asked.only_tasks());
    rows.extend(rest.map(|((bucket, protocol, kind, way, step, millis), deliveries)| {
        (None, None, LatencyRow { bucket, protocol, kind, way, step, millis, deliveries })
    }));
    reading.add_times(span, rows);
    Ok(())
}

impl Reading<'_> {
    /// Counts rows of deliveries in their groups.
    pub(super) fn add_counts(&mut self, span: Span, rows: Rows<SumRow>) {
        for (task, label, SumRow { bucket, protocol, kind, cell, deliveries }) in rows {
            let (way, reason, label) = (cell.way, cell.ended, label.as_deref());
            let kind = self.kinds.get(&kind);
            let row = Row { protocol, way, reason, task, label, kind, counts: true };
            if deliveries != 0 && self.asked.wants(&row) {
                let group = self.asked.group(span, bucket, &row);
                let tally = self.groups.entry(group).or_default();
                *tally.cells.entry(cell).or_default() += deliveries;
                if self.asked.timed() {
                    tally.latencies.get_or_insert_default();
                }
            }
        }
    }

    /// Counts rows of times in their groups.
    pub(super) fn add_times(&mut self, span: Span, rows: Rows<LatencyRow>) {
        for (task, label, row) in rows {
            let LatencyRow { bucket, protocol, kind, way, step, millis, deliveries } = row;
            let (label, kind) = (label.as_deref(), self.kinds.get(&kind));
            let told = Row { protocol, way, reason: None, task, label, kind, counts: false };
            if deliveries == 0 || !self.asked.wants(&told) {
                continue;
            }
            let group = self.asked.group(span, bucket, &told);
            let tally = self.groups.entry(group).or_default();
            let times = tally.latencies.get_or_insert_default().entry(step).or_default();
            *times.entry(millis).or_default() += deliveries;
        }
    }
}
