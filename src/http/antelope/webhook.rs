//! `GET` and `POST /v2/apps/webhook`: where the app is called back. Nothing is called from here; the
//! addresses are part of the app's configuration.

use domain::{
    Rejection,
    app::{AppConfig, CallUrl, ChangeApp},
    facts::{Fact, Key},
};
use serde::Deserialize;
use serde_json::json;

use super::{Reply, errors::Problem, gate::Call};
use crate::{
    app::Server,
    apps::Vault,
    ledger::{Done, Refused},
    secrets::Sealed,
};

/// How often a change is tried again when somebody else changed the app in between.
const TRIES: usize = 5;

#[derive(Deserialize)]
struct Change {
    webhook: Option<String>,
    state_webhook: Option<String>,
}

pub(super) fn read(call: &Call) -> Reply {
    let antelope = call.antelope();
    // The app's own server is told the whole, as it gave it.
    let whole = |url: &Option<CallUrl>| url.as_ref().and_then(|url| call.app.url(url));
    Reply::of(json!({
        "webhook": whole(&antelope.webhook).unwrap_or_default(),
        "state_webhook": whole(&antelope.state_webhook).unwrap_or_default(),
    }))
}

pub(super) async fn change(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let change: Change = call.body()?;
    let (pool, sealed) = (&server.ledger.database().ledger_write, Sealed::default());
    let vault = Vault { master: &server.master, pool, sealed: &sealed };
    let done = apply(server, call, vault, change).await;
    // What was refused is referred to by nobody; anything else may have taken place.
    if let Err(Problem::Illegal(_) | Problem::Refused(Refused::Rejected(_) | Refused::Overloaded))
    | Ok(Done { repeated: true, .. }) = &done
        && let Err(fault) = sealed.remove(pool).await
    {
        tracing::warn!(%fault, "secrets that nobody needs could not be removed");
    }
    let done = done?;
    server.directory.reload().await?;
    Ok(Reply::default().after(done))
}

/// Applies a change to the configuration as it is now, whoever else changes it.
async fn apply(
    server: &Server,
    call: &Call,
    vault: Vault<'_>,
    change: Change,
) -> Result<Done, Problem> {
    let (app, old) = (call.app.id(), call.antelope());
    let Change { webhook, state_webhook } = change;
    let (own_given, state_given) = (webhook.is_some(), state_webhook.is_some());
    let own = vault.url_or_none(app, "webhook", old.webhook.clone(), webhook).await?;
    let before = old.state_webhook.clone();
    let state = vault.url_or_none(app, "state_webhook", before, state_webhook).await?;
    let mut tries = 0;
    loop {
        let (mut config, version) = now(server, call).await?;
        if let Some(antelope) = &mut config.antelope {
            if own_given {
                antelope.webhook.clone_from(&own);
            }
            if state_given {
                antelope.state_webhook.clone_from(&state);
            }
        }
        tries += 1;
        match call.execute(server, ChangeApp { config, expected: Some(version) }).await {
            Err(Problem::Refused(Refused::Rejected(Rejection::VersionMoved { .. })))
                if tries < TRIES => {}
            done => return done,
        }
    }
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
