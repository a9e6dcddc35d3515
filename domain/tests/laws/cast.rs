//! Who the scenarios are about: one app, two users, their devices and one message.

use domain::{
    Event, Stream,
    account::{AccountClosed, AccountOpened, AccountPrivate},
    device::{
        Bind, BindDevice, Channel, DeviceBound, DeviceRegistered, DeviceReturned,
        DeviceUnregistered, DeviceUpdated, Endpoint, Identity, Profile, RegisterDevice, TokenDied,
        UnregisterDevice,
    },
    label::{LabelCreated, LabelDeleted, LabelMembersChanged},
    message::{
        DeliveriesAdvanced, Ending, MessageAccepted, MessageId, MessagePrivate, Progress, Protocol,
        RawJson, RecallOp, RecallRequested, RecallResult, Recalled, Reporter, Sender, Step, Target,
    },
    route::Strategy,
    vendor::Vendor,
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{ledger::at, scenario::Entry};

/// The app.
pub(crate) const APP: &str = "shop";
/// A user.
pub(crate) const ANN: Uuid = Uuid::from_u128(0xa);
/// Another user.
pub(crate) const BOB: Uuid = Uuid::from_u128(0xb);
/// The account that a command opens if it must.
pub(crate) const NEW_ACCOUNT: Uuid = Uuid::from_u128(0xacc);
/// The message.
pub(crate) const MESSAGE: MessageId = MessageId(1_700_000_000_000_001_000);
/// When the message expires, in µs since the epoch.
pub(crate) const EXPIRES_AT: i64 = 1_700_086_400_000_000;

/// A user was seen for the first time.
pub(crate) fn opened(account: Uuid, user: &str) -> Entry {
    let private =
        Some(AccountPrivate { ums_user: Some(user.to_owned()), ..AccountPrivate::default() });
    Entry::new(Stream::Account(account), AccountOpened { private })
}

/// An Easemob user was registered.
pub(crate) fn user_opened(account: Uuid, username: &str) -> Entry {
    let private = Some(named(username));
    Entry::new(Stream::Account(account), AccountOpened { private })
}

/// An Easemob user was removed.
pub(crate) fn user_closed(account: Uuid, username: &str) -> Entry {
    let private = Some(named(username));
    Entry::new(Stream::Account(account), AccountClosed { private })
}

fn named(username: &str) -> AccountPrivate {
    AccountPrivate { username: Some(username.to_owned()), ..AccountPrivate::default() }
}

/// A label was created, with its name as stream and nothing said of what it is for.
pub(crate) fn label_created(name: &str) -> Entry {
    let event = LabelCreated { name: name.to_owned(), description: String::new() };
    Entry::new(Stream::Label(label_stream(name)), event)
}

/// A label was deleted.
pub(crate) fn label_deleted(name: &str) -> Entry {
    Entry::new(Stream::Label(label_stream(name)), LabelDeleted { name: name.to_owned() })
}

/// Accounts joined a label.
pub(crate) fn joined(name: &str, accounts: &[Uuid]) -> Entry {
    members_changed(label_stream(name), name, accounts, &[])
}

/// Accounts left a label.
pub(crate) fn left(name: &str, accounts: &[Uuid]) -> Entry {
    members_changed(label_stream(name), name, &[], accounts)
}

/// Accounts joined and left the label of that stream.
pub(crate) fn members_changed(label: Uuid, name: &str, joined: &[Uuid], left: &[Uuid]) -> Entry {
    let (joined, left) = (joined.to_vec(), left.to_vec());
    let event = LabelMembersChanged { name: name.to_owned(), joined, left };
    Entry::new(Stream::Label(label), event)
}

/// The stream of a label's first life.
pub(crate) fn label_stream(name: &str) -> Uuid {
    Uuid::from_u128(hash(0x1, name))
}

/// A device of an Easemob user to tell stories about.
#[derive(Debug, Clone)]
pub(crate) struct Handset {
    stream: Uuid,
    account: Uuid,
    device_id: String,
    bound: Vec<(String, String)>,
}

/// A device of that account, without any binding.
pub(crate) fn handset(account: Uuid, device_id: &str) -> Handset {
    let stream = Uuid::from_u128(hash(account.as_u128(), device_id));
    Handset { stream, account, device_id: device_id.to_owned(), bound: Vec::new() }
}

impl Handset {
    /// The same device with one more binding; they are given in order of name.
    pub(crate) fn with(&self, notifier: &str, token: &str) -> Self {
        let mut handset = self.clone();
        handset.bound.push((notifier.to_owned(), token.to_owned()));
        handset
    }

    /// It was seen for the first time, bound like this.
    pub(crate) fn first(&self) -> Entry {
        self.entry(self.bound_as(None))
    }

    /// It is bound like this now.
    pub(crate) fn again(&self, number: i64) -> Entry {
        self.entry(self.bound_as(Some(number)))
    }

    fn bound_as(&self, device: Option<i64>) -> DeviceBound {
        let (notifiers, tokens) = self.bound.iter().cloned().unzip();
        let private = Some(Endpoint { device_id: self.device_id.clone(), tokens, cid: None });
        let (account, protocol) = (self.account, Protocol::Easemob);
        DeviceBound { device, account, protocol, notifiers, private }
    }

    /// Its token under that name died.
    pub(crate) fn died(&self, number: i64, notifier: &str, code: &str) -> Entry {
        let (notifier, code) = (Some(notifier.to_owned()), code.to_owned());
        let (account, private) = (Some(self.account), Some(self.who()));
        self.entry(TokenDied { device: number, account, notifier, code, private })
    }

    /// It unregistered, as its user was removed.
    pub(crate) fn unregistered(&self, number: i64) -> Entry {
        let (account, private) = (Some(self.account), Some(self.who()));
        self.entry(DeviceUnregistered { device: number, account, private })
    }

    fn who(&self) -> Identity {
        Identity { client_id: self.device_id.clone(), ..Identity::default() }
    }

    fn entry(&self, event: impl Into<Event>) -> Entry {
        Entry::new(Stream::Device(self.stream), event)
    }

    /// The command that changes its bindings, by its user's name.
    pub(crate) fn bind(&self, username: &str, change: Bind) -> BindDevice {
        BindDevice {
            app: APP.to_owned(),
            username: username.to_owned(),
            device_id: self.device_id.clone(),
            change,
            new_device: self.stream,
        }
    }
}

fn hash(seed: u128, text: &str) -> u128 {
    text.bytes().fold(seed, |hash, byte| hash * 31 + u128::from(byte))
}

/// A UMS device to tell stories about.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    stream: Uuid,
    account: Option<Uuid>,
    /// What it is.
    pub(crate) profile: Profile,
    /// Who it is.
    pub(crate) identity: Identity,
}

