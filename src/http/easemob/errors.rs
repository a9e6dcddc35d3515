//! Everything that can go wrong, and the one table that turns it into Easemob's answer: a status
//! and five names in JSON. `error` is what the documents tell callers to branch on; where a
//! document names a class (`LimitException`), that name is in `error` and in `exception`.

use axum::http::{Method, StatusCode};
use domain::Rejection;
use projections::Fault;

use super::interface::{Family, Interface};
use crate::{access::Denied as AccessDenied, easemob::passwords::PasswordError, ledger::Refused};

/// How long a caller that finds the queue full should wait, in seconds.
const BUSY_SECONDS: u32 = 1;

/// Why a call is not answered with success.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No app has that organization and name; the path from there on.
    #[error("no such app")]
    NoApp(String),
    /// No call has that path.
    #[error("no such path")]
    NoPath,
    /// The path has these methods.
    #[error("no such method")]
    NoMethod(Vec<Method>),
    /// The body is longer than the limit.
    #[error("the body is too long")]
    TooLong,
    /// The body is no JSON of the right kind.
    #[error("the body is no JSON object")]
    NotJson,
    /// A parameter is wrong: which, and how.
    #[error("{0}")]
    Illegal(String),
    /// The `pushMessage` is wrong: which name, and how.
    #[error("{0}")]
    BadMessage(String),
    /// The app keeps no notification of that id, as it came.
    #[error("no notification is kept as {0}")]
    NoMessage(String),
    /// The caller has not proved who it is.
    #[error("not authenticated: {0:?}")]
    Denied(Denied),
    /// What the caller shows for a token is wrong.
    #[error("{0}")]
    BadGrant(&'static str),
    /// The app's push service is not open.
    #[error("the push service is not open")]
    NotOpen,
    /// The app called too often; one more is taken after so many µs.
    #[error("the app calls too often")]
    TooOften(i64),
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

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It showed no token, or one that ended.
    Expired,
    /// Its token cannot be one.
    Corrupt,
    /// Its token was not issued here, or not for this app.
    Unknown,
    /// Its token is a user's, who may not do this.
    NotAllowed,
    /// It may not register users.
    Closed,
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

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Detached { .. } => Problem::Refused(fault.into()),
            fault => Problem::Fault(fault),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Problem::Busy,
            PasswordError::Fault(fault) => Problem::Fault(fault),
        }
    }
}

/// What a problem is answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// `error`.
    pub error: &'static str,
    /// `exception`.
    pub exception: &'static str,
    /// `error_description`.
    pub description: String,
    /// What is wrong in detail, where the documents fix the description.
    pub detail: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u32>,
}

/// The class that the documents show for a token that is refused.
const SECURITY: &str = "org.apache.usergrid.rest.exceptions.SecurityException";

impl Answer {
    fn new(
        status: StatusCode,
        error: &'static str,
        exception: &'static str,
        description: impl Into<String>,
    ) -> Answer {
        let description = description.into();
        Answer { status, error, exception, description, detail: None, retry_after: None }
    }

    /// One of the errors that the documents know by the name of a class.
    fn named(status: StatusCode, name: &'static str, description: impl Into<String>) -> Answer {
        Answer::new(status, name, name, description)
    }

    fn denied(error: &'static str, description: &str) -> Answer {
        Answer::new(StatusCode::UNAUTHORIZED, error, SECURITY, description)
    }

    fn unavailable(description: &str) -> Answer {
        let (status, name) = (StatusCode::SERVICE_UNAVAILABLE, "service_unavailable");
        let answer = Answer::new(status, name, "ServiceUnavailableException", description);
        Answer { retry_after: Some(BUSY_SECONDS), ..answer }
    }
}

/// Whether it is a refusal of who calls, for the access log.
#[must_use]
pub fn of_caller(problem: &Problem, code: &str) -> Option<AccessDenied> {
    let code = Some(code.to_owned());
    match problem {
        Problem::Denied(_) | Problem::BadGrant(_) => {
            Some(AccessDenied { code, ..AccessDenied::default() })
        }
        _ => None,
    }
}

