//! Return codes of Haier UMS V2, and the one table that turns every problem into one of them. A
//! call answers only codes that its own list has (and the gateway's, which precede every list);
//! where a list lacks the exact code, `B00004` (breaks a parameter rule) stands in, which all have.

use domain::Rejection;

use crate::ledger::Refused;

macro_rules! codes {
    ($($variant:ident $code:literal $info:literal,)*) => {
        /// A return code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $(#[doc = $info] $variant,)* }

        impl Code {
            /// Every code with its meaning, for documents.
            pub const ALL: &'static [(&'static str, &'static str)] = &[$(($code, $info)),*];

            /// `retCode`.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Code::$variant => $code),* }
            }

            /// `retInfo`.
            #[must_use]
            pub fn info(self) -> &'static str {
                match self { $(Code::$variant => $info),* }
            }
        }
    };
}

codes! {
    Success "00000" "success",
    Unavailable "A00001" "service unavailable, try again later",
    Internal "A00004" "internal error",
    Missing "B00001" "required parameter missing",
    WrongType "B00002" "wrong parameter type",
    OutOfRange "B00003" "parameter value out of range",
    Rule "B00004" "parameter breaks a rule",
    WrongLength "B00006" "wrong parameter length",
    WrongInterface "B00007" "request does not match the interface",
    AppRefused "C00001" "unknown appId",
    NotAuthorised "C00002" "no such interface",
    Duplicate "C00005" "duplicate request",
    UnknownDeviceType "C00006" "unknown device type",
    BadSign "D00001" "wrong sign",
    UnknownToken "D00003" "unknown accessToken",
    ExpiredToken "D00004" "accessToken expired",
    ForeignToken "D00005" "accessToken of another app or client",
    IllegalUser "D00008" "illegal user",
    UnsupportedChannel "H32004" "third-party channel not supported",
    UnsupportedPackage "H32005" "app package not supported",
    NotRegistered "H32006" "device not registered",
    NoSuchMessage "H32007" "message does not exist",
    IllegalTransition "H32008" "status was reported before",
    WrongBindKey "H32009" "encryptedData check failed",
    NoOwner "H32010" "owner of the device not found",
    NobodyRegistered "H32011" "no user with a registered channel",
}

/// The interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// `/ums/v2/register`
    Register,
    /// `/ums/v2/unreg`
    Unregister,
    /// `/ums/v2/devlist`
    Devices,
    /// `/ums/v2/msgPush`
    Push,
    /// `/ums/v2/msgPushtry`
    PushTry,
    /// `/ums/v2/getmsgstat`
    Status,
    /// `/ums/v2/report`
    Report,
    /// `/ums/v2/msgPushToHost`
    PushToHost,
    /// `/umse/v2/devlist`
    CloudDevices,
    /// `/umse/v2/msgPush`
    CloudPush,
    /// `/umse/v2/msgPushtry`
    CloudPushTry,
    /// `/umse/v2/getmsgstat`
    CloudStatus,
}

impl Code {
    /// Whether it says that nobody knows the caller, or that the caller may not do that.
    #[must_use]
    pub fn is_of_caller(self) -> bool {
        match self {
            Code::AppRefused
            | Code::BadSign
            | Code::UnknownToken
            | Code::ExpiredToken
            | Code::ForeignToken
            | Code::IllegalUser
            | Code::WrongBindKey => true,
            Code::Success
            | Code::Unavailable
            | Code::Internal
            | Code::Missing
            | Code::WrongType
            | Code::OutOfRange
            | Code::Rule
            | Code::WrongLength
            | Code::WrongInterface
            | Code::NotAuthorised
            | Code::Duplicate
            | Code::UnknownDeviceType
            | Code::UnsupportedChannel
            | Code::UnsupportedPackage
            | Code::NotRegistered
            | Code::NoSuchMessage
            | Code::IllegalTransition
            | Code::NoOwner
            | Code::NobodyRegistered => false,
        }
    }
}

