//! The databases: opening, migrating, and reading the ledger's tables. On SQLite the ledger, the
//! views, presence and the access log are files of their own, so that their writers never wait for
//! each other; on PostgreSQL all but the ledger have a schema of their own each. Views come in
//! [`generations`].

use std::{borrow::Cow, os::unix::fs::DirBuilderExt, path::Path, str::FromStr, time::Duration};

use domain::{
    Stream,
    facts::{Fact, Key},
    message::MessageId,
};
use projections::{
    Fault,
    db::{Conn, Pool},
    live::LiveViews,
    on, registry,
};
use sqlx::{
    Connection, Executor, PgPool, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Done, away, events,
    generations::{self, Generations},
};

/// Connections that read the ledger, and the views.
pub(super) const READERS: u32 = 4;
/// Connections for presence: one writes, one answers.
const PRESENCE: u32 = 2;
/// Connections for the access log: one writes, the others answer and remove.
const ACCESS: u32 = 3;
/// Pages that a writing connection keeps in memory, as SQLite words it: 32 MiB.
const WRITER_CACHE: &str = "-32768";
/// Prepared statements kept for each connection.
const STATEMENTS: usize = 256;
/// Rows that a connection reads ahead before its thread waits for them to be taken.
const ROWS: usize = 1_000;
/// Writes are few statements with lists of any length: planning them again for each gains nothing.
pub(super) const PLANNED: [(&str, &str); 1] = [("plan_cache_mode", "force_generic_plan")];
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
    /// The views.
    pub views: LiveViews,
    /// Where generations of the views are made and removed.
    pub generations: Generations,
    /// Who is connected where.
    pub presence: Pool,
    /// Who read what belongs to people.
    pub access: Pool,
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
        self.access.close().await;
        self.presence.close().await;
        self.views.close().await;
        self.ledger_read.close().await;
        self.ledger_write.close().await;
    }

    /// Throws the views away, every generation of them; the projection runner makes them again from
    /// the ledger.
    ///
    /// # Errors
    /// [`Fault`] when they are in use or cannot be removed.
    pub async fn drop_views(url: &str) -> Result<(), Fault> {
        let generations = match url.strip_prefix("sqlite:") {
            Some(directory) => Generations::Files(Path::new(directory).to_owned()),
            None => {
                let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
                Generations::Schemas(Box::new(PgConnectOptions::from_str(url)?), pool)
            }
        };
        for number in generations.all().await? {
            generations.remove(number).await?;
        }
        if let Generations::Schemas(_, pool) = generations {
            pool.close().await;
        }
        Ok(())
    }
}

/// Settings of every connection to a file.
pub(super) fn sqlite_options(file: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
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
}

/// The same for one that writes: what is written next is mostly near what was written last.
pub(super) fn of_writer(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options.pragma("cache_size", WRITER_CACHE)
}

/// Opens at most so many connections to a file.
pub(super) async fn sqlite_pool(
    options: SqliteConnectOptions,
    most: u32,
) -> Result<SqlitePool, sqlx::Error> {
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
    pool.connect_with(options).await
}

/// Opens at most so many connections to a server.
pub(super) async fn postgres_pool(
    options: PgConnectOptions,
    most: u32,
) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_with(options)
        .await
}

async fn open_sqlite(directory: &Path) -> Result<Database, Fault> {
    private_directory(directory).map_err(|error| Fault::Database(error.into()))?;
    let ledger = sqlite_options(&directory.join("ledger.db"), SqliteSynchronous::Full);
    let ledger_write = sqlite_pool(of_writer(ledger.clone()), 1).await?;
    migrator(&SQLITE_LEDGER).run(&ledger_write).await?;
    let ledger_write = Pool::Sqlite(ledger_write);
    let generations = Generations::Files(directory.to_owned());
    let views = generations.open(generations::live(&ledger_write).await?).await?;
    // What a loss of power takes from it is written again, and nobody waits for its log.
    let presence = sqlite_options(&directory.join("presence.db"), SqliteSynchronous::Normal);
    let presence = sqlite_pool(presence.pragma("wal_autocheckpoint", "1000"), PRESENCE).await?;
    migrator(&SQLITE_PRESENCE).run(&presence).await?;
    let ledger_read = sqlite_pool(ledger.pragma("query_only", "ON"), READERS).await?;
    let access = sqlite_options(&directory.join("access.db"), SqliteSynchronous::Full);
    let access = sqlite_pool(access.pragma("wal_autocheckpoint", "1000"), ACCESS).await?;
    migrator(&SQLITE_ACCESS).run(&access).await?;
    Ok(Database {
        ledger_write,
        ledger_read: Pool::Sqlite(ledger_read),
        views: LiveViews::new(views),
        generations,
        presence: Pool::Sqlite(presence),
        access: Pool::Sqlite(access),
    })
}

