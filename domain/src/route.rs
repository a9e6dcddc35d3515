//! The routing policy: which way a delivery goes, given how the sender wants it and whether the
//! device is here. Pure, and the same for every protocol.

use serde::{Deserialize, Serialize};

/// How a message wants to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// To the device if it is here, else kept for it until it comes (Easemob's 3; all of UMS).
    OnlineElseKept,
}

/// What to do with a delivery now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Send it over the device's live connection.
    Online,
    /// Keep it: the device gets it when it connects, or it expires.
    Keep,
}

/// The way for one delivery.
#[must_use]
pub fn route(strategy: Strategy, connected: bool) -> Route {
    match (strategy, connected) {
        (Strategy::OnlineElseKept, true) => Route::Online,
        (Strategy::OnlineElseKept, false) => Route::Keep,
    }
}
