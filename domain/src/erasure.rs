//! An erasure: somebody's right to be forgotten. It ends its subject: devices unregister, the account
//! is closed, and from the erasure's position on nothing in the app leads to them. Whoever comes
//! back is somebody new. What was private in the events before it is blanked afterwards, by the
//! effect that follows this event; which events those are is told here.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Event, Recorded, Rejection, Stream,
    account::{AccountClosed, AccountPrivate},
    device,
    event::with_private,
    facts::{Facts, Key, Stop},
    label,
    message::{MessageAccepted, Sender},
    task::Audience,
    uplink::Source,
};

/// Why somebody is erased: the grounds of article 17 (1) of the GDPR. A closed list, so that nothing
/// private is said here for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grounds {
    /// (a) The data is not needed any more.
    NoLongerNeeded,
    /// (b) Consent was withdrawn.
    ConsentWithdrawn,
    /// (c) The subject objects.
    Objection,
    /// (d) The data was processed unlawfully.
    Unlawful,
    /// (e) A law demands it.
    LegalObligation,
    /// (f) The data is a child's.
    Child,
}

/// A device that was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedDevice {
    /// Its number.
    pub device: i64,
    /// Its stream.
    pub stream: Uuid,
}

/// A subject was erased: what is private to it in events up to here is blank from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubjectErased {
    /// Why.
    pub grounds: Grounds,
    /// Its accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<Uuid>,
    /// Its devices, in order of number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<ErasedDevice>,
    /// Whether it is a phone: then its uplinks are erased.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub phone: bool,
    /// What it has to be known by until it is erased; `None` from then on.
    #[serde(skip)]
    pub private: Option<ErasurePrivate>,
}

/// What a subject is known by that has no number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasurePrivate {
    /// The phone, as gateways write it.
    pub phone: String,
}

with_private!(SubjectErased);

impl SubjectErased {
    /// Whether an account is among those that were erased.
    #[must_use]
    pub fn has_account(&self, account: Uuid) -> bool {
        self.accounts.contains(&account)
    }

    /// Whether a device is among those that were erased.
    #[must_use]
    pub fn has_device(&self, number: i64) -> bool {
        self.devices.binary_search_by_key(&number, |erased| erased.device).is_ok()
    }
}

/// Everybody who was erased, to tell which events are about them.
#[derive(Debug, Default)]
pub struct Erased {
    accounts: HashSet<Uuid>,
    devices: HashSet<i64>,
    /// Streams of those devices and accounts, and of ownerships that such accounts have.
    streams: HashSet<Uuid>,
    /// Each phone by its app and number, with the position of its erasure.
    phones: HashMap<(String, String), i64>,
}

