//! The body of a Huawei v1 or v2 push: its shape, its size and its targets.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::super::shape::{self, Field, Kind, Names, Shape, may, must};

/// Tokens in one push, at most.
const TOKENS_MAX: usize = 1_000;
/// Bytes of a message without its tokens, at most.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Seconds that a message is kept, at most: 15 days.
const TTL_SECONDS_MAX: u64 = 1_296_000;
/// Characters of `profile_id`, at most.
const PROFILE_BYTES_MAX: usize = 64;

const WORD: Shape = Shape::Text(usize::MAX);
const NO_NUMBER: Shape = Shape::Whole(i32::MIN as i64, i32::MAX as i64);

const SEND: Shape = Shape::Object(&[
    may("validate_only", Shape::Flag),
    must(
        "message",
        Shape::Object(&[
            may("data", WORD),
            may("notification", Shape::Object(NOTIFICATION)),
            may("android", Shape::Object(ANDROID)),
            may("token", Shape::List(&Shape::Any, 0, usize::MAX)),
            may("topic", Shape::Filled),
            may("condition", Shape::Filled),
            may("review", Shape::List(&Shape::Map, 0, 10)),
        ]),
    ),
]);

const NOTIFICATION: &[Field] = &[may("title", WORD), may("body", WORD), may("image", WORD)];

const ANDROID: &[Field] = &[
    may("collapse_key", Shape::Whole(-1, 100)),
    may("urgency", Shape::Choice(&["HIGH", "NORMAL"])),
    may(
        "category",
        Shape::Choice(&[
            "IM",
            "VOIP",
            "SUBSCRIPTION",
            "TRAVEL",
            "HEALTH",
            "WORK",
            "ACCOUNT",
            "EXPRESS",
            "FINANCE",
            "DEVICE_REMINDER",
            "MAIL",
            "PLAY_VOICE",
            "MARKETING",
        ]),
    ),
    may("ttl", Shape::Seconds(TTL_SECONDS_MAX)),
    may("bi_tag", WORD),
    may("receipt_id", WORD),
    may("target_user_type", Shape::Whole(0, 1)),
    may("fast_app_target", Shape::Whole(1, 2)),
    may("data", WORD),
    may("notification", Shape::Object(SHOWN)),
];

const SHOWN: &[Field] = &[
    may("title", WORD),
    may("body", WORD),
    must("click_action", Shape::Object(CLICK)),
    may("icon", WORD),
    may("color", Shape::Begins("#")),
    may("sound", WORD),
    may("default_sound", Shape::Flag),
    may("tag", WORD),
    may("group", WORD),
    may("channel_id", WORD),
    may("importance", Shape::Choice(&["LOW", "NORMAL"])),
    may("notify_id", NO_NUMBER),
    may("style", Shape::Either(&[Shape::Whole(0, 1), Shape::Whole(3, 3)])),
    may("big_title", WORD),
    may("big_body", WORD),
    may("inbox_content", Shape::List(&WORD, 1, 5)),
    may("buttons", Shape::List(&Shape::Map, 1, 3)),
    may("image", Shape::Begins("https://")),
    may("visibility", Shape::Choice(&["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"])),
    may("foreground_show", Shape::Flag),
    may("profile_id", Shape::Text(PROFILE_BYTES_MAX)),
    may("badge", Shape::Object(BADGE)),
    may("auto_clear", NO_NUMBER),
    may("when", WORD),
    may("use_default_vibrate", Shape::Flag),
    may("use_default_light", Shape::Flag),
    may("vibrate_config", Shape::List(&WORD, 0, 10)),
    may("light_settings", Shape::Map),
    may("title_loc_key", WORD),
    may("title_loc_args", Shape::List(&WORD, 0, 100)),
    may("body_loc_key", WORD),
    may("body_loc_args", Shape::List(&WORD, 0, 100)),
    may("ticker", WORD),
    may("auto_cancel", Shape::Flag),
    may("local_only", Shape::Flag),
];

const CLICK: &[Field] = &[
    must("type", Shape::Whole(1, 3)),
    may("intent", Shape::Filled),
    may("action", Shape::Filled),
    may("url", Shape::Begins("https://")),
];

const BADGE: &[Field] =
    &[may("add_num", Shape::Whole(1, 99)), may("set_num", Shape::Whole(0, 99)), may("class", WORD)];

/// A refusal of a body: code and text.
#[derive(Debug)]
pub(super) struct Refused(pub(super) u32, pub(super) String);

