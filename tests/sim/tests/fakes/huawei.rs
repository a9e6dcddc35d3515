//! Huawei Push Kit: access tokens, codes in the body, partial failures and receipts.

use serde_json::{Value, json};
use sim::fakes::{
    Fake, Huawei, HuaweiFake, HuaweiReceipt, Options, ReceiptKey, TokenFault, VendorClock,
};

use crate::caller::{NOW_MS, Sender, huawei, huawei_token_call};

async fn start() -> HuaweiFake {
    let clock = VendorClock::standing_at(NOW_MS);
    Fake::start(Huawei::default(), Options { clock, ..Options::default() }).await.unwrap()
}

async fn code(sender: &Sender) -> (u16, String) {
    let answer = sender.send().await;
    (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_good_push_is_accepted_on_both_addresses() {
    let fake = start().await;
    let push = huawei(&fake, &["AAA", "BBB"]).await;
    let answer = push.send().await;
    assert_eq!((answer.status, &answer.body["code"]), (200, &json!("80000000")));
    assert!(answer.body["requestId"].is_string());
    let v2 = push.to(&format!("/v2/{}/messages:send", fake.credentials().project_id));
    assert_eq!(code(&v2).await, (200, "80000000".to_owned()));
    assert_eq!(fake.accepted("AAA"), 2);
}

#[tokio::test]
async fn an_access_token_needs_the_apps_secret_in_a_form() {
    let fake = start().await;
    let good = huawei_token_call(&fake);
    let id = &fake.credentials().client_id;
    let form =
        |secret| format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    for bad in [
        good.clone().header("content-type", "application/json"),
        good.clone().body("grant_type=password"),
        good.clone().body(&form("wrong")),
        good.clone().body(&form("x").replace(id, "7")),
    ] {
        let answer = bad.send().await;
        assert_eq!((answer.status, &answer.body["error"]), (400, &json!(1101)));
        assert!(answer.body["error_description"].is_string());
    }
    let answer = good.send().await;
    assert_eq!((answer.status, &answer.body["expires_in"]), (200, &json!(3_600)));
}

#[tokio::test]
async fn an_access_token_ends_after_an_hour() {
    let fake = start().await;
    let push = huawei(&fake, &["AAA"]).await;
    fake.clock().advance_ms(3_600_000);
    assert_eq!(code(&push).await, (401, "80200003".to_owned()));
    assert_eq!(huawei(&fake, &["AAA"]).await.send().await.status, 200);
}

#[tokio::test]
async fn what_the_vendor_refuses_is_refused_with_its_code_and_accepts_nothing() {
    let fake = start().await;
    let good = huawei(&fake, &["AAA"]).await;
    let to = |pointer: &str, value: Value| good.clone().with(pointer, value);
    let shown = "/message/android/notification";
    let at = |name: &str| format!("{shown}/{name}");
    let many: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
    let cases = [
        (good.clone().without("authorization"), 401, "80200001"),
        (good.clone().header("authorization", "Bearer x"), 401, "80200001"),
        (good.clone().to("/v1/7/messages:send"), 401, "80200001"),
        (good.clone().header("content-type", "text/plain"), 400, "80100003"),
        (good.clone().body("{"), 400, "80100003"),
        (to("/message/android/colour", json!("red")), 400, "80100003"),
        (to("/message/data", json!({"order": "7"})), 400, "80100003"),
        (to(&at("click_action"), Value::Null), 400, "80100003"),
        (to(&at("click_action"), json!({"type": 1})), 400, "80100003"),
        (to(&at("click_action"), json!({"type": 2})), 400, "80100003"),
        (to(&at("click_action"), json!({"type": 2, "url": "http://x"})), 400, "80100001"),
        (to(&at("click_action"), json!({"type": 4})), 400, "80100001"),
        (to(&at("title"), Value::Null), 400, "80100003"),
        (to(&at("badge"), json!({"add_num": 100})), 400, "80100001"),
        (to("/message/android/ttl", json!(3_600)), 400, "80100003"),
        (to("/message/android/ttl", json!("3600")), 400, "80100001"),
        (to("/message/android/ttl", json!("1296001s")), 400, "80100001"),
        (to("/message/android/collapse_key", json!(101)), 400, "80100013"),
        (to("/message/android/category", json!("FUN")), 400, "80100001"),
        (to("/message/android/urgency", json!("HIGH")), 400, "80300011"),
        (to("/message/token", Value::Null), 400, "80300010"),
        (to("/message/token", json!([])), 400, "80300010"),
        (to("/message/token", json!(many)), 400, "80300010"),
        (to("/message/topic", json!("news")), 400, "80100003"),
        (to(&at("body"), json!("x".repeat(4_096))), 400, "80300008"),
        (to("/message/token", json!(["dead1", "no token"])), 400, "80300007"),
    ];
    for (number, (sender, status, expected)) in cases.into_iter().enumerate() {
        assert_eq!(code(&sender).await, (status, expected.to_owned()), "case {number}");
    }
    assert_eq!(good.clone().to("/v3/push").send().await.status, 404);
    assert_eq!((fake.accepted("AAA"), fake.stats().pushes_accepted), (0, 0));
}

#[tokio::test]
async fn an_app_with_the_right_to_it_sends_with_high_urgency() {
    let vendor = Huawei::default().with_high_urgency();
    let fake = Fake::start(vendor, Options::default()).await.unwrap();
    let push = huawei(&fake, &["AAA"]).await.with("/message/android/urgency", json!("HIGH"));
    assert_eq!(code(&push).await, (200, "80000000".to_owned()));
}

#[tokio::test]
async fn some_bad_tokens_are_listed_in_a_text_inside_a_good_answer() {
    let fake = start().await;
    let answer = huawei(&fake, &["AAA", "dead1", "BBB"]).await.send().await;
    assert_eq!((answer.status, &answer.body["code"]), (200, &json!("80100000")));
    let listed: Value = serde_json::from_str(answer.body["msg"].as_str().unwrap()).unwrap();
    assert_eq!(listed, json!({"success": 2, "failure": 1, "illegal_tokens": ["dead1"]}));
    assert_eq!((fake.accepted("BBB"), fake.accepted("dead1")), (1, 0));
}

#[tokio::test]
async fn tokens_of_another_app_throttled_and_unavailable_ones_have_their_own_answers() {
    let fake = start().await;
    let push = huawei(&fake, &["AAA"]).await;
    for (fault, status, expected) in [
        (TokenFault::WrongApp, 400, "80300002"),
        (TokenFault::Throttled, 503, ""),
        (TokenFault::Unavailable, 500, "81000001"),
    ] {
        fake.set_token("AAA", Some(fault));
        assert_eq!(code(&push).await, (status, expected.to_owned()));
    }
}

#[tokio::test]
async fn a_message_that_is_only_validated_is_not_sent() {
    let fake = start().await;
    let push = huawei(&fake, &["AAA"]).await.with("/validate_only", json!(true));
    assert_eq!(code(&push).await, (200, "80000000".to_owned()));
    assert_eq!(fake.accepted("AAA"), 0);
}

#[tokio::test]
async fn a_receipt_can_be_posted_twice_and_signed() {
    let fake = start().await;
    // Any server will do to take it: the fake of another vendor writes down what it gets.
    let address = start().await;
    let receipt = HuaweiReceipt {
        bi_tag: "task-91".to_owned(),
        appid: "100000001".to_owned(),
        token: "AAA".to_owned(),
        status: 2,
        timestamp: NOW_MS,
        request_id: "1700".to_owned(),
    };
    let key = ReceiptKey { user: "receiptUser".to_owned(), secret: "s".to_owned() };
    let url = format!("{}/receipts", address.url());
    let statuses = fake.post_receipts(&url, &[receipt], Some(&key), 2).await.unwrap();
    assert_eq!(statuses, [404, 404]);
    let requests = address.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].json()["statuses"][0]["biTag"], "task-91");
    assert!(requests[0].header("x-huawei-callback-id").unwrap().starts_with("timestamp=176722"));
}
