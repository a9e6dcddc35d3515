//! As of when something is asked: a ledger position, or a time. Positions are exact; a time is that of
//! the last event that was recorded by then.

use async_graphql::{InputValueError, InputValueResult, Result, Scalar, ScalarType, Value};
use chrono::{DateTime, Utc};
use domain::Recorded;

use crate::{Hidden as _, Sources};

/// Events of a stream that are read at once.
const PAGE: i64 = 1_000;

/// A ledger position (a number), or a time (RFC 3339). One that has not come yet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After the event at a position.
    Position(i64),
    /// After what was recorded by a time.
    Time(DateTime<Utc>),
}

/// A ledger position (a number from 0 on), or a time (RFC 3339): as of the last event by then.
#[Scalar]
impl ScalarType for Moment {
    fn parse(value: Value) -> InputValueResult<Self> {
        let position = |number: i64| (number >= 0).then_some(Moment::Position(number));
        let found = match &value {
            Value::Number(number) => number.as_i64().and_then(position),
            Value::String(text) => {
                let time = DateTime::parse_from_rfc3339(text).ok();
                time.map(|time| Moment::Time(time.to_utc()))
                    .or_else(|| text.parse().ok().and_then(position))
            }
            _ => None,
        };
        let refused = "a ledger position (a number from 0 on), or a time (RFC 3339)";
        found.ok_or_else(|| InputValueError::custom(refused))
    }

    fn to_value(&self) -> Value {
        match self {
            Moment::Position(position) => Value::from(*position),
            Moment::Time(time) => Value::from(time.to_rfc3339()),
        }
    }
}

/// The position of a moment.
pub(crate) async fn position(sources: &Sources, moment: Moment) -> Result<i64> {
    match moment {
        Moment::Position(position) => match position <= sources.history.head().await.hidden()? {
            true => Ok(position),
            false => Err(format!("asOf: the ledger ends before position {position}").into()),
        },
        Moment::Time(time) => {
            let micros = time.timestamp_micros();
            if micros > sources.history.now() {
                return Err("asOf: that time has not come yet".into());
            }
            sources.history.before(micros.saturating_add(1)).await.hidden()
        }
    }
}

/// The events of a stream up to a position.
pub(crate) async fn stream(
    sources: &Sources,
    stream: &str,
    position: i64,
) -> Result<Vec<Recorded>> {
    let mut events: Vec<Recorded> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.version);
        let page = sources.history.stream(stream, after, PAGE).await.hidden()?;
        let read = page.len();
        let known = events.len();
        events.extend(page.into_iter().take_while(|event| event.position <= position));
        // Of the last page nothing is left, and of one that went too far not all was wanted.
        if read == 0 || events.len() - known < read {
            return Ok(events);
        }
    }
}
