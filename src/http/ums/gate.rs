//! The gateway before every UMS call: which app, is the sign right over the bytes as they came,
//! and whose token is it. What a call needs no login for may come with an empty or junk token, so
//! the token is judged only when a call asks who the user is.

use std::sync::Arc;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue},
};
use domain::{IdempotencyRef, Metadata};

use super::{
    codes::{Code, Input, Interface, Problem},
    fields::{Fields, MAX_NAME},
    sign::sign,
};
use crate::{
    access::{Access, Origin},
    app::Server,
    directory::AppEntry,
    http::RequestId,
    jwt::{self, Refusal},
    ledger::{Context, Done, Lane, Refused},
    secrets::same,
};

/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 200;

/// An authenticated call.
pub struct Call {
    /// The app.
    pub app: Arc<AppEntry>,
    /// Which call.
    pub interface: Interface,
    /// Header `clientId`; empty on calls of clouds.
    pub client_id: String,
    /// The body as it came.
    pub body: Bytes,
    user: Result<Option<String>, Code>,
    metadata: Metadata,
    origin: Origin,
}

impl Call {
    /// Checks app, sign and client, and looks the token up.
    pub async fn authenticate(
        server: &Server,
        interface: Interface,
        headers: &HeaderMap,
        body: Bytes,
        origin: Origin,
        request_id: RequestId,
    ) -> Result<Call, Problem> {
        let header = |name| text(headers, name);
        let (cloud, path) = (interface.of_cloud(), interface.path());
        let credentials = Credentials {
            app_id: header("appId"),
            timestamp: header("timestamp"),
            sign: header("sign"),
        };
        let app = verify(server, &credentials, cloud, path, &body).await?;
        let client_id = if cloud { "" } else { header("clientId").ok_or(Input::Missing)? };
        if client_id.chars().count() > MAX_NAME {
            return Err(Input::WrongLength.into());
        }
        let user = match header("accessToken") {
            Some(token) if !cloud => user_of(server, &app, client_id, token).await?,
            Some(_) | None => Ok(None),
        };
        let metadata = Metadata {
            actor: if cloud { "cloud".to_owned() } else { "terminal".to_owned() },
            via: "ums".to_owned(),
            request: Some(request_id.0.to_string()),
            causation: None,
            idempotency: match headers.get("idempotency-key") {
                Some(key) => idempotency(server, &app, client_id, path, (key, &body))?,
                None => None,
            },
        };
        let client_id = client_id.to_owned();
        Ok(Call { app, interface, client_id, body, user, metadata, origin })
    }

    /// The fields of the body.
    pub fn fields(&self) -> Result<Fields<'_>, Input> {
        Fields::parse(&self.body)
    }

    /// The user that is logged in, if anybody is; a bad token counts as nobody, also one that
    /// cannot be judged now. For commands: where the user would have mattered, [`Call::execute`]
    /// says what is wrong with the token.
    pub fn user(&self) -> Option<String> {
        self.user.clone().unwrap_or_default()
    }

    /// The same where nobody says so afterwards: a token that cannot be judged now is refused.
    pub fn certain_user(&self) -> Result<Option<String>, Problem> {
        match &self.user {
            Err(Code::Unavailable) => Err(Problem::Gateway(Code::Unavailable)),
            Ok(_) | Err(_) => Ok(self.user()),
        }
    }

    /// The user that must be logged in.
    pub fn require_user(&self) -> Result<String, Problem> {
        match &self.user {
            Ok(Some(user)) => Ok(user.clone()),
            Ok(None) if self.interface == Interface::Devices => {
                Err(Problem::Gateway(Code::UnknownToken))
            }
            Ok(None) => Err(domain::Rejection::IllegalUser.into()),
            Err(code) => Err(Problem::Gateway(*code)),
        }
    }

    /// Logs what the app's cloud is about to be told of people. A terminal reads what is its own.
    pub fn tells(
        &self,
        server: &Server,
        records: usize,
        about: impl IntoIterator<Item = String>,
    ) -> Result<(), Problem> {
        if !self.interface.of_cloud() {
            return Ok(());
        }
        let access = self.origin.answered(format!("app:{}", self.app.id()));
        let access = access.of(self.app.id().to_owned()).with(records).about(about);
        let told = server.access.told(Access { role: Some("cloud".to_owned()), ..access });
        told.map_err(|_| Problem::Gateway(Code::Unavailable))
    }

    /// The id under which this call is logged.
    pub fn request(&self) -> String {
        self.metadata.request.clone().unwrap_or_default()
    }

    /// Has the ledger execute a command for this call.
    pub async fn execute(
        &self,
        server: &Server,
        command: impl domain::Decide + Send + Sync + 'static,
    ) -> Result<Done, Problem> {
        let context = Context { app: self.app.id().to_owned(), metadata: self.metadata.clone() };
        match server.ledger.execute(Lane::Interactive, context, command).await {
            // A token that could have made the difference is the better explanation.
            Err(Refused::Rejected(domain::Rejection::IllegalUser)) => match &self.user {
                Err(code) => Err(Problem::Gateway(*code)),
                Ok(_) => Err(domain::Rejection::IllegalUser.into()),
            },
            done => Ok(done?),
        }
    }
}

