//! What a device remembers of the messages it got, so that its app sees each of them once.

use std::collections::{HashMap, VecDeque};

/// Messages that a device remembers; the oldest is forgotten first.
const REMEMBERED_MESSAGES_MAX: usize = 4_096;

/// UMS status from which a message counts as displayed.
const DISPLAYED: u8 = 3;

/// The ids a device has seen, each with the highest status it reported.
#[derive(Default)]
pub(crate) struct Memory {
    order: VecDeque<String>,
    reported: HashMap<String, u8>,
}

impl Memory {
    /// Remembers a message; false if it was remembered already.
    pub(crate) fn add(&mut self, id: &str) -> bool {
        if self.reported.contains_key(id) {
            return false;
        }
        if self.order.len() == REMEMBERED_MESSAGES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.reported.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.reported.insert(id.to_owned(), 0);
        true
    }

    /// Notes a report on a remembered message.
    pub(crate) fn note(&mut self, id: &str, status: u8) {
        if let Some(reported) = self.reported.get_mut(id) {
            *reported = status.max(*reported);
        }
    }

    /// The highest status reported, if that says that the message was displayed.
    pub(crate) fn displayed(&self, id: &str) -> Option<u8> {
        self.reported.get(id).copied().filter(|status| *status >= DISPLAYED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_message_is_forgotten_when_the_memory_is_full() {
        let mut memory = Memory::default();
        for number in 0..=REMEMBERED_MESSAGES_MAX {
            assert!(memory.add(&number.to_string()));
        }
        assert!(!memory.add("1"));
        assert!(memory.add("0"));
    }

    #[test]
    fn a_message_stays_displayed_whatever_is_reported_later() {
        let mut memory = Memory::default();
        memory.add("1");
        for (status, displayed) in [(2, None), (3, Some(3)), (2, Some(3)), (4, Some(4))] {
            memory.note("1", status);
            assert_eq!(memory.displayed("1"), displayed);
        }
    }
}
