//! An Antelope device: an endpoint whose address is a number (`cid`) that its app picked from its
//! own ranges. No call registers it: it is there from when it first connects.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Stream,
    event::with_private,
    facts::{Facts, Stop},
};

/// A device connected for the first time; its number is this event's position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceAdmitted {
    /// Who it is; `None` once erased.
    #[serde(skip)]
    pub private: Option<Cid>,
}

/// What identifies an Antelope device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cid {
    /// Its number in the protocol, never 0.
    pub cid: u32,
}

with_private!(DeviceAdmitted);

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

impl Decide for AdmitDevice {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        if facts.device_of_cid(&self.app, self.cid)?.is_some() {
            return Ok(Vec::new());
        }
        let event = DeviceAdmitted { private: Some(Cid { cid: self.cid }) }.into();
        Ok(vec![Append { stream: Stream::Device(self.new_device), version: 1, event }])
    }
}
