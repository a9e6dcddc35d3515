//! Numbers of messages: 13 digits of milliseconds, 3 of the node, 3 of a sequence. They grow, so
//! they keep appends together; two nodes never make the same one.

use std::sync::atomic::{AtomicI64, Ordering};

use domain::message::MessageId;

/// Messages that one node may number in one millisecond; the next takes the next millisecond.
const PER_MILLI: i64 = 1_000;
/// Nodes that may number messages.
pub const NODES: i64 = 1_000;

/// Makes the numbers of one node.
#[derive(Debug)]
pub struct MessageIds {
    node: i64,
    last: AtomicI64,
}

impl MessageIds {
    /// The numbers of a node, all later than a time in µs.
    #[must_use]
    pub fn new(node: i64, after: i64) -> MessageIds {
        MessageIds { node: node % NODES, last: AtomicI64::new((after / 1_000 + 1) * PER_MILLI) }
    }

    /// A new number, at a time in µs.
    #[must_use]
    pub fn next(&self, now: i64) -> MessageId {
        let now = now / 1_000 * PER_MILLI;
        let after = |last: i64| (last + 1).max(now);
        let last =
            self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        // The closure always gives a value, so both arms hold the previous one.
        let slot = after(last.unwrap_or_else(|last| last));
        MessageId((slot / PER_MILLI * NODES + self.node) * PER_MILLI + slot % PER_MILLI)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_have_19_digits_and_name_their_node() {
        let now = 1_700_000_000_000_000;
        let ids = MessageIds::new(7, now - 5_000_000);
        let numbers: Vec<i64> = (0..3_000).map(|_| ids.next(now).0).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(numbers.iter().all(|number| number.to_string().len() == 19));
        assert!(numbers.iter().all(|number| number / 1_000 % 1_000 == 7));
    }
}
