//! Antelope: devices that are there from when they first connect, pushes to them by number, and the
//! policy by which a message is sent again.

use domain::{
    Event, Rejection, Stream,
    app::{AntelopeConfig, AppConfig, AppCreated, CreateApp},
    cid::{AdmitDevice, Cid, DeviceAdmitted},
    device::Status,
    message::{
        AdvanceDeliveries, Ending, MessageAccepted, MessageId, Progress, Protocol, Sender, Stage,
    },
    push::{Destinations, MAX_DELIVERIES, Mode, PushMessage, PushMessages, PushSender},
    resend::{Resend, Then, Wait},
    route::Strategy,
};
use uuid::Uuid;

use crate::{
    cast::{APP, MESSAGE, NEW_ACCOUNT, by_socket, device, of_message, push_to, sent, words},
    scenario::{Entry, given},
};

fn stream(cid: u32) -> Uuid {
    Uuid::from_u128(0xc1d << 64 | u128::from(cid))
}

/// A device connected for the first time.
fn admitted(cid: u32) -> Entry {
    Entry::new(Stream::Device(stream(cid)), DeviceAdmitted { private: Some(Cid { cid }) })
}

fn admit(cid: u32) -> AdmitDevice {
    AdmitDevice { app: APP.to_owned(), cid, new_device: stream(cid) }
}

fn push(id: MessageId, cids: &[u32]) -> PushMessage {
    PushMessage {
        app: APP.to_owned(),
        id,
        protocol: Protocol::Antelope,
        sender: PushSender::Terminal,
        destinations: Destinations::Cids(cids.to_vec()),
        mode: Mode::TryOrNobody,
        strategy: Strategy::PresentOnly,
        expires_at: 7,
        burn: false,
        resend: Some(Resend::UntilAnswered),
        callback: true,
        private: words(),
        new_account: NEW_ACCOUNT,
    }
}

fn reaches(devices: &[i64], unresolved: u32) -> MessageAccepted {
    MessageAccepted {
        protocol: Protocol::Antelope,
        sender: Sender::Terminal,
        strategy: Strategy::PresentOnly,
        expires_at: 7,
        resend: Some(Resend::UntilAnswered),
        callback: true,
        unresolved,
        ..push_to(devices)
    }
}

#[test]
fn a_message_is_sent_five_times_after_1_2_3_and_5_seconds_or_once() {
    let wait = |seconds: i64, then| Wait { micros: seconds * 1_000_000, then };
    let again = |seconds| wait(seconds, Then::SendAgain);
    for (resend, number, waits) in [
        (
            Resend::UntilAnswered,
            2,
            vec![again(1), again(2), again(3), again(5), wait(5, Then::GiveUp)],
        ),
        (Resend::Once, 3, vec![wait(5, Then::GiveUp)]),
    ] {
        assert_eq!(resend as i64, number);
        assert_eq!(Resend::from_number(number), Some(resend));
        for (sends, expected) in (1..).zip(&waits) {
            assert_eq!(resend.after(sends), *expected, "{resend:?} after {sends}");
        }
        assert_eq!(resend.after(waits.len() + 1), wait(0, Then::GiveUp));
        let life: i64 = waits.iter().map(|wait| wait.micros).sum();
        assert_eq!(resend.life_micros(), life);
    }
    assert_eq!([0, 1, 4].map(Resend::from_number), [None; 3]);
}

#[test]
fn a_device_is_there_from_when_it_first_connects() {
    let scenario = given([])
        .when(admit(5_000_001))
        .then([admitted(5_000_001)])
        .when(admit(5_000_001))
        .then_nothing();
    let device = scenario.numbered(1);
    assert_eq!((device.cid(), device.protocol), (Some(5_000_001), Protocol::Antelope));
    assert_eq!((device.status, device.account), (Status::Registered, None));
    assert!(device.bindings().is_empty());
}

#[test]
fn a_number_is_no_client_id_of_another_protocol_and_the_other_way_round() {
    let scenario = given([device("7", "01").registered()]).when(admit(7)).then([admitted(7)]);
    assert_eq!(scenario.numbered(1).cid(), None);
    assert_eq!(scenario.device("7", 1).protocol, Protocol::Ums);
    let scenario = scenario.when(push(MESSAGE, &[7])).then([of_message(reaches(&[2], 0))]);
    assert_eq!(scenario.message().resend, Some(Resend::UntilAnswered));
}

