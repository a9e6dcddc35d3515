//! An event as it lies in the table, for those who check it or carry it elsewhere: nothing of it is
//! interpreted, so that what somebody altered is seen as it is.

use std::{collections::HashMap, sync::LazyLock};

use domain::{Event, Recorded, stream::NotAStream};
use projections::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::{self, COLUMNS, SALT_BYTES};

/// One row of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// 1, 2, 3, … without holes.
    pub position: i64,
    /// The app; empty for what belongs to no app.
    pub app: String,
    /// Its stream.
    pub stream: String,
    /// Its place in that stream, from 1.
    pub version: i64,
    /// The event's stable name.
    #[serde(rename = "type")]
    pub name: String,
    /// Schema number of the body.
    pub schema: i64,
    /// When it was recorded, in µs since the epoch.
    pub recorded_at: i64,
    /// UUIDv7.
    pub event_id: Uuid,
    /// Who caused it, and how, as exact JSON text.
    pub metadata: String,
    /// The facts, as exact JSON text.
    pub body: String,
    /// What is private, as exact JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<String>,
    /// What keeps its hash from telling it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_hex")]
    pub salt: Option<Vec<u8>>,
    /// The hash of all that.
    #[serde(with = "in_hex")]
    pub leaf: Vec<u8>,
    /// The hash of what was private before it was erased.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_hex")]
    pub erased: Option<Vec<u8>>,
}

/// The driver copies every column of every row on its own, so the header comes as one, with a line
/// for each; where a value of an altered row holds a newline, its lines are too many.
const READ: Sql = Sql {
    sqlite: "SELECT position, concat_ws(char(10), app, stream, version, type, schema, \
             recorded_at, hex(event_id), metadata), body, private, private_salt, leaf \
             FROM events WHERE position > $1 ORDER BY position LIMIT $2",
    postgres: "SELECT position, concat_ws(chr(10), app, stream, version, type, schema, \
               recorded_at, encode(event_id, 'hex'), metadata), body, private, private_salt, leaf \
               FROM events WHERE position > $1 ORDER BY position LIMIT $2",
};

type Row = (i64, String, String, Option<String>, Option<Vec<u8>>, Vec<u8>);

/// Rows after a position, in order.
pub(crate) async fn read(
    conn: &mut Conn<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<Stored>, Fault> {
    let sql = conn.text(READ);
    let rows: Vec<Row> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    let last = rows.last().map_or(after, |row| row.0);
    let mut erased = erased(conn, after, last).await?;
    Ok(rows.into_iter().map(|row| stored(row, &mut erased)).collect())
}

/// Position, stream and body of the events at some positions, in order.
pub(super) async fn bodies(
    conn: &mut Conn<'_>,
    positions: &[i64],
) -> Result<Vec<(i64, String, String)>, Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position, stream, body FROM events \
                 WHERE position IN (SELECT value FROM json_each($1)) ORDER BY position",
        postgres: "SELECT position, stream, body FROM events WHERE position = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))) \
                   ORDER BY position",
    };
    let (sql, positions) = (conn.text(SQL), db::list(positions)?);
    Ok(on!(conn.again(), c => sqlx::query_as(sql).bind(positions).fetch_all(&mut *c).await?))
}

/// What is known of events that were erased, after a position and up to another.
async fn erased(
    conn: &mut Conn<'_>,
    after: i64,
    last: i64,
) -> Result<HashMap<i64, Vec<u8>>, Fault> {
    const SQL: &str = "SELECT position, digest FROM erased WHERE position > $1 AND position <= $2";
    let rows: Vec<(i64, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(after).bind(last).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().collect())
}

/// Blanks those of some copied rows, in order, that were erased here: the copy may be older than that.
pub(crate) async fn blank_erased(conn: &mut Conn<'_>, rows: &mut [Stored]) -> Result<(), Fault> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let mut erased = erased(conn, first.position.saturating_sub(1), last.position).await?;
    for row in rows {
        if let Some(digest) = erased.remove(&row.position) {
            (row.private, row.salt, row.erased) = (None, None, Some(digest));
        }
    }
    Ok(())
}

