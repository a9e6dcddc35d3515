//! The fakes as another process sees them.

use std::sync::Arc;

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
