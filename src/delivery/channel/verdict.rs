//! What a vendor's answer means for one token, and what all vendors have in common in saying it.

use chrono::DateTime;
use domain::vendor::Class;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// µs of a second.
const SECOND: i64 = 1_000_000;

/// What became of a call, for one of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it means.
    pub class: Class,
    /// The vendor's own code as text, or the HTTP status if it gave none; absent if there was no
    /// answer.
    pub code: Option<String>,
    /// The vendor's id of the message, if it took it.
    pub id: Option<String>,
    /// How long the vendor wants us to wait, in µs.
    pub retry_after: Option<i64>,
    /// Of [`Class::Dead`]: the vendor would answer the same to every token if app id, environment
    /// or package were wrong. Unbind only if this channel had a success of late.
    pub suspect: bool,
    /// Of [`Class::Dead`]: since when, in µs since the epoch. A token that was bound later lives.
    pub since: Option<i64>,
    /// Of [`Class::Server`]: the vendor may have taken the message all the same.
    pub maybe_delivered: bool,
}

impl Verdict {
    /// A verdict with nothing but its class.
    #[must_use]
    pub fn of(class: Class) -> Verdict {
        Verdict {
            class,
            code: None,
            id: None,
            retry_after: None,
            suspect: false,
            since: None,
            maybe_delivered: false,
        }
    }

    /// The same, with the vendor's code.
    pub(super) fn code(self, code: impl Into<String>) -> Verdict {
        Verdict { code: Some(code.into()), ..self }
    }

    /// The same, as a suspicion.
    pub(super) fn suspect(self, suspect: bool) -> Verdict {
        Verdict { suspect, ..self }
    }

    /// The same, with what the answer's status and headers add to its class.
    pub(super) fn answered(self, status: u16, headers: &HeaderMap) -> Verdict {
        let waits = matches!(self.class, Class::Throttled | Class::Server);
        let retry_after = if waits { retry_after(headers) } else { None };
        // 503 is said before the work is begun; after any other the work may have been done.
        let maybe_delivered = self.class == Class::Server && status != 503;
        Verdict { retry_after: self.retry_after.or(retry_after), maybe_delivered, ..self }
    }
}

/// The same verdict for each token.
pub(super) fn for_all(verdict: Verdict, tokens: &[&str]) -> Vec<Verdict> {
    vec![verdict; tokens.len()]
}

/// What a status means if nothing in the body says more. A success that cannot be read is a fault
/// of whoever sent it.
pub(super) fn by_status(status: u16) -> Verdict {
    let class = match status {
        401 => Class::Auth,
        403 | 404 | 300..=399 => Class::Config,
        408 | 425 => Class::Server,
        429 => Class::Throttled,
        400..=499 => Class::Payload,
        _ => Class::Server,
    };
    Verdict::of(class).code(status.to_string())
}

/// `Retry-After` in µs: seconds, or a date, which is compared with the `Date` of the same answer.
fn retry_after(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(i64::from(seconds) * SECOND);
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    let now = DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?;
    (until - now).num_microseconds().filter(|left| *left >= 0)
}

/// A header that counts seconds, in µs.
pub(super) fn seconds(headers: &HeaderMap, name: &str) -> Option<i64> {
    let seconds: u32 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    Some(i64::from(seconds) * SECOND)
}
