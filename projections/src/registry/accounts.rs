//! Accounts in the registry: an account has one row, which ends when its user is removed.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{
    Event, Recorded, Stream,
    account::{AccountPrivate, User},
};
use uuid::Uuid;

use super::uuid;
use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, rows, scalars,
};

static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "account",
        "app",
        "ums_user",
        "username",
        "nickname",
        "opened_at",
        "from_position",
        "to_position",
    ];
    Insert::new("accounts", &columns, "")
});

pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let mut opened: Vec<(&Recorded, &Uuid, AccountPrivate, Option<i64>)> = Vec::new();
    let mut closed: Vec<(String, i64)> = Vec::new();
    for recorded in page {
        let Stream::Account(id) = &recorded.stream else { continue };
        match &recorded.event {
            Event::AccountOpened(e) => {
                opened.push((recorded, id, e.private.clone().unwrap_or_default(), None));
            }
            Event::AccountClosed(_) => match opened.iter_mut().find(|row| row.1 == id) {
                Some(row) => row.3 = Some(recorded.position),
                None => closed.push((id.to_string(), recorded.position)),
            },
            _ => {}
        }
    }
    // A name may be given up and taken again within one group: the old row has to end first.
    close(conn, &closed).await?;
    let mut values: Vec<Value> = Vec::with_capacity(opened.len() * 8);
    for (recorded, id, private, to) in opened {
        let AccountPrivate { ums_user, username, nickname } = private;
        values.extend([id.to_string().into(), recorded.app.as_str().into()]);
        values.extend([ums_user, username, nickname].map(Value::Text));
        values.extend([recorded.recorded_at.into(), recorded.position.into(), Value::Int(to)]);
    }
    INSERT.run(conn, values).await
}

async fn close(conn: &mut Conn<'_>, closed: &[(String, i64)]) -> Result<(), Fault> {
    if closed.is_empty() {
        return Ok(());
    }
    const SQL: Sql = rows!(
        "UPDATE accounts SET to_position = CAST(list.value->>1 AS BIGINT) FROM ",
        " WHERE account = list.value->>0"
    );
    let (sql, closed) = (conn.text(SQL), db::list(closed)?);
    on!(conn.again(), c => sqlx::query(sql).bind(closed).execute(&mut *c).await?.rows_affected());
    Ok(())
}

/// The account of a UMS user.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn account(conn: &mut Conn<'_>, app: &str, user: &str) -> Result<Option<Uuid>, Fault> {
    const SQL: &str =
        "SELECT account FROM accounts WHERE app = $1 AND ums_user = $2 AND to_position IS NULL";
    let found: Option<(String,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(user).fetch_optional(&mut *c).await?
    });
    found.map(|(account,)| uuid(&account)).transpose()
}

/// Names of accounts, of whichever protocol.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn users(
    conn: &mut Conn<'_>,
    accounts: &[Uuid],
) -> Result<BTreeMap<Uuid, String>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT account, COALESCE(ums_user, username, '') FROM accounts \
         WHERE account IN (SELECT value FROM ",
        ")"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let found: Vec<(String, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|(account, user)| Ok((uuid(&account)?, user))).collect()
}

type UserRow = (String, i64, String, Option<String>, i64);

fn user_of((account, opened_at, username, nickname, _): UserRow) -> Result<User, Fault> {
    // The stream of an account that is open has one event.
    Ok(User { account: uuid(&account)?, version: 1, opened_at, username, nickname })
}

/// The Easemob users of some names, in no order; names that are nobody's are left out. All of it
/// comes as one text, as SQLite's driver hands each column of each row over by itself.
pub(super) async fn users_named(
    conn: &mut Conn<'_>,
    app: &str,
    usernames: &[&str],
) -> Result<Vec<User>, Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT json_group_array(json_array(account, opened_at, username, nickname, \
                 from_position)) FROM accounts WHERE app = $2 AND to_position IS NULL \
                 AND username IN (SELECT value FROM json_each($1))",
        postgres: "SELECT COALESCE(json_agg(json_build_array(account, opened_at, username, \
                   nickname, from_position)), '[]')::text FROM accounts \
                   WHERE app = $2 AND to_position IS NULL \
                   AND username IN (SELECT json_array_elements_text($1::json))",
    };
    let (sql, usernames) = (conn.text(SQL), db::list(usernames)?);
    let (found,): (String,) = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(usernames).bind(app).fetch_one(&mut *c).await?
    });
    let found: Vec<UserRow> =
        serde_json::from_str(&found).map_err(|cause| Fault::stored("users", cause))?;
    found.into_iter().map(user_of).collect()
}

/// A page of an app's Easemob users after a position, in order of registration; each with the
/// position to go on from.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn user_page(
    conn: &mut Conn<'_>,
    app: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, User)>, Fault> {
    const SQL: &str = "SELECT account, opened_at, username, nickname, from_position FROM accounts \
         WHERE app = $1 AND username IS NOT NULL AND to_position IS NULL AND from_position > $2 \
         ORDER BY from_position LIMIT $3";
    let found: Vec<UserRow> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|row| Ok((row.4, user_of(row)?))).collect()
}
