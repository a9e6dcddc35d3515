//! Effects: what must happen because something was recorded. Each has a checkpoint in the ledger's
//! own database that only moves forward, so that making views anew never repeats an effect. A new
//! effect starts at the head. One node at a time runs them, under a [lease](Lease).

use std::time::Duration;

use projections::{
    Fault,
    db::{Conn, Pool},
    on,
};
use uuid::Uuid;

use crate::{clock::Clock, ledger::Ledger};

/// How long a lease holds without being renewed.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often a lease is renewed, or tried for.
pub const RENEW: Duration = Duration::from_secs(3);

/// Where an effect goes on.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn checkpoint(ledger: &Ledger, name: &'static str) -> Result<i64, Fault> {
    let head = ledger.fresh_head().await?;
    let mut tx = ledger.database().ledger_write.begin().await?;
    const INSERT: &str =
        "INSERT INTO subscriptions (name, position) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    const SELECT: &str = "SELECT position FROM subscriptions WHERE name = $1";
    let (position,): (i64,) = on!(tx.conn(), c => {
        sqlx::query(INSERT).bind(name).bind(head).execute(&mut *c).await?;
        sqlx::query_as(SELECT).bind(name).fetch_one(&mut *c).await?
    });
    tx.commit().await?;
    Ok(position)
}

/// How far an effect has got, if it ever ran.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn position(ledger: &Ledger, name: &'static str) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT position FROM subscriptions WHERE name = $1";
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let found: Option<(i64,)> = on!(checkout.conn(), c => {
        sqlx::query_as(SQL).bind(name).fetch_optional(&mut *c).await?
    });
    Ok(found.map(|(position,)| position))
}

/// Notes how far an effect has got.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn advance(ledger: &Ledger, name: &'static str, position: i64) -> Result<(), Fault> {
    let mut tx = ledger.database().ledger_write.begin().await?;
    const SQL: &str = "UPDATE subscriptions SET position = $2 WHERE name = $1 AND position < $2";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(name).bind(position).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await
}

/// Names of all effects that have a checkpoint.
const EFFECTS: [&str; 3] =
    [crate::delivery::machine::NAME, crate::delivery::endings::NAME, crate::callback::NAME];

/// Why effects wait for an operator's word, if they do.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn paused(pool: &Pool) -> Result<Option<String>, Fault> {
    const SQL: &str = "SELECT reason FROM paused";
    let mut checkout = pool.checkout().await?;
    let found: Option<(String,)> =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_optional(&mut *c).await?);
    Ok(found.map(|(reason,)| reason))
}

/// Has effects wait: this ledger may not be the only one that goes on from here.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn pause(conn: &mut Conn<'_>, reason: &str, now: i64) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO paused (one, reason, since) VALUES (1, $1, $2) \
         ON CONFLICT (one) DO NOTHING";
    on!(conn.again(), c => {
        sqlx::query(SQL).bind(reason).bind(now).execute(&mut *c).await?.rows_affected()
    });
    Ok(())
}

/// A ledger was restored up to a position: effects wait, and go on from there.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn restored(conn: &mut Conn<'_>, position: i64, now: i64) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO subscriptions (name, position) VALUES ($1, $2)";
    // What was erased may not have been blanked before the export: it is looked through once more.
    let erasures = (crate::audit::eraser::NAME, 0);
    for (name, position) in EFFECTS.map(|name| (name, position)).into_iter().chain([erasures]) {
        on!(conn.again(), c => {
            sqlx::query(SQL).bind(name).bind(position).execute(&mut *c).await?.rows_affected()
        });
    }
    pause(conn, "the ledger was restored from an export", now).await
}

/// Has effects go on; false if they were not paused.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn resume(pool: &Pool) -> Result<bool, Fault> {
    let mut tx = pool.begin().await?;
    let rows = on!(tx.conn(), c => {
        sqlx::query("DELETE FROM paused").execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(rows > 0)
}

/// Nodes that run on the ledger's database: those whose lease on a number holds.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn nodes(ledger: &Ledger, now: i64) -> Result<i64, Fault> {
    const SQL: &str = "SELECT COUNT(*) FROM leases WHERE name LIKE 'node/%' AND until > $1";
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let (nodes,): (i64,) = on!(checkout.conn(), c => {
        sqlx::query_as(SQL).bind(now).fetch_one(&mut *c).await?
    });
    Ok(nodes)
}

/// A duty that one node has at a time.
#[derive(Debug, Clone)]
pub struct Lease {
    pool: Pool,
    clock: Clock,
    name: String,
    node: Uuid,
}

impl Lease {
    /// The lease of a duty, not yet held.
    #[must_use]
    pub fn new(ledger: &Ledger, clock: &Clock, name: &str, node: Uuid) -> Lease {
        let pool = ledger.database().ledger_write.clone();
        Lease { pool, clock: clock.clone(), name: name.to_owned(), node }
    }

    /// Takes or renews the lease; false while another node has it.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn hold(&self, for_: Duration) -> Result<bool, Fault> {
        self.hold_at(self.clock.now(), for_).await
    }

    /// The same, from a time in µs on. Whoever had it before had it until an earlier millisecond.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn hold_at(&self, now: i64, for_: Duration) -> Result<bool, Fault> {
        const SQL: &str = "INSERT INTO leases (name, node, until) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET node = excluded.node, until = excluded.until \
             WHERE leases.node = excluded.node OR leases.until < $4";
        let until = now.saturating_add(i64::try_from(for_.as_micros()).unwrap_or(i64::MAX));
        let mut tx = self.pool.begin().await?;
        let rows = self.run(&mut tx.conn(), SQL, until, now / 1_000 * 1_000).await?;
        tx.commit().await?;
        Ok(rows == 1)
    }

    /// Gives the lease back, so that another node need not wait for its end.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn release(&self) -> Result<(), Fault> {
        self.end(self.clock.now() - 1).await
    }

    /// Gives the lease back as of a time in µs: nobody whose clock is behind it takes it.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn end(&self, until: i64) -> Result<(), Fault> {
        const SQL: &str = "UPDATE leases SET until = $3 WHERE name = $1 AND node = $2";
        let mut tx = self.pool.begin().await?;
        let (name, node) = (self.name.as_str(), self.node.to_string());
        on!(tx.conn(), c => {
            let query = sqlx::query(SQL).bind(name).bind(node).bind(until);
            query.execute(&mut *c).await?.rows_affected()
        });
        tx.commit().await
    }

    async fn run(
        &self,
        conn: &mut Conn<'_>,
        sql: &'static str,
        until: i64,
        now: i64,
    ) -> Result<u64, Fault> {
        let (name, node) = (self.name.as_str(), self.node.to_string());
        Ok(on!(conn.again(), c => {
            sqlx::query(sql)
                .bind(name)
                .bind(node)
                .bind(until)
                .bind(now)
                .execute(&mut *c)
                .await?
                .rows_affected()
        }))
    }
}
