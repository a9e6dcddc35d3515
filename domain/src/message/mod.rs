//! A message: one accepted push, and how each of its deliveries goes.
//!
//! A delivery is three independent folds. `stage` is the furthest it got and only rises; `ended`
//! says that it stops trying, and a later report still raises `stage`; `recall` says what became
//! of an attempt to take it back. What may be done to a message is in [`commands`].

mod commands;

pub use commands::{
    AdvanceDeliveries, ExpireDeliveries, RecallMessage, ReportDelivery, WithdrawMessage,
};

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    Event, Rejection, chat::Chat, event::with_private, facts::Place, resend::Resend,
    route::Strategy, vendor::Vendor,
};

/// The number of a message: 13 digits of milliseconds, 3 of the node, then a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub i64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        let digits = (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.map(MessageId).ok_or(Rejection::UnknownMessage)
    }
}

/// JSON text that passes through byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(pub Box<RawValue>);

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Protocol {
    /// The stable name: in frames, views and statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Ums => "ums",
            Protocol::Easemob => "easemob",
            Protocol::Antelope => "antelope",
            Protocol::Tencent => "tencent",
        }
    }
}

/// The protocol that a push came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Haier UMS V2.
    Ums,
    /// Easemob push.
    Easemob,
    /// Antelope custom messages.
    Antelope,
    /// Tencent IM.
    Tencent,
}

/// Who pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// A terminal on which that user is logged in.
    User(Uuid),
    /// A terminal without a user.
    Terminal,
    /// The app's own server.
    Cloud,
}

/// A push was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageAccepted {
    /// How it came.
    pub protocol: Protocol,
    /// Who sent it.
    pub sender: Sender,
    /// How it wants to travel.
    pub strategy: Strategy,
    /// When it stops being worth delivering, in µs since the epoch.
    pub expires_at: i64,
    /// Whether it vanishes elsewhere once one device has displayed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub burn: bool,
    /// How often it is sent to a device that does not answer, where the sender says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend: Option<Resend>,
    /// Whether the app's server is to be told of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub callback: bool,
    /// Its deliveries, in order of device number.
    pub targets: Vec<Target>,
    /// Destinations that led to no registered device.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unresolved: u32,
    /// The conversation that it is part of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// Users that it was addressed to by name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub users: u32,
    /// Those among them that have no device at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unbound: u32,
    /// What was pushed and to whom; `None` once erased.
    #[serde(skip)]
    pub private: Option<MessagePrivate>,
}

/// One delivery of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The device's number.
    pub device: i64,
    /// The user that it was addressed to; none when it was addressed to the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Uuid>,
}

/// The caller's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessagePrivate {
    /// The destinations as they came.
    pub destinations: RawJson,
    /// The payload as it came; of Antelope, what its devices see of it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<RawJson>,
    /// The caller's address, where the app's server is told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

impl MessagePrivate {
    /// Bytes of what the caller wrote.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let payload = self.payload.as_ref().map_or(0, |payload| payload.0.get().len());
        self.destinations.0.get().len() + payload
    }
}

/// About how long a step is where it is stored, in bytes.
pub(crate) const STEP_BYTES: usize = 100;

/// Deliveries of one message went on. What arrived together is one event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveriesAdvanced {
    /// Position of the push.
    pub accepted: i64,
    /// Each step, in the order in which they arrived.
    pub steps: Vec<Step>,
}

/// One step of one delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The device's number.
    pub device: i64,
    /// What happened.
    pub what: Progress,
    /// Who says so.
    pub by: Reporter,
    /// The request that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The push vendor that it is about; none for our own channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Vendor>,
    /// The vendor's own word: its id of the message that it took, or its code of refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
}

impl Step {
    /// A step that this server made over its own channel.
    #[must_use]
    pub fn of_server(device: i64, what: Progress) -> Step {
        Step { device, what, by: Reporter::Server, request: None, vendor: None, word: None }
    }
}

/// What can happen to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// No vendor was a way, for that reason: it goes on over our own channel.
    Failed(Ending),
    /// It was handed to the device's connection, or a vendor took it.
    Sent,
    /// The device has it.
    Received,
    /// The device showed it.
    Displayed,
    /// The user answered it.
    Acknowledged,
    /// It stops trying.
    Ended(Ending),
    /// The device answered a recall.
    Recalled(RecallResult),
}

/// Who says that a delivery went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reporter {
    /// This server.
    Server,
    /// The device, over its connection.
    Socket,
    /// The device, over REST.
    Rest,
}

