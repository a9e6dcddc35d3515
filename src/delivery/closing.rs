//! Ends what is still open of tasks by the thousand: their time is over, or they were cancelled. It
//! needs no checkpoint: the views say what is open, and each decision looks at the chunk itself.

use std::{sync::Arc, time::Duration};

use domain::{Metadata, task::EndChunk};
use futures_util::{StreamExt, stream};
use projections::{Fault, task_chunks};

use crate::{
    app::Server,
    ledger::{Context, Lane, Refused},
};

/// Chunks ended at once.
const BATCH: i64 = 64;
/// Chunks whose endings wait for one commit.
const CONCURRENT: usize = 16;
/// Longest time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the views to see what was ended.
const VIEWS: Duration = Duration::from_secs(10);

/// Ends what is due, then waits for the next to be due. Safe to cancel.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn run(server: &Arc<Server>) -> Result<(), Fault> {
    loop {
        let now = server.clock.now();
        let mut checkout = server.ledger.database().views.checkout().await?;
        let due = task_chunks::to_end(&mut checkout.conn(), now, BATCH).await?;
        let next = task_chunks::next_expiry(&mut checkout.conn()).await?;
        drop(checkout);
        let ended = stream::iter(due)
            .map(|(app, task, chunk)| end(server, app, EndChunk { task, chunk, now }))
            .buffer_unordered(CONCURRENT)
            .fold(0, async |last: i64, position| last.max(position))
            .await;
        if ended > 0 {
            // Look again only once the views know; else the same would come up again.
            if server.views.reached(ended, VIEWS).await.is_err() {
                tracing::warn!("the endings of tasks wait for the views");
            }
            continue;
        }
        let until = next.filter(|at| *at > now).unwrap_or(i64::MAX);
        tokio::select! {
            () = server.clock.sleep_until(until), if until < i64::MAX => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn end(server: &Arc<Server>, app: String, command: EndChunk) -> i64 {
    let metadata =
        Metadata { actor: "server".to_owned(), via: "expiry".to_owned(), ..Metadata::default() };
    let task = command.task;
    match server.ledger.execute(Lane::Bulk, Context { app, metadata }, command).await {
        Ok(done) => done.last,
        Err(Refused::Rejected(_)) => 0,
        Err(refused) => {
            tracing::error!(%task, %refused, "a chunk could not end");
            0
        }
    }
}
