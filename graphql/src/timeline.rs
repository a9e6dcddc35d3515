//! The story of one message on one device: its events in order, and what each means.

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};
use domain::{
    Event, Recorded,
    message::{Ending, Progress, RecallOp, RecallResult},
    task::chunk::{Kind, Outcome},
    vendor::Vendor,
};

use crate::{
    time,
    words::{DeliveryEnding, RecallKind, RecallOutcome, VendorName, Witness, because},
};

/// What happened to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum TimelineStep {
    /// The push was accepted, and the device is one of its targets.
    Accepted,
    /// It goes over our own channel: now, or when the device comes.
    Kept,
    /// A vendor is asked again later.
    Retrying,
    /// No vendor was a way; it goes on over our own channel.
    Failed,
    /// It was handed over.
    Sent,
    /// The device has it.
    Received,
    /// The device showed it.
    Displayed,
    /// The user answered it.
    Acknowledged,
    /// It stopped trying.
    Ended,
    /// It was to be taken back, or replaced.
    RecallRequested,
    /// The recall came to something.
    Recalled,
}

/// One event of a message on one device.
#[derive(Debug, Clone, SimpleObject)]
pub(crate) struct TimelineEntry {
    /// Position of the event in the ledger.
    pub(crate) position: i64,
    /// When it was recorded.
    at: DateTime<Utc>,
    /// What happened.
    step: TimelineStep,
    /// The same in a sentence.
    meaning: String,
    /// The push vendor that it is about; null for our own channel.
    vendor: Option<VendorName>,
    /// The vendor's own word: its id of the message that it took, or its code of refusal.
    word: Option<String>,
    /// Why it ended, or why no vendor was a way.
    reason: Option<DeliveryEnding>,
    /// Who says so.
    by: Witness,
    /// What was done to take it back, and what became of that.
    recall: Option<RecallKind>,
    /// What became of the recall.
    recall_result: Option<RecallOutcome>,
    /// The request that said so.
    request: Option<String>,
}

/// The entries of some events, in order, that are about one device.
pub(crate) fn timeline(events: &[Recorded], device: i64) -> Vec<TimelineEntry> {
    events.iter().flat_map(|recorded| entries(recorded, device)).collect()
}

fn entries(recorded: &Recorded, device: i64) -> Vec<TimelineEntry> {
    let entry = |step, meaning: String| TimelineEntry {
        position: recorded.position,
        at: time(recorded.recorded_at),
        step,
        meaning,
        vendor: None,
        word: None,
        reason: None,
        by: Witness::Server,
        recall: None,
        recall_result: None,
        request: recorded.metadata.request.clone(),
    };
    match &recorded.event {
        Event::MessageAccepted(e) if e.targets.iter().any(|target| target.device == device) => {
            let meaning = format!("the push was accepted over {}", e.protocol.name());
            vec![entry(TimelineStep::Accepted, meaning)]
        }
        Event::DeliveriesAdvanced(e) => {
            let own = e.steps.iter().filter(|step| step.device == device);
            let told = own.map(|step| TimelineEntry {
                vendor: step.vendor.map(Into::into),
                word: step.word.clone(),
                reason: reason_of(step.what).map(Into::into),
                by: step.by.into(),
                request: step.request.clone().or_else(|| recorded.metadata.request.clone()),
                recall_result: match step.what {
                    Progress::Recalled(result) => Some(result.into()),
                    _ => None,
                },
                ..entry(step_of(step.what), meaning_of(step.what, step.vendor))
            });
            told.collect()
        }
        Event::RecallRequested(e) => {
            let own = e.results.iter().filter(|recalled| recalled.device == device);
            let what = match e.op {
                RecallOp::Recall => "taken back",
                RecallOp::Replace => "replaced by an empty one",
            };
            let told = own.map(|recalled| TimelineEntry {
                recall: Some(e.op.into()),
                recall_result: Some(recalled.result.into()),
                ..entry(
                    TimelineStep::RecallRequested,
                    format!("the message is to be {what}: {}", came_to(recalled.result)),
                )
            });
            told.collect()
        }
        Event::ChunkDelivered(e) => {
            let own = e.outcomes().filter(|(number, _)| *number == device);
            let told = own.map(|(_, kind)| TimelineEntry {
                vendor: kind.vendor.map(Into::into),
                reason: kind.reason.map(Into::into),
                ..entry(step_of_chunk(kind), meaning_of_chunk(kind, e.attempt))
            });
            told.collect()
        }
        _ => Vec::new(),
    }
}

