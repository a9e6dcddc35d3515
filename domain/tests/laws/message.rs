//! Deliveries: what is news, what ends them, and what a late report still does.

use domain::{
    Rejection,
    message::{
        AdvanceDeliveries, Delivery, Ending, ExpireDeliveries, Progress, RecallOp, RecallResult,
        Stage, Step,
    },
    vendor::Vendor,
};

use crate::{
    cast::{MESSAGE, accepted, advanced, by_server, by_socket, failed, recalled, sent, taken_by},
    golden::ENDINGS,
    ledger::at,
    scenario::given,
};

pub(crate) fn advance(steps: impl IntoIterator<Item = Step>) -> AdvanceDeliveries {
    AdvanceDeliveries { message: MESSAGE, steps: steps.into_iter().collect() }
}

fn expire(devices: &[i64]) -> ExpireDeliveries {
    ExpireDeliveries { message: MESSAGE, devices: devices.to_vec() }
}

fn received(device: i64) -> Step {
    by_socket(device, Progress::Received)
}

fn displayed(device: i64) -> Step {
    by_socket(device, Progress::Displayed)
}

fn acknowledged(device: i64) -> Step {
    by_socket(device, Progress::Acknowledged)
}

fn ended(device: i64, reason: Ending) -> Step {
    by_server(device, Progress::Ended(reason))
}

#[test]
fn a_delivery_goes_from_accepted_to_acknowledged() {
    let mut scenario = given([accepted(&[11])]);
    assert_eq!(scenario.delivery(11), Delivery::default());
    for (step, stage) in [
        (sent(11), Stage::Sent),
        (received(11), Stage::Received),
        (displayed(11), Stage::Displayed),
        (acknowledged(11), Stage::Acknowledged),
    ] {
        scenario = scenario.when(advance([step.clone()])).then([advanced([step])]);
        assert_eq!(scenario.delivery(11), Delivery { stage, ..Delivery::default() });
    }
}

#[test]
fn what_arrives_together_is_one_event() {
    let steps = || [sent(11), sent(12), received(11), displayed(11), received(12)];
    given([accepted(&[11, 12])]).when(advance(steps())).then([advanced(steps())]);
}

#[test]
fn steps_that_are_no_news_are_dropped() {
    given([accepted(&[11, 12]), advanced([sent(11), received(11)])])
        .when(advance([sent(11), sent(12), received(11), displayed(11), sent(12), received(11)]))
        .then([advanced([sent(12), displayed(11)])]);
}

#[test]
fn steps_that_are_all_no_news_are_no_event() {
    given([accepted(&[11]), advanced([sent(11), displayed(11)])])
        .when(advance([sent(11), received(11), displayed(11)]))
        .then_nothing();
    given([accepted(&[11])]).when(advance([])).then_nothing();
}

#[test]
fn steps_of_devices_that_the_message_does_not_go_to_are_dropped() {
    given([accepted(&[11])])
        .when(advance([received(12), sent(11)]))
        .then([advanced([sent(11)])])
        .when(advance([received(12)]))
        .then_nothing();
}

#[test]
fn a_message_that_is_not_there_cannot_go_on() {
    given([]).when(advance([sent(11)])).then_rejected(Rejection::UnknownMessage);
    given([]).when(expire(&[11])).then_rejected(Rejection::UnknownMessage);
}

#[test]
fn a_stage_only_rises() {
    let scenario = given([accepted(&[11])])
        .when(advance([displayed(11), sent(11), received(11)]))
        .then([advanced([displayed(11)])]);
    assert_eq!(scenario.delivery(11).stage, Stage::Displayed);
    // Not even when an event says otherwise.
    let scenario = scenario.and([advanced([sent(11), received(11)])]);
    assert_eq!(scenario.delivery(11).stage, Stage::Displayed);
}

#[test]
fn a_message_is_pushed_when_it_is_first_handed_over() {
    let scenario = given([accepted(&[11, 12])]);
    assert_eq!(scenario.message().pushed_at, None);
    let scenario = scenario.when(advance([sent(12)])).then([advanced([sent(12)])]);
    assert_eq!(scenario.message().pushed_at, Some(at(2)));
    let scenario = scenario.when(advance([sent(11)])).then([advanced([sent(11)])]);
    assert_eq!(scenario.message().pushed_at, Some(at(2)));
    assert_eq!(scenario.message().accepted_at, at(1));
}

#[test]
fn a_report_that_overtakes_the_word_that_it_was_sent_says_that_it_was_pushed() {
    let scenario = given([accepted(&[11])])
        .when(advance([received(11)]))
        .then([advanced([received(11)])])
        .when(advance([sent(11)]))
        .then_nothing();
    assert_eq!(scenario.message().pushed_at, Some(at(2)));
}

