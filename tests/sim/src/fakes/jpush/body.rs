//! The body of a JPush v3 push: its shape, its sizes and its targets.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::super::shape::{self, Field, Kind, Names, Shape, may, must};

/// Registration ids or aliases in one push, at most.
const IDS_MAX: usize = 1_000;
/// Tags of one kind in one push, at most.
const TAGS_MAX: usize = 20;
/// Bytes of an alias or tag, at most.
const NAME_BYTES_MAX: usize = 40;
/// Seconds a message is kept, at most: 10 days.
const TTL_SECONDS_MAX: i64 = 864_000;
/// Minutes that a push may be spread over.
const SPREAD_MINUTES_MAX: i64 = 1_400;
/// Bytes of `notification.android` and `message` together, at most.
const ANDROID_BYTES_MAX: usize = 4_000;
/// Bytes of `notification.ios`, at most.
const IOS_BYTES_MAX: usize = 2_000;
/// Bytes of `options.apns_collapse_id`, at most.
const COLLAPSE_BYTES_MAX: usize = 64;

const WORD: Shape = Shape::Text(usize::MAX);

const PUSH: Shape = Shape::Object(&[
    may("cid", Shape::Filled),
    must("platform", Shape::Either(&[Shape::Choice(&["all"]), Shape::List(&PLATFORM, 1, 5)])),
    must("audience", Shape::Either(&[Shape::Choice(&["all"]), Shape::Object(AUDIENCE)])),
    may("notification", Shape::Object(NOTIFICATION)),
    may("message", Shape::Object(MESSAGE)),
    may("notification_3rd", Shape::Map),
    may("inapp_message", Shape::Map),
    may("live_activity", Shape::Map),
    may("sms_message", Shape::Map),
    may("options", Shape::Object(OPTIONS)),
    may("callback", Shape::Object(CALLBACK)),
]);

const PLATFORM: Shape = Shape::Choice(&["android", "ios", "hmos", "quickapp", "winphone"]);
const ID: Shape = Shape::Filled;
const NAME: Shape = Shape::Text(NAME_BYTES_MAX);
const TAGS: Shape = Shape::List(&NAME, 1, TAGS_MAX);

const AUDIENCE: &[Field] = &[
    may("tag", TAGS),
    may("tag_and", TAGS),
    may("tag_not", TAGS),
    may("alias", Shape::List(&NAME, 1, IDS_MAX)),
    may("registration_id", Shape::List(&ID, 1, IDS_MAX)),
    may("segment", Shape::List(&ID, 1, 1)),
    may("abtest", Shape::List(&ID, 1, 1)),
    may("file", Shape::Object(&[must("file_id", Shape::Filled)])),
    may("live_activity_id", Shape::Filled),
];

const NOTIFICATION: &[Field] = &[
    may("alert", WORD),
    may("android", Shape::Object(ANDROID)),
    may("ios", Shape::Object(IOS)),
    may("hmos", Shape::Object(HMOS)),
    may("quickapp", Shape::Map),
    may("winphone", Shape::Map),
    may("voip", Shape::Map),
];

const INTENT: Shape = Shape::Object(&[must("url", Shape::Filled)]);

const ANDROID: &[Field] = &[
    must("alert", Shape::Either(&[WORD, Shape::Map])),
    may("title", WORD),
    may("builder_id", Shape::Whole(0, 1_000)),
    may("channel_id", WORD),
    may("priority", Shape::Whole(-2, 2)),
    may("category", WORD),
    may("style", Shape::Whole(0, 3)),
    may("big_text", WORD),
    may("inbox", Shape::Map),
    may("big_pic_path", WORD),
    may("alert_type", Shape::Whole(-1, 7)),
    may("extras", Shape::Map),
    may("large_icon", WORD),
    may("small_icon_uri", WORD),
    may("intent", INTENT),
    may("uri_activity", WORD),
    may("uri_action", WORD),
    may("badge_add_num", Shape::Whole(1, 99)),
    may("badge_set_num", Shape::Whole(0, 99)),
    may("badge_class", WORD),
    may("sound", WORD),
    may("show_begin_time", WORD),
    may("show_end_time", WORD),
    may("display_foreground", Shape::Choice(&["0", "1"])),
    may("custom_buttons", Shape::Any),
    may("mipns_content_forshort", WORD),
    may("oppns_content_forshort", WORD),
    may("vpns_content_forshort", WORD),
    may("mzpns_content_forshort", WORD),
    may("icon_bg_color", WORD),
];

