//! Huawei: its table of codes, partial failures, and how a notification becomes its fields.

use domain::{
    message::MessageId,
    vendor::{Class, Vendor},
};
use pushledger::delivery::{
    channel::{VendorConfig, Verdict, classify, huawei},
    receipts::{Receipt, Told},
};
use serde_json::{Value, json};

use super::{Row, body, check_rows, headers};

/// An answer as Huawei writes it.
pub(crate) fn answer(code: &str, msg: &str) -> String {
    json!({ "code": code, "msg": msg, "requestId": "17" }).to_string()
}

fn row(status: u16, code: &'static str, class: Class, suspect: bool) -> Row {
    (status, answer(code, "…"), class, code, suspect)
}

#[test]
fn every_documented_code_has_its_class() {
    check_rows(
        Vendor::Huawei,
        &[
            row(400, "80300007", Class::Dead, true),
            row(400, "80100001", Class::Payload, false),
            row(400, "80100002", Class::Payload, false),
            row(400, "80100003", Class::Payload, false),
            row(400, "80100004", Class::Payload, false),
            row(400, "80100013", Class::Payload, false),
            row(400, "80100016", Class::Payload, false),
            row(400, "80100017", Class::Throttled, false),
            row(400, "80100018", Class::Payload, false),
            row(401, "80200001", Class::AuthRefresh, false),
            row(401, "80200003", Class::AuthRefresh, false),
            row(401, "80200005", Class::AuthRefresh, false),
            row(400, "80300002", Class::Config, false),
            row(400, "80300008", Class::Payload, false),
            row(400, "80300010", Class::Payload, false),
            row(400, "80300011", Class::Config, false),
            row(400, "80300013", Class::Config, false),
            row(500, "80600003", Class::Server, false),
            row(500, "81000001", Class::Server, false),
            row(400, "80999999", Class::Payload, false),
            (503, String::new(), Class::Throttled, "503", false),
            (500, String::new(), Class::Server, "500", false),
            (502, String::new(), Class::Server, "502", false),
            (401, String::new(), Class::Auth, "401", false),
            (404, String::new(), Class::Config, "404", false),
            (200, answer("80300007", ""), Class::Dead, "80300007", true),
        ],
    );
}

fn partial(msg: &str) -> Vec<Verdict> {
    let body = answer("80100000", msg);
    classify(Vendor::Huawei, 200, &headers(&[]), body.as_bytes(), &["a", "b", "c"])
}

