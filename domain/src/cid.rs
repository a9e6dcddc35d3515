//! An Antelope device: an endpoint whose address is a number (`cid`) that its app picked from its
//! own ranges. No call registers it: it is there from when it first connects. An operator may give
//! such a number to a device of another protocol, so that whoever pushes to the number reaches it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream,
    device::{Device, Identity, Profile, Status},
    event::with_private,
    facts::{Facts, Key, Stop},
    message::Protocol,
};

/// A device connected for the first time; its number is this event's position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceAdmitted {
    /// Who it is; `None` once erased.
    #[serde(skip)]
    pub private: Option<Cid>,
}

/// A device got an Antelope number beside its own address. The event has all that the device is, as
/// who looks it up by that number saw none of its events before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceLinked {
    /// Its number.
    pub device: i64,
    /// When it first registered, in µs since the epoch.
    pub registered_at: i64,
    /// Whether it registered again since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub updated: bool,
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// The protocol of its own address.
    pub protocol: Protocol,
    /// What it is.
    pub profile: Profile,
    /// All certificate names that it is bound under, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notifiers: Vec<String>,
    /// Who it is now; `None` once erased.
    #[serde(skip)]
    pub private: Option<Linked>,
}

/// What identifies a device that got a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// Its names, with the number.
    #[serde(flatten)]
    pub identity: Identity,
    /// The vendor's token under each certificate name, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<String>,
}

/// What identifies an Antelope device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cid {
    /// Its number in the protocol, never 0.
    pub cid: u32,
}

with_private!(DeviceAdmitted, DeviceLinked);

/// Notes that a device is there, if it is new.
#[derive(Debug, Clone)]
pub struct AdmitDevice {
    /// The app.
    pub app: String,
    /// Its number in the protocol.
    pub cid: u32,
    /// Its stream, if it is new.
    pub new_device: Uuid,
}

/// Gives a device of another protocol an Antelope number.
#[derive(Debug, Clone)]
pub struct LinkDevice {
    /// The app, whose the device is.
    pub app: String,
    /// The device's number.
    pub device: i64,
    /// Its number in the protocol.
    pub cid: u32,
}

impl DeviceLinked {
    /// The device as it is from this event on.
    #[must_use]
    pub(crate) fn device(&self, stream: Uuid, version: i64) -> Device {
        let (mut identity, mut bound) = (Identity::default(), Vec::new());
        if let Some(private) = &self.private {
            identity.clone_from(&private.identity);
            let tokens = private.tokens.iter().cloned();
            bound.extend(self.notifiers.iter().cloned().zip(tokens));
        }
        Device {
            number: self.device,
            stream,
            version,
            protocol: self.protocol,
            status: if self.updated { Status::Updated } else { Status::Registered },
            account: self.account,
            registered_at: self.registered_at,
            profile: self.profile.clone(),
            identity,
            bound,
        }
    }
}

impl Decide for AdmitDevice {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        if facts.device_of_cid(&self.app, self.cid)?.is_some() {
            return Ok(Vec::new());
        }
        let event = DeviceAdmitted { private: Some(Cid { cid: self.cid }) }.into();
        Ok(vec![Append { stream: Stream::Device(self.new_device), version: 1, event }])
    }
}

impl Decide for LinkDevice {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        facts.want([Key::Device(self.device), Key::cid(&self.app, self.cid)].into_iter())?;
        let device = facts.device(self.device)?.filter(|device| device.registered());
        let device = device.ok_or(Rejection::NotRegistered)?;
        let holder = facts.device_of_cid(&self.app, self.cid)?;
        if device.cid() == Some(self.cid) {
            return Ok(Vec::new());
        }
        if holder.is_some() || device.cid().is_some() {
            return Err(Rejection::AddressTaken(self.cid.to_string()).into());
        }
        let Device { stream, version, .. } = *device;
        let (notifiers, tokens) = device.bound.iter().cloned().unzip();
        let identity = Identity { cid: Some(self.cid), ..device.identity.clone() };
        let event = DeviceLinked {
            device: device.number,
            registered_at: device.registered_at,
            updated: device.status == Status::Updated,
            account: device.account,
            protocol: device.protocol,
            profile: device.profile.clone(),
            notifiers,
            private: Some(Linked { identity, tokens }),
        };
        let stream = Stream::Device(stream);
        Ok(vec![Append { stream, version: version + 1, event: event.into() }])
    }
}
