//! The fakes as another process sees them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use serde_json::{Value, json};
use sim::fakes::{Fakes, Options};
use tokio::net::TcpListener;

use crate::caller::{Sender, jpush, within};

#[tokio::test]
async fn faults_and_outages_are_set_and_counters_read_over_http() {
    let fakes = Arc::new(Fakes::start(Options::default()).await.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(Arc::clone(&fakes).serve_control(listener));
    let post = |path: &str, body: Value| Sender::new(format!("{url}{path}"), &[], &body);
    let get = |path: &str| {
        let mut sender = post(path, Value::Null);
        sender.method = reqwest::Method::GET;
        sender
    };
    let described = get("/").send().await.body;
    assert_eq!(described["jpush"]["url"], fakes.jpush.url());
    assert_eq!(described["fcm"]["credentials"]["type"], "service_account");
    let push = jpush(&fakes.jpush, &["t1"]);
    assert_eq!(post("/jpush/plan", json!([{"fault": "reset"}])).send().await.status, 204);
    assert!(push.try_send().await.is_err());
    let share = json!({"fault": "status", "status": 502, "per_mille": 1_000});
    assert_eq!(post("/jpush/plan", share).send().await.status, 204);
    assert_eq!(push.send().await.status, 502);
    assert_eq!(post("/jpush/plan", Value::Null).send().await.status, 204);
    assert_eq!(post("/jpush/outage", json!("unavailable")).send().await.status, 204);
    assert_eq!(push.send().await.status, 503);
    assert_eq!(post("/jpush/outage", json!("none")).send().await.status, 204);
    assert_eq!(push.send().await.status, 200);
    assert_eq!(get("/jpush/stats").send().await.body["tokens_accepted"], 2);
    assert_eq!(get("/jpush/accepted?token=t1").send().await.body, 2);
    assert_eq!(get("/jpush/requests").send().await.body[0]["path"], "/v3/push");
    assert_eq!(within(post("/nokia/plan", json!([])).send()).await.status, 404);
    assert_eq!(post("/jpush/plan", json!([{"fault": "flood"}])).send().await.status, 400);
}

/// Ends the program with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn the_program_tells_where_it_listens_and_fails_as_its_flags_say() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fake-vendors"));
    command.args(["--mode", "load", "--fault", r#"1000:{"fault":"quota"}"#]);
    let mut program = Program(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let described: Value = serde_json::from_str(&line).unwrap();
    let url = |vendor: &str| described[vendor]["url"].as_str().unwrap().to_owned();
    let path = format!("{}/v3/push", url("jpush"));
    let answer = Sender::new(path, &[], &json!({})).send().await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(1012)));
    let control = described["control"].as_str().unwrap();
    let mut stats = Sender::new(format!("{control}/jpush/stats"), &[], &Value::Null);
    stats.method = reqwest::Method::GET;
    assert_eq!(stats.send().await.body["faults"], 1);
}
