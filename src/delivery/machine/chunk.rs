//! One chunk of a task on its way: a way is chosen for each device, vendors are asked once an
//! attempt, and what an attempt came to is recorded as one event before the next begins. What a
//! vendor puts off, and devices that stay silent, come in later attempts.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use domain::{
    device::Binding,
    facts::{Fact, Key},
    message::Ending,
    route::{Route, Strategy, Ways, after_silence, after_vendor, route},
    task::{
        RecordChunk,
        chunk::{Chunk, Delivered, Kind, Outcome},
        state::{State, Way},
    },
    vendor::Vendor,
};
use futures_util::{
    StreamExt,
    stream::{self, SelectAll},
};
use projections::{
    Fault,
    registry::audience::{TargetRow, targets_at},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    burial,
    lane::{Once, Said, Turn, VendorLane},
    task::Job,
};

/// Dead tokens of a chunk that are buried at once.
const BURIALS: usize = 64;

/// What is left to do for a chunk after an attempt.
#[derive(Debug, Default)]
struct Left {
    /// When vendors may be asked again, in µs.
    again_at: Option<i64>,
    /// When devices have been silent for long enough, in µs, and those that were given it.
    silent_at: Option<i64>,
    silent: Vec<i64>,
    /// Idempotency keys of the batches that are sent again as they were, by their tokens.
    keys: HashMap<u64, String>,
}

/// A device with the ways to it over vendors that are still to be tried, best first.
struct Candidate {
    number: i64,
    ways: Vec<(Arc<VendorLane>, Binding)>,
}

/// Where a chunk begins.
pub(super) enum Begin {
    /// With its first attempt, at these devices.
    Devices(Vec<TargetRow>),
    /// With what its last attempt left.
    Recorded(Arc<Chunk>),
}

/// Delivers a chunk until nothing is left but what is kept for devices, or the task is cancelled.
pub(super) async fn deliver(
    job: Arc<Job>,
    number: i64,
    begin: Begin,
    mut permit: Option<OwnedSemaphorePermit>,
) -> Result<(), Fault> {
    let (mut left, mut attempt) = match begin {
        Begin::Devices(targets) => {
            let mut work = Work::new(&job, 1);
            work.first(targets).await?;
            (job.settle(number, work).await?, 1)
        }
        Begin::Recorded(chunk) => (job.left_of(&chunk), chunk.attempt),
    };
    while let Some(at) = left.again_at.into_iter().chain(left.silent_at).min() {
        permit = None;
        tokio::select! {
            () = job.cancelled.cancelled() => return Ok(()),
            () = job.server.clock.sleep_until(at) => {}
        }
        permit = permit.or(job.turn().await);
        let Some(chunk) = job.recorded(number).await? else { return Ok(()) };
        attempt = chunk.attempt.max(attempt) + 1;
        let now = job.server.clock.now();
        let mut work = Work::new(&job, attempt);
        let keys = std::mem::take(&mut left.keys);
        let (again, silent) = (left.again_at.is_some_and(|at| at <= now), left.silent_at);
        let silent = silent.filter(|at| *at <= now).map(|_| std::mem::take(&mut left.silent));
        if again {
            work.keys = keys;
            work.again(&chunk).await?;
        } else {
            work.left.keys = keys;
            work.left.again_at = left.again_at;
        }
        match silent {
            Some(silent) => work.silent(&chunk, silent).await?,
            None => {
                work.left.silent_at = left.silent_at;
                work.left.silent = left.silent;
            }
        }
        left = job.settle(number, work).await?;
    }
    drop(permit);
    Ok(())
}

impl Job {
    /// The chunk as it is recorded.
    pub(super) async fn recorded(&self, number: i64) -> Result<Option<Arc<Chunk>>, Fault> {
        match self.server.ledger.fact(Key::Chunk(self.id, number)).await? {
            Fact::Chunk(chunk) => Ok(chunk),
            other => Err(Fault::stored("chunk", format!("{other:?}"))),
        }
    }

    /// What a chunk has left to do that another run, or another node, has recorded.
    fn left_of(&self, chunk: &Chunk) -> Left {
        let now = self.server.clock.now();
        let again_at = (!chunk.retrying().is_empty()).then_some(now);
        let silent = if self.waits() { kept(chunk) } else { Vec::new() };
        let silent_at = (!silent.is_empty()).then(|| now + self.wait());
        Left { again_at, silent_at, silent, keys: HashMap::new() }
    }

