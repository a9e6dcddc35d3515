//! `/{org}/{app}/push/{list/label,list,task,task/broadcast}`: pushes to a label, to a list of users
//! and to everyone, now or later. Each becomes a task. Reading how one is doing and cancelling it
//! are our own additions: the documents say that the id is for statistics, and name no call for
//! them.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{Duration, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use domain::{
    message::{MessageId, MessagePrivate, Protocol, RawJson},
    task::{TaskAudience, TaskLimits},
};
use projections::{
    Fault, histogram,
    task_statistics::{CellRow, TaskStatistics},
};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    Reply,
    errors::Problem,
    fields::{Fields, raw_json, wrong},
    gate::Call,
    message, outcome,
    push::{payload, strategy},
};
use crate::{
    app::Server,
    delivery::{
        reach::{self, Reach},
        tasks::{self, NewTask},
    },
    ledger::Done,
};

/// How soon and how late a task may be scheduled.
const SOONEST: Duration = Duration::hours(1);
const LATEST: Duration = Duration::days(30);
/// Taken from a time that clocks skip, read as UTC, this leads to before their change: no zone is so
/// far from UTC.
const SURELY_BEFORE: Duration = Duration::hours(24);
/// Form of `startDate`, in the app's zone.
const DATE: &str = "%Y-%m-%d %H:%M:%S";
/// Longest wait for the views to know a task.
const VIEWS: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) async fn to_label(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let mut labels = fields.texts("targets", 1)?;
    let label = labels.pop().ok_or_else(|| wrong("targets", "must be provided"))?;
    let (id, done) =
        create(server, call, &fields, TaskAudience::Label(label), payload(&fields)?).await?;
    Ok(Reply::data(json!({ "taskId": id.0 })).after(done))
}

pub(super) async fn to_users(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let most = usize::try_from(call.easemob().limits.targets).unwrap_or(usize::MAX);
    let users = fields.texts("targets", most)?;
    let users = users.iter().map(|user| user.to_lowercase()).collect();
    let (id, done) =
        create(server, call, &fields, TaskAudience::Users(users), payload(&fields)?).await?;
    Ok(Reply::data(json!({ "taskId": id.0 })).after(done))
}

pub(super) async fn to_everyone(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let (id, done) =
        create(server, call, &fields, TaskAudience::Everyone, payload(&fields)?).await?;
    Ok(Reply::data(id.0).after(done))
}

/// Pushes a notification that was kept before to everyone, by its id.
pub(super) async fn broadcast(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let kept = message::named(server, call, &fields).await?;
    let (id, done) = create(server, call, &fields, TaskAudience::Everyone, kept).await?;
    Ok(Reply::data(id.0).after(done))
}

async fn create(
    server: &Arc<Server>,
    call: &Call,
    fields: &Fields<'_>,
    audience: TaskAudience,
    payload: RawJson,
) -> Result<(MessageId, Done), Problem> {
    let now = server.clock.now();
    let (app, limits) = (&call.app.config, &call.easemob().limits);
    let destinations = match fields.raw("targets") {
        Some(targets) => raw_json(targets),
        None => RawJson(to_raw_value(&Value::Null).map_err(|e| Fault::stored("null", e))?),
    };
    let new = NewTask {
        protocol: Protocol::Easemob,
        audience,
        strategy: strategy(fields)?,
        keep_seconds: app.delivery.keep_seconds,
        start_at: start_at(call, fields, now)?,
        limits: TaskLimits { running: limits.running_tasks, created: limits.created_tasks },
        private: MessagePrivate { destinations, payload: Some(payload), caller: None },
    };
    Ok(tasks::create(server, call.context_once(server)?, new).await?)
}

/// `startDate` in µs. A time that a change of clocks repeats is the first of the two; one that it
/// skips counts as if the clocks had not been changed, so 2:30 is what they then call 3:30.
fn start_at(call: &Call, fields: &Fields<'_>, now: i64) -> Result<Option<i64>, Problem> {
    let Some(text) = fields.text("startDate")? else { return Ok(None) };
    let form = || wrong("startDate", "must have the form yyyy-MM-dd HH:mm:ss");
    let date = NaiveDateTime::parse_from_str(&text, DATE).map_err(|_| form())?;
    let at = match call.app.timezone.from_local_datetime(&date) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at,
        LocalResult::None => {
            let before = call.app.timezone.offset_from_utc_datetime(&(date - SURELY_BEFORE));
            let at = date.checked_sub_offset(before.fix()).ok_or_else(form)?;
            call.app.timezone.from_utc_datetime(&at)
        }
    };
    let now = chrono::DateTime::<Utc>::from_timestamp_micros(now).unwrap_or_default();
    let wait = at.with_timezone(&Utc) - now;
    if wait < SOONEST || wait > LATEST {
        return Err(wrong("startDate", "must be 1 hour to 30 days from now"));
    }
    Ok(Some(at.timestamp_micros()))
}

