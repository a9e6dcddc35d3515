//! The story of each push, told line by line as its events come.

use std::{collections::HashMap, sync::Arc};

use domain::{
    Event, Recorded, Stream,
    message::{Ending, MessageId, Progress, RecallOp, RecallResult, Sender},
};
use projections::registry;
use tokio_util::sync::CancellationToken;

use super::screen::{bold, say, styled};
use crate::{app::Server, feed::follow::Follower};

/// Messages whose beginning is remembered.
const MAX_MESSAGES: usize = 1_000;

/// Tells what happens after a position, until told to stop.
pub(super) async fn tell(server: Arc<Server>, after: i64, stop: CancellationToken) {
    let mut follower = Follower::new(&server.ledger, after);
    let mut teller = Teller { server, names: HashMap::new(), began: HashMap::new() };
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = follower.next() => batch,
        };
        let Ok(batch) = batch else { continue };
        for recorded in batch.events() {
            teller.tell(recorded).await;
        }
    }
}

struct Teller {
    server: Arc<Server>,
    /// Client ids by device number.
    names: HashMap<i64, String>,
    /// When each message was accepted, in µs.
    began: HashMap<MessageId, i64>,
}

impl Teller {
    async fn tell(&mut self, recorded: &Recorded) {
        let Stream::Message(id) = recorded.stream else { return };
        match &recorded.event {
            Event::MessageAccepted(push) => {
                if self.began.len() >= MAX_MESSAGES {
                    self.began.clear();
                }
                self.began.insert(id, recorded.recorded_at);
                let sender = match push.sender {
                    Sender::User(_) => "a user's terminal",
                    Sender::Terminal => "a terminal",
                    Sender::Cloud => "the app's server",
                };
                let count = push.targets.len();
                let devices = if count == 1 { "device" } else { "devices" };
                say(&bold(&format!("\n  Message {id} from {sender} to {count} {devices}")));
                let durable = format!("durable at position {}", recorded.position);
                self.line(id, recorded, "accepted", &durable);
                for target in &push.targets {
                    if !self.server.hub.connected(target.device) {
                        let name = self.name(target.device).await;
                        let why = format!("{name}   (not connected: it gets it when it comes)");
                        self.line(id, recorded, "kept", &why);
                    }
                }
            }
            Event::DeliveriesAdvanced(e) => {
                for step in &e.steps {
                    let name = self.name(step.device).await;
                    self.line(id, recorded, &what(step.what), &name);
                }
            }
            Event::RecallRequested(e) => {
                for recalled in &e.results {
                    let name = self.name(recalled.device).await;
                    let op = match e.op {
                        RecallOp::Recall => "recall",
                        RecallOp::Replace => "replace",
                    };
                    let result = result(recalled.result);
                    self.line(id, recorded, op, &format!("{name}   ({result})"));
                }
            }
            _ => {}
        }
    }

    fn line(&self, id: MessageId, recorded: &Recorded, what: &str, rest: &str) {
        let began = self.began.get(&id).copied().unwrap_or(recorded.recorded_at);
        let micros = recorded.recorded_at - began;
        let after = format!("{:>4}.{} ms", micros / 1_000, micros / 100 % 10);
        let after = styled("2", &after);
        say(&format!("    {after}  {}  {rest}", styled("32", &format!("{what:<12}"))));
    }

    async fn name(&mut self, device: i64) -> String {
        if let Some(name) = self.names.get(&device) {
            return name.clone();
        }
        let name = match self.server.ledger.database().ledger_read.checkout().await {
            Ok(mut checkout) => {
                let found = registry::by_numbers(&mut checkout.conn(), &[device]).await;
                found.ok().and_then(|mut found| found.pop())
            }
            Err(_) => None,
        };
        let name = match name {
            Some((_, found)) => found.identity.client_id,
            None => format!("device {device}"),
        };
        self.names.insert(device, name.clone());
        name
    }
}

fn what(what: Progress) -> String {
    match what {
        Progress::Failed(reason) => format!("kept ({})", reason.name().replace('_', " ")),
        Progress::Sent => "sent".to_owned(),
        Progress::Received => "received".to_owned(),
        Progress::Displayed => "displayed".to_owned(),
        Progress::Acknowledged => "answered".to_owned(),
        Progress::Recalled(of) => result(of).to_owned(),
        Progress::Ended(Ending::ExpiredOffline | Ending::ExpiredUnacknowledged) => {
            "expired".to_owned()
        }
        Progress::Ended(reason) => reason.name().replace('_', " "),
    }
}

fn result(result: RecallResult) -> &'static str {
    match result {
        RecallResult::Requested => "told",
        RecallResult::StoppedBeforeSending => "stopped",
        RecallResult::ReplacedUnseen => "gone unseen",
        RecallResult::TooLate => "too late",
        RecallResult::Unknown => "unknown",
    }
}