/// What a caller proves itself with.
pub struct Credentials<'a> {
    /// `appId`.
    pub app_id: Option<&'a str>,
    /// `timestamp`.
    pub timestamp: Option<&'a str>,
    /// `sign`.
    pub sign: Option<&'a str>,
}

/// The app whose key made the sign.
pub async fn verify(
    server: &Server,
    credentials: &Credentials<'_>,
    cloud: bool,
    path: &str,
    body: &[u8],
) -> Result<Arc<AppEntry>, Problem> {
    let app_id = credentials.app_id.ok_or(Input::Missing)?;
    let found = if cloud {
        server.directory.ums_system(app_id).await
    } else {
        server.directory.ums_app(app_id).await
    };
    let found = found.map_err(|error| projections::Fault::stored("app", error))?;
    let app = found.ok_or(Problem::Gateway(Code::AppRefused))?;
    let timestamp = credentials.timestamp.ok_or(Input::Missing)?;
    let given = credentials.sign.ok_or(Input::Missing)?;
    let keys = if cloud { &app.ums_system_keys } else { &app.ums_app_keys };
    let signed_with =
        |key: &String| same(sign(path, body, app_id, key, timestamp).as_bytes(), given.as_bytes());
    if keys.iter().any(signed_with) { Ok(app) } else { Err(Problem::Gateway(Code::BadSign)) }
}

/// The user that a token stands for on a client, or the code that says why it stands for nobody.
pub async fn user_of(
    server: &Server,
    app: &AppEntry,
    client_id: &str,
    token: &str,
) -> Result<Result<Option<String>, Code>, Problem> {
    if let Some(verifier) = &app.ums_jwt
        && jwt::looks_like_one(token)
    {
        let user = verifier.user(&server.jwks, client_id, token).await;
        return Ok(user.map(Some).map_err(|refusal| match refusal {
            Refusal::Unknown => Code::UnknownToken,
            Refusal::Expired => Code::ExpiredToken,
            Refusal::Foreign => Code::ForeignToken,
            Refusal::Undecided => Code::Unavailable,
        }));
    }
    let Some(found) = server.tokens.find(token).await? else {
        return Ok(Err(Code::UnknownToken));
    };
    Ok(if found.app != app.id() || found.client_id != client_id {
        Err(Code::ForeignToken)
    } else if found.expires_at <= server.clock.now() {
        Err(Code::ExpiredToken)
    } else {
        Ok(Some(found.user))
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// Terminals know nothing of each other's keys, so each has its own; an app's clouds share theirs.
fn idempotency(
    server: &Server,
    app: &AppEntry,
    client_id: &str,
    path: &str,
    (key, body): (&HeaderValue, &[u8]),
) -> Result<Option<IdempotencyRef>, Input> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Input::WrongLength);
    }
    let (app, client) = (app.id().as_bytes(), client_id.as_bytes());
    Ok(Some(key).filter(|key| !key.is_empty()).map(|key| IdempotencyRef {
        key: server.master.fingerprint(&[b"key", app, client, key.as_bytes()]),
        request: server.master.fingerprint(&[b"request", app, path.as_bytes(), body]),
    }))
}
