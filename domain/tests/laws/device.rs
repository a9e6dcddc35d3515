//! Devices: registered 1, again 3, unregistered 2, back to 1.

use domain::{
    Rejection,
    device::{Channel, Identity, Profile, RegisterDevice, Status, UnregisterDevice},
};

use crate::{
    cast::{ANN, BOB, NEW_ACCOUNT, Sketch, device, opened},
    ledger::at,
    scenario::given,
};

fn phone() -> Sketch {
    device("c1", "01")
}

#[test]
fn a_device_is_registered_1_then_3_then_3_then_unregistered_2_then_1_again() {
    let mut scenario = given([]).when(phone().register(None)).then([phone().registered()]);
    assert_eq!(scenario.device("c1", 1).status, Status::Registered);
    for _ in 0..2 {
        scenario = scenario.when(phone().register(None)).then([phone().updated(1)]);
        assert_eq!(scenario.device("c1", 1).status, Status::Updated);
    }
    scenario = scenario.when(phone().unregister(None)).then([phone().unregistered(1)]);
    assert_eq!(scenario.device("c1", 1).status, Status::Unregistered);
    scenario = scenario.when(phone().register(None)).then([phone().returned(1)]);
    assert_eq!(scenario.device("c1", 1).status, Status::Registered);
    scenario = scenario.when(phone().register(None)).then([phone().updated(1)]);
    assert_eq!(scenario.device("c1", 1).status, Status::Updated);
}

#[test]
fn a_device_keeps_its_number_and_the_time_of_its_first_registration() {
    let first = given([opened(ANN, "ann"), phone().registered()]);
    let scenario = first
        .when(phone().unregister(None))
        .then([phone().unregistered(2)])
        .when(phone().register(Some("ann")))
        .then([phone().of(ANN).returned(2)]);
    let device = scenario.device("c1", 2);
    assert_eq!((device.number, device.registered_at, device.version), (2, at(2), 3));
}

#[test]
fn a_registration_with_a_user_who_was_never_seen_opens_the_account() {
    given([])
        .when(phone().register(Some("ann")))
        .then([opened(NEW_ACCOUNT, "ann"), phone().of(NEW_ACCOUNT).registered()]);
}

#[test]
fn users_are_told_apart_to_the_letter() {
    given([opened(ANN, "ann")])
        .when(phone().register(Some("Ann")))
        .then([opened(NEW_ACCOUNT, "Ann"), phone().of(NEW_ACCOUNT).registered()]);
}

#[test]
fn the_same_client_with_another_package_is_another_device() {
    let mut second = phone();
    second.profile.app_package = "com.shop.other".to_owned();
    let command = RegisterDevice { new_device: ANN, ..second.register(None) };
    let scenario = given([phone().registered()]).when(command);
    let expected = domain::device::DeviceRegistered {
        account: None,
        profile: second.profile.clone(),
        private: Some(second.identity.clone()),
    };
    let entry = crate::scenario::Entry::new(domain::Stream::Device(ANN), expected);
    scenario.then([entry]).when(phone().register(None)).then([phone().updated(1)]);
}

#[test]
fn a_device_in_another_app_is_another_device() {
    given([phone().registered().of_app("other")])
        .when(phone().unregister(None))
        .then_rejected(Rejection::UnknownPackage);
}

#[test]
fn registering_again_replaces_profile_and_identity() {
    let mut later = phone().hardware("mac-2");
    later.profile =
        Profile { device_type: "02".to_owned(), type_id: Some("111c".to_owned()), ..later.profile };
    later.identity.push_id = "another token".to_owned();
    later.identity.user_name = Some("Ann".to_owned());
    let mut noted = later.clone();
    noted.identity.former_device_id = Some("mac-1".to_owned());
    let scenario = given([phone().hardware("mac-1").registered()])
        .when(later.register(None))
        .then([noted.updated(1)]);
    let device = scenario.device("c1", 1);
    assert_eq!((&device.profile, &device.identity), (&later.profile, &later.identity));
}

#[test]
fn a_device_that_lost_its_hardware_id_is_no_longer_found_by_it() {
    let mut noted = phone();
    noted.identity.former_device_id = Some("mac-1".to_owned());
    let scenario = given([phone().hardware("mac-1").registered()])
        .when(phone().register(None))
        .then([noted.updated(1)]);
    assert_eq!(scenario.device("c1", 1).identity.device_id, None);
    scenario.when(crate::push::to_hardware(&["mac-1"])).then_rejected(Rejection::NotRegistered);
}

#[test]
fn a_registration_without_a_user_keeps_the_account_of_a_registered_device() {
    let scenario = given([opened(ANN, "ann"), phone().of(ANN).registered()])
        .when(phone().register(None))
        .then([phone().of(ANN).updated(2)]);
    assert_eq!(scenario.device("c1", 2).account, Some(ANN));
}

