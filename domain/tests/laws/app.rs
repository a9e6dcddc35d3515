//! Apps: created once, changed with a version in hand, deleted for good.

use domain::{
    Rejection, Stream,
    app::{
        AppChanged, AppConfig, AppCreated, AppDeleted, CallUrl, ChangeApp, CreateApp, DeleteApp,
        EasemobConfig, EasemobLimits, JwtConfig, JwtKeys, SecretRef, UmsConfig, VendorRef,
    },
    device::Binding,
    vendor::Vendor,
};
use uuid::Uuid;

use crate::scenario::{Entry, given};

/// An app whose protocol ids follow from its id.
fn config(app_id: &str) -> AppConfig {
    AppConfig {
        ums: Some(UmsConfig {
            app_id: format!("MB-{app_id}"),
            app_keys: vec![secret("app-key")],
            system_id: format!("SV-{app_id}"),
            system_keys: vec![secret("system-key")],
            app_packages: Vec::new(),
            jwt: None,
        }),
        ..AppConfig::new(app_id, &format!("The {app_id}"), "Asia/Shanghai")
    }
}

fn secret(reference: &str) -> SecretRef {
    SecretRef { reference: reference.to_owned(), fingerprint: "0123456789abcdef".to_owned() }
}

/// The same app under another name.
fn renamed(app_id: &str) -> AppConfig {
    AppConfig { name: "Another name".to_owned(), ..config(app_id) }
}

/// The app with these UMS ids.
fn with_ids(app_id: &str, terminal: &str, system: &str) -> AppConfig {
    let mut config = config(app_id);
    let ums = config.ums.as_mut().unwrap();
    ums.app_id = terminal.to_owned();
    ums.system_id = system.to_owned();
    config
}

fn created(config: AppConfig) -> Entry {
    Entry::new(Stream::App(config.app_id.clone()), AppCreated { config })
}

fn changed(config: AppConfig) -> Entry {
    Entry::new(Stream::App(config.app_id.clone()), AppChanged { config })
}

fn deleted(app_id: &str) -> Entry {
    Entry::new(Stream::App(app_id.to_owned()), AppDeleted {})
}

fn create(config: AppConfig) -> CreateApp {
    CreateApp { config }
}

fn change(config: AppConfig, expected: Option<i64>) -> ChangeApp {
    ChangeApp { config, expected }
}

fn delete(app_id: &str) -> DeleteApp {
    DeleteApp { app_id: app_id.to_owned() }
}

fn taken(id: &str) -> Rejection {
    Rejection::AppTaken(id.to_owned())
}

#[test]
fn creating_an_app_records_its_configuration() {
    let scenario = given([]).when(create(config("a"))).then([created(config("a"))]);
    let apps = scenario.apps();
    assert_eq!(apps.len(), 1);
    assert_eq!((apps[0].version, &apps[0].config, apps[0].deleted), (1, &config("a"), false));
}

#[test]
fn an_app_without_a_protocol_can_be_created() {
    let bare = AppConfig { ums: None, ..config("a") };
    given([created(config("b"))]).when(create(bare.clone())).then([created(bare)]);
}

#[test]
fn an_app_id_cannot_be_used_twice() {
    given([created(config("a"))]).when(create(renamed("a"))).then_rejected(taken("a"));
}

#[test]
fn the_id_of_a_deleted_app_stays_taken() {
    given([created(config("a")), deleted("a")]).when(create(config("a"))).then_rejected(taken("a"));
}

#[test]
fn a_new_app_cannot_take_a_protocol_id_of_another_app() {
    for (terminal, system, clash) in [
        ("MB-a", "SV-b", "MB-a"),
        ("MB-b", "SV-a", "SV-a"),
        ("SV-a", "SV-b", "SV-a"),
        ("MB-b", "MB-a", "MB-a"),
    ] {
        given([created(config("a"))])
            .when(create(with_ids("b", terminal, system)))
            .then_rejected(taken(clash));
    }
}

#[test]
fn the_protocol_ids_of_a_deleted_app_are_free() {
    let heir = with_ids("b", "MB-a", "SV-a");
    given([created(config("a")), deleted("a")]).when(create(heir.clone())).then([created(heir)]);
}

