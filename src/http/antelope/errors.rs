//! Everything that can go wrong, and the one table that turns it into an HTTP status, which is the
//! protocol's error channel. Its documents show no body of an error: ours is JSON with `request_id`,
//! as every answer's, and `error` for people.

use axum::http::{Method, StatusCode};
use domain::{Rejection, message::MessageId};
use projections::Fault;

use crate::{apps::InputError, ledger::Refused, secrets::SecretError};

/// Why a call is not answered with success.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No call has that path.
    #[error("no such path")]
    NoPath,
    /// The path has these methods.
    #[error("no such method")]
    NoMethod(Vec<Method>),
    /// A parameter is missing or wrong: which, and how.
    #[error("{0}")]
    Illegal(String),
    /// The caller has not proved who it is, or one of the devices it names.
    #[error("{0}")]
    Denied(&'static str),
    /// A device is not the caller's.
    #[error("a cid is not of this app")]
    NotYours,
    /// A page is larger than pages may be.
    #[error("size is at most {0}")]
    PageTooLarge(u32),
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
            InputError::Bad(how) => Problem::Illegal(how),
            InputError::Secret(error) => error.into(),
        }
    }
}

/// A parameter is missing or wrong.
pub fn illegal(how: impl ToString) -> Problem {
    Problem::Illegal(how.to_string())
}

impl Problem {
    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Problem::NoPath => StatusCode::NOT_FOUND,
            Problem::NoMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Problem::Illegal(_) => StatusCode::BAD_REQUEST,
            Problem::Denied(_) => StatusCode::UNAUTHORIZED,
            Problem::NotYours => StatusCode::FORBIDDEN,
            Problem::PageTooLarge(_) => StatusCode::NOT_ACCEPTABLE,
            Problem::Refused(Refused::Rejected(rejection)) => rejected(rejection),
            Problem::Refused(
                Refused::Overloaded | Refused::NoRoom | Refused::Closing | Refused::Fault(_),
            )
            | Problem::Busy
            | Problem::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What is wrong, for people: of what broke here, no more than that.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Problem::Fault(_) | Problem::Refused(Refused::Fault(_)) => "internal error".to_owned(),
            Problem::Refused(Refused::Rejected(Rejection::KeyReused { position, .. })) => {
                format!("this Idempotency-Key belongs to another request, at position {position}")
            }
            problem => problem.to_string(),
        }
    }

    /// The message that an earlier request with the same id made.
    #[must_use]
    pub fn message(&self) -> Option<MessageId> {
        match self {
            Problem::Refused(Refused::Rejected(Rejection::KeyReused { message, .. })) => *message,
            _ => None,
        }
    }
}

fn rejected(rejection: &Rejection) -> StatusCode {
    match rejection {
        // The app was deleted a moment ago.
        Rejection::UnknownApp => StatusCode::UNAUTHORIZED,
        // Somebody else changes the app again and again.
        Rejection::VersionMoved { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Rejection::AppTaken(_)
        | Rejection::UnknownPackage
        | Rejection::UnsupportedChannel
        | Rejection::NotRegistered
        | Rejection::IllegalUser
        | Rejection::UnknownUser(_)
        | Rejection::UserTaken(_)
        | Rejection::AddressTaken(_)
        | Rejection::TooManyBindings { .. }
        | Rejection::UnknownLabel(_)
        | Rejection::LabelTaken(_)
        | Rejection::TooManyLabels { .. }
        | Rejection::LabelFull { .. }
        | Rejection::NobodyRegistered
        | Rejection::TooManyDeliveries { .. }
        | Rejection::NoOwner
        | Rejection::WrongBindKey
        | Rejection::UnknownMessage
        | Rejection::ReportedBefore
        | Rejection::NothingToRecall
        | Rejection::UnknownTask
        | Rejection::TaskOver
        | Rejection::TooManyTasks { .. }
        | Rejection::KeyReused { .. }
        | Rejection::Detached => StatusCode::BAD_REQUEST,
    }
}