#[test]
fn a_registration_without_a_user_clears_the_account_of_an_unregistered_device() {
    let scenario =
        given([opened(ANN, "ann"), phone().of(ANN).registered(), phone().of(ANN).unregistered(2)])
            .when(phone().register(None))
            .then([phone().returned_from(2, Some(ANN))]);
    assert_eq!(scenario.device("c1", 2).account, None);
}

#[test]
fn a_device_that_registers_under_another_user_names_the_former_one() {
    given([opened(ANN, "ann"), opened(BOB, "bob"), phone().of(ANN).registered()])
        .when(phone().register(Some("bob")))
        .then([phone().of(BOB).updated_from(3, Some(ANN))])
        .when(phone().unregister(Some("bob")))
        .then([phone().of(BOB).unregistered(3)])
        .when(phone().register(Some("ann")))
        .then([phone().of(ANN).returned_from(3, Some(BOB))])
        .when(phone().register(Some("ann")))
        .then([phone().of(ANN).updated(3)]);
}

#[test]
fn a_device_that_gets_its_first_user_names_no_former_one() {
    given([opened(ANN, "ann"), phone().registered()])
        .when(phone().register(Some("ann")))
        .then([phone().of(ANN).updated(2)]);
}

#[test]
fn a_package_that_the_app_does_not_list_cannot_register() {
    let command = |package: &str| RegisterDevice {
        allowed_packages: vec![package.to_owned()],
        ..phone().register(None)
    };
    given([])
        .when(command("com.shop.02"))
        .then_rejected(Rejection::UnknownPackage)
        .when(command("com.shop.01"))
        .then([phone().registered()]);
}

#[test]
fn only_smart_speakers_have_the_m2m_channel() {
    for number in 1..=8 {
        let mut sketch = device("c1", &format!("0{number}"));
        sketch.profile.channel = Channel::M2m;
        let decided = given([]).when(sketch.register(None));
        if number == 8 {
            decided.then([sketch.registered()]);
        } else {
            decided.then_rejected(Rejection::UnsupportedChannel);
        }
    }
}

#[test]
fn an_unknown_package_is_refused_before_a_channel_is_looked_at() {
    let mut sketch = phone();
    sketch.profile.channel = Channel::M2m;
    let allowed_packages = vec!["com.shop.02".to_owned()];
    given([])
        .when(RegisterDevice { allowed_packages, ..sketch.register(None) })
        .then_rejected(Rejection::UnknownPackage);
}

#[test]
fn a_device_unregisters_once() {
    given([phone().registered()])
        .when(phone().unregister(None))
        .then([phone().unregistered(1)])
        .when(phone().unregister(None))
        .then_rejected(Rejection::NotRegistered);
}

#[test]
fn a_package_that_no_device_registered_with_is_unknown() {
    given([device("c2", "02").registered()])
        .when(phone().unregister(None))
        .then_rejected(Rejection::UnknownPackage);
}

#[test]
fn a_package_stays_known_after_its_only_device_unregistered() {
    given([device("c2", "01").registered(), device("c2", "01").unregistered(1)])
        .when(phone().unregister(None))
        .then_rejected(Rejection::NotRegistered);
}

#[test]
fn a_package_that_the_app_lists_is_known_without_any_device() {
    let command = |package: &str| UnregisterDevice {
        allowed_packages: vec![package.to_owned()],
        ..phone().unregister(None)
    };
    given([])
        .when(command("com.shop.01"))
        .then_rejected(Rejection::NotRegistered)
        .when(command("com.shop.02"))
        .then_rejected(Rejection::UnknownPackage);
}

#[test]
fn a_device_with_a_user_is_unregistered_by_that_user_alone() {
    given([opened(ANN, "ann"), opened(BOB, "bob"), phone().of(ANN).registered()])
        .when(phone().unregister(Some("bob")))
        .then_rejected(Rejection::IllegalUser)
        .when(phone().unregister(Some("nobody")))
        .then_rejected(Rejection::IllegalUser)
        .when(phone().unregister(None))
        .then_rejected(Rejection::IllegalUser)
        .when(phone().unregister(Some("ann")))
        .then([phone().of(ANN).unregistered(3)]);
}

#[test]
fn a_device_without_a_user_speaks_for_itself() {
    given([opened(BOB, "bob"), phone().registered()])
        .when(phone().unregister(Some("bob")))
        .then([phone().unregistered(2)]);
}

#[test]
fn unregistering_names_the_device_and_no_more_of_its_user_than_that() {
    let mut named = phone().hardware("mac-1");
    named.identity.user_name = Some("Ann".to_owned());
    named.identity.device_name = Some("Ann's phone".to_owned());
    let scenario = given([named.registered()])
        .when(named.unregister(None))
        .then([phone().hardware("mac-1").unregistered(1)]);
    let kept: &Identity = &scenario.device("c1", 1).identity;
    assert_eq!(kept, &named.identity);
}
