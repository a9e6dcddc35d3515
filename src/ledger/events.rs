//! Events as they are read from the ledger: pages of all, and those of streams. What this program
//! cannot read comes with its position and the reason, so that the others do not wait for it.

use std::collections::HashSet;

use domain::{Event, Recorded};
use projections::{
    Fault,
    db::{self, Conn, Sql},
    on,
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{Page, away};

/// A statement that gives [`EventRow`]s. The driver copies every column of every row on its own, so
/// the header comes as one, with a line for each; no value in it holds a newline.
macro_rules! select_events {
    ($id:literal, $newline:literal, $tail:literal) => {
        concat!(
            "SELECT position, concat_ws(",
            $newline,
            ", app, stream, version, type, schema, recorded_at, ",
            $id,
            ", metadata) AS header, body, private FROM events ",
            $tail
        )
    };
    ($sqlite:literal, $postgres:literal) => {
        Sql {
            sqlite: select_events!("hex(event_id)", "char(10)", $sqlite),
            postgres: select_events!("encode(event_id, 'hex')", "chr(10)", $postgres),
        }
    };
    ($tail:literal) => {
        select_events!($tail, $tail)
    };
}

/// Position, header, body, private.
type EventRow<Text = String> = (i64, Text, Text, Option<Text>);

/// Events after a position, in order.
pub(super) async fn read(conn: &mut Conn<'_>, after: i64, limit: i64) -> Result<Page, Fault> {
    let mut whole = Page::default();
    loop {
        let at = whole.last.unwrap_or(after);
        let left = limit.saturating_sub(at - after);
        let (part, most) = match conn.again() {
            Conn::Sqlite(c) => (read_text(c, at, left.min(TOGETHER)).await?, TOGETHER),
            Conn::Postgres(_) => (read_rows(conn, at, left).await?, left),
        };
        let Some(last) = part.last else { return Ok(whole) };
        whole.events.extend(part.events);
        whole.unreadable.extend(part.unreadable);
        whole.last = Some(last);
        if last - at < most || last - after >= limit {
            return Ok(whole);
        }
    }
}

async fn read_rows(conn: &mut Conn<'_>, after: i64, limit: i64) -> Result<Page, Fault> {
    const SQL: Sql = select_events!("WHERE position > $1 ORDER BY position LIMIT $2");
    let sql = conn.text(SQL);
    let rows: Vec<EventRow> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    match hole(after.max(0), rows.iter().map(|row| row.0)) {
        Some(position) => Err(away::missing(conn, position).await),
        None => Ok(page(rows)),
    }
}

/// Events that SQLite hands over at once.
const TOGETHER: i64 = 256;
/// What stands between two events of a text, and between the columns of one: characters that JSON
/// holds only escaped.
const BETWEEN: [char; 2] = ['\u{1e}', '\u{1f}'];

/// The same on SQLite, where a row costs the driver more than what is in it, as it goes from thread
/// to thread: all of them are one row.
async fn read_text(conn: &mut SqliteConnection, after: i64, limit: i64) -> Result<Page, Fault> {
    const SQL: &str = concat!(
        "SELECT group_concat(concat_ws(char(31), position, header, body, private), char(30)) FROM (",
        select_events!(
            "hex(event_id)",
            "char(10)",
            "WHERE position > $1 ORDER BY position LIMIT $2"
        ),
        ")"
    );
    let (text,): (Option<String>,) =
        sqlx::query_as(SQL).bind(after).bind(limit).fetch_one(&mut *conn).await?;
    let text = text.unwrap_or_default();
    let Some(rows) = rows_of(&text) else {
        // Somebody altered them: of rows on their own, the others can be read.
        return read_rows(&mut Conn::Sqlite(conn), after, limit).await;
    };
    match hole(after.max(0), rows.iter().map(|row| row.0)) {
        Some(position) => Err(away::missing(&mut Conn::Sqlite(conn), position).await),
        None => Ok(page_of(rows)),
    }
}

/// The rows of a text; none if it is not made of rows.
fn rows_of(text: &str) -> Option<Vec<EventRow<&str>>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split(BETWEEN[0]).map(row_of).collect()
}

fn row_of(piece: &str) -> Option<EventRow<&str>> {
    let mut columns = piece.split(BETWEEN[1]);
    let mut column = || columns.next();
    let row = (column()?.parse().ok()?, column()?, column()?, column());
    column().is_none().then_some(row)
}

/// The first number that is missing among some that should follow each other.
fn hole(after: i64, numbers: impl Iterator<Item = i64>) -> Option<i64> {
    numbers
        .zip(after.saturating_add(1)..)
        .find(|(number, expected)| number != expected)
        .map(|(_, at)| at)
}

/// The events at some positions, in order.
pub(super) async fn read_at(conn: &mut Conn<'_>, positions: &[i64]) -> Result<Page, Fault> {
    let page = read_here(conn, positions).await?;
    if page.events.len() + page.unreadable.len() < positions.len()
        && let Some(away) = away::away(conn).await?
    {
        let here = |position: &i64| page.events.iter().any(|e| e.position == *position);
        if positions.iter().any(|at| (2..=away.last).contains(at) && !here(at)) {
            return Err(away.fault());
        }
    }
    Ok(page)
}