/// What the vendor needs to know of a push.
pub(super) struct Push<'a> {
    pub(super) validate_only: bool,
    /// None if it goes to a topic or condition.
    pub(super) tokens: Option<Vec<Cow<'a, str>>>,
}

/// Looks at all of a push.
pub(super) fn strict(body: &[u8]) -> Result<Push<'static>, Refused> {
    let refused = |code, text: &str| Err(Refused(code, text.to_owned()));
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refused(80_100_003, format!("Illegal payload, {error}")))?;
    shape::check(&value, &SEND, Names::Exact).map_err(|flaw| {
        let code = match (flaw.path.as_str(), flaw.kind) {
            ("message.android.collapse_key", _) => 80_100_013,
            (_, Kind::Missing | Kind::Unknown | Kind::Type) => 80_100_003,
            (_, Kind::Value | Kind::Count) => 80_100_001,
        };
        Refused(code, format!("Illegal payload, {} {:?}", flaw.path, flaw.kind))
    })?;
    let get = |path: &str| value.pointer(path);
    let targets = ["/message/token", "/message/topic", "/message/condition"];
    match targets.iter().filter(|path| get(path).is_some()).count() {
        0 => return refused(80_300_010, "The number of tokens is illegal"),
        1 => {}
        _ => return refused(80_100_003, "Illegal payload, more than one kind of target"),
    }
    let parts = ["/message/data", "/message/android/data", "/message/android/notification"];
    if !parts.iter().any(|path| get(path).is_some()) {
        return refused(80_100_003, "Illegal payload, neither notification nor data");
    }
    if let Some(shown) = get("/message/android/notification") {
        check_shown(shown, get("/message/notification"))?;
    }
    let tokens = match get("/message/token").and_then(Value::as_array) {
        Some(tokens) => Some(checked(tokens)?),
        None => None,
    };
    if message_bytes(&value) > MESSAGE_BYTES_MAX {
        return refused(80_300_008, "The message is larger than 4096 bytes");
    }
    let validate_only = get("/validate_only").and_then(Value::as_bool).unwrap_or_default();
    Ok(Push { validate_only, tokens })
}

/// Title and body may stand in either notification; what a click does needs its own field.
fn check_shown(shown: &Value, outer: Option<&Value>) -> Result<(), Refused> {
    let has = |name: &str| shown.get(name).or_else(|| outer?.get(name)).is_some();
    if !has("title") || !has("body") {
        return Err(Refused(80_100_003, "Illegal payload, title or body is missing".to_owned()));
    }
    let click = |name: &str| shown.pointer(&format!("/click_action/{name}"));
    let complete = match click("type").and_then(Value::as_i64) {
        Some(1) => click("intent").is_some() != click("action").is_some(),
        Some(2) => click("url").is_some(),
        _ => true,
    };
    let text = "Illegal payload, click_action is incomplete".to_owned();
    if complete { Ok(()) } else { Err(Refused(80_100_003, text)) }
}

fn checked(tokens: &[Value]) -> Result<Vec<Cow<'static, str>>, Refused> {
    if tokens.is_empty() || tokens.len() > TOKENS_MAX {
        return Err(Refused(80_300_010, "The number of tokens is illegal".to_owned()));
    }
    let text = |token: &Value| token.as_str().map(|token| Cow::Owned(token.to_owned()));
    let texts: Option<Vec<_>> = tokens.iter().map(text).collect();
    texts.ok_or_else(|| Refused(80_100_003, "Illegal payload, a token is no text".to_owned()))
}

fn message_bytes(value: &Value) -> usize {
    let mut message = value.get("message").cloned().unwrap_or_default();
    if let Some(members) = message.as_object_mut() {
        members.remove("token");
    }
    message.to_string().len()
}

#[derive(Deserialize)]
struct Targets<'a> {
    #[serde(borrow)]
    message: Tokens<'a>,
}

#[derive(Deserialize)]
struct Tokens<'a> {
    #[serde(borrow)]
    token: Vec<&'a str>,
}

/// Looks at the tokens only.
pub(super) fn load(body: &[u8]) -> Result<Push<'_>, Refused> {
    let targets: Targets = serde_json::from_slice(body)
        .map_err(|error| Refused(80_100_003, format!("Illegal payload, {error}")))?;
    let tokens = targets.message.token;
    if tokens.is_empty() || tokens.len() > TOKENS_MAX {
        return Err(Refused(80_300_010, "The number of tokens is illegal".to_owned()));
    }
    let tokens = Some(tokens.into_iter().map(Cow::Borrowed).collect());
    Ok(Push { validate_only: false, tokens })
}
