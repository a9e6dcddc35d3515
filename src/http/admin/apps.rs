//! `/admin/v1/apps`: create, list, read, change and delete apps. Secrets are in the answer once,
//! when they are made; later only their fingerprints are shown. Key lists overlap for rotation.

use axum::{
    Json,
    body::Bytes,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::app::{AppConfig, ChangeApp, CreateApp, DeleteApp};

use super::{Call, One, Refusal, positioned};
use crate::apps::{AppInput, AppOutput, InputError, keys::NewKeys, new_app};

impl From<InputError> for Refusal {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Bad(detail) => Refusal::bad(detail),
            InputError::Secret(error) => error.into(),
        }
    }
}

/// Creates an app.
#[utoipa::path(post, path = "/admin/v1/apps", tag = "admin", request_body = AppInput,
    responses((status = 201, body = AppOutput), (status = 400, body = Refusal),
        (status = 401, body = Refusal), (status = 403, body = Refusal), (status = 409, body = Refusal)))]
pub async fn create(call: Call, body: Bytes) -> Result<Response, Refusal> {
    call.everywhere()?;
    let input: AppInput = call.body(&body)?;
    let (config, keys) = call.worded(new_app(call.vault(), input).await).await?;
    let app_id = config.app_id.clone();
    let command = CreateApp { config: config.clone() };
    let done = call.execute(&app_id, &body, command).await?;
    call.server.directory.reload().await?;
    if done.repeated {
        let entry = call.app(&app_id).await?;
        return Ok(positioned(
            done,
            shown(StatusCode::OK, &entry.config, entry.version, NewKeys::default()),
        ));
    }
    Ok(positioned(done, shown(StatusCode::CREATED, &config, 1, keys)))
}

/// Lists the apps that the caller may see.
#[utoipa::path(get, path = "/admin/v1/apps", tag = "admin",
    responses((status = 200, body = Vec<AppOutput>), (status = 401, body = Refusal)))]
pub async fn list(call: Call) -> Result<Response, Refusal> {
    let apps = call.server.directory.all();
    let seen = apps.iter().filter(|app| call.operator.sees(app.id()));
    let apps: Vec<_> =
        seen.map(|app| crate::apps::output(&app.config, app.version, NewKeys::default())).collect();
    Ok(Json(apps).into_response())
}

/// Reads an app.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}", tag = "admin",
    params(("appId" = String, Path)),
    responses((status = 200, body = AppOutput), (status = 404, body = Refusal)))]
pub async fn read(call: Call, Path(app_id): One) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    Ok(shown(StatusCode::OK, &app.config, app.version, NewKeys::default()))
}

/// Changes an app. With `If-Match`, only the version that the caller has seen.
#[utoipa::path(patch, path = "/admin/v1/apps/{appId}", tag = "admin", request_body = AppInput,
    params(("appId" = String, Path)),
    responses((status = 200, body = AppOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 412, body = Refusal)))]
pub async fn change(call: Call, Path(app_id): One, body: Bytes) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: AppInput = call.body(&body)?;
    if input.app_id.as_ref().is_some_and(|id| *id != app_id) {
        return Err(Refusal::bad("appId can't be changed"));
    }
    let expected = Some(if_match(&call.headers)?.unwrap_or(app.version));
    let input = call.vault().merge(app.config.clone(), input).await;
    let (config, keys) = call.worded(input).await?;
    let done = call.execute(&app_id, &body, ChangeApp { config, expected }).await?;
    call.server.directory.reload().await?;
    let entry = call.app(&app_id).await?;
    // A repeated call tells no secret again; those made just now are not the app's.
    let keys = if done.repeated { NewKeys::default() } else { keys };
    Ok(positioned(done, shown(StatusCode::OK, &entry.config, entry.version, keys)))
}

/// Deletes an app: its calls are refused from then on. Its history stays.
#[utoipa::path(delete, path = "/admin/v1/apps/{appId}", tag = "admin",
    params(("appId" = String, Path)),
    responses((status = 204), (status = 404, body = Refusal)))]
pub async fn delete(call: Call, Path(app_id): One) -> Result<Response, Refusal> {
    call.everywhere()?;
    let app = call.app(&app_id).await?;
    let command = DeleteApp { app_id: app.id().to_owned() };
    let done = call.execute(&app_id, b"", command).await?;
    call.server.directory.reload().await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}

fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    text.parse().map(Some).map_err(|_| Refusal::bad("If-Match must be a version"))
}

fn shown(status: StatusCode, config: &AppConfig, version: i64, keys: NewKeys) -> Response {
    let mut response = (status, Json(crate::apps::output(config, version, keys))).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