/// The table. Without an interface the problem came up before one was found.
#[must_use]
pub fn answer(interface: Option<Interface>, problem: &Problem) -> Answer {
    let family = interface.map(Interface::family);
    match problem {
        Problem::NoApp(path) => {
            let (org, rest) = path.split_once('/').unwrap_or((path, ""));
            let name = rest.split('/').next().unwrap_or_default();
            Answer::new(
                StatusCode::NOT_FOUND,
                "organization_application_not_found",
                "OrganizationApplicationNotFoundException",
                format!("Could not find application for {org}/{name} from URI: {path}"),
            )
        }
        Problem::NoPath => {
            let (error, exception) = ("resource_not_found", "NotFoundException");
            Answer::new(StatusCode::NOT_FOUND, error, exception, "url is invalid")
        }
        Problem::NoMethod(_) => Answer::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "unsupported_service_operation",
            "UnsupportedServiceOperationException",
            "Service operation not supported",
        ),
        Problem::TooLong => Answer::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_entity_too_large",
            "RequestEntityTooLargeException",
            "a body has at most 256 KiB",
        ),
        Problem::NotJson => {
            let (error, exception) = ("json_parse", "JsonParseException");
            Answer::new(StatusCode::BAD_REQUEST, error, exception, "Unexpected character")
        }
        Problem::Illegal(description) => illegal(family, description),
        Problem::BadMessage(detail) => {
            let answer = Answer::named(StatusCode::BAD_REQUEST, "MessageException", "bad_request");
            Answer { detail: Some(detail.clone()), ..answer }
        }
        // As a label that is not there.
        Problem::NoMessage(id) => Answer::named(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            format!("push message not exists of {id}"),
        ),
        Problem::Denied(denied) => self::denied(*denied),
        Problem::BadGrant(description) => {
            let (error, exception) = ("invalid_grant", "OAuthProblemException");
            Answer::new(StatusCode::BAD_REQUEST, error, exception, *description)
        }
        Problem::NotOpen => {
            let name = "ServiceNotOpenException";
            Answer::named(StatusCode::FORBIDDEN, name, "push service not open")
        }
        Problem::TooOften(wait) => {
            let answer = match family {
                Some(Family::Push) => limited(),
                _ => Answer::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "reach_limit",
                    "ReachLimitException",
                    "This request has reached API limit.",
                ),
            };
            let seconds = u32::try_from(wait.saturating_add(999_999) / 1_000_000);
            Answer { retry_after: seconds.ok(), ..answer }
        }
        Problem::Refused(Refused::Rejected(rejection)) => rejected(family, rejection),
        Problem::Refused(Refused::Overloaded | Refused::NoRoom | Refused::Closing) => {
            Answer::unavailable(&problem.to_string())
        }
        Problem::Busy => Answer::unavailable("too much is waiting"),
        Problem::Refused(Refused::Fault(_)) | Problem::Fault(_) => Answer::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "web_application",
            "WebApplicationException",
            "internal error",
        ),
    }
}

fn limited() -> Answer {
    Answer::named(StatusCode::FORBIDDEN, "LimitException", "limit request")
}

fn illegal(family: Option<Family>, description: &str) -> Answer {
    match family {
        Some(Family::Push | Family::Binding) => {
            let (status, name) = (StatusCode::BAD_REQUEST, "IllegalArgumentException");
            Answer::named(status, name, description)
        }
        Some(Family::User | Family::Token | Family::Vendor) | None => {
            let (error, exception) = ("illegal_argument", "IllegalArgumentException");
            Answer::new(StatusCode::BAD_REQUEST, error, exception, description)
        }
    }
}

fn denied(denied: Denied) -> Answer {
    match denied {
        Denied::Expired => {
            Answer::denied("unauthorized", "Unable to authenticate due to expired access token")
        }
        Denied::Corrupt => Answer::denied(
            "auth_bad_access_token",
            "Unable to authenticate due to corrupt access token",
        ),
        Denied::Unknown => Answer::denied("auth_bad_access_token", "Unable to authenticate"),
        Denied::NotAllowed => Answer::denied("unauthorized", "Unable to authenticate (OAuth)"),
        Denied::Closed => {
            Answer::denied("unauthorized", "registration is not open, please contact the app admin")
        }
    }
}

fn rejected(family: Option<Family>, rejection: &Rejection) -> Answer {
    match rejection {
        Rejection::UnknownUser(_) => match family {
            Some(Family::Binding) => Answer::named(
                StatusCode::BAD_REQUEST,
                "RequiredPropertyNotFoundException",
                "Entity user requires a property named username",
            ),
            Some(Family::Push | Family::User | Family::Token | Family::Vendor) | None => {
                Answer::new(
                    StatusCode::NOT_FOUND,
                    "service_resource_not_found",
                    "UserNotFoundException",
                    "Service resource not found",
                )
            }
        },
        Rejection::UserTaken(username) => Answer::new(
            StatusCode::BAD_REQUEST,
            "duplicate_unique_property_exists",
            "DuplicateUniquePropertyExistsException",
            format!(
                "Application has an entity of type user with the unique property username of value \
                 {username} already. Entity user requires that property named username be unique, \
                 value of {username} exists"
            ),
        ),
        Rejection::UnknownLabel(label) => Answer::named(
            StatusCode::BAD_REQUEST,
            "ResourceNotFoundException",
            format!("push label not exists of {label}"),
        ),
        Rejection::UnknownTask => Answer::new(
            StatusCode::NOT_FOUND,
            "service_resource_not_found",
            "ResourceNotFoundException",
            "push task not exists",
        ),
        Rejection::TooManyTasks { .. }
        | Rejection::TooManyLabels { .. }
        | Rejection::LabelFull { .. }
        | Rejection::TooManyDeliveries { .. } => {
            Answer { detail: Some(rejection.to_string()), ..limited() }
        }
        // The app was deleted a moment ago.
        Rejection::UnknownApp => answer(None, &Problem::NoApp(String::new())),
        Rejection::LabelTaken(_)
        | Rejection::AddressTaken(_)
        | Rejection::TaskOver
        | Rejection::TooManyBindings { .. }
        | Rejection::KeyReused { .. }
        | Rejection::AppTaken(_)
        | Rejection::VersionMoved { .. }
        | Rejection::UnknownPackage
        | Rejection::UnsupportedChannel
        | Rejection::NotRegistered
        | Rejection::IllegalUser
        | Rejection::NobodyRegistered
        | Rejection::NoOwner
        | Rejection::WrongBindKey
        | Rejection::UnknownMessage
        | Rejection::ReportedBefore
        | Rejection::NothingToRecall
        | Rejection::Detached => illegal(family, &rejection.to_string()),
    }
}
