//! `/graphql`: queries by POST for every role, an explorer page by GET that loads nothing from
//! anywhere else, and subscriptions over a WebSocket (`graphql-transport-ws`).

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_graphql::{
    Data, Executor, Pos, Request as Query, Response as Answer, ServerError,
    http::{WebSocket as Subscriptions, WebSocketProtocols, WsMessage},
    parser::types::OperationType,
};
use axum::{
    Json,
    extract::{
        FromRequestParts as _, Request, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    http::{HeaderValue, StatusCode},
    response::{Html, IntoResponse, Response},
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use graphql::{
    Schema, Seats, Viewer,
    access::{Accesses, Reading, Seen},
    audit::Proofs,
};
use projections::Fault;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    admin::{MAX_BODY_BYTES, Refusal, operator},
    body,
};
use crate::{
    access::{self, Denied, Following, Origin},
    app::Server,
    query::{MAX_WAIT, auditors},
    tokens::{Operator, Role},
};

/// Connections that follow something, on this node.
pub const MAX_FOLLOWERS: usize = 256;
/// Subscriptions of one of them.
const MAX_SEATS: usize = 16;
/// Longest wait for `connection_init`, and for a reader to take a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// The protocol that is spoken.
const PROTOCOL: &str = "graphql-transport-ws";

/// The explorer (a text area, a token, and the answer), or the begin of subscriptions.
pub(super) async fn explorer(State(server): State<Arc<Server>>, request: Request) -> Response {
    if !request.headers().contains_key("upgrade") {
        return Html(include_str!("explorer.html")).into_response();
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &server).await {
        Ok(upgrade) => upgrade.protocols([PROTOCOL]),
        Err(refused) => return refused.into_response(),
    };
    let origin = Origin::noted(&parts.extensions);
    if upgrade.selected_protocol().is_none() {
        let only = format!("subscriptions speak {PROTOCOL}");
        return Refusal::new(StatusCode::BAD_REQUEST, &only).into_response();
    }
    let seat = Arc::clone(&server.followers).try_acquire_owned();
    let Ok(seat) = seat.map_err(drop).and_then(|seat| match server.stopping() {
        true => Err(()),
        false => Ok(seat),
    }) else {
        let full = "no more connections can follow anything";
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, full).into_response();
    };
    upgrade
        .max_message_size(MAX_BODY_BYTES)
        .max_frame_size(MAX_BODY_BYTES)
        .on_upgrade(move |socket| follow(server, origin, socket, seat))
}

/// Answers a query. With the header `Ledger-Position` it includes at least that position; the
/// answer says in the same header, and in its extensions, which one it includes at least.
pub(super) async fn query(State(server): State<Arc<Server>>, request: Request) -> Response {
    match run(&server, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn run(server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let body = body::read(body, MAX_BODY_BYTES).await;
    let operator = operator(server, &parts.headers).await?;
    if operator.role == Role::Uplink {
        return Err(Refusal::forbidden(&operator, "this token may only hand in uplinks"));
    }
    if let Some(position) = parts.headers.get("ledger-position") {
        let position = position.to_str().ok().and_then(|text| text.parse().ok());
        let position: i64 = position.ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, "Ledger-Position must be a number")
        })?;
        let reached = server.views.reached(position, MAX_WAIT).await;
        reached
            .map_err(|behind| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &behind.to_string()))?;
    }
    let bytes = body.map_err(Refusal::no_body)?;
    let mut query: Query = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error.to_string()))?;
    let included = server.views.position();
    query = query.data(viewer(&operator));
    if let Some((proofs, accesses)) = for_auditors(server, &operator) {
        query = query.data(proofs).data(accesses);
    }
    let (seen, name) = (Arc::new(Seen::default()), operation("query", &query));
    query = query.data(Arc::clone(&seen));
    let run = server.schema.execute(query);
    let answer = tokio::time::timeout(server.query_run, run).await.ok();
    let origin = Origin::noted(&parts.extensions);
    let reading = seen.take();
    denied(server, &origin, &operator, &reading);
    if answer.is_none() {
        tracing::warn!(operation = name, limit = ?server.query_run, "a query took too long");
    }
    // Of what was read by a query that takes too long nothing is told.
    if reading.values > 0 && answer.is_some() {
        let mut access = origin.read_by(&operator).with(reading.values);
        access.operation = name;
        let access = access.of(app_of(&operator, &reading));
        let access = access.reading(reading.fields).about(reading.subjects);
        server.access.read(access).await?;
    }
    let answer = answer.unwrap_or_else(too_long).extension("ledgerPosition", included.into());
    log_faults(&answer);
    let mut response = Json(answer).into_response();
    response.headers_mut().insert("ledger-position", HeaderValue::from(included));
    Ok(response)
}

/// The answer to a query that takes too long.
fn too_long() -> Answer {
    let error = graphql::too_long().into_server_error(Pos::default());
    // It is about the whole query.
    Answer::from_errors(vec![ServerError { locations: Vec::new(), ..error }])
}

