//! Every parameter of every call: there, of its type, in its range, not too long. What the list of
//! a call has no code for is answered with the stand-in B00004, which all lists have.

use pushledger::http::ums::codes::{Code, Interface};
use serde_json::{Value, json};

use super::{CLOUD_PUSH, CLOUD_STATUS, REGISTER, Ready, call, devices_of};
use crate::harness::{PACKAGE, World, message};

/// What a parameter is.
#[derive(Clone, Copy)]
enum Kind {
    /// A text of at most so many characters.
    Text(usize),
    Number,
    Flag,
    Texts,
    Object,
    Message,
}

/// The parameters of a call, each with whether it is required.
fn parameters(interface: Interface) -> Vec<(&'static str, Kind, bool)> {
    let name = Kind::Text(100);
    match interface {
        Interface::Register => vec![
            ("clientId", name, true),
            ("pushId", name, true),
            ("deviceType", name, true),
            ("collab3th", Kind::Number, true),
            ("userId", name, false),
            ("userName", name, false),
            ("deviceId", name, false),
            ("deviceName", name, false),
            ("typeId", Kind::Text(64), false),
            ("appPackage", name, false),
        ],
        Interface::Unregister => vec![("appPackage", name, true)],
        Interface::Devices => vec![],
        Interface::Push | Interface::PushTry | Interface::CloudPush | Interface::CloudPushTry => {
            vec![
                ("dst", Kind::Object, true),
                ("dst.type", Kind::Number, true),
                ("dst.Id", Kind::Texts, true),
                ("message", Kind::Message, false),
                ("expires", Kind::Number, false),
                ("isBurn", Kind::Flag, false),
            ]
        }
        Interface::Status | Interface::CloudStatus => vec![("msgId", name, true)],
        Interface::Report => {
            vec![("appPackage", name, true), ("msgId", name, true), ("status", Kind::Number, true)]
        }
        Interface::PushToHost => vec![
            ("deviceId", name, true),
            ("encryptedData", Kind::Text(1_024), true),
            ("message", Kind::Message, true),
        ],
        Interface::CloudDevices => vec![("userid", name, true)],
    }
}