#[test]
fn changing_an_app_records_the_whole_configuration() {
    let scenario = given([created(config("a")), created(config("b"))])
        .when(change(renamed("a"), None))
        .then([changed(renamed("a"))]);
    let apps = scenario.apps();
    assert_eq!((apps[0].version, &apps[0].config), (2, &renamed("a")));
    assert_eq!((apps[1].version, &apps[1].config), (1, &config("b")));
}

#[test]
fn an_app_changes_at_the_version_that_the_caller_has_seen() {
    given([created(config("a"))])
        .when(change(renamed("a"), Some(1)))
        .then([changed(renamed("a"))])
        .when(change(config("a"), Some(2)))
        .then([changed(config("a"))]);
}

#[test]
fn an_app_does_not_change_when_it_moved_since_the_caller_saw_it() {
    let moved = Rejection::VersionMoved { current: 2 };
    given([created(config("a")), changed(renamed("a"))])
        .when(change(config("a"), Some(1)))
        .then_rejected(moved.clone())
        .when(change(config("a"), Some(3)))
        .then_rejected(moved.clone())
        .when(change(renamed("a"), Some(1)))
        .then_rejected(moved);
}

#[test]
fn a_change_that_changes_nothing_is_no_event() {
    given([created(config("a"))])
        .when(change(config("a"), None))
        .then_nothing()
        .when(change(config("a"), Some(1)))
        .then_nothing();
}

#[test]
fn a_change_cannot_take_a_protocol_id_of_another_app() {
    given([created(config("a")), created(config("b"))])
        .when(change(with_ids("b", "MB-b", "MB-a"), None))
        .then_rejected(taken("MB-a"));
}

#[test]
fn a_change_may_swap_an_apps_own_protocol_ids() {
    let swapped = with_ids("a", "SV-a", "MB-a");
    given([created(config("a"))]).when(change(swapped.clone(), None)).then([changed(swapped)]);
}

#[test]
fn an_app_that_is_not_there_cannot_be_changed() {
    given([created(config("a"))])
        .when(change(config("b"), None))
        .then_rejected(Rejection::UnknownApp);
}

#[test]
fn a_deleted_app_cannot_be_changed() {
    given([created(config("a")), deleted("a")])
        .when(change(renamed("a"), Some(2)))
        .then_rejected(Rejection::UnknownApp);
}

#[test]
fn deleting_an_app_keeps_its_configuration() {
    let scenario =
        given([created(config("a")), created(config("b"))]).when(delete("a")).then([deleted("a")]);
    let apps = scenario.apps();
    assert_eq!((apps[0].version, &apps[0].config, apps[0].deleted), (2, &config("a"), true));
    assert!(!apps[1].deleted);
}

#[test]
fn an_app_is_deleted_once() {
    given([created(config("a"))])
        .when(delete("a"))
        .then([deleted("a")])
        .when(delete("a"))
        .then_rejected(Rejection::UnknownApp);
}

#[test]
fn an_app_that_is_not_there_cannot_be_deleted() {
    given([]).when(delete("a")).then_rejected(Rejection::UnknownApp);
}

/// The app under that path of Easemob's interface.
fn at_path(app_id: &str, org_name: &str, app_name: &str) -> AppConfig {
    let easemob = EasemobConfig {
        org_name: org_name.to_owned(),
        app_name: app_name.to_owned(),
        application: Uuid::nil(),
        client_id: "client".to_owned(),
        client_secrets: vec![secret("client-secret")],
        push_open: true,
        limits: EasemobLimits::default(),
    };
    AppConfig { easemob: Some(easemob), ..config(app_id) }
}

#[test]
fn a_path_of_easemobs_interface_leads_to_one_app_whatever_its_case() {
    given([created(at_path("a", "Acme", "Shop"))])
        .when(create(at_path("b", "acme", "SHOP")))
        .then_rejected(taken("acme#shop"))
        .when(create(at_path("b", "acme", "other")))
        .then([created(at_path("b", "acme", "other"))])
        .when(change(at_path("b", "ACME", "shop"), None))
        .then_rejected(taken("acme#shop"))
        .when(change(at_path("a", "acme", "shop"), None))
        .then([changed(at_path("a", "acme", "shop"))]);
}

