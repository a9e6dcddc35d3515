//! Labels: named sets of Easemob users, bounded in number and size.

use domain::{
    Rejection, Stream,
    label::{ChangeMembers, CreateLabel, DeleteLabel, Label, LabelCreated},
};
use uuid::Uuid;

use crate::{
    cast::{
        ANN, APP, BOB, joined, label_created, label_deleted, label_stream, left, members_changed,
        opened, user_closed, user_opened,
    },
    ledger::at,
    scenario::{Entry, Scenario, given},
};

fn create(name: &str) -> CreateLabel {
    CreateLabel {
        app: APP.to_owned(),
        name: name.to_owned(),
        description: String::new(),
        most: 100,
        new_label: label_stream(name),
    }
}

fn delete(name: &str) -> DeleteLabel {
    DeleteLabel { app: APP.to_owned(), name: name.to_owned() }
}

fn change(usernames: &[&str], join: bool) -> ChangeMembers {
    ChangeMembers {
        app: APP.to_owned(),
        name: "news".to_owned(),
        usernames: usernames.iter().map(|&name| name.to_owned()).collect(),
        join,
        most: 100,
    }
}

fn join(usernames: &[&str]) -> ChangeMembers {
    change(usernames, true)
}

fn leave(usernames: &[&str]) -> ChangeMembers {
    change(usernames, false)
}

/// Ann, Bob and a label of news, which are the first three events.
fn newsroom() -> Scenario {
    given([user_opened(ANN, "ann"), user_opened(BOB, "bob"), label_created("news")])
}

fn members(scenario: &Scenario) -> i64 {
    scenario.label("news").unwrap().members
}

fn taken(name: &str) -> Rejection {
    Rejection::LabelTaken(name.to_owned())
}

fn unknown(name: &str) -> Rejection {
    Rejection::UnknownLabel(name.to_owned())
}

#[test]
fn a_label_is_created_empty_and_says_what_it_is_for() {
    let (name, description) = ("news".to_owned(), "Whoever wants news".to_owned());
    let stream = label_stream("news");
    let event = LabelCreated { name: name.clone(), description: description.clone() };
    let scenario = given([])
        .when(CreateLabel { description: description.clone(), ..create("news") })
        .then([Entry::new(Stream::Label(stream), event)]);
    let expected = Label { stream, version: 1, created_at: at(1), name, description, members: 0 };
    assert_eq!(scenario.label("news").as_deref(), Some(&expected));
}

#[test]
fn a_name_belongs_to_one_label_of_an_app_to_the_letter() {
    given([label_created("news")])
        .when(create("news"))
        .then_rejected(taken("news"))
        .when(create("News"))
        .then([label_created("News")]);
    given([label_created("news").of_app("other")])
        .when(CreateLabel { new_label: ANN, ..create("news") })
        .then([Entry::new(
            Stream::Label(ANN),
            LabelCreated { name: "news".to_owned(), description: String::new() },
        )]);
}

#[test]
fn an_app_has_so_many_labels_and_no_more_until_one_is_deleted() {
    let full = Rejection::TooManyLabels { limit: 2 };
    let command = |name| CreateLabel { most: 2, ..create(name) };
    given([label_created("one"), label_created("foreign").of_app("other")])
        .when(command("two"))
        .then([label_created("two")])
        .when(command("three"))
        .then_rejected(full)
        .when(command("two"))
        .then_rejected(taken("two"))
        .when(delete("one"))
        .then([label_deleted("one")])
        .when(command("three"))
        .then([label_created("three")]);
}

#[test]
fn a_label_is_deleted_once() {
    let scenario = given([label_created("news"), label_created("sports")])
        .when(delete("news"))
        .then([label_deleted("news")])
        .when(delete("news"))
        .then_rejected(unknown("news"));
    assert_eq!(scenario.label("news"), None);
    assert!(scenario.label("sports").is_some());
}

