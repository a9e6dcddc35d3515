//! The admin API, `/admin/v1/*`: apps, tokens, owners, recalls. Callers are operators with bearer
//! tokens; refusals are problem documents (RFC 9457).

pub mod access;
pub mod addresses;
pub mod apps;
pub mod audit;
pub mod callbacks;
pub mod erasures;
pub mod events;
pub mod export;
pub mod messages;
pub mod operators;
pub mod owners;
pub mod tokens;
pub mod views;
pub mod webhooks;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{FromRequestParts, Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use domain::{IdempotencyRef, Metadata, Rejection};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use super::{
    RequestId,
    body::{self, NoBody},
};
use crate::{
    access::{Denied, Origin, Unlogged},
    app::Server,
    apps::{InputError, Vault},
    directory::AppEntry,
    ledger::{Context, Done, Refused},
    secrets::Sealed,
    tokens::{Operator, Role},
};

/// The routes.
pub fn routes() -> Router<Arc<Server>> {
    let app = "/admin/v1/apps/{app_id}";
    let below = |rest: &str| format!("{app}{rest}");
    Router::new()
        .route("/admin/v1/apps", get(apps::list).post(apps::create))
        .route(app, get(apps::read).patch(apps::change).delete(apps::delete))
        .route(&below("/access-tokens"), post(tokens::issue))
        .route(&below("/owners/{device_id}"), put(owners::set).delete(owners::remove))
        .route(&below("/accounts/{protocol}/{name}/addresses"), put(addresses::of_account))
        .route(&below("/devices/{number}/addresses"), put(addresses::of_device))
        .route(&below("/callbacks"), get(callbacks::list))
        .route(&below("/callbacks/receivers"), get(callbacks::receivers))
        .route(&below("/callbacks/replay"), post(callbacks::replay))
        .route(&below("/erasures"), get(erasures::list).post(erasures::erase))
        .route(&below("/events"), get(events::read))
        .route(&below("/export"), get(export::read))
        .route(&below("/webhooks"), get(webhooks::list).post(webhooks::create))
        .route(&below("/webhooks/{webhook_id}"), axum::routing::delete(webhooks::delete))
        .route(&below("/webhooks/{webhook_id}/rotate"), post(webhooks::rotate))
        .route(&below("/webhooks/{webhook_id}/enable"), post(webhooks::enable))
        .route(&below("/messages/{message_id}/recall"), post(messages::recall))
        .route(&below("/messages/{message_id}/replace"), post(messages::replace))
        .route("/admin/v1/access", get(access::list))
        .route("/admin/v1/audit/checkpoint", get(audit::checkpoint))
        .route("/admin/v1/audit/keys", get(audit::keys))
        .route("/admin/v1/audit/inclusion", get(audit::inclusion))
        .route("/admin/v1/audit/consistency", get(audit::consistency))
        .route("/admin/v1/operators", get(operators::list).post(operators::create))
        .route("/admin/v1/operators/{number}", axum::routing::delete(operators::withdraw))
        .route(
            "/admin/v1/views/rebuild",
            get(views::status).post(views::rebuild).delete(views::cancel),
        )
        .route("/admin/v1/views/set-aside", get(views::set_aside))
        .layer(middleware::from_fn(whole))
        .layer(middleware::map_response(worded))
}

/// Words as a problem document what the router refused by itself: a method, or a path that is no
/// text.
pub(super) async fn worded(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let json = |kind: &HeaderValue| kind.as_bytes().ends_with(b"json");
    if !status.is_client_error() || kind.is_some_and(json) {
        return response;
    }
    let mut refusal = Refusal::new(status, "there is no such call").into_response();
    if let Some(methods) = response.headers().get(header::ALLOW) {
        refusal.headers_mut().insert(header::ALLOW, methods.clone());
    }
    refusal
}

/// Reads the body before the call is looked at, whoever calls.
async fn whole(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match body::read(body, MAX_BODY_BYTES).await {
        Ok(body) => next.run(Request::from_parts(parts, body.into())).await,
        Err(none) => Refusal::no_body(none).into_response(),
    }
}

/// Largest body of a call or a query, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longest idempotency key, in characters.
const MAX_KEY: usize = 200;

/// A refusal, as `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refusal {
    /// Always `about:blank`: the status says the kind.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The reason phrase of the status.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// Who is refused, if it is a refusal of who calls.
    #[serde(skip)]
    denied: Option<Box<Denied>>,
}

