//! The shape of a JSON body as a table, and what is wrong with a body that does not have it. Each
//! vendor says it in its own words.

use serde_json::Value;

/// What a value has to be.
pub(super) enum Shape {
    /// Anything.
    Any,
    /// A string of at most so many bytes.
    Text(usize),
    /// A string that is not empty.
    Filled,
    /// A string of seconds, such as `3600s` or `3.5s`, at most so many.
    Seconds(u64),
    /// A string that begins with this.
    Begins(&'static str),
    /// A string `+1` or `-1`, or any other number with a sign.
    Step,
    /// `true` or `false`.
    Flag,
    /// `true` or `false`, or `1` or `0`.
    Bit,
    /// A whole number in a range.
    Whole(i64, i64),
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// One of these strings, whatever their case.
    AnyCase(&'static [&'static str]),
    /// An object whose members are strings.
    Texts,
    /// An object.
    Map,
    /// An array of between so many items.
    List(&'static Shape, usize, usize),
    /// An object with these members and no others.
    Object(&'static [Field]),
    /// One of these.
    Either(&'static [Shape]),
}

/// A member of an object.
pub(super) struct Field {
    name: &'static str,
    must: bool,
    shape: Shape,
}

/// A member that has to be there.
pub(super) const fn must(name: &'static str, shape: Shape) -> Field {
    Field { name, must: true, shape }
}

/// A member that may be there.
pub(super) const fn may(name: &'static str, shape: Shape) -> Field {
    Field { name, must: false, shape }
}

/// What is wrong, and where.
#[derive(Debug, PartialEq)]
pub(super) struct Flaw {
    /// Names of members and numbers of items, with dots between; empty for the whole body.
    pub(super) path: String,
    pub(super) kind: Kind,
}

/// How a value is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    Unknown,
    Type,
    Value,
    Count,
}

/// How names are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// As they are.
    Exact,
    /// As Protocol Buffers does: `camelCase` for `snake_case` too, and `null` is not there.
    Proto,
}

/// The first flaw, if there is one.
pub(super) fn check(value: &Value, shape: &Shape, names: Names) -> Result<(), Flaw> {
    at(value, shape, names, "")
}

/// A member by its name in the table.
pub(super) fn member<'a>(value: &'a Value, name: &str, names: Names) -> Option<&'a Value> {
    let members = value.as_object()?;
    let found = members.iter().find(|(given, _)| same(given, name, names))?.1;
    (names == Names::Exact || !found.is_null()).then_some(found)
}

