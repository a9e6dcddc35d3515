//! One vendor of one app on its way out: how many calls at once, when the next may begin, and
//! whether it worked of late. A slow or failing vendor holds up its own lane and no other, and a
//! call that failed among others that succeed holds up nothing but itself.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use domain::{
    app::VendorRef,
    message::{Ending, MessageId},
    route::{Route, Strategy, after_vendor, after_waiting},
    vendor::{Class, Health, Unfit, Vendor},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    app::Server,
    delivery::{
        calls,
        channel::{Channel, Sender, Template, Verdict, batch_tokens},
    },
};

/// Calls at once to a vendor that takes many tokens in each.
const BATCH_CALLS: usize = 16;
/// Calls at once to a vendor that takes one token in each.
const SINGLE_CALLS: usize = 256;
/// A wait of so many µs is long enough for a device to be reached another way meanwhile.
const LONG_MICROS: i64 = 100_000;
/// How long a success vouches for what a vendor says of dead tokens, in µs.
const VOUCHED_MICROS: i64 = 600_000_000;
/// JPush's code for an audience that it cannot read, which one bad id is enough for.
const JPUSH_BAD_AUDIENCE: &str = "1003";
/// Calls that are made to tell the bad tokens of one batch apart.
const HALVING_CALLS: usize = 100;
/// Those of them after which the message is at fault if nothing was taken: down to eighths.
const UNTAKEN_CALLS: usize = 14;

/// A vendor that an app is configured for.
pub(super) struct VendorLane {
    pub(super) config: VendorRef,
    channel: Arc<Channel>,
    sender: Sender,
    calls: usize,
    permits: Semaphore,
    health: Mutex<Health>,
}

/// A place among the calls to a vendor that are made at once, until this is dropped.
pub(super) struct LanePlace<'l> {
    /// None only if the semaphore were closed, which nobody does.
    _permit: Option<SemaphorePermit<'l>>,
    /// Whether it took so long to get that what is to be sent should be looked at again.
    pub(super) waited: bool,
}

/// Why no call may begin now.
pub(super) enum Closed {
    /// The vendor is left alone until that time, in µs.
    Until(i64),
    /// The message expires before: this is the last word on it.
    ForGood(Said),
}

/// What a vendor said of one token, in the end.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) class: Class,
    /// Its id of the message, or its code.
    pub(super) word: Option<String>,
    /// Whether the token is to be buried.
    pub(super) bury: bool,
    /// When it died, in µs, if the vendor says so.
    pub(super) since: Option<i64>,
    /// Whether it would have been asked again, had the message not expired by then.
    pub(super) expired: bool,
}

impl Said {
    /// The message expires before the vendor may be asked.
    pub(super) fn expired() -> Said {
        Said { expired: true, ..Said::of(Class::Server, None) }
    }

    /// The vendor cannot be sent such a message.
    pub(super) fn unfit(unfit: Unfit) -> Said {
        Said::of(Class::Payload, Some(unfit.to_string()))
    }

    /// The way for a delivery that no vendor is left for, as the last one failed for that reason.
    /// It expires at a time, in µs.
    pub(super) fn way(
        &self,
        (strategy, failed): (Strategy, Ending),
        (now, expires_at): (i64, i64),
    ) -> Route {
        match self.expired {
            true => after_waiting(strategy, now >= expires_at),
            false => after_vendor(strategy, failed),
        }
    }

    fn of(class: Class, word: Option<String>) -> Said {
        Said { class, word, bury: false, since: None, expired: false }
    }
}

/// What an attempt is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// The message, or the task.
    pub(super) message: MessageId,
    /// Which attempt, from 1.
    pub(super) attempt: u32,
    /// When the message expires, in µs.
    pub(super) expires_at: i64,
}

/// What one attempt came to for a token.
#[derive(Debug, Clone)]
pub(super) enum Once {
    /// The vendor's word is final.
    Said(Said),
    /// It is to be asked again after so many µs.
    Again(i64),
    /// It was not asked, as it is left alone for so many µs.
    Unasked(i64),
}

impl VendorLane {
    pub(super) fn new(config: VendorRef, channel: Arc<Channel>, sender: Sender) -> VendorLane {
        let calls = match config.vendor {
            Vendor::Jpush | Vendor::Huawei => BATCH_CALLS,
            Vendor::Fcm | Vendor::Apns => SINGLE_CALLS,
        };
        VendorLane {
            config,
            channel,
            sender,
            calls,
            permits: Semaphore::new(calls),
            health: Mutex::default(),
        }
    }

