//! What a push vendor shows of a message: the sender's wishes (`OfflinePushInfo`) over what its
//! elements say, in the words of [`Notification`]. The names are those of Tencent's document
//! "离线推送 OfflinePushInfo 说明" (on offline push).

use serde::Deserialize;
use serde_json::Value;

use super::{Payload, elements::Elements};
use crate::{
    notification::{Badge, BadgeChange, Notification},
    object::Object,
};

/// Most bytes of `Desc` and `Ext` together.
pub const MAX_PUSH_BYTES: usize = 3_072;

/// The sender's wishes are malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("OfflinePushInfo is not of its format")]
pub struct Malformed;

/// What the sender wants a push vendor to show.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Wishes {
    push_flag: Option<u8>,
    title: Option<String>,
    desc: Option<String>,
    ext: Option<String>,
    #[serde(default)]
    android_info: Android,
    #[serde(default)]
    apns_info: Apns,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Android {
    #[serde(rename = "Sound")]
    sound: Option<String>,
    #[serde(rename = "HuaWeiChannelID")]
    huawei_channel: Option<String>,
    #[serde(rename = "XiaoMiChannelID")]
    xiaomi_channel: Option<String>,
    #[serde(rename = "OPPOChannelID")]
    oppo_channel: Option<String>,
    #[serde(rename = "GoogleChannelID")]
    google_channel: Option<String>,
    #[serde(rename = "VIVOClassification")]
    vivo_classification: Option<u8>,
    #[serde(rename = "HuaWeiImportance")]
    huawei_importance: Option<String>,
    #[serde(rename = "ExtAsHuaweiIntentParam")]
    ext_as_intent: Option<u8>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Apns {
    sound: Option<String>,
    badge_mode: Option<u8>,
    title: Option<String>,
    sub_title: Option<String>,
    image: Option<String>,
    mutable_content: Option<u8>,
}

impl Wishes {
    /// Understands the JSON text of an `OfflinePushInfo`.
    ///
    /// # Errors
    /// [`Malformed`] if a field is of another type or range, or `Ext` is no JSON.
    pub fn parse(text: &str) -> Result<Wishes, Malformed> {
        // A list of the values in order is none.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Malformed);
        }
        let wishes: Wishes = serde_json::from_str(text).map_err(|_| Malformed)?;
        let (android, apns) = (&wishes.android_info, &wishes.apns_info);
        let switches = [
            wishes.push_flag,
            android.vivo_classification,
            android.ext_as_intent,
            apns.badge_mode,
            apns.mutable_content,
        ];
        let importance = android.huawei_importance.as_deref();
        let known = importance.is_none_or(|word| matches!(word, "LOW" | "NORMAL"));
        let ext = wishes.ext.as_deref().unwrap_or_default();
        let json = ext.is_empty() || serde_json::from_str::<Value>(ext).is_ok();
        let bytes = ext.len() + wishes.desc.as_ref().map_or(0, String::len);
        let short = bytes <= MAX_PUSH_BYTES;
        let fits = switches.into_iter().flatten().all(|switch| switch <= 1);
        if fits && known && json && short { Ok(wishes) } else { Err(Malformed) }
    }

    /// Whether no vendor is to be asked: the sender says so, or there is nothing to show.
    #[must_use]
    pub fn nothing(wishes: Option<&Wishes>, elements: &Elements) -> bool {
        let refused = wishes.is_some_and(|wishes| wishes.push_flag == Some(1));
        let said = wishes.and_then(|wishes| wishes.desc.as_deref()).unwrap_or_default();
        refused || (said.is_empty() && elements.shown.is_none())
    }
}

impl Notification {
    /// What is shown of a message, from its payload.
    ///
    /// # Errors
    /// serde's, or [`Malformed`]'s, for what is no payload; none for what was accepted.
    pub fn of_chat(payload: &str) -> Result<Notification, String> {
        let payload: Payload = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        let elements = Elements::parse(payload.msg_body.0.get());
        let elements = elements.map_err(|error| error.to_string())?;
        let info = payload.offline_push_info.as_ref().map(|info| Wishes::parse(info.0.get()));
        let wishes = info.transpose().map_err(|error| error.to_string())?;
        Ok(of(wishes, elements))
    }
}

fn of(wishes: Option<Wishes>, elements: Elements) -> Notification {
    // What the sender wishes replaces what its own element says of pushes.
    let own = wishes.is_none();
    let Wishes { title, desc, ext, android_info, apns_info, .. } = wishes.unwrap_or_default();
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let sound = if own { elements.sound.clone() } else { None };
    let ext = some(ext).or(elements.ext.filter(|_| own));
    let mut pairs = Object::new();
    if let Some(ext) = &ext {
        pairs.put("ext", ext);
    }
    // 1: the number on the icon stays as it is.
    let counted = apns_info.badge_mode != Some(1);
    let mut vendors = Object::new();
    for (name, object) in [
        ("apns", apns(&apns_info, sound.as_deref())),
        ("huawei", huawei(&android_info)),
        ("fcmV1", google(&android_info, sound.as_deref())),
        ("xiaomi", one("channelId", android_info.xiaomi_channel.as_deref())),
        ("oppo", one("channelId", android_info.oppo_channel.as_deref())),
        (
            "vivo",
            android_info
                .vivo_classification
                .map_or_else(Object::new, |class| Object::new().with("classification", &class)),
        ),
    ] {
        if !object.is_empty() {
            vendors.put(name, &object);
        }
    }
    Notification {
        title: some(title),
        sub_title: some(apns_info.sub_title),
        content: some(desc).or(elements.shown),
        ext: pairs,
        badge: Badge { change: counted.then_some(BadgeChange::Add(1)), activity: None },
        vendors,
        ..Notification::default()
    }
}

fn one(name: &str, value: Option<&str>) -> Object {
    value.map_or_else(Object::new, |value| Object::new().with(name, value))
}

fn apns(info: &Apns, sound: Option<&str>) -> Object {
    let mut object = one("sound", info.sound.as_deref().or(sound));
    if let Some(title) = info.title.as_deref().filter(|title| !title.is_empty()) {
        object.put("title", title);
    }
    if let Some(image) = &info.image {
        object.put("ext", &Object::new().with("image", image));
    }
    if info.mutable_content == Some(1) || info.image.is_some() {
        object.put("mutableContent", &true);
    }
    object
}

fn huawei(info: &Android) -> Object {
    let mut shown = one("channelId", info.huawei_channel.as_deref());
    if let Some(importance) = &info.huawei_importance {
        shown.put("importance", importance);
    }
    if let Some(sound) = &info.sound {
        shown.put("sound", sound);
    }
    within("message", within("android", within("notification", shown)))
}

fn google(info: &Android, sound: Option<&str>) -> Object {
    let mut shown = one("channelId", info.google_channel.as_deref());
    if let Some(sound) = info.sound.as_deref().or(sound) {
        shown.put("sound", sound);
    }
    within("androidConfig", within("androidNotification", shown))
}

/// An object in another, unless there is nothing in it.
fn within(name: &str, object: Object) -> Object {
    if object.is_empty() { object } else { Object::new().with(name, &object) }
}
