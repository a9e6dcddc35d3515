//! Policies on vendors: names that are stored, and when to try again.

use domain::vendor::{
    Class, FIRST_PAUSE_MICROS, MAX_ATTEMPTS, MAX_PAUSE_MICROS, MAX_RETRY_AFTER_MICROS, ONLINE,
    Observes, Unfit, Vendor, capabilities, retry,
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
}
