//! FCM: its table of codes, and how a notification becomes its fields.

use domain::vendor::{Class, Unfit, Vendor};
use serde_json::json;

use super::{Row, body, check_rows, notification, template, verdict};

/// An error as FCM writes it.
pub(crate) fn problem(code: u16, status: &str, detail: &str) -> String {
    let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    json!({ "error": {
        "code": code, "message": "…", "status": status,
        "details": [{ "@type": kind, "errorCode": detail }],
    } })
    .to_string()
}

fn violation(field: &str) -> String {
    json!({ "error": {
        "code": 400, "message": "…", "status": "INVALID_ARGUMENT",
        "details": [
            { "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT" },
            { "@type": "type.googleapis.com/google.rpc.BadRequest",
              "fieldViolations": [{ "field": field, "description": "…" }] },
        ],
    } })
    .to_string()
}

fn bare(code: u16, status: &str, message: &str) -> String {
    json!({ "error": { "code": code, "message": message, "status": status } }).to_string()
}

#[test]
fn every_documented_code_has_its_class() {
    let detailed = |http, status, code: &'static str, class, suspect| -> Row {
        (http, problem(http, status, code), class, code, suspect)
    };
    let invalid = "The registration token is not a valid FCM registration token";
    check_rows(
        Vendor::Fcm,
        &[
            detailed(404, "NOT_FOUND", "UNREGISTERED", Class::Dead, false),
            detailed(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", Class::Payload, false),
            (400, violation("message.data"), Class::Payload, "INVALID_ARGUMENT", false),
            (400, violation("message.token"), Class::Dead, "INVALID_ARGUMENT", true),
            (400, bare(400, "INVALID_ARGUMENT", invalid), Class::Dead, "INVALID_ARGUMENT", true),
            detailed(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", Class::Config, false),
            detailed(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", Class::Throttled, false),
            detailed(503, "UNAVAILABLE", "UNAVAILABLE", Class::Server, false),
            detailed(500, "INTERNAL", "INTERNAL", Class::Server, false),
            detailed(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", Class::Config, false),
            detailed(401, "UNAUTHENTICATED", "APNS_AUTH_ERROR", Class::Config, false),
            (401, bare(401, "UNAUTHENTICATED", ""), Class::AuthRefresh, "UNAUTHENTICATED", false),
            (403, bare(403, "PERMISSION_DENIED", ""), Class::Config, "PERMISSION_DENIED", false),
            (404, bare(404, "NOT_FOUND", ""), Class::Dead, "NOT_FOUND", true),
            (
                429,
                bare(429, "RESOURCE_EXHAUSTED", ""),
                Class::Throttled,
                "RESOURCE_EXHAUSTED",
                false,
            ),
            detailed(500, "", "NEW_CODE", Class::Server, false),
            (500, problem(500, "", "UNSPECIFIED_ERROR"), Class::Server, "500", false),
            (401, "no json".to_owned(), Class::AuthRefresh, "401", false),
            (404, "no json".to_owned(), Class::Config, "404", false),
        ],
    );
}

#[test]
fn a_429_without_retry_after_is_waited_for_a_minute() {
    let body = problem(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED");
    assert_eq!(verdict(Vendor::Fcm, 429, &[], &body).retry_after, Some(60_000_000));
}

#[test]
fn values_of_data_are_texts() {
    let sent = body(
        Vendor::Fcm,
        r#"{"ext":{"a":"text","b":9007199254740993,"c":true,"d":{"e":[1]},"f":0.10}}"#,
    );
    let data = json!({
        "a": "text", "b": "9007199254740993", "c": "true", "d": "{\"e\":[1]}", "f": "0.10",
        "messageId": "1700000000000000001",
    });
    assert_eq!(sent["message"]["data"], data);
}

#[test]
fn names_that_fcm_keeps_to_itself_are_not_sent() {
    for name in ["from", "google.a", "gcm.b", "gcm"] {
        for text in [json!({ "ext": { name: 1 } }), json!({ "fcmV1": { "data": { name: 1 } } })] {
            let unfit = template(Vendor::Fcm, &notification(&text.to_string())).unwrap_err();
            assert_eq!(unfit, Unfit::ReservedName, "{text}");
        }
    }
    let odd = template(Vendor::Fcm, &notification(r#"{"fcmV1":{"data":[1]}}"#));
    assert_eq!(odd.unwrap_err(), Unfit::BadOverride);
}

#[test]
fn the_kind_says_which_half_is_sent() {
    let of = |kind: &str| body(Vendor::Fcm, &format!(r#"{{"fcmV1":{{"type":"{kind}"}}}}"#));
    let has = |kind: &str, half: &str| of(kind)["message"].get(half).is_some();
    assert!(has("BOTH", "data") && has("BOTH", "notification"));
    assert!(has("DATA", "data") && !has("DATA", "notification"));
    assert!(!has("NOTIFICATION", "data") && has("NOTIFICATION", "notification"));
}

#[test]
fn the_new_object_wins_over_the_old() {
    let sent = body(
        Vendor::Fcm,
        r#"{"fcm":{"dryRun":true,"collapseKey":"old","timeToLive":60,"priority":"normal"},
            "fcmV1":{"androidConfig":{"collapseKey":"new"},"topic":"all","token":"x"}}"#,
    );
    assert_eq!(sent["validate_only"], true);
    let android = json!({ "priority": "normal", "ttl": "60s", "collapse_key": "new" });
    assert_eq!(sent["message"]["android"], android);
    assert_eq!(sent["message"]["token"], super::token(Vendor::Fcm, 1));
    assert_eq!(sent["message"].get("topic"), None);
}
