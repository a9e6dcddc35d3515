//! The reference client, `docs/clients/device.py`, as its own users run it.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::share;
use crate::harness::{PACKAGE, UMS_APP, UMS_KEY, World};

/// Runs it until it ends.
async fn run(world: &World, more: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/clients/device.py"));
    command.args(["--url", &world.url, "--app-id", UMS_APP, "--app-key", UMS_KEY]);
    command.args(["--app-package", PACKAGE]).args(more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_a_message_and_its_report_counts() {
    let world = World::new().await;
    world.register("c-1").await;
    let payload = json!({ "msgName": "门铃", "n": 1 });
    let id = world.push("c-1", payload.clone()).await;
    let output = run(&world, &["--client-id", "c-1", "--count", "1", "--report", "3"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(printed.len(), 1, "{lines}");
    assert_eq!((&printed[0]["id"], &printed[0]["payload"]), (&json!(id), &payload));
    assert_eq!(printed[0]["protocol"], "ums");
    assert_eq!(world.status(&id).await["status"], 3);
    assert_eq!(share(&world, &id, "c-1").await["stage"], "displayed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_connects_as_a_user_and_gives_up_when_it_is_refused() {
    let world = World::new().await;
    let alice = world.register_of("alice", "c-1", json!({})).await;
    let id = world.push("c-1", json!({})).await;
    let token = alice.access_token.unwrap();
    let arguments = ["--client-id", "c-1", "--count", "1", "--access-token", &token];
    let output = run(&world, &arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.until_status(&id, 2).await;
    let output = run(&world, &["--client-id", "c-1", "--access-token", "of nobody"]).await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("D00003"));
    world.stop().await;
}
