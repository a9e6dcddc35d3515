//! The access log: what a query read of what belongs to people, noted as it is resolved, for the
//! shell to log before it answers; and the log itself, for auditors, through a port.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_graphql::{Context, Enum, ID, Result, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    Hidden as _, Later, Viewer,
    list::{Asked, Page, TimeRange},
    time,
};

/// Subjects that are noted; of more, only how many records there were.
const MAX_SUBJECTS: usize = 17;

/// What was read since it was last taken.
#[derive(Debug, Default)]
pub struct Reading {
    /// The fields, as `device.clientId`.
    pub fields: BTreeSet<String>,
    /// Whom or what they are of, as `device:17`; a few.
    pub subjects: BTreeSet<String>,
    /// The apps that were looked into.
    pub apps: BTreeSet<String>,
    /// How many values were read.
    pub values: usize,
    /// What the viewer may not read, and asked for.
    pub denied: BTreeSet<&'static str>,
}

/// Where a query notes what it reads; one for each.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Reading>);

impl Seen {
    /// What was noted up to now; the apps stay.
    #[must_use]
    pub fn take(&self) -> Reading {
        let mut noted = self.noted();
        let apps = noted.apps.clone();
        let taken = std::mem::take(&mut *noted);
        noted.apps = apps;
        taken
    }

    fn noted(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a private field of a subject (`device`, 17) is read.
pub(crate) fn note(ctx: &Context<'_>, kind: &str, which: impl std::fmt::Display) {
    let Ok(seen) = ctx.data::<Arc<Seen>>() else { return };
    let mut noted = seen.noted();
    noted.fields.insert(format!("{kind}.{}", ctx.field().name()));
    noted.values += 1;
    if noted.subjects.len() < MAX_SUBJECTS {
        noted.subjects.insert(format!("{kind}:{which}"));
    }
}

/// Notes the app that is looked into.
pub(crate) fn into_app(ctx: &Context<'_>, app: &str) {
    if let Ok(seen) = ctx.data::<Arc<Seen>>() {
        seen.noted().apps.insert(app.to_owned());
    }
}

/// Notes that the viewer may not read that.
pub(crate) fn deny(ctx: &Context<'_>, what: &'static str) {
    if let Ok(seen) = ctx.data::<Arc<Seen>>() {
        seen.noted().denied.insert(what);
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum AccessOutcome {
    /// It was told personal data.
    Answered,
    /// It was refused, as nobody knew the caller, or the caller may not do that.
    Refused,
}

/// Which rows, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only of this app.
    pub app: Option<String>,
    /// Only of this caller.
    pub caller: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<AccessOutcome>,
    /// Only of that time or later, in µs.
    pub from: Option<i64>,
    /// Only of before that time, in µs.
    pub to: Option<i64>,
    /// Only rows of a lower number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// The log as auditors read it.
pub trait Accesses: Send + Sync {
    /// A page of it.
    fn page(&self, wanted: Wanted) -> Later<'_, Vec<AccessRow>>;
}

/// A row of the log. Times are in µs.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "they are the fields of `Access`")]
pub struct AccessRow {
    pub number: i64,
    pub at: i64,
    pub last_at: i64,
    pub outcome: AccessOutcome,
    pub caller: String,
    pub role: Option<String>,
    pub address: Option<String>,
    pub request: Option<String>,
    pub via: String,
    pub operation: String,
    pub app: Option<String>,
    pub fields: Vec<String>,
    pub subjects: Vec<String>,
    pub records: Option<i64>,
    pub calls: i64,
    pub code: Option<String>,
}

/// A call that was told personal data, or refused; or some of the same kind.
#[derive(SimpleObject)]
pub(crate) struct Access {
    /// Its number; grows.
    number: ID,
    /// When; of the first call.
    at: DateTime<Utc>,
    /// When, of the last call.
    last_at: DateTime<Utc>,
    /// What came of it.
    outcome: AccessOutcome,
    /// Whose credential it was: `operator:3`, `app:demo`, `os:root`, `nobody`.
    caller: String,
    /// The credential's role.
    role: Option<String>,
    /// The address that it came from.
    address: Option<String>,
    /// Id of the request; of the first.
    request: Option<String>,
    /// The interface.
    via: String,
    /// Route, GraphQL operation or command.
    operation: String,
    /// The app that it is about, where it is one.
    app: Option<String>,
    /// What was read, where the operation does not say it.
    fields: Vec<String>,
    /// Whom it is about, by number; empty where they are many.
    subjects: Vec<String>,
    /// Records that were told; null where that was not known beforehand.
    records: Option<i64>,
    /// Calls that the row stands for.
    calls: i64,
    /// The code that a refusal was answered with.
    code: Option<String>,
}

impl From<AccessRow> for Access {
    fn from(row: AccessRow) -> Access {
        Access {
            number: row.number.into(),
            at: time(row.at),
            last_at: time(row.last_at),
            outcome: row.outcome,
            caller: row.caller,
            role: row.role,
            address: row.address,
            request: row.request,
            via: row.via,
            operation: row.operation,
            app: row.app,
            fields: row.fields,
            subjects: row.subjects,
            records: row.records,
            calls: row.calls,
            code: row.code,
        }
    }
}

/// Which rows, as a query words it.
#[derive(async_graphql::InputObject)]
pub(crate) struct AccessFilter {
    /// Only of this app.
    app: Option<String>,
    /// Only of this caller, such as `operator:3`.
    caller: Option<String>,
    /// Only with this outcome.
    outcome: Option<AccessOutcome>,
    /// Only of this time.
    range: Option<TimeRange>,
}

/// A page of the log. Whoever is bound to one app reads what concerns that app.
pub(crate) async fn page(
    ctx: &Context<'_>,
    filter: Option<AccessFilter>,
    first: i64,
    after: Option<&str>,
) -> Result<Page<Access>> {
    let Ok(log) = ctx.data::<Arc<dyn Accesses>>() else {
        deny(ctx, "accessLog");
        return Err("this needs the role auditor".into());
    };
    let asked = Asked::new(first, after)?;
    let own = ctx.data::<Viewer>()?.app.clone();
    let filter =
        filter.unwrap_or(AccessFilter { app: None, caller: None, outcome: None, range: None });
    if [&filter.app, &filter.caller].into_iter().flatten().any(|text| text.contains('\0')) {
        return Err("no name has a NUL in it".into());
    }
    if let (Some(own), Some(app)) = (&own, &filter.app)
        && own != app
    {
        deny(ctx, "accessLog");
        return Err("this token is bound to another app".into());
    }
    let range = filter.range;
    let wanted = Wanted {
        app: own.or(filter.app),
        caller: filter.caller,
        outcome: filter.outcome,
        from: range.map(|range| range.from.timestamp_micros()),
        to: range.and_then(|range| range.to).map(|to| to.timestamp_micros()),
        before: asked.after.as_ref().map(|after| after.0),
        limit: asked.rows(),
    };
    let rows = log.page(wanted).await.hidden()?;
    if let Ok(seen) = ctx.data::<Arc<Seen>>() {
        let mut noted = seen.noted();
        noted.fields.insert("accessLog".to_owned());
        noted.values += rows.len();
    }
    Ok(asked.page(rows.into_iter().map(|row| (row.number, Access::from(row)))))
}
