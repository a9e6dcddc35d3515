//! Reports over REST: each stage once a device, whatever its connection said before.

use domain::{
    Rejection, Stream,
    message::{MessageAccepted, Progress, RecallOp, RecallResult, ReportDelivery, Stage},
};

use crate::{
    cast::{
        ANN, APP, BOB, MESSAGE, advanced, advanced_since, by_rest, by_socket, device, of_message,
        opened, push_to, sent,
    },
    message::advance,
    scenario::{Entry, Scenario, given},
};

const MESSAGE_AT: i64 = 5;
const PHONE: i64 = 3;
const SPEAKER: i64 = 4;

/// Ann's phone and a speaker without a user; the message goes to both.
fn household() -> Scenario {
    given([
        opened(ANN, "ann"),
        opened(BOB, "bob"),
        device("phone", "01").of(ANN).registered(),
        device("speaker", "08").registered(),
        of_message(push_to(&[PHONE, SPEAKER])),
    ])
}

fn report(stage: Progress, request: &str) -> ReportDelivery {
    ReportDelivery {
        app: APP.to_owned(),
        allowed_packages: Vec::new(),
        client_id: "phone".to_owned(),
        app_package: "com.shop.01".to_owned(),
        user: Some("ann".to_owned()),
        message: MESSAGE,
        stage,
        request: request.to_owned(),
    }
}

fn reported(stage: Progress, request: &str) -> Entry {
    advanced_since(MESSAGE_AT, [by_rest(PHONE, stage, request)])
}

fn recalled(op: RecallOp, device: i64, result: RecallResult) -> Entry {
    of_message(domain::message::RecallRequested {
        accepted: MESSAGE_AT,
        expires_at: crate::cast::EXPIRES_AT,
        op,
        results: vec![domain::message::Recalled { device, result }],
    })
}

#[test]
fn a_device_reports_received_displayed_and_acknowledged() {
    let mut scenario = household();
    for (what, stage) in [
        (Progress::Received, Stage::Received),
        (Progress::Displayed, Stage::Displayed),
        (Progress::Acknowledged, Stage::Acknowledged),
    ] {
        scenario = scenario.when(report(what, "r")).then([reported(what, "r")]);
        let delivery = scenario.delivery(PHONE);
        assert_eq!((delivery.stage, delivery.reported), (stage, Some(stage)));
    }
    assert_eq!(scenario.delivery(SPEAKER).stage, Stage::Accepted);
}

#[test]
fn the_same_report_twice_is_refused() {
    for what in [Progress::Received, Progress::Displayed, Progress::Acknowledged] {
        household()
            .when(report(what, "first"))
            .then([reported(what, "first")])
            .when(report(what, "second"))
            .then_rejected(Rejection::ReportedBefore);
    }
}

#[test]
fn an_earlier_stage_after_a_later_one_is_refused() {
    household()
        .when(report(Progress::Displayed, "first"))
        .then([reported(Progress::Displayed, "first")])
        .when(report(Progress::Received, "second"))
        .then_rejected(Rejection::ReportedBefore);
}

#[test]
fn a_report_of_received_after_the_sockets_acknowledgement_is_accepted() {
    let scenario = household()
        .and([advanced_since(MESSAGE_AT, [sent(PHONE), by_socket(PHONE, Progress::Received)])])
        .when(report(Progress::Received, "r"))
        .then([reported(Progress::Received, "r")])
        .when(report(Progress::Received, "again"))
        .then_rejected(Rejection::ReportedBefore);
    let delivery = scenario.delivery(PHONE);
    assert_eq!((delivery.stage, delivery.reported), (Stage::Received, Some(Stage::Received)));
}

#[test]
fn a_report_of_an_earlier_stage_than_the_socket_told_is_accepted_and_lowers_nothing() {
    let scenario = household()
        .and([advanced_since(MESSAGE_AT, [by_socket(PHONE, Progress::Displayed)])])
        .when(report(Progress::Received, "r"))
        .then([reported(Progress::Received, "r")]);
    let delivery = scenario.delivery(PHONE);
    assert_eq!((delivery.stage, delivery.reported), (Stage::Displayed, Some(Stage::Received)));
}

