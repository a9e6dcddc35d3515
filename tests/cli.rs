//! The command line as the README uses it, beside a running server and on its database.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{Place, Process, until};

/// A push that a terminal makes, whose text is more than ASCII.
const BODY: &str = r#"{"dst":{"type":0,"Id":["c-1"]},"message":{"msgName":"门铃"}}"#;
const KEY: &str = "00112233445566778899aabbccddeeff";

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    command.args(args).env_remove("PUSHLEDGER_APP_KEY");
    command
}

/// Runs a command on the database of a place.
fn run(place: &Place, args: &[&str]) -> Output {
    let config = place.config();
    let mut command = command(args);
    command.arg("--data").arg(&config.data).args(["--database", &config.database]);
    command.output().unwrap()
}

/// What a command prints, which has to succeed and to complain of nothing.
fn printed(output: Output) -> String {
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// The lines that a command prints, each of which is JSON.
fn lines(place: &Place, args: &[&str]) -> Vec<Value> {
    let text = printed(run(place, args));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The complaint of a command that fails.
fn complaint(place: &Place, args: &[&str]) -> String {
    let output = run(place, args);
    assert!(!output.status.success(), "{args:?} succeeded");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Makes a UMS call with the headers that `sign` prints, as the README's `ums` does.
async fn ums(server: &Process, token: &str, path: &str, key: (&str, &str), body: &Value) -> Value {
    let body = body.to_string();
    let sign = ["sign", path, "--app-id", key.0, "--key", key.1, "--body", &body];
    let headers = printed(command(&sign).output().unwrap());
    let url = format!("{}{path}", server.url());
    let mut request = reqwest::Client::new().post(url).header("clientId", "c-1");
    for line in headers.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let answer = request.header("accessToken", token).body(body).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_ones_own_is_made_called_read_and_deleted_as_the_readme_does() {
    let place = Place::new().await;
    let server = Process::start(&place).await;
    let shop = &lines(&place, &["app", "create", "shop", "--name", "Shop"])[0];
    let key = |name: &str| shop["ums"][name].as_str().unwrap();
    let (terminal, cloud) = ((key("appId"), key("appKey")), (key("systemId"), key("systemKey")));
    let token = lines(&place, &["token", "access", "shop", "ann", "c-1", "--ttl", "60"]);
    let token = token[0]["accessToken"].as_str().unwrap();

    let register = json!({ "clientId": "c-1", "userId": "ann", "pushId": "p-1", "deviceType": "01",
                           "collab3th": 0, "appPackage": "com.example.shop" });
    let answer = ums(&server, token, "/ums/v2/register", terminal, &register).await;
    assert_eq!(answer, json!({ "retCode": "00000", "retInfo": "success", "data": null }));
    let push = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": { "n": "zq-payload" } });
    let answer = ums(&server, token, "/umse/v2/msgPush", cloud, &push).await;
    assert_eq!(answer["retCode"], "00000", "{answer}");
    let id = answer["data"]["msgId"].as_str().unwrap();
    let ask = json!({ "msgId": id });
    let answer = ums(&server, token, "/umse/v2/getmsgstat", cloud, &ask).await;
    assert_eq!((&answer["retCode"], &answer["data"]["status"]), (&json!("00000"), &json!(0)));

    // The history of the message and of nothing else; with or without what is private.
    let stream = format!("message/{id}");
    let report = json!({ "appPackage": "com.example.shop", "msgId": id, "status": 3 });
    let answer = ums(&server, token, "/ums/v2/report", terminal, &report).await;
    assert_eq!(answer["retCode"], "00000", "{answer}");
    let all = lines(&place, &["replay"]);
    let own: Vec<&Value> = all.iter().filter(|event| event["stream"] == stream).collect();
    let names: Vec<&Value> = own.iter().map(|event| &event["type"]).collect();
    assert_eq!(names, ["message.accepted", "deliveries.advanced"]);
    let told = lines(&place, &["replay", "--stream", &stream]);
    assert_eq!(told.iter().collect::<Vec<_>>(), own);
    assert!(told[0]["private"].to_string().contains("zq-payload"), "{told:?}");
    let told = lines(&place, &["replay", "--stream", &stream, "--without-private"]);
    assert_eq!(told.len(), own.len());
    assert!(told.iter().all(|event| event.get("private").is_none()), "{told:?}");
    let everything = lines(&place, &["replay", "--without-private"]);
    assert_eq!(everything.len(), all.len());
    let text = format!("{everything:?}");
    assert!(!text.contains("zq-payload") && !text.contains("\"ann\""), "{text}");
    assert!(lines(&place, &["replay", "--stream", "message/1"]).is_empty());

    let apps = lines(&place, &["app", "list"]);
    let shown = |app: &Value| (app["appId"].clone(), app["name"].clone());
    let shown: Vec<_> = apps.iter().map(shown).collect();
    assert_eq!(shown, [(json!("shop"), json!("Shop"))]);
    assert!(!format!("{apps:?}").contains(terminal.1), "the list tells a key");
    assert!(printed(run(&place, &["app", "delete", "shop"])).is_empty());
    assert!(lines(&place, &["app", "list"]).is_empty());
    until("the app of a deleted app is still known", async || {
        ums(&server, token, "/umse/v2/getmsgstat", cloud, &ask).await["retCode"] == "C00001"
    })
    .await;
    assert!(server.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_an_operator_opens_what_its_role_and_app_may() {
    let place = Place::new().await;
    let server = Process::start(&place).await;
    lines(&place, &["app", "create", "shop"]);
    lines(&place, &["app", "create", "other"]);
    let operator = |more: &[&str]| {
        let args = [&["token", "operator", "Ann"], more].concat();
        let told = lines(&place, &args);
        sim::Admin::new(server.url(), told[0]["token"].as_str().unwrap())
    };
    let bound = operator(&["--role", "admin", "--app", "shop"]);
    // The running server looks again for an app that it does not know.
    assert_eq!(bound.get("/admin/v1/apps/shop", None).await.unwrap().0, 200);
    let (status, apps, _) = bound.get("/admin/v1/apps", None).await.unwrap();
    assert_eq!((status, apps.as_array().unwrap().len()), (200, 1), "{apps}");
    assert_eq!(bound.get("/admin/v1/apps/other", None).await.unwrap().0, 404);
    let analyst = operator(&["--role", "analyst"]);
    assert_eq!(analyst.get("/admin/v1/apps", None).await.unwrap().0, 403);
    let query = json!({ "query": "{ apps { appId } }" });
    let (status, answer, _) = analyst.post("/graphql", Some(&query)).await.unwrap();
    assert_eq!((status, answer["data"]["apps"].as_array().unwrap().len()), (200, 2), "{answer}");
    assert!(server.terminate().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_an_app_that_nobody_made_fails_and_says_which() {
    let place = Place::new().await;
    for args in [
        &["token", "access", "nowhere", "ann", "c-1"][..],
        &["token", "operator", "Ann", "--role", "admin", "--app", "nowhere"],
        &["app", "delete", "nowhere"],
    ] {
        let said = complaint(&place, args);
        assert!(said.starts_with("pushledger: ") && said.lines().count() == 1, "{args:?}: {said}");
    }
    assert!(complaint(&place, &["token", "access", "nowhere", "a", "c"]).contains("nowhere"));
    assert!(complaint(&place, &["app", "create", "A B"]).contains("appId"));
    lines(&place, &["app", "create", "shop"]);
    complaint(&place, &["app", "create", "shop"]);
    assert_eq!(lines(&place, &["replay"]).len(), 1);
}

#[test]
fn sign_prints_the_headers_of_the_documented_vectors() {
    let folder = tempfile::tempdir().unwrap();
    let report = r#"{"appPackage":"com.acme.app","msgId":"m1","status":2}"#;
    for (path, body, sign) in [
        ("/ums/v2/devlist", "", "d7bf7d7408ba7cf10ffa1306c577028b9174f0d27b6b841e1c424ce262d56055"),
        (
            "/ums/v2/report",
            report,
            "c1b9765832508da7e63c457a2c20ffc743aac112e9b58991ccd34212d0b59b3e",
        ),
        (
            "/ums/v2/msgPush",
            BODY,
            "d59726b8ab708654a0663f3a38491d72b32aea4e9436349930681561087a525f",
        ),
    ] {
        let expected = format!("appId: MB-DEMOX-0001\ntimestamp: 1700000000000\nsign: {sign}\n");
        let named = ["sign", path, "--app-id", "MB-DEMOX-0001", "--timestamp", "1700000000000"];
        let mut inline = command(&named);
        inline.args(["--key", KEY, "--body", body]);
        assert_eq!(printed(inline.output().unwrap()), expected);

        let file = folder.path().join("body.json");
        std::fs::write(&file, body).unwrap();
        let mut from_file = command(&named);
        from_file.env("PUSHLEDGER_APP_KEY", KEY).arg("--body-file").arg(&file);
        assert_eq!(printed(from_file.output().unwrap()), expected);
    }
    let mut keyless = command(&["sign", "/ums/v2/devlist", "--app-id", "MB-DEMOX-0001"]);
    assert!(!keyless.output().unwrap().status.success());
}
