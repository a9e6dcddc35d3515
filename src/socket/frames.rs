//! The frames of the device socket, as JSON texts.

use std::sync::Arc;

use domain::{
    Recorded, Stream,
    message::{MessageId, RawJson, RecallOp},
};
use serde::{Deserialize, Serialize};

/// What the server sends.
#[derive(Debug, Serialize)]
#[serde(tag = "t", rename_all = "camelCase")]
pub(super) enum Outgoing<'a> {
    /// A message, its payload byte for byte.
    #[serde(rename_all = "camelCase")]
    Message {
        id: String,
        protocol: &'static str,
        payload: Option<&'a RawJson>,
        /// Milliseconds since the epoch.
        expires_at: i64,
    },
    /// What to do with a message that was sent.
    Control { op: RecallOp, id: String },
    /// A report is durable.
    Receipt { id: String, status: u8 },
    /// A frame was not understood or refused.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        reason: &'a str,
    },
}

impl Outgoing<'_> {
    /// The frame's text.
    pub(super) fn text(&self) -> String {
        // Plain data with text keys always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a device sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "camelCase")]
pub(super) enum Incoming {
    /// It has a message, or did what a control said.
    Ack { id: String, op: Option<RecallOp> },
    /// It received, displayed or answered a message.
    Report { id: String, status: u8 },
}

/// A message on its way to connections: made once, sent to each.
#[derive(Debug)]
pub(super) struct MessageFrame {
    pub(super) id: MessageId,
    /// Position of the push.
    pub(super) position: i64,
    /// When it expires, in µs.
    pub(super) expires_at: i64,
    pub(super) text: String,
}

impl MessageFrame {
    /// The frame of a push; `None` for other events.
    pub(super) fn of(recorded: &Recorded) -> Option<Arc<MessageFrame>> {
        let domain::Event::MessageAccepted(push) = &recorded.event else { return None };
        let Stream::Message(id) = recorded.stream else { return None };
        let protocol = push.protocol.name();
        let payload = push.private.as_ref().and_then(|private| private.payload.as_ref());
        let expires_at = push.expires_at / 1_000;
        let frame = Outgoing::Message { id: id.to_string(), protocol, payload, expires_at };
        let text = frame.text();
        let (position, expires_at) = (recorded.position, push.expires_at);
        Some(Arc::new(MessageFrame { id, position, expires_at, text }))
    }
}