    /// Whether devices that stay silent concern this task.
    fn waits(&self) -> bool {
        after_silence(self.strategy, true) || self.strategy == Strategy::PresentOnly
    }

    fn wait(&self) -> i64 {
        i64::from(self.entry.config.delivery.ack_wait_ms) * 1_000
    }

    /// Records what an attempt came to, and buries the tokens that died.
    async fn settle(&self, chunk: i64, work: Work<'_>) -> Result<Left, Fault> {
        let Work { attempt, done, dead, left, .. } = work;
        let cause = (self.entry.id(), None);
        let burials = dead.into_iter().map(|(device, binding, said)| async move {
            burial::bury(&self.server, cause, device, binding, &said).await;
        });
        stream::iter(burials).buffer_unordered(BURIALS).collect::<()>().await;
        if !done.is_empty() {
            let deliveries = done.into_values().collect();
            let command = RecordChunk { task: self.id, chunk, attempt, deliveries };
            self.must(command).await?;
        }
        Ok(left)
    }
}

/// Devices that have not said that they have what is kept for them.
fn kept(chunk: &Chunk) -> Vec<i64> {
    let all = chunk.deliveries().into_iter();
    all.filter(|(_, state)| state.kept()).map(|(device, _)| device).collect()
}

/// One attempt at a chunk.
struct Work<'a> {
    job: &'a Job,
    attempt: u32,
    done: BTreeMap<i64, Delivered>,
    dead: Vec<(i64, Binding, Said)>,
    /// Idempotency keys of batches, by their tokens.
    keys: HashMap<u64, String>,
    left: Left,
}

