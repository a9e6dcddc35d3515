//! Measures pushes to many: registers devices straight through the ledger, creates a task or calls
//! `push/single`, and waits until the last outcome is in the statistics. The vendors are fakes in this
//! process.
//!
//! `cargo run --release --example task -- [SCENARIO] [DEVICES] [DATABASE]`; the database must be empty.
//! Scenarios: `everyone` over JPush; `errors`, with one call in a hundred refused with 503; `kept`, with
//! three of ten devices that no vendor reaches; `fcm`; `label`; `single`, calls to 100 users each over
//! HTTP.
#![expect(clippy::print_stdout, reason = "the result")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    Decide, Metadata,
    account::RegisterUser,
    device::{Bind, BindDevice, Channel, Identity, Profile, RegisterDevice},
    label::{ChangeMembers, CreateLabel},
    message::{MessagePrivate, Protocol, RawJson},
    route::Strategy,
    task::{TaskAudience, TaskLimits},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use projections::{
    delivery_stats, histogram::quantile, on, task_statistics::CellRow,
    task_statistics::TaskStatistics,
};
use pushledger::{
    app::{Running, Server},
    clock::Clock,
    config::{CHUNK_DEVICES, Config},
    delivery::tasks::{self, NewTask},
    ledger::{Context, Lane},
};
use serde_json::{Value, json, value::RawValue};
use sim::{
    Admin,
    fakes::{Fault, Fcm, FcmFake, Jpush, JpushFake, Options, Stats},
};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const APP: &str = "load";
const TOKEN: &str = "load-admin-token";
/// The certificate name that users' devices are bound under.
const CERTIFICATE: &str = "vendor";
const SECRET: &str = "0123456789abcdeffedcba9876543210";
const LABEL: &str = "many";
/// Registrations under way.
const CONCURRENT: usize = 2_000;
/// Users put into a label by one command.
const MEMBERS: usize = 1_000;
/// Time between two looks at the statistics.
const LOOK: Duration = Duration::from_millis(20);
/// Connections that call `push/single`, users that each call names, and for how long.
const CALLERS: usize = 32;
const TARGETS: usize = 100;
const CALLING: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Everyone,
    Errors,
    Kept,
    Fcm,
    Label,
    Single,
}

impl Scenario {
    fn named(name: &str) -> Option<Scenario> {
        Some(match name {
            "everyone" => Scenario::Everyone,
            "errors" => Scenario::Errors,
            "kept" => Scenario::Kept,
            "fcm" => Scenario::Fcm,
            "label" => Scenario::Label,
            "single" => Scenario::Single,
            _ => return None,
        })
    }

    /// Devices, if nothing else is said.
    fn devices(self) -> i64 {
        match self {
            Scenario::Everyone | Scenario::Errors | Scenario::Kept => 1_000_000,
            Scenario::Fcm => 100_000,
            Scenario::Label | Scenario::Single => 20_000,
        }
    }

    /// Whether the devices are those of users, who are bound and may have a label.
    fn users(self) -> bool {
        matches!(self, Scenario::Fcm | Scenario::Label | Scenario::Single)
    }
}

/// The vendor of the run.
enum House {
    Jpush(JpushFake),
    Fcm(FcmFake),
}

impl House {
    async fn start(scenario: Scenario) -> Result<House, Failure> {
        if scenario == Scenario::Fcm {
            return Ok(House::Fcm(FcmFake::start(Fcm::default(), Options::load()).await?));
        }
        let jpush = JpushFake::start(Jpush::default(), Options::load()).await?;
        if scenario == Scenario::Errors {
            jpush.plan_share(Fault::Status { status: 503, retry_after_seconds: None }, 10);
        }
        Ok(House::Jpush(jpush))
    }

    fn credentials(&self) -> Value {
        match self {
            House::Jpush(fake) => {
                let own = fake.credentials();
                json!({ "vendor": "jpush", "baseUrl": fake.url(), "appKey": own.app_key,
                        "masterSecret": own.master_secret })
            }
            House::Fcm(fake) => json!({ "vendor": "fcm", "baseUrl": fake.url(),
                                        "serviceAccount": fake.credentials().service_account() }),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            House::Jpush(fake) => fake.stats(),
            House::Fcm(fake) => fake.stats(),
        }
    }

