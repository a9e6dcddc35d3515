//! `/admin/v1/apps/{appId}/callbacks`: what came of calls to the app's servers, and asking again
//! for what was given up.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{
    callback::{Attempt, CallbacksReplayed, Kind, MAX_CALLBACKS, Outcome, Reason, ReplayCallbacks},
    task::packed::{MAX_NUMBERS, Packed},
};
use projections::callbacks::{self, CallbackRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Call, One, Refusal, positioned};

/// Callbacks of a page.
const MAX_PAGE: i64 = 200;
/// Callbacks that one call asks again for, if it does not say which.
const MAX_REPLAYED: usize = MAX_NUMBERS;
/// Longest wait for the views to know of what was asked for before.
const VIEWS: Duration = Duration::from_secs(5);

/// Which callbacks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    outcome: Option<Outcome>,
    before: Option<i64>,
    limit: Option<i64>,
}

/// A callback that was not answered at its first call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallbackOutput {
    /// The receiver's id.
    #[schema(value_type = String)]
    receiver: Uuid,
    /// Position of the event that it is about.
    position: i64,
    /// What it is about.
    #[schema(value_type = String)]
    kind: Kind,
    /// `answered`, `postponed` or `given_up`.
    #[schema(value_type = String)]
    outcome: Outcome,
    /// Calls so far.
    calls: i64,
    /// Why it waits, or was given up.
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
    /// HTTP status of the last answer.
    status: Option<i64>,
    /// When it is due, in milliseconds since the epoch, if it waits.
    due_at: Option<i64>,
    /// When this was recorded, in milliseconds since the epoch.
    at: i64,
    /// The calls, the last 32 of them, oldest first.
    attempts: Vec<AttemptOutput>,
}

/// One call.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptOutput {
    /// When it was made, in milliseconds since the epoch.
    at: i64,
    /// How long it took, in milliseconds.
    latency_ms: u32,
    /// HTTP status of the answer, if one came.
    status: Option<u16>,
    /// Why it failed, if it did.
    #[schema(value_type = Option<String>)]
    reason: Option<Reason>,
}

/// A page of callbacks, newest event first.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallbacksOutput {
    /// The callbacks.
    callbacks: Vec<CallbackOutput>,
    /// `before` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// How many callbacks of a receiver stand where.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountOutput {
    /// The receiver's id.
    #[schema(value_type = String)]
    receiver: Uuid,
    /// What they are about.
    #[schema(value_type = String)]
    kind: Kind,
    /// `answered`, `postponed` or `given_up`.
    #[schema(value_type = String)]
    outcome: Outcome,
    /// How many.
    callbacks: i64,
}

/// Which callbacks to make again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayInput {
    /// The receiver's id.
    #[schema(value_type = String)]
    receiver: Uuid,
    /// Positions of the events that they are about, at most 512; the first 4,096 that were given up
    /// if absent.
    callbacks: Option<Vec<i64>>,
}

/// What is called again.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayOutput {
    /// Callbacks that were asked for.
    asked: usize,
    /// Whether there may be more that were given up: the same call asks for them.
    more: bool,
}

impl CallbackOutput {
    fn of(row: CallbackRow) -> CallbackOutput {
        CallbackOutput {
            receiver: row.receiver,
            position: row.position,
            kind: row.kind,
            outcome: row.outcome,
            calls: row.calls,
            reason: row.reason,
            status: row.status,
            due_at: row.due_at.map(|micros| micros / 1_000),
            at: row.at / 1_000,
            attempts: row.attempts.into_iter().map(AttemptOutput::of).collect(),
        }
    }
}

impl AttemptOutput {
    fn of(attempt: Attempt) -> AttemptOutput {
        let Attempt { at, took, status, reason } = attempt;
        AttemptOutput { at: at / 1_000, latency_ms: took, status, reason }
    }
}

/// Lists callbacks that were not answered at their first call, by where they stand.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}/callbacks", tag = "admin",
    params(("appId" = String, Path),
        ("outcome" = Option<String>, Query, description = "`given_up` if absent"),
        ("before" = Option<i64>, Query, description = "`next` of the page before"),
        ("limit" = Option<i64>, Query, description = "1 to 200, by default 50")),
    responses((status = 200, body = CallbacksOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal)))]
