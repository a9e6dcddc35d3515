//! The view `message_status`: every message, and every delivery with its three folds and the time
//! of each step. A page is folded in memory by the domain's own rules; rows that it touches are
//! read once and written once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    message::{Delivery, MessageAccepted, MessageId, Progress, Sender, Stage},
    route::Strategy,
};
use uuid::Uuid;

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    delivery_stats::{Cell, Moves},
    on, scalars,
};

/// One delivery as the view keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryRow {
    /// The message.
    pub message: MessageId,
    /// The device's number.
    pub device: i64,
    /// The folds.
    pub delivery: Delivery,
    /// When it was handed over, received, displayed, acknowledged and ended, in µs.
    pub times: [Option<i64>; 5],
    /// What it waits for, if it is kept nowhere.
    pub due: Due,
}

/// What a delivery that is kept nowhere waits for. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing: it is kept, or decided.
    Nothing = 0,
    /// Its way to be chosen, or a push vendor.
    Way = 1,
    /// Its device's answer: it was to be sent now or never, and ends if none comes.
    Answer = 2,
}

impl Due {
    /// Of a delivery that was just accepted.
    fn first(push: &MessageAccepted) -> Due {
        match push.resend {
            _ if push.strategy.kept_at_once() => Due::Nothing,
            Some(_) => Due::Answer,
            None => Due::Way,
        }
    }

    /// After something became of the delivery.
    fn after(self, delivery: &Delivery) -> Due {
        match self {
            Due::Way if undecided(delivery) => Due::Way,
            Due::Answer if delivery.open() => Due::Answer,
            Due::Nothing | Due::Way | Due::Answer => Due::Nothing,
        }
    }

    fn from_number(number: i64) -> Due {
        let some = [Due::Way, Due::Answer].into_iter();
        some.fold(Due::Nothing, |found, due| if due as i64 == number { due } else { found })
    }
}

/// One message as the view keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageRow {
    /// The message.
    pub message: MessageId,
    /// The app.
    pub app: String,
    /// Position of the push.
    pub position: i64,
    /// How it came.
    pub protocol: String,
    /// `user`, `terminal` or `cloud`.
    pub sender: String,
    /// The sending user.
    pub account: Option<String>,
    /// When it was accepted, in µs.
    pub accepted_at: i64,
    /// When it expires, in µs.
    pub expires_at: i64,
    /// Deliveries.
    pub targets: i64,
    /// Destinations that led to no device.
    pub unresolved: i64,
    /// How it travels.
    pub strategy: String,
    /// Users that it was addressed to by name, and those of them without a device.
    pub users: [i64; 2],
}

static INSERT_MESSAGES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "message",
        "app",
        "position",
        "protocol",
        "sender",
        "account",
        "accepted_at",
        "expires_at",
        "targets",
        "unresolved",
        "strategy",
        "users",
        "unbound",
    ];
    Insert::new("messages", &columns, "")
});

static UPSERT_DELIVERIES: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "message",
        "device",
        "account",
        "stage",
        "ended",
        "recall_op",
        "recall_result",
        "reported",
        "sent_at",
        "received_at",
        "displayed_at",
        "acknowledged_at",
        "ended_at",
        "vendor",
        "failed",
        "due",
    ];
    let set = columns[3..].iter().map(|c| format!("{c} = excluded.{c}")).collect::<Vec<_>>();
    let tail = format!("ON CONFLICT (message, device) DO UPDATE SET {}", set.join(", "));
    Insert::new("deliveries", &columns, tail)
});

type Rows = BTreeMap<(i64, i64), DeliveryRow>;

