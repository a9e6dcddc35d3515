//! What is done to a message after it was accepted: deliveries go on, expire, are reported and
//! recalled.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    DeliveriesAdvanced, Delivery, Ending, Message, MessageId, Progress, RecallOp, RecallRequested,
    RecallResult, Recalled, Reporter, STEP_BYTES, Stage, Step,
};
use crate::{
    Append, Decide, Event, Rejection, Stream, USUAL_BYTES, device,
    facts::{Facts, Stop},
};

/// Records what happened to deliveries of one message: the server's own outcomes, and what
/// devices say over their connections. What the folds know already is dropped.
#[derive(Debug, Clone)]
pub struct AdvanceDeliveries {
    /// The message.
    pub message: MessageId,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Ends what is still open of a message when its time is over.
#[derive(Debug, Clone)]
pub struct ExpireDeliveries {
    /// The message.
    pub message: MessageId,
    /// The devices whose deliveries were open when somebody looked.
    pub devices: Vec<i64>,
}

/// A device reports a stage over REST.
#[derive(Debug, Clone)]
pub struct ReportDelivery {
    /// The app.
    pub app: String,
    /// Packages that the app allows; empty: any that a device registered.
    pub allowed_packages: Vec<String>,
    /// The device's client id.
    pub client_id: String,
    /// The device's package.
    pub app_package: String,
    /// The user that is logged in.
    pub user: Option<String>,
    /// The message.
    pub message: MessageId,
    /// Received, displayed or acknowledged.
    pub stage: Progress,
    /// The request that says so.
    pub request: String,
}

/// Recalls a message, or replaces it by an empty one.
#[derive(Debug, Clone)]
pub struct RecallMessage {
    /// The app.
    pub app: String,
    /// The message.
    pub message: MessageId,
    /// Which of the two.
    pub op: RecallOp,
}

impl Decide for AdvanceDeliveries {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let message = facts.message(self.message)?.ok_or(Rejection::UnknownMessage)?;
        let mut deliveries = message.deliveries.clone();
        let steps: Vec<Step> = self
            .steps
            .iter()
            .filter(|step| {
                let Some(delivery) = deliveries.get_mut(&step.device) else { return false };
                if !is_news(delivery, step) {
                    return false;
                }
                delivery.advance(step);
                true
            })
            .cloned()
            .collect();
        Ok(advanced(self.message, &message, &deliveries, steps))
    }

    fn bytes(&self) -> usize {
        USUAL_BYTES + self.steps.len() * STEP_BYTES
    }
}

impl Decide for ExpireDeliveries {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let message = facts.message(self.message)?.ok_or(Rejection::UnknownMessage)?;
        let ending = |delivery: &Delivery| {
            if delivery.recalling() {
                Some(Progress::Recalled(RecallResult::Unknown))
            } else if !delivery.open() || delivery.vendor.is_some() {
                // What a vendor took is its to deliver, and nobody tells whether it did.
                None
            } else if delivery.stage < Stage::Sent {
                Some(Progress::Ended(Ending::ExpiredOffline))
            } else {
                Some(Progress::Ended(Ending::ExpiredUnacknowledged))
            }
        };
        let devices: BTreeSet<&i64> = self.devices.iter().collect();
        let steps = devices.into_iter().filter_map(|device| {
            let what = message.deliveries.get(device).and_then(ending)?;
            Some(Step::of_server(*device, what))
        });
        Ok(advanced(self.message, &message, &message.deliveries, steps.collect()))
    }
}

/// Whether a step says something that the folds do not know yet.
fn is_news(delivery: &Delivery, step: &Step) -> bool {
    match step.what {
        Progress::Failed(_) => delivery.wants_vendor(),
        // A vendor may take what was handed to a connected device, and what the device answered
        // or somebody recalled while the vendor was being asked: it shows the message all the same.
        Progress::Sent => {
            delivery.stage < Stage::Sent || (step.vendor.is_some() && delivery.vendor.is_none())
        }
        Progress::Received => delivery.stage < Stage::Received,
        Progress::Displayed => delivery.stage < Stage::Displayed,
        Progress::Acknowledged => delivery.stage < Stage::Acknowledged,
        // These follow from a recall; they are nobody's to report.
        Progress::Ended(Ending::Recalled)
        | Progress::Recalled(RecallResult::Requested | RecallResult::StoppedBeforeSending) => false,
        // The device reported in the meantime, or something else ended it first.
        Progress::Ended(_) => delivery.open(),
        Progress::Recalled(_) => delivery.recalling(),
    }
}

