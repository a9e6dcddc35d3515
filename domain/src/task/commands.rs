//! What is done to a task as a whole: it is created within its app's limits, starts, and ends.

use std::collections::BTreeSet;

use super::{AppTask, Audience, How, RECENT_MICROS, TaskCreated, TaskEnded, TaskStarted, Totals};
use crate::{
    Append, Decide, Rejection, Stream, USUAL_BYTES,
    facts::{Facts, Key, Stop},
    message::{MessageId, MessagePrivate, Protocol},
    route::Strategy,
};

/// Who a task is to be for, by the caller's own names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskAudience {
    /// Every registered device of the app.
    Everyone,
    /// The users of a label.
    Label(String),
    /// These Easemob users, whose names are in lower case.
    Users(Vec<String>),
}

/// Tasks that an app may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLimits {
    /// Under way at once.
    pub running: u32,
    /// Created within five minutes.
    pub created: u32,
}

/// Creates a task.
#[derive(Debug, Clone)]
pub struct CreateTask {
    /// The app.
    pub app: String,
    /// The new task's id.
    pub id: MessageId,
    /// How it came.
    pub protocol: Protocol,
    /// Who it is for.
    pub audience: TaskAudience,
    /// How it is to travel.
    pub strategy: Strategy,
    /// How long it is worth delivering once it started, in seconds.
    pub keep_seconds: u32,
    /// When it is to start, in µs since the epoch; none: at once.
    pub start_at: Option<i64>,
    /// Now, in µs since the epoch.
    pub now: i64,
    /// How many tasks the app may have.
    pub limits: TaskLimits,
    /// The caller's own words.
    pub private: MessagePrivate,
}

/// Starts a task that is due. One that started, ended or is not due yet stays as it is.
#[derive(Debug, Clone)]
pub struct StartTask {
    /// The task.
    pub task: MessageId,
    /// Now, in µs since the epoch.
    pub now: i64,
    /// Devices of one chunk.
    pub chunk_devices: u32,
}

/// Cancels a task. One that finished can still be cancelled for those that it is kept for.
#[derive(Debug, Clone)]
pub struct CancelTask {
    /// The app.
    pub app: String,
    /// The task.
    pub task: MessageId,
    /// What it came to so far.
    pub totals: Totals,
    /// Whether something of it is kept for devices that are away.
    pub kept: bool,
}

/// Ends a task whose devices all had their turn.
#[derive(Debug, Clone)]
pub struct FinishTask {
    /// The task.
    pub task: MessageId,
    /// What it came to.
    pub totals: Totals,
}

impl Decide for CreateTask {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let tasks = facts.tasks_of_app(&self.app)?;
        self.limits.allow(&tasks, self.now)?;
        let (audience, unresolved) = self.resolve(facts)?;
        let event = TaskCreated {
            audience,
            protocol: self.protocol,
            strategy: self.strategy,
            keep_seconds: self.keep_seconds,
            start_at: self.start_at,
            unresolved,
            private: Some(self.private.clone()),
        };
        Ok(vec![append(self.id, 1, event)])
    }

    fn bytes(&self) -> usize {
        USUAL_BYTES + self.private.bytes()
    }
}

impl CreateTask {
    fn resolve(&self, facts: &Facts) -> Result<(Audience, u32), Stop> {
        match &self.audience {
            TaskAudience::Everyone => Ok((Audience::Everyone, 0)),
            TaskAudience::Label(name) => {
                let label = facts.label(&self.app, name)?;
                let label = label.ok_or_else(|| Rejection::UnknownLabel(name.clone()))?;
                Ok((Audience::Label { label: label.stream, name: label.name.clone() }, 0))
            }
            TaskAudience::Users(usernames) => {
                let usernames: BTreeSet<&String> = usernames.iter().collect();
                facts.want(usernames.iter().map(|username| Key::user(&self.app, username)))?;
                let (mut accounts, mut unresolved) = (Vec::new(), 0);
                for username in usernames {
                    match facts.user(&self.app, username)? {
                        Some(user) => accounts.push(user.account),
                        None => unresolved += 1,
                    }
                }
                accounts.sort_unstable();
                Ok((Audience::Users(accounts), unresolved))
            }
        }
    }
}

impl TaskLimits {
    /// Whether one more may be created: of those created within five minutes, full pushes count to
    /// the end of that time, and all others until they end.
    fn allow(self, tasks: &[AppTask], now: i64) -> Result<(), Rejection> {
        let count = |counts: &dyn Fn(&&AppTask) -> bool| tasks.iter().filter(counts).count() as u64;
        let recent = |task: &&AppTask| {
            task.created_at > now - RECENT_MICROS && (task.everyone || !task.ended)
        };
        let running = |task: &&AppTask| {
            !task.ended && (task.started || task.start_at.is_none_or(|start| start <= now))
        };
        if count(&recent) >= u64::from(self.created) {
            return Err(Rejection::TooManyTasks { limit: self.created, recent: true });
        }
        if count(&running) >= u64::from(self.running) {
            return Err(Rejection::TooManyTasks { limit: self.running, recent: false });
        }
        Ok(())
    }
}

impl Decide for StartTask {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let task = facts.task(self.task)?.ok_or(Rejection::UnknownTask)?;
        let due = task.start_at.is_none_or(|start| start <= self.now);
        if !due || task.started.is_some() || task.ended.is_some() {
            return Ok(Vec::new());
        }
        let expires_at = self.now + i64::from(task.keep_seconds) * 1_000_000;
        let event = TaskStarted { expires_at, chunk_devices: self.chunk_devices };
        Ok(vec![append(self.task, task.version + 1, event)])
    }
}

impl Decide for CancelTask {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let task = facts.task(self.task)?.filter(|task| task.app == self.app);
        let task = task.ok_or(Rejection::UnknownTask)?;
        let over = match task.ended {
            None => false,
            Some(How::Finished) => !self.kept,
            Some(How::Cancelled) => true,
        };
        if over {
            return Err(Rejection::TaskOver.into());
        }
        let event = TaskEnded { how: How::Cancelled, totals: self.totals };
        Ok(vec![append(self.task, task.version + 1, event)])
    }
}

impl Decide for FinishTask {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let task = facts.task(self.task)?.filter(|task| task.started.is_some());
        let task = task.ok_or(Rejection::UnknownTask)?;
        if task.ended.is_some() {
            return Ok(Vec::new());
        }
        let event = TaskEnded { how: How::Finished, totals: self.totals };
        Ok(vec![append(self.task, task.version + 1, event)])
    }
}

fn append(task: MessageId, version: i64, event: impl Into<crate::Event>) -> Append {
    Append { stream: Stream::Task(task), version, event: event.into() }
}
