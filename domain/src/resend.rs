//! The resend policy of what is sent now or never: how often a message goes to a connected device,
//! and how long each time to wait for its answer. Pure; the gateway runs it, and the delivery
//! machine knows by it when nothing more is to be hoped for.

use serde::{Deserialize, Serialize};

/// How often a message is sent to a device that does not answer. The numbers are Antelope's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resend {
    /// Five times: again after 1, 2, 3 and 5 seconds.
    UntilAnswered = 2,
    /// Once.
    Once = 3,
}

/// What to do about a device that has not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How long to wait after the last time it was sent, in µs.
    pub micros: i64,
    /// What to do then.
    pub then: Then,
}

/// What follows when a device has not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is sent once more.
    SendAgain,
    /// It is dropped.
    GiveUp,
}

/// Seconds to wait after each time that it was sent. After the last time the contract names none:
/// it is the longest of them.
const UNTIL_ANSWERED_SECONDS: [i64; 5] = [1, 2, 3, 5, 5];
const ONCE_SECONDS: [i64; 1] = [5];

/// µs of a second.
const SECOND: i64 = 1_000_000;

impl Resend {
    /// Both, in order of their numbers.
    pub const ALL: [Resend; 2] = [Resend::UntilAnswered, Resend::Once];

    /// The policy with that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Resend> {
        Resend::ALL.into_iter().find(|resend| *resend as i64 == number)
    }

    fn seconds(self) -> &'static [i64] {
        match self {
            Resend::UntilAnswered => &UNTIL_ANSWERED_SECONDS,
            Resend::Once => &ONCE_SECONDS,
        }
    }

    /// What to do after it was sent so many times.
    #[must_use]
    pub fn after(self, sends: usize) -> Wait {
        let seconds = self.seconds();
        let last = sends.checked_sub(1).and_then(|last| seconds.get(last)).copied();
        let then = if sends < seconds.len() { Then::SendAgain } else { Then::GiveUp };
        Wait { micros: last.unwrap_or(0) * SECOND, then }
    }

    /// Time from when it is first sent until it is dropped, in µs.
    #[must_use]
    pub fn life_micros(self) -> i64 {
        self.seconds().iter().sum::<i64>() * SECOND
    }
}