/// Why a delivery stopped trying: the closed list of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It expired while the device was not connected.
    ExpiredOffline,
    /// It expired after it was sent, and the device never said that it has it.
    ExpiredUnacknowledged,
    /// The device now belongs to another user than the one addressed.
    OwnerChanged,
    /// The device unregistered.
    Unregistered,
    /// It was recalled or replaced before it was sent.
    Recalled,
    /// The device has no token of a vendor that the app is configured for.
    NoBinding,
    /// The device was not connected, and the sender wanted it now or never.
    NotPresent,
    /// The vendor says that the device's token is dead.
    DeadToken,
    /// The user, the device or the vendor does not want it shown now.
    Muted,
    /// It does not fit what the vendor takes, in size or form.
    Unfit,
    /// The vendor's quota is used up.
    QuotaExhausted,
    /// The vendor does not accept the app's credentials or settings.
    Misconfigured,
    /// The vendor could not be reached, or failed, as long as it was tried.
    VendorUnavailable,
    /// It expired before the vendor took it.
    ExpiredUnsent,
    /// It was sent as often as its sender wanted, and the device never said that it has it.
    Unacknowledged,
}

impl Ending {
    /// The stable name: in events, statistics, metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ending::ExpiredOffline => "expired_offline",
            Ending::ExpiredUnacknowledged => "expired_unacknowledged",
            Ending::OwnerChanged => "owner_changed",
            Ending::Unregistered => "unregistered",
            Ending::Recalled => "recalled",
            Ending::NoBinding => "no_binding",
            Ending::NotPresent => "not_present",
            Ending::DeadToken => "dead_token",
            Ending::Muted => "muted",
            Ending::Unfit => "unfit",
            Ending::QuotaExhausted => "quota_exhausted",
            Ending::Misconfigured => "misconfigured",
            Ending::VendorUnavailable => "vendor_unavailable",
            Ending::ExpiredUnsent => "expired_unsent",
            Ending::Unacknowledged => "unacknowledged",
        }
    }
}

/// What became of a recall on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecallResult {
    /// The device was told; it has not answered.
    Requested,
    /// The device never got the message.
    StoppedBeforeSending,
    /// The device took it away before it was displayed.
    ReplacedUnseen,
    /// It was displayed before.
    TooLate,
    /// The message expired before the device answered.
    Unknown,
}

/// What is done to a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecallOp {
    /// It is taken back (UMS state 5).
    Recall,
    /// It is replaced by an empty one (UMS state 6).
    Replace,
}

/// A message was recalled or replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecallRequested {
    /// Position of the push.
    pub accepted: i64,
    /// When the message expires, in µs since the epoch.
    pub expires_at: i64,
    /// What is to be done.
    pub op: RecallOp,
    /// What is known at once, for each device that it concerns.
    pub results: Vec<Recalled>,
}

/// What a recall means for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalled {
    /// The device's number.
    pub device: i64,
    /// What is known.
    pub result: RecallResult,
}

with_private!(MessageAccepted);
crate::event::without_private!(DeliveriesAdvanced, RecallRequested);

/// The furthest that a delivery got.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is durable here.
    #[default]
    Accepted,
    /// A way was chosen.
    Routed,
    /// It was handed over.
    Sent,
    /// The device has it.
    Received,
    /// The device showed it.
    Displayed,
    /// The user answered it.
    Acknowledged,
}

/// One message to one device, as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// The user that it was addressed to.
    pub account: Option<Uuid>,
    /// How far it got.
    pub stage: Stage,
    /// Why it stopped, if it did.
    pub ended: Option<Ending>,
    /// What was done to take it back, and what became of that.
    pub recall: Option<(RecallOp, RecallResult)>,
    /// The furthest stage that the device reported over REST.
    pub reported: Option<Stage>,
    /// The vendor that took it, if one did.
    pub vendor: Option<Vendor>,
    /// Why no vendor was a way, if it goes on over our own channel for that.
    pub failed: Option<Ending>,
}

impl Delivery {
    /// Whether it still wants to be sent: the device does not have it, and nothing ended it.
    #[must_use]
    pub fn open(&self) -> bool {
        self.stage < Stage::Received && self.ended.is_none() && self.recall.is_none()
    }

    /// Whether a vendor may still be asked to take it.
    #[must_use]
    pub fn wants_vendor(&self) -> bool {
        self.open() && self.vendor.is_none() && self.failed.is_none()
    }

    /// Whether a recall waits for the device's answer.
    #[must_use]
    pub fn recalling(&self) -> bool {
        matches!(self.recall, Some((_, RecallResult::Requested)))
    }

