//! A server for one test. With `PUSHLEDGER_TEST_POSTGRES` (a URL of a server where databases may be
//! created) the same suite runs on PostgreSQL, each test in a database of its own.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use pushledger::{app::Running, clock::Clock, config::Config};
use serde_json::{Value, json};
use sim::{Admin, Caller, Device, DeviceOptions, Incoming};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;

pub const ADMIN_TOKEN: &str = "test-admin-token";
pub const UMS_APP: &str = "MB-DEMO-0001";
pub const UMS_KEY: &str = "00112233445566778899aabbccddeeff";
pub const UMS_SYSTEM: &str = "SV-DEMO-0001";
pub const UMS_SYSTEM_KEY: &str = "ffeeddccbbaa99887766554433221100";
pub const PACKAGE: &str = "com.acme.app";
/// Longest wait for something that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A database that goes with the test.
pub struct Place {
    pub directory: TempDir,
    postgres: Option<(String, String)>,
}

impl Place {
    pub async fn new() -> Place {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let directory = tempfile::tempdir().unwrap();
        let Ok(url) = std::env::var("PUSHLEDGER_TEST_POSTGRES") else {
            return Place { directory, postgres: None };
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(&format!("{url}/postgres")).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        admin.execute(create).await.unwrap();
        admin.close().await.unwrap();
        Place { directory, postgres: Some((url, name)) }
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

    pub fn config(&self) -> Config {
        Config {
            data: self.directory.path().to_owned(),
            database: self.database(),
            listen: "127.0.0.1:0".to_owned(),
            master_key: None,
            admin_token: Some(ADMIN_TOKEN.to_owned()),
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
        let clock = Clock::manual(1_700_000_000_000_000);
        World::start(Place::new().await, clock).await.with_app().await
    }

    pub async fn start(place: Place, clock: Clock) -> World {
        let running = Running::start(&place.config(), clock.clone()).await.unwrap();
        let url = format!("http://{}", running.address);
        let admin = Admin::new(&url, ADMIN_TOKEN);
        World { place, running, clock, url, admin }
    }

    async fn with_app(self) -> World {
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
        let reached = async {
            loop {
                let info = self.status(id).await;
                if info["status"] == status {
                    return info;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the status never came")
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
