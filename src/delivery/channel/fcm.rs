//! Firebase Cloud Messaging, HTTP v1. Follows Google's reference `projects.messages` and
//! `ErrorCode` (firebase.google.com/docs/reference/fcm/rest/v1) and its guide "Throttling and
//! quotas". One call has one token.
//!
//! FCM has no idempotency key: a repeat after a lost answer may be shown twice.

use domain::{
    notification::{BadgeChange, Notification},
    object::Object,
    vendor::{Class, Unfit, Vendor},
};
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::{
    config::{FcmConfig, base},
    fields::{as_texts, data, move_to, own, snaked, with_badge, with_click},
    template::{Options, Piece, Template, following},
    verdict::{Verdict, by_status, for_all},
};

/// Tokens of one call.
pub const BATCH_TOKENS: usize = 1;
/// Bytes of the message as JSON, without its token.
pub const MAX_PAYLOAD_BYTES: usize = 4096;
/// Longest time to live, in s: four weeks.
pub const MAX_TTL_SECONDS: u32 = 2_419_200;
/// Pause after a 429 without `Retry-After`, in µs, as the guide asks for.
const THROTTLED_MICROS: i64 = 60_000_000;
/// Where FCM is.
const HOST: &str = "https://fcm.googleapis.com";
/// Where access tokens come from.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// What access tokens are asked for.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// What all calls of a message have in common. The caller's objects `fcm` (of the old API, as far
/// as it has a counterpart) and `fcmV1` are laid over it.
///
/// # Errors
/// [`Unfit`] when the payload is too large, or FCM keeps one of its names to itself.
pub fn template(
    config: &FcmConfig,
    notification: &Notification,
    options: &Options,
) -> Result<Template, Unfit> {
    let mut message = basics(notification, options);
    let mut old = own(notification, "fcm")?;
    let dry_run = old.read("dryRun").unwrap_or(false);
    message.merge(of_old_api(&mut old));
    let mut over = own(notification, "fcmV1")?;
    let kind: Option<String> =
        over.take("type").and_then(|value| serde_json::from_str(value.get()).ok());
    message.merge(of_v1(over)?);
    match kind.as_deref() {
        Some("DATA") => drop(message.take("notification")),
        Some("NOTIFICATION") => drop(message.take("data")),
        _ => {}
    }
    check(&message)?;

    let host = base(config.base_url.as_deref(), HOST);
    let project = &config.service_account.project_id;
    let start = if dry_run { "{\"validate_only\":true,\"message\":{" } else { "{\"message\":{" };
    Ok(Template {
        vendor: Vendor::Fcm,
        url: format!("{host}/v1/projects/{project}/messages:send"),
        headers: vec![("content-type", "application/json".to_owned())],
        body: vec![
            Piece::Text(format!("{start}\"token\":")),
            Piece::Tokens,
            Piece::Text(format!("{}}}", following(&message))),
        ],
    })
}

fn basics(notification: &Notification, options: &Options) -> Object {
    let seconds = options.ttl_seconds.min(MAX_TTL_SECONDS);
    let mut android = Object::new().with("priority", "high").with("ttl", &format!("{seconds}s"));
    // Apple's devices have no use for the above.
    let until = super::apns::expiration(seconds, options.now);
    let mut headers = Object::new().with("apns-expiration", &until.to_string());
    let mut message = Object::new();
    let aps = if notification.silent {
        headers = headers.with("apns-push-type", "background").with("apns-priority", "5");
        Object::new().with("content-available", &1)
    } else {
        let shown =
            Object::new().with("title", notification.title()).with("body", notification.content());
        message.put("notification", &shown);
        let details = android_details(notification);
        if !details.is_empty() {
            android.put("notification", &details);
        }
        aps(notification)
    };
    let payload = Object::new().with("aps", &aps);
    // FCM opens no address, and Apple's devices count nothing up: the app itself can do both.
    let for_app = with_badge(with_click(data(notification, options), notification), notification);
    let apns = Object::new().with("headers", &headers).with("payload", &payload);
    message.with("data", &as_texts(&for_app)).with("android", &android).with("apns", &apns)
}

/// What only Android has. It cannot open an address by itself.
fn android_details(notification: &Notification) -> Object {
    let mut details = Object::new();
    let click = &notification.click;
    if let Some(action) = click.action.as_ref().or(click.activity.as_ref()) {
        details.put("click_action", action);
    }
    if let Some(BadgeChange::Add(count) | BadgeChange::Set(count)) = notification.badge.change {
        details.put("notification_count", &count);
    }
    details
}

/// What Apple's devices need that get their messages by way of FCM.
fn aps(notification: &Notification) -> Object {
    let mut aps = Object::new().with("sound", "default");
    if let Some(BadgeChange::Set(to)) = notification.badge.change {
        aps.put("badge", &to);
    }
    if let Some(sub_title) = &notification.sub_title {
        let alert = Object::new()
            .with("title", notification.title())
            .with("subtitle", sub_title)
            .with("body", notification.content());
        aps.put("alert", &alert);
    }
    aps
}

