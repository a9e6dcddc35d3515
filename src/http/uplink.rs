//! `POST /uplink/v1/messages`: an SMS gateway hands in what phones wrote. Each message is durable
//! before it is answered, and repeatable by the gateway's id: a batch that is sent again, whole or
//! in other cuts, adds nothing.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use domain::{
    IdempotencyRef, Metadata, Rejection,
    message::RawJson,
    uplink::{AcceptUplink, Source, UplinkPrivate, UplinkReceived},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    RequestId,
    admin::{Refusal, operator, worded},
    body,
};
use crate::{
    app::Server,
    ledger::{Context, Done, Lane, Refused},
    tokens::Role,
};

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Messages of one call.
const MAX_MESSAGES: usize = 1_000;
/// Longest id, phone, extension and user id, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// Longest content, in bytes.
pub const MAX_CONTENT_BYTES: usize = 16 * 1024;
/// Messages of one call that wait for a commit at once.
const CONCURRENT: usize = 256;

/// The routes.
pub fn routes() -> Router<Arc<Server>> {
    let routes = Router::new().route("/uplink/v1/messages", post(messages));
    routes.layer(middleware::map_response(worded))
}

/// What phones wrote.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UplinksInput {
    /// Which gateway hands them in, if an app has several: the ids of one say nothing of those of
    /// another.
    source: Option<String>,
    /// 1 to 1,000 messages.
    messages: Vec<UplinkInput>,
}

/// What a phone wrote.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UplinkInput {
    /// The gateway's id, which makes it repeatable.
    id: String,
    /// The phone, passed on as it came.
    phone: String,
    /// What it wrote.
    content: String,
    /// The extension that it wrote to.
    extend_code: Option<String>,
    /// What the app calls the matter.
    user_id: Option<String>,
    /// When it wrote, in seconds since the epoch; now if absent.
    reply_time: Option<i64>,
}

/// What became of the messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UplinksOutput {
    /// How many are new.
    accepted: usize,
    /// How many came before.
    repeated: usize,
    /// Ids of those that came before with another content; these are not taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<String>,
}

/// Takes uplinks of phones.
#[utoipa::path(post, path = "/uplink/v1/messages", tag = "uplink", request_body = UplinksInput,
    params(("X-App-Id" = String, Header, description = "The app")),
    responses((status = 200, body = UplinksOutput), (status = 400, body = Refusal),
        (status = 401, body = Refusal), (status = 409, body = UplinksOutput),
        (status = 503, body = Refusal)))]
pub async fn messages(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match body::read(body, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(body::NoBody::TooLong) => {
            return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "a body has at most 1 MiB")
                .into_response();
        }
        Err(body::NoBody::Broken) => return bad("the body broke off").into_response(),
    };
    let request = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    let taken = take(&server, &parts.headers, &request, &body).await;
    let response = taken.unwrap_or_else(IntoResponse::into_response);
    server.metrics.answered("/uplink/v1/messages", response.status().as_str());
    response
}

