//! Huawei Push Kit v1, for Android and HarmonyOS up to 4. Follows Huawei's document "Sending
//! messages by the REST API" (developer.huawei.com, HMSCore-References `https-send-api`: request,
//! response, codes, flow control).
//!
//! What it tells later follows "Message receipts" (the same, `msg-receipt-guide`).
//!
//! One call takes 1,000 tokens. HTTP 200 is no success: the body has a code, and of a partial
//! failure a list of tokens inside a text. There is no idempotency key.

use std::collections::{HashMap, HashSet};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    notification::{BadgeChange, Notification},
    object::Object,
    vendor::{Class, Unfit, Vendor},
};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::HeaderMap;
use serde::Deserialize;
use sha2::Sha256;

use super::{
    config::{HuaweiConfig, base},
    fields::{data, move_to, own, snaked},
    template::{Options, Piece, Template, following},
    verdict::{Verdict, by_status, for_all},
};
use crate::delivery::receipts::{Receipt, Told};

/// Tokens of one call.
pub const BATCH_TOKENS: usize = 1000;
/// Bytes of the body without its tokens.
pub const MAX_PAYLOAD_BYTES: usize = 4096;
/// Longest time to live, in s: 15 days.
pub const MAX_TTL_SECONDS: u32 = 1_296_000;
/// How far the time of a signature may be from now, in µs.
const SIGNED_MICROS: u64 = 600_000_000;
/// Largest badge number.
const MAX_BADGE: i64 = 99;
/// Where Huawei is.
const HOST: &str = "https://push-api.cloud.huawei.com";
/// Where access tokens come from.
const TOKEN_URL: &str = "https://oauth-login.cloud.huawei.com/oauth2/v3/token";

/// What all calls of a message have in common. The caller's object `huawei` is laid over it.
///
/// # Errors
/// [`Unfit`] when the payload is too large.
pub fn template(
    config: &HuaweiConfig,
    notification: &Notification,
    options: &Options,
) -> Result<Template, Unfit> {
    let mut over = own(notification, "huawei")?;
    let mut message = basics(notification, options, has_click(&over));
    let mut envelope = Object::new();
    move_to(&mut over, "validateOnly", &mut envelope, "validate_only");
    move_to(&mut over, "review", &mut envelope, "review");
    if let Some(mut given) = over.read::<Object>("message") {
        for target in ["token", "topic", "condition"] {
            given.take(target);
        }
        // Text on the wire; callers may write the object.
        if let Some(pairs) = given.read::<Object>("data") {
            given.put("data", &pairs.text());
        }
        message.merge(snaked(&given, &["data"]));
        // Receipts name the message by it.
        let tag = options.message.to_string();
        message.merge(Object::new().with("android", &Object::new().with("bi_tag", &tag)));
    }
    let start = "{\"message\":{\"token\":[".to_owned();
    let end = format!("]{}{}", following(&message), following(&envelope));
    if start.len() + end.len() > MAX_PAYLOAD_BYTES {
        return Err(Unfit::TooLarge);
    }

    let host = base(config.base_url.as_deref(), HOST);
    let app = config.app_id.as_ref().unwrap_or(&config.client_id);
    Ok(Template {
        vendor: Vendor::Huawei,
        url: format!("{host}/v1/{app}/messages:send"),
        headers: vec![("content-type", "application/json".to_owned())],
        body: vec![Piece::Text(start), Piece::Tokens, Piece::Text(end)],
    })
}

/// Whether the caller's object says what a click does: then it says all of it.
fn has_click(over: &Object) -> bool {
    let shown = || {
        let android = over.read::<Object>("message")?.read::<Object>("android")?;
        android.read::<Object>("notification")
    };
    shown().is_some_and(|shown| shown.get("clickAction").is_some())
}

fn basics(notification: &Notification, options: &Options, has_click: bool) -> Object {
    // 0 is refused as over already; the vendor's shortest is a second.
    let ttl = options.ttl_seconds.clamp(1, MAX_TTL_SECONDS);
    let mut android = Object::new()
        .with("ttl", &format!("{ttl}s"))
        // Comes back in receipts.
        .with("bi_tag", &options.message.to_string());
    if !notification.silent {
        let mut shown =
            Object::new().with("title", notification.title()).with("body", notification.content());
        if !has_click {
            shown.put("click_action", &click_action(notification));
        }
        let badge = badge(notification);
        if !badge.is_empty() {
            shown.put("badge", &badge);
        }
        android.put("notification", &shown);
    }
    Object::new().with("data", &data(notification, options).text()).with("android", &android)
}

/// Required: 1 opens a page of the app by intent or action, 2 an address, 3 the app.
fn click_action(notification: &Notification) -> Object {
    let click = &notification.click;
    match (&click.url, &click.action, &click.activity) {
        (Some(url), _, _) => Object::new().with("type", &2).with("url", url),
        (None, Some(action), _) => Object::new().with("type", &1).with("action", action),
        (None, None, Some(activity)) => Object::new().with("type", &1).with("intent", activity),
        (None, None, None) => Object::new().with("type", &3),
    }
}

fn badge(notification: &Notification) -> Object {
    let mut badge = match notification.badge.change {
        Some(BadgeChange::Add(by)) => Object::new().with("add_num", &by.min(MAX_BADGE)),
        Some(BadgeChange::Set(to)) => Object::new().with("set_num", &to.min(MAX_BADGE)),
        None => return Object::new(),
    };
    if let Some(activity) = &notification.badge.activity {
        badge.put("class", activity);
    }
    badge
}

