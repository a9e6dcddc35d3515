//! `GET /admin/v1/apps/{appId}/export`: the statistics of GraphQL's `deliveryStats` as CSV, read and
//! written slice by slice, so that years of quarters of an hour fit.

use std::{fmt::Display, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{message::Protocol, task::state::Way};
use futures_util::{StreamExt as _, stream};
use graphql::statistics::{
    ask::{self, Answer, Asked, Bucket, Filter, Key, NoAnswer},
    csv,
};
use projections::db::from_name;
use serde::{Deserialize, de::DeserializeOwned};

use super::{One, Refusal, operator, seen};
use crate::{app::Server, query::MAX_WAIT, tokens::Role};

/// Buckets that are read at once.
const SLICE_BUCKETS: usize = 400;
/// Items of one list of a filter, at most.
const MAX_WANTED: usize = 200;

/// What is asked for, as in `deliveryStats`; lists with commas.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Wanted {
    from: DateTime<Utc>,
    to: Option<DateTime<Utc>>,
    bucket: Option<String>,
    group_by: Option<String>,
    time_zone: Option<String>,
    protocols: Option<String>,
    channels: Option<String>,
    reasons: Option<String>,
    tasks: Option<String>,
    labels: Option<String>,
    device_types: Option<String>,
    app_packages: Option<String>,
    at_least: Option<i64>,
    as_of: Option<String>,
}

/// Statistics of an app's deliveries by when they were accepted, as CSV. The roles are analyst and
/// admin. `Ledger-Position` says which position the answer includes at least.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}/export", tag = "admin",
    params(("appId" = String, Path),
        ("from" = String, Query, description = "Begin of the range (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Its end, which is not part of it; now if absent"),
        ("bucket" = Option<String>, Query, description = "quarter, hour, day, week or total (the default)"),
        ("groupBy" = Option<String>, Query, description = "protocol, channel, vendor, reason, task, label, deviceType, appPackage, with commas"),
        ("timeZone" = Option<String>, Query, description = "IANA name of the zone of days and weeks; UTC if absent"),
        ("protocols" = Option<String>, Query, description = "Only these, with commas"),
        ("channels" = Option<String>, Query, description = "Only these, with commas"),
        ("reasons" = Option<String>, Query, description = "Only these, with commas"),
        ("tasks" = Option<String>, Query, description = "Only these, with commas"),
        ("labels" = Option<String>, Query, description = "Only these, with commas"),
        ("deviceTypes" = Option<String>, Query, description = "Only these, with commas"),
        ("appPackages" = Option<String>, Query, description = "Only these, with commas"),
        ("atLeast" = Option<i64>, Query, description = "Ledger position to wait for, for 5 seconds at most"),
        ("asOf" = Option<String>, Query, description = "Ledger position, or time (RFC 3339), as of which it is told")),
    responses((status = 200, description = "A line for each group", content_type = "text/csv", body = String),
        (status = 400, body = Refusal), (status = 403, body = Refusal), (status = 404, body = Refusal),
        (status = 503, body = Refusal)))]
