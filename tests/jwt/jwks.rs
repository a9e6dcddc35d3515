//! Tokens that are checked with public keys from a URL: which keys count, when they are fetched,
//! and what happens while they cannot be.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{DEVLIST, KeyServer, SECRET, Signer, claims, configure, connect, judged};
use crate::harness::{PACKAGE, World, code, merge, ok, registration, until};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world whose app has its keys at a server, and a key that the server publishes.
async fn published() -> (World, KeyServer, Signer) {
    let signer = Signer::new(Algorithm::ES256, "one");
    let server = KeyServer::new(&[&signer]).await;
    let world = World::with_clock().await;
    configure(&world, server.configuration()).await;
    (world, server, signer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_kind_checks_the_tokens_that_it_signed() {
    use Algorithm::{ES256, ES384, EdDSA, PS512, RS256};
    let signers = [RS256, ES256, ES384, EdDSA].map(|kind| Signer::new(kind, &format!("{kind:?}")));
    let [rsa, p256, p384, ed] = &signers;
    let server = KeyServer::new(&[rsa, p256, p384, ed]).await;
    let world = World::new().await;
    configure(&world, server.configuration()).await;
    for signer in [rsa, &rsa.with(PS512), p256, p384, ed] {
        assert_eq!(judged(&world, &signer.ann(&world)).await, "00000", "{:?}", signer.algorithm);
        let stranger = Signer::new(signer.algorithm, signer.kid.as_deref().unwrap());
        assert_eq!(judged(&world, &stranger.ann(&world)).await, "D00003", "{:?}", signer.algorithm);
    }
    let ann = world.terminal("c-1").with_access_token(rsa.ann(&world));
    let mut body = registration("c-1");
    merge(&mut body, json!({ "userId": "ann" }));
    ok(&ann, "/ums/v2/register", &body).await;
    let push = json!({ "dst": { "type": 3, "appType": [PACKAGE] } });
    ok(&ann, "/ums/v2/msgPush", &push).await;
    drop(connect(&ann).await.unwrap());
    assert_eq!(server.asked(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_cannot_choose_how_it_is_checked() {
    let rsa = Signer::new(Algorithm::RS256, "rsa");
    let ec = Signer::new(Algorithm::ES256, "ec");
    let server = KeyServer::new(&[]).await;
    let mut pinned = rsa.jwk();
    merge(&mut pinned, json!({ "alg": "RS256", "use": "sig" }));
    let secret = json!({ "kty": "oct", "kid": "oct", "k": "c2VjcmV0" });
    let keys = json!({ "keys": [pinned, ec.jwk(), secret] });
    server.answer(200, &keys.to_string());
    let world = World::with_clock().await;
    configure(&world, server.configuration()).await;
    assert_eq!(judged(&world, &rsa.ann(&world)).await, "00000");
    assert_eq!(judged(&world, &ec.ann(&world)).await, "00000");
    let texts = ["n", "x"].map(|part| {
        let jwk = if part == "n" { rsa.jwk() } else { ec.jwk() };
        jwk[part].as_str().unwrap().to_owned()
    });
    let by = |secret: &str, kid: &str| Signer::hs256(secret).named(Some(kid)).ann(&world);
    let own = EncodingKey::from_secret(SECRET.as_bytes());
    let embedded = Signer::new(Algorithm::ES256, "mine");
    let jwk = serde_json::from_value(embedded.jwk()).unwrap();
    let carried = Header { jwk: Some(jwk), ..embedded.header() };
    let carried = encode(&carried, &claims(&world, json!({})), &embedded.key).unwrap();
    let payload = rsa.ann(&world).split('.').nth(1).unwrap().to_owned();
    for (what, token) in [
        ("the modulus as a secret", by(&texts[0], "rsa")),
        ("a coordinate as a secret", by(&texts[1], "ec")),
        ("the published secret", by("secret", "oct")),
        ("any secret", encode(&Header::default(), &claims(&world, json!({})), &own).unwrap()),
        ("another hash than the key's", rsa.with(Algorithm::RS384).ann(&world)),
        ("another padding than the key's", rsa.with(Algorithm::PS256).ann(&world)),
        ("one key under the name of the other", ec.named(Some("rsa")).ann(&world)),
        ("a key that the token brings", carried),
        ("no algorithm", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.")),
    ] {
        assert_eq!(judged(&world, &token).await, "D00003", "{what}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_kid_counts_while_its_algorithm_has_one_key() {
    let (world, server, signer) = published().await;
    let token = signer.named(None).ann(&world);
    assert_eq!(judged(&world, &token).await, "00000");
    let second = Signer::new(Algorithm::ES256, "two");
    server.publish(&[&signer, &second, &Signer::new(Algorithm::EdDSA, "three")]);
    world.clock.advance(300 * SECOND);
    assert_eq!(judged(&world, &token).await, "D00003");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kid_has_the_keys_fetched_at_most_every_ten_seconds() {
    let (world, server, old) = published().await;
    assert_eq!(judged(&world, &old.ann(&world)).await, "00000");
    let new = Signer::new(Algorithm::ES256, "two");
    server.publish(&[&old, &new]);
    for _ in 0..5 {
        assert_eq!(judged(&world, &new.ann(&world)).await, "D00003");
    }
    assert_eq!(server.asked(), 1);
    world.clock.advance(10 * SECOND);
    assert_eq!(judged(&world, &new.ann(&world)).await, "00000");
    assert_eq!(judged(&world, &old.ann(&world)).await, "00000");
    for kid in ["three", "four", "five"] {
        let stranger = Signer::new(Algorithm::ES256, kid);
        assert_eq!(judged(&world, &stranger.ann(&world)).await, "D00003");
    }
    assert_eq!(server.asked(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_away_counts_for_five_minutes_at_most() {
    let (world, server, signer) = published().await;
    let token = signer.ann(&world);
    assert_eq!(judged(&world, &token).await, "00000");
    server.publish(&[]);
    world.clock.advance(299 * SECOND);
    assert_eq!(judged(&world, &token).await, "00000");
    assert_eq!(server.asked(), 1);
    world.clock.advance(SECOND);
    assert_eq!(judged(&world, &token).await, "D00003");
    assert_eq!(server.asked(), 2);
    world.stop().await;
}

/// Answers that are no keys.
fn no_keys() -> [(u16, String); 6] {
    let many = vec![json!({ "kty": "new" }); 101];
    [
        (500, r#"{"keys":[]}"#.to_owned()),
        (404, String::new()),
        (302, String::new()),
        (200, "<html>".to_owned()),
        (200, json!({ "keys": many }).to_string()),
        (200, format!(r#"{{"keys":[],"more":"{}"}}"#, "x".repeat(256 * 1024))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_keys_calls_that_need_a_login_are_told_to_try_again() {
    let (world, server, signer) = published().await;
    world.register_of("bob", "c-2", json!({})).await;
    let id = world.push("c-2", json!({})).await;
    world.register("c-1").await;
    let own = world.push("c-1", json!({})).await;
    let ann = world.terminal("c-1").with_access_token(signer.ann(&world));
    let bob = signer.sign(&claims(&world, json!({ "sub": "bob" })));
    let bob = world.terminal("c-2").with_access_token(bob);
    let mut body = registration("c-1");
    merge(&mut body, json!({ "userId": "ann" }));
    server.answer(503, "");
    for (path, body) in [
        (DEVLIST, json!({})),
        ("/ums/v2/register", body),
        ("/ums/v2/msgPush", json!({ "dst": { "type": 0, "Id": ["c-1"] } })),
    ] {
        assert_eq!(code(&ann, path, &body).await, "A00001", "{path}");
    }
    // What was bob's stays bob's to tell, and is not denied before he can prove who he is.
    for (path, body) in [
        ("/ums/v2/getmsgstat", json!({ "msgId": id })),
        ("/ums/v2/report", json!({ "appPackage": PACKAGE, "msgId": id, "status": 2 })),
        ("/ums/v2/unreg", json!({ "appPackage": PACKAGE })),
    ] {
        assert_eq!(code(&bob, path, &body).await, "A00001", "{path}");
    }
    assert_eq!(connect(&bob).await.err(), Some((503, "A00001".to_owned())));
    // A device without a user needs nobody's token.
    let report = json!({ "appPackage": PACKAGE, "msgId": own, "status": 2 });
    ok(&ann, "/ums/v2/report", &report).await;
    ok(&ann, "/ums/v2/register", &registration("c-1")).await;
    assert_eq!(server.asked(), 1);
    server.publish(&[&signer]);
    assert_eq!(code(&ann, DEVLIST, &json!({})).await, "A00001");
    world.clock.advance(10 * SECOND);
    assert_eq!(code(&ann, DEVLIST, &json!({})).await, "00000");
    drop(connect(&bob).await.unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_set_is_as_good_as_no_answer() {
    let (world, server, signer) = published().await;
    let token = signer.ann(&world);
    for (asked, (status, body)) in no_keys().into_iter().enumerate() {
        server.answer(status, &body);
        assert_eq!(judged(&world, &token).await, "A00001", "{status} {body:.20}");
        assert_eq!(server.asked(), asked + 1);
        world.clock.advance(10 * SECOND);
    }
    server.publish(&[&signer]);
    assert_eq!(judged(&world, &token).await, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_hand_serve_for_a_day_while_they_cannot_be_fetched_again() {
    let (world, server, signer) = published().await;
    let token = signer.sign(&claims(&world, json!({ "exp": 4_000_000_000_i64 })));
    assert_eq!(judged(&world, &token).await, "00000");
    server.answer(500, "");
    world.clock.advance(300 * SECOND);
    assert_eq!(judged(&world, &token).await, "00000");
    assert_eq!(server.asked(), 2);
    // The next key may be known to the server that does not answer.
    let next = Signer::new(Algorithm::ES256, "two");
    assert_eq!(judged(&world, &next.ann(&world)).await, "A00001");
    world.clock.advance(DAY - 301 * SECOND);
    assert_eq!(judged(&world, &token).await, "00000");
    until("no further fetch", async || server.asked() == 3).await;
    world.clock.advance(10 * SECOND);
    assert_eq!(judged(&world, &token).await, "A00001");
    server.publish(&[&signer]);
    world.clock.advance(10 * SECOND);
    assert_eq!(judged(&world, &token).await, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_server_that_failed_while_keys_are_at_hand() {
    let (world, server, signer) = published().await;
    let token = signer.ann(&world);
    assert_eq!(judged(&world, &token).await, "00000");
    server.answer(500, "");
    world.clock.advance(300 * SECOND);
    assert_eq!(judged(&world, &token).await, "00000");
    server.set_open(false);
    world.clock.advance(10 * SECOND);
    for _ in 0..5 {
        assert_eq!(judged(&world, &token).await, "00000");
    }
    until("no fetch behind the calls", async || server.asked() == 3).await;
    server.publish(&[]);
    server.set_open(true);
    until("what was fetched is not used", async || judged(&world, &token).await == "D00003").await;
    assert_eq!(server.asked(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_at_once_share_a_fetch_and_other_apps_do_not_wait_for_it() {
    let (world, server, signer) = published().await;
    let other = json!({ "appId": "other", "ums": { "appId": "MB-OTHER", "appKey": "key",
        "jwt": { "hs256Secret": SECRET } } });
    assert_eq!(world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    server.set_open(false);
    let call = || {
        let caller = world.terminal("c-1").with_access_token(signer.ann(&world));
        tokio::spawn(async move { code(&caller, DEVLIST, &json!({})).await })
    };
    let first = call();
    until("nobody fetches", async || server.asked() == 1).await;
    // A caller that goes away does not take with it what others wait for.
    first.abort();
    let waiting: Vec<_> = (0..20).map(|_| call()).collect();
    let caller = sim::Caller::new(&world.url, "MB-OTHER", "key").with_client_id("c-1");
    let caller = caller.with_access_token(Signer::hs256(SECRET).ann(&world));
    assert_eq!(code(&caller, DEVLIST, &json!({})).await, "00000");
    ok(&world.cloud(), "/umse/v2/devlist", &json!({ "userid": "ann" })).await;
    server.set_open(true);
    for call in waiting {
        assert_eq!(call.await.unwrap(), "00000");
    }
    assert_eq!(server.asked(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_an_address_that_is_not_allowed_are_never_asked_for() {
    let signer = Signer::new(Algorithm::ES256, "one");
    // Loopback too, but not of the network that the harness allows.
    let server = KeyServer::on(TcpListener::bind("127.0.0.2:0").await.unwrap());
    server.publish(&[&signer]);
    let world = World::with_clock().await;
    let port = server.url.split(':').nth(2).unwrap();
    for host in ["127.0.0.2", "127.2", "[::ffff:127.0.0.2]"] {
        configure(&world, json!({ "jwksUrl": format!("http://{host}:{port}") })).await;
        assert_eq!(judged(&world, &signer.ann(&world)).await, "A00001", "{host}");
    }
    assert_eq!(server.asked(), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_may_lie_under_a_name() {
    let (world, server, signer) = published().await;
    let url = server.url.replace("127.0.0.1", "localhost");
    configure(&world, json!({ "jwksUrl": url })).await;
    assert_eq!(judged(&world, &signer.ann(&world)).await, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_url_has_other_keys_and_any_other_change_keeps_those_at_hand() {
    let (world, server, signer) = published().await;
    let token = signer.ann(&world);
    assert_eq!(judged(&world, &token).await, "00000");
    let change = json!({ "name": "Another name" });
    assert_eq!(world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap().0, 200);
    assert_eq!(judged(&world, &token).await, "00000");
    let with_audience = json!({ "jwksUrl": server.url, "audience": "push" });
    configure(&world, with_audience).await;
    assert_eq!(judged(&world, &token).await, "D00003");
    let aimed = signer.sign(&claims(&world, json!({ "aud": "push" })));
    assert_eq!(judged(&world, &aimed).await, "00000");
    assert_eq!(server.asked(), 1);
    let second = KeyServer::new(&[&Signer::new(Algorithm::ES256, "two")]).await;
    configure(&world, second.configuration()).await;
    assert_eq!(judged(&world, &token).await, "D00003");
    assert_eq!((server.asked(), second.asked()), (1, 1));
    configure(&world, Value::Null).await;
    assert_eq!(judged(&world, &token).await, "D00003");
    world.stop().await;
}