#[test]
fn a_partial_failure_names_the_dead_tokens() {
    let verdicts = partial(r#"{"success":2,"failure":1,"illegal_tokens":["b"]}"#);
    let classes: Vec<_> = verdicts.iter().map(|verdict| verdict.class).collect();
    assert_eq!(classes, [Class::Ok, Class::Dead, Class::Ok]);
    assert_eq!(verdicts[0].id.as_deref(), Some("17"));
    assert_eq!(verdicts[1].code.as_deref(), Some("80100000"));
    assert!(!verdicts[1].suspect, "others went out");
}

#[test]
fn a_failure_of_all_is_only_a_suspicion() {
    let verdicts = partial(r#"{"success":0,"failure":3,"illegal_tokens":["a","b","c"]}"#);
    assert!(verdicts.iter().all(|verdict| verdict.class == Class::Dead && verdict.suspect));
}

#[test]
fn a_partial_failure_without_its_list_is_nobodys_death() {
    for msg in ["", "Partial", "{}", r#"{"illegal_tokens":"a"}"#] {
        let verdicts = partial(msg);
        assert!(verdicts.iter().all(|verdict| verdict.class == Class::Server), "{msg}");
        assert!(verdicts.iter().all(|verdict| verdict.maybe_delivered), "{msg}");
    }
}

#[test]
fn data_is_a_text_and_a_click_opens_the_app() {
    let sent = body(Vendor::Huawei, super::SAMPLE);
    let data: Value = serde_json::from_str(sent["message"]["data"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({ "order": "7", "messageId": "1700000000000000001" }));
    let android = &sent["message"]["android"];
    assert_eq!(android["notification"]["click_action"], json!({ "type": 3 }));
    assert_eq!(android["notification"]["badge"], json!({ "add_num": 1 }));
    assert_eq!(
        (&android["ttl"], &android["bi_tag"]),
        (&json!("3600s"), &json!("1700000000000000001"))
    );
}

#[test]
fn a_click_opens_what_it_names() {
    let click = |action: &str| {
        let text = format!(r#"{{"config":{{"clickAction":{action}}}}}"#);
        body(Vendor::Huawei, &text)["message"]["android"]["notification"]["click_action"].clone()
    };
    let url = json!({ "type": 2, "url": "https://a.example" });
    assert_eq!(click(r#"{"url":"https://a.example","action":"a"}"#), url);
    assert_eq!(click(r#"{"action":"a.OPEN"}"#), json!({ "type": 1, "action": "a.OPEN" }));
    assert_eq!(
        click(r#"{"activity":"intent:#Intent;end"}"#),
        json!({ "type": 1, "intent": "intent:#Intent;end" })
    );
}

#[test]
fn the_callers_object_is_laid_over_all_but_whom_it_goes_to() {
    let sent = body(
        Vendor::Huawei,
        r#"{"huawei":{"message":{"topic":"t","condition":"c","token":["x"],"data":{"aB":1},
            "android":{"collapseKey":3,"notification":{"bigTitle":"T","body":"B"}}}}}"#,
    );
    let message = &sent["message"];
    assert_eq!(message["token"], json!([super::token(Vendor::Huawei, 1)]));
    assert!(message.get("topic").is_none() && message.get("condition").is_none());
    assert_eq!(message["data"], r#"{"aB":1}"#);
    assert_eq!(message["android"]["collapse_key"], 3);
    assert_eq!(message["android"]["notification"]["big_title"], "T");
    assert_eq!(message["android"]["notification"]["body"], "B");
}

#[test]
fn a_receipt_is_signed_with_the_key_as_it_is_or_as_it_is_in_base64() {
    let config = |user: &str, key: &str| {
        let mut json = super::config_json(Vendor::Huawei);
        json["receiptUser"] = json!(user);
        json["receiptKey"] = json!(key);
        match VendorConfig::parse(&json.to_string()).unwrap() {
            VendorConfig::Huawei(config) => config,
            other => panic!("{other:?}"),
        }
    };
    let own = config("receiptUser", "c2VjcmV0LWRlbW8ta2V5LTAwMQ==");
    let header = |value: &str| {
        let nonce = "11111111-2222-4333-8444-555555555555";
        format!("timestamp=1700000000000; nonce={nonce}; value={value}")
    };
    let plain = header("wEPMKoIH9mzXyHV7xQEZ8yR4doac6NAZtShVoTi6JyY=");
    let decoded = header("wqBUXc4odiSrdpAyDjyiC5WTWoNqwhASo/1LClL2Ccc=");
    for good in [&plain, &decoded] {
        assert!(huawei::signed(&own, good, super::NOW));
        assert!(huawei::signed(&own, good, super::NOW + 600_000_000));
        for (now, config) in [
            (super::NOW + 600_000_001, &own),
            (super::NOW - 600_000_001, &own),
            (super::NOW, &config("other", "c2VjcmV0LWRlbW8ta2V5LTAwMQ==")),
            (super::NOW, &config("receiptUser", "other")),
        ] {
            assert!(!huawei::signed(config, good, now), "{good}");
        }
    }
    for bad in [
        String::new(),
        plain.replace("1700000000000", "1700000000001"),
        plain.replace("nonce=1", "nonce=2"),
        plain.replace("wEPM", "wEPN"),
        header(""),
        "timestamp=1700000000000".to_owned(),
    ] {
        assert!(!huawei::signed(&own, &bad, super::NOW), "{bad}");
    }
    let VendorConfig::Huawei(without) = super::config(Vendor::Huawei) else { panic!() };
    assert!(!huawei::signed(&without, &plain, super::NOW), "nobody gave a key");
}

#[test]
fn every_code_of_a_receipt_is_received_dead_or_not_now() {
    let body = |status: i64| {
        json!({ "statuses": [{ "biTag": "1700000000000000001", "appid": "1", "token": "t",
                               "status": status, "timestamp": 1_700_000_000_000_i64,
                               "requestId": "17" }] })
        .to_string()
    };
    for (status, told) in [
        (0, Told::Received),
        (2, Told::Dead),
        (5, Told::Dead),
        (6, Told::NotNow),
        (10, Told::NotNow),
        (15, Told::NotNow),
        (27, Told::NotNow),
        (31, Told::NotNow),
        (102, Told::NotNow),
        (144, Told::NotNow),
        (201, Told::NotNow),
        (202, Told::NotNow),
        (999, Told::NotNow),
    ] {
        let receipts = huawei::receipts(body(status).as_bytes()).unwrap();
        let expected = Receipt {
            message: MessageId(1_700_000_000_000_000_001),
            token: "t".to_owned(),
            at: 1_700_000_000_000_000,
            code: status.to_string(),
            told,
        };
        assert_eq!(receipts, [expected]);
    }
    assert_eq!(
        huawei::receipts(br#"{"statuses":[{"biTag":"x","token":"t","status":0}]}"#),
        Some(vec![])
    );
    for body in ["", "[]", "{}", r#"{"statuses":[{"token":7}]}"#] {
        assert_eq!(huawei::receipts(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn what_receipts_name_a_message_by_is_never_the_callers_to_say() {
    let sent = body(Vendor::Huawei, r#"{"huawei":{"message":{"android":{"biTag":"mine"}}}}"#);
    assert_eq!(sent["message"]["android"]["bi_tag"], "1700000000000000001");
}