/// The old API's object in the names of HTTP v1.
fn of_old_api(old: &mut Object) -> Object {
    let (mut message, mut android) = (Object::new(), Object::new());
    if let Some(pairs) = old.read::<Object>("data") {
        message.put("data", &as_texts(&pairs));
    }
    move_to(old, "collapseKey", &mut android, "collapse_key");
    move_to(old, "priority", &mut android, "priority");
    move_to(old, "restrictedPackageName", &mut android, "restricted_package_name");
    // The document says text, its examples are numbers.
    let ttl = old.read::<u32>("timeToLive");
    let ttl = ttl.or_else(|| old.read::<String>("timeToLive")?.parse().ok());
    if let Some(seconds) = ttl {
        android.put("ttl", &format!("{}s", seconds.min(MAX_TTL_SECONDS)));
    }
    if let Some(mut given) = old.read::<Object>("notification") {
        let (mut shown, mut details) = (Object::new(), Object::new());
        move_to(&mut given, "title", &mut shown, "title");
        move_to(&mut given, "body", &mut shown, "body");
        move_to(&mut given, "androidChannelId", &mut details, "channel_id");
        details.merge(snaked(&given, &[]));
        if !shown.is_empty() {
            message.put("notification", &shown);
        }
        if !details.is_empty() {
            android.put("notification", &details);
        }
    }
    if !android.is_empty() {
        message.put("android", &android);
    }
    message
}

/// Easemob's object in the names of HTTP v1. Whom it goes to is not the caller's to say.
fn of_v1(mut over: Object) -> Result<Object, Unfit> {
    let mut message = Object::new();
    for target in ["token", "topic", "condition", "fid"] {
        over.take(target);
    }
    if let Some(pairs) = over.take("data").filter(|pairs| pairs.get() != "null") {
        let pairs = Object::parse(pairs.get()).ok_or(Unfit::BadOverride)?;
        message.put("data", &as_texts(&pairs));
    }
    if let Some(mut given) = over.read::<Object>("androidConfig") {
        over.take("androidConfig");
        let mut android = Object::new();
        if let Some(priority) = given.read::<String>("priority") {
            given.put("priority", &priority.to_ascii_lowercase());
        }
        move_to(&mut given, "androidNotification", &mut android, "notification");
        android.merge(given);
        message.put("android", &snaked(&android, &["data"]));
    }
    let mut rest = Object::new();
    move_to(&mut over, "apnsConfig", &mut rest, "apns");
    move_to(&mut over, "webPushConfig", &mut rest, "webpush");
    move_to(&mut over, "options", &mut rest, "fcmOptions");
    rest.merge(over);
    message.merge(snaked(&rest, &["headers", "payload", "data", "notification"]));
    Ok(message)
}

fn check(message: &Object) -> Result<(), Unfit> {
    if message.text().len() > MAX_PAYLOAD_BYTES {
        return Err(Unfit::TooLarge);
    }
    let data: Object = message.read("data").unwrap_or_default();
    let reserved =
        |name: &str| name == "from" || name.starts_with("gcm") || name.starts_with("google");
    if data.iter().any(|(name, _)| reserved(name)) { Err(Unfit::ReservedName) } else { Ok(()) }
}

/// What FCM says of its one token: the detail of type `FcmError` first, then the status, then the
/// HTTP status.
#[must_use]
pub fn classify(status: u16, headers: &HeaderMap, body: &[u8], tokens: &[&str]) -> Vec<Verdict> {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let verdict = match (&answer.error, answer.name) {
        (Some(problem), _) => problem.verdict(status),
        (None, Some(id)) if (200..=299).contains(&status) => {
            Verdict { id: Some(id), ..Verdict::of(Class::Ok) }
        }
        (None, _) => expired_if_401(status, by_status(status)),
    };
    let mut verdict = verdict.answered(status, headers);
    if verdict.class == Class::Throttled && verdict.retry_after.is_none() {
        verdict.retry_after = Some(THROTTLED_MICROS);
    }
    for_all(verdict, tokens)
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(rename = "@type", default)]
    kind: String,
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    field_violations: Vec<Violation>,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    field: String,
}

impl Problem {
    fn verdict(&self, status: u16) -> Verdict {
        let mut typed = self.details.iter().filter(|detail| detail.kind.ends_with("FcmError"));
        let detailed = typed.find_map(|detail| detail.error_code.as_deref());
        let (class, suspect) = match detailed.unwrap_or(&self.status) {
            "UNREGISTERED" => (Class::Dead, false),
            // Only a suspicion, as the same comes for a token of another kind of app.
            "INVALID_ARGUMENT" if self.blames_the_token() => (Class::Dead, true),
            "INVALID_ARGUMENT" => (Class::Payload, false),
            "SENDER_ID_MISMATCH" | "THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR" => {
                (Class::Config, false)
            }
            "QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED" => (Class::Throttled, false),
            "UNAVAILABLE" | "INTERNAL" => (Class::Server, false),
            "UNAUTHENTICATED" => (Class::AuthRefresh, false),
            "PERMISSION_DENIED" => (Class::Config, false),
            // Without a detail it may be the project that is not found.
            "NOT_FOUND" => (Class::Dead, true),
            other => {
                let verdict = expired_if_401(status, by_status(status));
                let named = !other.is_empty() && other != "UNSPECIFIED_ERROR";
                return if named { verdict.code(other) } else { verdict };
            }
        };
        let code = detailed.unwrap_or(&self.status);
        Verdict::of(class).code(code).suspect(suspect)
    }

    fn blames_the_token(&self) -> bool {
        let mut fields = self.details.iter().flat_map(|detail| &detail.field_violations);
        fields.any(|violation| violation.field == "message.token")
            || self.message.contains("not a valid FCM registration token")
    }
}

fn expired_if_401(status: u16, verdict: Verdict) -> Verdict {
    if status == 401 { Verdict { class: Class::AuthRefresh, ..verdict } } else { verdict }
}

/// Where access tokens come from.
pub(super) fn token_url(config: &FcmConfig) -> &str {
    let of_file = config.service_account.token_uri.as_deref();
    config.token_url.as_deref().or(of_file).unwrap_or(TOKEN_URL)
}
