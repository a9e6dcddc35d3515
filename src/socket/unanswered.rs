//! Messages that were sent now or never and wait for their device's answer. A session asks what is
//! to be sent again, or given up; the policy is [`domain::resend`].

use std::{collections::HashMap, sync::Arc};

use domain::{
    message::MessageId,
    resend::{Resend, Then, Wait},
};

use super::frames::MessageFrame;

/// Devices that left while messages waited for their answer, and are remembered in case they return.
const LEFT_DEVICES: usize = 10_000;
/// Time between two looks for what is over of devices that left, in µs.
const PRUNE_MICROS: i64 = 1_000_000;

/// One such message of one device.
#[derive(Debug, Clone)]
pub(super) struct Unanswered {
    frame: Arc<MessageFrame>,
    resend: Resend,
    /// How often it was sent.
    sends: usize,
    /// When to do what follows, in µs since the epoch.
    due_at: i64,
    then: Then,
}

impl Unanswered {
    fn sent(frame: Arc<MessageFrame>, resend: Resend, sends: usize, now: i64) -> Unanswered {
        let Wait { micros, then } = resend.after(sends);
        // What was late to be sent is over all the same when it expires: it is recorded so then.
        let due_at = now.saturating_add(micros).min(frame.expires_at);
        Unanswered { frame, resend, sends, due_at, then }
    }

    /// Whether it is over, whoever waits for it.
    fn over(&self, now: i64) -> bool {
        self.frame.expires_at <= now
    }
}

/// What is to be done now.
pub(super) enum Turn {
    /// It is sent once more.
    SendAgain(Arc<MessageFrame>),
    /// It is dropped.
    GiveUp(MessageId),
}

/// All that one connection waits for.
#[derive(Debug, Default)]
pub(super) struct Waiting(HashMap<MessageId, Unanswered>);

impl Waiting {
    /// Notes that a message was sent for the first time.
    pub(super) fn sent(&mut self, frame: &Arc<MessageFrame>, now: i64) {
        if let Some(resend) = frame.resend {
            let first = Unanswered::sent(Arc::clone(frame), resend, 1, now);
            self.0.insert(frame.id, first);
        }
    }

    /// Goes on with what an earlier connection of the device waited for, save what is over.
    pub(super) fn take_over(&mut self, left: Vec<Unanswered>, now: i64) {
        for own in left.into_iter().filter(|own| !own.over(now)) {
            self.0.entry(own.frame.id).or_insert(own);
        }
    }

    /// Forgets a message: it was answered, or recalled.
    pub(super) fn forget(&mut self, id: MessageId) {
        self.0.remove(&id);
    }

    /// What is left when the connection ends.
    pub(super) fn leave(&mut self) -> Vec<Unanswered> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// When something is to be done next, in µs since the epoch.
    pub(super) fn next_at(&self) -> Option<i64> {
        self.0.values().map(|own| own.due_at).min()
    }

    /// What is due, one at a time.
    pub(super) fn due(&mut self, now: i64) -> Option<Turn> {
        let due = self.0.values().filter(|own| own.due_at <= now);
        let own = due.min_by_key(|own| (own.due_at, own.frame.id))?;
        let (id, frame) = (own.frame.id, Arc::clone(&own.frame));
        let then = if own.over(now) { Then::GiveUp } else { own.then };
        match then {
            Then::SendAgain => {
                let again = Unanswered::sent(Arc::clone(&frame), own.resend, own.sends + 1, now);
                self.0.insert(id, again);
                Some(Turn::SendAgain(frame))
            }
            Then::GiveUp => {
                self.0.remove(&id);
                Some(Turn::GiveUp(id))
            }
        }
    }
}

/// What connections that ended waited for, by device.
#[derive(Debug, Default)]
pub(super) struct Left {
    devices: HashMap<i64, Vec<Unanswered>>,
    /// When to look next for what is over, in µs since the epoch.
    prune_at: i64,
}

impl Left {
    /// Keeps what a device may come back for; without room it is given up. A connection that ended
    /// late may leave after the one that replaced it: what both waited for is kept, each message as
    /// it was last sent.
    pub(super) fn keep(&mut self, device: i64, waiting: Vec<Unanswered>, now: i64) {
        if self.prune_at <= now {
            self.devices.retain(|_, left| left.iter().any(|own| !own.over(now)));
            self.prune_at = now.saturating_add(PRUNE_MICROS);
        }
        if self.devices.len() >= LEFT_DEVICES && !self.devices.contains_key(&device) {
            return;
        }
        let left = self.devices.entry(device).or_default();
        for own in waiting.into_iter().filter(|own| !own.over(now)) {
            match left.iter_mut().find(|other| other.frame.id == own.frame.id) {
                Some(other) if own.sends > other.sends => *other = own,
                Some(_) => {}
                None => left.push(own),
            }
        }
        if left.is_empty() {
            self.devices.remove(&device);
        }
    }

    /// What the device's last connection waited for.
    pub(super) fn take(&mut self, device: i64) -> Vec<Unanswered> {
        self.devices.remove(&device).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn sent(id: i64, sends: usize, expires_at: i64) -> Unanswered {
        let (id, resend, text) = (MessageId(id), Resend::UntilAnswered, String::new());
        let (position, chunk, some) = (0, None, Some(resend));
        let frame = MessageFrame {
            id,
            position,
            chunk,
            expires_at,
            resend: some,
            now_or_never: true,
            text,
        };
        Unanswered::sent(Arc::new(frame), resend, sends, 0)
    }

    #[test]
    fn what_is_over_of_devices_that_never_return_is_forgotten_when_another_leaves() {
        let mut left = Left::default();
        (0..100).for_each(|device| left.keep(device, vec![sent(1, 1, SECOND)], 0));
        left.keep(100, vec![sent(2, 1, 9 * SECOND)], SECOND);
        assert_eq!(left.devices.keys().copied().collect::<Vec<_>>(), [100]);
    }
    #[test]
    fn what_two_connections_of_a_device_waited_for_is_kept_by_message_whichever_ends_first() {
        let (newer, older) = ([sent(2, 1, 9 * SECOND), sent(3, 2, 9 * SECOND)], sent(1, 3, SECOND));
        let mut left = Left::default();
        left.keep(7, newer.to_vec(), 0);
        left.keep(7, vec![older, sent(3, 1, 9 * SECOND)], 0);
        let mut kept: Vec<(i64, usize)> =
            left.take(7).iter().map(|own| (own.frame.id.0, own.sends)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [(1, 3), (2, 1), (3, 2)]);
    }
}