async fn open_postgres(url: &str) -> Result<Database, Fault> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("pushledger")
        .statement_cache_capacity(STATEMENTS)
        .options([("statement_timeout", "10s"), ("idle_in_transaction_session_timeout", "5s")])
        // Compiling a plan takes longer than all statements here but a few of analysts.
        .options([("jit", "off")]);
    let ledger_write = postgres_pool(options.clone().options(PLANNED), 2).await?;
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
    let generations = Generations::Schemas(Box::new(options.clone()), ledger_write.clone());
    let views = generations::live(&Pool::Postgres(ledger_write.clone())).await?;
    let views = generations.open(views).await?;
    create_schema(&ledger_write, "CREATE SCHEMA IF NOT EXISTS presence_1").await?;
    create_schema(&ledger_write, "CREATE SCHEMA IF NOT EXISTS access_1").await?;
    let presence = options.clone().options([("search_path", "presence_1")]);
    let presence = postgres_pool(presence.options(PLANNED), PRESENCE).await?;
    migrator(&POSTGRES_PRESENCE).run(&presence).await?;
    let access = options.clone().options([("search_path", "access_1")]);
    let access = postgres_pool(access, ACCESS).await?;
    migrator(&POSTGRES_ACCESS).run(&access).await?;
    Ok(Database {
        ledger_write: Pool::Postgres(ledger_write),
        ledger_read: Pool::Postgres(postgres_pool(options, READERS).await?),
        views: LiveViews::new(views),
        generations,
        presence: Pool::Postgres(presence),
        access: Pool::Postgres(access),
    })
}

/// Makes a schema if it is not there. Two nodes may start at once; the second finds it there.
pub(super) async fn create_schema(
    pool: &PgPool,
    sql: impl sqlx::SqlSafeStr,
) -> Result<(), sqlx::Error> {
    match pool.execute(sql.into_sql_str()).await {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(()),
        done => done.map(drop),
    }
}

