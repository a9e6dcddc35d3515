//! The pool of cids: each makes one push repeatable for a day.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

/// How long a cid lives, in milliseconds.
const LIFE_MS: i64 = 24 * 3_600 * 1_000;
/// Cids remembered, at most; the oldest are forgotten first.
const CIDS_MAX: usize = 100_000;
/// Characters of a UUID.
const UUID_LENGTH: usize = 36;

/// What a cid is.
pub(super) enum Answer {
    /// Not used yet.
    New,
    /// Used: this was answered.
    Earlier(Value),
    /// Not of the pool, or too old.
    Unknown,
}

#[derive(Default)]
pub(super) struct Cids(Mutex<Known>);

#[derive(Default)]
pub(super) struct Known {
    issued: u64,
    /// When each was issued or first seen (milliseconds since the epoch), and what was answered.
    cids: HashMap<String, (i64, Option<Value>)>,
    order: VecDeque<String>,
}

impl Cids {
    /// So many new cids.
    pub(super) fn issue(&self, app_key: &str, count: u32, now_ms: i64) -> Vec<String> {
        let mut known = self.lock();
        let mut list = Vec::new();
        for _ in 0..count {
            known.issued += 1;
            let number = known.issued;
            // The same at each start, so that a recorded exchange can be replayed.
            let cid = format!("{app_key}-3f1c6a0e-2b58-4e61-9d57-{number:012x}");
            known.remember(cid.clone(), None, now_ms);
            list.push(cid);
        }
        list
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What a cid is now. Outside the pool it only needs to have the form.
    pub(super) fn answer(&self, cid: &str, app_key: &str, from_pool: bool, now_ms: i64) -> Answer {
        match self.cids.get(cid) {
            Some((since, answer)) if now_ms - since < LIFE_MS => match answer {
                Some(answer) => Answer::Earlier(answer.clone()),
                None => Answer::New,
            },
            _ if from_pool => Answer::Unknown,
            _ => {
                let rest = cid.strip_prefix(app_key).and_then(|rest| rest.strip_prefix('-'));
                let formed = rest.is_some_and(|uuid| uuid.len() == UUID_LENGTH);
                if formed { Answer::New } else { Answer::Unknown }
            }
        }
    }

    /// Notes what was answered to the first push with this cid.
    pub(super) fn note(&mut self, cid: &str, answer: Value, now_ms: i64) {
        match self.cids.get_mut(cid) {
            Some(entry) => entry.1 = Some(answer),
            None => self.remember(cid.to_owned(), Some(answer), now_ms),
        }
    }

    fn remember(&mut self, cid: String, answer: Option<Value>, now_ms: i64) {
        if self.order.len() >= CIDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.cids.remove(&oldest);
        }
        self.order.push_back(cid.clone());
        self.cids.insert(cid, (now_ms, answer));
    }
}
