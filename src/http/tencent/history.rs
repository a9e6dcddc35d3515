//! `admin_msgwithdraw` and `admin_getroammsg`: a message of a conversation is taken back, and a
//! conversation is read back as one of its accounts finds it. Both know messages by their keys, from
//! the view of conversations, which is waited for.

use std::time::Duration;

use domain::{Event, chat::Payload, message::WithdrawMessage, object::Object};
use projections::{
    Fault,
    chats::{self, Asked, ChatRow},
};
use serde::Serialize;
use serde_json::json;
use std::collections::HashMap;
use uuid::Uuid;

use super::{
    Reply,
    errors::Problem,
    fields::{optional, user},
    gate::Call,
    interface::Interface,
};
use crate::{app::Server, ledger::Refused};

/// Longest wait for the views: a call has 3 s.
const VIEWS: Duration = Duration::from_secs(2);
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 50;
/// Messages of one page, at most.
const MAX_PAGE: u32 = 100;
/// What is set in the flags of a message that was withdrawn.
const WITHDRAWN: u8 = 8;

/// A message as it is read back.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    #[serde(rename = "From_Account")]
    from: &'a str,
    #[serde(rename = "To_Account")]
    to: &'a str,
    msg_seq: u32,
    msg_random: u32,
    msg_time_stamp: i64,
    msg_flag_bits: u8,
    msg_key: &'a str,
    msg_body: &'a domain::message::RawJson,
    cloud_custom_data: &'a str,
}

/// The two accounts of a conversation, by their names.
async fn accounts(
    server: &Server,
    call: &Call,
    body: &Object,
) -> Result<[Option<Uuid>; 2], Problem> {
    let from = user(body, "From_Account", || Problem::From)?.ok_or(Problem::From)?;
    let to = user(body, "To_Account", || Problem::To)?.ok_or(Problem::To)?;
    Ok([call.account(server, &from).await?, call.account(server, &to).await?])
}

pub(super) async fn withdraw(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let body = call.body()?;
    let [from, to] = accounts(server, call, &body).await?;
    let key: Option<String> = optional(&body, "MsgKey", Problem::Key)?;
    let key = key.as_deref().and_then(parts).ok_or(Problem::Key)?;
    let from = from.ok_or(Problem::From)?;
    let unknown = || Problem::from(Refused::Rejected(domain::Rejection::UnknownMessage));
    let row = find(server, from, to.ok_or_else(unknown)?, key).await?.ok_or_else(unknown)?;
    let command = WithdrawMessage { app: call.app.id().to_owned(), message: row.message };
    let done = call.execute(server, None, command).await?;
    Ok(Reply { done: Some(done), ..Reply::default() })
}

/// The numbers of a key, if it is one.
fn parts(key: &str) -> Option<(u32, u32, i64)> {
    if key.len() > MAX_KEY_BYTES {
        return None;
    }
    let mut parts = key.split('_');
    let key =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(key)
}

/// A message by its key, once the view has all that was answered.
async fn find(
    server: &Server,
    from: Uuid,
    to: Uuid,
    key: (u32, u32, i64),
) -> Result<Option<ChatRow>, Problem> {
    let head = server.ledger.fresh_head().await?;
    server.views.reached(head, VIEWS).await.map_err(|_| Problem::Busy)?;
    let mut views = server.ledger.database().views.checkout().await?;
    Ok(chats::find(&mut views.conn(), from, to, key).await?)
}

pub(super) async fn roam(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let body = call.body()?;
    let [Some(account), Some(peer)] = accounts(server, call, &body).await? else {
        return Err(Problem::NoAccount);
    };
    let number = |name| optional::<u32>(&body, name, Problem::Field(name));
    let asked = number("MaxCnt")?.filter(|count| *count > 0).ok_or(Problem::Field("MaxCnt"))?;
    let limit = i64::from(asked.min(MAX_PAGE));
    let min = number("MinTime")?.ok_or(Problem::Field("MinTime"))?;
    let max = number("MaxTime")?.ok_or(Problem::Field("MaxTime"))?;
    let last: Option<String> = optional(&body, "LastMsgKey", Problem::Key)?;
    let last = last.filter(|key| !key.is_empty());
    let before = match last {
        Some(key) => {
            let key = parts(&key).ok_or(Problem::Key)?;
            let row = match find(server, account, peer, key).await? {
                Some(row) => Some(row),
                None => find(server, peer, account, key).await?,
            };
            let row = row.ok_or(Problem::Key)?;
            (row.chat.time, row.chat.seq.into(), row.position)
        }
        None => (i64::MAX, 0, 0),
    };
    let head = server.ledger.fresh_head().await?;
    server.views.reached(head, VIEWS).await.map_err(|_| Problem::Busy)?;
    // What is detached has outlived the time for which conversations are kept.
    let after = server.ledger.away().await?.map_or(0, |away| away.last);
    let asked = Asked { account, peer, times: (min.into(), max.into()), before, after };
    let mut views = server.ledger.database().views.checkout().await?;
    // One more tells whether there is more.
    let mut rows = chats::page(&mut views.conn(), asked, limit + 1).await?;
    drop(views);
    let complete = i64::try_from(rows.len()).unwrap_or(i64::MAX) <= limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = rows.last().map(|row| (row.chat.time, row.chat.key()));
    rows.reverse();
    let list = shown(server, &rows).await?;
    if !list.is_empty() {
        call.tells(server, Interface::GetRoamMsg.path(), list.len(), [account, peer])?;
    }
    let (last_time, last_key) = last.unwrap_or_default();
    Ok(Reply::of(
        json!({
            "Complete": u8::from(complete), "MsgCnt": list.len(),
            "LastMsgTime": last_time, "LastMsgKey": last_key, "MsgList": list,
        }),
        None,
    ))
}

/// Messages in their order, without those that were erased.
async fn shown(server: &Server, rows: &[ChatRow]) -> Result<Vec<serde_json::Value>, Problem> {
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let events = server.ledger.read_at(&positions).await?.events;
    let events: HashMap<i64, _> =
        events.into_iter().map(|event| (event.position, event.event)).collect();
    let mut list = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(Event::MessageAccepted(push)) = events.get(&row.position) else { continue };
        let payload = push.private.as_ref().and_then(|private| private.payload.as_ref());
        let Some(payload) = payload else { continue };
        let unreadable = |cause| Fault::stored("payload", cause);
        let payload: Payload = serde_json::from_str(payload.0.get()).map_err(unreadable)?;
        let shown = Shown {
            from: &payload.from,
            to: &payload.to,
            msg_seq: payload.msg_seq,
            msg_random: payload.msg_random,
            msg_time_stamp: payload.msg_time,
            msg_flag_bits: if row.withdrawn { WITHDRAWN } else { 0 },
            msg_key: &payload.msg_key,
            msg_body: &payload.msg_body,
            cloud_custom_data: payload.cloud_custom_data.as_deref().unwrap_or_default(),
        };
        list.push(serde_json::to_value(&shown).map_err(unreadable)?);
    }
    Ok(list)
}