async fn take(
    server: &Arc<Server>,
    headers: &HeaderMap,
    request: &RequestId,
    body: &[u8],
) -> Result<Response, Refusal> {
    let operator = operator(server, headers).await?;
    if !matches!(operator.role, Role::Admin | Role::Uplink) {
        return Err(Refusal::forbidden(&operator, "this needs the role uplink or admin"));
    }
    let id = headers.get("x-app-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let none = || bad("X-App-Id must name an app of this token");
    if !operator.sees(id) {
        return Err(none().of(&operator, operator.app.as_deref()));
    }
    let app = server.directory.app(id).await?.ok_or_else(none)?;
    let input: UplinksInput = serde_json::from_slice(body).map_err(bad)?;
    if !(1..=MAX_MESSAGES).contains(&input.messages.len()) {
        return Err(bad(format!("messages must have 1 to {MAX_MESSAGES} items")));
    }
    input.messages.iter().try_for_each(checked)?;
    let source = match input.source.as_deref() {
        None => "sms".to_owned(),
        Some(name) if name.is_empty() || name.len() > MAX_NAME_BYTES => {
            return Err(bad(format!("source has 1 to {MAX_NAME_BYTES} bytes")));
        }
        Some(name) => format!("sms/{name}"),
    };
    let metadata = Metadata {
        actor: format!("operator:{}", operator.number),
        via: "uplink".to_owned(),
        request: Some(request.0.to_string()),
        ..Metadata::default()
    };
    let context = Context { app: app.id().to_owned(), metadata };
    // In order: what one phone wrote is recorded in the order in which the gateway has it.
    let done: Vec<(String, Result<Done, Refused>)> = stream::iter(input.messages)
        .map(|message| accept(server, context.clone(), &source, message))
        .buffered(CONCURRENT)
        .collect()
        .await;
    answer(done)
}

fn answer(all: Vec<(String, Result<Done, Refused>)>) -> Result<Response, Refusal> {
    let mut output = UplinksOutput { accepted: 0, repeated: 0, conflicts: Vec::new() };
    let mut last = 0;
    for (id, done) in all {
        match done {
            Ok(done) if done.repeated => output.repeated += 1,
            Ok(done) => {
                output.accepted += 1;
                last = last.max(done.last);
            }
            Err(Refused::Rejected(Rejection::KeyReused { .. })) => output.conflicts.push(id),
            // What was taken stays; the gateway sends all of it again.
            Err(refused) => return Err(refused.into()),
        }
    }
    let status = if output.conflicts.is_empty() { StatusCode::OK } else { StatusCode::CONFLICT };
    let mut response = (status, Json(output)).into_response();
    if last > 0 {
        response.headers_mut().insert("ledger-position", HeaderValue::from(last));
    }
    Ok(response)
}

async fn accept(
    server: &Arc<Server>,
    mut context: Context,
    source: &str,
    message: UplinkInput,
) -> (String, Result<Done, Refused>) {
    let id = message.id.clone();
    let Ok(content) = to_raw_value(&message.content).map(RawJson) else {
        return (id, Err(projections::Fault::stored("content", "no JSON").into()));
    };
    let private = UplinkPrivate {
        id: Some(message.id),
        from: message.phone,
        content,
        extend_code: message.extend_code,
        user_id: message.user_id,
    };
    context.metadata.idempotency =
        Some(repeatable(server, &context.app, source, &private, message.reply_time));
    let written_at = message.reply_time.unwrap_or_else(|| server.clock.now() / 1_000_000);
    let uplink = UplinkReceived { source: Source::Sms, written_at, private: Some(private) };
    let command = AcceptUplink { uplink, new_uplink: Uuid::now_v7() };
    (id, server.ledger.execute(Lane::Interactive, context, command).await)
}

/// What makes an uplink repeatable: its id, among those of its source, bound to what it says.
#[must_use]
pub fn repeatable(
    server: &Server,
    app: &str,
    source: &str,
    private: &UplinkPrivate,
    written_at: Option<i64>,
) -> IdempotencyRef {
    let or_none = |text: &Option<String>| {
        text.clone().map_or_else(Vec::new, |t| [b"1", t.as_bytes()].concat())
    };
    let (master, app, source) = (&server.master, app.as_bytes(), source.as_bytes());
    let id = private.id.as_deref().unwrap_or_default().as_bytes();
    let at = written_at.map(|at| at.to_string()).unwrap_or_default();
    let parts: [&[u8]; 8] = [
        b"uplink",
        app,
        source,
        private.from.as_bytes(),
        private.content.0.get().as_bytes(),
        &or_none(&private.extend_code),
        &or_none(&private.user_id),
        at.as_bytes(),
    ];
    IdempotencyRef {
        key: master.fingerprint(&[b"uplink", app, source, id]),
        request: master.fingerprint(&parts),
    }
}

fn checked(message: &UplinkInput) -> Result<(), Refusal> {
    let UplinkInput { id, phone, content, extend_code, user_id, reply_time: _ } = message;
    if id.is_empty() || phone.is_empty() {
        return Err(bad("a message has an id and a phone"));
    }
    let names = [Some(id), Some(phone), extend_code.as_ref(), user_id.as_ref()];
    if names.into_iter().flatten().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err(bad(format!("a name has at most {MAX_NAME_BYTES} bytes")));
    }
    if content.len() > MAX_CONTENT_BYTES {
        return Err(bad(format!("a content has at most {MAX_CONTENT_BYTES} bytes")));
    }
    Ok(())
}

fn bad(detail: impl ToString) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, &detail.to_string())
}
