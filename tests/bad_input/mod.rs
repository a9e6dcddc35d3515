//! Wrong input of every kind at every door: the answer is always the protocol's own, never a
//! fault, and what is refused stores nothing. [`mutated`] tries some thousands of requests that are
//! nearly right; `ums_v2::parameters` judges the fields one by one.

mod calls;
mod mutated;

use pushledger::http::{
    openapi,
    ums::codes::{Code, Interface},
};
use serde_json::{Value, json};
use sim::{Admin, Caller};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{ADMIN_TOKEN, PACKAGE, RawClient, RawReply, SIGNED_AT_MS, UMS_KEY, World},
    tencent,
    ums_v2::Ready,
};

/// The headers of a call, with the right sign for any bytes.
fn signed(caller: &Caller, path: &str, body: &[u8]) -> Vec<(String, String)> {
    let mut headers = caller.headers(path, "", SIGNED_AT_MS);
    let at = SIGNED_AT_MS.to_string();
    let sign = sim::ums::sign(path, body, &caller.app_id, &caller.app_key, &at);
    headers.retain(|(name, _)| name != "sign");
    headers.push(("sign".to_owned(), sign));
    headers
}

/// `retCode` of an answer, which must be the envelope and no more.
fn ret_code(reply: &RawReply) -> String {
    let fields: Option<serde_json::Map<String, Value>> = serde_json::from_slice(&reply.body).ok();
    let fields = fields.unwrap_or_else(|| panic!("{reply:?} is no envelope"));
    assert!(fields.len() == 3 && fields["retInfo"].is_string(), "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json;charset=UTF-8");
    let code = fields["retCode"].as_str().unwrap().to_owned();
    assert!(code == "00000" || fields["data"].is_null(), "{reply:?}");
    code
}

/// Status and type of an Easemob refusal, which must have its five names.
fn easemob_error(reply: &RawReply) -> (u16, String) {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    for name in ["error", "exception", "error_description"] {
        assert!(body[name].is_string(), "{reply:?}");
    }
    assert!(body["timestamp"].is_i64() && body["duration"].is_i64(), "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json;charset=UTF-8");
    (reply.status, body["error"].as_str().unwrap().to_owned())
}

