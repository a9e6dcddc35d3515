//! JPush, REST API v3. Follows Jiguang's documents "Push API v3" (docs.jiguang.cn, `rest_api_v3_push`:
//! audience, notification, message, options, error codes, rate limits) and, where those are silent,
//! its own clients.
//!
//! One call takes 1,000 registration ids. A `cid` from JPush's pool makes it idempotent for a day.
//! No code says of an id that it is dead; with a single id, two codes make it a suspect.

use domain::{
    notification::{BadgeChange, Notification},
    object::Object,
    vendor::{Class, Unfit, Vendor},
};
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::{
    config::{JpushConfig, base},
    fields::{data, own, with_click},
    template::{Options, Piece, Template, following},
    third_party,
    verdict::{Verdict, by_status, for_all, seconds},
};

/// Registration ids of one call.
pub const BATCH_TOKENS: usize = 1000;
/// Bytes of the Android notification and the message together, as JSON.
pub const MAX_ANDROID_BYTES: usize = 4000;
/// Bytes of the iOS notification as JSON.
pub const MAX_IOS_BYTES: usize = 2000;
/// Longest time to live, in s, that every customer has.
pub const MAX_TTL_SECONDS: u32 = 3 * 86_400;
/// Largest badge number.
const MAX_BADGE: i64 = 99;
/// Where JPush is.
const HOST: &str = "https://api.jpush.cn";

/// What all calls of a message have in common. The caller's objects for the vendors that JPush
/// speaks to are turned into its names, and the object `jpush`, in JPush's own, is laid over all.
///
/// # Errors
/// [`Unfit`] when the payload is too large.
pub fn template(
    config: &JpushConfig,
    notification: &Notification,
    options: &Options,
) -> Result<Template, Unfit> {
    let extras = data(notification, options);
    let mut body = Object::new().with("platform", "all");
    if notification.silent {
        let id = options.message.to_string();
        let message = Object::new().with("msg_content", &id).with("extras", &extras);
        body.put("message", &message);
    } else {
        let mut shown = Object::new()
            .with("alert", notification.content())
            .with("android", &android(notification, &extras))
            .with("ios", &ios(notification, with_click(extras.clone(), notification))?);
        if let Some(hmos) = third_party::hmos(notification, &extras)? {
            shown.put("hmos", &hmos);
        }
        body.put("notification", &shown);
    }
    let ttl = options.ttl_seconds.min(MAX_TTL_SECONDS);
    let mut sending = Object::new()
        .with("time_to_live", &ttl)
        // The API and its clients differ in what they take when it is absent.
        .with("apns_production", &config.apns_production);
    if let Some(id) = third_party::collapse_id(notification)? {
        sending.put("apns_collapse_id", &id);
    }
    let channels = third_party::channels(notification)?;
    if !channels.is_empty() {
        sending.put("third_party_channel", &channels);
    }
    body.put("options", &sending);

    let mut over = own(notification, "jpush")?;
    over.take("audience");
    over.take("cid");
    body.merge(over);
    check_size(&body)?;

    let host = base(config.base_url.as_deref(), HOST);
    Ok(Template {
        vendor: Vendor::Jpush,
        url: format!("{host}/v3/push"),
        headers: vec![("content-type", "application/json".to_owned())],
        body: vec![
            Piece::Text("{".to_owned()),
            Piece::Cid,
            Piece::Text("\"audience\":{\"registration_id\":[".to_owned()),
            Piece::Tokens,
            Piece::Text(format!("]}}{}", following(&body))),
        ],
    })
}

fn android(notification: &Notification, extras: &Object) -> Object {
    let mut android = Object::new()
        .with("alert", notification.content())
        .with("title", notification.title())
        .with("extras", extras);
    let click = &notification.click;
    if let Some(url) = &click.url {
        android.put("intent", &Object::new().with("url", url));
    }
    if let Some(action) = &click.action {
        android.put("uri_action", action);
    }
    if let Some(activity) = &click.activity {
        android.put("uri_activity", activity);
    }
    match notification.badge.change {
        Some(BadgeChange::Add(by)) => android.put("badge_add_num", &by.min(MAX_BADGE)),
        Some(BadgeChange::Set(to)) => android.put("badge_set_num", &to.min(MAX_BADGE)),
        None => {}
    }
    if let Some(activity) = &notification.badge.activity {
        android.put("badge_class", activity);
    }
    android
}

