//! How large a task's audience is, as of the position at which it was cut, and how many users it got
//! to. The registry and the views tell both at any time, so they are counted when somebody asks: an
//! audience once, as it may be everyone, and whom the task got to whenever that changed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use domain::{
    facts::{Fact, Key},
    message::MessageId,
    task::Task,
};
use projections::{
    Fault,
    registry::audience::{
        Users, devices_of_app, named_targets, users_in, users_of_app, users_with,
    },
    task_chunks::{self, Span},
    task_statistics::{TaskState, TaskStatistics},
};

use crate::app::Server;

/// Audiences that are remembered at once.
const REMEMBERED: usize = 1_024;

/// A task's audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Its users.
    pub users: u64,
    /// Those of them that have no device.
    pub unbound: u64,
    /// Its devices.
    pub devices: u64,
    /// Users of whom a device was handed it; none while the task is under way.
    pub reached: Option<u64>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Reaches(Mutex<HashMap<MessageId, Counted>>);

#[derive(Debug, Clone, Default)]
struct Counted {
    audience: Option<Reach>,
    reached: Option<(Vec<Span>, u64)>,
}

impl Reaches {
    fn get(&self, task: MessageId) -> Counted {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&task).cloned().unwrap_or_default()
    }

    fn put(&self, task: MessageId, counted: Counted) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(task, counted);
    }
}

/// How large a task's audience is; `None` as long as it waits.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn reach(server: &Server, found: &TaskStatistics) -> Result<Option<Reach>, Fault> {
    let (row, state) = (&found.task, found.task.state());
    if state == TaskState::Waiting {
        return Ok(None);
    }
    let fact = match server.ledger.fact(Key::Task(row.task)).await {
        // Its position lies in an export: what is folded is known all the same.
        Err(Fault::Detached { .. }) => return Ok(folded(found)),
        fact => fact?,
    };
    let Fact::Task(Some(task)) = fact else {
        return Err(Fault::stored("task", format!("{} is unknown", row.task)));
    };
    let Some(as_of) = task.started.map(|started| started.position) else {
        // It was cancelled before its time.
        return Ok(Some(Reach { reached: Some(0), ..Reach::default() }));
    };
    let mut counted = server.reaches.get(row.task);
    let mut reach = match counted.audience.or_else(|| folded(found)) {
        Some(reach) => reach,
        None => audience(server, &task, as_of).await?,
    };
    counted.audience = Some(reach);
    if state != TaskState::Running {
        let mut checkout = server.ledger.database().views.checkout().await?;
        let spans = task_chunks::handed_over(&mut checkout.conn(), row.task).await?;
        drop(checkout);
        let known = counted.reached.take().filter(|(own, _)| *own == spans);
        let reached = match known {
            Some((_, reached)) => reached,
            None => users_of(server, &task, as_of, &spans).await?,
        };
        reach.reached = Some(reached);
        counted.reached = Some((spans, reached));
    }
    server.reaches.put(row.task, counted);
    Ok(Some(reach))
}

/// The audience of a task that finished, as the views have it: every device had its turn.
fn folded(found: &TaskStatistics) -> Option<Reach> {
    let counts = [found.task.users?, found.task.unbound?, found.targets()];
    let [users, unbound, devices] = counts.map(i64::unsigned_abs);
    Some(Reach { users, unbound, devices, reached: None })
}

async fn audience(server: &Server, task: &Task, as_of: i64) -> Result<Reach, Fault> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let mut conn = checkout.conn();
    let (Users { users, unbound }, devices) =
        match named_targets(&mut conn, &task.audience, as_of).await? {
            Some((numbers, users)) => (users, numbers.len() as u64),
            None => {
                let users = users_of_app(&mut conn, &task.app, as_of).await?;
                (users, devices_of_app(&mut conn, &task.app, as_of).await?)
            }
        };
    Ok(Reach { users, unbound, devices, reached: None })
}

/// The users of the devices in these spans, which are in order.
async fn users_of(server: &Server, task: &Task, as_of: i64, spans: &[Span]) -> Result<u64, Fault> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let mut conn = checkout.conn();
    let Some((numbers, _)) = named_targets(&mut conn, &task.audience, as_of).await? else {
        return users_in(&mut conn, &task.app, spans, as_of).await;
    };
    // Between two devices of some users there are devices of others.
    let within = |number: &i64| {
        let span = spans.get(spans.partition_point(|(_, last)| last < number));
        span.is_some_and(|(first, _)| first <= number)
    };
    let numbers: Vec<i64> = numbers.into_iter().filter(within).collect();
    users_with(&mut conn, &numbers, as_of).await
}
