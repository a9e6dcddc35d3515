//! Pushes to Easemob users: every device of each, counted by user.

use domain::{
    Rejection,
    message::{MessageAccepted, Protocol},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
};
use uuid::Uuid;

use crate::{
    cast::{
        ANN, APP, BOB, EXPIRES_AT, MESSAGE, NEW_ACCOUNT, device, handset, of_message, opened,
        push_to, user_closed, user_opened, words,
    },
    scenario::{Entry, Scenario, given},
};

const EVE: Uuid = Uuid::from_u128(0xe);

/// Ann has a phone (4) and a tablet (5), Bob a phone (6) and Eve nothing.
fn household() -> Scenario {
    given([
        user_opened(ANN, "ann"),
        user_opened(BOB, "bob"),
        user_opened(EVE, "eve"),
        handset(ANN, "phone").with("fcm", "t1").first(),
        handset(ANN, "tablet").first(),
        handset(BOB, "phone").first(),
    ])
}

fn push(mode: Mode, usernames: &[&str]) -> PushMessage {
    let usernames = usernames.iter().map(|&name| name.to_owned()).collect();
    PushMessage {
        app: APP.to_owned(),
        id: MESSAGE,
        protocol: Protocol::Easemob,
        sender: PushSender::Cloud,
        destinations: Destinations::Users(usernames),
        mode,
        strategy: Strategy::VendorElseOnline,
        expires_at: EXPIRES_AT,
        burn: false,
        resend: None,
        callback: false,
        private: words(),
        new_account: NEW_ACCOUNT,
    }
}

/// The message that goes to these devices; of so many users, so many without a device; so many
/// names lead to nobody.
fn reaches(devices: &[i64], [users, unbound, unresolved]: [u32; 3]) -> [Entry; 1] {
    let (protocol, strategy) = (Protocol::Easemob, Strategy::VendorElseOnline);
    let accepted = push_to(devices);
    let message = MessageAccepted { protocol, strategy, users, unbound, unresolved, ..accepted };
    [of_message(message)]
}

#[test]
fn a_push_to_users_goes_to_every_device_of_each_bound_or_not() {
    household().when(push(Mode::Strict, &["ann"])).then(reaches(&[4, 5], [1, 0, 0]));
    household().when(push(Mode::Strict, &["bob", "ann"])).then(reaches(&[4, 5, 6], [2, 0, 0]));
}

#[test]
fn a_user_that_is_named_twice_counts_once() {
    household().when(push(Mode::Try, &["bob", "bob"])).then(reaches(&[6], [1, 0, 0]));
    household().when(push(Mode::Try, &["bob", "no", "no"])).then(reaches(&[6], [1, 0, 1]));
}

#[test]
fn a_user_without_a_device_is_counted_and_nobody_is_told_that_it_does_not_exist() {
    household().when(push(Mode::Strict, &["bob", "eve"])).then(reaches(&[6], [2, 1, 0]));
    household()
        .when(push(Mode::Try, &["eve"]))
        .then_rejected(Rejection::NobodyRegistered)
        .when(push(Mode::TryOrNobody, &["eve"]))
        .then(reaches(&[], [1, 1, 0]));
}

#[test]
fn a_name_that_is_nobodys_is_refused_or_left_out() {
    household()
        .when(push(Mode::Strict, &["ann", "nobody"]))
        .then_rejected(Rejection::NotRegistered)
        .when(push(Mode::Try, &["ann", "nobody"]))
        .then(reaches(&[4, 5], [1, 0, 1]));
    household().when(push(Mode::TryOrNobody, &["nobody"])).then(reaches(&[], [0, 0, 1]));
}

#[test]
fn a_push_reaches_no_device_of_a_user_that_was_removed() {
    let phone = handset(BOB, "phone");
    household()
        .and([phone.unregistered(6), user_closed(BOB, "bob")])
        .when(push(Mode::TryOrNobody, &["ann", "bob"]))
        .then(reaches(&[4, 5], [1, 0, 1]));
}

#[test]
fn a_push_to_users_means_no_ums_users_and_no_users_of_another_app() {
    let account = Uuid::from_u128(0xf);
    household()
        .and([opened(account, "ums"), device("c1", "01").of(account).registered()])
        .and([user_opened(Uuid::from_u128(0x10), "foreign").of_app("other")])
        .when(push(Mode::TryOrNobody, &["ums", "foreign"]))
        .then(reaches(&[], [0, 0, 2]));
}

#[test]
fn a_push_travels_as_it_was_asked_to() {
    for strategy in Strategy::ALL {
        let command = PushMessage { strategy, ..push(Mode::Try, &["bob"]) };
        let message =
            MessageAccepted { protocol: Protocol::Easemob, strategy, users: 1, ..push_to(&[6]) };
        let scenario = household().when(command).then([of_message(message)]);
        assert_eq!(scenario.message().strategy, strategy);
    }
}
