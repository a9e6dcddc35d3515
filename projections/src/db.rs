//! The small seam between the two databases: one pool, one connection, one transaction type, and
//! one SQL text for both wherever they agree. `$1` works on both; where they differ it is in how a
//! list comes in as one parameter, and [`Sql`] holds both texts as constants.

use std::sync::Arc;

use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool,
    Transaction, pool::PoolConnection, postgres::PgArguments, query::Query,
    sqlite::SqliteArguments,
};

use crate::Fault;

/// Runs one body on either database: `on!(conn, c => sqlx::query(…).execute(&mut *c).await)`.
#[macro_export]
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::db::Conn::Sqlite($c) => $body,
            $crate::db::Conn::Postgres($c) => $body,
        }
    };
}

/// Connections to one database.
#[derive(Debug, Clone)]
pub enum Pool {
    /// An embedded file.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// A borrowed connection, inside or outside a transaction.
#[derive(Debug)]
pub enum Conn<'c> {
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
}

/// A connection taken from a pool.
#[derive(Debug)]
pub enum Checkout {
    /// SQLite.
    Sqlite(PoolConnection<Sqlite>),
    /// PostgreSQL.
    Postgres(PoolConnection<Postgres>),
}

/// An open transaction; dropped, it rolls back.
#[derive(Debug)]
pub enum Tx {
    /// SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
}

impl Pool {
    /// Takes a connection.
    ///
    /// # Errors
    /// [`Fault::Database`] if none is to be had.
    pub async fn checkout(&self) -> Result<Checkout, Fault> {
        Ok(match self {
            Pool::Sqlite(pool) => Checkout::Sqlite(pool.acquire().await?),
            Pool::Postgres(pool) => Checkout::Postgres(pool.acquire().await?),
        })
    }

    /// Begins a transaction that will write.
    ///
    /// # Errors
    /// [`Fault::Database`] if it cannot begin.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        Ok(match self {
            Pool::Sqlite(pool) => Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Pool::Postgres(pool) => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?)
            }
        })
    }

    /// Begins a transaction that only reads, and sees one moment of the database. It is to be short.
    ///
    /// # Errors
    /// [`Fault::Database`] if it cannot begin.
    pub async fn snapshot(&self) -> Result<Tx, Fault> {
        Ok(match self {
            Pool::Sqlite(pool) => Tx::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => {
                let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                Tx::Postgres(pool.begin_with(sql).await?)
            }
        })
    }

    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        match self {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

impl Checkout {
    /// The connection.
    pub fn conn(&mut self) -> Conn<'_> {
        match self {
            Checkout::Sqlite(conn) => Conn::Sqlite(conn),
            Checkout::Postgres(conn) => Conn::Postgres(conn),
        }
    }
}

impl Tx {
    /// The connection.
    pub fn conn(&mut self) -> Conn<'_> {
        match self {
            Tx::Sqlite(tx) => Conn::Sqlite(tx),
            Tx::Postgres(tx) => Conn::Postgres(tx),
        }
    }

    /// Commits.
    ///
    /// # Errors
    /// [`Fault::Database`]; whether it took place is then unknown.
    pub async fn commit(self) -> Result<(), Fault> {
        match self {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

impl Conn<'_> {
    /// The same connection for a shorter while.
    pub fn again(&mut self) -> Conn<'_> {
        match self {
            Conn::Sqlite(conn) => Conn::Sqlite(conn),
            Conn::Postgres(conn) => Conn::Postgres(conn),
        }
    }

    /// The text for this database.
    #[must_use]
    pub fn text(&self, sql: Sql) -> &'static str {
        match self {
            Conn::Sqlite(_) => sql.sqlite,
            Conn::Postgres(_) => sql.postgres,
        }
    }
}

/// A statement whose text differs between the databases.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

/// A statement over a list that comes in as `$1`, a JSON array: `rows!("SELECT … FROM ", " …")`
/// puts the source of rows between the halves, with the column `value`.
#[macro_export]
macro_rules! rows {
    ($before:literal, $after:literal) => {
        $crate::db::Sql {
            sqlite: concat!($before, "json_each($1) AS list", $after),
            postgres: concat!($before, "json_array_elements($1::json) AS list(value)", $after),
        }
    };
}

/// As [`rows!`], for a list of plain texts or numbers.
#[macro_export]
macro_rules! scalars {
    ($before:literal, $after:literal) => {
        $crate::db::Sql {
            sqlite: concat!($before, "json_each($1) AS list", $after),
            postgres: concat!($before, "json_array_elements_text($1::json) AS list(value)", $after),
        }
    };
}

/// A value to write.
#[derive(Debug, Clone)]
pub enum Value {
    /// A number.
    Int(Option<i64>),
    /// A text.
    Text(Option<String>),
    /// Bytes.
    Bytes(Option<Vec<u8>>),
}

macro_rules! value_from {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self { Value::$variant(Some(value)) }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self { Value::$variant(value) }
        }
    )*};
}
value_from!(i64 => Int, String => Text, Vec<u8> => Bytes);

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(Some(value.to_owned()))
    }
}

