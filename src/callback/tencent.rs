//! Tencent IM's callbacks: about a message that was sent or could not be, one that was read, one
//! that was withdrawn, and a device that came or went. All of them go to one URL, which says in its
//! query what they are about; with a token, the query is signed. What is answered to them does not
//! matter. The one that asks before a message is sent is worded and signed here too.

use domain::{
    Event, Recorded,
    app::{TencentCallback, TencentConfig},
    callback::{Policy, Verdict},
    chat::{Chat, Payload},
    facts::{Fact, Key},
    message::{Message, MessageAccepted, MessageId, MessagePrivate, Progress, RawJson, Stage},
    presence::Manner,
    route::Strategy,
};
use projections::{Fault, chats};
use reqwest::Url;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::Uuid;

use super::kind::{Call, Endpoint, Entry, by_status};
use crate::{app::Server, outbound::Answer, secrets::hex};

/// Longest wait for the views before a callback is worded anew.
const VIEWS: Duration = Duration::from_secs(10);
/// Header with the callback's id: the protocol has none for what is no message.
const IDS: &str = "x-entry-ids";
/// Where a call comes from: the app's server, or a device that does not say what it is.
const REST: &str = "RESTAPI";
const UNKNOWN: &str = "Unknown";
/// The number of unread messages when one could not be sent.
const NOT_SENT: i64 = -1;
/// What the sender is told of a message that the app's list of words stopped.
pub(crate) const FILTERED: u32 = 80_001;
pub(crate) const FILTERED_INFO: &str = "text is filtered";

/// A message, as callbacks before and after it was sent word it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sent<'a> {
    callback_command: &'static str,
    #[serde(rename = "From_Account")]
    from: &'a str,
    #[serde(rename = "To_Account")]
    to: &'a str,
    msg_seq: u32,
    msg_random: u32,
    msg_time: i64,
    msg_key: &'a str,
    msg_id: String,
    online_only_flag: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_msg_result: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_info: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_msg_num: Option<i64>,
    msg_body: &'a RawJson,
    cloud_custom_data: &'a str,
}

impl<'a> Sent<'a> {
    fn of(
        command: TencentCallback,
        payload: &'a Payload,
        id: MessageId,
        strategy: Strategy,
    ) -> Sent<'a> {
        Sent {
            callback_command: command.command(),
            from: &payload.from,
            to: &payload.to,
            msg_seq: payload.msg_seq,
            msg_random: payload.msg_random,
            msg_time: payload.msg_time,
            msg_key: &payload.msg_key,
            msg_id: format!("{id}-{}-{}", payload.msg_time, payload.msg_random),
            online_only_flag: u8::from(strategy == Strategy::PresentOnly),
            send_msg_result: None,
            error_info: None,
            unread_msg_num: None,
            msg_body: &payload.msg_body,
            cloud_custom_data: payload.cloud_custom_data.as_deref().unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Read<'a> {
    callback_command: &'static str,
    #[serde(rename = "Report_Account")]
    reporter: &'a str,
    #[serde(rename = "Peer_Account")]
    peer: &'a str,
    last_read_time: i64,
    event_time: i64,
    unread_msg_num: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Withdrawn<'a> {
    callback_command: &'static str,
    #[serde(rename = "From_Account")]
    from: &'a str,
    #[serde(rename = "To_Account")]
    to: &'a str,
    msg_key: &'a str,
    unread_msg_num: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Changed<'a> {
    callback_command: &'static str,
    event_time: i64,
    info: Info<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kicked_device: Option<[Kicked; 1]>,
}

/// What a device was whose connection another took over.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kicked {
    platform: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Info<'a> {
    action: &'static str,
    #[serde(rename = "To_Account")]
    account: &'a str,
    reason: &'static str,
}

