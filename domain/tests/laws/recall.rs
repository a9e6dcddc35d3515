//! Recalls: before sending, on the device, too late, and those that follow from a display.

use domain::{
    Rejection,
    message::{
        AdvanceDeliveries, Ending, Progress, RecallMessage, RecallOp, RecallResult, Stage, Step,
    },
};

use crate::{
    cast::{
        APP, MESSAGE, accepted, accepted_to_burn, advanced, by_server, by_socket, recalled, sent,
    },
    message::advance,
    scenario::given,
};

use RecallOp::{Recall, Replace};
use RecallResult::{ReplacedUnseen, Requested, StoppedBeforeSending, TooLate, Unknown};

fn recall(op: RecallOp) -> RecallMessage {
    RecallMessage { app: APP.to_owned(), message: MESSAGE, op }
}

fn displayed(device: i64) -> Step {
    by_socket(device, Progress::Displayed)
}

fn answered(device: i64, result: RecallResult) -> AdvanceDeliveries {
    advance([by_socket(device, Progress::Recalled(result))])
}

#[test]
fn a_recall_says_at_once_what_it_means_for_each_device() {
    let steps = [
        sent(12),
        by_socket(13, Progress::Received),
        displayed(14),
        by_socket(15, Progress::Acknowledged),
    ];
    let results = [
        (11, StoppedBeforeSending),
        (12, Requested),
        (13, Requested),
        (14, TooLate),
        (15, TooLate),
    ];
    for op in [Recall, Replace] {
        let scenario = given([accepted(&[11, 12, 13, 14, 15]), advanced(steps.clone())])
            .when(recall(op))
            .then([recalled(op, &results)]);
        for (device, result) in results {
            assert_eq!(scenario.delivery(device).recall, Some((op, result)));
        }
        assert_eq!(scenario.delivery(11).ended, Some(Ending::Recalled));
        assert_eq!(scenario.delivery(12).ended, None);
    }
}

#[test]
fn a_message_is_recalled_or_replaced_once() {
    for first in [Recall, Replace] {
        let scenario = given([accepted(&[11])])
            .when(recall(first))
            .then([recalled(first, &[(11, StoppedBeforeSending)])]);
        scenario
            .when(recall(Recall))
            .then_rejected(Rejection::NothingToRecall)
            .when(recall(Replace))
            .then_rejected(Rejection::NothingToRecall);
    }
}

#[test]
fn a_recall_concerns_only_the_deliveries_that_none_concerned_before() {
    given([accepted(&[11, 12]), recalled(Recall, &[(11, StoppedBeforeSending)])])
        .when(recall(Replace))
        .then([recalled(Replace, &[(12, StoppedBeforeSending)])]);
}

#[test]
fn a_message_that_is_not_there_cannot_be_recalled() {
    given([]).when(recall(Recall)).then_rejected(Rejection::UnknownMessage);
    given([accepted(&[11]).of_app("other")])
        .when(recall(Recall))
        .then_rejected(Rejection::UnknownMessage);
}

#[test]
fn a_delivery_that_ended_before_its_recall_keeps_its_reason() {
    let expired = by_server(11, Progress::Ended(Ending::ExpiredOffline));
    let scenario = given([accepted(&[11]), advanced([expired])])
        .when(recall(Recall))
        .then([recalled(Recall, &[(11, StoppedBeforeSending)])]);
    assert_eq!(scenario.delivery(11).ended, Some(Ending::ExpiredOffline));
}

#[test]
fn a_device_answers_a_recall_once() {
    for result in [ReplacedUnseen, TooLate, Unknown] {
        let step = || by_socket(11, Progress::Recalled(result));
        let scenario =
            given([accepted(&[11]), advanced([sent(11)]), recalled(Recall, &[(11, Requested)])])
                .when(answered(11, result))
                .then([advanced([step()])])
                .when(answered(11, result))
                .then_nothing()
                .when(answered(11, ReplacedUnseen))
                .then_nothing();
        assert_eq!(scenario.delivery(11).recall, Some((Recall, result)));
    }
}

#[test]
fn what_only_the_server_knows_of_a_recall_is_no_answer_to_it() {
    given([accepted(&[11]), advanced([sent(11)]), recalled(Recall, &[(11, Requested)])])
        .when(answered(11, Requested))
        .then_nothing()
        .when(answered(11, StoppedBeforeSending))
        .then_nothing();
}

#[test]
fn an_answer_to_a_recall_that_nobody_asked_for_is_dropped() {
    given([accepted(&[11]), advanced([sent(11)])])
        .when(answered(11, ReplacedUnseen))
        .then_nothing();
}

