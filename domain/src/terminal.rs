//! A device of a Tencent account. No call registers it: it is there from when it first connects
//! with a signature of its account, and the app tells its devices apart by ids of its own.

use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream,
    device::{DeviceBound, Endpoint},
    facts::{Facts, Stop},
    message::Protocol,
};

/// Notes that a device of a Tencent account is there, if it is new.
#[derive(Debug, Clone)]
pub struct AdmitTerminal {
    /// The app.
    pub app: String,
    /// The account's `UserID`.
    pub user: String,
    /// The device's id.
    pub device_id: String,
    /// Its stream, if it is new.
    pub new_device: Uuid,
}

impl Decide for AdmitTerminal {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let account = facts.tencent(&self.app, &self.user)?;
        let account = account.ok_or_else(|| Rejection::UnknownUser(self.user.clone()))?;
        let devices = facts.devices_of_account(account)?;
        let known = |device: &std::sync::Arc<crate::device::Device>| {
            let tencent = device.protocol == Protocol::Tencent && device.registered();
            tencent && device.identity.client_id == self.device_id
        };
        if devices.iter().any(known) {
            return Ok(Vec::new());
        }
        let private =
            Some(Endpoint { device_id: self.device_id.clone(), tokens: Vec::new(), cid: None });
        let event = DeviceBound {
            device: None,
            account,
            protocol: Protocol::Tencent,
            notifiers: Vec::new(),
            private,
        };
        let stream = Stream::Device(self.new_device);
        Ok(vec![Append { stream, version: 1, event: event.into() }])
    }
}
