//! Callbacks: calls to the servers of an app about what happened. Each kind has one policy: when
//! it calls again, how long it waits, how much goes into one call, and whether order matters. What
//! came of many callbacks to one receiver is one event, packed, so that ten thousand good ones a
//! second, or a receiver that is dead for an hour, do not fill the ledger.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Stream,
    event::without_private,
    facts::{Facts, Stop},
    task::packed::Packed,
};

/// Callbacks of one group, at most.
pub const MAX_CALLBACKS: usize = 512;
/// Longest wait that a receiver may ask for, in µs: an hour. Longer ones would leave no way out to
/// who mends it.
pub const MAX_RETRY_AFTER_MICROS: i64 = 3_600 * SECOND;
const SECOND: i64 = 1_000_000;

/// What is called back about, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// UCloud's uplink push, `MsgType` 0.
    UcloudUplink,
    /// UCloud's status report, `MsgType` 2.
    UcloudReport,
    /// Antelope's `device-message`.
    AntelopeMessage,
    /// Antelope's `device-state`.
    AntelopeState,
    /// Tencent IM's callbacks about what happened, whichever an app is called about.
    Tencent,
    /// Standard Webhooks.
    Webhook,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] = [
        Kind::UcloudUplink,
        Kind::UcloudReport,
        Kind::AntelopeMessage,
        Kind::AntelopeState,
        Kind::Tencent,
        Kind::Webhook,
    ];

    /// The stable name: in events, views and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::UcloudUplink => "ucloud_uplink",
            Kind::UcloudReport => "ucloud_report",
            Kind::AntelopeMessage => "antelope_message",
            Kind::AntelopeState => "antelope_state",
            Kind::Tencent => "tencent",
            Kind::Webhook => "webhook",
        }
    }

    /// How it is delivered.
    #[must_use]
    pub fn policy(self) -> Policy {
        match self {
            // The document fixes the pauses; it says nothing of time, size or order.
            Kind::UcloudUplink | Kind::UcloudReport => Policy {
                pauses_micros: &[SECOND, SECOND, SECOND],
                answer_micros: 5 * SECOND,
                batch: 200,
                gather_micros: 20_000,
                lanes: 1,
                ordered: true,
            },
            // Its document says nothing of this; a device's messages are a conversation.
            Kind::AntelopeMessage | Kind::AntelopeState => Policy {
                pauses_micros: &[SECOND, 5 * SECOND],
                answer_micros: 5 * SECOND,
                batch: 1,
                gather_micros: 0,
                lanes: 32,
                ordered: true,
            },
            // The document fixes the wait; it calls again only where an app wants it, up to so
            // often ([`Policy::again`]). Numbers of unread messages come in order.
            Kind::Tencent => Policy {
                pauses_micros: &[SECOND, 2 * SECOND, 5 * SECOND],
                answer_micros: 2 * SECOND,
                batch: 1,
                gather_micros: 0,
                lanes: 32,
                ordered: true,
            },
            // The schedule that the specification recommends.
            Kind::Webhook => Policy {
                pauses_micros: &[
                    5 * SECOND,
                    5 * 60 * SECOND,
                    30 * 60 * SECOND,
                    2 * 3_600 * SECOND,
                    5 * 3_600 * SECOND,
                    10 * 3_600 * SECOND,
                    14 * 3_600 * SECOND,
                    20 * 3_600 * SECOND,
                    24 * 3_600 * SECOND,
                ],
                answer_micros: 15 * SECOND,
                batch: 1,
                gather_micros: 0,
                lanes: 32,
                ordered: false,
            },
        }
    }
}

/// How callbacks of a kind are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Pauses before the second, third, … call, in µs; after the last it is given up.
    pub pauses_micros: &'static [i64],
    /// Longest wait for an answer, in µs.
    pub answer_micros: i64,
    /// Entries of one call, at most. A callback has one, or as many as its event has to tell.
    pub batch: usize,
    /// How long the first waits for others to go with it, in µs.
    pub gather_micros: i64,
    /// Calls under way at once to one receiver.
    pub lanes: usize,
    /// Whether what one device or phone causes comes in order: then nothing overtakes what waits.
    pub ordered: bool,
}

