//! Measures callbacks: receivers on loopback, one webhook each, uplinks straight through the ledger.
//! First how many callbacks a second well-behaved receivers get; then, at a given rate, how long
//! each waits from its event to its call: while all are alive, while one never answers, and while one
//! refuses connections. The dead one has a tenth of all to get, for longer than its calls and its
//! circuit take.
//!
//! `cargo run --release --example callbacks -- [UPLINKS] [RECEIVERS] [RATE] [DATABASE] [SECONDS]`; the
//! database must be empty.
#![expect(clippy::print_stdout, reason = "the result")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    Metadata,
    message::RawJson,
    uplink::{AcceptUplink, Source, UplinkPrivate, UplinkReceived},
};
use futures_util::{StreamExt, stream};
use pushledger::{
    app::{Running, Server},
    clock::Clock,
    config::Config,
    ledger::{Context, Lane},
};
use serde_json::{Value, json, value::to_raw_value};
use sim::{
    Admin,
    receiver::{Answer, Receiver},
};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const TOKEN: &str = "load-admin-token";
/// Uplinks under way.
const CONCURRENT: usize = 512;
/// Seconds over which latencies are measured, unless it is said.
const SPAN_SECONDS: u64 = 60;
/// One of so many uplinks is for the receiver that is dead.
const DEAD_PART: usize = 10;

/// How the first receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Alive,
    Silent,
    Refusing,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let uplinks: usize = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let receivers: usize = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let rate: u64 = arguments.next().map_or(Ok(2_000), |text| text.parse())?;
    let data = std::env::temp_dir().join(format!("callbacks-{}", std::process::id()));
    let database = arguments.next().unwrap_or_else(|| format!("sqlite:{}", data.display()));
    let span: u64 = arguments.next().map_or(Ok(SPAN_SECONDS), |text| text.parse())?;
    let config = Config {
        data: data.clone(),
        database,
        listen: "127.0.0.1:0".to_owned(),
        master_key: None,
        admin_token: Some(TOKEN.to_owned()),
        callback_allow: vec!["127.0.0.1/32".parse()?],
        trusted_proxies: Vec::new(),
        witness: None,
        access_days: pushledger::config::ACCESS_DAYS,
        chunk_devices: pushledger::config::CHUNK_DEVICES,
        query_run: pushledger::config::QUERY_RUN,
        vendor_call: pushledger::config::VENDOR_CALL,
        follow_beat: pushledger::config::FOLLOW_BEAT,
    };
    let running = Running::start(&config, Clock::System).await?;
    let server = Arc::clone(&running.server);
    let admin = Admin::new(format!("http://{}", running.address), TOKEN);
    // Receivers are apps of their own on one listener, so that each URL has its own queue.
    let fast = Receiver::counting().await?;
    for number in 0..receivers {
        create(&admin, number, &fast.url(&format!("/{number}"))).await?;
    }
    throughput(&server, &fast, uplinks, receivers).await?;
    drop(fast);

    for first in [First::Alive, First::Silent, First::Refusing] {
        let clock = server.clock.clone();
        let timed = Receiver::start(move || clock.now()).await?;
        let silent = Receiver::counting().await?;
        silent.answer(Answer::Silence);
        // Nobody listens where this one was.
        let gone = Receiver::counting().await?.url("/");
        for number in 0..receivers {
            let url = match (first, number) {
                (First::Silent, 0) => silent.url("/"),
                (First::Refusing, 0) => gone.clone(),
                _ => timed.url(&format!("/{number}")),
            };
            call_at(&admin, number, &url).await?;
        }
        latency(&server, &timed, (rate, Duration::from_secs(span)), receivers, first).await?;
    }
    drop(server);
    running.shutdown().await;
    // The directory is a database's own affair if one was named.
    let _ = std::fs::remove_dir_all(&data);
    Ok(())
}

async fn create(admin: &Admin, number: usize, url: &str) -> Result<(), Failure> {
    let app = json!({ "appId": format!("load-{number}") });
    let (status, body, _) = admin.post("/admin/v1/apps", Some(&app)).await?;
    if status != 201 {
        return Err(format!("{status} {body}").into());
    }
    call_at(admin, number, url).await
}

