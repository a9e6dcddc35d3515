//! JPush v3: `POST /v3/push`, `/v3/push/validate` and the pool of cids. Static Basic credentials;
//! dead registration ids are not told, they only are not reached: a push that reaches nobody is
//! code 1011. Where the vendor is silent, this is stricter than it may be: any unknown member is
//! 1009, and a body of another type than JSON is 1003.

mod body;
mod cids;

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    body::{Push, Refused},
    cids::{Answer, Cids},
};
use super::{Books, Call, Fake, Fault, Mode, Purpose, Reply, Taken, TokenFault, Vendor};

/// Hexadecimal digits of an app key.
const APP_KEY_DIGITS: usize = 24;
/// Cids asked for at once, at most.
const CIDS_AT_ONCE_MAX: u32 = 1_000;
/// Message ids remembered for `override_msg_id`, at most.
const MESSAGES_KEPT: usize = 100_000;
/// The window of the rate limit, in milliseconds.
const WINDOW_MS: i64 = 60_000;
/// The limit that the rate headers tell if none is set: that of a free app.
const FREE_PER_MINUTE: u32 = 600;
/// The first message id.
const FIRST_MESSAGE: u64 = 18_100_800_000_000_000;

/// Who may push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JpushCredentials {
    /// 24 hexadecimal digits.
    pub app_key: String,
    /// The same.
    pub master_secret: String,
}

impl Default for JpushCredentials {
    fn default() -> Self {
        let app_key = "5aa1e0c0ffee5aa1e0c0ffee".to_owned();
        Self { app_key, master_secret: "7e57feed0d0e7e57feed0d0e".to_owned() }
    }
}

/// The vendor's rules and memory.
#[derive(Default)]
pub struct Jpush {
    credentials: JpushCredentials,
    /// Pushes a minute; without it there is no limit.
    per_minute: Option<u32>,
    cids: Cids,
    sent: AtomicU64,
    messages: Mutex<HashSet<u64>>,
    /// When the window began, and pushes in it.
    window: Mutex<(i64, u32)>,
}

impl Jpush {
    /// The same for another app.
    #[must_use]
    pub fn with_credentials(self, credentials: JpushCredentials) -> Self {
        Self { credentials, ..self }
    }

    /// The same with at most so many pushes a minute.
    #[must_use]
    pub fn with_limit(self, per_minute: u32) -> Self {
        Self { per_minute: Some(per_minute), ..self }
    }
}

impl Fake<Jpush> {
    /// Who may push.
    #[must_use]
    pub fn credentials(&self) -> &JpushCredentials {
        &self.house.vendor.credentials
    }
}

impl Vendor for Jpush {
    const NAME: &'static str = "jpush";

    fn purpose(&self, path: &str) -> Purpose {
        match path {
            "/v3/push" | "/v3/push/validate" => Purpose::Push,
            _ => Purpose::Other,
        }
    }

    fn take(&self, call: &Call<'_>, books: &Books) -> Taken {
        match self.answer(call, books) {
            Ok(taken) => taken,
            Err(Refused(code, text)) => refusal(code, &text).into(),
        }
        .with(self.rate_headers(books))
    }

    fn refuse(&self, fault: &Fault, call: &Call<'_>, books: &Books) -> Reply {
        let reply = match fault {
            Fault::TooMany { retry_after_seconds } => {
                refusal(2002, "too many requests").retry_after(*retry_after_seconds)
            }
            Fault::Quota => refusal(1012, "the quota is used up"),
            Fault::AuthExpired => refusal(1004, "authentication failed"),
            Fault::Status { status: 503, retry_after_seconds } => {
                refusal(1030, "internal time-out").retry_after(*retry_after_seconds)
            }
            Fault::Status { status, retry_after_seconds } => {
                let body = json!({"error": {"code": 1000, "message": "system internal error"}});
                Reply::json(*status, &body).retry_after(*retry_after_seconds)
            }
            _ => return self.take(call, books).reply,
        };
        Taken::from(reply).with(self.rate_headers(books)).reply
    }
}

impl Taken {
    fn with(mut self, headers: Vec<(&'static str, String)>) -> Self {
        self.reply.headers.extend(headers);
        self
    }
}

impl Jpush {
    fn answer(&self, call: &Call<'_>, books: &Books) -> Result<Taken, Refused> {
        let validates = call.path == "/v3/push/validate";
        if call.path == "/v3/push/cid" && call.method == Method::GET {
            self.authenticate(call)?;
            return self.issue(call, books);
        }
        if !validates && call.path != "/v3/push" {
            return Ok(Reply::empty(404).into());
        }
        if call.method != Method::POST {
            return Err(Refused(1001, "POST only".to_owned()));
        }
        self.authenticate(call)?;
        self.count(books)?;
        if books.mode == Mode::Load {
            return self.push(&body::load(call.body)?, call, books, validates);
        }
        if call.media_type() != "application/json" {
            return Err(Refused(1003, "Content-Type is not application/json".to_owned()));
        }
        self.push(&body::strict(call.body)?, call, books, validates)
    }

