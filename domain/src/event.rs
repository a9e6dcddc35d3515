//! The events: the only types that are stored, and a contract for ever.
//!
//! Each has a stable name and a schema number. Its facts are the JSON `body`; what belongs to a
//! person (names, phones, client ids, tokens, payloads) is kept apart as `private`, so that it can
//! be erased while every proof over the body still holds. A golden file in `tests/golden` fixes
//! the text of each; those files are only ever added to.

use serde::{
    Serialize,
    de::{DeserializeOwned, Error as _},
};

use crate::{
    account::{AccountClosed, AccountLinked, AccountOpened},
    app::{AppChanged, AppCreated, AppDeleted},
    callback::{CallbacksCalled, CallbacksReplayed},
    chat::MessageFiltered,
    cid::{DeviceAdmitted, DeviceLinked},
    device::{
        DeviceBound, DeviceRegistered, DeviceReturned, DeviceUnregistered, DeviceUpdated, TokenDied,
    },
    erasure::SubjectErased,
    label::{LabelCreated, LabelDeleted, LabelMembersChanged},
    message::{DeliveriesAdvanced, MessageAccepted, RecallRequested},
    owner::{OwnerRemoved, OwnerSet},
    presence::PresenceChanged,
    task::{ChunkDelivered, TaskCreated, TaskEnded, TaskStarted},
    upcast::{self, UPCASTERS, Upcaster},
    uplink::UplinkReceived,
};

/// An event cannot be read: unknown name or schema, or a body that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// This version of the program does not know that event.
    #[error("unknown event {name} schema {schema}")]
    Unknown {
        /// The stored name.
        name: String,
        /// The stored schema number.
        schema: i32,
    },
    /// The body does not fit the type.
    #[error("event {name}: {cause}")]
    Body {
        /// The stored name.
        name: String,
        /// What serde said.
        cause: serde_json::Error,
    },
}

/// What every event's content can do: split off what is private, and take it back.
pub(crate) trait Content: Serialize + DeserializeOwned {
    /// The private half as JSON, if there is one.
    fn private(&self) -> serde_json::Result<Option<String>> {
        Ok(None)
    }
    /// Puts the private half back.
    fn restore(&mut self, _private: &str) -> serde_json::Result<()> {
        Ok(())
    }
}

/// Implements [`Content`] for events with a `private: Option<_>` field; `None` means erased.
macro_rules! with_private {
    ($($event:ty),*) => {$(
        impl crate::event::Content for $event {
            fn private(&self) -> serde_json::Result<Option<String>> {
                self.private.as_ref().map(serde_json::to_string).transpose()
            }
            fn restore(&mut self, private: &str) -> serde_json::Result<()> {
                self.private = Some(serde_json::from_str(private)?);
                Ok(())
            }
        }
    )*};
}
pub(crate) use with_private;

/// Implements [`Content`] for events that hold nothing private.
macro_rules! without_private {
    ($($event:ty),*) => {$(impl crate::event::Content for $event {})*};
}
pub(crate) use without_private;