#[test]
fn a_push_by_number_names_each_device_once_and_counts_those_that_never_connected() {
    given([admitted(8), admitted(7)])
        .when(push(MESSAGE, &[7, 9, 8, 7, 10]))
        .then([of_message(reaches(&[1, 2], 2))]);
    given([]).when(push(MESSAGE, &[7])).then([of_message(reaches(&[], 1))]);
    given([]).when(push(MESSAGE, &[])).then([of_message(reaches(&[], 0))]);
}

#[test]
fn several_messages_are_pushed_all_or_none() {
    let other = MessageId(MESSAGE.0 + 1);
    let both = PushMessages(vec![push(MESSAGE, &[7]), push(other, &[8, 9])]);
    let second = Entry::new(Stream::Message(other), reaches(&[2], 1));
    given([admitted(7), admitted(8)]).when(both).then([of_message(reaches(&[1], 0)), second]);
    let many: Vec<u32> = (1..=u32::try_from(MAX_DELIVERIES).unwrap() + 1).collect();
    let limit = MAX_DELIVERIES;
    given(many.iter().copied().map(admitted))
        .when(PushMessages(vec![push(MESSAGE, &[1]), push(other, &many)]))
        .then_rejected(Rejection::TooManyDeliveries { reached: limit + 1, limit });
}

#[test]
fn what_a_device_never_answers_ends_and_a_late_answer_still_counts() {
    let ended =
        |device| domain::message::Step::of_server(device, Progress::Ended(Ending::Unacknowledged));
    let advance = |steps| AdvanceDeliveries { message: MESSAGE, steps };
    let scenario = given([admitted(7)])
        .when(push(MESSAGE, &[7]))
        .then([of_message(reaches(&[1], 0))])
        .when(advance(vec![sent(1), ended(1), ended(1), sent(1)]))
        .then([crate::cast::advanced_since(2, [sent(1), ended(1)])])
        .when(advance(vec![by_socket(1, Progress::Received), ended(1)]))
        .then([crate::cast::advanced_since(2, [by_socket(1, Progress::Received)])]);
    let delivery = scenario.delivery(1);
    assert_eq!((delivery.stage, delivery.ended), (Stage::Received, Some(Ending::Unacknowledged)));
}

fn app(app_id: &str, antelope: &str, cid_ranges: &[(u32, u32)]) -> AppConfig {
    let antelope = AntelopeConfig {
        app_id: antelope.to_owned(),
        app_keys: Vec::new(),
        cid_ranges: cid_ranges.to_vec(),
        webhook: None,
        state_webhook: None,
    };
    AppConfig { antelope: Some(antelope), ..AppConfig::new(app_id, app_id, "UTC") }
}

#[test]
fn a_number_belongs_to_one_app_and_so_does_an_antelope_app_id() {
    let event = AppCreated { config: app("a", "Demo", &[(5, 9), (20, 29)]) };
    let first = || Entry::new(Stream::App("a".to_owned()), Event::from(event.clone()));
    let create = |config| CreateApp { config };
    for (ranges, taken) in [
        (&[(1, 4), (9, 9)][..], "a cid of 9 to 9"),
        (&[(1, u32::MAX)], "a cid of 1 to 4294967295"),
        (&[(25, 26)], "a cid of 25 to 26"),
        (&[(29, 30)], "a cid of 29 to 30"),
    ] {
        let taken = Rejection::AppTaken(taken.to_owned());
        given([first()]).when(create(app("b", "Test", ranges))).then_rejected(taken);
    }
    let taken = Rejection::AppTaken("Demo".to_owned());
    given([first()]).when(create(app("b", "Demo", &[(1, 4)]))).then_rejected(taken);
    let other = app("b", "demo", &[(1, 4), (10, 19), (30, u32::MAX)]);
    let second = Entry::new(Stream::App("b".to_owned()), AppCreated { config: other.clone() });
    given([first()]).when(create(other)).then([second]);
    assert!(event.config.antelope.as_ref().is_some_and(|a| a.owns(5) && a.owns(29) && !a.owns(10)));
}