/// The events at some positions, in order, without those that are away.
pub(super) async fn read_here(conn: &mut Conn<'_>, positions: &[i64]) -> Result<Page, Fault> {
    const SQL: Sql = select_events!(
        "WHERE position IN (SELECT value FROM json_each($1)) ORDER BY position",
        "WHERE position = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))) \
         ORDER BY position"
    );
    let (sql, positions) = (conn.text(SQL), db::list(positions)?);
    Ok(page(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(positions).fetch_all(&mut *c).await?
    })))
}

/// Events of a stream after a version, in order.
pub(crate) async fn read_stream(
    conn: &mut Conn<'_>,
    stream: &str,
    after: i64,
    limit: i64,
) -> Result<Page, Fault> {
    const SQL: Sql = select_events!("WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3");
    let sql = conn.text(SQL);
    let rows: Vec<EventRow> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(stream).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    // One that begins with the version after is whole. Of one without any, all may be away.
    let whole = rows.first().is_some_and(|row| begins(row, after + 1));
    if !whole && limit > 0 {
        away::lacks(conn, &[stream], after).await?;
    }
    Ok(page(rows))
}

/// Events of a stream that are not away, whatever its beginning.
pub(super) async fn read_stream_here(
    conn: &mut Conn<'_>,
    stream: &str,
    limit: i64,
) -> Result<Page, Fault> {
    const SQL: Sql = select_events!("WHERE stream = $1 ORDER BY version LIMIT $2");
    let sql = conn.text(SQL);
    Ok(page(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(stream).bind(limit).fetch_all(&mut *c).await?
    })))
}

/// Whether a row is the version of its stream that a read begins with. The ledger's first event
/// stays, so that more of its stream may be away behind it.
fn begins((position, header, ..): &EventRow, version: i64) -> bool {
    let own = header.split('\n').nth(2).and_then(|line| line.parse().ok());
    own == Some(version) && *position != 1
}

/// The first events of some streams, at most so many of each, in order of stream and version.
pub(super) async fn read_streams(
    conn: &mut Conn<'_>,
    streams: &[String],
    limit: i64,
) -> Result<Page, Fault> {
    const SQL: Sql = select_events!(
        "WHERE stream IN (SELECT value FROM json_each($1)) AND version <= $2 \
         ORDER BY stream, version",
        "WHERE stream = ANY (ARRAY(SELECT json_array_elements_text($1::json))) AND version <= $2 \
         ORDER BY stream, version"
    );
    let (sql, list) = (conn.text(SQL), db::list(streams)?);
    let rows: Vec<EventRow> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(list).bind(limit).fetch_all(&mut *c).await?
    });
    if limit > 0 {
        let whole: HashSet<&str> = rows
            .iter()
            .filter(|row| begins(row, 1))
            .filter_map(|row| row.1.split('\n').nth(1))
            .collect();
        let others = streams.iter().map(String::as_str).filter(|own| !whole.contains(own));
        let others: Vec<&str> = others.collect();
        if !others.is_empty() {
            away::lacks(conn, &others, 0).await?;
        }
    }
    Ok(page(rows))
}

fn page(rows: Vec<EventRow>) -> Page {
    page_of(rows.iter().map(|(position, header, body, private)| {
        (*position, header.as_str(), body.as_str(), private.as_deref())
    }))
}

fn page_of<'a>(rows: impl IntoIterator<Item = EventRow<&'a str>>) -> Page {
    let mut page = Page::default();
    for row in rows {
        let position = row.0;
        page.last = Some(position);
        match recorded(row) {
            Ok(event) => page.events.push(event),
            Err(error) => page.unreadable.push((position, error)),
        }
    }
    page
}

fn recorded((position, header, body, private): EventRow<&str>) -> Result<Recorded, String> {
    let lines: Vec<&str> = header.splitn(8, '\n').collect();
    let &[app, stream, version, name, schema, recorded_at, id, metadata] = lines.as_slice() else {
        return Err("a header without all its columns".to_owned());
    };
    let number = |text: &str| text.parse::<i64>().map_err(|error| error.to_string());
    let schema = schema.parse::<i32>().map_err(|error| error.to_string())?;
    Ok(Recorded {
        position,
        app: app.to_owned(),
        stream: stream.parse().map_err(|error: domain::stream::NotAStream| error.to_string())?,
        version: number(version)?,
        recorded_at: number(recorded_at)?,
        event_id: Uuid::try_parse(id).map_err(|error| error.to_string())?,
        metadata: serde_json::from_str(metadata).map_err(|error| error.to_string())?,
        event: Event::decode(name, schema, body, private).map_err(|error| error.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_into_its_rows() {
        let text = "7\u{1f}a header\u{1f}{}\u{1e}8\u{1f}another\nheader\u{1f}{\"a\":1}\u{1f}{}";
        let rows =
            vec![(7, "a header", "{}", None), (8, "another\nheader", r#"{"a":1}"#, Some("{}"))];
        assert_eq!(rows_of(text), Some(rows));
        assert_eq!(rows_of(""), Some(Vec::new()));
    }

    #[test]
    fn a_text_with_anything_else_is_not_made_of_rows() {
        let texts = ["7", "7\u{1f}a", "x\u{1f}a\u{1f}b", "7\u{1f}a\u{1f}b\u{1f}c\u{1f}d"];
        for text in texts {
            assert_eq!(rows_of(text), None, "{text:?}");
            assert_eq!(rows_of(&format!("6\u{1f}a\u{1f}b\u{1e}{text}")), None, "{text:?}");
        }
    }
}
