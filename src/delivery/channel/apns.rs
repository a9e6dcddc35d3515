//! Apple Push Notification service. Follows Apple's documents "Sending notification requests to
//! APNs", "Generating a remote notification", "Handling notification responses from APNs" and
//! "Establishing a token-based connection to APNs" (developer.apple.com, User Notifications).
//!
//! HTTP/2 alone. One call has one token, in its address. Apple has no idempotency key; `apns-id` is
//! only echoed.

use domain::{
    notification::{BadgeChange, Notification},
    object::{Object, raw},
    vendor::{Class, Unfit, Vendor},
};
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::{
    config::{ApnsConfig, base},
    fields::{data, move_to, own, with_badge, with_click},
    template::{Options, Piece, Template},
    verdict::{Verdict, by_status, for_all},
};

/// Tokens of one call.
pub const BATCH_TOKENS: usize = 1;
/// Bytes of a payload.
pub const MAX_PAYLOAD_BYTES: usize = 4096;
/// Bytes of a collapse id.
pub const MAX_COLLAPSE_ID_BYTES: usize = 64;
/// Where Apple is.
const PRODUCTION: &str = "https://api.push.apple.com";
/// Where Apple is for builds of developers.
const SANDBOX: &str = "https://api.sandbox.push.apple.com";

/// What all calls of a message have in common. The caller's object `apns` is laid over it.
///
/// # Errors
/// [`Unfit`] when the payload is too large, or a value of the caller's cannot be a header.
pub fn template(
    config: &ApnsConfig,
    notification: &Notification,
    options: &Options,
) -> Result<Template, Unfit> {
    let mut own = own(notification, "apns")?;
    let activity: Option<String> = own.read("liveActivityEvent");
    let push_type: Option<String> = own.read("pushType");
    let push_type = push_type.map(|kind| kind.to_ascii_lowercase());
    let kind = match (&activity, push_type.as_deref()) {
        (Some(_), _) => "liveactivity",
        (None, Some("background")) => "background",
        (None, _) if notification.silent => "background",
        (None, _) => "alert",
    };
    let headers = headers(config, &own, kind, options)?;

    // Apple's devices open the app and count nothing up: the app itself can do both.
    let mut payload =
        with_badge(with_click(data(notification, options), notification), notification);
    if let Some(ext) = own.read::<Object>("ext") {
        payload.merge(ext);
    }
    // Apple's own, never the sender's.
    payload.take("aps");
    let mut aps = if kind == "background" {
        Object::new().with("content-available", &1)
    } else {
        shown(notification)
    };
    over(&mut own, &mut aps, kind);
    let mut body = Object::new().with("aps", &aps);
    body.merge(payload);
    let body = body.text();
    if body.len() > MAX_PAYLOAD_BYTES {
        return Err(Unfit::TooLarge);
    }

    let place = if config.production { PRODUCTION } else { SANDBOX };
    let host = base(config.base_url.as_deref(), place);
    Ok(Template {
        vendor: Vendor::Apns,
        url: format!("{host}/3/device/"),
        headers,
        body: vec![Piece::Text(body)],
    })
}

/// A number on the icon can only be set: Apple's devices do not add.
fn shown(notification: &Notification) -> Object {
    let mut alert = Object::new().with("title", notification.title());
    if let Some(sub_title) = &notification.sub_title {
        alert.put("subtitle", sub_title);
    }
    alert.put("body", notification.content());
    let mut aps = Object::new().with("alert", &alert).with("sound", "default");
    if let Some(BadgeChange::Set(to)) = notification.badge.change {
        aps.put("badge", &to);
    }
    aps
}

/// When Apple gives up, in s since the epoch; 0: it tries once and keeps nothing. `now` in µs.
pub(super) fn expiration(ttl_seconds: u32, now: i64) -> i64 {
    match ttl_seconds {
        0 => 0,
        seconds => now / 1_000_000 + i64::from(seconds),
    }
}

fn headers(
    config: &ApnsConfig,
    own: &Object,
    kind: &str,
    options: &Options,
) -> Result<Vec<(&'static str, String)>, Unfit> {
    let topic = match kind {
        "liveactivity" => format!("{}.push-type.liveactivity", config.topic),
        _ => config.topic.clone(),
    };
    // A span in ms, as Easemob has it.
    let span = own.read::<u32>("invalidationTime").map(|span| span / 1000);
    let expiration = expiration(span.unwrap_or(options.ttl_seconds), options.now);
    let priority = match (kind, own.read::<u32>("priority")) {
        ("background", _) | (_, Some(5)) => "5",
        _ => "10",
    };
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("apns-topic", topic),
        ("apns-push-type", kind.to_owned()),
        ("apns-priority", priority.to_owned()),
        ("apns-expiration", expiration.to_string()),
    ];
    if let Some(id) = own.read::<String>("collapseId") {
        headers.push(("apns-collapse-id", id));
    }
    if let Some(id) = own.read::<String>("apnsId") {
        headers.push(("apns-id", id));
    }
    let sendable = |value: &str| {
        (1..=MAX_COLLAPSE_ID_BYTES).contains(&value.len())
            && value.bytes().all(|b| (b' '..=b'~').contains(&b))
    };
    let callers = headers.iter().skip(5);
    if callers.clone().all(|(_, value)| sendable(value)) {
        Ok(headers)
    } else {
        Err(Unfit::BadOverride)
    }
}

