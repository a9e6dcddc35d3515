//! Work for the processor beside a database that writes. A long page of events has enough of both
//! for two cores, and one after the other they would have one in turns.

use crate::Fault;

/// Events of a page that is worth a thread.
const LONG: usize = 1_000;

/// Does some work of a page with so many events while the database writes, on a thread of its own
/// if it is worth that; gives what it came to once both are done.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn beside<T: Send + 'static>(
    events: usize,
    work: impl FnOnce() -> T + Send + 'static,
    writing: impl Future<Output = Result<(), Fault>>,
) -> Result<T, Fault> {
    if events < LONG {
        writing.await?;
        return Ok(work());
    }
    let working = tokio::task::spawn_blocking(work);
    let written = writing.await;
    let worked = working.await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime is ending.
        Err(_) => Fault::Database(sqlx::Error::WorkerCrashed),
    })?;
    written.map(|()| worked)
}