const IOS: &[Field] = &[
    must("alert", Shape::Either(&[WORD, Shape::Map])),
    may("sound", Shape::Either(&[WORD, Shape::Map])),
    may("badge", Shape::Either(&[Shape::Whole(0, i64::MAX), Shape::Step])),
    may("content-available", Shape::Bit),
    may("mutable-content", Shape::Bit),
    may("category", WORD),
    may("extras", Shape::Map),
    may("thread-id", WORD),
    may("interruption-level", Shape::Choice(&["passive", "active", "time-sensitive", "critical"])),
];

const HMOS: &[Field] = &[
    must("alert", Shape::Filled),
    may("title", WORD),
    may("category", WORD),
    may("large_icon", WORD),
    may("intent", INTENT),
    may("badge_add_num", Shape::Whole(1, 99)),
    may("badge_set_num", Shape::Whole(0, 99)),
    may("test_message", Shape::Flag),
    may("receipt_id", WORD),
    may("extras", Shape::Map),
    may("style", Shape::Whole(0, 3)),
    may("inbox", Shape::Map),
    may("push_type", Shape::Whole(0, 11)),
    may("extra_data", WORD),
    may("display_foreground", Shape::Choice(&["0", "1"])),
    may("sound", WORD),
    may("sound_duration", Shape::Whole(1, 60)),
    may("hm_payload", Shape::Map),
];

const MESSAGE: &[Field] = &[
    must("msg_content", Shape::Either(&[Shape::Filled, Shape::Map])),
    may("title", WORD),
    may("content_type", WORD),
    may("extras", Shape::Map),
];

const OPTIONS: &[Field] = &[
    may("sendno", Shape::Whole(1, i64::MAX)),
    may("time_to_live", Shape::Whole(0, TTL_SECONDS_MAX)),
    may("override_msg_id", Shape::Whole(1, i64::MAX)),
    may("apns_production", Shape::Flag),
    may("apns_collapse_id", Shape::Text(COLLAPSE_BYTES_MAX)),
    may("big_push_duration", Shape::Whole(1, SPREAD_MINUTES_MAX)),
    may("third_party_channel", Shape::Object(CHANNELS)),
    may("classification", Shape::Whole(0, 1)),
    may("test_message", Shape::Flag),
    may("test_model", Shape::Whole(0, 1)),
];

const CALLBACK: &[Field] =
    &[may("url", WORD), may("params", Shape::Map), may("type", Shape::Whole(1, 11))];

const CHANNELS: &[Field] = &[
    may("xiaomi", Shape::Object(CHANNEL)),
    may("huawei", Shape::Object(CHANNEL)),
    may("honor", Shape::Object(CHANNEL)),
    may("meizu", Shape::Object(CHANNEL)),
    may("oppo", Shape::Object(CHANNEL)),
    may("vivo", Shape::Object(CHANNEL)),
    may("fcm", Shape::Object(CHANNEL)),
    may("nio", Shape::Object(CHANNEL)),
    may("asus", Shape::Object(CHANNEL)),
    may("hmos", Shape::Object(CHANNEL)),
];

const WAY: Shape = Shape::Choice(&["first_ospush", "ospush", "jpush", "secondary_push"]);

