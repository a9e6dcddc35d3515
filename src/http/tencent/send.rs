//! `sendmsg` and `batchsendmsg`: a message to one account, or to many. What has the same sender,
//! recipients and `MsgRandom` within a second is the same call, and has the first one's answer.

use domain::{
    Event, Recorded, Rejection,
    chat::{
        Payload, Recipient, SendChat,
        elements::{Elements, Malformed},
        shown::Wishes,
    },
    facts::{Fact, Key},
    message::{MessagePrivate, RawJson},
    object::Object,
    route::Strategy,
};
use projections::Fault;
use serde_json::{json, value::to_raw_value};
use std::collections::BTreeSet;
use uuid::Uuid;

use super::{
    Reply, before,
    errors::Problem,
    fields::{optional, switched, user},
    gate::Call,
};
use crate::{
    app::Server,
    ledger::{Done, Refused},
    secrets::{SecretError, new_number},
};

/// Longest `MsgBody`, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// Accounts that one call may send to.
const MAX_TO: usize = 500;
/// Largest `MsgLifeTime`, in seconds.
const MAX_LIFE_SECONDS: u64 = 604_800;
/// How long a message is worth delivering at most, in µs.
const MAX_LIFE_MICROS: i64 = 86_400_000_000;
/// What an account that there is not gets in a list of errors.
const NO_ACCOUNT: u32 = 70_107;

/// A message as a call words it.
struct Draft {
    from: String,
    to: Vec<String>,
    seq: u32,
    random: u32,
    body: RawJson,
    data: Option<String>,
    push: Option<RawJson>,
    strategy: Strategy,
    life_micros: i64,
    uncounted: bool,
    /// Whether the sender's other devices get a copy, and whether it finds the message.
    copied: bool,
    unsynced: bool,
}

pub(super) async fn one(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let body = call.body()?;
    let to = user(&body, "To_Account", || Problem::To)?.ok_or(Problem::To)?;
    let draft = Draft::read(call, &body, vec![to])?;
    let forbidden = |name| switched(&body, "ForbidCallbackControl", name);
    let asked = !forbidden("ForbidBeforeSendMsgCallback")?;
    let told = !forbidden("ForbidAfterSendMsgCallback")?;
    let (_, events, done) = draft.send(server, call, asked, told).await?;
    let fields = sent(&events)?;
    Ok(Reply::of(json!({ "MsgTime": fields.0, "MsgKey": fields.1 }), Some(done)))
}

pub(super) async fn many(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let body = call.body()?;
    let to: Option<Vec<String>> = optional(&body, "To_Account", Problem::To)?;
    let mut to = to.filter(|to| !to.is_empty()).ok_or(Problem::To)?;
    if to.iter().any(|to| to.is_empty() || to.contains('\0')) {
        return Err(Problem::To);
    }
    if to.len() > MAX_TO {
        return Err(Problem::ManyTo(MAX_TO));
    }
    let mut named = BTreeSet::new();
    to.retain(|to| named.insert(to.clone()));
    let draft = Draft::read(call, &body, to)?;
    let (asked, events, done) = draft.send(server, call, false, false).await?;
    let (_, key) = sent(&events)?;
    let reached: BTreeSet<String> = events.iter().filter_map(recipient).collect();
    let error = |to: &String| json!({ "To_Account": to, "ErrorCode": NO_ACCOUNT });
    let missing: Vec<_> = asked.iter().filter(|to| !reached.contains(*to)).map(error).collect();
    let fields = if missing.is_empty() {
        json!({ "MsgKey": key })
    } else {
        json!({ "ActionStatus": "SomeError", "MsgKey": key, "ErrorList": missing })
    };
    Ok(Reply::of(fields, Some(done)))
}

/// Time and key of the message that some events are about.
fn sent(events: &[Recorded]) -> Result<(i64, String), Problem> {
    let chat = events.iter().find_map(|recorded| match &recorded.event {
        Event::MessageAccepted(push) => push.chat,
        Event::MessageFiltered(e) => Some(e.chat),
        _ => None,
    });
    let filtered = |recorded: &Recorded| matches!(recorded.event, Event::MessageFiltered(_));
    match chat {
        Some(_) if events.iter().any(filtered) => Err(Problem::Filtered),
        Some(chat) => Ok((chat.time, chat.key())),
        None => Err(Fault::stored("message", "it was sent and is not there").into()),
    }
}

/// Whom a message of a conversation was sent to.
fn recipient(recorded: &Recorded) -> Option<String> {
    let Event::MessageAccepted(push) = &recorded.event else { return None };
    let private = push.private.as_ref().filter(|_| push.chat.is_some())?;
    serde_json::from_str(private.destinations.0.get()).ok()
}

