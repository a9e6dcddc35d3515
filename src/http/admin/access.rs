//! `GET /admin/v1/access`: who read what belongs to people, and which calls were refused, for
//! auditors. Reading it is logged too. `docs/audit.md` says what is in it.

use axum::{
    Json,
    extract::{Query, rejection::QueryRejection},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Refusal, audit::Reader};
use crate::access::{Outcome, Row, store::Asked};

/// Rows of a page, at most, and unless it is said.
const MAX_PAGE: i64 = 200;
const PAGE: i64 = 50;

/// Which rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    app: Option<String>,
    caller: Option<String>,
    outcome: Option<Outcome>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    before: Option<i64>,
    limit: Option<i64>,
}

/// A call, or some of the same kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessOutput {
    /// Its number; grows.
    number: i64,
    /// When, in ms since the epoch; of the first call.
    at: i64,
    /// When, of the last call.
    last_at: i64,
    /// `answered` or `refused`.
    #[schema(value_type = String)]
    outcome: Outcome,
    /// Whose credential: `operator:3`, `app:demo`, `os:root`, `nobody`.
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
    /// The app.
    app: Option<String>,
    /// What was read, where the operation does not say it.
    fields: Vec<String>,
    /// Whom it is about, by number; empty where they are many.
    subjects: Vec<String>,
    /// Records that were told; absent where that was not known beforehand.
    records: Option<i64>,
    /// Calls that the row stands for.
    calls: i64,
    /// The code that a refusal was answered with.
    code: Option<String>,
}

/// A page of the log, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessesOutput {
    /// The rows.
    accesses: Vec<AccessOutput>,
    /// `before` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

fn output(row: Row) -> AccessOutput {
    AccessOutput {
        number: row.number,
        at: row.at / 1_000,
        last_at: row.last_at / 1_000,
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

/// The access log, the newest first. Whoever is bound to one app reads what concerns that app.
#[utoipa::path(get, path = "/admin/v1/access", tag = "audit",
    params(("app" = Option<String>, Query, description = "Only of this app"),
        ("caller" = Option<String>, Query, description = "Only of this caller, such as operator:3"),
        ("outcome" = Option<String>, Query, description = "answered or refused"),
        ("from" = Option<String>, Query, description = "Begin of the range (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Its end, which is not part of it"),
        ("before" = Option<i64>, Query, description = "Only rows of a lower number"),
        ("limit" = Option<i64>, Query, description = "1 to 200, by default 50")),
    responses((status = 200, body = AccessesOutput), (status = 400, body = Refusal),
        (status = 403, body = Refusal), (status = 503, body = Refusal)))]
pub async fn list(
    reader: Reader,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<AccessesOutput>, Refusal> {
    let Query(wanted) = wanted.map_err(Refusal::bad)?;
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::bad("limit must be 1 to 200"));
    }
    let texts = [&wanted.app, &wanted.caller];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Refusal::bad("no name has a NUL in it"));
    }
    let own = reader.operator.app.clone();
    if let (Some(own), Some(app)) = (&own, &wanted.app)
        && own != app
    {
        return Err(
            Refusal::bad("this token is bound to another app").of(&reader.operator, Some(own))
        );
    }
    let micros = |time: DateTime<Utc>| time.timestamp_micros();
    let asked = Asked {
        app: own.clone().or(wanted.app),
        caller: wanted.caller,
        outcome: wanted.outcome,
        from: wanted.from.map(micros),
        to: wanted.to.map(micros),
        before: wanted.before,
        // One more tells whether there is more.
        limit: limit + 1,
    };
    let mut rows = reader.server.access.page(&asked).await?;
    let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let access = reader.origin.read_by(&reader.operator).of(asked.app).with(rows.len());
    reader.server.access.read(access).await?;
    let next = rows.last().map(|row| row.number).filter(|_| more);
    Ok(Json(AccessesOutput { accesses: rows.into_iter().map(output).collect(), next }))
}
