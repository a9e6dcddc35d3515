//! What a kind of callback is made of: which events concern it, how one is worded, how a call is
//! made of some, and what an answer means. Each kind has a file with the same verbs; this one
//! chooses among them. A new kind is its file, a variant of [`Kind`] with its policy, and an arm
//! in each match here. The wording is a matter of the kind alone, so that what many receivers are
//! told is worded once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Recorded,
    app::{CallUrl, TencentConfig, WebhookConfig},
    callback::{Kind, Policy, Reason, Verdict},
};
use projections::Fault;
use reqwest::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use uuid::Uuid;

use super::{antelope, tencent, ucloud, webhook};
use crate::{
    app::Server,
    directory::AppEntry,
    outbound::{Answer, CallError, Limits},
    secrets::MasterKey,
};

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A receiver as its app's configuration has it.
pub struct Endpoint {
    /// What it is called about.
    pub kind: Kind,
    /// Its opaque id, which stays when its URL changes.
    pub receiver: Uuid,
    /// The app.
    app: String,
    /// Where it is.
    pub(super) url: String,
    /// The app's id in the kind's protocol.
    pub(super) wire_id: String,
    /// What calls are signed with.
    pub(super) secrets: Vec<String>,
    /// What a webhook asks for.
    pub(super) webhook: Option<WebhookConfig>,
    /// What an app that speaks Tencent IM wants to be called about.
    tencent: Option<TencentConfig>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({} {})", self.kind.name(), self.receiver)
    }
}

/// What a callback says, or one of several things that it says: the same each time.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// What tells doubles from others, to the receiver.
    pub(super) id: String,
    /// What has the same goes in order.
    pub(super) order: u64,
    /// Its part of the body.
    pub(super) body: Bytes,
    /// Its part of the URL's query, if it has one.
    pub(super) query: String,
}

/// A call, ready to go out.
pub(super) struct Call {
    /// The body.
    pub(super) body: Bytes,
    /// Headers besides the type of the body.
    pub(super) headers: Vec<(&'static str, String)>,
    /// What the URL's query has besides its own.
    pub(super) query: String,
}

/// All receivers of an app, with what their calls are signed with.
#[must_use]
pub fn endpoints(master: &MasterKey, entry: &AppEntry) -> Vec<Arc<Endpoint>> {
    let config = &entry.config;
    let app = || config.app_id.clone();
    let of_app = |kind: Kind, url: &Option<CallUrl>, wire_id: &str, secrets: &[String]| {
        let url = entry.url(url.as_ref()?)?;
        let print = master.fingerprint(&[b"receiver", app().as_bytes(), kind.name().as_bytes()]);
        let receiver = Uuid::parse_str(&print[..32]).unwrap_or_default();
        let (wire_id, secrets) = (wire_id.to_owned(), secrets.to_vec());
        let (webhook, tencent) = (None, None);
        Some(Endpoint { kind, receiver, app: app(), url, wire_id, secrets, webhook, tencent })
    };
    let uplink = &config.uplink;
    let mut all = Vec::new();
    all.extend(of_app(Kind::UcloudUplink, &uplink.callback_url, "", &[]));
    all.extend(of_app(Kind::UcloudReport, &uplink.report_url, "", &[]));
    if let Some(antelope) = &config.antelope {
        let (id, keys) = (&antelope.app_id, &entry.antelope_keys[..]);
        all.extend(of_app(Kind::AntelopeMessage, &antelope.webhook, id, keys));
        all.extend(of_app(Kind::AntelopeState, &antelope.state_webhook, id, keys));
    }
    if let Some(tencent) = &config.tencent {
        let (id, token) = (tencent.sdk_app_id.to_string(), entry.tencent_token.as_slice());
        let found = of_app(Kind::Tencent, &tencent.callback_url, &id, token);
        all.extend(found.map(|own| Endpoint { tencent: Some(tencent.clone()), ..own }));
    }
    all.extend(config.webhooks.iter().filter(|own| !own.disabled).map(|own| Endpoint {
        kind: Kind::Webhook,
        receiver: own.id,
        app: app(),
        // All were opened with the app.
        url: entry.url(&own.url).unwrap_or_default(),
        wire_id: String::new(),
        secrets: entry.webhook_secrets.get(&own.id).cloned().unwrap_or_default(),
        webhook: Some(own.clone()),
        tencent: None,
    }));
    all.into_iter().map(Arc::new).collect()
}

impl Endpoint {
    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Whether an event of its app may lead to a callback. Cheap: it is asked for every event.
    pub(super) fn concerns(&self, recorded: &Recorded) -> bool {
        match self.kind {
            Kind::UcloudUplink => ucloud::uplink_concerns(recorded),
            Kind::UcloudReport => ucloud::report_concerns(recorded),
            Kind::AntelopeMessage => antelope::message_concerns(recorded),
            Kind::AntelopeState => antelope::state_concerns(recorded),
            Kind::Tencent => {
                self.tencent.as_ref().is_some_and(|own| tencent::concerns(own, recorded))
            }
            Kind::Webhook => webhook::concerns(self, recorded),
        }
    }

    /// Whether calls to it are made as they would be to another.
    pub(super) fn is_called_like(&self, other: &Endpoint) -> bool {
        self.url == other.url && self.secrets == other.secrets
    }

