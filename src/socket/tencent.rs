//! The handshake of a device of a Tencent account: the account's signature and the device's own id.
//! A device that was never seen before is known from here on.

use std::{collections::HashMap, sync::Arc};

use axum::http::HeaderMap;
use domain::{Metadata, Rejection, device::Device, message::Protocol, terminal::AdmitTerminal};
use projections::registry;
use uuid::Uuid;

use crate::{
    app::Server,
    directory::AppEntry,
    http::tencent::{errors::Problem, gate::holder},
    ledger::{Context, Lane, Refused},
};

/// Longest id of a device, in characters.
const MAX_DEVICE_ID: usize = 100;

/// Whether a handshake shows what a device of a Tencent account proves itself with, and not what a
/// UMS terminal does.
pub(super) fn is_meant(headers: &HeaderMap, query: &HashMap<String, String>) -> bool {
    let ums = headers.contains_key("appId") || query.contains_key("appId");
    !ums && query.contains_key("usersig")
}

/// The device behind a signature.
pub(super) async fn authenticate(
    server: &Server,
    query: &HashMap<String, String>,
    request: &str,
) -> Result<(Arc<AppEntry>, Device), Problem> {
    let (app, user) = holder(server, query, "userId", false).await?;
    let id = query.get("deviceId").map(String::as_str).unwrap_or_default();
    if id.is_empty() || id.chars().count() > MAX_DEVICE_ID || id.contains('\0') {
        return Err(Problem::Field("deviceId"));
    }
    let command = AdmitTerminal {
        app: app.id().to_owned(),
        user: user.to_owned(),
        device_id: id.to_owned(),
        new_device: Uuid::now_v7(),
    };
    let metadata = Metadata {
        actor: "terminal".to_owned(),
        via: "socket".to_owned(),
        request: Some(request.to_owned()),
        ..Metadata::default()
    };
    let context = Context { app: app.id().to_owned(), metadata };
    match server.ledger.execute(Lane::Interactive, context, command).await {
        Err(Refused::Rejected(Rejection::UnknownUser(_))) => return Err(Problem::NoAccount),
        done => drop(done?),
    }
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let account = registry::tencent(&mut checkout.conn(), app.id(), user).await?;
    let account = account.ok_or(Problem::NoAccount)?;
    let devices = registry::by_account(&mut checkout.conn(), account).await?;
    let own = |device: &Device| {
        let tencent = device.protocol == Protocol::Tencent && device.registered();
        tencent && device.identity.client_id == id
    };
    // Its account may have been closed at once.
    Ok((app, devices.into_iter().find(own).ok_or(Problem::NoAccount)?))
}
