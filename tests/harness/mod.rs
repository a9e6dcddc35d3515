//! A server for one test. With `PUSHLEDGER_TEST_POSTGRES` (a URL of a server where databases may be
//! created) the same suite runs on PostgreSQL, each test in a database of its own.

use std::{
    collections::HashMap,
    io::BufRead as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use projections::db::{Conn, Pool};
use pushledger::{
    app::Running,
    clock::Clock,
    config::{ACCESS_DAYS, CHUNK_DEVICES, Config, FOLLOW_BEAT, QUERY_RUN, VENDOR_CALL},
};
use serde_json::{Value, json};
use sim::{Admin, Caller, Device, DeviceOptions, Incoming};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, tcp::ReadHalf},
    sync::oneshot,
};

pub const ADMIN_TOKEN: &str = "test-admin-token";
pub const UMS_APP: &str = "MB-DEMO-0001";
pub const UMS_KEY: &str = "00112233445566778899aabbccddeeff";
pub const UMS_SYSTEM: &str = "SV-DEMO-0001";
pub const UMS_SYSTEM_KEY: &str = "ffeeddccbbaa99887766554433221100";
pub const PACKAGE: &str = "com.acme.app";
/// When a call is signed, in milliseconds since the epoch, if that is for the test to say.
pub const SIGNED_AT_MS: i64 = 1_700_000_000_000;
/// Longest wait for something that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A database that goes with the test.
pub struct Place {
    pub directory: TempDir,
    /// Devices of one chunk of a task.
    pub chunk_devices: u32,
    /// How long a call to a push vendor may take.
    pub vendor_call: Duration,
    postgres: Option<(String, String)>,
}

impl Place {
    pub async fn new() -> Place {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let directory = tempfile::tempdir().unwrap();
        let Ok(url) = std::env::var("PUSHLEDGER_TEST_POSTGRES") else {
            return Place::at(directory, None);
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(&format!("{url}/postgres")).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        admin.execute(create).await.unwrap();
        admin.close().await.unwrap();
        Place::at(directory, Some((url, name)))
    }

    fn at(directory: TempDir, postgres: Option<(String, String)>) -> Place {
        Place { directory, chunk_devices: CHUNK_DEVICES, vendor_call: VENDOR_CALL, postgres }
    }

    pub fn on_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    pub fn database(&self) -> String {
        match &self.postgres {
            Some((url, name)) => format!("{url}/{name}"),
            None => format!("sqlite:{}", self.directory.path().display()),
        }
    }

    /// A connection to the ledger's tables, behind the server's back.
    pub async fn backdoor(&self) -> Backdoor {
        self.behind("ledger.db").await
    }

    /// The same to the tables of the views.
    pub async fn views(&self) -> Backdoor {
        self.behind("views.db").await
    }

    /// The same to the tables of presence.
    pub async fn presence(&self) -> Backdoor {
        self.behind("presence.db").await
    }

    async fn behind(&self, file: &str) -> Backdoor {
        if self.on_postgres() {
            return Backdoor::Postgres(PgConnection::connect(&self.database()).await.unwrap());
        }
        let file = self.directory.path().join(file);
        let url = format!("sqlite:{}", file.display());
        Backdoor::Sqlite(SqliteConnection::connect(&url).await.unwrap())
    }

    pub fn config(&self) -> Config {
        Config {
            data: self.directory.path().to_owned(),
            database: self.database(),
            listen: "127.0.0.1:0".to_owned(),
            master_key: None,
            admin_token: Some(ADMIN_TOKEN.to_owned()),
            callback_allow: vec!["127.0.0.1/32".parse().unwrap()],
            trusted_proxies: Vec::new(),
            witness: None,
            access_days: ACCESS_DAYS,
            chunk_devices: self.chunk_devices,
            query_run: QUERY_RUN,
            vendor_call: self.vendor_call,
            follow_beat: FOLLOW_BEAT,
        }
    }
}

/// A connection with which a test breaks what the server needs, and mends it.
pub enum Backdoor {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Backdoor {
    pub async fn run(&mut self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match self {
            Backdoor::Sqlite(own) => own.execute(sql).await.map(drop).unwrap(),
            Backdoor::Postgres(own) => own.execute(sql).await.map(drop).unwrap(),
        }
    }
}

/// A running server with an app named `demo`.
pub struct World {
    pub place: Place,
    pub running: Running,
    pub clock: Clock,
    pub url: String,
    pub admin: Admin,
}

impl World {
    /// A server on the machine's clock.
    pub async fn new() -> World {
        World::start(Place::new().await, Clock::System).await.with_app().await
    }

