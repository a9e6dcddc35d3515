//! What holds for every vendor. A new channel adds its answers to [`answers`] and gets all of it.

use std::collections::HashSet;

use domain::{
    notification::{MAX_EXT_PAIRS, Notification},
    vendor::{Class, Unfit, Vendor, retry},
};
use proptest::prelude::*;
use pushledger::delivery::channel::{VendorConfig, batch_tokens, classify};
use serde_json::{Value, json};

use super::{
    EC_KEY, RSA_KEY, SAMPLE, config_json, headers, notification, options, request, template, token,
    verdict,
};

/// An answer: status, headers, body.
type Answer = (u16, &'static [(&'static str, &'static str)], String);

/// One answer of each kind that every vendor must be understood to give.
struct Answers {
    /// The message was taken, under this id.
    ok: (Answer, &'static str),
    /// The only token is dead, or suspected to be.
    dead: Answer,
    /// Too fast, and how long to wait, in s, if this vendor says so.
    throttled: (Answer, Option<i64>),
    /// The credential is wrong, or too old.
    refused: Answer,
    /// The message is wrong.
    payload: Answer,
}

fn answers(vendor: Vendor) -> Answers {
    match vendor {
        Vendor::Jpush => Answers {
            ok: (
                (200, &[], json!({ "sendno": "0", "msg_id": "1828256757" }).to_string()),
                "1828256757",
            ),
            dead: (400, &[], json!({ "error": { "code": 1003, "message": "" } }).to_string()),
            throttled: (
                (
                    429,
                    &[("x-rate-limit-reset", "31")],
                    json!({ "error": { "code": 2002, "message": "" } }).to_string(),
                ),
                Some(31),
            ),
            refused: (401, &[], json!({ "error": { "code": 1004, "message": "" } }).to_string()),
            payload: (400, &[], json!({ "error": { "code": 1005, "message": "" } }).to_string()),
        },
        Vendor::Fcm => Answers {
            ok: (
                (200, &[], json!({ "name": "projects/demo-p/messages/0:17" }).to_string()),
                "projects/demo-p/messages/0:17",
            ),
            dead: (404, &[], super::fcm::problem(404, "NOT_FOUND", "UNREGISTERED")),
            throttled: (
                (
                    429,
                    &[("retry-after", "90")],
                    super::fcm::problem(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
                ),
                Some(90),
            ),
            refused: (401, &[], json!({ "error": { "status": "UNAUTHENTICATED" } }).to_string()),
            payload: (400, &[], super::fcm::problem(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")),
        },
        Vendor::Apns => Answers {
            ok: ((200, &[("apns-id", "EC1BF194")], String::new()), "EC1BF194"),
            dead: (410, &[], json!({ "reason": "Unregistered", "timestamp": 1 }).to_string()),
            throttled: ((429, &[], json!({ "reason": "TooManyRequests" }).to_string()), None),
            refused: (403, &[], json!({ "reason": "ExpiredProviderToken" }).to_string()),
            payload: (413, &[], json!({ "reason": "PayloadTooLarge" }).to_string()),
        },
        Vendor::Huawei => Answers {
            ok: ((200, &[], super::huawei::answer("80000000", "Success")), "17"),
            dead: (400, &[], super::huawei::answer("80300007", "")),
            throttled: ((503, &[], String::new()), None),
            refused: (401, &[], super::huawei::answer("80200001", "")),
            payload: (400, &[], super::huawei::answer("80300008", "")),
        },
    }
}

fn tokens(vendor: Vendor, count: usize) -> Vec<String> {
    (0..count).map(|number| token(vendor, number)).collect()
}

fn borrowed(tokens: &[String]) -> Vec<&str> {
    tokens.iter().map(String::as_str).collect()
}

#[test]
fn a_call_takes_as_many_tokens_as_the_vendor_and_no_more() {
    for vendor in Vendor::ALL {
        let most = batch_tokens(vendor);
        let made = template(vendor, &notification(SAMPLE)).unwrap();
        let many = tokens(vendor, most + 1);
        assert_eq!(made.prepare(&[], None), Err(Unfit::NoToken), "{vendor:?}");
        assert_eq!(made.prepare(&borrowed(&many), None), Err(Unfit::TooManyTokens), "{vendor:?}");
        let request = made.prepare(&borrowed(&many[..most]), None).unwrap();
        let sent = request.url + std::str::from_utf8(&request.body).unwrap();
        let places: Vec<usize> =
            many[..most].iter().map(|token| sent.find(token).unwrap()).collect();
        assert!(places.is_sorted(), "{vendor:?}");
        assert_eq!(places.iter().collect::<HashSet<_>>().len(), most, "{vendor:?}");
    }
}

#[test]
fn what_is_too_large_is_not_sent() {
    for vendor in Vendor::ALL {
        let large = Notification::opaque(&"x".repeat(64 * 1024));
        assert_eq!(template(vendor, &large).unwrap_err(), Unfit::TooLarge, "{vendor:?}");
        let fits = Notification::opaque(&"x".repeat(1024));
        assert!(template(vendor, &fits).is_ok(), "{vendor:?}");
    }
}

#[test]
fn a_vendors_object_is_bounded_before_it_is_understood() {
    let names = ["jpush", "fcmV1", "apns", "huawei"];
    for (vendor, name) in Vendor::ALL.into_iter().zip(names) {
        let long = json!({ name: { "x": "y".repeat(16 * 1024) } }).to_string();
        let unfit = template(vendor, &notification(&long)).unwrap_err();
        assert_eq!(unfit, Unfit::TooLarge, "{vendor:?}");
    }
}

#[test]
fn everything_that_a_caller_may_give_can_be_sent() {
    let ext: serde_json::Map<String, Value> =
        (0..MAX_EXT_PAIRS).map(|at| (format!("k{at}"), json!("环".repeat(90)))).collect();
    let most = json!({
        "title": "环".repeat(16), "subTitle": "环".repeat(10), "content": "环".repeat(50),
        "ext": ext,
    });
    for vendor in Vendor::ALL {
        let made = template(vendor, &notification(&most.to_string()));
        // JPush alone takes less than that for an iPhone: 2,000 bytes.
        let expected = (vendor == Vendor::Jpush).then_some(Unfit::TooLarge);
        assert_eq!(made.err(), expected, "{vendor:?}");
    }
}

#[test]
fn no_token_can_change_the_call_around_it() {
    let hostile = ["a\"],\"x\":[\"b", "a/../../b", "a\nb", "a?b#c", "环", "\\", "a b", "%2e%2e"];
    for vendor in Vendor::ALL {
        let made = template(vendor, &notification(SAMPLE)).unwrap();
        let plain = made.prepare(&[&token(vendor, 1)], None).unwrap();
        for token in hostile {
            let Ok(request) = made.prepare(&[token], None) else { continue };
            assert_eq!((&request.url, &request.headers), (&plain.url, &plain.headers));
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let shape: Value = serde_json::from_slice(&plain.body).unwrap();
            let quoted = json!(token).to_string();
            let own = json!(super::token(vendor, 1)).to_string();
            assert_eq!(body.to_string(), shape.to_string().replace(&own, &quoted), "{vendor:?}");
        }
        assert_eq!(made.prepare(&[""], None), Err(Unfit::MalformedToken));
        assert_eq!(made.prepare(&[&"a".repeat(4097)], None), Err(Unfit::MalformedToken));
    }
}

#[test]
fn the_message_and_the_senders_pairs_travel_with_the_notification() {
    for vendor in Vendor::ALL {
        for text in [SAMPLE.to_owned(), r#"{"ext":{"order":"7","messageId":"mine"}}"#.to_owned()] {
            let body = String::from_utf8(request(vendor, &text).body.to_vec()).unwrap();
            let body = body.replace('\\', "");
            assert!(body.contains(r#""order":"7""#), "{vendor:?} {body}");
            let id = if text.contains("mine") { "mine" } else { "1700000000000000001" };
            assert!(body.contains(&format!(r#""messageId":"{id}""#)), "{vendor:?} {body}");
        }
    }
}

#[test]
fn neither_a_call_nor_a_configuration_shows_a_secret() {
    let secrets = ["zq-master-secret", "zq-client-secret", EC_KEY, RSA_KEY];
    for vendor in Vendor::ALL {
        let shown = format!("{:?} {:?}", super::config(vendor), request(vendor, SAMPLE));
        for secret in secrets {
            assert!(!shown.contains(secret.lines().nth(1).unwrap_or(secret)), "{vendor:?}");
        }
    }
}

#[test]
fn a_configuration_that_is_wrong_is_refused_without_telling_secrets() {
    for vendor in Vendor::ALL {
        let good = config_json(vendor);
        let names: Vec<String> = good.as_object().unwrap().keys().cloned().collect();
        for name in names {
            let mut wrong = good.clone();
            wrong[&name] = json!(["zq-wrong"]);
            let told = VendorConfig::parse(&wrong.to_string()).unwrap_err().to_string();
            let secret = ["masterSecret", "clientSecret", "p8"].contains(&name.as_str());
            assert!(!secret || !told.contains("zq"), "{vendor:?} {name} {told}");
            wrong.as_object_mut().unwrap().remove(&name);
            assert!(VendorConfig::parse(&wrong.to_string()).is_err(), "{vendor:?} {name}");
        }
        let mut odd = good.clone();
        odd["appSecret"] = json!("zq");
        assert!(VendorConfig::parse(&odd.to_string()).is_err(), "{vendor:?}");
        for address in ["ftp://a.example", "https://a:b@c.example", "https://a.example?b", "a"] {
            let mut odd = good.clone();
            odd["baseUrl"] = json!(address);
            assert!(VendorConfig::parse(&odd.to_string()).is_err(), "{vendor:?} {address}");
        }
    }
}

#[test]
fn a_success_is_one_for_every_token_and_has_the_vendors_id() {
    for vendor in Vendor::ALL {
        let ((status, pairs, body), id) = answers(vendor).ok;
        let many = tokens(vendor, batch_tokens(vendor));
        let verdicts = classify(vendor, status, &headers(pairs), body.as_bytes(), &borrowed(&many));
        assert_eq!(verdicts.len(), many.len(), "{vendor:?}");
        assert!(verdicts.iter().all(|verdict| verdict.class == Class::Ok), "{vendor:?}");
        assert!(verdicts.iter().all(|verdict| verdict.id.as_deref() == Some(id)), "{vendor:?}");
    }
}

#[test]
fn failures_are_told_apart() {
    for vendor in Vendor::ALL {
        let told = |(status, pairs, body): Answer| verdict(vendor, status, pairs, &body);
        let answers = answers(vendor);
        assert_eq!(told(answers.dead).class, Class::Dead, "{vendor:?}");
        assert_eq!(told(answers.payload).class, Class::Payload, "{vendor:?}");
        let refused = told(answers.refused).class;
        assert!(matches!(refused, Class::Auth | Class::AuthRefresh), "{vendor:?}");
        let (answer, seconds) = answers.throttled;
        let throttled = told(answer);
        assert_eq!(throttled.class, Class::Throttled, "{vendor:?}");
        assert_eq!(throttled.retry_after, seconds.map(|s| s * 1_000_000), "{vendor:?}");
        assert!(retry(throttled.class, 1, throttled.retry_after, 0.0).is_some());
    }
}

#[test]
fn a_fault_of_the_vendor_is_tried_again_and_kills_no_token() {
    for vendor in Vendor::ALL {
        for status in [500, 502, 503, 504] {
            for body in ["", "<html>Bad Gateway</html>", "{}", "[]", "null"] {
                let verdict = verdict(vendor, status, &[("retry-after", "7")], body);
                // Huawei's 503 is its flow control.
                let flow = vendor == Vendor::Huawei && status == 503;
                let class = if flow { Class::Throttled } else { Class::Server };
                assert_eq!(verdict.class, class, "{vendor:?} {status} {body}");
                assert_eq!(verdict.retry_after, Some(7_000_000));
                assert_eq!(verdict.maybe_delivered, status != 503);
            }
        }
    }
}

#[test]
fn a_success_that_cannot_be_read_is_none() {
    for vendor in [Vendor::Jpush, Vendor::Fcm, Vendor::Huawei] {
        for body in ["", "<html>Log in to this network</html>", "{}", "7"] {
            let verdict = verdict(vendor, 200, &[], body);
            assert_eq!((verdict.class, verdict.maybe_delivered), (Class::Server, true));
        }
    }
}

#[test]
fn a_date_in_retry_after_counts_from_the_answers_own_date() {
    let pairs = [
        ("retry-after", "Tue, 14 Nov 2023 22:14:20 GMT"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
    ];
    for vendor in Vendor::ALL {
        assert_eq!(verdict(vendor, 500, &pairs, "").retry_after, Some(60_000_000), "{vendor:?}");
    }
}

#[test]
fn one_template_serves_all_batches_of_a_message() {
    for vendor in Vendor::ALL {
        let made = template(vendor, &notification(SAMPLE)).unwrap();
        let one = made.prepare(&[&token(vendor, 1)], None).unwrap();
        let other = made.prepare(&[&token(vendor, 2)], None).unwrap();
        assert_ne!(one, other);
        assert_eq!(one, made.prepare(&[&token(vendor, 1)], None).unwrap());
        assert_eq!(one, request(vendor, SAMPLE));
        assert_eq!(options().ttl_seconds, 3600);
    }
}

proptest! {
    #[test]
    fn any_answer_gives_one_verdict_a_token_and_no_unreadable_one_a_dead_token(
        vendor in prop::sample::select(Vendor::ALL.to_vec()),
        status in 100u16..=599,
        body in prop::collection::vec(any::<u8>(), 0..64),
        count in 1usize..4,
    ) {
        let many = tokens(vendor, count);
        let verdicts = classify(vendor, status, &headers(&[]), &body, &borrowed(&many));
        prop_assert_eq!(verdicts.len(), count);
        // 410 alone says it without words, and only Apple's.
        let dead = verdicts.iter().any(|verdict| verdict.class == Class::Dead);
        prop_assert!(!dead || (vendor == Vendor::Apns && status == 410));
        prop_assert!(status < 400 || verdicts.iter().all(|verdict| verdict.class != Class::Ok));
    }

    #[test]
    fn any_notification_makes_a_readable_call_or_none(
        title in "\\PC{0,16}",
        pairs in prop::collection::btree_map("\\PC{1,8}", "\\PC{0,16}", 0..10),
        vendor in prop::sample::select(Vendor::ALL.to_vec()),
    ) {
        let text = json!({ "title": title, "ext": pairs }).to_string();
        let Ok(understood) = Notification::parse(&text) else { return Ok(()) };
        let Ok(made) = template(vendor, &understood) else { return Ok(()) };
        let request = made.prepare(&[&token(vendor, 1)], None).unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        if !title.is_empty() {
            prop_assert!(body.to_string().contains(&json!(title).to_string()));
        }
    }
}