/// How a task is doing.
pub(super) async fn status(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let found = find(server, call).await?;
    let (task, reach) = (&found.task, reach::reach(server, &found).await?);
    let state = match (&task.ended, task.started_at) {
        (Some(how), _) => how.as_str(),
        (None, Some(_)) => "running",
        (None, None) => "scheduled",
    };
    let date = |at: Option<i64>| at.map(|at| call.app.time(at));
    let status = json!({
        "taskId": task.task.0, "status": state, "audience": task.kind, "label": task.label,
        "startDate": date(task.start_at), "createdAt": task.created_at / 1_000,
        "startedAt": task.started_at.map(|at| at / 1_000),
        "endedAt": task.ended_at.map(|at| at / 1_000), "targets": found.targets(),
    });
    Ok(Reply::data(with(status, audience(&found, reach))))
}

/// Its audience in numbers, which are null as long as it waits; how many users it got to is null as
/// long as that grows.
fn audience(found: &TaskStatistics, reach: Option<Reach>) -> Value {
    json!({
        "unknownUsers": found.task.unresolved,
        "users": reach.map(|reach| reach.users),
        "usersWithoutDevice": reach.map(|reach| reach.unbound),
        "devices": reach.map(|reach| reach.devices),
        "usersReached": reach.and_then(|reach| reach.reached),
    })
}

/// One object of two.
fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

/// What became of a task's deliveries. `targets` is the sum of `deliveries`, always.
pub(super) async fn statistics(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let found = find(server, call).await?;
    let reach = reach::reach(server, &found).await?;
    let mut ended: BTreeMap<&str, i64> = BTreeMap::new();
    for cell in found.cells.iter().filter(|cell| !cell.ended.is_empty()) {
        *ended.entry(&cell.ended).or_default() += cell.deliveries;
    }
    let cell = |cell: &CellRow| {
        json!({ "channel": cell.way, "stage": cell.stage, "ended": cell.ended,
                "deliveries": cell.deliveries })
    };
    let [handed_over, received, displayed, acknowledged] = &found.latencies;
    let statistics = json!({
        "taskId": found.task.task.0,
        "targets": found.targets(),
        "sent": found.reached("sent"),
        "received": found.reached("received"),
        "displayed": found.reached("displayed"),
        "acknowledged": found.reached("acknowledged"),
        "unobservable": found.unobservable(),
        "ended": ended,
        "failures": failures(&found, reach)?,
        "deliveries": found.cells.iter().map(cell).collect::<Vec<_>>(),
        "latencyMs": { "handedOver": quantiles(handed_over), "received": quantiles(received),
                       "displayed": quantiles(displayed),
                       "acknowledged": quantiles(acknowledged) },
    });
    Ok(Reply::data(with(statistics, audience(&found, reach))))
}

/// What failed, in the words that `push/sync` has for it: deliveries that ended before they were
/// handed over, users without a device, each of whom is one without a binding, and names that are
/// nobody's.
fn failures(
    found: &TaskStatistics,
    reach: Option<Reach>,
) -> Result<BTreeMap<&'static str, i64>, Fault> {
    let mut failures = BTreeMap::new();
    for cell in found.cells.iter().filter(|cell| !cell.ended.is_empty() && !cell.got_to("sent")) {
        let Some(ending) = cell.cell()?.ended else { continue };
        *failures.entry(outcome::desc(ending)).or_default() += cell.deliveries;
    }
    let unbound = reach.map_or(0, |reach| i64::try_from(reach.unbound).unwrap_or(i64::MAX));
    let users = [(outcome::NO_BINDING, unbound), (outcome::NO_USER, found.task.unresolved)];
    for (desc, users) in users.into_iter().filter(|(_, users)| *users > 0) {
        *failures.entry(desc).or_default() += users;
    }
    Ok(failures)
}

/// The median and the 99th percentile of a histogram, in ms; `null` without any.
fn quantiles(buckets: &[(i64, i64)]) -> Value {
    let of = |share: f64| histogram::quantile(buckets, share);
    json!({ "p50": of(0.5), "p99": of(0.99) })
}

/// Cancels a task: devices that had no turn yet get none.
pub(super) async fn cancel(server: &Arc<Server>, call: &Call) -> Result<Reply, Problem> {
    let done = tasks::cancel(server, call.context(), id(call)?).await?;
    Ok(Reply::data("success").after(done))
}

fn id(call: &Call) -> Result<MessageId, Problem> {
    call.name().parse().map_err(|_| domain::Rejection::UnknownTask.into())
}

async fn find(server: &Arc<Server>, call: &Call) -> Result<TaskStatistics, Problem> {
    let task = id(call)?;
    let head = server.ledger.fresh_head().await?;
    if server.views.reached(head, VIEWS).await.is_err() {
        return Err(Problem::Busy);
    }
    let found = tasks::statistics(server, call.app.id(), task).await?;
    found.ok_or_else(|| domain::Rejection::UnknownTask.into())
}
