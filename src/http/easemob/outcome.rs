//! What became of a message, for `push/sync`: it reads the message's stream on and on, until each
//! delivery has been handed over, is kept for a device that is away, or has failed. What failed is
//! told in the vocabulary of Easemob's documents.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Event, Stream,
    message::{Delivery, Ending, Message, MessageId, Progress, Stage},
    route::{Route, Strategy, Ways, route},
};
use projections::{Fault, registry};
use serde_json::{Value, json};

use crate::{app::Server, directory::AppEntry};

/// Longest wait for the outcome, in µs: 20 s.
pub const WAIT_MICROS: i64 = 20_000_000;
/// Time between two looks at a message.
const PACE: Duration = Duration::from_millis(25);
/// Events of a message read at once.
const PAGE: i64 = 1_000;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A vendor or a connection took it; the vendor's own id of it, or else ours.
    Taken(String),
    /// It is kept for a device that is away.
    Kept(String),
    /// It reached nobody, for that reason.
    Failed(&'static str),
    /// We, or the vendor, could not do it.
    Error(&'static str),
}

impl Outcome {
    /// As the answer shows it.
    #[must_use]
    pub fn shown(&self) -> Value {
        let success = |sent: bool, request: &str, message: &str| {
            json!({ "pushStatus": "SUCCESS", "data": {
                "code": 200,
                "data": { "expireTokens": [], "sendResult": sent, "requestId": request,
                          "failTokens": [], "msgCode": 200 },
                "message": message,
            } })
        };
        match self {
            Outcome::Taken(request) => success(true, request, "Success"),
            Outcome::Kept(request) => success(false, request, "Kept until the device connects"),
            Outcome::Failed(desc) => json!({ "pushStatus": "FAIL", "desc": desc }),
            Outcome::Error(desc) => json!({ "pushStatus": "ERROR", "desc": desc }),
        }
    }
}

/// A delivery's share in the outcome.
enum Share {
    Taken,
    Kept,
    Ended(Ending),
    Open,
}

/// What became of a message that was accepted, as soon as that is clear.
pub async fn of(server: &Server, app: &AppEntry, id: MessageId) -> Result<Outcome, Fault> {
    let deadline = server.clock.now() + WAIT_MICROS;
    let (mut heads, stop) = (server.ledger.watch(), server.stop_token());
    let mut seen = Seen { id, message: None, words: BTreeMap::new(), nobody: None };
    loop {
        heads.borrow_and_update();
        seen.read(server).await?;
        if let Some(outcome) = seen.outcome(server, app).await? {
            return Ok(outcome);
        }
        let moved = async {
            tokio::time::sleep(PACE).await;
            // Presence moves without the ledger.
            let _ = tokio::time::timeout(PACE * 8, heads.changed()).await;
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(Outcome::Error("the outcome is not known yet")),
            () = server.clock.sleep_until(deadline) => return Ok(Outcome::Error("timeout")),
            () = moved => {}
        }
    }
}

/// A message, as far as it was read.
struct Seen {
    id: MessageId,
    message: Option<Message>,
    /// The vendor's own word on each device that it took the message for.
    words: BTreeMap<i64, String>,
    /// Why it has no delivery at all, if it has none.
    nobody: Option<&'static str>,
}

impl Seen {
    async fn read(&mut self, server: &Server) -> Result<(), Fault> {
        let stream = Stream::Message(self.id).to_string();
        let after = self.message.as_ref().map_or(0, |message| message.version);
        for recorded in server.ledger.read_stream(&stream, after, PAGE).await?.events {
            if let Event::MessageAccepted(accepted) = &recorded.event
                && accepted.targets.is_empty()
            {
                let unbound = accepted.unbound > 0;
                self.nobody = Some(if unbound { NO_BINDING } else { NO_USER });
            }
            if let Event::DeliveriesAdvanced(advanced) = &recorded.event {
                let sent = advanced.steps.iter().filter(|step| step.what == Progress::Sent);
                let words = sent.filter_map(|step| Some((step.device, step.word.clone()?)));
                self.words.extend(words);
            }
            let before = self.message.take();
            self.message = Message::evolve(before, recorded.place(), &recorded.event);
        }
        Ok(())
    }

    /// The outcome, if no more is to be waited for. One device that was reached is enough.
    async fn outcome(&self, server: &Server, app: &AppEntry) -> Result<Option<Outcome>, Fault> {
        if let Some(reason) = self.nobody {
            return Ok(Some(Outcome::Failed(reason)));
        }
        let Some(message) = &self.message else { return Ok(None) };
        let away = self.away(server, app, message).await?;
        let (mut kept, mut open, mut first) = (false, false, None);
        for (number, delivery) in &message.deliveries {
            match share(delivery, away.contains(number)) {
                Share::Taken => {
                    let word = self.words.get(number).cloned();
                    return Ok(Some(Outcome::Taken(word.unwrap_or_else(|| self.id.to_string()))));
                }
                Share::Kept => kept = true,
                Share::Ended(ending) => first = first.or(Some(ending)),
                Share::Open => open = true,
            }
        }
        Ok(match (open, kept, first) {
            (true, ..) => None,
            (false, true, _) => Some(Outcome::Kept(self.id.to_string())),
            (false, false, Some(ending)) => Some(ended(ending)),
            (false, false, None) => Some(Outcome::Failed(NO_BINDING)),
        })
    }

    /// Devices that are away, and for which the message is kept without anything more to be done.
    async fn away(
        &self,
        server: &Server,
        app: &AppEntry,
        message: &Message,
    ) -> Result<Vec<i64>, Fault> {
        let strategy = message.strategy;
        let open = message.deliveries.iter().filter(|(_, d)| d.open() && d.stage < Stage::Sent);
        let open: Vec<i64> = open.map(|(number, _)| *number).collect();
        if open.is_empty() || matches!(strategy, Strategy::VendorOnly | Strategy::PresentOnly) {
            return Ok(Vec::new());
        }
        let present = server.presence.present(&open).await?;
        let mut checkout = server.ledger.database().ledger_read.checkout().await?;
        let devices = registry::by_numbers(&mut checkout.conn(), &open).await?;
        let mut away = Vec::new();
        for (_, device) in devices {
            let present = present.contains(&device.number);
            let bound = device.bindings().iter().any(|binding| {
                app.config.vendor_of(binding, &device.profile.app_package).is_some()
            });
            let ways = Ways { present, bound };
            // Where a vendor is asked first, the message is kept only once that has failed.
            let failed = message.deliveries.get(&device.number).is_some_and(|d| d.failed.is_some());
            let waits = strategy.kept_at_once() && route(strategy, ways) == Route::Online;
            if !present && (failed || waits) {
                away.push(device.number);
            }
        }
        Ok(away)
    }
}

fn share(delivery: &Delivery, away: bool) -> Share {
    if delivery.stage >= Stage::Sent {
        return Share::Taken;
    }
    match (delivery.ended, away) {
        (Some(ending), _) => Share::Ended(ending),
        (None, true) => Share::Kept,
        (None, false) if delivery.recall.is_some() => Share::Ended(Ending::Recalled),
        (None, false) => Share::Open,
    }
}

/// Nobody has the name.
pub const NO_USER: &str = "appUser not exists";
/// There is no token of a vendor that the app has, or no device at all.
pub const NO_BINDING: &str = "no push binding";

/// The word for a delivery that ended so.
#[must_use]
pub fn desc(ending: Ending) -> &'static str {
    match ended(ending) {
        Outcome::Failed(desc) | Outcome::Error(desc) => desc,
        // No ending is a success.
        Outcome::Taken(_) | Outcome::Kept(_) => "",
    }
}