    fn authenticate(&self, call: &Call<'_>) -> Result<(), Refused> {
        let failed = || Refused(1004, "authentication failed".to_owned());
        let given = call.authorization("Basic").ok_or_else(failed)?;
        let given = STANDARD.decode(given).map_err(|_| failed())?;
        let given = String::from_utf8(given).map_err(|_| failed())?;
        let (app_key, secret) = given.split_once(':').ok_or_else(failed)?;
        let digits = app_key.len() == APP_KEY_DIGITS;
        if !digits || !app_key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refused(1008, "app_key is none".to_owned()));
        }
        let JpushCredentials { app_key: own_key, master_secret } = &self.credentials;
        if app_key == own_key && secret == master_secret { Ok(()) } else { Err(failed()) }
    }

    /// Counts a push in the window of its minute.
    fn count(&self, books: &Books) -> Result<(), Refused> {
        let now = books.clock.now_ms();
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now - window.0 >= WINDOW_MS {
            *window = (now, 0);
        }
        window.1 += 1;
        match self.per_minute {
            Some(limit) if window.1 > limit => Err(Refused(2002, "too many requests".to_owned())),
            _ => Ok(()),
        }
    }

    /// The documents and the current SDK differ in the name of the limit: both are sent.
    fn rate_headers(&self, books: &Books) -> Vec<(&'static str, String)> {
        let (began, pushes) = *self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.per_minute.unwrap_or(FREE_PER_MINUTE);
        let reset_ms = (began + WINDOW_MS - books.clock.now_ms()).clamp(0, WINDOW_MS);
        vec![
            ("x-rate-limit-quota", limit.to_string()),
            ("x-rate-limit-limit", limit.to_string()),
            ("x-rate-limit-remaining", limit.saturating_sub(pushes).to_string()),
            ("x-rate-limit-reset", (reset_ms / 1_000).to_string()),
        ]
    }

    fn issue(&self, call: &Call<'_>, books: &Books) -> Result<Taken, Refused> {
        let fields = super::issued::form(call.query.unwrap_or_default().as_bytes());
        let count = fields.get("count").map_or(Ok(1), |count| count.parse());
        let kind = fields.get("type").map_or("push", String::as_str);
        match count {
            Ok(count) if (1..=CIDS_AT_ONCE_MAX).contains(&count) => {
                if !["push", "schedule"].contains(&kind) {
                    return Err(Refused(1003, format!("type {kind}")));
                }
                let app_key = &self.credentials.app_key;
                let list = self.cids.issue(app_key, count, books.clock.now_ms());
                Ok(Reply::json(200, &json!({"cidlist": list})).into())
            }
            _ => Err(Refused(1003, "count is not between 1 and 1000".to_owned())),
        }
    }

    fn push(
        &self,
        push: &Push<'_>,
        call: &Call<'_>,
        books: &Books,
        validates: bool,
    ) -> Result<Taken, Refused> {
        if let Some(id) = push.override_msg_id {
            let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            if !u64::try_from(id).is_ok_and(|id| messages.contains(&id)) {
                return Err(Refused(1003, format!("override_msg_id {id} is unknown")));
            }
        }
        let Some(cid) = push.cid.as_deref() else {
            return self.send(push, call, books, validates);
        };
        let from_pool = books.mode == Mode::Strict;
        let mut known = self.cids.lock();
        match known.answer(cid, &self.credentials.app_key, from_pool, books.clock.now_ms()) {
            Answer::Unknown => Err(Refused(1003, format!("cid {cid} is not of the pool"))),
            Answer::Earlier(body) => Ok(Reply::json(200, &body).into()),
            Answer::New => {
                let taken = self.send(push, call, books, validates)?;
                if !validates && taken.reply.status == 200 {
                    let body = serde_json::from_slice(&taken.reply.body).unwrap_or(Value::Null);
                    known.note(cid, body, books.clock.now_ms());
                }
                Ok(taken)
            }
        }
    }

    fn send(
        &self,
        push: &Push<'_>,
        call: &Call<'_>,
        books: &Books,
        validates: bool,
    ) -> Result<Taken, Refused> {
        let tokens = push.tokens.as_deref();
        let targets = || tokens.unwrap_or_default().iter().map(AsRef::as_ref);
        let mut faults = books.faults(call, targets());
        for (token, fault) in targets().zip(&mut faults) {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if !token.bytes().all(good) {
                *fault = Some(TokenFault::Malformed);
            }
        }
        if let Some(refused) = refused_by_tokens(&faults) {
            books.refuse(faults.len());
            return Err(refused);
        }
        let id = FIRST_MESSAGE + self.sent.fetch_add(1, Ordering::Relaxed);
        let body = json!({"sendno": push.sendno.to_string(), "msg_id": id.to_string()});
        if validates {
            return Ok(Reply::json(200, &body).into());
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() < MESSAGES_KEPT {
            messages.insert(id);
        }
        drop(messages);
        if tokens.is_none() {
            books.accept_audience();
        }
        let tokens = books.accept(targets(), &faults);
        Ok(Taken { reply: Reply::json(200, &body), tokens })
    }
}

fn refused_by_tokens(faults: &[Option<TokenFault>]) -> Option<Refused> {
    if faults.contains(&Some(TokenFault::Throttled)) {
        return Some(Refused(2002, "too many requests".to_owned()));
    }
    if faults.contains(&Some(TokenFault::Unavailable)) {
        return Some(Refused(1030, "internal time-out".to_owned()));
    }
    if faults == [Some(TokenFault::Malformed)] {
        return Some(Refused(1003, "registration_id is illegal".to_owned()));
    }
    let nobody = !faults.is_empty() && faults.iter().all(Option::is_some);
    nobody.then(|| Refused(1011, "cannot find user by this audience".to_owned()))
}

fn refusal(code: u16, text: &str) -> Reply {
    let status = match code {
        1000 => 500,
        1001 => 405,
        1004 => 401,
        1020 => 404,
        1030 => 503,
        2002 => 429,
        2003..=2007 => 403,
        _ => 400,
    };
    Reply::json(status, &json!({"error": {"code": code, "message": text}}))
}
