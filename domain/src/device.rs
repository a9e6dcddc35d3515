//! A device: one endpoint that can receive. Its number is the position of its first event. A UMS
//! device has the address (client id, app package); an Easemob device has (user, device id), and
//! holds a vendor's token for each certificate (`notifier`) that it was bound under.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Event, Rejection, Stream, account,
    event::with_private,
    facts::{Facts, Place, Stop},
    message::Protocol,
};

/// Where a registration stands. The numbers are the protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Registered once, or again after it unregistered.
    Registered = 1,
    /// Unregistered.
    Unregistered = 2,
    /// Registered again while registered.
    Updated = 3,
}

impl Status {
    /// The status with that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        [Status::Registered, Status::Unregistered, Status::Updated]
            .into_iter()
            .find(|status| *status as i64 == number)
    }
}

/// The third-party channel that a device names at registration (`collab3th`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// JPush (0).
    Jpush = 0,
    /// Haier M2M (1); smart speakers only.
    M2m = 1,
    /// None: the device has its vendors' tokens from bindings.
    None = 2,
}

/// What a device is, apart from whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Package name, bundle id or service name.
    pub app_package: String,
    /// `01` to `08`.
    pub device_type: String,
    /// Long type code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_id: Option<String>,
    /// The channel named at registration.
    pub channel: Channel,
}

impl Channel {
    /// The channel with that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let all = [Channel::Jpush, Channel::M2m, Channel::None];
        all.into_iter().find(|channel| *channel as i64 == number)
    }
}

impl Profile {
    /// The profile of a device that tells nothing of what it is.
    fn untold() -> Profile {
        let (app_package, device_type) = (String::new(), String::new());
        Profile { app_package, device_type, type_id: None, channel: Channel::None }
    }
}

/// What identifies a device and its user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The terminal's id.
    pub client_id: String,
    /// The hardware's id, such as a MAC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The hardware id that it had before, where this event changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_device_id: Option<String>,
    /// The vendor SDK's token.
    #[serde(default)]
    pub push_id: String,
    /// Nickname of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// Name of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The Antelope number that it has beside its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<u32>,
}

/// A device registered for the first time; its number is this event's position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceRegistered {
    /// Its user, if one was logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// What it is.
    pub profile: Profile,
    /// Who it is; `None` once erased.
    #[serde(skip)]
    pub private: Option<Identity>,
}

/// A registered device registered again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceUpdated {
    /// Its number.
    pub device: i64,
    /// When it first registered, in µs since the epoch.
    pub registered_at: i64,
    /// Its user now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// Its user before, where this event changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_account: Option<Uuid>,
    /// What it is now.
    pub profile: Profile,
    /// Who it is now; `None` once erased.
    #[serde(skip)]
    pub private: Option<Identity>,
}

/// An unregistered device registered again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReturned {
    /// Its number.
    pub device: i64,
    /// When it first registered, in µs since the epoch.
    pub registered_at: i64,
    /// Its user now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// Its user when it unregistered, if that was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_account: Option<Uuid>,
    /// What it is now.
    pub profile: Profile,
    /// Who it is now; `None` once erased.
    #[serde(skip)]
    pub private: Option<Identity>,
}

/// A device unregistered: nothing more is sent to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceUnregistered {
    /// Its number.
    pub device: i64,
    /// Its user at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// Who it was; `None` once erased.
    #[serde(skip)]
    pub private: Option<Identity>,
}

/// An Easemob device was seen for the first time, or its bindings changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceBound {
    /// Its number; none when this is its first event, whose position is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<i64>,
    /// Its user.
    pub account: Uuid,
    /// The protocol of its address: Easemob, or Tencent.
    #[serde(default = "easemob", skip_serializing_if = "is_easemob")]
    pub protocol: Protocol,
    /// All certificate names that it is bound under now, in order.
    pub notifiers: Vec<String>,
    /// Who it is; `None` once erased.
    #[serde(skip)]
    pub private: Option<Endpoint>,
}

