//! What a fake vendor knows and writes down: its time, the faults of tokens, the requests it got,
//! and how often each token was accepted. Vendors read and write it, tests read it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::Notify;

use super::{Call, Fault, Mode, Options, TokenFault, VendorClock, fault::TokenFaults, token_hash};

/// A request as it came, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    /// When it came, in milliseconds since the epoch by the vendor's clock.
    pub at_ms: i64,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The answer's status; none if the connection was reset instead.
    pub status: Option<u16>,
    /// How many tokens were accepted.
    pub tokens_accepted: usize,
    /// The planned fault it met.
    pub fault: Option<Fault>,
}

impl Recorded {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `null` if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Connections that were opened.
    pub connections: u64,
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Requests that have no answer yet.
    pub in_flight: u64,
    /// The most of them at one time.
    pub in_flight_most: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests that met a planned fault.
    pub faults: u64,
    /// Pushes of which at least one token was accepted, or that had another kind of audience.
    pub pushes_accepted: u64,
    /// Tokens accepted, each as often as it was.
    pub tokens_accepted: u64,
    /// Different tokens accepted.
    pub tokens_distinct: u64,
    /// Acceptances of tokens that had been accepted before.
    pub tokens_repeated: u64,
    /// Tokens refused.
    pub tokens_refused: u64,
    /// Acceptances that were not counted by token, as there were too many of them.
    pub tokens_uncounted: u64,
}

/// The hash of a token is its own hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Default)]
struct Pages {
    stats: Stats,
    requests: VecDeque<Recorded>,
    /// Acceptances by the token's hash: two of a million tokens meet once in 30 million runs.
    accepted: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
}

/// A vendor's notes.
pub struct Books {
    /// How closely requests are looked at.
    pub mode: Mode,
    /// The vendor's time.
    pub clock: VendorClock,
    pub(super) tokens: TokenFaults,
    requests_kept: usize,
    tokens_counted: usize,
    pages: Mutex<Pages>,
    changed: Notify,
}

impl Books {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            mode: options.mode,
            clock: options.clock.clone(),
            tokens: TokenFaults::new(options.token_rules.clone()),
            requests_kept: options.requests_kept,
            tokens_counted: options.tokens_counted,
            pages: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// What is wrong with the tokens of a request, in their order.
    pub fn faults<'a>(
        &self,
        call: &Call<'_>,
        tokens: impl Iterator<Item = &'a str>,
    ) -> Vec<Option<TokenFault>> {
        let mut faults = self.tokens.of(tokens);
        if let Some(Fault::Failing { tokens, how }) = call.fault {
            faults.iter_mut().take(*tokens).for_each(|fault| *fault = Some(*how));
        }
        faults
    }

    /// Accepts a push to the tokens that have no fault; gives their number.
    pub fn accept<'a>(
        &self,
        tokens: impl Iterator<Item = &'a str>,
        faults: &[Option<TokenFault>],
    ) -> usize {
        let mut pages = self.pages();
        let Pages { stats, accepted, .. } = &mut *pages;
        let (mut number, mut refused) = (0, 0);
        for (token, fault) in tokens.zip(faults) {
            if fault.is_some() {
                refused += 1;
                continue;
            }
            number += 1;
            if accepted.len() >= self.tokens_counted {
                stats.tokens_uncounted += 1;
                continue;
            }
            let times = accepted.entry(token_hash(token)).or_default();
            *times += 1;
            stats.tokens_repeated += u64::from(*times > 1);
        }
        stats.tokens_distinct = accepted.len() as u64;
        stats.tokens_accepted += number as u64;
        stats.tokens_refused += refused;
        number
    }

    /// Accepts a push that names no tokens.
    pub fn accept_audience(&self) {
        self.pages().stats.pushes_accepted += 1;
    }

    /// Notes that tokens were refused.
    pub fn refuse(&self, tokens: usize) {
        self.pages().stats.tokens_refused += tokens as u64;
    }

    pub(super) fn opened(&self) {
        self.pages().stats.connections += 1;
    }

    pub(super) fn begun(&self) {
        let stats = &mut self.pages().stats;
        stats.requests += 1;
        stats.in_flight += 1;
        stats.in_flight_most = stats.in_flight_most.max(stats.in_flight);
    }

    pub(super) fn ended(&self) {
        self.pages().stats.in_flight -= 1;
        self.changed.notify_waiters();
    }

    /// Writes a request down, with the status of its answer. A push counts as accepted from then on,
    /// so that who sees it counted finds it among the requests.
    pub(super) fn record(&self, call: &Call<'_>, status: Option<u16>, tokens_accepted: usize) {
        let recorded = (self.requests_kept > 0).then(|| self.recorded(call, status));
        let mut pages = self.pages();
        if let Some(status) = status {
            *pages.stats.answers.entry(status).or_default() += 1;
        }
        pages.stats.faults += u64::from(call.fault.is_some());
        pages.stats.pushes_accepted += u64::from(tokens_accepted > 0);
        if let Some(recorded) = recorded {
            if pages.requests.len() >= self.requests_kept {
                pages.requests.pop_front();
            }
            pages.requests.push_back(Recorded { tokens_accepted, ..recorded });
        }
        drop(pages);
        self.changed.notify_waiters();
    }

    fn recorded(&self, call: &Call<'_>, status: Option<u16>) -> Recorded {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = call.headers.iter();
        Recorded {
            at_ms: self.clock.now_ms(),
            version: format!("{:?}", call.version),
            method: call.method.to_string(),
            path: call.query.map_or(call.path.to_owned(), |query| format!("{}?{query}", call.path)),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: text(call.body),
            status,
            tokens_accepted: 0,
            fault: call.fault.cloned(),
        }
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.pages().requests.iter().cloned().collect()
    }

    pub(super) fn stats(&self) -> Stats {
        self.pages().stats.clone()
    }

    pub(super) fn accepted(&self, token: &str) -> u32 {
        self.pages().accepted.get(&token_hash(token)).copied().unwrap_or_default()
    }

    /// Waits until the counters are such.
    pub(super) async fn until(&self, reached: impl Fn(&Stats) -> bool) -> Stats {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let stats = self.stats();
            if reached(&stats) {
                return stats;
            }
            changed.await;
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
