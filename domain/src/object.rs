//! A JSON object whose values stay as they were written: a number of any length or precision comes
//! out as it went in. [`notification`](crate::notification) keeps what callers gave in it, and the
//! vendor channels build their bodies from it.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use crate::message::RawJson;

/// Levels that are merged; what lies deeper is replaced as a whole.
const MAX_LEVELS: usize = 16;

/// Names with raw values, in the order in which they were given. A name given twice has its last
/// value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(String, RawJson)>);

impl Object {
    /// An object without anything in it.
    #[must_use]
    pub fn new() -> Object {
        Object::default()
    }

    /// The object of a JSON text; none if the text is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Object> {
        serde_json::from_str(text).ok()
    }

    /// How many names it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its names and the JSON texts of their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &*value.0))
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &*value.0)
    }

    /// The value of a name, read as a type; none if it is absent, `null` or of another type.
    #[must_use]
    pub fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<T> {
        let value = self.get(name).filter(|value| value.get() != "null")?;
        serde_json::from_str(value.get()).ok()
    }

    /// Gives a name a value.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = RawJson(value),
            None => self.0.push((name.to_owned(), RawJson(value))),
        }
    }

    /// Gives a name a value; see [`raw`] for what may be one.
    pub fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.set(name, raw(value));
    }

    /// The same with another pair: for building in one expression.
    #[must_use]
    pub fn with<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Object {
        self.put(name, value);
        self
    }

    /// Takes a name out, and gives its value.
    pub fn take(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1.0)
    }

    /// Lays another object over this one: objects within are laid over each other in the same way,
    /// to a depth of 16, every other value replaces the former.
    pub fn merge(&mut self, over: Object) {
        self.merge_levels(over, MAX_LEVELS);
    }

    fn merge_levels(&mut self, over: Object, levels: usize) {
        for (name, value) in over.0 {
            let both = || {
                let below = Object::parse(self.get(&name)?.get())?;
                Some((below, Object::parse(value.0.get())?))
            };
            match both().filter(|_| levels > 1) {
                Some((mut below, above)) => {
                    below.merge_levels(above, levels - 1);
                    self.put(&name, &below);
                }
                None => self.set(&name, value.0),
            }
        }
    }

    /// The JSON text.
    #[must_use]
    pub fn text(&self) -> String {
        raw(self).get().to_owned()
    }
}

/// A value as JSON text. For text, numbers, flags, lists and objects with text as names.
#[must_use]
#[expect(clippy::expect_used, reason = "only maps with other names than text cannot be JSON")]
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("JSON")
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    pairs.push((name, RawJson(value)));
                }
                Ok(Object(last_of_each(pairs)))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The pairs without those whose name comes again.
fn last_of_each(mut pairs: Vec<(String, RawJson)>) -> Vec<(String, RawJson)> {
    let mut seen = HashSet::new();
    let mut last: Vec<bool> = pairs.iter().rev().map(|(name, _)| seen.insert(name)).collect();
    last.reverse();
    let mut last = last.into_iter();
    pairs.retain(|_| last.next().unwrap_or(true));
    pairs
}
