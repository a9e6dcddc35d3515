//! Haier UMS V2 states as tables over the folds. The protocol has one number for a message; we
//! keep three folds for each of its deliveries.

use crate::message::{Delivery, Message, RecallOp, RecallResult, Stage};

/// The protocol's state of one delivery: 0 not sent, 1 sent, 2 received, 3 displayed,
/// 4 answered, 5 taken back, 6 replaced by an empty message.
#[must_use]
pub fn delivery_status(delivery: &Delivery) -> i64 {
    match delivery.recall {
        Some((op, RecallResult::StoppedBeforeSending | RecallResult::ReplacedUnseen)) => match op {
            RecallOp::Recall => 5,
            RecallOp::Replace => 6,
        },
        Some((_, RecallResult::Requested | RecallResult::TooLate | RecallResult::Unknown))
        | None => match delivery.stage {
            Stage::Accepted | Stage::Routed => 0,
            Stage::Sent => 1,
            Stage::Received => 2,
            Stage::Displayed => 3,
            Stage::Acknowledged => 4,
        },
    }
}

/// The protocol's state of a message: that of the delivery that got furthest.
#[must_use]
pub fn message_status(message: &Message) -> i64 {
    let furthest = message.deliveries.values().max_by_key(|d| (d.stage, delivery_status(d)));
    furthest.map_or(0, delivery_status)
}
