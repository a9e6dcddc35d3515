//! One delivery of a chunk in two bytes, and the same three folds as any delivery has.

use super::chunk::{Kind, Outcome};
use crate::{
    message::{Ending, Progress, Stage},
    vendor::Vendor,
};

/// The way that a delivery goes, or went last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// None yet.
    Undecided,
    /// Our own channel.
    Online,
    /// A push vendor.
    Vendor(Vendor),
}

impl Way {
    /// The stable name: in statistics; none for none.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Way::Undecided => "",
            Way::Online => "online",
            Way::Vendor(vendor) => vendor.name(),
        }
    }
}

/// One delivery as it is now, in 16 bits: 3 of the stage, 5 of the ending, 5 of the way, and one
/// for a vendor that is asked again. Views store them; a new ending or vendor comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State(pub u16);

const STAGES: [Stage; 6] = [
    Stage::Accepted,
    Stage::Routed,
    Stage::Sent,
    Stage::Received,
    Stage::Displayed,
    Stage::Acknowledged,
];
const ENDINGS: [Ending; 15] = [
    Ending::ExpiredOffline,
    Ending::ExpiredUnacknowledged,
    Ending::OwnerChanged,
    Ending::Unregistered,
    Ending::Recalled,
    Ending::NoBinding,
    Ending::NotPresent,
    Ending::DeadToken,
    Ending::Muted,
    Ending::Unfit,
    Ending::QuotaExhausted,
    Ending::Misconfigured,
    Ending::VendorUnavailable,
    Ending::ExpiredUnsent,
    Ending::Unacknowledged,
];
const RETRYING: u16 = 1 << 13;

impl State {
    /// The state of a delivery for which no vendor is asked again.
    #[must_use]
    pub fn of(stage: Stage, ended: Option<Ending>, way: Way) -> State {
        State::new(stage, ended, way, false)
    }

    fn new(stage: Stage, ended: Option<Ending>, way: Way, retrying: bool) -> State {
        let place = |ending| ENDINGS.iter().position(|own| *own == ending).map_or(0, |at| at + 1);
        let way = match way {
            Way::Undecided => 0,
            Way::Online => 1,
            Way::Vendor(vendor) => {
                2 + Vendor::ALL.iter().position(|own| *own == vendor).unwrap_or(0)
            }
        };
        let bits = stage as usize | ended.map_or(0, place) << 3 | way << 8;
        // Six stages, 15 endings and a handful of ways are far from their bits' ends.
        let bits = u16::try_from(bits).unwrap_or(0);
        State(if retrying { bits | RETRYING } else { bits })
    }

    /// How far it got.
    #[must_use]
    pub fn stage(self) -> Stage {
        STAGES.get(usize::from(self.0 & 7)).copied().unwrap_or_default()
    }

    /// Why it stopped, if it did.
    #[must_use]
    pub fn ended(self) -> Option<Ending> {
        ENDINGS.get(usize::from(self.0 >> 3 & 31).checked_sub(1)?).copied()
    }

    /// The way that it goes.
    #[must_use]
    pub fn way(self) -> Way {
        match usize::from(self.0 >> 8 & 31) {
            0 => Way::Undecided,
            1 => Way::Online,
            vendor => Vendor::ALL.get(vendor - 2).map_or(Way::Undecided, |own| Way::Vendor(*own)),
        }
    }

    /// Whether a vendor is to be asked again.
    #[must_use]
    pub fn retrying(self) -> bool {
        self.0 & RETRYING != 0
    }

    /// Whether it is kept for the device, or was sent and the device has not said that it has it.
    #[must_use]
    pub fn kept(self) -> bool {
        self.way() == Way::Online && self.stage() < Stage::Received && self.ended().is_none()
    }

    /// Whether nothing was handed over and something still may be.
    #[must_use]
    pub fn unsent(self) -> bool {
        self.retrying() || self.kept() && self.stage() < Stage::Sent
    }

    /// Whether another attempt may concern it.
    #[must_use]
    pub fn open(self) -> bool {
        self.retrying() || self.kept()
    }

    /// The delivery after an attempt.
    #[must_use]
    pub fn after(self, kind: Kind) -> State {
        let way = kind.vendor.map_or(self.way(), Way::Vendor);
        let stage = |least: Stage| self.stage().max(least);
        match kind.outcome {
            Outcome::Sent => State::new(stage(Stage::Sent), None, way, false),
            Outcome::Online => State::new(stage(Stage::Routed), None, Way::Online, false),
            Outcome::Retrying => State::new(stage(Stage::Routed), None, way, true),
            Outcome::Ended => State::new(self.stage(), kind.reason, way, false),
        }
    }

    /// The delivery after a step; the same when the step says nothing new.
    #[must_use]
    pub fn advance(self, what: Progress) -> State {
        let stage = match what {
            Progress::Sent => Stage::Sent,
            Progress::Received => Stage::Received,
            Progress::Displayed => Stage::Displayed,
            Progress::Acknowledged => Stage::Acknowledged,
            Progress::Ended(reason) if self.open() => {
                return State::new(self.stage(), Some(reason), self.way(), false);
            }
            Progress::Ended(_) | Progress::Failed(_) | Progress::Recalled(_) => return self,
        };
        State::new(self.stage().max(stage), self.ended(), self.way(), self.retrying())
    }

    /// Why it ends when its time is over, or its task was cancelled; `None` if that ends nothing.
    pub(super) fn ending(self, cancelled: bool) -> Option<Ending> {
        match (self.unsent(), self.retrying()) {
            (true, _) if cancelled => Some(Ending::Recalled),
            (true, true) => Some(Ending::ExpiredUnsent),
            (true, false) => Some(Ending::ExpiredOffline),
            (false, _) if self.kept() && !cancelled => Some(Ending::ExpiredUnacknowledged),
            (false, _) => None,
        }
    }
}
