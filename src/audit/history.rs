//! Whether the events say what can have happened: versions of a stream count from 1, no step of a
//! delivery comes before it was accepted, stages only rise, and what a task came to is the sum of
//! what became of its devices. [`super::verify`] feeds it, in order.
//!
//! What has to be remembered of each stream is small but there may be any number of streams. When
//! they outgrow the bound, half of them are forgotten, and left for another pass over the ledger.

use std::collections::HashMap;

use domain::{
    Event, Recorded, Stream,
    message::{DeliveriesAdvanced, MessageAccepted, Progress, RecallResult, Reporter, Stage, Step},
    task::{
        How,
        chunk::{ChunkDelivered, Outcome},
        state::State,
    },
};
use sha2::{Digest, Sha256};

/// What may be remembered at once, in bytes.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Bytes that a stream costs, whatever is remembered of it.
const STREAM_BYTES: usize = 96;
/// Bytes that a device of a chunk costs.
const DEVICE_BYTES: usize = size_of::<i64>() + size_of::<State>() + size_of::<bool>();

/// A stream by its hash. Streams of one task share the first half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    group: u64,
    own: u64,
}

impl Name {
    /// The name of a stream.
    pub(super) fn of(stream: &str) -> Name {
        let group = stream.split_once("/chunk/").map_or(stream, |(task, _)| task);
        Name { group: half(group), own: half(stream) }
    }
}

fn half(text: &str) -> u64 {
    let hash: [u8; 32] = Sha256::digest(text).into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The streams of a pass: those whose name begins with some bits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    bits: u32,
    value: u64,
}

impl Part {
    fn has(self, name: Name) -> bool {
        self.bits == 0 || name.group >> (64 - self.bits) == self.value
    }

    fn halves(self) -> (Part, Part) {
        let half = |bit| Part { bits: self.bits + 1, value: self.value << 1 | bit };
        (half(0), half(1))
    }
}

/// One delivery as far as its steps are judged.
#[derive(Debug, Clone, Copy, Default)]
struct Delivery {
    device: i64,
    stage: Stage,
    reported: Option<Stage>,
    taken: bool,
    recalling: bool,
}

/// The deliveries of a chunk, ready to be found.
#[derive(Debug)]
struct Chunk {
    started: i64,
    attempt: u32,
    devices: Vec<i64>,
    states: Vec<State>,
    /// For each device whether a vendor was to be asked again by the last attempt, whatever the device
    /// said since.
    retrying: Vec<bool>,
}

#[derive(Debug)]
enum Kept {
    Message {
        accepted: i64,
        deliveries: Vec<Delivery>,
    },
    Chunk(Chunk),
    Task {
        started: Option<i64>,
        devices: u64,
        chunks: u64,
    },
    /// What it was is not known: its beginning is away.
    Away,
}

#[derive(Debug)]
struct Entry {
    version: i64,
    kept: Option<Box<Kept>>,
}

/// What was seen so far of the streams of a pass.
#[derive(Debug)]
pub(super) struct History {
    part: Part,
    left: Vec<Part>,
    streams: HashMap<Name, Entry>,
    bytes: usize,
    limit: usize,
}

/// An event, with the name of its stream.
pub(super) struct Named<'a> {
    pub(super) name: Name,
    pub(super) version: i64,
    /// `None` if this program cannot read it.
    pub(super) recorded: Option<&'a Recorded>,
}

impl History {
    /// Nothing seen, of the streams of a part.
    pub(super) fn new(part: Part) -> History {
        History::bounded(part, MAX_BYTES)
    }

    fn bounded(part: Part, limit: usize) -> History {
        History { part, left: Vec::new(), streams: HashMap::new(), bytes: 0, limit }
    }

    /// The parts that were left for other passes.
    pub(super) fn left(self) -> Vec<Part> {
        self.left
    }

