//! `/admin/v1/apps/{appId}/webhooks`: receivers of an app's events, as Standard Webhooks has them.

use axum::{
    Json,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::app::{AppConfig, ChangeApp, WebhookConfig};
use uuid::Uuid;

use super::{Call, One, Refusal, Two, positioned};
use crate::{
    apps::webhooks::{MAX_WEBHOOKS, RotateInput, WebhookInput, WebhookOutput},
    directory::AppEntry,
    ledger::Done,
};

/// Creates a webhook; its secret is in the answer, once.
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/webhooks", tag = "admin",
    params(("appId" = String, Path)), request_body = WebhookInput,
    responses((status = 201, body = WebhookOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal), (status = 412, body = Refusal)))]
pub async fn create(call: Call, Path(app_id): One, body: Bytes) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: WebhookInput = call.body(&body)?;
    if app.config.webhooks.len() >= MAX_WEBHOOKS {
        return Err(Refusal::bad(format!("an app has at most {MAX_WEBHOOKS} webhooks")));
    }
    let made = call.worded(call.vault().new_webhook(app.id(), input).await).await?;
    let (webhook, secret) = made;
    let shown = WebhookOutput::of(&webhook, Some(secret));
    let mut config = app.config.clone();
    config.webhooks.push(webhook);
    let done = change(&call, &app, config, &body).await?;
    if done.repeated {
        return Err(Refusal::new(StatusCode::CONFLICT, "that was done before; list the webhooks"));
    }
    Ok(positioned(done, (StatusCode::CREATED, Json(shown))))
}

/// Lists an app's webhooks.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}/webhooks", tag = "admin",
    params(("appId" = String, Path)),
    responses((status = 200, body = Vec<WebhookOutput>), (status = 404, body = Refusal)))]
pub async fn list(call: Call, Path(app_id): One) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let shown = app.config.webhooks.iter().map(|own| WebhookOutput::of(own, None));
    Ok(Json(shown.collect::<Vec<_>>()).into_response())
}

/// Removes a webhook: what waits for it is given up.
#[utoipa::path(delete, path = "/admin/v1/apps/{appId}/webhooks/{webhookId}", tag = "admin",
    params(("appId" = String, Path), ("webhookId" = String, Path)),
    responses((status = 204), (status = 404, body = Refusal), (status = 412, body = Refusal)))]
pub async fn delete(call: Call, path: Two) -> Result<Response, Refusal> {
    let (app, webhook) = found(&call, path).await?;
    let mut config = app.config.clone();
    config.webhooks.retain(|own| own.id != webhook.id);
    let done = change(&call, &app, config, b"").await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}

/// Gives a webhook another secret; the former may go on signing beside it.
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/webhooks/{webhookId}/rotate", tag = "admin",
    params(("appId" = String, Path), ("webhookId" = String, Path)), request_body = RotateInput,
    responses((status = 200, body = WebhookOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal), (status = 412, body = Refusal)))]
pub async fn rotate(call: Call, path: Two, body: Bytes) -> Result<Response, Refusal> {
    let (app, webhook) = found(&call, path).await?;
    let input: RotateInput =
        if body.is_empty() { RotateInput::default() } else { call.body(&body)? };
    let made = call.vault().rotate_webhook(app.id(), &webhook, input).await;
    let (webhook, secret) = call.worded(made).await?;
    let shown = WebhookOutput::of(&webhook, Some(secret));
    let done = change(&call, &app, with(&app, webhook), &body).await?;
    if done.repeated {
        return Err(Refusal::new(StatusCode::CONFLICT, "that was done before; list the webhooks"));
    }
    Ok(positioned(done, Json(shown)))
}

/// Switches a webhook on again that was switched off because it answered 410.
#[utoipa::path(post, path = "/admin/v1/apps/{appId}/webhooks/{webhookId}/enable", tag = "admin",
    params(("appId" = String, Path), ("webhookId" = String, Path)),
    responses((status = 200, body = WebhookOutput), (status = 404, body = Refusal),
        (status = 412, body = Refusal)))]
pub async fn enable(call: Call, path: Two) -> Result<Response, Refusal> {
    let (app, mut webhook) = found(&call, path).await?;
    webhook.disabled = false;
    let shown = WebhookOutput::of(&webhook, None);
    let done = change(&call, &app, with(&app, webhook), b"").await?;
    Ok(positioned(done, Json(shown)))
}

async fn found(
    call: &Call,
    Path((app_id, id)): Two,
) -> Result<(std::sync::Arc<AppEntry>, WebhookConfig), Refusal> {
    let app = call.app(&app_id).await?;
    let id: Option<Uuid> = id.parse().ok();
    let own = app.config.webhooks.iter().find(|own| Some(own.id) == id).cloned();
    let own = own.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no such webhook"))?;
    Ok((app, own))
}

fn with(app: &AppEntry, webhook: WebhookConfig) -> AppConfig {
    let mut config = app.config.clone();
    let place = config.webhooks.iter_mut().find(|own| own.id == webhook.id);
    if let Some(place) = place {
        *place = webhook;
    }
    config
}

/// Changes the app, if nobody did in between.
async fn change(
    call: &Call,
    app: &AppEntry,
    config: AppConfig,
    body: &[u8],
) -> Result<Done, Refusal> {
    let command = ChangeApp { config, expected: Some(app.version) };
    let done = call.execute(app.id(), body, command).await?;
    call.server.directory.reload().await?;
    Ok(done)
}
