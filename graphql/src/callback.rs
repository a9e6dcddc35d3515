//! Callbacks to an app's servers: what was called, answered and given up.

use async_graphql::{Enum, ID, SimpleObject};
use chrono::{DateTime, Utc};
use domain::callback::{Attempt, Outcome, Reason};
use projections::callbacks::{CallbackRow, CountRow};

use crate::time;

/// Where a callback stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum CallbackOutcome {
    /// The receiver has it.
    Answered,
    /// It waits for its time.
    Postponed,
    /// It is not called any more; an operator may ask for it.
    GivenUp,
}

impl From<CallbackOutcome> for Outcome {
    fn from(outcome: CallbackOutcome) -> Outcome {
        match outcome {
            CallbackOutcome::Answered => Outcome::Answered,
            CallbackOutcome::Postponed => Outcome::Postponed,
            CallbackOutcome::GivenUp => Outcome::GivenUp,
        }
    }
}

impl From<Outcome> for CallbackOutcome {
    fn from(outcome: Outcome) -> CallbackOutcome {
        match outcome {
            Outcome::Answered => CallbackOutcome::Answered,
            Outcome::Postponed => CallbackOutcome::Postponed,
            Outcome::GivenUp => CallbackOutcome::GivenUp,
        }
    }
}

/// A callback that was not answered at its first call.
#[derive(SimpleObject)]
pub(crate) struct Callback {
    /// The receiver.
    receiver: ID,
    /// Position of the event that it is about.
    position: i64,
    /// What it is about.
    kind: &'static str,
    /// Where it stands.
    outcome: CallbackOutcome,
    /// Calls so far.
    calls: i64,
    /// Why it waits, or was given up.
    reason: Option<&'static str>,
    /// HTTP status of the last answer.
    status: Option<i64>,
    /// When it is due, if it waits.
    due_at: Option<DateTime<Utc>>,
    /// When this was recorded.
    at: DateTime<Utc>,
    /// Its calls, oldest first: the last 32.
    attempts: Vec<CallbackAttempt>,
}

/// One call to an app's server, as it went.
#[derive(SimpleObject)]
pub(crate) struct CallbackAttempt {
    /// When it was made.
    at: DateTime<Utc>,
    /// How long it took, in ms.
    latency_ms: i64,
    /// HTTP status of the answer, if one came.
    status: Option<i64>,
    /// Why it failed, if it did.
    reason: Option<&'static str>,
}

impl From<Attempt> for CallbackAttempt {
    fn from(attempt: Attempt) -> CallbackAttempt {
        CallbackAttempt {
            at: time(attempt.at),
            latency_ms: attempt.took.into(),
            status: attempt.status.map(i64::from),
            reason: attempt.reason.map(Reason::name),
        }
    }
}

impl From<CallbackRow> for Callback {
    fn from(row: CallbackRow) -> Callback {
        Callback {
            receiver: row.receiver.to_string().into(),
            position: row.position,
            kind: row.kind.name(),
            outcome: row.outcome.into(),
            calls: row.calls,
            reason: row.reason.map(|reason| reason.name()),
            status: row.status,
            due_at: row.due_at.map(time),
            at: time(row.at),
            attempts: row.attempts.into_iter().map(CallbackAttempt::from).collect(),
        }
    }
}

/// How many callbacks of a receiver stand where.
#[derive(SimpleObject)]
pub(crate) struct CallbackCount {
    /// The receiver.
    receiver: ID,
    /// What they are about.
    kind: &'static str,
    /// Where they stand.
    outcome: CallbackOutcome,
    /// How many.
    callbacks: i64,
}

impl From<CountRow> for CallbackCount {
    fn from(row: CountRow) -> CallbackCount {
        CallbackCount {
            receiver: row.receiver.to_string().into(),
            kind: row.kind.name(),
            outcome: row.outcome.into(),
            callbacks: row.callbacks,
        }
    }
}
