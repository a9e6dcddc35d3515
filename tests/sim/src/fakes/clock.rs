//! The vendors' time. Tokens, message ids of a day and rate windows depend on it, so a test moves
//! it by hand, as it moves the server's.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use crate::ums::now_ms;

/// What the fake vendors take for now. Copies share one time.
#[derive(Clone, Debug)]
pub struct VendorClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Added to the machine's time, or the time itself if that stands still; milliseconds.
    ms: AtomicI64,
    stands: bool,
}

impl VendorClock {
    /// The machine's time.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Inner { ms: AtomicI64::new(0), stands: false }))
    }

    /// A time that stands still until it is moved, in milliseconds since the epoch.
    #[must_use]
    pub fn standing_at(ms: i64) -> Self {
        Self(Arc::new(Inner { ms: AtomicI64::new(ms), stands: true }))
    }

    /// Moves the time on, or back if negative, by milliseconds.
    pub fn advance_ms(&self, ms: i64) {
        self.0.ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Now, in milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        let ms = self.0.ms.load(Ordering::Relaxed);
        if self.0.stands { ms } else { ms + now_ms() }
    }

    /// Now, in seconds since the epoch.
    #[must_use]
    pub fn now_seconds(&self) -> i64 {
        self.now_ms().div_euclid(1_000)
    }
}

impl Default for VendorClock {
    fn default() -> Self {
        Self::system()
    }
}