/// What an event is a callback about, if it is one at all.
fn subject(event: &Event) -> Option<TencentCallback> {
    let seen = |what: Progress| matches!(what, Progress::Displayed | Progress::Acknowledged);
    match event {
        Event::MessageAccepted(push) => {
            (push.callback && push.chat.is_some()).then_some(TencentCallback::AfterSend)
        }
        Event::MessageFiltered(e) => e.callback.then_some(TencentCallback::AfterSend),
        Event::DeliveriesAdvanced(e) => {
            let any = e.steps.iter().any(|step| seen(step.what));
            any.then_some(TencentCallback::AfterReport)
        }
        Event::RecallRequested(_) => Some(TencentCallback::AfterWithdraw),
        Event::PresenceChanged(e) => e.account.map(|_| TencentCallback::StateChange),
        _ => None,
    }
}

pub(super) fn concerns(tencent: &TencentConfig, recorded: &Recorded) -> bool {
    subject(&recorded.event).is_some_and(|subject| tencent.calls(subject))
}

pub(super) async fn entry(server: &Server, recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    match &recorded.event {
        Event::MessageAccepted(push) => {
            let Some(chat) = push.chat else { return Ok(None) };
            let unread = unread(server, chat.to, recorded.position).await?;
            let result = (0, "send msg succeed", unread);
            sent(recorded, chat, push.strategy, push.private.as_ref(), result)
        }
        Event::MessageFiltered(e) => {
            let result = (FILTERED, FILTERED_INFO, NOT_SENT);
            sent(recorded, e.chat, e.strategy, e.private.as_ref(), result)
        }
        Event::DeliveriesAdvanced(_) => read(server, recorded).await,
        Event::RecallRequested(_) => withdrawn(server, recorded).await,
        Event::PresenceChanged(e) => {
            let Some(account) = e.account else { return Ok(None) };
            changed(server, recorded, account, (e.online, e.how)).await
        }
        _ => Ok(None),
    }
}

