//! The view `message_status`: every message, and every delivery with its three folds and the time
//! of each step. A page is folded in memory by the domain's own rules; what it touches is read once
//! and written once, all deliveries of a message together.

mod packed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    message::{Delivery, MessageAccepted, MessageId, Progress, Protocol, Sender, Stage},
    route::Strategy,
};

use serde::{Deserialize, Serialize};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    delivery_stats::Moves,
    on, scalars,
};

use packed::Deliveries;
pub use packed::deliveries;

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

/// What a delivery that is kept nowhere waits for. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// Nothing: it is kept, or decided.
    Nothing,
    /// Its way to be chosen, or a push vendor.
    Way,
    /// Its device's answer: it was to be sent now or never, and ends if none comes.
    Answer,
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

/// Deliveries that are folded at once, about: a message can have thousands, and a page thousands of
/// messages.
const FOLDED_DELIVERIES: usize = 65_536;
/// What a message from before the page counts as, whatever its deliveries: nobody looks beforehand.
const OLD_DELIVERIES: usize = 512;

/// Folds one page, and notes which deliveries are counted elsewhere after it.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded], moves: &mut Moves) -> Result<(), Fault> {
    let mut rest = page;
    while !rest.is_empty() {
        let (part, left) = rest.split_at(part_of(rest));
        apply_part(conn, part, moves).await?;
        rest = left;
    }
    Ok(())
}

/// How many events are folded at once, so that no more deliveries are held than there is room for.
fn part_of(page: &[Recorded]) -> usize {
    let (mut messages, mut deliveries) = (BTreeSet::new(), 0);
    for (at, recorded) in page.iter().enumerate() {
        let Stream::Message(MessageId(id)) = recorded.stream else { continue };
        if messages.insert(id) {
            deliveries += match &recorded.event {
                Event::MessageAccepted(e) => e.targets.len(),
                _ => OLD_DELIVERIES,
            };
            if deliveries > FOLDED_DELIVERIES && at > 0 {
                return at;
            }
        }
    }
    page.len()
}

async fn apply_part(
    conn: &mut Conn<'_>,
    page: &[Recorded],
    moves: &mut Moves,
) -> Result<(), Fault> {
    let mut values: Vec<Value> = Vec::new();
    let (mut new, mut old) = (BTreeSet::new(), BTreeSet::new());
    for recorded in page {
        let Stream::Message(MessageId(id)) = recorded.stream else { continue };
        if matches!(recorded.event, Event::MessageAccepted(_)) {
            new.insert(id);
        } else if !new.contains(&id) {
            old.insert(id);
        }
    }
    let mut open = packed::load(conn, &old.into_iter().collect::<Vec<_>>()).await?;
    for recorded in page {
        let Stream::Message(id) = recorded.stream else { continue };
        if let Event::MessageAccepted(e) = &recorded.event {
            push_message(&mut values, accepted(id, recorded, e)?);
            open.insert(id.0, Deliveries::accepted(id, recorded, e));
        } else if let Some(deliveries) = open.get_mut(&id.0) {
            fold(deliveries, recorded);
        }
    }
    let kinds = packed::kinds(conn, &open).await?;
    // While the database, on a thread of its own, writes the one table, the other's rows are made.
    let packing = packed::pack_all(open, &kinds, moves);
    let (written, rows) = tokio::join!(INSERT_MESSAGES.run(conn, values), packing);
    written?;
    packed::store(conn, rows?).await
}

