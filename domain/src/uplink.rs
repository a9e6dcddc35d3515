//! An uplink: a message from a device or a phone to the app. It comes from an SMS gateway or over
//! the device socket, is durable before it is answered, and is called back to the app's server.
//! Each is a stream of its own: nothing is ever decided on an earlier one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Stream, USUAL_BYTES,
    event::with_private,
    facts::{Facts, Stop},
    message::{Protocol, RawJson},
};

/// An uplink came in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UplinkReceived {
    /// How it came.
    pub source: Source,
    /// When it was written, in seconds since the epoch, as its sender says.
    pub written_at: i64,
    /// Who wrote what; `None` once erased.
    #[serde(skip)]
    pub private: Option<UplinkPrivate>,
}

/// How an uplink came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Over an SMS gateway.
    Sms,
    /// Over the socket, from a device.
    Device {
        /// Its number.
        device: i64,
        /// The protocol of its address.
        protocol: Protocol,
    },
}

/// Who wrote what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UplinkPrivate {
    /// The sender's id of it, which makes it repeatable; none if it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The phone as the gateway wrote it, or the device's address.
    pub from: String,
    /// What was written: a text of a phone, any JSON of a device.
    pub content: RawJson,
    /// The extension that it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extend_code: Option<String>,
    /// What the app calls its sender, or the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}

with_private!(UplinkReceived);

/// Takes an uplink. The key of its command makes it repeatable.
#[derive(Debug, Clone)]
pub struct AcceptUplink {
    /// What came.
    pub uplink: UplinkReceived,
    /// Its stream.
    pub new_uplink: Uuid,
}

impl Decide for AcceptUplink {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        let (stream, event) = (Stream::Uplink(self.new_uplink), self.uplink.clone().into());
        Ok(vec![Append { stream, version: 1, event }])
    }

    fn bytes(&self) -> usize {
        let content = |private: &UplinkPrivate| private.content.0.get().len();
        USUAL_BYTES + self.uplink.private.as_ref().map_or(0, content)
    }
}
