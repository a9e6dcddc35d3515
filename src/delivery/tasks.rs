//! What callers do with tasks: create, look at, cancel. The faces of protocols call these; the
//! machine does the rest.

use std::{sync::Arc, time::Duration};

use domain::{
    Stream,
    message::{MessageId, MessagePrivate, Protocol},
    route::Strategy,
    task::{CancelTask, CreateTask, TaskAudience, TaskLimits, Totals},
};
use projections::{
    Fault, task_chunks,
    task_statistics::{self, TaskStatistics},
};

use crate::{
    app::Server,
    ledger::{Context, Done, Lane, Refused},
};

/// Longest wait for the views to know what a cancelled task came to.
const VIEWS: Duration = Duration::from_secs(2);

/// A task as a caller wants it.
#[derive(Debug, Clone)]
pub struct NewTask {
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
    /// How many tasks the app may have.
    pub limits: TaskLimits,
    /// The caller's own words. An Easemob payload must be a `pushMessage` that can be understood.
    pub private: MessagePrivate,
}

/// Creates a task; gives its id, which an earlier request with the same idempotency key had.
///
/// # Errors
/// [`Refused`]: the app has all the tasks that it may have, or there is no such label.
pub async fn create(
    server: &Arc<Server>,
    context: Context,
    new: NewTask,
) -> Result<(MessageId, Done), Refused> {
    let id = server.ids.next(&server.clock).await.ok_or(Refused::Overloaded)?;
    let command = CreateTask {
        app: context.app.clone(),
        id,
        protocol: new.protocol,
        audience: new.audience,
        strategy: new.strategy,
        keep_seconds: new.keep_seconds,
        start_at: new.start_at,
        now: server.clock.now(),
        limits: new.limits,
        private: new.private,
    };
    let done = server.ledger.execute(Lane::Interactive, context, command).await?;
    if !done.repeated {
        return Ok((id, done));
    }
    let page = server.ledger.read_at(&[done.first]).await?;
    match page.events.first().map(|recorded| &recorded.stream) {
        Some(Stream::Task(id)) => Ok((*id, done)),
        other => Err(Fault::stored("task", format!("{other:?}")).into()),
    }
}

/// A task of an app with what it came to so far, as the views know it; `None` for none.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn statistics(
    server: &Arc<Server>,
    app: &str,
    task: MessageId,
) -> Result<Option<TaskStatistics>, Fault> {
    let mut checkout = server.ledger.database().views.checkout().await?;
    task_statistics::find(&mut checkout.conn(), app, task).await
}

/// Cancels a task. What vendors took stays sent; what is kept or tried again ends as recalled, and
/// no further device gets it. One that finished is cancelled for the devices that it is kept for.
///
/// # Errors
/// [`Refused`]: there is no such task, it was cancelled before, or it finished and nothing is kept.
pub async fn cancel(
    server: &Arc<Server>,
    context: Context,
    task: MessageId,
) -> Result<Done, Refused> {
    // These totals are only as good as the views; the statistics go on counting. The users of the
    // audience are not counted here, as the sending would go on meanwhile.
    let _ = server.views.reached(server.ledger.head(), VIEWS).await;
    let so_far = statistics(server, &context.app, task).await?;
    let devices = so_far.map_or(0, |so_far| so_far.targets().unsigned_abs());
    let mut checkout = server.ledger.database().views.checkout().await?;
    let (chunks, kept) = task_chunks::recorded(&mut checkout.conn(), task).await?;
    drop(checkout);
    let totals = Totals { devices, chunks: chunks.unsigned_abs(), ..Totals::default() };
    let command = CancelTask { app: context.app.clone(), task, totals, kept };
    server.ledger.execute(Lane::Interactive, context, command).await
}
