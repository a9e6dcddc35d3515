//! One delivery of a chunk in two bytes, and the same three folds as any delivery has.

use super::chunk::{Kind, Outcome};
use crate::{
    message::{Ending, Progress, Stage, Step},
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

/// One delivery as it is now, in 16 bits: 3 of the stage, 5 of the ending, 5 of the way, one for a
/// vendor that is asked again, and one for what is kept for the device until then. Views store them;
/// a new ending or vendor comes last.
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
/// Kept for the device though its way is a vendor that is asked again.
const KEPT: u16 = 1 << 14;

impl State {
    /// The state of a delivery for which no vendor is asked again.
    #[must_use]
    pub fn of(stage: Stage, ended: Option<Ending>, way: Way) -> State {
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
        State(u16::try_from(bits).unwrap_or(0))
    }

    fn with(self, flags: u16) -> State {
        State(self.0 | flags)
    }

    fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
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
        self.has(RETRYING)
    }

    /// Whether it is kept for the device, or was sent and the device has not said that it has it.
    #[must_use]
    pub fn kept(self) -> bool {
        let online = self.way() == Way::Online || self.has(KEPT);
        online && self.stage() < Stage::Received && self.ended().is_none()
    }

    /// Whether nothing was handed over and something still may be.
    #[must_use]
    pub fn unsent(self) -> bool {
        self.open() && self.stage() < Stage::Sent
    }

    /// Whether another attempt may concern it.
    #[must_use]
    pub fn open(self) -> bool {
        self.retrying() || self.kept()
    }

    /// Whether it ended as its time was over or its task was cancelled, and nobody has it: a vendor
    /// that was being asked by then may take it all the same.
    pub(super) fn overtaken(self) -> bool {
        let over = match self.ended() {
            Some(
                Ending::Recalled
                | Ending::ExpiredOffline
                | Ending::ExpiredUnsent
                | Ending::ExpiredUnacknowledged,
            ) => true,
            Some(
                Ending::OwnerChanged
                | Ending::Unregistered
                | Ending::NoBinding
                | Ending::NotPresent
                | Ending::DeadToken
                | Ending::Muted
                | Ending::Unfit
                | Ending::QuotaExhausted
                | Ending::Misconfigured
                | Ending::VendorUnavailable
                | Ending::Unacknowledged,
            )
            | None => false,
        };
        over && self.stage() < Stage::Received
    }

    /// The delivery after an attempt.
    #[must_use]
    pub fn after(self, kind: Kind) -> State {
        let way = kind.vendor.map_or(self.way(), Way::Vendor);
        let stage = |least: Stage| self.stage().max(least);
        // What a device was handed went that way, until a vendor takes it too.
        let put_off = if self.stage() < Stage::Sent { way } else { self.way() };
        // Whoever has it needs no vendor any more, however late it is recorded that one is asked.
        let waits = |flags| if self.stage() < Stage::Received { flags } else { 0 };
        match kind.outcome {
            Outcome::Sent => State::of(stage(Stage::Sent), None, way),
            Outcome::Online => State::of(stage(Stage::Routed), None, Way::Online),
            Outcome::Retrying => {
                State::of(stage(Stage::Routed), None, put_off).with(waits(RETRYING))
            }
            Outcome::Either => {
                State::of(stage(Stage::Routed), None, put_off).with(waits(RETRYING | KEPT))
            }
            Outcome::Ended => State::of(self.stage(), kind.reason, way),
        }
    }

    /// The delivery after a step; the same when the step says nothing new. An acknowledgement on
    /// one way cancels the other: who has it is not sent it by a vendor any more.
    #[must_use]
    pub fn advance(self, step: &Step) -> State {
        let stage = match step.what {
            Progress::Sent => Stage::Sent,
            Progress::Received => Stage::Received,
            Progress::Displayed => Stage::Displayed,
            Progress::Acknowledged => Stage::Acknowledged,
            Progress::Ended(reason) if self.open() => {
                return State::of(self.stage(), Some(reason), self.way());
            }
            Progress::Ended(_) | Progress::Failed(_) | Progress::Recalled(_) => return self,
        };
        // No vendor was known to take what is kept meanwhile, so it went over our own channel,
        // unless the vendor itself says so.
        let kept = self.has(KEPT).then(|| step.vendor.map_or(Way::Online, Way::Vendor));
        let way = kept.unwrap_or(self.way());
        let after = State::of(self.stage().max(stage), self.ended(), way);
        let waits = self.retrying() && after.stage() < Stage::Received;
        after.with(if waits { RETRYING } else { 0 })
    }

    /// Why it ends when its time is over, or its task was cancelled; `None` if that ends nothing.
    pub(super) fn ending(self, cancelled: bool) -> Option<Ending> {
        match (self.unsent(), self.retrying()) {
            (true, _) if cancelled => Some(Ending::Recalled),
            (true, true) if !self.has(KEPT) => Some(Ending::ExpiredUnsent),
            (true, _) => Some(Ending::ExpiredOffline),
            (false, _) if self.open() && !cancelled => Some(Ending::ExpiredUnacknowledged),
            (false, _) => None,
        }
    }
}
