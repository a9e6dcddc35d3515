//! Everything that can go wrong, and the one table that turns it into an `ErrorCode`, which is the
//! protocol's error channel: the HTTP status is always 200. The codes are those of its documents
//! "REST API 简介" (on the REST API) and "错误码" (error codes).

use domain::{Rejection, chat};
use projections::Fault;

use super::interface::Interface;
use crate::{
    apps::InputError,
    callback::tencent::{FILTERED, FILTERED_INFO},
    ledger::Refused,
    secrets::SecretError,
    tencent::BadSig,
};

/// Why a call is not answered with success.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is no `POST`.
    #[error("only POST is answered")]
    NoPost,
    /// No call has that path.
    #[error("no such service or command")]
    NoPath,
    /// The query names no app.
    #[error("sdkappid is missing")]
    NoApp,
    /// What it names is no app's id.
    #[error("sdkappid must be a number")]
    BadApp,
    /// No app has that id.
    #[error("no app has this sdkappid")]
    UnknownApp,
    /// The query names no account.
    #[error("identifier is missing")]
    NoIdentifier,
    /// The signature does not prove who calls.
    #[error(transparent)]
    Sig(BadSig),
    /// Who calls is not the app's own account.
    #[error("only the app's own account may call this")]
    NotAdmin,
    /// The whole body is too long.
    #[error("the body is too long")]
    LongBody,
    /// The body is no JSON object.
    #[error("Fail to Parse json data of body, Please check it")]
    NotJson,
    /// A field without a code of its own is of another type.
    #[error("{0} is not of its format")]
    Field(&'static str),
    /// The name of an account to import, or another field of it, is wrong.
    #[error("{0}")]
    Account(String),
    /// `To_Account` is missing or of another type.
    #[error("invalid To_Account")]
    To,
    /// So many accounts are too many.
    #[error("To_Account has at most {0} accounts")]
    ManyTo(usize),
    /// `From_Account` is of another type, or no account.
    #[error("invalid From_Account")]
    From,
    /// `MsgRandom` is missing or no number of 32 bits.
    #[error("MsgRandom must be a 32-bit number")]
    Random,
    /// `MsgTimeStamp` is no number.
    #[error("MsgTimeStamp must be a number")]
    TimeStamp,
    /// `MsgBody` is wrong.
    #[error(transparent)]
    Elements(chat::elements::Malformed),
    /// `MsgBody` is too long.
    #[error("MsgBody has at most {0} bytes")]
    Long(usize),
    /// `MsgLifeTime` is no number.
    #[error("MsgLifeTime must be a number")]
    LifeTime,
    /// `MsgLifeTime` is too large.
    #[error("MsgLifeTime is at most {0}")]
    LongLife(u64),
    /// `SyncOtherMachine` is neither 1 nor 2.
    #[error("SyncOtherMachine must be 1 or 2")]
    Sync,
    /// `OfflinePushInfo` is wrong.
    #[error("OfflinePushInfo is not of its format")]
    Push,
    /// `MsgKey` is none.
    #[error("invalid MsgKey")]
    Key,
    /// No account has that name.
    #[error("no such account")]
    NoAccount,
    /// The app's list of words stopped the message.
    #[error("{FILTERED_INFO}")]
    Filtered,
    /// The app's server refused the message.
    #[error("refused by the app's server")]
    Refusal,
    /// The app's server refused the message with a code and words of its own.
    #[error("{1}")]
    OwnRefusal(u32, String),
    /// The app's server, asked whether a message may be sent, did not answer.
    #[error("the app's server did not answer")]
    Unanswered,
    /// The ledger refuses it.
    #[error(transparent)]
    Refused(Refused),
    /// Too much waits for something; later may work.
    #[error("too much is waiting")]
    Busy,
    /// Something broke.
    #[error(transparent)]
    Fault(Fault),
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Problem::Refused(refused)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Detached { .. } => Problem::Refused(fault.into()),
            fault => Problem::Fault(fault),
        }
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        Problem::Fault(Fault::stored("app", error))
    }
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        match error {
            InputError::Bad(how) => Problem::Account(how),
            InputError::Secret(error) => error.into(),
        }
    }
}

