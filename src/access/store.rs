//! The access log's rows: written many at once, read in pages, and removed by age alone.

use std::sync::LazyLock;

use projections::{
    Fault,
    db::{self, Conn, Insert, Pool, Sql, Value},
    on,
};

use super::{Access, Outcome, Row};

/// Rows that one transaction removes.
const REMOVED_ROWS: i64 = 5_000;
const COLUMNS: [&str; 15] = [
    "at",
    "last_at",
    "outcome",
    "caller",
    "role",
    "address",
    "request",
    "via",
    "operation",
    "app",
    "fields",
    "subjects",
    "records",
    "calls",
    "code",
];

/// Which rows, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Only of this app.
    pub app: Option<String>,
    /// Only of this caller, such as `operator:3`.
    pub caller: Option<String>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// Only of that time or later, in µs.
    pub from: Option<i64>,
    /// Only of before that time, in µs.
    pub to: Option<i64>,
    /// Only rows of a lower number.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// Writes some rows, in one transaction.
///
/// # Errors
/// [`Fault`] when the database fails; then none is written, or it is unknown.
pub async fn write(pool: &Pool, rows: &[Access]) -> Result<(), Fault> {
    static ACCESSES: LazyLock<Insert> = LazyLock::new(|| Insert::new("accesses", &COLUMNS, ""));
    let mut values: Vec<Value> = Vec::with_capacity(rows.len() * COLUMNS.len());
    for row in rows {
        values.extend([
            row.at.into(),
            row.last_at.into(),
            row.outcome.name().into(),
            row.caller.clone().into(),
            row.role.clone().into(),
            row.address.clone().into(),
            row.request.clone().into(),
            row.via.into(),
            row.operation.clone().into(),
            row.app.clone().into(),
            db::list(&row.fields.iter().collect::<Vec<_>>())?.into(),
            db::list(&row.subjects.iter().collect::<Vec<_>>())?.into(),
            row.records.into(),
            row.calls.into(),
            row.code.clone().into(),
        ]);
    }
    let mut tx = pool.begin().await?;
    ACCESSES.run(&mut tx.conn(), values).await?;
    tx.commit().await
}

type Stored = (
    i64,
    i64,
    i64,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    String,
    String,
    Option<String>,
    String,
    String,
    Option<i64>,
    i64,
    Option<String>,
);

/// A page of rows, the newest first.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn page(pool: &Pool, asked: &Asked) -> Result<Vec<Row>, Fault> {
    const SQL: &str = "SELECT number, at, last_at, outcome, caller, role, address, request, via, \
         operation, app, fields, subjects, records, calls, code FROM accesses \
         WHERE number < $1 AND last_at >= $2 AND at < $3 \
         AND (CAST($4 AS TEXT) IS NULL OR app = $4) \
         AND (CAST($5 AS TEXT) IS NULL OR caller = $5) \
         AND (CAST($6 AS TEXT) IS NULL OR outcome = $6) ORDER BY number DESC LIMIT $7";
    let mut checkout = pool.checkout().await?;
    let rows: Vec<Stored> = on!(checkout.conn(), c => {
        sqlx::query_as(SQL)
            .bind(asked.before.unwrap_or(i64::MAX))
            .bind(asked.from.unwrap_or(i64::MIN))
            .bind(asked.to.unwrap_or(i64::MAX))
            .bind(&asked.app)
            .bind(&asked.caller)
            .bind(asked.outcome.map(Outcome::name))
            .bind(asked.limit)
            .fetch_all(&mut *c)
            .await?
    });
    rows.into_iter().map(row).collect()
}

fn row(stored: Stored) -> Result<Row, Fault> {
    let (number, at, last_at, outcome, caller, role, address, request, via, operation, app, ..) =
        stored;
    let (fields, subjects, records, calls, code) =
        (stored.11, stored.12, stored.13, stored.14, stored.15);
    let list =
        |text: &str| serde_json::from_str(text).map_err(|cause| Fault::stored("access", cause));
    let outcome = db::from_name(outcome)?;
    let (fields, subjects) = (list(&fields)?, list(&subjects)?);
    Ok(Row {
        number,
        at,
        last_at,
        outcome,
        caller,
        role,
        address,
        request,
        via,
        operation,
        app,
        fields,
        subjects,
        records,
        calls,
        code,
    })
}

/// Removes what is older than a time in µs, some rows a transaction, so that whoever writes never
/// waits for long.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn remove_before(pool: &Pool, before: i64) -> Result<(), Fault> {
    const OLD: &str = "SELECT number FROM accesses WHERE last_at < $1 ORDER BY number LIMIT $2";
    const REMOVE: Sql = Sql {
        sqlite: "DELETE FROM accesses WHERE number IN (SELECT value FROM json_each($1))",
        postgres: "DELETE FROM accesses WHERE number IN \
                   (SELECT value::bigint FROM json_array_elements_text($1::json))",
    };
    loop {
        let mut checkout = pool.checkout().await?;
        let old: Vec<(i64,)> = on!(checkout.conn(), c => {
            sqlx::query_as(OLD).bind(before).bind(REMOVED_ROWS).fetch_all(&mut *c).await?
        });
        drop(checkout);
        if old.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = old.into_iter().map(|(number,)| number).collect();
        let list = db::list(&numbers)?;
        let mut tx = pool.begin().await?;
        expiring(&mut tx.conn(), before).await?;
        let sql = tx.conn().text(REMOVE);
        on!(tx.conn(), c => {
            sqlx::query(sql).bind(list).execute(&mut *c).await?;
            sqlx::query("DELETE FROM expiring").execute(&mut *c).await?.rows_affected()
        });
        tx.commit().await?;
    }
}

/// Has the triggers let go of what is older than a time, inside this transaction.
async fn expiring(conn: &mut Conn<'_>, before: i64) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO expiring (one, before) VALUES (1, $1)";
    on!(conn.again(), c => sqlx::query(SQL).bind(before).execute(&mut *c).await?.rows_affected());
    Ok(())
}
