//! Accounts in the registry. A row is an interval of positions in which an account had those
//! addresses; the last ends when its user is removed.

use std::{collections::BTreeMap, sync::LazyLock};

use domain::{
    Event, Recorded, Stream,
    account::{Account, AccountPrivate, User},
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
        "version",
        "ums_user",
        "username",
        "tencent",
        "nickname",
        "opened_at",
        "from_position",
        "to_position",
    ];
    Insert::new("accounts", &columns, "")
});

/// A row that a page adds: where it begins, the account as it is from there, and where that ends.
type NewRow<'a> = (&'a Recorded, Account, Option<i64>);

pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    let mut new: Vec<NewRow> = Vec::new();
    let mut closed: Vec<(String, i64)> = Vec::new();
    for recorded in page {
        let Stream::Account(id) = &recorded.stream else { continue };
        let position = recorded.position;
        if !matches!(recorded.event, Event::AccountOpened(_)) {
            let before = |(_, account, to): &&mut NewRow| account.account == *id && to.is_none();
            match new.iter_mut().find(before) {
                Some(row) => row.2 = Some(position),
                None => closed.push((id.to_string(), position)),
            }
        }
        let account = Account::evolve(*id, recorded.place(), &recorded.event);
        new.extend(account.map(|account| (*recorded, account, None)));
    }
    // A name may be given up and taken again within one group: the old row has to end first.
    close(conn, &closed).await?;
    let mut values: Vec<Value> = Vec::with_capacity(new.len() * 10);
    for (recorded, account, to) in new {
        let AccountPrivate { ums_user, username, tencent, nickname } = account.addresses;
        values.extend([account.account.to_string().into(), recorded.app.as_str().into()]);
        values.push(account.version.into());
        values.extend([ums_user, username, tencent, nickname].map(Value::Text));
        values.extend([account.opened_at.into(), recorded.position.into(), Value::Int(to)]);
    }
    INSERT.run(conn, values).await
}

async fn close(conn: &mut Conn<'_>, closed: &[(String, i64)]) -> Result<(), Fault> {
    if closed.is_empty() {
        return Ok(());
    }
    const SQL: Sql = rows!(
        "UPDATE accounts SET to_position = CAST(list.value->>1 AS BIGINT) FROM ",
        " WHERE account = list.value->>0 AND to_position IS NULL"
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
        "SELECT account, COALESCE(ums_user, username, tencent, '') FROM accounts \
         WHERE account IN (SELECT value FROM ",
        ") ORDER BY from_position"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let found: Vec<(String, String)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|(account, user)| Ok((uuid(&account)?, user))).collect()
}

/// The account of a Tencent user.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn tencent(conn: &mut Conn<'_>, app: &str, user: &str) -> Result<Option<Uuid>, Fault> {
    const SQL: &str =
        "SELECT account FROM accounts WHERE app = $1 AND tencent = $2 AND to_position IS NULL";
    let found: Option<(String,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(user).fetch_optional(&mut *c).await?
    });
    found.map(|(account,)| uuid(&account)).transpose()
}

/// The columns of an [`StoredAccount`], in its order.
macro_rules! select_accounts {
    ($where:literal) => {
        concat!(
            "SELECT account, version, opened_at, ums_user, username, tencent, nickname, ",
            "from_position FROM accounts WHERE to_position IS NULL AND ",
            $where
        )
    };
}

type StoredAccount =
    (String, i64, i64, Option<String>, Option<String>, Option<String>, Option<String>, i64);

fn account_of(row: StoredAccount) -> Result<Account, Fault> {
    let (account, version, opened_at, ums_user, username, tencent, nickname, _) = row;
    let addresses = AccountPrivate { ums_user, username, tencent, nickname };
    Ok(Account { account: uuid(&account)?, version, opened_at, addresses })
}

/// A user as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// The account.
    pub account: Uuid,
    /// Position of the event that gave it the addresses that it has.
    pub position: i64,
    /// When it was seen for the first time, in µs.
    pub opened_at: i64,
    /// Its UMS `userId`.
    pub ums_user: Option<String>,
    /// Its Easemob username.
    pub username: Option<String>,
    /// Its Tencent `UserID`.
    pub tencent: Option<String>,
    /// Its nickname.
    pub nickname: Option<String>,
}

