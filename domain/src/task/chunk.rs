//! A chunk: some thousand deliveries of a task, in order of device number, on a stream of its own.
//! What an attempt came to is one event: counts, and the device numbers and outcomes packed. A
//! later attempt, and what ends many at once, is the same event about those that were still open.
//! What single devices say comes as steps, as for any message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{How, packed::Packed, state::State};
use crate::{
    Append, Decide, Event, Rejection, Stream, USUAL_BYTES,
    event::without_private,
    facts::{Facts, Place, Stop},
    message::{DeliveriesAdvanced, Ending, MessageId, STEP_BYTES, Step},
    vendor::Vendor,
};

/// About how long the outcome of one device is where it is stored, in bytes.
const DELIVERED_BYTES: usize = 8;

/// Devices of one chunk, at most.
pub const MAX_DEVICES: usize = super::packed::MAX_NUMBERS;

/// What an attempt came to for one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor took it.
    Sent,
    /// It goes over our own channel: now if the device is here, else when it comes.
    Online,
    /// It stops trying, for that reason.
    Ended,
    /// The vendor is asked again.
    Retrying,
    /// The vendor is asked again, and until it takes it it is kept for the device on our own
    /// channel: whichever comes first.
    Either,
}

/// An outcome with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// The outcome.
    pub outcome: Outcome,
    /// Why it ended, or why no vendor was a way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Ending>,
    /// The vendor that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<Vendor>,
}

/// How many had the same outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The outcome.
    #[serde(flatten)]
    pub kind: Kind,
    /// Devices.
    pub devices: u32,
}

/// What a vendor said of some devices in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Its id of the message that it took, or its code of refusal.
    pub word: String,
    /// Places of the devices among those of the event, from 1.
    pub at: Packed,
}

/// An attempt at the deliveries of one chunk was made, or some of them ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkDelivered {
    /// Position of the task's start.
    pub started: i64,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The lowest device number.
    pub first: i64,
    /// The highest device number.
    pub last: i64,
    /// How many had each outcome, in order.
    pub counts: Vec<Count>,
    /// Device numbers ([`Packed::numbers`]).
    pub devices: Packed,
    /// For each device the place of its outcome in `counts` ([`Packed::unfolded`]).
    pub outcomes: Packed,
    /// What vendors said: every refusal, and the ids that many devices have in common.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
}

without_private!(ChunkDelivered);

/// One delivery of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The device's number.
    pub device: i64,
    /// What it came to.
    pub kind: Kind,
    /// The vendor's own word.
    pub word: Option<String>,
}

impl ChunkDelivered {
    /// The event for some deliveries in order of device number; `None` for none.
    fn of(started: i64, attempt: u32, deliveries: &[Delivered]) -> Option<ChunkDelivered> {
        let (first, last) = (deliveries.first()?.device, deliveries.last()?.device);
        let mut counts: BTreeMap<Kind, u32> = BTreeMap::new();
        let mut words: BTreeMap<(&str, bool), Vec<i64>> = BTreeMap::new();
        for (place, delivered) in (1..).zip(deliveries) {
            *counts.entry(delivered.kind).or_default() += 1;
            if let Some(word) = &delivered.word {
                let taken = delivered.kind.outcome == Outcome::Sent;
                words.entry((word, taken)).or_default().push(place);
            }
        }
        let place_of: BTreeMap<Kind, usize> = counts.keys().copied().zip(0..).collect();
        let outcomes = deliveries.iter().map(|d| place_of.get(&d.kind).copied().unwrap_or(0));
        // An id that is one device's alone would cost more than all the rest; a refusal's is kept.
        let kept = words.into_iter().filter(|((_, taken), at)| !taken || at.len() > 1);
        let word = |((word, _), at): ((&str, bool), Vec<i64>)| Word {
            word: word.to_owned(),
            at: Packed::growing(at),
        };
        Some(ChunkDelivered {
            started,
            attempt,
            first,
            last,
            outcomes: Packed::runs(outcomes),
            devices: Packed::growing(deliveries.iter().map(|d| d.device)),
            words: kept.map(word).collect(),
            counts: counts.into_iter().map(|(kind, devices)| Count { kind, devices }).collect(),
        })
    }

