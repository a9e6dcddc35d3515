//! How often an app may call, counted on each node: so many calls a second for each group of calls,
//! of which a whole second's may come at once. An app's limits change with its configuration, so
//! they come in with each call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use domain::app::EasemobLimits;

/// µs of a second: the span over which calls are evened out.
const SECOND: i64 = 1_000_000;

/// Calls that share a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// `token`.
    Token,
    /// Users one by one or in pages, and whether one is online.
    Users,
    /// Registering users, one or many.
    Registration,
    /// Removing a page of users.
    BatchDelete,
    /// Whether many users are online.
    BatchStatus,
    /// Bindings.
    Bindings,
    /// Labels.
    Labels,
    /// Who is in a label.
    LabelUsers,
    /// `push/sync`.
    Sync,
    /// `push/async`.
    Async,
    /// `push/single`.
    Single,
    /// `push/list/label` and `push/list`.
    Lists,
    /// `push/task`.
    Everyone,
    /// `push/message`.
    Messages,
    /// `push/message/{id}`.
    KeptMessages,
    /// `push/task/broadcast`.
    Broadcast,
    /// What push vendors tell.
    Receipts,
    /// Our own calls that ask for a task or cancel it.
    TaskQueries,
}

impl Group {
    /// Calls a second that an app may make.
    #[must_use]
    pub fn per_second(self, limits: &EasemobLimits) -> u32 {
        match self {
            Group::Token => limits.token_per_second,
            Group::Users => limits.user_per_second,
            Group::Registration => limits.registration_per_second,
            Group::BatchDelete => limits.batch_delete_per_second,
            Group::BatchStatus => limits.batch_status_per_second,
            Group::Bindings => limits.binding_per_second,
            Group::Labels => limits.label_per_second,
            Group::LabelUsers => limits.label_user_per_second,
            Group::Sync => limits.sync_per_second,
            Group::Async => limits.async_per_second,
            Group::Single => limits.single_per_second,
            Group::Lists => limits.list_per_second,
            Group::Everyone => limits.task_per_second,
            Group::Messages | Group::KeptMessages => limits.message_per_second,
            Group::Broadcast => limits.broadcast_per_second,
            Group::Receipts => limits.receipt_per_second,
            Group::TaskQueries => limits.task_query_per_second,
        }
    }
}

/// Counts the calls of every app (GCRA). It has an entry for each app and group that ever called.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<HashMap<(String, Group), i64>>);

impl Limiter {
    /// Takes a call now (µs since the epoch), or says for how long, in µs, none is taken.
    ///
    /// # Errors
    /// The wait, above 0.
    pub fn take(&self, app: &str, group: Group, per_second: u32, now: i64) -> Result<(), i64> {
        let each = SECOND / i64::from(per_second.clamp(1, 1_000_000));
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // When the calls so far would be evened out; all of it is in the past for one who rests.
        let due = due.entry((app.to_owned(), group)).or_insert(now);
        // A clock that was set back must not lock anybody out.
        if *due < now || *due > now + SECOND {
            *due = now;
        }
        let wait = *due + each - (now + SECOND);
        if wait > 0 {
            return Err(wait);
        }
        *due += each;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;

    fn taken(limiter: &Limiter, per_second: u32, now: i64) -> usize {
        let take = || limiter.take("demo", Group::Async, per_second, now).is_ok();
        (0..1_000).take_while(|_| take()).count()
    }

    #[test]
    fn a_whole_second_of_calls_may_come_at_once_and_no_more() {
        for per_second in [1, 10, 30, 200] {
            let limiter = Limiter::default();
            assert_eq!(taken(&limiter, per_second, NOW), per_second as usize);
            assert_eq!(taken(&limiter, per_second, NOW), 0);
            assert_eq!(taken(&limiter, per_second, NOW + SECOND), per_second as usize);
        }
    }

    #[test]
    fn one_call_comes_back_after_its_share_of_a_second() {
        let limiter = Limiter::default();
        assert_eq!(taken(&limiter, 10, NOW), 10);
        assert_eq!(limiter.take("demo", Group::Async, 10, NOW), Err(100_000));
        assert_eq!(taken(&limiter, 10, NOW + 99_999), 0);
        assert_eq!(taken(&limiter, 10, NOW + 100_000), 1);
    }

    #[test]
    fn apps_and_groups_do_not_use_up_each_other_s_calls() {
        let limiter = Limiter::default();
        assert!(limiter.take("demo", Group::Sync, 1, NOW).is_ok());
        assert!(limiter.take("demo", Group::Sync, 1, NOW).is_err());
        assert!(limiter.take("demo", Group::Single, 1, NOW).is_ok());
        assert!(limiter.take("other", Group::Sync, 1, NOW).is_ok());
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let limiter = Limiter::default();
        assert_eq!(taken(&limiter, 10, NOW), 10);
        assert_eq!(taken(&limiter, 10, NOW - 3_600 * SECOND), 10);
    }
}
