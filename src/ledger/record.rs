//! An event as a row: its columns, and the leaf hash that ties them together.

use domain::Recorded;
use projections::{Fault, db::Value};
use sha2::{Digest, Sha256};

/// Columns of `events`, in the order of [`Row::values`].
pub(super) const COLUMNS: [&str; 13] = [
    "position",
    "app",
    "stream",
    "version",
    "type",
    "schema",
    "recorded_at",
    "event_id",
    "metadata",
    "body",
    "private",
    "private_salt",
    "leaf",
];

/// Bytes of salt that keep erased private data from being guessed from its hash.
pub(super) const SALT_BYTES: usize = 16;

/// Everything of an event that is stored.
pub(super) struct Row {
    values: Vec<Value>,
    pub(super) leaf: [u8; 32],
}

/// The leaf of one event:
/// `SHA-256(0x00 ‖ length-prefixed header columns ‖ SHA-256(body) ‖ SHA-256(salt ‖ private))`.
///
/// Numbers are 8 bytes, big-endian; each header column is preceded by its length in 8 bytes.
/// Without private data the last hash is that of nothing.
#[must_use]
pub fn leaf(header: &[&[u8]], body: &str, salt: &[u8], private: &str) -> [u8; 32] {
    leaf_over(header, body, &private_digest(salt, private))
}

/// The hash of what is private in an event, which stays when that is erased.
#[must_use]
pub(crate) fn private_digest(salt: &[u8], private: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(private).finalize().into()
}

/// The leaf of an event of whose private data only the hash is known.
pub(super) fn leaf_over(header: &[&[u8]], body: &str, private: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([0]);
    for column in header {
        hash.update((column.len() as u64).to_be_bytes());
        hash.update(column);
    }
    hash.update(Sha256::digest(body.as_bytes()));
    hash.update(private);
    hash.finalize().into()
}

impl Row {
    pub(super) fn new(recorded: &Recorded, salt: [u8; SALT_BYTES]) -> Result<Row, Fault> {
        let fault = |cause| Fault::stored("event", cause);
        let (body, private) = recorded.event.encode().map_err(fault)?;
        let metadata = serde_json::to_string(&recorded.metadata).map_err(fault)?;
        let stream = recorded.stream.to_string();
        let (name, schema) = (recorded.event.name(), i64::from(recorded.event.schema()));
        let salt: &[u8] = if private.is_some() { &salt } else { &[] };
        let header: [&[u8]; 9] = [
            &recorded.position.to_be_bytes(),
            recorded.app.as_bytes(),
            stream.as_bytes(),
            &recorded.version.to_be_bytes(),
            name.as_bytes(),
            &schema.to_be_bytes(),
            &recorded.recorded_at.to_be_bytes(),
            recorded.event_id.as_bytes(),
            metadata.as_bytes(),
        ];
        let leaf = leaf(&header, &body, salt, private.as_deref().unwrap_or_default());
        let values = vec![
            recorded.position.into(),
            recorded.app.as_str().into(),
            stream.into(),
            recorded.version.into(),
            name.into(),
            schema.into(),
            recorded.recorded_at.into(),
            recorded.event_id.as_bytes().to_vec().into(),
            metadata.into(),
            body.into(),
            Value::Text(private),
            Value::Bytes(if salt.is_empty() { None } else { Some(salt.to_vec()) }),
            leaf.to_vec().into(),
        ];
        Ok(Row { values, leaf })
    }

    pub(super) fn values(self) -> Vec<Value> {
        self.values
    }
}