/// Binds values one after the other.
pub fn bind(
    query: Query<'_, Sqlite, SqliteArguments>,
    values: impl IntoIterator<Item = Value>,
) -> Query<'_, Sqlite, SqliteArguments> {
    values.into_iter().fold(query, |query, value| match value {
        Value::Int(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

/// Binds rows of values as one array for each column. A column holds one kind of value.
pub fn bind_columns(
    query: Query<'_, Postgres, PgArguments>,
    values: Vec<Value>,
    columns: usize,
) -> Query<'_, Postgres, PgArguments> {
    let mut arrays: Vec<Array> = Vec::with_capacity(columns);
    for (index, value) in values.into_iter().enumerate() {
        if index < columns {
            arrays.push(match &value {
                Value::Int(_) => Array::Int(Vec::new()),
                Value::Text(_) => Array::Text(Vec::new()),
                Value::Bytes(_) => Array::Bytes(Vec::new()),
            });
        }
        match (&mut arrays[index % columns], value) {
            (Array::Int(array), Value::Int(number)) => array.push(number),
            (Array::Text(array), Value::Text(text)) => array.push(text),
            (Array::Bytes(array), Value::Bytes(bytes)) => array.push(bytes),
            (array, _) => debug_assert!(false, "another kind of value in {array:?}"),
        }
    }
    arrays.into_iter().fold(query, |query, array| match array {
        Array::Int(array) => query.bind(array),
        Array::Text(array) => query.bind(array),
        Array::Bytes(array) => query.bind(array),
    })
}

/// One column of many rows.
#[derive(Debug)]
enum Array {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

/// Rows that one statement inserts into SQLite: few sizes stay prepared, and any number of rows
/// needs few statements.
const CHUNKS: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// A multi-row insert whose few texts stay prepared: on PostgreSQL one, over an array for each
/// column; on SQLite one for each of some numbers of rows.
#[derive(Debug)]
pub struct Insert {
    into: String,
    columns: usize,
    tail: String,
    sqlite: [Arc<str>; CHUNKS.len()],
    postgres: Arc<str>,
}

impl Insert {
    /// An insert into these columns of a table, followed by `tail` (a conflict clause or nothing).
    #[must_use]
    pub fn new(table: &str, columns: &[&str], tail: impl Into<String>) -> Insert {
        let into = format!("INSERT INTO {table} ({})", columns.join(","));
        let (sqlite, postgres) = (CHUNKS.map(|_| Arc::from("")), Arc::from(""));
        let (columns, tail) = (columns.len(), tail.into());
        let mut insert = Insert { into, columns, tail, sqlite, postgres };
        insert.sqlite = CHUNKS.map(|rows| Arc::from(insert.of_rows(rows)));
        insert.postgres = Arc::from(insert.of_columns("", 1));
        insert
    }

    /// The statement for SQLite that inserts so many rows.
    #[must_use]
    pub fn of_rows(&self, rows: usize) -> String {
        // SQLite looks numbered parameters up one by one; plain ones it just counts.
        let row = format!("({})", vec!["?"; self.columns].join(","));
        format!("{} VALUES {} {}", self.into, vec![row.as_str(); rows].join(","), self.tail)
    }

    /// The statement for PostgreSQL that inserts any number of rows, one array for each column from
    /// parameter `first` on, once for each row of `with` (a list of tables with a comma after each).
    #[must_use]
    pub fn of_columns(&self, with: &str, first: usize) -> String {
        let arrays: Vec<_> = (first..first + self.columns).map(|n| format!("${n}")).collect();
        let arrays = arrays.join(",");
        format!("{} SELECT list.* FROM {with}unnest({arrays}) AS list {}", self.into, self.tail)
    }

    /// Inserts all rows; `values` holds them one after the other.
    ///
    /// # Errors
    /// [`Fault::Database`] as the database says it.
    pub async fn run(&self, conn: &mut Conn<'_>, values: Vec<Value>) -> Result<(), Fault> {
        let mut left = values.len() / self.columns;
        if left == 0 {
            return Ok(());
        }
        match conn.again() {
            Conn::Postgres(c) => {
                let query = sqlx::query(AssertSqlSafe(Arc::clone(&self.postgres)));
                bind_columns(query, values, self.columns).execute(&mut *c).await?;
            }
            Conn::Sqlite(c) => {
                let mut values = values.into_iter();
                while left > 0 {
                    let fits = CHUNKS.iter().position(|rows| *rows <= left);
                    let index = fits.unwrap_or(CHUNKS.len() - 1);
                    let chunk = values.by_ref().take(CHUNKS[index] * self.columns);
                    let query = sqlx::query(AssertSqlSafe(Arc::clone(&self.sqlite[index])));
                    bind(query, chunk).execute(&mut *c).await?;
                    left -= CHUNKS[index];
                }
            }
        }
        Ok(())
    }
}

/// A list as the JSON text that [`rows!`] and [`scalars!`] statements take.
///
/// # Errors
/// [`Fault::Stored`] never in practice; serde's word for it.
pub fn list<T: serde::Serialize>(items: &[T]) -> Result<String, Fault> {
    serde_json::to_string(items).map_err(|cause| Fault::stored("list", cause))
}

/// The stable text of a fieldless enum, as its JSON is.
///
/// # Errors
/// [`Fault::Stored`] for a value whose JSON is no text.
pub fn name_of<T: serde::Serialize>(value: T) -> Result<String, Fault> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        Ok(other) => Err(Fault::stored("name", other)),
        Err(cause) => Err(Fault::stored("name", cause)),
    }
}

/// The value of a fieldless enum from its stable text.
///
/// # Errors
/// [`Fault::Stored`] for an unknown text.
pub fn from_name<T: serde::de::DeserializeOwned>(name: String) -> Result<T, Fault> {
    serde_json::from_value(serde_json::Value::String(name))
        .map_err(|cause| Fault::stored("name", cause))
}
