//! One chunk of a task on its way: a way is chosen for each device, vendors are asked once an
//! attempt, and what an attempt came to is recorded as one event before the next begins. What a
//! vendor puts off, and devices that stay silent, come in later attempts.

use std::{
    collections::{BTreeMap, HashMap},
    pin::pin,
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

use super::{
    burial,
    call::{Batch, Called, Candidate, call, hash_of},
    chunk_turn::{ChunkTurn, SLOW},
    lane::{Once, Said, VendorLane},
    left::{Again, Left},
    task::Job,
};

/// Dead tokens of a chunk that are buried at once.
const BURIALS: usize = 64;

/// In place of a lane's name: devices are taken up too whose vendor the app has no more.
const NO_LANE: &str = "";

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
    mut turn: ChunkTurn,
) -> Result<(), Fault> {
    let mut left = match begin {
        Begin::Devices(targets) => {
            let mut work = Work::new(&job, number, 1);
            let vendor = work.first(targets).await?;
            job.begin(work, vendor, &mut turn).await?
        }
        Begin::Recorded(chunk) => job.left_of(&chunk),
    };
    while let Some(at) = left.next() {
        drop(turn);
        tokio::select! {
            () = job.cancelled.cancelled() => return Ok(()),
            () = job.server.clock.sleep_until(at) => {}
        }
        turn = job.turn().await;
        let Some(chunk) = job.recorded(number).await? else { return Ok(()) };
        // Nothing may have been recorded of the last one.
        let attempt = chunk.attempt + 1;
        let now = job.server.clock.now();
        let mut work = Work::new(&job, number, attempt);
        work.keys = std::mem::take(&mut left.keys);
        work.asked = left.again.iter().map(|(lane, again)| (lane.clone(), again.asked)).collect();
        let due = left.again.values().any(|again| again.at <= now);
        left.again.retain(|_, again| again.at > now);
        work.left.again = std::mem::take(&mut left.again);
        let silent = left.silent_at.filter(|at| *at <= now);
        let silent = silent.map(|_| std::mem::take(&mut left.silent));
        if due {
            turn.during(&job, work.again(&chunk)).await?;
        }
        match silent {
            Some(silent) => turn.during(&job, work.silent(&chunk, silent)).await?,
            None => {
                work.left.silent_at = left.silent_at;
                work.left.silent = left.silent;
            }
        }
        left = job.settle(work).await?;
    }
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
        // How often which was asked is not recorded.
        let again = |lane: &str| (lane.to_owned(), Again { at: now, asked: chunk.attempt });
        let lanes = self.entry.vendors.iter().map(|(config, _)| config.name.as_str());
        let retrying = !chunk.retrying().is_empty();
        let again = lanes.chain([NO_LANE]).filter(|_| retrying).map(again).collect();
        let silent = if self.waits() { silent(chunk) } else { Vec::new() };
        let silent_at = (!silent.is_empty()).then(|| now + self.wait());
        Left { again, silent_at, silent, keys: HashMap::new() }
    }

    /// Whether devices that stay silent concern this task.
    fn waits(&self) -> bool {
        after_silence(self.strategy, true) || self.strategy == Strategy::PresentOnly
    }

    fn wait(&self) -> i64 {
        i64::from(self.entry.config.delivery.ack_wait_ms) * 1_000
    }

    /// Asks vendors in the first attempt, and records what it came to. Devices that have it, or find
    /// it, on our own channel do not wait for a vendor that takes its time: then what the vendor is
    /// asked for is another attempt.
    async fn begin(
        &self,
        mut work: Work<'_>,
        vendor: Vec<Candidate>,
        turn: &mut ChunkTurn,
    ) -> Result<Left, Fault> {
        let first = |candidate: &Candidate| {
            candidate.ways.first().map(|(lane, _)| (candidate.number, lane.config.vendor))
        };
        let asked_for: Vec<(i64, Vendor)> = vendor.iter().filter_map(first).collect();
        let mut asked = Work::new(self, work.chunk, work.attempt);
        let ahead = {
            let mut asking = pin!(asked.ask(vendor));
            tokio::select! {
                asked = &mut asking => asked.map(|()| false)?,
                () = self.server.clock.sleep(SLOW) => {
                    let ahead = self.strategy.kept_at_once() || work.has_online();
                    if ahead {
                        asked_for.into_iter().for_each(|(device, vendor)| work.put_off(device, vendor));
                        self.record(&mut work).await?;
                    }
                    turn.give_back(self);
                    turn.during(self, asking).await.map(|()| ahead)?
                }
            }
        };
        if ahead {
            work.attempt += 1;
        }
        work.join(asked);
        self.settle(work).await
    }

    /// Records what an attempt came to, and buries the tokens that died.
    async fn settle(&self, mut work: Work<'_>) -> Result<Left, Fault> {
        let cause = (self.entry.id(), None);
        let dead = std::mem::take(&mut work.dead);
        let burials = dead.into_iter().map(|(device, binding, said)| async move {
            burial::bury(&self.server, cause, device, binding, &said).await;
        });
        stream::iter(burials).buffer_unordered(BURIALS).collect::<()>().await;
        self.record(&mut work).await?;
        // Those of what is not asked again yet.
        work.left.keys.extend(work.keys);
        Ok(work.left)
    }

    async fn record(&self, work: &mut Work<'_>) -> Result<(), Fault> {
        if work.done.is_empty() {
            return Ok(());
        }
        let deliveries = std::mem::take(&mut work.done).into_values().collect();
        let (chunk, attempt) = (work.chunk, work.attempt);
        self.must(RecordChunk { task: self.id, chunk, attempt, deliveries }).await
    }
}

