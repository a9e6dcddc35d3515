//! Ends what is out of time, on time, and says why: the device was never here, or it never said
//! that it has the message.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::{
    Metadata,
    message::{ExpireDeliveries, MessageId},
};
use futures_util::{StreamExt, stream};
use projections::{Fault, pending};
use tokio::sync::watch;

use crate::{
    app::Server,
    ledger::{Context, Lane, Refused},
};

/// Things ended at once.
const BATCH: i64 = 2_000;
/// Messages whose endings wait for one commit.
const CONCURRENT: usize = 256;
/// Longest time between two looks, in case something that expires sooner has come.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the views to see what was ended.
const VIEWS: Duration = Duration::from_secs(10);

/// Ends what is due, then waits for the next to be due. Safe to cancel.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn run(server: &Arc<Server>) -> Result<(), Fault> {
    let mut views = server.views.watch();
    loop {
        let now = server.clock.now();
        views.mark_unchanged();
        let mut checkout = server.ledger.database().views.checkout().await?;
        let due = pending::due(&mut checkout.conn(), now, BATCH).await?;
        let next = pending::next_expiry(&mut checkout.conn()).await?;
        drop(checkout);
        if due.is_empty() {
            wait(server, next, &mut views).await;
            continue;
        }
        let mut by_message: BTreeMap<MessageId, (String, Vec<i64>)> = BTreeMap::new();
        for row in due {
            let entry = by_message.entry(row.message).or_insert_with(|| (row.app, Vec::new()));
            entry.1.push(row.device);
        }
        let ended = stream::iter(by_message)
            .map(|(message, (app, devices))| expire(server, app, message, devices))
            .buffer_unordered(CONCURRENT)
            .fold(0, async |last: i64, position| last.max(position))
            .await;
        if ended == 0 {
            // The ledger failed, or the views know less than it does: both pass.
            tokio::time::sleep(LOOK).await;
            continue;
        }
        // Look again only once the views know; else the same would come up again.
        if server.views.reached(ended, VIEWS).await.is_err() {
            tracing::warn!("expiry waits for the views");
        }
    }
}

async fn expire(server: &Arc<Server>, app: String, message: MessageId, devices: Vec<i64>) -> i64 {
    let metadata =
        Metadata { actor: "server".to_owned(), via: "expiry".to_owned(), ..Metadata::default() };
    let command = ExpireDeliveries { message, devices };
    match server.ledger.execute(Lane::Bulk, Context { app, metadata }, command).await {
        Ok(done) => done.last,
        Err(Refused::Rejected(_)) => 0,
        Err(refused) => {
            tracing::error!(%message, %refused, "a message could not expire");
            0
        }
    }
}

/// Waits until the next thing expires, or something new may expire sooner.
async fn wait(server: &Arc<Server>, next: Option<i64>, views: &mut watch::Receiver<i64>) {
    let until = next.unwrap_or(i64::MAX);
    tokio::select! {
        () = server.clock.sleep_until(until), if next.is_some() => {}
        () = tokio::time::sleep(LOOK) => {}
        _ = views.changed(), if next.is_none() => {}
    }
}