    /// Whether it puts any delivery on our own channel.
    #[must_use]
    pub fn online(&self) -> bool {
        self.counts.iter().any(|count| count.kind.online())
    }

    /// Device numbers with their outcomes, in order.
    pub fn outcomes(&self) -> impl Iterator<Item = (i64, Kind)> {
        let kind = |at: usize| self.counts.get(at).map(|count| count.kind);
        let outcomes = self.outcomes.unfolded().into_iter().map(kind);
        self.devices.numbers().into_iter().zip(outcomes).filter_map(|(n, kind)| Some((n, kind?)))
    }
}

/// A chunk as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Position of the task's start.
    pub started: i64,
    /// Version of its stream.
    pub version: i64,
    /// The last attempt.
    pub attempt: u32,
    /// The highest device number.
    pub last: i64,
    /// Its device numbers.
    pub devices: Packed,
    /// Its deliveries, in order of device number.
    pub states: Vec<State>,
}

impl Chunk {
    /// The chunk after one more event of its stream.
    #[must_use]
    pub fn evolve(before: Option<Chunk>, place: Place<'_>, event: &Event) -> Option<Chunk> {
        let mut chunk = match (before, event) {
            (None, Event::ChunkDelivered(e)) => Chunk {
                started: e.started,
                version: 0,
                attempt: 0,
                last: e.last,
                devices: e.devices.clone(),
                states: vec![State::default(); e.devices.numbers().len()],
            },
            (before, _) => before?,
        };
        chunk.version = place.version;
        let devices = chunk.devices.numbers();
        let place_of = |device: i64| devices.binary_search(&device).ok();
        if let Event::ChunkDelivered(e) = event {
            chunk.attempt = e.attempt;
            for (device, kind) in e.outcomes() {
                if let Some(state) = place_of(device).and_then(|at| chunk.states.get_mut(at)) {
                    *state = state.after(kind);
                }
            }
        } else if let Event::DeliveriesAdvanced(e) = event {
            for step in &e.steps {
                if let Some(state) = place_of(step.device).and_then(|at| chunk.states.get_mut(at)) {
                    *state = state.advance(step);
                }
            }
        }
        Some(chunk)
    }

    /// Its deliveries by device number.
    #[must_use]
    pub fn deliveries(&self) -> BTreeMap<i64, State> {
        self.devices.numbers().into_iter().zip(self.states.iter().copied()).collect()
    }

    /// Devices of which a vendor is to be asked again.
    #[must_use]
    pub fn retrying(&self) -> Vec<i64> {
        let all = self.devices.numbers().into_iter().zip(&self.states);
        all.filter(|(_, state)| state.retrying()).map(|(device, _)| device).collect()
    }
}

/// Records what an attempt at a chunk came to. An attempt that was recorded is not recorded again;
/// but what a vendor took is, whatever was recorded while it was asked, as the attempt after that.
/// What was under way when its task was cancelled is recorded as it went; but what would be kept or
/// tried again ends, as nobody will.
#[derive(Debug, Clone)]
pub struct RecordChunk {
    /// The task.
    pub task: MessageId,
    /// The chunk, from 1.
    pub chunk: i64,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Its deliveries, in order of device number.
    pub deliveries: Vec<Delivered>,
}