#[test]
fn what_a_device_reported_over_rest_is_no_news_over_its_socket() {
    household()
        .when(report(Progress::Displayed, "r"))
        .then([reported(Progress::Displayed, "r")])
        .when(advance([by_socket(PHONE, Progress::Received), sent(PHONE)]))
        .then_nothing();
}

#[test]
fn a_device_with_a_user_is_reported_for_by_that_user_alone() {
    for user in [Some("bob"), Some("nobody"), None] {
        let user = user.map(str::to_owned);
        household()
            .when(ReportDelivery { user, ..report(Progress::Received, "r") })
            .then_rejected(Rejection::IllegalUser);
    }
}

#[test]
fn a_device_without_a_user_reports_for_itself() {
    let command = ReportDelivery {
        client_id: "speaker".to_owned(),
        app_package: "com.shop.08".to_owned(),
        user: None,
        ..report(Progress::Received, "r")
    };
    let step = by_rest(SPEAKER, Progress::Received, "r");
    household().when(command).then([advanced_since(MESSAGE_AT, [step])]);
}

#[test]
fn a_device_that_unregistered_may_still_report() {
    household()
        .and([device("phone", "01").of(ANN).unregistered(PHONE)])
        .when(report(Progress::Received, "r"))
        .then([reported(Progress::Received, "r")]);
}

#[test]
fn a_report_from_an_unknown_package_is_refused() {
    household()
        .when(ReportDelivery {
            app_package: "com.shop.02".to_owned(),
            ..report(Progress::Received, "r")
        })
        .then_rejected(Rejection::UnknownPackage)
        .when(ReportDelivery {
            allowed_packages: vec!["com.shop.02".to_owned()],
            ..report(Progress::Received, "r")
        })
        .then_rejected(Rejection::UnknownPackage);
}

#[test]
fn a_report_on_a_message_that_is_none_of_the_devices_business_is_refused() {
    let other_client =
        ReportDelivery { client_id: "nobody".to_owned(), ..report(Progress::Received, "r") };
    household().when(other_client).then_rejected(Rejection::UnknownMessage);
    let household = [opened(ANN, "ann"), device("phone", "01").of(ANN).registered()];
    given(household.clone())
        .when(report(Progress::Received, "r"))
        .then_rejected(Rejection::UnknownMessage)
        .and([of_message(push_to(&[99]))])
        .when(report(Progress::Received, "r"))
        .then_rejected(Rejection::UnknownMessage);
    given(household)
        .and([of_message(push_to(&[2])).of_app("other")])
        .when(report(Progress::Received, "r"))
        .then_rejected(Rejection::UnknownMessage);
}

#[test]
fn a_report_of_display_burns_the_message_elsewhere() {
    let burning = MessageAccepted { burn: true, ..push_to(&[3, 4]) };
    let household = given([
        opened(ANN, "ann"),
        opened(BOB, "bob"),
        device("phone", "01").of(ANN).registered(),
        device("speaker", "08").registered(),
        Entry::new(Stream::Message(MESSAGE), burning),
    ]);
    household
        .when(report(Progress::Received, "first"))
        .then([reported(Progress::Received, "first")])
        .when(report(Progress::Displayed, "second"))
        .then([
            reported(Progress::Displayed, "second"),
            recalled(RecallOp::Recall, SPEAKER, RecallResult::StoppedBeforeSending),
        ])
        .when(report(Progress::Acknowledged, "third"))
        .then([reported(Progress::Acknowledged, "third")]);
}

#[test]
fn a_report_by_a_device_that_a_recall_thought_to_stop_tells_it_again() {
    household()
        .and([recalled(RecallOp::Replace, PHONE, RecallResult::StoppedBeforeSending)])
        .when(report(Progress::Received, "r"))
        .then([
            reported(Progress::Received, "r"),
            recalled(RecallOp::Replace, PHONE, RecallResult::Requested),
        ]);
}

#[test]
fn a_report_of_display_makes_a_recall_too_late() {
    let scenario = household()
        .and([advanced([sent(PHONE)]), recalled(RecallOp::Recall, PHONE, RecallResult::Requested)])
        .when(report(Progress::Displayed, "r"))
        .then([reported(Progress::Displayed, "r")]);
    let recall = scenario.delivery(PHONE).recall;
    assert_eq!(recall, Some((RecallOp::Recall, RecallResult::TooLate)));
}
