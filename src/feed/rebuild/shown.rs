//! A rebuild as operators see it: the admin API and the command line show the same.

use serde::Serialize;
use utoipa::ToSchema;

use super::{State, Status};

/// The generation that is live, and the last rebuild, if there ever was one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildStatus {
    /// Number of the generation that is read.
    pub live: i64,
    /// The last rebuild.
    pub rebuild: Option<RebuildShown>,
}

/// A rebuild. Times are in ms since the epoch.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebuildShown {
    /// `wanted`, `running`, `done`, `cancelled`, `failed` or `interrupted`.
    pub state: State,
    /// Number of the generation that it makes, or made.
    pub generation: Option<i64>,
    /// Whether it sets aside again what is set aside in the live generation.
    pub keep_aside: bool,
    /// Ledger position that is folded.
    pub position: i64,
    /// Ledger position that the live generation had when it was last looked at.
    pub target: i64,
    /// How much of it is made.
    pub percent: f64,
    /// Events folded in a second, so far.
    pub events_per_second: i64,
    /// How long it will take at that pace, while it runs.
    pub seconds_left: Option<i64>,
    /// When it was asked for.
    pub asked_at: i64,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it was over.
    pub ended_at: Option<i64>,
    /// Position of the event that it stopped at.
    pub stopped_at: Option<i64>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl From<Status> for RebuildStatus {
    fn from(status: Status) -> Self {
        let millis = |micros: i64| micros / 1_000;
        let rebuild = status.rebuild.map(|rebuild| RebuildShown {
            state: rebuild.state,
            keep_aside: rebuild.keep_aside,
            position: rebuild.position,
            target: rebuild.target,
            percent: rebuild.percent(),
            events_per_second: rebuild.rate,
            seconds_left: rebuild.seconds_left(),
            asked_at: millis(rebuild.asked_at),
            started_at: rebuild.started_at.map(millis),
            ended_at: rebuild.ended_at.map(millis),
            stopped_at: rebuild.stopped_at,
            reason: rebuild.reason,
            // A wanted one has none yet; the number it remembers is of the one before.
            generation: rebuild.generation.filter(|_| rebuild.started_at.is_some()),
        });
        RebuildStatus { live: status.live, rebuild }
    }
}