/// Status of an Antelope refusal, which must have an id and a reason.
fn antelope_status(reply: &RawReply) -> u16 {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    assert!(body["request_id"].is_string() && body["error"].is_string(), "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
    reply.status
}

/// The code, or what stands in for it where the call's list lacks it.
fn listed(interface: Interface, exact: Code) -> &'static str {
    if interface.listed().contains(&exact) { exact.code() } else { "B00004" }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_refuses_a_call_without_credentials() {
    let world = World::new().await;
    // What stands for the names in a path is an app's path too.
    let section = json!({ "easemob": { "orgName": "1", "appName": "1" } });
    world.admin.patch("/admin/v1/apps/demo", Some(&section)).await.unwrap();
    let mut raw = RawClient::new(&world);
    let head = world.head().await;
    let document: Value = serde_json::from_str(openapi::document()).unwrap();
    let mut ums_calls = 0;
    let mut admin_calls = 0;
    let mut easemob_calls = 0;
    let mut antelope_calls = 0;
    let mut tencent_calls = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part });
        let target = parts.collect::<Vec<_>>().join("/");
        for method in methods.as_object().unwrap().keys() {
            let reply = raw.send(&method.to_uppercase(), &target, &[], b"{}").await;
            if let Some(interface) = Interface::ALL.iter().find(|known| known.path() == path) {
                assert_eq!(ret_code(&reply), listed(*interface, Code::Missing), "{path}");
                ums_calls += 1;
            } else if path == "/{org}/{app}/token" {
                // It is what credentials are for: they are in its body.
                assert_eq!(easemob_error(&reply), (400, "illegal_argument".to_owned()));
                easemob_calls += 1;
            } else if path.starts_with("/{org}/{app}/") {
                assert_eq!(easemob_error(&reply), (401, "unauthorized".to_owned()), "{path}");
                easemob_calls += 1;
            } else if path.starts_with("/v2/") {
                assert_eq!(antelope_status(&reply), 401, "{path}");
                antelope_calls += 1;
            } else if path.starts_with("/v4/") {
                assert_eq!(tencent::answered(&reply)["ErrorCode"], 60_012, "{path}");
                tencent_calls += 1;
            } else {
                assert_eq!(reply.status, 401, "{method} {path}");
                assert_eq!(reply.headers["content-type"], "application/problem+json");
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
                admin_calls += 1;
            }
        }
    }
    let calls = (ums_calls, admin_calls, easemob_calls, antelope_calls, tencent_calls);
    assert_eq!(calls, (12, 37, 32, 7, 6), "a route came or went");
    assert_eq!(
        raw.send("POST", "/graphql", &[], br#"{"query":"{apps{appId}}"}"#).await.status,
        401
    );
    assert_eq!(raw.send("GET", "/connect", &upgrade(&[]), b"").await.status, 401);
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_that_nobody_has_opens_nothing() {
    let world = World::new().await;
    for token in ["wrong", "test-admin-token-", "TEST-ADMIN-TOKEN", "null"] {
        let stranger = Admin::new(&world.url, token);
        assert_eq!(stranger.get("/admin/v1/apps", None).await.unwrap().0, 401, "{token}");
        let query = json!({ "query": "{ apps { appId } }" });
        assert_eq!(stranger.post("/graphql", Some(&query)).await.unwrap().0, 401, "{token}");
    }
    let mut raw = RawClient::new(&world);
    for value in ["", "Bearer", "Basic dGVzdDp0ZXN0", "bearer", "Bearer \u{95e8}", ADMIN_TOKEN] {
        let headers = [("authorization".to_owned(), value.to_owned())];
        assert_eq!(raw.send("GET", "/admin/v1/apps", &headers, b"").await.status, 401, "{value}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anybody_may_see_names_no_app_user_or_device() {
    let world = World::new().await;
    world.register_of("ann-4711", "c-4711", json!({})).await;
    let mut raw = RawClient::new(&world);
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/graphql"] {
        let reply = raw.send("GET", path, &[], b"").await;
        assert_eq!(reply.status, 200, "{path}");
        let text = String::from_utf8(reply.body).unwrap();
        for secret in ["ann-4711", "c-4711", "MB-DEMO-0001", UMS_KEY, ADMIN_TOKEN] {
            assert!(!text.contains(secret), "{path} shows {secret}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sign_is_refused_whatever_the_body_says() {
    let ready = Ready::new().await;
    for interface in Interface::ALL {
        let body = ready.body(interface).await.to_string();
        let head = ready.world.head().await;
        let mut forger = ready.caller(interface).clone();
        forger.app_key.push('0');
        for body in [body.as_str(), "{", "", "[1]"] {
            let reply = forger.call(interface.path(), body).await.unwrap();
            assert_eq!((reply.status, &*reply.ret_code), (200, "D00001"), "{interface:?} {body}");
        }
        assert_eq!(ready.world.head().await, head);
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_utf_8_breaks_a_rule_of_every_call() {
    let ready = Ready::new().await;
    let mut raw = RawClient::new(&ready.world);
    for interface in Interface::ALL {
        let body = ready.body(interface).await.to_string().into_bytes();
        let head = ready.world.head().await;
        // Into the middle of the first name or text, and around everything.
        let inside = body.iter().position(|byte| *byte == b'"').unwrap_or(0) + 1;
        for wrong in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"]
        {
            for at in [0, inside, body.len()] {
                let body = [&body[..at], wrong, &body[at..]].concat();
                let headers = signed(ready.caller(interface), interface.path(), &body);
                let reply = raw.send("POST", interface.path(), &headers, &body).await;
                assert_eq!((reply.status, &*ret_code(&reply)), (200, "B00004"), "{interface:?}");
            }
        }
        assert_eq!(ready.world.head().await, head);
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_10_mb_is_too_long_and_its_caller_gets_to_read_that() {
    let ready = Ready::new().await;
    let head = ready.world.head().await;
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(10_000_000));
    let in_chunks = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for interface in Interface::ALL {
        let (caller, path) = (ready.caller(interface), interface.path());
        let expected = listed(interface, Code::WrongLength);
        let mut headers = caller.headers(path, "", 1);
        let reply = caller.call_with(path, &long, &headers).await.unwrap();
        assert_eq!((reply.status, &*reply.ret_code), (200, expected), "{interface:?}");
        headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
        let mut raw = RawClient::new(&ready.world);
        let reply = raw.send("POST", path, &headers, in_chunks.as_bytes()).await;
        assert_eq!((reply.status, &*ret_code(&reply)), (200, expected), "{interface:?} in chunks");
        // The connection is good for the next call.
        let reply = raw.send("GET", path, &[], b"").await;
        assert_eq!(reply.status, 405);
    }
    assert_eq!(ready.world.head().await, head);
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_256_kib_is_read_and_one_byte_more_is_too_long() {
    let ready = Ready::new().await;
    for interface in Interface::ALL {
        let body = ready.body(interface).await.to_string();
        let padded = |bytes: usize| body.clone() + &" ".repeat(bytes - body.len());
        let caller = ready.caller(interface);
        let reply = caller.call(interface.path(), &padded(262_145)).await.unwrap();
        assert_eq!(reply.ret_code, listed(interface, Code::WrongLength), "{interface:?}");
        let reply = caller.call(interface.path(), &padded(262_144)).await.unwrap();
        assert_eq!(reply.ret_code, "00000", "{interface:?}");
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_bodies_that_make_no_sense_are_refused_and_store_nothing() {
    let world = World::new().await;
    let head = world.head().await;
    let mut raw = RawClient::new(&world);
    let bearer = [("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))];
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(10_000_000));
    let deep = "[".repeat(30_000) + &"]".repeat(30_000);
    for (method, path) in [
        ("POST", "/admin/v1/apps"),
        ("PATCH", "/admin/v1/apps/demo"),
        ("POST", "/admin/v1/apps/demo/access-tokens"),
        ("PUT", "/admin/v1/apps/demo/owners/mac"),
        ("PUT", "/admin/v1/apps/demo/devices/1/addresses"),
        ("POST", "/admin/v1/operators"),
    ] {
        for body in [
            "",
            "{",
            "[]",
            "7",
            r#""text""#,
            r#"{"unknown":1}"#,
            r#"{"name":1,"role":1}"#,
            r#"{"appId":"A B","name":"x"}"#,
            r#"{"appId":{},"userId":[]}"#,
            &deep,
            r#"{"userId":"a\u0000","clientId":"c","bindKey":"k","name":"\u0000","role":"admin"}"#,
            r#"{"userId":"","clientId":"","bindKey":"","name":"","role":"admin"}"#,
            r#"{"timezone":"Moon/Tycho","name":"x","role":"king"}"#,
            r#"{"name":"\ud800"}"#,
            r#"{"userId":"a","clientId":"c","ttlSeconds":0}"#,
            r#"{"userId":"a","clientId":"c","ttlSeconds":99999999999999999999}"#,
            r#"{"appId":"x","ums":{"appKeys":[]}}"#,
            r#"{"appId":"x","ums":{"appKeys":[{}]}}"#,
            r#"{"appId":"x","ums":{"appPackages":["\u0000"]}}"#,
        ] {
            let reply = raw.send(method, path, &bearer, body.as_bytes()).await;
            assert_eq!(reply.status, 400, "{method} {path} {:.80}", body);
            assert_eq!(reply.headers["content-type"], "application/problem+json");
        }
        let mut own = RawClient::new(&world);
        assert_eq!(own.send(method, path, &bearer, long.as_bytes()).await.status, 413, "{path}");
        assert_eq!(raw.send("TRACE", path, &bearer, b"").await.status, 405, "{path}");
    }
    for path in ["/admin", "/admin/v1/", "/admin/v1/apps/", "/admin/v1/apps/%00", "/nowhere"] {
        assert_eq!(raw.send("GET", path, &bearer, b"").await.status, 404, "{path}");
    }
    assert_eq!(raw.send("GET", "/admin/v1/apps/%ff", &bearer, b"").await.status, 400);
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_make_no_sense_are_answered_with_errors() {
    let world = World::new().await;
    let mut raw = RawClient::new(&world);
    let bearer = [("authorization".to_owned(), format!("Bearer {ADMIN_TOKEN}"))];
    for body in ["", "{", "[", "7", "{}", r#"{"query":1}"#, "\u{0}"] {
        let reply = raw.send("POST", "/graphql", &bearer, body.as_bytes()).await;
        assert!(reply.status == 400 || has_errors(&reply), "{body}: {reply:?}");
    }
    let app = |argument: &str| format!("{{ app(appId: \"demo\") {{ {argument} }} }}");
    for query in [
        String::new(),
        "{".to_owned(),
        "{a".repeat(20_000),
        "{ app(appId: ".to_owned() + &"[".repeat(50_000),
        "query($a:".to_owned() + &"[".repeat(50_000),
        "{apps".to_owned() + &"{apps".repeat(50) + &"}".repeat(51),
        "mutation { delete }".to_owned(),
        "{ ...F } fragment F on Query { ...F }".to_owned(),
        app("devices(first: 0) { nodes { number } }"),
        app("devices(first: 201) { nodes { number } }"),
        app("devices(first: 99999999999999999999) { nodes { number } }"),
        app("devices(first: \"1\") { nodes { number } }"),
        app("devices(after: \"MTIz\") { nodes { number } }"),
        app("devices(after: \"\\u0000\") { nodes { number } }"),
        app("events(stream: \"nowhere\") { nodes { position } }"),
        app("deliveryStats(range: { from: \"2026-01-02T00:00:00Z\", \
             to: \"2026-01-01T00:00:00Z\" }) { position }"),
        app("deliveryStats(range: { from: \"2026-01-02T00:00:00Z\" }, timeZone: \"Moon/Tycho\") \
             { position }"),
        app("deliveryStats(range: { from: \"1970-01-01T00:00:00Z\", \
             to: \"9999-01-01T00:00:00Z\" }) { position }"),
        app("funnel(of: {}) { position }"),
        app("nothing"),
    ] {
        let body = json!({ "query": query }).to_string();
        let reply = raw.send("POST", "/graphql", &bearer, body.as_bytes()).await;
        assert!(has_errors(&reply), "{query:.80}");
    }
    for id in [r"\u0000", "x", "-1", "99999999999999999999", "'; --"] {
        let body = json!({ "query": app(&format!("message(id: \"{id}\") {{ id }}")) }).to_string();
        let reply = raw.send("POST", "/graphql", &bearer, body.as_bytes()).await;
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer["data"], json!({ "app": { "message": null } }), "{id}");
    }
    let long = json!({ "query": " ".repeat(10_000_000) }).to_string();
    assert_eq!(raw.send("POST", "/graphql", &bearer, long.as_bytes()).await.status, 413);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_sends_all_before_it_listens_gets_to_read_that_its_body_is_too_long() {
    let world = World::new().await;
    let long = "x".repeat(10_000_000);
    for (method, path) in
        [("POST", "/admin/v1/apps"), ("PATCH", "/admin/v1/apps/demo"), ("POST", "/graphql")]
    {
        let mut stream = TcpStream::connect(world.running.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             authorization: Bearer {ADMIN_TOKEN}\r\ncontent-length: {}\r\n\r\n",
            long.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(long.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    world.stop().await;
}

fn has_errors(reply: &RawReply) -> bool {
    let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    reply.status == 200 && answer["errors"].is_array()
}

/// The headers of a handshake, with these credentials.
fn upgrade(credentials: &[(&str, &str)]) -> Vec<(String, String)> {
    let protocol = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let headers = protocol.iter().chain(credentials);
    headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_with_a_wrong_or_missing_credential_is_refused_with_its_code() {
    let world = World::new().await;
    let caller = world.register_of("ann", "c-1", json!({})).await;
    let head = world.head().await;
    let now = SIGNED_AT_MS.to_string();
    let sign = sim::ums::sign("/connect", b"", &caller.app_id, UMS_KEY, &now);
    let token = caller.access_token.clone().unwrap();
    let right = [
        ("appId", caller.app_id.as_str()),
        ("clientId", "c-1"),
        ("appPackage", PACKAGE),
        ("timestamp", &now),
        ("sign", &sign),
        ("accessToken", &token),
    ];
    let mut raw = RawClient::new(&world);
    for (name, value, status, code) in [
        ("appId", None, 401, "B00001"),
        ("clientId", None, 401, "B00001"),
        ("appPackage", None, 401, "B00001"),
        ("timestamp", None, 401, "B00001"),
        ("sign", None, 401, "B00001"),
        ("accessToken", None, 401, "D00008"),
        ("appId", Some("MB-NOBODY"), 401, "C00001"),
        ("appId", Some("SV-DEMO-0001"), 401, "C00001"),
        ("sign", Some("00"), 401, "D00001"),
        ("timestamp", Some("1"), 401, "D00001"),
        ("accessToken", Some("junk"), 401, "D00003"),
        ("clientId", Some("c-2"), 403, "H32006"),
        ("appPackage", Some("com.unknown"), 403, "H32006"),
        ("appPackage", Some("\u{95e8}"), 401, "B00001"),
    ] {
        let mut credentials = right.to_vec();
        credentials.retain(|(own, _)| *own != name);
        credentials.extend(value.map(|value| (name, value)));
        let reply = raw.send("GET", "/connect", &upgrade(&credentials), b"").await;
        assert_eq!((reply.status, &*ret_code(&reply)), (status, code), "{name}: {value:?}");
    }
    // A query can say what no header can.
    for (query, code) in [("clientId=c%001", "B00004"), ("clientId=%ff", "H32006")] {
        let mut credentials = right.to_vec();
        credentials.retain(|(own, _)| *own != "clientId");
        let target = format!("/connect?{query}");
        let reply = raw.send("GET", &target, &upgrade(&credentials), b"").await;
        assert_eq!(ret_code(&reply), code, "{query}");
    }
    let plain: Vec<_> = upgrade(&right).drain(4..).collect();
    let reply = raw.send("GET", "/connect", &plain, b"").await;
    assert_eq!((reply.status, &*ret_code(&reply)), (426, "B00007"));
    assert_eq!(raw.send("POST", "/connect", &plain, b"").await.status, 405);
    assert_eq!(world.head().await, head);
    world.stop().await;
}