/// What Huawei says of each token.
#[must_use]
pub fn classify(status: u16, headers: &HeaderMap, body: &[u8], tokens: &[&str]) -> Vec<Verdict> {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let id = answer.request_id;
    let verdict = match answer.code.as_deref() {
        Some("80000000") => Verdict { id, ..Verdict::of(Class::Ok) },
        Some("80100000") => match serde_json::from_str(&answer.msg) {
            Ok(partial) => return each(&partial, id.as_deref(), tokens),
            // Some have it, and nothing says who.
            Err(_) => Verdict::of(Class::Server).code("80100000"),
        },
        Some(code) => by_code(code, status),
        None => unexplained(status),
    };
    for_all(verdict.answered(status, headers), tokens)
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    msg: String,
    #[serde(rename = "requestId", default)]
    request_id: Option<String>,
}

/// The text in `msg` of a partial failure.
#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    success: u64,
    illegal_tokens: Vec<String>,
}

fn each(partial: &Partial, id: Option<&str>, tokens: &[&str]) -> Vec<Verdict> {
    let illegal: HashSet<&str> = partial.illegal_tokens.iter().map(String::as_str).collect();
    // That others went out shows that app and address are right.
    let suspect = partial.success == 0;
    let dead = Verdict::of(Class::Dead).code("80100000").suspect(suspect);
    let taken = Verdict { id: id.map(str::to_owned), ..Verdict::of(Class::Ok) };
    let verdict = |token: &&str| if illegal.contains(token) { dead.clone() } else { taken.clone() };
    tokens.iter().map(verdict).collect()
}

/// The document's table of codes.
fn by_code(code: &str, status: u16) -> Verdict {
    let (class, suspect) = match code {
        // Every token is invalid; or app, address or environment is wrong.
        "80300007" => (Class::Dead, true),
        "80100001" | "80100002" | "80100003" | "80100004" | "80100013" | "80100016"
        | "80100018" | "80300008" | "80300010" => (Class::Payload, false),
        "80100017" => (Class::Throttled, false),
        "80200001" | "80200003" | "80200005" => (Class::AuthRefresh, false),
        "80300002" | "80300011" | "80300013" => (Class::Config, false),
        "80600003" | "81000001" => (Class::Server, false),
        _ => return unexplained(status).code(code),
    };
    Verdict::of(class).code(code).suspect(suspect)
}

/// Without a code that we know. 503 is flow control here.
fn unexplained(status: u16) -> Verdict {
    match status {
        503 => Verdict::of(Class::Throttled).code("503"),
        _ => by_status(status),
    }
}

/// What Huawei tells of tokens later, in the form for Android and HarmonyOS up to 4; `None` if it is
/// not of that form. What names no message of ours is left out.
#[must_use]
pub fn receipts(body: &[u8]) -> Option<Vec<Receipt>> {
    let Receipts { statuses } = serde_json::from_slice(body).ok()?;
    let receipt = |status: Status| {
        let message = status.bi_tag.parse().ok()?;
        let at = status.timestamp.checked_mul(1_000)?;
        let told = match status.status {
            0 => Told::Received,
            // The app is gone; the token is no longer the device's.
            2 | 5 => Told::Dead,
            // Switched off, away for long, replaced, bounded: the document's other codes.
            _ => Told::NotNow,
        };
        let (token, code) = (status.token, status.status.to_string());
        Some(Receipt { message, token, at, code, told })
    };
    Some(statuses.into_iter().filter_map(receipt).collect())
}

#[derive(Deserialize)]
struct Receipts {
    statuses: Vec<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    bi_tag: String,
    token: String,
    status: i64,
    /// In ms.
    #[serde(default)]
    timestamp: i64,
}

/// Whether a call with receipts is signed with the app's user name and key, now (µs). The signature
/// is of a time and a nonce, not of the body: it says who calls. Older consoles use the key as it
/// is, newer ones what it is in base64.
#[must_use]
pub fn signed(config: &HuaweiConfig, header: &str, now: i64) -> bool {
    let (Some(user), Some(key)) = (&config.receipt_user, &config.receipt_key) else { return false };
    let mut parts: HashMap<&str, &str> = HashMap::new();
    // A value of base64 has `=` of its own.
    parts.extend(header.split(';').filter_map(|part| part.trim().split_once('=')));
    let part = |name: &str| parts.get(name).map(|value| value.trim());
    let (Some(time), Some(nonce), Some(value)) = (part("timestamp"), part("nonce"), part("value"))
    else {
        return false;
    };
    let at = time.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1_000));
    let recent = at.is_some_and(|at| now.abs_diff(at) <= SIGNED_MICROS);
    let Ok(value) = STANDARD.decode(value) else { return false };
    let text = format!("{time}{nonce}{user}");
    let of_key = |key: &[u8]| {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
        mac.chain_update(text.as_bytes()).verify_slice(&value).is_ok()
    };
    let decoded = STANDARD.decode(key.reveal());
    recent && (of_key(key.reveal().as_bytes()) || decoded.is_ok_and(|key| of_key(&key)))
}

/// Where access tokens come from.
pub(super) fn token_url(config: &HuaweiConfig) -> &str {
    config.token_url.as_deref().unwrap_or(TOKEN_URL)
}
