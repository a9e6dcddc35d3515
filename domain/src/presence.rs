//! Presence as a fact. Who is connected is a table of hints; only for an app that wants to be
//! called back about it, an Antelope device or one of a user that connects or goes becomes an event.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Stream,
    cid::Cid,
    event::with_private,
    facts::{Facts, Stop},
};

/// A device connected, or went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PresenceChanged {
    /// Its number.
    pub device: i64,
    /// Whether it is connected now.
    pub online: bool,
    /// Its user, where the app is called back about users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// How it came to that, where it was not an ordinary connection that opened or was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<Manner>,
    /// Which Antelope device it is, if it is one; `None` also once erased.
    #[serde(skip)]
    pub private: Option<Cid>,
}

/// How a device came or went, out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// It took over from a connection that the same device still had.
    TookOver,
    /// Nothing was heard from it any more, or from the server that it was connected to.
    TimedOut,
}

with_private!(PresenceChanged);

/// Notes that a device connected, or went, on a stream of its own.
#[derive(Debug, Clone)]
pub struct NotePresence {
    /// What changed.
    pub changed: PresenceChanged,
    /// Stream of the note.
    pub new_note: Uuid,
}

impl Decide for NotePresence {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        let (stream, event) = (Stream::Presence(self.new_note), self.changed.clone().into());
        Ok(vec![Append { stream, version: 1, event }])
    }
}
