//! `/graphql`: queries by POST for every role, and an explorer page by GET that loads nothing from
//! anywhere else.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use graphql::{
    Later, Viewer,
    audit::{ConsistencyProof, InclusionProof, Proofs, Proven},
};
use projections::Fault;

use super::{
    admin::{MAX_BODY_BYTES, Refusal, operator},
    body,
};
use crate::{
    app::Server,
    audit::{Audit, NoProof},
    tokens::{Operator, Role},
};

/// Longest run of a query.
const MAX_RUN: Duration = Duration::from_secs(10);
/// Longest wait for the position that a query demands.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The explorer: a text area, a token, and the answer.
pub(super) async fn explorer() -> Html<&'static str> {
    Html(include_str!("explorer.html"))
}

/// Answers a query. With the header `Ledger-Position` it includes at least that position; the
/// answer says in the same header which one it includes.
pub(super) async fn query(State(server): State<Arc<Server>>, request: Request) -> Response {
    match run(&server, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn run(server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let body = body::read(body, MAX_BODY_BYTES).await;
    let operator = operator(server, &parts.headers).await?;
    if operator.role == Role::Uplink {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "this token may only hand in uplinks"));
    }
    if let Some(position) = parts.headers.get("ledger-position") {
        let position = position.to_str().ok().and_then(|text| text.parse().ok());
        let position: i64 = position.ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, "Ledger-Position must be a number")
        })?;
        let reached = server.views.reached(position, MAX_WAIT).await;
        reached
            .map_err(|behind| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &behind.to_string()))?;
    }
    let bytes = body.map_err(Refusal::no_body)?;
    let mut query: async_graphql::Request = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let included = server.views.position();
    if let Role::Admin | Role::Auditor = operator.role {
        query = query.data(Arc::new(Sealed(server.audit.clone())) as Arc<dyn Proofs>);
    }
    let run = server.schema.execute(query.data(viewer(operator)));
    let answer = tokio::time::timeout(MAX_RUN, run).await;
    let mut answer = answer.map_err(|_| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the query took longer than 10 seconds")
    })?;
    for error in &mut answer.errors {
        if let Some(source) = error.source::<projections::Fault>() {
            tracing::error!(fault = %source, "a query failed");
        }
    }
    let mut response = Json(answer).into_response();
    response.headers_mut().insert("ledger-position", HeaderValue::from(included));
    Ok(response)
}

/// The tree as the query API reads it.
struct Sealed(Audit);

impl Proofs for Sealed {
    fn checkpoint(&self) -> Later<'_, Option<String>> {
        Box::pin(
            async move { Ok(proven(self.0.checkpoint().await)?.ok().map(|sealed| sealed.note)) },
        )
    }

    fn inclusion(&self, position: i64, size: Option<i64>) -> Later<'_, Proven<InclusionProof>> {
        Box::pin(async move {
            let proof = proven(self.0.inclusion(position, size).await)?;
            Ok(proof.map(|proof| InclusionProof {
                position,
                size: i64::try_from(proof.size).unwrap_or(i64::MAX),
                leaf: STANDARD.encode(proof.leaf.unwrap_or_default()),
                proof: proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
            }))
        })
    }

    fn consistency(&self, from: i64, to: Option<i64>) -> Later<'_, Proven<ConsistencyProof>> {
        Box::pin(async move {
            let proof = proven(self.0.consistency(from, to).await)?;
            Ok(proof.map(|proof| ConsistencyProof {
                from,
                to: i64::try_from(proof.size).unwrap_or(i64::MAX),
                proof: proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
            }))
        })
    }
}

/// A proof or why there is none; a fault is no reason.
fn proven<T>(found: Result<T, NoProof>) -> Result<Proven<T>, Fault> {
    match found {
        Ok(proof) => Ok(Ok(proof)),
        Err(NoProof::Fault(fault)) => Err(fault),
        Err(none) => Ok(Err(none.to_string())),
    }
}

/// Analysts see no names, tokens or payloads.
fn viewer(operator: Operator) -> Viewer {
    let private = match operator.role {
        Role::Admin | Role::Auditor => true,
        Role::Analyst | Role::Uplink => false,
    };
    Viewer { app: operator.app, private }
}