pub async fn list(
    call: Call,
    Path(app_id): One,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let Query(wanted) = wanted.map_err(Refusal::bad)?;
    let limit = wanted.limit.unwrap_or(50);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::bad(format!("limit must be 1 to {MAX_PAGE}")));
    }
    let outcome = wanted.outcome.unwrap_or(Outcome::GivenUp);
    let before = wanted.before.unwrap_or(i64::MAX);
    let mut views = call.server.ledger.database().views.checkout().await?;
    let rows = callbacks::page(&mut views.conn(), app.id(), outcome, before, limit).await?;
    let next = callbacks::next_page(&rows, limit);
    let callbacks = rows.into_iter().map(CallbackOutput::of).collect();
    Ok(Json(CallbacksOutput { callbacks, next }).into_response())
}

/// How many callbacks of each receiver stand where.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}/callbacks/receivers", tag = "admin",
    params(("appId" = String, Path)),
    responses((status = 200, body = Vec<CountOutput>), (status = 404, body = Refusal)))]
pub async fn receivers(call: Call, Path(app_id): One) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let mut views = call.server.ledger.database().views.checkout().await?;
    let rows = callbacks::counts(&mut views.conn(), app.id()).await?;
    let shown = rows.into_iter().map(|row| CountOutput {
        receiver: row.receiver,
        kind: row.kind,
        outcome: row.outcome,
        callbacks: row.callbacks,
    });
    Ok(Json(shown.collect::<Vec<_>>()).into_response())
}

/// Makes callbacks again that were given up. They are called as if for the first time.
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/callbacks/replay", tag = "admin",
    params(("appId" = String, Path)), request_body = ReplayInput,
    responses((status = 202, body = ReplayOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal), (status = 410, body = Refusal),
        (status = 503, body = Refusal)))]
pub async fn replay(call: Call, Path(app_id): One, body: Bytes) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: ReplayInput = call.body(&body)?;
    // What an earlier call asked for is not asked for again.
    let head = call.server.ledger.fresh_head().await?;
    let late = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the views are behind");
    call.server.views.reached(head, VIEWS).await.map_err(late)?;
    let mut views = call.server.ledger.database().views.checkout().await?;
    let rows = callbacks::counts(&mut views.conn(), app.id()).await?;
    let row = rows.into_iter().find(|row| row.receiver == input.receiver);
    let row = row.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no such receiver"))?;
    let away = call.server.ledger.away().await?;
    let gone = away.as_ref().map_or(0, |away| away.last);
    let mut positions = match input.callbacks {
        Some(positions) if !(1..=MAX_CALLBACKS).contains(&positions.len()) => {
            return Err(Refusal::bad("callbacks must have 1 to 512 positions"));
        }
        Some(positions) => positions,
        None => {
            let (receiver, most) =
                (row.receiver.to_string(), i64::try_from(MAX_REPLAYED).unwrap_or(0) + 1);
            callbacks::given_up(&mut views.conn(), &receiver, gone, most).await?
        }
    };
    drop(views);
    positions.sort_unstable();
    positions.dedup();
    if positions.first().is_some_and(|first| *first < 1) {
        return Err(Refusal::bad("positions begin at 1"));
    }
    if let Some(away) = away
        && positions.first().is_some_and(|first| *first <= gone)
    {
        return Err(away.fault().into());
    }
    let more = positions.len() > MAX_REPLAYED;
    positions.truncate(MAX_REPLAYED);
    let asked = ReplayOutput { asked: positions.len(), more };
    if positions.is_empty() {
        return Ok((StatusCode::ACCEPTED, Json(asked)).into_response());
    }
    let callbacks = Some(Packed::growing(positions));
    let replayed = CallbacksReplayed { kind: row.kind, receiver: row.receiver, callbacks };
    let command = ReplayCallbacks { replayed, new_record: Uuid::now_v7() };
    let done = call.execute(&app_id, &body, command).await?;
    Ok(positioned(done, (StatusCode::ACCEPTED, Json(asked))))
}
