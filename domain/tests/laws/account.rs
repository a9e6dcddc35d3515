//! Easemob users: registered under a free name, removed with all that is theirs.

use domain::{
    Rejection, Stream,
    account::{AccountOpened, AccountPrivate, RegisterUser, RemoveUser, User},
    device::Bind,
    label::LabelCreated,
};
use uuid::Uuid;

use crate::{
    cast::{
        ANN, APP, BOB, NEW_ACCOUNT, handset, joined, label_created, label_deleted, left,
        members_changed, opened, user_closed, user_opened,
    },
    ledger::at,
    scenario::{Entry, given},
};

fn register(username: &str) -> RegisterUser {
    RegisterUser {
        app: APP.to_owned(),
        username: username.to_owned(),
        nickname: None,
        new_account: NEW_ACCOUNT,
    }
}

fn remove(username: &str) -> RemoveUser {
    RemoveUser { app: APP.to_owned(), username: username.to_owned() }
}

fn taken(username: &str) -> Rejection {
    Rejection::UserTaken(username.to_owned())
}

fn unknown(username: &str) -> Rejection {
    Rejection::UnknownUser(username.to_owned())
}

#[test]
fn a_user_is_registered_with_its_nickname() {
    let nickname = Some("Ann A.".to_owned());
    let private = Some(AccountPrivate {
        username: Some("ann".to_owned()),
        nickname: nickname.clone(),
        ..AccountPrivate::default()
    });
    let event = AccountOpened { private };
    let scenario = given([])
        .when(RegisterUser { nickname: nickname.clone(), ..register("ann") })
        .then([Entry::new(Stream::Account(NEW_ACCOUNT), event)]);
    let (account, username) = (NEW_ACCOUNT, "ann".to_owned());
    let user = User { account, version: 1, opened_at: at(1), username, nickname };
    assert_eq!(scenario.user("ann").as_deref(), Some(&user));
    assert_eq!(scenario.user("bob"), None);
}

#[test]
fn a_name_belongs_to_one_user_of_an_app() {
    given([user_opened(ANN, "ann")])
        .when(register("ann"))
        .then_rejected(taken("ann"))
        .when(register("bob"))
        .then([user_opened(NEW_ACCOUNT, "bob")]);
    given([user_opened(ANN, "ann").of_app("other")])
        .when(register("ann"))
        .then([user_opened(NEW_ACCOUNT, "ann")]);
}

#[test]
fn a_ums_user_of_the_same_name_is_somebody_else() {
    given([opened(ANN, "ann")])
        .when(remove("ann"))
        .then_rejected(unknown("ann"))
        .when(register("ann"))
        .then([user_opened(NEW_ACCOUNT, "ann")])
        .when(handset(NEW_ACCOUNT, "d1").bind("ann", Bind::Seen))
        .then([handset(NEW_ACCOUNT, "d1").first()]);
}

#[test]
fn a_user_that_was_never_registered_cannot_be_removed() {
    given([]).when(remove("ann")).then_rejected(unknown("ann"));
    given([user_opened(ANN, "ann").of_app("other")])
        .when(remove("ann"))
        .then_rejected(unknown("ann"));
}

#[test]
fn a_user_is_removed_with_its_devices_and_memberships_and_no_others() {
    let (phone, tablet) = (handset(ANN, "phone").with("fcm", "t1"), handset(ANN, "tablet"));
    let of_ann = [phone.first(), tablet.first()];
    let of_bob = [handset(BOB, "phone").first()];
    let labels = [label_created("sports"), label_created("news"), label_created("empty")];
    let members = [joined("sports", &[ANN, BOB]), joined("news", &[ANN])];
    let scenario = given([user_opened(ANN, "ann"), user_opened(BOB, "bob")])
        .and(of_ann)
        .and(of_bob)
        .and(labels)
        .and(members)
        .when(remove("ann"))
        .then([
            phone.unregistered(3),
            tablet.unregistered(4),
            left("news", &[ANN]),
            left("sports", &[ANN]),
            user_closed(ANN, "ann"),
        ]);
    assert_eq!(scenario.user("ann"), None);
    assert!(scenario.user("bob").is_some());
    let registered = [3, 4, 5].map(|number| scenario.numbered(number).registered());
    assert_eq!(registered, [false, false, true]);
    let members = ["sports", "news", "empty"].map(|name| scenario.label(name).unwrap().members);
    assert_eq!(members, [1, 0, 0]);
}

#[test]
fn a_user_is_removed_once_and_its_name_is_free_again() {
    given([user_opened(ANN, "ann")])
        .when(remove("ann"))
        .then([user_closed(ANN, "ann")])
        .when(remove("ann"))
        .then_rejected(unknown("ann"))
        .when(register("ann"))
        .then([user_opened(NEW_ACCOUNT, "ann")])
        .when(remove("ann"))
        .then([user_closed(NEW_ACCOUNT, "ann")]);
}

#[test]
fn whoever_takes_a_name_over_gets_nothing_of_its_former_user() {
    let old = handset(ANN, "phone").with("fcm", "t1");
    let new = handset(NEW_ACCOUNT, "phone");
    given([user_opened(ANN, "ann"), old.first(), label_created("news"), joined("news", &[ANN])])
        .when(remove("ann"))
        .then([old.unregistered(2), left("news", &[ANN]), user_closed(ANN, "ann")])
        .when(register("ann"))
        .then([user_opened(NEW_ACCOUNT, "ann")])
        .when(new.bind("ann", Bind::Seen))
        .then([new.first()])
        .when(remove("ann"))
        .then([new.unregistered(9), user_closed(NEW_ACCOUNT, "ann")]);
}

#[test]
fn a_user_does_not_leave_labels_that_were_deleted() {
    given([user_opened(ANN, "ann"), label_created("news"), joined("news", &[ANN])])
        .and([label_deleted("news")])
        .when(remove("ann"))
        .then([user_closed(ANN, "ann")]);
}

#[test]
fn a_user_leaves_the_label_that_it_is_in_and_not_one_of_the_same_name_before_it() {
    let second = Uuid::from_u128(2);
    let created = LabelCreated { name: "news".to_owned(), description: String::new() };
    let created = Entry::new(Stream::Label(second), created);
    let history = || {
        given([user_opened(ANN, "ann"), label_created("news"), joined("news", &[ANN])])
            .and([label_deleted("news"), created.clone()])
    };
    history().when(remove("ann")).then([user_closed(ANN, "ann")]);
    history()
        .and([members_changed(second, "news", &[ANN], &[])])
        .when(remove("ann"))
        .then([members_changed(second, "news", &[], &[ANN]), user_closed(ANN, "ann")]);
}
