//! `GET /admin/v1/apps/{appId}/events?after=POSITION`: an app's events as a feed that can be taken
//! up again anywhere, by long poll or as server-sent events. Each is the document that webhooks
//! get.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    extract::{Path, Query},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Sent, KeepAlive, Sse},
    },
};
use futures_util::stream;
use projections::Fault;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use utoipa::ToSchema;

use super::{Call, One, Refusal};
use crate::{
    access::{Following, MAX_SUBJECTS},
    app::Server,
    callback::document,
    feed::follow::Follower,
    tokens::Role,
};

/// Events of one answer.
const MAX_EVENTS: usize = 1_000;
/// Bytes of one answer; the event that goes beyond is its last.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Positions that one answer looks through; `next` says how far it got.
const MAX_SCAN: i64 = 20_000;
/// Events read at once from the database.
const PAGE_EVENTS: i64 = 500;
/// Time between two looks at what was committed; as long an answer waits for more, once it has some.
const PACE: Duration = Duration::from_millis(100);
/// Positions behind the head from which on events are read from the database.
const BEHIND: i64 = 1_000;
/// Readers at once, and how many of them read from the database: its few connections are needed by
/// every call.
const MAX_READERS: usize = 256;
const MAX_READING: usize = 2;
/// Time after which who reads is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest wait for an event, in seconds, and the wait unless it is said.
const MAX_WAIT_SECONDS: u64 = 60;
const WAIT_SECONDS: u64 = 20;

/// Bounds what all readers take together.
#[derive(Debug)]
pub struct Feeds {
    readers: Arc<Semaphore>,
    reading: Semaphore,
}

impl Default for Feeds {
    fn default() -> Feeds {
        let readers = Arc::new(Semaphore::new(MAX_READERS));
        Feeds { readers, reading: Semaphore::new(MAX_READING) }
    }
}

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
        (status = 404, body = Refusal),
        (status = 410, body = Refusal, description = "Events after that position are detached")))]
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
    if let Some(away) = call.server.ledger.away().await?
        && after < away.last
    {
        return Err(away.fault().into());
    }
    let live = header(header::ACCEPT.as_str()).is_some_and(|a| a.contains("text/event-stream"));
    let permit = Arc::clone(&call.server.feeds.readers).try_acquire_owned();
    let many = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many read events");
    let reader = Reader {
        follower: Follower::new(&call.server.ledger, after.min(i64::MAX - 1))
            .paced(PACE)
            .in_pages_of(PAGE_EVENTS),
        server: Arc::clone(&call.server),
        headers: call.headers.clone(),
        filter,
        left: VecDeque::new(),
        next: after,
        looked: Instant::now(),
        _permit: permit.map_err(many)?,
    };
    let access = call.origin.read_by(&call.operator).of(app.id().to_owned());
    if live {
        let following = call.server.access.following(access);
        return Ok(stream_of(reader, following));
    }
    let mut reader = reader;
    let told = reader.some(Duration::from_secs(wait)).await?;
    if !reader.may_read().await? {
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "this token is not valid any more"));
    }
    if !told.is_empty() {
        let about = told.iter().map(|(position, ..)| format!("event:{position}"));
        call.server.access.read(access.with(told.len()).about(about)).await?;
    }
    let raw = |(_, _, text): Told| RawValue::from_string(text);
    let events: Result<_, _> = told.into_iter().map(raw).collect();
    let events = events.map_err(|cause| Fault::stored("event", cause))?;
    Ok(Json(EventsOutput { events, next: reader.next }).into_response())
}

/// Somebody who reads an app's events.
struct Reader {
    server: Arc<Server>,
    headers: HeaderMap,
    filter: Filter,
    follower: Follower,
    /// What was read and not looked at yet.
    left: VecDeque<Told>,
    /// Position up to which everything was told.
    next: i64,
    looked: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next events; waits for some, or until so much was looked through.
    async fn some(&mut self, wait: Duration) -> Result<Vec<Told>, Fault> {
        let (begin, first) = (Instant::now(), self.next);
        let (mut told, mut bytes): (Vec<Told>, usize) = (Vec::new(), 0);
        let stop = self.server.stop_token();
        loop {
            while let Some(one) = self.left.pop_front() {
                self.next = one.0;
                bytes += one.2.len();
                told.push(one);
                if told.len() >= self.filter.limit || bytes >= MAX_BYTES {
                    return Ok(told);
                }
            }
            self.next = self.next.max(self.follower.position());
            if self.next - first >= MAX_SCAN {
                return Ok(told);
            }
            let within = if told.is_empty() { wait } else { wait.min(PACE) };
            // What is there already is read even by who does not wait for more.
            let nothing = told.is_empty() && self.server.ledger.head() > self.next;
            let over = begin.elapsed() >= within;
            if over && !nothing {
                return Ok(told);
            }
            tokio::select! {
                read = self.read() => read?,
                () = tokio::time::sleep_until(begin + within), if !over => {}
                () = stop.cancelled() => return Ok(told),
            }
        }
    }

    /// Reads some events, once there are any. Safe to cancel.
    async fn read(&mut self) -> Result<(), Fault> {
        let behind = self.server.ledger.head() - self.follower.position() > BEHIND;
        let batch = if behind {
            // The semaphore lives as long as the server.
            let _turn = self.server.feeds.reading.acquire().await;
            self.follower.ready().await?
        } else {
            Some(self.follower.next().await?)
        };
        for recorded in batch.iter().flat_map(|batch| batch.events()) {
            let name = recorded.event.name();
            if recorded.app == self.filter.app && self.filter.wants(name) {
                let text = document(recorded)?;
                self.left.extend(text.map(|text| (recorded.position, name, text)));
            }
        }
        Ok(())
    }

    /// Whether who reads still may: tokens are withdrawn and apps deleted meanwhile.
    async fn may_read(&mut self) -> Result<bool, Fault> {
        if self.looked.elapsed() < LOOK_AGAIN {
            return Ok(true);
        }
        self.looked = Instant::now();
        let value = self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let operator = self.server.tokens.operator(token.trim()).await?;
        let app = &self.filter.app;
        let may = operator.is_some_and(|own| own.role == Role::Admin && own.sees(app));
        Ok(may && self.server.directory.known(app).is_some())
    }
}

/// Events as they happen, until the reader goes or may not read any more, or the server stops.
fn stream_of(reader: Reader, following: Following) -> Response {
    let begin = (reader, following, Vec::<Told>::new().into_iter());
    let events = stream::unfold(begin, |(mut reader, mut following, mut told)| async move {
        loop {
            if let Some((position, name, text)) = told.next() {
                let event = Sent::default().id(position.to_string()).event(name).data(text);
                return Some((Ok::<_, Infallible>(event), (reader, following, told)));
            }
            if reader.server.stopping() {
                return None;
            }
            let more = match reader.may_read().await {
                Ok(false) => return None,
                Ok(true) => reader.some(LOOK_AGAIN).await,
                Err(fault) => Err(fault),
            };
            match more {
                Ok(more) if more.is_empty() => {}
                Ok(more) => {
                    let about = |(position, ..): &Told| format!("event:{position}");
                    let about = more.iter().take(MAX_SUBJECTS).map(about).collect();
                    // Without the log the reader is cut off, and goes on from there later.
                    following.told(more.len(), BTreeSet::new(), about).await.ok()?;
                    told = more.into_iter();
                }
                Err(fault) => {
                    tracing::error!(%fault, "a feed of events broke off");
                    return None;
                }
            }
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