impl Problem {
    /// Whether it is a refusal of who calls.
    #[must_use]
    pub fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Problem::UnknownApp | Problem::NoIdentifier | Problem::Sig(_) | Problem::NotAdmin
        )
    }

    /// The code that it is answered with, by a call or by none.
    #[must_use]
    pub fn code(&self, interface: Option<Interface>) -> u32 {
        use chat::elements::Malformed;
        let of_accounts = interface.is_some_and(Interface::of_accounts);
        match self {
            Problem::NoPost => 60_002,
            Problem::NotJson if of_accounts => 60_003,
            Problem::NoIdentifier => 60_004,
            Problem::BadApp => 60_006,
            Problem::NoPath => 60_009,
            Problem::NoApp => 60_012,
            Problem::Sig(BadSig::Expired) => 70_001,
            Problem::Sig(BadSig::Empty) => 70_002,
            Problem::Sig(BadSig::Garbage) => 70_003,
            Problem::Sig(BadSig::OtherKey) => 70_009,
            Problem::Sig(BadSig::OtherAccount) => 70_013,
            Problem::Sig(BadSig::OtherApp) => 70_014,
            Problem::UnknownApp => 70_020,
            Problem::Account(_) => 70_402,
            Problem::Field(_) if of_accounts => 70_402,
            Problem::NotAdmin if of_accounts => 70_403,
            Problem::Filtered => FILTERED,
            Problem::LongBody => 80_002,
            Problem::Unanswered => 80_003,
            Problem::Refusal => 20_006,
            Problem::OwnRefusal(code, _) => *code,
            Problem::NotJson | Problem::Field(_) => 90_001,
            Problem::Elements(Malformed::Content) => 90_002,
            Problem::To => 90_003,
            Problem::Random => 90_005,
            Problem::TimeStamp => 90_006,
            Problem::Elements(Malformed::NotAList) => 90_007,
            Problem::From => 90_008,
            Problem::NotAdmin => 90_009,
            Problem::Elements(Malformed::NotAnElement) => 90_010,
            Problem::ManyTo(_) => 90_011,
            Problem::LongLife(_) => 90_026,
            Problem::Sync => 90_031,
            Problem::Push => 90_043,
            Problem::LifeTime => 90_044,
            Problem::NoAccount => 90_048,
            Problem::Key => 90_054,
            Problem::Long(_) => 93_000,
            Problem::Refused(Refused::Rejected(rejection)) => rejected(rejection),
            Problem::Refused(
                Refused::Overloaded | Refused::NoRoom | Refused::Closing | Refused::Fault(_),
            )
            | Problem::Busy
            | Problem::Fault(_) => 91_000,
        }
    }

    /// What is wrong, for people: of what broke here, no more than that.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Problem::Fault(_) | Problem::Refused(Refused::Fault(_)) => "internal error".to_owned(),
            Problem::Refused(Refused::Rejected(Rejection::UnknownUser(_))) => {
                "invalid To_Account".to_owned()
            }
            Problem::Refused(Refused::Rejected(Rejection::IllegalUser)) => {
                "invalid From_Account".to_owned()
            }
            problem => problem.to_string(),
        }
    }

    /// Whether it is ours to mend.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Problem::Fault(_) | Problem::Refused(Refused::Fault(_)))
    }
}

fn rejected(rejection: &Rejection) -> u32 {
    match rejection {
        // The app was deleted a moment ago.
        Rejection::UnknownApp => 70_020,
        Rejection::IllegalUser => 90_008,
        Rejection::UnknownUser(_) => 90_012,
        Rejection::UnknownMessage | Rejection::Detached => 20_022,
        Rejection::NothingToRecall => 20_023,
        Rejection::TooManyDeliveries { .. } => 93_000,
        Rejection::AppTaken(_)
        | Rejection::AddressTaken(_)
        | Rejection::VersionMoved { .. }
        | Rejection::UnknownPackage
        | Rejection::UnsupportedChannel
        | Rejection::NotRegistered
        | Rejection::UserTaken(_)
        | Rejection::TooManyBindings { .. }
        | Rejection::UnknownLabel(_)
        | Rejection::LabelTaken(_)
        | Rejection::TooManyLabels { .. }
        | Rejection::LabelFull { .. }
        | Rejection::NobodyRegistered
        | Rejection::NoOwner
        | Rejection::WrongBindKey
        | Rejection::ReportedBefore
        | Rejection::UnknownTask
        | Rejection::TaskOver
        | Rejection::TooManyTasks { .. }
        | Rejection::KeyReused { .. } => 90_992,
    }
}
