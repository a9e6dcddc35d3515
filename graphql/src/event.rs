//! An event of the ledger.

use async_graphql::{ComplexObject, Context, Json, Result, SimpleObject};
use chrono::{DateTime, Utc};
use domain::Recorded;
use serde_json::value::{RawValue, to_raw_value};

use crate::{device::private, time};

/// One entry of the ledger.
#[derive(SimpleObject)]
#[graphql(complex)]
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
    body: Json<Box<RawValue>>,
    #[graphql(skip)]
    private: Option<String>,
}

#[ComplexObject]
impl Event {
    /// Names, tokens and payloads, with numbers as they came; null once erased, and for viewers who
    /// may not see them. What many readers of JSON fail at, such as `1e400`, makes it a string.
    async fn private(&self, ctx: &Context<'_>) -> Result<Option<Json<Box<RawValue>>>> {
        let private = private(ctx, ("event", self.position), self.private.as_deref())?;
        Ok(private.map(|text| readable(text.to_owned())).transpose()?)
    }
}

impl Event {
    pub(crate) fn new(recorded: &Recorded) -> serde_json::Result<Event> {
        let (body, private) = recorded.event.encode()?;
        Ok(Event {
            position: recorded.position,
            r#type: recorded.event.name(),
            schema: recorded.event.schema(),
            stream: recorded.stream.to_string(),
            version: recorded.version,
            recorded_at: time(recorded.recorded_at),
            actor: recorded.metadata.actor.clone(),
            via: recorded.metadata.via.clone(),
            request: recorded.metadata.request.clone(),
            body: Json(RawValue::from_string(body)?),
            private,
        })
    }
}

/// JSON text as it is, so that no digit of a number is lost; or, where a payload holds what many
/// readers fail at (a number out of range, half a surrogate pair, nesting without end), that text
/// as a string, so that whoever cannot read it still reads the rest of the answer.
pub(crate) fn readable(text: String) -> serde_json::Result<Json<Box<RawValue>>> {
    let tree: serde_json::Result<serde_json::Value> = serde_json::from_str(&text);
    match tree {
        Ok(_) => RawValue::from_string(text).map(Json),
        Err(_) => to_raw_value(&text).map(Json),
    }
}