    /// Returns when the vendor took something.
    async fn first(&self) {
        let some = |seen: &Stats| seen.tokens_accepted > 0;
        match self {
            House::Jpush(fake) => fake.until(some).await,
            House::Fcm(fake) => fake.until(some).await,
        };
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "everyone".to_owned());
    let scenario = Scenario::named(&name).ok_or("no such scenario")?;
    let devices: i64 = arguments.next().map_or(Ok(scenario.devices()), |text| text.parse())?;
    let data = std::env::temp_dir().join(format!("task-{}", std::process::id()));
    let database = arguments.next().unwrap_or_else(|| format!("sqlite:{}", data.display()));
    println!("== {name}: {devices} devices, {}", database.split(':').next().unwrap_or_default());
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
        chunk_devices: CHUNK_DEVICES,
        query_run: pushledger::config::QUERY_RUN,
        vendor_call: pushledger::config::VENDOR_CALL,
        follow_beat: pushledger::config::FOLLOW_BEAT,
    };
    let running = Running::start(&config, Clock::System).await?;
    let server = Arc::clone(&running.server);
    let house = House::start(scenario).await?;
    let url = format!("http://{}", running.address);
    create_app(&url, &house).await?;

    let begin = Instant::now();
    if scenario.users() {
        register_users(&server, devices).await?;
    } else {
        register(&server, scenario, devices).await?;
    }
    println!("registered in {:.1} s", begin.elapsed().as_secs_f64());
    server.views.reached(server.ledger.head(), Duration::from_secs(600)).await?;
    let (before, resting) = (server.ledger.head(), memory("VmRSS"));

    if scenario == Scenario::Single {
        single(&server, &url, &house, devices).await?;
    } else {
        let begin = Instant::now();
        let pushing = push(&server, scenario, devices);
        let (done, first) = tokio::join!(pushing, async {
            house.first().await;
            begin.elapsed()
        });
        let seconds = begin.elapsed().as_secs_f64();
        println!("vendor: took the first after {} ms", first.as_millis());
        report(&server, &done?, (devices, seconds, before)).await?;
    }
    let seen = house.stats();
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

async fn create_app(url: &str, house: &House) -> Result<(), Failure> {
    let app = json!({
        "appId": APP, "name": "Load", "timezone": "UTC",
        "easemob": { "orgName": "org", "appName": APP, "clientId": "load", "clientSecrets": [SECRET],
                     "limits": { "singlePerSecond": 1_000_000 } },
        "vendors": [{ "name": CERTIFICATE, "credentials": house.credentials() }],
    });
    let (status, body, _) = Admin::new(url, TOKEN).post("/admin/v1/apps", Some(&app)).await?;
    if status == 201 { Ok(()) } else { Err(format!("{status} {body}").into()) }
}

async fn execute(
    server: &Arc<Server>,
    command: impl Decide + Send + Sync + 'static,
) -> Result<(), Failure> {
    server.ledger.execute(Lane::Bulk, context(), command).await?;
    Ok(())
}

async fn register(server: &Arc<Server>, scenario: Scenario, devices: i64) -> Result<(), Failure> {
    let one = |n: i64| {
        let reached = scenario != Scenario::Kept || n % 10 >= 3;
        let command = RegisterDevice {
            app: APP.to_owned(),
            allowed_packages: Vec::new(),
            user: None,
            profile: Profile {
                app_package: "com.example.load".to_owned(),
                device_type: "01".to_owned(),
                type_id: None,
                channel: if reached { Channel::Jpush } else { Channel::None },
            },
            identity: Identity {
                client_id: format!("c-{n}"),
                push_id: format!("1a0018970a8e{n:08}"),
                ..Identity::default()
            },
            new_device: Uuid::now_v7(),
            new_account: Uuid::nil(),
        };
        execute(server, command)
    };
    stream::iter(0..devices).map(one).buffer_unordered(CONCURRENT).try_collect().await
}

fn user(n: i64) -> String {
    format!("u-{n}")
}

/// Registers users with a bound device each, and puts all of them into the label.
async fn register_users(server: &Arc<Server>, users: i64) -> Result<(), Failure> {
    let app = || APP.to_owned();
    let one = |n: i64| async move {
        let (username, nickname) = (user(n), None);
        let command =
            RegisterUser { app: app(), username: user(n), nickname, new_account: Uuid::now_v7() };
        execute(server, command).await?;
        let change = Bind::Token(CERTIFICATE.to_owned(), format!("1a0018970a8e{n:08}"));
        let (device_id, new_device) = ("phone".to_owned(), Uuid::now_v7());
        execute(server, BindDevice { app: app(), username, device_id, change, new_device }).await
    };
    let all = stream::iter(0..users).map(one).buffer_unordered(CONCURRENT);
    all.try_collect::<()>().await?;
    let (description, most, new_label) = (String::new(), i64::MAX, Uuid::now_v7());
    let name = LABEL.to_owned();
    execute(server, CreateLabel { app: app(), name, description, most, new_label }).await?;
    let members: Vec<String> = (0..users).map(user).collect();
    for usernames in members.chunks(MEMBERS) {
        let (name, usernames) = (LABEL.to_owned(), usernames.to_vec());
        execute(server, ChangeMembers { app: app(), name, usernames, join: true, most }).await?;
    }
    Ok(())
}