    /// Whether this is still how the app is configured.
    pub(super) fn is_of(&self, config: &VendorRef, channel: &Arc<Channel>) -> bool {
        self.config == *config && Arc::ptr_eq(&self.channel, channel)
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Tokens that go into one call.
    pub(super) fn batch(&self) -> usize {
        batch_tokens(self.config.vendor)
    }

    /// Calls at once.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Nothing that holds the lock can panic half-way, so a poisoned one is still whole.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place among the calls that are made at once.
    ///
    /// # Errors
    /// [`Closed`] when the vendor is left alone by then.
    pub(super) async fn enter(
        &self,
        server: &Server,
        expires_at: i64,
    ) -> Result<LanePlace<'_>, Closed> {
        let began = server.clock.now();
        let permit = self.permits.acquire().await.ok();
        let (not_before, now) = (self.health().not_before(), server.clock.now());
        if not_before >= expires_at {
            return Err(Closed::ForGood(Said::expired()));
        }
        if not_before > now {
            return Err(Closed::Until(not_before));
        }
        Ok(LanePlace { _permit: permit, waited: now - began >= LONG_MICROS })
    }

    /// The same, and waits until the vendor may be asked.
    ///
    /// # Errors
    /// The last word on a message that expires before that.
    pub(super) async fn place(
        &self,
        server: &Server,
        expires_at: i64,
    ) -> Result<LanePlace<'_>, Said> {
        let began = server.clock.now();
        loop {
            match self.enter(server, expires_at).await {
                Ok(place) => {
                    let waited = server.clock.now() - began >= LONG_MICROS;
                    return Ok(LanePlace { waited, ..place });
                }
                Err(Closed::Until(at)) => server.clock.sleep_until(at).await,
                Err(Closed::ForGood(said)) => return Err(said),
            }
        }
    }

    /// Sends one batch once, as the attempt of that number. `key` is the batch's idempotency key:
    /// given again, what the vendor took already is not pushed twice. Tokens that spoil a batch are
    /// told apart from the others.
    pub(super) async fn once(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        turn: Turn,
        key: &mut Option<String>,
    ) -> Vec<Once> {
        let verdicts = if tokens.iter().all(|token| template.takes(token)) {
            self.asked(server, template, tokens, turn, key).await
        } else {
            *key = None;
            self.without_malformed(server, template, tokens, turn).await
        };
        let said = self.judged(server, verdicts, turn);
        // A part that is sent again is another call than the whole.
        if said.iter().any(|said| matches!(said, Once::Said(_))) {
            *key = None;
        }
        said
    }

    /// Takes in what the vendor said, and says what is next for each token.
    fn judged(&self, server: &Server, verdicts: Vec<Verdict>, turn: Turn) -> Vec<Once> {
        let now = server.clock.now();
        let mut by_class: BTreeMap<&'static str, usize> = BTreeMap::new();
        for verdict in &verdicts {
            *by_class.entry(verdict.class.name()).or_default() += 1;
        }
        for (class, tokens) in by_class {
            server.metrics.vendor(self.config.vendor.name(), class, tokens);
        }
        let mut health = self.health();
        let taken = verdicts.iter().any(|verdict| verdict.class == Class::Ok);
        if taken {
            health.succeeded(now);
        } else if verdicts.iter().any(may_pass) {
            health.failed(now);
        }
        // What failed in one call is asked for again in one.
        let roll = roll();
        let said = |verdict: Verdict| {
            let answer = (verdict.class, verdict.retry_after);
            match health.put_off(self.config.vendor, answer, turn.attempt, (now, roll)) {
                Some(pause) if now + pause < turn.expires_at => Once::Again(pause),
                next => {
                    let expired = next.is_some();
                    // The message may be at fault, which some other token of it rules out.
                    let vouched = match bad_audience(&verdict) {
                        true => taken,
                        false => health.succeeded_within(VOUCHED_MICROS, now),
                    };
                    Once::Said(Said { expired, ..judge(verdict, vouched) })
                }
            }
        };
        verdicts.into_iter().map(said).collect()
    }

    /// Whether a batch was refused as one for what may be the fault of one token in it.
    fn spoiled(&self, verdicts: &[Verdict]) -> bool {
        let bad = |verdict: &Verdict| verdict.class == Class::Payload && bad_audience(verdict);
        self.config.vendor == Vendor::Jpush && verdicts.len() > 1 && verdicts.iter().all(bad)
    }

    /// Sends the tokens of a batch that its vendor can have given; it is not asked for the others.
    async fn without_malformed(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        turn: Turn,
    ) -> Vec<Verdict> {
        let (fit, rest): (Vec<_>, Vec<_>) =
            tokens.iter().copied().enumerate().partition(|(_, token)| template.takes(token));
        let mut verdicts = vec![unfit(Unfit::MalformedToken); fit.len() + rest.len()];
        if !fit.is_empty() {
            let (at, fit): (Vec<usize>, Vec<&str>) = fit.into_iter().unzip();
            let said = self.asked(server, template, &fit, turn, &mut None).await;
            at.into_iter().zip(said).for_each(|(at, verdict)| verdicts[at] = verdict);
        }
        verdicts
    }

    /// Sends a batch, in parts if it is refused as one.
    async fn asked(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        turn: Turn,
        key: &mut Option<String>,
    ) -> Vec<Verdict> {
        let verdicts = self.attempt(server, template, tokens, turn, key).await;
        if !self.spoiled(&verdicts) {
            return verdicts;
        }
        *key = None;
        self.halved(server, template, tokens, turn, verdicts).await
    }

    /// Sends a batch that was refused as one in halves, and halves of those that are refused again,
    /// the largest first, so that all but the bad tokens get it. What is not told apart within some
    /// calls stays refused, as does all of a message that no part is taken of.
    async fn halved(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        turn: Turn,
        mut verdicts: Vec<Verdict>,
    ) -> Vec<Verdict> {
        let mut parts = VecDeque::from(halves(0..tokens.len()));
        let mut taken = false;
        for call in 0..HALVING_CALLS {
            if call >= UNTAKEN_CALLS && !taken {
                break;
            }
            let Some(part) = parts.pop_front() else { break };
            let some = &tokens[part.clone()];
            let not_before = self.health().not_before().min(turn.expires_at);
            server.clock.sleep_until(not_before).await;
            let said = self.attempt(server, template, some, turn, &mut None).await;
            taken |= said.iter().any(|verdict| verdict.class == Class::Ok);
            if self.spoiled(&said) {
                parts.extend(halves(part));
                continue;
            }
            // What is put off now puts off all the rest.
            let put_off = said.iter().find(|verdict| may_pass(verdict));
            if let Some(verdict) = put_off {
                parts.drain(..).flatten().for_each(|at| verdicts[at] = verdict.clone());
            }
            verdicts[part].clone_from_slice(&said);
        }
        verdicts
    }

    async fn attempt(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        turn: Turn,
        key: &mut Option<String>,
    ) -> Vec<Verdict> {
        let all = |verdict: Verdict| vec![verdict; tokens.len()];
        if key.is_none() {
            match self.sender.key(&self.channel).await {
                Ok(Some(fresh)) => {
                    *key = Some(self.noted(server, turn.message, tokens, fresh).await);
                }
                Ok(None) => {}
                Err(verdict) => return all(verdict),
            }
        }
        match template.prepare(tokens, key.as_deref()) {
            Ok(request) => {
                if server.outbound.permits(&request.url).is_err() {
                    return all(Verdict {
                        code: Some("address not allowed".to_owned()),
                        ..Verdict::of(Class::Config)
                    });
                }
                self.sender.send(&self.channel, &request, tokens).await
            }
            Err(why) => all(unfit(why)),
        }
    }

    /// The key for a call: that of a run before this one, if it began the same call.
    async fn noted(
        &self,
        server: &Server,
        message: MessageId,
        tokens: &[&str],
        fresh: String,
    ) -> String {
        let call = calls::name(&self.config, message, tokens);
        let hints = &server.ledger.database().presence;
        match calls::key(hints, &call, &fresh, server.clock.now()).await {
            Ok(key) => key,
            Err(fault) => {
                tracing::warn!(%fault, %message, "a call to a vendor could not be noted");
                fresh
            }
        }
    }
}

/// Whether the same may be taken later.
fn may_pass(verdict: &Verdict) -> bool {
    matches!(verdict.class, Class::Throttled | Class::Server)
}

fn unfit(why: Unfit) -> Verdict {
    Verdict { code: Some(why.to_string()), ..Verdict::of(Class::Payload) }
}

/// Whether JPush could not read the audience, or something else of the message.
fn bad_audience(verdict: &Verdict) -> bool {
    verdict.code.as_deref() == Some(JPUSH_BAD_AUDIENCE)
}

fn halves(part: Range<usize>) -> [Range<usize>; 2] {
    let middle = part.start + part.len() / 2;
    [part.start..middle, middle..part.end]
}

/// What a final verdict means. A vendor that calls a token dead is believed at once if nothing else
/// can explain it, else only if what it took vouches for that.
fn judge(verdict: Verdict, vouched: bool) -> Said {
    let bury = verdict.class == Class::Dead && (!verdict.suspect || vouched);
    let Verdict { class, since, id, code, .. } = verdict;
    Said { bury, since, ..Said::of(class, id.or(code)) }
}

/// A random number from 0 to 1.
fn roll() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}