/// What an answer, or none, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it.
    Accepted,
    /// It may work later.
    Failed {
        /// Why.
        reason: Reason,
        /// How long the receiver asked to wait, in µs.
        wait_micros: Option<i64>,
    },
    /// The receiver is alive and does not want this one.
    Declined,
    /// The receiver wants no more of them, ever.
    Gone,
}

impl Verdict {
    /// Why the call failed, if it did.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Verdict::Accepted => None,
            Verdict::Failed { reason, .. } => Some(reason),
            Verdict::Declined => Some(Reason::Status),
            Verdict::Gone => Some(Reason::Gone),
        }
    }
}

/// Why a callback waits, or was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The answer's body said no.
    Refused,
    /// The answer's status said no.
    Status,
    /// The answer led elsewhere, which is not followed.
    Redirected,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// The address may not be reached.
    NotAllowed,
    /// The answer was too long.
    TooLong,
    /// The receiver wants no more.
    Gone,
    /// The app names no such receiver any more, or switched it off.
    NotConfigured,
    /// The event cannot be worded for the receiver any more, as it was erased.
    Erased,
    /// The receiver failed often and is left alone for a while.
    CircuitOpen,
    /// Too many were waiting.
    QueueFull,
    /// Earlier ones wait.
    Behind,
    /// An operator asked for it again.
    Replayed,
    /// The server stopped before it was its turn.
    Stopped,
    /// The event cannot be worded for the receiver: this program does not understand it.
    Unreadable,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Reason; 16] = [
        Reason::Refused,
        Reason::Status,
        Reason::Redirected,
        Reason::Timeout,
        Reason::Unreachable,
        Reason::NotAllowed,
        Reason::TooLong,
        Reason::Gone,
        Reason::NotConfigured,
        Reason::Erased,
        Reason::CircuitOpen,
        Reason::QueueFull,
        Reason::Behind,
        Reason::Replayed,
        Reason::Stopped,
        Reason::Unreadable,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::Status => "status",
            Reason::Redirected => "redirected",
            Reason::Timeout => "timeout",
            Reason::Unreachable => "unreachable",
            Reason::NotAllowed => "not_allowed",
            Reason::TooLong => "too_long",
            Reason::Gone => "gone",
            Reason::NotConfigured => "not_configured",
            Reason::Erased => "erased",
            Reason::CircuitOpen => "circuit_open",
            Reason::QueueFull => "queue_full",
            Reason::Behind => "behind",
            Reason::Replayed => "replayed",
            Reason::Stopped => "stopped",
            Reason::Unreadable => "unreadable",
        }
    }
}

/// What follows from a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is done.
    Answered,
    /// It is called again after a pause in µs.
    Again(i64, Reason),
    /// It is not called any more, unless an operator asks for it.
    GivenUp(Reason),
}

impl Policy {
    /// The same, with at most so many calls after the first.
    #[must_use]
    pub fn again(self, most: usize) -> Policy {
        let pauses_micros = self.pauses_micros.get(..most).unwrap_or(self.pauses_micros);
        Policy { pauses_micros, ..self }
    }

    /// What follows from the verdict on so many calls, the last among them.
    #[must_use]
    pub fn next(&self, calls: u32, verdict: Verdict) -> Next {
        match verdict {
            Verdict::Accepted => Next::Answered,
            Verdict::Declined => Next::GivenUp(Reason::Status),
            Verdict::Gone => Next::GivenUp(Reason::Gone),
            Verdict::Failed { reason, wait_micros } => {
                let past = usize::try_from(calls).unwrap_or(usize::MAX).saturating_sub(1);
                match self.pauses_micros.get(past) {
                    None => Next::GivenUp(reason),
                    Some(pause) => {
                        let wait = wait_micros.unwrap_or(0).min(MAX_RETRY_AFTER_MICROS);
                        Next::Again(wait.max(*pause), reason)
                    }
                }
            }
        }
    }
}

