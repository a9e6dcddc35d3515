//! `serve --demo`: a newcomer's first minute. A demo app with known credentials, a few simulated
//! devices on real WebSockets, calls to paste, and the story of each push as it happens.

mod story;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use domain::app::CreateApp;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Incoming};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{Running, Server},
    apps::{AppInput, Vault, keys::KeyInput, new_app, ums::UmsInput},
    cli::{Failure, say},
    ledger::{Context, Lane},
    secrets::Sealed,
    tokens::{DEFAULT_TTL, Role},
};

/// The demo app and its credentials; known to everybody, so good for nothing else.
const APP: &str = "demo";
const UMS_APP: &str = "MB-DEMO-0001";
const UMS_KEY: &str = "00112233445566778899aabbccddeeff";
const UMS_SYSTEM: &str = "SV-DEMO-0001";
const UMS_SYSTEM_KEY: &str = "ffeeddccbbaa99887766554433221100";
const PACKAGE: &str = "com.example.demo";
/// Pause before a simulated device that lost its connection comes back.
const RECONNECT: Duration = Duration::from_secs(2);

/// Where the demo's calls to apps' URLs may go: whatever else is tried out on this machine.
pub(crate) const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// A simulated device.
struct Gadget {
    client: &'static str,
    user: &'static str,
    device_type: &'static str,
    hardware: Option<&'static str>,
    /// How far it reports by itself; `None`: it stays away.
    reports: Option<u8>,
}

const GADGETS: [Gadget; 4] = [
    Gadget {
        client: "phone-1",
        user: "alice",
        device_type: "01",
        hardware: None,
        reports: Some(4),
    },
    Gadget {
        client: "fridge-1",
        user: "alice",
        device_type: "04",
        hardware: Some("mac-fridge-1"),
        reports: Some(3),
    },
    Gadget { client: "phone-2", user: "bob", device_type: "01", hardware: None, reports: Some(3) },
    Gadget { client: "tv-1", user: "alice", device_type: "03", hardware: None, reports: None },
];

/// Sets the demo up beside a running server; its tasks end with `stop`.
pub(crate) async fn start(
    running: &Running,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let server = &running.server;
    let url = format!("http://{}", running.address);
    create_app(server).await?;
    let head = server.ledger.head();
    for gadget in &GADGETS {
        let caller = register(server, &url, gadget).await?;
        if let Some(reports) = gadget.reports {
            let options = DeviceOptions {
                auto_report: Some(reports),
                ..DeviceOptions::new(&caller, PACKAGE)
            };
            tasks.spawn(live(options, stop.clone()));
        }
    }
    introduce(running, &url).await?;
    tasks.spawn(story::tell(Arc::clone(server), head, stop.clone()));
    Ok(())
}

async fn create_app(server: &Arc<Server>) -> Result<(), Failure> {
    if server.directory.app(APP).await?.is_some() {
        return Ok(());
    }
    let ums = UmsInput {
        app_id: Some(UMS_APP.to_owned()),
        app_keys: Some(vec![KeyInput::Value(UMS_KEY.to_owned())]),
        system_id: Some(UMS_SYSTEM.to_owned()),
        system_keys: Some(vec![KeyInput::Value(UMS_SYSTEM_KEY.to_owned())]),
        ..UmsInput::default()
    };
    let input = AppInput {
        app_id: Some(APP.to_owned()),
        name: Some("Demo".to_owned()),
        ums: Some(ums),
        ..AppInput::default()
    };
    let (pool, sealed) = (&server.ledger.database().ledger_write, Sealed::default());
    let vault = Vault { master: &server.master, pool, sealed: &sealed };
    let (config, _) = new_app(vault, input).await?;
    let context = Context { app: APP.to_owned(), ..Context::default() };
    server.ledger.execute(Lane::Interactive, context, CreateApp { config }).await?;
    server.directory.reload().await?;
    Ok(())
}

async fn register(server: &Arc<Server>, url: &str, gadget: &Gadget) -> Result<Caller, Failure> {
    let Gadget { client, user, device_type, hardware, .. } = gadget;
    let (token, _) = server.tokens.issue(APP, user, client, DEFAULT_TTL).await?;
    let caller =
        Caller::new(url, UMS_APP, UMS_KEY).with_client_id(*client).with_access_token(token);
    let mut body = json!({
        "userId": user, "clientId": client, "pushId": format!("push-{client}"),
        "deviceType": device_type, "collab3th": 0, "appPackage": PACKAGE,
    });
    if let Some(hardware) = hardware {
        body["deviceId"] = Value::from(*hardware);
    }
    let reply = caller.call("/ums/v2/register", &body.to_string()).await?;
    if reply.ret_code != "00000" {
        return Err(format!("{client} could not register: {}", reply.ret_info).into());
    }
    Ok(caller)
}

/// A device that stays connected until the demo ends.
async fn live(options: DeviceOptions, stop: CancellationToken) {
    loop {
        let connected = async {
            if let Ok(mut device) = Device::connect(options.clone()).await {
                while !matches!(device.next().await, None | Some(Incoming::Closed { .. })) {}
            }
            tokio::time::sleep(RECONNECT).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = connected => {}
        }
    }
}

/// What a newcomer sees first.
async fn introduce(running: &Running, url: &str) -> Result<(), Failure> {
    let server = &running.server;
    let token = match &running.new_admin_token {
        Some(token) => token.clone(),
        None => server.tokens.create_operator("demo", Role::Admin, None, None).await?,
    };
    let cloud = Caller::new(url, UMS_SYSTEM, UMS_SYSTEM_KEY);
    let message = r#"{"msgName":"doorbell","msgType":3,"body":{"view":{},"extData":{}}}"#;
    let one = format!(r#"{{"dst":{{"type":0,"Id":["phone-1"]}},"message":{message}}}"#);
    let all = format!(
        r#"{{"dst":{{"type":3,"Id":["alice"],"appType":["{PACKAGE}"]}},"message":{message}}}"#
    );
    let list = r#"{"userid":"alice"}"#;
    let query = r#"{"query":"{ app(appId: \"demo\") { messages(first: 3) { nodes { id deliveries { device stage ended } } } } }"}"#;
    say(&format!(
        "\n  {title}   {url}\n\n  \
         phone-1 and fridge-1 (alice) and phone-2 (bob) are connected; tv-1 (alice) is away.\n\n  \
         {step1}\n\n{push}\n\n  {step2}\n\n{push_all}\n\n  {step3}\n\n{devices}\n\n  \
         {step4}\n\ncurl -sS {url}/graphql -H 'Authorization: Bearer {token}' \\\n  -d '{query}'\n\n  \
         Explorer {url}/graphql · metrics {url}/metrics · API {url}/openapi.json\n  \
         Admin token {token}\n",
        title = story::bold("pushledger"),
        step1 = story::bold("Push to one phone:"),
        push = cloud.curl("/umse/v2/msgPush", &one),
        step2 = story::bold("Push to all of alice's devices; tv-1 gets it when it connects:"),
        push_all = cloud.curl("/umse/v2/msgPush", &all),
        step3 = story::bold("List alice's devices:"),
        devices = cloud.curl("/umse/v2/devlist", list),
        step4 = story::bold("Ask for the latest messages:"),
    ));
    Ok(())
}
