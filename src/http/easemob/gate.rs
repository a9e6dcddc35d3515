//! The gate before every call: whose token is it, is the app's push service open, and does the app
//! call too often. A token call proves itself in its body, so it only passes the last.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::Query,
    http::{HeaderMap, header, request::Parts},
};
use domain::{
    Decide, IdempotencyRef, Metadata, Rejection,
    account::User,
    app::EasemobConfig,
    facts::{Fact, Key},
};
use uuid::Uuid;

use super::{
    Reply,
    errors::{Denied, Problem},
    fields::{Fields, username},
    interface::{Family, Interface},
    receipts,
};
use crate::{
    access::{Access, Origin},
    app::Server,
    directory::AppEntry,
    easemob::tokens::{self, Holder},
    http::RequestId,
    ledger::{Context, Done, Lane},
};

/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 200;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Nobody: a token call.
    Nobody,
    /// A push vendor.
    Vendor,
    /// The app's server.
    App,
    /// A user.
    User(Uuid, String),
}

/// An authenticated call.
pub struct Call {
    /// The app.
    pub app: Arc<AppEntry>,
    /// Which call.
    pub interface: Interface,
    /// The names in its path.
    pub names: Vec<String>,
    /// The body as it came.
    pub body: Bytes,
    /// The query.
    pub query: HashMap<String, String>,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole address, as answers show it.
    pub uri: String,
    /// When it began, in µs since the epoch.
    pub started: i64,
    metadata: Metadata,
    caller: Caller,
    origin: Origin,
}

impl Call {
    /// Lets a call in, or says why not.
    pub async fn authenticate(
        server: &Server,
        app: Arc<AppEntry>,
        (interface, names): (Interface, Vec<String>),
        parts: Parts,
        body: Bytes,
        request_id: RequestId,
        started: i64,
    ) -> Result<Call, Problem> {
        let easemob = config(&app)?;
        let caller = match interface.family() {
            Family::Token => Caller::Nobody,
            Family::Vendor if parts.headers.contains_key(receipts::SIGNATURE) => {
                let signature = parts.headers.get(receipts::SIGNATURE);
                let signature = signature.and_then(|value| value.to_str().ok()).unwrap_or_default();
                if !receipts::signed(&app, signature, started) {
                    return Err(Problem::Denied(Denied::NotAllowed));
                }
                Caller::Vendor
            }
            Family::Push | Family::User | Family::Binding | Family::Vendor => {
                admitted(server, &app, interface, &names, &parts.headers).await?
            }
        };
        if interface.family() == Family::Push && !easemob.push_open {
            return Err(Problem::NotOpen);
        }
        let group = interface.group();
        let per_second = group.per_second(&easemob.limits);
        let taken = server.easemob.limiter.take(app.id(), group, per_second, started);
        taken.map_err(Problem::TooOften)?;
        let (query, origin) = (Query::try_from_uri(&parts.uri), Origin::noted(&parts.extensions));
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let metadata = Metadata {
            actor: if let Caller::User(..) = caller { "terminal" } else { "cloud" }.to_owned(),
            via: "easemob".to_owned(),
            request: Some(request_id.0.to_string()),
            ..Metadata::default()
        };
        Ok(Call {
            interface,
            names,
            body,
            query: query.map(|Query(query)| query).unwrap_or_default(),
            uri: format!("http://{}{}", host.unwrap_or_default(), parts.uri.path()),
            headers: parts.headers,
            started,
            metadata,
            caller,
            origin,
            app,
        })
    }

    /// Logs what the app's server is about to be told of people. A user reads what is its own.
    pub(super) fn tells(&self, server: &Server, reply: &Reply) -> Result<(), Problem> {
        if self.caller != Caller::App || !self.interface.tells_of_people() {
            return Ok(());
        }
        let entities = reply.entities.iter().flatten();
        let about = entities.filter_map(|one| Some(format!("account:{}", one["uuid"].as_str()?)));
        let access = self.origin.answered(format!("app:{}", self.app.id()));
        let records = reply.entities.as_ref().map_or(1, Vec::len);
        let access = Access {
            role: Some("cloud".to_owned()),
            operation: self.interface.route(),
            ..access.of(self.app.id().to_owned()).with(records).about(about)
        };
        server.access.told(access).map_err(|_| Problem::Busy)
    }

    /// The app's Easemob side.
    #[expect(clippy::expect_used, reason = "an app without that side was refused before")]
    pub fn easemob(&self) -> &EasemobConfig {
        self.app.config.easemob.as_ref().expect("an Easemob side")
    }

