//! Presence: which devices are connected to any node. Each node writes its own connections into a
//! table, many at once, and looks there which of them a newer connection at another node replaced.
//! It is a hint for choosing a way to a device, never truth: messages reach a connection by its
//! node's hub, which follows the ledger, whatever the table says.
//!
//! Rows belong to a node, which says every few seconds that it lives: a node that died takes all
//! its rows with it once its time is over.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use projections::{
    Fault,
    db::{self, Conn, Insert, Pool, Sql, Tx, Value},
    on,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::hub::{Change, Hub};
use crate::clock::Clock;

/// Time between two looks at what changed here, and at what was replaced elsewhere.
const LOOK: Duration = Duration::from_millis(200);
/// Devices written in one transaction.
const BATCH: usize = 1_000;
/// Time between two signs of life of a node.
const BEAT: Duration = Duration::from_secs(10);
/// How long after a sign of life a node and its connections count as there, in µs.
const ALIVE_MICROS: i64 = 30_000_000;
/// How long after that its rows are removed, in µs.
const FORGET_MICROS: i64 = 60_000_000;
/// Pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);

/// Who is connected, here and elsewhere.
pub struct Presence {
    hub: Arc<Hub>,
    pool: Pool,
    clock: Clock,
    node: String,
    /// The database's time minus this node's own, in µs.
    ahead: AtomicI64,
}

impl Presence {
    /// Presence as a node sees it.
    #[must_use]
    pub fn new(hub: Arc<Hub>, pool: Pool, clock: Clock, node: Uuid) -> Arc<Presence> {
        let (node, ahead) = (node.to_string(), AtomicI64::new(0));
        Arc::new(Presence { hub, pool, clock, node, ahead })
    }

