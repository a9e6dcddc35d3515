//! Names of streams. A stream id is opaque and grows with time, so that appends stay together in
//! the index; it never holds a phone, user or client id.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use crate::message::MessageId;

/// One aggregate's history.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stream {
    /// An app, by its id.
    App(String),
    /// An account.
    Account(Uuid),
    /// A device.
    Device(Uuid),
    /// The ownership of one physical device.
    Owner(Uuid),
    /// A label.
    Label(Uuid),
    /// A message.
    Message(MessageId),
    /// A task.
    Task(MessageId),
    /// A chunk of a task's deliveries, from 1.
    Chunk(MessageId, i64),
    /// A note that a device connected or went.
    Presence(Uuid),
    /// A message from a device or a phone.
    Uplink(Uuid),
    /// A record of what came of callbacks.
    Callbacks(Uuid),
    /// An erasure.
    Erasure(Uuid),
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stream::App(id) => write!(f, "app/{id}"),
            Stream::Account(id) => write!(f, "account/{id}"),
            Stream::Device(id) => write!(f, "device/{id}"),
            Stream::Owner(id) => write!(f, "owner/{id}"),
            Stream::Label(id) => write!(f, "label/{id}"),
            Stream::Message(id) => write!(f, "message/{id}"),
            Stream::Task(id) => write!(f, "task/{id}"),
            Stream::Chunk(id, chunk) => write!(f, "task/{id}/chunk/{chunk}"),
            Stream::Presence(id) => write!(f, "presence/{id}"),
            Stream::Uplink(id) => write!(f, "uplink/{id}"),
            Stream::Callbacks(id) => write!(f, "callbacks/{id}"),
            Stream::Erasure(id) => write!(f, "erasure/{id}"),
        }
    }
}

/// The text is not a stream name.
#[derive(Debug, thiserror::Error)]
#[error("not a stream name")]
pub struct NotAStream;

impl FromStr for Stream {
    type Err = NotAStream;

    fn from_str(text: &str) -> Result<Self, NotAStream> {
        let (kind, id) = text.split_once('/').ok_or(NotAStream)?;
        let uuid = || id.parse().map_err(|_| NotAStream);
        match kind {
            "app" => Ok(Stream::App(id.to_owned())),
            "account" => Ok(Stream::Account(uuid()?)),
            "device" => Ok(Stream::Device(uuid()?)),
            "owner" => Ok(Stream::Owner(uuid()?)),
            "label" => Ok(Stream::Label(uuid()?)),
            "presence" => Ok(Stream::Presence(uuid()?)),
            "uplink" => Ok(Stream::Uplink(uuid()?)),
            "callbacks" => Ok(Stream::Callbacks(uuid()?)),
            "erasure" => Ok(Stream::Erasure(uuid()?)),
            "message" => Ok(Stream::Message(id.parse().map_err(|_| NotAStream)?)),
            "task" => {
                let (task, chunk) = match id.split_once("/chunk/") {
                    Some((task, chunk)) => (task, Some(chunk)),
                    None => (id, None),
                };
                let task = task.parse().map_err(|_| NotAStream)?;
                match chunk.map(str::parse) {
                    None => Ok(Stream::Task(task)),
                    Some(Ok(chunk)) => Ok(Stream::Chunk(task, chunk)),
                    Some(Err(_)) => Err(NotAStream),
                }
            }
            _ => Err(NotAStream),
        }
    }
}
