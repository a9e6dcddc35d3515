//! The databases: opening, migrating, and reading the ledger's tables. On SQLite the ledger, the
//! views and presence are three files, so that their writers never wait for each other; on
//! PostgreSQL views and presence have a schema of their own each.

use std::{borrow::Cow, os::unix::fs::DirBuilderExt, path::Path, str::FromStr, time::Duration};

use domain::{
    Event, Recorded, Stream,
    facts::{Fact, Key},
};
use projections::{
    Fault,
    db::{self, Conn, Pool, Sql},
    on, registry,
};
use sqlx::{
    Connection, Executor,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{Done, Page};

/// Connections that read the ledger, and the views.
const READERS: u32 = 4;
/// Connections for presence: one writes, one answers.
const PRESENCE: u32 = 2;
/// Pages that a writing connection keeps in memory, as SQLite words it: 32 MiB.
const WRITER_CACHE: &str = "-32768";
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 256;
/// Rows that a connection reads ahead before its thread waits for them to be taken.
const ROWS: usize = 1_000;
/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// How long a writer waits for another process on the same file.
const BUSY: Duration = Duration::from_secs(10);

/// Where everything is kept.
#[derive(Debug, Clone)]
pub struct Database {
    /// Appends go through here, one at a time.
    pub ledger_write: Pool,
    /// Reads of the ledger and the registry.
    pub ledger_read: Pool,
    /// The projection runner's.
    pub views_write: Pool,
    /// Reads of the views.
    pub views_read: Pool,
    /// Who is connected where.
    pub presence: Pool,
}

impl Database {
    /// Opens a database, `postgres://…` or `sqlite:DIRECTORY`, and migrates it.
    ///
    /// # Errors
    /// [`Fault`] when it cannot be reached, migrated, or is not safe to write to.
    pub async fn open(url: &str) -> Result<Database, Fault> {
        match url.strip_prefix("sqlite:") {
            Some(directory) => open_sqlite(Path::new(directory)).await,
            None => open_postgres(url).await,
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let views = [&self.views_read, &self.views_write];
        for pool in [&self.presence, views[0], views[1], &self.ledger_read, &self.ledger_write] {
            pool.close().await;
        }
    }

    /// Throws the views away; the projection runner makes them again from the ledger.
    ///
    /// # Errors
    /// [`Fault`] when they are in use or cannot be removed.
    pub async fn drop_views(url: &str) -> Result<(), Fault> {
        match url.strip_prefix("sqlite:") {
            Some(directory) => {
                for suffix in ["", "-wal", "-shm"] {
                    let file = Path::new(directory).join(format!("views.db{suffix}"));
                    match std::fs::remove_file(&file) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(Fault::Database(error.into()));
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
                Ok(())
            }
            None => {
                let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
                pool.execute("DROP SCHEMA IF EXISTS views_1 CASCADE").await?;
                pool.close().await;
                Ok(())
            }
        }
    }
}

async fn open_sqlite(directory: &Path) -> Result<Database, Fault> {
    private_directory(directory).map_err(|error| Fault::Database(error.into()))?;
    let options = |file: &str, synchronous| {
        SqliteConnectOptions::new()
            .filename(directory.join(file))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY)
            .row_buffer_size(ROWS)
            .statement_cache_capacity(STATEMENTS)
            // Checkpoints run on a connection of their own.
            .pragma("wal_autocheckpoint", "0")
            .pragma("secure_delete", "ON")
            // A replacement removes the old row: then it has to ask the triggers too.
            .pragma("recursive_triggers", "ON")
    };
    let ledger = options("ledger.db", SqliteSynchronous::Full);
    let views = options("views.db", SqliteSynchronous::Normal);
    // What is written next is mostly near what was written last.
    let writer = |file: &SqliteConnectOptions| file.clone().pragma("cache_size", WRITER_CACHE);
    let open = async |options: &SqliteConnectOptions, most: u32| {
        let pool = SqlitePoolOptions::new().max_connections(most).test_before_acquire(false);
        // After a full disk SQLite has rolled back by itself and the connection does not know:
        // one that still thinks it is in a transaction is closed.
        let pool = pool.after_release(|connection, _| {
            Box::pin(async move {
                // One that was given up half-way rolls back first.
                if connection.is_in_transaction() {
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            })
        });
        pool.connect_with(options.clone()).await
    };
    let ledger_write = open(&writer(&ledger), 1).await?;
    let views_write = open(&writer(&views), 1).await?;
    migrator(&SQLITE_LEDGER).run(&ledger_write).await?;
    migrator(&SQLITE_VIEWS).run(&views_write).await?;
    // What a loss of power takes from it is written again, and nobody waits for its log.
    let presence = options("presence.db", SqliteSynchronous::Normal);
    let presence = open(&presence.pragma("wal_autocheckpoint", "1000"), PRESENCE).await?;
    migrator(&SQLITE_PRESENCE).run(&presence).await?;
    Ok(Database {
        ledger_write: Pool::Sqlite(ledger_write),
        ledger_read: Pool::Sqlite(open(&ledger.pragma("query_only", "ON"), READERS).await?),
        views_write: Pool::Sqlite(views_write),
        views_read: Pool::Sqlite(open(&views.pragma("query_only", "ON"), READERS).await?),
        presence: Pool::Sqlite(presence),
    })
}

async fn open_postgres(url: &str) -> Result<Database, Fault> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("pushledger")
        .statement_cache_capacity(STATEMENTS)
        .options([("statement_timeout", "10s"), ("idle_in_transaction_session_timeout", "5s")]);
    let pool = async |options: PgConnectOptions, most: u32| {
        PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .connect_with(options)
            .await
    };
    // Writes are few statements with lists of any length: planning them again for each gains
    // nothing.
    let planned = [("plan_cache_mode", "force_generic_plan")];
    let ledger_write = pool(options.clone().options(planned), 2).await?;
    for unsafe_when_off in ["fsync", "synchronous_commit", "full_page_writes"] {
        let (setting,): (String,) = sqlx::query_as("SELECT current_setting($1)")
            .bind(unsafe_when_off)
            .fetch_one(&ledger_write)
            .await?;
        if setting == "off" {
            return Err(Fault::stored("PostgreSQL setting", format!("{unsafe_when_off} is off")));
        }
    }
    migrator(&POSTGRES_LEDGER).run(&ledger_write).await?;
    for schema in ["CREATE SCHEMA IF NOT EXISTS views_1", "CREATE SCHEMA IF NOT EXISTS presence_1"]
    {
        // Two nodes may start at once; the second finds the schema there.
        if let Err(error) = ledger_write.execute(schema).await
            && !matches!(&error, sqlx::Error::Database(e) if e.is_unique_violation())
        {
            return Err(error.into());
        }
    }
    let views = options.clone().options([("search_path", "views_1")]);
    // What a crash takes from the views is folded again.
    let lazily = [("synchronous_commit", "off")];
    let views_write = pool(views.clone().options(planned).options(lazily), 1).await?;
    migrator(&POSTGRES_VIEWS).run(&views_write).await?;
    let presence = options.clone().options([("search_path", "presence_1")]);
    let presence = pool(presence.options(planned), PRESENCE).await?;
    migrator(&POSTGRES_PRESENCE).run(&presence).await?;
    Ok(Database {
        ledger_write: Pool::Postgres(ledger_write),
        ledger_read: Pool::Postgres(pool(options, READERS).await?),
        views_write: Pool::Postgres(views_write),
        views_read: Pool::Postgres(pool(views, READERS).await?),
        presence: Pool::Postgres(presence),
    })
}

/// Makes a directory that only its owner may look into; one that is there stays as it is.
pub(crate) fn private_directory(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

type Scripts = [(i64, &'static str, &'static str)];

static SQLITE_LEDGER: [(i64, &str, &str); 9] = [
    (1, "ledger", include_str!("../../migrations/sqlite/ledger/0001_ledger.sql")),
    (2, "audience", include_str!("../../migrations/sqlite/ledger/0002_audience.sql")),
    (3, "easemob", include_str!("../../migrations/sqlite/ledger/0003_easemob.sql")),
    (4, "tasks", include_str!("../../migrations/sqlite/ledger/0004_tasks.sql")),
    (5, "antelope", include_str!("../../migrations/sqlite/ledger/0005_antelope.sql")),
    (6, "tencent", include_str!("../../migrations/sqlite/ledger/0006_tencent.sql")),
    (7, "audit", include_str!("../../migrations/sqlite/ledger/0007_audit.sql")),
    (8, "lists", include_str!("../../migrations/sqlite/ledger/0008_lists.sql")),
    (9, "erasures", include_str!("../../migrations/sqlite/ledger/0009_erasures.sql")),
];
static SQLITE_VIEWS: [(i64, &str, &str); 10] = [
    (1, "views", include_str!("../../migrations/sqlite/views/0001_views.sql")),
    (2, "vendors", include_str!("../../migrations/sqlite/views/0002_vendors.sql")),
    (3, "tasks", include_str!("../../migrations/sqlite/views/0003_tasks.sql")),
    (4, "cells", include_str!("../../migrations/sqlite/views/0004_cells.sql")),
    (5, "antelope", include_str!("../../migrations/sqlite/views/0005_antelope.sql")),
    (6, "callbacks", include_str!("../../migrations/sqlite/views/0006_callbacks.sql")),
    (7, "packed", include_str!("../../migrations/sqlite/views/0007_packed.sql")),
    (8, "chats", include_str!("../../migrations/sqlite/views/0008_chats.sql")),
    (9, "callback order", include_str!("../../migrations/sqlite/views/0009_callback_order.sql")),
    (10, "latencies", include_str!("../../migrations/sqlite/views/0010_latencies.sql")),
];
static POSTGRES_LEDGER: [(i64, &str, &str); 9] = [
    (1, "ledger", include_str!("../../migrations/postgres/ledger/0001_ledger.sql")),
    (2, "audience", include_str!("../../migrations/postgres/ledger/0002_audience.sql")),
    (3, "easemob", include_str!("../../migrations/postgres/ledger/0003_easemob.sql")),
    (4, "tasks", include_str!("../../migrations/postgres/ledger/0004_tasks.sql")),
    (5, "antelope", include_str!("../../migrations/postgres/ledger/0005_antelope.sql")),
    (6, "tencent", include_str!("../../migrations/postgres/ledger/0006_tencent.sql")),
    (7, "audit", include_str!("../../migrations/postgres/ledger/0007_audit.sql")),
    (8, "lists", include_str!("../../migrations/postgres/ledger/0008_lists.sql")),
    (9, "erasures", include_str!("../../migrations/postgres/ledger/0009_erasures.sql")),
];
static SQLITE_PRESENCE: [(i64, &str, &str); 2] = [
    (1, "presence", include_str!("../../migrations/sqlite/presence/0001_presence.sql")),
    (2, "vendor_calls", include_str!("../../migrations/sqlite/presence/0002_vendor_calls.sql")),
];
static POSTGRES_VIEWS: [(i64, &str, &str); 10] = [
    (1, "views", include_str!("../../migrations/postgres/views/0001_views.sql")),
    (2, "vendors", include_str!("../../migrations/postgres/views/0002_vendors.sql")),
    (3, "tasks", include_str!("../../migrations/postgres/views/0003_tasks.sql")),
    (4, "cells", include_str!("../../migrations/postgres/views/0004_cells.sql")),
    (5, "antelope", include_str!("../../migrations/postgres/views/0005_antelope.sql")),
    (6, "callbacks", include_str!("../../migrations/postgres/views/0006_callbacks.sql")),
    (7, "packed", include_str!("../../migrations/postgres/views/0007_packed.sql")),
    (8, "chats", include_str!("../../migrations/postgres/views/0008_chats.sql")),
    (9, "callback order", include_str!("../../migrations/postgres/views/0009_callback_order.sql")),
    (10, "latencies", include_str!("../../migrations/postgres/views/0010_latencies.sql")),
];
static POSTGRES_PRESENCE: [(i64, &str, &str); 2] = [
    (1, "presence", include_str!("../../migrations/postgres/presence/0001_presence.sql")),
    (2, "vendor_calls", include_str!("../../migrations/postgres/presence/0002_vendor_calls.sql")),
];

fn migrator(scripts: &'static Scripts) -> Migrator {
    let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
        let sql = sqlx::SqlSafeStr::into_sql_str(*sql);
        Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(scripts.iter().map(migration).collect())
}

/// The last position in the database.
pub(super) async fn head(database: &Database) -> Result<i64, Fault> {
    let mut checkout = database.ledger_read.checkout().await?;
    let (position,): (i64,) = on!(checkout.conn(), c => {
        sqlx::query_as("SELECT position FROM head").fetch_one(&mut *c).await?
    });
    Ok(position)
}

/// Loads a fact: the registry's from its tables, a message by folding its stream.
pub(super) async fn load(conn: &mut Conn<'_>, key: &Key) -> Result<Fact, Fault> {
    if let Some(fact) = registry::load(conn, key).await? {
        return Ok(fact);
    }
    let stream = stream_of(key).ok_or_else(|| Fault::stored("key", format!("{key:?}")))?;
    let page = read_stream(conn, &stream.to_string(), 0, i64::MAX).await?;
    if let Some((position, error)) = page.unreadable.first() {
        return Err(Fault::stored("event", format!("at {position}: {error}")));
    }
    let nothing = match stream {
        Stream::Task(_) => Fact::Task(None),
        Stream::Chunk(..) => Fact::Chunk(None),
        _ => Fact::Message(None),
    };
    Ok(page.events.iter().fold(nothing, |fact, e| fact.evolve(key, e.place(), &e.event)))
}

/// The stream that a fact is folded from, if it is not of the registry.
fn stream_of(key: &Key) -> Option<Stream> {
    match key {
        Key::Message(id) => Some(Stream::Message(*id)),
        Key::Task(id) => Some(Stream::Task(*id)),
        Key::Chunk(id, chunk) => Some(Stream::Chunk(*id, *chunk)),
        _ => None,
    }
}

/// Loads many facts, with few statements where one asks for many of a kind.
pub(super) async fn load_all(
    conn: &mut Conn<'_>,
    keys: Vec<Key>,
) -> Result<Vec<(Key, Fact)>, Fault> {
    let (streams, keys): (Vec<Key>, Vec<Key>) =
        keys.into_iter().partition(|key| stream_of(key).is_some());
    let mut facts = registry::load_all(conn, &keys).await?;
    for key in streams {
        let fact = load(conn, &key).await?;
        facts.push((key, fact));
    }
    Ok(facts)
}

/// A statement that gives [`EventRow`]s. The driver copies every column of every row on its own, so
/// the header comes as one, with a line for each; no value in it holds a newline.
macro_rules! select_events {
    ($id:literal, $newline:literal, $tail:literal) => {
        concat!(
            "SELECT position, concat_ws(",
            $newline,
            ", app, stream, version, type, schema, recorded_at, ",
            $id,
            ", metadata), body, private FROM events ",
            $tail
        )
    };
    ($sqlite:literal, $postgres:literal) => {
        Sql {
            sqlite: select_events!("hex(event_id)", "char(10)", $sqlite),
            postgres: select_events!("encode(event_id, 'hex')", "chr(10)", $postgres),
        }
    };
    ($tail:literal) => {
        select_events!($tail, $tail)
    };
}

/// Position, header, body, private.
type EventRow = (i64, String, String, Option<String>);

/// Events after a position, in order.
pub(super) async fn read(conn: &mut Conn<'_>, after: i64, limit: i64) -> Result<Page, Fault> {
    const SQL: Sql = select_events!("WHERE position > $1 ORDER BY position LIMIT $2");
    let sql = conn.text(SQL);
    Ok(page(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(after).bind(limit).fetch_all(&mut *c).await?
    })))
}

/// The events at some positions, in order.
pub(super) async fn read_at(conn: &mut Conn<'_>, positions: &[i64]) -> Result<Page, Fault> {
    const SQL: Sql = select_events!(
        "WHERE position IN (SELECT value FROM json_each($1)) ORDER BY position",
        "WHERE position IN (SELECT value::bigint FROM json_array_elements_text($1::json)) \
         ORDER BY position"
    );
    let (sql, positions) = (conn.text(SQL), db::list(positions)?);
    Ok(page(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(positions).fetch_all(&mut *c).await?
    })))
}

