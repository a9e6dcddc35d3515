//! Pushes: destinations in, deliveries out.

use domain::{
    Rejection, Stream,
    message::{MessageAccepted, Protocol, Sender, Target},
    owner::{OwnerPrivate, OwnerRemoved, OwnerSet},
    push::{Destinations, MAX_DELIVERIES, Mode, PushMessage, PushSender},
    route::Strategy,
};
use uuid::Uuid;

use crate::{
    cast::{
        ANN, APP, BOB, EXPIRES_AT, MESSAGE, NEW_ACCOUNT, device, of_message, opened, push_to, words,
    },
    scenario::{Entry, Scenario, given},
};

const ANN_PHONE: i64 = 3;
const ANN_FRIDGE: i64 = 4;
const BOB_PHONE: i64 = 7;
const SPEAKER: i64 = 8;

/// Ann has a phone and a fridge, which she owns, and unregistered her tablet; Bob has a phone; a
/// speaker has no user.
fn household() -> Scenario {
    let tablet = device("ann-tablet", "02").hardware("mac-tablet").of(ANN);
    given([
        opened(ANN, "ann"),
        opened(BOB, "bob"),
        device("ann-phone", "01").hardware("mac-phone").of(ANN).registered(),
        device("ann-fridge", "04").hardware("mac-fridge").of(ANN).registered(),
        tablet.registered(),
        tablet.unregistered(5),
        device("bob-phone", "01").hardware("mac-bob").of(BOB).registered(),
        device("speaker", "08").hardware("mac-speaker").registered(),
        owner(OwnerSet { account: ANN, bind_key: "key".to_owned(), private: which() }),
    ])
}

fn which() -> Option<OwnerPrivate> {
    Some(OwnerPrivate { device_id: "mac-fridge".to_owned() })
}

