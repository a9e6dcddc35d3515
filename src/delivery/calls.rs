//! Idempotency keys of calls, noted before a call is made: should this node die before the outcome
//! is recorded, whoever makes the call again makes it with the same key, and the vendor answers as
//! it did the first time. JPush takes only keys that it issued, so they cannot be derived.
//!
//! They lie with the hints, where nobody waits for a disk. One that is lost costs what it cost
//! before: a device may be shown a message twice.

use domain::{app::VendorRef, message::MessageId};
use projections::{Fault, db::Pool, on};
use sha2::{Digest, Sha256};

/// How long a key is given out again, in µs. It may be as old when it is noted, and lives a day.
const AGAIN_MICROS: i64 = 12 * 3_600 * 1_000_000;

/// A call: the same message for the same tokens over the same account of a vendor.
#[must_use]
pub(crate) fn name(vendor: &VendorRef, message: MessageId, tokens: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in [vendor.name.as_str(), &vendor.credentials.fingerprint].iter().chain(tokens) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let tokens: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{message}/{tokens}")
}

/// The key that a call carries: the one that was noted for it, else `fresh`, which is noted.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn key(pool: &Pool, call: &str, fresh: &str, now: i64) -> Result<String, Fault> {
    const SQL: &str = "INSERT INTO vendor_calls (call, key, since) VALUES ($1, $2, $3) \
         ON CONFLICT (call) DO UPDATE SET \
         key = CASE WHEN vendor_calls.since > $4 THEN vendor_calls.key ELSE excluded.key END, \
         since = CASE WHEN vendor_calls.since > $4 THEN vendor_calls.since ELSE excluded.since END \
         RETURNING key";
    let mut checkout = pool.checkout().await?;
    let (key,): (String,) = on!(checkout.conn(), c => {
        let query = sqlx::query_as(SQL).bind(call).bind(fresh).bind(now).bind(now - AGAIN_MICROS);
        query.fetch_one(&mut *c).await?
    });
    Ok(key)
}

/// Removes keys that are not given out again.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn forget_old(pool: &Pool, now: i64) -> Result<(), Fault> {
    const SQL: &str = "DELETE FROM vendor_calls WHERE since <= $1";
    let mut checkout = pool.checkout().await?;
    on!(checkout.conn(), c => {
        sqlx::query(SQL).bind(now - AGAIN_MICROS).execute(&mut *c).await?.rows_affected()
    });
    Ok(())
}
