//! `/admin/v1/apps/{appId}/messages/{messageId}/recall` and `…/replace`: takes a message back, or
//! replaces it by an empty one, and says at once what that means for each device.

use axum::{
    Json,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{
    Event,
    message::{RecallMessage, RecallOp, RecallResult},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Call, Refusal, Two, positioned};

/// What a recall means for one device.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecalledDevice {
    /// Number of the device.
    device: i64,
    /// `requested`, `stopped_before_sending`, `replaced_unseen`, `too_late` or `unknown`.
    #[schema(value_type = String)]
    result: RecallResult,
}

/// What a recall means.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecallOutput {
    /// For each device that it concerns. `requested` becomes final when the device answers;
    /// `getmsgstat` and GraphQL show it.
    devices: Vec<RecalledDevice>,
}

/// Takes a message back (UMS status 5).
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/messages/{messageId}/recall", tag = "admin",
    params(("appId" = String, Path), ("messageId" = String, Path)),
    responses((status = 200, body = RecallOutput), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub async fn recall(call: Call, path: Two) -> Result<Response, Refusal> {
    run(call, path, RecallOp::Recall).await
}

/// Replaces a message by an empty one (UMS status 6).
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/messages/{messageId}/replace", tag = "admin",
    params(("appId" = String, Path), ("messageId" = String, Path)),
    responses((status = 200, body = RecallOutput), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub async fn replace(call: Call, path: Two) -> Result<Response, Refusal> {
    run(call, path, RecallOp::Replace).await
}

async fn run(call: Call, Path((app_id, id)): Two, op: RecallOp) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let message = id.parse().map_err(|_| Refusal::new(StatusCode::NOT_FOUND, "no such message"))?;
    let command = RecallMessage { app: app.id().to_owned(), message, op };
    let done = call.execute(&app_id, b"", command).await?;
    let page = call.server.ledger.read(done.first - 1, done.last - done.first + 1).await?;
    let results = page.events.into_iter().find_map(|event| match event.event {
        Event::RecallRequested(recall) => Some(recall.results),
        _ => None,
    });
    let devices = results.unwrap_or_default().into_iter();
    let devices = devices.map(|r| RecalledDevice { device: r.device, result: r.result }).collect();
    Ok(positioned(done, Json(RecallOutput { devices }).into_response()))
}
