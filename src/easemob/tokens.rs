//! Bearer tokens of Easemob's callers: those of apps, which end with the secret that asked for
//! them, and those of users, which end with the user. They are random; only hashes are stored, so
//! that every node knows them and nobody can read them.

use projections::{Fault, db::Pool, on};
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::{
    clock::Clock,
    secrets::{new_secret, token_hash},
};

/// Tokens of apps kept in memory.
const CACHED: usize = 10_000;
/// µs of a second.
const SECOND: i64 = 1_000_000;
/// How long an ended token is known as ended, in µs: a day.
const REMEMBERED_MICROS: i64 = 86_400 * SECOND;
/// How long an app's token lives unless its caller says otherwise, in seconds: a year. A common
/// client never renews the token that it begins with.
pub const APP_SECONDS: i64 = 366 * 86_400;
/// How long a user's token lives unless its caller says otherwise, in seconds: 60 days, as the
/// documents say.
pub const USER_SECONDS: i64 = 60 * 86_400;

/// Whose a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The app's server, by the fingerprint of the secret that asked for it.
    App(String),
    /// A user.
    User(Uuid, String),
}

/// A token that was issued once.
#[derive(Debug, Clone)]
pub struct Token {
    /// The app that it is for.
    pub app: String,
    /// Whose it is.
    pub holder: Holder,
    /// When it ends, in µs since the epoch; `i64::MAX`: never.
    pub expires_at: i64,
}

/// All tokens.
pub struct Tokens {
    read: Pool,
    write: Pool,
    clock: Clock,
    cache: Cache<String, Token>,
}

/// Whether a text has the form of a token: 32 lower-case hex digits.
#[must_use]
pub fn looks_like_one(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Tokens {
    /// The tokens in a database.
    #[must_use]
    pub fn new(read: Pool, write: Pool, clock: Clock) -> Tokens {
        Tokens { read, write, clock, cache: Cache::new(CACHED) }
    }

    /// Issues a token for so many seconds; `None`: for ever. It is told once.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be stored.
    pub async fn issue(
        &self,
        app: &str,
        holder: Holder,
        seconds: Option<i64>,
    ) -> Result<String, Fault> {
        const SQL: &str = "INSERT INTO easemob_tokens (hash, app, secret, account, username, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6)";
        let token = new_secret().map_err(|error| Fault::Database(error.into()))?;
        let end = |seconds: i64| self.clock.now().saturating_add(seconds.saturating_mul(SECOND));
        let expires_at = seconds.map_or(i64::MAX, end);
        let (secret, account, username) = match holder {
            Holder::App(secret) => (Some(secret), None, None),
            Holder::User(account, name) => (None, Some(account.to_string()), Some(name)),
        };
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => {
            sqlx::query(SQL)
                .bind(token_hash(&token))
                .bind(app)
                .bind(secret)
                .bind(account)
                .bind(username)
                .bind(expires_at)
                .execute(&mut *c)
                .await?
                .rows_affected()
        });
        tx.commit().await?;
        Ok(token)
    }

    /// What was issued under that token, ended or not. Whether its app still has the secret, or
    /// the user is still there, is for the caller to see.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn find(&self, token: &str) -> Result<Option<Token>, Fault> {
        type Row = (String, Option<String>, Option<String>, Option<String>, i64);
        const SQL: &str = "SELECT app, secret, account, username, expires_at \
             FROM easemob_tokens WHERE hash = $1";
        let hash = token_hash(token);
        if let Some(found) = self.cache.get(&hash) {
            return Ok(Some(found));
        }
        let mut checkout = self.read.checkout().await?;
        let found: Option<Row> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(&hash).fetch_optional(&mut *c).await?
        });
        let Some((app, secret, account, username, expires_at)) = found else { return Ok(None) };
        let holder = match (secret, account, username) {
            (Some(secret), None, None) => Holder::App(secret),
            (None, Some(account), Some(username)) => {
                let account = account.parse().map_err(|cause| Fault::stored("token", cause))?;
                Holder::User(account, username)
            }
            _ => return Err(Fault::stored("token", "neither an app's nor a user's")),
        };
        let token = Token { app, holder, expires_at };
        // A user's may be taken back at any time.
        if let Holder::App(_) = token.holder {
            self.cache.insert(hash, token.clone());
        }
        Ok(Some(token))
    }

    /// Takes back all tokens of a user.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn remove(&self, account: Uuid) -> Result<(), Fault> {
        const SQL: &str = "DELETE FROM easemob_tokens WHERE account = $1";
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => {
            sqlx::query(SQL).bind(account.to_string()).execute(&mut *c).await?.rows_affected()
        });
        tx.commit().await
    }

    /// Removes tokens that ended a day ago; until then they are known as ended.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn remove_old(&self) -> Result<(), Fault> {
        const SQL: &str = "DELETE FROM easemob_tokens WHERE expires_at < $1";
        let before = self.clock.now() - REMEMBERED_MICROS;
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => sqlx::query(SQL).bind(before).execute(&mut *c).await?.rows_affected());
        tx.commit().await
    }
}
