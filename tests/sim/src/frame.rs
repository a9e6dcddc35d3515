//! The frames of the device socket, from the device's side.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// What the server sent, or how the connection ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A message that the device has not had before.
    Message {
        /// Its id, in digits.
        id: String,
        /// The protocol that it was pushed by, such as `ums`.
        protocol: String,
        /// What was pushed, read; `null` if nothing was, or if a number in it is too large to read.
        payload: Value,
        /// What was pushed, byte for byte.
        raw_payload: String,
        /// When it expires, in milliseconds since the epoch.
        expires_at: i64,
    },
    /// A message is to be taken away, or replaced by an empty one.
    Control {
        /// `recall` or `replace`.
        op: String,
        /// The message.
        id: String,
    },
    /// A report is durable.
    Receipt {
        /// The message.
        id: String,
        /// The status reported.
        status: u8,
    },
    /// The server did not understand or accept a frame; the connection stays.
    Refused {
        /// The message, if the frame named one.
        id: Option<String>,
        /// Why.
        reason: String,
    },
    /// A frame that the wire format does not know.
    Unknown {
        /// The frame as it came.
        text: String,
    },
    /// The connection ended; nothing follows.
    Closed {
        /// The close code; 1005 if the server gave none, 1006 if it did not say goodbye.
        code: u16,
        /// What the server or the network said.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    t: String,
    id: Option<String>,
    protocol: Option<String>,
    payload: Option<Box<RawValue>>,
    expires_at: Option<i64>,
    op: Option<String>,
    status: Option<u8>,
    reason: Option<String>,
}

impl Incoming {
    /// Reads a frame; one that lacks a field is as unknown as one of an unknown type.
    pub(crate) fn read(text: &str) -> Self {
        let fields = serde_json::from_str(text).ok();
        fields.and_then(known).unwrap_or_else(|| Incoming::Unknown { text: text.to_owned() })
    }
}

fn known(fields: Fields) -> Option<Incoming> {
    let Fields { t, id, protocol, payload, expires_at, op, status, reason } = fields;
    match t.as_str() {
        "message" => {
            let raw_payload = payload.map_or("null".to_owned(), |raw| raw.get().to_owned());
            let payload = serde_json::from_str(&raw_payload).unwrap_or_default();
            let (protocol, expires_at) = (protocol?, expires_at?);
            Some(Incoming::Message { id: id?, protocol, payload, raw_payload, expires_at })
        }
        "control" => Some(Incoming::Control { op: op?, id: id? }),
        "receipt" => Some(Incoming::Receipt { id: id?, status: status? }),
        "refused" => Some(Incoming::Refused { id, reason: reason? }),
        _ => None,
    }
}

/// "I have this message."
pub(crate) fn ack(id: &str) -> String {
    json!({"t": "ack", "id": id}).to_string()
}

/// "I did what this control said, and never displayed the message."
pub(crate) fn ack_control(id: &str, op: &str) -> String {
    json!({"t": "ack", "id": id, "op": op}).to_string()
}

/// "This message is received (2), displayed (3) or answered (4)."
pub(crate) fn report(id: &str, status: u8) -> String {
    json!({"t": "report", "id": id, "status": status}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        let raw = "{\"b\": 1.50,\r\n \"a\":\"\\u95e8\", \"big\":1e999}";
        let text =
            format!(r#"{{"t":"message","id":"1","protocol":"ums","payload":{raw},"expiresAt":2}}"#);
        let incoming = Incoming::read(&text);
        assert!(
            matches!(&incoming, Incoming::Message { raw_payload, .. } if raw_payload == raw),
            "{incoming:?}"
        );
    }

    #[test]
    fn a_message_without_payload_has_null() {
        let text = r#"{"t":"message","id":"1","protocol":"ums","payload":null,"expiresAt":2}"#;
        let expected = Incoming::Message {
            id: "1".to_owned(),
            protocol: "ums".to_owned(),
            payload: Value::Null,
            raw_payload: "null".to_owned(),
            expires_at: 2,
        };
        assert_eq!(Incoming::read(text), expected);
    }

    #[test]
    fn frames_outside_the_format_are_passed_on_as_unknown() {
        for text in ["no json", "{}", r#"{"t":"new"}"#, r#"{"t":"control","id":"1"}"#] {
            assert_eq!(Incoming::read(text), Incoming::Unknown { text: text.to_owned() });
        }
    }
}
