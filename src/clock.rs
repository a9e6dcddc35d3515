//! The only source of time. Tests replace it and move it by hand, so that expiry and heartbeats
//! are checked without waiting.

use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;

/// A source of time, in µs since the epoch.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's.
    System,
    /// One that stands still until somebody advances it.
    Manual(watch::Sender<i64>),
}

impl Clock {
    /// A clock that stands still at a time.
    #[must_use]
    pub fn manual(at: i64) -> Clock {
        Clock::Manual(watch::Sender::new(at))
    }

    /// Now, in µs since the epoch.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn now(&self) -> i64 {
        match self {
            Clock::System => Utc::now().timestamp_micros(),
            Clock::Manual(at) => *at.borrow(),
        }
    }

    /// Moves a manual clock; the machine's own is left alone.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(at) = self {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            at.send_modify(|at| *at = at.saturating_add(by));
        }
    }

    /// Returns once it is that time, or later.
    pub async fn sleep_until(&self, until: i64) {
        match self {
            Clock::System => {
                let left = u64::try_from(until.saturating_sub(self.now())).unwrap_or(0);
                tokio::time::sleep(Duration::from_micros(left)).await;
            }
            Clock::Manual(at) => {
                // The sender lives in self, so waiting can't fail before it is that time.
                let _ = at.subscribe().wait_for(|now| *now >= until).await;
            }
        }
    }

    /// Returns after a while.
    pub async fn sleep(&self, duration: Duration) {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        self.sleep_until(self.now().saturating_add(micros)).await;
    }
}