impl Refusal {
    /// A refusal with a status and what is wrong.
    #[must_use]
    pub fn new(status: StatusCode, detail: &str) -> Refusal {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let detail = detail.to_owned();
        Refusal { kind: "about:blank", title, status: status.as_u16(), detail, denied: None }
    }

    /// What the role of an operator is not for.
    pub(super) fn forbidden(operator: &Operator, detail: &str) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, detail).of(operator, None)
    }

    /// The same, noted as the refusal of an operator, to whom an app is not shown.
    pub(super) fn of(mut self, operator: &Operator, app: Option<&str>) -> Refusal {
        let (operator, app) = (Some(operator.clone()), app.map(str::to_owned));
        self.denied = Some(Box::new(Denied { operator, app, ..Denied::default() }));
        self
    }

    fn bad(detail: impl ToString) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, &detail.to_string())
    }

    /// There is no body to look at.
    pub(super) fn no_body(none: NoBody) -> Refusal {
        match none {
            NoBody::TooLong => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "a body has at most 64 KiB")
            }
            NoBody::Broken => Refusal::bad("the body broke off"),
        }
    }

    /// Something broke; the caller is not told what.
    fn internal(error: &(dyn std::error::Error + 'static)) -> Refusal {
        tracing::error!(error, "an admin call failed");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or_default();
        let mut response = (status, Json(&self)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(denied) = self.denied {
            response.extensions_mut().insert(*denied);
        }
        response
    }
}

impl From<Unlogged> for Refusal {
    fn from(unlogged: Unlogged) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &unlogged.to_string())
    }
}

impl From<projections::Fault> for Refusal {
    fn from(fault: projections::Fault) -> Self {
        match fault {
            projections::Fault::Detached { .. } => {
                Refusal::new(StatusCode::GONE, &fault.to_string())
            }
            fault => Refusal::internal(&fault),
        }
    }
}

impl From<crate::secrets::SecretError> for Refusal {
    fn from(error: crate::secrets::SecretError) -> Self {
        Refusal::internal(&error)
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        let status = match refused {
            Refused::Rejected(rejection) => status_of(&rejection),
            Refused::Overloaded | Refused::NoRoom | Refused::Closing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Refused::Fault(fault) => return Refusal::internal(fault.as_ref()),
        };
        Refusal::new(status, &detail)
    }
}

/// The one table from rejections to statuses.
fn status_of(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::UnknownApp
        | Rejection::UnknownMessage
        | Rejection::UnknownUser(_)
        | Rejection::UnknownLabel(_)
        | Rejection::UnknownTask
        | Rejection::NoOwner => StatusCode::NOT_FOUND,
        Rejection::Detached => StatusCode::GONE,
        Rejection::VersionMoved { .. } => StatusCode::PRECONDITION_FAILED,
        Rejection::AppTaken(_)
        | Rejection::UserTaken(_)
        | Rejection::AddressTaken(_)
        | Rejection::LabelTaken(_)
        | Rejection::NothingToRecall
        | Rejection::TaskOver
        | Rejection::KeyReused { .. } => StatusCode::CONFLICT,
        Rejection::UnknownPackage
        | Rejection::UnsupportedChannel
        | Rejection::NotRegistered
        | Rejection::IllegalUser
        | Rejection::NobodyRegistered
        | Rejection::TooManyDeliveries { .. }
        | Rejection::TooManyBindings { .. }
        | Rejection::TooManyLabels { .. }
        | Rejection::TooManyTasks { .. }
        | Rejection::LabelFull { .. }
        | Rejection::WrongBindKey
        | Rejection::ReportedBefore => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// The operator behind a bearer token.
pub(super) async fn operator(server: &Server, headers: &HeaderMap) -> Result<Operator, Refusal> {
    let refused = || Refusal::new(StatusCode::UNAUTHORIZED, "a known bearer token is needed");
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refused)?;
    server.tokens.operator(token.trim()).await?.ok_or_else(refused)
}

/// An app that an operator may see; one it may not see is not there.
async fn seen(
    server: &Server,
    operator: &Operator,
    app_id: &str,
) -> Result<Arc<AppEntry>, Refusal> {
    let none = || Refusal::new(StatusCode::NOT_FOUND, "no such app");
    if !operator.sees(app_id) {
        return Err(none().of(operator, operator.app.as_deref()));
    }
    server.directory.app(app_id).await?.ok_or_else(none)
}

