//! The view `noted_presence`: devices of which the ledger said last that they are connected. Who is
//! connected is known elsewhere, and only as a hint; this says for whom it has still to be noted that
//! they went, should nobody have been left to do so.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{Event, Recorded};

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, scalars,
};

static UPSERT: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (device) DO UPDATE SET app = excluded.app, \
                position = excluded.position, at = excluded.at";
    Insert::new("noted_presence", &["device", "app", "position", "at"], tail)
});

/// A device that was last said to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedRow {
    /// Its number.
    pub device: i64,
    /// Position of the event that says so.
    pub position: i64,
}

/// Folds one page.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let mut last: BTreeMap<i64, Option<&Recorded>> = BTreeMap::new();
    let mut deleted: Vec<&str> = Vec::new();
    for recorded in page {
        match &recorded.event {
            Event::PresenceChanged(e) => {
                last.insert(e.device, e.online.then_some(recorded));
            }
            Event::AppDeleted(_) => {
                // Its devices are told to go, and nobody is called about it.
                last.retain(|_, own| own.is_none_or(|own| own.app != recorded.app));
                deleted.push(&recorded.app);
            }
            _ => {}
        }
    }
    for app in deleted {
        const SQL: &str = "DELETE FROM noted_presence WHERE app = $1";
        on!(conn.again(), c => sqlx::query(SQL).bind(app).execute(&mut *c).await?.rows_affected());
    }
    let gone = last.iter().filter(|(_, here)| here.is_none()).map(|(device, _)| *device);
    let gone: Vec<i64> = gone.collect();
    if !gone.is_empty() {
        const SQL: Sql = scalars!(
            "DELETE FROM noted_presence WHERE device IN \
             (SELECT CAST(list.value AS BIGINT) FROM ",
            ")"
        );
        let (sql, list) = (conn.text(SQL), db::list(&gone)?);
        on!(conn.again(), c => sqlx::query(sql).bind(list).execute(&mut *c).await?.rows_affected());
    }
    let mut values: Vec<Value> = Vec::new();
    for (device, recorded) in last {
        let Some(recorded) = recorded else { continue };
        values.extend([device.into(), recorded.app.as_str().into()]);
        values.extend([recorded.position.into(), recorded.recorded_at.into()]);
    }
    UPSERT.run(conn, values).await
}

/// Devices with a number above `after`, in their order, that were said to be connected until a time
/// in µs.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page(
    conn: &mut Conn<'_>,
    after: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<NotedRow>, Fault> {
    const SQL: &str = "SELECT device, position FROM noted_presence \
         WHERE device > $1 AND at <= $2 ORDER BY device LIMIT $3";
    let rows: Vec<(i64, i64)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(after).bind(until).bind(limit).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(|(device, position)| NotedRow { device, position }).collect())
}
