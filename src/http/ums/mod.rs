//! Haier UMS V2: `/ums/v2/*` for terminals and `/umse/v2/*` for clouds. A thin face: [`gate`]
//! authenticates, [`fields`] reads, one file per call turns it into a domain command, and
//! [`codes`] turns every problem into the protocol's code. Whatever happens, the answer is the
//! protocol's envelope.

pub mod codes;
mod devlist;
mod fields;
pub mod gate;
mod getmsgstat;
mod push;
mod push_to_host;
mod register;
mod report;
pub mod sign;
mod unreg;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
    routing::{any, post},
};
use serde::Serialize;

use crate::{
    access::{Denied, Origin},
    app::Server,
    http::{RequestId, body},
    ledger::Done,
};
use codes::{Code, Interface, Problem};
use gate::Call;

/// Largest body of a call, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What a call answers with success.
struct Reply {
    data: String,
    position: Option<i64>,
}

impl Reply {
    /// Success with nothing to say.
    fn done(done: Done) -> Reply {
        Reply { data: "null".to_owned(), position: Some(done.last).filter(|last| *last > 0) }
    }

    /// Success with data.
    fn data(data: &impl Serialize) -> Result<Reply, Problem> {
        let data = serde_json::to_string(data)
            .map_err(|cause| Problem::Fault(projections::Fault::stored("reply", cause)))?;
        Ok(Reply { data, position: None })
    }
}

/// The routes.
pub fn routes() -> Router<Arc<Server>> {
    // The wildcard stands for at least one character.
    let roots = ["/ums", "/umse"].into_iter();
    let others = roots.flat_map(|root| ["", "/", "/{*rest}"].map(|rest| format!("{root}{rest}")));
    let router = others.fold(Router::new(), |router, path| {
        router.route(&path, any(|| async { no_such_interface() }))
    });
    Interface::ALL.iter().fold(router, |router, interface| {
        let interface = *interface;
        let handler = move |State(server): State<Arc<Server>>, request: Request| async move {
            answer(&server, interface, request).await
        };
        router.route(interface.path(), post(handler).fallback(wrong_method))
    })
}

async fn answer(server: &Arc<Server>, interface: Interface, request: Request) -> Response {
    let app_id = request.headers().get("appId").cloned();
    let answered = dispatch(server, interface, request).await;
    let code = match &answered {
        Ok(_) => Code::Success,
        Err(problem) => codes::code(interface, problem),
    };
    server.metrics.answered(interface.path(), code.code());
    match answered {
        Ok(reply) => {
            let mut response = envelope(StatusCode::OK, code, &reply.data);
            if let Some(position) = reply.position {
                response.headers_mut().insert("ledger-position", HeaderValue::from(position));
            }
            response
        }
        Err(problem) => {
            if code == Code::Internal {
                tracing::error!(path = interface.path(), %problem, "a call failed");
            } else {
                tracing::debug!(path = interface.path(), code = code.code(), "a call was refused");
            }
            let mut response = envelope(StatusCode::OK, code, "null");
            if code.is_of_caller() {
                let app_id = app_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
                let app = match interface.of_cloud() {
                    true => server.directory.ums_system(app_id).await,
                    false => server.directory.ums_app(app_id).await,
                };
                let app = app.ok().flatten().map(|app| app.id().to_owned());
                let code = Some(code.code().to_owned());
                response.extensions_mut().insert(Denied { app, code, ..Denied::default() });
            }
            response
        }
    }
}

async fn dispatch(
    server: &Arc<Server>,
    interface: Interface,
    request: Request,
) -> Result<Reply, Problem> {
    let (parts, body) = request.into_parts();
    let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    let body = body::read(body, MAX_BODY_BYTES).await;
    let body = body.map_err(|_| codes::Input::WrongLength)?;
    let origin = Origin::noted(&parts.extensions);
    let call =
        Call::authenticate(server, interface, &parts.headers, body, origin, request_id).await?;
    match interface {
        Interface::Register => register::register(server, &call).await,
        Interface::Unregister => unreg::unreg(server, &call).await,
        Interface::Devices | Interface::CloudDevices => devlist::devlist(server, &call).await,
        Interface::Push | Interface::PushTry | Interface::CloudPush | Interface::CloudPushTry => {
            push::push(server, &call).await
        }
        Interface::Status | Interface::CloudStatus => getmsgstat::getmsgstat(server, &call).await,
        Interface::Report => report::report(server, &call).await,
        Interface::PushToHost => push_to_host::push_to_host(server, &call).await,
    }
}

async fn wrong_method() -> Response {
    envelope(StatusCode::METHOD_NOT_ALLOWED, Code::WrongInterface, "null")
}

/// The answer to a path below `/ums` or `/umse` that is none of the protocol's.
fn no_such_interface() -> Response {
    envelope(StatusCode::NOT_FOUND, Code::NotAuthorised, "null")
}

/// The protocol's envelope. `data` is JSON text.
#[must_use]
pub fn envelope(status: StatusCode, code: Code, data: &str) -> Response {
    let (code, info) = (code.code(), code.info());
    let body = format!(r#"{{"retCode":"{code}","retInfo":"{info}","data":{data}}}"#);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