fn fold(deliveries: &mut Deliveries, recorded: &Recorded) {
    let at = recorded.recorded_at;
    match &recorded.event {
        Event::DeliveriesAdvanced(e) => {
            for step in &e.steps {
                deliveries.change(recorded.position, step.device, |row| {
                    row.delivery.advance(step);
                    row.due = row.due.after(&row.delivery);
                    if let Some(index) = time_of(step.what) {
                        row.times[index].get_or_insert(at);
                    }
                    // A report can overtake the note that it was sent, which is no news then.
                    if row.delivery.stage >= Stage::Sent {
                        row.times[0].get_or_insert(at);
                    }
                });
            }
        }
        Event::RecallRequested(e) => {
            for recalled in &e.results {
                deliveries.change(recorded.position, recalled.device, |row| {
                    row.delivery.recall(e.op, recalled.result);
                    row.due = row.due.after(&row.delivery);
                    row.times[4] = row.delivery.ended.map(|_| row.times[4].unwrap_or(at));
                });
            }
        }
        Event::MessageAccepted(_)
        | Event::AppCreated(_)
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

/// The message of its first event.
fn accepted(id: MessageId, recorded: &Recorded, e: &MessageAccepted) -> Result<MessageRow, Fault> {
    let (sender, account) = match e.sender {
        Sender::User(account) => ("user", Some(account.to_string())),
        Sender::Terminal => ("terminal", None),
        Sender::Cloud => ("cloud", None),
    };
    Ok(MessageRow {
        message: id,
        app: recorded.app.clone(),
        position: recorded.position,
        protocol: e.protocol.name().to_owned(),
        sender: sender.to_owned(),
        account,
        accepted_at: recorded.recorded_at,
        expires_at: e.expires_at,
        targets: i64::try_from(e.targets.len()).unwrap_or(i64::MAX),
        unresolved: i64::from(e.unresolved),
        strategy: db::name_of(e.strategy)?,
        users: [i64::from(e.users), i64::from(e.unbound)],
    })
}

fn push_message(values: &mut Vec<Value>, row: MessageRow) {
    values.extend([
        row.message.0.into(),
        row.app.into(),
        row.position.into(),
        row.protocol.into(),
        row.sender.into(),
        row.account.into(),
        row.accepted_at.into(),
        row.expires_at.into(),
        row.targets.into(),
        row.unresolved.into(),
        row.strategy.into(),
        row.users[0].into(),
        row.users[1].into(),
    ]);
}

/// A message and its deliveries, in order of device, after the first events of its stream; nothing
/// if these are of no message.
///
/// # Errors
/// [`Fault::Stored`] for what has no name.
pub fn after(events: &[Recorded]) -> Result<Option<(MessageRow, Vec<DeliveryRow>)>, Fault> {
    let Some((first, rest)) = events.split_first() else { return Ok(None) };
    let (Stream::Message(id), Event::MessageAccepted(e)) = (&first.stream, &first.event) else {
        return Ok(None);
    };
    let mut deliveries = Deliveries::accepted(*id, first, e);
    rest.iter().for_each(|recorded| fold(&mut deliveries, recorded));
    Ok(Some((accepted(*id, first, e)?, deliveries.into_rows())))
}

/// Messages of an app between two positions, newest first; of one protocol if it is said.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn messages(
    conn: &mut Conn<'_>,
    app: &str,
    (after, before): (i64, i64),
    protocol: Option<Protocol>,
    limit: i64,
) -> Result<Vec<MessageRow>, Fault> {
    const SQL: &str = "SELECT message, app, position, protocol, sender, account, accepted_at, \
         expires_at, targets, unresolved, strategy, users, unbound FROM messages \
         WHERE app = $1 AND position < $2 AND position > $3 AND ($4 = '' OR protocol = $4) \
         ORDER BY position DESC LIMIT $5";
    let protocol = protocol.map_or("", Protocol::name);
    let rows: Vec<StoredMessage> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(app).bind(before).bind(after).bind(protocol);
        query.bind(limit).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(message).collect())
}

/// Messages of an app by id.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_ids(
    conn: &mut Conn<'_>,
    app: &str,
    messages: &[i64],
) -> Result<Vec<MessageRow>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT message, app, position, protocol, sender, account, accepted_at, \
         expires_at, targets, unresolved, strategy, users, unbound FROM messages \
         WHERE app = $2 AND message IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, messages) = (conn.text(SQL), db::list(messages)?);
    let rows: Vec<StoredMessage> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(messages).bind(app).fetch_all(&mut *c).await?
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
    const SQL: &str = "SELECT m.app, m.message FROM deliveries d \
         JOIN messages m ON m.message = d.message WHERE d.due > 0 ORDER BY m.message";
    let rows: Vec<(String, i64)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    Ok(rows.into_iter().map(|(app, message)| (app, MessageId(message))).collect())
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
