//! One message on its way to its devices: a way is chosen for each, vendors are asked in turn, and
//! devices that stay silent are given to the vendor too.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use domain::{
    device::Binding,
    facts::{Fact, Key},
    message::{Delivery, Ending, Message, MessageAccepted, MessageId, Progress, Stage, Step},
    notification::Notification,
    route::{Route, Strategy, Ways, after_silence, route},
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
    Machine, burial,
    lane::{Once, Said, Turn, VendorLane},
    room::Place,
    shown,
    wording::Wording,
};
use crate::{
    app::Server,
    delivery::{channel::Sender, recorder::Outcome},
    directory::AppEntry,
};

/// Devices that are looked up at once.
const DEVICES: usize = 1_000;
/// How long to leave a message that is sent again alone before it is looked at, in µs: most have
/// been answered by then.
const FIRST_LOOK_MICROS: i64 = 1_000_000;
/// How much longer than its life a message is left to the connections that send it again, in µs.
const GRACE_MICROS: i64 = 1_000_000;

/// A device with the ways to it over vendors that are still to be tried, best first.
struct Candidate {
    number: i64,
    registered: bool,
    ways: Vec<(Arc<VendorLane>, Binding)>,
}

/// A device with the binding that is tried now.
type Bound = (Candidate, Binding);

/// Delivers a message as far as this is not up to connections, in a place of its own.
pub(super) async fn deliver(
    machine: &Machine,
    server: &Arc<Server>,
    (app, id): (&str, MessageId),
    place: Place,
) -> Result<(), Fault> {
    let choosing = machine.choosing.acquire().await;
    let entry = server.directory.app(app).await.map_err(|e| Fault::stored("app", e))?;
    let Some(entry) = entry else { return Ok(()) };
    let key = Key::Message(id);
    let Some(message) = found(server.ledger.remembered(key).await?)? else { return Ok(()) };
    let open: Vec<i64> =
        message.deliveries.iter().filter(|(_, d)| d.wants_vendor()).map(|(n, _)| *n).collect();
    if open.is_empty() {
        return Ok(());
    }
    let job = Job { server, entry: &entry, id, message: &message };
    let candidates = job.candidates(machine, &open).await?;
    let present = if message.strategy.online_first() {
        server.presence.present(&open).await?
    } else {
        Default::default()
    };
    drop(choosing);
    // A device that has answered and gone in the meantime is not asked for again.
    let Some(now) = found(server.ledger.remembered(Key::Message(id)).await?)? else {
        return Ok(());
    };
    let wanted = |number: &i64| now.deliveries.get(number).is_some_and(Delivery::wants_vendor);
    let candidates = candidates.into_iter().filter(|candidate| wanted(&candidate.number));
    let (mut vendor, mut silent, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for candidate in candidates {
        // What was sent once is no longer a question of presence: it waits for its answer.
        let sent = message.resend.is_some()
            && now.deliveries.get(&candidate.number).is_some_and(|d| d.stage >= Stage::Sent);
        let present = sent || present.contains(&candidate.number);
        let ways = Ways { present, bound: !candidate.ways.is_empty() };
        match route(message.strategy, ways) {
            _ if !candidate.registered => {
                let what = Progress::Ended(Ending::Unregistered);
                steps.push(Step::of_server(candidate.number, what));
            }
            Route::Vendor => vendor.push(candidate),
            Route::End(reason) => {
                steps.push(Step::of_server(candidate.number, Progress::Ended(reason)))
            }
            Route::Online if !message.strategy.online_first() => {
                steps.push(Step::of_server(candidate.number, Progress::Failed(Ending::NoBinding)));
            }
            Route::Online if present => silent.push(candidate),
            Route::Online => {}
        }
    }
    job.record(steps).await;
    let waits = silent.iter().any(|c| after_silence(message.strategy, !c.ways.is_empty()))
        || message.strategy == Strategy::PresentOnly;
    let silent = if waits { silent } else { Vec::new() };
    // What only waits to be over leaves its place to what vendors are to be asked for.
    let _place = (message.resend.is_none() || !vendor.is_empty()).then_some(place);
    let (asked, heard) = tokio::join!(job.ask(vendor), job.after_silence(machine, silent));
    asked.and(heard)
}

fn found(fact: Fact) -> Result<Option<Arc<Message>>, Fault> {
    match fact {
        Fact::Message(message) => Ok(message),
        other => Err(Fault::stored("message", format!("{other:?}"))),
    }
}

struct Job<'a> {
    server: &'a Arc<Server>,
    entry: &'a AppEntry,
    id: MessageId,
    message: &'a Message,
}

