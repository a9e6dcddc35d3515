//! Signed UMS calls and admin calls.

use serde_json::{Value, json};
use sim::{Admin, Caller, Error, ums::sign};

use crate::script::{APP_KEY, Server};

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[tokio::test]
async fn a_ums_call_sends_its_body_as_it_is_with_a_sign_that_fits() {
    let server = Server::start().await;
    let caller = Caller::new(server.url(), "MB-DEMOX-0001", APP_KEY).with_client_id("c-1");
    let sent = "{ \"appPackage\":\t\"com.acme.app\" }\n";
    let answer = r#"{"retCode":"H32006","retInfo":"not registered","data":null}"#;
    let calling = caller.call("/ums/v2/unreg", sent);
    let (reply, (head, body)) = tokio::join!(calling, server.answer("200 OK", answer));
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.ret_code.as_str()), (200, "H32006"));
    assert_eq!((reply.ret_info.as_str(), reply.data), ("not registered", Value::Null));
    assert_eq!(reply.headers["x-request-id"], "r-1");

    assert!(head.starts_with("POST /ums/v2/unreg HTTP/1.1"), "{head}");
    assert_eq!(body, sent);
    let timestamp = header(&head, "timestamp").unwrap();
    let expected = sign("/ums/v2/unreg", sent.as_bytes(), "MB-DEMOX-0001", APP_KEY, timestamp);
    assert_eq!(header(&head, "sign"), Some(expected.as_str()));
    assert_eq!(header(&head, "clientId"), Some("c-1"));
    assert_eq!(header(&head, "accessToken"), None);
}

#[tokio::test]
async fn an_answer_outside_the_ums_envelope_is_an_error_with_its_body() {
    let server = Server::start().await;
    let caller = Caller::new(server.url(), "MB-DEMOX-0001", APP_KEY);
    let answering = server.answer("502 Bad Gateway", "<html>");
    let (reply, _) = tokio::join!(caller.call("/ums/v2/devlist", ""), answering);
    assert!(matches!(
        reply.unwrap_err(),
        Error::Unreadable { status: 502, body } if body == "<html>"
    ));
}

#[tokio::test]
async fn an_admin_call_sends_json_and_its_token_and_takes_an_empty_answer_as_null() {
    let server = Server::start().await;
    let admin = Admin::new(server.url(), "secret");
    let body = json!({"name": "Demo"});
    let calling = admin.patch("/admin/v1/apps/demo", Some(&body));
    let (answer, (head, sent)) = tokio::join!(calling, server.answer("204 No Content", ""));
    let (status, value, headers) = answer.unwrap();
    assert_eq!((status, value, headers["x-request-id"].as_str()), (204, Value::Null, "r-1"));
    assert!(head.starts_with("PATCH /admin/v1/apps/demo HTTP/1.1"), "{head}");
    assert_eq!(header(&head, "authorization"), Some("Bearer secret"));
    assert_eq!(sent, body.to_string());
}

#[tokio::test]
async fn an_admin_without_token_sends_none() {
    let server = Server::start().await;
    let admin = Admin::new(server.url(), "");
    let answering = server.answer("401 Unauthorized", "{}");
    let (answer, (head, _)) = tokio::join!(admin.get("/admin/v1/apps/demo", None), answering);
    assert_eq!(answer.unwrap().0, 401);
    assert_eq!(header(&head, "authorization"), None);
}
