//! APNs: `POST /3/device/{token}` over HTTP/2, with a provider token (ES256) that is checked and
//! has to be kept for 20 to 60 minutes on a connection. Where Apple only warns, this refuses: a
//! push without `apns-push-type`, and a background push that is not of priority 5.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Books, Call, Fake, Fault, Mode, Purpose, Reply, Taken, TokenFault, Vendor};

/// Hexadecimal digits of a device token.
const TOKEN_DIGITS: usize = 64;
/// Bytes of a payload, at most; and of one for `voip`.
const PAYLOAD_BYTES_MAX: usize = 4_096;
const VOIP_BYTES_MAX: usize = 5_120;
/// Bytes of `apns-collapse-id`, at most.
const COLLAPSE_BYTES_MAX: usize = 64;
/// How old a provider token may be, in seconds.
const PROVIDER_SECONDS_MAX: i64 = 3_600;
/// How far the sender's clock may be ahead, in seconds.
const SKEW_SECONDS: i64 = 300;
/// How long a provider token has to be used on a connection, in milliseconds.
const PROVIDER_MS_MIN: i64 = 20 * 60 * 1_000;
/// Provider tokens remembered as checked; then all are forgotten.
const CHECKED_MAX: usize = 1_000;
/// Headers that may be there once.
const ONCE: [&str; 6] = [
    "apns-topic",
    "apns-id",
    "apns-push-type",
    "apns-priority",
    "apns-expiration",
    "apns-collapse-id",
];
/// Push types, and what follows the bundle id in their topics.
const PUSH_TYPES: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("location", ".location-query"),
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("mdm", ""),
    ("liveactivity", ".push-type.liveactivity"),
    ("pushtotalk", ".voip-ptt"),
    ("controls", ".push-type.controls"),
    ("widgets", ".push-type.widgets"),
];

/// A team's signing key and its apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApnsCredentials {
    /// `iss` of a provider token.
    pub team_id: String,
    /// `kid` of a provider token.
    pub key_id: String,
    /// The key, in PEM, as a `.p8` file. It is a key for tests, the same in every process.
    pub private_key: String,
    /// Bundle ids of the team.
    pub topics: Vec<String>,
}

/// The vendor's rules and memory.
pub struct Apns {
    credentials: ApnsCredentials,
    public_key: &'static [u8],
    /// Provider tokens that were checked, with their `iat`; `i64::MIN` for one that is over.
    checked: Mutex<HashMap<String, i64>>,
    sent: AtomicU64,
}

impl Default for Apns {
    fn default() -> Self {
        Self {
            credentials: ApnsCredentials {
                team_id: "TEAM000001".to_owned(),
                key_id: "KEY0000001".to_owned(),
                private_key: include_str!("../../keys/apns.p8").to_owned(),
                topics: vec!["com.example.app".to_owned()],
            },
            public_key: include_bytes!("../../keys/apns.pub.pem"),
            checked: Mutex::default(),
            sent: AtomicU64::new(0),
        }
    }
}

impl Fake<Apns> {
    /// Who may push.
    #[must_use]
    pub fn credentials(&self) -> &ApnsCredentials {
        &self.house.vendor.credentials
    }
}

/// A refusal: status and reason.
struct Refused(u16, &'static str);

/// A good request.
struct Push<'a> {
    token: &'a str,
}

impl Vendor for Apns {
    const NAME: &'static str = "apns";
    const HTTP2: bool = true;

    fn purpose(&self, path: &str) -> Purpose {
        if path.starts_with("/3/device") { Purpose::Push } else { Purpose::Other }
    }

    fn take(&self, call: &Call<'_>, books: &Books) -> Taken {
        let id = call.header("apns-id").map_or_else(|| self.new_id(), str::to_owned);
        let pushed = self.look(call, books).and_then(|push| self.send(&push, call, books));
        match pushed {
            Ok(taken) => Taken { reply: taken.reply.with("apns-id", id), ..taken },
            Err(reply) => reply.with("apns-id", id).into(),
        }
    }

