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
    let head = tokio::time::timeout(READY_WAIT, server.ledger.fresh_head()).await;
    let head = head.ok().and_then(Result::ok);
    match unready(server.stopping(), head, server.views.position()) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Why a server takes no calls. Without a head, its database did not say where the ledger ends.
fn unready(stopping: bool, head: Option<i64>, views: i64) -> Option<&'static str> {
    match head {
        _ if stopping => Some("draining"),
        None => Some("database does not answer"),
        Some(head) if head - views > READY_LAG => Some("views are behind"),
        Some(_) => None,
    }
}

/// Every metric, as OpenMetrics text.
pub(super) async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let head = server.ledger.head();
    server.metrics.head.set(head);
    server.metrics.waiting(server.ledger.waiting());
    server.metrics.lag("views", head - server.views.position());
    server.metrics.lag("gateway", head - server.hub.position());
    server.metrics.lags(head);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], server.metrics.render()).into_response()
}

/// The description of the API.
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}

#[cfg(test)]
mod tests {
    use super::{READY_LAG, unready};

    #[test]
    fn a_server_is_ready_unless_it_drains_has_no_database_or_is_far_behind() {
        assert_eq!(unready(false, Some(0), 0), None);
        assert_eq!(unready(false, Some(READY_LAG + 7), 7), None);
        assert_eq!(unready(false, Some(READY_LAG + 8), 7), Some("views are behind"));
        // Another node may have folded more than this one has seen.
        assert_eq!(unready(false, Some(7), READY_LAG + 8), None);
        assert_eq!(unready(false, None, 7), Some("database does not answer"));
        for head in [None, Some(7), Some(READY_LAG + 8)] {
            assert_eq!(unready(true, head, 7), Some("draining"));
        }
    }
}
