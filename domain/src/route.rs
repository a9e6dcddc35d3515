//! The routing policy: which way a delivery goes, given how the sender wants it, whether the device
//! is here, and whether it is bound to a push vendor. Pure, and the same for every protocol.

use serde::{Deserialize, Serialize};

use crate::message::Ending;

/// How a message wants to travel. The numbers are Easemob's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// To the vendor; if that fails, over our own channel, where it is kept.
    VendorElseOnline = 0,
    /// Over our own channel alone, and kept for a device that is away.
    OnlineElseKept = 1,
    /// To the vendor alone.
    VendorOnly = 2,
    /// Over our own channel to a device that is here, else to the vendor, else kept. All of UMS.
    OnlineElseVendor = 3,
    /// Over our own channel, to a device that is here, and never kept.
    PresentOnly = 4,
}

/// What is known of a device when a way is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// Whether it is connected to any node.
    pub present: bool,
    /// Whether it has a token of a vendor that the app is configured for.
    pub bound: bool,
}

/// What to do with a delivery now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Our own channel: now if the device is here, else when it comes.
    Online,
    /// The push vendor.
    Vendor,
    /// Nothing more: it ends for that reason.
    End(Ending),
}

impl Strategy {
    /// All of them, in order of their numbers.
    pub const ALL: [Strategy; 5] = [
        Strategy::VendorElseOnline,
        Strategy::OnlineElseKept,
        Strategy::VendorOnly,
        Strategy::OnlineElseVendor,
        Strategy::PresentOnly,
    ];

    /// The strategy with that number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| *strategy as i64 == number)
    }

    /// Whether a device that is connected gets the message at once, without a further decision.
    #[must_use]
    pub fn online_first(self) -> bool {
        match self {
            Strategy::OnlineElseKept | Strategy::OnlineElseVendor | Strategy::PresentOnly => true,
            Strategy::VendorElseOnline | Strategy::VendorOnly => false,
        }
    }

    /// Whether a device that is away finds the message when it comes, without a further decision.
    #[must_use]
    pub fn kept_at_once(self) -> bool {
        match self {
            Strategy::OnlineElseKept | Strategy::OnlineElseVendor => true,
            Strategy::VendorElseOnline | Strategy::VendorOnly | Strategy::PresentOnly => false,
        }
    }

    /// Whether a vendor may ever be asked.
    #[must_use]
    pub fn uses_vendor(self) -> bool {
        match self {
            Strategy::VendorElseOnline | Strategy::VendorOnly | Strategy::OnlineElseVendor => true,
            Strategy::OnlineElseKept | Strategy::PresentOnly => false,
        }
    }
}

/// The way for one delivery, at first.
#[must_use]
pub fn route(strategy: Strategy, ways: Ways) -> Route {
    match (strategy, ways.present, ways.bound) {
        (Strategy::VendorElseOnline | Strategy::VendorOnly, _, true)
        | (Strategy::OnlineElseVendor, false, true) => Route::Vendor,
        (Strategy::VendorElseOnline, _, false)
        | (Strategy::OnlineElseKept, _, _)
        | (Strategy::OnlineElseVendor, true, _)
        | (Strategy::OnlineElseVendor, false, false)
        | (Strategy::PresentOnly, true, _) => Route::Online,
        (Strategy::VendorOnly, _, false) => Route::End(Ending::NoBinding),
        (Strategy::PresentOnly, false, _) => Route::End(Ending::NotPresent),
    }
}

/// The way for a delivery that the vendor will not take, for that reason.
#[must_use]
pub fn after_vendor(strategy: Strategy, failed: Ending) -> Route {
    match strategy {
        Strategy::VendorElseOnline | Strategy::OnlineElseVendor => Route::Online,
        Strategy::OnlineElseKept | Strategy::VendorOnly | Strategy::PresentOnly => {
            Route::End(failed)
        }
    }
}

/// The way for a delivery whose vendor cannot be asked again before it expires, which it may have
/// done by now. What is kept for the device stays so to the end.
#[must_use]
pub fn after_waiting(strategy: Strategy, expired: bool) -> Route {
    match after_vendor(strategy, Ending::VendorUnavailable) {
        Route::Online if !expired || strategy.kept_at_once() => Route::Online,
        Route::Online | Route::Vendor | Route::End(_) => Route::End(Ending::ExpiredUnsent),
    }
}

/// Whether a delivery that a connected device leaves without an answer goes to the vendor too.
#[must_use]
pub fn after_silence(strategy: Strategy, bound: bool) -> bool {
    strategy == Strategy::OnlineElseVendor && bound
}