impl Erased {
    /// Nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.devices.is_empty() && self.phones.is_empty()
    }

    /// Adds a subject whose erasure is at a position.
    pub fn add(&mut self, app: &str, position: i64, subject: &SubjectErased) {
        self.accounts.extend(&subject.accounts);
        self.streams.extend(&subject.accounts);
        self.devices.extend(subject.devices.iter().map(|erased| erased.device));
        self.streams.extend(subject.devices.iter().map(|erased| erased.stream));
        if let Some(private) = &subject.private {
            self.phones.insert((app.to_owned(), private.phone.clone()), position);
        }
    }

    /// Whether what is private in an event is to be blanked. Events come in order. A phone goes on to
    /// exist, so what it writes after its erasure is another matter; accounts and devices do not.
    pub fn concerned(&mut self, recorded: &Recorded) -> bool {
        if let (Stream::Owner(stream), Event::OwnerSet(e)) = (&recorded.stream, &recorded.event) {
            if self.has(e.account) {
                self.streams.insert(*stream);
            } else {
                self.streams.remove(stream);
            }
        }
        let of_stream = match &recorded.stream {
            Stream::Account(stream) | Stream::Device(stream) | Stream::Owner(stream) => {
                self.streams.contains(stream)
            }
            _ => false,
        };
        of_stream || self.tells_of_them(recorded)
    }

    /// Whether an event that this version of the program cannot read is about any of them: its stream
    /// or its body has the id of an account or of a device. Rather one too many, as what cannot be read
    /// cannot be asked; a device that is named by number alone is not found.
    #[must_use]
    pub fn mentioned(&self, stream: &str, body: &str) -> bool {
        let is_of_id = |c: char| c.is_ascii_hexdigit() || c == '-';
        let words = [stream, body].into_iter().flat_map(|text| text.split(|c| !is_of_id(c)));
        let mut ids = words.filter_map(|word| Uuid::try_parse(word).ok());
        ids.any(|id| self.has(id) || self.streams.contains(&id))
    }

    fn has(&self, account: Uuid) -> bool {
        self.accounts.contains(&account)
    }

    fn tells_of_them(&self, recorded: &Recorded) -> bool {
        let any = |accounts: [Option<Uuid>; 2]| accounts.into_iter().flatten().any(|a| self.has(a));
        match &recorded.event {
            Event::DeviceRegistered(e) => any([e.account, None]),
            Event::DeviceUpdated(e) => any([e.account, e.former_account]),
            Event::DeviceReturned(e) => any([e.account, e.former_account]),
            Event::DeviceUnregistered(e) => any([e.account, None]),
            Event::DeviceBound(e) => self.has(e.account),
            Event::DeviceLinked(e) => any([e.account, None]),
            Event::TokenDied(e) => any([e.account, None]),
            Event::MessageAccepted(e) => self.are_named_in(e),
            Event::MessageFiltered(e) => any([Some(e.sender), Some(e.chat.to)]),
            Event::TaskCreated(e) => match &e.audience {
                Audience::Users(users) => users.iter().any(|user| self.has(*user)),
                Audience::Everyone | Audience::Label { .. } => false,
            },
            Event::PresenceChanged(e) => self.devices.contains(&e.device) || any([e.account, None]),
            Event::UplinkReceived(e) => match e.source {
                Source::Device { device, .. } => self.devices.contains(&device),
                Source::Sms => e.private.as_ref().is_some_and(|private| {
                    let phone = (recorded.app.clone(), private.from.clone());
                    self.phones.get(&phone).is_some_and(|until| recorded.position < *until)
                }),
            },
            // The phone that it had to be known by.
            Event::SubjectErased(_) => true,
            Event::AppCreated(_)
            | Event::AppChanged(_)
            | Event::AppDeleted(_)
            | Event::AccountOpened(_)
            | Event::AccountClosed(_)
            | Event::AccountLinked(_)
            | Event::LabelCreated(_)
            | Event::LabelDeleted(_)
            | Event::LabelMembersChanged(_)
            | Event::DeviceAdmitted(_)
            | Event::OwnerSet(_)
            | Event::OwnerRemoved(_)
            | Event::DeliveriesAdvanced(_)
            | Event::RecallRequested(_)
            | Event::TaskStarted(_)
            | Event::ChunkDelivered(_)
            | Event::TaskEnded(_)
            | Event::CallbacksCalled(_)
            | Event::CallbacksReplayed(_) => false,
        }
    }

    /// Whether a message has any of them among those whom it is from or for.
    fn are_named_in(&self, message: &MessageAccepted) -> bool {
        let sender = match message.sender {
            Sender::User(account) => self.has(account),
            Sender::Terminal | Sender::Cloud => false,
        };
        let named = message.targets.iter().any(|target| {
            target.account.is_some_and(|account| self.has(account))
                || self.devices.contains(&target.device)
        });
        sender || named || message.chat.is_some_and(|chat| self.has(chat.to))
    }
}

/// Who is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Users: all accounts that ever had some name, with all of their devices.
    Users(Vec<Uuid>),
    /// A device, by its number.
    Device(i64),
    /// A phone, as gateways write it.
    Phone(String),
}

/// Erases a subject.
#[derive(Debug, Clone)]
pub struct EraseSubject {
    /// The app.
    pub app: String,
    /// Who.
    pub subject: Subject,
    /// Why.
    pub grounds: Grounds,
    /// Stream of the erasure.
    pub erasure: Uuid,
}

impl Decide for EraseSubject {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let mut appends = Vec::new();
        let (mut accounts, mut devices, mut private) = (Vec::new(), Vec::new(), None);
        match &self.subject {
            Subject::Users(users) => {
                facts.want(users.iter().flat_map(|user| {
                    let (devices, labels) = (Key::AccountDevices(*user), Key::AccountLabels(*user));
                    [devices, labels, Key::Addresses(*user)]
                }))?;
                for user in users {
                    let own = facts.devices_of_account(*user)?;
                    appends.extend(device::unregister_all(&own));
                    devices.extend(own.iter().cloned());
                    appends.extend(label::leave_all(facts, &self.app, *user)?);
                    if let Some(account) = facts.addresses(*user)? {
                        let private =
                            AccountPrivate { nickname: None, ..account.addresses.clone() };
                        let event = AccountClosed { private: Some(private) }.into();
                        let stream = Stream::Account(*user);
                        appends.push(Append { stream, version: account.version + 1, event });
                    }
                }
                accounts.clone_from(users);
            }
            Subject::Device(number) => {
                let device = facts.device(*number)?.ok_or(Rejection::NotRegistered)?;
                appends.extend(device::unregister_all(std::slice::from_ref(&device)));
                devices.push(device);
            }
            Subject::Phone(phone) => private = Some(ErasurePrivate { phone: phone.clone() }),
        }
        devices.sort_unstable_by_key(|device| device.number);
        let erased = |device: &std::sync::Arc<device::Device>| ErasedDevice {
            device: device.number,
            stream: device.stream,
        };
        let event = SubjectErased {
            grounds: self.grounds,
            accounts,
            devices: devices.iter().map(erased).collect(),
            phone: private.is_some(),
            private,
        };
        let stream = Stream::Erasure(self.erasure);
        appends.push(Append { stream, version: 1, event: event.into() });
        Ok(appends)
    }

    /// Names that lead to the subject lead to nobody afterwards, and no key tells which they are.
    fn alone(&self) -> bool {
        true
    }
}
