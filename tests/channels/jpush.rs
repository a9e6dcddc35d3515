//! JPush: its table of codes, and how a notification becomes its fields.

use domain::vendor::{Class, Vendor};
use pushledger::delivery::channel::classify;
use serde_json::{Value, json};

use super::{Row, body, check_rows, headers, notification, template, verdict};

fn row(status: u16, code: i64, class: Class, text: &'static str, suspect: bool) -> Row {
    let body = json!({ "error": { "code": code, "message": "…" }, "msg_id": "18" });
    (status, body.to_string(), class, text, suspect)
}

#[test]
fn every_documented_code_of_a_call_with_one_id_has_its_class() {
    check_rows(
        Vendor::Jpush,
        &[
            row(500, 1000, Class::Server, "1000", false),
            row(405, 1001, Class::Payload, "1001", false),
            row(400, 1002, Class::Payload, "1002", false),
            row(400, 1003, Class::Dead, "1003", true),
            row(401, 1004, Class::Auth, "1004", false),
            row(400, 1005, Class::Payload, "1005", false),
            row(400, 1008, Class::Auth, "1008", false),
            row(400, 1009, Class::Payload, "1009", false),
            row(400, 1011, Class::Dead, "1011", true),
            row(400, 1012, Class::Quota, "1012", false),
            row(404, 1020, Class::Config, "1020", false),
            row(503, 1030, Class::Server, "1030", false),
            row(400, 1035, Class::Payload, "1035", false),
            row(429, 2002, Class::Throttled, "2002", false),
            row(403, 2003, Class::Config, "2003", false),
            row(403, 2004, Class::Config, "2004", false),
            row(403, 2005, Class::Quota, "2005", false),
            row(403, 2006, Class::Config, "2006", false),
            row(403, 2007, Class::Config, "2007", false),
            row(403, 2008, Class::Quota, "2008", false),
            row(400, 1999, Class::Payload, "1999", false),
            (502, String::new(), Class::Server, "502", false),
            (503, String::new(), Class::Server, "503", false),
            (504, String::new(), Class::Server, "504", false),
        ],
    );
}

#[test]
fn a_code_on_many_ids_makes_none_of_them_a_suspect() {
    for (code, class) in [(1003, Class::Payload), (1011, Class::Off)] {
        let body = json!({ "error": { "code": code, "message": "…" } }).to_string();
        let verdicts = classify(Vendor::Jpush, 400, &headers(&[]), body.as_bytes(), &["a", "b"]);
        assert!(verdicts.iter().all(|verdict| verdict.class == class && !verdict.suspect));
    }
}

#[test]
fn an_internal_time_out_may_have_sent_it_all_the_same() {
    let body = json!({ "error": { "code": 1030, "message": "…" } }).to_string();
    assert!(verdict(Vendor::Jpush, 503, &[], &body).maybe_delivered);
}

#[test]
fn an_id_may_come_as_a_number() {
    let verdict = verdict(Vendor::Jpush, 200, &[], r#"{"sendno":0,"msg_id":18100287008371626}"#);
    assert_eq!(verdict.id.as_deref(), Some("18100287008371626"));
}

#[test]
fn a_key_makes_the_call_repeatable() {
    let made = template(Vendor::Jpush, &notification("{}")).unwrap();
    let keyed: Value =
        serde_json::from_slice(&made.prepare(&["a"], Some("k-1")).unwrap().body).unwrap();
    assert_eq!(keyed["cid"], "k-1");
    let plain: Value = serde_json::from_slice(&made.prepare(&["a"], None).unwrap().body).unwrap();
    assert_eq!(plain.get("cid"), None);
}

#[test]
fn the_callers_object_is_laid_over_all_but_whom_it_goes_to() {
    let sent = body(
        Vendor::Jpush,
        r#"{"title":"a","jpush":{"cid":"x","audience":"all","platform":["android"],
            "notification":{"android":{"title":"b","style":1}},"options":{"time_to_live":60}}}"#,
    );
    assert_eq!(sent.get("cid"), None);
    assert_eq!(sent["audience"], json!({ "registration_id": [super::token(Vendor::Jpush, 1)] }));
    assert_eq!(sent["platform"], json!(["android"]));
    let android = &sent["notification"]["android"];
    assert_eq!((&android["title"], &android["style"]), (&json!("b"), &json!(1)));
    assert_eq!(sent["notification"]["ios"]["alert"]["title"], "a");
    let options = &sent["options"];
    assert_eq!((&options["time_to_live"], &options["apns_production"]), (&json!(60), &json!(true)));
}

#[test]
fn a_badge_and_a_click_have_jpushs_names() {
    let sent = body(
        Vendor::Jpush,
        r#"{"config":{"badge":{"setNum":120,"activity":"a.Main"},
            "clickAction":{"url":"https://a.example","action":"a.OPEN","activity":"a.Order"}}}"#,
    );
    let android = &sent["notification"]["android"];
    assert_eq!(android["badge_set_num"], 99);
    assert_eq!(android["badge_class"], "a.Main");
    assert_eq!(android["intent"], json!({ "url": "https://a.example" }));
    assert_eq!(
        (&android["uri_action"], &android["uri_activity"]),
        (&json!("a.OPEN"), &json!("a.Order"))
    );
    assert_eq!(sent["notification"]["ios"]["badge"], 120);
}
