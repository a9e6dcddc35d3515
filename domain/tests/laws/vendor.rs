//! Policies on vendors: names that are stored, and when to try again.

use domain::vendor::{
    AWAY_CALLS, AWAY_MICROS, Class, FIRST_PAUSE_MICROS, FIRST_QUICK_PAUSE_MICROS, Health,
    MAX_ATTEMPTS, MAX_PAUSE_MICROS, MAX_RETRY_AFTER_MICROS, ONLINE, Observes, QUICK_ATTEMPTS,
    Unfit, Vendor, capabilities, retry,
};
use proptest::prelude::*;
use serde_json::json;

/// µs of a second.
const SECOND: i64 = 1_000_000;

#[test]
fn names_are_the_stored_ones() {
    for (vendor, name) in Vendor::ALL.into_iter().zip(["jpush", "fcm", "apns", "huawei"]) {
        assert_eq!((vendor.name(), json!(vendor)), (name, json!(name)));
    }
    let names = [
        "ok",
        "dead",
        "off",
        "payload",
        "auth_refresh",
        "auth",
        "config",
        "throttled",
        "quota",
        "server",
    ];
    for (class, name) in Class::ALL.into_iter().zip(names) {
        assert_eq!((class.name(), json!(class)), (name, json!(name)));
    }
    let unfit = [
        (Unfit::TooLarge, "too_large"),
        (Unfit::NoToken, "no_token"),
        (Unfit::TooManyTokens, "too_many_tokens"),
        (Unfit::MalformedToken, "malformed_token"),
        (Unfit::ReservedName, "reserved_name"),
        (Unfit::BadOverride, "bad_override"),
    ];
    for (unfit, name) in unfit {
        assert_eq!(json!(unfit), json!(name));
    }
}

#[test]
fn only_the_online_channel_tells_what_became_of_a_message() {
    assert_eq!(ONLINE, Observes { received: true, displayed: true, clicked: true });
    for vendor in Vendor::ALL {
        let told = capabilities(vendor);
        assert!(!told.received && !told.displayed && !told.clicked, "{vendor:?}");
    }
}

#[test]
fn pauses_double_from_ten_seconds_to_ten_minutes() {
    let pauses = (1..MAX_ATTEMPTS).map(|attempt| retry(Class::Server, attempt, None, 0.0).unwrap());
    let seconds: Vec<i64> = pauses.map(|micros| micros / SECOND).collect();
    assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    assert_eq!(retry(Class::Throttled, 2, None, 0.0), Some(20 * SECOND));
    assert_eq!(retry(Class::Server, MAX_ATTEMPTS, None, 0.0), None);
    assert_eq!(retry(Class::Server, u32::MAX, None, 0.0), None);
}

#[test]
fn an_expired_access_token_is_replaced_once() {
    assert_eq!(retry(Class::AuthRefresh, 1, None, 0.5), Some(0));
    assert_eq!(retry(Class::AuthRefresh, 2, None, 0.5), None);
}

#[test]
fn what_waiting_does_not_mend_is_not_tried_again() {
    for class in Class::ALL {
        let mended = matches!(class, Class::AuthRefresh | Class::Throttled | Class::Server);
        assert_eq!(retry(class, 1, None, 0.0).is_some(), mended, "{class:?}");
    }
}

#[test]
fn what_the_vendor_asks_for_is_waited_within_bounds() {
    assert_eq!(retry(Class::Throttled, 1, Some(90 * SECOND), 0.0), Some(90 * SECOND));
    assert_eq!(retry(Class::Server, 5, Some(2 * SECOND), 0.0), Some(2 * SECOND));
    assert_eq!(retry(Class::Throttled, 1, Some(-1), 0.0), Some(SECOND));
    assert_eq!(retry(Class::Throttled, 1, Some(i64::MAX), 0.0), Some(MAX_RETRY_AFTER_MICROS));
}

/// What a vendor says that fails by itself.
const FAULT: (Class, Option<i64>) = (Class::Server, None);

