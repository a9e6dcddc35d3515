//! The protocol's state of a message, for every stage and every recall.

use domain::{
    message::{Delivery, Message, MessageAccepted, RecallOp, RecallResult, Sender, Stage, Target},
    ums::{delivery_status, message_status},
};

use crate::{
    cast::{MESSAGE, of_message, push_to},
    golden::ENDINGS,
    scenario::given,
};

const RESULTS: [RecallResult; 5] = [
    RecallResult::Requested,
    RecallResult::StoppedBeforeSending,
    RecallResult::ReplacedUnseen,
    RecallResult::TooLate,
    RecallResult::Unknown,
];

/// A stage, its state without a recall, and its states in the order of [`RESULTS`] after it was
/// recalled and after it was replaced.
type Row = (Stage, i64, [i64; 5], [i64; 5]);

const TABLE: [Row; 6] = [
    (Stage::Accepted, 0, [0, 5, 5, 0, 0], [0, 6, 6, 0, 0]),
    (Stage::Routed, 0, [0, 5, 5, 0, 0], [0, 6, 6, 0, 0]),
    (Stage::Sent, 1, [1, 5, 5, 1, 1], [1, 6, 6, 1, 1]),
    (Stage::Received, 2, [2, 5, 5, 2, 2], [2, 6, 6, 2, 2]),
    (Stage::Displayed, 3, [3, 5, 5, 3, 3], [3, 6, 6, 3, 3]),
    (Stage::Acknowledged, 4, [4, 5, 5, 4, 4], [4, 6, 6, 4, 4]),
];

/// All deliveries of the table with their states.
fn all() -> Vec<(Delivery, i64)> {
    let mut all = Vec::new();
    for (stage, bare, recalled, replaced) in TABLE {
        let delivery = |recall| Delivery { stage, recall, ..Delivery::default() };
        all.push((delivery(None), bare));
        for (op, states) in [(RecallOp::Recall, recalled), (RecallOp::Replace, replaced)] {
            for (result, state) in RESULTS.into_iter().zip(states) {
                all.push((delivery(Some((op, result))), state));
            }
        }
    }
    all
}

/// The message with these deliveries, to devices 1, 2, 3, ….
fn message(deliveries: &[Delivery]) -> Message {
    let targets = (1..).zip(deliveries).map(|(device, _)| Target { device, account: None });
    let accepted =
        MessageAccepted { sender: Sender::Cloud, targets: targets.collect(), ..push_to(&[]) };
    let mut message = Message::clone(&given([of_message(accepted)]).message());
    assert_eq!(message.deliveries.len(), deliveries.len(), "message {MESSAGE}");
    for (now, delivery) in message.deliveries.values_mut().zip(deliveries) {
        *now = delivery.clone();
    }
    message
}

#[test]
fn the_state_of_a_delivery_follows_from_its_stage_and_its_recall_alone() {
    assert_eq!(all().len(), 6 * 11);
    for (delivery, state) in all() {
        for ended in ENDINGS.map(Some).into_iter().chain([None]) {
            for reported in [None, Some(Stage::Received), Some(Stage::Acknowledged)] {
                let delivery = Delivery { ended, reported, ..delivery.clone() };
                assert_eq!(delivery_status(&delivery), state, "{delivery:?}");
            }
        }
    }
}

#[test]
fn the_state_of_a_message_to_one_device_is_that_of_its_delivery() {
    for (delivery, state) in all() {
        assert_eq!(message_status(&message(&[delivery])), state);
    }
}

#[test]
fn the_state_of_a_message_is_that_of_the_delivery_that_got_furthest() {
    for (one, one_state) in all() {
        for (other, other_state) in all() {
            let state = message_status(&message(&[one.clone(), other.clone()]));
            let expected = match one.stage.cmp(&other.stage) {
                std::cmp::Ordering::Less => other_state,
                std::cmp::Ordering::Greater => one_state,
                std::cmp::Ordering::Equal => one_state.max(other_state),
            };
            assert_eq!(state, expected, "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_message_to_nobody_was_not_sent() {
    assert_eq!(message_status(&message(&[])), 0);
}