#[test]
fn a_delivery_that_ended_is_no_longer_open_and_ends_once() {
    let scenario = given([accepted(&[11])])
        .when(advance([ended(11, Ending::OwnerChanged), ended(11, Ending::Unregistered)]))
        .then([advanced([ended(11, Ending::OwnerChanged)])])
        .when(advance([ended(11, Ending::Unregistered)]))
        .then_nothing();
    assert!(!scenario.delivery(11).open());
    // Not even when an event says otherwise.
    let scenario = scenario.and([advanced([ended(11, Ending::Unregistered)])]);
    assert_eq!(scenario.delivery(11).ended, Some(Ending::OwnerChanged));
}

#[test]
fn a_late_report_still_raises_the_stage_of_a_delivery_that_ended() {
    let scenario = given([accepted(&[11]), advanced([ended(11, Ending::ExpiredOffline)])])
        .when(advance([displayed(11)]))
        .then([advanced([displayed(11)])]);
    let delivery = scenario.delivery(11);
    assert_eq!((delivery.stage, delivery.ended), (Stage::Displayed, Some(Ending::ExpiredOffline)));
}

#[test]
fn a_delivery_that_the_device_has_does_not_end() {
    for step in [received(11), displayed(11), acknowledged(11)] {
        given([accepted(&[11]), advanced([step])])
            .when(advance([ended(11, Ending::OwnerChanged)]))
            .then_nothing();
    }
}

#[test]
fn a_delivery_is_open_until_the_device_has_it() {
    let mut delivery = Delivery::default();
    for (step, open) in [(sent(11), true), (received(11), false)] {
        assert!(delivery.open());
        delivery.advance(&step);
        assert_eq!(delivery.open(), open);
    }
}

#[test]
fn an_unsent_delivery_expires_offline_and_a_sent_one_unacknowledged() {
    given([accepted(&[11, 12, 13]), advanced([sent(12), sent(13), received(13)])])
        .when(expire(&[11, 12, 13]))
        .then([advanced([
            ended(11, Ending::ExpiredOffline),
            ended(12, Ending::ExpiredUnacknowledged),
        ])])
        .when(expire(&[11, 12, 13]))
        .then_nothing();
}

#[test]
fn only_the_deliveries_that_somebody_looked_at_expire_and_each_once() {
    given([accepted(&[11, 12])])
        .when(expire(&[12, 99, 12]))
        .then([advanced([ended(12, Ending::ExpiredOffline)])]);
}

#[test]
fn a_recall_that_was_not_answered_in_time_becomes_unknown() {
    let results = [(11, RecallResult::Requested), (12, RecallResult::StoppedBeforeSending)];
    let unknown = by_server(11, Progress::Recalled(RecallResult::Unknown));
    let scenario =
        given([accepted(&[11, 12]), advanced([sent(11)]), recalled(RecallOp::Recall, &results)])
            .when(expire(&[11, 12]))
            .then([advanced([unknown])])
            .when(expire(&[11, 12]))
            .then_nothing();
    let recall = |device| scenario.delivery(device).recall;
    assert_eq!(recall(11), Some((RecallOp::Recall, RecallResult::Unknown)));
    assert_eq!(recall(12), Some((RecallOp::Recall, RecallResult::StoppedBeforeSending)));
}

#[test]
fn what_a_vendor_took_was_sent_and_no_other_vendor_is_asked() {
    let step = taken_by(Vendor::Fcm, 11, "m-1");
    let scenario = given([accepted(&[11])]);
    assert!(scenario.delivery(11).wants_vendor());
    let scenario = scenario.when(advance([step.clone()])).then([advanced([step])]);
    let delivery = scenario.delivery(11);
    assert_eq!((delivery.stage, delivery.vendor), (Stage::Sent, Some(Vendor::Fcm)));
    assert!(delivery.open() && !delivery.wants_vendor());
    assert_eq!(scenario.message().pushed_at, Some(at(2)));
    let unavailable = failed(11, Ending::VendorUnavailable);
    scenario
        .when(advance([taken_by(Vendor::Huawei, 11, "m-2"), unavailable, sent(11)]))
        .then_nothing()
        .when(advance([received(11)]))
        .then([advanced([received(11)])]);
}

#[test]
fn a_vendor_may_take_what_a_connected_device_left_without_an_answer() {
    let step = taken_by(Vendor::Fcm, 11, "m-1");
    let scenario = given([accepted(&[11]), advanced([sent(11)])]);
    assert!(scenario.delivery(11).wants_vendor());
    let scenario = scenario.when(advance([step.clone()])).then([advanced([step])]);
    assert_eq!(scenario.delivery(11).vendor, Some(Vendor::Fcm));
    assert_eq!(scenario.message().pushed_at, Some(at(2)));
}