fn same(given: &str, name: &str, names: Names) -> bool {
    given == name || (names == Names::Proto && snake(given) == name)
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn at(value: &Value, shape: &Shape, names: Names, path: &str) -> Result<(), Flaw> {
    let flaw = |kind| Err(Flaw { path: path.to_owned(), kind });
    let held = |holds| if holds { Ok(()) } else { flaw(Kind::Value) };
    match (shape, value) {
        (Shape::Any, _)
        | (Shape::Flag | Shape::Bit, Value::Bool(_))
        | (Shape::Map, Value::Object(_)) => Ok(()),
        (Shape::Bit, Value::Number(number)) => held(matches!(number.as_i64(), Some(0 | 1))),
        (Shape::Text(max), Value::String(text)) => held(text.len() <= *max),
        (Shape::Filled, Value::String(text)) => held(!text.is_empty()),
        (Shape::Begins(with), Value::String(text)) => held(text.starts_with(with)),
        (Shape::Seconds(max), Value::String(text)) => held(is_seconds(text, *max)),
        (Shape::Step, Value::String(text)) => {
            held(text.starts_with(['+', '-']) && text.parse::<i64>().is_ok())
        }
        (Shape::Whole(least, most), Value::Number(number)) => match number.as_i64() {
            Some(number) => held((*least..=*most).contains(&number)),
            None => flaw(Kind::Type),
        },
        (Shape::Choice(choices), Value::String(text)) => held(choices.contains(&text.as_str())),
        (Shape::AnyCase(choices), Value::String(text)) => {
            held(choices.iter().any(|choice| choice.eq_ignore_ascii_case(text)))
        }
        (Shape::Texts, Value::Object(members)) => {
            match members.iter().find(|(_, value)| !value.is_string()) {
                Some((name, _)) => Err(Flaw { path: below(path, name), kind: Kind::Type }),
                None => Ok(()),
            }
        }
        (Shape::List(item, least, most), Value::Array(items)) => {
            if !(*least..=*most).contains(&items.len()) {
                return flaw(Kind::Count);
            }
            let mut numbered = items.iter().enumerate();
            numbered.try_for_each(|(n, value)| at(value, item, names, &below(path, &n.to_string())))
        }
        (Shape::Object(fields), Value::Object(_)) => object(value, fields, names, path),
        (Shape::Either(shapes), _) => either(value, shapes, names, path),
        _ => flaw(Kind::Type),
    }
}

fn object(value: &Value, fields: &[Field], names: Names, path: &str) -> Result<(), Flaw> {
    let members = value.as_object().into_iter().flatten();
    for (given, _) in members {
        if !fields.iter().any(|field| same(given, field.name, names)) {
            return Err(Flaw { path: below(path, given), kind: Kind::Unknown });
        }
    }
    for field in fields {
        let path = below(path, field.name);
        match member(value, field.name, names) {
            Some(value) => at(value, &field.shape, names, &path)?,
            None if field.must => return Err(Flaw { path, kind: Kind::Missing }),
            None => {}
        }
    }
    Ok(())
}

/// If no shape fits, the flaw that lies deepest is the one that was meant.
fn either(value: &Value, shapes: &[Shape], names: Names, path: &str) -> Result<(), Flaw> {
    let mut deepest: Option<Flaw> = None;
    for shape in shapes {
        match at(value, shape, names, path) {
            Ok(()) => return Ok(()),
            Err(flaw) => {
                let rank = |flaw: &Flaw| (flaw.path.len(), flaw.kind != Kind::Type);
                if deepest.as_ref().is_none_or(|deepest| rank(&flaw) > rank(deepest)) {
                    deepest = Some(flaw);
                }
            }
        }
    }
    deepest.map_or(Ok(()), Err)
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn is_seconds(text: &str, max: u64) -> bool {
    let Some(number) = text.strip_suffix('s') else { return false };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole_is_good = digits(whole) && whole.parse::<u64>().is_ok_and(|seconds| seconds <= max);
    whole_is_good && digits(fraction) && fraction.len() <= 9
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BODY: Shape = Shape::Object(&[
        must("to", Shape::Either(&[Shape::Choice(&["all"]), Shape::Object(LIST)])),
        may("time_to_live", Shape::Seconds(60)),
        may("data", Shape::Texts),
    ]);
    const LIST: &[Field] = &[may("ids", Shape::List(&Shape::Filled, 1, 2))];

    fn flaw(value: Value, names: Names) -> Option<(String, Kind)> {
        check(&value, &BODY, names).err().map(|flaw| (flaw.path, flaw.kind))
    }

    #[test]
    fn each_flaw_is_found_where_it_lies() {
        let cases = [
            (json!({}), "to", Kind::Missing),
            (json!({"to": "all", "x": 1}), "x", Kind::Unknown),
            (json!({"to": "none"}), "to", Kind::Value),
            (json!({"to": {"ids": [""]}}), "to.ids.0", Kind::Value),
            (json!({"to": {"ids": []}}), "to.ids", Kind::Count),
            (json!({"to": "all", "data": {"n": 1}}), "data.n", Kind::Type),
            (json!({"to": "all", "time_to_live": 60}), "time_to_live", Kind::Type),
            (json!({"to": "all", "time_to_live": "61s"}), "time_to_live", Kind::Value),
            (json!({"to": "all", "time_to_live": "-1s"}), "time_to_live", Kind::Value),
            (json!({"to": "all", "timeToLive": "6s"}), "timeToLive", Kind::Unknown),
        ];
        for (value, path, kind) in cases {
            assert_eq!(flaw(value, Names::Exact), Some((path.to_owned(), kind)));
        }
    }

    #[test]
    fn names_of_protocol_buffers_may_be_camel_case_and_null_is_not_there() {
        let body = json!({"to": "all", "timeToLive": "3.5s", "data": null});
        assert_eq!(flaw(body, Names::Proto), None);
    }
}
