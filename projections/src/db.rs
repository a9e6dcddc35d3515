//! The small seam between the two databases: one pool, one connection, one transaction type, and
//! one SQL text for both wherever they agree. `$1` works on both; where they differ it is in how a
//! list comes in as one parameter, and [`Sql`] holds both texts as constants.

use std::sync::Arc;

use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool,
    Transaction, pool::PoolConnection,
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

/// Rows that one statement inserts: few sizes stay prepared, and any number of rows needs few
/// statements.
const CHUNKS: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// A multi-row insert with a fixed set of statement sizes, so that each stays prepared.
#[derive(Debug)]
pub struct Insert {
    columns: usize,
    sqlite: [Arc<str>; CHUNKS.len()],
    postgres: [Arc<str>; CHUNKS.len()],
}

impl Insert {
    /// An insert into these columns of a table, followed by `tail` (a conflict clause or nothing).
    #[must_use]
    pub fn new(table: &str, columns: &[&str], tail: &str) -> Insert {
        let text = |rows: usize, parameter: &dyn Fn(usize) -> String| {
            let cell = |row: usize, column: usize| parameter(row * columns.len() + column + 1);
            let row = |row| {
                let cells: Vec<_> = (0..columns.len()).map(|column| cell(row, column)).collect();
                format!("({})", cells.join(","))
            };
            let rows = (0..rows).map(row).collect::<Vec<_>>().join(",");
            let columns = columns.join(",");
            Arc::from(format!("INSERT INTO {table} ({columns}) VALUES {rows} {tail}"))
        };
        // SQLite looks numbered parameters up one by one; plain ones it just counts.
        Insert {
            columns: columns.len(),
            sqlite: CHUNKS.map(|rows| text(rows, &|_| "?".to_owned())),
            postgres: CHUNKS.map(|rows| text(rows, &|number| format!("${number}"))),
        }
    }

    /// Inserts all rows; `values` holds them one after the other.
    ///
    /// # Errors
    /// [`Fault::Database`] as the database says it.
    pub async fn run(&self, conn: &mut Conn<'_>, values: Vec<Value>) -> Result<(), Fault> {
        let texts = match conn {
            Conn::Sqlite(_) => &self.sqlite,
            Conn::Postgres(_) => &self.postgres,
        };
        let mut left = values.len() / self.columns;
        let mut values = values.into_iter();
        while left > 0 {
            let index = CHUNKS.iter().position(|rows| *rows <= left).unwrap_or(CHUNKS.len() - 1);
            let chunk = values.by_ref().take(CHUNKS[index] * self.columns);
            on!(conn.again(), c => {
                let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&texts[index])));
                for value in chunk {
                    query = match value {
                        Value::Int(number) => query.bind(number),
                        Value::Text(text) => query.bind(text),
                        Value::Bytes(bytes) => query.bind(bytes),
                    };
                }
                query.execute(&mut *c).await?;
            });
            left -= CHUNKS[index];
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
