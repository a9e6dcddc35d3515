//! Push vendors, as policies see them: what they can tell us, what their answers mean, and when to
//! try again. How each is spoken to is in `src/delivery/channel` of the shell; which of an app's
//! vendors a device has is found by configuration, not here.
//!
//! Every name here is stored and shown: names are only added.

use serde::{Deserialize, Serialize};

use crate::message::Ending;

/// A push vendor that we can speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// JPush (Jiguang), which itself speaks to other vendors.
    Jpush,
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
    /// Apple Push Notification service.
    Apns,
    /// Huawei Push Kit, for Android and HarmonyOS up to 4.
    Huawei,
}

impl Vendor {
    /// All of them, in the order in which they came.
    pub const ALL: [Vendor; 4] = [Vendor::Jpush, Vendor::Fcm, Vendor::Apns, Vendor::Huawei];

    /// The stable name: in configuration, events, metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Vendor::Jpush => "jpush",
            Vendor::Fcm => "fcm",
            Vendor::Apns => "apns",
            Vendor::Huawei => "huawei",
        }
    }
}

/// What an answer of a vendor means for one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The vendor took the message. Never: delivered.
    Ok,
    /// The token is gone for good: unbind it, unless the verdict is only a suspicion.
    Dead,
    /// The token is real, but the user, the device or the vendor will not show it now. Stays bound.
    Off,
    /// Our message is wrong for this vendor. No retry, no unbinding.
    Payload,
    /// The access token is too old: get another, once.
    AuthRefresh,
    /// The credential is wrong: the channel stands still until an operator mends it.
    Auth,
    /// App id, package, environment or rights do not fit. For an operator; nothing is unbound.
    Config,
    /// Too fast: wait, then try again.
    Throttled,
    /// Used up until the day, or an operator, resets it. No retry.
    Quota,
    /// The vendor or the network failed: try again.
    Server,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 10] = [
        Class::Ok,
        Class::Dead,
        Class::Off,
        Class::Payload,
        Class::AuthRefresh,
        Class::Auth,
        Class::Config,
        Class::Throttled,
        Class::Quota,
        Class::Server,
    ];

    /// The stable name: in events, statistics, metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Dead => "dead",
            Class::Off => "off",
            Class::Payload => "payload",
            Class::AuthRefresh => "auth_refresh",
            Class::Auth => "auth",
            Class::Config => "config",
            Class::Throttled => "throttled",
            Class::Quota => "quota",
            Class::Server => "server",
        }
    }
}

impl Class {
    /// Why a delivery ends that a vendor answered so, for good; `None` when it took the message.
    #[must_use]
    pub fn ending(self) -> Option<Ending> {
        match self {
            Class::Ok => None,
            Class::Dead => Some(Ending::DeadToken),
            Class::Off => Some(Ending::Muted),
            Class::Payload => Some(Ending::Unfit),
            Class::AuthRefresh | Class::Auth | Class::Config => Some(Ending::Misconfigured),
            Class::Quota => Some(Ending::QuotaExhausted),
            Class::Throttled | Class::Server => Some(Ending::VendorUnavailable),
        }
    }
}

/// Why a notification cannot be sent over a channel, found before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// The vendor takes no payload as large as this.
    #[error("the payload is too large for this channel")]
    TooLarge,
    /// There is no token to send to.
    #[error("no token")]
    NoToken,
    /// More tokens than one call of this vendor takes.
    #[error("more tokens than one call takes")]
    TooManyTokens,
    /// The token cannot be one of this vendor's.
    #[error("the token is not of this vendor's form")]
    MalformedToken,
    /// `ext` has a name that the vendor keeps to itself.
    #[error("a name in ext is reserved by the vendor")]
    ReservedName,
    /// A value in the vendor's own object has a form that the vendor cannot be sent.
    #[error("a value in the vendor's object cannot be sent")]
    BadOverride,
}

/// What a channel can tell of a message after it was handed over. What it cannot tell is
/// unobservable, not pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observes {
    /// That the device has it.
    pub received: bool,
    /// That it was shown.
    pub displayed: bool,
    /// That its user answered it.
    pub clicked: bool,
}

/// The online channel: acknowledgements say received, reports say displayed and answered.
pub const ONLINE: Observes = Observes { received: true, displayed: true, clicked: true };

/// What a vendor is bound to tell, so that its silence says something. JPush has reports to be asked
/// for and, for paying customers, callbacks of a form that is not public; FCM and APNs have nothing
/// for a single message. Huawei has receipts, if its console is set up for them, which nothing here can
/// know: what they say is counted, and what they do not say remains unknown. What the device itself
/// reports over our API counts apart from this.
#[must_use]
pub fn capabilities(vendor: Vendor) -> Observes {
    match vendor {
        Vendor::Jpush | Vendor::Fcm | Vendor::Apns | Vendor::Huawei => {
            Observes { received: false, displayed: false, clicked: false }
        }
    }
}