fn easemob() -> Protocol {
    Protocol::Easemob
}

fn is_easemob(protocol: &Protocol) -> bool {
    *protocol == Protocol::Easemob
}

/// What identifies a device of an Easemob or Tencent user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The device's id, as its app chose it.
    pub device_id: String,
    /// The vendor's token under each certificate name, in the same order.
    pub tokens: Vec<String>,
    /// The Antelope number that it has beside its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<u32>,
}

/// A push vendor said that a device's token is dead: nothing more goes out under it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenDied {
    /// The device's number.
    pub device: i64,
    /// Its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
    /// The certificate name that it was bound under; none for the token of a UMS registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifier: Option<String>,
    /// The vendor's own code.
    pub code: String,
    /// Who it is; `None` once erased.
    #[serde(skip)]
    pub private: Option<Identity>,
}

with_private!(
    DeviceRegistered,
    DeviceUpdated,
    DeviceReturned,
    DeviceUnregistered,
    DeviceBound,
    TokenDied
);

/// A way to a device over a push vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The certificate name that the app's configuration knows the vendor by; none for the token
    /// of a UMS registration, whose vendor follows from its channel and package.
    pub notifier: Option<String>,
    /// The vendor's token.
    pub token: String,
}

/// A device as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Position of its first event.
    pub number: i64,
    /// Its stream.
    pub stream: Uuid,
    /// Version of the stream.
    pub version: i64,
    /// The protocol of its address.
    pub protocol: Protocol,
    /// Where its registration stands.
    pub status: Status,
    /// Its user.
    pub account: Option<Uuid>,
    /// When it first registered, in µs since the epoch.
    pub registered_at: i64,
    /// What it is.
    pub profile: Profile,
    /// Who it is. An Easemob device has its device id as client id, an Antelope device its number,
    /// and no more.
    pub identity: Identity,
    /// The certificate names and tokens of an Easemob device, in order of name.
    pub bound: Vec<(String, String)>,
}

