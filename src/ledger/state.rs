//! What decisions rest on, in memory: recently used facts, and which keys changed lately. A fact
//! in the cache is true as of the last position that this node has seen; the committer, which
//! alone moves that position, drops or replaces whatever an append touches.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use domain::facts::{Fact, Key};
use quick_cache::{Weighter, sync::Cache};

/// Bytes of facts kept in memory, about.
const MAX_FACTS_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of a fact with its key, beside the items in it.
const FACT_BYTES: u64 = 300;
/// Facts that the cache expects to hold.
const EXPECTED_FACTS: usize = 50_000;
/// Changes remembered; a decision older than all of them is made again.
const MAX_CHANGES: usize = 32_768;

#[derive(Clone)]
struct BySize;

impl Weighter<Key, Fact> for BySize {
    /// Bytes, about: a message, which many need for a moment, takes no room that it does not need
    /// from users and devices, which are needed again and again.
    fn weight(&self, _key: &Key, fact: &Fact) -> u64 {
        let (items, bytes) = match fact {
            Fact::Devices(devices) => (devices.len(), 500),
            Fact::Message(Some(message)) => (message.deliveries.len(), 100),
            Fact::Apps(apps) => (apps.len(), 2_000),
            Fact::Labels(labels) => (labels.len(), 100),
            Fact::Tasks(tasks) => (tasks.len(), 100),
            Fact::Chunk(Some(chunk)) => (chunk.states.len(), 4),
            Fact::Account(_)
            | Fact::User(_)
            | Fact::Addresses(_)
            | Fact::Label(_)
            | Fact::Count(_)
            | Fact::Known(_)
            | Fact::Owner(_)
            | Fact::Message(None)
            | Fact::Task(_)
            | Fact::Chunk(None) => (0, 0),
        };
        FACT_BYTES + items as u64 * bytes
    }
}

pub(super) struct State {
    cache: Cache<Key, Fact, BySize>,
    changes: Mutex<Changes>,
}

struct Changes {
    position: i64,
    /// Decisions made before this position can't be checked any more.
    floor: i64,
    recent: HashMap<Key, i64>,
    order: VecDeque<(i64, Key)>,
}

impl State {
    pub(super) fn new(position: i64) -> State {
        State {
            cache: Cache::with_weighter(EXPECTED_FACTS, MAX_FACTS_BYTES, BySize),
            changes: Mutex::new(Changes {
                position,
                floor: position,
                recent: HashMap::new(),
                order: VecDeque::new(),
            }),
        }
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position up to which the cache is true.
    pub(super) fn as_of(&self) -> i64 {
        self.changes().position
    }

    pub(super) fn get(&self, key: &Key) -> Option<Fact> {
        self.cache.get(key)
    }

    /// Keeps a fact that was read from the database, unless it changed since the read began.
    pub(super) fn fill(&self, key: &Key, fact: &Fact, as_of: i64) {
        let changes = self.changes();
        if !changes.moved(std::slice::from_ref(key), as_of) {
            self.cache.insert(key.clone(), fact.clone());
        }
    }

    /// Whether any of these keys changed after a position, as far as is known here.
    pub(super) fn moved(&self, keys: &[Key], as_of: i64) -> bool {
        self.changes().moved(keys, as_of)
    }

    /// Moves on to a position: changed facts are replaced, or dropped where the new one is
    /// unknown.
    pub(super) fn advance(&self, position: i64, changed: Vec<(Key, Option<Fact>)>) {
        let mut changes = self.changes();
        changes.position = position;
        for (key, fact) in changed {
            match fact {
                Some(fact) => self.cache.insert(key.clone(), fact),
                None => drop(self.cache.remove(&key)),
            }
            changes.recent.insert(key.clone(), position);
            changes.order.push_back((position, key));
        }
        while changes.order.len() > MAX_CHANGES {
            if let Some((at, key)) = changes.order.pop_front() {
                changes.floor = at;
                if changes.recent.get(&key) == Some(&at) {
                    changes.recent.remove(&key);
                }
            }
        }
    }

    /// Moves on to a position, forgetting everything.
    pub(super) fn forget(&self, position: i64) {
        let mut changes = self.changes();
        self.cache.clear();
        changes.position = position;
        changes.floor = position;
        changes.recent.clear();
        changes.order.clear();
    }
}

impl Changes {
    fn moved(&self, keys: &[Key], as_of: i64) -> bool {
        let later = |key| self.recent.get(key).is_some_and(|at| *at > as_of);
        as_of <= self.floor || keys.iter().any(later)
    }
}