/// Whether nothing will move these any more: handed over, ended, or kept for the device.
fn settled(cell: &CellRow) -> bool {
    cell.stage == "sent" || !cell.ended.is_empty() || cell.way == "online"
}

/// Pushes to everyone or to the label, and returns once every delivery is settled in the
/// statistics.
async fn push(
    server: &Arc<Server>,
    scenario: Scenario,
    devices: i64,
) -> Result<TaskStatistics, Failure> {
    let json = |text: &str| RawValue::from_string(text.to_owned()).map(RawJson);
    let new = NewTask {
        protocol: Protocol::Easemob,
        audience: match scenario {
            Scenario::Label => TaskAudience::Label(LABEL.to_owned()),
            _ => TaskAudience::Everyone,
        },
        strategy: match scenario {
            Scenario::Kept => Strategy::VendorElseOnline,
            _ => Strategy::VendorOnly,
        },
        keep_seconds: 86_400,
        start_at: None,
        limits: TaskLimits { running: 3, created: 3 },
        private: MessagePrivate {
            destinations: json("null")?,
            payload: Some(json(r#"{"title":"hello","content":"a push to everyone"}"#)?),
            caller: None,
        },
    };
    let (id, _) = tasks::create(server, context(), new).await?;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(now) = tasks::statistics(server, APP, id).await? else { continue };
        let settled = now.cells.iter().filter(|cell| settled(cell));
        if settled.map(|cell| cell.deliveries).sum::<i64>() == devices {
            return Ok(now);
        }
    }
}

/// Calls `push/single` from many connections for a while, and waits until what was accepted is sent.
async fn single(server: &Arc<Server>, url: &str, house: &House, users: i64) -> Result<(), Failure> {
    let client = reqwest::Client::new();
    let credentials = json!({ "grant_type": "client_credentials", "client_id": "load",
                              "client_secret": SECRET });
    let answer = client.post(format!("{url}/org/{APP}/token")).body(credentials.to_string());
    let answer: Value = serde_json::from_slice(&answer.send().await?.bytes().await?)?;
    let token = answer["access_token"].as_str().ok_or("no token")?;
    let (from, begin, next) = (Clock::System.now(), Instant::now(), AtomicUsize::new(0));
    let caller = |_| async {
        let mut slowest = Vec::new();
        while begin.elapsed() < CALLING {
            let first = i64::try_from(next.fetch_add(TARGETS, Ordering::Relaxed))?;
            let span = first..first + i64::try_from(TARGETS)?;
            let targets: Vec<String> = span.map(|n| user(n % users)).collect();
            let push = json!({ "targets": targets, "strategy": 2,
                               "pushMessage": { "title": "hello", "content": "to a hundred" } });
            let asked = Instant::now();
            let call = client.post(format!("{url}/org/{APP}/push/single")).bearer_auth(token);
            let answer = call.body(push.to_string()).send().await?;
            let status = answer.status();
            let body = answer.bytes().await?;
            if !status.is_success() {
                return Err(Failure::from(format!("{status} {}", String::from_utf8_lossy(&body))));
            }
            slowest.push(asked.elapsed());
        }
        Ok(slowest)
    };
    let callers = (0..CALLERS).map(caller);
    let times = futures_util::future::try_join_all(callers).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    times.sort_unstable();
    let calls = times.len();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (many, deliveries) = (calls as f64, (calls * TARGETS) as f64);
    println!(
        "accepted: {calls} calls to {TARGETS} users = {:.0}/s, p50 {} ms, p99 {} ms",
        many / seconds,
        times[calls / 2].as_millis(),
        times[calls * 99 / 100].as_millis()
    );
    let wanted = i64::try_from(calls * TARGETS)?;
    loop {
        let mut checkout = server.ledger.database().views.checkout().await?;
        let span = (from - delivery_stats::BUCKET_MICROS, i64::MAX);
        let rows = delivery_stats::between(&mut checkout.conn(), APP, span).await?;
        let settled = rows.iter().filter(|row| row.stage == "sent" || !row.ended.is_empty());
        if settled.map(|row| row.deliveries).sum::<i64>() >= wanted {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let all = begin.elapsed().as_secs_f64();
    println!(
        "delivered: {wanted} in {all:.2} s = {:.0}/s, the last {:.0} ms after the last call",
        deliveries / all,
        (all - seconds) * 1_000.0
    );
    println!("vendor: {} tokens so far", house.stats().tokens_accepted);
    Ok(())
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
        let millis = quantile(&done.latencies[0], share).unwrap_or(0);
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