impl Device {
    /// The ways to it over push vendors.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let bound = self.bound.iter().map(|(notifier, token)| Binding {
            notifier: Some(notifier.clone()),
            token: token.clone(),
        });
        let token = &self.identity.push_id;
        let own = self.profile.channel == Channel::Jpush && !token.is_empty();
        let own = own.then(|| Binding { notifier: None, token: token.clone() });
        bound.chain(own).collect()
    }

    /// Its Antelope number, if it has one and was not erased.
    #[must_use]
    pub fn cid(&self) -> Option<u32> {
        let number = || self.identity.client_id.parse().ok();
        (self.protocol == Protocol::Antelope).then(number).flatten().or(self.identity.cid)
    }

    /// Its names, for an event to be found by.
    pub(crate) fn who(&self) -> Identity {
        Identity {
            client_id: self.identity.client_id.clone(),
            device_id: self.identity.device_id.clone(),
            cid: self.identity.cid,
            ..Identity::default()
        }
    }

    fn unregister(&self) -> Append {
        let (device, account, private) = (self.number, self.account, Some(self.who()));
        let event = DeviceUnregistered { device, account, private }.into();
        Append { stream: Stream::Device(self.stream), version: self.version + 1, event }
    }

    /// Whether it may be sent to.
    #[must_use]
    pub fn registered(&self) -> bool {
        match self.status {
            Status::Registered | Status::Updated => true,
            Status::Unregistered => false,
        }
    }

    /// The device after one more event of its stream; `None` before it registered, and for events
    /// of other kinds of stream.
    #[must_use]
    pub fn evolve(
        before: Option<Device>,
        stream: Uuid,
        place: Place<'_>,
        event: &Event,
    ) -> Option<Device> {
        let Place { position, version, recorded_at, .. } = place;
        let made =
            |number, status, registered_at, account, profile: &Profile, private: &Option<_>| {
                let mut identity: Identity = private.clone().unwrap_or_default();
                identity.former_device_id = None;
                let profile = profile.clone();
                let device = Device {
                    number,
                    stream,
                    version,
                    protocol: Protocol::Ums,
                    status,
                    account,
                    registered_at,
                    profile,
                    identity,
                    bound: Vec::new(),
                };
                Some(device)
            };
        match event {
            Event::DeviceRegistered(e) => {
                let first = Status::Registered;
                made(position, first, recorded_at, e.account, &e.profile, &e.private)
            }
            Event::DeviceUpdated(e) => {
                made(e.device, Status::Updated, e.registered_at, e.account, &e.profile, &e.private)
            }
            Event::DeviceReturned(e) => {
                let again = Status::Registered;
                made(e.device, again, e.registered_at, e.account, &e.profile, &e.private)
            }
            Event::DeviceUnregistered(_) => {
                before.map(|d| Device { version, status: Status::Unregistered, ..d })
            }
            Event::DeviceBound(e) => {
                let mut identity = Identity::default();
                let mut bound = Vec::new();
                if let Some(endpoint) = &e.private {
                    identity.client_id.clone_from(&endpoint.device_id);
                    identity.cid = endpoint.cid;
                    bound.extend(e.notifiers.iter().cloned().zip(endpoint.tokens.iter().cloned()));
                }
                Some(Device {
                    number: e.device.unwrap_or(position),
                    stream,
                    version,
                    protocol: e.protocol,
                    status: Status::Registered,
                    account: Some(e.account),
                    registered_at: before.map_or(recorded_at, |d| d.registered_at),
                    profile: Profile::untold(),
                    identity,
                    bound,
                })
            }
            Event::DeviceAdmitted(e) => {
                let cid = e.private.map(|cid| cid.cid.to_string()).unwrap_or_default();
                Some(Device {
                    number: position,
                    stream,
                    version,
                    protocol: Protocol::Antelope,
                    status: Status::Registered,
                    account: None,
                    registered_at: recorded_at,
                    profile: Profile::untold(),
                    identity: Identity { client_id: cid, ..Identity::default() },
                    bound: Vec::new(),
                })
            }
            Event::DeviceLinked(e) => Some(e.device(stream, version)),
            Event::TokenDied(e) => before.map(|mut device| {
                device.version = version;
                match &e.notifier {
                    Some(notifier) => device.bound.retain(|(name, _)| name != notifier),
                    None => device.identity.push_id.clear(),
                }
                device
            }),
            Event::AppCreated(_)
            | Event::AppChanged(_)
            | Event::AppDeleted(_)
            | Event::AccountOpened(_)
            | Event::AccountLinked(_)
            | Event::AccountClosed(_)
            | Event::MessageFiltered(_)
            | Event::LabelCreated(_)
            | Event::LabelDeleted(_)
            | Event::LabelMembersChanged(_)
            | Event::OwnerSet(_)
            | Event::PresenceChanged(_)
            | Event::UplinkReceived(_)
            | Event::CallbacksCalled(_)
            | Event::CallbacksReplayed(_)
            | Event::SubjectErased(_)
            | Event::OwnerRemoved(_)
            | Event::MessageAccepted(_)
            | Event::DeliveriesAdvanced(_)
            | Event::RecallRequested(_)
            | Event::TaskCreated(_)
            | Event::TaskStarted(_)
            | Event::ChunkDelivered(_)
            | Event::TaskEnded(_) => before,
        }
    }
}

/// Binds a vendor's token to a device of an Easemob user, or takes bindings away.
#[derive(Debug, Clone)]
pub struct BindDevice {
    /// The app.
    pub app: String,
    /// The user, in lower case.
    pub username: String,
    /// The device's id.
    pub device_id: String,
    /// What is to be done.
    pub change: Bind,
    /// Its stream, if it is new.
    pub new_device: Uuid,
}

/// A change of a device's bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// The device is here, whatever it is bound to: it connected.
    Seen,
    /// It has this token under this certificate name.
    Token(String, String),
    /// It has none any more under this certificate name.
    Without(String),
    /// It has none at all any more.
    Nothing,
}

