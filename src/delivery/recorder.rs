//! Collects what happens on connections and has the ledger record it: all steps of one message
//! that arrived together become one event.

use std::collections::HashMap;

use domain::{
    Metadata,
    message::{AdvanceDeliveries, MessageId, Step},
};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use crate::ledger::{Context, Lane, Ledger, Refused};

/// Steps that may wait before connections are held back.
pub const QUEUE_STEPS: usize = 16_384;
/// Steps recorded at once.
const BATCH_STEPS: usize = 4_096;
/// Messages whose steps wait for one commit.
const CONCURRENT: usize = 1_024;

/// A step of a delivery, as a connection saw it.
#[derive(Debug)]
pub struct Outcome {
    /// The app.
    pub app: String,
    /// The message.
    pub message: MessageId,
    /// What happened.
    pub step: Step,
}

/// Records until every sender is gone, so that nothing is lost in a shutdown.
pub async fn run(ledger: Ledger, mut outcomes: mpsc::Receiver<Outcome>) {
    let mut batch = Vec::with_capacity(BATCH_STEPS);
    while outcomes.recv_many(&mut batch, BATCH_STEPS).await > 0 {
        let mut by_message: HashMap<MessageId, (String, Vec<Step>)> = HashMap::new();
        for Outcome { app, message, step } in batch.drain(..) {
            by_message.entry(message).or_insert_with(|| (app, Vec::new())).1.push(step);
        }
        // One batch after the other: a message's steps stay in order.
        stream::iter(by_message)
            .for_each_concurrent(CONCURRENT, |(message, (app, steps))| {
                record(&ledger, app, message, steps)
            })
            .await;
    }
}

async fn record(ledger: &Ledger, app: String, message: MessageId, steps: Vec<Step>) {
    let metadata =
        Metadata { actor: "server".to_owned(), via: "socket".to_owned(), ..Metadata::default() };
    let command = AdvanceDeliveries { message, steps };
    match ledger.execute(Lane::Bulk, Context { app, metadata }, command).await {
        Ok(_) => {}
        Err(Refused::Rejected(rejection)) => {
            tracing::debug!(%message, %rejection, "a step was not recorded");
        }
        Err(refused) => tracing::error!(%message, %refused, "a step was not recorded"),
    }
}

/// A sender that connections share.
pub type Recorder = mpsc::Sender<Outcome>;
