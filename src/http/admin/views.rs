//! `/admin/v1/views/*`: rebuilds of the views while they are read, and the events that they could
//! not fold. They concern all apps.

use axum::{
    Json,
    body::Bytes,
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Call, Refusal};
use crate::feed::{
    rebuild::RebuildStatus,
    set_aside::{self, SetAside},
};

/// Most events of a page.
const MAX_PAGE: i64 = 100;

/// How the views are to be rebuilt. No body: by the defaults.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RebuildInput {
    /// Set aside again what is set aside now and still cannot be folded, instead of stopping there.
    #[serde(default)]
    keep_aside: bool,
}

/// Which events that were set aside.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    after: Option<i64>,
    limit: Option<i64>,
}

/// Events that are in no view.
#[derive(Debug, Serialize, ToSchema)]
pub struct SetAsideOutput {
    /// A page of them, in order of position.
    events: Vec<SetAsideEvent>,
    /// `after` of the next page, if there may be one.
    next: Option<i64>,
}

/// An event that is in no view.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetAsideEvent {
    /// Its position.
    position: i64,
    /// Its app; empty for what belongs to no app.
    app: String,
    /// Its stable name.
    r#type: String,
    /// Its schema number.
    schema: i64,
    /// Why it could not be read or folded.
    error: String,
    /// Whether this version can read it. A rebuild then tries to fold it, in its place.
    readable: bool,
}

impl SetAsideEvent {
    fn of(aside: SetAside) -> SetAsideEvent {
        let SetAside { position, app, name, schema, error, readable } = aside;
        SetAsideEvent { position, app, r#type: name, schema, error, readable }
    }
}

/// Where the last rebuild of the views stands.
#[utoipa::path(get, path = "/admin/v1/views/rebuild", tag = "admin",
    responses((status = 200, body = RebuildStatus), (status = 403, body = Refusal)))]
pub async fn status(call: Call) -> Result<Json<RebuildStatus>, Refusal> {
    call.everywhere()?;
    Ok(Json(call.server.rebuilds.status().await?.into()))
}

/// Rebuilds the views beside those that are read, and swaps them.
///
/// A node begins within a second. 409: a rebuild is under way.
#[utoipa::path(post, path = "/admin/v1/views/rebuild", tag = "admin",
    request_body = Option<RebuildInput>,
    responses((status = 202, body = RebuildStatus), (status = 400, body = Refusal),
        (status = 403, body = Refusal), (status = 409, body = Refusal)))]
pub async fn rebuild(call: Call, body: Bytes) -> Result<Response, Refusal> {
    call.everywhere()?;
    let input = match body.is_empty() {
        true => RebuildInput::default(),
        // An empty list would do for a type whose every field has a default.
        false => {
            let fields: serde_json::Map<String, serde_json::Value> = call.body(&body)?;
            serde_json::from_value(fields.into()).map_err(Refusal::bad)?
        }
    };
    if !call.server.rebuilds.ask(input.keep_aside).await? {
        return Err(Refusal::new(StatusCode::CONFLICT, "a rebuild is under way"));
    }
    let status: RebuildStatus = call.server.rebuilds.status().await?.into();
    Ok((StatusCode::ACCEPTED, Json(status)).into_response())
}

/// Cancels the rebuild; the views that are read stay. 409: none is under way.
#[utoipa::path(delete, path = "/admin/v1/views/rebuild", tag = "admin",
    responses((status = 200, body = RebuildStatus), (status = 403, body = Refusal),
        (status = 409, body = Refusal)))]
pub async fn cancel(call: Call) -> Result<Json<RebuildStatus>, Refusal> {
    call.everywhere()?;
    if !call.server.rebuilds.cancel().await? {
        return Err(Refusal::new(StatusCode::CONFLICT, "no rebuild is under way"));
    }
    Ok(Json(call.server.rebuilds.status().await?.into()))
}

/// Lists events that the views could not read or fold, in order; `after` goes on after a position.
#[utoipa::path(get, path = "/admin/v1/views/set-aside", tag = "admin",
    params(("after" = Option<i64>, Query),
        ("limit" = Option<i64>, Query, description = "at most 100")),
    responses((status = 200, body = SetAsideOutput), (status = 400, body = Refusal),
        (status = 403, body = Refusal)))]
pub async fn set_aside(
    call: Call,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<SetAsideOutput>, Refusal> {
    call.everywhere()?;
    let Query(Page { after, limit }) = page.map_err(Refusal::bad)?;
    let limit = limit.unwrap_or(MAX_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Refusal::bad("limit is 1 to 100"));
    }
    let page = set_aside::page(&call.server.ledger, after.unwrap_or(0), limit).await?;
    let full = i64::try_from(page.len()).is_ok_and(|events| events == limit);
    let next = page.last().filter(|_| full).map(|last| last.position);
    Ok(Json(SetAsideOutput { events: page.into_iter().map(SetAsideEvent::of).collect(), next }))
}