/// Devices that have not said that they have what is kept for them, and that no vendor is asked for.
fn silent(chunk: &Chunk) -> Vec<i64> {
    let all = chunk.deliveries().into_iter();
    all.filter(|(_, state)| state.kept() && !state.retrying()).map(|(device, _)| device).collect()
}

/// One attempt at a chunk.
struct Work<'a> {
    job: &'a Job,
    chunk: i64,
    attempt: u32,
    done: BTreeMap<i64, Delivered>,
    dead: Vec<(i64, Binding, Said)>,
    /// Idempotency keys of batches, by their tokens.
    keys: HashMap<u64, String>,
    /// How often the vendors of lanes were asked for the chunk before.
    asked: BTreeMap<String, u32>,
    /// Devices that are known to wait for a vendor, and for which, if that is known.
    waiting: BTreeMap<i64, Option<Vendor>>,
    left: Left,
}

impl<'a> Work<'a> {
    fn new(job: &'a Job, chunk: i64, attempt: u32) -> Work<'a> {
        let (done, dead, keys) = (BTreeMap::new(), Vec::new(), HashMap::new());
        let (asked, waiting, left) = (BTreeMap::new(), BTreeMap::new(), Left::default());
        Work { job, chunk, attempt, done, dead, keys, asked, waiting, left }
    }

    fn done(&mut self, device: i64, kind: Kind, word: Option<String>) {
        self.done.insert(device, Delivered { device, kind, word });
    }

    fn online(&mut self, device: i64, reason: Option<Ending>) {
        self.done(device, Kind { outcome: Outcome::Online, reason, vendor: None }, None);
    }

    /// Whether any device has it, or finds it, on our own channel.
    fn has_online(&self) -> bool {
        self.done.values().any(|delivered| delivered.kind.online())
    }

    /// The first attempt: a way for each device, as the strategy says. Gives those that a vendor is
    /// to be asked for.
    async fn first(&mut self, targets: Vec<TargetRow>) -> Result<Vec<Candidate>, Fault> {
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
        Ok(vendor)
    }

    /// Records that a device waits for a vendor.
    fn put_off(&mut self, device: i64, vendor: Vendor) {
        let outcome = match self.job.strategy.kept_at_once() {
            true => Outcome::Either,
            false => Outcome::Retrying,
        };
        self.done(device, Kind { outcome, reason: None, vendor: Some(vendor) }, None);
    }

    /// Takes up what another part of the same attempt came to.
    fn join(&mut self, other: Work<'_>) {
        self.done.extend(other.done);
        self.dead.extend(other.dead);
        self.left.keys.extend(other.left.keys);
        other.left.again.into_iter().for_each(|(lane, again)| self.left.put_off(lane, again));
    }

    /// Another attempt at what vendors put off that may be asked by now, beginning with those.
    async fn again(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        let states = chunk.deliveries();
        let mut candidates = self.found(&chunk.retrying()).await?;
        candidates.retain_mut(|candidate| {
            let vendor = match states.get(&candidate.number).map(|state| state.way()) {
                Some(Way::Vendor(vendor)) => Some(vendor),
                Some(Way::Online | Way::Undecided) | None => None,
            };
            self.waiting.insert(candidate.number, vendor);
            if let Some(vendor) = vendor
                && let Some(at) = candidate.ways.iter().position(|(l, _)| l.config.vendor == vendor)
            {
                candidate.ways.drain(..at);
            }
            // Which lane of its vendor put it off is not recorded: it waits for all that it has.
            let first = candidate.ways.first().map(|(lane, _)| lane.config.vendor);
            let own = candidate.ways.iter().filter(|(lane, _)| Some(lane.config.vendor) == first);
            let put_off = |name| self.left.again.contains_key(name);
            !own.map(|(lane, _)| &lane.config.name).any(put_off)
        });
        let (bound, unbound) = candidates.into_iter().partition(|c| !c.ways.is_empty());
        let unbound: Vec<Candidate> = unbound;
        for candidate in unbound {
            let failed = Ending::NoBinding;
            let way = after_vendor(self.job.strategy, failed);
            self.fail(candidate.number, (way, failed), None, None);
        }
        self.ask(bound).await
    }

    /// What becomes of devices that were given it and have not said that they have it.
    async fn silent(&mut self, chunk: &Chunk, silent: Vec<i64>) -> Result<(), Fault> {
        let (states, still) = (chunk.deliveries(), self::silent(chunk));
        let silent: Vec<i64> =
            silent.into_iter().filter(|device| still.binary_search(device).is_ok()).collect();
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
                let (job, at_once) = (self.job, lane.calls());
                let number = (self.chunk, self.asked(&lane) + 1);
                let batches = self.batches(bound, lane.batch());
                let call = move |(batch, key)| call(job, number, Arc::clone(&lane), batch, key);
                calls.push(stream::iter(batches).map(call).buffer_unordered(at_once).boxed());
            }
            left = Vec::new();
            while let Some(called) = calls.next().await {
                left.extend(self.called(called));
            }
            drop(calls);
            if !left.is_empty() {
                let wanted = self.job.wanted(self.chunk).await?;
                left.retain(|candidate| wanted(candidate.number));
            }
        }
        Ok(())
    }

    /// What goes to a vendor, by the call: its devices, and the call's idempotency key if it was
    /// made before.
    fn batches(&mut self, bound: Batch, size: usize) -> Vec<(Batch, Option<String>)> {
        let mut left = bound.into_iter();
        let next = || Some(left.by_ref().take(size).collect()).filter(|b: &Batch| !b.is_empty());
        let keyed = |batch: Batch| {
            let key = if self.keys.is_empty() { None } else { self.keys.remove(&hash_of(&batch)) };
            (batch, key)
        };
        std::iter::from_fn(next).map(keyed).collect()
    }

    /// How often the vendor of a lane was asked for the chunk before.
    fn asked(&self, lane: &VendorLane) -> u32 {
        self.asked.get(&lane.config.name).copied().unwrap_or(0)
    }

    /// Whether it is recorded that a device waits for that vendor.
    fn knows(&self, device: i64, vendor: Vendor) -> bool {
        self.waiting.get(&device).is_some_and(|known| known.is_none_or(|known| known == vendor))
    }

    /// Takes in what a call came to; gives the devices that have another way left.
    fn called(&mut self, called: Called) -> Vec<Candidate> {
        let Called { lane, batch, said, key } = called;
        let (now, asked) = (self.job.server.clock.now(), self.asked(&lane));
        let vendor = lane.config.vendor;
        let name = || lane.config.name.clone();
        let mut next = Vec::new();
        for ((candidate, binding), said) in batch.into_iter().zip(said) {
            let number = candidate.number;
            let said = match said {
                Once::Unasked(pause) => {
                    self.left.put_off(name(), Again { at: now + pause, asked });
                    if !self.knows(number, vendor) {
                        self.put_off(number, vendor);
                    }
                    continue;
                }
                Once::Again(pause) => {
                    self.left.put_off(name(), Again { at: now + pause, asked: asked + 1 });
                    self.put_off(number, vendor);
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
                Some(failed) => {
                    let times = (now, self.job.started.expires_at);
                    let way = said.way((self.job.strategy, failed), times);
                    self.fail(number, (way, failed), Some(vendor), word);
                }
            }
        }
        self.left.keys.extend(key);
        next
    }

    /// No vendor was a way, for that reason: it goes another way, or ends.
    fn fail(
        &mut self,
        device: i64,
        (way, failed): (Route, Ending),
        vendor: Option<Vendor>,
        word: Option<String>,
    ) {
        match way {
            Route::End(reason) => self.done(device, Kind::ended(reason, vendor), word),
            Route::Online | Route::Vendor => {
                let kind = Kind { outcome: Outcome::Online, reason: Some(failed), vendor: None };
                self.done(device, kind, word);
            }
        }
    }
}
