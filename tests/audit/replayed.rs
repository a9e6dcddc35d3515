//! The history as it is printed: chosen events, and views as they were.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use pushledger::ledger::store::scratch_views;
use serde_json::Value;

use super::live;
use crate::{
    harness::{Place, World, dump},
    views::Bare,
};

fn replay(place: &Place, more: &[&str]) -> Command {
    let config = place.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    command.args(["replay", "--database", &config.database]).arg("--data").arg(&config.data);
    command.args(more);
    command
}

fn lines(place: &Place, more: &[&str]) -> Vec<Value> {
    let output = replay(place, more).output().unwrap();
    assert!(output.status.success(), "{more:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A row of `delivery_stats` as SQLite quotes it.
fn as_dumped(row: &Value) -> String {
    let columns = ["app", "bucket_at", "protocol", "kind", "way", "stage", "ended", "deliveries"];
    let quoted = columns.map(|column| row[column].to_string().replace('"', "'"));
    quoted.join(",")
}

/// A server that had its day and was stopped, and its events.
async fn stopped() -> (Place, Vec<domain::Recorded>) {
    let world = World::new().await;
    live(&world, 0..2).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let events = bare.events().await;
    bare.close().await;
    (place, events)
}

fn positions(lines: &[Value]) -> Vec<i64> {
    lines.iter().map(|line| line["position"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_chosen_by_range_app_type_and_time() {
    let (place, events) = stopped().await;
    let of = |wanted: &dyn Fn(&domain::Recorded) -> bool| -> Vec<i64> {
        events.iter().filter(|event| wanted(event)).map(|event| event.position).collect()
    };
    let chosen = |more: &[&str]| positions(&lines(&place, more));
    assert_eq!(chosen(&[]), of(&|_| true));
    assert_eq!(chosen(&["--from", "3", "--to", "7"]), [3, 4, 5, 6, 7]);
    assert_eq!(chosen(&["--app", "demo"]), of(&|event| event.app == "demo"));
    assert_eq!(chosen(&["--app", "other"]), Vec::<i64>::new());
    let devices = of(&|event| event.event.name().starts_with("device."));
    assert!(!devices.is_empty());
    assert_eq!(chosen(&["--type", "device.*"]), devices);
    let accepted = of(&|event| event.event.name() == "message.accepted");
    assert_eq!(chosen(&["--type", "message.accepted", "--type", "device."]), accepted);
    let at = events[events.len() / 2].recorded_at;
    let time = chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
    assert_eq!(chosen(&["--since", &time]), of(&|event| event.recorded_at >= at));
    assert_eq!(chosen(&["--until", &time]), of(&|event| event.recorded_at <= at));
    for wrong in [["--since", "yesterday"], ["--as-of", "-1"], ["--view", "devices"]] {
        assert!(!replay(&place, &wrong).output().unwrap().status.success(), "{wrong:?}");
    }
    // All of them narrow it down together.
    let first = devices[0].to_string();
    let narrow = ["--from", &first, "--until", &time, "--app", "demo", "--type", "device.*"];
    let expected = of(&|event| event.recorded_at <= at && devices.contains(&event.position));
    assert!(!expected.is_empty());
    assert_eq!(chosen(&narrow), expected);
    assert_eq!(chosen(&["--from", &first, "--app", "other"]), Vec::<i64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_printed_from_its_first_event_and_without_what_is_private_if_so_asked() {
    let (place, events) = stopped().await;
    let accepted = events.iter().find(|event| event.event.name() == "message.accepted").unwrap();
    let stream = accepted.stream.to_string();
    let of_stream = events.iter().filter(|event| event.stream == accepted.stream);
    let expected: Vec<i64> = of_stream.map(|event| event.position).collect();
    assert!(expected.len() >= 3, "{expected:?}");
    let told = lines(&place, &["--stream", &stream]);
    assert_eq!(positions(&told), expected);
    let versions: Vec<i64> = told.iter().map(|line| line["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, (1..=expected.len() as i64).collect::<Vec<_>>());
    assert!(told[0]["private"].to_string().contains("payload-0"), "{}", told[0]);
    let advanced = ["--stream", &stream, "--type", "deliveries.*"];
    assert!((1..expected.len()).contains(&lines(&place, &advanced).len()));
    let hidden = lines(&place, &["--stream", &stream, "--without-private"]);
    assert_eq!(positions(&hidden), expected);
    assert!(hidden.iter().all(|line| line.get("private").is_none()), "{hidden:?}");
    assert_eq!(hidden[0]["body"], told[0]["body"]);
    // There may be no such stream; and a stream is no range.
    assert_eq!(lines(&place, &["--stream", "message/1"]), Vec::<Value>::new());
    for wrong in [["--from", "2"], ["--until", "2026-01-01T00:00:00Z"]] {
        let more = ["--stream", &stream, wrong[0], wrong[1]];
        assert!(!replay(&place, &more).output().unwrap().status.success(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_is_printed_as_it_happens() {
    let world = World::new().await;
    let mut following = replay(&world.place, &["--follow", "--type", "device.registered"]);
    let mut child = following.stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
    for client in ["c-1", "c-2"] {
        world.register(client).await;
        let line: Value = serde_json::from_str(&printed.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["private"]["client_id"], client, "{line}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_as_of_a_position_or_time_is_what_it_was_then() {
    let world = World::new().await;
    world.register("c-1").await;
    let one = world.head().await;
    world.register("c-2").await;
    let id = world.push("c-2", serde_json::json!({})).await;
    let pushed = world.head().await;
    live(&world, 0..1).await;
    let place = world.stop().await;
    let clients = |as_of: &str| -> Vec<String> {
        let devices = lines(&place, &["--as-of", as_of, "--view", "devices"]);
        devices.iter().map(|device| device["clientId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(clients("0"), Vec::<String>::new());
    assert_eq!(clients(&one.to_string()), ["c-1"]);
    assert_eq!(clients(&pushed.to_string()), ["c-1", "c-2"]);
    let bare = Bare::open(&place).await;
    let events = bare.events().await;
    bare.close().await;
    let at = events[usize::try_from(one).unwrap() - 1].recorded_at;
    let time = chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
    assert!(clients(&time).contains(&"c-1".to_owned()));
    assert_eq!(clients("1970-01-01T00:00:00Z"), Vec::<String>::new());
    let messages = lines(&place, &["--as-of", &pushed.to_string(), "--view", "messages"]);
    let known: Vec<i64> = messages
        .iter()
        .filter(|line| line["table"] == "messages")
        .map(|line| line["row"]["message"].as_i64().unwrap())
        .collect();
    assert_eq!(known, [id.parse::<i64>().unwrap()]);
    let pending = lines(&place, &["--as-of", &pushed.to_string(), "--view", "pending"]);
    assert_eq!(pending.len(), 1, "{pending:?}");
    let statistics = lines(&place, &["--as-of", &pushed.to_string(), "--view", "statistics"]);
    let sum: i64 = statistics.iter().filter_map(|line| line["row"]["deliveries"].as_i64()).sum();
    assert_eq!(sum, 1, "{statistics:?}");
    // At every position what a fold up to it says, though nothing is folded.
    let bare = Bare::open(&place).await;
    for at in [one, pushed, pushed + 3, bare.ledger.head()] {
        let scratch = scratch_views().await.unwrap();
        let mut tx = scratch.begin().await.unwrap();
        projections::apply(&mut tx.conn(), &events[..usize::try_from(at).unwrap()]).await.unwrap();
        tx.commit().await.unwrap();
        let expected = dump(&scratch, "delivery_stats").await;
        let told = lines(&place, &["--as-of", &at.to_string(), "--view", "statistics"]);
        let told = told.iter().filter(|line| line["table"] == "delivery_stats");
        let mut told: Vec<String> = told.map(|line| as_dumped(&line["row"])).collect();
        told.sort_unstable();
        assert_eq!(told, expected, "{at}");
        scratch.close().await;
    }
    bare.close().await;
    for view in ["tasks", "callbacks"] {
        assert_eq!(lines(&place, &["--as-of", "1", "--view", view]), Vec::<Value>::new());
    }
    // A time is as of the last event by then, of whichever view.
    for event in [&events[usize::try_from(pushed).unwrap() - 1], &events[events.len() - 3]] {
        let at = event.recorded_at;
        let last = events.partition_point(|event| event.recorded_at <= at).to_string();
        let time = chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
        for view in ["devices", "messages", "pending", "tasks", "statistics", "callbacks"] {
            let told = lines(&place, &["--as-of", &time, "--view", view]);
            assert_eq!(told, lines(&place, &["--as-of", &last, "--view", view]), "{view}");
            assert_eq!(told.is_empty(), ["tasks", "callbacks"].contains(&view), "{view}");
        }
    }
    let beyond = replay(&place, &["--as-of", "1000000", "--view", "devices"]).output().unwrap();
    assert!(!beyond.status.success());
}