#[test]
fn a_label_that_is_not_there_cannot_be_deleted_or_joined_or_left() {
    for entries in [vec![], vec![label_created("news").of_app("other")]] {
        given(entries)
            .and([user_opened(ANN, "ann")])
            .when(delete("news"))
            .then_rejected(unknown("news"))
            .when(join(&["ann"]))
            .then_rejected(unknown("news"))
            .when(leave(&["ann"]))
            .then_rejected(unknown("news"));
    }
}

#[test]
fn a_label_that_takes_the_name_of_a_deleted_one_is_empty() {
    let second = Uuid::from_u128(2);
    let created = LabelCreated { name: "news".to_owned(), description: String::new() };
    let scenario = newsroom()
        .and([joined("news", &[ANN, BOB]), label_deleted("news")])
        .when(CreateLabel { new_label: second, ..create("news") })
        .then([Entry::new(Stream::Label(second), created)]);
    assert_eq!(members(&scenario), 0);
    scenario
        .when(leave(&["ann", "bob"]))
        .then_nothing()
        .when(join(&["ann"]))
        .then([members_changed(second, "news", &[ANN], &[])]);
}

#[test]
fn users_join_and_leave_as_one_event_in_order_of_name() {
    let scenario =
        newsroom().when(join(&["bob", "ann", "bob"])).then([joined("news", &[ANN, BOB])]);
    assert_eq!((members(&scenario), scenario.label("news").unwrap().version), (2, 2));
    let scenario = scenario.when(leave(&["bob", "ann"])).then([left("news", &[ANN, BOB])]);
    assert_eq!((members(&scenario), scenario.label("news").unwrap().version), (0, 3));
    scenario.when(join(&["bob"])).then([joined("news", &[BOB])]);
}

#[test]
fn whoever_is_in_a_label_does_not_join_it_and_whoever_is_not_does_not_leave_it() {
    newsroom()
        .when(leave(&["ann", "bob"]))
        .then_nothing()
        .when(join(&["ann"]))
        .then([joined("news", &[ANN])])
        .when(join(&["ann"]))
        .then_nothing()
        .when(join(&["ann", "bob"]))
        .then([joined("news", &[BOB])])
        .when(leave(&["ann"]))
        .then([left("news", &[ANN])])
        .when(leave(&["ann", "bob"]))
        .then([left("news", &[BOB])]);
}

#[test]
fn users_that_there_are_not_are_left_out() {
    let eve = Uuid::from_u128(0xe);
    newsroom()
        .and([opened(eve, "ums-user"), user_opened(eve, "foreign").of_app("other")])
        .when(join(&["ums-user", "foreign", "nobody"]))
        .then_nothing()
        .when(join(&["nobody", "ann"]))
        .then([joined("news", &[ANN])])
        .when(join(&[]))
        .then_nothing();
    newsroom()
        .and([user_closed(ANN, "ann")])
        .when(join(&["ann", "bob"]))
        .then([joined("news", &[BOB])]);
}

#[test]
fn a_label_has_so_many_users_and_no_more_until_one_leaves() {
    let eve = Uuid::from_u128(0xe);
    let full = Rejection::LabelFull { limit: 2 };
    let command = |usernames| ChangeMembers { most: 2, ..join(usernames) };
    newsroom()
        .and([user_opened(eve, "eve")])
        .when(command(&["ann", "bob", "eve"]))
        .then_rejected(full.clone())
        .when(command(&["ann", "bob", "nobody"]))
        .then([joined("news", &[ANN, BOB])])
        .when(command(&["ann", "eve"]))
        .then_rejected(full)
        .when(command(&["ann", "bob"]))
        .then_nothing()
        .when(leave(&["ann"]))
        .then([left("news", &[ANN])])
        .when(command(&["bob", "eve"]))
        .then([joined("news", &[eve])]);
}

#[test]
fn a_label_that_has_more_users_than_it_may_can_still_be_left() {
    newsroom()
        .and([joined("news", &[ANN, BOB])])
        .when(ChangeMembers { most: 0, ..leave(&["ann"]) })
        .then([left("news", &[ANN])]);
}
