//! An event with its place in the ledger, as every reader sees it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Event, Stream, facts::Place};

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// 1, 2, 3, … without holes.
    pub position: i64,
    /// The app; empty for what belongs to no app.
    pub app: String,
    /// Its stream.
    pub stream: Stream,
    /// Its place in that stream, from 1.
    pub version: i64,
    /// When it was recorded, in µs since the epoch; never goes back.
    pub recorded_at: i64,
    /// UUIDv7, unique for ever.
    pub event_id: Uuid,
    /// Who caused it, and how.
    pub metadata: Metadata,
    /// What happened.
    pub event: Event,
}

/// Who caused an event, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// A role (`terminal`, `cloud`, `server`) or the number of an operator (`operator:3`).
    pub actor: String,
    /// The interface (`ums`, `easemob`, `admin`, `socket`, `cli`), or the server's own work (`expiry`,
    /// `endings`).
    pub via: String,
    /// The request's id, as in logs and the reply's `X-Request-ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Position of the event that this one follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<i64>,
    /// Keyed hash of the idempotency key, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyRef>,
}

/// The trace of an idempotency key: enough to rebuild the index from the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRef {
    /// Keyed hash of the key.
    pub key: String,
    /// Keyed hash of the request.
    pub request: String,
}

impl Recorded {
    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place {
            position: self.position,
            app: &self.app,
            stream: &self.stream,
            version: self.version,
            recorded_at: self.recorded_at,
        }
    }
}