pub async fn read(
    State(server): State<Arc<Server>>,
    Path(app_id): One,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let operator = operator(&server, &headers).await?;
    match operator.role {
        Role::Admin | Role::Analyst => {}
        Role::Auditor | Role::Uplink => {
            return Err(Refusal::forbidden(&operator, "this needs the role analyst or admin"));
        }
    }
    let app = seen(&server, &operator, &app_id).await?;
    let Query(wanted) = wanted.map_err(Refusal::bad)?;
    let as_of = match &wanted.as_of {
        Some(moment) => Some(position(&server, moment).await?),
        None => None,
    };
    if let Some(position) = wanted.at_least.max(as_of) {
        let reached = server.views.reached(position, MAX_WAIT).await;
        reached.map_err(|e| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &e.to_string()))?;
    }
    // What is recorded in this very moment is part of it.
    let now = DateTime::from_timestamp_micros(server.clock.now() + 1).unwrap_or_default();
    let asked = Asked { as_of, ..question(wanted, now)? };
    // What was so then is one sum over all that happened by then, whatever the range.
    let slices = match as_of {
        Some(_) => vec![asked.clone()],
        None => asked.slices(SLICE_BUCKETS),
    };
    let mut slices = slices.into_iter();
    // What is wrong with the question shows with the first slice.
    let first = slices.next().unwrap_or(asked);
    let views = server.ledger.database().views.clone();
    let first = ask::read(&views, app.id(), &first).await?;
    let position = first.position;
    let begin = stream::once(async move { Ok(Bytes::from(csv::header() + &lines(&first))) });
    let rest = stream::iter(slices).then(move |slice| {
        let (views, app) = (views.clone(), app.id().to_owned());
        async move {
            let answer = ask::read(&views, &app, &slice).await.inspect_err(|no_answer| {
                tracing::error!(%no_answer, "an export broke off");
            });
            answer.map(|answer| Bytes::from(lines(&answer)))
        }
    });
    let mut response = Body::from_stream(begin.chain(rest)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    let name = HeaderValue::from_static("attachment; filename=\"deliveries.csv\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    headers.insert("ledger-position", HeaderValue::from(position));
    Ok(response)
}

/// The position of a moment: a position, or the last that was recorded by a time.
async fn position(server: &Server, moment: &str) -> Result<i64, Refusal> {
    if let Ok(position) = moment.parse::<i64>() {
        let head = server.ledger.fresh_head().await?;
        return match (0..=head).contains(&position) {
            true => Ok(position),
            false => Err(Refusal::bad("asOf: the ledger has no such position")),
        };
    }
    let time = DateTime::parse_from_rfc3339(moment);
    let time = time.map_err(|_| Refusal::bad("asOf: a ledger position, or a time (RFC 3339)"))?;
    match time.timestamp_micros() {
        micros if micros > server.clock.now() => {
            Err(Refusal::bad("asOf: that time has not come yet"))
        }
        micros => Ok(server.ledger.before(micros.saturating_add(1)).await?),
    }
}

fn lines(answer: &Answer) -> String {
    answer.groups.iter().map(|(group, tally)| csv::line(group, tally)).collect()
}

impl From<NoAnswer> for Refusal {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Fault(fault) => Refusal::from(fault),
            NoAnswer::Refused(why) => Refusal::bad(why),
        }
    }
}

fn question(wanted: Wanted, now: DateTime<Utc>) -> Result<Asked, Refusal> {
    let bucket = match wanted.bucket.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("total") => Bucket::Total,
        Some("quarter") => Bucket::Quarter,
        Some("hour") => Bucket::Hour,
        Some("day") => Bucket::Day,
        Some("week") => Bucket::Week,
        Some(_) => return Err(Refusal::bad("bucket: quarter, hour, day, week or total")),
    };
    let key = |name: &str| match name {
        "protocol" => Ok(Key::Protocol),
        "channel" => Ok(Key::Channel),
        "vendor" => Ok(Key::Vendor),
        "reason" => Ok(Key::Reason),
        "task" => Ok(Key::Task),
        "label" => Ok(Key::Label),
        "deviceType" => Ok(Key::DeviceType),
        "appPackage" => Ok(Key::AppPackage),
        _ => Err("protocol, channel, vendor, reason, task, label, deviceType or appPackage"),
    };
    let way = |name: &str| match name {
        "online" => Ok(Way::Online),
        vendor => named(vendor).map(Way::Vendor),
    };
    let text = |name: &str| Ok::<_, &str>(name.to_owned());
    let filter = Filter {
        protocols: list("protocols", wanted.protocols, named::<Protocol>)?,
        ways: list("channels", wanted.channels, way)?,
        reasons: list("reasons", wanted.reasons, named)?,
        tasks: list("tasks", wanted.tasks, |name| name.parse().map_err(|_| "not an id"))?,
        labels: list("labels", wanted.labels, text)?,
        device_types: list("deviceTypes", wanted.device_types, text)?,
        app_packages: list("appPackages", wanted.app_packages, text)?,
    };
    let keys = list("groupBy", wanted.group_by, key)?.unwrap_or_default();
    let zone = wanted.time_zone.as_deref();
    let range = (wanted.from, wanted.to.unwrap_or(now));
    Ok(Asked::new(range, bucket, keys, filter, zone)?)
}

fn named<T: DeserializeOwned>(name: &str) -> Result<T, &'static str> {
    from_name(name.to_owned()).map_err(|_| "an unknown name")
}

fn list<T, E: Display>(
    name: &str,
    text: Option<String>,
    item: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<Vec<T>>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let items: Result<Vec<T>, E> = text.split(',').map(item).collect();
    let items = items.map_err(|error| Refusal::bad(format!("{name}: {error}")))?;
    if items.len() > MAX_WANTED {
        return Err(Refusal::bad(format!("{name}: at most {MAX_WANTED}")));
    }
    Ok(Some(items))
}
