//! Standard Webhooks (standardwebhooks.com): any events of an app, one a call, signed with every
//! secret that is valid. The same document of an event is what the feed of the admin API gives.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat};
use domain::{
    Event, Recorded,
    callback::{Reason, Verdict},
};
use hmac::{Hmac, KeyInit, Mac};
use projections::Fault;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use super::kind::{Call, Endpoint, Entry, by_status, retry_after};
use crate::outbound::Answer;

/// What every secret begins with; the rest is base64.
pub(crate) const SECRET_PREFIX: &str = "whsec_";

/// An event as receivers see it.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    position: i64,
    stream: String,
    version: i64,
    actor: &'a str,
    via: &'a str,
    body: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<Box<RawValue>>,
}

/// Whether an event is anybody's to see: what comes of callbacks is not, as each would cause more.
pub(super) fn is_told(event: &Event) -> bool {
    !matches!(event, Event::CallbacksCalled(_) | Event::CallbacksReplayed(_))
}

/// An event as receivers see it, as JSON; none for what is nobody's to see.
///
/// # Errors
/// [`Fault::Stored`] never in practice; serde's word for it.
pub(crate) fn document(recorded: &Recorded) -> Result<Option<String>, Fault> {
    if !is_told(&recorded.event) {
        return Ok(None);
    }
    let unwritable = |cause| Fault::stored("event", cause);
    let (body, private) = recorded.event.encode().map_err(unwritable)?;
    let at = DateTime::from_timestamp_micros(recorded.recorded_at).unwrap_or_default();
    let document = Document {
        r#type: recorded.event.name(),
        timestamp: at.to_rfc3339_opts(SecondsFormat::Micros, true),
        data: Data {
            position: recorded.position,
            stream: recorded.stream.to_string(),
            version: recorded.version,
            actor: &recorded.metadata.actor,
            via: &recorded.metadata.via,
            body: RawValue::from_string(body).map_err(unwritable)?,
            private: private.map(RawValue::from_string).transpose().map_err(unwritable)?,
        },
    };
    serde_json::to_string(&document).map(Some).map_err(unwritable)
}

pub(super) fn concerns(endpoint: &Endpoint, recorded: &Recorded) -> bool {
    let wanted = endpoint.webhook.as_ref().is_some_and(|own| own.wants(recorded.event.name()));
    wanted && is_told(&recorded.event)
}

pub(super) fn entry(recorded: &Recorded) -> Result<Option<Entry>, Fault> {
    let Some(body) = document(recorded)? else { return Ok(None) };
    let id = format!("msg_{}", recorded.event_id.simple());
    let order = recorded.position.unsigned_abs();
    Ok(Some(Entry { id, order, body: body.into(), query: String::new() }))
}

pub(super) fn call(endpoint: &Endpoint, entries: &[Entry], now: i64) -> Call {
    let entry = entries.first();
    let id = entry.map(|entry| entry.id.clone()).unwrap_or_default();
    let body = entry.map(|entry| entry.body.clone()).unwrap_or_default();
    // The time of the call, not of the event: receivers refuse what is old.
    let timestamp = (now / 1_000_000).to_string();
    let signatures = endpoint.secrets.iter().filter_map(|key| sign(key, &id, &timestamp, &body));
    let signatures = signatures.collect::<Vec<_>>().join(" ");
    let headers = vec![
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signatures),
    ];
    Call { body, headers, query: String::new() }
}

/// The signature by one secret; none if that is no secret of this kind.
fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).ok()?;
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

pub(super) fn verdict(answer: &Answer, now: i64) -> Verdict {
    match answer.status {
        StatusCode::GONE => Verdict::Gone,
        status if status.is_success() => by_status(status),
        _ => {
            let wait_micros = retry_after(&answer.headers, now);
            Verdict::Failed { reason: Reason::Status, wait_micros }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sign;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification's own libraries.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let signature =
            sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }
}