const CHANNEL: &[Field] = &[
    may("distribution", WAY),
    may(
        "distribution_fcm",
        Shape::Choice(&["jpush", "fcm", "pns", "secondary_fcm_push", "secondary_pns_push"]),
    ),
    may("distribution_customize", WAY),
    may("channel_id", WORD),
    may("skip_quota", Shape::Flag),
    may("classification", Shape::Whole(0, 1)),
    may("push_mode", Shape::Whole(0, 1)),
    may("importance", Shape::Choice(&["LOW", "NORMAL", "HIGH"])),
    may("category", WORD),
    may("notify_level", Shape::Whole(1, 16)),
    may("urgency", Shape::Choice(&["HIGH", "NORMAL"])),
    may("receipt_id", WORD),
    may("target_user_type", Shape::Whole(0, 1)),
    may("callback_id", WORD),
    may("large_icon", WORD),
    may("small_icon_uri", WORD),
    may("style", Shape::Whole(0, 3)),
    may("big_text", WORD),
    may("inbox", Shape::Map),
    may("big_pic_path", WORD),
    may("only_use_vendor_style", Shape::Flag),
];

/// A refusal of a body: code and text.
#[derive(Debug)]
pub(super) struct Refused(pub(super) u16, pub(super) String);

/// What the vendor needs to know of a push.
#[derive(Default)]
pub(super) struct Push<'a> {
    pub(super) cid: Option<Cow<'a, str>>,
    pub(super) sendno: i64,
    pub(super) override_msg_id: Option<i64>,
    /// None if the audience is another one.
    pub(super) tokens: Option<Vec<Cow<'a, str>>>,
}

/// Looks at all of a push.
pub(super) fn strict(body: &[u8]) -> Result<Push<'static>, Refused> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refused(1003, format!("the body is not JSON: {error}")))?;
    shape::check(&value, &PUSH, Names::Exact).map_err(|flaw| {
        let code = match flaw.kind {
            Kind::Missing => 1002,
            Kind::Unknown => 1009,
            Kind::Type | Kind::Value | Kind::Count => 1003,
        };
        Refused(code, format!("{}: {:?}", flaw.path, flaw.kind))
    })?;
    let kinds = ["notification", "message", "notification_3rd", "inapp_message", "live_activity"];
    if !kinds.iter().any(|kind| value.get(kind).is_some()) {
        return Err(Refused(1002, "neither notification nor message".to_owned()));
    }
    if value.pointer("/audience").and_then(Value::as_object).is_some_and(|kinds| kinds.is_empty()) {
        return Err(Refused(1002, "audience is empty".to_owned()));
    }
    sizes(&value)?;
    let number = |path: &str| value.pointer(path).and_then(Value::as_i64);
    let text = |value: &Value| value.as_str().map(|text| Cow::Owned(text.to_owned()));
    let ids = value.pointer("/audience/registration_id").and_then(Value::as_array);
    Ok(Push {
        cid: value.get("cid").and_then(text),
        sendno: number("/options/sendno").unwrap_or_default(),
        override_msg_id: number("/options/override_msg_id"),
        tokens: ids.map(|ids| ids.iter().filter_map(text).collect()),
    })
}

fn sizes(value: &Value) -> Result<(), Refused> {
    let bytes = |path: &str| value.pointer(path).map_or(0, |part| part.to_string().len());
    if bytes("/notification/android") + bytes("/message") > ANDROID_BYTES_MAX {
        return Err(Refused(1005, format!("more than {ANDROID_BYTES_MAX} bytes for Android")));
    }
    if bytes("/notification/ios") > IOS_BYTES_MAX {
        return Err(Refused(1005, format!("more than {IOS_BYTES_MAX} bytes for iOS")));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Targets<'a> {
    #[serde(borrow)]
    cid: Option<&'a str>,
    #[serde(borrow)]
    audience: Ids<'a>,
}

#[derive(Deserialize)]
struct Ids<'a> {
    #[serde(borrow)]
    registration_id: Vec<&'a str>,
}

/// Looks at the cid and the registration ids only.
pub(super) fn load(body: &[u8]) -> Result<Push<'_>, Refused> {
    let targets: Targets = serde_json::from_slice(body)
        .map_err(|error| Refused(1003, format!("no registration ids: {error}")))?;
    let ids = targets.audience.registration_id;
    if ids.is_empty() || ids.len() > IDS_MAX {
        return Err(Refused(1003, format!("audience.registration_id: {} ids", ids.len())));
    }
    let tokens = Some(ids.into_iter().map(Cow::Borrowed).collect());
    Ok(Push { cid: targets.cid.map(Cow::Borrowed), tokens, ..Push::default() })
}