#[test]
fn a_display_that_comes_before_the_answer_makes_a_recall_too_late() {
    let scenario =
        given([accepted(&[11]), advanced([sent(11)]), recalled(Replace, &[(11, Requested)])])
            .when(advance([displayed(11)]))
            .then([advanced([displayed(11)])]);
    assert_eq!(scenario.delivery(11).recall, Some((Replace, TooLate)));
    scenario.when(answered(11, ReplacedUnseen)).then_nothing();
}

#[test]
fn a_recall_waits_on_when_the_device_says_no_more_than_that_it_has_the_message() {
    let received = || by_socket(11, Progress::Received);
    let scenario =
        given([accepted(&[11]), advanced([sent(11)]), recalled(Recall, &[(11, Requested)])])
            .when(advance([received()]))
            .then([advanced([received()])]);
    assert_eq!(scenario.delivery(11).recall, Some((Recall, Requested)));
}

#[test]
fn a_recalled_delivery_does_not_end_for_another_reason() {
    given([accepted(&[11]), advanced([sent(11)]), recalled(Recall, &[(11, Requested)])])
        .when(advance([by_server(11, Progress::Ended(Ending::OwnerChanged))]))
        .then_nothing();
}

#[test]
fn a_device_that_got_what_a_recall_thought_to_stop_is_told() {
    for op in [Recall, Replace] {
        let scenario = given([accepted(&[11, 12]), recalled(op, &[(11, StoppedBeforeSending)])])
            .when(advance([sent(11), sent(12)]))
            .then([advanced([sent(11), sent(12)]), recalled(op, &[(11, Requested)])]);
        let delivery = scenario.delivery(11);
        assert_eq!((delivery.recall, delivery.ended), (Some((op, Requested)), None));
        assert_eq!(scenario.message().version, 4);
    }
}

#[test]
fn a_device_that_displayed_what_a_recall_thought_to_stop_was_too_late() {
    let scenario = given([accepted(&[11]), recalled(Recall, &[(11, StoppedBeforeSending)])])
        .when(advance([sent(11), displayed(11)]))
        .then([advanced([sent(11), displayed(11)]), recalled(Recall, &[(11, TooLate)])]);
    let delivery = scenario.delivery(11);
    assert_eq!((delivery.stage, delivery.recall), (Stage::Displayed, Some((Recall, TooLate))));
}

#[test]
fn a_message_that_burns_is_recalled_elsewhere_once_one_device_displayed_it() {
    let elsewhere = [(11, StoppedBeforeSending), (13, Requested)];
    let scenario = given([accepted_to_burn(&[11, 12, 13]), advanced([sent(12), sent(13)])])
        .when(advance([by_socket(12, Progress::Received)]))
        .then([advanced([by_socket(12, Progress::Received)])])
        .when(advance([displayed(12)]))
        .then([advanced([displayed(12)]), recalled(Recall, &elsewhere)]);
    assert_eq!(scenario.delivery(12).recall, None);
    scenario
        .when(advance([by_socket(12, Progress::Acknowledged)]))
        .then([advanced([by_socket(12, Progress::Acknowledged)])]);
}

#[test]
fn an_acknowledgement_burns_a_message_that_was_never_reported_as_displayed() {
    let step = || by_socket(11, Progress::Acknowledged);
    given([accepted_to_burn(&[11, 12])])
        .when(advance([step()]))
        .then([advanced([step()]), recalled(Recall, &[(12, StoppedBeforeSending)])]);
}

#[test]
fn a_message_that_two_devices_display_at_once_burns_on_the_others_alone() {
    given([accepted_to_burn(&[11, 12, 13])]).when(advance([displayed(11), displayed(12)])).then([
        advanced([displayed(11), displayed(12)]),
        recalled(Recall, &[(13, StoppedBeforeSending)]),
    ]);
}

#[test]
fn a_second_display_does_not_burn_the_message_where_it_was_displayed_first() {
    let scenario = given([accepted_to_burn(&[11, 12]), advanced([sent(11), sent(12)])])
        .when(advance([displayed(11)]))
        .then([advanced([displayed(11)]), recalled(Recall, &[(12, Requested)])])
        .when(advance([displayed(12)]))
        .then([advanced([displayed(12)])]);
    assert_eq!(scenario.delivery(11).recall, None);
    assert_eq!(scenario.delivery(12).recall, Some((Recall, TooLate)));
}

#[test]
fn a_message_that_burns_has_nothing_to_burn_when_it_went_to_one_device() {
    given([accepted_to_burn(&[11])])
        .when(advance([displayed(11)]))
        .then([advanced([displayed(11)])]);
}

#[test]
fn a_message_that_does_not_burn_stays_on_the_other_devices() {
    given([accepted(&[11, 12])]).when(advance([displayed(11)])).then([advanced([displayed(11)])]);
}
