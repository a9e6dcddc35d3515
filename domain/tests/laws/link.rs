//! An account, or a device, of one protocol gets its address in another.

use domain::{
    Rejection, Stream,
    account::{
        AccountClosed, AccountLinked, AccountOpened, AccountPrivate, Address, LinkAccount,
        RemoveUser,
    },
    cid::{AdmitDevice, Cid, DeviceAdmitted, DeviceLinked, LinkDevice, Linked},
    device::{Channel, DeviceBound, Endpoint, Identity, Profile},
    message::Protocol,
};
use uuid::Uuid;

use crate::{
    cast::APP,
    ledger::at,
    scenario::{Entry, given},
};

const ANN: Uuid = Uuid::from_u128(0xa);
const BOB: Uuid = Uuid::from_u128(0xb);
const PHONE: Uuid = Uuid::from_u128(0xd);
const OTHER: Uuid = Uuid::from_u128(0xe);
const NUMBER: u32 = 5_000_001;

fn addresses(ums: Option<&str>, easemob: Option<&str>, tencent: Option<&str>) -> AccountPrivate {
    let text = |text: &str| text.to_owned();
    AccountPrivate {
        ums_user: ums.map(text),
        username: easemob.map(text),
        tencent: tencent.map(text),
        nickname: None,
    }
}

fn opened(account: Uuid, private: AccountPrivate) -> Entry {
    Entry::new(Stream::Account(account), AccountOpened { private: Some(private) })
}

fn linked(private: AccountPrivate) -> Entry {
    let event = AccountLinked { opened_at: at(1), private: Some(private) };
    Entry::new(Stream::Account(ANN), event)
}

fn link(new: &[Address]) -> LinkAccount {
    LinkAccount { app: APP.to_owned(), of: Address::Ums("u".to_owned()), new: new.to_vec() }
}

fn easemob() -> Address {
    Address::Easemob("ann".to_owned())
}

fn tencent() -> Address {
    Address::Tencent("Ann".to_owned())
}

#[test]
fn an_account_has_one_address_per_protocol_and_keeps_the_others() {
    let all = addresses(Some("u"), Some("ann"), Some("Ann"));
    let scenario = given([opened(ANN, addresses(Some("u"), None, None))])
        .when(link(&[easemob()]))
        .then([linked(addresses(Some("u"), Some("ann"), None))])
        .when(link(&[tencent()]))
        .then([linked(all.clone())])
        .when(link(&[easemob(), tencent(), Address::Ums("u".to_owned())]))
        .then_nothing();
    let user = scenario.user("ann").unwrap();
    assert_eq!((user.account, user.version, user.opened_at), (ANN, 3, at(1)));
    let other = Address::Easemob("other".to_owned());
    let taken = Rejection::AddressTaken("other".to_owned());
    scenario.when(link(&[other])).then_rejected(taken);
}

#[test]
fn what_another_account_has_is_not_taken_from_it_and_nobody_gets_nothing() {
    let others = opened(BOB, addresses(None, None, Some("Ann")));
    let taken = Rejection::AddressTaken("Ann".to_owned());
    given([opened(ANN, addresses(Some("u"), None, None)), others])
        .when(link(&[easemob(), tencent()]))
        .then_rejected(taken);
    let nobody = Rejection::UnknownUser("u".to_owned());
    given([]).when(link(&[tencent()])).then_rejected(nobody);
}

#[test]
fn a_user_that_is_removed_gives_up_every_address() {
    let all = || addresses(Some("u"), Some("ann"), Some("Ann"));
    let closed = AccountClosed { private: Some(all()) };
    let remove = || RemoveUser { app: APP.to_owned(), username: "ann".to_owned() };
    given([opened(ANN, addresses(Some("u"), None, None)), linked(all())])
        .when(remove())
        .then([Entry::new(Stream::Account(ANN), closed)])
        .when(link(&[]))
        .then_rejected(Rejection::UnknownUser("u".to_owned()));
}

fn phone(device: Option<i64>, cid: Option<u32>) -> Entry {
    let private = Some(Endpoint { device_id: "phone".to_owned(), tokens: Vec::new(), cid });
    let (protocol, notifiers) = (Protocol::Tencent, Vec::new());
    let bound = DeviceBound { device, account: ANN, protocol, notifiers, private };
    Entry::new(Stream::Device(PHONE), bound)
}

#[test]
fn a_device_has_one_number_that_no_other_has_and_keeps_it() {
    let link = |cid| LinkDevice { app: APP.to_owned(), device: 2, cid };
    let identity =
        Identity { client_id: "phone".to_owned(), cid: Some(NUMBER), ..Identity::default() };
    let event = DeviceLinked {
        device: 2,
        registered_at: at(2),
        updated: false,
        account: Some(ANN),
        protocol: Protocol::Tencent,
        profile: Profile {
            app_package: String::new(),
            device_type: String::new(),
            type_id: None,
            channel: Channel::None,
        },
        notifiers: Vec::new(),
        private: Some(Linked { identity, tokens: Vec::new() }),
    };
    let first = || [opened(ANN, addresses(None, None, Some("Ann"))), phone(None, None)];
    let admit = AdmitDevice { app: APP.to_owned(), cid: NUMBER, new_device: OTHER };
    let scenario = given(first())
        .when(link(NUMBER))
        .then([Entry::new(Stream::Device(PHONE), event)])
        .when(link(NUMBER))
        .then_nothing()
        .when(admit)
        .then_nothing();
    assert_eq!(scenario.numbered(2).cid(), Some(NUMBER));
    let other = Rejection::AddressTaken("7".to_owned());
    scenario.when(link(7)).then_rejected(other);
    let taken = DeviceAdmitted { private: Some(Cid { cid: NUMBER }) };
    given(first())
        .and([Entry::new(Stream::Device(OTHER), taken)])
        .when(link(NUMBER))
        .then_rejected(Rejection::AddressTaken(NUMBER.to_string()));
    given([]).when(link(NUMBER)).then_rejected(Rejection::NotRegistered);
}
