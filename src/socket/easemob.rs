//! The handshake of an Easemob device: a user's token and the device's own id. A device that was
//! never seen before is known from here on, bound to no vendor.

use std::{collections::HashMap, sync::Arc};

use axum::http::HeaderMap;
use domain::{
    Metadata, Rejection,
    device::{Bind, BindDevice, Device},
    message::Protocol,
};
use projections::{Fault, registry};
use uuid::Uuid;

use crate::{
    app::Server,
    directory::AppEntry,
    http::easemob::{
        MAX_DEVICE_ID,
        errors::{Denied, Problem},
        gate::{Caller, bearer, caller},
    },
    ledger::{Context, Lane},
};

/// Whether a handshake shows what an Easemob device proves itself with, and not what a UMS terminal
/// does.
pub(super) fn is_meant(headers: &HeaderMap, query: &HashMap<String, String>) -> bool {
    let shown = |name: &str| headers.contains_key(name) || query.contains_key(name);
    !shown("appId") && (headers.contains_key("authorization") || query.contains_key("token"))
}

/// The device behind a user's token.
pub(super) async fn authenticate(
    server: &Server,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
    request: &str,
) -> Result<(Arc<AppEntry>, Device), Problem> {
    let token = token(headers, query);
    let found = match token {
        Some(Ok(token)) => server.easemob.tokens.find(token).await?,
        Some(Err(_)) | None => None,
    };
    // The token says which app it is for. Without one, any app would refuse it for the same reason.
    let app = match found {
        Some(found) => server.directory.app(&found.app).await,
        None => Ok(None),
    };
    let app = app.map_err(|error| Fault::stored("app", error))?;
    let Some(app) = app else { return Err(Problem::Denied(refused(token))) };
    let Caller::User(account, username) = caller(server, &app, token).await? else {
        return Err(Problem::Denied(Denied::NotAllowed));
    };
    if !app.config.easemob.as_ref().is_some_and(|easemob| easemob.push_open) {
        return Err(Problem::NotOpen);
    }
    let id = headers.get("deviceId").and_then(|id| id.to_str().ok());
    let id = id.or_else(|| query.get("deviceId").map(String::as_str)).unwrap_or_default();
    if id.is_empty() || id.chars().count() > MAX_DEVICE_ID || id.contains('\0') {
        let how = format!("deviceId must have 1 to {MAX_DEVICE_ID} characters");
        return Err(Problem::Illegal(how));
    }
    let command = BindDevice {
        app: app.id().to_owned(),
        username: username.clone(),
        device_id: id.to_owned(),
        change: Bind::Seen,
        new_device: Uuid::now_v7(),
    };
    let metadata = Metadata {
        actor: "terminal".to_owned(),
        via: "socket".to_owned(),
        request: Some(request.to_owned()),
        ..Metadata::default()
    };
    let context = Context { app: app.id().to_owned(), metadata };
    server.ledger.execute(Lane::Interactive, context, command).await?;
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let devices = registry::by_account(&mut checkout.conn(), account).await?;
    let own = |device: &Device| {
        let easemob = device.protocol == Protocol::Easemob && device.registered();
        easemob && device.identity.client_id == id
    };
    let device = devices.into_iter().find(own);
    // Its user may have been removed at once.
    Ok((app, device.ok_or(Rejection::UnknownUser(username))?))
}

/// The token that a handshake shows, or what is wrong with how it does.
fn token<'a>(
    headers: &'a HeaderMap,
    query: &'a HashMap<String, String>,
) -> Option<Result<&'a str, Denied>> {
    bearer(headers).or_else(|| query.get("token").map(|token| Ok(token.as_str())))
}

/// The app of the token that a handshake shows, if it is any app's.
pub(super) async fn app_of_token(
    server: &Server,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Option<String> {
    let token = token(headers, query)?.ok()?;
    Some(server.easemob.tokens.find(token).await.ok()??.app)
}

/// Why a token that belongs to no app is refused.
fn refused(token: Option<Result<&str, Denied>>) -> Denied {
    match token {
        None => Denied::Expired,
        Some(Err(denied)) => denied,
        Some(Ok(token)) if crate::easemob::tokens::looks_like_one(token) => Denied::Unknown,
        Some(Ok(_)) => Denied::Corrupt,
    }
}
