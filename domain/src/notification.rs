//! What is shown on a device: the text of an Easemob `pushMessage`, understood. Its 16 names are
//! those of Easemob's document "配置推送通知" (configure push notifications); its vendor objects are
//! kept as they came, for the channels to lay over the basic fields.
//!
//! Callers of the Easemob endpoints are refused by [`Notification::parse`]; the delivery machine
//! hands the result to a vendor channel.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::object::Object;

/// Title of a notification that has none: "You have a new message".
pub const DEFAULT_TITLE: &str = "您有一条新消息";
/// Content of a notification that has none: "Please look soon".
pub const DEFAULT_CONTENT: &str = "请及时查看";
/// Width of a title: an ordinary character is 1, a Chinese one is 2.
pub const MAX_TITLE_WIDTH: usize = 32;
/// Width of a content, counted in the same way.
pub const MAX_CONTENT_WIDTH: usize = 100;
/// Characters of a subtitle.
pub const MAX_SUB_TITLE_CHARS: usize = 10;
/// Pairs in `ext`.
pub const MAX_EXT_PAIRS: usize = 10;
/// Characters of the JSON text of `ext`, without white space between its pairs.
pub const MAX_EXT_CHARS: usize = 1024;
/// Characters of each text in `config`.
pub const MAX_CONFIG_CHARS: usize = 1024;
/// Name in `ext` of an opaque payload, as the terminals of Haier UMS look for it.
pub const OPAQUE_NAME: &str = "content";

/// A notification.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Notification {
    /// Whether it is only data for the app: a vendor then shows nothing by itself.
    pub silent: bool,
    /// Title; if absent, [`DEFAULT_TITLE`].
    pub title: Option<String>,
    /// Second title, which only Apple's devices show.
    pub sub_title: Option<String>,
    /// Text; if absent, [`DEFAULT_CONTENT`].
    pub content: Option<String>,
    /// The sender's own pairs, for the app.
    pub ext: Object,
    /// What a click does; nothing: it opens the app.
    pub click: ClickAction,
    /// What becomes of the number on the app's icon.
    pub badge: Badge,
    /// The objects for one vendor each, under their names in `pushMessage`.
    pub vendors: Object,
    /// Names that nobody knows, kept as they came.
    pub others: Object,
}

/// What a click on the notification does, on Android.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClickAction {
    /// Opens an address.
    pub url: Option<String>,
    /// Sends an intent with this action.
    pub action: Option<String>,
    /// Opens this activity.
    pub activity: Option<String>,
}

/// The number on the app's icon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Badge {
    /// What becomes of it; nothing: it stays.
    pub change: Option<BadgeChange>,
    /// The activity whose icon it is, as Huawei wants to know.
    pub activity: Option<String>,
}

/// What becomes of the number on the app's icon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadgeChange {
    /// It grows by this, at least 1.
    Add(i64),
    /// It is this from now on, at least 0.
    Set(i64),
}

impl BadgeChange {
    /// From `addNum` and `setNum`. The document's template has both as 0, where neither is meant;
    /// so a number above 0 counts before a 0, and `setNum` alone may be 0.
    fn of(add: Option<i64>, set: Option<i64>) -> Option<BadgeChange> {
        match (add, set) {
            (_, Some(set @ 1..)) => Some(BadgeChange::Set(set)),
            (Some(add @ 1..), _) => Some(BadgeChange::Add(add)),
            (None, Some(0)) => Some(BadgeChange::Set(0)),
            _ => None,
        }
    }
}

/// Names of the objects for one vendor each. `jpush` is ours: Easemob has none for JPush.
pub const VENDOR_NAMES: [&str; 12] = [
    "easemob",
    "apns",
    "fcm",
    "fcmV1",
    "xiaomi",
    "vivo",
    "oppo",
    "meizu",
    "huawei",
    "honor",
    "harmonyOS",
    "jpush",
];

/// A `pushMessage` is refused: which name is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {fault}")]
pub struct Malformed {
    /// The name, with those it lies in: `config.badge.addNum`.
    pub key: &'static str,
    /// What is wrong with its value.
    pub fault: Fault,
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not an object.
    NotAnObject,
    /// Not a text.
    NotText,
    /// Not a whole number.
    NotANumber,
    /// Longer than so many characters.
    TooLong(usize),
    /// More than so many pairs.
    TooMany(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotAnObject => f.write_str("must be an object"),
            Fault::NotText => f.write_str("must be a string"),
            Fault::NotANumber => f.write_str("must be an integer"),
            Fault::TooLong(limit) => write!(f, "must not be longer than {limit} characters"),
            Fault::TooMany(limit) => write!(f, "must not have more than {limit} pairs"),
        }
    }
}