    /// The call about some callbacks, at a time in µs.
    pub(super) fn request(&self, entries: &[Entry], now: i64) -> Result<Request, CallError> {
        let Call { body, headers, query } = match self.kind {
            Kind::UcloudUplink => ucloud::call(0, entries),
            Kind::UcloudReport => ucloud::call(2, entries),
            Kind::AntelopeMessage => antelope::call(self, "device-message", entries),
            Kind::AntelopeState => antelope::call(self, "device-state", entries),
            Kind::Tencent => tencent::call(self, entries, now),
            Kind::Webhook => webhook::call(self, entries, now),
        };
        let url = self.url.parse().map_err(|_| CallError::Scheme)?;
        let mut request = Request::new(Method::POST, tencent::with_query(url, &query));
        let json = HeaderValue::from_static("application/json; charset=utf-8");
        request.headers_mut().insert(CONTENT_TYPE, json);
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value);
            // What is put into headers here is plain: ids, numbers, signatures.
            let value = value.map_err(|error| CallError::Failed(error.to_string()))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    /// What an answer, or none, means, at a time in µs.
    pub(super) fn verdict(&self, answer: &Result<Answer, CallError>, now: i64) -> Verdict {
        let failed = |reason| Verdict::Failed { reason, wait_micros: None };
        match answer {
            Err(CallError::Scheme | CallError::NotAllowed) => failed(Reason::NotAllowed),
            Err(CallError::Time) => failed(Reason::Timeout),
            Err(CallError::Size(_)) => failed(Reason::TooLong),
            Err(CallError::Failed(_)) => failed(Reason::Unreachable),
            Ok(answer) if answer.status.is_redirection() => failed(Reason::Redirected),
            Ok(answer) => match self.kind {
                Kind::UcloudUplink | Kind::UcloudReport => ucloud::verdict(answer),
                Kind::AntelopeMessage | Kind::AntelopeState => antelope::verdict(answer),
                Kind::Tencent => tencent::verdict(answer),
                Kind::Webhook => webhook::verdict(answer, now),
            },
        }
    }

    /// How callbacks to it are delivered.
    pub(super) fn policy(&self) -> Policy {
        match self.kind {
            Kind::Tencent => tencent::policy(self.tencent.as_ref(), self.kind.policy()),
            Kind::UcloudUplink
            | Kind::UcloudReport
            | Kind::AntelopeMessage
            | Kind::AntelopeState
            | Kind::Webhook => self.kind.policy(),
        }
    }

    /// What a call may take.
    pub(super) fn limits(&self) -> Limits {
        let micros = u64::try_from(self.kind.policy().answer_micros).unwrap_or(0);
        // Where the status says it all, what an answer has to say beyond the limit does not matter.
        let cut = match self.kind {
            Kind::UcloudUplink | Kind::UcloudReport => false,
            Kind::AntelopeMessage | Kind::AntelopeState | Kind::Tencent | Kind::Webhook => true,
        };
        Limits { time: Duration::from_micros(micros), bytes: MAX_ANSWER_BYTES, cut }
    }
}

/// Whether wording one needs the database, so that it is not done where events are read.
pub(super) fn is_worded_late(kind: Kind) -> bool {
    match kind {
        Kind::UcloudReport | Kind::Tencent => true,
        Kind::UcloudUplink | Kind::AntelopeMessage | Kind::AntelopeState | Kind::Webhook => false,
    }
}

/// What the callback about an event says, mostly one entry; none if there is nothing to say, or it
/// was erased.
///
/// # Errors
/// [`Fault::Stored`] if it will never be worded; another when the database fails.
pub(super) async fn entries(
    kind: Kind,
    server: &Server,
    recorded: &Recorded,
) -> Result<Vec<Entry>, Fault> {
    let entry = match kind {
        Kind::UcloudUplink => ucloud::uplink_entry(recorded),
        Kind::UcloudReport => return ucloud::report_entries(server, recorded).await,
        Kind::AntelopeMessage => antelope::message_entry(recorded),
        Kind::AntelopeState => antelope::state_entry(recorded),
        Kind::Tencent => tencent::entry(server, recorded).await,
        Kind::Webhook => webhook::entry(recorded),
    };
    entry.map(|entry| entry.into_iter().collect())
}

/// A verdict by status alone: 2xx is accepted.
pub(super) fn by_status(status: StatusCode) -> Verdict {
    if status.is_success() {
        Verdict::Accepted
    } else {
        Verdict::Failed { reason: Reason::Status, wait_micros: None }
    }
}

/// How long an answer asks to wait, in µs: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: i64) -> Option<i64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(seconds.clamp(0, 366 * 86_400) * 1_000_000);
    }
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some((date.timestamp_micros() - now).max(0))
}

#[cfg(test)]
impl Endpoint {
    /// A receiver at a URL, for tests of what waits for one.
    pub(super) fn at(url: &str) -> Arc<Endpoint> {
        let (kind, receiver) = (Kind::Webhook, Uuid::nil());
        let (webhook, tencent) = (None, None);
        let (app, url, wire_id, secrets) =
            (String::new(), url.to_owned(), String::new(), Vec::new());
        Arc::new(Endpoint { kind, receiver, app, url, wire_id, secrets, webhook, tencent })
    }
}
