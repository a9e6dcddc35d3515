//! Messages of conversations: to every device of an account, stopped by words, copied to the sender,
//! withdrawn once.

use domain::{
    Rejection, Stream,
    account::{AccountOpened, AccountPrivate, ImportAccounts},
    chat::{Chat, MessageFiltered, Recipient, SendChat},
    device::{DeviceBound, Endpoint},
    message::{
        MessageAccepted, MessageId, Protocol, RecallOp, RecallRequested, RecallResult, Recalled,
        Sender, Target, WithdrawMessage,
    },
    route::Strategy,
    terminal::AdmitTerminal,
};
use uuid::Uuid;

use crate::{
    cast::{APP, EXPIRES_AT, MESSAGE, NEW_ACCOUNT, words},
    scenario::{Entry, given},
};

const ANN: Uuid = Uuid::from_u128(0xa);
const BOB: Uuid = Uuid::from_u128(0xb);
const PHONE: Uuid = Uuid::from_u128(0xd);
const COPY: MessageId = MessageId(MESSAGE.0 + 1);

fn imported(account: Uuid, user: &str) -> Entry {
    let private = AccountPrivate { tencent: Some(user.to_owned()), ..AccountPrivate::default() };
    Entry::new(Stream::Account(account), AccountOpened { private: Some(private) })
}

fn phone_of(account: Uuid) -> Entry {
    let private = Some(Endpoint { device_id: "phone".to_owned(), tokens: Vec::new(), cid: None });
    let (protocol, notifiers) = (Protocol::Tencent, Vec::new());
    let bound = DeviceBound { device: None, account, protocol, notifiers, private };
    Entry::new(Stream::Device(PHONE), bound)
}

fn to(name: &str, copy: Option<MessageId>) -> Recipient {
    Recipient { name: name.to_owned(), id: MESSAGE, copy, private: words() }
}

fn send() -> SendChat {
    SendChat {
        app: APP.to_owned(),
        from: "Ann".to_owned(),
        new_sender: None,
        to: vec![to("bob", None)],
        seq: 1,
        random: 2,
        time: 3,
        strategy: Strategy::OnlineElseVendor,
        expires_at: EXPIRES_AT,
        uncounted: false,
        unsynced: false,
        callback: true,
        words: vec!["bad".to_owned()],
        text: "good".to_owned(),
    }
}

fn chat() -> Chat {
    Chat { to: BOB, seq: 1, random: 2, time: 3, uncounted: false, unsynced: false }
}

/// The message to some devices of Bob's.
fn sent(devices: &[i64]) -> MessageAccepted {
    let target = |device: &i64| Target { device: *device, account: Some(BOB) };
    MessageAccepted {
        protocol: Protocol::Tencent,
        sender: Sender::User(ANN),
        strategy: Strategy::OnlineElseVendor,
        expires_at: EXPIRES_AT,
        burn: false,
        resend: None,
        callback: true,
        targets: devices.iter().map(target).collect(),
        unresolved: 0,
        chat: Some(chat()),
        users: 1,
        unbound: u32::from(devices.is_empty()),
        private: Some(words()),
    }
}

fn of_message(message: MessageAccepted) -> Entry {
    Entry::new(Stream::Message(MESSAGE), message)
}

#[test]
fn a_message_goes_to_every_device_of_the_account_and_is_one_without_any() {
    let both = || [imported(ANN, "Ann"), imported(BOB, "bob")];
    given(both()).when(send()).then([of_message(sent(&[]))]);
    given(both()).and([phone_of(BOB)]).when(send()).then([of_message(sent(&[3]))]);
}

#[test]
fn the_sender_gets_a_copy_on_its_own_devices_that_is_no_part_of_the_conversation() {
    let copied = SendChat { to: vec![to("bob", Some(COPY))], ..send() };
    let target = Target { device: 3, account: Some(ANN) };
    let copy = MessageAccepted {
        strategy: Strategy::PresentOnly,
        callback: false,
        chat: None,
        targets: vec![target],
        unbound: 0,
        ..sent(&[])
    };
    given([imported(ANN, "Ann"), imported(BOB, "bob"), phone_of(ANN)])
        .when(copied)
        .then([of_message(sent(&[])), Entry::new(Stream::Message(COPY), copy)]);
}

