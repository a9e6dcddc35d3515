//! The view `pending`: what each device still has to get. A message is here from acceptance until
//! the device has it or its delivery ended; a recall is here until the device answered it. The
//! gateway reads it when a device connects, the expiry sweep reads it by time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    message::{MessageId, Progress, RecallOp, RecallResult},
    route::Strategy,
};
use uuid::Uuid;

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    message_status, on, scalars,
};

/// One thing that a device still has to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// The device's number.
    pub device: i64,
    /// Position of the push.
    pub position: i64,
    /// Position from which on the device could have it: that of the push, or of the note that no
    /// vendor was a way. Devices get their messages in this order.
    pub since: i64,
    /// A recall that the device has not answered; `None`: the message itself.
    pub op: Option<RecallOp>,
    /// The app.
    pub app: String,
    /// The message.
    pub message: MessageId,
    /// The user that it was addressed to.
    pub account: Option<Uuid>,
    /// When it expires, in µs.
    pub expires_at: i64,
}

static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["device", "position", "op", "app", "message", "account", "expires_at", "since"];
    Insert::new("pending", &columns, "ON CONFLICT (device, position, op) DO NOTHING")
});

/// Folds one page.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let mut fresh: BTreeMap<(i64, i64), PendingRow> = BTreeMap::new();
    let mut gone: BTreeSet<(i64, i64, &str)> = BTreeSet::new();
    let mut recalls: BTreeMap<(i64, i64, &str), PendingRow> = BTreeMap::new();
    // What no vendor was a way for: message, device, position of the push, and of that note.
    let mut failed: Vec<(MessageId, i64, i64, i64)> = Vec::new();
    let mut here: Traits = BTreeMap::new();
    for recorded in page {
        let Stream::Message(message) = recorded.stream else { continue };
        match &recorded.event {
            Event::MessageAccepted(e) => {
                here.insert(message.0, (recorded.app.clone(), e.strategy, e.expires_at));
                if !e.strategy.kept_at_once() {
                    continue;
                }
                for target in &e.targets {
                    let (device, position) = (target.device, recorded.position);
                    let (account, expires_at) = (target.account, e.expires_at);
                    let app = recorded.app.clone();
                    let row = PendingRow {
                        device,
                        position,
                        since: position,
                        op: None,
                        app,
                        message,
                        account,
                        expires_at,
                    };
                    fresh.insert((device, position), row);
                }
            }
            Event::DeliveriesAdvanced(e) => {
                for step in &e.steps {
                    if let Progress::Failed(_) = step.what {
                        let (device, position) = (step.device, e.accepted);
                        failed.push((message, device, position, recorded.position));
                        continue;
                    }
                    let ops: &[&str] = match step.what {
                        Progress::Failed(_) => &[],
                        // What a vendor took is not kept.
                        Progress::Sent if step.vendor.is_some() => &[""],
                        Progress::Sent => &[],
                        Progress::Received | Progress::Ended(_) => &[""],
                        // Displaying it answers a recall too: it came too late.
                        Progress::Displayed | Progress::Acknowledged => &["", "recall", "replace"],
                        Progress::Recalled(_) => &["recall", "replace"],
                    };
                    if ops.contains(&"") {
                        fresh.remove(&(step.device, e.accepted));
                        failed.retain(|row| (row.1, row.2) != (step.device, e.accepted));
                    }
                    for op in ops {
                        recalls.remove(&(step.device, e.accepted, *op));
                    }
                    gone.extend(ops.iter().map(|op| (step.device, e.accepted, *op)));
                }
            }
            Event::RecallRequested(e) => {
                for recalled in &e.results {
                    fresh.remove(&(recalled.device, e.accepted));
                    failed.retain(|row| (row.1, row.2) != (recalled.device, e.accepted));
                    gone.insert((recalled.device, e.accepted, ""));
                    if recalled.result == RecallResult::Requested {
                        let (device, position) = (recalled.device, e.accepted);
                        let (op, expires_at) = (Some(e.op), e.expires_at);
                        let app = recorded.app.clone();
                        let row = PendingRow {
                            device,
                            position,
                            since: position,
                            op,
                            app,
                            message,
                            account: None,
                            expires_at,
                        };
                        gone.remove(&(device, position, text(e.op)));
                        recalls.insert((device, position, text(e.op)), row);
                    }
                }
            }
            Event::AppCreated(_)
            | Event::AppChanged(_)
            | Event::AppDeleted(_)
            | Event::AccountOpened(_)
            | Event::AccountLinked(_)
            | Event::AccountClosed(_)
            | Event::DeviceLinked(_)
            | Event::MessageFiltered(_)
            | Event::LabelCreated(_)
            | Event::LabelDeleted(_)
            | Event::LabelMembersChanged(_)
            | Event::DeviceBound(_)
            | Event::DeviceAdmitted(_)
            | Event::TokenDied(_)
            | Event::DeviceRegistered(_)
            | Event::DeviceUpdated(_)
            | Event::DeviceUnregistered(_)
            | Event::DeviceReturned(_)
            | Event::OwnerSet(_)
            | Event::PresenceChanged(_)
            | Event::UplinkReceived(_)
            | Event::CallbacksCalled(_)
            | Event::CallbacksReplayed(_)
            | Event::SubjectErased(_)
            | Event::OwnerRemoved(_)
            | Event::TaskCreated(_)
            | Event::TaskStarted(_)
            | Event::ChunkDelivered(_)
            | Event::TaskEnded(_) => {}
        }
    }
    for row in kept_after_all(conn, failed, here).await? {
        gone.remove(&(row.device, row.position, ""));
        fresh.insert((row.device, row.position), row);
    }
    // What came and went within the page was never written, nor was what recalled it.
    let first = page.first().map_or(0, |recorded| recorded.position);
    gone.retain(|(_, accepted, _)| *accepted < first);
    remove(conn, gone).await?;
    let mut values: Vec<Value> = Vec::new();
    for row in fresh.values().chain(recalls.values()) {
        push(&mut values, row);
    }
    INSERT.run(conn, values).await
}