impl Interface {
    /// All of them.
    pub const ALL: [Interface; 12] = [
        Interface::Register,
        Interface::Unregister,
        Interface::Devices,
        Interface::Push,
        Interface::PushTry,
        Interface::Status,
        Interface::Report,
        Interface::PushToHost,
        Interface::CloudDevices,
        Interface::CloudPush,
        Interface::CloudPushTry,
        Interface::CloudStatus,
    ];

    /// Its path, which the sign covers.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Interface::Register => "/ums/v2/register",
            Interface::Unregister => "/ums/v2/unreg",
            Interface::Devices => "/ums/v2/devlist",
            Interface::Push => "/ums/v2/msgPush",
            Interface::PushTry => "/ums/v2/msgPushtry",
            Interface::Status => "/ums/v2/getmsgstat",
            Interface::Report => "/ums/v2/report",
            Interface::PushToHost => "/ums/v2/msgPushToHost",
            Interface::CloudDevices => "/umse/v2/devlist",
            Interface::CloudPush => "/umse/v2/msgPush",
            Interface::CloudPushTry => "/umse/v2/msgPushtry",
            Interface::CloudStatus => "/umse/v2/getmsgstat",
        }
    }

    /// Whether clouds call it, rather than terminals.
    #[must_use]
    pub fn of_cloud(self) -> bool {
        match self {
            Interface::CloudDevices
            | Interface::CloudPush
            | Interface::CloudPushTry
            | Interface::CloudStatus => true,
            Interface::Register
            | Interface::Unregister
            | Interface::Devices
            | Interface::Push
            | Interface::PushTry
            | Interface::Status
            | Interface::Report
            | Interface::PushToHost => false,
        }
    }

    /// The codes that its document lists.
    #[must_use]
    pub fn listed(self) -> &'static [Code] {
        use Code::{
            IllegalTransition, IllegalUser, Internal, Missing, NoOwner, NoSuchMessage,
            NobodyRegistered, NotRegistered, OutOfRange, Rule, UnknownDeviceType,
            UnsupportedChannel, UnsupportedPackage, WrongBindKey, WrongLength, WrongType,
        };
        match self {
            // The document says 00004, by which it can only mean B00004.
            Interface::Register => &[
                Missing,
                Rule,
                IllegalUser,
                UnsupportedChannel,
                UnsupportedPackage,
                UnknownDeviceType,
            ],
            Interface::Unregister => {
                &[Missing, UnsupportedPackage, Rule, Internal, IllegalUser, NotRegistered]
            }
            Interface::Devices => &[Rule, Internal],
            Interface::Push | Interface::CloudPush => &[
                Missing,
                WrongLength,
                Rule,
                IllegalUser,
                NotRegistered,
                Internal,
                WrongType,
                OutOfRange,
            ],
            Interface::PushTry => &[
                Missing,
                WrongLength,
                Rule,
                IllegalUser,
                Internal,
                NobodyRegistered,
                OutOfRange,
                WrongType,
            ],
            Interface::CloudPushTry => {
                &[Missing, WrongLength, Rule, Internal, OutOfRange, WrongType]
            }
            Interface::Status | Interface::CloudStatus => &[Missing, Rule, NoSuchMessage],
            Interface::Report => &[
                Missing,
                UnsupportedPackage,
                Rule,
                Internal,
                IllegalUser,
                NoSuchMessage,
                IllegalTransition,
            ],
            Interface::PushToHost => {
                &[Missing, WrongLength, Rule, WrongBindKey, NoOwner, Internal, NobodyRegistered]
            }
            Interface::CloudDevices => &[Missing, Rule, Internal],
        }
    }
}

