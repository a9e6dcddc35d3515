//! What goes wrong on demand: faults of a request, by script or by share, and faults of a token,
//! decided from the token itself, so that a load run over a million of them needs no table.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, futures::Notified};

/// What happens to a request. Each vendor has its own words for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Refused as one too many in too short a time.
    TooMany {
        /// `Retry-After`, in seconds. JPush, APNs and Huawei never send one.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
    },
    /// Refused with this status, as a fault of the vendor: 500, 502, 503, 504.
    Status {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, in seconds.
        #[serde(default)]
        retry_after_seconds: Option<u32>,
    },
    /// Refused as the quota is used up.
    Quota,
    /// The caller's credential is over. Where it was issued here, it stays over.
    AuthExpired,
    /// Taken at once, and answered after this time, or once the plans are cleared.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// Taken, and then the connection is reset before the answer.
    Reset,
    /// The connection is reset and nothing was taken.
    Lost,
    /// The first tokens of the request fail in this way, as if they were such tokens.
    Failing {
        /// How many; 1 for vendors with one target a request.
        tokens: usize,
        /// How they fail.
        how: TokenFault,
    },
    /// Taken and answered; the connection takes no more requests (GOAWAY, `Connection: close`).
    GoAway,
    /// Answered with exactly this, and not taken.
    Raw {
        /// HTTP status.
        status: u16,
        /// Content type of the body.
        content_type: String,
        /// The body.
        body: String,
    },
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFault {
    /// Gone for good: the app was removed.
    Dead,
    /// Gone for good since that time, in milliseconds since the epoch; APNs tells it.
    DeadSince(i64),
    /// No token of this vendor.
    Malformed,
    /// A token of another app, sender or topic.
    WrongApp,
    /// Too many messages for this token.
    Throttled,
    /// The vendor cannot handle this token now.
    Unavailable,
}

/// A fault that a share of the tokens has.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRule {
    /// Tokens that begin with this, if it is not empty, have the fault.
    pub prefix: String,
    /// Of all tokens this many in a thousand have it, chosen by [`token_hash`].
    pub per_mille: u16,
    /// What they have.
    pub fault: TokenFault,
}

impl TokenRule {
    /// Tokens that begin with this.
    #[must_use]
    pub fn prefix(prefix: &str, fault: TokenFault) -> Self {
        Self { prefix: prefix.to_owned(), per_mille: 0, fault }
    }

    /// So many tokens in a thousand.
    #[must_use]
    pub fn share(per_mille: u16, fault: TokenFault) -> Self {
        Self { prefix: String::new(), per_mille, fault }
    }

    /// Whether this token has the fault.
    #[must_use]
    pub fn holds(&self, token: &str) -> bool {
        (!self.prefix.is_empty() && token.starts_with(&self.prefix))
            || (self.per_mille > 0 && token_hash(token) % 1_000 < u64::from(self.per_mille))
    }
}

/// A number that depends on the token alone, the same in every process.
#[must_use]
pub fn token_hash(token: &str) -> u64 {
    // FNV-1a, then the finaliser of MurmurHash3, as the low bits of the former are poor.
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(token.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// What is planned for the requests of one address.
#[derive(Default)]
pub(crate) struct Plan {
    next: Mutex<VecDeque<Fault>>,
    /// Each with its share in a thousand requests.
    shares: Mutex<Vec<(Fault, u16)>>,
    /// Whether anything was planned, so that a load run looks no further.
    planned: AtomicBool,
    requests: AtomicU64,
    cleared: Notify,
}

impl Plan {
    /// The next requests have these faults, one each.
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.extend(faults);
        self.planned.store(true, Ordering::Relaxed);
    }

    /// So many requests in a thousand have this fault.
    pub(crate) fn add_share(&self, fault: Fault, per_mille: u16) {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.push((fault, per_mille));
        self.planned.store(true, Ordering::Relaxed);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn clear(&self) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.planned.store(false, Ordering::Relaxed);
        self.cleared.notify_waiters();
    }

    /// Waits until nothing goes wrong any more; from when it is called, not from when it is awaited.
    pub(crate) fn cleared(&self) -> Notified<'_> {
        self.cleared.notified()
    }

    /// The fault of the request that comes now.
    pub(crate) fn take(&self) -> Option<Fault> {
        if !self.planned.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(fault) = self.next.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Some(fault);
        }
        let chance = mixed(self.requests.fetch_add(1, Ordering::Relaxed) + 1) % 1_000;
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let mut below = 0;
        for (fault, per_mille) in shares.iter() {
            below += u64::from(*per_mille);
            if chance < below {
                return Some(fault.clone());
            }
        }
        None
    }
}

/// What is wrong with which tokens.
pub(crate) struct TokenFaults {
    rules: Mutex<Vec<TokenRule>>,
    named: Mutex<HashMap<String, TokenFault>>,
}

impl TokenFaults {
    pub(crate) fn new(rules: Vec<TokenRule>) -> Self {
        Self { rules: Mutex::new(rules), named: Mutex::default() }
    }

    pub(crate) fn add(&self, rule: TokenRule) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    pub(crate) fn set(&self, token: &str, fault: Option<TokenFault>) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => named.insert(token.to_owned(), fault),
            None => named.remove(token),
        };
    }

    /// The faults of the tokens in their order.
    pub(crate) fn of<'a>(&self, tokens: impl Iterator<Item = &'a str>) -> Vec<Option<TokenFault>> {
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let by_name = |token: &str| if named.is_empty() { None } else { named.get(token).copied() };
        let by_rule = |token: &str| rules.iter().find(|rule| rule.holds(token)).map(|r| r.fault);
        tokens.map(|token| by_name(token).or_else(|| by_rule(token))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_tokens_is_about_as_large_as_asked_for_and_always_the_same() {
        let rule = TokenRule::share(20, TokenFault::Dead);
        let dead = (0..100_000).filter(|number| rule.holds(&format!("token-{number}"))).count();
        assert!((1_800..2_200).contains(&dead), "{dead}");
        assert_eq!(token_hash("180a0f76070a1b2c3d4"), 14_139_014_244_779_525_526);
    }

    #[test]
    fn planned_faults_come_first_and_once_and_shares_go_on() {
        let plan = Plan::default();
        assert_eq!(plan.take(), None);
        plan.add([Fault::Quota, Fault::Reset]);
        plan.add_share(Fault::Lost, 100);
        assert_eq!((plan.take(), plan.take()), (Some(Fault::Quota), Some(Fault::Reset)));
        let lost = (0..10_000).filter(|_| plan.take() == Some(Fault::Lost)).count();
        assert!((850..1_150).contains(&lost), "{lost}");
        plan.clear();
        assert_eq!(plan.take(), None);
    }
}
