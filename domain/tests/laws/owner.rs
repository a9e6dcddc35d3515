//! Owners of physical devices.

use domain::{
    Rejection, Stream,
    owner::{OwnerPrivate, OwnerRemoved, OwnerSet, RemoveOwner, SetOwner},
};
use uuid::Uuid;

use crate::{
    cast::{ANN, APP, BOB, NEW_ACCOUNT, opened},
    scenario::{Entry, given},
};

const FRIDGE: Uuid = Uuid::from_u128(0xf);

fn which() -> Option<OwnerPrivate> {
    Some(OwnerPrivate { device_id: "mac-fridge".to_owned() })
}

fn owned(account: Uuid, bind_key: &str) -> Entry {
    let event = OwnerSet { account, bind_key: bind_key.to_owned(), private: which() };
    Entry::new(Stream::Owner(FRIDGE), event)
}

fn disowned() -> Entry {
    Entry::new(Stream::Owner(FRIDGE), OwnerRemoved { private: which() })
}

fn set(user: &str, bind_key: &str) -> SetOwner {
    SetOwner {
        app: APP.to_owned(),
        device_id: "mac-fridge".to_owned(),
        user: user.to_owned(),
        bind_key: bind_key.to_owned(),
        new_owner: FRIDGE,
        new_account: NEW_ACCOUNT,
    }
}

fn remove() -> RemoveOwner {
    RemoveOwner { app: APP.to_owned(), device_id: "mac-fridge".to_owned() }
}

#[test]
fn a_device_gets_an_owner() {
    given([opened(ANN, "ann")]).when(set("ann", "key")).then([owned(ANN, "key")]);
}

#[test]
fn an_owner_who_was_never_seen_gets_an_account() {
    given([]).when(set("ann", "key")).then([opened(NEW_ACCOUNT, "ann"), owned(NEW_ACCOUNT, "key")]);
}

#[test]
fn the_same_owner_with_the_same_key_again_is_no_event() {
    given([opened(ANN, "ann")])
        .when(set("ann", "key"))
        .then([owned(ANN, "key")])
        .when(set("ann", "key"))
        .then_nothing();
}

#[test]
fn a_new_key_or_another_owner_takes_over_in_the_same_stream() {
    given([opened(ANN, "ann"), opened(BOB, "bob"), owned(ANN, "key")])
        .when(set("ann", "new key"))
        .then([owned(ANN, "new key")])
        .when(SetOwner { new_owner: Uuid::nil(), ..set("bob", "new key") })
        .then([owned(BOB, "new key")]);
}

#[test]
fn an_owner_is_removed_once() {
    given([opened(ANN, "ann"), owned(ANN, "key")])
        .when(remove())
        .then([disowned()])
        .when(remove())
        .then_rejected(Rejection::NoOwner);
}

#[test]
fn a_device_that_lost_its_owner_can_get_the_same_one_again() {
    given([opened(ANN, "ann"), owned(ANN, "key"), disowned()])
        .when(SetOwner { new_owner: Uuid::nil(), ..set("ann", "key") })
        .then([owned(ANN, "key")]);
}

#[test]
fn a_device_that_never_had_an_owner_has_none_to_remove() {
    given([opened(ANN, "ann")]).when(remove()).then_rejected(Rejection::NoOwner);
}

#[test]
fn the_owner_of_a_device_in_another_app_is_another_matter() {
    given([owned(ANN, "key").of_app("other")]).when(remove()).then_rejected(Rejection::NoOwner);
}
