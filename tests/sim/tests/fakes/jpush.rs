//! JPush v3: its refusals, its cids and its rate limit.

use reqwest::Method;
use serde_json::{Value, json};
use sim::fakes::{Fake, Jpush, JpushFake, Options, VendorClock};

use crate::caller::{NOW_MS, basic, jpush};

async fn start() -> JpushFake {
    let clock = VendorClock::standing_at(NOW_MS);
    Fake::start(Jpush::default(), Options { clock, ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn a_good_push_is_accepted_once_for_each_registration_id_and_written_down() {
    let fake = start().await;
    let answer = jpush(&fake, &["180a01", "180a02"]).send().await;
    assert_eq!((answer.status, &answer.body["sendno"]), (200, &json!("18")));
    assert!(answer.body["msg_id"].is_string());
    assert_eq!((fake.accepted("180a01"), fake.accepted("180a03")), (1, 0));
    let requests = fake.requests();
    assert_eq!((requests.len(), requests[0].tokens_accepted), (1, 2));
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(requests[0].json()["options"]["time_to_live"], 3_600);
}

#[tokio::test]
async fn what_the_vendor_refuses_is_refused_with_its_code_and_accepts_nothing() {
    let fake = start().await;
    let good = || jpush(&fake, &["180a01"]);
    let many: Vec<String> = (0..1_001).map(|number| format!("180a{number}")).collect();
    let long = "x".repeat(4_001);
    let key = &fake.credentials().app_key;
    let mut get = good();
    get.method = Method::GET;
    let ids = "/audience/registration_id";
    let cases = [
        (get, 405, 1001),
        (good().without("authorization"), 401, 1004),
        (good().header("authorization", &basic(key, "wrong")), 401, 1004),
        (good().header("authorization", "Bearer x"), 401, 1004),
        (good().header("authorization", &basic("short", "wrong")), 400, 1008),
        (good().header("content-type", "text/plain"), 400, 1003),
        (good().body("{"), 400, 1003),
        (good().with("/platform", Value::Null), 400, 1002),
        (good().with("/platform", json!(["symbian"])), 400, 1003),
        (good().with("/audience", Value::Null), 400, 1002),
        (good().with("/audience", json!({})), 400, 1002),
        (good().with("/notification", Value::Null), 400, 1002),
        (good().with("/notification/android/colour", json!("red")), 400, 1009),
        (good().with("/ttl", json!(1)), 400, 1009),
        (good().with(ids, json!([])), 400, 1003),
        (good().with(ids, json!([""])), 400, 1003),
        (good().with(ids, json!(["no token"])), 400, 1003),
        (good().with(ids, json!(many)), 400, 1003),
        (good().with("/audience/tag", json!(vec!["t"; 21])), 400, 1003),
        (good().with("/audience/alias", json!(["a".repeat(41)])), 400, 1003),
        (good().with("/notification/android/alert", json!(long)), 400, 1005),
        (good().with("/notification/ios/sound", json!(&long[..2_001])), 400, 1005),
        (good().with("/notification/ios/badge", json!("one")), 400, 1003),
        (good().with("/options/time_to_live", json!("3600s")), 400, 1003),
        (good().with("/options/time_to_live", json!(864_001)), 400, 1003),
        (good().with("/options/sendno", json!(0)), 400, 1003),
        (good().with("/options/apns_collapse_id", json!("c".repeat(65))), 400, 1003),
        (good().with("/options/override_msg_id", json!(77)), 400, 1003),
        (good().with("/options/third_party_channel", json!({"nokia": {}})), 400, 1009),
        (good().with("/cid", json!(format!("{key}-made-up"))), 400, 1003),
        (good().with(ids, json!(["dead01", "dead02"])), 400, 1011),
    ];
    for (number, (sender, status, code)) in cases.into_iter().enumerate() {
        let answer = sender.send().await;
        let got = (answer.status, answer.body["error"]["code"].as_i64());
        assert_eq!(got, (status, Some(code)), "case {number}: {}", answer.body);
    }
    assert_eq!(good().to("/v3/pull").send().await.status, 404);
    assert_eq!((fake.accepted("180a01"), fake.stats().pushes_accepted), (0, 0));
}

#[tokio::test]
async fn validate_looks_at_everything_and_sends_nothing() {
    let fake = start().await;
    let good = jpush(&fake, &["180a01"]).to("/v3/push/validate");
    assert_eq!(good.send().await.status, 200);
    let bad = good.with("/platform", Value::Null).send().await;
    assert_eq!(bad.body["error"]["code"], 1002);
    assert_eq!(fake.accepted("180a01"), 0);
}

#[tokio::test]
async fn a_cid_of_the_pool_makes_a_push_repeatable_for_a_day() {
    let fake = start().await;
    let mut pool = jpush(&fake, &[]).to("/v3/push/cid?count=2&type=push");
    pool.method = Method::GET;
    let cids = pool.send().await.body;
    let cid = cids["cidlist"][0].clone();
    assert!(cid.as_str().unwrap().starts_with(&fake.credentials().app_key));
    let push = jpush(&fake, &["180a01"]).with("/cid", cid);
    let (first, second) = (push.send().await, push.send().await);
    assert_eq!((second.status, second.body), (200, first.body));
    assert_eq!(fake.accepted("180a01"), 1);
    let other = push.clone().with("/cid", cids["cidlist"][1].clone());
    assert_eq!(other.send().await.status, 200);
    assert_eq!(fake.accepted("180a01"), 2);
    fake.clock().advance_ms(24 * 3_600 * 1_000);
    assert_eq!(push.send().await.body["error"]["code"], 1003);
}

#[tokio::test]
async fn a_message_that_was_sent_can_be_overridden() {
    let fake = start().await;
    let push = jpush(&fake, &["180a01"]);
    let id: i64 = push.send().await.body["msg_id"].as_str().unwrap().parse().unwrap();
    let again = push.with("/options/override_msg_id", json!(id));
    assert_eq!(again.send().await.status, 200);
}

#[tokio::test]
async fn dead_ids_among_others_are_left_out_and_not_told() {
    let fake = start().await;
    let answer = jpush(&fake, &["180a01", "dead01"]).send().await;
    assert_eq!((answer.status, answer.body.as_object().unwrap().len()), (200, 2));
    assert_eq!((fake.accepted("180a01"), fake.accepted("dead01")), (1, 0));
}

#[tokio::test]
async fn the_rate_limit_is_told_in_both_ways_and_ends_with_its_minute() {
    let clock = VendorClock::standing_at(NOW_MS);
    let vendor = Jpush::default().with_limit(1);
    let fake = Fake::start(vendor, Options { clock, ..Options::default() }).await.unwrap();
    let push = jpush(&fake, &["180a01"]);
    let first = push.send().await;
    assert_eq!((first.status, &*first.headers["x-rate-limit-remaining"]), (200, "0"));
    fake.clock().advance_ms(20_000);
    let second = push.send().await;
    assert_eq!((second.status, &second.body["error"]["code"]), (429, &json!(2002)));
    assert_eq!(second.headers["x-rate-limit-quota"], "1");
    assert_eq!(second.headers["x-rate-limit-limit"], "1");
    assert_eq!(second.headers["x-rate-limit-reset"], "40");
    assert_eq!(second.headers.get("retry-after"), None);
    fake.clock().advance_ms(40_000);
    assert_eq!(push.send().await.status, 200);
}