/// A call with a body that it takes, and what it is made of.
struct Case {
    interface: Interface,
    body: Value,
    parameters: Vec<(&'static str, Kind, bool)>,
}

/// Each call as [`Ready`] words it; then pushes of the types that name more, and the status by its
/// other name.
async fn cases(ready: &Ready, interface: Interface) -> Vec<Case> {
    let body = ready.body(interface).await;
    let case = |body| Case { interface, body, parameters: parameters(interface) };
    let mut cases = vec![case(body.clone())];
    let cloud = interface.of_cloud();
    if body["dst"].is_object() {
        for (name, types) in [("dst.devType", json!(["01"])), ("dst.appType", json!([PACKAGE]))] {
            let field = name.strip_prefix("dst.").unwrap();
            let number = if field == "devType" { 2 } else { 3 };
            let mut body = body.clone();
            body["dst"] = json!({ "type": number, "Id": ["ann"], field: types });
            let mut case = case(body);
            case.parameters.push((name, Kind::Texts, true));
            // A terminal's user is the token's: whom it names is not looked at.
            case.parameters.retain(|(name, ..)| cloud || *name != "dst.Id");
            cases.push(case);
        }
    }
    if matches!(interface, Interface::Status | Interface::CloudStatus) {
        let mut case = case(json!({ "megId": body["msgId"] }));
        case.parameters[0].0 = "megId";
        cases.push(case);
    }
    cases
}

/// Values that a parameter cannot have, as JSON text, with the code that says so best.
fn wrong_values(kind: Kind) -> Vec<(String, Code)> {
    let of = |code: Code, values: &[&str]| {
        values.iter().map(|value| ((*value).to_owned(), code)).collect::<Vec<_>>()
    };
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    let no_text =
        ["true", "1", "1.5", "[]", "{}", r#"["a"]"#, r#""\ud800""#, r#""\udc00\ud800""#, &deep];
    let long = |characters: usize| format!("\"{}\"", "门".repeat(characters));
    match kind {
        Kind::Text(most) => [
            of(Code::WrongType, &no_text),
            of(Code::WrongLength, &[&long(most + 1), &long(20_000)]),
            of(Code::Rule, &[r#""a\u0000b""#, r#""\u0000""#]),
        ]
        .concat(),
        Kind::Number => [
            of(Code::WrongType, &["true", "1.5", "1.0", "1e0", "1e400", "[]", "{}", r#""1""#]),
            of(Code::OutOfRange, &["99999999999999999999", "-99999999999999999999"]),
        ]
        .concat(),
        Kind::Flag => of(Code::WrongType, &["0", "1", r#""true""#, "[]", "{}"]),
        Kind::Texts => [
            of(Code::Missing, &["[]", r#"[""]"#, r#"["c-1",""]"#]),
            of(Code::WrongType, &[r#""c-1""#, "1", "{}", "[1]", "[null]", r#"[["c-1"]]"#, &deep]),
            of(Code::WrongType, &[r#"["\ud800"]"#]),
            of(Code::WrongLength, &[&format!("[{}]", long(101))]),
            of(Code::WrongLength, &[&json!(vec!["c-1"; 201]).to_string()]),
            of(Code::Rule, &[r#"["c-1","a\u0000b"]"#]),
        ]
        .concat(),
        Kind::Object => [
            of(Code::WrongType, &["true", "1", r#""c-1""#, r#"["c-1"]"#, &deep]),
            of(Code::Missing, &["{}"]),
        ]
        .concat(),
        Kind::Message => [
            of(Code::WrongType, &["true", "1", r#""text""#, "[{}]"]),
            of(Code::WrongLength, &[&format!(r#"{{"a":{}}}"#, long(30_000))]),
        ]
        .concat(),
    }
}

/// The body with one parameter replaced; absent for `None`.
fn replaced(body: &Value, name: &str, value: Option<&str>) -> String {
    let mut body = body.clone();
    let (inside, name) = match name.split_once('.') {
        Some((outer, inner)) => (&mut body[outer], inner),
        None => (&mut body, name),
    };
    let inside = inside.as_object_mut().unwrap();
    match value {
        Some(value) => {
            inside.insert(name.to_owned(), json!("@"));
            body.to_string().replacen(r#""@""#, value, 1)
        }
        None => {
            inside.remove(name);
            body.to_string()
        }
    }
}

fn listed(interface: Interface, exact: Code) -> &'static str {
    if interface.listed().contains(&exact) { exact.code() } else { "B00004" }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_is_judged_by_presence_type_range_and_length() {
    let ready = Ready::new().await;
    for interface in Interface::ALL {
        for Case { interface, body, parameters } in cases(&ready, interface).await {
            let head = ready.world.head().await;
            for (name, kind, required) in parameters {
                let mut values = wrong_values(kind);
                if required {
                    values.push(("null".to_owned(), Code::Missing));
                    if let Kind::Text(_) = kind {
                        values.push((r#""""#.to_owned(), Code::Missing));
                    }
                }
                let absent = required.then_some((None, Code::Missing));
                let values = values.iter().map(|(value, code)| (Some(value.as_str()), *code));
                for (value, exact) in values.chain(absent) {
                    let text = replaced(&body, name, value);
                    let reply = call(ready.caller(interface), interface.path(), &text).await;
                    let shown: String = value.unwrap_or("absent").chars().take(40).collect();
                    assert_eq!(
                        reply.ret_code,
                        listed(interface, exact),
                        "{interface:?} {name}: {shown} in {body}"
                    );
                    assert_eq!(reply.data, Value::Null);
                }
            }
            assert_eq!(ready.world.head().await, head, "{interface:?} stored something");
            // It was nothing else that was wrong.
            let reply = call(ready.caller(interface), interface.path(), &body.to_string()).await;
            assert_eq!(reply.ret_code, "00000", "{interface:?} {body}");
        }
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_required_may_be_absent_or_null() {
    let ready = Ready::new().await;
    for interface in Interface::ALL {
        for (name, kind, required) in parameters(interface) {
            if required {
                continue;
            }
            let empty = matches!(kind, Kind::Text(_)).then_some(Some(r#""""#));
            for value in [None, Some("null")].into_iter().chain(empty) {
                let text = replaced(&ready.body(interface).await, name, value);
                let reply = call(ready.caller(interface), interface.path(), &text).await;
                assert_eq!(reply.ret_code, "00000", "{interface:?} {name}: {value:?}");
            }
        }
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_texts_are_taken_and_counted_in_characters() {
    let ready = Ready::new().await;
    let mut body = ready.body(Interface::Register).await;
    for (name, most) in
        [("pushId", 100), ("userName", 100), ("deviceId", 100), ("deviceName", 100), ("typeId", 64)]
    {
        body[name] = json!("🔔".repeat(most));
    }
    let ann = ready.caller(Interface::Register);
    assert_eq!(call(ann, REGISTER, &body.to_string()).await.ret_code, "00000");
    let device = &devices_of(&ready.world, "ann").await[0];
    for name in ["pushId", "userName", "deviceId", "deviceName", "typeId"] {
        assert_eq!(device[name], body[name], "{name}");
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_json_breaks_a_rule_of_every_call() {
    let ready = Ready::new().await;
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let deep_object = r#"{"a":"#.repeat(40_000) + "1" + &"}".repeat(39_999);
    let unclosed = "[".repeat(100_000);
    for interface in Interface::ALL {
        let head = ready.world.head().await;
        for body in [
            "{",
            "}",
            "[]",
            "nul",
            "tru",
            "12",
            r#""text""#,
            "{} {}",
            "{,}",
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            "{a:1}",
            r#"{'a':1}"#,
            r#"{"a":01}"#,
            r#"{"a":+1}"#,
            r#"{"a":.5}"#,
            r#"{"a":NaN}"#,
            r#"{"a":"\x41"}"#,
            r#"{"a":"\u12"}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"\ud800":1}"#,
            "\u{feff}{}",
            "{}//",
            "{}\0",
            &deep,
            &deep_object,
            &unclosed,
        ] {
            let reply = call(ready.caller(interface), interface.path(), body).await;
            let shown: String = body.chars().take(40).collect();
            assert_eq!(reply.ret_code, "B00004", "{interface:?} {shown}");
        }
        // Only a terminal's devlist has no parameters.
        if interface != Interface::Devices {
            for body in ["", r#""""#, "null"] {
                let reply = call(ready.caller(interface), interface.path(), body).await;
                assert_eq!(reply.ret_code, "B00004", "{interface:?} {body}");
            }
        }
        assert_eq!(ready.world.head().await, head, "{interface:?} stored something");
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_the_document_does_not_know_are_ignored() {
    let ready = Ready::new().await;
    for interface in Interface::ALL {
        let mut body = ready.body(interface).await;
        body["priority"] = json!({ "any": [1, null, "\u{0}"] });
        if body["dst"].is_object() {
            body["dst"]["extra"] = json!("x");
        }
        let reply = call(ready.caller(interface), interface.path(), &body.to_string()).await;
        assert_eq!(reply.ret_code, "00000", "{interface:?}");
    }
    ready.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_fields_of_one_name_the_last_counts() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let body = r#"{"dst":{"type":9},"message":{"n":1},"dst":{"type":7,"Id":["x"],
        "type":0,"Id":["c-1"]},"message":{"n":2}}"#;
    let reply = call(&world.cloud(), CLOUD_PUSH, body).await;
    assert_eq!(reply.ret_code, "00000");
    assert_eq!(message(&mut device).await.1, json!({ "n": 2 }));
    let id = reply.data["msgId"].as_str().unwrap();
    let body = format!(r#"{{"msgId":"1","msgId":"{id}"}}"#);
    assert_eq!(call(&world.cloud(), CLOUD_STATUS, &body).await.data["mesgId"], json!(id));
    world.stop().await;
}
