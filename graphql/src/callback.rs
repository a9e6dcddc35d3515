//! Callbacks to an app's servers: what was called, answered and given up.

use async_graphql::{Enum, ID, SimpleObject};
use chrono::{DateTime, Utc};
use domain::callback::Outcome;
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