#[test]
fn two_paths_that_read_alike_are_two() {
    given([created(at_path("a", "acme-eu", "shop"))])
        .when(create(at_path("b", "acme", "eu-shop")))
        .then([created(at_path("b", "acme", "eu-shop"))]);
}

#[test]
fn a_path_is_free_again_once_its_app_left_it_or_was_deleted() {
    let heir = || at_path("b", "acme", "shop");
    given([created(at_path("a", "acme", "shop")), changed(config("a"))])
        .when(create(heir()))
        .then([created(heir())]);
    given([created(at_path("a", "acme", "shop")), deleted("a")])
        .when(create(heir()))
        .then([created(heir())]);
}

#[test]
fn an_app_that_changes_how_its_own_tokens_are_checked_is_changed() {
    let with = |keys| {
        let mut config = config("a");
        let jwt = JwtConfig { keys, issuer: None, audience: None };
        config.ums.as_mut().unwrap().jwt = Some(jwt);
        config
    };
    let secrets = || with(JwtKeys::Hs256(vec![secret("jwt")]));
    let url = || with(JwtKeys::JwksUrl(CallUrl::Open("https://keys.example.com".to_owned())));
    given([created(config("a"))])
        .when(change(secrets(), None))
        .then([changed(secrets())])
        .when(change(secrets(), None))
        .then_nothing()
        .when(change(url(), None))
        .then([changed(url())])
        .when(change(config("a"), None))
        .then([changed(config("a"))]);
}

fn vendor(name: &str, vendor: Vendor, packages: &[&str]) -> VendorRef {
    VendorRef {
        name: name.to_owned(),
        vendor,
        app_packages: packages.iter().map(|&package| package.to_owned()).collect(),
        credentials: secret(name),
    }
}

/// Which of these vendors a binding leads to, by its certificate name.
fn led_to(vendors: &[VendorRef], notifier: Option<&str>, package: &str) -> Option<String> {
    let config = AppConfig { vendors: vendors.to_vec(), ..config("a") };
    let binding = Binding { notifier: notifier.map(str::to_owned), token: "t".to_owned() };
    config.vendor_of(&binding, package).map(|vendor| vendor.name.clone())
}

#[test]
fn a_binding_leads_to_the_vendor_of_its_certificate_name_to_the_letter() {
    let vendors = [
        vendor("one", Vendor::Fcm, &[]),
        vendor("two", Vendor::Fcm, &["com.shop.01"]),
        vendor("three", Vendor::Jpush, &[]),
    ];
    for name in ["one", "two", "three"] {
        // A package concerns UMS registrations alone.
        for package in ["", "com.shop.01"] {
            assert_eq!(led_to(&vendors, Some(name), package).as_deref(), Some(name));
        }
    }
    for name in ["One", "four", ""] {
        assert_eq!(led_to(&vendors, Some(name), ""), None);
    }
}

#[test]
fn the_token_of_a_ums_registration_leads_to_the_jpush_of_its_package_or_else_of_all_others() {
    let named = vendor("named", Vendor::Jpush, &["com.shop.01", "com.shop.02"]);
    let others = vendor("others", Vendor::Jpush, &[]);
    let fcm = vendor("fcm", Vendor::Fcm, &["com.shop.01"]);
    let fcm_of_all = vendor("fcm-of-all", Vendor::Fcm, &[]);
    let all = [fcm_of_all.clone(), fcm.clone(), others.clone(), named.clone()];
    assert_eq!(led_to(&all, None, "com.shop.01").as_deref(), Some("named"));
    assert_eq!(led_to(&all, None, "com.shop.02").as_deref(), Some("named"));
    assert_eq!(led_to(&all, None, "com.shop.03").as_deref(), Some("others"));
    assert_eq!(led_to(std::slice::from_ref(&named), None, "com.shop.03"), None);
    assert_eq!(led_to(&[others], None, "com.shop.01").as_deref(), Some("others"));
    assert_eq!(led_to(&[fcm, fcm_of_all], None, "com.shop.01"), None);
    assert_eq!(led_to(&[], None, "com.shop.01"), None);
}
