//! `/{org}/{app}/push/message`: notifications that are kept, to be pushed to everyone by their id
//! with `push/task/broadcast`. Keeping one is a push to nobody: the message has no delivery, and
//! its payload is read again from the event that accepted it. They are kept as long as the ledger.

use domain::{
    Event, Stream,
    message::{MessageAccepted, MessageId, Protocol, RawJson},
    object::{Object, raw},
    route::Strategy,
};
use projections::Fault;
use serde_json::{Value, value::RawValue};

use super::{
    Reply,
    errors::Problem,
    fields::{Fields, wrong},
    gate::Call,
    millis,
    push::{self, Push, understood},
};
use crate::app::Server;

/// Keeps the notification that is the whole body.
pub(super) async fn keep(server: &Server, call: &Call) -> Result<Reply, Problem> {
    call.fields()?;
    let body: &RawValue = serde_json::from_slice(&call.body).map_err(|_| Problem::NotJson)?;
    let push = Push {
        targets: &[],
        destinations: RawJson(raw(&Value::Null)),
        // Each broadcast names its own.
        strategy: Strategy::VendorOnly,
        payload: understood(body)?,
    };
    let (id, done) = push::send(server, call, push).await?;
    Ok(Reply::data(id.0).after(done))
}

/// The notification that the path names, with whose it is and when it was kept.
pub(super) async fn read(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let kept = find(server, call, call.name()).await?;
    let easemob = call.easemob();
    let mut shown = Object::parse(kept.payload.0.get()).unwrap_or_default();
    shown.put("appkey", &format!("{}#{}", easemob.org_name, easemob.app_name));
    shown.put("timestamp", &millis(kept.at));
    Ok(Reply::data(shown))
}

/// The notification that `pushMsgId` names, as it came. Clients send a number, or a text of digits.
pub(super) async fn named(
    server: &Server,
    call: &Call,
    fields: &Fields<'_>,
) -> Result<RawJson, Problem> {
    let id = fields.raw("pushMsgId");
    let id = id.ok_or_else(|| Problem::Illegal("pushMsgId must be provided".to_owned()))?;
    let id = id.get().trim_matches('"');
    if id.parse::<MessageId>().is_err() {
        return Err(wrong("pushMsgId", "must be the id of a push notification"));
    }
    Ok(find(server, call, id).await?.payload)
}

/// A notification that is kept.
struct Kept {
    payload: RawJson,
    /// When it was kept, in µs.
    at: i64,
}

async fn find(server: &Server, call: &Call, id: &str) -> Result<Kept, Problem> {
    let none = || Problem::NoMessage(id.to_owned());
    let stream = Stream::Message(id.parse().map_err(|_| none())?).to_string();
    let mut page = match server.ledger.read_stream(&stream, 0, 1).await {
        // What is detached is kept here no more.
        Err(Fault::Detached { .. }) => return Err(none()),
        page => page?,
    };
    let recorded = page.events.pop().filter(|recorded| recorded.app == call.app.id());
    let Some(recorded) = recorded else { return Err(none()) };
    match recorded.event {
        Event::MessageAccepted(accepted) if only_kept(&accepted) => {
            let payload = accepted.private.and_then(|private| private.payload);
            Ok(Kept { payload: payload.ok_or_else(none)?, at: recorded.recorded_at })
        }
        _ => Err(none()),
    }
}

/// Whether a message was addressed to nobody at all: any push names at least one user.
fn only_kept(accepted: &MessageAccepted) -> bool {
    accepted.protocol == Protocol::Easemob && accepted.users == 0 && accepted.unresolved == 0
}
