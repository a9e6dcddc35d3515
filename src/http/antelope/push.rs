//! `/v2/message/client/push` and `/v2/message/server/push`: messages of at most 256 bytes to devices
//! that are connected, which pass through as they came.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use domain::{
    message::{MessagePrivate, Protocol, RawJson},
    push::{Destinations, Mode, PushMessage, PushMessages, PushSender},
    resend::Resend,
    route::Strategy,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::{
    Reply,
    errors::{Problem, illegal},
    gate::{Call, object},
};
use crate::{antelope, app::Server, ledger::Done};

/// Longest message, in bytes once decoded.
const MAX_MESSAGE_BYTES: usize = 256;
/// Devices that one message may name.
pub(super) const MAX_CIDS: usize = 1_000;
/// Messages that one call may push in the names of devices.
const MAX_MESSAGES: usize = 200;
/// What a pushed message is called on a device, as the vendor's own SDKs know it.
const NAME: &str = "PopMessage";
/// The source of what the app's server sends in its own name; no device has that number.
const NO_SOURCE: u32 = 0;

#[derive(Deserialize)]
struct ClientPush {
    msg: String,
    flag: Option<i64>,
    callback: i64,
    access_tokens: Vec<String>,
}

#[derive(Deserialize)]
struct ServerPush {
    proxy: i64,
    payload: Box<RawValue>,
}

#[derive(Deserialize)]
struct Batch {
    msg: String,
    flag: Option<i64>,
    clients: Vec<u32>,
}

#[derive(Deserialize)]
struct Proxied {
    from: u32,
    to: u32,
    flag: Option<i64>,
    msg: String,
}

/// What a device sees of a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    name: &'a str,
    body: &'a str,
    source_id: u32,
}

/// A message as any of the calls words it.
struct Push {
    source: u32,
    to: Vec<u32>,
    msg: String,
    flag: Option<i64>,
    callback: bool,
}

pub(super) async fn of_device(server: &Server, call: &Call, source: u32) -> Result<Reply, Problem> {
    let ClientPush { msg, flag, callback, access_tokens } = call.body()?;
    let callback = match callback {
        0 => false,
        1 => true,
        _ => return Err(illegal("callback must be 0 or 1")),
    };
    if access_tokens.len() > MAX_CIDS {
        return Err(illegal(format!("access_tokens has at most {MAX_CIDS} items")));
    }
    let mut to = Vec::with_capacity(access_tokens.len());
    let now = server.clock.now();
    for token in access_tokens {
        let found = antelope::holder(&server.directory, &token, now).await?;
        let own = found.filter(|found| found.app.id() == call.app.id());
        to.push(own.ok_or(Problem::Denied("one of access_tokens is not valid"))?.cid);
    }
    let push = Push { source, to, msg, flag, callback };
    let command = push.command(server, call, PushSender::Terminal).await?;
    Ok(Reply::default().after(call.execute(server, command).await?))
}

pub(super) async fn of_server(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let ServerPush { proxy, payload } = call.body()?;
    let done = match proxy {
        0 => {
            let Batch { msg, flag, clients } = object(payload.get()).map_err(in_payload)?;
            let push = Push { source: NO_SOURCE, to: clients, msg, flag, callback: false };
            let command = push.command(server, call, PushSender::Cloud).await?;
            call.execute(server, command).await?
        }
        1 => {
            let messages: Vec<Box<RawValue>> =
                serde_json::from_str(payload.get()).map_err(in_payload)?;
            let Some(command) = proxied(server, call, &messages).await? else {
                return Ok(Reply::default());
            };
            call.execute(server, command).await?
        }
        _ => return Err(illegal("proxy must be 0 or 1")),
    };
    Ok(Reply::default().after(done))
}

fn in_payload(error: serde_json::Error) -> Problem {
    illegal(format!("payload: {error}"))
}

/// Messages in the names of devices; none for none.
async fn proxied(
    server: &Server,
    call: &Call,
    messages: &[Box<RawValue>],
) -> Result<Option<PushMessages>, Problem> {
    if messages.len() > MAX_MESSAGES {
        return Err(illegal(format!("payload has at most {MAX_MESSAGES} items")));
    }
    let mut pushes = Vec::with_capacity(messages.len());
    for message in messages {
        let Proxied { from, to, flag, msg } = object(message.get()).map_err(in_payload)?;
        owned(call, from)?;
        let push = Push { source: from, to: vec![to], msg, flag, callback: false };
        pushes.push(push.command(server, call, PushSender::Terminal).await?);
    }
    Ok(Some(pushes).filter(|pushes| !pushes.is_empty()).map(PushMessages))
}

/// Refuses a device that is not the app's.
pub(super) fn owned(call: &Call, cid: u32) -> Result<(), Problem> {
    if call.antelope().owns(cid) { Ok(()) } else { Err(illegal("a cid is not of this app")) }
}

impl Push {
    async fn command(
        self,
        server: &Server,
        call: &Call,
        sender: PushSender,
    ) -> Result<PushMessage, Problem> {
        let bytes = STANDARD.decode(&self.msg).map_err(|_| illegal("msg must be base64"))?;
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(illegal(format!("msg has at most {MAX_MESSAGE_BYTES} bytes")));
        }
        let resend = Resend::from_number(self.flag.unwrap_or(Resend::UntilAnswered as i64));
        let resend = resend.ok_or_else(|| illegal("flag must be 2 or 3"))?;
        if self.to.len() > MAX_CIDS {
            return Err(illegal(format!("clients has at most {MAX_CIDS} items")));
        }
        self.to.iter().try_for_each(|cid| owned(call, *cid))?;
        let unwritable = |cause| projections::Fault::stored("message", cause);
        let shown = Shown { name: NAME, body: &self.msg, source_id: self.source };
        let payload = Some(RawJson(to_raw_value(&shown).map_err(unwritable)?));
        let destinations = RawJson(to_raw_value(&self.to).map_err(unwritable)?);
        Ok(PushMessage {
            app: call.app.id().to_owned(),
            id: server.ids.next(&server.clock).await.ok_or(Problem::Busy)?,
            protocol: Protocol::Antelope,
            sender,
            destinations: Destinations::Cids(self.to),
            mode: Mode::TryOrNobody,
            strategy: Strategy::PresentOnly,
            expires_at: server.clock.now() + resend.life_micros(),
            burn: false,
            resend: Some(resend),
            callback: self.callback,
            private: MessagePrivate { destinations, payload, caller: None },
            new_account: Uuid::now_v7(),
        })
    }
}

impl Reply {
    /// The same, with the position that includes its effect, and the id of the request that had it.
    pub(super) fn after(self, done: Done) -> Reply {
        Reply { done: Some(done).filter(|done| done.last > 0), ..self }
    }
}
