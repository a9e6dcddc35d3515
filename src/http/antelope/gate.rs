//! The gate before every call: an app's server shows its id and one of its keys, a device its token.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::Query,
    http::{HeaderMap, request::Parts},
};
use domain::{Decide, IdempotencyRef, Metadata, app::AntelopeConfig};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    errors::{Problem, illegal},
    interface::Interface,
};
use crate::{
    antelope,
    app::Server,
    directory::AppEntry,
    http::RequestId,
    ledger::{Context, Done, Lane},
    secrets::same,
};

/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 200;

/// An authenticated call.
pub struct Call {
    /// The app.
    pub app: Arc<AppEntry>,
    /// The device that calls; none if it is the app's server.
    pub device: Option<u32>,
    /// The query.
    pub query: HashMap<String, String>,
    body: Bytes,
    metadata: Metadata,
}

impl Call {
    /// Lets a call in, or says why not.
    pub async fn authenticate(
        server: &Server,
        interface: Interface,
        parts: &Parts,
        body: Bytes,
        request: &RequestId,
    ) -> Result<Call, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        let query = query.map(|Query(query)| query).unwrap_or_default();
        let (app, device) = if interface.of_device() {
            let holder = holder(server, &parts.headers, &query).await?;
            (holder.app, Some(holder.cid))
        } else {
            (of_server(server, &parts.headers).await?, None)
        };
        let metadata = Metadata {
            actor: if device.is_some() { "terminal" } else { "cloud" }.to_owned(),
            via: "antelope".to_owned(),
            request: Some(request.0.to_string()),
            causation: None,
            idempotency: idempotency(server, (&app, device), interface, parts, &body)?,
        };
        Ok(Call { app, device, query, body, metadata })
    }

    /// The app's Antelope side.
    #[expect(clippy::expect_used, reason = "an app without that side was refused before")]
    pub fn antelope(&self) -> &AntelopeConfig {
        self.app.config.antelope.as_ref().expect("an Antelope side")
    }

    /// The body, which is JSON of that kind.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // Also what is not looked at must be text.
        let text = std::str::from_utf8(&self.body).map_err(|_| illegal("the body is no UTF-8"))?;
        object(text).map_err(illegal)
    }

    /// Has the ledger execute a command, once for each idempotency key.
    pub async fn execute(
        &self,
        server: &Server,
        command: impl Decide + Send + Sync + 'static,
    ) -> Result<Done, Problem> {
        let context = Context { app: self.app.id().to_owned(), metadata: self.metadata.clone() };
        Ok(server.ledger.execute(Lane::Interactive, context, command).await?)
    }
}

/// An object of that kind. Without a look at how it begins, a list of its values would do as well.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    let object = text.trim_ascii_start().starts_with('{');
    let wrong = || serde::de::Error::custom("it must be an object");
    if object { serde_json::from_str(text) } else { Err(wrong()) }
}

/// The device behind the token that a request shows in its header or its query.
pub async fn holder(
    server: &Server,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<antelope::Holder, Problem> {
    let header = headers.get("x-client-token").map(|token| token.to_str().unwrap_or_default());
    let token = header.or_else(|| query.get("client_token").map(String::as_str));
    let token = token.ok_or(Problem::Denied("X-Client-Token is missing"))?;
    let found = antelope::holder(&server.directory, token, server.clock.now()).await?;
    found.ok_or(Problem::Denied("X-Client-Token is not valid"))
}

/// The app whose server calls.
async fn of_server(server: &Server, headers: &HeaderMap) -> Result<Arc<AppEntry>, Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = header("x-app-id").ok_or(Problem::Denied("X-APP-ID is missing"))?;
    let key = header("x-app-key").ok_or(Problem::Denied("X-APP-Key is missing"))?;
    let app = server.directory.antelope(id).await?;
    let own = |app: &Arc<AppEntry>| {
        // Every key is looked at, so that the time tells nothing of how many there are before it.
        let shown = app.antelope_keys.iter().map(|own| same(own.as_bytes(), key.as_bytes()));
        shown.fold(false, |any, own| any | own)
    };
    app.filter(own).ok_or(Problem::Denied("X-APP-ID or X-APP-Key is not valid"))
}

/// The caller's own key makes its request repeatable. An `X-Request-ID` does not: proxies give one
/// to many calls. Devices know nothing of each other's keys, so each has its own; an app's servers
/// share theirs.
fn idempotency(
    server: &Server,
    (app, device): (&AppEntry, Option<u32>),
    interface: Interface,
    parts: &Parts,
    body: &[u8],
) -> Result<Option<IdempotencyRef>, Problem> {
    let key = parts.headers.get("idempotency-key").filter(|value| !value.is_empty());
    let Some(key) = key else { return Ok(None) };
    if key.len() > MAX_KEY_BYTES {
        return Err(illegal(format!("an Idempotency-Key has at most {MAX_KEY_BYTES} bytes")));
    }
    let (app, path) = (app.id().as_bytes(), interface.path().as_bytes());
    let who = device.map(|cid| cid.to_string()).unwrap_or_default();
    let key = server.master.fingerprint(&[b"antelope key", app, who.as_bytes(), key.as_bytes()]);
    let request = server.master.fingerprint(&[b"request", app, path, body]);
    Ok(Some(IdempotencyRef { key, request }))
}
