//! The body of an FCM HTTP v1 push: its shape, as Protocol Buffers reads JSON, and its size.

use serde::Deserialize;
use serde_json::Value;

use super::super::shape::{self, Field, Kind, Names, Shape, may, must};

/// Bytes of `data` and notification, at most; half of it to a topic.
const PAYLOAD_BYTES_MAX: usize = 4_096;
const TOPIC_BYTES_MAX: usize = 2_048;
/// Seconds that a message is kept, at most: 28 days.
const TTL_SECONDS_MAX: u64 = 2_419_200;

const WORD: Shape = Shape::Text(usize::MAX);
const WORDS: Shape = Shape::List(&WORD, 0, 100);

const SEND: Shape = Shape::Object(&[
    may("validate_only", Shape::Flag),
    must(
        "message",
        Shape::Object(&[
            may("name", WORD),
            may("token", WORD),
            may("topic", WORD),
            may("condition", WORD),
            may("fid", WORD),
            may("data", Shape::Texts),
            may("notification", Shape::Object(NOTIFICATION)),
            may("android", Shape::Object(ANDROID)),
            may("apns", Shape::Object(APNS)),
            may("webpush", Shape::Object(WEBPUSH)),
            may("fcm_options", Shape::Object(OPTIONS)),
        ]),
    ),
]);

const NOTIFICATION: &[Field] = &[may("title", WORD), may("body", WORD), may("image", WORD)];
const OPTIONS: &[Field] = &[may("analytics_label", WORD)];

const ANDROID: &[Field] = &[
    may("collapse_key", WORD),
    may("priority", Shape::AnyCase(&["normal", "high"])),
    may("ttl", Shape::Seconds(TTL_SECONDS_MAX)),
    may("restricted_package_name", WORD),
    may("data", Shape::Texts),
    may("notification", Shape::Object(ANDROID_NOTIFICATION)),
    may("fcm_options", Shape::Object(OPTIONS)),
    may("direct_boot_ok", Shape::Flag),
    may("bandwidth_constrained_ok", Shape::Flag),
    may("restricted_satellite_ok", Shape::Flag),
];

const ANDROID_NOTIFICATION: &[Field] = &[
    may("title", WORD),
    may("body", WORD),
    may("icon", WORD),
    may("color", Shape::Begins("#")),
    may("sound", WORD),
    may("tag", WORD),
    may("click_action", WORD),
    may("body_loc_key", WORD),
    may("body_loc_args", WORDS),
    may("title_loc_key", WORD),
    may("title_loc_args", WORDS),
    may("channel_id", WORD),
    may("ticker", WORD),
    may("sticky", Shape::Flag),
    may("event_time", WORD),
    may("local_only", Shape::Flag),
    may(
        "notification_priority",
        Shape::AnyCase(&[
            "PRIORITY_UNSPECIFIED",
            "PRIORITY_MIN",
            "PRIORITY_LOW",
            "PRIORITY_DEFAULT",
            "PRIORITY_HIGH",
            "PRIORITY_MAX",
        ]),
    ),
    may("default_sound", Shape::Flag),
    may("default_vibrate_timings", Shape::Flag),
    may("default_light_settings", Shape::Flag),
    may("vibrate_timings", Shape::List(&Shape::Seconds(u64::MAX), 0, 100)),
    may("visibility", Shape::AnyCase(&["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"])),
    may("notification_count", Shape::Whole(0, i32::MAX as i64)),
    may("light_settings", Shape::Map),
    may("image", WORD),
    may("bypass_proxy_notification", Shape::Flag),
    may("proxy", Shape::AnyCase(&["PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"])),
];

const APNS: &[Field] = &[
    may("headers", Shape::Texts),
    may("payload", Shape::Map),
    may("fcm_options", Shape::Object(&[may("analytics_label", WORD), may("image", WORD)])),
    may("live_activity_token", WORD),
];