    /// A server on a clock that the test moves.
    pub async fn with_clock() -> World {
        World::with_clock_at(Place::new().await).await
    }

    /// The same, whose tasks come in chunks of so many devices.
    pub async fn in_chunks_of(devices: u32) -> World {
        let mut place = Place::new().await;
        place.chunk_devices = devices;
        World::with_clock_at(place).await
    }

    /// The same as [`with_clock`](World::with_clock), with a place of the test's own.
    pub async fn with_clock_at(place: Place) -> World {
        World::start(place, Clock::manual(1_700_000_000_000_000)).await.with_app().await
    }

    pub async fn start(place: Place, clock: Clock) -> World {
        let config = place.config();
        World::start_with(place, &config, clock).await
    }

    /// The same, configured otherwise than by its place.
    pub async fn start_with(place: Place, config: &Config, clock: Clock) -> World {
        let running = Running::start(config, clock.clone()).await.unwrap();
        let url = format!("http://{}", running.address);
        let admin = Admin::new(&url, ADMIN_TOKEN);
        World { place, running, clock, url, admin }
    }

    pub async fn with_app(self) -> World {
        let app = json!({
            "appId": "demo", "name": "Demo", "timezone": "Asia/Shanghai",
            "ums": { "appId": UMS_APP, "appKey": UMS_KEY,
                     "systemId": UMS_SYSTEM, "systemKey": UMS_SYSTEM_KEY },
        });
        let (status, body, _) = self.admin.post("/admin/v1/apps", Some(&app)).await.unwrap();
        assert_eq!(status, 201, "{body}");
        self
    }

    /// Stops the server and starts it again on the same database.
    pub async fn restart(self) -> World {
        let World { place, running, clock, .. } = self;
        running.shutdown().await;
        World::start(place, clock).await
    }

    /// Another server on the same database.
    pub async fn second(&self) -> Running {
        Running::start(&self.place.config(), self.clock.clone()).await.unwrap()
    }

    pub async fn stop(self) -> Place {
        self.running.shutdown().await;
        self.place
    }

    pub async fn token(&self, user: &str, client: &str) -> String {
        let body = json!({ "userId": user, "clientId": client });
        let path = "/admin/v1/apps/demo/access-tokens";
        let (status, body, _) = self.admin.post(path, Some(&body)).await.unwrap();
        assert_eq!(status, 201, "{body}");
        body["accessToken"].as_str().unwrap().to_owned()
    }

    /// A terminal without a user.
    pub fn terminal(&self, client: &str) -> Caller {
        Caller::new(&self.url, UMS_APP, UMS_KEY).with_client_id(client)
    }

    /// A terminal on which a user is logged in.
    pub async fn user(&self, user: &str, client: &str) -> Caller {
        let token = self.token(user, client).await;
        self.terminal(client).with_access_token(&token)
    }

    pub fn cloud(&self) -> Caller {
        Caller::new(&self.url, UMS_SYSTEM, UMS_SYSTEM_KEY)
    }

    /// Registers a phone without a user.
    pub async fn register(&self, client: &str) -> Caller {
        let caller = self.terminal(client);
        ok(&caller, "/ums/v2/register", &registration(client)).await;
        caller
    }

    /// Registers a device of a user.
    pub async fn register_of(&self, user: &str, client: &str, more: Value) -> Caller {
        let caller = self.user(user, client).await;
        let mut body = registration(client);
        merge(&mut body, json!({ "userId": user }));
        merge(&mut body, more);
        ok(&caller, "/ums/v2/register", &body).await;
        caller
    }

    pub async fn connect(&self, caller: &Caller) -> Device {
        Device::connect(DeviceOptions::new(caller, PACKAGE)).await.unwrap()
    }

