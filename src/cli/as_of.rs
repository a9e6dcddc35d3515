//! What was true at a position or time: `pushledger replay --as-of`. The registry has its rows by
//! position, and statistics their journal; other views are folded from the first event into a scratch
//! database in memory.

use std::collections::BTreeMap;

use clap::ValueEnum;
use domain::message::Ending;
use projections::{
    Fault,
    db::{self, Conn, Pool},
    delivery_stats::{Key, What},
    device_kinds, journal, on,
};
use serde_json::{Value, json};

use super::{Failure, print_json, replay::Moment};
use crate::{
    feed::views,
    ledger::{Ledger, store::scratch_views},
};

/// Events folded at once.
const PAGE_EVENTS: i64 = 4_000;
/// Rows of the registry read at once.
const PAGE_ROWS: i64 = 1_000;

/// What can be seen as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum View {
    /// The device list.
    Devices,
    /// Messages with the state of each delivery.
    Messages,
    /// What devices still had to get.
    Pending,
    /// Tasks, and what became of their deliveries.
    Tasks,
    /// Deliveries by the quarter of an hour in which they were accepted.
    Statistics,
    /// Callbacks that were due or over.
    Callbacks,
}

impl View {
    fn tables(self) -> &'static [&'static str] {
        match self {
            View::Devices => &[],
            View::Messages => &["messages", "deliveries"],
            View::Pending => &["pending"],
            View::Tasks => &["task_statistics", "task_deliveries", "task_latencies"],
            View::Statistics => &["device_kinds", "delivery_stats"],
            View::Callbacks => &["callbacks", "callback_counts"],
        }
    }
}

/// The last position at a moment.
pub(super) async fn position(ledger: &Ledger, moment: Moment) -> Result<i64, Failure> {
    let head = ledger.fresh_head().await?;
    let micros = match moment {
        Moment::Position(position) if position <= head => return Ok(position),
        Moment::Position(position) => {
            return Err(format!("the ledger ends at {head}, before {position}").into());
        }
        Moment::Time(micros) => micros,
    };
    Ok(ledger.before(micros.saturating_add(1)).await?)
}

/// Prints a view as it was at a position, as JSON lines.
pub(super) async fn print(ledger: &Ledger, view: View, as_of: i64) -> Result<(), Failure> {
    match view {
        View::Devices => return devices(ledger, as_of).await,
        // Views that are behind have nothing to look it up in.
        View::Statistics if views::position(ledger).await?.is_some_and(|at| at >= as_of) => {
            return statistics(ledger, as_of).await;
        }
        View::Statistics | View::Messages | View::Pending | View::Tasks | View::Callbacks => {}
    }
    let scratch = scratch_views().await?;
    let mut after = 0;
    while after < as_of {
        let page = ledger.read(after, PAGE_EVENTS.min(as_of - after)).await?;
        let Some(last) = page.last else { break };
        if let Some((position, error)) = page.unreadable.first() {
            return Err(format!("the event at {position} cannot be read: {error}").into());
        }
        let mut tx = scratch.begin().await?;
        projections::apply(&mut tx.conn(), &page.events).await?;
        tx.commit().await?;
        after = last;
    }
    for table in view.tables() {
        for row in rows(&scratch, table).await? {
            let row: Value = serde_json::from_str(&row)?;
            print_json(&json!({ "asOf": as_of, "table": table, "row": row }))?;
        }
    }
    scratch.close().await;
    Ok(())
}

/// Statistics are the sums of what each event moved; and what the kinds of devices in them are.
async fn statistics(ledger: &Ledger, as_of: i64) -> Result<(), Failure> {
    const APPS: &str = "SELECT DISTINCT app FROM delivery_stats ORDER BY app";
    let mut views = ledger.database().views.snapshot().await?;
    let apps: Vec<(String,)> =
        on!(views.conn(), c => sqlx::query_as(APPS).fetch_all(&mut *c).await.map_err(Fault::from)?);
    let line = |table, row| print_json(&json!({ "asOf": as_of, "table": table, "row": row }));
    for (app,) in apps {
        let mut cells: BTreeMap<Key, i64> = BTreeMap::new();
        journal::moved(&mut views.conn(), &app, as_of, |key, deliveries| {
            if let What::In(_) = key.what {
                *cells.entry(Key { task: None, ..*key }).or_default() += deliveries;
            }
        })
        .await?;
        cells.retain(|_, deliveries| *deliveries != 0);
        for (kind, row) in device_kinds::kinds(&mut views.conn(), &app).await? {
            if cells.keys().any(|key| key.kind == kind) {
                line(
                    "device_kinds",
                    json!({
                        "app": app, "kind": kind, "device_type": row.device_type,
                        "app_package": row.app_package,
                    }),
                )?;
            }
        }
        for (key, deliveries) in cells {
            let What::In(cell) = key.what else { continue };
            line(
                "delivery_stats",
                json!({
                    "app": app, "bucket_at": key.bucket_at, "protocol": key.protocol.name(),
                    "kind": key.kind, "way": cell.way.name(), "stage": db::name_of(cell.stage)?,
                    "ended": cell.ended.map_or("", Ending::name), "deliveries": deliveries,
                }),
            )?;
        }
    }
    Ok(())
}

/// Every row of a table in the scratch database as a JSON object; bytes are in hexadecimal.
async fn rows(scratch: &Pool, table: &'static str) -> Result<Vec<String>, Fault> {
    const COLUMNS: &str = "SELECT group_concat('''' || name || ''', ' || \
         CASE type WHEN 'BLOB' THEN 'hex(' || name || ')' ELSE name END) FROM pragma_table_info($1)";
    let mut checkout = scratch.checkout().await?;
    let Conn::Sqlite(c) = checkout.conn() else {
        return Err(Fault::stored("scratch", "not in memory"));
    };
    let (columns,): (String,) = sqlx::query_as(COLUMNS).bind(table).fetch_one(&mut *c).await?;
    let sql = sqlx::AssertSqlSafe(format!("SELECT json_object({columns}) FROM {table}"));
    let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&mut *c).await?;
    Ok(rows.into_iter().map(|(row,)| row).collect())
}

/// The device list is a WHERE on the registry.
async fn devices(ledger: &Ledger, as_of: i64) -> Result<(), Failure> {
    const SQL: &str = "SELECT number, app, protocol, status, account, app_package, device_type, \
         client_id, hardware_id, registered_at, from_position FROM devices \
         WHERE from_position <= $1 AND (to_position IS NULL OR to_position > $1) AND number > $2 \
         ORDER BY number LIMIT $3";
    type Row = (
        i64,
        String,
        String,
        i64,
        Option<String>,
        String,
        String,
        String,
        Option<String>,
        i64,
        i64,
    );
    let mut after = 0;
    loop {
        let mut checkout = ledger.database().ledger_read.checkout().await?;
        let page: Vec<Row> = on!(checkout.conn(), c => {
            sqlx::query_as(SQL).bind(as_of).bind(after).bind(PAGE_ROWS).fetch_all(&mut *c).await?
        });
        drop(checkout);
        let Some(last) = page.last() else { return Ok(()) };
        after = last.0;
        for (number, app, protocol, status, account, package, kind, client, hardware, at, from) in
            page
        {
            print_json(&json!({
                "asOf": as_of,
                "number": number,
                "app": app,
                "protocol": protocol,
                "status": status,
                "account": account,
                "appPackage": package,
                "deviceType": kind,
                "clientId": client,
                "hardwareId": hardware,
                "registeredAt": at,
                "since": from,
            }))?;
        }
    }
}
