//! `/admin/v1/audit/*`: what is sealed, the keys that signed it, and proofs, for auditors. Hashes
//! are in base64, as in the checkpoint. `docs/audit.md` says how to check them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, Query, rejection::QueryRejection},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Refusal, operator};
use crate::{
    access::Origin,
    app::Server,
    audit::{NoProof, Proof},
    tokens::{Operator, Role},
};

/// A call by somebody who may read the history: an auditor or an admin.
pub struct Reader {
    pub(super) server: Arc<Server>,
    pub(super) operator: Operator,
    pub(super) origin: Origin,
}

impl FromRequestParts<Arc<Server>> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        server: &Arc<Server>,
    ) -> Result<Reader, Refusal> {
        let operator = operator(server, &parts.headers).await?;
        match operator.role {
            Role::Admin | Role::Auditor => {
                let (server, origin) = (Arc::clone(server), Origin::noted(&parts.extensions));
                Ok(Reader { server, operator, origin })
            }
            Role::Analyst | Role::Uplink => {
                Err(Refusal::forbidden(&operator, "this needs the role auditor"))
            }
        }
    }
}

impl From<NoProof> for Refusal {
    fn from(none: NoProof) -> Self {
        match none {
            NoProof::NothingSealed => Refusal::new(StatusCode::NOT_FOUND, &none.to_string()),
            NoProof::OutOfRange(..) => Refusal::bad(none),
            NoProof::Fault(fault) => Refusal::internal(&fault),
        }
    }
}

/// A key that signs checkpoints, or did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditKey {
    /// 1, 2, 3, …
    number: i64,
    /// `NAME+HASH+BASE64`, as C2SP's signed notes word a verifier key.
    key: String,
    /// It signs checkpoints of this size and larger ones, until the next key does.
    from_size: u64,
    /// When it was made, in ms since the epoch.
    created_at: i64,
}

/// Proof that an event is under a checkpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct InclusionProof {
    /// Position of the event; its index in the tree is one less.
    position: i64,
    /// Events of the tree.
    size: u64,
    /// The event's leaf.
    leaf: String,
    /// The hashes next to the way from the leaf up to the root.
    proof: Vec<String>,
}

/// Proof that a larger tree begins with all that is in a smaller one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsistencyProof {
    /// Events of the smaller tree.
    from: i64,
    /// Events of the larger tree.
    to: u64,
    /// The hashes, as RFC 6962 orders them.
    proof: Vec<String>,
}

/// Of which event, in which tree.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Included {
    position: i64,
    size: Option<i64>,
}

/// From which tree to which.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistent {
    from: i64,
    to: Option<i64>,
}

fn base64(proof: Proof) -> Vec<String> {
    proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect()
}

/// The last signed checkpoint, a C2SP tlog-checkpoint.
#[utoipa::path(get, path = "/admin/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 404, body = Refusal)))]
pub async fn checkpoint(reader: Reader) -> Result<Response, Refusal> {
    let sealed = reader.server.audit.checkpoint().await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], sealed.note).into_response())
}

/// The keys that sign or signed, in order.
#[utoipa::path(get, path = "/admin/v1/audit/keys", tag = "audit",
    responses((status = 200, body = Vec<AuditKey>)))]
pub async fn keys(reader: Reader) -> Result<Response, Refusal> {
    let keys = reader.server.audit.keys().await?.into_iter().map(|(key, text)| AuditKey {
        number: key.number,
        key: text,
        from_size: key.from_size,
        created_at: key.created_at / 1_000,
    });
    Ok(Json(keys.collect::<Vec<_>>()).into_response())
}

/// Proof that the event at a position is in the tree of a size, by default the last one signed.
#[utoipa::path(get, path = "/admin/v1/audit/inclusion", tag = "audit",
    params(("position" = i64, Query), ("size" = Option<i64>, Query)),
    responses((status = 200, body = InclusionProof), (status = 400, body = Refusal),
        (status = 404, body = Refusal)))]
pub async fn inclusion(
    reader: Reader,
    wanted: Result<Query<Included>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Included { position, size }) = wanted.map_err(Refusal::bad)?;
    let proof = reader.server.audit.inclusion(position, size).await?;
    let (size, leaf) = (proof.size, STANDARD.encode(proof.leaf.unwrap_or_default()));
    Ok(Json(InclusionProof { position, size, leaf, proof: base64(proof) }).into_response())
}

/// Proof that the tree of `to` events, by default the last one signed, goes on from that of `from`.
#[utoipa::path(get, path = "/admin/v1/audit/consistency", tag = "audit",
    params(("from" = i64, Query), ("to" = Option<i64>, Query)),
    responses((status = 200, body = ConsistencyProof), (status = 400, body = Refusal),
        (status = 404, body = Refusal)))]
pub async fn consistency(
    reader: Reader,
    wanted: Result<Query<Consistent>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(Consistent { from, to }) = wanted.map_err(Refusal::bad)?;
    let proof = reader.server.audit.consistency(from, to).await?;
    let to = proof.size;
    Ok(Json(ConsistencyProof { from, to, proof: base64(proof) }).into_response())
}
