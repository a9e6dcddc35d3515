//! `GET /admin/v1/apps/{appId}/events?after=POSITION`: an app's events as a feed that can be taken
//! up again anywhere, by long poll or as server-sent events. Each is the document that webhooks
//! get.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query},
    http::header,
    response::{
        IntoResponse, Response,
        sse::{Event as Sent, KeepAlive, Sse},
    },
};
use futures_util::stream;
use projections::Fault;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{Call, One, Refusal};
use crate::{app::Server, callback::document};

/// Events of one answer.
const MAX_EVENTS: usize = 1_000;
/// Positions that one answer looks through; `next` says how far it got.
const MAX_SCAN: i64 = 20_000;
/// Positions read at once.
const PAGE: i64 = 1_000;
/// Longest wait for an event, in seconds, and the wait unless it is said.
const MAX_WAIT_SECONDS: u64 = 60;
const WAIT_SECONDS: u64 = 20;

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    after: Option<i64>,
    limit: Option<usize>,
    wait: Option<u64>,
    types: Option<String>,
}

/// Some events of an app.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventsOutput {
    /// The events in order, as webhooks get them; may be none.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Box<RawValue>>,
    /// `after` of the next call.
    next: i64,
}

/// What a reader asks for.
struct Filter {
    app: String,
    types: Vec<String>,
    limit: usize,
}

impl Filter {
    fn wants(&self, name: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => name.starts_with(family),
            None => name == wanted,
        };
        self.types.is_empty() || self.types.iter().any(fits)
    }
}

/// One event: its position, name and document.
type Told = (i64, &'static str, String);

/// Events of an app after a position. With `Accept: text/event-stream` they come as they happen,
/// and `Last-Event-ID` says where to go on.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}/events", tag = "admin",
    params(("appId" = String, Path),
        ("after" = Option<i64>, Query, description = "Position; 0 if absent"),
        ("limit" = Option<i64>, Query, description = "1 to 1,000, by default 100"),
        ("wait" = Option<i64>, Query, description = "Seconds to wait for an event, 0 to 60, by default 20"),
        ("types" = Option<String>, Query, description = "Names with commas; `device.*` for a family")),
    responses((status = 200, body = EventsOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal)))]
pub async fn read(
    call: Call,
    Path(app_id): One,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let Query(wanted) = wanted.map_err(Refusal::bad)?;
    let limit = wanted.limit.unwrap_or(100);
    let wait = wanted.wait.unwrap_or(WAIT_SECONDS);
    if !(1..=MAX_EVENTS).contains(&limit) || wait > MAX_WAIT_SECONDS {
        return Err(Refusal::bad("limit must be 1 to 1000, wait 0 to 60"));
    }
    let types = wanted.types.iter().flat_map(|types| types.split(','));
    let types = types.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let filter = Filter { app: app.id().to_owned(), types, limit };
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
    let last = header("last-event-id").and_then(|id| id.parse().ok());
    let after = last.or(wanted.after).unwrap_or(0).max(0);
    let live = header(header::ACCEPT.as_str()).is_some_and(|a| a.contains("text/event-stream"));
    if live {
        return Ok(stream_of(Arc::clone(&call.server), filter, after));
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let (told, next) = some(&call.server, &filter, after, until).await?;
    let raw = |(_, _, text): Told| RawValue::from_string(text);
    let events: Result<_, _> = told.into_iter().map(raw).collect();
    let events = events.map_err(|cause| Fault::stored("event", cause))?;
    Ok(Json(EventsOutput { events, next }).into_response())
}

/// The next events; waits for some until a time, or until so much was looked through.
async fn some(
    server: &Server,
    filter: &Filter,
    after: i64,
    until: Instant,
) -> Result<(Vec<Told>, i64), Fault> {
    let (mut head, stop) = (server.ledger.watch(), server.stop_token());
    let (mut next, mut told) = (after, Vec::new());
    loop {
        let page = server.ledger.read(next, PAGE).await?;
        for recorded in page.events {
            let name = recorded.event.name();
            if recorded.app == filter.app && filter.wants(name) {
                if let Some(text) = document(&recorded)? {
                    told.push((recorded.position, name, text));
                }
                if told.len() == filter.limit {
                    return Ok((told, recorded.position));
                }
            }
        }
        match page.last {
            Some(last) => next = last,
            None if !told.is_empty() => return Ok((told, next)),
            None => {
                // A position from another ledger, or one that is not there yet, waits too.
                let more = head.wait_for(|head| *head > next);
                tokio::select! {
                    _ = more => {}
                    () = tokio::time::sleep_until(until) => return Ok((told, next)),
                    () = stop.cancelled() => return Ok((told, next)),
                }
            }
        }
        if next - after >= MAX_SCAN {
            return Ok((told, next));
        }
    }
}

/// Events as they happen, until the reader goes or the server stops.
fn stream_of(server: Arc<Server>, filter: Filter, after: i64) -> Response {
    let begin = (server, Arc::new(filter), after, Vec::<Told>::new().into_iter());
    let events = stream::unfold(begin, |(server, filter, mut after, mut told)| async move {
        loop {
            if let Some((position, name, text)) = told.next() {
                let event = Sent::default().id(position.to_string()).event(name).data(text);
                return Some((Ok::<_, Infallible>(event), (server, filter, after, told)));
            }
            if server.stopping() {
                return None;
            }
            let until = Instant::now() + Duration::from_secs(WAIT_SECONDS);
            let (more, next) = match some(&server, &filter, after, until).await {
                Ok(more) => more,
                Err(fault) => {
                    tracing::error!(%fault, "a feed of events broke off");
                    return None;
                }
            };
            (after, told) = (next, more.into_iter());
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