/// Where a callback stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The receiver has it.
    Answered,
    /// It waits for its time.
    Postponed,
    /// It is not called any more; an operator may ask for it.
    GivenUp,
}

impl Outcome {
    /// All outcomes. Views store their places.
    pub const ALL: [Outcome; 3] = [Outcome::Answered, Outcome::Postponed, Outcome::GivenUp];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Postponed => "postponed",
            Outcome::GivenUp => "given_up",
        }
    }
}

/// What came of callbacks to one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallbacksCalled {
    /// What they were about.
    pub kind: Kind,
    /// The receiver's opaque id.
    pub receiver: Uuid,
    /// Those of which the same came.
    pub groups: Vec<Group>,
}

/// Callbacks of which the same came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Where they stand, and why.
    #[serde(flatten)]
    pub state: State,
    /// Whether they were recorded before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// How many they are.
    pub count: u32,
    /// Positions of the events that they are about, growing.
    pub callbacks: Packed,
    /// The calls since they were recorded before; none of what was answered at its first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

/// One call, as it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was made, in µs since the epoch.
    pub at: i64,
    /// How long it took, in ms.
    pub took: u32,
    /// HTTP status of the answer, if one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Where a callback stands, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct State {
    /// Where it stands.
    pub outcome: Outcome,
    /// Calls so far.
    pub calls: u32,
    /// Why it waits, or was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// HTTP status of the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// When it is due, in µs since the epoch, if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<i64>,
}

impl Group {
    /// A group of callbacks at those positions, in any order, each once.
    #[must_use]
    pub fn of(state: State, again: bool, mut positions: Vec<i64>) -> Group {
        positions.sort_unstable();
        positions.dedup();
        let count = u32::try_from(positions.len()).unwrap_or(u32::MAX);
        let (callbacks, attempts) = (Packed::growing(positions), Vec::new());
        Group { state, again, count, callbacks, attempts }
    }

    /// The same, with the calls that were made.
    #[must_use]
    pub fn after(self, attempts: Vec<Attempt>) -> Group {
        Group { attempts, ..self }
    }
}

/// An operator asked for callbacks again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallbacksReplayed {
    /// What they are about.
    pub kind: Kind,
    /// The receiver's opaque id.
    pub receiver: Uuid,
    /// Positions of the events that they are about, at most [`MAX_NUMBERS`](crate::task::packed::MAX_NUMBERS); none, in the records
    /// of earlier versions: all that were given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callbacks: Option<Packed>,
}

without_private!(CallbacksCalled, CallbacksReplayed);

/// Records what came of callbacks, on a stream of its own: nothing is decided on what was there
/// before, and what is recorded twice is the same.
#[derive(Debug, Clone)]
pub struct RecordCallbacks {
    /// What came of them.
    pub called: CallbacksCalled,
    /// Stream of the record.
    pub new_record: Uuid,
}

/// Asks for callbacks again.
#[derive(Debug, Clone)]
pub struct ReplayCallbacks {
    /// Which.
    pub replayed: CallbacksReplayed,
    /// Stream of the record.
    pub new_record: Uuid,
}

impl Decide for RecordCallbacks {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        let (stream, event) = (Stream::Callbacks(self.new_record), self.called.clone().into());
        Ok(vec![Append { stream, version: 1, event }])
    }
}

impl Decide for ReplayCallbacks {
    fn decide(&self, _: &Facts) -> Result<Vec<Append>, Stop> {
        let (stream, event) = (Stream::Callbacks(self.new_record), self.replayed.clone().into());
        Ok(vec![Append { stream, version: 1, event }])
    }
}