/// Folds one page, and notes which deliveries are counted elsewhere after it.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded], moves: &mut Moves) -> Result<(), Fault> {
    let mut messages: Vec<Value> = Vec::new();
    let mut rows = Rows::new();
    let mut new: BTreeSet<i64> = BTreeSet::new();
    let mut old: BTreeSet<i64> = BTreeSet::new();
    let mut cells: BTreeMap<(i64, i64), Cell> = BTreeMap::new();
    let mut accepted = BTreeMap::new();
    for recorded in page {
        let Stream::Message(MessageId(id)) = recorded.stream else { continue };
        if matches!(recorded.event, Event::MessageAccepted(_)) {
            new.insert(id);
        } else if !new.contains(&id) {
            old.insert(id);
        }
    }
    if !old.is_empty() {
        let old: Vec<i64> = old.into_iter().collect();
        accepted = acceptances(conn, &old).await?;
        for row in deliveries(conn, &old).await? {
            cells.insert((row.message.0, row.device), Cell::of(&row.delivery));
            rows.insert((row.message.0, row.device), row);
        }
    }
    let mut dirty: BTreeSet<(i64, i64)> = BTreeSet::new();
    for recorded in page {
        let Stream::Message(id) = recorded.stream else { continue };
        if let Event::MessageAccepted(e) = &recorded.event {
            let protocol = e.protocol.name().to_owned();
            accepted.insert(id.0, (recorded.app.clone(), recorded.recorded_at, protocol));
            push_message(&mut messages, id, recorded)?;
        }
        fold(&mut rows, &mut dirty, id, recorded);
    }
    INSERT_MESSAGES.run(conn, messages).await?;
    let mut values: Vec<Value> = Vec::with_capacity(dirty.len() * 16);
    for key in dirty {
        if let Some(row) = rows.remove(&key) {
            if let Some((app, at, protocol)) = accepted.get(&key.0) {
                let after = Cell::of(&row.delivery);
                moves.note((app, *at, protocol), cells.get(&key).copied(), after, 1);
            }
            push_delivery(&mut values, row)?;
        }
    }
    UPSERT_DELIVERIES.run(conn, values).await
}

fn fold(rows: &mut Rows, dirty: &mut BTreeSet<(i64, i64)>, id: MessageId, recorded: &Recorded) {
    let at = recorded.recorded_at;
    match &recorded.event {
        Event::MessageAccepted(e) => {
            for target in &e.targets {
                let (device, delivery) = (target.device, target.delivery());
                let due = Due::first(e);
                let row = DeliveryRow { message: id, device, delivery, times: [None; 5], due };
                rows.insert((id.0, device), row);
                dirty.insert((id.0, device));
            }
        }
        Event::DeliveriesAdvanced(e) => {
            for step in &e.steps {
                let Some(row) = rows.get_mut(&(id.0, step.device)) else { continue };
                row.delivery.advance(step);
                row.due = row.due.after(&row.delivery);
                if let Some(index) = time_of(step.what) {
                    row.times[index].get_or_insert(at);
                }
                // A report can overtake the note that it was sent, which is no news then.
                if row.delivery.stage >= Stage::Sent {
                    row.times[0].get_or_insert(at);
                }
                dirty.insert((id.0, step.device));
            }
        }
        Event::RecallRequested(e) => {
            for recalled in &e.results {
                let Some(row) = rows.get_mut(&(id.0, recalled.device)) else { continue };
                row.delivery.recall(e.op, recalled.result);
                row.due = row.due.after(&row.delivery);
                row.times[4] = row.delivery.ended.map(|_| row.times[4].unwrap_or(at));
                dirty.insert((id.0, recalled.device));
            }
        }
        Event::AppCreated(_)
        | Event::AppChanged(_)
        | Event::AppDeleted(_)
        | Event::AccountOpened(_)
        | Event::AccountClosed(_)
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
        | Event::OwnerRemoved(_)
        | Event::TaskCreated(_)
        | Event::TaskStarted(_)
        | Event::ChunkDelivered(_)
        | Event::TaskEnded(_) => {}
    }
}

/// Whether nothing has become of a delivery yet.
fn undecided(delivery: &Delivery) -> bool {
    delivery.wants_vendor() && delivery.stage < Stage::Sent
}

/// Which of a row's times a step sets.
fn time_of(what: Progress) -> Option<usize> {
    match what {
        Progress::Sent => Some(0),
        Progress::Received => Some(1),
        Progress::Displayed => Some(2),
        Progress::Acknowledged => Some(3),
        Progress::Ended(_) => Some(4),
        Progress::Failed(_) | Progress::Recalled(_) => None,
    }
}

