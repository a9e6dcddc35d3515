//! Fields of a UMS body: typed access that says exactly what is wrong. `null` and the empty text
//! count as missing, as the protocol's clients send both for what they don't have.

use std::{borrow::Cow, collections::HashMap};

use domain::message::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::codes::Input;

/// Longest id, name or package, in characters.
pub const MAX_NAME: usize = 100;
/// Longest device type code, in characters.
pub const MAX_TYPE_ID: usize = 64;
/// Longest message, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Most items of a list, counted before duplicates go.
pub const MAX_ITEMS: usize = 200;

/// The fields of a JSON object, not yet looked into.
#[derive(Debug, Default)]
pub struct Fields<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

/// A key that borrows when it can.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// The fields of a body.
    pub fn parse(body: &'a [u8]) -> Result<Fields<'a>, Input> {
        let fields: HashMap<Name<'a>, &'a RawValue> =
            serde_json::from_slice(body).map_err(|_| Input::Rule)?;
        Ok(Fields(fields.into_iter().map(|(Name(name), value)| (name, value)).collect()))
    }

    /// A field's raw text, if it is there and not null.
    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A text of at most so many characters, if it is there and not empty.
    pub fn text(&self, name: &str, most: usize) -> Result<Option<String>, Input> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text: String = serde_json::from_str(raw.get()).map_err(|_| Input::WrongType)?;
        checked(text, most).map(|text| Some(text).filter(|text| !text.is_empty()))
    }

    /// A text that must be there.
    pub fn required(&self, name: &str, most: usize) -> Result<String, Input> {
        self.text(name, most)?.ok_or(Input::Missing)
    }

    /// A whole number, if it is there.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Input> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(number) => Ok(Some(number)),
            // A number that is whole but does not fit is of the right type.
            Err(_) if is_whole(raw.get()) => Err(Input::OutOfRange),
            Err(_) => Err(Input::WrongType),
        }
    }

    /// A truth value; false if it is not there.
    pub fn flag(&self, name: &str) -> Result<bool, Input> {
        let Some(raw) = self.raw(name) else { return Ok(false) };
        serde_json::from_str(raw.get()).map_err(|_| Input::WrongType)
    }

    /// A list of texts that must be there and not be empty.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, Input> {
        let raw = self.raw(name).ok_or(Input::Missing)?;
        let items: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| Input::WrongType)?;
        if items.is_empty() {
            return Err(Input::Missing);
        }
        if items.len() > MAX_ITEMS {
            return Err(Input::WrongLength);
        }
        let text = |item: &RawValue| {
            let text: String = serde_json::from_str(item.get()).map_err(|_| Input::WrongType)?;
            if text.is_empty() { Err(Input::Missing) } else { checked(text, MAX_NAME) }
        };
        items.into_iter().map(text).collect()
    }

    /// An object with its own fields, and its text as it came.
    pub fn object(&self, name: &str) -> Result<Option<(Fields<'a>, RawJson)>, Input> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let fields = Fields::parse(raw.get().as_bytes()).map_err(|_| Input::WrongType)?;
        Ok(Some((fields, RawJson(raw.to_owned()))))
    }

    /// The business message: any object, passed through as it came.
    pub fn message(&self) -> Result<Option<RawJson>, Input> {
        let Some(raw) = self.raw("message") else { return Ok(None) };
        if !raw.get().starts_with('{') {
            return Err(Input::WrongType);
        }
        if raw.get().len() > MAX_MESSAGE_BYTES {
            return Err(Input::WrongLength);
        }
        Ok(Some(RawJson(raw.to_owned())))
    }
}

/// A text of at most so many characters and without U+0000, which no database index takes.
fn checked(text: String, most: usize) -> Result<String, Input> {
    if text.len() > most && text.chars().count() > most {
        return Err(Input::WrongLength);
    }
    if text.contains('\0') { Err(Input::Rule) } else { Ok(text) }
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
