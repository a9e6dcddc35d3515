//! `serve --demo`: a newcomer's first minute. A demo app with known credentials, a few simulated
//! devices on real WebSockets, a crowd of phones behind a simulated JPush, calls to paste, and the
//! story of each push as it happens, with the callbacks that an app's server gets.

mod crowd;
mod receiver;
mod screen;
mod settings;
mod story;
mod tasks;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Incoming};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crowd::Crowd;
use screen::{bold, say};

use crate::{
    app::{Running, Server},
    cli::Failure,
    tokens::{DEFAULT_TTL, Role},
};

/// The demo app and its credentials; known to everybody, so good for nothing else.
const APP: &str = "demo";
const UMS_APP: &str = "MB-DEMO-0001";
const UMS_KEY: &str = "00112233445566778899aabbccddeeff";
const UMS_SYSTEM: &str = "SV-DEMO-0001";
const UMS_SYSTEM_KEY: &str = "ffeeddccbbaa99887766554433221100";
const PACKAGE: &str = "com.example.demo";
/// How long signatures and tokens that are printed are valid, in seconds.
const SHOWN_SECONDS: i64 = 30 * 86_400;
/// Pause before a simulated device that lost its connection comes back.
const RECONNECT: Duration = Duration::from_secs(2);

/// Devices of one chunk: few, so that progress is seen.
pub(crate) const CHUNK_DEVICES: u32 = 40;
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
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let server = &running.server;
    let url = format!("http://{}", running.address);
    let jpush = settings::start_jpush().await?;
    let secret: Arc<str> = settings::webhook_secret().into();
    let receiver = receiver::start(Arc::clone(&secret), tracker, stop).await?;
    settings::set_up(server, &jpush, receiver, &secret).await?;
    let crowd = Crowd::gather(server, &url, jpush, tracker, stop).await?;
    let head = server.ledger.head();
    let mut callers = Vec::new();
    for gadget in &GADGETS {
        callers.push(register(server, &url, gadget).await?);
    }
    settings::link(server).await?;
    for (gadget, caller) in GADGETS.iter().zip(callers) {
        if let Some(reports) = gadget.reports {
            let options = DeviceOptions {
                auto_report: Some(reports),
                ..DeviceOptions::new(&caller, PACKAGE)
            };
            tracker.spawn(live(options, stop.clone()));
        }
    }
    let base = format!("{url}/{}/{APP}", settings::ORG);
    let call = tasks::Call { base, token: settings::token(server).await? };
    introduce(running, &url, &call).await?;
    tracker.spawn(tasks::show(Arc::clone(server), crowd, call, head, stop.clone()));
    tracker.spawn(story::tell(Arc::clone(server), head, stop.clone()));
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
async fn introduce(running: &Running, url: &str, call: &tasks::Call) -> Result<(), Failure> {
    let server = &running.server;
    let token = match &running.new_admin_token {
        Some(token) => token.clone(),
        None => server.tokens.create_operator("demo", Role::Admin, None, None).await?,
    };
    let cloud = Caller::new(url, UMS_SYSTEM, UMS_SYSTEM_KEY);
    let message = r#"{"msgName":"doorbell","msgType":3,"body":{"view":{},"extData":{}}}"#;
    let all = format!(
        r#"{{"dst":{{"type":3,"Id":["alice"],"appType":["{PACKAGE}"]}},"message":{message}}}"#
    );
    let push = |path: &str, body: &str| {
        let tasks::Call { base, token } = call;
        format!(
            "curl -sS '{base}{path}' \\\n  -H 'Authorization: Bearer {token}' \\\n  -d '{body}'"
        )
    };
    let label = r#"{"targets":["news"],"pushMessage":{"title":"News","content":"Rain at noon"}}"#;
    let everyone = r#"{"pushMessage":{"title":"Hello","content":"Hello, everyone"}}"#;
    let now = server.clock.now() / 1_000_000;
    let token_of = |cid| {
        let until = u32::try_from(now + SHOWN_SECONDS).unwrap_or(u32::MAX);
        crate::antelope::sign(settings::ANTELOPE_KEY, cid, 0, until)
    };
    let own = token_of(settings::CID);
    let antelope = format!(
        "curl -sS '{url}/v2/message/client/push' \\\n  -H 'X-Client-Token: {own}' \\\n  \
         -d '{{\"msg\":\"aGVsbG8=\",\"callback\":1,\"access_tokens\":[\"{own}\"]}}'"
    );
    let (app, admin) = (settings::SDK_APP, settings::TENCENT_ADMIN);
    let sig = crate::tencent::sign(settings::TENCENT_KEY, app, admin, now, SHOWN_SECONDS);
    let text = r#"[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello"}}]"#;
    let tencent = format!(
        "curl -sS '{url}/v4/openim/sendmsg?sdkappid={app}&identifier={admin}&usersig={sig}\
         &random=1&contenttype=json' \\\n  -d '{{\"From_Account\":\"bob\",\
         \"To_Account\":\"alice\",\"MsgRandom\":7,\"MsgBody\":{text}}}'"
    );
    let reply = r#"{"messages":[{"id":"demo-1","phone":"18512345678","content":"Yes, please"}]}"#;
    let query = r#"{"query":"{ app(appId: \"demo\") { messages(first: 3) { nodes { id deliveries { device stage ended } } } } }"}"#;
    say(&format!(
        "\n  {title}   {url}\n\n  \
         phone-1 and fridge-1 (alice) and phone-2 (bob) are connected; tv-1 (alice) is away.\n  \
         {users} more users have a phone behind a simulated JPush; labels: news, sport.\n\n  \
         {step1}\n\n{push_all}\n\n  {step2}\n\n{push_label}\n\n  {step3}\n\n{push_everyone}\n\n  \
         {step5}\n\n{tencent}\n\n  {step6}\n\n{antelope}\n\n  {step7}\n\n\
         curl -sS {url}/uplink/v1/messages -H 'Authorization: Bearer {token}' \\\n  \
         -H 'X-App-Id: {APP}' -d '{reply}'\n\n  \
         {step4}\n\ncurl -sS {url}/graphql -H 'Authorization: Bearer {token}' \\\n  -d '{query}'\n\n  \
         Explorer {url}/graphql · metrics {url}/metrics · API {url}/openapi.json\n  \
         Admin token {token}\n",
        title = bold("pushledger"),
        users = tasks::grouped(crowd::USERS),
        step1 = bold("UMS: push to all of alice's devices; tv-1 gets it when it connects:"),
        push_all = cloud.curl("/umse/v2/msgPush", &all),
        step2 = bold("Easemob: push to a label:"),
        push_label = push("/push/list/label", label),
        step3 = bold("Easemob: push to everyone:"),
        push_everyone = push("/push/task", everyone),
        step4 = bold("Ask for the latest messages:"),
        step5 = bold("Tencent IM: bob writes to alice, and the app's server is told:"),
        step6 = bold("Antelope: phone-1, linked as a cid, pushes to itself and its app's server:"),
        step7 = bold("UCloud: somebody answers a text message, and the app's server is told:"),
    ));
    Ok(())
}