    /// A cloud pushes to a client; gives the message id.
    pub async fn push(&self, client: &str, message: Value) -> String {
        let body = json!({ "dst": { "type": 0, "Id": [client] }, "message": message });
        let data = ok(&self.cloud(), "/umse/v2/msgPush", &body).await;
        data["msgId"].as_str().unwrap().to_owned()
    }

    pub async fn status(&self, id: &str) -> Value {
        ok(&self.cloud(), "/umse/v2/getmsgstat", &json!({ "msgId": id })).await
    }

    /// Waits until a message has a status.
    pub async fn until_status(&self, id: &str, status: i64) -> Value {
        self.until(id, |info| info["status"] == status).await
    }

    /// Waits until a message's status information is as wanted.
    pub async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let reached = async {
            loop {
                let info = self.status(id).await;
                if wanted(&info) {
                    return info;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the status never came")
    }

    /// The last position of the ledger.
    pub async fn head(&self) -> i64 {
        self.running.server.ledger.fresh_head().await.unwrap()
    }

    pub async fn graphql(&self, query: &str) -> Value {
        let head = self.running.server.ledger.fresh_head().await.unwrap();
        self.running.server.views.reached(head, PATIENCE).await.unwrap();
        let body = json!({ "query": query });
        let (status, body, _) = self.admin.post("/graphql", Some(&body)).await.unwrap();
        assert_eq!(status, 200, "{body}");
        assert!(body["errors"].is_null(), "{body}");
        body["data"].clone()
    }
}

pub fn registration(client: &str) -> Value {
    json!({ "clientId": client, "pushId": format!("push-{client}"), "deviceType": "01",
            "collab3th": 0, "appPackage": PACKAGE })
}

pub fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// Calls, expects success, gives `data`.
pub async fn ok(caller: &Caller, path: &str, body: &Value) -> Value {
    let reply = caller.call(path, &body.to_string()).await.unwrap();
    assert_eq!(reply.ret_code, "00000", "{path} {body}: {}", reply.ret_info);
    reply.data
}

/// Calls, gives the code.
pub async fn code(caller: &Caller, path: &str, body: &Value) -> String {
    caller.call(path, &body.to_string()).await.unwrap().ret_code
}

/// The next message of a device.
pub async fn message(device: &mut Device) -> (String, Value) {
    match device.next_within(PATIENCE).await {
        Some(Incoming::Message { id, payload, .. }) => (id, payload),
        Some(_) => panic!("another frame came"),
        None => panic!("no message came"),
    }
}

/// HTTP/1.1 by hand, for requests that no well-behaved client would send.
pub struct RawClient {
    address: String,
    connection: Option<TcpStream>,
}

/// What a [`RawClient`] got.
pub struct RawReply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for RawReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl RawClient {
    pub fn new(world: &World) -> RawClient {
        RawClient { address: world.running.address.to_string(), connection: None }
    }

    /// Sends a request, which says how long its body is unless the body comes in chunks.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> RawReply {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !headers.iter().any(|(name, _)| name == "transfer-encoding") {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        let request = [head.as_bytes(), body].concat();
        let kept = self.connection.take();
        let may_be_closed = kept.is_some();
        let mut connection = match kept {
            Some(connection) => connection,
            None => TcpStream::connect(&self.address).await.unwrap(),
        };
        let (reading, mut writing) = connection.split();
        // An answer may come before the request has left; what is left of it then is not needed.
        let sending = async { writing.write_all(&request).await.is_ok() };
        let answer = tokio::time::timeout(PATIENCE, answer(reading, method == "HEAD"));
        let (sent, answer) = tokio::join!(sending, answer);
        let Some(reply) = answer.expect("no answer came") else {
            assert!(may_be_closed, "the connection was closed without an answer");
            return Box::pin(self.send(method, target, headers, body)).await;
        };
        let closes = reply.headers.get("connection").is_some_and(|value| value != "keep-alive");
        if sent && !closes {
            self.connection = Some(connection);
        }
        reply
    }
}

/// The next answer of a connection, if it is not closed.
async fn answer(reading: ReadHalf<'_>, bodiless: bool) -> Option<RawReply> {
    let mut reading = BufReader::new(reading);
    let mut line = String::new();
    if reading.read_line(&mut line).await.unwrap_or(0) == 0 {
        return None;
    }
    let status = line.split(' ').nth(1).expect("a status line").parse().unwrap();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reading.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_owned(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if bodiless { 0 } else { length }];
    reading.read_exact(&mut body).await.unwrap();
    while !bodiless && headers.contains_key("transfer-encoding") {
        line.clear();
        reading.read_line(&mut line).await.unwrap();
        let length = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's length");
        let mut chunk = vec![0; length + 2];
        reading.read_exact(&mut chunk).await.unwrap();
        body.extend_from_slice(&chunk[..length]);
        if length == 0 {
            break;
        }
    }
    Some(RawReply { status, headers, body })
}

/// Waits until something is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect(what);
}

/// All rows of a table as texts, sorted; bytes are in hexadecimal.
pub async fn dump(pool: &Pool, table: &str) -> Vec<String> {
    let safe = sqlx::AssertSqlSafe;
    let mut checkout = pool.checkout().await.unwrap();
    let rows: Vec<(String,)> = match checkout.conn() {
        Conn::Sqlite(own) => {
            let names = format!("SELECT name FROM pragma_table_info('{table}')");
            let names: Vec<(String,)> =
                sqlx::query_as(safe(names)).fetch_all(&mut *own).await.unwrap();
            let cells: Vec<String> = names.iter().map(|(name,)| format!("quote({name})")).collect();
            let rows = format!("SELECT {} FROM {table}", cells.join(" || ',' || "));
            sqlx::query_as(safe(rows)).fetch_all(&mut *own).await.unwrap()
        }
        Conn::Postgres(own) => {
            let rows = format!("SELECT row::text FROM {table} AS row");
            sqlx::query_as(safe(rows)).fetch_all(&mut *own).await.unwrap()
        }
    };
    let mut rows: Vec<String> = rows.into_iter().map(|(row,)| row).collect();
    rows.sort_unstable();
    rows
}

/// The real program, as a process of its own; killed when dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    log: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Process {
    /// Starts a server on the database of a place, and waits until it listens.
    pub async fn start(place: &Place) -> Process {
        Process::logging(place, "info").await
    }