/// The caller is not told the inside of a fault. Statements that were given up may be the query's
/// own fault, or the database's: which, only the log tells.
fn log_faults(answer: &Answer) {
    for error in &answer.errors {
        match error.source::<Fault>() {
            Some(fault) if fault.is_given_up() => {
                tracing::warn!(%fault, "a statement of a query was given up");
            }
            Some(fault) => tracing::error!(%fault, "a query failed"),
            None => {}
        }
    }
}

/// Longest name of an operation that is logged, in characters.
const MAX_OPERATION: usize = 64;

/// The operation as it is logged: its kind and the name that the caller gave it.
fn operation(kind: &str, query: &Query) -> String {
    let name = query.operation_name.as_deref().unwrap_or_default();
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match !name.is_empty() && name.len() <= MAX_OPERATION && plain {
        true => format!("{kind} {name}"),
        false => kind.to_owned(),
    }
}

/// The one app that was looked into, or that the operator is bound to.
fn app_of(operator: &Operator, reading: &Reading) -> Option<String> {
    let one = reading.apps.first().filter(|_| reading.apps.len() == 1);
    operator.app.clone().or_else(|| one.cloned())
}

/// Logs what an operator asked for and may not read.
fn denied(server: &Server, origin: &Origin, operator: &Operator, reading: &Reading) {
    for what in &reading.denied {
        let operation = Some(format!("query {what}"));
        let (operator, app) = (Some(operator.clone()), operator.app.clone());
        let code = Some("403".to_owned());
        server.access.refused(origin.refused(Denied { operator, app, code, operation }));
    }
}

/// The tree and the access log, for those who may read them.
fn for_auditors(
    server: &Server,
    operator: &Operator,
) -> Option<(Arc<dyn Proofs>, Arc<dyn Accesses>)> {
    match operator.role {
        Role::Admin | Role::Auditor => Some(auditors::for_auditors(server)),
        Role::Analyst | Role::Uplink => None,
    }
}

/// Analysts see no names, tokens or payloads.
fn viewer(operator: &Operator) -> Viewer {
    let private = match operator.role {
        Role::Admin | Role::Auditor => true,
        Role::Analyst | Role::Uplink => false,
    };
    Viewer { app: operator.app.clone(), private }
}

/// The schema for subscriptions alone: a query has its own way in, with a bound on its run.
#[derive(Clone)]
struct Followed {
    schema: Schema,
    server: Arc<Server>,
    origin: Origin,
    /// Who follows, once that is known.
    who: Arc<OnceLock<Operator>>,
}

impl Executor for Followed {
    async fn execute(&self, _: Query) -> Answer {
        refused("queries go by POST")
    }

    fn execute_stream(
        &self,
        mut request: Query,
        session: Option<Arc<Data>>,
    ) -> BoxStream<'static, Answer> {
        let follows = match request.parsed_query() {
            Ok(document) => {
                let mut operations = document.operations.iter();
                operations.all(|(_, own)| own.node.ty == OperationType::Subscription)
            }
            // The schema says what is wrong.
            Err(_) => true,
        };
        if !follows {
            let answer = refused("queries go by POST");
            return stream::once(async { answer }).boxed();
        }
        let (seen, mut access) = (Arc::new(Seen::default()), self.origin.answered(String::new()));
        access.operation = operation("subscription", &request);
        if let Some(who) = self.who.get() {
            (access.caller, access.role) = access::operator(who);
        }
        let follower = Follower {
            server: Arc::clone(&self.server),
            origin: self.origin.clone(),
            who: self.who.get().cloned(),
            seen: Arc::clone(&seen),
            access: Some(access),
            following: None,
        };
        let request = request.data(seen);
        let answers = Executor::execute_stream(&self.schema, request, session).inspect(log_faults);
        let begin = (answers.boxed(), follower);
        stream::unfold(begin, |(mut answers, mut follower)| async move {
            let answer = answers.next().await?;
            Some((follower.logged(answer).await, (answers, follower)))
        })
        .boxed()
    }
}

/// One subscription, as the access log sees it.
struct Follower {
    server: Arc<Server>,
    origin: Origin,
    who: Option<Operator>,
    seen: Arc<Seen>,
    /// What it is logged as, until something private is read.
    access: Option<access::Access>,
    following: Option<Following>,
}

impl Follower {
    /// An answer whose private part is logged, or what is said in its place.
    async fn logged(&mut self, answer: Answer) -> Answer {
        let reading = self.seen.take();
        let Some(who) = &self.who else { return answer };
        denied(&self.server, &self.origin, who, &reading);
        if reading.values == 0 {
            return answer;
        }
        if let Some(access) = self.access.take() {
            let access = access.of(app_of(who, &reading));
            self.following = Some(self.server.access.following(access));
        }
        let Some(following) = &mut self.following else { return answer };
        match following.told(reading.values, reading.fields, reading.subjects).await {
            Ok(()) => answer,
            Err(unlogged) => refused(&unlogged.to_string()),
        }
    }
}

