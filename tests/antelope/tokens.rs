//! Tokens: which ones open a device's call, and those that the server mints.

use std::time::Duration;

use pushledger::antelope::sign;
use serde_json::{Value, json};

use super::{ANN, Antelope, BOB, EXPIRE, HELLO, HIGH, KEY, NOBODYS, OLD_KEY, token};
use crate::easemob::change_app;

const PATH: &str = "/v2/message/client/push";

fn to_nobody() -> Vec<u8> {
    json!({ "msg": HELLO, "callback": 0, "access_tokens": [] }).to_string().into_bytes()
}

/// The status of a device's call with that token.
async fn status(antelope: &Antelope, token: &str) -> u16 {
    antelope.raw("POST", PATH, &[("X-Client-Token", token)], &to_nobody()).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_vendors_algorithm_are_valid_as_device_and_as_access_tokens() {
    let antelope = Antelope::new().await;
    for token in [
        "5000001_0_2000000000_944b3b01cadee37471f00380c749c002",
        "4000000000_3356753920_2000000000_23a9b9c790c601f77bbe1c86d3c324a4",
    ] {
        let body = json!({ "msg": HELLO, "callback": 0, "access_tokens": [token] }).to_string();
        let headers = [("X-Client-Token", token)];
        let answer = antelope.raw("POST", PATH, &headers, body.as_bytes()).await;
        assert_eq!(answer.0, 200, "{token}");
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_be_in_the_query_and_its_header_comes_first() {
    let antelope = Antelope::new().await;
    let target = format!("{PATH}?client_token={}", token(ANN));
    assert_eq!(antelope.raw("POST", &target, &[], &to_nobody()).await.0, 200);
    let wrong = [("X-Client-Token", "wrong")];
    assert_eq!(antelope.raw("POST", &target, &wrong, &to_nobody()).await.0, 401);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_differs_in_any_letter_is_401_and_stores_nothing() {
    let antelope = Antelope::new().await;
    let good = token(ANN);
    let head = antelope.world.head().await;
    let digest = good.rsplit('_').next().unwrap().to_owned();
    for wrong in [
        String::new(),
        "null".to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good}0"),
        format!("{good}_"),
        format!("0{good}"),
        format!("+{good}"),
        format!("5000001_00_{EXPIRE}_{digest}"),
        format!("5000001_0_+{EXPIRE}_{digest}"),
        format!("5000001_0_{EXPIRE}_{}", digest.to_uppercase()),
        format!("5000001_1_{EXPIRE}_{digest}"),
        format!("5000002_0_{EXPIRE}_{digest}"),
        format!("5000001_0_{}_{digest}", EXPIRE + 1),
        format!("5000001_0_{EXPIRE}"),
        format!("-1_0_{EXPIRE}_{digest}"),
        format!("4294967297_0_{EXPIRE}_{digest}"),
        sign(KEY, 0, 0, EXPIRE),
        sign("another key of thirty-two letters", ANN, 0, EXPIRE),
        sign(KEY, NOBODYS, 0, EXPIRE),
        sign(KEY, HIGH + 10, 0, EXPIRE),
        good.replace('_', "-"),
    ] {
        assert_eq!(status(&antelope, &wrong).await, 401, "{wrong}");
    }
    assert_eq!(antelope.raw("POST", PATH, &[], &to_nobody()).await.0, 401);
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_valid_up_to_and_in_its_last_second() {
    let antelope = Antelope::with_clock().await;
    let now = u32::try_from(antelope.world.clock.now() / 1_000_000).unwrap();
    let last = sign(KEY, ANN, 0, now);
    assert_eq!(status(&antelope, &last).await, 200);
    antelope.world.clock.advance(Duration::from_millis(999));
    assert_eq!(status(&antelope, &last).await, 200);
    antelope.world.clock.advance(Duration::from_millis(1));
    assert_eq!(status(&antelope, &last).await, 401);
    assert_eq!(status(&antelope, &sign(KEY, ANN, 0, now + 1)).await, 200);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_the_app_signs_and_one_that_left_the_list_does_not() {
    let antelope = Antelope::new().await;
    let old = sign(OLD_KEY, ANN, 7, EXPIRE);
    assert_eq!(status(&antelope, &old).await, 200);
    change_app(&antelope.world, json!({ "antelope": { "appKeys": [KEY] } })).await;
    assert_eq!(status(&antelope, &old).await, 401);
    assert_eq!(status(&antelope, &token(ANN)).await, 200);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_alone_says_whose_keys_a_token_is_checked_with() {
    let antelope = Antelope::new().await;
    let other = json!({ "appId": "other", "antelope": {
        "appId": "Othr", "appKeys": [OLD_KEY], "cidRanges": [[NOBODYS, NOBODYS]] } });
    assert_eq!(antelope.world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    assert_eq!(status(&antelope, &sign(OLD_KEY, NOBODYS, 0, EXPIRE)).await, 200);
    // Of this key the number's app knows nothing.
    assert_eq!(status(&antelope, &sign(KEY, NOBODYS, 0, EXPIRE)).await, 401);
    antelope.world.admin.delete("/admin/v1/apps/other", None).await.unwrap();
    assert_eq!(status(&antelope, &sign(OLD_KEY, NOBODYS, 0, EXPIRE)).await, 401);
    antelope.world.stop().await;
}

async fn mint(antelope: &Antelope, body: Value) -> (u16, Value) {
    antelope.server("POST", "/v2/devices/tokens", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_mints_a_token_for_each_device_that_is_valid_for_5_minutes() {
    let antelope = Antelope::with_clock().await;
    let head = antelope.world.head().await;
    let (code, body) = mint(&antelope, json!({ "cids": [ANN, HIGH, ANN] })).await;
    assert_eq!(code, 200, "{body}");
    let now = u32::try_from(antelope.world.clock.now() / 1_000_000).unwrap();
    let expected = |cid| json!({ "cid": cid, "token": sign(KEY, cid, 0, now + 300) });
    assert_eq!(body["tokens"], json!([expected(ANN), expected(HIGH), expected(ANN)]));
    assert_eq!(body.as_object().unwrap().len(), 2);
    let token = body["tokens"][1]["token"].as_str().unwrap();
    assert_eq!(antelope.world.head().await, head);
    assert_eq!(status(&antelope, token).await, 200);
    antelope.world.clock.advance(Duration::from_secs(301));
    assert_eq!(status(&antelope, token).await, 401);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duration_up_to_a_day_is_taken_and_any_other_is_5_minutes() {
    let antelope = Antelope::with_clock().await;
    let now = u32::try_from(antelope.world.clock.now() / 1_000_000).unwrap();
    for (duration, seconds) in [
        (json!(1), 1),
        (json!(86_400), 86_400),
        (json!(86_401), 300),
        (json!(0), 300),
        (json!(-5), 300),
        (json!(null), 300),
    ] {
        let (code, body) = mint(&antelope, json!({ "cids": [BOB], "duration": duration })).await;
        assert_eq!(code, 200, "{body}");
        assert_eq!(body["tokens"][0]["token"], sign(KEY, BOB, 0, now + seconds), "{duration}");
    }
    let (code, body) = mint(&antelope, json!({ "cids": [] })).await;
    assert_eq!((code, &body["tokens"]), (200, &json!([])));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_device_of_nobody_is_403_and_a_body_that_makes_no_sense_400() {
    let antelope = Antelope::new().await;
    assert_eq!(mint(&antelope, json!({ "cids": [ANN, NOBODYS] })).await.0, 403);
    for body in [
        json!({}),
        json!({ "cids": null }),
        json!({ "cids": ANN }),
        json!({ "cids": ["5000001"] }),
        json!({ "cids": [1.5] }),
        json!({ "cids": [-1] }),
        json!({ "cids": [4_294_967_296_i64] }),
        json!({ "cids": [ANN], "duration": "300" }),
        json!({ "cids": vec![ANN; 1_001] }),
        json!([]),
    ] {
        assert_eq!(mint(&antelope, body.clone()).await.0, 400, "{body}");
    }
    antelope.world.stop().await;
}
