//! Places for what is worked on at once, shared by apps so that none takes what others need: an app
//! may have as many as are free. One whose vendor is away fills half of them, the next a quarter, and
//! whoever comes then still finds some.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// So many places.
pub(super) struct Room {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_app: HashMap<String, usize>,
}

/// A place of an app, until this is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    app: String,
}

impl Room {
    pub(super) fn of(places: usize) -> Arc<Room> {
        Arc::new(Room { places, taken: Mutex::default() })
    }

    /// A place for an app, unless it has its share.
    pub(super) fn enter(self: &Arc<Room>, app: &str) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.by_app.get(app).copied().unwrap_or_default();
        if own >= self.places - taken.all {
            return None;
        }
        taken.all += 1;
        taken.by_app.insert(app.to_owned(), own + 1);
        drop(taken);
        Some(Place { room: Arc::clone(self), app: app.to_owned() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= 1;
        if let Some(own) = taken.by_app.get_mut(&self.app) {
            *own -= 1;
            if *own == 0 {
                taken.by_app.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(room: &Arc<Room>, app: &str) -> Vec<Place> {
        std::iter::from_fn(|| room.enter(app)).collect()
    }

    #[test]
    fn an_app_has_no_more_than_it_leaves_and_whoever_comes_next_finds_some() {
        let room = Room::of(64);
        let first = fill(&room, "a");
        assert_eq!(first.len(), 32);
        let second = fill(&room, "b");
        assert_eq!(second.len(), 16);
        let third = fill(&room, "c");
        assert_eq!(third.len(), 8);
        assert!(room.enter("a").is_none());
        drop(first);
        assert_eq!(fill(&room, "d").len(), 20, "of the 40 that are free");
    }

    #[test]
    fn what_is_dropped_leaves_nothing() {
        let room = Room::of(2);
        for _ in 0..10 {
            assert_eq!(fill(&room, "a").len(), 1);
        }
        assert!(room.taken().by_app.is_empty());
        assert_eq!(room.taken().all, 0);
    }
}
