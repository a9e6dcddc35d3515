//! Lists as Relay connections: pages of a bounded size, each item with an opaque cursor that stays
//! good whatever is added meanwhile.

use async_graphql::{
    InputObject, OutputType, Result,
    connection::{Connection, CursorType, Edge, EmptyFields},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};

use crate::{Hidden as _, Sources};

/// Items of a page, at most.
pub(crate) const MAX_PAGE: i64 = 200;

/// A place in a list: a position, and where that does not tell two apart, a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) i64, pub(crate) String);

impl From<i64> for Cursor {
    fn from(position: i64) -> Cursor {
        Cursor(position, String::new())
    }
}

impl CursorType for Cursor {
    type Error = &'static str;

    fn decode_cursor(text: &str) -> std::result::Result<Self, Self::Error> {
        let refused = "that is no cursor of this list";
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused)?;
        let text = String::from_utf8(bytes).map_err(|_| refused)?;
        let (position, name) = text.split_once(':').ok_or(refused)?;
        // A database takes no NUL, and no cursor ever held one.
        let position = position.parse().ok().filter(|_| !name.contains('\0'));
        position.map(|position| Cursor(position, name.to_owned())).ok_or(refused)
    }

    fn encode_cursor(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.0, self.1))
    }
}

/// A page of a list.
pub(crate) type Page<T, More = EmptyFields> = Connection<Cursor, T, More>;

/// What a caller asks of a list.
pub(crate) struct Asked {
    /// Items of the page.
    pub(crate) limit: i64,
    /// The item after which it begins.
    pub(crate) after: Option<Cursor>,
}

impl Asked {
    /// A bounded number of items, after a cursor.
    pub(crate) fn new(first: i64, after: Option<&str>) -> Result<Asked> {
        if !(1..=MAX_PAGE).contains(&first) {
            return Err(format!("first must be 1 to {MAX_PAGE}").into());
        }
        let after = after.map(Cursor::decode_cursor).transpose()?;
        Ok(Asked { limit: first, after })
    }

    /// Position of the cursor, or another where there is none.
    pub(crate) fn position(&self, none: i64) -> i64 {
        self.after.as_ref().map_or(none, |after| after.0)
    }

    /// Rows to read: one more than the page has, to know whether there is another page.
    pub(crate) fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// The page of some rows.
    pub(crate) fn page<T: OutputType>(
        &self,
        rows: impl IntoIterator<Item = (impl Into<Cursor>, T)>,
    ) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or_default();
        let rows = rows.into_iter().map(|(cursor, node)| Edge::new(cursor.into(), node));
        let mut edges: Vec<_> = rows.collect();
        let more = edges.len() > limit;
        edges.truncate(limit);
        let mut page = Connection::new(self.after.is_some(), more);
        page.edges = edges;
        page
    }
}

/// A span of time.
#[derive(Debug, Clone, Copy, InputObject)]
pub(crate) struct TimeRange {
    /// Its begin.
    pub(crate) from: DateTime<Utc>,
    /// Its end, which is not part of it; now if absent.
    pub(crate) to: Option<DateTime<Utc>>,
}

/// Positions between which everything of a span of time was recorded: after the one and before the
/// other. Times never go back along the ledger.
pub(crate) async fn positions(sources: &Sources, range: Option<TimeRange>) -> Result<(i64, i64)> {
    let Some(range) = range else { return Ok((0, i64::MAX)) };
    let after = sources.history.before(range.from.timestamp_micros()).await.hidden()?;
    let before = match range.to {
        Some(to) => sources.history.before(to.timestamp_micros()).await.hidden()? + 1,
        None => i64::MAX,
    };
    Ok((after, before))
}
