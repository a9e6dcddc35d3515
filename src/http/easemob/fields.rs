//! Fields of a body, and of a query: typed access that says which name is wrong, and how. `null`
//! counts as absent, as clients send it for what they don't have.

use std::{borrow::Cow, collections::HashMap};

use domain::message::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::errors::Problem;

/// Longest username, in bytes.
pub const MAX_USERNAME_BYTES: usize = 64;
/// Longest label name, in characters.
pub const MAX_LABEL: usize = 64;
/// Largest page, and largest list of usernames.
pub const MAX_PAGE: i64 = 100;

/// The fields of a JSON object, not yet looked into.
#[derive(Debug, Default)]
pub struct Fields<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

/// A key that borrows when it can.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// The fields of a body.
    pub fn parse(body: &'a [u8]) -> Result<Fields<'a>, Problem> {
        let fields: HashMap<Name<'a>, &'a RawValue> =
            serde_json::from_slice(body).map_err(|_| Problem::NotJson)?;
        Ok(Fields(fields.into_iter().map(|(Name(name), value)| (name, value)).collect()))
    }

    /// A field's raw text, if it is there and not null.
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }

    /// A text, if it is there.
    pub fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text: String =
            serde_json::from_str(raw.get()).map_err(|_| wrong(name, "must be a string"))?;
        checked(name, text).map(Some)
    }

    /// A text that must be there; it may be empty.
    pub fn required(&self, name: &str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| Problem::Illegal(format!("{name} must be provided")))
    }

    /// A whole number, if it is there.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let number = serde_json::from_str(raw.get());
        number.map(Some).map_err(|_| wrong(name, "must be an integer"))
    }

    /// A truth value; false if it is not there.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        let Some(raw) = self.raw(name) else { return Ok(false) };
        serde_json::from_str(raw.get()).map_err(|_| wrong(name, "must be true or false"))
    }

    /// A list of 1 to so many texts, counted before duplicates go.
    pub fn texts(&self, name: &str, most: usize) -> Result<Vec<String>, Problem> {
        let missing = || Problem::Illegal(format!("{name} must be provided"));
        let raw = self.raw(name).ok_or_else(missing)?;
        let texts: Vec<String> = serde_json::from_str(raw.get())
            .map_err(|_| wrong(name, "must be a list of strings"))?;
        if texts.is_empty() || texts.len() > most {
            return Err(wrong(name, &format!("must have 1 to {most} items")));
        }
        texts.into_iter().map(|text| checked(name, text)).collect()
    }
}

/// A name whose value is wrong.
pub fn wrong(name: &str, how: &str) -> Problem {
    Problem::Illegal(format!("{name} {how}"))
}

/// A text without U+0000, which no database index takes.
fn checked(name: &str, text: String) -> Result<String, Problem> {
    if text.contains('\0') { Err(wrong(name, "must not contain U+0000")) } else { Ok(text) }
}

/// A text of at most so many characters.
pub fn short(name: &str, text: &str, most: usize) -> Result<(), Problem> {
    if text.chars().count() > most {
        return Err(wrong(name, &format!("must not be longer than {most} characters")));
    }
    Ok(())
}

/// A piece of JSON text as it came.
pub fn raw_json(raw: &RawValue) -> RawJson {
    RawJson(raw.to_owned())
}

/// A name in lower case, if it can be a user's.
pub fn username(name: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let legal = (1..=MAX_USERNAME_BYTES).contains(&name.len()) && name.bytes().all(plain);
    legal.then(|| name.to_ascii_lowercase())
}

/// What a query asks of a list: how many, and after what.
pub struct Page {
    /// How many, at most.
    pub limit: i64,
    /// After what: the parts of the cursor.
    pub after: Option<(i64, String)>,
}

impl Page {
    /// The page that a query asks for.
    pub fn of(query: &HashMap<String, String>, default: i64) -> Result<Page, Problem> {
        let limit = match query.get("limit").filter(|text| !text.is_empty()) {
            Some(text) => text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)),
            None => Some(default),
        };
        let limit = limit.ok_or_else(|| wrong("limit", "must be 1 to 100"))?;
        let cursor = query.get("cursor").filter(|text| !text.is_empty());
        let after =
            cursor.map(|cursor| uncursor(cursor).ok_or_else(|| wrong("cursor", "is unknown")));
        Ok(Page { limit, after: after.transpose()? })
    }

    /// Cuts what was read with one more than asked for; gives the last that stays, if there is more.
    pub fn more<'a, T>(&self, found: &'a mut Vec<T>) -> Option<&'a T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if found.len() <= limit {
            return None;
        }
        found.truncate(limit);
        found.last()
    }

    /// The position to go on from.
    pub fn position(&self) -> i64 {
        self.after.as_ref().map_or(0, |(position, _)| *position)
    }
}

/// A cursor that goes on after a row. Callers take it as it is.
pub fn cursor(position: i64, name: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(format!("{position}:{name}"))
}

fn uncursor(text: &str) -> Option<(i64, String)> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (position, name) = text.split_once(':')?;
    if name.contains('\0') {
        return None;
    }
    Some((position.parse().ok().filter(|position| *position >= 0)?, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_ignore_case_and_have_64_bytes_at_most() {
        assert_eq!(username("Ann_1.b-C").as_deref(), Some("ann_1.b-c"));
        assert!(username(&"a".repeat(64)).is_some());
        for wrong in ["", "a b", "安", "a/b", "a@b", &"a".repeat(65)] {
            assert_eq!(username(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_cursor_says_where_it_was_made() {
        assert_eq!(uncursor(&cursor(7, "a:b")), Some((7, "a:b".to_owned())));
        for wrong in ["!", "", "Og", "eDp5", "LTE6YQ", "MTphAA"] {
            assert_eq!(uncursor(wrong), None, "{wrong}");
        }
    }
}