    /// The time that orders connections of a device at different nodes: the database's, in µs.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.now() + self.ahead.load(Ordering::Relaxed)
    }

    /// Those of some devices that are connected to any node, as far as this one knows.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn present(&self, devices: &[i64]) -> Result<HashSet<i64>, Fault> {
        const SQL: Sql = Sql {
            sqlite: "SELECT DISTINCT device FROM connections JOIN nodes USING (node) \
                     WHERE device IN (SELECT value FROM json_each($1)) \
                     AND node <> $2 AND until > $3",
            postgres: "SELECT DISTINCT device FROM connections JOIN nodes USING (node) \
                       WHERE device = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))) \
                       AND node <> $2 AND until > $3",
        };
        let mut found = self.hub.present(devices);
        let left: Vec<i64> = devices.iter().copied().filter(|d| !found.contains(d)).collect();
        if left.is_empty() {
            return Ok(found);
        }
        let (left, now) = (db::list(&left)?, self.now());
        let mut checkout = self.pool.checkout().await?;
        let sql = checkout.conn().text(SQL);
        let elsewhere: Vec<(i64,)> = on!(checkout.conn(), c => {
            sqlx::query_as(sql).bind(left).bind(&self.node).bind(now).fetch_all(&mut *c).await?
        });
        found.extend(elsewhere.into_iter().map(|(device,)| device));
        Ok(found)
    }

    /// The nodes that live.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub(super) async fn living(&self) -> Result<HashSet<String>, Fault> {
        const SQL: &str = "SELECT node FROM nodes WHERE until > $1";
        let now = self.now();
        let mut checkout = self.pool.checkout().await?;
        let nodes: Vec<(String,)> =
            on!(checkout.conn(), c => sqlx::query_as(SQL).bind(now).fetch_all(&mut *c).await?);
        Ok(nodes.into_iter().map(|(node,)| node).collect())
    }

    /// Keeps the table current until told to stop, then takes this node's rows out of it.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut beat = pin!(self.clock.sleep_until(0));
        loop {
            let step = tokio::select! {
                () = stop.cancelled() => break,
                () = &mut beat => {
                    beat.set(self.clock.sleep_until(self.clock.now() + micros(BEAT)));
                    self.beat().await
                }
                () = tokio::time::sleep(LOOK) => self.look().await,
            };
            if let Err(fault) = step {
                tracing::warn!(%fault, "presence could not be kept");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        // What can't be taken out runs out by itself.
        let _ = self.leave().await;
    }

    /// A transaction that no other node's overlaps: two that meet would not see each other's rows.
    async fn begin(&self) -> Result<Tx, Fault> {
        const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('pushledger presence'))";
        let mut tx = self.pool.begin().await?;
        if let Conn::Postgres(c) = tx.conn() {
            sqlx::query(LOCK).execute(&mut *c).await?;
        }
        Ok(tx)
    }

    /// Says that this node lives, and removes what is left of others that do not.
    async fn beat(&self) -> Result<(), Fault> {
        const TIME: &str = "SELECT (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        const ALIVE: &str = "UPDATE nodes SET until = $2 WHERE node = $1";
        const JOIN: &str = "INSERT INTO nodes (node, until) VALUES ($1, $2)";
        const FORGET: [&str; 2] = [
            "DELETE FROM connections WHERE node IN (SELECT node FROM nodes WHERE until < $1)",
            "DELETE FROM nodes WHERE until < $1",
        ];
        let mut tx = self.begin().await?;
        // Many nodes share the database, so its clock orders them; one that stands still is a
        // test's.
        if let (Conn::Postgres(c), Clock::System) = (tx.conn(), &self.clock) {
            let (time,): (i64,) = sqlx::query_as(TIME).fetch_one(&mut *c).await?;
            self.ahead.store(time - self.clock.now(), Ordering::Relaxed);
        }
        let now = self.now();
        let (until, before) = (now + ALIVE_MICROS, now - FORGET_MICROS);
        let known = on!(tx.conn(), c => {
            let alive = sqlx::query(ALIVE).bind(&self.node).bind(until).execute(&mut *c).await?;
            let known = alive.rows_affected() > 0;
            if !known {
                sqlx::query(JOIN).bind(&self.node).bind(until).execute(&mut *c).await?;
            }
            for sql in FORGET {
                sqlx::query(sql).bind(before).execute(&mut *c).await?;
            }
            known
        });
        tx.commit().await?;
        if !known {
            // New, or forgotten by the others or by a database that crashed.
            self.hub.note_all();
        }
        Ok(())
    }

    /// Writes what changed here, and closes what was replaced elsewhere.
    async fn look(&self) -> Result<(), Fault> {
        const SQL: &str = "SELECT device, number FROM connections WHERE node = $1 AND replaced = 1";
        loop {
            let changes = self.hub.take_changes(BATCH);
            if changes.is_empty() {
                break;
            }
            if let Err(fault) = self.write(&changes).await {
                self.hub.note_changes(changes.iter().map(|change| change.device));
                return Err(fault);
            }
        }
        let mut checkout = self.pool.checkout().await?;
        let replaced: Vec<(i64, i64)> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(&self.node).fetch_all(&mut *c).await?
        });
        for (device, number) in replaced {
            if !self.hub.replaced(device, number) {
                // The device came back here meanwhile, or is gone: the row is not true any more.
                self.hub.note_changes([device]);
            }
        }
        Ok(())
    }

    /// Writes some changes. A connection takes over from an older one at another node, whose row is
    /// marked; one that turns out to be older is closed.
    async fn write(&self, changes: &[Change]) -> Result<(), Fault> {
        static CONNECTIONS: LazyLock<Insert> = LazyLock::new(|| {
            Insert::new(
                "connections",
                &["device", "node", "number", "since"],
                "ON CONFLICT (device, node) DO UPDATE SET number = excluded.number, \
                 since = excluded.since, replaced = 0",
            )
        });
        let gone = changes.iter().filter(|change| change.connection.is_none());
        let gone: Vec<i64> = gone.map(|change| change.device).collect();
        let here = changes.iter().filter_map(|change| Some((change.device, change.connection?)));
        let here: Vec<(i64, (i64, i64))> = here.collect();
        let devices: Vec<i64> = here.iter().map(|(device, _)| *device).collect();
        let mut tx = self.begin().await?;
        if !gone.is_empty() {
            self.remove(&mut tx.conn(), &gone).await?;
        }
        // Of a node that does not live nothing is newer.
        let newest = self.newest_elsewhere(&mut tx.conn(), &devices).await?;
        let newer = |device: &i64, since: i64| newest.get(device).is_some_and(|at| *at > since);
        let (lost, won): (Vec<_>, Vec<_>) =
            here.into_iter().partition(|(device, (_, since))| newer(device, *since));
        let devices: Vec<i64> = won.iter().map(|(device, _)| *device).collect();
        if !devices.is_empty() {
            self.take_over(&mut tx.conn(), &devices).await?;
        }
        let mut values: Vec<Value> = Vec::with_capacity(won.len() * 4);
        for (device, (number, since)) in won {
            values.extend([device.into(), self.node.as_str().into(), number.into(), since.into()]);
        }
        CONNECTIONS.run(&mut tx.conn(), values).await?;
        tx.commit().await?;
        for (device, (number, _)) in lost {
            self.hub.replaced(device, number);
        }
        Ok(())
    }

    async fn remove(&self, conn: &mut Conn<'_>, devices: &[i64]) -> Result<(), Fault> {
        const SQL: Sql = Sql {
            sqlite: "DELETE FROM connections WHERE node = $2 \
                     AND device IN (SELECT value FROM json_each($1))",
            postgres: "DELETE FROM connections WHERE node = $2 AND device = ANY \
                       (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
        };
        let (sql, devices) = (conn.text(SQL), db::list(devices)?);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(devices).bind(&self.node).execute(&mut *c).await?.rows_affected()
        });
        Ok(())
    }

    /// When the newest connection of each device at another node that lives came.
    async fn newest_elsewhere(
        &self,
        conn: &mut Conn<'_>,
        devices: &[i64],
    ) -> Result<HashMap<i64, i64>, Fault> {
        const SQL: Sql = Sql {
            sqlite: "SELECT device, MAX(since) FROM connections JOIN nodes USING (node) \
                     WHERE device IN (SELECT value FROM json_each($1)) \
                     AND node <> $2 AND until > $3 AND replaced = 0 GROUP BY device",
            postgres: "SELECT device, MAX(since) FROM connections JOIN nodes USING (node) \
                       WHERE device = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))) \
                       AND node <> $2 AND until > $3 AND replaced = 0 GROUP BY device",
        };
        let (sql, devices, now) = (conn.text(SQL), db::list(devices)?, self.now());
        let rows: Vec<(i64, i64)> = on!(conn.again(), c => {
            sqlx::query_as(sql).bind(devices).bind(&self.node).bind(now).fetch_all(&mut *c).await?
        });
        Ok(rows.into_iter().collect())
    }

    /// Marks the connections that some devices have at other nodes, also of a node that seems to be
    /// dead: it may only have been asleep.
    async fn take_over(&self, conn: &mut Conn<'_>, devices: &[i64]) -> Result<(), Fault> {
        const SQL: Sql = Sql {
            sqlite: "UPDATE connections SET replaced = 1 WHERE node <> $2 \
                     AND device IN (SELECT value FROM json_each($1))",
            postgres: "UPDATE connections SET replaced = 1 WHERE node <> $2 AND device = ANY \
                       (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
        };
        let (sql, devices) = (conn.text(SQL), db::list(devices)?);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(devices).bind(&self.node).execute(&mut *c).await?.rows_affected()
        });
        Ok(())
    }

    /// Takes this node and its connections out of the table.
    async fn leave(&self) -> Result<(), Fault> {
        const SQL: [&str; 2] =
            ["DELETE FROM connections WHERE node = $1", "DELETE FROM nodes WHERE node = $1"];
        let mut tx = self.begin().await?;
        for sql in SQL {
            on!(tx.conn(), c => {
                sqlx::query(sql).bind(&self.node).execute(&mut *c).await?.rows_affected()
            });
        }
        tx.commit().await
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