fn push_message(values: &mut Vec<Value>, id: MessageId, recorded: &Recorded) -> Result<(), Fault> {
    let Event::MessageAccepted(e) = &recorded.event else { return Ok(()) };
    let (sender, account) = match e.sender {
        Sender::User(account) => ("user", Some(account.to_string())),
        Sender::Terminal => ("terminal", None),
        Sender::Cloud => ("cloud", None),
    };
    values.extend([
        id.0.into(),
        recorded.app.as_str().into(),
        recorded.position.into(),
        db::name_of(e.protocol)?.into(),
        sender.into(),
        account.into(),
        recorded.recorded_at.into(),
        e.expires_at.into(),
        i64::try_from(e.targets.len()).unwrap_or(i64::MAX).into(),
        i64::from(e.unresolved).into(),
        db::name_of(e.strategy)?.into(),
        i64::from(e.users).into(),
        i64::from(e.unbound).into(),
    ]);
    Ok(())
}

fn push_delivery(values: &mut Vec<Value>, row: DeliveryRow) -> Result<(), Fault> {
    let Delivery { account, stage, ended, recall, reported, vendor, failed } = row.delivery;
    let (op, result) = recall.unzip();
    values.extend([
        row.message.0.into(),
        row.device.into(),
        account.map(|account| account.to_string()).into(),
        (stage as i64).into(),
        ended.map(db::name_of).transpose()?.into(),
        op.map(db::name_of).transpose()?.into(),
        result.map(db::name_of).transpose()?.into(),
        reported.map(|stage| stage as i64).into(),
    ]);
    values.extend(row.times.map(Value::Int));
    values.push(vendor.map(db::name_of).transpose()?.into());
    values.push(failed.map(db::name_of).transpose()?.into());
    values.push((row.due as i64).into());
    Ok(())
}

type StoredDelivery = (
    (i64, i64, Option<String>, i64),
    (Option<String>, Option<String>, Option<String>, Option<i64>),
    [Option<i64>; 5],
    (Option<String>, Option<String>, i64),
);

/// All deliveries of some messages, in order of message and device.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn deliveries(conn: &mut Conn<'_>, messages: &[i64]) -> Result<Vec<DeliveryRow>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT message, device, account, stage, ended, recall_op, recall_result, reported, \
         sent_at, received_at, displayed_at, acknowledged_at, ended_at, vendor, failed, due FROM deliveries \
         WHERE message IN (SELECT CAST(value AS BIGINT) FROM ",
        ") ORDER BY message, device"
    );
    let (sql, messages) = (conn.text(SQL), db::list(messages)?);
    let rows: Vec<_> = on!(conn.again(), c => {
        use sqlx::Row;
        let rows = sqlx::query(sql).bind(messages).fetch_all(&mut *c).await?;
        rows.iter().map(|r| Ok((
            (r.try_get(0)?, r.try_get(1)?, r.try_get(2)?, r.try_get(3)?),
            (r.try_get(4)?, r.try_get(5)?, r.try_get(6)?, r.try_get(7)?),
            [r.try_get(8)?, r.try_get(9)?, r.try_get(10)?, r.try_get(11)?, r.try_get(12)?],
            (r.try_get(13)?, r.try_get(14)?, r.try_get(15)?),
        ))).collect::<Result<Vec<StoredDelivery>, sqlx::Error>>()?
    });
    rows.into_iter().map(delivery).collect()
}

fn delivery(row: StoredDelivery) -> Result<DeliveryRow, Fault> {
    let ((message, device, account, stage), (ended, op, result, reported), times, vendor) = row;
    let (vendor, failed, due) = vendor;
    let account: Option<Result<Uuid, _>> = account.map(|text| text.parse());
    let recall = match (op, result) {
        (Some(op), Some(result)) => Some((db::from_name(op)?, db::from_name(result)?)),
        _ => None,
    };
    let delivery = Delivery {
        account: account.transpose().map_err(|cause| Fault::stored("uuid", cause))?,
        stage: stage_of(stage)?,
        ended: ended.map(db::from_name).transpose()?,
        recall,
        reported: reported.map(stage_of).transpose()?,
        vendor: vendor.map(db::from_name).transpose()?,
        failed: failed.map(db::from_name).transpose()?,
    };
    Ok(DeliveryRow {
        message: MessageId(message),
        device,
        delivery,
        times,
        due: Due::from_number(due),
    })
}