#[test]
fn that_a_vendor_took_it_is_news_whatever_happened_while_it_was_asked() {
    let step = || taken_by(Vendor::Fcm, 11, "m-1");
    let requested = recalled(RecallOp::Recall, &[(11, RecallResult::Requested)]);
    for meanwhile in [
        advanced([received(11)]),
        advanced([displayed(11)]),
        advanced([ended(11, Ending::Unregistered)]),
        advanced([failed(11, Ending::VendorUnavailable)]),
        requested,
    ] {
        let scenario = given([accepted(&[11]), advanced([sent(11)]), meanwhile]);
        let before = scenario.delivery(11);
        let scenario = scenario
            .when(advance([step()]))
            .then([advanced([step()])])
            .when(advance([step()]))
            .then_nothing();
        let after = Delivery { vendor: Some(Vendor::Fcm), ..before };
        assert_eq!(scenario.delivery(11), after);
    }
}

#[test]
fn what_a_vendor_took_after_a_recall_had_thought_to_stop_it_is_recalled_again() {
    let stopped = [(11, RecallResult::StoppedBeforeSending)];
    let step = taken_by(Vendor::Apns, 11, "m-1");
    let scenario = given([accepted(&[11]), recalled(RecallOp::Replace, &stopped)])
        .when(advance([step.clone()]))
        .then([advanced([step]), recalled(RecallOp::Replace, &[(11, RecallResult::Requested)])]);
    let delivery = scenario.delivery(11);
    assert_eq!((delivery.ended, delivery.vendor), (None, Some(Vendor::Apns)));
}

#[test]
fn a_delivery_that_no_vendor_was_a_way_for_is_routed_and_stays_open() {
    for reason in ENDINGS {
        let scenario = given([accepted(&[11])])
            .when(advance([failed(11, reason), failed(11, Ending::DeadToken)]))
            .then([advanced([failed(11, reason)])])
            .when(advance([failed(11, Ending::DeadToken)]))
            .then_nothing();
        let delivery = scenario.delivery(11);
        let expected =
            Delivery { stage: Stage::Routed, failed: Some(reason), ..Delivery::default() };
        assert_eq!(delivery, expected);
        assert!(delivery.open() && !delivery.wants_vendor());
        assert_eq!(scenario.message().pushed_at, None);
        let scenario = scenario.when(advance([sent(11)])).then([advanced([sent(11)])]);
        assert_eq!(scenario.delivery(11).failed, Some(reason));
    }
}

#[test]
fn vendors_that_fail_after_the_device_was_handed_it_do_not_lower_its_stage() {
    let step = || failed(11, Ending::VendorUnavailable);
    let scenario = given([accepted(&[11]), advanced([sent(11)])])
        .when(advance([step()]))
        .then([advanced([step()])]);
    let delivery = scenario.delivery(11);
    assert_eq!((delivery.stage, delivery.failed), (Stage::Sent, Some(Ending::VendorUnavailable)));
}

#[test]
fn that_vendors_failed_is_no_news_of_what_nobody_would_ask_them_for_any_more() {
    for meanwhile in [
        advanced([received(11)]),
        advanced([ended(11, Ending::OwnerChanged)]),
        recalled(RecallOp::Recall, &[(11, RecallResult::StoppedBeforeSending)]),
    ] {
        given([accepted(&[11]), meanwhile])
            .when(advance([failed(11, Ending::DeadToken)]))
            .then_nothing();
    }
}

#[test]
fn a_delivery_ends_for_whatever_reason_there_is_and_is_asked_of_no_vendor_then() {
    for reason in ENDINGS {
        let decided = given([accepted(&[11])]).when(advance([ended(11, reason)]));
        if reason == Ending::Recalled {
            decided.then_nothing();
        } else {
            let scenario = decided.then([advanced([ended(11, reason)])]);
            assert_eq!(scenario.delivery(11).ended, Some(reason));
            assert!(!scenario.delivery(11).open() && !scenario.delivery(11).wants_vendor());
        }
    }
}

#[test]
fn what_went_over_our_own_channel_for_want_of_a_vendor_expires_there() {
    let unavailable = |device| failed(device, Ending::VendorUnavailable);
    given([accepted(&[11, 12]), advanced([unavailable(11), unavailable(12), sent(12)])])
        .when(expire(&[11, 12]))
        .then([advanced([
            ended(11, Ending::ExpiredOffline),
            ended(12, Ending::ExpiredUnacknowledged),
        ])]);
}

#[test]
fn what_a_vendor_took_does_not_expire_but_its_recall_does() {
    let taken = || advanced([taken_by(Vendor::Fcm, 11, "m-1")]);
    given([accepted(&[11]), taken()]).when(expire(&[11])).then_nothing();
    let unknown = by_server(11, Progress::Recalled(RecallResult::Unknown));
    let requested = [(11, RecallResult::Requested)];
    given([accepted(&[11]), taken(), recalled(RecallOp::Recall, &requested)])
        .when(expire(&[11]))
        .then([advanced([unknown])]);
}
