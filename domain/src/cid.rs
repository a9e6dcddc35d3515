//! An Antelope device: an endpoint whose address is a number (`cid`) that its app picked from its
//! own ranges. No call registers it: it is there from when it first connects. An operator may give
//! such a number to a device of another protocol, so that whoever pushes to the number reaches it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream,
    device::Identity,
    event::with_private,
    facts::{Facts, Key, Stop},
};

/// A device connected for the first time; its number is this event's position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceAdmitted {
    /// Who it is; `None` once erased.
    #[serde(skip)]
    pub private: Option<Cid>,
}

/// A device got an Antelope number beside its own address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceLinked {
    /// Its number.
    pub device: i64,
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// Who it is now; `None` once erased.
    #[serde(skip)]
    pub private: Option<Identity>,
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
        let private = Some(Identity { cid: Some(self.cid), ..device.who() });
        let event = DeviceLinked { device: device.number, account: device.account, private };
        let stream = Stream::Device(device.stream);
        Ok(vec![Append { stream, version: device.version + 1, event: event.into() }])
    }
}
