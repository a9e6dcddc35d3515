//! The handshake of an Antelope device: its token, and no more. A device that was never seen before
//! is known from here on.

use std::{collections::HashMap, sync::Arc};

use axum::http::HeaderMap;
use domain::{Metadata, cid::AdmitDevice, device::Device};
use projections::{Fault, registry};
use uuid::Uuid;

use crate::{
    antelope::Holder,
    app::Server,
    directory::AppEntry,
    http::{
        RequestId,
        antelope::{errors::Problem, gate::holder},
    },
    ledger::{Context, Lane},
};

/// Whether a handshake shows what an Antelope device proves itself with, and not what a UMS terminal
/// does.
pub(super) fn is_meant(headers: &HeaderMap, query: &HashMap<String, String>) -> bool {
    let shown = |name: &str| headers.contains_key(name) || query.contains_key(name);
    !shown("appId")
        && (headers.contains_key("x-client-token") || query.contains_key("client_token"))
}

/// The device behind a token.
pub(super) async fn authenticate(
    server: &Server,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
    request: &RequestId,
) -> Result<(Arc<AppEntry>, Device), Problem> {
    let Holder { app, cid } = holder(server, headers, query).await?;
    let id = app.id().to_owned();
    let command = AdmitDevice { app: id.clone(), cid, new_device: Uuid::now_v7() };
    let metadata = Metadata {
        actor: "terminal".to_owned(),
        via: "socket".to_owned(),
        request: Some(request.0.to_string()),
        ..Metadata::default()
    };
    let context = Context { app: id, metadata };
    server.ledger.execute(Lane::Interactive, context, command).await?;
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let found = registry::by_cids(&mut checkout.conn(), app.id(), &[cid]).await?;
    // One that has the number beside another address may have unregistered there.
    let device = found.into_iter().next();
    if device.as_ref().is_some_and(|device| !device.registered()) {
        return Err(Problem::Denied("the device is not registered"));
    }
    Ok((app, device.ok_or_else(|| Fault::stored("device", "it was admitted and is not there"))?))
}