fn owner(event: impl Into<domain::Event>) -> Entry {
    Entry::new(Stream::Owner(Uuid::from_u128(0xf)), event)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn push(mode: Mode, destinations: Destinations) -> PushMessage {
    PushMessage {
        app: APP.to_owned(),
        id: MESSAGE,
        protocol: Protocol::Ums,
        sender: PushSender::Cloud,
        destinations,
        mode,
        strategy: Strategy::OnlineElseVendor,
        expires_at: EXPIRES_AT,
        burn: false,
        resend: None,
        callback: false,
        private: words(),
        new_account: NEW_ACCOUNT,
    }
}

fn clients(names: &[&str]) -> Destinations {
    Destinations::Clients(strings(names))
}

fn hardware(ids: &[&str]) -> Destinations {
    Destinations::Hardware(strings(ids))
}

fn hardware_of(user: &str, ids: &[&str]) -> Destinations {
    Destinations::HardwareOf(user.to_owned(), strings(ids))
}

fn types(users: &[&str], types: &[&str]) -> Destinations {
    Destinations::Types(strings(users), strings(types))
}

fn packages(users: &[&str], packages: &[&str]) -> Destinations {
    Destinations::Packages(strings(users), strings(packages))
}

fn owner_of(device_id: &str, bind_key: &str) -> Destinations {
    Destinations::OwnerOf { device_id: device_id.to_owned(), bind_key: bind_key.to_owned() }
}

/// A strict push to some hardware ids.
pub(crate) fn to_hardware(ids: &[&str]) -> PushMessage {
    push(Mode::Strict, hardware(ids))
}

/// The message that goes to these devices as such, with so many destinations leading nowhere.
fn reaches(devices: &[i64], unresolved: u32) -> [Entry; 1] {
    [of_message(MessageAccepted { unresolved, ..push_to(devices) })]
}

/// The message that goes to these devices of these users.
fn reaches_users(targets: &[(i64, Uuid)], unresolved: u32) -> [Entry; 1] {
    let target = |&(device, account): &(i64, Uuid)| Target { device, account: Some(account) };
    let targets = targets.iter().map(target).collect();
    [of_message(MessageAccepted { unresolved, targets, ..push_to(&[]) })]
}

#[test]
fn a_push_to_clients_goes_to_their_devices_in_order_of_number() {
    household()
        .when(push(Mode::Strict, clients(&["bob-phone", "ann-phone"])))
        .then(reaches(&[ANN_PHONE, BOB_PHONE], 0));
}

#[test]
fn a_push_to_a_client_goes_to_each_of_its_packages() {
    let mut second = device("ann-phone", "01");
    second.profile.app_package = "com.shop.other".to_owned();
    let domain_entry = Entry::new(
        Stream::Device(Uuid::from_u128(0x2d)),
        domain::device::DeviceRegistered {
            account: None,
            profile: second.profile,
            private: Some(second.identity),
        },
    );
    household()
        .and([domain_entry])
        .when(push(Mode::Strict, clients(&["ann-phone"])))
        .then(reaches(&[ANN_PHONE, 10], 0));
}

#[test]
fn a_push_to_hardware_goes_to_it_whoever_it_belongs_to() {
    household()
        .when(push(Mode::Strict, hardware(&["mac-bob", "mac-fridge", "mac-speaker"])))
        .then(reaches(&[ANN_FRIDGE, BOB_PHONE, SPEAKER], 0));
}

#[test]
fn a_push_to_a_users_hardware_leaves_other_users_out() {
    household()
        .when(push(Mode::Strict, hardware_of("ann", &["mac-fridge", "mac-phone"])))
        .then(reaches_users(&[(ANN_PHONE, ANN), (ANN_FRIDGE, ANN)], 0));
    household()
        .when(push(Mode::Strict, hardware_of("ann", &["mac-phone", "mac-bob"])))
        .then_rejected(Rejection::NotRegistered);
    household()
        .when(push(Mode::Try, hardware_of("ann", &["mac-phone", "mac-bob"])))
        .then(reaches_users(&[(ANN_PHONE, ANN)], 1));
}

#[test]
fn a_push_to_the_hardware_of_a_user_who_was_never_seen_reaches_nobody() {
    let destinations = || hardware_of("eve", &["mac-phone", "mac-bob"]);
    household()
        .when(push(Mode::Strict, destinations()))
        .then_rejected(Rejection::NotRegistered)
        .when(push(Mode::Try, destinations()))
        .then_rejected(Rejection::NobodyRegistered)
        .when(push(Mode::TryOrNobody, destinations()))
        .then(reaches(&[], 2));
}

#[test]
fn a_push_to_device_types_goes_to_those_of_each_user() {
    household()
        .when(push(Mode::Strict, types(&["ann", "bob"], &["01"])))
        .then(reaches_users(&[(ANN_PHONE, ANN), (BOB_PHONE, BOB)], 0));
    household()
        .when(push(Mode::Strict, types(&["ann"], &["04", "01"])))
        .then(reaches_users(&[(ANN_PHONE, ANN), (ANN_FRIDGE, ANN)], 0));
}

#[test]
fn a_strict_push_wants_every_type_met_and_every_user_reached() {
    household()
        .when(push(Mode::Strict, types(&["ann"], &["01", "02"])))
        .then_rejected(Rejection::NotRegistered)
        .when(push(Mode::Strict, types(&["ann", "bob"], &["04"])))
        .then_rejected(Rejection::NotRegistered)
        .when(push(Mode::Try, types(&["ann", "bob"], &["04", "02"])))
        .then(reaches_users(&[(ANN_FRIDGE, ANN)], 2));
}

#[test]
fn a_push_to_packages_goes_to_those_of_each_user() {
    household()
        .when(push(Mode::Strict, packages(&["bob", "ann"], &["com.shop.01"])))
        .then(reaches_users(&[(ANN_PHONE, ANN), (BOB_PHONE, BOB)], 0));
    household()
        .when(push(Mode::Try, packages(&["bob"], &["com.shop.01", "com.shop.04"])))
        .then(reaches_users(&[(BOB_PHONE, BOB)], 1));
}

#[test]
fn a_strict_push_to_a_user_who_was_never_seen_is_refused() {
    household()
        .when(push(Mode::Strict, types(&["ann", "eve"], &["01"])))
        .then_rejected(Rejection::IllegalUser)
        .when(push(Mode::Strict, packages(&["eve"], &["com.shop.01"])))
        .then_rejected(Rejection::IllegalUser);
}

#[test]
fn a_push_that_tries_leaves_a_user_out_who_was_never_seen() {
    household()
        .when(push(Mode::Try, types(&["eve", "ann"], &["01"])))
        .then(reaches_users(&[(ANN_PHONE, ANN)], 1));
    household()
        .when(push(Mode::Try, types(&["eve"], &["01"])))
        .then_rejected(Rejection::NobodyRegistered);
}

#[test]
fn a_push_to_the_owner_goes_to_the_owners_phones_alone() {
    household()
        .when(push(Mode::Try, owner_of("mac-fridge", "key")))
        .then(reaches_users(&[(ANN_PHONE, ANN)], 0));
}

#[test]
fn a_push_to_the_owner_wants_an_owner() {
    household()
        .when(push(Mode::Try, owner_of("mac-bob", "key")))
        .then_rejected(Rejection::NoOwner)
        .and([owner(OwnerRemoved { private: which() })])
        .when(push(Mode::Try, owner_of("mac-fridge", "key")))
        .then_rejected(Rejection::NoOwner);
}

#[test]
fn a_push_to_the_owner_wants_the_right_key() {
    for mode in [Mode::Strict, Mode::Try, Mode::TryOrNobody] {
        household()
            .when(push(mode, owner_of("mac-fridge", "another key")))
            .then_rejected(Rejection::WrongBindKey);
    }
}

#[test]
fn a_push_to_an_owner_without_a_phone_reaches_nobody() {
    let phone = device("ann-phone", "01").hardware("mac-phone").of(ANN);
    household()
        .and([phone.unregistered(ANN_PHONE)])
        .when(push(Mode::Try, owner_of("mac-fridge", "key")))
        .then_rejected(Rejection::NobodyRegistered)
        .when(push(Mode::TryOrNobody, owner_of("mac-fridge", "key")))
        .then(reaches(&[], 1));
}

#[test]
fn destinations_that_are_named_twice_count_once() {
    for (destinations, expected) in [
        (clients(&["ann-phone", "nobody", "ann-phone", "nobody"]), reaches(&[ANN_PHONE], 1)),
        (hardware(&["mac-phone", "mac-phone"]), reaches(&[ANN_PHONE], 0)),
        (hardware_of("ann", &["mac-phone", "mac-phone"]), reaches_users(&[(ANN_PHONE, ANN)], 0)),
        (
            types(&["ann", "ann", "eve", "eve"], &["01", "01"]),
            reaches_users(&[(ANN_PHONE, ANN)], 1),
        ),
        (
            packages(&["ann", "ann"], &["com.shop.01", "com.shop.01"]),
            reaches_users(&[(ANN_PHONE, ANN)], 0),
        ),
    ] {
        household().when(push(Mode::Try, destinations)).then(expected);
    }
}

#[test]
fn a_strict_push_is_refused_when_one_destination_is_not_registered() {
    for destinations in [
        clients(&["ann-phone", "ann-tablet"]),
        clients(&["ann-phone", "nobody"]),
        hardware(&["mac-phone", "mac-tablet"]),
        hardware_of("ann", &["mac-phone", "mac-tablet"]),
        types(&["ann"], &["01", "02"]),
        packages(&["ann"], &["com.shop.01", "com.shop.02"]),
    ] {
        household().when(push(Mode::Strict, destinations)).then_rejected(Rejection::NotRegistered);
    }
}

#[test]
fn a_push_that_tries_leaves_unregistered_devices_out() {
    let ann_phone = || reaches_users(&[(ANN_PHONE, ANN)], 1);
    for (destinations, expected) in [
        (clients(&["ann-phone", "ann-tablet"]), reaches(&[ANN_PHONE], 1)),
        (hardware(&["mac-phone", "mac-tablet"]), reaches(&[ANN_PHONE], 1)),
        (hardware_of("ann", &["mac-phone", "mac-tablet"]), ann_phone()),
        (types(&["ann"], &["01", "02"]), ann_phone()),
        (packages(&["ann"], &["com.shop.01", "com.shop.02"]), ann_phone()),
    ] {
        household().when(push(Mode::Try, destinations.clone())).then(expected.clone());
        household().when(push(Mode::TryOrNobody, destinations)).then(expected);
    }
}

#[test]
fn a_push_that_reaches_nobody_is_refused_unless_that_is_fine() {
    for (destinations, unresolved) in [
        (clients(&["ann-tablet", "nobody"]), 2),
        (hardware(&["mac-tablet"]), 1),
        (hardware_of("bob", &["mac-phone"]), 1),
        (types(&["ann"], &["02"]), 2),
        (packages(&["ann"], &["com.shop.02"]), 2),
        (clients(&[]), 0),
    ] {
        household()
            .when(push(Mode::Try, destinations.clone()))
            .then_rejected(Rejection::NobodyRegistered)
            .when(push(Mode::TryOrNobody, destinations))
            .then(reaches(&[], unresolved));
    }
}

#[test]
fn a_strict_push_to_no_destination_reaches_nobody() {
    household().when(push(Mode::Strict, clients(&[]))).then_rejected(Rejection::NobodyRegistered);
}

#[test]
fn a_push_does_not_leave_its_app() {
    let foreign = device("foreign", "01").hardware("mac-foreign");
    given([opened(ANN, "ann").of_app("other"), foreign.registered().of_app("other")])
        .when(push(Mode::Strict, clients(&["foreign"])))
        .then_rejected(Rejection::NotRegistered)
        .when(push(Mode::Strict, hardware(&["mac-foreign"])))
        .then_rejected(Rejection::NotRegistered)
        .when(push(Mode::Strict, types(&["ann"], &["01"])))
        .then_rejected(Rejection::IllegalUser);
}

#[test]
fn a_push_says_who_sent_it() {
    let expected = |sender| of_message(MessageAccepted { sender, ..push_to(&[SPEAKER]) });
    let command =
        |sender: PushSender| PushMessage { sender, ..push(Mode::Strict, clients(&["speaker"])) };
    household().when(command(PushSender::Terminal)).then([expected(Sender::Terminal)]);
    household().when(command(PushSender::Cloud)).then([expected(Sender::Cloud)]);
    household()
        .when(command(PushSender::User("ann".to_owned())))
        .then([expected(Sender::User(ANN))]);
    household()
        .when(command(PushSender::User("eve".to_owned())))
        .then([opened(NEW_ACCOUNT, "eve"), expected(Sender::User(NEW_ACCOUNT))]);
}

#[test]
fn a_push_reaches_as_many_devices_as_one_message_may_name_and_no_more() {
    let names: Vec<String> = (0..=MAX_DELIVERIES).map(|n| format!("c{n:04}")).collect();
    let limit = MAX_DELIVERIES;
    let command = |count: usize| {
        push(Mode::Strict, Destinations::Clients(names.iter().take(count).cloned().collect()))
    };
    let numbers: Vec<i64> = (1..).take(limit).collect();
    given(names.iter().map(|name| device(name, "01").registered()))
        .when(command(limit + 1))
        .then_rejected(Rejection::TooManyDeliveries { reached: limit + 1, limit })
        .when(command(limit))
        .then(reaches(&numbers, 0));
}