fn sent(
    recorded: &Recorded,
    chat: Chat,
    strategy: Strategy,
    private: Option<&MessagePrivate>,
    (result, info, unread): (u32, &'static str, i64),
) -> Result<Option<Entry>, Fault> {
    let (Some(payload), domain::Stream::Message(id)) = (payload(private)?, &recorded.stream) else {
        return Ok(None);
    };
    let sent = Sent {
        send_msg_result: Some(result),
        error_info: Some(info),
        unread_msg_num: Some(unread),
        ..Sent::of(TencentCallback::AfterSend, &payload, *id, strategy)
    };
    let caller = private.and_then(|private| private.caller.as_deref()).unwrap_or_default();
    let about = (TencentCallback::AfterSend, caller, REST);
    entry_of(recorded, chat.to, about, &sent).map(Some)
}

async fn read(server: &Server, recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    let Some((push, before)) = told_before(server, recorded).await? else { return Ok(None) };
    let (Some(chat), Some(payload)) = (push.chat, payload(push.private.as_ref())?) else {
        return Ok(None);
    };
    // Another device of the account may have shown it.
    if before.deliveries.values().any(|delivery| delivery.stage >= Stage::Displayed) {
        return Ok(None);
    }
    let read = Read {
        callback_command: TencentCallback::AfterReport.command(),
        reporter: &payload.to,
        peer: &payload.from,
        last_read_time: chat.time,
        event_time: recorded.recorded_at / 1_000,
        unread_msg_num: unread(server, chat.to, recorded.position).await?,
    };
    let about = (TencentCallback::AfterReport, "", UNKNOWN);
    entry_of(recorded, chat.to, about, &read).map(Some)
}

async fn withdrawn(server: &Server, recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    let Some((push, before)) = told_before(server, recorded).await? else { return Ok(None) };
    let (Some(chat), Some(payload)) = (push.chat, payload(push.private.as_ref())?) else {
        return Ok(None);
    };
    // What a device turned out to have got after all is withdrawn there, and no second time.
    if before.withdrawn {
        return Ok(None);
    }
    let withdrawn = Withdrawn {
        callback_command: TencentCallback::AfterWithdraw.command(),
        from: &payload.from,
        to: &payload.to,
        msg_key: &payload.msg_key,
        unread_msg_num: unread(server, chat.to, recorded.position).await?,
    };
    let about = (TencentCallback::AfterWithdraw, "", REST);
    entry_of(recorded, chat.to, about, &withdrawn).map(Some)
}

async fn changed(
    server: &Server,
    recorded: &Recorded,
    account: Uuid,
    (online, how): (bool, Option<Manner>),
) -> Result<Option<Entry>, Fault> {
    let fact = server.ledger.remembered(Key::Addresses(account)).await?;
    let Fact::Addresses(Some(found)) = fact else { return Ok(None) };
    let Some(user) = found.addresses.tencent.as_deref() else { return Ok(None) };
    let (action, reason) = match (online, how) {
        (true, _) => ("Login", "Register"),
        (false, Some(Manner::TimedOut)) => ("Disconnect", "TimeOut"),
        (false, None | Some(Manner::TookOver)) => ("Disconnect", "LinkClose"),
    };
    let kicked = online && how == Some(Manner::TookOver);
    let changed = Changed {
        callback_command: TencentCallback::StateChange.command(),
        event_time: recorded.recorded_at / 1_000,
        info: Info { action, account: user, reason },
        kicked_device: kicked.then_some([Kicked { platform: UNKNOWN }]),
    };
    let about = (TencentCallback::StateChange, "", UNKNOWN);
    entry_of(recorded, account, about, &changed).map(Some)
}

fn payload(private: Option<&MessagePrivate>) -> Result<Option<Payload>, Fault> {
    let payload = private.and_then(|private| private.payload.as_ref());
    let parsed = payload.map(|payload| serde_json::from_str(payload.0.get())).transpose();
    parsed.map_err(|cause| Fault::stored("payload", cause))
}

/// The push of a conversation that an event is about, and the message as it was before that event.
async fn told_before(
    server: &Server,
    recorded: &Recorded,
) -> Result<Option<(MessageAccepted, Message)>, Fault> {
    let stream = recorded.stream.to_string();
    let page = server.ledger.read_stream(&stream, 0, recorded.version - 1).await?;
    let Some(Event::MessageAccepted(push)) = page.events.first().map(|first| &first.event) else {
        return Ok(None);
    };
    if push.chat.is_none() {
        return Ok(None);
    }
    let fold = |message, event: &Recorded| Message::evolve(message, event.place(), &event.event);
    let message = page.events.iter().fold(None, fold);
    Ok(message.map(|message| (push.clone(), message)))
}

/// How many messages an account had not read as of an event: the same each time it is asked.
async fn unread(server: &Server, account: Uuid, position: i64) -> Result<i64, Fault> {
    // Who has it worded tries again, and knows when the server stops.
    server.views.reached(position, VIEWS).await.map_err(|_| Fault::Behind(position))?;
    let mut views = server.ledger.database().views.checkout().await?;
    chats::unread(&mut views.conn(), account, position).await
}

/// What is about one account goes in order.
fn entry_of(
    recorded: &Recorded,
    account: Uuid,
    (command, caller, platform): (TencentCallback, &str, &str),
    body: &impl Serialize,
) -> Result<Entry, Fault> {
    let body = serde_json::to_string(body).map_err(|cause| Fault::stored("callback", cause))?;
    let (id, query) = (recorded.position.to_string(), about(command, caller, platform));
    let order = account.as_u64_pair().1;
    Ok(Entry { id, order, body: body.into(), query })
}

/// The part of the query that says what a call is about.
fn about(command: TencentCallback, caller: &str, platform: &str) -> String {
    let command = command.command();
    format!("CallbackCommand={command}&contenttype=json&ClientIP={caller}&OptPlatform={platform}")
}

/// The whole query of a call, at a time in seconds since the epoch.
fn query(app: &str, about: &str, token: Option<&str>, now: i64) -> String {
    let mut query = format!("SdkAppid={app}&{about}");
    if let Some(token) = token {
        let sign = hex(&Sha256::new().chain_update(token).chain_update(now.to_string()).finalize());
        query += &format!("&Sign={sign}&RequestTime={now}");
    }
    query
}

/// A URL with more in its query.
pub(super) fn with_query(mut url: Url, more: &str) -> Url {
    if !more.is_empty() {
        let query = match url.query().filter(|own| !own.is_empty()) {
            Some(own) => format!("{own}&{more}"),
            None => more.to_owned(),
        };
        url.set_query(Some(&query));
    }
    url
}

pub(super) fn call(endpoint: &Endpoint, entries: &[Entry], now: i64) -> Call {
    let entry = entries.first();
    let body = entry.map(|entry| entry.body.clone()).unwrap_or_default();
    let about = entry.map(|entry| entry.query.as_str()).unwrap_or_default();
    let token = endpoint.secrets.first().map(String::as_str);
    let query = query(&endpoint.wire_id, about, token, now / 1_000_000);
    let headers = entry.map(|entry| (IDS, entry.id.clone())).into_iter().collect();
    Call { body, headers, query }
}

/// What the receiver answers does not matter, as long as it does.
pub(super) fn verdict(answer: &Answer) -> Verdict {
    by_status(answer.status)
}

/// When calls are made again: only as often as the app wants.
pub(super) fn policy(tencent: Option<&TencentConfig>, usual: Policy) -> Policy {
    usual.again(tencent.map_or(0, |tencent| tencent.retries.into()))
}

/// URL and body of the call that asks whether a message may be sent, at a time in µs.
///
/// # Errors
/// [`Fault::Stored`] never in practice: for a URL that is none.
pub(crate) fn question(
    (tencent, url): (&TencentConfig, &str),
    token: Option<&str>,
    (payload, id, strategy): (&Payload, MessageId, Strategy),
    caller: &str,
    now: i64,
) -> Result<(Url, String), Fault> {
    let url: Url = url.parse().map_err(|cause| Fault::stored("URL", cause))?;
    let about = about(TencentCallback::BeforeSend, caller, REST);
    let query = query(&tencent.sdk_app_id.to_string(), &about, token, now / 1_000_000);
    let sent = Sent::of(TencentCallback::BeforeSend, payload, id, strategy);
    let body = serde_json::to_string(&sent).map_err(|cause| Fault::stored("callback", cause))?;
    Ok((with_query(url, &query), body))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_it_is_about_and_is_signed_as_the_vendor_published() {
        let about = about(TencentCallback::AfterSend, "203.0.113.7", REST);
        let plain = "SdkAppid=1400009999&CallbackCommand=C2C.CallbackAfterSendMsg\
            &contenttype=json&ClientIP=203.0.113.7&OptPlatform=RESTAPI";
        assert_eq!(query("1400009999", &about, None, 0), plain);
        for (token, time, sign) in [
            (
                "xxxxyyyy",
                1_669_872_112,
                "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061",
            ),
            (
                "tok-7f3a",
                1_750_000_000,
                "11ac498b6ade778dffcf328e7263dc701a374c8246ad791e624d758d0bb67845",
            ),
        ] {
            let signed = query("1400009999", &about, Some(token), time);
            assert_eq!(signed, format!("{plain}&Sign={sign}&RequestTime={time}"));
        }
    }

    #[test]
    fn a_url_that_has_a_query_keeps_it() {
        let url = |text: &str| with_query(text.parse().unwrap(), "a=1").to_string();
        assert_eq!(url("https://example.com/im"), "https://example.com/im?a=1");
        assert_eq!(url("https://example.com/im?"), "https://example.com/im?a=1");
        assert_eq!(url("https://example.com/im?k=v"), "https://example.com/im?k=v&a=1");
    }
}