fn account_row(stored: StoredAccount) -> Result<AccountRow, Fault> {
    let (account, _, opened_at, ums_user, username, tencent, nickname, position) = stored;
    let account = uuid(&account)?;
    Ok(AccountRow { account, position, opened_at, ums_user, username, tencent, nickname })
}

/// A page of an app's users of whichever protocol, after a position, in the order in which they got
/// the addresses that they have.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn account_page(
    conn: &mut Conn<'_>,
    app: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<AccountRow>, Fault> {
    const SQL: &str =
        select_accounts!("app = $1 AND from_position > $2 ORDER BY from_position LIMIT $3");
    let found: Vec<StoredAccount> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    found.into_iter().map(account_row).collect()
}

/// Some accounts, closed ones too: each as it was last.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn by_ids(conn: &mut Conn<'_>, accounts: &[Uuid]) -> Result<Vec<AccountRow>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT account, version, opened_at, ums_user, username, tencent, nickname, \
         from_position FROM accounts a WHERE NOT EXISTS (SELECT 1 FROM accounts later \
         WHERE later.account = a.account AND later.from_position > a.from_position) \
         AND account IN (SELECT value FROM ",
        ")"
    );
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let found: Vec<StoredAccount> = on!(conn.again(), c => {
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
    const BY_UMS: &str = select_accounts!("app = $1 AND ums_user = $2");
    const BY_NAME: &str = select_accounts!("app = $1 AND username = $2");
    const BY_TENCENT: &str = select_accounts!("app = $1 AND tencent = $2");
    let (exact, lower) = (user.to_owned(), user.to_lowercase());
    for (sql, name) in [(BY_UMS, &exact), (BY_NAME, &lower), (BY_TENCENT, &exact)] {
        let found: Option<StoredAccount> = on!(conn.again(), c => {
            sqlx::query_as(sql).bind(app).bind(name).fetch_optional(&mut *c).await?
        });
        if let Some(found) = found {
            return account_row(found).map(Some);
        }
    }
    Ok(None)
}

/// An account with its addresses, if it is open.
pub(super) async fn addresses(
    conn: &mut Conn<'_>,
    account: Uuid,
) -> Result<Option<Account>, Fault> {
    const SQL: &str = select_accounts!("account = $1");
    let found: Option<StoredAccount> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(account.to_string()).fetch_optional(&mut *c).await?
    });
    found.map(account_of).transpose()
}

/// The Easemob users of some names, in no order; names that are nobody's are left out. All of it
/// comes as one text, as SQLite's driver hands each column of each row over by itself.
pub(super) async fn users_named(
    conn: &mut Conn<'_>,
    app: &str,
    usernames: &[&str],
) -> Result<Vec<User>, Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT json_group_array(json_array(account, version, opened_at, ums_user, \
                 username, tencent, nickname, from_position)) \
                 FROM accounts WHERE app = $2 AND to_position IS NULL \
                 AND username IN (SELECT value FROM json_each($1))",
        postgres: "SELECT COALESCE(json_agg(json_build_array(account, version, opened_at, \
                   ums_user, username, tencent, nickname, from_position)), '[]')::text \
                   FROM accounts WHERE app = $2 AND to_position IS NULL \
                   AND username = ANY (ARRAY(SELECT json_array_elements_text($1::json)))",
    };
    let (sql, usernames) = (conn.text(SQL), db::list(usernames)?);
    let (found,): (String,) = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(usernames).bind(app).fetch_one(&mut *c).await?
    });
    let found: Vec<StoredAccount> =
        serde_json::from_str(&found).map_err(|cause| Fault::stored("users", cause))?;
    let users = found.into_iter().map(|row| Ok(account_of(row)?.user()));
    users.filter_map(Result::transpose).collect()
}

/// A page of an app's Easemob users after a position, in the order in which they got the addresses
/// that they have; each with the position to go on from.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn user_page(
    conn: &mut Conn<'_>,
    app: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, User)>, Fault> {
    const SQL: &str = select_accounts!(
        "app = $1 AND username IS NOT NULL AND from_position > $2 ORDER BY from_position LIMIT $3"
    );
    let found: Vec<StoredAccount> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    let row = |row: StoredAccount| {
        let position = row.7;
        Ok(account_of(row)?.user().map(|user| (position, user)))
    };
    found.into_iter().filter_map(|found| row(found).transpose()).collect()
}
