//! Who the scenarios are about: one app, two users, their devices and one message.

use domain::{
    Event, Stream,
    account::{AccountOpened, AccountPrivate},
    device::{
        Channel, DeviceRegistered, DeviceReturned, DeviceUnregistered, DeviceUpdated, Identity,
        Profile, RegisterDevice, UnregisterDevice,
    },
    message::{
        DeliveriesAdvanced, MessageAccepted, MessageId, MessagePrivate, Progress, Protocol,
        RawJson, RecallOp, RecallRequested, RecallResult, Recalled, Reporter, Sender, Step, Target,
    },
    route::Strategy,
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

/// A device to tell stories about.
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
    let stream = client.bytes().fold(0xd, |hash, byte| hash * 31 + u128::from(byte));
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
        let private = Some(Identity {
            client_id: self.identity.client_id.clone(),
            device_id: self.identity.device_id.clone(),
            ..Identity::default()
        });
        self.entry(DeviceUnregistered { device: number, account: self.account, private })
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
    MessagePrivate { destinations: raw(r#"{"type":0}"#), payload: Some(raw(r#"{"msgName":"hi"}"#)) }
}

/// The content of a push to some devices, from the app's server.
pub(crate) fn push_to(devices: &[i64]) -> MessageAccepted {
    MessageAccepted {
        protocol: Protocol::Ums,
        sender: Sender::Cloud,
        strategy: Strategy::OnlineElseVendor,
        expires_at: EXPIRES_AT,
        burn: false,
        targets: devices.iter().map(|device| Target { device: *device, account: None }).collect(),
        unresolved: 0,
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
