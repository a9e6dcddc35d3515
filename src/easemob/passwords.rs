//! Passwords of Easemob users. Only argon2id hashes are kept, under the user's account and apart
//! from the ledger, so that they go with the user. Hashing is slow on purpose: it happens off the
//! threads that serve requests, a few at a time.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use projections::{Fault, db::Pool, on};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Passwords hashed at once; each takes 19 MiB for the time.
const AT_ONCE: usize = 2;
/// Passwords that may wait to be hashed; one more is turned away.
const MAX_WAITING: usize = 512;

/// A password could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait; later may work.
    #[error("too many passwords are waiting to be checked")]
    Busy,
    /// The database or the hash failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Passwords of all users.
pub struct Passwords {
    read: Pool,
    write: Pool,
    at_once: Semaphore,
    waiting: Arc<Semaphore>,
}

impl Passwords {
    /// The passwords in a database.
    #[must_use]
    pub fn new(read: Pool, write: Pool) -> Passwords {
        let waiting = Arc::new(Semaphore::new(MAX_WAITING));
        Passwords { read, write, at_once: Semaphore::new(AT_ONCE), waiting }
    }

    /// Gives an account a password.
    ///
    /// # Errors
    /// [`PasswordError`] when it cannot be stored.
    pub async fn set(&self, account: Uuid, password: &str) -> Result<(), PasswordError> {
        const SQL: &str = "INSERT INTO easemob_passwords (account, hash) VALUES ($1, $2) \
             ON CONFLICT (account) DO UPDATE SET hash = excluded.hash";
        let password = password.to_owned();
        let hash = self.hashing(move || hashed(&password)).await??;
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => {
            let query = sqlx::query(SQL).bind(account.to_string()).bind(hash);
            query.execute(&mut *c).await.map_err(Fault::from)?.rows_affected()
        });
        Ok(tx.commit().await?)
    }

    /// Whether that is the account's password. For nobody it takes as long, and is not.
    ///
    /// # Errors
    /// [`PasswordError`] when it cannot be told.
    pub async fn fits(&self, account: Option<Uuid>, password: &str) -> Result<bool, PasswordError> {
        let known = match account {
            Some(account) => self.hash_of(account).await?,
            None => None,
        };
        let password = password.to_owned();
        let check = move || match known {
            Some(hash) => Ok(matches(&password, &hash)),
            // As long as a wrong one, so that names cannot be told by the time.
            None => hashed(&password).map(|_| false),
        };
        Ok(self.hashing(check).await??)
    }

    /// Forgets the password of an account.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn remove(&self, account: Uuid) -> Result<(), Fault> {
        const SQL: &str = "DELETE FROM easemob_passwords WHERE account = $1";
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => {
            sqlx::query(SQL).bind(account.to_string()).execute(&mut *c).await?.rows_affected()
        });
        tx.commit().await
    }

    async fn hash_of(&self, account: Uuid) -> Result<Option<String>, Fault> {
        const SQL: &str = "SELECT hash FROM easemob_passwords WHERE account = $1";
        let mut checkout = self.read.checkout().await?;
        let found: Option<(String,)> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(account.to_string()).fetch_optional(&mut *c).await?
        });
        Ok(found.map(|(hash,)| hash))
    }

    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let waits = Arc::clone(&self.waiting).try_acquire_owned();
        let _waits = waits.map_err(|_| PasswordError::Busy)?;
        let turn = self.at_once.acquire().await.map_err(|_| PasswordError::Busy)?;
        let done = tokio::task::spawn_blocking(work).await;
        drop(turn);
        done.map_err(|cause| Fault::stored("password", cause).into())
    }
}

fn hashed(password: &str) -> Result<String, Fault> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash: PasswordHash| hash.to_string())
        .map_err(|cause| Fault::stored("password", cause))
}

fn matches(password: &str, hash: &str) -> bool {
    Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
}
