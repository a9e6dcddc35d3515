//! `POST /{org}/{app}/token`, and what a token opens.

use std::time::Duration;

use serde_json::{Value, json};

use super::{APP, CLIENT, Easemob, ORG, PASSWORD, SECRET, hello, ok, refusal, refused, token};
use crate::harness::{RawClient, dump};

const DAY: u64 = 86_400;

fn asked(more: Value) -> Value {
    let mut body = json!({ "grant_type": "client_credentials", "client_id": CLIENT,
                           "client_secret": SECRET });
    crate::harness::merge(&mut body, more);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn client_credentials_get_a_token_with_its_life_and_the_application() {
    let easemob = Easemob::new().await;
    let application = easemob.configure(json!({})).await["application"].clone();
    let stranger = easemob.with_token("");
    let answer = ok(stranger.post("/token", Some(&asked(json!({ "ttl": 7_200 })))).await.unwrap());
    assert_eq!((&answer["expires_in"], &answer["application"]), (&json!(7_200), &application));
    assert_eq!(answer.as_object().unwrap().len(), 3, "{answer}");
    let caller = easemob.with_token(answer["access_token"].as_str().unwrap());
    ok(caller.get("/users", None).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_may_be_a_text_and_0_never_ends_within_32_bits() {
    let easemob = Easemob::with_clock().await;
    let expires = async |ttl: Value| {
        let body = asked(json!({ "ttl": ttl }));
        ok(easemob.cloud.post("/token", Some(&body)).await.unwrap())["expires_in"].clone()
    };
    assert_eq!(expires(json!("60")).await, 60);
    assert_eq!(expires(json!(0)).await, 2_147_483_647);
    assert_eq!(expires(json!("0")).await, 2_147_483_647);
    assert_eq!(expires(json!(9_999_999_999_i64)).await, 2_147_483_647);
    assert_eq!(expires(Value::Null).await, 366 * 86_400);
    for ttl in [json!(-1), json!("x"), json!(""), json!(1.5), json!([]), json!(true)] {
        let body = asked(json!({ "ttl": ttl }));
        let answer = easemob.cloud.post("/token", Some(&body)).await.unwrap();
        refused(&answer, 400, "illegal_argument", "ttl must be a number of seconds, 0 or more");
    }
    let for_ever = token(&easemob.cloud, json!({ "ttl": 0 })).await;
    easemob.world.clock.advance(Duration::from_secs(100 * 366 * DAY));
    ok(easemob.with_token(&for_ever).get("/users", None).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_read_as_json_whatever_its_content_type_says() {
    let easemob = Easemob::new().await;
    let body = asked(json!({})).to_string();
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json", "junk"] {
        let headers = [("content-type".to_owned(), kind.to_owned())];
        let target = format!("/{ORG}/{APP}/token");
        let mut raw = RawClient::new(&easemob.world);
        let reply = raw.send("POST", &target, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{kind}: {reply:?}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_in_a_token_request_is_400_in_the_documents_words() {
    let easemob = Easemob::new().await;
    let stranger = easemob.with_token("");
    let password = |more: Value| {
        let mut body = json!({ "grant_type": "password" });
        crate::harness::merge(&mut body, more);
        body
    };
    for (body, error, description) in [
        (asked(json!({ "client_id": null })), "illegal_argument", "client_id must be provided."),
        (asked(json!({ "client_id": "" })), "illegal_argument", "client_id must be provided."),
        (
            asked(json!({ "client_secret": null })),
            "illegal_argument",
            "client_secret must be provided",
        ),
        (asked(json!({ "client_id": "no" })), "invalid_grant", "client_id does not match"),
        (asked(json!({ "client_secret": "no" })), "invalid_grant", "client_secret does not match"),
        (asked(json!({ "grant_type": null })), "illegal_argument", "grant_type must be provided"),
        (asked(json!({ "grant_type": "magic" })), "illegal_argument", "grant_type is unknown"),
        (asked(json!({ "grant_type": 1 })), "illegal_argument", "grant_type must be a string"),
        (password(json!({})), "illegal_argument", "username must be provided"),
        (password(json!({ "username": "u" })), "illegal_argument", "password must be provided"),
        (
            password(json!({ "username": "u", "password": PASSWORD })),
            "invalid_grant",
            "invalid password",
        ),
    ] {
        let answer = stranger.post("/token", Some(&body)).await.unwrap();
        refused(&answer, 400, error, description);
    }
    for body in ["", "{", "[]", "null", "7", "\u{0}"] {
        let reply = easemob.raw("POST", "/token", &[], body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_gets_a_token_for_its_password_and_never_for_another() {
    let easemob = Easemob::new().await;
    let ann = easemob.user("Ann").await;
    let body = json!({ "grant_type": "password", "username": "ANN", "password": PASSWORD });
    let answer = ok(easemob.cloud.post("/token", Some(&body)).await.unwrap());
    assert_eq!((&answer["user"], &answer["expires_in"]), (&ann, &json!(60 * 86_400)));
    assert!(answer.get("application").is_none());
    for wrong in ["Zq-password", "zq-password ", "", "zq-passwor"] {
        let body = json!({ "grant_type": "password", "username": "ann", "password": wrong });
        let answer = easemob.cloud.post("/token", Some(&body)).await.unwrap();
        refused(&answer, 400, "invalid_grant", "invalid password");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_inherits_a_users_token_and_may_have_the_user_made() {
    let easemob = Easemob::new().await;
    let body = |more: Value| {
        let mut body = json!({ "grant_type": "inherit", "username": "Bob" });
        crate::harness::merge(&mut body, more);
        body
    };
    let answer = easemob.cloud.post("/token", Some(&body(json!({})))).await.unwrap();
    refused(&answer, 404, "service_resource_not_found", "Service resource not found");
    let stranger = easemob.with_token("");
    let make = body(json!({ "autoCreateUser": true, "ttl": 60 }));
    assert_eq!(refusal(&stranger.post("/token", Some(&make)).await.unwrap()).0, 401);
    let answer = ok(easemob.cloud.post("/token", Some(&make)).await.unwrap());
    assert_eq!((&answer["user"]["username"], &answer["expires_in"]), (&json!("bob"), &json!(60)));
    // It has no password, so nobody gets in with one.
    for password in ["", PASSWORD] {
        let body = json!({ "grant_type": "password", "username": "bob", "password": password });
        let answer = easemob.cloud.post("/token", Some(&body)).await.unwrap();
        refused(&answer, 400, "invalid_grant", "invalid password");
    }
    // A user's token is not enough.
    let own = easemob.with_token(answer["access_token"].as_str().unwrap());
    let again = own.post("/token", Some(&body(json!({})))).await.unwrap();
    refused(&again, 401, "unauthorized", "Unable to authenticate (OAuth)");
    let illegal = body(json!({ "username": "b b", "autoCreateUser": true }));
    let answer = easemob.cloud.post("/token", Some(&illegal)).await.unwrap();
    refused(&answer, 400, "illegal_argument", "username b b is not legal");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_old_malformed_or_foreign_token_is_401_in_the_documents_words() {
    let easemob = Easemob::with_clock().await;
    let short = token(&easemob.cloud, json!({ "ttl": 60 })).await;
    ok(easemob.with_token(&short).get("/users", None).await.unwrap());
    easemob.world.clock.advance(Duration::from_secs(60));
    let expired = "Unable to authenticate due to expired access token";
    let corrupt = "Unable to authenticate due to corrupt access token";
    let nobodys = "0123456789abcdef0123456789abcdef";
    for (token, error, description) in [
        ("", "unauthorized", expired),
        (&*short, "unauthorized", expired),
        ("junk", "auth_bad_access_token", corrupt),
        ("YWMtabc", "auth_bad_access_token", corrupt),
        (nobodys, "auth_bad_access_token", "Unable to authenticate"),
    ] {
        let answer = easemob.with_token(token).get("/push/label", None).await.unwrap();
        refused(&answer, 401, error, description);
        assert_eq!(answer.2["www-authenticate"], "Bearer");
        let class = "org.apache.usergrid.rest.exceptions.SecurityException";
        assert_eq!(answer.1["exception"], class);
    }
    // Another app's token.
    let other = json!({ "appId": "other", "easemob": {
        "orgName": ORG, "appName": "other", "clientId": CLIENT, "clientSecret": SECRET } });
    let (status, body, _) = easemob.world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    let elsewhere = sim::Admin::new(format!("{}/{ORG}/other", easemob.world.url), "");
    let foreign = token(&elsewhere, json!({})).await;
    let answer = easemob.with_token(&foreign).get("/users", None).await.unwrap();
    refused(&answer, 401, "auth_bad_access_token", "Unable to authenticate");
    let mut raw = RawClient::new(&easemob.world);
    for value in ["Basic dGVzdDp0ZXN0", "Bearer a b", "Bearer \u{95e8}", &easemob.cloud.token] {
        let headers = [("authorization".to_owned(), value.to_owned())];
        let reply = raw.send("GET", &format!("/{ORG}/{APP}/users"), &headers, b"").await;
        assert_eq!(reply.status, 401, "{value}: {reply:?}");
        assert!(String::from_utf8_lossy(&reply.body).contains(corrupt), "{reply:?}");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_without_a_valid_token_says_that_registration_is_not_open() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let users = easemob.token_of("ann").await;
    let body = json!({ "username": "eve", "password": PASSWORD });
    for token in ["", "junk", &users] {
        let answer = easemob.with_token(token).post("/users", Some(&body)).await.unwrap();
        let description = "registration is not open, please contact the app admin";
        refused(&answer, 401, "unauthorized", description);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_token_opens_the_users_own_data_and_nothing_else() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    easemob.user("bob").await;
    let ann = easemob.with_token(&easemob.token_of("ann").await);
    ok(ann.get("/users/Ann", None).await.unwrap());
    let binding = json!({ "device_id": "d", "device_token": "t", "notifier_name": "n" });
    ok(ann.put("/users/ann/push/binding", Some(&binding)).await.unwrap());
    ok(ann.get("/users/ann/push/binding", None).await.unwrap());
    let push = json!({ "pushMessage": hello() });
    for answer in [
        ann.get("/users/bob", None).await.unwrap(),
        ann.put("/users/bob/push/binding", Some(&binding)).await.unwrap(),
        ann.get("/users/bob/push/binding", None).await.unwrap(),
        ann.get("/users", None).await.unwrap(),
        ann.delete("/users/ann", None).await.unwrap(),
        ann.get("/users/ann/status", None).await.unwrap(),
        ann.get("/push/label", None).await.unwrap(),
        ann.post("/push/async/ann", Some(&push)).await.unwrap(),
    ] {
        refused(&answer, 401, "unauthorized", "Unable to authenticate (OAuth)");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_the_secret_that_asked_for_it_and_with_the_user() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let ann = easemob.with_token(&easemob.token_of("ann").await);
    ok(ann.get("/users/ann", None).await.unwrap());
    ok(easemob.cloud.delete("/users/ann", None).await.unwrap());
    let answer = ann.get("/users/ann", None).await.unwrap();
    refused(&answer, 401, "auth_bad_access_token", "Unable to authenticate");
    // A new user of the same name does not inherit it.
    easemob.user("ann").await;
    assert_eq!(ann.get("/users/ann", None).await.unwrap().0, 401);
    let first = easemob.configure(json!({})).await["clientSecrets"][0].clone();
    easemob.configure(json!({ "clientSecrets": [first, "second"] })).await;
    ok(easemob.cloud.get("/users", None).await.unwrap());
    let second = token(&easemob.cloud, json!({ "client_secret": "second" })).await;
    easemob.configure(json!({ "clientSecret": "second", "clientSecrets": [] })).await;
    let answer = easemob.cloud.get("/users", None).await.unwrap();
    refused(&answer, 401, "unauthorized", "Unable to authenticate due to expired access token");
    ok(easemob.with_token(&second).get("/users", None).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_knows_a_token_and_only_hashes_are_stored() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let users = easemob.token_of("ann").await;
    let second = easemob.world.second().await;
    let base = format!("http://{}/{ORG}/{APP}", second.address);
    ok(sim::Admin::new(&base, &easemob.cloud.token).get("/users", None).await.unwrap());
    ok(sim::Admin::new(&base, &users).get("/users/ann", None).await.unwrap());
    let pool = easemob.world.running.server.ledger.database().ledger_read.clone();
    for table in ["easemob_tokens", "easemob_passwords", "events", "secrets"] {
        let rows = dump(&pool, table).await.join("\n");
        for secret in [easemob.cloud.token.as_str(), users.as_str(), PASSWORD] {
            assert!(!rows.contains(secret), "{table} tells a secret");
        }
    }
    assert!(dump(&pool, "easemob_passwords").await[0].contains("$argon2id$"));
    second.shutdown().await;
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_ended_a_day_ago_are_removed() {
    let easemob = Easemob::with_clock().await;
    token(&easemob.cloud, json!({ "ttl": 60 })).await;
    let server = &easemob.world.running.server;
    let pool = server.ledger.database().ledger_read.clone();
    assert_eq!(dump(&pool, "easemob_tokens").await.len(), 2);
    easemob.world.clock.advance(Duration::from_secs(DAY));
    server.easemob.tokens.remove_old().await.unwrap();
    assert_eq!(dump(&pool, "easemob_tokens").await.len(), 2);
    easemob.world.clock.advance(Duration::from_secs(61));
    server.easemob.tokens.remove_old().await.unwrap();
    assert_eq!(dump(&pool, "easemob_tokens").await.len(), 1);
    easemob.world.stop().await;
}