/// Certificate names that one device may be bound under.
pub const MAX_BINDINGS: usize = 16;

/// Notes that a vendor called a token dead.
#[derive(Debug, Clone)]
pub struct BuryToken {
    /// The device's number.
    pub device: i64,
    /// The certificate name; none for the token of a UMS registration.
    pub notifier: Option<String>,
    /// The token that died; one that the device got since is another.
    pub token: String,
    /// The vendor's own code.
    pub code: String,
}

impl Decide for BindDevice {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let user = account::known_user(facts, &self.app, &self.username)?;
        let devices = facts.devices_of_account(user.account)?;
        let own = |d: &&std::sync::Arc<Device>| {
            let easemob = d.protocol == Protocol::Easemob && d.registered();
            easemob && d.identity.client_id == self.device_id
        };
        let before = devices.iter().find(own);
        let mut bound = before.map_or_else(Vec::new, |device| device.bound.clone());
        match &self.change {
            Bind::Seen => {}
            Bind::Nothing => bound.clear(),
            Bind::Without(notifier) => bound.retain(|(name, _)| name != notifier),
            Bind::Token(notifier, token) => {
                bound.retain(|(name, _)| name != notifier);
                let at = bound.partition_point(|(name, _)| name < notifier);
                bound.insert(at, (notifier.clone(), token.clone()));
            }
        }
        let same = before.is_some_and(|device| device.bound == bound);
        let nobody = before.is_none() && bound.is_empty() && self.change != Bind::Seen;
        if same || nobody {
            return Ok(Vec::new());
        }
        if bound.len() > MAX_BINDINGS {
            return Err(Rejection::TooManyBindings { limit: MAX_BINDINGS }.into());
        }
        let (notifiers, tokens) = bound.into_iter().unzip();
        let cid = before.and_then(|device| device.identity.cid);
        let private = Some(Endpoint { device_id: self.device_id.clone(), tokens, cid });
        let (device, account) = (before.map(|device| device.number), user.account);
        let protocol = Protocol::Easemob;
        let event = DeviceBound { device, account, protocol, notifiers, private }.into();
        let (stream, version) = match before {
            Some(device) => (device.stream, device.version + 1),
            None => (self.new_device, 1),
        };
        Ok(vec![Append { stream: Stream::Device(stream), version, event }])
    }
}

impl Decide for BuryToken {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let Some(device) = facts.device(self.device)? else { return Ok(Vec::new()) };
        let held = |b: &Binding| b.notifier == self.notifier && b.token == self.token;
        if !device.bindings().iter().any(held) {
            return Ok(Vec::new());
        }
        let event = TokenDied {
            device: device.number,
            account: device.account,
            notifier: self.notifier.clone(),
            code: self.code.clone(),
            private: Some(device.who()),
        };
        let stream = Stream::Device(device.stream);
        Ok(vec![Append { stream, version: device.version + 1, event: event.into() }])
    }
}

/// Unregisters every registered device of an account.
pub(crate) fn unregister_all(devices: &[std::sync::Arc<Device>]) -> Vec<Append> {
    devices.iter().filter(|device| device.registered()).map(|device| device.unregister()).collect()
}

/// Registers a device, or registers it again.
#[derive(Debug, Clone)]
pub struct RegisterDevice {
    /// The app.
    pub app: String,
    /// Packages that the app allows; empty: any.
    pub allowed_packages: Vec<String>,
    /// The user that is logged in; none leaves a registered device with the user it has.
    pub user: Option<String>,
    /// What the device is.
    pub profile: Profile,
    /// Who it is.
    pub identity: Identity,
    /// Its stream, if it is new.
    pub new_device: Uuid,
    /// Account of the user, if this opens it.
    pub new_account: Uuid,
}