/// Events of a stream after a version, in order.
pub(crate) async fn read_stream(
    conn: &mut Conn<'_>,
    stream: &str,
    after: i64,
    limit: i64,
) -> Result<Page, Fault> {
    const SQL: Sql = select_events!("WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3");
    let sql = conn.text(SQL);
    Ok(page(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(stream).bind(after).bind(limit).fetch_all(&mut *c).await?
    })))
}

/// The first events of some streams, at most so many of each, in order of stream and version.
pub(super) async fn read_streams(
    conn: &mut Conn<'_>,
    streams: &[String],
    limit: i64,
) -> Result<Page, Fault> {
    const SQL: Sql = select_events!(
        "WHERE stream IN (SELECT value FROM json_each($1)) AND version <= $2 \
         ORDER BY stream, version",
        "WHERE stream IN (SELECT json_array_elements_text($1::json)) AND version <= $2 \
         ORDER BY stream, version"
    );
    let (sql, streams) = (conn.text(SQL), db::list(streams)?);
    Ok(page(on!(conn.again(), c => {
        sqlx::query_as(sql).bind(streams).bind(limit).fetch_all(&mut *c).await?
    })))
}

/// When the event at a position was recorded, in µs.
pub(super) async fn repeated(
    conn: &mut Conn<'_>,
    app: &str,
    key: &str,
) -> Result<Option<Done>, Fault> {
    const SQL: &str = "SELECT first, last FROM idempotency WHERE app = $1 AND key = $2";
    let found: Option<(i64, i64)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(app).bind(key).fetch_optional(&mut *c).await?
    });
    Ok(found.map(|(first, last)| Done { first, last, repeated: true }))
}

