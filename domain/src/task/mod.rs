//! A task: one push to an audience that is too large to be named, now or later. Its id is a
//! message's id, which devices see. The audience is cut at the position of `task.started`; what
//! becomes of its devices is recorded in [`chunk`]s of some thousand, on streams of their own.

pub mod chunk;
mod commands;
pub mod packed;
pub mod state;

pub use chunk::{AdvanceChunk, ChunkDelivered, EndChunk, RecordChunk};
pub use commands::{CancelTask, CreateTask, FinishTask, StartTask, TaskAudience, TaskLimits};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Event, Stream,
    event::{with_private, without_private},
    facts::Place,
    message::{MessageId, MessagePrivate, Protocol},
    route::Strategy,
};

/// How long the creation of a task counts against its app's limit, in µs: five minutes.
pub const RECENT_MICROS: i64 = 300_000_000;

/// Who a task is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Every registered device of the app.
    Everyone,
    /// The devices of a label's users.
    Label {
        /// The label's stream.
        label: Uuid,
        /// Its name.
        name: String,
    },
    /// The devices of these accounts.
    Users(Vec<Uuid>),
}

impl Audience {
    /// The stable name of its kind: in the registry, in statistics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Audience::Everyone => "everyone",
            Audience::Label { .. } => "label",
            Audience::Users(_) => "users",
        }
    }
}

/// A task was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCreated {
    /// Who it is for.
    pub audience: Audience,
    /// How it came.
    pub protocol: Protocol,
    /// How it wants to travel.
    pub strategy: Strategy,
    /// How long it is worth delivering once it started, in seconds.
    pub keep_seconds: u32,
    /// When it is to start, in µs since the epoch; none: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<i64>,
    /// Users that were named and that nobody knows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unresolved: u32,
    /// What is pushed and to whom; `None` once erased.
    #[serde(skip)]
    pub private: Option<MessagePrivate>,
}

/// A task started. Its audience is who was there at the position of this event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStarted {
    /// When it stops being worth delivering, in µs since the epoch.
    pub expires_at: i64,
    /// Devices of one chunk: it goes on as it began, whatever the program.
    pub chunk_devices: u32,
}

/// A task ended: no device gets it first from here on, save those that it is kept for. It may finish
/// and then be cancelled, for these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEnded {
    /// How.
    pub how: How,
    /// What it came to.
    pub totals: Totals,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// All its devices had their turn.
    Finished,
    /// It was cancelled.
    Cancelled,
}

impl How {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            How::Finished => "finished",
            How::Cancelled => "cancelled",
        }
    }
}

/// How many a task concerned, by the time that it ended. A cancelled task does not wait until its
/// users are counted: there they are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Users of the audience.
    pub users: u64,
    /// Those of them that have no device.
    pub unbound: u64,
    /// Devices that had their turn.
    pub devices: u64,
    /// Chunks that they came in.
    pub chunks: u64,
}

with_private!(TaskCreated);
without_private!(TaskStarted, TaskEnded);

/// A task as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The app it belongs to.
    pub app: String,
    /// Position of its creation.
    pub position: i64,
    /// Version of its stream.
    pub version: i64,
    /// Who it is for.
    pub audience: Audience,
    /// How it came.
    pub protocol: Protocol,
    /// How it wants to travel.
    pub strategy: Strategy,
    /// How long it is worth delivering once it started, in seconds.
    pub keep_seconds: u32,
    /// When it was created, in µs since the epoch.
    pub created_at: i64,
    /// When it is to start, in µs since the epoch.
    pub start_at: Option<i64>,
    /// Its start.
    pub started: Option<Started>,
    /// How it ended.
    pub ended: Option<How>,
}

/// The start of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The position at which the audience was cut.
    pub position: i64,
    /// When, in µs since the epoch.
    pub at: i64,
    /// When it expires, in µs since the epoch.
    pub expires_at: i64,
    /// Devices of one chunk.
    pub chunk_devices: u32,
}

impl Task {
    /// The task after one more event of its stream.
    #[must_use]
    pub fn evolve(before: Option<Task>, place: Place<'_>, event: &Event) -> Option<Task> {
        if let Event::TaskCreated(e) = event {
            return Some(Task {
                app: place.app.to_owned(),
                position: place.position,
                version: place.version,
                audience: e.audience.clone(),
                protocol: e.protocol,
                strategy: e.strategy,
                keep_seconds: e.keep_seconds,
                created_at: place.recorded_at,
                start_at: e.start_at,
                started: None,
                ended: None,
            });
        }
        let mut task = before?;
        task.version = place.version;
        if let Event::TaskStarted(e) = event {
            task.started = Some(Started {
                position: place.position,
                at: place.recorded_at,
                expires_at: e.expires_at,
                chunk_devices: e.chunk_devices,
            });
        } else if let Event::TaskEnded(e) = event {
            task.ended = Some(e.how);
        }
        Some(task)
    }
}

/// A task among its app's, as far as limits count it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppTask {
    /// The task.
    pub task: MessageId,
    /// Whether it is for everyone.
    pub everyone: bool,
    /// When it was created, in µs since the epoch.
    pub created_at: i64,
    /// When it is to start, in µs since the epoch.
    pub start_at: Option<i64>,
    /// Whether it started.
    pub started: bool,
    /// Whether it ended.
    pub ended: bool,
}

/// The tasks of an app that have not ended, and those of the five minutes before the last one was
/// created; in order of creation.
#[must_use]
pub(crate) fn evolve_tasks(tasks: &[AppTask], place: Place<'_>, event: &Event) -> Vec<AppTask> {
    let Stream::Task(id) = *place.stream else { return tasks.to_vec() };
    let mut tasks = tasks.to_vec();
    if let Event::TaskCreated(e) = event {
        tasks.push(AppTask {
            task: id,
            everyone: e.audience == Audience::Everyone,
            created_at: place.recorded_at,
            start_at: e.start_at,
            started: false,
            ended: false,
        });
    } else if let Some(task) = tasks.iter_mut().find(|task| task.task == id) {
        task.started |= matches!(event, Event::TaskStarted(_));
        task.ended |= matches!(event, Event::TaskEnded(_));
    }
    tasks.retain({
        // Those that were created never go back in time, so the newest is the last one created.
        let newest = tasks.iter().map(|task| task.created_at).max().unwrap_or(0);
        move |task| !task.ended || task.created_at > newest - RECENT_MICROS
    });
    tasks
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
