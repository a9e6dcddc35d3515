//! Health, readiness, metrics, and the description of the API.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::openapi;
use crate::app::Server;

/// Events that the views may be behind while the server counts as ready.
const READY_LAG: i64 = 100_000;
/// Longest wait for the database before the server counts as not ready.
const READY_WAIT: Duration = Duration::from_secs(2);

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The server takes calls: its database answers, it does not drain, its views are not far behind.
pub(super) async fn readyz(State(server): State<Arc<Server>>) -> Response {
    let reason = match tokio::time::timeout(READY_WAIT, server.ledger.fresh_head()).await {
        _ if server.stopping() => Some("draining"),
        Ok(Ok(head)) if head - server.views.position() > READY_LAG => Some("views are behind"),
        Ok(Ok(_)) => None,
        Ok(Err(_)) | Err(_) => Some("database does not answer"),
    };
    match reason {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Every metric, as OpenMetrics text.
pub(super) async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let head = server.ledger.head();
    server.metrics.head.set(head);
    server.metrics.waiting(server.ledger.waiting());
    server.metrics.lag("views", head - server.views.position());
    server.metrics.lag("gateway", head - server.hub.position());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], server.metrics.render()).into_response()
}

/// The description of the API.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}
