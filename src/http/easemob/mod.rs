//! Easemob push: `/{org}/{app}/…`. A thin face: [`interface`] is the table of calls, [`gate`]
//! authenticates, [`fields`] reads, one file per resource turns a call into domain commands, and
//! [`errors`] turns every problem into Easemob's answer. `docs/protocols/easemob-push.md` maps its
//! documents to tests.

mod binding;
pub mod errors;
mod fields;
pub mod gate;
pub mod interface;
mod labels;
mod members;
mod message;
mod outcome;
mod push;
mod receipts;
mod status;
mod task;
mod token;
mod users;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
    routing::any,
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use domain::object::raw;

use crate::{
    access::Denied,
    app::Server,
    apps::easemob::RESERVED,
    directory::AppEntry,
    http::{RequestId, body},
    ledger::Done,
};
pub use binding::MAX_NAME as MAX_DEVICE_ID;
use errors::{Answer, Problem, answer};
pub(crate) use fields::username;
use gate::Call;
use interface::{Family, Found, Interface};

/// Largest body of a call, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What a call answers with success.
#[derive(Default)]
struct Reply {
    /// `data`, or the whole answer of a token call.
    data: Option<Box<RawValue>>,
    entities: Option<Vec<Value>>,
    count: Option<usize>,
    cursor: Option<String>,
    position: Option<i64>,
}

impl Reply {
    fn data(data: impl Serialize) -> Reply {
        Reply { data: Some(raw(&data)), ..Reply::default() }
    }

    fn entities(entities: Vec<Value>) -> Reply {
        Reply { entities: Some(entities), ..Reply::default() }
    }

    /// The same, with the position that includes its effect.
    fn after(self, done: Done) -> Reply {
        Reply { position: Some(done.last).filter(|last| *last > 0), ..self }
    }
}

/// The routes. What is below `/{org}/{app}` is told apart by the table of calls.
pub fn routes() -> Router<Arc<Server>> {
    let paths = ["/{org}/{app}", "/{org}/{app}/", "/{org}/{app}/{*rest}"];
    paths.into_iter().fold(Router::new(), |router, path| router.route(path, any(serve)))
}

