//! The closed lists of the domain as GraphQL says them. Where a protocol has a number for one, that
//! stands beside it in the type that shows it.

use async_graphql::Enum;
use domain::{
    message::{Ending, Protocol, RecallOp, RecallResult, Reporter, Stage},
    route::Strategy,
    task::state::Way,
    vendor::Vendor,
};
use projections::task_statistics::TaskState;

/// The protocol that something came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Protocol")]
pub(crate) enum ProtocolName {
    /// Haier UMS V2.
    Ums,
    /// Easemob push.
    Easemob,
    /// Antelope custom messages.
    Antelope,
    /// Tencent IM.
    Tencent,
}

/// A push vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Vendor")]
pub(crate) enum VendorName {
    /// JPush (Jiguang).
    Jpush,
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple Push Notification service.
    Apns,
    /// Huawei Push Kit.
    Huawei,
}

/// A way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum Channel {
    /// Our own WebSocket.
    Online,
    /// JPush (Jiguang).
    Jpush,
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple Push Notification service.
    Apns,
    /// Huawei Push Kit.
    Huawei,
}

impl From<Channel> for Way {
    fn from(channel: Channel) -> Way {
        match channel {
            Channel::Online => Way::Online,
            Channel::Jpush => Way::Vendor(Vendor::Jpush),
            Channel::Fcm => Way::Vendor(Vendor::Fcm),
            Channel::Apns => Way::Vendor(Vendor::Apns),
            Channel::Huawei => Way::Vendor(Vendor::Huawei),
        }
    }
}

impl Channel {
    /// The channel of a way; none as long as there is none.
    pub(crate) fn of(way: Way) -> Option<Channel> {
        match way {
            Way::Undecided => None,
            Way::Online => Some(Channel::Online),
            Way::Vendor(Vendor::Jpush) => Some(Channel::Jpush),
            Way::Vendor(Vendor::Fcm) => Some(Channel::Fcm),
            Way::Vendor(Vendor::Apns) => Some(Channel::Apns),
            Way::Vendor(Vendor::Huawei) => Some(Channel::Huawei),
        }
    }
}

/// How a push wants to travel. Easemob has numbers for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Strategy")]
pub(crate) enum StrategyName {
    /// To the vendor; if that fails, over our own channel, where it is kept (0).
    VendorElseOnline,
    /// Over our own channel alone, and kept for a device that is away (1).
    OnlineElseKept,
    /// To the vendor alone (2).
    VendorOnly,
    /// Over our own channel to a device that is here, else to the vendor, else kept (3).
    OnlineElseVendor,
    /// Over our own channel, to a device that is here, and never kept (4).
    PresentOnly,
}

/// The furthest that a delivery got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Stage")]
pub(crate) enum DeliveryStage {
    /// It is durable.
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

/// All stages, in order.
pub(crate) const STAGES: [Stage; 6] = [
    Stage::Accepted,
    Stage::Routed,
    Stage::Sent,
    Stage::Received,
    Stage::Displayed,
    Stage::Acknowledged,
];

/// Why a delivery stopped trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Ending")]
pub(crate) enum DeliveryEnding {
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

/// A reason in words, after "because".
pub(crate) fn because(reason: Ending) -> &'static str {
    match reason {
        Ending::ExpiredOffline => "it expired while the device was not connected",
        Ending::ExpiredUnacknowledged => "it expired and the device never said that it has it",
        Ending::OwnerChanged => "the device now belongs to another user",
        Ending::Unregistered => "the device unregistered",
        Ending::Recalled => "it was recalled or replaced before it was sent",
        Ending::NoBinding => "the device has no token of a vendor that the app is configured for",
        Ending::NotPresent => "the device was not connected and it was wanted now or never",
        Ending::DeadToken => "the vendor says that the device's token is dead",
        Ending::Muted => "the user, the device or the vendor does not want it shown now",
        Ending::Unfit => "it does not fit what the vendor takes",
        Ending::QuotaExhausted => "the vendor's quota is used up",
        Ending::Misconfigured => "the vendor does not accept the app's credentials or settings",
        Ending::VendorUnavailable => "the vendor could not be reached, or failed",
        Ending::ExpiredUnsent => "it expired before the vendor took it",
        Ending::Unacknowledged => "it was sent often enough and the device never answered",
    }
}

/// What is done to a message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "RecallOp")]
pub(crate) enum RecallKind {
    /// It is taken back (UMS 5).
    Recall,
    /// It is replaced by an empty one (UMS 6).
    Replace,
}

/// What became of a recall on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "RecallResult")]
pub(crate) enum RecallOutcome {
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

/// Who says that something became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "Reporter")]
pub(crate) enum Witness {
    /// This server.
    Server,
    /// The device, over its connection.
    Socket,
    /// The device, over REST.
    Rest,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(remote = "TaskState")]
pub(crate) enum TaskStanding {
    /// It waits for its time, or for its turn.
    Waiting,
    /// Its devices have their turn.
    Running,
    /// All had their turn.
    Finished,
    /// It was cancelled.
    Cancelled,
}
