//! What stands before every call: the app, the sign, the headers, the token, path and method.

use std::time::Duration;

use pushledger::http::ums::codes::Interface;
use serde_json::{Value, json};
use sim::{Caller, Reply};

use super::{
    CLOUD_DEVLIST, CLOUD_PUSH, DEVLIST, PUSH, REGISTER, STATUS, TO_HOST, TRY, UNREG, call,
    change_app, devices_of, other_app, refusal, set_owner,
};
use crate::harness::{
    PACKAGE, RawClient, SIGNED_AT_MS, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY, World, code,
    merge, ok, registration,
};

/// Whoever may call an interface.
async fn caller(world: &World, interface: Interface) -> Caller {
    if interface.of_cloud() { world.cloud() } else { world.user("ann", "c-1").await }
}

/// Calls with one header changed, or left out.
async fn with_header(caller: &Caller, path: &str, name: &str, value: Option<&str>) -> Reply {
    let body = "{}";
    let mut headers = caller.headers(path, body, SIGNED_AT_MS);
    headers.retain(|(header, _)| header != name);
    headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    caller.call_with(path, body, &headers).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_app_sign_timestamp_or_client_misses_a_parameter() {
    let world = World::new().await;
    for interface in Interface::ALL {
        let caller = caller(&world, interface).await;
        // The list of a terminal's devlist has no B00001; there the stand-in says it.
        let missing = if interface == Interface::Devices { "B00004" } else { "B00001" };
        for name in ["appId", "sign", "timestamp"] {
            for value in [None, Some("")] {
                let reply = with_header(&caller, interface.path(), name, value).await;
                assert_eq!(reply.ret_code, missing, "{interface:?} without {name}");
                assert_eq!((reply.status, reply.data), (200, Value::Null));
            }
        }
        if !interface.of_cloud() {
            let reply = with_header(&caller, interface.path(), "clientId", None).await;
            assert_eq!(reply.ret_code, missing, "{interface:?} without clientId");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_has_at_most_100_characters() {
    let world = World::new().await;
    let longest = "c".repeat(100);
    let mut body = registration(&longest);
    body["pushId"] = json!("p");
    ok(&world.terminal(&longest), REGISTER, &body).await;
    let longer = "c".repeat(101);
    let push = json!({ "dst": { "type": 0, "Id": [longest] } });
    assert_eq!(refusal(&world, &world.terminal(&longer), PUSH, &push).await, "B00006");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_headers_of_the_protocol_may_be_absent_or_anything() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    for name in ["appVersion", "sequenceId", "language", "timezone", "Content-Type", "appKey"] {
        for value in [None, Some(""), Some("+8"), Some("text/plain")] {
            let reply = with_header(&ann, DEVLIST, name, value).await;
            assert_eq!(reply.ret_code, "00000", "{name}: {value:?}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_app_id_is_refused() {
    let world = World::new().await;
    // A terminal's id is none for clouds, and the other way round.
    for interface in Interface::ALL {
        let (own, other) =
            if interface.of_cloud() { (UMS_SYSTEM, UMS_APP) } else { (UMS_APP, UMS_SYSTEM) };
        let lower_case = own.to_lowercase();
        for id in [other, "MB-NOBODY-0001", "demo", &lower_case] {
            let caller = Caller::new(&world.url, id, UMS_KEY).with_client_id("c-1");
            let code = refusal(&world, &caller, interface.path(), &json!({})).await;
            assert_eq!(code, "C00001", "{interface:?} {id}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_app_is_unknown() {
    let world = World::new().await;
    world.register("c-1").await;
    assert_eq!(world.admin.delete("/admin/v1/apps/demo", None).await.unwrap().0, 204);
    let body = registration("c-1");
    assert_eq!(refusal(&world, &world.terminal("c-1"), REGISTER, &body).await, "C00001");
    let body = json!({ "userid": "ann" });
    assert_eq!(refusal(&world, &world.cloud(), CLOUD_DEVLIST, &body).await, "C00001");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_another_key_path_body_or_time_is_wrong() {
    let world = World::new().await;
    for interface in Interface::ALL {
        let caller = caller(&world, interface).await;
        let (path, now) = (interface.path(), SIGNED_AT_MS);
        let right = caller.headers(path, "{}", now);
        let resigned = |headers: Vec<(String, String)>| {
            let mut right = right.clone();
            for (name, value) in &mut right {
                if name == "sign" {
                    value.clone_from(&headers.iter().find(|(name, _)| name == "sign").unwrap().1);
                }
            }
            right
        };
        let mut other = caller.clone();
        other.app_key = "ffffffffffffffffffffffffffffffff".to_owned();
        for (what, headers) in [
            ("key", resigned(other.headers(path, "{}", now))),
            ("path", resigned(caller.headers("/ums/v2/other", "{}", now))),
            ("body", resigned(caller.headers(path, r#"{"stale":1}"#, now))),
            ("time", resigned(caller.headers(path, "{}", now - 1))),
        ] {
            let reply = caller.call_with(path, "{}", &headers).await.unwrap();
            assert_eq!(reply.ret_code, "D00001", "{path} with another {what}");
            assert_eq!((reply.status, reply.data), (200, Value::Null));
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_and_clouds_have_keys_of_their_own() {
    let world = World::new().await;
    let terminal = Caller::new(&world.url, UMS_APP, UMS_SYSTEM_KEY).with_client_id("c-1");
    assert_eq!(refusal(&world, &terminal, REGISTER, &registration("c-1")).await, "D00001");
    let cloud = Caller::new(&world.url, UMS_SYSTEM, UMS_KEY);
    let body = json!({ "userid": "ann" });
    assert_eq!(refusal(&world, &cloud, CLOUD_DEVLIST, &body).await, "D00001");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_leaves_out_white_space_quotes_of_the_key_and_the_query() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    let path = format!("{DEVLIST}?lang=zh&x=%20");
    assert_eq!(call(&ann, &path, "{ }").await.ret_code, "00000");
    let mut quoted = ann.clone();
    quoted.app_key = format!(" \"{UMS_KEY}\"\r\n");
    assert_eq!(call(&quoted, DEVLIST, "{}").await.ret_code, "00000");
    // What was signed without white space may come with it, inside strings too.
    let headers = ann.headers(DEVLIST, r#"{"a":"bc"}"#, SIGNED_AT_MS);
    let reply = ann.call_with(DEVLIST, "{\r\n\t\"a\": \"b c\"\r\n}", &headers).await.unwrap();
    assert_eq!(reply.ret_code, "00000");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_are_signed_as_they_came_escaped_or_not() {
    let world = World::new().await;
    for (client, name) in [("c-1", r"\u95e8\u94c3"), ("c-2", "门铃")] {
        let ann = world.user("ann", client).await;
        let body = format!(
            r#"{{"clientId":"{client}","pushId":"p","deviceType":"01","collab3th":0,
                 "userId":"ann","deviceName":"{name}"}}"#
        );
        assert_eq!(call(&ann, REGISTER, &body).await.ret_code, "00000");
    }
    let devices = devices_of(&world, "ann").await;
    assert_eq!(
        (&devices[0]["deviceName"], &devices[1]["deviceName"]),
        (&json!("门铃"), &json!("门铃"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_of_any_time_is_taken() {
    let world = World::new().await;
    let ann = world.register_of("ann", "c-1", json!({})).await;
    for timestamp in [0, 1_000_000_000_000, 9_999_999_999_999] {
        let headers = ann.headers(DEVLIST, "{}", timestamp);
        let reply = ann.call_with(DEVLIST, "{}", &headers).await.unwrap();
        assert_eq!(reply.ret_code, "00000", "{timestamp}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_unknown_expired_or_somebody_elses_is_told_apart() {
    let world = World::with_clock().await;
    let issue = async |app: &str, client: &str| {
        let body = json!({ "userId": "ann", "clientId": client, "ttlSeconds": 60 });
        let path = format!("/admin/v1/apps/{app}/access-tokens");
        let (status, body, _) = world.admin.post(&path, Some(&body)).await.unwrap();
        assert_eq!(status, 201, "{body}");
        body["accessToken"].as_str().unwrap().to_owned()
    };
    other_app(&world).await;
    let own = issue("demo", "c-1").await;
    let of_another_client = issue("demo", "c-2").await;
    let of_another_app = issue("other", "c-1").await;
    let with = |token: &str| world.terminal("c-1").with_access_token(token);
    assert_eq!(code(&with(&own), DEVLIST, &json!({})).await, "00000");
    for (token, expected) in
        [("junk", "D00003"), (&of_another_client, "D00005"), (&of_another_app, "D00005")]
    {
        assert_eq!(refusal(&world, &with(token), DEVLIST, &json!({})).await, expected);
    }
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refusal(&world, &with(&own), DEVLIST, &json!({})).await, "D00004");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_that_needs_a_login_says_what_is_wrong_with_the_token() {
    let world = World::with_clock().await;
    world.register_of("ann", "c-1", json!({})).await;
    let mut register = registration("c-1");
    merge(&mut register, json!({ "userId": "ann" }));
    let push = json!({ "dst": { "type": 0, "Id": ["c-1"] } });
    let id = world.push("c-1", json!({})).await;
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 2 });
    let foreign = world.token("ann", "c-2").await;
    let expired = expired(&world).await;
    for (path, body) in [
        (REGISTER, register),
        (DEVLIST, json!({})),
        (PUSH, push.clone()),
        (TRY, push),
        (UNREG, json!({ "appPackage": PACKAGE })),
        ("/ums/v2/report", report),
    ] {
        for (token, expected) in [("junk", "D00003"), (&expired, "D00004"), (&foreign, "D00005")] {
            let caller = world.terminal("c-1").with_access_token(token);
            assert_eq!(refusal(&world, &caller, path, &body).await, expected, "{path}");
        }
    }
    world.stop().await;
}

/// A token of a terminal whose time is over.
async fn expired(world: &World) -> String {
    let body = json!({ "userId": "ann", "clientId": "c-1", "ttlSeconds": 60 });
    let path = "/admin/v1/apps/demo/access-tokens";
    let (status, body, _) = world.admin.post(path, Some(&body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    world.clock.advance(Duration::from_secs(60));
    body["accessToken"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_no_login_takes_any_token() {
    let world = World::with_clock().await;
    set_owner(&world, "mac", "ann", "key").await;
    world.register_of("ann", "c-2", json!({})).await;
    let foreign = world.token("ann", "c-2").await;
    let expired = expired(&world).await;
    for token in ["junk", &expired, &foreign] {
        let caller = world.terminal("c-1").with_access_token(token);
        ok(&caller, REGISTER, &registration("c-1")).await;
        // The bind key speaks for a push to the host, and the device for what was sent to it.
        let body = json!({ "deviceId": "mac", "encryptedData": "key", "message": {} });
        let pushed = ok(&caller, TO_HOST, &body).await;
        assert!(world.status(pushed["msgId"].as_str().unwrap()).await.get("userId").is_none());
        let id = world.push("c-1", json!({})).await;
        assert_eq!(ok(&caller, STATUS, &json!({ "megId": id })).await["mesgId"], json!(id));
        ok(&caller, UNREG, &json!({ "appPackage": PACKAGE })).await;
        world.register("c-1").await;
        let cloud = world.cloud().with_access_token(token).with_client_id("any");
        ok(&cloud, CLOUD_PUSH, &json!({ "dst": { "type": 0, "Id": ["c-1"] } })).await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_with_an_overlap() {
    let world = World::new().await;
    let fingerprints = change_app(&world, json!({})).await["ums"].clone();
    let list = |kind: &str, new: &str| json!([{ "fingerprint": fingerprints[kind][0]["fingerprint"] }, new]);
    let both = json!({ "ums": { "appKeys": list("appKeys", "new app key"),
                                "systemKeys": list("systemKeys", "new system key") } });
    let new_only =
        json!({ "ums": { "appKeys": ["new app key"], "systemKeys": ["new system key"] } });
    let user = json!({ "userid": "ann" });
    for (change, old) in [(both, "00000"), (new_only, "D00001")] {
        change_app(&world, change).await;
        for (key, expected) in [(UMS_KEY, old), ("new app key", "00000")] {
            let caller = Caller::new(&world.url, UMS_APP, key).with_client_id("c-1");
            assert_eq!(code(&caller, REGISTER, &registration("c-1")).await, expected, "{key}");
        }
        for (key, expected) in [(UMS_SYSTEM_KEY, old), ("new system key", "00000")] {
            let cloud = Caller::new(&world.url, UMS_SYSTEM, key);
            assert_eq!(code(&cloud, CLOUD_DEVLIST, &user).await, expected, "{key}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_none_of_the_protocols_is_404_with_the_envelope() {
    let world = World::new().await;
    let mut raw = RawClient::new(&world);
    for path in [
        "/ums",
        "/ums/",
        "/umse",
        "/umse/",
        "/ums/v1/register",
        "/ums/v2",
        "/ums/v2/",
        "/ums/v2/register/",
        "/ums/v2/msgpush",
        "/ums/v2/%72egister",
        "/ums/v3/account/register",
        "/ums/v2/../v2/register",
        "/ums//v2/register",
        "/umse/v2/register",
        "/umse/v2/report",
        "/umse/v2/msgPushToHost",
        "/ums/%ff%00",
        "/umse/v2/getmsgstat;x=1",
    ] {
        for method in ["POST", "GET", "DELETE"] {
            let reply = raw.send(method, path, &[], b"{}").await;
            assert_eq!(reply.status, 404, "{method} {path}");
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!((&body["retCode"], &body["data"]), (&json!("C00002"), &Value::Null));
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_method_than_post_is_405_with_the_envelope() {
    let world = World::new().await;
    let mut raw = RawClient::new(&world);
    for interface in Interface::ALL {
        for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "PURGE"] {
            let reply = raw.send(method, interface.path(), &[], b"").await;
            assert_eq!(reply.status, 405, "{method} {interface:?}");
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!((&body["retCode"], &body["data"]), (&json!("B00007"), &Value::Null));
        }
        assert_eq!(raw.send("HEAD", interface.path(), &[], b"").await.status, 405);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_envelope_has_code_info_and_data_and_nothing_else() {
    let world = World::new().await;
    let mut raw = RawClient::new(&world);
    let ann = world.register_of("ann", "c-1", json!({})).await;
    for (body, expected) in [
        ("{}", r#"{"retCode":"00000","retInfo":"success","data":["#),
        ("[]", r#"{"retCode":"B00004","retInfo":"parameter breaks a rule","data":null}"#),
    ] {
        let headers = ann.headers(DEVLIST, body, SIGNED_AT_MS);
        let reply = raw.send("POST", DEVLIST, &headers, body.as_bytes()).await;
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.starts_with(expected), "{text}");
        let fields: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(fields.len(), 3, "{text}");
    }
    world.stop().await;
}