    /// Takes the next event of the ledger.
    ///
    /// # Errors
    /// What cannot have happened, for people.
    pub(super) fn take(&mut self, event: &Named<'_>) -> Result<(), String> {
        if !self.part.has(event.name) {
            return Ok(());
        }
        let entry = self.streams.entry(event.name).or_insert_with(|| {
            self.bytes += STREAM_BYTES;
            Entry { version: 0, kept: None }
        });
        entry.version += 1;
        if event.version != entry.version {
            let (is, expected) = (event.version, entry.version);
            return Err(format!("it is version {is} of its stream, where {expected} comes next"));
        }
        if let Some(recorded) = event.recorded {
            self.judge(event.name, recorded)?;
        }
        self.bound();
        Ok(())
    }

    /// The first versions of a stream are away, and are not judged.
    pub(super) fn away(&mut self, name: Name, version: i64) {
        if self.part.has(name) {
            let entry = self.streams.entry(name).or_insert_with(|| {
                self.bytes += STREAM_BYTES;
                Entry { version: 0, kept: None }
            });
            (entry.version, entry.kept) = (version, Some(Box::new(Kept::Away)));
            self.bound();
        }
    }

    /// Leaves half of the streams for another pass if there are too many.
    fn bound(&mut self) {
        if self.bytes > self.limit && self.part.bits < 32 {
            let (kept, left) = self.part.halves();
            (self.part, self.bytes) = (kept, 0);
            self.left.push(left);
            let bytes = &mut self.bytes;
            self.streams.retain(|name, entry| {
                let stays = kept.has(*name);
                *bytes += if stays { STREAM_BYTES + weight(entry.kept.as_deref()) } else { 0 };
                stays
            });
            self.streams.shrink_to_fit();
        }
    }

    fn keep(&mut self, name: Name, kept: Kept) {
        if let Some(entry) = self.streams.get_mut(&name) {
            self.bytes += weight(Some(&kept));
            entry.kept = Some(Box::new(kept));
        }
    }

    fn kept(&mut self, name: Name) -> Option<&mut Kept> {
        self.streams.get_mut(&name)?.kept.as_deref_mut()
    }

    fn judge(&mut self, name: Name, recorded: &Recorded) -> Result<(), String> {
        match &recorded.event {
            Event::MessageAccepted(e) => {
                let kept = accepted(recorded.position, e)?;
                self.keep(name, kept);
            }
            Event::DeliveriesAdvanced(e) => match self.kept(name) {
                Some(Kept::Message { accepted, deliveries }) => advanced(*accepted, deliveries, e)?,
                Some(Kept::Chunk(chunk)) => chunk.advance(e)?,
                Some(Kept::Away) => {}
                Some(Kept::Task { .. }) | None => {
                    return Err("steps of deliveries that nothing accepted".to_owned());
                }
            },
            Event::RecallRequested(e) => {
                let (accepted, deliveries) = match self.kept(name) {
                    Some(Kept::Message { accepted, deliveries }) => (accepted, deliveries),
                    Some(Kept::Away) => return Ok(()),
                    _ => return Err("a recall of a message that nothing accepted".to_owned()),
                };
                same_push(*accepted, e.accepted)?;
                for recalled in &e.results {
                    let delivery = find(deliveries, recalled.device)?;
                    delivery.recalling = recalled.result == RecallResult::Requested;
                }
            }
            Event::TaskCreated(_) => {
                self.keep(name, Kept::Task { started: None, devices: 0, chunks: 0 });
            }
            Event::TaskStarted(_) => match self.kept(name) {
                Some(Kept::Task { started: started @ None, .. }) => {
                    *started = Some(recorded.position);
                }
                Some(Kept::Away) => {}
                _ => return Err("the start of a task that was not waiting for it".to_owned()),
            },
            Event::ChunkDelivered(e) => self.chunk(name, recorded, e)?,
            Event::TaskEnded(e) => match self.kept(name) {
                Some(Kept::Task { devices, chunks, .. }) => {
                    let (devices, chunks) = (*devices, *chunks);
                    // A cancelled task may have attempts under way that come later.
                    if e.how == How::Finished
                        && (devices, chunks) != (e.totals.devices, e.totals.chunks)
                    {
                        return Err(format!(
                            "a task of {} devices in {} chunks, whose chunks were {chunks} with \
                             {devices} devices",
                            e.totals.devices, e.totals.chunks
                        ));
                    }
                }
                Some(Kept::Away) => {}
                _ => return Err("the end of a task that nothing created".to_owned()),
            },
            // Nothing of these is counted here.
            Event::AppCreated(_)
            | Event::AppChanged(_)
            | Event::AppDeleted(_)
            | Event::AccountOpened(_)
            | Event::AccountClosed(_)
            | Event::AccountLinked(_)
            | Event::DeviceLinked(_)
            | Event::MessageFiltered(_)
            | Event::LabelCreated(_)
            | Event::LabelDeleted(_)
            | Event::LabelMembersChanged(_)
            | Event::DeviceRegistered(_)
            | Event::DeviceUpdated(_)
            | Event::DeviceUnregistered(_)
            | Event::DeviceReturned(_)
            | Event::DeviceBound(_)
            | Event::DeviceAdmitted(_)
            | Event::TokenDied(_)
            | Event::OwnerSet(_)
            | Event::OwnerRemoved(_)
            | Event::PresenceChanged(_)
            | Event::UplinkReceived(_)
            | Event::CallbacksCalled(_)
            | Event::CallbacksReplayed(_)
            | Event::SubjectErased(_) => {}
        }
        Ok(())
    }