    /// The same, with logs as detailed as that.
    pub async fn logging(place: &Place, level: &str) -> Process {
        let config = place.config();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
        command
            .env("PUSHLEDGER_LOG", level)
            .arg("serve")
            .arg("--data")
            .arg(&config.data)
            .args(["--listen", "127.0.0.1:0"]);
        command.args(["--database", &config.database, "--admin-token", ADMIN_TOKEN]);
        command.args(config.callback_allow.iter().map(|net| format!("--callback-allow={net}")));
        Process::run(command).await
    }

    /// The server that a command starts; waits until it listens.
    pub async fn run(mut command: Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (found, address) = oneshot::channel();
        let logs = child.stderr.take().unwrap();
        // Reads on after the address, so that no full pipe stops the server; ends with it.
        let log = std::thread::spawn(move || {
            let (mut found, mut lines) = (Some(found), Vec::new());
            for line in std::io::BufReader::new(logs).lines().map_while(Result::ok) {
                let log: Value = serde_json::from_str(&line).unwrap_or_default();
                match (log["address"].as_str().map(str::parse), found.take()) {
                    (Some(Ok(address)), Some(found)) => drop(found.send(Ok(address))),
                    (_, waiting) => found = waiting,
                }
                lines.push(line);
            }
            found.map(|found| found.send(Err(lines.join("\n"))));
            lines
        });
        let address = tokio::time::timeout(PATIENCE, address).await.expect("no address").unwrap();
        let address: SocketAddr = address.expect("the server did not start");
        Process { child, address, log: Some(log) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it as a loss of power would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end (SIGTERM); gives all that it logged.
    pub async fn log(mut self) -> Vec<String> {
        let log = self.log.take().unwrap();
        assert!(self.terminate().await);
        log.join().unwrap()
    }

    /// Asks it to end (SIGTERM), and gives whether it ended well.
    pub async fn terminate(mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = async || self.child.try_wait().unwrap().is_some();
        until("the server did not end", ended).await;
        self.child.wait().unwrap().success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
