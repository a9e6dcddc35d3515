//! `msgPush` and `msgPushtry`, of terminals and of clouds: one domain command with four faces.

use domain::{
    message::{MessageId, MessagePrivate, Protocol, RawJson},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Reply,
    codes::{Code, Input, Interface, Problem},
    fields::Fields,
    gate::Call,
    register::DEVICE_TYPES,
};
use crate::{app::Server, ledger::Done};

/// Seconds that a message is worth delivering, at most and unless the caller says otherwise.
pub(super) const MAX_EXPIRES_SECONDS: i64 = 86_400;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PushData {
    msg_id: String,
}

pub(super) async fn push(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let sender = if call.interface.of_cloud() {
        PushSender::Cloud
    } else {
        PushSender::User(call.require_user()?)
    };
    let (dst, destinations) = fields.object("dst")?.ok_or(Input::Missing)?;
    let to = read_destinations(&dst, &sender)?;
    let payload = fields.message()?;
    let mode = match call.interface {
        Interface::Push | Interface::CloudPush => Mode::Strict,
        Interface::CloudPushTry => Mode::TryOrNobody,
        _ => Mode::Try,
    };
    let seconds = fields.number("expires")?.unwrap_or(MAX_EXPIRES_SECONDS);
    let burn = fields.flag("isBurn")?;
    let push = Push { sender, to, mode, seconds, burn, destinations, payload };
    push.execute(server, call).await
}

/// A push as any of the UMS calls words it.
pub(super) struct Push {
    pub(super) sender: PushSender,
    pub(super) to: Destinations,
    pub(super) mode: Mode,
    pub(super) seconds: i64,
    pub(super) burn: bool,
    pub(super) destinations: RawJson,
    pub(super) payload: Option<RawJson>,
}

impl Push {
    pub(super) async fn execute(self, server: &Server, call: &Call) -> Result<Reply, Problem> {
        if !(1..=MAX_EXPIRES_SECONDS).contains(&self.seconds) {
            return Err(Input::OutOfRange.into());
        }
        let id = server.ids.next(&server.clock).await;
        let id = id.ok_or(Problem::Gateway(Code::Unavailable))?;
        let now = server.clock.now();
        let command = PushMessage {
            app: call.app.id().to_owned(),
            id,
            protocol: Protocol::Ums,
            sender: self.sender,
            destinations: self.to,
            mode: self.mode,
            strategy: Strategy::OnlineElseVendor,
            expires_at: now + self.seconds * 1_000_000,
            burn: self.burn,
            resend: None,
            callback: false,
            private: MessagePrivate {
                destinations: self.destinations,
                payload: self.payload,
                caller: None,
            },
            new_account: Uuid::now_v7(),
        };
        let done = call.execute(server, command).await?;
        let id = if done.repeated { accepted_before(server, done).await? } else { id };
        let reply = Reply::data(&PushData { msg_id: id.to_string() })?;
        Ok(Reply { position: Some(done.last), ..reply })
    }
}

/// The message that an earlier request with the same idempotency key made.
async fn accepted_before(server: &Server, done: Done) -> Result<MessageId, Problem> {
    let message = server.ledger.push_of(done).await?;
    message.ok_or_else(|| Problem::Fault(projections::Fault::stored("idempotency", "no message")))
}

fn read_destinations(dst: &Fields<'_>, sender: &PushSender) -> Result<Destinations, Input> {
    let user = match sender {
        PushSender::User(user) => Some(user.clone()),
        PushSender::Terminal | PushSender::Cloud => None,
    };
    // A terminal speaks for its own user; a cloud names users.
    let users = || match &user {
        Some(user) => Ok(vec![user.clone()]),
        None => dst.texts("Id"),
    };
    match dst.number("type")?.ok_or(Input::Missing)? {
        0 => Ok(Destinations::Clients(dst.texts("Id")?)),
        1 => Ok(match user {
            Some(user) => Destinations::HardwareOf(user, dst.texts("Id")?),
            None => Destinations::Hardware(dst.texts("Id")?),
        }),
        2 => {
            let types = dst.texts("devType")?;
            if types.iter().any(|device_type| !DEVICE_TYPES.contains(&device_type.as_str())) {
                return Err(Input::OutOfRange);
            }
            Ok(Destinations::Types(users()?, types))
        }
        3 => {
            let packages = dst.texts("appType")?;
            Ok(Destinations::Packages(users()?, packages))
        }
        _ => Err(Input::OutOfRange),
    }
}