    fn refuse(&self, fault: &Fault, call: &Call<'_>, books: &Books) -> Reply {
        let (refused, retry_after) = match fault {
            Fault::AuthExpired => {
                if let Some(token) = call.authorization("bearer") {
                    self.note(token, i64::MIN);
                }
                (Refused(403, "ExpiredProviderToken"), None)
            }
            Fault::TooMany { retry_after_seconds } => {
                (Refused(429, "TooManyRequests"), *retry_after_seconds)
            }
            Fault::Quota => (Refused(429, "TooManyRequests"), None),
            Fault::Status { status: 503, retry_after_seconds } => {
                (Refused(503, "ServiceUnavailable"), *retry_after_seconds)
            }
            Fault::Status { status, retry_after_seconds } => {
                (Refused(*status, "InternalServerError"), *retry_after_seconds)
            }
            _ => return self.take(call, books).reply,
        };
        let id = call.header("apns-id").map_or_else(|| self.new_id(), str::to_owned);
        reply(refused).retry_after(retry_after).with("apns-id", id)
    }
}

fn reply(Refused(status, reason): Refused) -> Reply {
    Reply::json(status, &json!({ "reason": reason }))
}

impl Apns {
    fn new_id(&self) -> String {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        format!("EC1BF194-B3B2-424A-89A9-{number:012X}")
    }

    fn look<'a>(&self, call: &Call<'a>, books: &Books) -> Result<Push<'a>, Reply> {
        self.looked(call, books).map_err(reply)
    }

    fn looked<'a>(&self, call: &Call<'a>, books: &Books) -> Result<Push<'a>, Refused> {
        let Some(token) = call.path.strip_prefix("/3/device") else {
            return Err(Refused(404, "BadPath"));
        };
        if call.method != Method::POST {
            return Err(Refused(405, "MethodNotAllowed"));
        }
        let token = token.strip_prefix('/').unwrap_or_default();
        if token.is_empty() {
            return Err(Refused(400, "MissingDeviceToken"));
        }
        self.authenticate(call, books)?;
        self.check_headers(call)?;
        if token.len() != TOKEN_DIGITS || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refused(400, "BadDeviceToken"));
        }
        check_payload(call, books)?;
        Ok(Push { token })
    }

    fn authenticate(&self, call: &Call<'_>, books: &Books) -> Result<(), Refused> {
        let Some(token) = call.authorization("bearer") else {
            return Err(Refused(403, "MissingProviderToken"));
        };
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = checked.get(token).copied();
        drop(checked);
        let issued = match known {
            Some(issued) => issued,
            None => {
                let issued = self.verify(token).ok_or(Refused(403, "InvalidProviderToken"))?;
                self.note(token, issued);
                issued
            }
        };
        let now = books.clock.now_seconds();
        if issued > now + SKEW_SECONDS {
            return Err(Refused(403, "InvalidProviderToken"));
        }
        if issued < now - PROVIDER_SECONDS_MAX {
            return Err(Refused(403, "ExpiredProviderToken"));
        }
        let now_ms = books.clock.now_ms();
        let last = &call.connection.credential;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((used, _)) if used == token => Ok(()),
            Some((used, since)) if now_ms - since < PROVIDER_MS_MIN && !self.is_over(used) => {
                Err(Refused(429, "TooManyProviderTokenUpdates"))
            }
            _ => {
                *last = Some((token.to_owned(), now_ms));
                Ok(())
            }
        }
    }

    /// When a provider token was issued, in seconds since the epoch; none if it is not ours.
    fn verify(&self, token: &str) -> Option<i64> {
        let header = decode_header(token).ok()?;
        let mut validation = Validation::new(Algorithm::ES256);
        // It has no time at which it ends.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let key = DecodingKey::from_ec_pem(self.public_key).ok()?;
        let claims = decode::<Provider>(token, &key, &validation).ok()?.claims;
        let ours = header.kid.as_deref() == Some(&*self.credentials.key_id)
            && claims.iss == self.credentials.team_id;
        ours.then_some(claims.iat)
    }

    fn note(&self, token: &str, issued: i64) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(token.to_owned(), issued);
    }

    /// Whether a token was ended on demand: its sender has to make another at once.
    fn is_over(&self, token: &str) -> bool {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(token) == Some(&i64::MIN)
    }

    fn check_headers(&self, call: &Call<'_>) -> Result<(), Refused> {
        if ONCE.iter().any(|name| call.headers.get_all(*name).iter().count() > 1) {
            return Err(Refused(400, "DuplicateHeaders"));
        }
        let topic = call.header("apns-topic").ok_or(Refused(400, "MissingTopic"))?;
        let push_type = call.header("apns-push-type").unwrap_or_default();
        let known = PUSH_TYPES.iter().find(|(name, _)| *name == push_type);
        let (_, suffix) = known.ok_or(Refused(400, "InvalidPushType"))?;
        let bundle = topic.strip_suffix(suffix).ok_or(Refused(400, "BadTopic"))?;
        if !self.credentials.topics.iter().any(|topic| topic == bundle) {
            return Err(Refused(400, "TopicDisallowed"));
        }
        if call.header("apns-id").is_some_and(|id| !is_uuid(id)) {
            return Err(Refused(400, "BadMessageId"));
        }
        let expiration = call.header("apns-expiration");
        if expiration.is_some_and(|seconds| seconds.parse::<u64>().is_err()) {
            return Err(Refused(400, "BadExpirationDate"));
        }
        let priority = call.header("apns-priority").unwrap_or("10");
        let quiet = push_type == "background";
        if !["1", "5", "10"].contains(&priority) || (quiet && priority != "5") {
            return Err(Refused(400, "BadPriority"));
        }
        if call.header("apns-collapse-id").is_some_and(|id| id.len() > COLLAPSE_BYTES_MAX) {
            return Err(Refused(400, "BadCollapseId"));
        }
        Ok(())
    }

    fn send(&self, push: &Push<'_>, call: &Call<'_>, books: &Books) -> Result<Taken, Reply> {
        let token = || std::iter::once(push.token);
        let faults = books.faults(call, token());
        if let Some(fault) = faults[0] {
            books.refuse(1);
            return Err(refused_token(fault, books));
        }
        let tokens = books.accept(token(), &faults);
        Ok(Taken { reply: Reply::empty(200), tokens })
    }
}