/// Has an app call that URL, and no other.
async fn call_at(admin: &Admin, number: usize, url: &str) -> Result<(), Failure> {
    let path = format!("/admin/v1/apps/load-{number}/webhooks");
    let (_, list, _) = admin.get(&path, None).await?;
    for webhook in list.as_array().into_iter().flatten() {
        let id = webhook["id"].as_str().unwrap_or_default();
        admin.delete(&format!("{path}/{id}"), None).await?;
    }
    let webhook = json!({ "url": url, "events": ["uplink.received"] });
    let (status, body, _) = admin.post(&path, Some(&webhook)).await?;
    if status == 201 { Ok(()) } else { Err(format!("{status} {body}").into()) }
}

async fn uplink(server: Arc<Server>, app: usize, number: usize) -> Result<(), Failure> {
    let private = UplinkPrivate {
        id: None,
        from: format!("185{:08}", number % 10_000),
        content: RawJson(to_raw_value("TD")?),
        extend_code: None,
        user_id: None,
    };
    let written_at = server.clock.now();
    let uplink = UplinkReceived { source: Source::Sms, written_at, private: Some(private) };
    let context = Context { app: format!("load-{app}"), metadata: Metadata::default() };
    let command = AcceptUplink { uplink, new_uplink: Uuid::now_v7() };
    server.ledger.execute(Lane::Bulk, context, command).await?;
    Ok(())
}

async fn throughput(
    server: &Arc<Server>,
    receiver: &Receiver,
    uplinks: usize,
    receivers: usize,
) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut all = stream::iter(0..uplinks)
        .map(|number| uplink(Arc::clone(server), number % receivers, number))
        .buffer_unordered(CONCURRENT);
    while let Some(done) = all.next().await {
        done?;
    }
    let accepted = begin.elapsed().as_secs_f64();
    receiver.after(uplinks, Duration::from_secs(600)).await.ok_or("the calls never came")?;
    let seconds = begin.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts of a load run")]
    let per_second = uplinks as f64 / seconds;
    println!(
        "{uplinks} callbacks to {receivers} receivers in {seconds:.1} s: {per_second:.0}/s \
         (accepted within {accepted:.1} s)"
    );
    Ok(())
}

async fn latency(
    server: &Arc<Server>,
    receiver: &Receiver,
    (rate, span): (u64, Duration),
    receivers: usize,
    first: First,
) -> Result<(), Failure> {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)));
    let (begin, mut number, mut expected) = (Instant::now(), 0, 0);
    let mut under_way = tokio::task::JoinSet::new();
    while begin.elapsed() < span {
        tick.tick().await;
        let others = receivers.saturating_sub(1).max(1);
        let app = if number % DEAD_PART == 0 { 0 } else { 1 + number % others };
        expected += usize::from(first == First::Alive || app != 0);
        under_way.spawn(uplink(Arc::clone(server), app, number));
        number += 1;
        while under_way.try_join_next().transpose()?.transpose()?.is_some() {}
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    receiver.after(expected, Duration::from_secs(60)).await.ok_or("the calls never came")?;
    let what = match first {
        First::Alive => "all alive",
        First::Silent => "one of them silent",
        First::Refusing => "one of them refusing connections",
    };
    println!("{rate}/s to {receivers} receivers, {what}:");
    let calls = receiver.calls();
    let since = |from: &dyn Fn(&Value) -> Option<i64>| {
        let waits = calls.iter().filter_map(|call| Some(call.at - from(&call.json())?));
        let mut waits: Vec<i64> = waits.collect();
        waits.sort_unstable();
        let at = |part: usize| waits.get(waits.len() * part / 1_000).copied().unwrap_or(0) / 1_000;
        format!("p50 {} ms, p99 {} ms, p99.9 {} ms", at(500), at(990), at(999))
    };
    let handed_in = |body: &Value| body["data"]["body"]["written_at"].as_i64();
    let recorded = |body: &Value| {
        let text = body["timestamp"].as_str()?;
        Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
    };
    println!("  from the uplink to its call: {}", since(&handed_in));
    println!("  from its record to its call: {}", since(&recorded));
    Ok(())
}
