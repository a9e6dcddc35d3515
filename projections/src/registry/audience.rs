//! The audience of a push, as of the position at which it was cut: devices in order of number, and
//! how many users it has. Read by the fan-out, which may come back to the same cut after a restart.

use std::collections::BTreeSet;

use domain::{
    device::{Binding, Channel, Status},
    task::Audience,
};
use serde::Deserialize;
use uuid::Uuid;

use super::uuid;
use crate::{
    Fault,
    db::{self, Conn, Sql},
    on, rows, scalars,
};

/// A device of an audience, with what it takes to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// The device's number.
    pub number: i64,
    /// Its user, as of the cut.
    pub account: Option<Uuid>,
    /// Its package.
    pub app_package: String,
    /// The ways to it over push vendors.
    pub bindings: Vec<Binding>,
    /// Whether it may be sent to.
    pub registered: bool,
    /// Whether it changed since the cut, so that its present row is another.
    pub changed: bool,
}

/// Users of an audience, and those of them that have no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Users {
    /// All.
    pub users: u64,
    /// Without a device.
    pub unbound: u64,
}

type Row = (i64, Option<String>, i64, i64, String, String, Option<i64>);

/// Rows of devices as a list of JSON arrays in one text, which costs SQLite's driver a column and
/// not seven for each of thousands of devices.
macro_rules! list_targets {
    ($sqlite:literal, $postgres:literal) => {
        Sql {
            sqlite: concat!(
                "SELECT json_group_array(json_array(number, account, status, channel, app_package, ",
                "details, to_position)) FROM (SELECT * FROM devices ",
                $sqlite,
                ")"
            ),
            postgres: concat!(
                "SELECT COALESCE(json_agg(json_build_array(number, account, status, channel, ",
                "app_package, details, to_position)), '[]')::text FROM (SELECT * FROM devices ",
                $postgres,
                ") AS found"
            ),
        }
    };
    ($tail:literal) => {
        list_targets!($tail, $tail)
    };
}

/// What of a row's details a vendor is reached by.
#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    push_id: String,
    #[serde(default)]
    bound: Vec<(String, String)>,
}

fn target(
    (number, account, status, channel, app_package, details, to): Row,
) -> Result<TargetRow, Fault> {
    let details: Details =
        serde_json::from_str(&details).map_err(|cause| Fault::stored("details", cause))?;
    let bound = details.bound.into_iter();
    let bound = bound.map(|(notifier, token)| Binding { notifier: Some(notifier), token });
    let own = channel == Channel::Jpush as i64 && !details.push_id.is_empty();
    let own = own.then_some(Binding { notifier: None, token: details.push_id });
    Ok(TargetRow {
        number,
        account: account.as_deref().map(uuid).transpose()?,
        app_package,
        bindings: bound.chain(own).collect(),
        registered: status != Status::Unregistered as i64,
        changed: to.is_some(),
    })
}

fn targets((found,): (String,)) -> Result<Vec<TargetRow>, Fault> {
    let rows: Vec<Row> =
        serde_json::from_str(&found).map_err(|cause| Fault::stored("devices", cause))?;
    let mut targets = rows.into_iter().map(target).collect::<Result<Vec<_>, Fault>>()?;
    // The statements promise no order of what they put together.
    targets.sort_unstable_by_key(|target| target.number);
    Ok(targets)
}

/// A page of an app's registered devices after a number, as of a position.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn targets_after(
    conn: &mut Conn<'_>,
    app: &str,
    as_of: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<TargetRow>, Fault> {
    const SQL: Sql = list_targets!(
        "WHERE app = $1 AND number > $2 AND from_position <= $3 \
         AND (to_position IS NULL OR to_position > $3) AND status <> 2 ORDER BY number LIMIT $4"
    );
    let sql = conn.text(SQL);
    targets(on!(conn.again(), c => {
        let query = sqlx::query_as(sql).bind(app).bind(after).bind(as_of).bind(limit);
        query.fetch_one(&mut *c).await?
    }))
}

/// Devices by number, as of a position (now: `i64::MAX`), in order of number.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn targets_at(
    conn: &mut Conn<'_>,
    numbers: &[i64],
    as_of: i64,
) -> Result<Vec<TargetRow>, Fault> {
    const SQL: Sql = list_targets!(
        "WHERE number IN (SELECT value FROM json_each($1)) AND from_position <= $2 \
         AND (to_position IS NULL OR to_position > $2)",
        "WHERE number = ANY (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json))) \
         AND from_position <= $2 AND (to_position IS NULL OR to_position > $2)"
    );
    let (sql, numbers) = (conn.text(SQL), db::list(numbers)?);
    targets(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(numbers).bind(as_of).fetch_one(&mut *c).await?
    }))
}

/// Registered devices of accounts that a statement gives as `m`, as of position `$2`. A device's
/// rows that are past and the one that is not are in two indexes.
macro_rules! devices_of {
    ($accounts:expr) => {
        concat!(
            "SELECT d.number, d.account FROM ",
            $accounts,
            " JOIN devices d ON d.account = m.account ",
            "WHERE d.to_position IS NULL AND d.from_position <= $2 AND d.status <> 2 UNION ALL ",
            "SELECT d.number, d.account FROM ",
            $accounts,
            " JOIN devices d ON d.account = m.account ",
            "WHERE d.to_position IS NOT NULL AND d.to_position > $2 AND d.from_position <= $2 ",
            "AND d.status <> 2 ORDER BY 1"
        )
    };
}

/// Who is in the label `$1` as of position `$2`: nobody in one that was deleted, as its end is the
/// end of all that are in it.
macro_rules! members {
    () => {
        "label_members WHERE label = $1 AND from_position <= $2 \
         AND (to_position IS NULL OR to_position > $2)"
    };
}