    /// An attempt at a chunk: its targets are the sum of its outcomes, and the first attempt names
    /// all that later ones may.
    fn chunk(&mut self, name: Name, recorded: &Recorded, e: &ChunkDelivered) -> Result<(), String> {
        let Stream::Chunk(task, _) = &recorded.stream else {
            return Err("an attempt outside of a chunk".to_owned());
        };
        let numbers = e.devices.numbers();
        let counted: u64 = e.counts.iter().map(|count| u64::from(count.devices)).sum();
        let many = numbers.len() as u64;
        if counted != many || e.outcomes.unfolded().len() as u64 != many {
            return Err(format!("an attempt at {many} devices with {counted} outcomes"));
        }
        if !numbers.is_sorted_by(|a, b| a < b)
            || numbers.first() != Some(&e.first)
            || numbers.last() != Some(&e.last)
        {
            return Err("an attempt whose devices are not those that it says".to_owned());
        }
        match self.kept(name) {
            Some(Kept::Chunk(chunk)) => {
                if e.attempt != chunk.attempt + 1 || e.started != chunk.started {
                    return Err("an attempt that does not follow the one before".to_owned());
                }
                chunk.attempted(e)?;
            }
            Some(Kept::Away) => {}
            _ => {
                let task = Name::of(&Stream::Task(*task).to_string());
                match self.kept(task) {
                    Some(Kept::Task { started: Some(started), devices, chunks })
                        if *started == e.started && e.attempt == 1 =>
                    {
                        *devices += many;
                        *chunks += 1;
                    }
                    Some(Kept::Away) => {}
                    _ => return Err("a chunk of a task that had not started".to_owned()),
                }
                let mut chunk = Chunk::of(e.started, numbers);
                chunk.attempted(e)?;
                self.keep(name, Kept::Chunk(chunk));
            }
        }
        Ok(())
    }
}

fn weight(kept: Option<&Kept>) -> usize {
    match kept {
        None | Some(Kept::Task { .. } | Kept::Away) => 0,
        Some(Kept::Message { deliveries, .. }) => deliveries.len() * size_of::<Delivery>(),
        Some(Kept::Chunk(chunk)) => chunk.states.len() * DEVICE_BYTES,
    }
}

