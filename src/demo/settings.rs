//! The demo app: its credentials for both protocols, and a simulated JPush as its push vendor.

use std::sync::Arc;

use domain::app::{ChangeApp, CreateApp};
use serde_json::{Map, Value, json};
use sim::fakes::{Fault, Jpush, JpushFake, Options};

use super::{APP, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY};
use crate::{
    app::Server,
    apps::{
        AppInput, Vault, delivery::DeliveryInput, easemob::EasemobInput, keys::KeyInput, new_app,
        ums::UmsInput, vendors::VendorInput,
    },
    cli::Failure,
    easemob::tokens::Holder,
    ledger::{Context, Lane},
    secrets::Sealed,
};

/// Known to everybody, so good for nothing else.
const CLIENT_ID: &str = "demo";
const CLIENT_SECRET: &str = "0123456789abcdeffedcba9876543210";
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
pub(super) async fn set_up(server: &Arc<Server>, jpush: &JpushFake) -> Result<(), Failure> {
    let input = input(jpush)?;
    let (pool, sealed) = (&server.ledger.database().ledger_write, Sealed::default());
    let vault = Vault { master: &server.master, pool, sealed: &sealed };
    let context = Context { app: APP.to_owned(), ..Context::default() };
    match server.directory.app(APP).await? {
        Some(app) => {
            let (config, _) = vault.merge(app.config.clone(), input).await?;
            let command = ChangeApp { config, expected: None };
            server.ledger.execute(Lane::Interactive, context, command).await?;
        }
        None => {
            let (config, _) = new_app(vault, input).await?;
            server.ledger.execute(Lane::Interactive, context, CreateApp { config }).await?;
        }
    }
    Ok(server.directory.reload().await?)
}

fn input(jpush: &JpushFake) -> Result<AppInput, Failure> {
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
        vendors: Some(vec![vendor]),
        // A newcomer does not wait long for what a silent device does.
        delivery: Some(DeliveryInput { ack_wait_ms: Some(1_000), keep_seconds: None }),
        ..AppInput::default()
    })
}

fn object(value: Value) -> Result<Map<String, Value>, Failure> {
    Ok(serde_json::from_value(value)?)
}

/// A token of the app's server, for Easemob's calls.
pub(super) async fn token(server: &Arc<Server>) -> Result<String, Failure> {
    let app = server.directory.app(APP).await?.ok_or("the demo app is gone")?;
    let (print, _) = app.easemob_secrets.first().ok_or("the demo app has no secret")?;
    Ok(server.easemob.tokens.issue(APP, Holder::App(print.clone()), None).await?)
}
