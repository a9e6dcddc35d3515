//! Tencent IM: `/v4/…`. A thin face: [`interface`] is the table of calls, [`gate`] authenticates, one
//! file per resource turns a call into domain commands, and [`errors`] turns every problem into a
//! code. `docs/protocols/tencent-im.md` maps its documents to tests.

mod accounts;
mod before;
pub mod errors;
mod fields;
pub mod gate;
mod history;
pub mod interface;
mod send;

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderValue, Method, header},
    response::Response,
    routing::any,
};
use serde_json::{Map, Value, json};

use crate::{
    access::Denied,
    app::Server,
    http::{RequestId, body},
    ledger::Done,
};
use errors::Problem;
use gate::Call;
use interface::{Interface, find};

/// Largest body of a call, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Codes that an app's server may refuse a message with.
const OWN_CODES: std::ops::RangeInclusive<u32> = 120_001..=130_000;

/// What a call answers with success, beside what every answer has.
#[derive(Default)]
struct Reply {
    fields: Map<String, Value>,
    done: Option<Done>,
}

impl Reply {
    fn of(fields: Value, done: Option<Done>) -> Reply {
        match fields {
            Value::Object(fields) => Reply { fields, done },
            _ => Reply { fields: Map::new(), done },
        }
    }
}

/// The routes. What is below `/v4` is told apart by the table of calls.
pub fn routes() -> Router<Arc<Server>> {
    Router::new().route("/v4/{*rest}", any(serve))
}

async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
    let found = find(request.uri().path());
    let query = Query::<HashMap<String, String>>::try_from_uri(request.uri());
    let app_id = query.ok().and_then(|Query(query)| query.get("sdkappid")?.parse::<u32>().ok());
    let mut denied = None;
    let answered = dispatch(&server, request, found, &id).await;
    let (reply, code) = match answered {
        Ok(reply) => (reply, 0),
        Err(problem) => {
            let code = problem.code(found);
            if problem.is_of_caller() {
                let app = match app_id {
                    Some(id) => server.directory.tencent(id).await.ok().flatten(),
                    None => None,
                };
                denied = Some(Denied {
                    app: app.map(|app| app.id().to_owned()),
                    code: Some(code.to_string()),
                    operation: found.map(|interface| format!("POST {}", interface.path())),
                    ..Denied::default()
                });
            }
            (refusal(&problem, code), code)
        }
    };
    if let Some(interface) = found {
        // Those are the app's to choose, and too many to count each.
        let code = if OWN_CODES.contains(&code) { *OWN_CODES.start() } else { code };
        server.metrics.answered(&format!("POST {}", interface.path()), &code.to_string());
    }
    let mut response = answer(reply);
    if let Some(denied) = denied {
        response.extensions_mut().insert(denied);
    }
    response
}

async fn dispatch(
    server: &Arc<Server>,
    request: Request,
    found: Option<Interface>,
    id: &RequestId,
) -> Result<Reply, Problem> {
    let (parts, body) = request.into_parts();
    let body = body::read(body, MAX_BODY_BYTES).await;
    let interface = found.ok_or(Problem::NoPath)?;
    if parts.method != Method::POST {
        return Err(Problem::NoPost);
    }
    let body = body.map_err(|_| Problem::LongBody)?;
    let call = Call::authenticate(server, &parts, body, id).await?;
    match interface {
        Interface::AccountImport => accounts::import(server, &call).await,
        Interface::MultiAccountImport => accounts::import_many(server, &call).await,
        Interface::SendMsg => send::one(server, &call).await,
        Interface::BatchSendMsg => send::many(server, &call).await,
        Interface::MsgWithdraw => history::withdraw(server, &call).await,
        Interface::GetRoamMsg => history::roam(server, &call).await,
    }
}

fn refusal(problem: &Problem, code: u32) -> Reply {
    if problem.is_fault() {
        tracing::error!(code, %problem, "a call failed");
    } else {
        // What is wrong may name an account.
        tracing::debug!(code, "a call was refused");
    }
    let fields = json!({ "ActionStatus": "FAIL", "ErrorInfo": problem.shown(), "ErrorCode": code });
    Reply::of(fields, None)
}

/// The refusal of a handshake: the same words, under a status that a device can tell from others.
pub fn refused_handshake(problem: &Problem) -> Response {
    let code = problem.code(None);
    let mut response = answer(refusal(problem, code));
    let code = Some(code.to_string());
    response.extensions_mut().insert(Denied { code, ..Denied::default() });
    *response.status_mut() = if problem.is_fault() || matches!(problem, Problem::Busy) {
        axum::http::StatusCode::SERVICE_UNAVAILABLE
    } else {
        axum::http::StatusCode::UNAUTHORIZED
    };
    response
}

fn answer(reply: Reply) -> Response {
    let mut fields = reply.fields;
    for (name, usual) in [("ActionStatus", json!("OK")), ("ErrorInfo", json!(""))] {
        fields.entry(name).or_insert(usual);
    }
    fields.entry("ErrorCode").or_insert(json!(0));
    // Plain data with text keys always has a JSON form.
    let mut response =
        Response::new(Body::from(serde_json::to_string(&fields).unwrap_or_default()));
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(done) = reply.done.filter(|done| done.last > 0) {
        response.headers_mut().insert("ledger-position", HeaderValue::from(done.last));
    }
    response
}