fn accepted(position: i64, e: &MessageAccepted) -> Result<Kept, String> {
    let delivery = |device| Delivery { device, ..Delivery::default() };
    let deliveries: Vec<_> = e.targets.iter().map(|target| delivery(target.device)).collect();
    if !deliveries.is_sorted_by(|a, b| a.device < b.device) {
        return Err("a push whose devices are not in order".to_owned());
    }
    Ok(Kept::Message { accepted: position, deliveries })
}

fn same_push(accepted: i64, named: i64) -> Result<(), String> {
    match accepted == named {
        true => Ok(()),
        false => Err(format!("it is about the push at {named}, and its stream's is at {accepted}")),
    }
}

fn find(deliveries: &mut [Delivery], device: i64) -> Result<&mut Delivery, String> {
    match deliveries.binary_search_by_key(&device, |delivery| delivery.device) {
        Ok(at) => Ok(&mut deliveries[at]),
        Err(_) => Err(format!("device {device} has no such delivery")),
    }
}

fn advanced(
    accepted: i64,
    deliveries: &mut [Delivery],
    e: &DeliveriesAdvanced,
) -> Result<(), String> {
    same_push(accepted, e.accepted)?;
    for step in &e.steps {
        let delivery = find(deliveries, step.device)?;
        if !delivery.rises(step) {
            let (device, stage) = (step.device, delivery.stage);
            return Err(format!("device {device} was {stage:?} and then {:?}", step.what));
        }
    }
    Ok(())
}

impl Delivery {
    /// Takes a step; whether it goes further than those before.
    fn rises(&mut self, step: &Step) -> bool {
        let stage = match step.what {
            Progress::Failed(_) => {
                self.stage = self.stage.max(Stage::Routed);
                return true;
            }
            Progress::Ended(_) => return true,
            Progress::Recalled(_) => return std::mem::take(&mut self.recalling),
            Progress::Sent => Stage::Sent,
            Progress::Received => Stage::Received,
            Progress::Displayed => Stage::Displayed,
            Progress::Acknowledged => Stage::Acknowledged,
        };
        let rises = match step.by {
            // The connection may have said it before.
            Reporter::Rest => self.reported < Some(stage),
            // A vendor may take what the device had by then; one alone.
            Reporter::Server | Reporter::Socket => {
                self.stage < stage || step.vendor.is_some() && stage == Stage::Sent && !self.taken
            }
        };
        if step.by == Reporter::Rest {
            self.reported = self.reported.max(Some(stage));
        }
        self.taken |= step.vendor.is_some();
        self.stage = self.stage.max(stage);
        if self.stage >= Stage::Displayed {
            self.recalling = false;
        }
        rises
    }
}

impl Chunk {
    /// A chunk of which nothing was attempted.
    fn of(started: i64, devices: Vec<i64>) -> Chunk {
        let (states, retrying) =
            (vec![State::default(); devices.len()], vec![false; devices.len()]);
        Chunk { started, attempt: 0, devices, states, retrying }
    }

    /// The state of a device, and whether a vendor was to be asked again.
    fn state(&mut self, device: i64) -> Result<(&mut State, &mut bool), String> {
        let at = self.devices.binary_search(&device).ok();
        let found = at.and_then(|at| Some((self.states.get_mut(at)?, self.retrying.get_mut(at)?)));
        found.ok_or_else(|| format!("device {device} is not in the chunk"))
    }

    fn attempted(&mut self, e: &ChunkDelivered) -> Result<(), String> {
        self.attempt = e.attempt;
        for (device, kind) in e.outcomes() {
            let (state, retrying) = self.state(device)?;
            *state = state.after(kind);
            *retrying = kind.outcome == Outcome::Retrying;
        }
        Ok(())
    }

