//! What an attempt at a chunk leaves to do: vendors that are asked again, each lane in its own time,
//! and devices that have yet to say that they have it.

use std::collections::{BTreeMap, HashMap};

/// What is left to do for a chunk after an attempt.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Lanes whose vendor is asked again, by name: none waits for what another's wants, be it the
    /// same vendor with other credentials.
    pub(super) again: BTreeMap<String, Again>,
    /// When devices have been silent for long enough, in µs, and those that were given it.
    pub(super) silent_at: Option<i64>,
    pub(super) silent: Vec<i64>,
    /// Idempotency keys of the batches that are sent again as they were, by their tokens.
    pub(super) keys: HashMap<u64, String>,
}

/// When the vendor of a lane may be asked again for a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    /// In µs.
    pub(super) at: i64,
    /// How often it was asked.
    pub(super) asked: u32,
}

impl Left {
    /// When something is to be done, in µs.
    pub(super) fn next(&self) -> Option<i64> {
        self.again.values().map(|again| again.at).chain(self.silent_at).min()
    }

    /// Puts a lane off: until the last time that it was put off to.
    pub(super) fn put_off(&mut self, lane: String, Again { at, asked }: Again) {
        let again = self.again.entry(lane).or_insert(Again { at, asked });
        (again.at, again.asked) = (again.at.max(at), again.asked.max(asked));
    }
}
