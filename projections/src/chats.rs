//! The view `chat_messages`: the messages of conversations between two accounts, for reading back
//! what was said, for finding a message by the key that both sides know, and for counting what an
//! account has not read yet. Texts stay in the ledger; this knows where they are.
//!
//! A message counts as unread from its own position up to that of the event with which a device
//! showed it, or with which it was withdrawn. So the number is known as of any position.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use domain::{
    Event, Recorded, Stream,
    chat::Chat,
    message::{MessageAccepted, MessageId, Progress, Sender},
    route::Strategy,
};
use uuid::Uuid;

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, rows,
};

/// One message as the view keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRow {
    /// The message.
    pub message: MessageId,
    /// Position of the push.
    pub position: i64,
    /// The account that sent it.
    pub sender: Uuid,
    /// Its place in the conversation.
    pub chat: Chat,
    /// Whether it was withdrawn.
    pub withdrawn: bool,
}

/// Columns of a row, in the order in which it is written.
const COLUMNS: [&str; 13] = [
    "message",
    "position",
    "conversation",
    "sender",
    "recipient",
    "seq",
    "random",
    "time",
    "kept",
    "counted",
    "unsynced",
    "read_position",
    "withdrawn",
];

static INSERT: LazyLock<Insert> = LazyLock::new(|| Insert::new("chat_messages", &COLUMNS, ""));

/// A message that a page adds.
struct New<'a> {
    position: i64,
    sender: Uuid,
    push: &'a MessageAccepted,
    chat: Chat,
    read: Option<i64>,
    withdrawn: bool,
}

/// Folds one page.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let mut new: BTreeMap<i64, New> = BTreeMap::new();
    // Of messages from before the page: where they were read, and which were withdrawn.
    let (mut read, mut withdrawn) = (BTreeMap::new(), BTreeSet::new());
    for recorded in page {
        let Stream::Message(MessageId(id)) = recorded.stream else { continue };
        let taken_back = matches!(recorded.event, Event::RecallRequested(_));
        match &recorded.event {
            Event::MessageAccepted(push) => {
                if let (Some(chat), Sender::User(sender)) = (push.chat, push.sender) {
                    let position = recorded.position;
                    let row = New { position, sender, push, chat, read: None, withdrawn: false };
                    new.insert(id, row);
                }
                continue;
            }
            Event::DeliveriesAdvanced(e) => {
                let seen = |what| matches!(what, Progress::Displayed | Progress::Acknowledged);
                if !e.steps.iter().any(|step| seen(step.what)) {
                    continue;
                }
            }
            Event::RecallRequested(_) => {}
            _ => continue,
        }
        match new.get_mut(&id) {
            Some(row) => {
                row.read.get_or_insert(recorded.position);
                row.withdrawn |= taken_back;
            }
            None => {
                read.entry(id).or_insert(recorded.position);
                withdrawn.extend(taken_back.then_some(id));
            }
        }
    }
    let mut values: Vec<Value> = Vec::with_capacity(new.len() * COLUMNS.len());
    for (id, row) in new {
        push(&mut values, id, &row);
    }
    INSERT.run(conn, values).await?;
    const READ: Sql = rows!(
        "UPDATE chat_messages SET read_position = CAST(list.value->>1 AS BIGINT) FROM ",
        " WHERE message = CAST(list.value->>0 AS BIGINT) AND read_position IS NULL"
    );
    update(conn, READ, &read.into_iter().collect::<Vec<_>>()).await?;
    const WITHDRAWN: Sql = rows!(
        "UPDATE chat_messages SET withdrawn = 1 FROM ",
        " WHERE message = CAST(list.value->>0 AS BIGINT)"
    );
    let withdrawn: Vec<(i64, i64)> = withdrawn.into_iter().map(|id| (id, 1)).collect();
    update(conn, WITHDRAWN, &withdrawn).await
}

async fn update(conn: &mut Conn<'_>, sql: Sql, list: &[(i64, i64)]) -> Result<(), Fault> {
    if list.is_empty() {
        return Ok(());
    }
    let (sql, list) = (conn.text(sql), db::list(list)?);
    on!(conn.again(), c => sqlx::query(sql).bind(list).execute(&mut *c).await?.rows_affected());
    Ok(())
}

