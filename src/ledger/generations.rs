//! Generations of the views, as they lie in the database: on SQLite a file each, on PostgreSQL a
//! schema each. Which of them is live says a pointer beside the ledger. Opening the database opens
//! that one; a rebuild (`feed/rebuild`) makes the next, and removes the former once nobody reads it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use projections::{
    Fault,
    db::{Conn, Pool},
    live::Generation,
    on,
};
use sqlx::{
    AssertSqlSafe, Connection, Executor, PgPool, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};

use super::store::{
    PLANNED, POSTGRES_VIEWS, READERS, SQLITE_VIEWS, create_schema, migrator, of_writer,
    postgres_pool, sqlite_options, sqlite_pool,
};

/// Whatever SQLite may keep beside a file.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// What a crash takes from the views is folded again.
const LAZILY: [(&str, &str); 1] = [("synchronous_commit", "off")];

/// Where generations are made and removed.
#[derive(Debug, Clone)]
pub enum Generations {
    /// Files in a directory.
    Files(PathBuf),
    /// Schemas of a server, and connections to make and drop them.
    Schemas(Box<PgConnectOptions>, PgPool),
}

/// How far a generation has read, and the id of the event there.
pub type Checkpoint = (i64, Option<Vec<u8>>);

const CHECKPOINT: &str = "SELECT position, event_id FROM checkpoint";

/// The generation that the pointer names.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn live(ledger: &Pool) -> Result<i64, Fault> {
    const SQL: &str = "SELECT generation FROM views_live";
    let mut checkout = ledger.checkout().await?;
    let (generation,): (i64,) =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_one(&mut *c).await?);
    Ok(generation)
}

/// Has the pointer name another generation from the end of this transaction on.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn point(conn: &mut Conn<'_>, generation: i64) -> Result<(), Fault> {
    const SQL: &str = "UPDATE views_live SET generation = $1";
    on!(conn.again(), c => {
        sqlx::query(SQL).bind(generation).execute(&mut *c).await?.rows_affected()
    });
    Ok(())
}

impl Generations {
    /// Opens a generation and migrates it; one that is not there begins empty.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be opened or migrated.
    pub async fn open(&self, number: i64) -> Result<Generation, Fault> {
        match self {
            Generations::Files(directory) => {
                let file = sqlite_options(&file(directory, number), SqliteSynchronous::Normal);
                let write = sqlite_pool(of_writer(file.clone()), 1).await?;
                migrator(&SQLITE_VIEWS).run(&write).await?;
                let read = sqlite_pool(file.pragma("query_only", "ON"), READERS).await?;
                Ok(Generation { number, read: Pool::Sqlite(read), write: Pool::Sqlite(write) })
            }
            Generations::Schemas(options, _) => {
                let write = self.open_to_make(number).await?;
                let read =
                    PgConnectOptions::clone(options).options([("search_path", schema(number))]);
                let read = Pool::Postgres(postgres_pool(read, READERS).await?);
                Ok(Generation { number, read, write })
            }
        }
    }

    /// Opens a generation for one who makes it, alone and from nothing: while it is not finished, a
    /// crash may take all of it. [`finish`](Self::finish) makes it durable.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be made or migrated.
    pub async fn open_to_make(&self, number: i64) -> Result<Pool, Fault> {
        match self {
            Generations::Files(directory) => {
                // No log to write everything to a second time, and nothing waits for the disk.
                let file = sqlite_options(&file(directory, number), SqliteSynchronous::Off)
                    .journal_mode(SqliteJournalMode::Memory)
                    .locking_mode(SqliteLockingMode::Exclusive);
                let write = sqlite_pool(of_writer(file), 1).await?;
                migrator(&SQLITE_VIEWS).run(&write).await?;
                Ok(Pool::Sqlite(write))
            }
            Generations::Schemas(options, pool) => {
                let schema = schema(number);
                let create = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
                create_schema(pool, AssertSqlSafe(create)).await?;
                let options = PgConnectOptions::clone(options).options([("search_path", schema)]);
                let write = postgres_pool(options.options(PLANNED).options(LAZILY), 1).await?;
                migrator(&POSTGRES_VIEWS).run(&write).await?;
                Ok(Pool::Postgres(write))
            }
        }
    }

