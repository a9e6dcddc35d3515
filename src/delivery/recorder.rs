//! Collects what happens on connections and has the ledger record it: all steps of one message
//! that arrived together become one event.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use domain::{
    Metadata,
    facts::{Fact, Key},
    message::{AdvanceDeliveries, MessageId, Step},
    task::AdvanceChunk,
};
use futures_util::{StreamExt, stream};
use projections::task_chunks;
use tokio::sync::{mpsc, oneshot};

use crate::ledger::{Context, Lane, Ledger, Refused};

/// Steps that may wait before connections are held back.
pub const QUEUE_STEPS: usize = 16_384;
/// Steps recorded at once.
const BATCH_STEPS: usize = 4_096;
/// Messages whose steps wait for one commit.
const CONCURRENT: usize = 1_024;

/// How often a batch is tried again when the ledger fails, and the pause before each.
const RETRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A step of a delivery, as a connection saw it.
#[derive(Debug)]
pub struct Outcome {
    /// The app.
    pub app: String,
    /// The message, or the task.
    pub message: MessageId,
    /// The chunk of the task, where it is known; none of a message.
    pub chunk: Option<i64>,
    /// What happened.
    pub step: Step,
    /// Told once the step is durable, or why it is not.
    pub answer: Option<oneshot::Sender<Result<(), Refused>>>,
}

/// What connections send their outcomes with.
pub type Recorder = mpsc::Sender<Outcome>;

/// Records until every sender is gone, so that nothing is lost in a shutdown.
pub async fn run(ledger: Ledger, mut outcomes: mpsc::Receiver<Outcome>) {
    let mut batch = Vec::with_capacity(BATCH_STEPS);
    while outcomes.recv_many(&mut batch, BATCH_STEPS).await > 0 {
        let mut by_message: HashMap<(MessageId, Option<i64>), Vec<Outcome>> = HashMap::new();
        for outcome in batch.drain(..) {
            let stream = (outcome.message, outcome.chunk);
            by_message.entry(stream).or_default().push(outcome);
        }
        // One batch after the other: a message's steps stay in order.
        stream::iter(by_message.into_values())
            .for_each_concurrent(CONCURRENT, |outcomes| record(&ledger, outcomes))
            .await;
    }
}

/// Records the outcomes of one message or chunk; if the ledger refuses them together, each device's alone,
/// so that a device that speaks of what is not its own spoils nothing for the others.
async fn record(ledger: &Ledger, outcomes: Vec<Outcome>) {
    let mut recorded = execute(ledger, &outcomes).await;
    for _ in 0..RETRIES {
        if !matches!(recorded, Err(Refused::NoRoom | Refused::Fault(_))) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        recorded = execute(ledger, &outcomes).await;
    }
    let together = outcomes.iter().all(|outcome| outcome.step.device == outcomes[0].step.device);
    if let Err(Refused::Rejected(_)) = recorded
        && !together
    {
        let mut by_device: BTreeMap<i64, Vec<Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            by_device.entry(outcome.step.device).or_default().push(outcome);
        }
        for outcomes in by_device.into_values() {
            let mut recorded = execute(ledger, &outcomes).await;
            if let Err(Refused::Rejected(_)) = recorded
                && let Some(of_task) = as_of_task(ledger, &outcomes).await
            {
                recorded = of_task;
            }
            answer(outcomes, &recorded);
        }
        return;
    }
    if let Err(Refused::Rejected(_)) = recorded
        && let Some(of_task) = as_of_task(ledger, &outcomes).await
    {
        recorded = of_task;
    }
    answer(outcomes, &recorded);
}

async fn execute(ledger: &Ledger, outcomes: &[Outcome]) -> Result<(), Refused> {
    let Some(first) = outcomes.first() else { return Ok(()) };
    let context = context(first);
    let steps = outcomes.iter().map(|outcome| outcome.step.clone()).collect();
    let (message, task) = (first.message, first.message);
    let recorded = match first.chunk {
        Some(chunk) => {
            ledger.execute(Lane::Bulk, context, AdvanceChunk { task, chunk, steps }).await
        }
        None => ledger.execute(Lane::Bulk, context, AdvanceDeliveries { message, steps }).await,
    };
    recorded.map(|_| ())
}

/// Finds the chunk that a device speaks of, if that is no message of its own: a device says only
/// the id, maybe long after the connection on which it got it.
async fn as_of_task(ledger: &Ledger, outcomes: &[Outcome]) -> Option<Result<(), Refused>> {
    let first = outcomes.first().filter(|outcome| outcome.chunk.is_none())?;
    match ledger.remembered(Key::Task(first.message)).await {
        Ok(Fact::Task(Some(task))) if task.app == first.app => {}
        Ok(_) => return None,
        Err(fault) => return Some(Err(fault.into())),
    }
    let found = async {
        let mut checkout = ledger.database().views.checkout().await?;
        task_chunks::chunk_of(&mut checkout.conn(), first.message, first.step.device).await
    };
    let chunk = match found.await {
        Ok(Some(chunk)) => chunk,
        Ok(None) => return None,
        Err(fault) => return Some(Err(fault.into())),
    };
    let (task, context) = (first.message, context(first));
    let steps = outcomes.iter().map(|outcome| outcome.step.clone()).collect();
    let command = AdvanceChunk { task, chunk, steps };
    Some(ledger.execute(Lane::Bulk, context, command).await.map(|_| ()))
}

fn context(outcome: &Outcome) -> Context {
    let metadata =
        Metadata { actor: "server".to_owned(), via: "socket".to_owned(), ..Metadata::default() };
    Context { app: outcome.app.clone(), metadata }
}

fn answer(outcomes: Vec<Outcome>, recorded: &Result<(), Refused>) {
    if let (Err(refused), Some(first)) = (recorded, outcomes.first()) {
        match refused {
            Refused::Rejected(rejection) => {
                tracing::debug!(message = %first.message, %rejection, "a step was not recorded");
            }
            Refused::Overloaded | Refused::NoRoom | Refused::Closing | Refused::Fault(_) => {
                tracing::error!(message = %first.message, %refused, "a step was not recorded");
            }
        }
    }
    for outcome in outcomes {
        if let Some(answer) = outcome.answer {
            // The connection may be gone.
            let _ = answer.send(recorded.clone());
        }
    }
}
