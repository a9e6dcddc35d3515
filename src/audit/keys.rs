//! The keys that sign checkpoints. Private halves lie in the database, sealed under the master key;
//! one signs at a time. Rotating puts a new one in its place: the first checkpoint of the new key
//! is signed by both, and then the old private half is removed.

use projections::{
    Fault,
    db::{Conn, Pool, Sql},
    on,
};
use uuid::Uuid;

use super::{
    Checkpoints,
    note::{Signer, Verifier},
    tiles::{signed, unsigned},
};
use crate::secrets::{MasterKey, SecretError, new_seed};

/// What the sealed private half is bound to.
const REFERENCE: &str = "audit key";

/// A key, as the database has it.
#[derive(Debug, Clone)]
pub struct Key {
    /// 1, 2, 3, …
    pub number: i64,
    /// It signs checkpoints of this size and larger ones, until the next key does.
    pub from_size: u64,
    /// When it was made, in µs since the epoch.
    pub created_at: i64,
    public: [u8; 32],
    sealed: Option<Vec<u8>>,
}

impl Key {
    /// What checks its signatures.
    #[must_use]
    pub fn verifier(&self, origin: &str) -> Verifier {
        Verifier::new(origin, self.public)
    }

    /// The private half, if it is still there.
    pub(super) fn signer(
        &self,
        origin: &str,
        master: &MasterKey,
    ) -> Result<Option<Signer>, SecretError> {
        let Some(sealed) = &self.sealed else { return Ok(None) };
        let seed = master.open_bytes(REFERENCE, sealed)?;
        Signer::new(origin, &seed).map(Some).ok_or(SecretError::CannotOpen)
    }
}

/// What a log is called: after its first event, wherever it is kept. `None` before that.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn origin(conn: &mut Conn<'_>) -> Result<Option<String>, Fault> {
    const SQL: &str = "SELECT event_id FROM events WHERE position = 1";
    let found: Option<(Vec<u8>,)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_optional(&mut *c).await?);
    let id = found.map(|(id,)| Uuid::from_slice(&id)).transpose();
    let id = id.map_err(|cause| Fault::stored("event id", cause))?;
    Ok(id.map(origin_of))
}

/// What the log is called whose first event has that id.
#[must_use]
pub fn origin_of(first: Uuid) -> String {
    format!("pushledger/{first}")
}

/// Every key, in order of number.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn all(conn: &mut Conn<'_>) -> Result<Vec<Key>, Fault> {
    const SQL: &str =
        "SELECT number, public_key, sealed, from_size, created_at FROM audit_keys ORDER BY number";
    type Row = (i64, Vec<u8>, Option<Vec<u8>>, i64, i64);
    let rows: Vec<Row> = on!(conn.again(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    let key = |(number, public, sealed, from_size, created_at): Row| {
        let public = public.try_into().map_err(|_| Fault::stored("audit key", "not 32 bytes"))?;
        Ok(Key { number, from_size: unsigned(from_size), created_at, public, sealed })
    };
    rows.into_iter().map(key).collect()
}

/// Makes a key that signs from the next checkpoint on.
///
/// # Errors
/// [`SecretError`] when there is no randomness, or the database fails.
pub async fn rotate(pool: &Pool, master: &MasterKey, now: i64) -> Result<Key, SecretError> {
    // One rotation at a time; a second one finds the key of the first.
    const LOCK: Sql = Sql {
        sqlite: "SELECT position FROM head",
        postgres: "SELECT position FROM head FOR UPDATE",
    };
    let mut tx = pool.begin().await?;
    let sql = tx.conn().text(LOCK);
    let _: (i64,) = on!(tx.conn(), c => {
        sqlx::query_as(sql).fetch_one(&mut *c).await.map_err(Fault::from)?
    });
    let last = all(&mut tx.conn()).await?.last().map_or(0, |key| key.number);
    let size = Checkpoints::last(&mut tx.conn()).await?.map_or(0, |last| last.size);
    let seed = new_seed()?;
    let sealed = master.seal_bytes(REFERENCE, &seed)?;
    let signer = Signer::new("", &seed).ok_or(SecretError::CannotOpen)?;
    let public = signer.verifier().public();
    let key = Key { number: last + 1, from_size: size + 1, created_at: now, public, sealed: None };
    const SQL: &str = "INSERT INTO audit_keys (number, public_key, sealed, from_size, created_at) \
         VALUES ($1, $2, $3, $4, $5)";
    on!(tx.conn(), c => {
        let query = sqlx::query(SQL).bind(key.number).bind(public.as_slice()).bind(sealed);
        let query = query.bind(signed(key.from_size)).bind(now);
        query.execute(&mut *c).await.map_err(Fault::from)?.rows_affected()
    });
    tx.commit().await?;
    Ok(key)
}

/// Removes the private halves of keys before a number: they never sign again.
pub(super) async fn retire_before(conn: &mut Conn<'_>, number: i64) -> Result<(), Fault> {
    const SQL: &str = "UPDATE audit_keys SET sealed = NULL WHERE number < $1";
    on!(conn.again(), c => sqlx::query(SQL).bind(number).execute(&mut *c).await?.rows_affected());
    Ok(())
}