/// What can be wrong with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It is not there, empty or null.
    Missing,
    /// It has another type.
    WrongType,
    /// Its value is not one of those allowed.
    OutOfRange,
    /// It breaks a rule, such as agreeing with a header; or the body is no JSON object.
    Rule,
    /// It is too long, or has too many items.
    WrongLength,
    /// `deviceType` is not one of 01 to 08.
    UnknownDeviceType,
}

/// Why a call is not answered with success.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The gateway refuses it before the call is looked at.
    #[error("{}", .0.info())]
    Gateway(Code),
    /// A parameter is wrong.
    #[error("a parameter is wrong: {0:?}")]
    Input(Input),
    /// The ledger refuses it.
    #[error(transparent)]
    Refused(Refused),
    /// Something broke while reading.
    #[error(transparent)]
    Fault(projections::Fault),
}

impl From<Input> for Problem {
    fn from(input: Input) -> Self {
        Problem::Input(input)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Problem::Refused(refused)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Problem::Refused(rejection.into())
    }
}

impl From<projections::Fault> for Problem {
    fn from(fault: projections::Fault) -> Self {
        match fault {
            projections::Fault::Detached { .. } => Problem::Refused(fault.into()),
            fault => Problem::Fault(fault),
        }
    }
}

/// The code that an interface answers a problem with.
#[must_use]
pub fn code(interface: Interface, problem: &Problem) -> Code {
    let exact = match problem {
        Problem::Gateway(code) => return *code,
        Problem::Input(input) => match input {
            Input::Missing => Code::Missing,
            Input::WrongType => Code::WrongType,
            Input::OutOfRange => Code::OutOfRange,
            Input::Rule => Code::Rule,
            Input::WrongLength => Code::WrongLength,
            Input::UnknownDeviceType => Code::UnknownDeviceType,
        },
        Problem::Refused(Refused::Rejected(rejection)) => match rejection {
            Rejection::UnknownApp => return Code::AppRefused,
            Rejection::KeyReused { .. } => return Code::Duplicate,
            Rejection::UnknownPackage => Code::UnsupportedPackage,
            Rejection::UnsupportedChannel => Code::UnsupportedChannel,
            Rejection::NotRegistered => Code::NotRegistered,
            Rejection::IllegalUser => Code::IllegalUser,
            // Where a strict push has no code for nobody, nobody is registered.
            Rejection::NobodyRegistered => match interface {
                Interface::Push | Interface::CloudPush => Code::NotRegistered,
                _ => Code::NobodyRegistered,
            },
            Rejection::TooManyDeliveries { .. } => Code::WrongLength,
            Rejection::NoOwner => Code::NoOwner,
            Rejection::WrongBindKey => Code::WrongBindKey,
            Rejection::UnknownMessage | Rejection::Detached => Code::NoSuchMessage,
            Rejection::ReportedBefore => Code::IllegalTransition,
            Rejection::NothingToRecall
            | Rejection::AppTaken(_)
            | Rejection::VersionMoved { .. }
            | Rejection::UnknownUser(_)
            | Rejection::UserTaken(_)
            | Rejection::AddressTaken(_)
            | Rejection::TooManyBindings { .. }
            | Rejection::UnknownLabel(_)
            | Rejection::LabelTaken(_)
            | Rejection::TooManyLabels { .. }
            | Rejection::UnknownTask
            | Rejection::TaskOver
            | Rejection::TooManyTasks { .. }
            | Rejection::LabelFull { .. } => Code::Rule,
        },
        Problem::Refused(Refused::Overloaded | Refused::NoRoom | Refused::Closing) => {
            return Code::Unavailable;
        }
        Problem::Refused(Refused::Fault(_)) | Problem::Fault(_) => return Code::Internal,
    };
    if interface.listed().contains(&exact) { exact } else { Code::Rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_can_answer_the_stand_in() {
        assert!(Interface::ALL.iter().all(|interface| interface.listed().contains(&Code::Rule)));
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = Code::ALL.iter().map(|(code, _)| code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Code::ALL.len());
    }
}