#[test]
fn a_call_that_fails_among_others_waits_alone_and_briefly() {
    for vendor in Vendor::ALL {
        let mut health = Health::default();
        health.succeeded(0);
        health.failed(SECOND);
        let pause = health.put_off(vendor, FAULT, 1, (SECOND, 0.0)).unwrap();
        // FCM wants ten seconds whatever failed.
        let first = if vendor == Vendor::Fcm { 10 * SECOND } else { FIRST_QUICK_PAUSE_MICROS };
        assert_eq!((pause, health.not_before()), (first, 0), "{vendor:?}");
    }
    let mut health = Health::default();
    let pauses = (1..=4).map(|attempt| {
        health.succeeded(0);
        health.failed(0);
        health.put_off(Vendor::Jpush, FAULT, attempt, (0, 0.0)).unwrap()
    });
    let pauses: Vec<i64> = pauses.map(|micros| micros / 100_000).collect();
    assert_eq!(pauses, [5, 10, 400, 800]);
}

#[test]
fn a_vendor_that_takes_nothing_is_left_alone() {
    let mut health = Health::default();
    for _ in 1..AWAY_CALLS {
        health.failed(0);
        assert!(health.put_off(Vendor::Jpush, FAULT, 1, (0, 0.0)).is_some());
        assert_eq!((health.not_before(), health.away(0)), (0, false));
    }
    health.failed(0);
    assert_eq!(health.put_off(Vendor::Jpush, FAULT, 1, (0, 0.0)), Some(FIRST_PAUSE_MICROS));
    assert_eq!((health.not_before(), health.away(0)), (FIRST_PAUSE_MICROS, true));

    // Also if few calls are made.
    let mut health = Health::default();
    health.succeeded(0);
    health.failed(SECOND);
    assert!(!health.away(SECOND + AWAY_MICROS - 1));
    let now = SECOND + AWAY_MICROS;
    health.failed(now);
    assert_eq!(health.put_off(Vendor::Apns, FAULT, 2, (now, 0.0)), Some(20 * SECOND));
    assert_eq!(health.not_before(), now + 20 * SECOND);
}

#[test]
fn a_vendor_that_asks_for_a_pause_gets_it_also_if_it_takes_others() {
    for answer in [(Class::Throttled, None), (Class::Server, Some(10 * SECOND))] {
        let mut health = Health::default();
        health.succeeded(0);
        health.failed(0);
        assert_eq!(health.put_off(Vendor::Jpush, answer, 1, (0, 0.0)), Some(10 * SECOND));
        health.succeeded(SECOND);
        assert_eq!(health.not_before(), 10 * SECOND, "{answer:?}");
    }
}

#[test]
fn one_success_ends_an_outage() {
    let mut health = Health::default();
    (0..2 * AWAY_CALLS).for_each(|_| health.failed(0));
    assert!(health.away(0));
    health.succeeded(60 * SECOND);
    assert!(!health.away(60 * SECOND) && health.succeeded_within(SECOND, 60 * SECOND));
    health.failed(61 * SECOND);
    let pause = health.put_off(Vendor::Huawei, FAULT, 1, (61 * SECOND, 0.0));
    assert_eq!((pause, health.not_before()), (Some(FIRST_QUICK_PAUSE_MICROS), 0));
}

proptest! {
    #[test]
    fn chance_makes_a_pause_up_to_a_half_longer_and_never_shorter(
        attempt in 1..MAX_ATTEMPTS,
        asked in prop::option::of(any::<i64>()),
        roll in any::<f64>(),
    ) {
        let least = retry(Class::Server, attempt, asked, 0.0).unwrap();
        let pause = retry(Class::Server, attempt, asked, roll).unwrap();
        prop_assert!((least..=least + least / 2).contains(&pause));
        prop_assert!(least <= MAX_PAUSE_MICROS.max(MAX_RETRY_AFTER_MICROS));
        prop_assert!(asked.is_some() || least >= FIRST_PAUSE_MICROS);
    }

    #[test]
    fn what_is_put_off_is_so_as_often_as_a_retry_and_never_for_longer(
        attempt in 1..=MAX_ATTEMPTS,
        failed in 0..2 * AWAY_CALLS,
        answer in prop::sample::select(vec![FAULT, (Class::Throttled, None), (Class::Dead, None)]),
        roll in 0.0..1.0,
    ) {
        for vendor in Vendor::ALL {
            let mut health = Health::default();
            (0..failed).for_each(|_| health.failed(0));
            let most = retry(answer.0, attempt, answer.1, roll);
            let pause = health.put_off(vendor, answer, attempt, (0, roll));
            prop_assert_eq!(pause.is_some(), most.is_some());
            prop_assert!(pause <= most && pause.is_none_or(|pause| pause > 0));
            prop_assert!(pause == most || attempt <= QUICK_ATTEMPTS);
            prop_assert!(health.not_before() == 0 || Some(health.not_before()) == pause);
        }
    }
}