/// Attempts of one delivery over one vendor, the first included. They span about an hour.
pub const MAX_ATTEMPTS: u32 = 10;
/// Pause after the first attempt, in µs. FCM asks for 10 s at least.
pub const FIRST_PAUSE_MICROS: i64 = 10_000_000;
/// The same, in µs, while the vendor does not count as away: it may well take the call at once. Not
/// for FCM.
pub const FIRST_QUICK_PAUSE_MICROS: i64 = 500_000;
/// Attempts after which the pause may be such a short one.
pub const QUICK_ATTEMPTS: u32 = 2;
/// Calls that fail one after the other until a vendor counts as away.
pub const AWAY_CALLS: u32 = 32;
/// How long no call succeeds until it does, in µs.
pub const AWAY_MICROS: i64 = 5_000_000;
/// Longest pause that we choose, in µs, without its random part.
pub const MAX_PAUSE_MICROS: i64 = 600_000_000;
/// Longest pause that a vendor may ask for, in µs, without its random part.
pub const MAX_RETRY_AFTER_MICROS: i64 = 3_600_000_000;

/// How long to wait before the next attempt, in µs, or `None` when there is none.
///
/// `attempt` counts those made, from 1. `retry_after` is what the vendor asked for, in µs. `roll`
/// is a random number from 0 to 1; the pause is made up to a half longer by it, so that what failed
/// together does not come back together, and never shorter.
#[must_use]
pub fn retry(class: Class, attempt: u32, retry_after: Option<i64>, roll: f64) -> Option<i64> {
    match class {
        Class::AuthRefresh => (attempt <= 1).then_some(0),
        Class::Throttled | Class::Server if attempt < MAX_ATTEMPTS => {
            let pause = match retry_after {
                Some(asked) => asked.clamp(FIRST_PAUSE_MICROS / 10, MAX_RETRY_AFTER_MICROS),
                None => doubled(FIRST_PAUSE_MICROS, attempt).min(MAX_PAUSE_MICROS),
            };
            Some(pause + jitter(pause / 2, roll))
        }
        Class::Ok
        | Class::Dead
        | Class::Off
        | Class::Payload
        | Class::Auth
        | Class::Config
        | Class::Throttled
        | Class::Quota
        | Class::Server => None,
    }
}

/// What a first pause has grown to after so many attempts.
fn doubled(first: i64, attempt: u32) -> i64 {
    first << attempt.saturating_sub(1).min(MAX_ATTEMPTS)
}

/// What calls to one vendor came to of late: whether it is there, and until when it is left alone.
///
/// One that asks for a pause, or that is away, is left alone with everything. One that is there has
/// failed a single call, and that call alone waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    /// When a call last succeeded, in µs.
    succeeded_at: Option<i64>,
    /// Calls that failed since, and when the first of them did, in µs.
    failed: u32,
    failing_since: i64,
    /// No call begins before this time, in µs.
    not_before: i64,
}

impl Health {
    /// No call begins before this time, in µs.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Whether a call succeeded within so many µs.
    #[must_use]
    pub fn succeeded_within(&self, span: i64, now: i64) -> bool {
        self.succeeded_at.is_some_and(|at| now - at < span)
    }

    /// Whether nothing has got through for a while.
    #[must_use]
    pub fn away(&self, now: i64) -> bool {
        self.failed >= AWAY_CALLS || (self.failed > 0 && now - self.failing_since >= AWAY_MICROS)
    }

    /// A call succeeded.
    pub fn succeeded(&mut self, now: i64) {
        self.succeeded_at = self.succeeded_at.max(Some(now));
        self.failed = 0;
    }

    /// A call failed in a way that may pass.
    pub fn failed(&mut self, now: i64) {
        if self.failed == 0 {
            self.failing_since = now;
        }
        self.failed = self.failed.saturating_add(1);
    }

    /// How long what got such an answer waits before the next attempt, in µs, or `None` when there
    /// is none. [`retry`] says what `attempt`, `retry_after` and `roll` are.
    pub fn put_off(
        &mut self,
        vendor: Vendor,
        (class, retry_after): (Class, Option<i64>),
        attempt: u32,
        (now, roll): (i64, f64),
    ) -> Option<i64> {
        let pause = retry(class, attempt, retry_after, roll)?;
        let alone = class == Class::Server && retry_after.is_none() && !self.away(now);
        if !alone {
            self.not_before = self.not_before.max(now + pause);
            return Some(pause);
        }
        let quick = match vendor {
            // Its guide wants the long pause after whatever failed.
            Vendor::Fcm => false,
            Vendor::Jpush | Vendor::Apns | Vendor::Huawei => attempt <= QUICK_ATTEMPTS,
        };
        let short = doubled(FIRST_QUICK_PAUSE_MICROS, attempt);
        Some(if quick { short + jitter(short / 2, roll) } else { pause })
    }
}

/// A share of a span; anything but a number from 0 to 1 counts as the nearer of the two.
fn jitter(span: i64, roll: f64) -> i64 {
    let roll = if roll.is_nan() { 0.0 } else { roll.clamp(0.0, 1.0) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a span is at most half an hour, far below 2^52 µs"
    )]
    let share = (span as f64 * roll) as i64;
    share
}
