//! One vendor of one app on its way out: how many calls at once, when the next may begin, and
//! whether it worked of late. A slow or failing vendor holds up its own lane and no other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::{
    app::VendorRef,
    message::MessageId,
    vendor::{Class, Unfit, Vendor, retry},
};
use tokio::sync::Semaphore;

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
/// How long a success vouches for what a vendor says of dead tokens, in µs.
const VOUCHED_MICROS: i64 = 600_000_000;
/// JPush's code for an audience that it cannot read, which one bad id is enough for.
const JPUSH_BAD_AUDIENCE: &str = "1003";

/// A vendor that an app is configured for.
pub(super) struct VendorLane {
    pub(super) config: VendorRef,
    channel: Arc<Channel>,
    sender: Sender,
    permits: Semaphore,
    /// No call begins before this time, in µs.
    not_before: AtomicI64,
    /// When a call last succeeded, in µs.
    succeeded: AtomicI64,
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
    /// The message expired before the vendor was asked.
    pub(super) fn expired() -> Said {
        Said { expired: true, ..Said::of(Class::Server, None) }
    }

    /// The vendor cannot be sent such a message.
    pub(super) fn unfit(unfit: Unfit) -> Said {
        Said::of(Class::Payload, Some(unfit.to_string()))
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
            permits: Semaphore::new(calls),
            not_before: AtomicI64::new(0),
            succeeded: AtomicI64::new(i64::MIN / 2),
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

    /// Sends one batch until the vendor's word is final for each token, or the message expires.
    pub(super) async fn send(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        (message, expires_at): (MessageId, i64),
    ) -> Vec<Said> {
        let mut said: Vec<Option<Said>> = vec![None; tokens.len()];
        let mut open: Vec<usize> = (0..tokens.len()).collect();
        let mut key: Option<String> = None;
        for attempt in 1.. {
            let left: Vec<&str> = open.iter().map(|at| tokens[*at]).collect();
            let turn = Turn { message, attempt, expires_at };
            let once = self.once(server, template, &left, turn, &mut key).await;
            let (mut again, mut pause) = (Vec::new(), 0);
            for (at, once) in open.into_iter().zip(once) {
                match once {
                    Once::Said(word) => said[at] = Some(word),
                    Once::Again(wait) => {
                        again.push(at);
                        pause = wait.max(pause);
                    }
                }
            }
            if again.is_empty() {
                break;
            }
            open = again;
            server.clock.sleep(Duration::from_micros(pause.unsigned_abs())).await;
        }
        said.into_iter().flatten().collect()
    }

    /// Returns once the next call may begin, or a message has expired.
    pub(super) async fn ready(&self, server: &Server, expires_at: i64) {
        let not_before = self.not_before.load(Ordering::Acquire).min(expires_at);
        server.clock.sleep_until(not_before).await;
    }

    /// Sends one batch once, as the attempt of that number. `key` is the batch's idempotency key:
    /// given again, what the vendor took already is not pushed twice. One bad token that spoils a
    /// batch is found by halving it.
    pub(super) async fn once(
        &self,
        server: &Server,
        template: &Template,
        tokens: &[&str],
        turn: Turn,
        key: &mut Option<String>,
    ) -> Vec<Once> {
        let Turn { attempt, expires_at, .. } = turn;
        let verdicts = self.attempt(server, template, tokens, turn, key).await;
        if self.spoiled(&verdicts) {
            let (left, right) = tokens.split_at(tokens.len() / 2);
            let mut said = Vec::with_capacity(tokens.len());
            for half in [left, right] {
                *key = None;
                said.extend(Box::pin(self.once(server, template, half, turn, key)).await);
            }
            *key = None;
            return said;
        }
        let now = server.clock.now();
        let said: Vec<Once> = verdicts
            .into_iter()
            .map(|verdict| {
                server.metrics.vendor(self.config.vendor.name(), verdict.class.name(), 1);
                match retry(verdict.class, attempt, verdict.retry_after, roll()) {
                    Some(pause) if now + pause < expires_at => Once::Again(pause),
                    next => {
                        let expired = next.is_some();
                        Once::Said(Said { expired, ..self.judge(verdict, now) })
                    }
                }
            })
            .collect();
        let pause = said.iter().filter_map(|said| match said {
            Once::Again(pause) => Some(*pause),
            Once::Said(_) => None,
        });
        if let Some(pause) = pause.max() {
            self.not_before.fetch_max(now + pause, Ordering::AcqRel);
        }
        // A part that is sent again is another call than the whole.
        if said.iter().any(|said| matches!(said, Once::Said(_))) {
            *key = None;
        }
        said
    }

    /// Whether a batch was refused as one for what may be the fault of one token in it.
    fn spoiled(&self, verdicts: &[Verdict]) -> bool {
        let bad = |verdict: &Verdict| {
            verdict.class == Class::Payload && verdict.code.as_deref() == Some(JPUSH_BAD_AUDIENCE)
        };
        self.config.vendor == Vendor::Jpush && verdicts.len() > 1 && verdicts.iter().all(bad)
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
        // The semaphore is never closed.
        let Ok(_permit) = self.permits.acquire().await else {
            return all(Verdict::of(Class::Server));
        };
        self.ready(server, turn.expires_at).await;
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
                let verdicts = self.sender.send(&self.channel, &request, tokens).await;
                if verdicts.iter().any(|verdict| verdict.class == Class::Ok) {
                    self.succeeded.fetch_max(server.clock.now(), Ordering::AcqRel);
                }
                verdicts
            }
            Err(unfit) => {
                all(Verdict { code: Some(unfit.to_string()), ..Verdict::of(Class::Payload) })
            }
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

    /// What a final verdict means. A vendor that calls a token dead is believed at once if nothing
    /// else can explain it, else only if it took other messages of late.
    fn judge(&self, verdict: Verdict, now: i64) -> Said {
        let vouched = now - self.succeeded.load(Ordering::Acquire) < VOUCHED_MICROS;
        let bury = verdict.class == Class::Dead && (!verdict.suspect || vouched);
        let Verdict { class, since, id, code, .. } = verdict;
        Said { bury, since, ..Said::of(class, id.or(code)) }
    }
}

/// A random number from 0 to 1.
fn roll() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}
