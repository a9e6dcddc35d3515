//! APNs: its table of reasons, and how a notification becomes its payload and headers.

use domain::{
    message::MessageId,
    vendor::{Class, Unfit, Vendor},
};
use pushledger::delivery::channel::{self, Options, VendorConfig};
use serde_json::json;

use super::{
    NOW, Row, body, check_rows, config, config_json, notification, request, template, verdict,
};

fn row(status: u16, reason: &'static str, class: Class, suspect: bool) -> Row {
    (status, json!({ "reason": reason }).to_string(), class, reason, suspect)
}

fn header(text: &str, name: &str) -> Option<String> {
    let headers = request(Vendor::Apns, text).headers;
    headers.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[test]
fn every_documented_reason_has_its_class() {
    check_rows(
        Vendor::Apns,
        &[
            row(410, "Unregistered", Class::Dead, false),
            row(410, "ExpiredToken", Class::Dead, false),
            row(400, "BadDeviceToken", Class::Dead, true),
            row(400, "DeviceTokenNotForTopic", Class::Config, false),
            row(400, "TopicDisallowed", Class::Config, false),
            row(400, "BadCollapseId", Class::Payload, false),
            row(400, "BadExpirationDate", Class::Payload, false),
            row(400, "BadMessageId", Class::Payload, false),
            row(400, "BadPriority", Class::Payload, false),
            row(400, "InvalidPushType", Class::Payload, false),
            row(400, "PayloadEmpty", Class::Payload, false),
            row(400, "DuplicateHeaders", Class::Payload, false),
            row(400, "BadTopic", Class::Config, false),
            row(400, "MissingTopic", Class::Config, false),
            row(400, "MissingDeviceToken", Class::Config, false),
            row(400, "IdleTimeout", Class::Server, false),
            row(403, "ExpiredProviderToken", Class::AuthRefresh, false),
            row(403, "InvalidProviderToken", Class::Auth, false),
            row(403, "MissingProviderToken", Class::Auth, false),
            row(403, "BadCertificate", Class::Auth, false),
            row(403, "BadCertificateEnvironment", Class::Auth, false),
            row(403, "Forbidden", Class::Auth, false),
            row(404, "BadPath", Class::Config, false),
            row(405, "MethodNotAllowed", Class::Config, false),
            row(413, "PayloadTooLarge", Class::Payload, false),
            row(429, "TooManyRequests", Class::Throttled, false),
            row(429, "TooManyProviderTokenUpdates", Class::Throttled, false),
            row(500, "InternalServerError", Class::Server, false),
            row(503, "ServiceUnavailable", Class::Server, false),
            row(503, "Shutdown", Class::Server, false),
            row(400, "ANewReason", Class::Payload, false),
            row(403, "ANewReason", Class::Auth, false),
            (410, String::new(), Class::Dead, "410", false),
            (403, String::new(), Class::Auth, "403", false),
        ],
    );
}

#[test]
fn a_dead_token_comes_with_since_when() {
    let body = r#"{"reason":"Unregistered","timestamp":1733000000000}"#;
    let dead = verdict(Vendor::Apns, 410, &[], body);
    assert_eq!(dead.since, Some(1_733_000_000_000_000));
    let other = verdict(Vendor::Apns, 400, &[], &body.replace("Unregistered", "BadPriority"));
    assert_eq!(other.since, None);
}

#[test]
fn expiry_is_a_time_and_zero_stays_zero() {
    assert_eq!(header("{}", "apns-expiration").as_deref(), Some("1700003600"));
    let text = r#"{"apns":{"invalidationTime":600000}}"#;
    assert_eq!(header(text, "apns-expiration").as_deref(), Some("1700000600"));
    let never = Options { message: MessageId(1), ttl_seconds: 0, now: NOW };
    let made = channel::template(&config(Vendor::Apns), &notification("{}"), &never).unwrap();
    let request = made.prepare(&["ab"], None).unwrap();
    assert!(request.headers.contains(&("apns-expiration", "0".to_owned())));
}

#[test]
fn what_is_sent_in_the_background_shows_nothing_and_has_priority_5() {
    let text =
        r#"{"title":"a","apns":{"pushType":"background","priority":10,"badge":3,"title":"b"}}"#;
    assert_eq!(header(text, "apns-push-type").as_deref(), Some("background"));
    assert_eq!(header(text, "apns-priority").as_deref(), Some("5"));
    assert_eq!(body(Vendor::Apns, text)["aps"], json!({ "content-available": 1 }));
}

#[test]
fn a_live_activity_has_its_own_topic() {
    let text =
        r#"{"apns":{"liveActivityEvent":"UPDATE","timestamp":1700000000,"contentState":{"a":1}}}"#;
    assert_eq!(header(text, "apns-push-type").as_deref(), Some("liveactivity"));
    let topic = header(text, "apns-topic");
    assert_eq!(topic.as_deref(), Some("com.example.app.push-type.liveactivity"));
    let aps = &body(Vendor::Apns, text)["aps"];
    assert_eq!((&aps["event"], &aps["content-state"]), (&json!("update"), &json!({ "a": 1 })));
}

#[test]
fn the_senders_pairs_never_replace_what_is_apples() {
    let text = r#"{"ext":{"aps":{"badge":9},"a":1},"apns":{"ext":{"aps":1,"b":2}}}"#;
    let sent = body(Vendor::Apns, text);
    assert_eq!(sent["aps"].get("badge"), None);
    assert_eq!((&sent["a"], &sent["b"]), (&json!(1), &json!(2)));
}

#[test]
fn a_value_that_cannot_be_a_header_is_not_sent() {
    for id in ["a\r\nb", "环", "", &"a".repeat(65)] {
        let text = json!({ "apns": { "collapseId": id } }).to_string();
        let unfit = template(Vendor::Apns, &notification(&text)).unwrap_err();
        assert_eq!(unfit, Unfit::BadOverride, "{id}");
    }
}

#[test]
fn builds_of_developers_go_to_the_sandbox() {
    let mut json = config_json(Vendor::Apns);
    json["production"] = json!(false);
    let config = VendorConfig::parse(&json.to_string()).unwrap();
    let made = channel::template(&config, &notification("{}"), &super::options()).unwrap();
    let url = made.prepare(&["ab"], None).unwrap().url;
    assert_eq!(url, "https://api.sandbox.push.apple.com/3/device/ab");
}
