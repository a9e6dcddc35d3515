//! Labels in the registry, and who is in them. A membership is an interval of positions, so that
//! the audience of a push can be cut at one.

use std::sync::LazyLock;

use domain::{Event, Recorded, Stream, label::Label};
use uuid::Uuid;

use super::uuid;
use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    on, rows, scalars,
};

static INSERT_LABELS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["label", "app", "name", "description", "version", "created_at", "from_position"];
    Insert::new("labels", &columns, "")
});
static INSERT_MEMBERS: LazyLock<Insert> = LazyLock::new(|| {
    Insert::new("label_members", &["label", "account", "joined_at", "from_position"], "")
});

/// Labels change seldom, and each change may need the one before: they are folded one by one.
pub(super) async fn apply(conn: &mut Conn<'_>, page: &[&Recorded]) -> Result<(), Fault> {
    for recorded in page {
        let Stream::Label(label) = &recorded.stream else { continue };
        let label = label.to_string();
        match &recorded.event {
            Event::LabelCreated(e) => {
                let values = vec![
                    label.into(),
                    recorded.app.as_str().into(),
                    e.name.as_str().into(),
                    e.description.as_str().into(),
                    recorded.version.into(),
                    recorded.recorded_at.into(),
                    recorded.position.into(),
                ];
                INSERT_LABELS.run(conn, values).await?;
            }
            Event::LabelDeleted(_) => {
                const SQL: &str =
                    "UPDATE labels SET version = $2, to_position = $3 WHERE label = $1";
                const MEMBERS: &str = "UPDATE label_members SET to_position = $2 \
                     WHERE label = $1 AND to_position IS NULL";
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(&label).bind(recorded.version);
                    query.bind(recorded.position).execute(&mut *c).await?;
                    let query = sqlx::query(MEMBERS).bind(&label).bind(recorded.position);
                    query.execute(&mut *c).await?.rows_affected()
                });
            }
            Event::LabelMembersChanged(e) => {
                const SQL: &str = "UPDATE labels SET version = $2 WHERE label = $1";
                on!(conn.again(), c => {
                    let query = sqlx::query(SQL).bind(&label).bind(recorded.version);
                    query.execute(&mut *c).await?.rows_affected()
                });
                let left: Vec<_> =
                    e.left.iter().map(|account| (&label, account, recorded.position)).collect();
                leave(conn, &left).await?;
                let mut values: Vec<Value> = Vec::new();
                for account in &e.joined {
                    values.extend([label.as_str().into(), account.to_string().into()]);
                    values.extend([recorded.recorded_at.into(), recorded.position.into()]);
                }
                INSERT_MEMBERS.run(conn, values).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

async fn leave(conn: &mut Conn<'_>, left: &[(&String, &Uuid, i64)]) -> Result<(), Fault> {
    if left.is_empty() {
        return Ok(());
    }
    const SQL: Sql = rows!(
        "UPDATE label_members SET to_position = CAST(list.value->>2 AS BIGINT) FROM ",
        " WHERE label = list.value->>0 AND account = list.value->>1 AND to_position IS NULL"
    );
    let (sql, left) = (conn.text(SQL), db::list(left)?);
    on!(conn.again(), c => sqlx::query(sql).bind(left).execute(&mut *c).await?.rows_affected());
    Ok(())
}

/// Each with the number of its members.
macro_rules! select_labels {
    ($where:literal) => {
        concat!(
            "SELECT l.label, l.version, l.created_at, l.name, l.description, (SELECT COUNT(*) ",
            "FROM label_members m WHERE m.label = l.label AND m.to_position IS NULL), ",
            "l.from_position FROM labels l WHERE l.to_position IS NULL AND ",
            $where
        )
    };
}

type LabelRow = (String, i64, i64, String, String, i64, i64);

fn label_of(
    (label, version, created_at, name, description, members, _): LabelRow,
) -> Result<Label, Fault> {
    let stream = uuid(&label)?;
    Ok(Label { stream, version, created_at, name, description, members })
}

/// The label of a name.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn label(conn: &mut Conn<'_>, app: &str, name: &str) -> Result<Option<Label>, Fault> {
    const SQL: &str = select_labels!("l.app = $1 AND l.name = $2");
    let found: Option<LabelRow> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(name).fetch_optional(&mut *c).await?
    });
    found.map(label_of).transpose()
}

