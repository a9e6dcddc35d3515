//! Easemob's objects for single vendors in the names of JPush, which speaks to those vendors: for
//! Android's in `options.third_party_channel`, for Apple's in `notification.ios`, for HarmonyOS in
//! `notification.hmos`. What JPush has no name for is left out; `docs/vendors.md` lists it.

use domain::{
    notification::Notification,
    object::{Object, raw},
    vendor::Unfit,
};

use super::{
    apns::ALERT,
    fields::{move_to, own},
};

/// Pairs of names: Easemob's, and JPush's.
type Names = [(&'static str, &'static str)];

/// Where in an object of Easemob's the names stand that JPush knows for its vendor.
const CHANNELS: [(&str, &[&str], &Names); 6] = [
    ("xiaomi", &[], &[("channelId", "channel_id")]),
    (
        "huawei",
        &["message", "android"],
        &[
            ("category", "category"),
            ("urgency", "urgency"),
            ("receiptId", "receipt_id"),
            ("targetUserType", "target_user_type"),
        ],
    ),
    (
        "huawei",
        &["message", "android", "notification"],
        &[("channelId", "channel_id"), ("importance", "importance")],
    ),
    ("honor", &["androidConfig", "androidNotification"], &[("importance", "importance")]),
    ("oppo", &[], &[("channelId", "channel_id")]),
    (
        "vivo",
        &[],
        &[
            ("classification", "classification"),
            ("category", "category"),
            ("pushMode", "push_mode"),
        ],
    ),
];

/// What Apple's object says that JPush hands on under the same names as Apple has.
const IOS: [(&str, &str); 5] = [
    ("badge", "badge"),
    ("sound", "sound"),
    ("categoryName", "category"),
    ("threadId", "thread-id"),
    ("interruptionLevel", "interruption-level"),
];

const HMOS: [(&str, &str); 8] = [
    ("body", "alert"),
    ("title", "title"),
    ("category", "category"),
    ("isTestMessage", "test_message"),
    ("receiptId", "receipt_id"),
    ("addNum", "badge_add_num"),
    ("setNum", "badge_set_num"),
    ("pushType", "push_type"),
];

/// What goes into `options.third_party_channel`; empty if the caller said nothing of it.
pub(super) fn channels(notification: &Notification) -> Result<Object, Unfit> {
    let mut channels = Object::new();
    for (vendor, place, names) in CHANNELS {
        let mut given = own(notification, vendor)?;
        for name in place {
            given = given.read(name).unwrap_or_default();
        }
        let mut channel: Object = channels.read(vendor).unwrap_or_default();
        for (name, own) in names {
            move_to(&mut given, name, &mut channel, own);
        }
        if !channel.is_empty() {
            channels.put(vendor, &channel);
        }
    }
    Ok(channels)
}

/// Lays Apple's object over `notification.ios`.
pub(super) fn over_ios(notification: &Notification, ios: &mut Object) -> Result<(), Unfit> {
    let mut given = own(notification, "apns")?;
    let mut alert: Object = ios.read("alert").unwrap_or_default();
    for (name, own) in ALERT {
        move_to(&mut given, name, &mut alert, own);
    }
    ios.put("alert", &alert);
    for (name, own) in IOS {
        move_to(&mut given, name, ios, own);
    }
    for (name, own) in
        [("mutableContent", "mutable-content"), ("contentAvailable", "content-available")]
    {
        let wanted = given.read::<bool>(name).or_else(|| Some(given.read::<i64>(name)? == 1));
        if wanted == Some(true) {
            ios.set(own, raw(&true));
        }
    }
    if let Some(pairs) = given.read::<Object>("ext") {
        let mut extras: Object = ios.read("extras").unwrap_or_default();
        extras.merge(pairs);
        ios.put("extras", &extras);
    }
    Ok(())
}

/// `notification.hmos`, if the caller has an object for HarmonyOS.
pub(super) fn hmos(notification: &Notification, extras: &Object) -> Result<Option<Object>, Unfit> {
    let mut given = own(notification, "harmonyOS")?;
    if given.is_empty() {
        return Ok(None);
    }
    let mut hmos =
        Object::new().with("alert", notification.content()).with("title", notification.title());
    for (name, own) in HMOS {
        move_to(&mut given, name, &mut hmos, own);
    }
    // JPush tells by its form whether it is an address or an action.
    let target = given.read::<String>("uri").or_else(|| given.read("action"));
    if let Some(target) = target {
        hmos.put("intent", &Object::new().with("url", &target));
    }
    let mut extras = extras.clone();
    if let Some(pairs) = given.read::<Object>("data") {
        extras.merge(pairs);
    }
    Ok(Some(hmos.with("extras", &extras)))
}

/// Apple's id under which one notification replaces another.
pub(super) fn collapse_id(notification: &Notification) -> Result<Option<String>, Unfit> {
    Ok(own(notification, "apns")?.read("collapseId"))
}