/// App, strategy and expiry by message.
type Traits = BTreeMap<i64, (String, Strategy, i64)>;

/// Rows for what goes over our own channel only now that no vendor was a way.
async fn kept_after_all(
    conn: &mut Conn<'_>,
    failed: Vec<(MessageId, i64, i64, i64)>,
    mut here: Traits,
) -> Result<Vec<PendingRow>, Fault> {
    let earlier = failed.iter().map(|row| row.0.0).filter(|id| !here.contains_key(id));
    let earlier: Vec<i64> = earlier.collect();
    if !earlier.is_empty() {
        here.extend(message_status::traits(conn, &earlier).await?);
    }
    let row = |(message, device, position, since): (MessageId, i64, i64, i64)| {
        let (app, strategy, expires_at) = here.get(&message.0)?.clone();
        let (op, account) = (None, None);
        let row = PendingRow { device, position, since, op, app, message, account, expires_at };
        (!strategy.kept_at_once()).then_some(row)
    };
    Ok(failed.into_iter().filter_map(row).collect())
}

async fn remove(conn: &mut Conn<'_>, gone: BTreeSet<(i64, i64, &str)>) -> Result<(), Fault> {
    if gone.is_empty() {
        return Ok(());
    }
    const SQL: Sql = Sql {
        sqlite: "DELETE FROM pending WHERE (device, position, op) IN \
                 (SELECT value->>0, value->>1, value->>2 FROM json_each($1))",
        postgres: "DELETE FROM pending USING json_array_elements($1::json) AS list(value) \
                   WHERE device = CAST(list.value->>0 AS BIGINT) \
                   AND position = CAST(list.value->>1 AS BIGINT) AND op = list.value->>2",
    };
    let gone: Vec<_> = gone.into_iter().collect();
    let (sql, gone) = (conn.text(SQL), db::list(&gone)?);
    on!(conn.again(), c => sqlx::query(sql).bind(gone).execute(&mut *c).await?.rows_affected());
    Ok(())
}