macro_rules! events {
    ($($(#[$doc:meta])* $name:literal $schema:literal $variant:ident,)*) => {
        /// Everything that can have happened.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event { $($(#[$doc])* $variant($variant),)* }

        $(impl From<$variant> for Event {
            fn from(event: $variant) -> Self { Event::$variant(event) }
        })*

        impl Event {
            /// Names and schemas of all events, for documents and tests.
            pub const ALL: &'static [(&'static str, i32)] = &[$(($name, $schema)),*];

            /// The stable name.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $(Event::$variant(_) => $name),* }
            }

            /// The schema number of the body.
            #[must_use]
            pub fn schema(&self) -> i32 {
                match self { $(Event::$variant(_) => $schema),* }
            }

            /// `body` and `private` as JSON text.
            ///
            /// # Errors
            /// None in practice: every event is plain data. The error is serde's.
            pub fn encode(&self) -> serde_json::Result<(String, Option<String>)> {
                match self {
                    $(Event::$variant(e) => Ok((serde_json::to_string(e)?, e.private()?)),)*
                }
            }

            /// The event that [`encode`](Event::encode) wrote; without `private` it was erased.
            /// One of an old schema is read as today's.
            ///
            /// # Errors
            /// [`Unreadable`] for an unknown event or a body that does not fit.
            pub fn decode(
                name: &str, schema: i32, body: &str, private: Option<&str>,
            ) -> Result<Event, Unreadable> {
                Event::decode_with(UPCASTERS, name, schema, body, private)
            }

            /// The same by other upcasters, for tests of the chain.
            ///
            /// # Errors
            /// [`Unreadable`], as [`decode`](Event::decode).
            pub fn decode_with(
                upcasters: &[Upcaster],
                name: &str, schema: i32, body: &str, private: Option<&str>,
            ) -> Result<Event, Unreadable> {
                let body_error = |cause| Unreadable::Body { name: name.to_owned(), cause };
                // What is wrong is logged and shown: it never quotes what is private.
                let private_error = |cause: serde_json::Error| {
                    let what = format!("what is private does not fit, at column {}", cause.column());
                    body_error(serde_json::Error::custom(what))
                };
                match (name, schema) {
                    $(($name, $schema) => {
                        let mut event: $variant = serde_json::from_str(body).map_err(body_error)?;
                        if let Some(private) = private {
                            event.restore(private).map_err(private_error)?;
                        }
                        Ok(Event::$variant(event))
                    })*
                    // Each upcaster leads to a higher schema, so this ends.
                    _ => match upcast::next(upcasters, (name, schema), body, private) {
                        Ok(Some((body, private))) => {
                            let (schema, private) = (schema + 1, private.as_deref());
                            Event::decode_with(upcasters, name, schema, &body, private)
                        }
                        Ok(None) => Err(Unreadable::Unknown { name: name.to_owned(), schema }),
                        Err(cause) if private.is_some() => Err(private_error(cause)),
                        Err(cause) => Err(body_error(cause)),
                    },
                }
            }
        }
    };
}

events! {
    /// An app was created.
    "app.created" 1 AppCreated,
    /// An app's configuration was replaced.
    "app.changed" 1 AppChanged,
    /// An app was deleted.
    "app.deleted" 1 AppDeleted,
    /// A user of an app was seen for the first time.
    "account.opened" 1 AccountOpened,
    /// An Easemob user was removed.
    "account.closed" 1 AccountClosed,
    /// A user got an address in one more protocol.
    "account.linked" 1 AccountLinked,
    /// A label was created.
    "label.created" 1 LabelCreated,
    /// A label was deleted.
    "label.deleted" 1 LabelDeleted,
    /// Users joined or left a label.
    "label.members_changed" 1 LabelMembersChanged,
    /// A device registered for the first time.
    "device.registered" 1 DeviceRegistered,
    /// A registered device registered again.
    "device.updated" 1 DeviceUpdated,
    /// A device unregistered.
    "device.unregistered" 1 DeviceUnregistered,
    /// An unregistered device registered again.
    "device.returned" 1 DeviceReturned,
    /// An Easemob device was seen for the first time, or its bindings changed.
    "device.bound" 1 DeviceBound,
    /// An Antelope device connected for the first time.
    "device.admitted" 1 DeviceAdmitted,
    /// A device got an Antelope number beside its own address.
    "device.linked" 1 DeviceLinked,
    /// A push vendor said that a device's token is dead.
    "token.died" 1 TokenDied,
    /// A physical device got an owner and a bind key.
    "owner.set" 1 OwnerSet,
    /// A physical device lost its owner.
    "owner.removed" 1 OwnerRemoved,
    /// A push was accepted.
    "message.accepted" 1 MessageAccepted,
    /// A message of a conversation was stopped by its app's list of words.
    "message.filtered" 1 MessageFiltered,
    /// Deliveries of a message went on, or ended.
    "deliveries.advanced" 1 DeliveriesAdvanced,
    /// A message was recalled, or replaced by an empty one.
    "recall.requested" 1 RecallRequested,
    /// A push to a large audience was created.
    "task.created" 1 TaskCreated,
    /// A task started: its audience was cut.
    "task.started" 1 TaskStarted,
    /// An attempt at some thousand deliveries of a task was made.
    "chunk.delivered" 1 ChunkDelivered,
    /// A task ended.
    "task.ended" 1 TaskEnded,
    /// A device connected or went, of an app that is called back about it.
    "presence.changed" 1 PresenceChanged,
    /// A message from a device or a phone to the app came in.
    "uplink.received" 1 UplinkReceived,
    /// Callbacks to a receiver were answered, postponed or given up.
    "callbacks.called" 1 CallbacksCalled,
    /// An operator asked for callbacks again.
    "callbacks.replayed" 1 CallbacksReplayed,
    /// Somebody was erased.
    "subject.erased" 1 SubjectErased,
}
