//! What all callbacks in memory may take together. Whoever would take more waits in the view, so
//! that neither many receivers nor large events use up the machine. A share is given back when what
//! it was for is dropped, whichever way that went.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Callbacks in memory, at most.
pub(super) const MAX_CALLBACKS: usize = 32_768;
/// Bytes of them, at most. What one event says to many receivers counts once.
pub(super) const MAX_BYTES: usize = 256 * 1024 * 1024;

/// What is in use.
#[derive(Debug, Default)]
pub(super) struct Budget {
    callbacks: AtomicUsize,
    bytes: AtomicUsize,
}

impl Budget {
    /// Whether no more may be taken up.
    pub(super) fn is_full(&self) -> bool {
        self.callbacks.load(Ordering::Relaxed) >= MAX_CALLBACKS
            || self.bytes.load(Ordering::Relaxed) >= MAX_BYTES
    }
}

/// One callback's part. Its clone is that of another callback with the same bytes.
#[derive(Debug)]
pub(super) struct Share(Arc<Text>);

/// Bytes that several callbacks share.
#[derive(Debug)]
struct Text {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>, bytes: usize) -> Share {
        budget.callbacks.fetch_add(1, Ordering::Relaxed);
        budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        Share(Arc::new(Text { budget: Arc::clone(budget), bytes }))
    }

    /// The bytes that it was taken for.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes
    }
}

impl Clone for Share {
    fn clone(&self) -> Share {
        self.0.budget.callbacks.fetch_add(1, Ordering::Relaxed);
        Share(Arc::clone(&self.0))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.budget.callbacks.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_share_counts_once_in_bytes_and_all_of_it_is_given_back() {
        let budget = Arc::new(Budget::default());
        let first = Share::new(&budget, MAX_BYTES / 2);
        let others: Vec<Share> = (1..MAX_CALLBACKS).map(|_| first.clone()).collect();
        assert!(budget.is_full(), "too many callbacks");
        drop(others);
        assert!(!budget.is_full());
        let more = Share::new(&budget, MAX_BYTES / 2);
        assert!(budget.is_full(), "too many bytes");
        drop((first, more));
        assert_eq!(budget.callbacks.load(Ordering::Relaxed), 0);
        assert_eq!(budget.bytes.load(Ordering::Relaxed), 0);
    }
}