/// The one table from endings to the vocabulary.
fn ended(ending: Ending) -> Outcome {
    match ending {
        Ending::NoBinding | Ending::Unregistered => Outcome::Failed(NO_BINDING),
        Ending::OwnerChanged => Outcome::Failed("illegal binding"),
        Ending::DeadToken => Outcome::Failed("bad device token"),
        Ending::Muted => Outcome::Failed("user ignore push"),
        Ending::Unfit => Outcome::Failed("invalid message"),
        Ending::QuotaExhausted => Outcome::Failed("notifier out of limit"),
        Ending::Misconfigured => Outcome::Failed("invalid notifier"),
        Ending::NotPresent | Ending::Recalled => Outcome::Failed("message ignore push"),
        Ending::ExpiredOffline | Ending::ExpiredUnacknowledged | Ending::ExpiredUnsent => {
            Outcome::Failed("expire message")
        }
        // Never of an Easemob push.
        Ending::Unacknowledged => Outcome::Error("timeout"),
        Ending::VendorUnavailable => Outcome::Error("push yet but fail"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_vendor_cannot_do_is_an_error_and_everything_else_a_failure() {
        assert_eq!(ended(Ending::VendorUnavailable), Outcome::Error("push yet but fail"));
        assert_eq!(ended(Ending::DeadToken), Outcome::Failed("bad device token"));
        assert_eq!(ended(Ending::NoBinding), Outcome::Failed("no push binding"));
        assert_eq!(ended(Ending::ExpiredUnsent), Outcome::Failed("expire message"));
    }

    #[test]
    fn a_success_has_the_shape_of_the_documents_example() {
        let shown = Outcome::Taken("104410638-fd".to_owned()).shown();
        assert_eq!(
            shown,
            json!({ "pushStatus": "SUCCESS", "data": { "code": 200, "data": {
            "expireTokens": [], "sendResult": true, "requestId": "104410638-fd", "failTokens": [],
            "msgCode": 200 }, "message": "Success" } })
        );
        let failed = Outcome::Failed("no push binding").shown();
        assert_eq!(failed, json!({ "pushStatus": "FAIL", "desc": "no push binding" }));
    }
}