fn reason_of(what: Progress) -> Option<Ending> {
    match what {
        Progress::Failed(reason) | Progress::Ended(reason) => Some(reason),
        Progress::Sent
        | Progress::Received
        | Progress::Displayed
        | Progress::Acknowledged
        | Progress::Recalled(_) => None,
    }
}

fn step_of(what: Progress) -> TimelineStep {
    match what {
        Progress::Failed(_) => TimelineStep::Failed,
        Progress::Sent => TimelineStep::Sent,
        Progress::Received => TimelineStep::Received,
        Progress::Displayed => TimelineStep::Displayed,
        Progress::Acknowledged => TimelineStep::Acknowledged,
        Progress::Ended(_) => TimelineStep::Ended,
        Progress::Recalled(_) => TimelineStep::Recalled,
    }
}

fn meaning_of(what: Progress, vendor: Option<Vendor>) -> String {
    match (what, vendor) {
        (Progress::Failed(reason), _) => {
            format!(
                "no vendor was a way, because {}; it goes on over our own channel",
                because(reason)
            )
        }
        (Progress::Sent, Some(vendor)) => format!("{} took it", vendor.name()),
        (Progress::Sent, None) => "it was handed to the device's connection".to_owned(),
        (Progress::Received, _) => "the device has it".to_owned(),
        (Progress::Displayed, _) => "the device showed it".to_owned(),
        (Progress::Acknowledged, _) => "the user answered it".to_owned(),
        (Progress::Ended(reason), _) => format!("it stopped trying, because {}", because(reason)),
        (Progress::Recalled(result), _) => came_to(result).to_owned(),
    }
}

fn step_of_chunk(kind: Kind) -> TimelineStep {
    match kind.outcome {
        Outcome::Sent => TimelineStep::Sent,
        Outcome::Online if kind.reason.is_some() => TimelineStep::Failed,
        Outcome::Online => TimelineStep::Kept,
        Outcome::Ended => TimelineStep::Ended,
        Outcome::Retrying | Outcome::Either => TimelineStep::Retrying,
    }
}

fn meaning_of_chunk(kind: Kind, attempt: u32) -> String {
    let vendor = kind.vendor.map_or("a vendor", Vendor::name);
    match (kind.outcome, kind.reason) {
        (Outcome::Sent, _) => format!("{vendor} took it at attempt {attempt}"),
        (Outcome::Online, None) => "it goes over our own channel".to_owned(),
        (Outcome::Online, Some(reason)) => {
            format!(
                "no vendor was a way, because {}; it goes on over our own channel",
                because(reason)
            )
        }
        (Outcome::Ended, reason) => {
            let why = reason.map_or("its task ended", because);
            format!("it stopped trying, because {why}")
        }
        (Outcome::Retrying, _) => format!("{vendor} is asked again later"),
        (Outcome::Either, _) => {
            format!("{vendor} is asked again later, and until then it is kept for the device")
        }
    }
}

fn came_to(result: RecallResult) -> &'static str {
    match result {
        RecallResult::Requested => "the device was told, and has not answered",
        RecallResult::StoppedBeforeSending => "the device never got it",
        RecallResult::ReplacedUnseen => "the device took it away before it was displayed",
        RecallResult::TooLate => "it was displayed before",
        RecallResult::Unknown => "it expired before the device answered",
    }
}