/// Records what happened to single deliveries of a chunk. What it knows already is dropped.
#[derive(Debug, Clone)]
pub struct AdvanceChunk {
    /// The task.
    pub task: MessageId,
    /// The chunk.
    pub chunk: i64,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Ends what is still open of a chunk: its time is over, or its task was cancelled.
#[derive(Debug, Clone)]
pub struct EndChunk {
    /// The task.
    pub task: MessageId,
    /// The chunk.
    pub chunk: i64,
    /// Now, in µs since the epoch.
    pub now: i64,
}

impl Decide for RecordChunk {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let task = facts.task(self.task)?.ok_or(Rejection::UnknownTask)?;
        let started = task.started.ok_or(Rejection::UnknownTask)?;
        let chunk = facts.chunk(self.task, self.chunk)?;
        let (recorded, version) = chunk.as_ref().map_or((0, 0), |own| (own.attempt, own.version));
        let attempt = recorded + 1;
        if self.attempt > attempt {
            return Ok(Vec::new());
        }
        let states = chunk.map(|chunk| chunk.deliveries());
        let news = |delivered: &Delivered| {
            let Some(states) = &states else { return true };
            let Some(state) = states.get(&delivered.device) else { return false };
            let taken = delivered.kind.taken();
            state.open() && (taken || self.attempt == attempt) || taken && state.overtaken()
        };
        let mut deliveries: Vec<Delivered> =
            self.deliveries.iter().filter(|d| news(d)).cloned().collect();
        if task.ended == Some(How::Cancelled) {
            for delivered in &mut deliveries {
                let open = match delivered.kind.outcome {
                    Outcome::Online | Outcome::Retrying | Outcome::Either => true,
                    Outcome::Sent | Outcome::Ended => false,
                };
                if open {
                    delivered.kind = Kind::ended(Ending::Recalled, delivered.kind.vendor);
                }
            }
        }
        let event = ChunkDelivered::of(started.position, attempt, &deliveries);
        Ok(append(self.task, self.chunk, version, event.map(Event::from)))
    }

    fn bytes(&self) -> usize {
        USUAL_BYTES + self.deliveries.len() * DELIVERED_BYTES
    }
}

impl Decide for AdvanceChunk {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let chunk = facts.chunk(self.task, self.chunk)?.ok_or(Rejection::UnknownMessage)?;
        let mut states = chunk.deliveries();
        let steps: Vec<Step> = self
            .steps
            .iter()
            .filter(|step| {
                let Some(state) = states.get_mut(&step.device) else { return false };
                let after = state.advance(step);
                std::mem::replace(state, after) != after
            })
            .cloned()
            .collect();
        let event = DeliveriesAdvanced { accepted: chunk.started, steps };
        let event = (!event.steps.is_empty()).then(|| Event::from(event));
        Ok(append(self.task, self.chunk, chunk.version, event))
    }

    fn bytes(&self) -> usize {
        USUAL_BYTES + self.steps.len() * STEP_BYTES
    }
}

impl Decide for EndChunk {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let task = facts.task(self.task)?.ok_or(Rejection::UnknownTask)?;
        let started = task.started.ok_or(Rejection::UnknownTask)?;
        let Some(chunk) = facts.chunk(self.task, self.chunk)? else { return Ok(Vec::new()) };
        let expired = self.now >= started.expires_at;
        if !expired && task.ended != Some(How::Cancelled) {
            return Ok(Vec::new());
        }
        let ended = |(device, state): (i64, State)| {
            let reason = state.ending(!expired)?;
            Some(Delivered { device, kind: Kind::ended(reason, None), word: None })
        };
        let ended: Vec<Delivered> = chunk.deliveries().into_iter().filter_map(ended).collect();
        let event = ChunkDelivered::of(started.position, chunk.attempt + 1, &ended);
        Ok(append(self.task, self.chunk, chunk.version, event.map(Event::from)))
    }
}

impl Kind {
    /// Whether it puts a delivery on our own channel.
    #[must_use]
    pub fn online(self) -> bool {
        match self.outcome {
            Outcome::Online | Outcome::Either => true,
            Outcome::Sent | Outcome::Ended | Outcome::Retrying => false,
        }
    }

    /// Whether a vendor has it.
    #[must_use]
    pub fn taken(self) -> bool {
        self.outcome == Outcome::Sent && self.vendor.is_some()
    }

    /// It stopped trying, for that reason.
    #[must_use]
    pub fn ended(reason: Ending, vendor: Option<Vendor>) -> Kind {
        Kind { outcome: Outcome::Ended, reason: Some(reason), vendor }
    }
}

fn append(task: MessageId, chunk: i64, version: i64, event: Option<Event>) -> Vec<Append> {
    let stream = Stream::Chunk(task, chunk);
    event.map(|event| Append { stream, version: version + 1, event }).into_iter().collect()
}
