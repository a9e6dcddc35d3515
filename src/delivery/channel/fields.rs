//! What the channels share in filling a vendor's fields: the sender's pairs, and the caller's own
//! objects for one vendor, whose names are turned from Easemob's spelling into the vendor's.

use domain::{
    notification::{BadgeChange, Notification},
    object::{Object, raw},
    vendor::Unfit,
};
use serde_json::value::RawValue;

use super::template::Options;

/// Name of the message's id among the sender's pairs.
pub(super) const MESSAGE_ID: &str = "messageId";
/// Names among the sender's pairs of what a click does, and of what the icon's number grows by.
const CLICK: &str = "clickAction";
const BADGE: &str = "badgeAddNum";
/// Longest object for one vendor, in bytes of JSON text. No vendor takes a payload as large.
const MAX_OVERRIDE_BYTES: usize = 16 * 1024;
/// Levels of a vendor's object whose names are turned.
const MAX_LEVELS: usize = 8;

/// The sender's pairs, and the message's id; a pair of the sender's with that name stays.
pub(super) fn data(notification: &Notification, options: &Options) -> Object {
    let mut data = notification.ext.clone();
    if data.get(MESSAGE_ID).is_none() {
        data.put(MESSAGE_ID, &options.message.to_string());
    }
    data
}

/// The same with what a click does, where the vendor has no field for all of it.
pub(super) fn with_click(mut data: Object, notification: &Notification) -> Object {
    let click = &notification.click;
    let mut action = Object::new();
    for (name, value) in
        [("url", &click.url), ("action", &click.action), ("activity", &click.activity)]
    {
        if let Some(value) = value {
            action.put(name, value);
        }
    }
    if !action.is_empty() && data.get(CLICK).is_none() {
        data.put(CLICK, &action);
    }
    data
}

/// The same with what the number on the icon grows by, where the vendor can only set it.
pub(super) fn with_badge(mut data: Object, notification: &Notification) -> Object {
    if let (Some(BadgeChange::Add(by)), None) = (notification.badge.change, data.get(BADGE)) {
        data.put(BADGE, &by);
    }
    data
}

/// The caller's object for a vendor; empty if there is none.
pub(super) fn own(notification: &Notification, name: &str) -> Result<Object, Unfit> {
    let length = notification.vendors.get(name).map_or(0, |value| value.get().len());
    if length > MAX_OVERRIDE_BYTES {
        return Err(Unfit::TooLarge);
    }
    Ok(notification.vendor(name))
}

/// The same pairs with every value as text, as FCM takes no other.
pub(super) fn as_texts(object: &Object) -> Object {
    let mut texts = Object::new();
    for (name, value) in object.iter() {
        match serde_json::from_str::<String>(value.get()) {
            Ok(_) => texts.set(name, value.to_owned()),
            Err(_) => texts.put(name, value.get()),
        }
    }
    texts
}

/// `collapseKey` as `collapse_key`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The object with its names, and those of the objects within, in snake case. What `keep` names is
/// the app's or another vendor's, and stays as it is.
pub(super) fn snaked(object: &Object, keep: &[&str]) -> Object {
    snaked_levels(object, keep, MAX_LEVELS)
}

fn snaked_levels(object: &Object, keep: &[&str], levels: usize) -> Object {
    let mut snaked = Object::new();
    for (name, value) in object.iter() {
        let value = if keep.contains(&name) || levels == 0 {
            value.to_owned()
        } else {
            snaked_value(value, keep, levels)
        };
        snaked.set(&snake(name), value);
    }
    snaked
}

fn snaked_value(value: &RawValue, keep: &[&str], levels: usize) -> Box<RawValue> {
    if let Some(object) = Object::parse(value.get()) {
        return raw(&snaked_levels(&object, keep, levels - 1));
    }
    // Of lists only those of objects have names: Huawei's buttons.
    match serde_json::from_str::<Vec<Object>>(value.get()) {
        Ok(list) => {
            let list = list.iter().map(|object| snaked_levels(object, keep, levels - 1));
            raw(&list.collect::<Vec<_>>())
        }
        Err(_) => value.to_owned(),
    }
}

/// Moves a member to another object under another name, if it is there and not `null`.
pub(super) fn move_to(from: &mut Object, name: &str, to: &mut Object, new_name: &str) {
    if let Some(value) = from.take(name).filter(|value| value.get() != "null") {
        to.set(new_name, value);
    }
}
