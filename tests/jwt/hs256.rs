//! Tokens that an app signs with a secret, and everything that is judged in any token.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{SECRET, Signer, claims, configure, judged, seconds};
use crate::harness::{PACKAGE, World, code, merge, message, ok, registration};

/// The header `{"alg":"none","typ":"JWT"}`.
const NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

async fn world(jwt: Value) -> World {
    let world = World::with_clock().await;
    configure(&world, jwt).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_token_of_the_app_registers_pushes_connects_reports_and_reads() {
    let world = World::new().await;
    configure(&world, json!({ "hs256Secret": SECRET })).await;
    let ann = world.terminal("c-1").with_access_token(Signer::hs256(SECRET).ann(&world));
    let mut body = registration("c-1");
    merge(&mut body, json!({ "userId": "ann" }));
    ok(&ann, "/ums/v2/register", &body).await;
    let mut device = world.connect(&ann).await;
    let push = json!({ "dst": { "type": 3, "appType": [PACKAGE] }, "message": { "n": 1 } });
    let id = ok(&ann, "/ums/v2/msgPush", &push).await["msgId"].as_str().unwrap().to_owned();
    let (got, payload) = message(&mut device).await;
    assert_eq!((&got, &payload), (&id, &json!({ "n": 1 })));
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 3 });
    ok(&ann, "/ums/v2/report", &report).await;
    let status = ok(&ann, "/ums/v2/getmsgstat", &json!({ "msgId": id })).await;
    assert_eq!((&status["status"], &status["userId"]), (&json!(3), &json!("ann")));
    assert_eq!(ok(&ann, "/ums/v2/devlist", &json!({})).await.as_array().unwrap().len(), 1);
    ok(&ann, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_stands_for_its_sub_alone() {
    let world = world(json!({ "hs256Secret": SECRET })).await;
    world.register_of("ann", "c-1", json!({})).await;
    let bob = Signer::hs256(SECRET).sign(&claims(&world, json!({ "sub": "bob" })));
    let bob = world.terminal("c-1").with_access_token(bob);
    let mut body = registration("c-1");
    merge(&mut body, json!({ "userId": "ann" }));
    assert_eq!(code(&bob, "/ums/v2/register", &body).await, "D00008");
    assert_eq!(code(&bob, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await, "D00008");
    assert_eq!(ok(&bob, "/ums/v2/devlist", &json!({})).await, json!([]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_claim_is_judged() {
    let world = world(json!({ "hs256Secret": SECRET })).await;
    let (signer, now) = (Signer::hs256(SECRET), seconds(&world));
    let long = "é".repeat(101);
    for (more, expected) in [
        (json!({}), "00000"),
        (json!({ "sub": "é".repeat(100) }), "00000"),
        (json!({ "sub": null }), "D00003"),
        (json!({ "sub": "" }), "D00003"),
        (json!({ "sub": 7 }), "D00003"),
        (json!({ "sub": "a\u{0}" }), "D00003"),
        (json!({ "sub": long }), "D00003"),
        (json!({ "exp": null }), "D00003"),
        (json!({ "exp": "soon" }), "D00003"),
        (json!({ "exp": now - 29 }), "00000"),
        (json!({ "exp": now - 30 }), "D00004"),
        (json!({ "exp": f64::from(i32::try_from(now).unwrap()) - 29.5 }), "00000"),
        (json!({ "exp": f64::from(i32::try_from(now).unwrap()) - 30.5 }), "D00004"),
        (json!({ "exp": 0 }), "D00004"),
        (json!({ "exp": 1e300 }), "D00003"),
        (json!({ "nbf": now }), "00000"),
        (json!({ "nbf": now + 30 }), "00000"),
        (json!({ "nbf": now + 31 }), "D00003"),
        (json!({ "nbf": "now" }), "D00003"),
        (json!({ "clientId": "c-1" }), "00000"),
        (json!({ "clientId": "c-2" }), "D00005"),
        (json!({ "clientId": "c-2", "exp": 0 }), "D00005"),
        (json!({ "clientId": 1 }), "D00003"),
        (json!({ "client_id": "an OAuth client" }), "00000"),
        (json!({ "iss": "anybody" }), "00000"),
        (json!({ "aud": "another service" }), "D00005"),
    ] {
        let token = signer.sign(&claims(&world, more.clone()));
        assert_eq!(judged(&world, &token).await, expected, "{more}");
    }
    let token = signer.ann(&world);
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(judged(&world, &token).await, "00000");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(judged(&world, &token).await, "D00004");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issuer_and_audience_must_be_those_of_the_configuration() {
    let jwt = json!({ "hs256Secret": SECRET, "issuer": "https://login", "audience": "push" });
    let world = world(jwt).await;
    for (more, expected) in [
        (json!({ "iss": "https://login", "aud": "push" }), "00000"),
        (json!({ "iss": "https://login", "aud": ["shop", "push"] }), "00000"),
        (json!({ "iss": "https://login/", "aud": "push" }), "D00005"),
        (json!({ "iss": "https://login", "aud": "shop" }), "D00005"),
        (json!({ "iss": "https://login", "aud": ["shop"] }), "D00005"),
        (json!({ "iss": "https://login", "aud": [] }), "D00005"),
        (json!({ "iss": "https://login" }), "D00003"),
        (json!({ "iss": "https://login", "aud": 7 }), "D00003"),
        (json!({ "aud": "push" }), "D00003"),
        (json!({ "iss": 7, "aud": "push" }), "D00003"),
    ] {
        let token = Signer::hs256(SECRET).sign(&claims(&world, more.clone()));
        assert_eq!(judged(&world, &token).await, expected, "{more}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_secret_signed_by_hs256_is_a_token() {
    let world = world(json!({ "hs256Secret": SECRET })).await;
    let signer = Signer::hs256(SECRET);
    let token = signer.ann(&world);
    assert_eq!(judged(&world, &token).await, "00000");
    let parts: Vec<&str> = token.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let other = signer.sign(&claims(&world, json!({ "sub": "bob" })));
    let other = other.split('.').nth(1).unwrap();
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..signer.header() };
    let critical =
        encode(&critical, &claims(&world, json!({})), &EncodingKey::from_secret(SECRET.as_bytes()));
    let much = signer.sign(&claims(&world, json!({ "more": "x".repeat(8192) })));
    for (what, token) in [
        ("another secret", Signer::hs256(&SECRET.to_uppercase()).ann(&world)),
        ("no secret", Signer::hs256("").ann(&world)),
        ("a longer hash", signer.with(Algorithm::HS384).ann(&world)),
        ("the longest hash", signer.with(Algorithm::HS512).ann(&world)),
        ("a private key", Signer::new(Algorithm::ES256, "k").ann(&world)),
        ("another payload", format!("{header}.{other}.{signature}")),
        ("another signature", format!("{header}.{payload}.{}", signature.to_uppercase())),
        ("no signature", format!("{header}.{payload}.")),
        ("no algorithm", format!("{NONE}.{payload}.")),
        ("no algorithm, yet a signature", format!("{NONE}.{payload}.{signature}")),
        ("padding", format!("{token}=")),
        ("nothing at all", "..".to_owned()),
        ("no JSON", "a.b.c".to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{token}.{signature}")),
        ("extensions to understand", critical.unwrap()),
        ("too much", much),
    ] {
        assert_eq!(judged(&world, &token).await, "D00003", "{what}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_rotate_with_an_overlap() {
    let new = "the secret of tomorrow, 32 bytes or more";
    let world = World::with_clock().await;
    let told = configure(&world, json!({ "hs256Secret": SECRET })).await;
    let old = told["hs256Secrets"][0].clone();
    let [before, after] = [SECRET, new].map(|secret| Signer::hs256(secret).ann(&world));
    assert_eq!(judged(&world, &after).await, "D00003");
    configure(&world, json!({ "hs256Secrets": [old, new] })).await;
    assert_eq!(judged(&world, &before).await, "00000");
    assert_eq!(judged(&world, &after).await, "00000");
    configure(&world, json!({ "hs256Secret": new })).await;
    assert_eq!(judged(&world, &before).await, "D00003");
    assert_eq!(judged(&world, &after).await, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn issued_tokens_count_beside_those_of_the_app() {
    let world = world(json!({ "hs256Secret": SECRET })).await;
    assert_eq!(judged(&world, &world.token("ann", "c-1").await).await, "00000");
    assert_eq!(judged(&world, &world.token("ann", "c-2").await).await, "D00005");
    assert_eq!(judged(&world, "junk").await, "D00003");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_takes_no_tokens_of_another_app_nor_any_if_it_signs_none() {
    let world = World::with_clock().await;
    let token = Signer::hs256(SECRET).ann(&world);
    assert_eq!(judged(&world, &token).await, "D00003");
    let other = json!({ "appId": "other", "ums": { "jwt": { "hs256Secret": SECRET } } });
    assert_eq!(world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    configure(&world, json!({ "hs256Secret": SECRET.to_uppercase() })).await;
    assert_eq!(judged(&world, &token).await, "D00003");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_no_login_takes_any_jwt() {
    let world = world(json!({ "hs256Secret": SECRET })).await;
    let caller = world.terminal("c-1").with_access_token("a.b.c");
    ok(&caller, "/ums/v2/register", &registration("c-1")).await;
    ok(&caller, "/ums/v2/unreg", &json!({ "appPackage": PACKAGE })).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_tells_tokens_apart_as_calls_do() {
    let world = world(json!({ "hs256Secret": SECRET })).await;
    let alone = world.register_of("ann", "c-1", json!({})).await;
    let signer = Signer::hs256(SECRET);
    for (more, expected) in [
        (json!({}), None),
        (json!({ "sub": "bob" }), Some("D00008")),
        (json!({ "exp": 0 }), Some("D00004")),
        (json!({ "clientId": "c-2" }), Some("D00005")),
        (json!({ "exp": null }), Some("D00003")),
    ] {
        let token = signer.sign(&claims(&world, more.clone()));
        let caller = alone.clone().with_access_token(token);
        let connected = super::connect(&caller).await;
        assert_eq!(connected.err(), expected.map(|code| (401, code.to_owned())), "{more}");
    }
    world.stop().await;
}
