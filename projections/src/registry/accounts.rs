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

/// A user as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// The account.
    pub account: Uuid,
    /// Position of its first event.
    pub position: i64,
    /// When it was seen for the first time, in µs.
    pub opened_at: i64,
    /// Its UMS `userId`.
    pub ums_user: Option<String>,
    /// Its Easemob username.
    pub username: Option<String>,
    /// Its nickname.
    pub nickname: Option<String>,
}

type Stored = (String, i64, i64, Option<String>, Option<String>, Option<String>);

fn account_row(stored: Stored) -> Result<AccountRow, Fault> {
    let (account, position, opened_at, ums_user, username, nickname) = stored;
    Ok(AccountRow { account: uuid(&account)?, position, opened_at, ums_user, username, nickname })
}

/// A page of an app's users of whichever protocol, after a position, in order of their first event.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn account_page(
    conn: &mut Conn<'_>,
    app: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<AccountRow>, Fault> {
    const SQL: &str = "SELECT account, from_position, opened_at, ums_user, username, nickname \
         FROM accounts WHERE app = $1 AND from_position > $2 AND to_position IS NULL \
         ORDER BY from_position LIMIT $3";
    let found: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    found.into_iter().map(account_row).collect()
}

/// Some accounts, closed ones too.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_ids(conn: &mut Conn<'_>, accounts: &[Uuid]) -> Result<Vec<AccountRow>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT account, from_position, opened_at, ums_user, username, nickname FROM accounts \
         WHERE account IN (SELECT value FROM ",
        ")"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let found: Vec<Stored> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).fetch_all(&mut *c).await?
    });
    found.into_iter().map(account_row).collect()
}

/// The account of an app that a user has by a name, of whichever protocol.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn named(
    conn: &mut Conn<'_>,
    app: &str,
    user: &str,
) -> Result<Option<AccountRow>, Fault> {
    const BY_UMS: &str = "SELECT account, from_position, opened_at, ums_user, username, nickname \
         FROM accounts WHERE app = $1 AND ums_user = $2 AND to_position IS NULL";
    const BY_NAME: &str = "SELECT account, from_position, opened_at, ums_user, username, nickname \
         FROM accounts WHERE app = $1 AND username = $2 AND to_position IS NULL";
    for (sql, name) in [(BY_UMS, user.to_owned()), (BY_NAME, user.to_lowercase())] {
        let found: Option<Stored> = on!(conn.again(), c => {
            sqlx::query_as(sql).bind(app).bind(name).fetch_optional(&mut *c).await?
        });
        if let Some(found) = found {
            return account_row(found).map(Some);
        }
    }
    Ok(None)
}

type UserRow = (String, i64, String, Option<String>, i64);

fn user_of((account, opened_at, username, nickname, _): UserRow) -> Result<User, Fault> {
    // The stream of an account that is open has one event.
    Ok(User { account: uuid(&account)?, version: 1, opened_at, username, nickname })
}

/// The Easemob user of a name.
pub(super) async fn user(
    conn: &mut Conn<'_>,
    app: &str,
    username: &str,
) -> Result<Option<User>, Fault> {
    const SQL: &str = "SELECT account, opened_at, username, nickname, from_position FROM accounts \
         WHERE app = $1 AND username = $2 AND to_position IS NULL";
    let found: Option<UserRow> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(username).fetch_optional(&mut *c).await?
    });
    found.map(user_of).transpose()
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