fn push(values: &mut Vec<Value>, row: &PendingRow) {
    values.extend([
        row.device.into(),
        row.position.into(),
        row.op.map_or("", text).into(),
        row.app.as_str().into(),
        row.message.0.into(),
        row.account.map(|account| account.to_string()).into(),
        row.expires_at.into(),
        row.since.into(),
    ]);
}

fn text(op: RecallOp) -> &'static str {
    match op {
        RecallOp::Recall => "recall",
        RecallOp::Replace => "replace",
    }
}

type Stored = (i64, i64, String, String, i64, Option<String>, i64, i64);

fn row(
    (device, position, op, app, message, account, expires_at, since): Stored,
) -> Result<PendingRow, Fault> {
    let account: Option<Result<Uuid, _>> = account.map(|text| text.parse());
    Ok(PendingRow {
        device,
        position,
        op: if op.is_empty() { None } else { Some(db::from_name(op)?) },
        app,
        message: MessageId(message),
        account: account.transpose().map_err(|cause| Fault::stored("uuid", cause))?,
        expires_at,
        since,
    })
}

/// Messages that a device has to get after a position, in order of acceptance.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn messages_of(
    conn: &mut Conn<'_>,
    device: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<PendingRow>, Fault> {
    const SQL: &str = "SELECT device, position, op, app, message, account, expires_at, since FROM pending \
         WHERE device = $1 AND since > $2 AND op = '' ORDER BY since, position LIMIT $3";
    let rows: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(device).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// Everything that a device has to get, recalls too.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn all_of(
    conn: &mut Conn<'_>,
    device: i64,
    limit: i64,
) -> Result<Vec<PendingRow>, Fault> {
    const SQL: &str = "SELECT device, position, op, app, message, account, expires_at, since FROM pending \
         WHERE device = $1 ORDER BY position, op LIMIT $2";
    let rows: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(device).bind(limit).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// Recalls that a device has not answered.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn recalls_of(conn: &mut Conn<'_>, device: i64) -> Result<Vec<PendingRow>, Fault> {
    const SQL: &str = "SELECT device, position, op, app, message, account, expires_at, since FROM pending \
         WHERE device = $1 AND op <> '' ORDER BY position";
    let rows: Vec<Stored> =
        on!(conn.again(), c => sqlx::query_as(SQL).bind(device).fetch_all(&mut *c).await?);
    rows.into_iter().map(row).collect()
}

/// What expires first, up to a time.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn due(conn: &mut Conn<'_>, until: i64, limit: i64) -> Result<Vec<PendingRow>, Fault> {
    const SQL: &str = "SELECT device, position, op, app, message, account, expires_at, since FROM pending \
         WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";
    let rows: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(until).bind(limit).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(row).collect()
}

/// When the next thing expires.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn next_expiry(conn: &mut Conn<'_>) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT MIN(expires_at) FROM pending";
    let (next,): (Option<i64>,) =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_one(&mut *c).await?);
    Ok(next)
}

/// Messages of some apps that are kept, each with its app.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn messages_of_apps(
    conn: &mut Conn<'_>,
    apps: &[&str],
) -> Result<Vec<(String, MessageId)>, Fault> {
    if apps.is_empty() {
        return Ok(Vec::new());
    }
    const SQL: Sql = scalars!(
        "SELECT DISTINCT app, message FROM pending WHERE op = '' AND app IN (SELECT value FROM ",
        ") ORDER BY message"
    );
    let (sql, apps) = (conn.text(SQL), db::list(apps)?);
    let rows: Vec<(String, i64)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(apps).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(|(app, message)| (app, MessageId(message))).collect())
}