/// Numbers of the devices of a label's users, or of some users, as of a position, in order, and how
/// many users these are; `None` for everyone, whose devices come in pages ([`targets_after`]).
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn named_targets(
    conn: &mut Conn<'_>,
    audience: &Audience,
    as_of: i64,
) -> Result<Option<(Vec<i64>, Users)>, Fault> {
    const OF_LABEL: &str = devices_of!(concat!("(SELECT account FROM ", members!(), ") m"));
    const OF_USERS: Sql = Sql {
        sqlite: devices_of!("(SELECT value AS account FROM json_each($1)) m"),
        postgres: devices_of!(
            "(SELECT value AS account FROM json_array_elements_text($1::json)) m"
        ),
    };
    let (sql, of, users) = match audience {
        Audience::Everyone => return Ok(None),
        Audience::Label { label, .. } => {
            let label = label.to_string();
            let users = members(conn, &label, as_of).await?;
            (OF_LABEL, label, users)
        }
        Audience::Users(accounts) => {
            (conn.text(OF_USERS), db::list(accounts)?, open(conn, accounts, as_of).await?)
        }
    };
    let rows: Vec<(i64, Option<String>)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(of).bind(as_of).fetch_all(&mut *c).await?
    });
    let bound: BTreeSet<&Option<String>> = rows.iter().map(|(_, account)| account).collect();
    let unbound = users.saturating_sub(bound.len() as u64);
    let numbers = rows.iter().map(|(number, _)| *number).collect();
    Ok(Some((numbers, Users { users, unbound })))
}

async fn members(conn: &mut Conn<'_>, label: &str, as_of: i64) -> Result<u64, Fault> {
    const SQL: &str = concat!("SELECT COUNT(*) FROM ", members!());
    let (count,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(label).bind(as_of).fetch_one(&mut *c).await?
    });
    Ok(count.unsigned_abs())
}

/// How many of some accounts were open.
async fn open(conn: &mut Conn<'_>, accounts: &[Uuid], as_of: i64) -> Result<u64, Fault> {
    const SQL: Sql = scalars!(
        "SELECT COUNT(*) FROM accounts WHERE from_position <= $2 \
         AND (to_position IS NULL OR to_position > $2) AND account IN (SELECT value FROM ",
        ")"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let (count,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).bind(as_of).fetch_one(&mut *c).await?
    });
    Ok(count.unsigned_abs())
}

/// How many users an app had as of a position. It reads every device of the app once.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn users_of_app(conn: &mut Conn<'_>, app: &str, as_of: i64) -> Result<Users, Fault> {
    const ALL: &str = "SELECT COUNT(*) FROM accounts WHERE app = $1 AND from_position <= $2 \
         AND (to_position IS NULL OR to_position > $2)";
    const BOUND: &str = "SELECT COUNT(DISTINCT account) FROM devices WHERE app = $1 \
         AND from_position <= $2 AND (to_position IS NULL OR to_position > $2) AND status <> 2";
    let ((all,), (bound,)): ((i64,), (i64,)) = on!(conn.again(), c => (
        sqlx::query_as(ALL).bind(app).bind(as_of).fetch_one(&mut *c).await?,
        sqlx::query_as(BOUND).bind(app).bind(as_of).fetch_one(&mut *c).await?,
    ));
    Ok(Users { users: all.unsigned_abs(), unbound: (all - bound).max(0).unsigned_abs() })
}

/// How many registered devices an app had as of a position. It reads every device of the app once.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn devices_of_app(conn: &mut Conn<'_>, app: &str, as_of: i64) -> Result<u64, Fault> {
    const SQL: &str = "SELECT COUNT(*) FROM devices WHERE app = $1 AND from_position <= $2 \
         AND (to_position IS NULL OR to_position > $2) AND status <> 2";
    let (count,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(as_of).fetch_one(&mut *c).await?
    });
    Ok(count.unsigned_abs())
}

/// How many users some registered devices had, as of a position.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn users_with(conn: &mut Conn<'_>, numbers: &[i64], as_of: i64) -> Result<u64, Fault> {
    const SQL: Sql = scalars!(
        "SELECT COUNT(DISTINCT account) FROM devices WHERE from_position <= $2 \
         AND (to_position IS NULL OR to_position > $2) AND status <> 2 \
         AND number IN (SELECT CAST(value AS BIGINT) FROM ",
        ")"
    );
    let (sql, numbers) = (conn.text(SQL), db::list(numbers)?);
    let (count,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(numbers).bind(as_of).fetch_one(&mut *c).await?
    });
    Ok(count.unsigned_abs())
}

/// How many users had a registered device whose number is in one of these spans, as of a position.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn users_in(
    conn: &mut Conn<'_>,
    app: &str,
    spans: &[(i64, i64)],
    as_of: i64,
) -> Result<u64, Fault> {
    // SQLite then goes through the spans and looks each up, and never through all devices for each.
    const SQL: Sql = rows!(
        "SELECT COUNT(DISTINCT d.account) FROM ",
        " CROSS JOIN devices d WHERE d.app = $2 AND d.number >= CAST(list.value->>0 AS BIGINT) \
         AND d.number <= CAST(list.value->>1 AS BIGINT) AND d.from_position <= $3 \
         AND (d.to_position IS NULL OR d.to_position > $3) AND d.status <> 2"
    );
    let (sql, spans) = (conn.text(SQL), db::list(spans)?);
    let (count,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(spans).bind(app).bind(as_of).fetch_one(&mut *c).await?
    });
    Ok(count.unsigned_abs())
}