/// A device with a client id, a package named after its type, and nothing else.
pub(crate) fn device(client: &str, device_type: &str) -> Sketch {
    let stream = hash(0xd, client);
    let profile = Profile {
        app_package: format!("com.shop.{device_type}"),
        device_type: device_type.to_owned(),
        type_id: None,
        channel: Channel::Jpush,
    };
    let identity = Identity {
        client_id: client.to_owned(),
        push_id: format!("push-{client}"),
        ..Identity::default()
    };
    Sketch { stream: Uuid::from_u128(stream), account: None, profile, identity }
}

impl Sketch {
    /// The same device with that user.
    pub(crate) fn of(&self, account: Uuid) -> Self {
        Sketch { account: Some(account), ..self.clone() }
    }

    /// The same device with that hardware id.
    pub(crate) fn hardware(&self, id: &str) -> Self {
        let mut sketch = self.clone();
        sketch.identity.device_id = Some(id.to_owned());
        sketch
    }

    /// It registered for the first time.
    pub(crate) fn registered(&self) -> Entry {
        let (account, profile) = (self.account, self.profile.clone());
        self.entry(DeviceRegistered { account, profile, private: Some(self.identity.clone()) })
    }

    /// It registered again while registered, its former user being another one.
    pub(crate) fn updated_from(&self, number: i64, former_account: Option<Uuid>) -> Entry {
        self.entry(DeviceUpdated {
            device: number,
            registered_at: at(number),
            account: self.account,
            former_account,
            profile: self.profile.clone(),
            private: Some(self.identity.clone()),
        })
    }

    /// It registered again while registered.
    pub(crate) fn updated(&self, number: i64) -> Entry {
        self.updated_from(number, None)
    }

    /// It registered again after it unregistered, its former user being another one.
    pub(crate) fn returned_from(&self, number: i64, former_account: Option<Uuid>) -> Entry {
        self.entry(DeviceReturned {
            device: number,
            registered_at: at(number),
            account: self.account,
            former_account,
            profile: self.profile.clone(),
            private: Some(self.identity.clone()),
        })
    }

    /// It registered again after it unregistered.
    pub(crate) fn returned(&self, number: i64) -> Entry {
        self.returned_from(number, None)
    }

    /// It unregistered.
    pub(crate) fn unregistered(&self, number: i64) -> Entry {
        let private = Some(self.who());
        self.entry(DeviceUnregistered { device: number, account: self.account, private })
    }

    /// A vendor said that its token is dead.
    pub(crate) fn died(&self, number: i64, code: &str) -> Entry {
        let (notifier, code) = (None, code.to_owned());
        let (account, private) = (self.account, Some(self.who()));
        self.entry(TokenDied { device: number, account, notifier, code, private })
    }

