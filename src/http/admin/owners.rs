//! `/admin/v1/apps/{appId}/owners/{deviceId}`: who owns a physical device, as the M2M platform
//! knows it, and the bind key that a push to the host has to show.

use axum::{body::Bytes, extract::Path, http::StatusCode, response::Response};
use domain::owner::{RemoveOwner, SetOwner};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Call, Refusal, Two, positioned};
use crate::apps::named;
use crate::http::bind_key_fingerprint;

/// Longest id, in characters.
const MAX_NAME: usize = 100;
/// Longest bind key, in characters.
const MAX_BIND_KEY: usize = 1_024;

/// An owner and the bind key; only a keyed hash of the key is kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnerInput {
    /// The owner's UMS `userId`.
    user_id: String,
    /// What `encryptedData` has to be.
    bind_key: String,
}

/// Sets the owner of a physical device.
#[utoipa::path(put, path = "/admin/v1/apps/{appId}/owners/{deviceId}", tag = "admin",
    params(("appId" = String, Path), ("deviceId" = String, Path)), request_body = OwnerInput,
    responses((status = 204), (status = 400, body = Refusal), (status = 404, body = Refusal)))]
pub async fn set(
    call: Call,
    Path((app_id, device_id)): Two,
    body: Bytes,
) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: OwnerInput = call.body(&body)?;
    named("deviceId", &device_id, MAX_NAME)?;
    named("userId", &input.user_id, MAX_NAME)?;
    named("bindKey", &input.bind_key, MAX_BIND_KEY)?;
    let bind_key = bind_key_fingerprint(&call.server, app.id(), &device_id, &input.bind_key);
    let command = SetOwner {
        app: app.id().to_owned(),
        device_id,
        user: input.user_id,
        bind_key,
        new_owner: Uuid::now_v7(),
        new_account: Uuid::now_v7(),
    };
    let done = call.execute(&app_id, &body, command).await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}

/// Removes the owner of a physical device.
#[utoipa::path(delete, path = "/admin/v1/apps/{appId}/owners/{deviceId}", tag = "admin",
    params(("appId" = String, Path), ("deviceId" = String, Path)),
    responses((status = 204), (status = 404, body = Refusal)))]
pub async fn remove(call: Call, Path((app_id, device_id)): Two) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    named("deviceId", &device_id, MAX_NAME)?;
    let command = RemoveOwner { app: app.id().to_owned(), device_id };
    let done = call.execute(&app_id, b"", command).await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}
