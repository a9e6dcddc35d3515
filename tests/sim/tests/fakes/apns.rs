//! APNs: provider tokens, headers, payloads, and the refusals of a device token.

use serde_json::json;
use sim::fakes::{Apns, ApnsFake, Fake, Options, TokenFault, VendorClock};

use crate::caller::{NOW, NOW_MS, Sender, apns, device, http2_client, provider_token, within};

async fn start() -> ApnsFake {
    let clock = VendorClock::standing_at(NOW_MS);
    Fake::start(Apns::default(), Options { clock, ..Options::default() }).await.unwrap()
}

async fn reason(sender: &Sender) -> (u16, String) {
    let answer = sender.send().await;
    (answer.status, answer.body["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_good_push_is_answered_with_its_id_and_no_body() {
    let fake = start().await;
    let answer = apns(&fake, &device(1)).send().await;
    assert_eq!((answer.status, answer.body), (200, json!("")));
    assert_eq!(answer.headers["apns-id"], "123e4567-e89b-42d3-a456-426614174000");
    assert_eq!(fake.accepted(&device(1)), 1);
    assert_eq!(fake.requests()[0].version, "HTTP/2.0");
    let without = apns(&fake, &device(1)).without("apns-id").send().await;
    assert_eq!(without.headers["apns-id"].len(), 36);
}

#[tokio::test]
async fn http_1_is_not_spoken() {
    let fake = start().await;
    let sender = apns(&fake, &device(1)).anew(false);
    assert!(sender.try_send().await.is_err());
    assert_eq!(fake.stats().requests, 0);
}

#[tokio::test]
async fn a_provider_token_has_to_be_signed_by_the_teams_key_and_young() {
    let fake = start().await;
    let credentials = fake.credentials();
    let (team, key_id, key) = (&credentials.team_id, &credentials.key_id, &credentials.private_key);
    let foreign = include_str!("keys/foreign.p8");
    let good = apns(&fake, &device(1));
    let with =
        |token: String| good.clone().header("authorization", &format!("bearer {token}")).anew(true);
    let cases = [
        (with("nonsense".to_owned()), "InvalidProviderToken"),
        (with(provider_token("OTHER", key_id, key, NOW)), "InvalidProviderToken"),
        (with(provider_token(team, "OTHER", key, NOW)), "InvalidProviderToken"),
        (with(provider_token(team, key_id, foreign, NOW)), "InvalidProviderToken"),
        (with(provider_token(team, key_id, key, NOW + 301)), "InvalidProviderToken"),
        (with(provider_token(team, key_id, key, NOW - 3_601)), "ExpiredProviderToken"),
        (good.clone().without("authorization"), "MissingProviderToken"),
    ];
    for (sender, expected) in cases {
        assert_eq!(reason(&sender).await, (403, expected.to_owned()));
    }
    assert_eq!(with(provider_token(team, key_id, key, NOW - 3_599)).send().await.status, 200);
}

#[tokio::test]
async fn another_provider_token_within_20_minutes_is_too_many_on_one_connection() {
    let fake = start().await;
    let first = apns(&fake, &device(1));
    assert_eq!(first.send().await.status, 200);
    fake.clock().advance_ms(19 * 60 * 1_000);
    let second = provider(&fake, &first);
    let refused = reason(&second).await;
    assert_eq!(refused, (429, "TooManyProviderTokenUpdates".to_owned()));
    assert_eq!(second.clone().anew(true).send().await.status, 200);
    fake.clock().advance_ms(60 * 1_000);
    assert_eq!(second.send().await.status, 200);
}

/// The same request with a provider token of now.
fn provider(fake: &ApnsFake, sender: &Sender) -> Sender {
    let credentials = fake.credentials();
    let now = fake.clock().now_seconds();
    let key = &credentials.private_key;
    let token = provider_token(&credentials.team_id, &credentials.key_id, key, now);
    sender.clone().header("authorization", &format!("bearer {token}"))
}

#[tokio::test]
async fn what_the_vendor_refuses_is_refused_with_its_reason_and_accepts_nothing() {
    let fake = start().await;
    let good = apns(&fake, &device(1));
    let with = |name: &str, value: &str| good.clone().header(name, value);
    let mut get = good.clone();
    get.method = reqwest::Method::GET;
    let mut twice = good.clone();
    twice.headers.push(("apns-topic".to_owned(), "com.example.app".to_owned()));
    let big = json!({"aps": {}, "x": "x".repeat(4_096)}).to_string();
    let bigger = json!({"aps": {}, "x": "x".repeat(5_120)}).to_string();
    let voip = with("apns-push-type", "voip").header("apns-topic", "com.example.app.voip");
    assert_eq!(voip.clone().body(&big).send().await.status, 200);
    let cases = [
        (get, 405, "MethodNotAllowed"),
        (good.clone().to("/2/device/x"), 404, "BadPath"),
        (good.clone().to("/3/device/"), 400, "MissingDeviceToken"),
        (good.clone().to("/3/device/abc"), 400, "BadDeviceToken"),
        (good.clone().to(&format!("/3/device/{}", "x".repeat(64))), 400, "BadDeviceToken"),
        (good.clone().without("apns-topic"), 400, "MissingTopic"),
        (with("apns-topic", "com.example.other"), 400, "TopicDisallowed"),
        (with("apns-push-type", "voip"), 400, "BadTopic"),
        (with("apns-push-type", "loud"), 400, "InvalidPushType"),
        (good.clone().without("apns-push-type"), 400, "InvalidPushType"),
        (with("apns-id", "7"), 400, "BadMessageId"),
        (with("apns-expiration", "3600s"), 400, "BadExpirationDate"),
        (with("apns-priority", "7"), 400, "BadPriority"),
        (with("apns-push-type", "background"), 400, "BadPriority"),
        (with("apns-collapse-id", &"c".repeat(65)), 400, "BadCollapseId"),
        (twice, 400, "DuplicateHeaders"),
        (good.clone().body(""), 400, "PayloadEmpty"),
        (good.clone().body("{}"), 400, "PayloadEmpty"),
        (good.clone().body("{"), 400, "PayloadEmpty"),
        (good.clone().body(&big), 413, "PayloadTooLarge"),
        (voip.body(&bigger), 413, "PayloadTooLarge"),
    ];
    for (number, (sender, status, expected)) in cases.into_iter().enumerate() {
        assert_eq!(reason(&sender).await, (status, expected.to_owned()), "case {number}");
    }
    assert_eq!(fake.stats().pushes_accepted, 1);
}

#[tokio::test]
async fn each_kind_of_bad_token_has_its_own_reason() {
    let fake = start().await;
    let push = apns(&fake, &device(1));
    let cases = [
        (TokenFault::Malformed, 400, "BadDeviceToken"),
        (TokenFault::WrongApp, 400, "DeviceTokenNotForTopic"),
        (TokenFault::Throttled, 429, "TooManyRequests"),
        (TokenFault::Unavailable, 503, "ServiceUnavailable"),
        (TokenFault::Dead, 410, "Unregistered"),
    ];
    for (fault, status, expected) in cases {
        fake.set_token(&device(1), Some(fault));
        assert_eq!(reason(&push).await, (status, expected.to_owned()));
    }
    assert_eq!(push.send().await.body["timestamp"], NOW_MS);
    fake.set_token(&device(1), Some(TokenFault::DeadSince(1_700_000_000_000)));
    assert_eq!(push.send().await.body["timestamp"], 1_700_000_000_000_i64);
    let dead = format!("dead{}", &device(1)[4..]);
    assert_eq!(apns(&fake, &dead).send().await.status, 410);
}

#[tokio::test]
async fn one_connection_takes_many_pushes_at_once() {
    let fake = start().await;
    let first = apns(&fake, &device(0));
    assert_eq!(first.send().await.status, 200);
    let pushes: Vec<Sender> =
        (1..100).map(|n| first.clone().to(&format!("/3/device/{}", device(n)))).collect();
    let sent = futures_util::future::join_all(pushes.iter().map(Sender::send));
    assert!(within(sent).await.iter().all(|answer| answer.status == 200));
    let stats = fake.stats();
    assert_eq!((stats.connections, stats.tokens_distinct), (1, 100));
    drop(http2_client());
}