    fn who(&self) -> Identity {
        let Identity { client_id, device_id, .. } = self.identity.clone();
        Identity { client_id, device_id, ..Identity::default() }
    }

    fn entry(&self, event: impl Into<Event>) -> Entry {
        Entry::new(Stream::Device(self.stream), event)
    }

    /// The command that registers it.
    pub(crate) fn register(&self, user: Option<&str>) -> RegisterDevice {
        RegisterDevice {
            app: APP.to_owned(),
            allowed_packages: Vec::new(),
            user: user.map(str::to_owned),
            profile: self.profile.clone(),
            identity: self.identity.clone(),
            new_device: self.stream,
            new_account: NEW_ACCOUNT,
        }
    }

    /// The command that unregisters it.
    pub(crate) fn unregister(&self, user: Option<&str>) -> UnregisterDevice {
        UnregisterDevice {
            app: APP.to_owned(),
            allowed_packages: Vec::new(),
            client_id: self.identity.client_id.clone(),
            app_package: self.profile.app_package.clone(),
            user: user.map(str::to_owned),
        }
    }
}

/// JSON text, byte for byte.
pub(crate) fn raw(text: &str) -> RawJson {
    RawJson(RawValue::from_string(text.to_owned()).unwrap())
}

/// The words of a push.
pub(crate) fn words() -> MessagePrivate {
    let payload = Some(raw(r#"{"msgName":"hi"}"#));
    MessagePrivate { destinations: raw(r#"{"type":0}"#), payload, caller: None }
}

/// The content of a push to some devices, from the app's server.
pub(crate) fn push_to(devices: &[i64]) -> MessageAccepted {
    MessageAccepted {
        protocol: Protocol::Ums,
        sender: Sender::Cloud,
        strategy: Strategy::OnlineElseVendor,
        expires_at: EXPIRES_AT,
        burn: false,
        resend: None,
        callback: false,
        targets: devices.iter().map(|device| Target { device: *device, account: None }).collect(),
        unresolved: 0,
        chat: None,
        users: 0,
        unbound: 0,
        private: Some(words()),
    }
}

/// An event of the message.
pub(crate) fn of_message(event: impl Into<Event>) -> Entry {
    Entry::new(Stream::Message(MESSAGE), event)
}

/// The message was accepted, as the first event, for some devices.
pub(crate) fn accepted(devices: &[i64]) -> Entry {
    of_message(push_to(devices))
}

/// The message was accepted, as the first event, for some devices, and burns after display.
pub(crate) fn accepted_to_burn(devices: &[i64]) -> Entry {
    of_message(MessageAccepted { burn: true, ..push_to(devices) })
}

/// A step by the server.
pub(crate) fn by_server(device: i64, what: Progress) -> Step {
    Step::of_server(device, what)
}

/// A step by the device, over its connection.
pub(crate) fn by_socket(device: i64, what: Progress) -> Step {
    Step { by: Reporter::Socket, ..Step::of_server(device, what) }
}

/// A step by the device, over REST.
pub(crate) fn by_rest(device: i64, what: Progress, request: &str) -> Step {
    Step { by: Reporter::Rest, request: Some(request.to_owned()), ..Step::of_server(device, what) }
}

/// It was handed to a device.
pub(crate) fn sent(device: i64) -> Step {
    by_server(device, Progress::Sent)
}

/// A vendor took it for a device.
pub(crate) fn taken_by(vendor: Vendor, device: i64, word: &str) -> Step {
    Step { vendor: Some(vendor), word: Some(word.to_owned()), ..sent(device) }
}

/// No vendor was a way to a device.
pub(crate) fn failed(device: i64, reason: Ending) -> Step {
    by_server(device, Progress::Failed(reason))
}

/// Deliveries of the message, which is the first event, went on.
pub(crate) fn advanced(steps: impl IntoIterator<Item = Step>) -> Entry {
    advanced_since(1, steps)
}

/// Deliveries of the message at that position went on.
pub(crate) fn advanced_since(accepted: i64, steps: impl IntoIterator<Item = Step>) -> Entry {
    of_message(DeliveriesAdvanced { accepted, steps: steps.into_iter().collect() })
}

/// The message, which is the first event, was recalled or replaced.
pub(crate) fn recalled(op: RecallOp, results: &[(i64, RecallResult)]) -> Entry {
    let result = |&(device, result): &(i64, RecallResult)| Recalled { device, result };
    let results = results.iter().map(result).collect();
    of_message(RecallRequested { accepted: 1, expires_at: EXPIRES_AT, op, results })
}