impl Notification {
    /// Understands the JSON text of a `pushMessage`. `null` counts as absent, and so does an empty
    /// title, subtitle or content; `sub_title` is another spelling of `subTitle`.
    ///
    /// # Errors
    /// [`Malformed`] names the first name that is wrong, in the order of the fields here.
    pub fn parse(text: &str) -> Result<Notification, Malformed> {
        let wrong = Malformed { key: "pushMessage", fault: Fault::NotAnObject };
        let mut given = Object::parse(text).ok_or(wrong)?;
        let title = text_of(given.take("title"), "title")?;
        let other_spelling = text_of(given.take("sub_title"), "sub_title")?;
        let sub_title = text_of(given.take("subTitle"), "subTitle")?.or(other_spelling);
        let content = text_of(given.take("content"), "content")?;
        short("title", title.as_deref(), width, MAX_TITLE_WIDTH)?;
        short("subTitle", sub_title.as_deref(), |text| text.chars().count(), MAX_SUB_TITLE_CHARS)?;
        short("content", content.as_deref(), width, MAX_CONTENT_WIDTH)?;
        let ext = ext_of(given.take("ext"))?;
        let (click, badge) = config_of(given.take("config"))?;
        let mut vendors = Object::new();
        for name in VENDOR_NAMES {
            if let Some(value) = present(given.take(name)) {
                // What is not one of Easemob's names was never promised to be an object.
                match object_of(&value, name) {
                    Ok(_) => vendors.set(name, value),
                    Err(_) if name == "jpush" => given.set(name, value),
                    Err(malformed) => return Err(malformed),
                }
            }
        }
        let (silent, others) = (false, given);
        Ok(Notification { silent, title, sub_title, content, ext, click, badge, vendors, others })
    }

    /// A payload of another protocol, which only the app understands: it travels as text `content`
    /// of `ext`, in base64, and nothing is shown by the vendor.
    #[must_use]
    pub fn opaque(payload: &str) -> Notification {
        let ext = Object::new().with(OPAQUE_NAME, &STANDARD.encode(payload));
        Notification { silent: true, ext, ..Notification::default() }
    }

    /// The title, or the documented one.
    #[must_use]
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(DEFAULT_TITLE)
    }

    /// The content, or the documented one.
    #[must_use]
    pub fn content(&self) -> &str {
        self.content.as_deref().unwrap_or(DEFAULT_CONTENT)
    }

    /// The object for a vendor, by its name in `pushMessage`; empty if there is none.
    #[must_use]
    pub fn vendor(&self, name: &str) -> Object {
        self.vendors.read(name).unwrap_or_default()
    }
}

/// How wide a text is: each Chinese character, and each of the signs that are as wide, counts 2.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

/// CJK ideographs, their punctuation and full-width forms, kana and hangul.
fn is_wide(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}' | '\u{20000}'..='\u{3fffd}')
}

fn present(value: Option<Box<RawValue>>) -> Option<Box<RawValue>> {
    value.filter(|value| value.get() != "null")
}

fn object_of(value: &RawValue, key: &'static str) -> Result<Object, Malformed> {
    Object::parse(value.get()).ok_or(Malformed { key, fault: Fault::NotAnObject })
}

/// A text; an empty one is none.
fn text_of(value: Option<Box<RawValue>>, key: &'static str) -> Result<Option<String>, Malformed> {
    let text: Option<String> = read(value, Malformed { key, fault: Fault::NotText })?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn read<T: for<'a> Deserialize<'a>>(
    value: Option<Box<RawValue>>,
    wrong: Malformed,
) -> Result<Option<T>, Malformed> {
    let Some(value) = present(value) else { return Ok(None) };
    serde_json::from_str(value.get()).map(Some).map_err(|_| wrong)
}

fn short(
    key: &'static str,
    text: Option<&str>,
    measure: impl Fn(&str) -> usize,
    limit: usize,
) -> Result<(), Malformed> {
    let fits = text.is_none_or(|text| measure(text) <= limit);
    if fits { Ok(()) } else { Err(Malformed { key, fault: Fault::TooLong(limit) }) }
}

fn ext_of(value: Option<Box<RawValue>>) -> Result<Object, Malformed> {
    let Some(value) = present(value) else { return Ok(Object::new()) };
    let ext = object_of(&value, "ext")?;
    if ext.len() > MAX_EXT_PAIRS {
        return Err(Malformed { key: "ext", fault: Fault::TooMany(MAX_EXT_PAIRS) });
    }
    short("ext", Some(&ext.text()), |text| text.chars().count(), MAX_EXT_CHARS)?;
    Ok(ext)
}

fn config_of(value: Option<Box<RawValue>>) -> Result<(ClickAction, Badge), Malformed> {
    let Some(value) = present(value) else { return Ok(Default::default()) };
    let mut config = object_of(&value, "config")?;
    let mut click = inner(&mut config, "clickAction", "config.clickAction")?;
    let mut badge = inner(&mut config, "badge", "config.badge")?;
    let click = ClickAction {
        url: config_text(&mut click, "url", "config.clickAction.url")?,
        action: config_text(&mut click, "action", "config.clickAction.action")?,
        activity: config_text(&mut click, "activity", "config.clickAction.activity")?,
    };
    let badge = Badge {
        change: BadgeChange::of(
            number_of(badge.take("addNum"), "config.badge.addNum")?,
            number_of(badge.take("setNum"), "config.badge.setNum")?,
        ),
        activity: config_text(&mut badge, "activity", "config.badge.activity")?,
    };
    Ok((click, badge))
}

fn inner(outer: &mut Object, name: &str, key: &'static str) -> Result<Object, Malformed> {
    match present(outer.take(name)) {
        Some(value) => object_of(&value, key),
        None => Ok(Object::new()),
    }
}

fn config_text(
    object: &mut Object,
    name: &str,
    key: &'static str,
) -> Result<Option<String>, Malformed> {
    let text = text_of(object.take(name), key)?;
    short(key, text.as_deref(), |text| text.chars().count(), MAX_CONFIG_CHARS)?;
    Ok(text)
}

fn number_of(value: Option<Box<RawValue>>, key: &'static str) -> Result<Option<i64>, Malformed> {
    read(value, Malformed { key, fault: Fault::NotANumber })
}