fn check_payload(call: &Call<'_>, books: &Books) -> Result<(), Refused> {
    if call.body.is_empty() {
        return Err(Refused(400, "PayloadEmpty"));
    }
    let voip = call.header("apns-push-type") == Some("voip");
    if call.body.len() > if voip { VOIP_BYTES_MAX } else { PAYLOAD_BYTES_MAX } {
        return Err(Refused(413, "PayloadTooLarge"));
    }
    if books.mode == Mode::Load {
        return Ok(());
    }
    // Apple names no reason for a payload that is not an object; it has none in it.
    let payload: Value = serde_json::from_slice(call.body).unwrap_or_default();
    match payload.as_object() {
        Some(members) if !members.is_empty() => Ok(()),
        _ => Err(Refused(400, "PayloadEmpty")),
    }
}

fn refused_token(fault: TokenFault, books: &Books) -> Reply {
    let since = match fault {
        TokenFault::DeadSince(since) => since,
        _ => books.clock.now_ms(),
    };
    match fault {
        TokenFault::Dead | TokenFault::DeadSince(_) => {
            Reply::json(410, &json!({"reason": "Unregistered", "timestamp": since}))
        }
        TokenFault::Malformed => reply(Refused(400, "BadDeviceToken")),
        TokenFault::WrongApp => reply(Refused(400, "DeviceTokenNotForTopic")),
        TokenFault::Throttled => reply(Refused(429, "TooManyRequests")),
        TokenFault::Unavailable => reply(Refused(503, "ServiceUnavailable")),
    }
}

#[derive(Deserialize)]
struct Provider {
    iss: String,
    iat: i64,
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let digits = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    digits && lengths.eq([8, 4, 4, 4, 12])
}
