//! What is refused whatever the call: paths, methods, bodies, a service that is not open, a full
//! queue. Each answer has the five names.

use domain::label::DeleteLabel;
use futures_util::{StreamExt, stream::FuturesUnordered};
use pushledger::{
    http::easemob::interface::{Family, Interface},
    ledger::{Context, Lane, Refused},
};
use serde_json::{Value, json};
use sim::Admin;

use super::{APP, EXCEPTIONS, Easemob, ORG, five_names, hello, ok, refused};
use crate::harness::{RawClient, RawReply};

/// The path of a call, with names that nobody has.
fn path(interface: Interface) -> String {
    let parts = interface.path().split('/');
    let parts = parts.map(|part| if part.starts_with('{') { "nobody" } else { part });
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

fn error(reply: &RawReply) -> (u16, String) {
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    five_names(&body);
    (reply.status, body["error"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_organization_or_app_is_404_and_says_where_it_was_looked_for() {
    let easemob = Easemob::new().await;
    for (org, app) in [("nowhere", APP), (ORG, "nothing"), ("nowhere", "nothing")] {
        let caller = Admin::new(format!("{}/{org}/{app}", easemob.world.url), "");
        let answer = caller.post("/token", Some(&json!({}))).await.unwrap();
        let uri = format!("Could not find application for {org}/{app} from URI: {org}/{app}/token");
        refused(&answer, 404, "organization_application_not_found", &uri);
        assert_eq!(caller.get("", None).await.unwrap().0, 404);
    }
    // Case does not count.
    let caller = Admin::new(format!("{}/ACME/Shop", easemob.world.url), &easemob.cloud.token);
    ok(caller.get("/users", None).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_of_an_app_is_404_url_is_invalid() {
    let easemob = Easemob::new().await;
    for path in [
        "",
        "/",
        "/push",
        "/push/",
        "/push/sync",
        "/push/sync/",
        "/push/sync/a/b",
        "/users/",
        "/users/a/b",
        "/push/message/",
        "/push/message/1/2",
        "/push/tasks",
        "/chatgroups",
        "/users/%ff",
        "//users",
        "/users//status",
    ] {
        let answer = easemob.cloud.post(path, Some(&json!({}))).await.unwrap();
        refused(&answer, 404, "resource_not_found", "url is invalid");
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_method_of_a_known_path_is_405_and_says_which_there_are() {
    let easemob = Easemob::new().await;
    for interface in Interface::all() {
        let answer = easemob.cloud.patch(&path(interface), None).await.unwrap();
        let description = "Service operation not supported";
        refused(&answer, 405, "unsupported_service_operation", description);
        assert!(answer.2["allow"].contains(interface.method().as_str()), "{interface:?}");
    }
    let answer = easemob.cloud.put("/users", None).await.unwrap();
    assert_eq!(answer.2["allow"], "POST, GET, DELETE");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_without_a_token_is_401_and_stores_nothing() {
    let easemob = Easemob::new().await;
    let head = easemob.world.head().await;
    let stranger = easemob.with_token("");
    for interface in Interface::all().filter(|own| own.family() != Family::Token) {
        let mut raw = RawClient::new(&easemob.world);
        let target = format!("/{ORG}/{APP}{}", path(interface));
        let reply = raw.send(interface.method().as_str(), &target, &[], b"{}").await;
        assert_eq!(error(&reply), (401, "unauthorized".to_owned()), "{interface:?}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(stranger.post("/token", Some(&json!({}))).await.unwrap().0, 400);
    assert_eq!(easemob.world.head().await, head);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_and_label_calls_are_403_while_the_push_service_is_not_open() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    easemob.configure(json!({ "pushOpen": false })).await;
    for interface in Interface::all() {
        let reply = easemob.raw(interface.method().as_str(), &path(interface), &[], b"{}").await;
        let closed = error_of(&reply) == Some("ServiceNotOpenException".to_owned());
        assert_eq!(closed, interface.family() == Family::Push, "{interface:?}: {reply:?}");
    }
    let answer = easemob.cloud.get("/push/label", None).await.unwrap();
    refused(&answer, 403, "ServiceNotOpenException", "push service not open");
    easemob.configure(json!({ "pushOpen": true })).await;
    ok(easemob.cloud.get("/push/label", None).await.unwrap());
    easemob.world.stop().await;
}

fn error_of(reply: &RawReply) -> Option<String> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    body["error"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_json_object_is_400_unexpected_character() {
    let easemob = Easemob::new().await;
    easemob.label("nobody").await;
    easemob.user("nobody").await;
    let head = easemob.world.head().await;
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let nested = format!(r#"{{"a":{deep}}}"#);
    let bodies: [&[u8]; 8] =
        [b"", b"{", b"null", b"7", b"\"text\"", b"{\"a\":\"\xff\"}", b"\xed\xa0\x80", b"\0"];
    for interface in Interface::all().filter(|own| own.reads_body()) {
        let method = interface.method().as_str();
        for body in bodies {
            let reply = easemob.raw(method, &path(interface), &[], body).await;
            assert_eq!(error(&reply), (400, "json_parse".to_owned()), "{interface:?} {body:?}");
        }
        for body in [&deep, &nested] {
            // A notification may have names that nobody knows, with any value.
            if interface == Interface::KeepMessage && *body == nested {
                continue;
            }
            let reply = easemob.raw(method, &path(interface), &[], body.as_bytes()).await;
            assert_eq!(reply.status, 400, "{interface:?}: {reply:?}");
        }
    }
    assert_eq!(easemob.world.head().await, head);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_256_kib_is_read_and_a_longer_one_is_413_however_long() {
    let easemob = Easemob::new().await;
    let body = json!({ "targets": ["nobody"], "pushMessage": hello() }).to_string();
    let padded = |bytes: usize| body.clone() + &" ".repeat(bytes - body.len());
    let fits = padded(262_144);
    assert_eq!(easemob.raw("POST", "/push/single", &[], fits.as_bytes()).await.status, 200);
    for long in [padded(262_145), padded(10_000_000)] {
        for interface in Interface::all() {
            let method = interface.method().as_str();
            let reply = easemob.raw(method, &path(interface), &[], long.as_bytes()).await;
            assert_eq!(error(&reply), (413, "request_entity_too_large".to_owned()));
        }
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_other_faces_are_theirs() {
    let easemob = Easemob::new().await;
    let mut raw = RawClient::new(&easemob.world);
    for (method, target, status, kind) in [
        ("POST", "/ums/v2/devlist", 200, "retCode"),
        ("POST", "/ums/v2/nothing", 404, "retCode"),
        ("POST", "/umse/v2/msgPush", 200, "retCode"),
        ("GET", "/admin/v1/apps", 401, "title"),
        ("POST", "/admin/v1/token", 404, "title"),
        ("GET", "/admin/v1/users/ann", 404, "title"),
        ("GET", "/graphql/x/users", 404, "title"),
        ("GET", "/healthz/x", 404, "title"),
        ("GET", "/connect/x/users", 404, "title"),
        ("POST", "/v2/message/client/push", 401, "request_id"),
        ("GET", "/v2/nothing", 404, "request_id"),
        ("POST", "/nothing", 404, "title"),
        ("GET", "/connect", 426, "retCode"),
    ] {
        let reply = raw.send(method, target, &[], b"{}").await;
        assert_eq!(reply.status, status, "{target}");
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert!(body.get(kind).is_some(), "{target}: {body}");
    }
    easemob.world.stop().await;
}

#[test]
fn the_page_lists_the_class_of_every_error() {
    let page = include_str!("../../docs/protocols/easemob-push.md");
    let (_, section) = page.split_once("### The two names of an error").expect("the section");
    let (section, _) = section.split_once("\n#").unwrap_or((section, ""));
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<(&str, &str)> = rows
        .map(|row| {
            let mut names = row.split('`').skip(1).step_by(2);
            (names.next().unwrap(), names.next().unwrap())
        })
        .collect();
    assert_eq!(listed, EXCEPTIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_ours_is_500_with_the_five_names_and_says_nothing_of_what_it_is() {
    let easemob = Easemob::with_clock().await;
    let mut backdoor = easemob.world.place.backdoor().await;
    backdoor.run("ALTER TABLE labels RENAME TO elsewhere").await;
    let answer = easemob.cloud.get("/push/label", None).await.unwrap();
    refused(&answer, 500, "web_application", "internal error");
    let expected = json!({
        "error": "web_application", "exception": "WebApplicationException",
        "timestamp": 1_700_000_000_000_i64, "duration": 0, "error_description": "internal error",
    });
    assert_eq!(answer.1, expected);
    backdoor.run("ALTER TABLE elsewhere RENAME TO labels").await;
    ok(easemob.cloud.get("/push/label", None).await.unwrap());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_503_while_the_queue_is_full_and_say_when_to_come_again() {
    let easemob = Easemob::new().await;
    let mut backdoor = easemob.world.place.backdoor().await;
    let begin = if easemob.world.place.on_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" };
    easemob.label("vip").await;
    backdoor.run(begin).await;
    backdoor.run("UPDATE head SET position = position").await;
    // Nothing is committed now, so whatever is sent waits, until one is turned away.
    let ledger = &easemob.world.running.server.ledger;
    let command = DeleteLabel { app: "demo".to_owned(), name: "vip".to_owned() };
    let send = || {
        let context = Context { app: "demo".to_owned(), ..Context::default() };
        ledger.execute(Lane::Interactive, context, command.clone())
    };
    let mut waiting = FuturesUnordered::new();
    loop {
        waiting.push(send());
        match futures_util::poll!(waiting.next()) {
            std::task::Poll::Pending => {}
            std::task::Poll::Ready(answer) => {
                assert!(matches!(answer, Some(Err(Refused::Overloaded))), "{answer:?}");
                break;
            }
        }
    }
    let push = json!({ "pushMessage": hello() });
    let answer = easemob.cloud.post("/push/async/ann", Some(&push)).await.unwrap();
    refused(&answer, 503, "service_unavailable", "too many commands are waiting");
    assert_eq!(answer.2["retry-after"], "1");
    backdoor.run("COMMIT").await;
    while waiting.next().await.is_some() {}
    drop(waiting);
    ok(easemob.cloud.post("/push/async/ann", Some(&push)).await.unwrap());
    easemob.world.stop().await;
}