    /// The delivery after one step.
    pub fn advance(&mut self, step: &Step) {
        let stage = match step.what {
            Progress::Failed(reason) => {
                self.failed.get_or_insert(reason);
                Stage::Routed
            }
            Progress::Sent => {
                self.vendor = self.vendor.or(step.vendor);
                Stage::Sent
            }
            Progress::Received => Stage::Received,
            Progress::Displayed => Stage::Displayed,
            Progress::Acknowledged => Stage::Acknowledged,
            Progress::Ended(reason) => {
                self.ended.get_or_insert(reason);
                return;
            }
            Progress::Recalled(result) => {
                self.recall = self.recall.map(|(op, _)| (op, result));
                return;
            }
        };
        self.stage = self.stage.max(stage);
        if step.by == Reporter::Rest {
            self.reported = self.reported.max(Some(stage));
        }
        if let Some((op, RecallResult::Requested)) = self.recall
            && self.stage >= Stage::Displayed
        {
            self.recall = Some((op, RecallResult::TooLate));
        }
    }

    /// The delivery after a recall.
    pub fn recall(&mut self, op: RecallOp, result: RecallResult) {
        self.recall = Some((op, result));
        if result == RecallResult::StoppedBeforeSending {
            self.ended.get_or_insert(Ending::Recalled);
        } else if self.ended == Some(Ending::Recalled) {
            self.ended = None;
        }
    }
}

/// A message as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The app it belongs to.
    pub app: String,
    /// Position of the push.
    pub position: i64,
    /// Version of its stream.
    pub version: i64,
    /// Who sent it.
    pub sender: Sender,
    /// How it wants to travel.
    pub strategy: Strategy,
    /// When it was accepted, in µs since the epoch.
    pub accepted_at: i64,
    /// When it was first handed over, in µs since the epoch.
    pub pushed_at: Option<i64>,
    /// When it expires, in µs since the epoch.
    pub expires_at: i64,
    /// Whether it burns after display.
    pub burn: bool,
    /// How often it is sent to a device that does not answer, where the sender says so.
    pub resend: Option<Resend>,
    /// The conversation that it is part of, if it is of one.
    pub chat: Option<Chat>,
    /// Whether it was recalled or replaced, on some device or as a whole.
    pub withdrawn: bool,
    /// Its deliveries by device number.
    pub deliveries: BTreeMap<i64, Delivery>,
}

impl Message {
    /// The message after one more event of its stream.
    #[must_use]
    pub fn evolve(before: Option<Message>, place: Place<'_>, event: &Event) -> Option<Message> {
        let Place { version, recorded_at, .. } = place;
        match event {
            Event::MessageAccepted(e) => Some(Message {
                app: place.app.to_owned(),
                position: place.position,
                version,
                sender: e.sender,
                strategy: e.strategy,
                accepted_at: recorded_at,
                pushed_at: None,
                expires_at: e.expires_at,
                burn: e.burn,
                resend: e.resend,
                chat: e.chat,
                withdrawn: false,
                deliveries: e.targets.iter().map(|t| (t.device, t.delivery())).collect(),
            }),
            Event::DeliveriesAdvanced(e) => before.map(|mut message| {
                message.version = version;
                for step in &e.steps {
                    let Some(delivery) = message.deliveries.get_mut(&step.device) else { continue };
                    delivery.advance(step);
                    // A device's report may overtake the server's own word that it was sent.
                    if delivery.stage >= Stage::Sent {
                        message.pushed_at.get_or_insert(recorded_at);
                    }
                }
                message
            }),
            Event::RecallRequested(e) => before.map(|mut message| {
                message.version = version;
                message.withdrawn = true;
                for recalled in &e.results {
                    if let Some(delivery) = message.deliveries.get_mut(&recalled.device) {
                        delivery.recall(e.op, recalled.result);
                    }
                }
                message
            }),
            Event::AppCreated(_)
            | Event::AppChanged(_)
            | Event::AppDeleted(_)
            | Event::AccountOpened(_)
            | Event::AccountLinked(_)
            | Event::AccountClosed(_)
            | Event::DeviceLinked(_)
            | Event::MessageFiltered(_)
            | Event::LabelCreated(_)
            | Event::LabelDeleted(_)
            | Event::LabelMembersChanged(_)
            | Event::DeviceBound(_)
            | Event::DeviceAdmitted(_)
            | Event::TokenDied(_)
            | Event::DeviceRegistered(_)
            | Event::DeviceUpdated(_)
            | Event::DeviceUnregistered(_)
            | Event::DeviceReturned(_)
            | Event::OwnerSet(_)
            | Event::PresenceChanged(_)
            | Event::UplinkReceived(_)
            | Event::CallbacksCalled(_)
            | Event::CallbacksReplayed(_)
            | Event::SubjectErased(_)
            | Event::OwnerRemoved(_)
            | Event::TaskCreated(_)
            | Event::TaskStarted(_)
            | Event::ChunkDelivered(_)
            | Event::TaskEnded(_) => before,
        }
    }
}

impl Target {
    /// The delivery as it begins.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        Delivery { account: self.account, ..Delivery::default() }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A payload that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}