fn refused(why: &str) -> Answer {
    Answer::from_errors(vec![ServerError::new(why, None)])
}

/// One connection, until either side ends it.
async fn follow(
    server: Arc<Server>,
    origin: Origin,
    socket: WebSocket,
    _seat: OwnedSemaphorePermit,
) {
    let (mut sink, incoming) = socket.split();
    let who = Arc::new(OnceLock::new());
    let (token, heard) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(true)));
    let noted = Arc::clone(&heard);
    let incoming = incoming.take_while(|message| {
        let ends = matches!(message, Err(_) | Ok(Message::Close(_)));
        std::future::ready(!ends)
    });
    let incoming = incoming.filter_map(move |message| {
        noted.store(true, Ordering::Relaxed);
        let text = match message {
            Ok(Message::Text(text)) => Some(String::from(text.as_str())),
            // Pongs are heard, and nothing else means anything here.
            _ => None,
        };
        std::future::ready(text)
    });
    let (asked, known) = (Arc::clone(&server), Arc::clone(&token));
    let (caller, from) = (Arc::clone(&who), origin.clone());
    let (schema, following) = (server.schema.clone(), Arc::clone(&server));
    let answers = Subscriptions::new(
        Followed { schema, server: following, origin, who },
        Box::pin(incoming),
        WebSocketProtocols::GraphQLWS,
    )
    .on_connection_init(move |payload| admit(asked, from, payload, known, caller));
    let mut answers = std::pin::pin!(answers);
    let (stop, init) = (server.stop_token(), tokio::time::sleep(PATIENCE));
    let (mut init, mut beat) = (std::pin::pin!(init), tokio::time::interval(server.follow_beat));
    beat.reset();
    let end = loop {
        let message = tokio::select! {
            answer = answers.next() => match answer {
                Some(WsMessage::Text(text)) => Message::Text(text.into()),
                Some(WsMessage::Close(code, why)) => break Some((code, why)),
                None => break None,
            },
            () = &mut init, if token.get().is_none() => {
                break Some((4408, "connection_init did not come in time".to_owned()));
            }
            () = stop.cancelled() => break Some((1001, "the server stops".to_owned())),
            _ = beat.tick() => {
                if !heard.swap(false, Ordering::Relaxed) {
                    break Some((1001, "no answer to a ping".to_owned()));
                }
                if !still_known(&server, token.get()).await {
                    break Some((4403, "the token is not known any more".to_owned()));
                }
                Message::Ping(Vec::new().into())
            }
        };
        let sent = tokio::time::timeout(PATIENCE, sink.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    };
    if let Some((code, why)) = end {
        // Who has gone already does not hear it.
        let close = Message::Close(Some(CloseFrame { code, reason: why.into() }));
        let _ = tokio::time::timeout(PATIENCE, sink.send(close)).await;
    }
}

/// The viewer behind the token of a `connection_init`.
async fn admit(
    server: Arc<Server>,
    origin: Origin,
    payload: serde_json::Value,
    known: Arc<OnceLock<String>>,
    who: Arc<OnceLock<Operator>>,
) -> async_graphql::Result<Data> {
    let given = ["authorization", "Authorization"].map(|name| payload[name].as_str());
    let given = given.into_iter().flatten().next().and_then(|text| text.strip_prefix("Bearer "));
    let deny = |operator: Option<&Operator>| {
        let code = Some(if operator.is_some() { "403" } else { "401" }.to_owned());
        let denied = Denied { operator: operator.cloned(), code, ..Denied::default() };
        server.access.refused(origin.refused(denied));
    };
    let refused = || {
        deny(None);
        async_graphql::Error::new("a known bearer token is needed")
    };
    let token = given.ok_or_else(refused)?.trim();
    let operator = server.tokens.operator(token).await.map_err(|fault| {
        tracing::error!(%fault, "a token could not be looked up");
        async_graphql::Error::new("internal error")
    })?;
    let operator = operator.ok_or_else(refused)?;
    if operator.role == Role::Uplink {
        deny(Some(&operator));
        return Err(async_graphql::Error::new("this token may only hand in uplinks"));
    }
    // There is one init a connection.
    let _ = known.set(token.to_owned());
    let mut data = Data::default();
    data.insert(viewer(&operator));
    // There is one init a connection.
    let _ = who.set(operator);
    data.insert(Seats::new(MAX_SEATS));
    Ok(data)
}

/// Whether a connection's token has not been withdrawn, as far as can be told.
async fn still_known(server: &Server, token: Option<&String>) -> bool {
    match token {
        Some(token) => !matches!(server.tokens.operator(token).await, Ok(None)),
        None => true,
    }
}