/// An authenticated admin call.
pub struct Call {
    server: Arc<Server>,
    operator: Operator,
    metadata: Metadata,
    path: String,
    headers: HeaderMap,
    origin: Origin,
    sealed: Sealed,
}

impl FromRequestParts<Arc<Server>> for Call {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Call, Refusal> {
        let operator = operator(server, &parts.headers).await?;
        if operator.role != Role::Admin {
            return Err(Refusal::forbidden(&operator, "this needs the role admin"));
        }
        let metadata = Metadata {
            actor: format!("operator:{}", operator.number),
            via: "admin".to_owned(),
            request: parts.extensions.get::<RequestId>().map(|id| id.0.to_string()),
            ..Metadata::default()
        };
        let (path, headers) = (parts.uri.path().to_owned(), parts.headers.clone());
        let (server, sealed) = (Arc::clone(server), Sealed::default());
        let origin = Origin::noted(&parts.extensions);
        Ok(Call { server, operator, metadata, path, headers, origin, sealed })
    }
}

impl Call {
    /// Where new secrets go.
    fn vault(&self) -> Vault<'_> {
        let pool = &self.server.ledger.database().ledger_write;
        Vault { master: &self.server.master, pool, sealed: &self.sealed }
    }

    /// What an operator asked an app to be; if that is refused, no secret of it stays.
    async fn worded<T>(&self, input: Result<T, InputError>) -> Result<T, Refusal> {
        if let Err(InputError::Bad(_)) = input {
            self.unseal().await;
        }
        Ok(input?)
    }

    /// Removes the secrets of this call, which nobody will ask for.
    async fn unseal(&self) {
        if let Err(fault) = self.sealed.remove(&self.server.ledger.database().ledger_write).await {
            tracing::warn!(%fault, "secrets that nobody needs could not be removed");
        }
    }

    /// Who bound to one app may not do.
    fn everywhere(&self) -> Result<(), Refusal> {
        match &self.operator.app {
            None => Ok(()),
            Some(_) => Err(Refusal::forbidden(&self.operator, "this token is bound to one app")),
        }
    }

    /// An app that the operator may touch; one it may not see is not there.
    async fn app(&self, app_id: &str) -> Result<Arc<AppEntry>, Refusal> {
        seen(&self.server, &self.operator, app_id).await
    }

    /// The body as JSON, refused with what is wrong in it.
    fn body<T: DeserializeOwned>(&self, body: &Bytes) -> Result<T, Refusal> {
        serde_json::from_slice(body).map_err(Refusal::bad)
    }

    /// Has the ledger execute a command; `body` is what an idempotency key is bound to.
    async fn execute(
        &self,
        app: &str,
        body: &[u8],
        command: impl domain::Decide + Send + Sync + 'static,
    ) -> Result<Done, Refusal> {
        let mut metadata = self.metadata.clone();
        if let Some(key) = self.headers.get("idempotency-key") {
            if key.len() > MAX_KEY {
                return Err(Refusal::bad("an Idempotency-Key has at most 200 characters"));
            }
            let master = &self.server.master;
            let (app, path) = (app.as_bytes(), self.path.as_bytes());
            metadata.idempotency = Some(IdempotencyRef {
                key: master.fingerprint(&[b"key", app, key.as_bytes()]),
                request: master.fingerprint(&[b"request", app, path, body]),
            });
        }
        let context = Context { app: app.to_owned(), metadata };
        let lane = crate::ledger::Lane::Interactive;
        let done = self.server.ledger.execute(lane, context, command).await;
        // After anything else what was asked for may be durable.
        if let Err(Refused::Rejected(_) | Refused::Overloaded) | Ok(Done { repeated: true, .. }) =
            done
        {
            self.unseal().await;
        }
        Ok(done?)
    }
}

/// A reply that says which position includes its effect.
fn positioned(done: Done, response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    if done.last > 0 {
        response.headers_mut().insert("ledger-position", HeaderValue::from(done.last));
    }
    response
}

/// One path parameter.
type One = Path<String>;
/// Two path parameters.
type Two = Path<(String, String)>;
