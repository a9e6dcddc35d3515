//! Old events in today's form. An event keeps for ever the text and schema number that it was stored
//! with; where a later schema says the same in another form, an upcaster turns the one into the next,
//! whenever the event is read ([`Event::decode`](crate::Event::decode), by which the ledger, `verify`
//! and `import` all read). Nothing is ever written back: leaves are over what is stored.

use crate::object::Object;

/// The two halves of an event as they are stored, with values as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct Halves {
    /// The facts.
    pub body: Object,
    /// What is private; none when there is nothing, or it was erased.
    pub private: Option<Object>,
}

/// Turns one schema of an event into the next.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The event's stable name.
    pub name: &'static str,
    /// The schema that it takes; it gives the one after.
    pub from: i32,
    /// The change: pure, and true of an erased event too.
    pub change: fn(Halves) -> serde_json::Result<Halves>,
}

/// All upcasters, in order of name and schema. No event has a second schema yet.
pub const UPCASTERS: &[Upcaster] = &[];

/// The halves of an event in the next schema, as JSON texts; none if nothing leads there.
///
/// # Errors
/// Serde's, if they do not fit the schema that they are said to be of.
pub(crate) fn next(
    upcasters: &[Upcaster],
    (name, schema): (&str, i32),
    body: &str,
    private: Option<&str>,
) -> serde_json::Result<Option<(String, Option<String>)>> {
    let of_it = |upcaster: &&Upcaster| upcaster.name == name && upcaster.from == schema;
    let Some(upcaster) = upcasters.iter().find(of_it) else { return Ok(None) };
    let body = serde_json::from_str(body)?;
    let private = private.map(serde_json::from_str).transpose()?;
    let Halves { body, private } = (upcaster.change)(Halves { body, private })?;
    Ok(Some((body.text(), private.map(|private| private.text()))))
}