impl Draft {
    fn read(call: &Call, body: &Object, to: Vec<String>) -> Result<Draft, Problem> {
        let from = user(body, "From_Account", || Problem::From)?;
        let seq: Option<u32> = optional(body, "MsgSeq", Problem::Field("MsgSeq"))?;
        let random = optional(body, "MsgRandom", Problem::Random)?.ok_or(Problem::Random)?;
        optional::<i64>(body, "MsgTimeStamp", Problem::TimeStamp)?;
        let sync: Option<u8> = optional(body, "SyncOtherMachine", Problem::Sync)?;
        if !matches!(sync, None | Some(1 | 2)) {
            return Err(Problem::Sync);
        }
        let life: Option<u64> = optional(body, "MsgLifeTime", Problem::LifeTime)?;
        if life.is_some_and(|seconds| seconds > MAX_LIFE_SECONDS) {
            return Err(Problem::LongLife(MAX_LIFE_SECONDS));
        }
        let elements = body.get("MsgBody").ok_or(Problem::Elements(Malformed::NotAList))?;
        if elements.get().len() > MAX_MESSAGE_BYTES {
            return Err(Problem::Long(MAX_MESSAGE_BYTES));
        }
        let understood = Elements::parse(elements.get()).map_err(Problem::Elements)?;
        let push = body.get("OfflinePushInfo");
        let wishes = push.map(|push| Wishes::parse(push.get())).transpose();
        let wishes = wishes.map_err(|_| Problem::Push)?;
        let control = |name| switched(body, "SendMsgControl", name);
        let quiet =
            control("WithMuteNotifications")? || Wishes::nothing(wishes.as_ref(), &understood);
        let life_micros =
            life.and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1_000_000));
        let data = "CloudCustomData";
        Ok(Draft {
            from: from.unwrap_or_else(|| call.tencent().admin.clone()),
            to,
            seq: match seq {
                Some(seq) => seq,
                None => new_number().map_err(SecretError::from)?,
            },
            random,
            body: RawJson(elements.to_owned()),
            data: optional(body, data, Problem::Field(data))?,
            push: push.map(|push| RawJson(push.to_owned())),
            strategy: match life {
                Some(0) => Strategy::PresentOnly,
                _ if quiet => Strategy::OnlineElseKept,
                _ => Strategy::OnlineElseVendor,
            },
            life_micros: life_micros.filter(|micros| *micros > 0).unwrap_or(MAX_LIFE_MICROS),
            uncounted: control("NoUnread")?,
            copied: sync == Some(1),
            unsynced: sync == Some(2),
        })
    }

    /// Sends it; gives whom it was for and the events that came of it, now or the first time.
    async fn send(
        self,
        server: &Server,
        call: &Call,
        asked: bool,
        told: bool,
    ) -> Result<(Vec<String>, Vec<Recorded>, Done), Problem> {
        let now = server.clock.now();
        let time = now.div_euclid(1_000_000);
        let app = call.app.id();
        let (random, second) = (self.random.to_string(), time.to_string());
        let mut parts: Vec<&[u8]> = vec![b"tencent send", app.as_bytes(), self.from.as_bytes()];
        parts.extend([random.as_bytes(), second.as_bytes()]);
        parts.extend(self.to.iter().map(String::as_bytes));
        let key = server.master.fingerprint(&parts);
        let asks = asked && before::is_asked(call);
        if asks {
            // Nobody is asked about what was sent already, or about what nobody would get.
            if let Some(done) = server.ledger.repeated(app, &key).await? {
                return self.done(server, done).await;
            }
            self.any_known(server, app).await?;
        }
        let (mut to, mut text) = (Vec::with_capacity(self.to.len()), String::new());
        for name in &self.to {
            let id = server.ids.next(&server.clock).await.ok_or(Problem::Busy)?;
            let copy = match self.copied {
                true => Some(server.ids.next(&server.clock).await.ok_or(Problem::Busy)?),
                false => None,
            };
            let mut payload = self.payload(name, time);
            if asks {
                before::ask(server, call, (&mut payload, id, self.strategy)).await?;
            }
            text = Elements::parse(payload.msg_body.0.get()).map_err(Problem::Elements)?.text;
            let unwritable = |cause| Fault::stored("message", cause);
            let private = MessagePrivate {
                destinations: RawJson(to_raw_value(name).map_err(unwritable)?),
                payload: Some(RawJson(to_raw_value(&payload).map_err(unwritable)?)),
                caller: call.caller.clone(),
            };
            to.push(Recipient { name: name.clone(), id, copy, private });
        }
        let tencent = call.tencent();
        let command = SendChat {
            app: app.to_owned(),
            new_sender: (self.from == tencent.admin).then(Uuid::now_v7),
            from: self.from.clone(),
            to,
            seq: self.seq,
            random: self.random,
            time,
            strategy: self.strategy,
            expires_at: now + self.life_micros.min(MAX_LIFE_MICROS),
            uncounted: self.uncounted,
            unsynced: self.unsynced,
            callback: told,
            words: tencent.words.clone(),
            text: text.to_lowercase(),
        };
        let done = call.execute(server, Some(key), command).await?;
        self.done(server, done).await
    }

    /// Whom it was for and the events that came of it.
    async fn done(
        self,
        server: &Server,
        done: Done,
    ) -> Result<(Vec<String>, Vec<Recorded>, Done), Problem> {
        let page = server.ledger.read(done.first - 1, done.last - done.first + 1).await?;
        Ok((self.to, page.events, done))
    }

    /// Refuses what would be refused for want of recipients anyway.
    async fn any_known(&self, server: &Server, app: &str) -> Result<(), Problem> {
        for name in &self.to {
            if let Fact::Account(Some(_)) = server.ledger.fact(Key::tencent(app, name)).await? {
                return Ok(());
            }
        }
        let unknown = self.to.first().cloned().unwrap_or_default();
        Err(Refused::Rejected(Rejection::UnknownUser(unknown)).into())
    }

    fn payload(&self, to: &str, time: i64) -> Payload {
        Payload {
            from: self.from.clone(),
            to: to.to_owned(),
            msg_seq: self.seq,
            msg_random: self.random,
            msg_time: time,
            msg_key: format!("{}_{}_{time}", self.seq, self.random),
            msg_body: self.body.clone(),
            cloud_custom_data: self.data.clone(),
            offline_push_info: self.push.clone(),
        }
    }
}
