//! Tasks in the registry: what the scheduler starts, and what limits count. A task has one row.

use domain::{
    Event, Recorded, Stream,
    message::MessageId,
    task::{AppTask, RECENT_MICROS},
};

use crate::{Fault, db::Conn, on};

/// A task as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// The task.
    pub task: MessageId,
    /// The app.
    pub app: String,
    /// When it is to start, in µs; none: at once.
    pub start_at: Option<i64>,
    /// The position at which its audience was cut.
    pub started_position: Option<i64>,
}

/// Tasks change seldom: they are folded one by one.
pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    for recorded in page {
        let Stream::Task(MessageId(task)) = recorded.stream else { continue };
        match &recorded.event {
            Event::TaskCreated(e) => {
                const SQL: &str = "INSERT INTO tasks \
                     (task, app, kind, created_at, start_at, from_position) \
                     VALUES ($1, $2, $3, $4, $5, $6)";
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(task).bind(&recorded.app);
                    let query = query.bind(e.audience.kind()).bind(recorded.recorded_at);
                    let query = query.bind(e.start_at).bind(recorded.position);
                    query.execute(&mut *c).await?.rows_affected()
                });
            }
            Event::TaskStarted(_) => {
                const SQL: &str = "UPDATE tasks SET started_position = $2 WHERE task = $1";
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(task).bind(recorded.position);
                    query.execute(&mut *c).await?.rows_affected()
                });
            }
            Event::TaskEnded(e) => {
                const SQL: &str = "UPDATE tasks SET ended = $2, ended_at = $3 WHERE task = $1";
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(task).bind(e.how.name());
                    query.bind(recorded.recorded_at).execute(&mut *c).await?.rows_affected()
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// An app's tasks that have not ended or were created within five minutes before the newest, in
/// order of creation.
pub(super) async fn of_app(conn: &mut Conn<'_>, app: &str) -> Result<Vec<AppTask>, Fault> {
    const SQL: &str = "SELECT task, kind, created_at, start_at, started_position, ended \
         FROM tasks WHERE app = $1 AND (ended IS NULL OR created_at > \
         (SELECT MAX(created_at) FROM tasks WHERE app = $1) - $2) ORDER BY from_position";
    type Row = (i64, String, i64, Option<i64>, Option<i64>, Option<String>);
    let found: Vec<Row> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(RECENT_MICROS).fetch_all(&mut *c).await?
    });
    let task = |(task, kind, created_at, start_at, started, ended): Row| AppTask {
        task: MessageId(task),
        everyone: kind == "everyone",
        created_at,
        start_at,
        started: started.is_some(),
        ended: ended.is_some(),
    };
    Ok(found.into_iter().map(task).collect())
}

/// All tasks that have not ended, in order of their ids.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn open_tasks(conn: &mut Conn<'_>) -> Result<Vec<TaskRow>, Fault> {
    const SQL: &str = "SELECT task, app, start_at, started_position FROM tasks \
         WHERE ended IS NULL ORDER BY task";
    let found: Vec<(i64, String, Option<i64>, Option<i64>)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    let row = |(task, app, start_at, started_position)| TaskRow {
        task: MessageId(task),
        app,
        start_at,
        started_position,
    };
    Ok(found.into_iter().map(row).collect())
}
