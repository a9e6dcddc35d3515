//! Devices of Easemob users and their bindings to push vendors, and tokens that die.

use domain::{
    Rejection,
    device::{Bind, Binding, BuryToken, Channel, Device, MAX_BINDINGS, Status, UnregisterDevice},
    message::Protocol,
};

use crate::{
    cast::{ANN, BOB, Handset, device, handset, opened, user_opened},
    ledger::at,
    scenario::{Scenario, given},
};

/// Ann, who is the first event.
fn ann() -> Scenario {
    given([user_opened(ANN, "ann")])
}

fn phone() -> Handset {
    handset(ANN, "phone")
}

fn token(notifier: &str, token: &str) -> Bind {
    Bind::Token(notifier.to_owned(), token.to_owned())
}

fn without(notifier: &str) -> Bind {
    Bind::Without(notifier.to_owned())
}

fn bury(device: i64, notifier: Option<&str>, token: &str) -> BuryToken {
    BuryToken {
        device,
        notifier: notifier.map(str::to_owned),
        token: token.to_owned(),
        code: "410".to_owned(),
    }
}

fn bound(device: &Device) -> Vec<(&str, &str)> {
    device.bound.iter().map(|(notifier, token)| (notifier.as_str(), token.as_str())).collect()
}

#[test]
fn a_device_that_connects_is_seen_once() {
    let scenario = ann()
        .when(phone().bind("ann", Bind::Seen))
        .then([phone().first()])
        .when(phone().bind("ann", Bind::Seen))
        .then_nothing();
    let device = scenario.numbered(2);
    assert_eq!((device.number, device.version, device.registered_at), (2, 1, at(2)));
    assert_eq!((device.protocol, device.status), (Protocol::Easemob, Status::Registered));
    assert_eq!((device.account, device.identity.client_id.as_str()), (Some(ANN), "phone"));
    assert_eq!(device.bindings(), []);
}

#[test]
fn a_token_makes_its_device_known() {
    let scenario = ann()
        .when(phone().bind("ann", token("fcm", "t1")))
        .then([phone().with("fcm", "t1").first()])
        .when(phone().bind("ann", Bind::Seen))
        .then_nothing();
    let binding = Binding { notifier: Some("fcm".to_owned()), token: "t1".to_owned() };
    assert_eq!(scenario.numbered(2).bindings(), [binding]);
}

#[test]
fn a_device_has_one_token_under_each_certificate_name_in_order_of_name() {
    let first = phone().with("fcm", "t1");
    let scenario = ann()
        .and([first.first()])
        .when(phone().bind("ann", token("huawei", "t2")))
        .then([first.with("huawei", "t2").again(2)])
        .when(phone().bind("ann", token("apns", "t3")))
        .then([phone().with("apns", "t3").with("fcm", "t1").with("huawei", "t2").again(2)])
        .when(phone().bind("ann", token("fcm", "t4")))
        .then([phone().with("apns", "t3").with("fcm", "t4").with("huawei", "t2").again(2)])
        .when(phone().bind("ann", token("fcm", "t4")))
        .then_nothing();
    let device = scenario.numbered(2);
    assert_eq!(bound(&device), [("apns", "t3"), ("fcm", "t4"), ("huawei", "t2")]);
    assert_eq!((device.version, device.registered_at), (4, at(2)));
}

#[test]
fn a_binding_is_taken_away_by_its_certificate_name_and_the_device_stays() {
    let scenario = ann()
        .and([phone().with("fcm", "t1").with("huawei", "t2").first()])
        .when(phone().bind("ann", without("apns")))
        .then_nothing()
        .when(phone().bind("ann", without("fcm")))
        .then([phone().with("huawei", "t2").again(2)])
        .when(phone().bind("ann", without("huawei")))
        .then([phone().again(2)])
        .when(phone().bind("ann", without("huawei")))
        .then_nothing();
    assert!(scenario.numbered(2).registered());
}

#[test]
fn all_bindings_are_taken_away_at_once_and_the_device_stays() {
    let scenario = ann()
        .and([phone().with("fcm", "t1").with("huawei", "t2").first()])
        .when(phone().bind("ann", Bind::Nothing))
        .then([phone().again(2)])
        .when(phone().bind("ann", Bind::Nothing))
        .then_nothing();
    assert!(scenario.numbered(2).registered());
}

#[test]
fn taking_bindings_from_a_device_that_was_never_seen_does_not_make_it_known() {
    for change in [Bind::Nothing, without("fcm")] {
        ann().when(phone().bind("ann", change)).then_nothing();
    }
}

#[test]
fn only_devices_of_users_that_there_are_can_be_bound() {
    for change in [Bind::Seen, Bind::Nothing, without("fcm"), token("fcm", "t1")] {
        let unknown = Rejection::UnknownUser("ann".to_owned());
        given([opened(ANN, "ann"), user_opened(BOB, "ann").of_app("other")])
            .when(phone().bind("ann", change))
            .then_rejected(unknown);
    }
}