    /// The fields of the body.
    pub fn fields(&self) -> Result<Fields<'_>, Problem> {
        Fields::parse(&self.body)
    }

    /// The name in the path.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The user that the path names.
    pub async fn user(&self, server: &Server) -> Result<Arc<User>, Problem> {
        let found = user_of(server, self.app.id(), self.name()).await?;
        found.ok_or_else(|| Rejection::UnknownUser(self.name().to_owned()).into())
    }

    /// Has the ledger execute a command.
    pub async fn execute(
        &self,
        server: &Server,
        command: impl Decide + Send + Sync + 'static,
    ) -> Result<Done, Problem> {
        Ok(server.ledger.execute(Lane::Interactive, self.context(), command).await?)
    }

    /// The same, once for an idempotency key, if the caller sent one.
    pub async fn execute_once(
        &self,
        server: &Server,
        command: impl Decide + Send + Sync + 'static,
    ) -> Result<Done, Problem> {
        Ok(server.ledger.execute(Lane::Interactive, self.context_once(server)?, command).await?)
    }

    /// Who calls, and how, for the ledger.
    pub fn context(&self) -> Context {
        Context { app: self.app.id().to_owned(), metadata: self.metadata.clone() }
    }

    /// The same with the caller's idempotency key, if it sent one.
    pub fn context_once(&self, server: &Server) -> Result<Context, Problem> {
        let mut context = self.context();
        let key = self.headers.get("idempotency-key").filter(|key| !key.is_empty());
        if let Some(key) = key {
            if key.len() > MAX_KEY_BYTES {
                let how = format!("an Idempotency-Key has at most {MAX_KEY_BYTES} bytes");
                return Err(Problem::Illegal(how));
            }
            let app = self.app.id().as_bytes();
            let path = (self.interface.path().as_bytes(), self.name().as_bytes());
            context.metadata.idempotency = Some(IdempotencyRef {
                key: server.master.fingerprint(&[b"easemob key", app, key.as_bytes()]),
                request: server.master.fingerprint(&[b"request", app, path.0, path.1, &self.body]),
            });
        }
        Ok(context)
    }
}

/// The Easemob side of an app that was found by it.
fn config(app: &AppEntry) -> Result<&EasemobConfig, Problem> {
    app.config.easemob.as_ref().ok_or_else(|| Problem::NoApp(String::new()))
}

/// Who calls, if they may make this call.
async fn admitted(
    server: &Server,
    app: &AppEntry,
    interface: Interface,
    names: &[String],
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    let caller = caller(server, app, bearer(headers)).await;
    match (caller, interface) {
        (Ok(Caller::App), _) => Ok(Caller::App),
        (Ok(Caller::User(account, name)), _)
            if interface.of_user()
                && names.first().and_then(|own| username(own)) == Some(name.clone()) =>
        {
            Ok(Caller::User(account, name))
        }
        (Ok(_) | Err(Problem::Denied(_)), Interface::RegisterUsers) => {
            Err(Problem::Denied(Denied::Closed))
        }
        (Ok(_), _) => Err(Problem::Denied(Denied::NotAllowed)),
        (Err(problem), _) => Err(problem),
    }
}

/// What follows `Bearer` in the headers: nothing at all, or the text, which may be of another kind.
pub fn bearer(headers: &HeaderMap) -> Option<Result<&str, Denied>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let Ok(text) = value.to_str() else { return Some(Err(Denied::Corrupt)) };
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some(scheme), None, _) if scheme.eq_ignore_ascii_case("bearer") => None,
        (Some(scheme), Some(token), None) if scheme.eq_ignore_ascii_case("bearer") => {
            Some(Ok(token))
        }
        _ => Some(Err(Denied::Corrupt)),
    }
}

/// Who holds a token, if it is one of this app's that has not ended.
pub async fn caller(
    server: &Server,
    app: &AppEntry,
    token: Option<Result<&str, Denied>>,
) -> Result<Caller, Problem> {
    let token = token.ok_or(Problem::Denied(Denied::Expired))?.map_err(Problem::Denied)?;
    if !tokens::looks_like_one(token) {
        return Err(Problem::Denied(Denied::Corrupt));
    }
    let found = server.easemob.tokens.find(token).await?;
    let found = found.filter(|found| found.app == app.id());
    let found = found.ok_or(Problem::Denied(Denied::Unknown))?;
    if found.expires_at <= server.clock.now() {
        return Err(Problem::Denied(Denied::Expired));
    }
    match found.holder {
        // With the secret that asked for it, a token ends.
        Holder::App(print) if app.easemob_secrets.iter().any(|(own, _)| *own == print) => {
            Ok(Caller::App)
        }
        Holder::App(_) => Err(Problem::Denied(Denied::Expired)),
        Holder::User(account, name) => match user_of(server, app.id(), &name).await? {
            Some(user) if user.account == account => Ok(Caller::User(account, name)),
            Some(_) | None => Err(Problem::Denied(Denied::Unknown)),
        },
    }
}

/// The user of a name, whatever its case, as the ledger has it now.
pub async fn user_of(server: &Server, app: &str, name: &str) -> Result<Option<Arc<User>>, Problem> {
    let Some(name) = username(name) else { return Ok(None) };
    match server.ledger.fact(Key::user(app, &name)).await? {
        Fact::User(user) => Ok(user),
        _ => Ok(None),
    }
}
