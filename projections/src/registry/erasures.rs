//! Erasures in the registry: who asked for each and why, and the end of what it erased. Rows of
//! accounts, devices and owners end with it; what they say of the subject is blanked later, when
//! the events that they come from are.

use std::sync::LazyLock;

use domain::{Event, Recorded, Stream, erasure::SubjectErased};
use uuid::Uuid;

use super::devices;
use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, scalars,
};

static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new("erasures", &["position", "app", "asked_by", "erased_at", "body"], "")
});

/// An erasure as it is listed.
#[derive(Debug, Clone)]
pub struct ErasureRow {
    /// Position of its event.
    pub position: i64,
    /// The app.
    pub app: String,
    /// Who asked for it, as in the event's metadata.
    pub asked_by: String,
    /// When, in µs since the epoch.
    pub erased_at: i64,
    /// What was erased.
    pub erased: SubjectErased,
}

pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    for recorded in page {
        let Event::SubjectErased(erased) = &recorded.event else { continue };
        let body = serde_json::to_string(erased).map_err(|e| Fault::stored("erasure", e))?;
        let mut values: Vec<Value> = vec![recorded.position.into(), recorded.app.as_str().into()];
        values.extend([recorded.metadata.actor.as_str().into(), recorded.recorded_at.into()]);
        values.push(body.into());
        INSERT.run(conn, values).await?;
        remove_credentials(conn, &recorded.app, erased).await?;
        end(conn, recorded.position, erased).await?;
    }
    Ok(())
}

/// Removes what the subject proved itself with. Credentials are no facts, so no fold brings them back.
async fn remove_credentials(
    conn: &mut Conn<'_>,
    app: &str,
    erased: &SubjectErased,
) -> Result<(), Fault> {
    const OF_USERS: Sql = Sql {
        sqlite: "DELETE FROM access_tokens WHERE app = $2 AND ums_user IN \
                 (SELECT ums_user FROM accounts WHERE account IN \
                 (SELECT value FROM json_each($1)))",
        postgres: "DELETE FROM access_tokens WHERE app = $2 AND ums_user IN \
                   (SELECT ums_user FROM accounts WHERE account = ANY \
                   (ARRAY(SELECT json_array_elements_text($1::json))))",
    };
    const OF_CLIENTS: Sql = Sql {
        sqlite: "DELETE FROM access_tokens WHERE app = $2 AND client_id IN \
                 (SELECT client_id FROM devices WHERE number IN \
                 (SELECT value FROM json_each($1)))",
        postgres: "DELETE FROM access_tokens WHERE app = $2 AND client_id IN \
                   (SELECT client_id FROM devices WHERE number = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))))",
    };
    const EASEMOB: Sql =
        scalars!("DELETE FROM easemob_tokens WHERE account IN (SELECT value FROM ", ")");
    const PASSWORDS: Sql =
        scalars!("DELETE FROM easemob_passwords WHERE account IN (SELECT value FROM ", ")");
    let numbers: Vec<i64> = erased.devices.iter().map(|erased| erased.device).collect();
    let (accounts, numbers) = (db::list(&erased.accounts)?, db::list(&numbers)?);
    for (sql, list) in [(OF_USERS, &accounts), (OF_CLIENTS, &numbers)] {
        let sql = conn.text(sql);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(list).bind(app).execute(&mut *c).await?.rows_affected()
        });
    }
    for sql in [EASEMOB, PASSWORDS] {
        let sql = conn.text(sql);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(&accounts).execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}

/// Ends the rows of what was erased: no name leads to it from here on.
async fn end(conn: &mut Conn<'_>, position: i64, erased: &SubjectErased) -> Result<(), Fault> {
    const DEVICES: Sql = Sql {
        sqlite: "UPDATE devices SET to_position = $2 WHERE to_position IS NULL \
                 AND number IN (SELECT value FROM json_each($1))",
        postgres: "UPDATE devices SET to_position = $2 WHERE to_position IS NULL \
                   AND number = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    const OWNERS: Sql = Sql {
        sqlite: "UPDATE owners SET to_position = $2 WHERE to_position IS NULL \
                 AND account IN (SELECT value FROM json_each($1))",
        postgres: "UPDATE owners SET to_position = $2 WHERE to_position IS NULL \
                   AND account = ANY (ARRAY(SELECT json_array_elements_text($1::json)))",
    };
    let numbers: Vec<i64> = erased.devices.iter().map(|erased| erased.device).collect();
    for (sql, list) in [(DEVICES, db::list(&numbers)?), (OWNERS, db::list(&erased.accounts)?)] {
        let sql = conn.text(sql);
        on!(conn.again(), c => {
            sqlx::query(sql).bind(list).bind(position).execute(&mut *c).await?.rows_affected()
        });
    }
    Ok(())
}

