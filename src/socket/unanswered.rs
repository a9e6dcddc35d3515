//! Messages that were sent now or never and wait for their device's answer. A session asks what is
//! to be sent again, or given up; the policy is [`domain::resend`].

use std::{collections::HashMap, sync::Arc};

use domain::{
    message::MessageId,
    resend::{Resend, Then, Wait},
};

use super::frames::MessageFrame;

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
        Unanswered { frame, resend, sends, due_at: now.saturating_add(micros), then }
    }

    /// When the last try is over, in µs since the epoch, at the latest.
    pub(super) fn over_at(&self) -> i64 {
        self.due_at.saturating_add(self.resend.life_micros())
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

    /// Goes on with what an earlier connection of the device waited for.
    pub(super) fn take_over(&mut self, left: Vec<Unanswered>) {
        for own in left {
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
        match own.then {
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
