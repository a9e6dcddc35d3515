//! The device gateway: `GET /connect`, a WebSocket on which devices get their messages and answer.
//! [`hub`] follows the ledger and hands each event to the connections it concerns; [`session`] is
//! one connection, [`unanswered`] what it waits for; [`frames`] is what goes over it; [`presence`]
//! tells other nodes who is connected here, and [`departed`] the ledger who was connected to one that
//! died. `docs/socket.md` is the contract.

mod antelope;
pub mod departed;
mod easemob;
mod frames;
pub mod hub;
pub mod presence;
mod session;
mod tencent;
mod unanswered;
mod uplink;

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, Query, Request, State, WebSocketUpgrade},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use domain::device::Device;
use projections::registry;

use crate::{
    access::Denied,
    app::Server,
    directory::AppEntry,
    http::{
        RequestId, antelope as calls,
        easemob::refused_handshake,
        tencent as tencent_calls,
        ums::{
            codes::{Code, Input, Interface, Problem, code},
            envelope,
            gate::{Credentials, user_of, verify},
        },
    },
};

/// Largest frame that a device may send, in bytes.
const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Largest frame that is read at all; what is between the two is told why it is refused.
const MAX_READ_BYTES: usize = 1024 * 1024;
/// The path that a device signs.
pub const PATH: &str = "/connect";

/// `GET /connect`: checks the device's credentials and upgrades.
pub async fn connect(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &server).await {
        Ok(upgrade) => upgrade,
        Err(_) => return envelope(StatusCode::UPGRADE_REQUIRED, Code::WrongInterface, "null"),
    };
    let query = Query::<HashMap<String, String>>::try_from_uri(&parts.uri);
    let query = query.map(|Query(query)| query).unwrap_or_default();
    if server.stopping() {
        return envelope(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "null");
    }
    let request = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    let admitted = if antelope::is_meant(&parts.headers, &query) {
        let admitted = antelope::authenticate(&server, &parts.headers, &query, &request).await;
        admitted.map_err(|problem| calls::refusal(&problem, &request))
    } else if tencent::is_meant(&parts.headers, &query) {
        let admitted = tencent::authenticate(&server, &query, &request.0).await;
        admitted.map_err(|problem| tencent_calls::refused_handshake(&problem))
    } else if easemob::is_meant(&parts.headers, &query) {
        let admitted = easemob::authenticate(&server, &parts.headers, &query, &request.0).await;
        admitted.map_err(|problem| refused_handshake(&problem, server.clock.now()))
    } else {
        let admitted = authenticate(&server, &parts.headers, &query).await;
        admitted.map_err(|problem| refuse(&problem))
    };
    match admitted {
        Ok((app, device)) => upgrade
            .max_message_size(MAX_READ_BYTES)
            .max_frame_size(MAX_READ_BYTES)
            .on_upgrade(move |socket| session::run(server, app, device, socket)),
        Err(mut refusal) => {
            if matches!(refusal.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                let noted = refusal.extensions_mut().remove::<Denied>().unwrap_or_default();
                let app = named_app(&server, &parts.headers, &query).await;
                refusal.extensions_mut().insert(Denied { app, ..noted });
            }
            refusal
        }
    }
}

/// The app that a handshake is to, whoever makes it, for the access log.
async fn named_app(
    server: &Server,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Option<String> {
    let get = |name: &str| {
        let header = headers.get(name).and_then(|value| value.to_str().ok());
        header.or_else(|| query.get(name).map(String::as_str))
    };
    if let Some(id) = get("appId") {
        return Some(server.directory.ums_app(id).await.ok()??.id().to_owned());
    }
    if let Some(id) = query.get("sdkappid") {
        return Some(server.directory.tencent(id.parse().ok()?).await.ok()??.id().to_owned());
    }
    easemob::app_of_token(server, headers, query).await
}

fn refuse(problem: &Problem) -> Response {
    let code = match problem {
        Problem::Input(Input::Missing) => Code::Missing,
        // Unregistering is the call that knows every code that can come up here.
        problem => code(Interface::Unregister, problem),
    };
    let (status, code) = match code {
        Code::NotRegistered => (StatusCode::FORBIDDEN, code),
        // Whatever broke, a device can only try again later.
        Code::Unavailable | Code::Internal => {
            // Keys of an app's tokens that cannot be had were logged by whoever fetched them.
            if !matches!(problem, Problem::Gateway(_)) {
                tracing::error!(%problem, "a device could not connect");
            }
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable)
        }
        _ => (StatusCode::UNAUTHORIZED, code),
    };
    let mut response = envelope(status, code, "null");
    let code = Some(code.code().to_owned());
    response.extensions_mut().insert(Denied { code, ..Denied::default() });
    response
}

/// The registered device behind the credentials of a UMS terminal.
async fn authenticate(
    server: &Server,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<(Arc<AppEntry>, Device), Problem> {
    let get = |name: &str| {
        let header = headers.get(name).and_then(|value| value.to_str().ok());
        header.or_else(|| query.get(name).map(String::as_str)).filter(|text| !text.is_empty())
    };
    let credentials =
        Credentials { app_id: get("appId"), timestamp: get("timestamp"), sign: get("sign") };
    let app = verify(server, &credentials, false, PATH, b"").await?;
    let client = get("clientId").ok_or(Input::Missing)?;
    let package = get("appPackage").ok_or(Input::Missing)?;
    if [client, package].iter().any(|text| text.contains('\0')) {
        return Err(Input::Rule.into());
    }
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let devices = registry::by_client(&mut checkout.conn(), app.id(), client).await?;
    let device = devices.into_iter().find(|d| d.profile.app_package == package && d.registered());
    let device = device.ok_or(domain::Rejection::NotRegistered)?;
    if let Some(account) = device.account {
        let token = get("accessToken").ok_or(domain::Rejection::IllegalUser)?;
        // Judging a token may take a call to elsewhere, for which no connection is held.
        drop(checkout);
        let user = user_of(server, &app, client, token).await?.map_err(Problem::Gateway)?;
        let mut checkout = server.ledger.database().ledger_read.checkout().await?;
        let own = match user {
            Some(user) => registry::account(&mut checkout.conn(), app.id(), &user).await?,
            None => None,
        };
        if own != Some(account) {
            return Err(domain::Rejection::IllegalUser.into());
        }
    }
    Ok((app, device))
}
