//! The demo app: its credentials for each protocol, a simulated JPush as its push vendor, and where
//! its own server is called back.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    account::{Address, LinkAccount},
    app::{ChangeApp, CreateApp, TencentCallback},
    cid::LinkDevice,
};
use projections::registry;
use serde_json::{Map, Value, json};
use sim::fakes::{Fault, Jpush, JpushFake, Options};

use super::{APP, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY};
use crate::{
    app::Server,
    apps::{
        AppInput, Vault, antelope::AntelopeInput, delivery::DeliveryInput, easemob::EasemobInput,
        keys::KeyInput, new_app, tencent::TencentInput, ums::UmsInput, uplink::UplinkInput,
        vendors::VendorInput, webhooks::WebhookInput,
    },
    callback::SECRET_PREFIX,
    cli::Failure,
    easemob::tokens::Holder,
    ledger::{Context, Lane},
    secrets::Sealed,
};

/// Known to everybody, so good for nothing else.
const CLIENT_ID: &str = "demo";
const CLIENT_SECRET: &str = "0123456789abcdeffedcba9876543210";
pub(super) const ANTELOPE_APP: &str = "Demo";
pub(super) const ANTELOPE_KEY: &str = "0123456789abcdef0123456789abcdef";
/// The number of phone-1 over Antelope's interface, and the range that it is of.
pub(super) const CID: u32 = 5_000_001;
const CIDS: (u32, u32) = (5_000_000, 5_009_999);
pub(super) const SDK_APP: u32 = 1_400_009_999;
pub(super) const TENCENT_KEY: &str = "demo-0123456789abcdef";
pub(super) const TENCENT_TOKEN: &str = "demo-callback-token";
pub(super) const TENCENT_ADMIN: &str = "administrator";
/// The organization in every path.
pub(super) const ORG: &str = "pushledger";
/// The certificate name that devices are bound under.
pub(super) const NOTIFIER: &str = "jpush";
/// The package that JPush serves: no UMS device has it, so theirs stay with our own channel.
const CROWD_PACKAGE: &str = "com.example.crowd";
/// How long every answer of JPush takes, in ms; of a share in a thousand, longer.
const LATENCY_MS: u64 = 120;
const SLOW: (Fault, u16) = (Fault::Slow { ms: 250 }, 100);
/// Tasks that the app may create in five minutes, and have under way: nobody should run out.
const TASKS: u32 = 1_000;

/// A JPush that is neither fast nor always well.
pub(super) async fn start_jpush() -> std::io::Result<JpushFake> {
    let options = Options { latency_ms: LATENCY_MS, requests_kept: 0, ..Options::default() };
    let jpush = JpushFake::start(Jpush::default(), options).await?;
    let (fault, per_mille) = SLOW;
    jpush.plan_share(fault, per_mille);
    Ok(jpush)
}

/// Makes the app, or has it know where its JPush is this time.
pub(super) async fn set_up(
    server: &Arc<Server>,
    jpush: &JpushFake,
    receiver: SocketAddr,
    secret: &str,
) -> Result<(), Failure> {
    let input = input(jpush, receiver)?;
    let (pool, sealed) = (&server.ledger.database().ledger_write, Sealed::default());
    let vault = Vault { master: &server.master, pool, sealed: &sealed };
    let hook = WebhookInput {
        url: format!("http://{receiver}/webhook"),
        events: ["recall.*", "uplink.*"].map(str::to_owned).to_vec(),
        secret: Some(secret.to_owned()),
    };
    let (hook, _) = vault.new_webhook(APP, hook).await?;
    let context = Context { app: APP.to_owned(), ..Context::default() };
    match server.directory.app(APP).await? {
        Some(app) => {
            let (mut config, _) = vault.merge(app.config.clone(), input).await?;
            config.webhooks = vec![hook];
            let command = ChangeApp { config, expected: None };
            server.ledger.execute(Lane::Interactive, context, command).await?;
        }
        None => {
            let (mut config, _) = new_app(vault, input).await?;
            config.webhooks = vec![hook];
            server.ledger.execute(Lane::Interactive, context, CreateApp { config }).await?;
        }
    }
    Ok(server.directory.reload().await?)
}

