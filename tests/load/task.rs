//! Measures a push to everyone: registers devices straight through the ledger, creates one task, and
//! waits until the last outcome is in the task's statistics. JPush is a fake in this process.
//!
//! `cargo run --release --example task -- [DEVICES] [DATABASE]`; the database must be empty.
#![expect(clippy::print_stdout, reason = "the result")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    Metadata,
    device::{Channel, Identity, Profile, RegisterDevice},
    message::{MessagePrivate, Protocol, RawJson},
    route::Strategy,
    task::{TaskAudience, TaskLimits},
};
use futures_util::{StreamExt, stream};
use projections::{histogram::quantile, on, task_statistics::TaskStatistics};
use pushledger::{
    app::{Running, Server},
    clock::Clock,
    config::{CHUNK_DEVICES, Config},
    delivery::tasks::{self, NewTask},
    ledger::{Context, Lane},
};
use serde_json::{json, value::RawValue};
use sim::{
    Admin,
    fakes::{Jpush, JpushFake, Options},
};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const APP: &str = "load";
const TOKEN: &str = "load-admin-token";
/// Registrations under way.
const CONCURRENT: usize = 2_000;
/// Time between two looks at the statistics.
const LOOK: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let devices: i64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let data = std::env::temp_dir().join(format!("task-{}", std::process::id()));
    let database = arguments.next().unwrap_or_else(|| format!("sqlite:{}", data.display()));
    let config = Config {
        data: data.clone(),
        database,
        listen: "127.0.0.1:0".to_owned(),
        master_key: None,
        admin_token: Some(TOKEN.to_owned()),
        callback_allow: vec!["127.0.0.1/32".parse()?],
        chunk_devices: CHUNK_DEVICES,
    };
    let running = Running::start(&config, Clock::System).await?;
    let server = Arc::clone(&running.server);
    let jpush = JpushFake::start(Jpush::default(), Options::load()).await?;
    create_app(&format!("http://{}", running.address), &jpush).await?;

    let begin = Instant::now();
    register(&server, devices).await?;
    println!("registered: {devices} devices in {:.1} s", begin.elapsed().as_secs_f64());
    server.views.reached(server.ledger.head(), Duration::from_secs(600)).await?;
    let (before, resting) = (server.ledger.head(), memory("VmRSS"));

    let begin = Instant::now();
    let done = push(&server, devices).await?;
    let seconds = begin.elapsed().as_secs_f64();
    report(&server, &done, (devices, seconds, before)).await?;
    let seen = jpush.stats();
    println!("vendor: {} tokens in {} calls", seen.tokens_accepted, seen.requests);
    println!(
        "memory: {resting} kB before, {} kB at most, the fake vendor included",
        memory("VmHWM")
    );
    drop(server);
    running.shutdown().await;
    // With PostgreSQL there is little of ours in it.
    let _ = std::fs::remove_dir_all(data);
    Ok(())
}

fn context() -> Context {
    Context { app: APP.to_owned(), metadata: Metadata::default() }
}

async fn create_app(url: &str, jpush: &JpushFake) -> Result<(), Failure> {
    let own = jpush.credentials();
    let credentials = json!({
        "vendor": "jpush", "baseUrl": jpush.url(),
        "appKey": own.app_key, "masterSecret": own.master_secret,
    });
    let app = json!({
        "appId": APP, "name": "Load", "timezone": "UTC",
        "vendors": [{ "name": "jpush", "credentials": credentials }],
    });
    let (status, body, _) = Admin::new(url, TOKEN).post("/admin/v1/apps", Some(&app)).await?;
    if status == 201 { Ok(()) } else { Err(format!("{status} {body}").into()) }
}

async fn register(server: &Arc<Server>, devices: i64) -> Result<(), Failure> {
    let one = |n: i64| async move {
        let command = RegisterDevice {
            app: APP.to_owned(),
            allowed_packages: Vec::new(),
            user: None,
            profile: Profile {
                app_package: "com.example.load".to_owned(),
                device_type: "01".to_owned(),
                type_id: None,
                channel: Channel::Jpush,
            },
            identity: Identity {
                client_id: format!("c-{n}"),
                push_id: format!("1a0018970a8e{n:08}"),
                ..Identity::default()
            },
            new_device: Uuid::now_v7(),
            new_account: Uuid::nil(),
        };
        server.ledger.execute(Lane::Bulk, context(), command).await.map(drop)
    };
    let mut all = stream::iter(0..devices).map(one).buffer_unordered(CONCURRENT);
    while let Some(registered) = all.next().await {
        registered?;
    }
    Ok(())
}

/// Pushes to everyone, and returns once every delivery is settled in the statistics.
async fn push(server: &Arc<Server>, devices: i64) -> Result<TaskStatistics, Failure> {
    let json = |text: &str| RawValue::from_string(text.to_owned()).map(RawJson);
    let new = NewTask {
        protocol: Protocol::Easemob,
        audience: TaskAudience::Everyone,
        strategy: Strategy::VendorOnly,
        keep_seconds: 86_400,
        start_at: None,
        limits: TaskLimits { running: 3, created: 3 },
        private: MessagePrivate {
            destinations: json("null")?,
            payload: Some(json(r#"{"title":"hello","content":"a push to everyone"}"#)?),
        },
    };
    let (id, _) = tasks::create(server, context(), new).await?;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(now) = tasks::statistics(server, APP, id).await? else { continue };
        let settled =
            now.cells.iter().filter(|cell| cell.stage == "sent" || !cell.ended.is_empty());
        if settled.map(|cell| cell.deliveries).sum::<i64>() == devices {
            return Ok(now);
        }
    }
}

async fn report(
    server: &Arc<Server>,
    done: &TaskStatistics,
    (devices, seconds, before): (i64, f64, i64),
) -> Result<(), Failure> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (count, bytes) = (devices as f64, bytes_after(server, before).await? as f64);
    println!(
        "delivered: {devices} in {seconds:.2} s = {:.0}/s, seen in statistics",
        count / seconds
    );
    println!("ledger: {:.2} bytes a delivery", bytes / count);
    for share in [0.5, 0.99] {
        let millis = quantile(&done.handed_over, share).unwrap_or(0);
        println!("handed over: {:.0} % within {millis} ms of the start", share * 100.0);
    }
    for cell in &done.cells {
        println!("  {:>8} {} {} {}", cell.deliveries, cell.way, cell.stage, cell.ended);
    }
    Ok(())
}

/// Bytes of all texts that the ledger has after a position.
async fn bytes_after(server: &Arc<Server>, position: i64) -> Result<i64, Failure> {
    const SQL: &str = "SELECT CAST(SUM(LENGTH(body) + LENGTH(COALESCE(private, '')) \
         + LENGTH(metadata) + LENGTH(stream) + LENGTH(type) + LENGTH(app)) AS BIGINT) \
         FROM events WHERE position > $1";
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let (bytes,): (i64,) = on!(checkout.conn(), c => {
        sqlx::query_as(SQL).bind(position).fetch_one(&mut *c).await?
    });
    Ok(bytes)
}

/// A line of what the system says of this process's memory, in kB.
fn memory(name: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
