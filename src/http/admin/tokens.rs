//! `POST /admin/v1/apps/{appId}/access-tokens`: the app's login service gets a user's token for a
//! terminal.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Call, One, Refusal};
use crate::apps::named;
use crate::tokens::DEFAULT_TTL;

/// Longest id, in characters.
const MAX_NAME: usize = 100;
/// Longest life, in seconds: a year.
const MAX_TTL_SECONDS: u64 = 366 * 86_400;

/// Whose token, on which terminal, for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenInput {
    /// The user's UMS `userId`.
    user_id: String,
    /// The terminal's `clientId`.
    client_id: String,
    /// Seconds that it lives; 10 days by default, a year at most.
    ttl_seconds: Option<u64>,
}

/// The token; only its hash is kept.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenOutput {
    /// Header `accessToken` of UMS calls.
    access_token: String,
    /// When it ends, in milliseconds since the epoch.
    expires_at: i64,
}

/// Issues an access token.
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/access-tokens", tag = "admin",
    params(("appId" = String, Path)), request_body = TokenInput,
    responses((status = 201, body = TokenOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal)))]
pub async fn issue(call: Call, Path(app_id): One, body: Bytes) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: TokenInput = call.body(&body)?;
    named("userId", &input.user_id, MAX_NAME)?;
    named("clientId", &input.client_id, MAX_NAME)?;
    let seconds = input.ttl_seconds.unwrap_or(DEFAULT_TTL.as_secs());
    if !(1..=MAX_TTL_SECONDS).contains(&seconds) {
        return Err(Refusal::bad(format!("ttlSeconds must be 1 to {MAX_TTL_SECONDS}")));
    }
    let (user, client, ttl) = (&input.user_id, &input.client_id, Duration::from_secs(seconds));
    let (access_token, expires_at) = call.server.tokens.issue(app.id(), user, client, ttl).await?;
    let output = TokenOutput { access_token, expires_at: expires_at / 1_000 };
    Ok((StatusCode::CREATED, Json(output)).into_response())
}
