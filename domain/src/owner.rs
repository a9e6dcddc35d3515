//! Who owns a physical device, and the bind key that proves it. The M2M platform knows both; the
//! admin API tells us. A push to the host needs them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream, account,
    event::with_private,
    facts::{Facts, Stop},
};

/// A physical device got an owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnerSet {
    /// The owner.
    pub account: Uuid,
    /// Keyed hash of the bind key, hex.
    pub bind_key: String,
    /// Which device; `None` once erased.
    #[serde(skip)]
    pub private: Option<OwnerPrivate>,
}

/// A physical device lost its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnerRemoved {
    /// Which device; `None` once erased.
    #[serde(skip)]
    pub private: Option<OwnerPrivate>,
}

/// Which physical device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnerPrivate {
    /// The UMS `deviceId`.
    pub device_id: String,
}

with_private!(OwnerSet, OwnerRemoved);

/// The ownership of a physical device as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its stream.
    pub stream: Uuid,
    /// Version of the stream.
    pub version: i64,
    /// The owner and the bind key's fingerprint; `None` when nobody owns it any more.
    pub held: Option<(Uuid, String)>,
}

/// Names the owner of a physical device.
#[derive(Debug, Clone)]
pub struct SetOwner {
    /// The app.
    pub app: String,
    /// The UMS `deviceId`.
    pub device_id: String,
    /// The owner's UMS `userId`.
    pub user: String,
    /// Keyed hash of the bind key.
    pub bind_key: String,
    /// Stream of the ownership, if this is its first event.
    pub new_owner: Uuid,
    /// Account of the user, if this opens it.
    pub new_account: Uuid,
}

/// Takes the owner of a physical device away.
#[derive(Debug, Clone)]
pub struct RemoveOwner {
    /// The app.
    pub app: String,
    /// The UMS `deviceId`.
    pub device_id: String,
}

impl Decide for SetOwner {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let mut appends = Vec::new();
        let owner = facts.owner(&self.app, &self.device_id)?;
        let account =
            account::of_user(facts, &self.app, &self.user, self.new_account, &mut appends)?;
        let held = Some((account, self.bind_key.clone()));
        let (stream, version) = match &owner {
            Some(owner) if owner.held == held => return Ok(Vec::new()),
            Some(owner) => (owner.stream, owner.version + 1),
            None => (self.new_owner, 1),
        };
        let private = Some(OwnerPrivate { device_id: self.device_id.clone() });
        let event = OwnerSet { account, bind_key: self.bind_key.clone(), private }.into();
        appends.push(Append { stream: Stream::Owner(stream), version, event });
        Ok(appends)
    }
}

impl Decide for RemoveOwner {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let owner = facts.owner(&self.app, &self.device_id)?;
        let Some(owner) = owner.filter(|owner| owner.held.is_some()) else {
            return Err(Rejection::NoOwner.into());
        };
        let private = Some(OwnerPrivate { device_id: self.device_id.clone() });
        let event = OwnerRemoved { private }.into();
        let stream = Stream::Owner(owner.stream);
        Ok(vec![Append { stream, version: owner.version + 1, event }])
    }
}
