//! Ends what a device may no longer get: it unregistered, or it now belongs to another user than
//! the one addressed. An effect with a checkpoint: at least once, and repeating it changes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::{
    Event, Metadata, Recorded,
    facts::{Fact, Key},
    message::{AdvanceDeliveries, Ending, MessageId, Progress, Step},
    task::{AdvanceChunk, Audience},
};
use projections::{
    Fault, pending,
    task_chunks::{self, KeptRow},
};

use crate::{
    app::Server,
    feed::{effects, follow::Follower},
    ledger::{Context, Done, Lane, Refused},
};

/// Name of the checkpoint.
pub const NAME: &str = "endings";
/// Things that one device may have pending.
const MAX_PENDING: i64 = 100_000;
/// Longest wait for the views.
const VIEWS: Duration = Duration::from_secs(30);
/// Time between two looks at what was committed.
const PACE: Duration = Duration::from_millis(20);
/// Events between two notes of the checkpoint, when nothing concerns this effect.
const CHECKPOINT_EVENTS: i64 = 10_000;

/// Follows the ledger from the checkpoint. Safe to cancel.
///
/// # Errors
/// [`Fault`] when the database fails, or the views stay behind.
pub async fn run(server: &Arc<Server>) -> Result<(), Fault> {
    let mut noted = effects::checkpoint(&server.ledger, NAME).await?;
    let mut follower = Follower::new(&server.ledger, noted).paced(PACE);
    let reading = server.metrics.reading(NAME, noted);
    loop {
        let batch = follower.next().await?;
        let mut concerned = false;
        for recorded in batch.events() {
            if let Some((device, reason)) = ending(recorded) {
                concerned = true;
                end(server, recorded, device, reason).await?;
            }
        }
        reading.reached(batch.last());
        if concerned || batch.last() - noted >= CHECKPOINT_EVENTS {
            noted = batch.last();
            effects::advance(&server.ledger, NAME, noted).await?;
        }
    }
}

/// Whose deliveries an event ends, and why.
fn ending(recorded: &Recorded) -> Option<(i64, Ending)> {
    match &recorded.event {
        Event::DeviceUnregistered(e) => Some((e.device, Ending::Unregistered)),
        Event::DeviceUpdated(e) => e.former_account.map(|_| (e.device, Ending::OwnerChanged)),
        Event::DeviceReturned(e) => e.former_account.map(|_| (e.device, Ending::OwnerChanged)),
        _ => None,
    }
}

async fn end(
    server: &Arc<Server>,
    recorded: &Recorded,
    device: i64,
    reason: Ending,
) -> Result<(), Fault> {
    let reached = server.views.reached(recorded.position, VIEWS).await;
    reached.map_err(|behind| Fault::stored("views", behind))?;
    let mut checkout = server.ledger.database().views.checkout().await?;
    let rows = pending::all_of(&mut checkout.conn(), device, MAX_PENDING).await?;
    let app = &recorded.app;
    let kept = task_chunks::kept_for(&mut checkout.conn(), app, device, 0, 0).await?;
    drop(checkout);
    let former = match &recorded.event {
        Event::DeviceUpdated(e) => e.former_account,
        Event::DeviceReturned(e) => e.former_account,
        _ => None,
    };
    // What was pushed after this event knew of it.
    let before =
        rows.into_iter().filter(|row| row.position < recorded.position && row.op.is_none());
    let concerned = before.filter(|row| former.is_none() || row.account == former);
    let mut steps: BTreeMap<MessageId, Vec<Step>> = BTreeMap::new();
    for row in concerned {
        let step = Step::of_server(device, Progress::Ended(reason));
        steps.entry(row.message).or_default().push(step);
    }
    let context = || {
        let metadata = Metadata {
            actor: "server".to_owned(),
            via: NAME.to_owned(),
            causation: Some(recorded.position),
            ..Metadata::default()
        };
        Context { app: recorded.app.clone(), metadata }
    };
    for (message, steps) in steps {
        let command = AdvanceDeliveries { message, steps };
        must(server.ledger.execute(Lane::Bulk, context(), command).await)?;
    }
    let before = kept.into_iter().filter(|row| row.since < recorded.position);
    for KeptRow { task, chunk, .. } in before {
        // A push to everyone is for the device, whoever's it is.
        if former.is_some() && for_everyone(server, task).await? {
            continue;
        }
        let steps = vec![Step::of_server(device, Progress::Ended(reason))];
        let command = AdvanceChunk { task, chunk, steps };
        must(server.ledger.execute(Lane::Bulk, context(), command).await)?;
    }
    Ok(())
}

fn must(recorded: Result<Done, Refused>) -> Result<(), Fault> {
    match recorded {
        Ok(_) | Err(Refused::Rejected(_)) => Ok(()),
        Err(refused) => Err(Fault::stored("ending", refused)),
    }
}

async fn for_everyone(server: &Arc<Server>, task: MessageId) -> Result<bool, Fault> {
    match server.ledger.remembered(Key::Task(task)).await? {
        Fact::Task(Some(task)) => Ok(task.audience == Audience::Everyone),
        other => Err(Fault::stored("task", format!("{other:?}"))),
    }
}
