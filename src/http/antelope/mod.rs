//! Antelope custom messages: `/v2/…`. A thin face: [`interface`] is the table of calls, [`gate`]
//! authenticates, one file per resource turns a call into domain commands, and [`errors`] turns
//! every problem into a status. `docs/protocols/antelope.md` maps its document to tests.

mod devices;
pub mod errors;
pub mod gate;
pub mod interface;
mod push;
mod webhook;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::any,
};
use serde_json::{Map, Value};

use crate::{
    access::Denied,
    app::Server,
    http::{RequestId, body},
    ledger::Done,
};
use errors::{Problem, illegal};
use gate::Call;
use interface::{Found, Interface, find};

/// Largest body of a call, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What a call answers with success, beside its id.
#[derive(Default)]
struct Reply {
    fields: Map<String, Value>,
    done: Option<Done>,
}

impl Reply {
    fn of(fields: Value) -> Reply {
        match fields {
            Value::Object(fields) => Reply { fields, done: None },
            _ => Reply::default(),
        }
    }
}

/// The routes. What is below `/v2` is told apart by the table of calls.
pub fn routes() -> Router<Arc<Server>> {
    Router::new().route("/v2/{*rest}", any(serve))
}

async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let found = find(request.method(), request.uri().path());
    let app_id = request.headers().get("x-app-id").cloned();
    let answered = dispatch(&server, request, &found, &id).await;
    let (response, code) = match answered {
        Ok((fields, position)) => {
            let mut response = json(StatusCode::OK, &fields);
            if let Some(position) = position {
                response.headers_mut().insert("ledger-position", HeaderValue::from(position));
            }
            (response, StatusCode::OK)
        }
        Err(problem) => {
            let mut response = refusal(&problem, &id);
            if matches!(problem, Problem::Denied(_) | Problem::NotYours) {
                let app_id = app_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
                let app = server.directory.antelope(app_id).await.ok().flatten();
                let operation = match found {
                    Found::Call(call) => Some(format!("{} {}", call.method(), call.path())),
                    Found::OtherMethods(_) | Found::Nothing => None,
                };
                let app = app.map(|app| app.id().to_owned());
                response.extensions_mut().insert(Denied { app, operation, ..Denied::default() });
            }
            (response, problem.status())
        }
    };
    if let Found::Call(interface) = found {
        let route = format!("{} {}", interface.method(), interface.path());
        server.metrics.answered(&route, code.as_str());
    }
    response
}

/// The fields of an answer, and the position that includes what the call did.
async fn dispatch(
    server: &Arc<Server>,
    request: Request,
    found: &Found,
    id: &RequestId,
) -> Result<(Map<String, Value>, Option<i64>), Problem> {
    let (parts, body) = request.into_parts();
    let body = body::read(body, MAX_BODY_BYTES).await;
    let interface = match found {
        Found::Call(interface) => *interface,
        Found::OtherMethods(methods) => return Err(Problem::NoMethod(methods.clone())),
        Found::Nothing => return Err(Problem::NoPath),
    };
    let body = body.map_err(|_| illegal("the body is too long"))?;
    let call = Call::authenticate(server, interface, &parts, body, id).await?;
    let reply = match (interface, call.device) {
        (Interface::ClientPush, Some(cid)) => push::of_device(server, &call, cid).await,
        (Interface::ClientPush, None) => Err(Problem::Denied("X-Client-Token is missing")),
        (Interface::ServerPush, _) => push::of_server(server, &call).await,
        (Interface::Webhook, _) => Ok(webhook::read(&call)),
        (Interface::SetWebhook, _) => webhook::change(server, &call).await,
        (Interface::State, _) => devices::state(server, &call).await,
        (Interface::Ids, _) => Ok(devices::ids(&call)),
        (Interface::Tokens, _) => devices::tokens(server, &call),
    }?;
    let mut fields = reply.fields;
    let first = match reply.done {
        Some(done) if done.repeated => first_id(server, done).await?,
        Some(_) | None => None,
    };
    let id = first.unwrap_or_else(|| id.0.to_string());
    fields.insert("request_id".to_owned(), id.into());
    Ok((fields, reply.done.map(|done| done.last)))
}

/// The id of the request that had an effect first.
async fn first_id(server: &Server, done: Done) -> Result<Option<String>, Problem> {
    let page = server.ledger.read_at(&[done.first]).await?;
    Ok(page.events.into_iter().next().and_then(|event| event.metadata.request))
}

/// A refusal as every call words it, also that of a handshake.
pub fn refusal(problem: &Problem, id: &RequestId) -> Response {
    let status = problem.status();
    if status.is_server_error() {
        tracing::error!(status = status.as_u16(), %problem, "a call failed");
    } else {
        // What is wrong may name a device.
        tracing::debug!(status = status.as_u16(), "a call was refused");
    }
    let mut fields = Map::new();
    fields.insert("request_id".to_owned(), id.0.to_string().into());
    fields.insert("error".to_owned(), problem.shown().into());
    if let Some(message) = problem.message() {
        fields.insert("message_id".to_owned(), message.to_string().into());
    }
    let mut response = json(status, &fields);
    if let Problem::NoMethod(methods) = problem {
        let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
        if let Ok(methods) = HeaderValue::from_str(&methods.join(", ")) {
            response.headers_mut().insert(header::ALLOW, methods);
        }
    }
    response
}

/// An answer; its id is in the header too.
fn json(status: StatusCode, fields: &Map<String, Value>) -> Response {
    // Plain data with text keys always has a JSON form.
    let text = serde_json::to_string(fields).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let id = fields.get("request_id").and_then(Value::as_str).unwrap_or_default();
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
