//! `docs/clients/device.py`, run by `python3`.

use std::{
    io,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_tungstenite::tungstenite::Message;

use crate::script::{APP_KEY, Server};

type Client = JoinHandle<io::Result<Output>>;

/// Starts it; what it prints is read all along, so that no full pipe stops it.
fn start(server: &Server, more: &[&str]) -> Client {
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/clients/device.py");
    let url = server.url();
    let options = ["--url", &url, "--app-id", "MB-DEMOX-0001", "--app-key", APP_KEY];
    let device = ["--client-id", "c-1", "--app-package", "com.acme.app"];
    let mut command = Command::new("python3");
    command.arg(client).args(options).args(device).args(more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    spawn_blocking(|| child.wait_with_output())
}

/// What it printed, each line read as JSON, and whether it succeeded.
async fn ended(client: Client) -> (Vec<Value>, bool) {
    let Output { status, stdout, stderr } = client.await.unwrap().unwrap();
    let lines = String::from_utf8(stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let errors = String::from_utf8(stderr).unwrap();
    assert!(!errors.contains("Traceback"), "{errors}");
    (lines, status.success())
}

fn printed(id: &str) -> Value {
    let payload = json!({"msgName": "门铃", "n": 1.0});
    json!({"t": "message", "id": id, "protocol": "ums", "payload": payload, "expiresAt": 9})
}

#[tokio::test]
async fn it_shows_each_message_once_and_reports_until_the_receipt_across_a_lost_connection() {
    let server = Server::start().await;
    let client = start(&server, &["--count", "2", "--report", "3", "--access-token", "t-1"]);
    let ack = |id: &str| json!({"t": "ack", "id": id});
    let report = |id: &str| json!({"t": "report", "id": id, "status": 3});

    let mut peer = server.accept().await;
    peer.check(str::to_lowercase);
    assert_eq!(peer.credentials["accesstoken"], "t-1");
    peer.message("1").await;
    peer.hears(&[ack("1"), report("1")]).await;
    drop(peer);

    let mut peer = server.accept().await;
    peer.hears(&[report("1")]).await;
    peer.message("1").await;
    peer.hears(&[ack("1"), report("1")]).await;
    peer.send(r#"{"t":"receipt","id":"1","status":3}"#).await;
    peer.message("2").await;
    peer.hears(&[ack("2"), report("2")]).await;
    peer.message("3").await;
    peer.send(r#"{"t":"receipt","id":"2","status":3}"#).await;
    peer.closed().await;
    assert_eq!(ended(client).await, (vec![printed("1"), printed("2")], true));
}

#[tokio::test]
async fn it_answers_pings_and_controls_and_reads_long_messages() {
    let server = Server::start().await;
    let client = start(&server, &["--count", "3"]);
    let mut peer = server.accept().await;
    peer.ping().await;
    assert!(matches!(peer.frame().await, Message::Pong(bytes) if bytes == "are you there"));
    let control = json!({"t": "control", "op": "recall", "id": "7"});
    peer.send(&control.to_string()).await;
    peer.hears(&[json!({"t": "ack", "id": "7", "op": "recall"})]).await;
    let mut expected = vec![control];
    for (id, length) in [("1", 0), ("2", 60_000), ("3", 70_000)] {
        let mut long = printed(id);
        long["payload"] = json!("x".repeat(length));
        peer.send(&long.to_string()).await;
        peer.hears(&[json!({"t": "ack", "id": id})]).await;
        expected.push(long);
    }
    peer.closed().await;
    assert_eq!(ended(client).await, (expected, true));
}

#[tokio::test]
async fn it_says_that_a_recall_of_what_it_displayed_is_too_late() {
    let server = Server::start().await;
    let client = start(&server, &["--count", "1", "--report", "4"]);
    let mut peer = server.accept().await;
    peer.message("1").await;
    let report = json!({"t": "report", "id": "1", "status": 4});
    peer.hears(&[json!({"t": "ack", "id": "1"}), report.clone()]).await;
    peer.send(r#"{"t":"control","op":"replace","id":"1"}"#).await;
    peer.hears(&[report]).await;
    peer.send(r#"{"t":"refused","id":"1","reason":"expired"}"#).await;
    peer.closed().await;
    assert!(ended(client).await.1);
}

#[tokio::test]
async fn it_tries_again_after_503_and_gives_up_when_it_is_refused_or_replaced() {
    let server = Server::start().await;
    let client = start(&server, &[]);
    server.answer("503 Service Unavailable", r#"{"retCode":"A00001"}"#).await;
    server.accept().await.close(1013, "too slow").await;
    server.answer("401 Unauthorized", r#"{"retCode":"D00001"}"#).await;
    assert_eq!(ended(client).await, (Vec::new(), false));

    let client = start(&server, &[]);
    server.accept().await.close(4001, "replaced").await;
    assert_eq!(ended(client).await, (Vec::new(), false));
}