/// Easemob's names of what is in `aps.alert`.
pub(super) const ALERT: [(&str, &str); 10] = [
    ("title", "title"),
    ("subTitle", "subtitle"),
    ("content", "body"),
    ("titleLocKey", "title-loc-key"),
    ("titleLocArgs", "title-loc-args"),
    ("subTitleLocKey", "subtitle-loc-key"),
    ("subTitleLocArgs", "subtitle-loc-args"),
    ("bodyLocKey", "loc-key"),
    ("bodyLocArgs", "loc-args"),
    ("launchImage", "launch-image"),
];

/// Easemob's names of what is in `aps`.
const APS: [(&str, &str); 11] = [
    ("badge", "badge"),
    ("sound", "sound"),
    ("categoryName", "category"),
    ("threadId", "thread-id"),
    ("interruptionLevel", "interruption-level"),
    ("timestamp", "timestamp"),
    ("dismissalDate", "dismissal-date"),
    ("staleDate", "stale-date"),
    ("attributesType", "attributes-type"),
    ("attributes", "attributes"),
    ("contentState", "content-state"),
];

/// Lays the caller's object over `aps`. What is sent in the background shows nothing.
fn over(own: &mut Object, aps: &mut Object, kind: &str) {
    if kind == "background" {
        return;
    }
    let mut alert: Object = aps.read("alert").unwrap_or_default();
    for (name, in_alert) in ALERT {
        move_to(own, name, &mut alert, in_alert);
    }
    aps.put("alert", &alert);
    for (name, in_aps) in APS {
        move_to(own, name, aps, in_aps);
    }
    for (name, in_aps) in
        [("mutableContent", "mutable-content"), ("contentAvailable", "content-available")]
    {
        let wanted = own.read::<bool>(name).or_else(|| Some(own.read::<i64>(name)? == 1));
        if wanted == Some(true) {
            aps.set(in_aps, raw(&1));
        }
    }
    if let Some(event) = own.read::<String>("liveActivityEvent") {
        aps.put("event", &event.to_ascii_lowercase());
    }
}

/// What Apple says of its one token.
#[must_use]
pub fn classify(status: u16, headers: &HeaderMap, body: &[u8], tokens: &[&str]) -> Vec<Verdict> {
    let id = headers.get("apns-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let verdict = if status == 200 {
        Verdict { id, ..Verdict::of(Class::Ok) }
    } else {
        let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
        let verdict = match answer.reason {
            Some(reason) => by_reason(&reason, status),
            None => unexplained(status),
        };
        let since = answer.timestamp.and_then(|ms| ms.checked_mul(1000));
        Verdict { since: since.filter(|_| verdict.class == Class::Dead), ..verdict }
    };
    for_all(verdict.answered(status, headers), tokens)
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    reason: Option<String>,
    /// Since when the token has been dead, in ms.
    #[serde(default)]
    timestamp: Option<i64>,
}

fn by_reason(reason: &str, status: u16) -> Verdict {
    let (class, suspect) = match reason {
        "Unregistered" | "ExpiredToken" => (Class::Dead, false),
        // Also what a token of the sandbox is to production, and the other way round.
        "BadDeviceToken" => (Class::Dead, true),
        "DeviceTokenNotForTopic"
        | "TopicDisallowed"
        | "BadTopic"
        | "MissingTopic"
        | "MissingDeviceToken"
        | "BadPath"
        | "MethodNotAllowed" => (Class::Config, false),
        "BadCollapseId" | "BadExpirationDate" | "BadMessageId" | "BadPriority"
        | "InvalidPushType" | "PayloadEmpty" | "DuplicateHeaders" | "PayloadTooLarge" => {
            (Class::Payload, false)
        }
        "ExpiredProviderToken" => (Class::AuthRefresh, false),
        "InvalidProviderToken"
        | "MissingProviderToken"
        | "BadCertificate"
        | "BadCertificateEnvironment"
        | "Forbidden" => (Class::Auth, false),
        // The second also for making provider tokens too often: ours is kept.
        "TooManyRequests" | "TooManyProviderTokenUpdates" => (Class::Throttled, false),
        "IdleTimeout" | "InternalServerError" | "ServiceUnavailable" | "Shutdown" => {
            (Class::Server, false)
        }
        _ => return unexplained(status).code(reason),
    };
    Verdict::of(class).code(reason).suspect(suspect)
}

/// Without a reason that we know.
fn unexplained(status: u16) -> Verdict {
    let class = match status {
        403 => Class::Auth,
        410 => Class::Dead,
        _ => return by_status(status),
    };
    Verdict::of(class).code(status.to_string())
}
