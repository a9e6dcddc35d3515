//! `GET` and `POST /v2/apps/webhook`: where the app is called back. Nothing is called from here; the
//! addresses are part of the app's configuration.

use domain::{
    Rejection,
    app::{AppConfig, ChangeApp},
    facts::{Fact, Key},
};
use serde::Deserialize;
use serde_json::json;

use super::{Reply, errors::Problem, gate::Call};
use crate::{app::Server, apps::antelope::webhook, ledger::Refused};

/// How often a change is tried again when somebody else changed the app in between.
const TRIES: usize = 5;

#[derive(Deserialize)]
struct Change {
    webhook: Option<String>,
    state_webhook: Option<String>,
}

pub(super) fn read(call: &Call) -> Reply {
    let antelope = call.antelope();
    Reply::of(json!({
        "webhook": antelope.webhook.as_deref().unwrap_or_default(),
        "state_webhook": antelope.state_webhook.as_deref().unwrap_or_default(),
    }))
}

pub(super) async fn change(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let change: Change = call.body()?;
    let own = change.webhook.map(|url| webhook("webhook", url)).transpose()?;
    let state = change.state_webhook.map(|url| webhook("state_webhook", url)).transpose()?;
    let mut tries = 0;
    let done = loop {
        let (mut config, version) = now(server, call).await?;
        if let Some(antelope) = &mut config.antelope {
            if let Some(url) = &own {
                antelope.webhook.clone_from(url);
            }
            if let Some(url) = &state {
                antelope.state_webhook.clone_from(url);
            }
        }
        tries += 1;
        match call.execute(server, ChangeApp { config, expected: Some(version) }).await {
            Err(Problem::Refused(Refused::Rejected(Rejection::VersionMoved { .. })))
                if tries < TRIES => {}
            done => break done?,
        }
    };
    server.directory.reload().await?;
    Ok(Reply::default().after(done))
}

/// The app's configuration as the ledger has it, and its version.
async fn now(server: &Server, call: &Call) -> Result<(AppConfig, i64), Problem> {
    let Fact::Apps(apps) = server.ledger.fact(Key::Apps).await? else {
        return Err(projections::Fault::stored("apps", "another fact").into());
    };
    let own = apps.iter().find(|app| app.config.app_id == call.app.id() && !app.deleted);
    let own = own.ok_or(Refused::Rejected(Rejection::UnknownApp))?;
    Ok((own.config.clone(), own.version))
}