/// Makes a directory that only its owner may look into; one that is there stays as it is.
pub(crate) fn private_directory(directory: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

pub(super) type Scripts = [(i64, &'static str, &'static str)];

static SQLITE_LEDGER: [(i64, &str, &str); 13] = [
    (1, "ledger", include_str!("../../migrations/sqlite/ledger/0001_ledger.sql")),
    (2, "audience", include_str!("../../migrations/sqlite/ledger/0002_audience.sql")),
    (3, "easemob", include_str!("../../migrations/sqlite/ledger/0003_easemob.sql")),
    (4, "tasks", include_str!("../../migrations/sqlite/ledger/0004_tasks.sql")),
    (5, "antelope", include_str!("../../migrations/sqlite/ledger/0005_antelope.sql")),
    (6, "tencent", include_str!("../../migrations/sqlite/ledger/0006_tencent.sql")),
    (7, "audit", include_str!("../../migrations/sqlite/ledger/0007_audit.sql")),
    (8, "lists", include_str!("../../migrations/sqlite/ledger/0008_lists.sql")),
    (9, "erasures", include_str!("../../migrations/sqlite/ledger/0009_erasures.sql")),
    (10, "named", include_str!("../../migrations/sqlite/ledger/0010_named.sql")),
    (11, "generations", include_str!("../../migrations/sqlite/ledger/0011_generations.sql")),
    (12, "detached", include_str!("../../migrations/sqlite/ledger/0012_detached.sql")),
    (13, "memberships", include_str!("../../migrations/sqlite/ledger/0013_memberships.sql")),
];
pub(super) static SQLITE_VIEWS: [(i64, &str, &str); 13] = [
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
    (11, "kinds", include_str!("../../migrations/sqlite/views/0011_kinds.sql")),
    (12, "noted", include_str!("../../migrations/sqlite/views/0012_noted.sql")),
    (13, "attempts", include_str!("../../migrations/sqlite/views/0013_attempts.sql")),
];
static POSTGRES_LEDGER: [(i64, &str, &str); 14] = [
    (1, "ledger", include_str!("../../migrations/postgres/ledger/0001_ledger.sql")),
    (2, "audience", include_str!("../../migrations/postgres/ledger/0002_audience.sql")),
    (3, "easemob", include_str!("../../migrations/postgres/ledger/0003_easemob.sql")),
    (4, "tasks", include_str!("../../migrations/postgres/ledger/0004_tasks.sql")),
    (5, "antelope", include_str!("../../migrations/postgres/ledger/0005_antelope.sql")),
    (6, "tencent", include_str!("../../migrations/postgres/ledger/0006_tencent.sql")),
    (7, "audit", include_str!("../../migrations/postgres/ledger/0007_audit.sql")),
    (8, "lists", include_str!("../../migrations/postgres/ledger/0008_lists.sql")),
    (9, "erasures", include_str!("../../migrations/postgres/ledger/0009_erasures.sql")),
    (10, "named", include_str!("../../migrations/postgres/ledger/0010_named.sql")),
    (11, "generations", include_str!("../../migrations/postgres/ledger/0011_generations.sql")),
    (12, "detached", include_str!("../../migrations/postgres/ledger/0012_detached.sql")),
    (13, "memberships", include_str!("../../migrations/postgres/ledger/0013_memberships.sql")),
    (14, "unsampled", include_str!("../../migrations/postgres/ledger/0014_unsampled.sql")),
];
static SQLITE_PRESENCE: [(i64, &str, &str); 2] = [
    (1, "presence", include_str!("../../migrations/sqlite/presence/0001_presence.sql")),
    (2, "vendor_calls", include_str!("../../migrations/sqlite/presence/0002_vendor_calls.sql")),
];
pub(super) static POSTGRES_VIEWS: [(i64, &str, &str); 14] = [
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
    (11, "kinds", include_str!("../../migrations/postgres/views/0011_kinds.sql")),
    (12, "noted", include_str!("../../migrations/postgres/views/0012_noted.sql")),
    (13, "attempts", include_str!("../../migrations/postgres/views/0013_attempts.sql")),
    (14, "unsampled", include_str!("../../migrations/postgres/views/0014_unsampled.sql")),
];
static POSTGRES_PRESENCE: [(i64, &str, &str); 2] = [
    (1, "presence", include_str!("../../migrations/postgres/presence/0001_presence.sql")),
    (2, "vendor_calls", include_str!("../../migrations/postgres/presence/0002_vendor_calls.sql")),
];

static SQLITE_ACCESS: [(i64, &str, &str); 1] =
    [(1, "access", include_str!("../../migrations/sqlite/access/0001_access.sql"))];
static POSTGRES_ACCESS: [(i64, &str, &str); 1] =
    [(1, "access", include_str!("../../migrations/postgres/access/0001_access.sql"))];

pub(super) fn migrator(scripts: &'static Scripts) -> Migrator {
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
    let page = events::read_stream(conn, &stream.to_string(), 0, i64::MAX).await?;
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

/// The message or task that the events from one position to another made, even if they are away.
pub(super) async fn push_of(
    conn: &mut Conn<'_>,
    first: i64,
    last: i64,
) -> Result<Option<MessageId>, Fault> {
    let page = match events::read(conn, first - 1, last - first + 1).await {
        Err(Fault::Detached { .. }) => return away::push(conn, first, last).await,
        page => page?,
    };
    Ok(page.events.iter().find_map(|e| match &e.stream {
        Stream::Message(id) | Stream::Task(id) => Some(*id),
        _ => None,
    }))
}

/// What a command with an idempotency key came to before, if it was executed.
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

/// When the event at a position was recorded, in µs.
pub(super) async fn recorded_at(conn: &mut Conn<'_>, position: i64) -> Result<Option<i64>, Fault> {
    const SQL: &str = "SELECT recorded_at FROM events WHERE position = $1";
    let found: Option<(i64,)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(position).fetch_optional(&mut *c).await?
    });
    Ok(found.map(|(at,)| at))
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
