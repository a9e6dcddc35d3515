//! How long the steps of a delivery took: four steps, each measured where both of its ends were
//! recorded. Messages and chunks note them while they are folded; histograms of any of them add up.

use crate::Fault;

/// A step whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// From acceptance (of a task: from its start) until it was handed over.
    HandedOver,
    /// From acceptance until the device had it.
    Received,
    /// From then until the device showed it.
    Displayed,
    /// From then until its user answered it.
    Acknowledged,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Step; 4] =
        [Step::HandedOver, Step::Received, Step::Displayed, Step::Acknowledged];

    /// The stable name: in views and statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::HandedOver => "handed_over",
            Step::Received => "received",
            Step::Displayed => "displayed",
            Step::Acknowledged => "acknowledged",
        }
    }

    /// The step of a stored name.
    pub(crate) fn named(name: &str) -> Result<Step, Fault> {
        let found = Step::ALL.into_iter().find(|step| step.name() == name);
        found.ok_or_else(|| Fault::stored("step", name))
    }

    /// When a step began and ended, in µs, by when its delivery was accepted and by the times at
    /// which it was handed over, received, displayed and acknowledged.
    #[must_use]
    pub fn ends(self, accepted_at: i64, times: &[Option<i64>; 5]) -> (Option<i64>, Option<i64>) {
        let [sent, received, displayed, acknowledged, _] = *times;
        match self {
            Step::HandedOver => (Some(accepted_at), sent),
            Step::Received => (Some(accepted_at), received),
            Step::Displayed => (received, displayed),
            Step::Acknowledged => (displayed, acknowledged),
        }
    }
}

/// The steps that ended between two states of a delivery's times, and how long each took, in ms.
pub(crate) fn ended(
    accepted_at: i64,
    before: &[Option<i64>; 5],
    after: &[Option<i64>; 5],
) -> impl Iterator<Item = (Step, i64)> {
    Step::ALL.into_iter().filter_map(move |step| {
        match (step.ends(accepted_at, before), step.ends(accepted_at, after)) {
            ((_, None), (Some(begin), Some(end))) => Some((step, (end - begin).max(0) / 1_000)),
            _ => None,
        }
    })
}
