//! An event of the ledger.

use async_graphql::{Json, SimpleObject};
use chrono::{DateTime, Utc};
use domain::Recorded;
use serde_json::Value;

use crate::{Viewer, time};

/// One entry of the ledger.
#[derive(SimpleObject)]
pub(crate) struct Event {
    /// 1, 2, 3, … without holes.
    position: i64,
    /// Stable name.
    r#type: &'static str,
    /// Schema number of the body.
    schema: i32,
    /// Its stream.
    stream: String,
    /// Its place in that stream.
    version: i64,
    /// When it was recorded.
    recorded_at: DateTime<Utc>,
    /// Role or number of who caused it.
    actor: String,
    /// The interface that it came by.
    via: String,
    /// Id of the request.
    request: Option<String>,
    /// The facts.
    body: Json<Value>,
    /// Names, tokens and payloads; null once erased, and for viewers who may not see them.
    private: Option<Json<Value>>,
}

impl Event {
    pub(crate) fn new(recorded: Recorded, viewer: &Viewer) -> serde_json::Result<Event> {
        let (body, private) = recorded.event.encode()?;
        let private = private.filter(|_| viewer.private);
        Ok(Event {
            position: recorded.position,
            r#type: recorded.event.name(),
            schema: recorded.event.schema(),
            stream: recorded.stream.to_string(),
            version: recorded.version,
            recorded_at: time(recorded.recorded_at),
            actor: recorded.metadata.actor,
            via: recorded.metadata.via,
            request: recorded.metadata.request,
            body: Json(serde_json::from_str(&body)?),
            private: private.map(tree),
        })
    }
}

/// JSON text as a tree or, where a payload holds what no tree can (a number out of range, half a
/// surrogate pair, nesting without end), as that text.
fn tree(text: String) -> Json<Value> {
    Json(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
