//! `/{org}/{app}/push/label/{label}/user`: who is in a label.

use serde_json::{Value, json};

use super::{Easemob, ok, refused};

const VIP: &str = "/push/label/vip/user";

async fn ready() -> Easemob {
    let easemob = Easemob::with_clock().await;
    easemob.label("vip").await;
    for name in ["ann", "bob", "cid"] {
        easemob.user(name).await;
    }
    easemob
}

async fn names(easemob: &Easemob) -> Vec<String> {
    let page = ok(easemob.cloud.get(VIP, None).await.unwrap());
    let each = page["data"].as_array().unwrap().iter();
    each.map(|member| member["username"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_join_and_those_that_do_not_exist_are_told_why_not() {
    let easemob = ready().await;
    let body = json!({ "usernames": ["Ann", "bob", "nobody", "a b"] });
    let answer = ok(easemob.cloud.post(VIP, Some(&body)).await.unwrap());
    assert_eq!(
        answer["data"],
        json!({ "success": ["Ann", "bob"],
        "fail": { "nobody": "appUser not exists", "a b": "appUser not exists" } })
    );
    assert_eq!(names(&easemob).await.len(), 2);
    let label = ok(easemob.cloud.get("/push/label/vip", None).await.unwrap());
    assert_eq!(label["data"]["count"], 2);
    // Again changes nothing.
    let head = easemob.world.head().await;
    let body = json!({ "usernames": ["ann", "ann"] });
    let answer = ok(easemob.cloud.post(VIP, Some(&body)).await.unwrap());
    assert_eq!(answer["data"], json!({ "success": ["ann", "ann"], "fail": {} }));
    assert_eq!(easemob.world.head().await, head);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_leave_by_a_delete_with_a_body() {
    let easemob = ready().await;
    let body = json!({ "usernames": ["ann", "bob", "cid"] });
    ok(easemob.cloud.post(VIP, Some(&body)).await.unwrap());
    let body = json!({ "usernames": ["bob", "CID", "nobody"] });
    let answer = ok(easemob.cloud.delete(VIP, Some(&body)).await.unwrap());
    assert_eq!(
        answer["data"],
        json!({ "success": ["bob", "CID"],
                                       "fail": { "nobody": "appUser not exists" } })
    );
    assert_eq!(names(&easemob).await, ["ann"]);
    // Who is not in it is not in it afterwards either.
    let answer =
        ok(easemob.cloud.delete(VIP, Some(&json!({ "usernames": ["bob"] }))).await.unwrap());
    assert_eq!(answer["data"], json!({ "success": ["bob"], "fail": {} }));
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_shown_with_the_time_it_joined_and_another_without_fields() {
    let easemob = ready().await;
    ok(easemob.cloud.post(VIP, Some(&json!({ "usernames": ["ann"] }))).await.unwrap());
    let member = ok(easemob.cloud.get(&format!("{VIP}/ANN"), None).await.unwrap());
    let at = 1_700_000_000_000_i64;
    assert_eq!(member["data"], json!({ "username": "ann", "created": at }));
    for other in ["bob", "nobody"] {
        let member = ok(easemob.cloud.get(&format!("{VIP}/{other}"), None).await.unwrap());
        assert_eq!(member["data"], json!({}), "{other}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_in_pages_with_the_cursor_beside_the_data() {
    let easemob = ready().await;
    for name in ["bob", "ann", "cid"] {
        ok(easemob.cloud.post(VIP, Some(&json!({ "usernames": [name] }))).await.unwrap());
    }
    let first = ok(easemob.cloud.get(&format!("{VIP}?limit=2"), None).await.unwrap());
    let usernames = |page: &Value| page["data"].as_array().unwrap().len();
    assert_eq!(usernames(&first), 2);
    assert!(first["data"][0]["created"].is_i64());
    let path = format!("{VIP}?limit=2&cursor={}", first["cursor"].as_str().unwrap());
    let second = ok(easemob.cloud.get(&path, None).await.unwrap());
    assert_eq!(second["data"][0]["username"], "cid");
    assert!(second.get("cursor").is_none());
    assert_eq!(names(&easemob).await, ["bob", "ann", "cid"]);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_users_has_1_to_100_names() {
    let easemob = ready().await;
    let many: Vec<String> = (0..101).map(|n| format!("u{n}")).collect();
    let items = "usernames must have 1 to 100 items";
    for (body, description) in [
        (json!({}), "usernames must be provided"),
        (json!({ "usernames": [] }), items),
        (json!({ "usernames": many }), items),
        (json!({ "usernames": "ann" }), "usernames must be a list of strings"),
        (json!({ "usernames": [1] }), "usernames must be a list of strings"),
    ] {
        for answer in [
            easemob.cloud.post(VIP, Some(&body)).await.unwrap(),
            easemob.cloud.delete(VIP, Some(&body)).await.unwrap(),
        ] {
            refused(&answer, 400, "IllegalArgumentException", description);
        }
    }
    ok(easemob.cloud.post(VIP, Some(&json!({ "usernames": &many[..100] }))).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_full_takes_nobody_else() {
    let easemob = ready().await;
    easemob.configure(json!({ "limits": { "labelUsers": 2 } })).await;
    ok(easemob.cloud.post(VIP, Some(&json!({ "usernames": ["ann"] }))).await.unwrap());
    let answer =
        easemob.cloud.post(VIP, Some(&json!({ "usernames": ["bob", "cid"] }))).await.unwrap();
    refused(&answer, 403, "LimitException", "limit request");
    assert_eq!(answer.1["detail"], "a label has at most 2 users");
    assert_eq!(names(&easemob).await, ["ann"]);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_not_there_has_no_users() {
    let easemob = ready().await;
    let path = "/push/label/gone/user";
    let body = json!({ "usernames": ["ann"] });
    for answer in [
        easemob.cloud.post(path, Some(&body)).await.unwrap(),
        easemob.cloud.delete(path, Some(&body)).await.unwrap(),
        easemob.cloud.get(path, None).await.unwrap(),
        easemob.cloud.get(&format!("{path}/ann"), None).await.unwrap(),
    ] {
        refused(&answer, 400, "ResourceNotFoundException", "push label not exists of gone");
    }
    easemob.world.stop().await;
}
