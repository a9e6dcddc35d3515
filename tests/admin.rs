//! Who may call the admin API, what an admin of one app gets to see of the others, and an app from
//! its creation to its end.

use pushledger::http::openapi;
use serde_json::{Value, json};
use sim::Admin;

use crate::harness::{ADMIN_TOKEN, RawClient, RawReply, World, code};

/// Where a webhook would be called about what never happens here.
const NOWHERE: &str = "http://hooks.example.com/";

/// Makes an operator; gives the token.
async fn operator(world: &World, role: &str, app: Option<&str>) -> String {
    let body = json!({ "name": role, "role": role, "appId": app });
    let (status, body, _) = world.admin.post("/admin/v1/operators", Some(&body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    body["token"].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

/// Every described operation of the admin API: method and path.
fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(openapi::document()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path.starts_with("/admin/v1/") {
            let methods = methods.as_object().unwrap().keys();
            operations.extend(methods.map(|method| (method.to_uppercase(), path.clone())));
        }
    }
    assert!(operations.len() > 30, "{operations:?}");
    operations
}

/// What an app has that a path may name.
struct Contents {
    message: String,
    webhook: String,
    device: i64,
}

impl Contents {
    /// Fills an app that speaks UMS; `caller` is its cloud, `terminal` one that may register.
    async fn of(world: &World, app: &str, cloud: &sim::Caller, terminal: &sim::Caller) -> Contents {
        let body = crate::harness::registration("c-1");
        crate::harness::ok(terminal, "/ums/v2/register", &body).await;
        let device = world.head().await;
        let push = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": {} });
        let pushed = crate::harness::ok(cloud, "/umse/v2/msgPush", &push).await;
        let hooks = format!("/admin/v1/apps/{app}/webhooks");
        let hook = json!({ "url": NOWHERE, "events": ["label.deleted"] });
        let (status, hook, _) = world.admin.post(&hooks, Some(&hook)).await.unwrap();
        assert_eq!(status, 201, "{hook}");
        let owner = json!({ "userId": "ann", "bindKey": "k" });
        let owners = format!("/admin/v1/apps/{app}/owners/mac");
        assert_eq!(world.admin.put(&owners, Some(&owner)).await.unwrap().0, 204);
        Contents {
            message: pushed["msgId"].as_str().unwrap().to_owned(),
            webhook: hook["id"].as_str().unwrap().to_owned(),
            device,
        }
    }

    /// A path with the names of what is there.
    fn fill(&self, path: &str, app: &str) -> String {
        path.replace("{appId}", app)
            .replace("{messageId}", &self.message)
            .replace("{webhookId}", &self.webhook)
            .replace("{number}", &self.device.to_string())
            .replace("{deviceId}", "mac")
            .replace("{protocol}/{name}", "ums/ann")
    }
}

/// The status of a refusal, which must be a problem document.
fn problem(reply: &RawReply) -> u16 {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{reply:?}");
    assert_eq!(body["status"], reply.status, "{reply:?}");
    reply.status
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_may_call_the_admin_api() {
    let world = World::new().await;
    let contents = Contents::of(&world, "demo", &world.cloud(), &world.terminal("c-1")).await;
    let mut raw = RawClient::new(&world);
    let head = world.head().await;
    let mut allowed = Vec::new();
    for role in ["analyst", "auditor", "uplink"] {
        for app in [None, Some("demo")] {
            let headers = bearer(&operator(&world, role, app).await);
            for (method, path) in operations() {
                let reply = raw.send(&method, &contents.fill(&path, "demo"), &headers, b"{}").await;
                let may = match role {
                    "auditor" => path.starts_with("/admin/v1/audit/") || path == "/admin/v1/access",
                    "analyst" => path.ends_with("/export"),
                    _ => false,
                };
                if may {
                    // Nothing may be sealed yet, or the query may lack a parameter.
                    assert!([200, 400, 404].contains(&reply.status), "{role} {path}: {reply:?}");
                    allowed.push(path);
                } else {
                    assert_eq!(problem(&reply), 403, "{role} {method} {path}: {reply:?}");
                }
            }
        }
    }
    assert_eq!(allowed.len(), 12, "{allowed:?}");
    assert_eq!(world.head().await, head);
    let (_, apps, _) = world.admin.get("/admin/v1/apps", None).await.unwrap();
    assert_eq!(apps.as_array().unwrap().len(), 1, "{apps}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_of_one_app_finds_no_other() {
    let world = World::new().await;
    let other = json!({ "appId": "other", "ums": {
        "appId": "MB-OTHER", "appKey": "app", "systemId": "SV-OTHER", "systemKey": "system" } });
    let (status, made, _) = world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap();
    assert_eq!(status, 201, "{made}");
    let cloud = sim::Caller::new(&world.url, "SV-OTHER", "system");
    let terminal = sim::Caller::new(&world.url, "MB-OTHER", "app").with_client_id("c-1");
    let contents = Contents::of(&world, "other", &cloud, &terminal).await;
    let token = operator(&world, "admin", Some("demo")).await;
    let (headers, mut raw) = (bearer(&token), RawClient::new(&world));
    let head = world.head().await;
    let mut calls = 0;
    for (method, path) in operations() {
        if !path.contains("{appId}") {
            continue;
        }
        calls += 1;
        let reply = raw.send(&method, &contents.fill(&path, "other"), &headers, b"{}").await;
        let to_delete_it = method == "DELETE" && path.ends_with("{appId}");
        let wanted = if to_delete_it { 403 } else { 404 };
        assert_eq!(problem(&reply), wanted, "{method} {path}: {reply:?}");
        // One that is hidden is answered as one that never was.
        let none = raw.send(&method, &contents.fill(&path, "none"), &headers, b"{}").await;
        assert_eq!(none.body, reply.body, "{method} {path}");
    }
    assert!(calls > 20, "{calls} calls");
    // Neither do its own app's paths lead to what is the other's.
    for (method, path) in [
        ("POST", format!("/admin/v1/apps/demo/messages/{}/recall", contents.message)),
        ("DELETE", format!("/admin/v1/apps/demo/webhooks/{}", contents.webhook)),
        ("DELETE", "/admin/v1/apps/demo/owners/mac".to_owned()),
    ] {
        let reply = raw.send(method, &path, &headers, b"").await;
        assert_eq!(problem(&reply), 404, "{method} {path}: {reply:?}");
    }
    let operator = br#"{"name":"n","role":"admin","appId":"demo"}"#;
    for (method, path, body) in [
        ("POST", "/admin/v1/apps", &br#"{"appId":"third"}"#[..]),
        ("DELETE", "/admin/v1/apps/demo", b""),
        ("GET", "/admin/v1/operators", b""),
        ("POST", "/admin/v1/operators", operator),
        ("DELETE", "/admin/v1/operators/1", b""),
    ] {
        let reply = raw.send(method, path, &headers, body).await;
        assert_eq!(problem(&reply), 403, "{method} {path}: {reply:?}");
    }
    let bound = Admin::new(&world.url, &token);
    let (status, seen, _) = bound.get("/admin/v1/apps", None).await.unwrap();
    let seen: Vec<_> = seen.as_array().unwrap().iter().map(|app| app["appId"].clone()).collect();
    assert_eq!((status, seen), (200, vec![json!("demo")]));
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_created_read_listed_changed_and_deleted() {
    let world = World::new().await;
    let mut raw = RawClient::new(&world);
    let (apps, shop) = ("/admin/v1/apps", "/admin/v1/apps/shop");
    let admin = bearer(ADMIN_TOKEN);
    let json_of = |reply: &RawReply| -> Value { serde_json::from_slice(&reply.body).unwrap() };

    let body = json!({ "appId": "shop", "name": "Shop", "ums": {}, "easemob": {}, "antelope": { "cidRanges": [[1, 9]] },
                       "tencent": { "sdkAppId": 1_400_000_001 } });
    let created = raw.send("POST", apps, &admin, body.to_string().as_bytes()).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.headers["etag"], "\"1\"");
    let made = json_of(&created);
    assert_eq!((&made["appId"], &made["name"]), (&json!("shop"), &json!("Shop")));
    assert_eq!((&made["timezone"], &made["version"]), (&json!("Asia/Shanghai"), &json!(1)));
    let secret = |section: &str, name: &str| {
        let secret = made[section][name].as_str().unwrap_or_default().to_owned();
        assert!(secret.len() >= 32, "{section}.{name}: {made}");
        secret
    };
    let secrets = [
        secret("ums", "appKey"),
        secret("ums", "systemKey"),
        secret("easemob", "clientSecret"),
        secret("antelope", "appKey"),
        secret("tencent", "secretKey"),
    ];
    let silent = |reply: &RawReply| {
        let text = String::from_utf8(reply.body.clone()).unwrap();
        assert!(secrets.iter().all(|secret| !text.contains(&**secret)), "{text} tells a secret");
    };

    let read = raw.send("GET", shop, &admin, b"").await;
    assert_eq!((read.status, &*read.headers["etag"]), (200, "\"1\""));
    silent(&read);
    let seen = json_of(&read);
    assert_eq!(seen["ums"]["appId"], made["ums"]["appId"]);
    assert_eq!(seen["ums"]["appKeys"], made["ums"]["appKeys"]);
    let listed = raw.send("GET", apps, &admin, b"").await;
    silent(&listed);
    let ids: Vec<_> =
        json_of(&listed).as_array().unwrap().iter().map(|app| app["appId"].clone()).collect();
    assert_eq!(ids, ["demo", "shop"]);
    let key = made["ums"]["systemId"].as_str().unwrap();
    let cloud = sim::Caller::new(&world.url, key, &*secrets[1]);
    let ask = json!({ "msgId": "1" });
    assert_eq!(code(&cloud, "/umse/v2/getmsgstat", &ask).await, "H32007");

    let mut change = async |tag: Option<&str>, body: Value| {
        let mut headers = admin.clone();
        headers.extend(tag.map(|tag| ("if-match".to_owned(), tag.to_owned())));
        raw.send("PATCH", shop, &headers, body.to_string().as_bytes()).await
    };
    let changed = change(Some("\"1\""), json!({ "name": "Shop 2" })).await;
    assert_eq!((changed.status, &*changed.headers["etag"]), (200, "\"2\""), "{changed:?}");
    silent(&changed);
    assert_eq!(json_of(&changed)["name"], "Shop 2");
    let stale = change(Some("\"1\""), json!({ "name": "Shop 3" })).await;
    assert_eq!(problem(&stale), 412, "{stale:?}");
    let senseless = change(Some("\"one\""), json!({ "name": "Shop 3" })).await;
    assert_eq!(problem(&senseless), 400, "{senseless:?}");
    let renamed = change(None, json!({ "appId": "store" })).await;
    assert_eq!(problem(&renamed), 400, "{renamed:?}");
    let without = change(None, json!({ "appId": "shop", "timezone": "UTC" })).await;
    assert_eq!((without.status, &*without.headers["etag"]), (200, "\"3\""), "{without:?}");
    assert_eq!(json_of(&without)["name"], "Shop 2");

    assert_eq!(raw.send("DELETE", shop, &admin, b"").await.status, 204);
    for (method, body) in [("GET", &b""[..]), ("PATCH", b"{}"), ("DELETE", b"")] {
        let gone = raw.send(method, shop, &admin, body).await;
        assert_eq!(problem(&gone), 404, "{method}: {gone:?}");
    }
    let ids = json_of(&raw.send("GET", apps, &admin, b"").await);
    assert_eq!(ids.as_array().unwrap().len(), 1, "{ids}");
    assert_eq!(code(&cloud, "/umse/v2/getmsgstat", &ask).await, "C00001");
    world.stop().await;
}
