//! The front door. The whole URL map is in [`router`]; each protocol has a folder or a file.

pub mod admin;
pub mod antelope;
mod body;
pub mod easemob;
mod graphql;
pub mod openapi;
mod system;
pub mod tencent;
pub mod ums;
pub mod uplink;

use std::sync::Arc;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    access::{Denied, Origin},
    app::Server,
    socket,
};

pub use graphql::MAX_FOLLOWERS;

/// Longest request id that is taken over from a caller, in characters.
const MAX_REQUEST_ID: usize = 64;

/// The id under which a request is logged and answered.
#[derive(Debug, Clone, Default)]
pub struct RequestId(pub Arc<str>);

/// Every route.
pub fn router(server: Arc<Server>) -> Router {
    let queries = get(graphql::explorer).post(graphql::query);
    Router::new()
        .merge(ums::routes())
        .route(socket::PATH, get(socket::connect))
        .merge(admin::routes())
        .route("/graphql", queries.layer(middleware::map_response(admin::worded)))
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/metrics", get(system::metrics))
        .route("/openapi.json", get(system::openapi))
        .merge(antelope::routes())
        .merge(tencent::routes())
        .merge(uplink::routes())
        .merge(easemob::routes())
        .fallback(not_found)
        .with_state(Arc::clone(&server))
        .layer(middleware::from_fn_with_state(server, identify))
}

async fn not_found() -> Response {
    admin::Refusal::new(StatusCode::NOT_FOUND, "no such path").into_response()
}

/// Gives every request an id, its caller's if that is sane, and a span to log in; and logs who is
/// refused.
async fn identify(State(server): State<Arc<Server>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
    let sane = |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len());
    let id: Arc<str> = match given.filter(sane) {
        Some(id) => Arc::from(id),
        None => Arc::from(Uuid::now_v7().simple().to_string()),
    };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let span = tracing::info_span!("request", id = %id, path = path.unwrap_or_default());
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let origin = Origin::of(&request, RequestId(Arc::clone(&id)), &server.proxies);
    request.extensions_mut().insert(origin.clone());
    let mut response = next.run(request).instrument(span).await;
    let denied = response.extensions_mut().remove::<Denied>();
    if denied.is_some() || origin.is_refusal(response.status()) {
        let mut denied = denied.unwrap_or_default();
        denied.code.get_or_insert_with(|| response.status().as_str().to_owned());
        server.access.refused(origin.refused(denied));
    }
    // An answer that is given again has the id of the first.
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().entry("x-request-id").or_insert(id);
    }
    response
}

/// The fingerprint that the ledger keeps of a bind key.
#[must_use]
pub fn bind_key_fingerprint(server: &Server, app: &str, device_id: &str, key: &str) -> String {
    server.master.fingerprint(&[b"bind key", app.as_bytes(), device_id.as_bytes(), key.as_bytes()])
}