fn stage_of(number: i64) -> Result<Stage, Fault> {
    let stages = [
        Stage::Accepted,
        Stage::Routed,
        Stage::Sent,
        Stage::Received,
        Stage::Displayed,
        Stage::Acknowledged,
    ];
    let stage = stages.into_iter().find(|stage| *stage as i64 == number);
    stage.ok_or_else(|| Fault::stored("stage", number))
}

/// Messages of an app before a position, newest first.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn messages(
    conn: &mut Conn<'_>,
    app: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<MessageRow>, Fault> {
    const SQL: &str = "SELECT message, app, position, protocol, sender, account, accepted_at, \
         expires_at, targets, unresolved, strategy, users, unbound FROM messages \
         WHERE app = $1 AND position < $2 ORDER BY position DESC LIMIT $3";
    let rows: Vec<StoredMessage> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(before).bind(limit).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(message).collect())
}

/// One message of an app.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn find(
    conn: &mut Conn<'_>,
    app: &str,
    id: MessageId,
) -> Result<Option<MessageRow>, Fault> {
    const SQL: &str = "SELECT message, app, position, protocol, sender, account, accepted_at, \
         expires_at, targets, unresolved, strategy, users, unbound FROM messages WHERE app = $1 AND message = $2";
    let row: Option<StoredMessage> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(id.0).fetch_optional(&mut *c).await?
    });
    Ok(row.map(message))
}

type StoredMessage =
    (i64, String, i64, String, String, Option<String>, i64, i64, i64, i64, String, i64, i64);

fn message(row: StoredMessage) -> MessageRow {
    let (message, app, position, protocol, sender, account, ..) = row;
    let (accepted_at, expires_at, targets, unresolved) = (row.6, row.7, row.8, row.9);
    MessageRow {
        message: MessageId(message),
        app,
        position,
        protocol,
        sender,
        account,
        accepted_at,
        expires_at,
        targets,
        unresolved,
        strategy: row.10,
        users: [row.11, row.12],
    }
}

/// Messages, each with its app, of which deliveries are kept nowhere and wait for their way, or for
/// an answer.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn due(conn: &mut Conn<'_>) -> Result<Vec<(String, MessageId)>, Fault> {
    const SQL: &str = "SELECT m.app, m.message FROM messages m WHERE m.message IN \
         (SELECT message FROM deliveries WHERE due = 1 UNION SELECT message FROM deliveries WHERE due = 2) \
         ORDER BY m.message";
    let rows: Vec<(String, i64)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    Ok(rows.into_iter().map(|(app, message)| (app, MessageId(message))).collect())
}

/// App, time of acceptance and protocol of messages.
async fn acceptances(
    conn: &mut Conn<'_>,
    messages: &[i64],
) -> Result<BTreeMap<i64, (String, i64, String)>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT message, app, accepted_at, protocol FROM messages \
         WHERE message IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, messages) = (conn.text(SQL), db::list(messages)?);
    let rows: Vec<(i64, String, i64, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(messages).fetch_all(&mut *c).await?
    });
    Ok(rows
        .into_iter()
        .map(|(message, app, at, protocol)| (message, (app, at, protocol)))
        .collect())
}

/// App, strategy and expiry of messages.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn traits(
    conn: &mut Conn<'_>,
    messages: &[i64],
) -> Result<BTreeMap<i64, (String, Strategy, i64)>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT message, app, strategy, expires_at FROM messages \
         WHERE message IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, messages) = (conn.text(SQL), db::list(messages)?);
    let rows: Vec<(i64, String, String, i64)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(messages).fetch_all(&mut *c).await?
    });
    let row = |(message, app, strategy, expires_at)| {
        Ok((message, (app, db::from_name(strategy)?, expires_at)))
    };
    rows.into_iter().map(row).collect()
}