/// How many labels an app has.
pub(super) async fn count(conn: &mut Conn<'_>, app: &str) -> Result<i64, Fault> {
    const SQL: &str = "SELECT COUNT(*) FROM labels WHERE app = $1 AND to_position IS NULL";
    let (count,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).fetch_one(&mut *c).await?
    });
    Ok(count)
}

/// A page of an app's labels after a position, in order of creation; each with the position to go
/// on from.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn label_page(
    conn: &mut Conn<'_>,
    app: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Label)>, Fault> {
    const SQL: &str =
        select_labels!("l.app = $1 AND l.from_position > $2 ORDER BY l.from_position LIMIT $3");
    let found: Vec<LabelRow> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|row| Ok((row.6, label_of(row)?))).collect()
}

/// The labels that some accounts are in, each with the account, in order of creation.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn labels_of(
    conn: &mut Conn<'_>,
    accounts: &[Uuid],
) -> Result<Vec<(Uuid, Label)>, Fault> {
    const SQL: Sql = scalars!(
        "SELECT o.account, l.label, l.version, l.created_at, l.name, l.description, \
         (SELECT COUNT(*) FROM label_members m WHERE m.label = l.label AND m.to_position IS NULL), \
         l.from_position FROM label_members o JOIN labels l ON l.label = o.label \
         WHERE o.to_position IS NULL AND l.to_position IS NULL AND o.account IN (SELECT value FROM ",
        ") ORDER BY l.from_position"
    );
    type Row = (String, String, i64, i64, String, String, i64, i64);
    let (sql, accounts) = (conn.text(SQL), db::list(accounts)?);
    let found: Vec<Row> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(accounts).fetch_all(&mut *c).await?
    });
    let row = |(account, label, version, created_at, name, description, members, at): Row| {
        let label = label_of((label, version, created_at, name, description, members, at))?;
        Ok((uuid(&account)?, label))
    };
    found.into_iter().map(row).collect()
}

/// Since when an account is in a label, in µs.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn member(conn: &mut Conn<'_>, label: Uuid, account: Uuid) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT joined_at FROM label_members \
         WHERE label = $1 AND account = $2 AND to_position IS NULL";
    let found: Option<(i64,)> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(label.to_string()).bind(account.to_string());
        query.fetch_optional(&mut *c).await?
    });
    Ok(found.map(|(joined_at,)| joined_at))
}

/// One user of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// The username.
    pub username: String,
    /// When it joined, in µs.
    pub joined_at: i64,
    /// Where a page goes on after it.
    pub after: (i64, String),
}

/// A page of a label's users, in the order in which they joined.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn member_page(
    conn: &mut Conn<'_>,
    label: Uuid,
    (position, account): &(i64, String),
    limit: i64,
) -> Result<Vec<MemberRow>, Fault> {
    const SQL: &str = "SELECT a.username, m.joined_at, m.from_position, m.account \
         FROM label_members m JOIN accounts a ON a.account = m.account AND a.to_position IS NULL \
         WHERE m.label = $1 AND m.to_position IS NULL \
         AND (m.from_position, m.account) > ($2, $3) ORDER BY m.from_position, m.account LIMIT $4";
    let found: Vec<(String, i64, i64, String)> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(label.to_string()).bind(position).bind(account);
        query.bind(limit).fetch_all(&mut *c).await?
    });
    let row = |(username, joined_at, position, account)| MemberRow {
        username,
        joined_at,
        after: (position, account),
    };
    Ok(found.into_iter().map(row).collect())
}

/// Streams and names of the labels that an account is in, in order of stream.
pub(super) async fn of_account(
    conn: &mut Conn<'_>,
    account: Uuid,
) -> Result<Vec<(Uuid, String)>, Fault> {
    const SQL: &str = "SELECT l.label, l.name FROM label_members m \
         JOIN labels l ON l.label = m.label \
         WHERE m.account = $1 AND m.to_position IS NULL ORDER BY l.label";
    let found: Vec<(String, String)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(account.to_string()).fetch_all(&mut *c).await?
    });
    found.into_iter().map(|(label, name)| Ok((uuid(&label)?, name))).collect()
}