pub(super) async fn recorded_at(conn: &mut Conn<'_>, position: i64) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT recorded_at FROM events WHERE position = $1";
    let found: Option<(i64,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(position).fetch_optional(&mut *c).await?
    });
    Ok(found.map(|(at,)| at))
}

fn page(rows: Vec<EventRow>) -> Page {
    let mut page = Page { last: rows.last().map(|row| row.0), ..Page::default() };
    for row in rows {
        let position = row.0;
        match recorded(row) {
            Ok(event) => page.events.push(event),
            Err(error) => page.unreadable.push((position, error)),
        }
    }
    page
}

fn recorded((position, header, body, private): EventRow) -> Result<Recorded, String> {
    let lines: Vec<&str> = header.splitn(8, '\n').collect();
    let &[app, stream, version, name, schema, recorded_at, id, metadata] = lines.as_slice() else {
        return Err("a header without all its columns".to_owned());
    };
    let number = |text: &str| text.parse::<i64>().map_err(|error| error.to_string());
    let schema = schema.parse::<i32>().map_err(|error| error.to_string())?;
    Ok(Recorded {
        position,
        app: app.to_owned(),
        stream: stream.parse().map_err(|error: domain::stream::NotAStream| error.to_string())?,
        version: number(version)?,
        recorded_at: number(recorded_at)?,
        event_id: Uuid::try_parse(id).map_err(|error| error.to_string())?,
        metadata: serde_json::from_str(metadata).map_err(|error| error.to_string())?,
        event: Event::decode(name, schema, &body, private.as_deref())
            .map_err(|error| error.to_string())?,
    })
}

/// Empty views in memory, for a fold that nobody keeps.
///
/// # Errors
/// [`Fault`] when they cannot be made.
pub async fn scratch_views() -> Result<Pool, Fault> {
    let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let pool = pool.connect_with(SqliteConnectOptions::new().in_memory(true)).await?;
    migrator(&SQLITE_VIEWS).run(&pool).await?;
    Ok(Pool::Sqlite(pool))
}
