//! FCM HTTP v1: access tokens for assertions, and the refusals of a push.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sim::fakes::{Fake, Fcm, FcmFake, Options, TokenFault, VendorClock};

use crate::caller::{Answer, NOW, NOW_MS, assertion, fcm, fcm_token_call};

async fn start() -> FcmFake {
    let clock = VendorClock::standing_at(NOW_MS);
    Fake::start(Fcm::default(), Options { clock, ..Options::default() }).await.unwrap()
}

/// Status, the vendor's name of it, and the code of its own detail.
fn refusal(answer: &Answer) -> (u16, String, Option<String>) {
    let error = &answer.body["error"];
    let details = error["details"].as_array().into_iter().flatten();
    let code = details.filter_map(|detail| detail["errorCode"].as_str()).next();
    let name = error["status"].as_str().unwrap_or_default().to_owned();
    (answer.status, name, code.map(str::to_owned))
}

#[tokio::test]
async fn a_good_push_is_accepted_and_named() {
    let fake = start().await;
    let answer = fcm(&fake, "fA:1_x-y").await.send().await;
    assert_eq!(answer.status, 200);
    assert!(answer.body["name"].as_str().unwrap().starts_with("projects/demo-p/messages/"));
    assert_eq!(fake.accepted("fA:1_x-y"), 1);
}

#[tokio::test]
async fn an_assertion_is_refused_unless_all_of_it_is_right() {
    let fake = start().await;
    let credentials = fake.credentials();
    let foreign = EncodingKey::from_rsa_pem(include_bytes!("keys/foreign.pem")).unwrap();
    let claims = json!({"iss": credentials.client_email, "aud": credentials.token_uri,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "iat": NOW, "exp": NOW + 3_600});
    let forged = encode(&Header::new(Algorithm::RS256), &claims, &foreign).unwrap();
    let hs256 = EncodingKey::from_secret(b"secret");
    let weak = encode(&Header::new(Algorithm::HS256), &claims, &hs256).unwrap();
    let made = |claims: Value| assertion(&fake, claims);
    let cases = [
        (forged, "invalid_grant"),
        (weak, "invalid_grant"),
        ("no.jwt.atall".to_owned(), "invalid_grant"),
        (made(json!({"iss": "x@y"})), "invalid_grant"),
        (made(json!({"aud": "https://elsewhere/token"})), "invalid_grant"),
        (made(json!({"iat": NOW - 3_600, "exp": NOW})), "invalid_grant"),
        (made(json!({"exp": NOW + 3_601})), "invalid_grant"),
        (made(json!({"iat": NOW + 301, "exp": NOW + 900})), "invalid_grant"),
        (made(json!({"scope": "https://www.googleapis.com/auth/drive"})), "invalid_scope"),
    ];
    for (assertion, error) in cases {
        let answer = fcm_token_call(&fake, &assertion).send().await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (400, Some(error)));
    }
    let good = fcm_token_call(&fake, &made(json!({})));
    let json = good.clone().header("content-type", "application/json").send().await;
    assert_eq!(json.body["error"], "invalid_request");
    let bare = good.clone().body("grant_type=client_credentials").send().await;
    assert_eq!(bare.body["error"], "unsupported_grant_type");
    let answer = good.send().await;
    assert_eq!((answer.status, &answer.body["expires_in"]), (200, &json!(3_599)));
    assert_eq!(answer.body["token_type"], "Bearer");
}

#[tokio::test]
async fn an_access_token_ends_after_an_hour() {
    let fake = start().await;
    let push = fcm(&fake, "f1").await;
    fake.clock().advance_ms(3_598_000);
    assert_eq!(push.send().await.status, 200);
    fake.clock().advance_ms(1_000);
    let refused = push.send().await;
    assert_eq!(refusal(&refused), (401, "UNAUTHENTICATED".to_owned(), None));
    assert_eq!(fcm(&fake, "f1").await.send().await.status, 200);
}