    fn advance(&mut self, e: &DeliveriesAdvanced) -> Result<(), String> {
        same_push(self.started, e.accepted)?;
        for step in &e.steps {
            let (state, retrying) = self.state(step.device)?;
            let after = match step.what {
                // Before `either` was an outcome, a delivery that a vendor was to be asked again for
                // stayed open when the device had it by then, and ended once more when the device
                // went away.
                Progress::Ended(reason) if std::mem::take(retrying) => {
                    State::of(state.stage(), Some(reason), state.way())
                }
                _ => state.advance(step),
            };
            if after == *state {
                let (device, stage) = (step.device, state.stage());
                return Err(format!("device {device} was {stage:?} and then {:?}", step.what));
            }
            *state = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        message::Ending,
        task::{
            chunk::{Count, Kind},
            packed::Packed,
        },
        vendor::Vendor,
    };

    use super::*;

    /// Judges two events of each of some streams within a bound, pass by pass; gives the passes and
    /// what was wrong.
    fn judged(streams: i64, wrong: Option<i64>, limit: usize) -> (usize, Vec<String>) {
        let (mut parts, mut passes, mut found) = (vec![Part::default()], 0, Vec::new());
        while let Some(part) = parts.pop() {
            let mut history = History::bounded(part, limit);
            for round in 1..=2 {
                for stream in 0..streams {
                    let name = Name::of(&format!("uplink/{stream}"));
                    let skipped = round == 2 && wrong == Some(stream);
                    let version = if skipped { 3 } else { round };
                    found.extend(history.take(&Named { name, version, recorded: None }).err());
                }
            }
            passes += 1;
            parts.extend(history.left());
        }
        (passes, found)
    }

    #[test]
    fn streams_beyond_the_bound_are_left_for_other_passes_and_none_is_forgotten() {
        let (passes, found) = judged(2_000, None, 200 * STREAM_BYTES);
        assert!(passes >= 10, "{passes}");
        assert_eq!(found, Vec::<String>::new());
        for wrong in [0, 7, 999, 1_999] {
            let (_, found) = judged(2_000, Some(wrong), 200 * STREAM_BYTES);
            assert_eq!(found, ["it is version 3 of its stream, where 2 comes next"]);
        }
        assert_eq!(judged(2_000, None, usize::MAX).0, 1);
    }

    /// An attempt at device 7 alone.
    fn attempt(attempt: u32, outcome: Outcome) -> ChunkDelivered {
        let kind = Kind { outcome, reason: None, vendor: Some(Vendor::Jpush) };
        ChunkDelivered {
            started: 1,
            attempt,
            first: 7,
            last: 7,
            counts: vec![Count { kind, devices: 1 }],
            devices: Packed::growing([7]),
            outcomes: Packed::runs([0]),
            words: Vec::new(),
        }
    }

    /// Whether a chunk's device may have been gone after it had what a vendor was to be asked for.
    fn ends_after_received(outcomes: &[Outcome]) -> Vec<bool> {
        let mut chunk = Chunk::of(1, vec![7]);
        for (outcome, number) in outcomes.iter().zip(1..) {
            assert_eq!(chunk.attempted(&attempt(number, *outcome)), Ok(()));
        }
        let ended = Progress::Ended(Ending::Unregistered);
        let steps = [Progress::Received, ended, ended].map(|what| Step::of_server(7, what));
        let steps = steps.map(|step| DeliveriesAdvanced { accepted: 1, steps: vec![step] });
        steps.iter().map(|step| chunk.advance(step).is_ok()).collect()
    }

    #[test]
    fn what_an_earlier_version_ended_after_the_device_had_it_is_right_and_only_that() {
        let (again, right) = (Outcome::Retrying, [true, true, false]);
        assert_eq!(ends_after_received(&[again]), right);
        assert_eq!(ends_after_received(&[again, again]), right);
        let wrong = [true, false, false];
        assert_eq!(ends_after_received(&[Outcome::Sent]), wrong);
        assert_eq!(ends_after_received(&[again, Outcome::Sent]), wrong);
        assert_eq!(ends_after_received(&[Outcome::Either]), wrong);
    }

    #[test]
    fn a_task_and_its_chunks_are_judged_in_the_same_pass() {
        let [task, chunk] = ["task/7", "task/7/chunk/1"].map(Name::of);
        assert_eq!(task.group, chunk.group);
        assert_ne!(task, chunk);
    }
}
