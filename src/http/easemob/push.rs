//! `/{org}/{app}/push/{sync,async,single}`: pushes to users. Each becomes one message to every
//! device of the users that it names.

use domain::{
    message::{MessageId, MessagePrivate, Protocol, RawJson},
    notification::Notification,
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use uuid::Uuid;

use super::{
    Reply,
    errors::Problem,
    fields::{Fields, raw_json, wrong},
    gate::Call,
    outcome,
};
use crate::{app::Server, ledger::Done};

/// Longest `pushMessage`, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// µs of a second.
const SECOND: i64 = 1_000_000;

pub(super) async fn sync(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let (id, done) = to_path(server, call).await?;
    let outcome = outcome::of(server, &call.app, id).await?;
    Ok(Reply::data(vec![outcome.shown()]).after(done))
}

pub(super) async fn send_one(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let (_, done) = to_path(server, call).await?;
    let answer = json!({ "pushStatus": "ASYNC_SUCCESS", "data": "", "desc": "success" });
    Ok(Reply::data(vec![answer]).after(done))
}

pub(super) async fn single(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let most = usize::try_from(call.easemob().limits.targets).unwrap_or(usize::MAX);
    let targets = fields.texts("targets", most)?;
    let destinations = fields.raw("targets").map(raw_json);
    let destinations = destinations.ok_or_else(|| wrong("targets", "must be provided"))?;
    let push = Push::of(&fields, &targets, destinations)?;
    let (_, done) = send(server, call, push).await?;
    let answer = |target: &String| json!({ "id": target, "pushStatus": "ASYNC_SUCCESS", "desc": "async success." });
    Ok(Reply::data(targets.iter().map(answer).collect::<Vec<Value>>()).after(done))
}

/// Pushes to the user that the path names.
async fn to_path(server: &Server, call: &Call) -> Result<(MessageId, Done), Problem> {
    let fields = call.fields()?;
    let target = call.name().to_owned();
    if target.contains('\0') {
        return Err(wrong("target", "must not contain U+0000"));
    }
    let destinations = to_raw_value(&[&target]);
    let destinations = destinations.map_err(|cause| projections::Fault::stored("target", cause))?;
    send(server, call, Push::of(&fields, &[target], RawJson(destinations))?).await
}

/// A push as a caller wants it.
pub(super) struct Push<'a> {
    /// The users; none for a notification that is only kept.
    pub targets: &'a [String],
    /// The same as they came.
    pub destinations: RawJson,
    pub strategy: Strategy,
    pub payload: RawJson,
}

impl Push<'_> {
    fn of<'a>(
        fields: &Fields<'_>,
        targets: &'a [String],
        destinations: RawJson,
    ) -> Result<Push<'a>, Problem> {
        Ok(Push { targets, destinations, strategy: strategy(fields)?, payload: payload(fields)? })
    }
}

/// Pushes to users; gives the message, which an earlier call with the same idempotency key may have
/// made.
pub(super) async fn send(
    server: &Server,
    call: &Call,
    push: Push<'_>,
) -> Result<(MessageId, Done), Problem> {
    let Push { targets, destinations, strategy, payload } = push;
    let id = server.ids.next(&server.clock).await.ok_or(Problem::Busy)?;
    let keep = i64::from(call.app.config.delivery.keep_seconds) * SECOND;
    let command = PushMessage {
        app: call.app.id().to_owned(),
        id,
        protocol: Protocol::Easemob,
        sender: PushSender::Cloud,
        // Usernames have no other letters; what has is nobody's name.
        destinations: Destinations::Users(targets.iter().map(|t| t.to_lowercase()).collect()),
        mode: Mode::TryOrNobody,
        strategy,
        expires_at: server.clock.now() + keep,
        burn: false,
        resend: None,
        callback: false,
        private: MessagePrivate { destinations, payload: Some(payload), caller: None },
        new_account: Uuid::now_v7(),
    };
    let done = call.execute_once(server, command).await?;
    let id = if done.repeated { accepted_before(server, done).await? } else { id };
    Ok((id, done))
}

/// `strategy`, or the default.
pub(super) fn strategy(fields: &Fields<'_>) -> Result<Strategy, Problem> {
    match fields.number("strategy")? {
        Some(number) => Strategy::from_number(number)
            .ok_or_else(|| wrong("strategy", "must be 0, 1, 2, 3 or 4")),
        None => Ok(Strategy::VendorOnly),
    }
}

/// `pushMessage`, as it came, once it is understood.
pub(super) fn payload(fields: &Fields<'_>) -> Result<RawJson, Problem> {
    let payload = fields.raw("pushMessage");
    understood(payload.ok_or_else(|| bad_message("pushMessage must be provided"))?)
}

/// A notification as it came, once it is understood.
pub(super) fn understood(payload: &RawValue) -> Result<RawJson, Problem> {
    if payload.get().len() > MAX_MESSAGE_BYTES {
        return Err(bad_message("pushMessage must not be longer than 64 KiB"));
    }
    Notification::parse(payload.get()).map_err(bad_message)?;
    Ok(raw_json(payload))
}

fn bad_message(detail: impl ToString) -> Problem {
    Problem::BadMessage(detail.to_string())
}

/// The message that an earlier request with the same idempotency key made.
async fn accepted_before(server: &Server, done: Done) -> Result<MessageId, Problem> {
    let message = server.ledger.push_of(done).await?;
    message.ok_or_else(|| projections::Fault::stored("idempotency", "no message").into())
}