#[tokio::test]
async fn what_the_vendor_refuses_is_refused_with_its_code_and_accepts_nothing() {
    let fake = start().await;
    let good = fcm(&fake, "f1").await;
    let argument = (400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"));
    let big = "x".repeat(4_100);
    let to = |pointer: &str, value: Value| good.clone().with(pointer, value);
    let topic = to("/message/token", Value::Null).with("/message/topic", json!("news"));
    let cases = [
        (good.clone().without("authorization"), (401, "UNAUTHENTICATED", None)),
        (good.clone().header("authorization", "Bearer x"), (401, "UNAUTHENTICATED", None)),
        (good.clone().to("/v1/projects/other/messages:send"), (403, "PERMISSION_DENIED", None)),
        (good.clone().header("content-type", "text/plain"), argument),
        (good.clone().body("{"), argument),
        (to("/message/token", Value::Null), argument),
        (to("/message/topic", json!("news")), argument),
        (to("/message/token", json!("no token")), argument),
        (to("/message/token", json!("")), argument),
        (to("/message/data", json!({"order": 7})), argument),
        (to("/message/data", json!({"from": "x"})), argument),
        (to("/message/data", json!({"google.x": "x"})), argument),
        (to("/message/data", json!({"gcm.x": "x"})), argument),
        (to("/message/android/ttl", json!(3_600)), argument),
        (to("/message/android/ttl", json!("3600")), argument),
        (to("/message/android/ttl", json!("-1s")), argument),
        (to("/message/android/priority", json!("urgent")), argument),
        (to("/message/android/colour", json!("red")), argument),
        (to("/message/notification/badge", json!(1)), argument),
        (to("/message/notification/body", json!(big)), argument),
        (topic.with("/message/data", json!({"text": big[..2_049]})), argument),
        (to("/message/webpush", json!({"fcm_options": {"link": "http://x"}})), argument),
    ];
    for (number, (sender, (status, name, code))) in cases.into_iter().enumerate() {
        let answer = sender.send().await;
        let expected = (status, name.to_owned(), code.map(str::to_owned));
        assert_eq!(refusal(&answer), expected, "case {number}: {}", answer.body);
    }
    let unknown = to("/message/android/colour", json!("red")).send().await;
    let violation = &unknown.body["error"]["details"][1]["fieldViolations"][0];
    assert_eq!(violation["field"], "message.android.colour");
    assert_eq!((fake.accepted("f1"), fake.stats().pushes_accepted), (0, 0));
}

#[tokio::test]
async fn names_may_be_camel_case_and_a_ttl_may_have_a_fraction() {
    let fake = start().await;
    let push = fcm(&fake, "f1").await;
    let push = push.with("/message/android", json!({"collapseKey": "o", "ttl": "3.5s"}));
    assert_eq!(push.send().await.status, 200);
}

#[tokio::test]
async fn a_message_that_is_only_validated_is_not_sent() {
    let fake = start().await;
    let push = fcm(&fake, "f1").await.with("/validate_only", json!(true));
    assert_eq!(push.send().await.status, 200);
    assert_eq!(fake.accepted("f1"), 0);
}

#[tokio::test]
async fn each_kind_of_bad_token_has_its_own_code() {
    let fake = start().await;
    let cases = [
        (TokenFault::Dead, 404, "UNREGISTERED"),
        (TokenFault::Malformed, 400, "INVALID_ARGUMENT"),
        (TokenFault::WrongApp, 403, "SENDER_ID_MISMATCH"),
        (TokenFault::Throttled, 429, "QUOTA_EXCEEDED"),
        (TokenFault::Unavailable, 503, "UNAVAILABLE"),
    ];
    let push = fcm(&fake, "f1").await;
    for (fault, status, code) in cases {
        fake.set_token("f1", Some(fault));
        let (got, _, detail) = refusal(&push.send().await);
        assert_eq!((got, detail.as_deref()), (status, Some(code)));
    }
    fake.set_token("f1", None);
    assert_eq!(push.send().await.status, 200);
    assert_eq!(fcm(&fake, "dead-1").await.send().await.status, 404);
}