impl Decide for ReportDelivery {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        device::package_is_known(facts, &self.app, &self.allowed_packages, &self.app_package)?;
        let devices = facts.devices_of_client(&self.app, &self.client_id)?;
        let device = devices.iter().find(|d| d.profile.app_package == self.app_package);
        let device = device.ok_or(Rejection::UnknownMessage)?;
        device::speaks_for(facts, &self.app, device, self.user.as_deref())?;
        let message = facts.message(self.message)?.filter(|message| message.app == self.app);
        let message = message.ok_or(Rejection::UnknownMessage)?;
        let mut deliveries = message.deliveries.clone();
        let delivery = deliveries.get_mut(&device.number).ok_or(Rejection::UnknownMessage)?;
        let step = Step {
            device: device.number,
            what: self.stage,
            by: Reporter::Rest,
            request: Some(self.request.clone()),
            vendor: None,
            word: None,
        };
        let mut after = delivery.clone();
        after.advance(&step);
        // Only what this device said over REST counts: its connection may have spoken before.
        if after.reported == delivery.reported {
            return Err(Rejection::ReportedBefore.into());
        }
        *delivery = after;
        Ok(advanced(self.message, &message, &deliveries, vec![step]))
    }
}

/// The event for some steps, and the recalls that follow from it: wherever a message that burns
/// is still unseen once a device has displayed it, and on devices that turn out to have got what
/// a recall had thought to stop.
fn advanced(
    id: MessageId,
    message: &Message,
    after: &BTreeMap<i64, Delivery>,
    steps: Vec<Step>,
) -> Vec<Append> {
    if steps.is_empty() {
        return Vec::new();
    }
    let mut events: Vec<Event> = Vec::new();
    for op in [RecallOp::Recall, RecallOp::Replace] {
        let escaped = |delivery: &Delivery| {
            delivery.recall == Some((op, RecallResult::StoppedBeforeSending))
                && delivery.stage >= Stage::Sent
        };
        let escaped = after.iter().filter(|(_, delivery)| escaped(delivery));
        events.extend(recall(message, op, escaped));
    }
    let seen = |delivery: &Delivery| delivery.stage >= Stage::Displayed;
    if message.burn && after.values().any(seen) {
        let unseen = after.iter().filter(|(_, d)| !seen(d) && d.recall.is_none());
        events.extend(recall(message, RecallOp::Recall, unseen));
    }
    events.insert(0, DeliveriesAdvanced { accepted: message.position, steps }.into());
    let versions = message.version + 1..;
    let append = |(version, event)| Append { stream: Stream::Message(id), version, event };
    versions.zip(events).map(append).collect()
}

impl Decide for RecallMessage {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let message = facts.message(self.message)?.filter(|message| message.app == self.app);
        let message = message.ok_or(Rejection::UnknownMessage)?;
        let fresh = message.deliveries.iter().filter(|(_, delivery)| delivery.recall.is_none());
        let event = recall(&message, self.op, fresh).ok_or(Rejection::NothingToRecall)?;
        let stream = Stream::Message(self.message);
        Ok(vec![Append { stream, version: message.version + 1, event }])
    }
}

/// Takes a message of a conversation back, also one that reached no device.
#[derive(Debug, Clone)]
pub struct WithdrawMessage {
    /// The app.
    pub app: String,
    /// The message.
    pub message: MessageId,
}

impl Decide for WithdrawMessage {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let message = facts.message(self.message)?.filter(|message| message.app == self.app);
        let message = message.filter(|message| message.chat.is_some());
        let message = message.ok_or(Rejection::UnknownMessage)?;
        if message.withdrawn {
            return Err(Rejection::NothingToRecall.into());
        }
        let results = results(message.deliveries.iter());
        let (accepted, expires_at) = (message.position, message.expires_at);
        let event = RecallRequested { accepted, expires_at, op: RecallOp::Recall, results };
        let stream = Stream::Message(self.message);
        Ok(vec![Append { stream, version: message.version + 1, event: event.into() }])
    }
}

/// The recall of some deliveries, with what it means for each at once; `None` for none.
fn recall<'a>(
    message: &Message,
    op: RecallOp,
    deliveries: impl Iterator<Item = (&'a i64, &'a Delivery)>,
) -> Option<Event> {
    let results = results(deliveries);
    let (accepted, expires_at) = (message.position, message.expires_at);
    let event = RecallRequested { accepted, expires_at, op, results };
    if event.results.is_empty() { None } else { Some(event.into()) }
}

/// What a recall means for deliveries at once.
fn results<'a>(deliveries: impl Iterator<Item = (&'a i64, &'a Delivery)>) -> Vec<Recalled> {
    deliveries
        .map(|(&device, delivery)| {
            let result = match delivery.stage {
                Stage::Accepted | Stage::Routed => RecallResult::StoppedBeforeSending,
                Stage::Sent | Stage::Received => RecallResult::Requested,
                Stage::Displayed | Stage::Acknowledged => RecallResult::TooLate,
            };
            Recalled { device, result }
        })
        .collect()
}
