//! The fields of bodies, each refused as its document says. `null` is a value of another type.

use domain::object::Object;
use serde::de::DeserializeOwned;

use super::errors::Problem;

/// A field of a type, if it is there.
pub fn optional<T: DeserializeOwned>(
    body: &Object,
    name: &str,
    wrong: Problem,
) -> Result<Option<T>, Problem> {
    let Some(value) = body.get(name) else { return Ok(None) };
    serde_json::from_str(value.get()).map(Some).map_err(|_| wrong)
}

/// The name of an account, if it is there; an empty one is none.
pub fn user(
    body: &Object,
    name: &str,
    wrong: impl Fn() -> Problem,
) -> Result<Option<String>, Problem> {
    let user: Option<String> = optional(body, name, wrong())?;
    match user {
        Some(user) if user.is_empty() || user.contains('\0') => Err(wrong()),
        user => Ok(user),
    }
}

/// Whether a list of switches, if it is there, has that one. Unknown ones are not looked at.
pub fn switched(body: &Object, list: &'static str, name: &str) -> Result<bool, Problem> {
    let list: Option<Vec<String>> = optional(body, list, Problem::Field(list))?;
    Ok(list.is_some_and(|list| list.iter().any(|own| own == name)))
}