const WEBPUSH: &[Field] = &[
    may("headers", Shape::Texts),
    may("data", Shape::Texts),
    may("notification", Shape::Map),
    may(
        "fcm_options",
        Shape::Object(&[may("link", Shape::Begins("https://")), may("analytics_label", WORD)]),
    ),
];

/// A fault of the body: the field it lies in, and the vendor's words for it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) text: String,
}

/// Where a message goes.
#[derive(Debug, PartialEq)]
pub(super) enum Target<'a> {
    Token(std::borrow::Cow<'a, str>),
    /// A topic or condition.
    Other,
}

#[derive(Debug)]
pub(super) struct Send<'a> {
    pub(super) validate_only: bool,
    pub(super) target: Target<'a>,
}

/// Looks at all of a push.
pub(super) fn strict(body: &[u8]) -> Result<Send<'static>, Fault> {
    let fault = |field: &str, text: String| Fault { field: field.to_owned(), text };
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| fault("", format!("Invalid JSON payload received. {error}")))?;
    shape::check(&value, &SEND, Names::Proto).map_err(|flaw| worded(&flaw))?;
    let get = |value, name| shape::member(value, name, Names::Proto);
    let message = get(&value, "message").unwrap_or(&Value::Null);
    let targets: Vec<&str> = ["token", "topic", "condition", "fid"]
        .into_iter()
        .filter(|name| get(message, name).is_some())
        .collect();
    let [target] = targets[..] else {
        let text = match targets[..] {
            [] => "Recipient of the message is not set.".to_owned(),
            _ => format!("oneof field 'target' is already set. Cannot set '{}'", targets[1]),
        };
        return Err(fault("message", text));
    };
    let data = get(message, "data").and_then(Value::as_object).into_iter().flatten();
    for (name, _) in data {
        if name == "from" || name.starts_with("gcm") || name.starts_with("google") {
            return Err(fault("message.data", format!("Invalid data payload key: {name}")));
        }
    }
    let max = if target == "topic" { TOPIC_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
    if payload_bytes(message) > max {
        return Err(fault("message", format!("Message is too big, at most {max} bytes")));
    }
    // A registration by its other name.
    let token = get(message, "token").or_else(|| get(message, "fid")).and_then(Value::as_str);
    Ok(Send {
        validate_only: get(&value, "validate_only").and_then(Value::as_bool).unwrap_or_default(),
        target: token.map_or(Target::Other, |token| Target::Token(token.to_owned().into())),
    })
}

fn worded(flaw: &shape::Flaw) -> Fault {
    let (parent, name) = flaw.path.rsplit_once('.').unwrap_or(("", &flaw.path));
    let text = match flaw.kind {
        Kind::Unknown => format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at '{parent}': \
             Cannot find field."
        ),
        Kind::Missing => format!("{name} is not set."),
        Kind::Type | Kind::Value | Kind::Count => {
            format!("Invalid value at '{}'", flaw.path)
        }
    };
    Fault { field: flaw.path.clone(), text }
}

/// Keys and values of `data`, and the texts of the notification, counted once each.
fn payload_bytes(message: &Value) -> usize {
    let get = |value, name| shape::member(value, name, Names::Proto);
    let android = get(message, "android");
    let parts = [
        get(message, "data"),
        get(message, "notification"),
        android.and_then(|android| get(android, "data")),
        android.and_then(|android| get(android, "notification")),
    ];
    parts.into_iter().flatten().map(text_bytes).sum()
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + text_bytes(value)).sum()
        }
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

#[derive(Deserialize)]
struct ToToken<'a> {
    #[serde(borrow)]
    message: Token<'a>,
}

#[derive(Deserialize)]
struct Token<'a> {
    token: &'a str,
}

/// Looks at the token only.
pub(super) fn load(body: &[u8]) -> Result<Send<'_>, Fault> {
    let to: ToToken = serde_json::from_slice(body)
        .map_err(|error| Fault { field: "message.token".to_owned(), text: error.to_string() })?;
    Ok(Send { validate_only: false, target: Target::Token(to.message.token.into()) })
}