#[test]
fn both_accounts_must_be_there_and_of_many_recipients_one() {
    let rejected = |entries: Vec<Entry>, command: SendChat, rejection| {
        given(entries).when(command).then_rejected(rejection);
    };
    let nobody = Rejection::UnknownUser("bob".to_owned());
    rejected(vec![imported(BOB, "bob")], send(), Rejection::IllegalUser);
    rejected(vec![imported(ANN, "Ann")], send(), nobody);
    let many = SendChat { to: vec![to("carl", None), to("bob", None)], ..send() };
    given([imported(ANN, "Ann"), imported(BOB, "bob")]).when(many).then([of_message(sent(&[]))]);
}

#[test]
fn the_account_of_the_apps_server_is_opened_by_its_first_message() {
    let own = SendChat { new_sender: Some(ANN), ..send() };
    given([imported(BOB, "bob")])
        .when(own.clone())
        .then([imported(ANN, "Ann"), of_message(sent(&[]))]);
    given([imported(ANN, "Ann"), imported(BOB, "bob")])
        .when(SendChat { new_sender: Some(NEW_ACCOUNT), ..own })
        .then([of_message(sent(&[]))]);
}

#[test]
fn a_word_of_the_list_stops_a_message_and_that_is_a_fact() {
    let stopped = SendChat { text: "so bad a text".to_owned(), ..send() };
    let event = MessageFiltered {
        sender: ANN,
        chat: chat(),
        strategy: Strategy::OnlineElseVendor,
        callback: true,
        private: Some(words()),
    };
    given([imported(ANN, "Ann"), imported(BOB, "bob")])
        .when(stopped)
        .then([Entry::new(Stream::Message(MESSAGE), event)]);
}

#[test]
fn a_message_is_withdrawn_once_also_if_it_reached_no_device() {
    let withdraw = || WithdrawMessage { app: APP.to_owned(), message: MESSAGE };
    let recalled = |accepted, results| {
        let (op, expires_at) = (RecallOp::Recall, EXPIRES_AT);
        let event = RecallRequested { accepted, expires_at, op, results };
        Entry::new(Stream::Message(MESSAGE), event)
    };
    let both = || [imported(ANN, "Ann"), imported(BOB, "bob")];
    given(both())
        .and([of_message(sent(&[]))])
        .when(withdraw())
        .then([recalled(3, Vec::new())])
        .when(withdraw())
        .then_rejected(Rejection::NothingToRecall);
    let stopped = Recalled { device: 3, result: RecallResult::StoppedBeforeSending };
    given(both())
        .and([phone_of(BOB), of_message(sent(&[3]))])
        .when(withdraw())
        .then([recalled(4, vec![stopped])]);
    given(both()).when(withdraw()).then_rejected(Rejection::UnknownMessage);
}

#[test]
fn importing_again_changes_nothing_and_a_device_is_admitted_once() {
    let account = |user: &str, account| (user.to_owned(), None, account);
    let accounts = vec![account("Ann", ANN), account("Ann", NEW_ACCOUNT), account("bob", BOB)];
    let import = ImportAccounts { app: APP.to_owned(), accounts };
    given([imported(ANN, "Ann")]).when(import.clone()).then([imported(BOB, "bob")]);
    given([]).when(import).then([imported(ANN, "Ann"), imported(BOB, "bob")]);
    let admit = |user: &str| AdmitTerminal {
        app: APP.to_owned(),
        user: user.to_owned(),
        device_id: "phone".to_owned(),
        new_device: PHONE,
    };
    given([imported(ANN, "Ann")])
        .when(admit("Ann"))
        .then([phone_of(ANN)])
        .when(admit("Ann"))
        .then_nothing();
    let nobody = Rejection::UnknownUser("ann".to_owned());
    given([imported(ANN, "Ann")]).when(admit("ann")).then_rejected(nobody);
}
