//! Bearer tokens: those of users on terminals, and those of operators with their roles. Only
//! hashes are stored.

use std::time::Duration;

use projections::{Fault, db::Pool, on};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    secrets::{new_secret, token_hash},
};

/// Tokens kept in memory.
const CACHED: usize = 100_000;
/// How long a terminal's token lives unless its issuer says otherwise: 10 days.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10 * 86_400);

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Statistics and messages.
    Analyst,
    /// Everything that can be read, the history too.
    Auditor,
    /// Handing in uplinks, and nothing else.
    Uplink,
}

/// Somebody with a bearer token.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Number of the token.
    pub number: i64,
    /// What it may do.
    pub role: Role,
    /// The one app that it is bound to; `None`: all.
    pub app: Option<String>,
}

impl Operator {
    /// Whether this operator may see an app.
    #[must_use]
    pub fn sees(&self, app: &str) -> bool {
        self.app.as_deref().is_none_or(|own| own == app)
    }
}

/// A user's token on a terminal.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The app that issued it.
    pub app: String,
    /// The UMS `userId`.
    pub user: String,
    /// The client that it was issued to.
    pub client_id: String,
    /// When it ends, in µs.
    pub expires_at: i64,
}

/// All tokens.
pub struct Tokens {
    read: Pool,
    write: Pool,
    clock: Clock,
    cache: Cache<String, AccessToken>,
}

impl Tokens {
    /// The tokens in a database.
    #[must_use]
    pub fn new(read: Pool, write: Pool, clock: Clock) -> Tokens {
        Tokens { read, write, clock, cache: Cache::new(CACHED) }
    }

    /// Issues a terminal's token; it is told once and only its hash is kept.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be stored.
    pub async fn issue(
        &self,
        app: &str,
        user: &str,
        client_id: &str,
        ttl: Duration,
    ) -> Result<(String, i64), Fault> {
        const SQL: &str = "INSERT INTO access_tokens (hash, app, ums_user, client_id, expires_at) \
             VALUES ($1, $2, $3, $4, $5)";
        let token = new_secret().map_err(|error| Fault::Database(error.into()))?;
        let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
        let expires_at = self.clock.now().saturating_add(ttl);
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => {
            sqlx::query(SQL)
                .bind(token_hash(&token))
                .bind(app)
                .bind(user)
                .bind(client_id)
                .bind(expires_at)
                .execute(&mut *c)
                .await?
                .rows_affected()
        });
        tx.commit().await?;
        Ok((token, expires_at))
    }

    /// Who a terminal's token belongs to, expired or not.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn find(&self, token: &str) -> Result<Option<AccessToken>, Fault> {
        const SQL: &str =
            "SELECT app, ums_user, client_id, expires_at FROM access_tokens WHERE hash = $1";
        let hash = token_hash(token);
        if let Some(found) = self.cache.get(&hash) {
            return Ok(Some(found));
        }
        let mut checkout = self.read.checkout().await?;
        let found: Option<(String, String, String, i64)> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(&hash).fetch_optional(&mut *c).await?
        });
        let Some((app, user, client_id, expires_at)) = found else { return Ok(None) };
        let token = AccessToken { app, user, client_id, expires_at };
        self.cache.insert(hash, token.clone());
        Ok(Some(token))
    }

    /// Forgets the tokens that are kept in memory, as some were taken back.
    pub fn forget(&self) {
        self.cache.clear();
    }

    /// Removes tokens that ended a month ago; until then they are known as expired.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn remove_old(&self) -> Result<(), Fault> {
        const MONTH: i64 = 30 * 86_400 * 1_000_000;
        const SQL: &str = "DELETE FROM access_tokens WHERE expires_at < $1";
        let before = self.clock.now() - MONTH;
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => sqlx::query(SQL).bind(before).execute(&mut *c).await?.rows_affected());
        tx.commit().await
    }

    /// Creates an operator, with a token of our choice or a given one.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be stored.
    pub async fn create_operator(
        &self,
        name: &str,
        role: Role,
        app: Option<&str>,
        token: Option<&str>,
    ) -> Result<String, Fault> {
        const SQL: &str = "INSERT INTO operators (hash, name, role, app, created_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO NOTHING";
        let token = match token {
            Some(token) => token.to_owned(),
            None => new_secret().map_err(|error| Fault::Database(error.into()))?,
        };
        let role = projections::db::name_of(role)?;
        let mut tx = self.write.begin().await?;
        on!(tx.conn(), c => {
            sqlx::query(SQL)
                .bind(token_hash(&token))
                .bind(name)
                .bind(role)
                .bind(app)
                .bind(self.clock.now())
                .execute(&mut *c)
                .await?
                .rows_affected()
        });
        tx.commit().await?;
        Ok(token)
    }

    /// Every operator, in order of number.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn operators(&self) -> Result<Vec<(String, Operator)>, Fault> {
        const SQL: &str = "SELECT number, name, role, app FROM operators ORDER BY number";
        let mut checkout = self.read.checkout().await?;
        let rows: Vec<(i64, String, String, Option<String>)> =
            on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
        let operator = |(number, name, role, app)| {
            let role = projections::db::from_name(role)?;
            Ok((name, Operator { number, role, app }))
        };
        rows.into_iter().map(operator).collect()
    }

    /// Withdraws an operator's token; false if there is none of that number.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn withdraw(&self, number: i64) -> Result<bool, Fault> {
        const SQL: &str = "DELETE FROM operators WHERE number = $1";
        let mut tx = self.write.begin().await?;
        let rows = on!(tx.conn(), c => {
            sqlx::query(SQL).bind(number).execute(&mut *c).await?.rows_affected()
        });
        tx.commit().await?;
        Ok(rows > 0)
    }

    /// Whether there is any operator.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn any_operator(&self) -> Result<bool, Fault> {
        let mut checkout = self.read.checkout().await?;
        let found: Option<(i64,)> = on!(checkout.conn(), c => {
            sqlx::query_as("SELECT number FROM operators LIMIT 1").fetch_optional(&mut *c).await?
        });
        Ok(found.is_some())
    }

    /// The operator with that token.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn operator(&self, token: &str) -> Result<Option<Operator>, Fault> {
        const SQL: &str = "SELECT number, role, app FROM operators WHERE hash = $1";
        let mut checkout = self.read.checkout().await?;
        let found: Option<(i64, String, Option<String>)> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(token_hash(token)).fetch_optional(&mut *c).await?
        });
        let Some((number, role, app)) = found else { return Ok(None) };
        Ok(Some(Operator { number, role: projections::db::from_name(role)?, app }))
    }
}
