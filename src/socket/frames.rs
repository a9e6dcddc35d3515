//! The frames of the device socket, as JSON texts.

use std::sync::Arc;

use domain::{
    Event, Recorded, Stream,
    message::{MessageId, RawJson, RecallOp},
    resend::Resend,
    route::Strategy,
};
use projections::Fault;
use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;

/// Events of a task's stream: created, started, ended.
const TASK_EVENTS: i64 = 3;

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
    /// An uplink is durable.
    Uplinked {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
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
    /// It has something to say to its app.
    Uplink,
}

/// A message on its way to connections: made once, sent to each.
#[derive(Debug)]
pub(super) struct MessageFrame {
    pub(super) id: MessageId,
    /// Position from which on devices could have it: that of the push, or of the chunk.
    pub(super) position: i64,
    /// The chunk, if it is a task's.
    pub(super) chunk: Option<i64>,
    /// When it expires, in µs.
    pub(super) expires_at: i64,
    /// How often it is sent to a device that does not answer, if that is not for ever.
    pub(super) resend: Option<Resend>,
    /// Whether it is kept nowhere: a connection cannot read it later.
    pub(super) now_or_never: bool,
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
        Some(Arc::new(MessageFrame {
            id,
            position,
            chunk: None,
            expires_at,
            resend: push.resend,
            now_or_never: push.strategy == Strategy::PresentOnly,
            text,
        }))
    }
}

/// The frame of a task, whichever chunk a device is in.
#[derive(Debug)]
pub(super) struct TaskFrame {
    id: MessageId,
    expires_at: i64,
    text: String,
}

impl TaskFrame {
    /// The frame of a task that started; `None` if it did not, or cannot be read.
    pub(super) async fn of(ledger: &Ledger, id: MessageId) -> Result<Option<TaskFrame>, Fault> {
        let page = ledger.read_stream(&Stream::Task(id).to_string(), 0, TASK_EVENTS).await?;
        let (mut created, mut started) = (None, None);
        for recorded in page.events {
            match recorded.event {
                Event::TaskCreated(e) => created = Some(e),
                Event::TaskStarted(e) => started = Some(e),
                _ => {}
            }
        }
        let (Some(created), Some(started)) = (created, started) else { return Ok(None) };
        let protocol = created.protocol.name();
        let payload = created.private.as_ref().and_then(|private| private.payload.as_ref());
        let expires_at = started.expires_at / 1_000;
        let frame = Outgoing::Message { id: id.to_string(), protocol, payload, expires_at };
        let text = frame.text();
        Ok(Some(TaskFrame { id, expires_at: started.expires_at, text }))
    }

    /// The frame for the devices of a chunk, which could have it from a position on.
    pub(super) fn for_chunk(&self, chunk: i64, position: i64) -> Arc<MessageFrame> {
        let (id, expires_at, text) = (self.id, self.expires_at, self.text.clone());
        let (chunk, resend, now_or_never) = (Some(chunk), None, false);
        Arc::new(MessageFrame { id, position, chunk, expires_at, resend, now_or_never, text })
    }
}