/// Unregisters a device.
#[derive(Debug, Clone)]
pub struct UnregisterDevice {
    /// The app.
    pub app: String,
    /// Packages that the app allows; empty: any that a device registered.
    pub allowed_packages: Vec<String>,
    /// The device's client id.
    pub client_id: String,
    /// The device's package.
    pub app_package: String,
    /// The user that is logged in.
    pub user: Option<String>,
}

impl Decide for RegisterDevice {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let package = &self.profile.app_package;
        if !self.allowed_packages.is_empty() && !self.allowed_packages.contains(package) {
            return Err(Rejection::UnknownPackage.into());
        }
        if self.profile.channel == Channel::M2m && self.profile.device_type != SMART_SPEAKER {
            return Err(Rejection::UnsupportedChannel.into());
        }
        let mut appends = Vec::new();
        let devices = facts.devices_of_client(&self.app, &self.identity.client_id)?;
        let user = match &self.user {
            Some(user) => {
                Some(account::of_user(facts, &self.app, user, self.new_account, &mut appends)?)
            }
            None => None,
        };
        let before = devices.iter().find(|device| device.profile.app_package == *package);
        appends.push(match before {
            None => self.first(user),
            Some(device) => self.again(device, user),
        });
        Ok(appends)
    }
}

/// The device type that has the M2M channel.
const SMART_SPEAKER: &str = "08";

impl RegisterDevice {
    fn first(&self, account: Option<Uuid>) -> Append {
        let (profile, private) = (self.profile.clone(), Some(self.identity.clone()));
        let event = DeviceRegistered { account, profile, private }.into();
        Append { stream: Stream::Device(self.new_device), version: 1, event }
    }

    fn again(&self, before: &Device, user: Option<Uuid>) -> Append {
        let (device, registered_at) = (before.number, before.registered_at);
        let mut identity = Identity { cid: before.identity.cid, ..self.identity.clone() };
        if identity.device_id != before.identity.device_id {
            identity.former_device_id.clone_from(&before.identity.device_id);
        }
        let (profile, private) = (self.profile.clone(), Some(identity));
        let former = |now: Option<Uuid>| before.account.filter(|then| Some(*then) != now);
        let event = if before.registered() {
            let account = user.or(before.account);
            let former_account = former(account);
            DeviceUpdated { device, registered_at, account, former_account, profile, private }
                .into()
        } else {
            let former_account = former(user);
            DeviceReturned {
                device,
                registered_at,
                account: user,
                former_account,
                profile,
                private,
            }
            .into()
        };
        Append { stream: Stream::Device(before.stream), version: before.version + 1, event }
    }
}

impl Decide for UnregisterDevice {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        package_is_known(facts, &self.app, &self.allowed_packages, &self.app_package)?;
        let devices = facts.devices_of_client(&self.app, &self.client_id)?;
        let device = devices
            .iter()
            .find(|device| device.profile.app_package == self.app_package && device.registered())
            .ok_or(Rejection::NotRegistered)?;
        speaks_for(facts, &self.app, device, self.user.as_deref())?;
        Ok(vec![device.unregister()])
    }
}

/// A package is known when the app lists it or, where the app lists none, when a device
/// registered with it.
pub(crate) fn package_is_known(
    facts: &Facts,
    app: &str,
    allowed: &[String],
    package: &str,
) -> Result<(), Stop> {
    let known = if allowed.is_empty() {
        facts.package_known(app, package)?
    } else {
        allowed.iter().any(|allowed| allowed == package)
    };
    if known { Ok(()) } else { Err(Rejection::UnknownPackage.into()) }
}

/// A device that has a user is spoken for by that user alone; one without a user by itself.
pub(crate) fn speaks_for(
    facts: &Facts,
    app: &str,
    device: &Device,
    user: Option<&str>,
) -> Result<(), Stop> {
    let Some(account) = device.account else { return Ok(()) };
    let caller = match user {
        Some(user) => facts.account(app, user)?,
        None => None,
    };
    if caller == Some(account) { Ok(()) } else { Err(Rejection::IllegalUser.into()) }
}
