//! Owners of physical devices in the registry.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{Event, Recorded, Stream, owner::Owner};
use uuid::Uuid;

use super::{devices::blank_or, uuid};
use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, rows,
};

static INSERT_OWNERS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "stream",
        "app",
        "hardware_id",
        "version",
        "account",
        "bind_key",
        "from_position",
        "to_position",
    ];
    Insert::new("owners", &columns, "")
});

pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let changes: Vec<(&Recorded, Uuid)> = page
        .iter()
        .filter_map(|recorded| match recorded.stream {
            Stream::Owner(stream) => Some((*recorded, stream)),
            _ => None,
        })
        .collect();
    let Some(first) = changes.first() else { return Ok(()) };
    let mut next: BTreeMap<Uuid, i64> = BTreeMap::new();
    let mut values: Vec<Value> = Vec::new();
    let mut closed: Vec<(String, i64)> = Vec::new();
    for (recorded, stream) in changes.iter().rev() {
        let (held, private) = match &recorded.event {
            Event::OwnerSet(e) => (Some((e.account, e.bind_key.clone())), e.private.as_ref()),
            Event::OwnerRemoved(e) => (None, e.private.as_ref()),
            _ => continue,
        };
        let device_id = private.map(|private| private.device_id.clone()).unwrap_or_default();
        let (account, bind_key) = held.unzip();
        values.extend([
            stream.to_string().into(),
            recorded.app.as_str().into(),
            blank_or(device_id, *stream).into(),
            recorded.version.into(),
            account.map(|account: Uuid| account.to_string()).into(),
            bind_key.into(),
            recorded.position.into(),
            next.insert(*stream, recorded.position).into(),
        ]);
    }
    for (stream, position) in next {
        closed.push((stream.to_string(), position));
    }
    const SQL: Sql = rows!(
        "UPDATE owners SET to_position = CAST(list.value->>1 AS BIGINT) FROM ",
        " WHERE stream = list.value->>0 AND to_position IS NULL"
    );
    debug_assert!(closed.iter().all(|(_, position)| *position >= first.0.position));
    let (sql, closed) = (conn.text(SQL), db::list(&closed)?);
    on!(conn.again(), c => sqlx::query(sql).bind(closed).execute(&mut *c).await?.rows_affected());
    INSERT_OWNERS.run(conn, values).await
}

pub(super) async fn owner(
    conn: &mut Conn<'_>,
    app: &str,
    device_id: &str,
) -> Result<Option<Owner>, Fault> {
    const SQL: &str = "SELECT stream, version, account, bind_key FROM owners \
         WHERE app = $1 AND hardware_id = $2 AND to_position IS NULL";
    let row: Option<(String, i64, Option<String>, Option<String>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(device_id).fetch_optional(&mut *c).await?
    });
    let Some((stream, version, account, bind_key)) = row else { return Ok(None) };
    let account = account.as_deref().map(uuid).transpose()?;
    Ok(Some(Owner { stream: uuid(&stream)?, version, held: account.zip(bind_key) }))
}