#[test]
fn a_device_has_so_many_bindings_and_no_more_but_may_replace_one() {
    let name = |n: usize| format!("cert-{n:02}");
    let full = (0..MAX_BINDINGS).fold(phone(), |phone, n| phone.with(&name(n), "t"));
    let replaced =
        (1..MAX_BINDINGS).fold(phone().with(&name(0), "new"), |phone, n| phone.with(&name(n), "t"));
    ann()
        .and([full.first()])
        .when(phone().bind("ann", token("cert-99", "t")))
        .then_rejected(Rejection::TooManyBindings { limit: MAX_BINDINGS })
        .when(phone().bind("ann", token(&name(0), "new")))
        .then([replaced.again(2)]);
}

#[test]
fn the_same_device_id_of_two_users_is_two_devices() {
    let of_bob = handset(BOB, "phone");
    let scenario = ann()
        .and([user_opened(BOB, "bob"), phone().with("fcm", "t1").first()])
        .when(of_bob.bind("bob", token("fcm", "t2")))
        .then([of_bob.with("fcm", "t2").first()]);
    assert_eq!(bound(&scenario.numbered(3)), [("fcm", "t1")]);
    assert_eq!(bound(&scenario.numbered(4)), [("fcm", "t2")]);
}

#[test]
fn a_device_id_that_is_a_client_id_too_is_another_device() {
    let ums = device("phone", "01");
    let other = UnregisterDevice { client_id: "phone".to_owned(), ..ums.unregister(None) };
    ann()
        .and([phone().first(), device("another", "01").registered()])
        .when(other)
        .then_rejected(Rejection::NotRegistered)
        .when(ums.register(None))
        .then([ums.registered()])
        .when(phone().bind("ann", token("fcm", "t1")))
        .then([phone().with("fcm", "t1").again(2)]);
}

#[test]
fn a_dead_token_is_taken_away_and_the_device_stays() {
    let both = phone().with("fcm", "t1").with("huawei", "t1");
    let scenario = ann()
        .and([both.first()])
        .when(bury(2, Some("fcm"), "t1"))
        .then([both.died(2, "fcm", "410")])
        .when(bury(2, Some("fcm"), "t1"))
        .then_nothing();
    let device = scenario.numbered(2);
    assert_eq!(bound(&device), [("huawei", "t1")]);
    assert!(device.registered());
    scenario
        .when(phone().bind("ann", token("fcm", "t3")))
        .then([phone().with("fcm", "t3").with("huawei", "t1").again(2)]);
}

#[test]
fn a_token_that_came_since_does_not_die_with_the_one_before() {
    ann()
        .and([phone().with("fcm", "old").first(), phone().with("fcm", "new").again(2)])
        .when(bury(2, Some("fcm"), "old"))
        .then_nothing()
        .when(bury(2, Some("huawei"), "new"))
        .then_nothing()
        .when(bury(2, None, "new"))
        .then_nothing();
}

#[test]
fn a_token_of_a_device_that_is_not_there_is_nobodys_to_bury() {
    ann().when(bury(2, Some("fcm"), "t1")).then_nothing();
}

#[test]
fn the_token_of_a_ums_registration_dies_until_the_device_registers_again() {
    let phone = device("c1", "01").hardware("mac-1");
    let scenario = given([phone.registered()])
        .when(bury(1, None, "another"))
        .then_nothing()
        .when(bury(1, Some("jpush"), "push-c1"))
        .then_nothing()
        .when(bury(1, None, "push-c1"))
        .then([phone.died(1, "410")])
        .when(bury(1, None, "push-c1"))
        .then_nothing();
    let device = scenario.device("c1", 1);
    assert_eq!((device.bindings(), device.status), (Vec::new(), Status::Registered));
    assert_eq!(device.identity.device_id.as_deref(), Some("mac-1"));
    let scenario = scenario.when(phone.register(None)).then([phone.updated(1)]);
    let own = Binding { notifier: None, token: "push-c1".to_owned() };
    assert_eq!(scenario.device("c1", 1).bindings(), [own]);
}

#[test]
fn a_ums_registration_has_a_binding_if_it_names_jpush_and_a_token() {
    for (channel, token, binding) in [
        (Channel::Jpush, "t", true),
        (Channel::Jpush, "", false),
        (Channel::M2m, "t", false),
        (Channel::None, "t", false),
    ] {
        let mut sketch = device("c1", "08");
        sketch.profile.channel = channel;
        sketch.identity.push_id = token.to_owned();
        let scenario = given([sketch.registered()]);
        assert_eq!(scenario.device("c1", 1).bindings().len(), usize::from(binding));
        let buried = scenario.when(bury(1, None, token));
        if binding {
            buried.then([sketch.died(1, "410")]);
        } else {
            buried.then_nothing();
        }
    }
}