fn push(values: &mut Vec<Value>, id: i64, row: &New<'_>) {
    let kept = row.push.strategy != Strategy::PresentOnly;
    let Chat { to, seq, random, time, uncounted, unsynced } = row.chat;
    values.extend([
        id.into(),
        row.position.into(),
        conversation(row.sender, to).into(),
        row.sender.to_string().into(),
        to.to_string().into(),
        i64::from(seq).into(),
        i64::from(random).into(),
        time.into(),
        i64::from(kept).into(),
        i64::from(kept && !uncounted).into(),
        i64::from(unsynced).into(),
        Value::Int(row.read),
        i64::from(row.withdrawn).into(),
    ]);
}

/// The name of the conversation between two accounts, whoever speaks.
fn conversation(one: Uuid, other: Uuid) -> String {
    format!("{}/{}", one.min(other), one.max(other))
}

/// Columns of a [`StoredRow`], in its order.
macro_rules! select_chats {
    ($where:literal) => {
        concat!(
            "SELECT message, position, sender, recipient, seq, random, time, counted, unsynced, ",
            "withdrawn FROM chat_messages WHERE ",
            $where
        )
    };
}

type StoredRow = (i64, i64, String, String, i64, i64, i64, i64, i64, i64);

fn row(row: StoredRow) -> Result<ChatRow, Fault> {
    let uuid = |text: &str| text.parse().map_err(|cause| Fault::stored("account", cause));
    let number = |number: i64| u32::try_from(number).map_err(|cause| Fault::stored("key", cause));
    Ok(ChatRow {
        message: MessageId(row.0),
        position: row.1,
        sender: uuid(&row.2)?,
        chat: Chat {
            to: uuid(&row.3)?,
            seq: number(row.4)?,
            random: number(row.5)?,
            time: row.6,
            uncounted: row.7 == 0,
            unsynced: row.8 != 0,
        },
        withdrawn: row.9 != 0,
    })
}

/// The message that an account sent to another under a key, the last if there are several.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn find(
    conn: &mut Conn<'_>,
    sender: Uuid,
    to: Uuid,
    (seq, random, time): (u32, u32, i64),
) -> Result<Option<ChatRow>, Fault> {
    const SQL: &str = select_chats!(
        "conversation = $1 AND time = $2 AND seq = $3 AND random = $4 AND sender = $5 \
         ORDER BY position DESC LIMIT 1"
    );
    let found: Option<StoredRow> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(conversation(sender, to)).bind(time);
        let query = query.bind(i64::from(seq)).bind(i64::from(random)).bind(sender.to_string());
        query.fetch_optional(&mut *c).await?
    });
    found.map(row).transpose()
}

/// What is asked for of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The account that asks: it finds what it sent unless it wanted not to.
    pub account: Uuid,
    /// The other account.
    pub peer: Uuid,
    /// The first and the last second since the epoch.
    pub times: (i64, i64),
    /// Time, number and position that every message comes before.
    pub before: (i64, i64, i64),
    /// Only messages of a later position than that.
    pub after: i64,
}

/// Messages of a conversation, the last by time and number first.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page(conn: &mut Conn<'_>, asked: Asked, limit: i64) -> Result<Vec<ChatRow>, Fault> {
    const SQL: &str = select_chats!(
        "conversation = $1 AND kept = 1 AND (unsynced = 0 OR recipient = $2) \
         AND time BETWEEN $3 AND $4 AND (time, seq, position) < ($5, $6, $7) AND position > $8 \
         ORDER BY time DESC, seq DESC, position DESC LIMIT $9"
    );
    let Asked { account, peer, times, before, after } = asked;
    let found: Vec<StoredRow> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(conversation(account, peer)).bind(account.to_string());
        let query = query.bind(times.0).bind(times.1);
        let query = query.bind(before.0).bind(before.1).bind(before.2);
        query.bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    found.into_iter().map(row).collect()
}

/// How many messages an account had not read as of a position.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn unread(conn: &mut Conn<'_>, account: Uuid, as_of: i64) -> Result<i64, Fault> {
    const STILL: &str = "SELECT COUNT(*) FROM chat_messages WHERE recipient = $1 \
         AND counted = 1 AND read_position IS NULL AND position <= $2";
    const LATER: &str = "SELECT COUNT(*) FROM chat_messages WHERE recipient = $1 \
         AND counted = 1 AND read_position > $2 AND position <= $2";
    let account = account.to_string();
    let ((still,), (later,)): ((i64,), (i64,)) = on!(conn.again(), c => (
        sqlx::query_as(STILL).bind(&account).bind(as_of).fetch_one(&mut *c).await?,
        sqlx::query_as(LATER).bind(&account).bind(as_of).fetch_one(&mut *c).await?,
    ));
    Ok(still + later)
}
