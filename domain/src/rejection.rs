//! Why a command is refused. A rejection is an answer, not a fault: it is never stored, and each
//! protocol has one table that turns it into its own code.

use crate::message::MessageId;

/// The closed list of refusals.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The app id, or a protocol id of the app, belongs to another app.
    #[error("{0} is taken by another app")]
    AppTaken(String),
    /// No such app.
    #[error("no such app")]
    UnknownApp,
    /// `If-Match` named another version than the current one.
    #[error("the app is at version {current}")]
    VersionMoved {
        /// The version it has now.
        current: i64,
    },
    /// The app package is neither configured nor registered by any device.
    #[error("unknown app package")]
    UnknownPackage,
    /// The device type has no such third-party channel.
    #[error("this device type has no such channel")]
    UnsupportedChannel,
    /// The device never registered, or unregistered.
    #[error("the device is not registered")]
    NotRegistered,
    /// The caller is not the user that this call is about.
    #[error("the user may not do this")]
    IllegalUser,
    /// No Easemob user has that name.
    #[error("no user is named {0}")]
    UnknownUser(String),
    /// An Easemob user has that name.
    #[error("a user is named {0} already")]
    UserTaken(String),
    /// The address is another's, or who is to have it has another one.
    #[error("{0} is taken, or another is in its place")]
    AddressTaken(String),
    /// A device may be bound under so many certificate names.
    #[error("a device has at most {limit} bindings")]
    TooManyBindings {
        /// Bindings of one device.
        limit: usize,
    },
    /// No label has that name.
    #[error("no label is named {0}")]
    UnknownLabel(String),
    /// A label has that name.
    #[error("a label is named {0} already")]
    LabelTaken(String),
    /// The app has all the labels that it may have.
    #[error("an app has at most {limit} labels")]
    TooManyLabels {
        /// Labels of one app.
        limit: i64,
    },
    /// The label has all the users that it may have.
    #[error("a label has at most {limit} users")]
    LabelFull {
        /// Users of one label.
        limit: i64,
    },
    /// No destination led to a registered device.
    #[error("no destination has a registered device")]
    NobodyRegistered,
    /// The push reaches more devices than one message may name.
    #[error("the push reaches {reached} devices, more than {limit}")]
    TooManyDeliveries {
        /// Devices reached.
        reached: usize,
        /// Devices that one message may name.
        limit: usize,
    },
    /// Nobody owns that device.
    #[error("the device has no owner")]
    NoOwner,
    /// The bind key is not the one that the owner set.
    #[error("the bind key does not fit")]
    WrongBindKey,
    /// No such message, or none of the caller's business.
    #[error("no such message")]
    UnknownMessage,
    /// The device reported this stage, or a later one, before.
    #[error("that status was reported before")]
    ReportedBefore,
    /// Every delivery was recalled or replaced before, or there is none.
    #[error("nothing is left to recall")]
    NothingToRecall,
    /// No such task.
    #[error("no such task")]
    UnknownTask,
    /// The task ended before.
    #[error("the task has ended")]
    TaskOver,
    /// The app has all the tasks that it may have now.
    #[error("an app has at most {limit} tasks {}", if *recent { "within five minutes" } else { "under way" })]
    TooManyTasks {
        /// Tasks of one app.
        limit: u32,
        /// Whether it is about those created of late, not those under way.
        recent: bool,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key belongs to another request, at position {position}")]
    KeyReused {
        /// The first event of that request.
        position: i64,
        /// The message that it created, if it was a push.
        message: Option<MessageId>,
    },
    /// What it is about is over, and its events were moved out of the ledger.
    #[error("the events that this is about are detached, in an export")]
    Detached,
}
