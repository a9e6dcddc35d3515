//! Events that the views could not read or fold: shown to operators and auditors, so that they see
//! what is missing. Folds depend on order, so an event that can be folded after a fix is not folded
//! late; a rebuild folds it where it belongs.

use projections::{
    Fault,
    db::{self, Conn, Sql},
    live::LiveViews,
    on,
};

use crate::ledger::{Database, Ledger};

/// An event that is in no view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Its position.
    pub position: i64,
    /// Its app; empty for what belongs to no app.
    pub app: String,
    /// Its stored name.
    pub name: String,
    /// Its stored schema number.
    pub schema: i64,
    /// Why it was set aside then.
    pub error: String,
    /// Whether this version of the program can read it.
    pub readable: bool,
}

/// Events that were set aside after a position, in order.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page(ledger: &Ledger, after: i64, limit: i64) -> Result<Vec<SetAside>, Fault> {
    const SQL: &str =
        "SELECT position, error FROM set_aside WHERE position > $1 ORDER BY position LIMIT $2";
    let mut views = ledger.database().views.checkout().await?;
    let rows: Vec<(i64, String)> = on!(views.conn(), c => {
        sqlx::query_as(SQL).bind(after).bind(limit).fetch_all(&mut *c).await?
    });
    drop(views);
    let mut page = Vec::with_capacity(rows.len());
    for (position, error) in rows {
        let stored = ledger.read_stored(position - 1, 1).await?.pop();
        let stored = stored.filter(|stored| stored.position == position);
        let stored = stored.ok_or_else(|| Fault::stored("event", format!("none at {position}")))?;
        let readable = stored.recorded().is_ok();
        let (app, name, schema) = (stored.app, stored.name, stored.schema);
        page.push(SetAside { position, app, name, schema, error, readable });
    }
    Ok(page)
}

/// Positions of all of them, in order.
pub(super) async fn positions(views: &LiveViews) -> Result<Vec<i64>, Fault> {
    const SQL: &str = "SELECT position FROM set_aside ORDER BY position";
    let mut checkout = views.checkout().await?;
    let rows: Vec<(i64,)> =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await?);
    Ok(rows.into_iter().map(|(position,)| position).collect())
}

/// Why an event could not be folded may quote it: blanks that of events that were erased.
///
/// # Errors
/// [`Fault`] when the database fails.
pub(crate) async fn blank(views: &LiveViews, positions: &[i64]) -> Result<(), Fault> {
    const SQL: Sql = Sql {
        sqlite: "UPDATE set_aside SET error = 'erased' \
                 WHERE position IN (SELECT value FROM json_each($1))",
        postgres: "UPDATE set_aside SET error = 'erased' WHERE position = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    let mut tx = views.begin().await?;
    let (sql, list) = (tx.conn().text(SQL), db::list(positions)?);
    on!(tx.conn(), c => sqlx::query(sql).bind(list).execute(&mut *c).await?.rows_affected());
    tx.commit().await
}

/// The same for all that are blank by now.
pub(super) async fn blank_erased(database: &Database) -> Result<(), Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position FROM erased WHERE position IN (SELECT value FROM json_each($1))",
        postgres: "SELECT position FROM erased WHERE position = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    let aside = positions(&database.views).await?;
    if aside.is_empty() {
        return Ok(());
    }
    let mut checkout = database.ledger_read.checkout().await?;
    let erased = among(&mut checkout.conn(), SQL, &aside).await?;
    drop(checkout);
    blank(&database.views, &erased).await
}

async fn among(conn: &mut Conn<'_>, sql: Sql, positions: &[i64]) -> Result<Vec<i64>, Fault> {
    let (sql, list) = (conn.text(sql), db::list(positions)?);
    let rows: Vec<(i64,)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(list).fetch_all(&mut *c).await?
    });
    Ok(rows.into_iter().map(|(position,)| position).collect())
}