    /// Has what was made, and is closed, survive a loss of power.
    ///
    /// # Errors
    /// [`Fault`] when the disk fails.
    pub async fn finish(&self, number: i64) -> Result<(), Fault> {
        let Generations::Files(directory) = self else { return Ok(()) };
        let (file, directory) = (file(directory, number), directory.clone());
        let synced = tokio::task::spawn_blocking(move || {
            File::open(file)?.sync_all()?;
            File::open(directory)?.sync_all()
        });
        match synced.await {
            Ok(synced) => synced.map_err(|error| Fault::Database(error.into())),
            Err(cause) => Err(Fault::stored("views", cause)),
        }
    }

    /// Numbers of all generations that are there, whole or not, in order.
    ///
    /// # Errors
    /// [`Fault`] when they cannot be listed.
    pub async fn all(&self) -> Result<Vec<i64>, Fault> {
        let mut all = match self {
            Generations::Files(directory) => {
                let mut numbers = Vec::new();
                let entries = match std::fs::read_dir(directory) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    Err(error) => return Err(Fault::Database(error.into())),
                };
                for entry in entries {
                    let entry = entry.map_err(|error| Fault::Database(error.into()))?;
                    numbers.extend(entry.file_name().to_str().and_then(number_of_file));
                }
                numbers
            }
            Generations::Schemas(_, pool) => {
                const SQL: &str = "SELECT nspname::text FROM pg_namespace \
                     WHERE nspname LIKE 'views\\_%'";
                let names: Vec<(String,)> = sqlx::query_as(SQL).fetch_all(pool).await?;
                let number = |(name,): &(String,)| name.strip_prefix("views_")?.parse().ok();
                names.iter().filter_map(number).collect()
            }
        };
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// How far a generation has read that is not open here.
    ///
    /// # Errors
    /// [`Fault`] when it is not whole, or the database fails.
    pub async fn checkpoint(&self, number: i64) -> Result<Checkpoint, Fault> {
        match self {
            Generations::Files(directory) => {
                let file = SqliteConnectOptions::new().filename(file(directory, number));
                let mut own = SqliteConnection::connect_with(&file).await?;
                let found = sqlx::query_as(CHECKPOINT).fetch_one(&mut own).await;
                own.close().await?;
                Ok(found?)
            }
            Generations::Schemas(_, pool) => {
                let sql = format!("SELECT position, event_id FROM {}.checkpoint", schema(number));
                Ok(sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await?)
            }
        }
    }

    /// Removes a generation. One that is not there is removed already.
    ///
    /// # Errors
    /// [`Fault`] when it is in use or cannot be removed.
    pub async fn remove(&self, number: i64) -> Result<(), Fault> {
        match self {
            Generations::Files(directory) => {
                for suffix in BESIDE {
                    let mut file = file(directory, number).into_os_string();
                    file.push(suffix);
                    match std::fs::remove_file(&file) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(Fault::Database(error.into()));
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
            }
            Generations::Schemas(_, pool) => {
                let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", schema(number));
                pool.execute(AssertSqlSafe(drop)).await?;
            }
        }
        Ok(())
    }
}

fn schema(number: i64) -> String {
    format!("views_{number}")
}

/// The first generation is called as it was when there was no other.
fn file(directory: &Path, number: i64) -> PathBuf {
    match number {
        1 => directory.join("views.db"),
        _ => directory.join(format!("views-{number}.db")),
    }
}

/// The other way round.
fn number_of_file(name: &str) -> Option<i64> {
    match name {
        "views.db" => Some(1),
        _ => name.strip_prefix("views-")?.strip_suffix(".db")?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_views_says_its_generation_and_others_say_none() {
        for number in [1, 2, 37] {
            let file = file(Path::new("data"), number);
            let name = file.file_name().and_then(|name| name.to_str());
            assert_eq!(name.and_then(number_of_file), Some(number));
        }
        for other in ["ledger.db", "views.db-wal", "views-2.db-shm", "views-.db", "views-x.db"] {
            assert_eq!(number_of_file(other), None, "{other}");
        }
    }
}
