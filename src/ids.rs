//! Numbers of messages: 13 digits of milliseconds, 3 of the node, 3 of a sequence. They grow, so
//! they keep appends together; two nodes never make the same one. A node's number is lent to it
//! until some time, and it makes no message's number of that time or later: who has the node's
//! number next begins there.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::message::MessageId;
use tokio::sync::Notify;

use crate::clock::Clock;

/// Messages that one node may number in one millisecond; the next takes the next millisecond.
const PER_MILLI: i64 = 1_000;
/// Nodes that may number messages.
pub const NODES: i64 = 1_000;
/// How long a caller waits for the node to have a number again.
const WAIT: Duration = Duration::from_secs(5);

/// Makes the numbers of one node.
#[derive(Debug)]
pub struct MessageIds {
    lent: Mutex<Lent>,
    renewed: Notify,
}

/// A node's number, while it has it.
#[derive(Debug)]
struct Lent {
    node: i64,
    /// The last number made, without the node's.
    last: i64,
    /// Numbers are of earlier times than this, in µs.
    until: i64,
}

impl MessageIds {
    /// The numbers of a node, from the millisecond of one time in µs on and earlier than another.
    #[must_use]
    pub fn new(node: i64, from: i64, until: i64) -> MessageIds {
        let lent = Lent { node: node % NODES, last: before(from), until };
        MessageIds { lent: Mutex::new(lent), renewed: Notify::new() }
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on as a node, which may be another than before, with numbers between these times in µs.
    pub fn lend(&self, node: i64, from: i64, until: i64) {
        let mut lent = self.lent();
        *lent = Lent { node: node % NODES, last: lent.last.max(before(from)), until };
        drop(lent);
        self.renewed.notify_waiters();
    }

    /// Makes no more numbers until [`MessageIds::lend`]; gives the time in µs of the last one.
    pub fn stop(&self) -> i64 {
        let mut lent = self.lent();
        lent.until = 0;
        lent.last / PER_MILLI * 1_000
    }

    /// A new number, once the node has one itself; `None` if that takes too long.
    pub async fn next(&self, clock: &Clock) -> Option<MessageId> {
        let renewed = self.renewed.notified();
        if let Some(id) = self.at(clock.now()) {
            return Some(id);
        }
        // Late is as good as never: the caller tries again.
        let _ = tokio::time::timeout(WAIT, renewed).await;
        self.at(clock.now())
    }

    /// A new number, at a time in µs; `None` while the node has none itself.
    #[must_use]
    pub fn at(&self, now: i64) -> Option<MessageId> {
        let mut lent = self.lent();
        let slot = (lent.last + 1).max(now / 1_000 * PER_MILLI);
        let milli = slot / PER_MILLI;
        if milli * 1_000 >= lent.until {
            return None;
        }
        lent.last = slot;
        Some(MessageId((milli * NODES + lent.node) * PER_MILLI + slot % PER_MILLI))
    }
}

/// What precedes the first number of the millisecond of a time in µs.
fn before(from: i64) -> i64 {
    from / 1_000 * PER_MILLI - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;

    #[test]
    fn numbers_grow_have_19_digits_and_name_their_node() {
        let ids = MessageIds::new(7, NOW - 5_000_000, i64::MAX);
        let numbers: Vec<i64> = (0..3_000).filter_map(|_| ids.at(NOW)).map(|id| id.0).collect();
        assert_eq!(numbers.len(), 3_000);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(numbers.iter().all(|number| number.to_string().len() == 19));
        assert!(numbers.iter().all(|number| number / 1_000 % 1_000 == 7));
    }

    #[test]
    fn whoever_has_a_node_s_number_next_makes_none_of_the_numbers_made_before() {
        let until = NOW + 2_000;
        let former = MessageIds::new(7, NOW, until);
        // More than the time that is left has room for.
        let made: Vec<i64> = (0..5_000).filter_map(|_| former.at(NOW)).map(|id| id.0).collect();
        assert_eq!(made.len(), 2_000);
        assert_eq!(former.at(until), None);
        // It is taken over later; the clock may go back after that.
        let next = MessageIds::new(7, until + 1_000, i64::MAX);
        assert!(next.at(NOW).is_some_and(|id| id.0 > made[1_999]));
    }

    #[test]
    fn a_node_without_a_number_makes_none_until_it_has_another() {
        let ids = MessageIds::new(7, NOW, i64::MAX);
        ids.stop();
        assert_eq!(ids.at(NOW + 1_000), None);
        ids.lend(8, NOW, i64::MAX);
        assert!(ids.at(NOW + 1_000).is_some_and(|id| id.0 / 1_000 % 1_000 == 8));
    }
}
