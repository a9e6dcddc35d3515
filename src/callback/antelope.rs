//! Antelope's two events: `device-message` (what a device pushed with `callback` 1, or sent as an
//! uplink) and `device-state` (it connected, or went). The body is signed as it goes out, with the
//! app's first key, and written as the vendor's samples are, with a space after each separator.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    Event, Recorded,
    callback::{Reason, Verdict},
    message::Protocol,
    uplink::Source,
};
use md5::{Digest, Md5};
use projections::Fault;
use reqwest::StatusCode;
use serde::Deserialize;

use super::{
    kind::{Call, Endpoint, Entry, by_status},
    ucloud::text,
};
use crate::{outbound::Answer, secrets::hex};

/// States of a device, of which this server knows two.
const OFFLINE: u8 = 0;
const READY: u8 = 1;

/// A payload as pushes over this protocol have it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    body: String,
    source_id: u32,
}

pub(super) fn message_concerns(recorded: &Recorded) -> bool {
    match &recorded.event {
        Event::MessageAccepted(push) => push.callback && push.protocol == Protocol::Antelope,
        Event::UplinkReceived(uplink) => {
            matches!(uplink.source, Source::Device { protocol: Protocol::Antelope, .. })
        }
        _ => false,
    }
}

pub(super) fn message_entry(recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    let unreadable = |cause| Fault::stored("payload", cause);
    let (msg, to, from) = match &recorded.event {
        Event::MessageAccepted(push) => {
            let Some(private) = &push.private else { return Ok(None) };
            let Some(payload) = &private.payload else { return Ok(None) };
            let payload: Payload = serde_json::from_str(payload.0.get()).map_err(unreadable)?;
            let to: Vec<u32> =
                serde_json::from_str(private.destinations.0.get()).map_err(unreadable)?;
            (payload.body, to, payload.source_id)
        }
        Event::UplinkReceived(uplink) => {
            let (Some(private), Some(text)) = (&uplink.private, text(uplink)) else {
                return Ok(None);
            };
            let from = private.from.parse().unwrap_or_default();
            (STANDARD.encode(text), Vec::new(), from)
        }
        _ => return Ok(None),
    };
    let msg = serde_json::to_string(&msg).map_err(unreadable)?;
    let to = to.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let created = recorded.recorded_at / 1_000_000;
    let body = format!(
        "{{\"data\": {{\"msg\": {msg}, \"to\": [{to}], \"from\": {from}, \
         \"created\": {created}}}, \"event\": \"device-message\"}}"
    );
    Ok(Some(entry(recorded, from, body)))
}

pub(super) fn state_concerns(recorded: &Recorded) -> bool {
    matches!(recorded.event, Event::PresenceChanged(_))
}

pub(super) fn state_entry(recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    let Event::PresenceChanged(changed) = &recorded.event else { return Ok(None) };
    let Some(device) = changed.private.map(|private| private.cid) else { return Ok(None) };
    let state = if changed.online { READY } else { OFFLINE };
    let body = format!(
        "{{\"data\": {{\"device\": {device}, \"state\": {state}}}, \"event\": \"device-state\"}}"
    );
    Ok(Some(entry(recorded, device, body)))
}

fn entry(recorded: &Recorded, device: u32, body: String) -> Entry {
    Entry {
        id: recorded.position.to_string(),
        order: device.into(),
        body: body.into(),
        query: String::new(),
    }
}

pub(super) fn call(endpoint: &Endpoint, event: &str, entries: &[Entry]) -> Call {
    let mut ids = entries.iter().map(|entry| entry.id.clone());
    let (id, body) = (ids.next().unwrap_or_default(), entries.first().map(|e| e.body.clone()));
    let (body, app) = (body.unwrap_or_default(), endpoint.wire_id.clone());
    let key = endpoint.secrets.first().map(String::as_str).unwrap_or_default();
    let headers = vec![
        ("user-agent", "Topvdn".to_owned()),
        ("x-event-sign", sign(&app, &body, key)),
        ("x-app-id", app),
        ("x-topvdn-event", event.to_owned()),
        ("x-entry-ids", id),
    ];
    Call { body, headers, query: String::new() }
}

/// The digest of app, body and key, one after the other.
fn sign(app: &str, body: &[u8], key: &str) -> String {
    let digest = Md5::new().chain_update(app).chain_update(body).chain_update(key);
    hex(&digest.finalize())
}

/// What a receiver refuses by a status of 4xx it will refuse again: one answers so to all that it
/// cannot match.
pub(super) fn verdict(answer: &Answer) -> Verdict {
    match answer.status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Verdict::Failed { reason: Reason::Status, wait_micros: None }
        }
        status if status.is_client_error() => Verdict::Declined,
        status => by_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::sign;

    #[test]
    fn the_sign_is_the_md5_of_app_body_and_key() {
        let body = concat!(
            r#"{"data": {"msg": "aGk=", "to": [5000002], "from": 5000001, "#,
            r#""created": 1700000000}, "event": "device-message"}"#
        );
        let sign = sign("Demo", body.as_bytes(), "0123456789abcdef0123456789abcdef");
        assert_eq!(sign, "29157307f9a6fd841f52ee389eeee742");
    }
}