fn input(jpush: &JpushFake, receiver: SocketAddr) -> Result<AppInput, Failure> {
    let url = |path: &str| format!("http://{receiver}{path}");
    let ums = UmsInput {
        app_id: Some(UMS_APP.to_owned()),
        app_keys: Some(vec![KeyInput::Value(UMS_KEY.to_owned())]),
        system_id: Some(UMS_SYSTEM.to_owned()),
        system_keys: Some(vec![KeyInput::Value(UMS_SYSTEM_KEY.to_owned())]),
        ..UmsInput::default()
    };
    let limits = json!({ "runningTasks": TASKS, "createdTasks": TASKS });
    let easemob = EasemobInput {
        org_name: Some(ORG.to_owned()),
        app_name: Some(APP.to_owned()),
        client_id: Some(CLIENT_ID.to_owned()),
        client_secrets: Some(vec![KeyInput::Value(CLIENT_SECRET.to_owned())]),
        limits: Some(object(limits)?),
        ..EasemobInput::default()
    };
    let antelope = AntelopeInput {
        app_id: Some(ANTELOPE_APP.to_owned()),
        app_keys: Some(vec![KeyInput::Value(ANTELOPE_KEY.to_owned())]),
        app_key: None,
        cid_ranges: Some(vec![CIDS]),
        webhook: Some(url("/antelope")),
        state_webhook: Some(url("/antelope/state")),
    };
    let callbacks = [TencentCallback::AfterSend, TencentCallback::AfterWithdraw];
    let tencent = TencentInput {
        sdk_app_id: Some(SDK_APP),
        secret_keys: Some(vec![KeyInput::Value(TENCENT_KEY.to_owned())]),
        callback_url: Some(url("/tencent")),
        callback_token: Some(TENCENT_TOKEN.to_owned()),
        callbacks: Some(callbacks.map(|own| own.command().to_owned()).to_vec()),
        ..TencentInput::default()
    };
    let uplink = UplinkInput { callback_url: Some(url("/uplink")), ..UplinkInput::default() };
    let own = jpush.credentials();
    let credentials = json!({
        "vendor": "jpush", "baseUrl": jpush.url(),
        "appKey": own.app_key, "masterSecret": own.master_secret,
    });
    let vendor = VendorInput {
        name: NOTIFIER.to_owned(),
        app_packages: vec![CROWD_PACKAGE.to_owned()],
        credentials: Some(object(credentials)?),
    };
    Ok(AppInput {
        app_id: Some(APP.to_owned()),
        name: Some("Demo".to_owned()),
        ums: Some(ums),
        easemob: Some(easemob),
        antelope: Some(antelope),
        tencent: Some(tencent),
        uplink: Some(uplink),
        vendors: Some(vec![vendor]),
        // A newcomer does not wait long for what a silent device does.
        delivery: Some(DeliveryInput { ack_wait_ms: Some(1_000), keep_seconds: None }),
        ..AppInput::default()
    })
}

fn object(value: Value) -> Result<Map<String, Value>, Failure> {
    Ok(serde_json::from_value(value)?)
}

/// A secret for the demo's webhook, as the specification words one.
pub(super) fn webhook_secret() -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode([7; 32]))
}

/// Gives the users their Tencent names, and phone-1 its number, so that calls of those protocols
/// reach the devices that are here.
pub(super) async fn link(server: &Arc<Server>) -> Result<(), Failure> {
    let context = || Context { app: APP.to_owned(), ..Context::default() };
    for user in ["alice", "bob"] {
        let (of, new) = (Address::Ums(user.to_owned()), Address::Tencent(user.to_owned()));
        let command = LinkAccount { app: APP.to_owned(), of, new: vec![new] };
        server.ledger.execute(Lane::Interactive, context(), command).await?;
    }
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let found = registry::by_client(&mut checkout.conn(), APP, "phone-1").await?;
    drop(checkout);
    let device = found.first().ok_or("phone-1 is not registered")?.number;
    let command = LinkDevice { app: APP.to_owned(), device, cid: CID };
    server.ledger.execute(Lane::Interactive, context(), command).await?;
    Ok(())
}

/// A token of the app's server, for Easemob's calls.
pub(super) async fn token(server: &Arc<Server>) -> Result<String, Failure> {
    let app = server.directory.app(APP).await?.ok_or("the demo app is gone")?;
    let (print, _) = app.easemob_secrets.first().ok_or("the demo app has no secret")?;
    Ok(server.easemob.tokens.issue(APP, Holder::App(print.clone()), None).await?)
}