fn stored(
    (position, header, body, private, salt, leaf): Row,
    erased: &mut HashMap<i64, Vec<u8>>,
) -> Stored {
    let mut lines = header.splitn(8, '\n');
    let mut line = || lines.next().unwrap_or_default();
    // What is no number here was altered: -1 and the nil id have it differ from its leaf.
    let number = |text: &str| text.parse().unwrap_or(-1);
    Stored {
        position,
        app: line().to_owned(),
        stream: line().to_owned(),
        version: number(line()),
        name: line().to_owned(),
        schema: number(line()),
        recorded_at: number(line()),
        event_id: Uuid::try_parse(line()).unwrap_or_default(),
        metadata: line().to_owned(),
        body,
        private,
        salt,
        leaf,
        erased: erased.remove(&position),
    }
}

/// Writes rows as they are, with what is known of those that were erased.
pub(crate) async fn write(conn: &mut Conn<'_>, rows: Vec<Stored>) -> Result<(), Fault> {
    static EVENTS: LazyLock<Insert> = LazyLock::new(|| Insert::new("events", &COLUMNS, ""));
    static ERASED: LazyLock<Insert> =
        LazyLock::new(|| Insert::new("erased", &["position", "digest"], KNOWN));
    // It is kept of events that are away, too.
    const KNOWN: &str = "ON CONFLICT (position) DO NOTHING";
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * COLUMNS.len());
    let mut erased: Vec<Value> = Vec::new();
    for row in rows {
        if let Some(digest) = row.erased {
            erased.extend([row.position.into(), digest.into()]);
        }
        values.extend([row.position.into(), row.app.into(), row.stream.into()]);
        values.extend([row.version.into(), row.name.into(), row.schema.into()]);
        values.extend([row.recorded_at.into(), row.event_id.as_bytes().to_vec().into()]);
        values.extend([row.metadata.into(), row.body.into(), Value::Text(row.private)]);
        values.extend([Value::Bytes(row.salt), row.leaf.into()]);
    }
    EVENTS.run(conn, values).await?;
    ERASED.run(conn, erased).await
}

impl Stored {
    /// The leaf that its columns make; an error says why they make none.
    ///
    /// # Errors
    /// A few words for people.
    pub fn computed_leaf(&self) -> Result<[u8; 32], &'static str> {
        let digest = match (&self.private, &self.salt, &self.erased) {
            (None, None, Some(digest)) => digest.clone(),
            (private, salt, None) if private.is_some() == salt.is_some() => {
                let salt = salt.as_deref().unwrap_or_default();
                if private.is_some() && salt.len() != SALT_BYTES {
                    return Err("its salt has another length");
                }
                record::private_digest(salt, private.as_deref().unwrap_or_default()).to_vec()
            }
            _ => return Err("its private data, salt and erasure do not go together"),
        };
        let header: [&[u8]; 9] = [
            &self.position.to_be_bytes(),
            self.app.as_bytes(),
            self.stream.as_bytes(),
            &self.version.to_be_bytes(),
            self.name.as_bytes(),
            &self.schema.to_be_bytes(),
            &self.recorded_at.to_be_bytes(),
            self.event_id.as_bytes(),
            self.metadata.as_bytes(),
        ];
        Ok(record::leaf_over(&header, &self.body, &digest))
    }

    /// The event with its place.
    ///
    /// # Errors
    /// Why this program cannot read it.
    pub fn recorded(&self) -> Result<Recorded, String> {
        let schema = i32::try_from(self.schema).map_err(|error| error.to_string())?;
        let event = Event::decode(&self.name, schema, &self.body, self.private.as_deref());
        Ok(Recorded {
            position: self.position,
            app: self.app.clone(),
            stream: self.stream.parse().map_err(|error: NotAStream| error.to_string())?,
            version: self.version,
            recorded_at: self.recorded_at,
            event_id: self.event_id,
            metadata: serde_json::from_str(&self.metadata).map_err(|error| error.to_string())?,
            event: event.map_err(|error| error.to_string())?,
        })
    }
}

/// Bytes as hexadecimal text.
mod in_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::secrets::{hex, unhex};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        unhex(&String::deserialize(from)?).ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

/// The same, where there may be none.
mod maybe_hex {
    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde hands the field over as it is")]
    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => super::in_hex::serialize(bytes, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        super::in_hex::deserialize(from).map(Some)
    }
}