async fn serve(State(server): State<Arc<Server>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let org = path.split('/').next().unwrap_or_default();
    // Other faces have paths there, and this is none of them.
    if RESERVED.contains(&org.to_lowercase().as_str()) {
        return super::not_found().await;
    }
    let started = server.clock.now();
    let mut found = None;
    let answered = dispatch(&server, request, &path, started, &mut found).await;
    let duration = || millis(server.clock.now() - started);
    let (mut response, code) = match answered {
        Ok((call, reply)) => {
            let position = reply.position;
            let text = envelope(&call, reply, duration());
            let mut response = json(StatusCode::OK, text);
            if let Some(position) = position {
                response.headers_mut().insert("ledger-position", HeaderValue::from(position));
            }
            (response, "ok")
        }
        Err(problem) => {
            let answer = answer(found, &problem);
            let code = answer.error;
            if answer.status.is_server_error() {
                tracing::error!(status = answer.status.as_u16(), %problem, "a call failed");
            } else {
                // What is wrong may name a user.
                tracing::debug!(error = code, "a call was refused");
            }
            let mut response = refusal(&answer, started, duration());
            if let Some(mut denied) = errors::of_caller(&problem, code) {
                let mut names = path.split('/');
                let (org, name) = (names.next(), names.next());
                let app = server.directory.easemob(org.unwrap_or(""), name.unwrap_or("")).await;
                denied.app = app.ok().flatten().map(|app| app.id().to_owned());
                denied.operation = found.map(Interface::route);
                response.extensions_mut().insert(denied);
            }
            if let Problem::NoMethod(methods) = &problem {
                let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
                put(&mut response, header::ALLOW, &methods.join(", "));
            }
            (response, code)
        }
    };
    if let Some(interface) = found {
        server.metrics.answered(&interface.route(), code);
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        put(&mut response, header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}

async fn dispatch(
    server: &Arc<Server>,
    request: Request,
    path: &str,
    started: i64,
    found: &mut Option<Interface>,
) -> Result<(Call, Reply), Problem> {
    let (parts, body) = request.into_parts();
    let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    let body = body::read(body, MAX_BODY_BYTES).await.map_err(|_| Problem::TooLong)?;
    let mut rest = path.splitn(3, '/');
    let (org, name) = (rest.next().unwrap_or_default(), rest.next().unwrap_or_default());
    let app = server.directory.easemob(org, name).await;
    let app = app.map_err(|error| projections::Fault::stored("app", error))?;
    let app: Arc<AppEntry> = app.ok_or_else(|| Problem::NoApp(path.to_owned()))?;
    let (interface, names) = match interface::find(&parts.method, rest.next().unwrap_or_default()) {
        Found::Call(interface, names) => (interface, names),
        Found::OtherMethods(methods) => return Err(Problem::NoMethod(methods)),
        Found::Nothing => return Err(Problem::NoPath),
    };
    *found = Some(interface);
    let call =
        Call::authenticate(server, app, (interface, names), parts, body, request_id, started)
            .await?;
    let reply = match interface {
        Interface::Token => token::token(server, &call).await,
        Interface::RegisterUsers => users::register(server, &call).await,
        Interface::ListUsers => users::list(server, &call).await,
        Interface::RemoveUsers => users::remove_page(server, &call).await,
        Interface::User => users::read(server, &call).await,
        Interface::RemoveUser => users::remove(server, &call).await,
        Interface::UserStatus => status::one(server, &call).await,
        Interface::UsersStatus => status::many(server, &call).await,
        Interface::Bind => binding::change(server, &call).await,
        Interface::Bindings => binding::list(server, &call).await,
        Interface::CreateLabel => labels::create(server, &call).await,
        Interface::Labels => labels::list(server, &call).await,
        Interface::Label => labels::read(server, &call).await,
        Interface::DeleteLabel => labels::delete(server, &call).await,
        Interface::AddMembers => members::change(server, &call, true).await,
        Interface::Members => members::list(server, &call).await,
        Interface::Member => members::read(server, &call).await,
        Interface::RemoveMembers => members::change(server, &call, false).await,
        Interface::PushSync => push::sync(server, &call).await,
        Interface::PushAsync => push::send_one(server, &call).await,
        Interface::PushSingle => push::single(server, &call).await,
        Interface::PushLabel => task::to_label(server, &call).await,
        Interface::PushList => task::to_users(server, &call).await,
        Interface::PushEveryone => task::to_everyone(server, &call).await,
        Interface::KeepMessage => message::keep(server, &call).await,
        Interface::Message | Interface::MessageByPost => message::read(server, &call).await,
        Interface::Broadcast => task::broadcast(server, &call).await,
        Interface::HuaweiReceipts => receipts::huawei(server, &call).await,
        Interface::Task => task::status(server, &call).await,
        Interface::TaskStatistics => task::statistics(server, &call).await,
        Interface::CancelTask => task::cancel(server, &call).await,
    }?;
    call.tells(server, &reply)?;
    Ok((call, reply))
}

/// The two envelopes, and what is left out of them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entities: Option<Vec<Value>>,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    duration: i64,
}

fn envelope(call: &Call, reply: Reply, duration: i64) -> String {
    let Reply { data, entities, count, cursor, .. } = reply;
    let bare = Envelope {
        action: None,
        application: None,
        path: None,
        uri: None,
        entities,
        timestamp: millis(call.started),
        data,
        organization: None,
        application_name: None,
        count,
        cursor,
        duration,
    };
    let action = || Some(call.interface.method().as_str().to_lowercase());
    let envelope = match call.interface.family() {
        Family::Token | Family::Vendor => {
            return bare.data.map_or_else(String::new, |data| data.get().to_owned());
        }
        Family::Push => bare,
        Family::Binding => Envelope { action: action(), ..bare },
        Family::User => Envelope {
            action: action(),
            application: Some(call.easemob().application.to_string()),
            path: Some("/users"),
            uri: Some(&call.uri),
            organization: Some(&call.easemob().org_name),
            application_name: Some(&call.easemob().app_name),
            ..bare
        },
    };
    // Plain data with text keys always has a JSON form.
    serde_json::to_string(&envelope).unwrap_or_default()
}

#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
    exception: &'a str,
    timestamp: i64,
    duration: i64,
    error_description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// A refusal as Easemob words it, for a call that began at a time (µs) and took so many ms.
fn refusal(answer: &Answer, started: i64, duration: i64) -> Response {
    let refused = Refused {
        error: answer.error,
        exception: answer.exception,
        timestamp: millis(started),
        duration,
        error_description: &answer.description,
        detail: answer.detail.as_deref(),
    };
    let mut response = json(answer.status, serde_json::to_string(&refused).unwrap_or_default());
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The answer to a device whose handshake is refused.
pub fn refused_handshake(problem: &Problem, now: i64) -> Response {
    let answer = answer(Some(Interface::User), problem);
    if answer.status.is_server_error() {
        tracing::error!(%problem, "a device could not connect");
    }
    let mut response = refusal(&answer, now, 0);
    let code = Some(answer.error.to_owned());
    response.extensions_mut().insert(Denied { code, ..Denied::default() });
    if answer.status == StatusCode::UNAUTHORIZED {
        put(&mut response, header::WWW_AUTHENTICATE, "Bearer");
    }
    response
}

fn json(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    put(&mut response, header::CONTENT_TYPE, "application/json;charset=UTF-8");
    response
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn millis(micros: i64) -> i64 {
    micros / 1_000
}