impl<'a> Work<'a> {
    fn new(job: &'a Job, attempt: u32) -> Work<'a> {
        let (done, dead) = (BTreeMap::new(), Vec::new());
        Work { job, attempt, done, dead, keys: HashMap::new(), left: Left::default() }
    }

    fn done(&mut self, device: i64, kind: Kind, word: Option<String>) {
        self.done.insert(device, Delivered { device, kind, word });
    }

    fn online(&mut self, device: i64, reason: Option<Ending>) {
        self.done(device, Kind { outcome: Outcome::Online, reason, vendor: None }, None);
    }

    /// The first attempt: a way for each device, as the strategy says.
    async fn first(&mut self, targets: Vec<TargetRow>) -> Result<(), Fault> {
        let strategy = self.job.strategy;
        let numbers: Vec<i64> = targets.iter().map(|target| target.number).collect();
        let present = if strategy.online_first() {
            self.job.server.presence.present(&numbers).await?
        } else {
            Default::default()
        };
        let mut vendor = Vec::new();
        for (number, target) in self.current(targets).await? {
            let Some(candidate) = target else { continue };
            let (present, bound) = (present.contains(&number), !candidate.ways.is_empty());
            match route(strategy, Ways { present, bound }) {
                Route::Vendor => vendor.push(candidate),
                Route::End(reason) => self.done(number, Kind::ended(reason, None), None),
                Route::Online if !strategy.online_first() => {
                    self.online(number, Some(Ending::NoBinding));
                }
                Route::Online => {
                    self.online(number, None);
                    if present && (bound || strategy == Strategy::PresentOnly) {
                        self.left.silent.push(number);
                    }
                }
            }
        }
        if self.job.waits() && !self.left.silent.is_empty() {
            self.left.silent_at = Some(self.job.server.clock.now() + self.job.wait());
        }
        self.ask(vendor).await
    }

    /// Another attempt at what a vendor put off, beginning with that vendor.
    async fn again(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        let states = chunk.deliveries();
        let mut candidates = self.found(&chunk.retrying()).await?;
        for candidate in &mut candidates {
            if let Some(Way::Vendor(vendor)) = states.get(&candidate.number).map(|s| s.way())
                && let Some(at) = candidate.ways.iter().position(|(l, _)| l.config.vendor == vendor)
            {
                candidate.ways.drain(..at);
            }
        }
        let (bound, unbound) = candidates.into_iter().partition(|c| !c.ways.is_empty());
        let unbound: Vec<Candidate> = unbound;
        for candidate in unbound {
            self.fail(candidate.number, Ending::NoBinding, None, None);
        }
        self.ask(bound).await
    }

    /// What becomes of devices that were given it and have not said that they have it.
    async fn silent(&mut self, chunk: &Chunk, silent: Vec<i64>) -> Result<(), Fault> {
        let states = chunk.deliveries();
        let open = |device: &i64| states.get(device).is_some_and(|state| state.kept());
        let silent: Vec<i64> = silent.into_iter().filter(open).collect();
        if self.job.strategy == Strategy::PresentOnly {
            let unsent = |device: &i64| states.get(device).copied().is_some_and(State::unsent);
            for device in silent.into_iter().filter(unsent) {
                self.done(device, Kind::ended(Ending::NotPresent, None), None);
            }
            return Ok(());
        }
        let found = self.found(&silent).await?;
        let bound: Vec<Candidate> = found.into_iter().filter(|c| !c.ways.is_empty()).collect();
        // What fails stays kept as it was, without a word.
        let kept: Vec<i64> = bound.iter().map(|candidate| candidate.number).collect();
        self.ask(bound).await?;
        for device in kept {
            let again = |d: &Delivered| d.kind.outcome == Outcome::Online;
            if self.done.get(&device).is_some_and(again) {
                self.done.remove(&device);
            }
        }
        Ok(())
    }

    /// Devices as they are now, with their ways over vendors.
    async fn found(&mut self, numbers: &[i64]) -> Result<Vec<Candidate>, Fault> {
        let mut checkout = self.job.server.ledger.database().ledger_read.checkout().await?;
        let as_of = self.job.started.position;
        let targets = targets_at(&mut checkout.conn(), numbers, as_of).await?;
        drop(checkout);
        Ok(self.current(targets).await?.into_iter().filter_map(|(_, found)| found).collect())
    }

    /// Devices of the cut as they are now. One that is gone, or has another user than then, is not
    /// sent to.
    async fn current(
        &mut self,
        targets: Vec<TargetRow>,
    ) -> Result<Vec<(i64, Option<Candidate>)>, Fault> {
        let changed: Vec<i64> = targets.iter().filter(|t| t.changed).map(|t| t.number).collect();
        let mut now: HashMap<i64, TargetRow> = HashMap::new();
        if !changed.is_empty() {
            let mut checkout = self.job.server.ledger.database().ledger_read.checkout().await?;
            let found = targets_at(&mut checkout.conn(), &changed, i64::MAX).await?;
            now.extend(found.into_iter().map(|target| (target.number, target)));
        }
        let mut current = Vec::with_capacity(targets.len());
        for target in targets {
            let (number, account) = (target.number, target.account);
            let target = if target.changed { now.remove(&number) } else { Some(target) };
            let target = target.filter(|target| target.registered);
            let gone = match &target {
                None => Some(Ending::Unregistered),
                Some(now) if now.account != account => Some(Ending::OwnerChanged),
                Some(_) => None,
            };
            if let Some(reason) = gone {
                self.done(number, Kind::ended(reason, None), None);
            }
            let target = target.filter(|_| gone.is_none());
            current.push((number, target.map(|target| self.candidate(target))));
        }
        Ok(current)
    }

    fn candidate(&self, target: TargetRow) -> Candidate {
        let TargetRow { number, app_package, bindings, .. } = target;
        let way = |binding: Binding| Some((self.job.lane(&binding, &app_package)?, binding));
        Candidate { number, ways: bindings.into_iter().filter_map(way).collect() }
    }

    /// Asks the vendors, each device's first way first; what one will not take goes to the next.
    async fn ask(&mut self, candidates: Vec<Candidate>) -> Result<(), Fault> {
        let mut left = candidates;
        while !left.is_empty() {
            let mut by_lane: BTreeMap<String, (Arc<VendorLane>, Batch)> = BTreeMap::new();
            for mut candidate in left {
                let (lane, binding) = candidate.ways.remove(0);
                let entry = by_lane.entry(lane.config.name.clone());
                entry.or_insert_with(|| (lane, Vec::new())).1.push((candidate, binding));
            }
            let mut calls = SelectAll::new();
            for (lane, bound) in by_lane.into_values() {
                // No more than the vendor is sent at once are made, and the others as those end.
                let (job, attempt, at_once) = (self.job, self.attempt, lane.calls());
                let batches = self.batches(bound, lane.batch());
                let call = move |(batch, key, hash)| {
                    call(job, attempt, Arc::clone(&lane), batch, key, hash)
                };
                calls.push(stream::iter(batches).map(call).buffer_unordered(at_once).boxed());
            }
            left = Vec::new();
            while let Some(called) = calls.next().await {
                left.extend(self.called(called));
            }
        }
        Ok(())
    }

    /// What goes to a vendor, by the call: its devices, the call's idempotency key if it was made
    /// before, and the hash of its tokens.
    fn batches(&mut self, bound: Batch, size: usize) -> Vec<(Batch, Option<String>, u64)> {
        let mut left = bound.into_iter();
        let next = || Some(left.by_ref().take(size).collect()).filter(|b: &Batch| !b.is_empty());
        let keyed = |batch: Batch| {
            let hash = hash_of(batch.iter().map(|(_, binding)| binding.token.as_str()));
            (batch, self.keys.remove(&hash), hash)
        };
        std::iter::from_fn(next).map(keyed).collect()
    }

    /// Takes in what a call came to; gives the devices that have another way left.
    fn called(&mut self, called: Called) -> Vec<Candidate> {
        let Called { vendor, batch, said, key, hash } = called;
        let now = self.job.server.clock.now();
        let mut next = Vec::new();
        for ((candidate, binding), said) in batch.into_iter().zip(said) {
            let number = candidate.number;
            let said = match said {
                Once::Again(pause) => {
                    let kind =
                        Kind { outcome: Outcome::Retrying, reason: None, vendor: Some(vendor) };
                    self.done(number, kind, None);
                    self.left.again_at = self.left.again_at.max(Some(now + pause));
                    continue;
                }
                Once::Said(said) => said,
            };
            if said.bury {
                self.dead.push((number, binding, said.clone()));
            }
            let word = said.word.clone();
            match said.class.ending() {
                None => {
                    let kind = Kind { outcome: Outcome::Sent, reason: None, vendor: Some(vendor) };
                    self.done(number, kind, word);
                }
                Some(_) if !candidate.ways.is_empty() => next.push(candidate),
                Some(_) if said.expired => {
                    let kind = Kind::ended(Ending::ExpiredUnsent, Some(vendor));
                    self.done(number, kind, word);
                }
                Some(failed) => self.fail(number, failed, Some(vendor), word),
            }
        }
        self.left.keys.extend(key.map(|key| (hash, key)));
        next
    }

    /// No vendor was a way, for that reason.
    fn fail(&mut self, device: i64, failed: Ending, vendor: Option<Vendor>, word: Option<String>) {
        match after_vendor(self.job.strategy, failed) {
            Route::End(reason) => self.done(device, Kind::ended(reason, vendor), word),
            Route::Online | Route::Vendor => {
                let kind = Kind { outcome: Outcome::Online, reason: Some(failed), vendor: None };
                self.done(device, kind, word);
            }
        }
    }
}

type Batch = Vec<(Candidate, Binding)>;

/// One call, and what it came to.
struct Called {
    vendor: Vendor,
    batch: Batch,
    said: Vec<Once>,
    /// The batch's idempotency key, if it is to be sent again as it was.
    key: Option<String>,
    hash: u64,
}

async fn call(
    job: &Job,
    attempt: u32,
    lane: Arc<VendorLane>,
    batch: Batch,
    mut key: Option<String>,
    hash: u64,
) -> Called {
    let said = said(job, attempt, &lane, &batch, &mut key).await;
    let key = key.filter(|_| said.iter().all(|said| matches!(said, Once::Again(_))));
    Called { vendor: lane.config.vendor, batch, said, key, hash }
}

async fn said(
    job: &Job,
    attempt: u32,
    lane: &VendorLane,
    batch: &Batch,
    key: &mut Option<String>,
) -> Vec<Once> {
    let all = |said: Once| vec![said; batch.len()];
    let expires_at = job.started.expires_at;
    tokio::select! {
        // Nothing that is recorded of a cancelled task is tried again.
        () = job.cancelled.cancelled() => return all(Once::Again(0)),
        _ = lane.ready(&job.server, expires_at) => {}
    }
    match job.wording.of(lane, job.server.clock.now()) {
        Ok(template) => {
            let tokens: Vec<&str> = batch.iter().map(|(_, b)| b.token.as_str()).collect();
            let turn = Turn { message: job.id, attempt, expires_at };
            lane.once(&job.server, &template, &tokens, turn, key).await
        }
        Err(said) => all(Once::Said(said)),
    }
}

fn hash_of<'t>(tokens: impl Iterator<Item = &'t str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    tokens.for_each(|token| token.hash(&mut hasher));
    hasher.finish()
}