impl Job<'_> {
    /// The devices with their ways over vendors.
    async fn candidates(
        &self,
        machine: &Machine,
        numbers: &[i64],
    ) -> Result<Vec<Candidate>, Fault> {
        let mut candidates = Vec::with_capacity(numbers.len());
        // Without vendors nobody is called, and nothing has to be ready for it.
        let sender = match self.entry.vendors.is_empty() {
            true => None,
            false => Some(machine.sender(self.server).await?),
        };
        for numbers in numbers.chunks(DEVICES) {
            let mut checkout = self.server.ledger.database().ledger_read.checkout().await?;
            let targets = targets_at(&mut checkout.conn(), numbers, i64::MAX).await?;
            drop(checkout);
            candidates.extend(targets.into_iter().map(|t| self.candidate(machine, sender, t)));
        }
        Ok(candidates)
    }

    fn candidate(&self, machine: &Machine, sender: Option<&Sender>, t: TargetRow) -> Candidate {
        let way = |binding: Binding| {
            let config = self.entry.config.vendor_of(&binding, &t.app_package)?;
            let (config, channel) = self.entry.vendors.iter().find(|(own, _)| own == config)?;
            Some((machine.lane(sender?, self.entry.id(), (config, channel)), binding))
        };
        let ways = t.bindings.into_iter().filter_map(way).collect();
        Candidate { number: t.number, registered: t.registered, ways }
    }

    /// Asks the vendors, each device's first way first; what one will not take goes to the next.
    async fn ask(&self, candidates: Vec<Candidate>) -> Result<(), Fault> {
        let mut left = candidates;
        while !left.is_empty() {
            let mut by_lane: BTreeMap<String, (Arc<VendorLane>, Vec<Bound>)> = BTreeMap::new();
            for mut candidate in left {
                let (lane, binding) = candidate.ways.remove(0);
                let entry = by_lane.entry(lane.config.name.clone());
                entry.or_insert_with(|| (lane, Vec::new())).1.push((candidate, binding));
            }
            let wording =
                Wording::new(self.id, self.message.expires_at, self.notification().await?);
            let mut calls = SelectAll::new();
            for (lane, bound) in by_lane.into_values() {
                let at_once = lane.calls();
                let size = lane.batch();
                let mut left = bound.into_iter();
                let next = move || {
                    Some(left.by_ref().take(size).collect::<Vec<_>>()).filter(|b| !b.is_empty())
                };
                let wording = &wording;
                let call = move |batch| self.call(Arc::clone(&lane), batch, wording);
                let batches = stream::iter(std::iter::from_fn(next));
                calls.push(batches.map(call).buffer_unordered(at_once).boxed());
            }
            left = Vec::new();
            while let Some(again) = calls.next().await {
                left.extend(again);
            }
            drop(calls);
            if !left.is_empty() {
                let wanted = self.wanted().await?;
                left.retain(|candidate| wanted(candidate.number));
            }
        }
        Ok(())
    }

    /// One batch: gives the devices that have another way left.
    async fn call(
        &self,
        lane: Arc<VendorLane>,
        batch: Vec<Bound>,
        wording: &Wording,
    ) -> Vec<Candidate> {
        let said = self.said(&lane, &batch, wording).await;
        let (mut steps, mut again) = (Vec::new(), Vec::new());
        for ((candidate, binding), said) in batch.into_iter().zip(said) {
            let Some(said) = said else { continue };
            if said.bury {
                let cause = (self.entry.id(), Some(self.message.position));
                burial::bury(self.server, cause, candidate.number, binding, &said).await;
            }
            let what = match said.class.ending() {
                None => Progress::Sent,
                Some(_) if !candidate.ways.is_empty() => {
                    again.push(candidate);
                    continue;
                }
                Some(failed) => {
                    let times = (self.server.clock.now(), self.message.expires_at);
                    match said.way((self.message.strategy, failed), times) {
                        Route::End(reason) => Progress::Ended(reason),
                        Route::Online | Route::Vendor => Progress::Failed(failed),
                    }
                }
            };
            let vendor = Some(lane.config.vendor);
            let step = Step { vendor, word: said.word, ..Step::of_server(candidate.number, what) };
            steps.push(step);
        }
        self.record(steps).await;
        again
    }

    /// Asks a vendor about a batch until its word is final for each device, or the message expires;
    /// none for a device that needs no vendor any more, as it was reached another way, is gone, or
    /// the message was taken back.
    async fn said(
        &self,
        lane: &VendorLane,
        batch: &[Bound],
        wording: &Wording,
    ) -> Vec<Option<Said>> {
        let mut said: Vec<Option<Said>> = vec![None; batch.len()];
        let mut open: Vec<usize> = (0..batch.len()).collect();
        let mut key: Option<String> = None;
        for attempt in 1.. {
            let place = lane.place(self.server, self.message.expires_at).await;
            if attempt > 1 || matches!(&place, Ok(place) if place.waited) {
                let all = open.len();
                open = self.still_wanted(batch, open).await;
                // A part that is sent again is another call than the whole.
                if open.len() < all {
                    key = None;
                }
                if open.is_empty() {
                    break;
                }
            }
            // By now there may be less time left than at first, or none.
            let template = place.as_ref().map_err(Said::clone);
            let template = match template.and_then(|_| wording.of(lane, self.server.clock.now())) {
                Ok(template) => template,
                Err(word) => {
                    open.into_iter().for_each(|at| said[at] = Some(word.clone()));
                    break;
                }
            };
            let tokens: Vec<&str> = open.iter().map(|at| batch[*at].1.token.as_str()).collect();
            let turn = Turn { message: self.id, attempt, expires_at: self.message.expires_at };
            let once = lane.once(self.server, &template, &tokens, turn, &mut key).await;
            drop(place);
            let (mut again, mut pause) = (Vec::new(), 0);
            for (at, once) in open.into_iter().zip(once) {
                match once {
                    Once::Said(word) => said[at] = Some(word),
                    Once::Again(wait) | Once::Unasked(wait) => {
                        again.push(at);
                        pause = wait.max(pause);
                    }
                }
            }
            if again.is_empty() {
                break;
            }
            open = again;
            self.server.clock.sleep(Duration::from_micros(pause.unsigned_abs())).await;
        }
        said
    }

    /// Those of a batch who still wait for a vendor.
    async fn still_wanted(&self, batch: &[Bound], open: Vec<usize>) -> Vec<usize> {
        match self.wanted().await {
            Ok(wanted) => open.into_iter().filter(|at| wanted(batch[*at].0.number)).collect(),
            // Twice is better than never.
            Err(fault) => {
                tracing::warn!(%fault, message = %self.id, "a message could not be looked at");
                open
            }
        }
    }

    /// Which devices wait for a vendor, as the ledger has it now.
    async fn wanted(&self) -> Result<impl Fn(i64) -> bool + use<>, Fault> {
        let message = found(self.server.ledger.fact(Key::Message(self.id)).await?)?;
        Ok(move |number| {
            let delivery = message.as_ref().and_then(|message| message.deliveries.get(&number));
            delivery.is_some_and(Delivery::wants_vendor)
        })
    }

    /// What a vendor shows: an Easemob `pushMessage`, or the payload of another protocol as data.
    async fn notification(&self) -> Result<Notification, Fault> {
        let page = self.server.ledger.read_at(&[self.message.position]).await?;
        let accepted = page.events.into_iter().next().map(|recorded| recorded.event);
        let Some(domain::Event::MessageAccepted(MessageAccepted { protocol, private, .. })) =
            accepted
        else {
            return Err(Fault::stored("message", "its event cannot be read"));
        };
        shown(protocol, private)
    }

    /// Waits for the devices that were connected; those that stay silent go to the vendor too, or
    /// were not there after all.
    async fn after_silence(&self, machine: &Machine, silent: Vec<Candidate>) -> Result<(), Fault> {
        if silent.is_empty() {
            return Ok(());
        }
        match self.message.resend {
            Some(resend) => {
                let accepted_at = self.message.accepted_at;
                let over_at = accepted_at + resend.life_micros() + GRACE_MICROS;
                let place = machine.unanswered.try_acquire();
                if place.is_err() && self.server.clock.now() < over_at {
                    // The views have it until it is over.
                    machine.spilled.store(true, Ordering::Release);
                    return Ok(());
                }
                self.server.clock.sleep_until(accepted_at + FIRST_LOOK_MICROS).await;
                let fact = self.server.ledger.remembered(Key::Message(self.id)).await?;
                let open = |m: &Message| m.deliveries.values().any(Delivery::open);
                if !found(fact)?.is_some_and(|message| open(&message)) {
                    return Ok(());
                }
                self.server.clock.sleep_until(over_at).await;
            }
            None => {
                let wait = Duration::from_millis(self.entry.config.delivery.ack_wait_ms.into());
                self.server.clock.sleep(wait).await;
            }
        }
        // What this node remembers may miss an acknowledgement that has just come.
        let fact = self.server.ledger.fact(Key::Message(self.id)).await?;
        let Some(message) = found(fact)? else { return Ok(()) };
        let open = |number: i64| message.deliveries.get(&number).filter(|d| d.wants_vendor());
        let (mut vendor, mut steps) = (Vec::new(), Vec::new());
        for candidate in silent {
            let Some(delivery) = open(candidate.number) else { continue };
            if after_silence(message.strategy, !candidate.ways.is_empty()) {
                vendor.push(candidate);
            } else if let Some(ending) = missed(&message, delivery) {
                steps.push(Step::of_server(candidate.number, Progress::Ended(ending)));
            }
        }
        self.record(steps).await;
        self.ask(vendor).await
    }

    /// Has steps recorded; what the ledger can't take now is found in the views again.
    async fn record(&self, steps: Vec<Step>) {
        for step in steps {
            let app = self.entry.id().to_owned();
            let outcome = Outcome { app, message: self.id, chunk: None, step, answer: None };
            // The recorder outlives every task, save in a shutdown.
            let _ = self.server.recorder.send(outcome).await;
        }
    }
}

/// Why a message for devices that are here is over for one: it never got out to it, or it was sent
/// as often as it may be, and the connection that did so is gone.
fn missed(message: &Message, delivery: &Delivery) -> Option<Ending> {
    match message.strategy {
        Strategy::PresentOnly if delivery.stage < Stage::Sent => Some(Ending::NotPresent),
        Strategy::PresentOnly => message.resend.map(|_| Ending::Unacknowledged),
        Strategy::VendorElseOnline
        | Strategy::OnlineElseKept
        | Strategy::VendorOnly
        | Strategy::OnlineElseVendor => None,
    }
}
