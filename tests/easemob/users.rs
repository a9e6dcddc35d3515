//! `/{org}/{app}/users`: register one and many, read, list, remove.

use serde_json::{Value, json};

use super::{Easemob, PASSWORD, ok, refused};
use crate::harness::dump;

fn named(entities: &Value) -> Vec<&str> {
    entities.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
}

fn new(name: &str) -> Value {
    json!({ "username": name, "password": PASSWORD })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_is_registered_in_lower_case_and_shown_as_an_entity() {
    let easemob = Easemob::with_clock().await;
    let body = json!({ "username": "Ann_1.b-C", "password": PASSWORD, "nickname": "安" });
    let answer = ok(easemob.cloud.post("/users", Some(&body)).await.unwrap());
    let entity = &answer["entities"][0];
    let at = 1_700_000_000_000_i64;
    assert_eq!(
        entity,
        &json!({ "uuid": entity["uuid"], "type": "user", "created": at,
        "modified": at, "username": "ann_1.b-c", "activated": true, "nickname": "安" })
    );
    assert!(entity["uuid"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());
    let read = ok(easemob.cloud.get("/users/ANN_1.B-C", None).await.unwrap());
    assert_eq!((&read["entities"][0], &read["count"]), (entity, &json!(1)));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_one_is_registered_like_one() {
    let easemob = Easemob::new().await;
    let answer = ok(easemob.cloud.post("/users", Some(&json!([new("ann")]))).await.unwrap());
    assert_eq!(named(&answer["entities"]), ["ann"]);
    assert!(answer.get("data").is_none());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_users_the_good_ones_are_registered_and_the_others_told_why_not() {
    let easemob = Easemob::new().await;
    easemob.user("u3").await;
    let batch = json!([new("u1"), new("U2"), new("u3"), new("u1"), new("u 4"),
        { "username": "u5" }, { "password": PASSWORD }]);
    let answer = ok(easemob.cloud.post("/users", Some(&batch)).await.unwrap());
    assert_eq!(named(&answer["entities"]), ["u1", "u2"]);
    assert_eq!(
        answer["data"],
        json!([
            { "username": "u3", "registerUserFailReason": "the u3 already exists" },
            { "username": "u1", "registerUserFailReason": "the u1 already exists" },
            { "username": "u 4", "registerUserFailReason": "username u 4 is not legal" },
            { "username": "u5", "registerUserFailReason": "password or pin must provided" },
            { "username": "", "registerUserFailReason": "username must be provided" },
        ])
    );
    // The password is that of the first of the two.
    easemob.token_of("u1").await;
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_60_users_are_registered_at_once() {
    let easemob = Easemob::new().await;
    let batch = |count: usize| (0..count).map(|n| new(&format!("u{n}"))).collect::<Vec<_>>();
    for count in [0, 61] {
        let answer = easemob.cloud.post("/users", Some(&json!(batch(count)))).await.unwrap();
        let description = "1 to 60 users can be registered at once";
        refused(&answer, 400, "illegal_argument", description);
    }
    let answer = ok(easemob.cloud.post("/users", Some(&json!(batch(60)))).await.unwrap());
    assert_eq!(answer["entities"].as_array().unwrap().len(), 60);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_breaks_a_rule_is_400_and_stores_nothing() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let head = easemob.world.head().await;
    let user = |name: Value, password: Value, nickname: Value| json!({ "username": name, "password": password, "nickname": nickname });
    let good = json!(PASSWORD);
    for (body, error) in [
        (user(json!("a b"), good.clone(), Value::Null), "username a b is not legal"),
        (user(json!(""), good.clone(), Value::Null), "username  is not legal"),
        (user(json!("安"), good.clone(), Value::Null), "username 安 is not legal"),
        (user(json!("u".repeat(65)), good.clone(), Value::Null), "USERNAME_TOO_LONG"),
        (user(Value::Null, good.clone(), Value::Null), "username must be provided"),
        (user(json!(7), good.clone(), Value::Null), "username must be a string"),
        (user(json!("u"), Value::Null, Value::Null), "password or pin must provided"),
        (user(json!("u"), json!(""), Value::Null), "password or pin must provided"),
        (user(json!("u"), json!("p".repeat(65)), Value::Null), "PASSWORD_TOO_LONG"),
        (user(json!("u"), good.clone(), json!("n".repeat(101))), "NICKNAME_TOO_LONG"),
        (user(json!("u"), good.clone(), json!("\u{0}")), "nickname must not contain U+0000"),
    ] {
        let answer = easemob.cloud.post("/users", Some(&body)).await.unwrap();
        refused(&answer, 400, "illegal_argument", error);
    }
    let answer = easemob.cloud.post("/users", Some(&new("ANN"))).await.unwrap();
    let description = "Application has an entity of type user with the unique property username of \
         value ann already. Entity user requires that property named username be unique, value of \
         ann exists";
    refused(&answer, 400, "duplicate_unique_property_exists", description);
    assert_eq!(easemob.world.head().await, head);
    let pool = easemob.world.running.server.ledger.database().ledger_read.clone();
    assert_eq!(dump(&pool, "easemob_passwords").await.len(), 1);
    // What is just not too long.
    let body = user(json!("u".repeat(64)), json!("p".repeat(64)), json!("n".repeat(100)));
    ok(easemob.cloud.post("/users", Some(&body)).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_not_there_is_404() {
    let easemob = Easemob::new().await;
    for answer in [
        easemob.cloud.get("/users/nobody", None).await.unwrap(),
        easemob.cloud.get("/users/%00", None).await.unwrap(),
        easemob.cloud.get("/users/a%20b", None).await.unwrap(),
        easemob.cloud.delete("/users/nobody", None).await.unwrap(),
        easemob.cloud.get("/users/nobody/status", None).await.unwrap(),
    ] {
        refused(&answer, 404, "service_resource_not_found", "Service resource not found");
        assert_eq!(answer.1["exception"], "UserNotFoundException");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_bindings_are_shown_with_a_capital_i() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let read = ok(easemob.cloud.get("/users/ann", None).await.unwrap());
    assert!(read["entities"][0].get("pushInfo").is_none());
    easemob.bind("ann", "phone", "jpush", "token-1").await;
    let read = ok(easemob.cloud.get("/users/ann", None).await.unwrap());
    let info =
        json!([{ "device_Id": "phone", "device_token": "token-1", "notifier_name": "jpush" }]);
    assert_eq!(read["entities"][0]["pushInfo"], info);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_in_pages_until_there_is_no_cursor() {
    let easemob = Easemob::new().await;
    for n in 0..12 {
        easemob.user(&format!("u{n:02}")).await;
    }
    let first = ok(easemob.cloud.get("/users", None).await.unwrap());
    assert_eq!((named(&first["entities"]).len(), &first["count"]), (10, &json!(10)));
    let cursor = first["cursor"].as_str().unwrap();
    let path = format!("/users?limit=2&cursor={cursor}");
    let second = ok(easemob.cloud.get(&path, None).await.unwrap());
    assert_eq!(named(&second["entities"]), ["u10", "u11"]);
    assert!(second.get("cursor").is_none());
    let mut seen = Vec::new();
    let mut path = "/users?limit=5".to_owned();
    loop {
        let page = ok(easemob.cloud.get(&path, None).await.unwrap());
        seen.extend(named(&page["entities"]).iter().map(|name| (*name).to_owned()));
        let Some(cursor) = page["cursor"].as_str() else { break };
        path = format!("/users?limit=5&cursor={cursor}");
    }
    assert_eq!(seen.len(), 12);
    for (query, description) in [
        ("limit=0", "limit must be 1 to 100"),
        ("limit=101", "limit must be 1 to 100"),
        ("limit=x", "limit must be 1 to 100"),
        ("cursor=junk!", "cursor is unknown"),
    ] {
        let answer = easemob.cloud.get(&format!("/users?{query}"), None).await.unwrap();
        refused(&answer, 400, "illegal_argument", description);
    }
    ok(easemob.cloud.get("/users?limit=100&cursor=", None).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_user_is_gone_with_its_devices_labels_and_password() {
    let easemob = Easemob::new().await;
    let ann = easemob.user("ann").await;
    easemob.bind("ann", "phone", "jpush", "token-1").await;
    easemob.label("vip").await;
    let body = json!({ "usernames": ["ann"] });
    ok(easemob.cloud.post("/push/label/vip/user", Some(&body)).await.unwrap());
    let answer = ok(easemob.cloud.delete("/users/ANN", None).await.unwrap());
    assert_eq!(answer["entities"], json!([ann]));
    assert_eq!(easemob.cloud.get("/users/ann", None).await.unwrap().0, 404);
    let label = ok(easemob.cloud.get("/push/label/vip", None).await.unwrap());
    assert_eq!(label["data"]["count"], 0);
    let pool = easemob.world.running.server.ledger.database().ledger_read.clone();
    assert!(dump(&pool, "easemob_passwords").await.is_empty());
    let again = easemob.user("ann").await;
    assert_ne!(again["uuid"], ann["uuid"]);
    let bound = ok(easemob.cloud.get("/users/ann/push/binding", None).await.unwrap());
    assert_eq!(bound["entities"], json!([]));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_users_is_removed_at_once() {
    let easemob = Easemob::new().await;
    for n in 0..5 {
        easemob.user(&format!("u{n}")).await;
    }
    let answer = ok(easemob.cloud.delete("/users?limit=2", None).await.unwrap());
    assert_eq!((named(&answer["entities"]), &answer["count"]), (vec!["u0", "u1"], &json!(2)));
    assert!(answer["cursor"].is_string());
    let answer = ok(easemob.cloud.delete("/users", None).await.unwrap());
    assert_eq!(named(&answer["entities"]), ["u2", "u3", "u4"]);
    let left = ok(easemob.cloud.get("/users", None).await.unwrap());
    assert_eq!((&left["entities"], &left["count"]), (&json!([]), &json!(0)));
    easemob.world.stop().await;
}