fn ios(notification: &Notification, extras: Object) -> Result<Object, Unfit> {
    let mut alert = Object::new().with("title", notification.title());
    if let Some(sub_title) = &notification.sub_title {
        alert.put("subtitle", sub_title);
    }
    alert.put("body", notification.content());
    let mut ios = Object::new().with("alert", &alert).with("sound", "default");
    match notification.badge.change {
        Some(BadgeChange::Add(by)) => ios.put("badge", &format!("+{by}")),
        Some(BadgeChange::Set(to)) => ios.put("badge", &to),
        None => {}
    }
    ios.put("extras", &extras);
    third_party::over_ios(notification, &mut ios)?;
    Ok(ios)
}

fn check_size(body: &Object) -> Result<(), Unfit> {
    let shown: Object = body.read("notification").unwrap_or_default();
    let size = |object: &Object, name| object.get(name).map_or(0, |value| value.get().len());
    let android = size(&shown, "android") + size(body, "message");
    let fits = android <= MAX_ANDROID_BYTES && size(&shown, "ios") <= MAX_IOS_BYTES;
    if fits { Ok(()) } else { Err(Unfit::TooLarge) }
}

/// What JPush says. It says one thing of the whole call; which of its ids are dead it does not.
#[must_use]
pub fn classify(status: u16, headers: &HeaderMap, body: &[u8], tokens: &[&str]) -> Vec<Verdict> {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let verdict = match (answer.error, answer.msg_id) {
        (Some(error), _) => by_code(error.code, tokens.len() == 1),
        (None, Some(id)) if (200..=299).contains(&status) => {
            Verdict { id: Some(id.text()), ..Verdict::of(Class::Ok) }
        }
        (None, _) => by_status(status),
    };
    let verdict = verdict.answered(status, headers);
    let verdict = match verdict.class {
        // The window's end comes in a header of JPush's own.
        Class::Throttled if verdict.retry_after.is_none() => {
            Verdict { retry_after: seconds(headers, "x-rate-limit-reset"), ..verdict }
        }
        // "Internal time-out" comes with 503 as well.
        Class::Server if verdict.code.as_deref() == Some("1030") => {
            Verdict { maybe_delivered: true, ..verdict }
        }
        _ => verdict,
    };
    for_all(verdict, tokens)
}

#[derive(Deserialize, Default)]
struct Answer {
    #[serde(default)]
    msg_id: Option<Id>,
    #[serde(default)]
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    code: i64,
}

/// An id that is a string in some answers and a number in others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    fn text(self) -> String {
        match self {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }
    }
}

/// The document's table of codes. `alone`: the call had a single id.
fn by_code(code: i64, alone: bool) -> Verdict {
    let (class, suspect) = match code {
        1000 | 1030 => (Class::Server, false),
        // A bad value; of a single id, most likely the id itself.
        1003 if alone => (Class::Dead, true),
        // Nobody matches the audience, or nobody who was active of late.
        1011 if alone => (Class::Dead, true),
        1011 => (Class::Off, false),
        1001..=1003 | 1005 | 1009 | 1035 => (Class::Payload, false),
        1004 | 1008 => (Class::Auth, false),
        1012 | 2005 | 2008 => (Class::Quota, false),
        1020 | 2003 | 2004 | 2006 | 2007 => (Class::Config, false),
        2002 => (Class::Throttled, false),
        // Codes come that the table does not have; nothing says that another try would help.
        _ => (Class::Payload, false),
    };
    Verdict::of(class).code(code.to_string()).suspect(suspect)
}

/// The pool of idempotency keys: its address for so many keys.
pub(super) fn pool_url(config: &JpushConfig, count: usize) -> String {
    let host = base(config.base_url.as_deref(), HOST);
    format!("{host}/v3/push/cid?count={count}&type=push")
}

/// The keys in the pool's answer.
pub(super) fn pool(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize, Default)]
    struct Pool {
        cidlist: Vec<String>,
    }
    serde_json::from_slice::<Pool>(body).unwrap_or_default().cidlist
}