const LIST: &str = "SELECT position, app, asked_by, erased_at, body FROM erasures \
     WHERE app = $1 AND position < $2 ORDER BY position DESC LIMIT $3";
const ALL: &str = "SELECT position, app, asked_by, erased_at, body FROM erasures \
     WHERE position <= $1 ORDER BY position";

type Row = (i64, String, String, i64, String);

fn erasure((position, app, asked_by, erased_at, body): Row) -> Result<ErasureRow, Fault> {
    let erased = serde_json::from_str(&body).map_err(|e| Fault::stored("erasure", e))?;
    Ok(ErasureRow { position, app, asked_by, erased_at, erased })
}

/// A page of an app's erasures before a position, the newest first.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn erasure_page(
    conn: &mut Conn<'_>,
    app: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<ErasureRow>, Fault> {
    let rows: Vec<Row> = on!(conn.again(), c => {
        sqlx::query_as(LIST).bind(app).bind(before).bind(limit).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(erasure).collect()
}

/// All erasures up to a position, in order.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn erasures_to(conn: &mut Conn<'_>, position: i64) -> Result<Vec<ErasureRow>, Fault> {
    let rows: Vec<Row> = on!(conn.again(), c => {
        sqlx::query_as(ALL).bind(position).fetch_all(&mut *c).await?
    });
    rows.into_iter().map(erasure).collect()
}

/// The column of accounts that holds the names of a protocol.
#[derive(Debug, Clone, Copy)]
pub enum Names {
    /// UMS `userId`.
    Ums,
    /// Easemob username, in lower case.
    Easemob,
    /// Tencent `UserID`.
    Tencent,
}

/// All accounts that have or ever had a name, in order; those that were erased have none.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn accounts_ever(
    conn: &mut Conn<'_>,
    app: &str,
    names: Names,
    name: &str,
) -> Result<Vec<Uuid>, Fault> {
    let sql = match names {
        Names::Ums => {
            "SELECT DISTINCT account FROM accounts WHERE app = $1 AND ums_user = $2 ORDER BY 1"
        }
        Names::Easemob => {
            "SELECT DISTINCT account FROM accounts WHERE app = $1 AND username = $2 ORDER BY 1"
        }
        Names::Tencent => {
            "SELECT DISTINCT account FROM accounts WHERE app = $1 AND tencent = $2 ORDER BY 1"
        }
    };
    let found: Vec<(String,)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(app).bind(name).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|(account,)| super::uuid(&account)).collect()
}

/// Blanks what the rows of some accounts say, as their blank events say it.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn blank_accounts(conn: &mut Conn<'_>, accounts: &[Uuid]) -> Result<(), Fault> {
    const SQL: Sql = scalars!(
        "UPDATE accounts SET ums_user = NULL, username = NULL, tencent = NULL, nickname = NULL \
         WHERE account IN (SELECT value FROM ",
        ")"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    on!(conn.again(), c => sqlx::query(sql).bind(accounts).execute(&mut *c).await?.rows_affected());
    Ok(())
}

/// Blanks the names of physical devices that some positions gave an owner, or took one from.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn blank_owners(conn: &mut Conn<'_>, positions: &[i64]) -> Result<(), Fault> {
    const SQL: Sql = Sql {
        sqlite: "UPDATE owners SET hardware_id = stream \
                 WHERE from_position IN (SELECT value FROM json_each($1))",
        postgres: "UPDATE owners SET hardware_id = stream WHERE from_position = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    let (sql, positions) = (conn.text(SQL), db::list(positions)?);
    on!(conn.again(), c => {
        sqlx::query(sql).bind(positions).execute(&mut *c).await?.rows_affected()
    });
    Ok(())
}

/// Makes the rows of one device again from all of its events, some of which are blank now.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn fold_device_again(
    conn: &mut Conn<'_>,
    stream: Uuid,
    events: &[Recorded],
    erasures: &[ErasureRow],
) -> Result<(), Fault> {
    const REMOVE: &str = "DELETE FROM devices WHERE number = $1";
    let Some(number) = events.first().map(|first| first.position) else { return Ok(()) };
    debug_assert!(events.iter().all(|event| event.stream == Stream::Device(stream)));
    on!(conn.again(), c => {
        sqlx::query(REMOVE).bind(number).execute(&mut *c).await?.rows_affected()
    });
    let events: Vec<&Recorded> = events.iter().collect();
    devices::apply(conn, &events).await?;
    match erasures.iter().find(|row| row.erased.has_device(number)) {
        Some(row) => end(conn, row.position, &row.erased).await,
        None => Ok(()),
    }
}
