//! Blanks what is private to whoever was erased, on whichever node holds the lease `erasures`. An
//! erasure is an event, and took effect with it; what lies in the ledger from before is found by
//! reading all of it once, and blanked a page at a time. Its checkpoint moves only when all of that
//! is done, so that whoever takes over after a crash begins again: blanking twice changes nothing.
//! What still tells of the erased afterwards (a device whose connection was closing) is blanked as it
//! comes.

use std::{collections::HashSet, sync::Arc};

use domain::{
    Event, Recorded, Stream,
    erasure::{Erased, SubjectErased},
};
use projections::{
    Fault,
    db::{self, Conn, Insert, Pool, Sql},
    on, registry,
};
use std::{sync::LazyLock, time::Duration};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    app::Server,
    feed::{
        effects,
        follow::{Batch, Follower},
        rebuild, set_aside,
    },
    ledger::{Away, Ledger, events::read_stream, record},
};

/// Name of the duty, of its lease and checkpoint, and in the metrics.
pub const NAME: &str = "erasures";
/// Events read at once, and blanked in one transaction at most.
const PAGE_EVENTS: i64 = 1_000;
/// Events of one device, read at once to make its rows again.
const DEVICE_EVENTS: i64 = 100_000;
/// A checkpoint is noted at least so often, in events.
const CHECKPOINT_EVENTS: i64 = 10_000;
/// Pause between two looks at the ledger while many events come.
const PACE: Duration = Duration::from_millis(100);
/// How often it is looked whether what was away is back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Tries at emptying a write-ahead log that somebody still reads, and the pause between them.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Follows the ledger until told to stop.
///
/// # Errors
/// [`Fault`] when the database fails; it is taken up again.
pub async fn run(server: &Arc<Server>, stop: CancellationToken) -> Result<(), Fault> {
    let ledger = &server.ledger;
    let mut noted = effects::checkpoint(ledger, NAME).await?;
    let mut follower = Follower::new(ledger, noted).paced(PACE);
    let reading = server.metrics.reading(NAME, noted);
    let mut erased = Erased::default();
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    for row in registry::erasures_to(&mut checkout.conn(), noted).await? {
        erased.add(&row.app, row.position, &row.erased);
    }
    drop(checkout);
    // An erasure is not done while events are away; once they are back all is looked through again.
    let mut owed = false;
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            batch = follower.next() => batch?,
            () = tokio::time::sleep(LOOK_AGAIN), if owed => {
                if ledger.away().await?.is_none() {
                    let last = follower.position();
                    let swept = sweep(server, &mut erased, last, &stop).await?;
                    let Some(Swept { blanked, skipped }) = swept else { return Ok(()) };
                    clean(ledger).await?;
                    // Some may have been detached again meanwhile.
                    if skipped.is_none() {
                        effects::advance(ledger, NAME, last).await?;
                        tracing::info!(events = blanked, "what was away is back, and blanked");
                        (noted, owed) = (last, false);
                    }
                }
                continue;
            }
        };
        let last = batch.last();
        let new = added(&mut erased, &batch);
        if new > 0 {
            let swept = sweep(server, &mut erased, last, &stop).await?;
            let Some(Swept { blanked, skipped }) = swept else { return Ok(()) };
            clean(ledger).await?;
            // What was away when it began was not looked at, even if it is back by now.
            match skipped {
                None => tracing::info!(subjects = new, events = blanked, "subjects were erased"),
                Some(away) => {
                    tracing::warn!(why = %away.fault(), "an erasure is not done");
                    owed = true;
                }
            }
        } else if !erased.is_empty() {
            let late = batch.events().iter().filter(|e| erased.concerned(e));
            let mut late: Vec<i64> = late.map(|e| e.position).collect();
            late.extend(mentioning(ledger, &erased, batch.unreadable()).await?);
            if !late.is_empty() {
                blank(ledger, &late).await?;
                clean(ledger).await?;
            }
        }
        if !owed && (new > 0 || last - noted >= CHECKPOINT_EVENTS) {
            effects::advance(ledger, NAME, last).await?;
            noted = last;
        }
        reading.reached(last);
    }
}

/// Forgets on every node what it remembers of whoever was erased.
pub async fn forget(server: Arc<Server>, after: i64, stop: CancellationToken) {
    let mut follower = Follower::new(&server.ledger, after).paced(PACE);
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = follower.next() => batch,
        };
        let forgets = match &batch {
            Ok(batch) => batch.events().iter().any(|e| matches!(e.event, Event::SubjectErased(_))),
            Err(_) => {
                tokio::time::sleep(PACE).await;
                true
            }
        };
        if forgets {
            server.tokens.forget();
            server.ledger.forget();
        }
    }
}

/// Adds the erasures of a batch; gives their number.
fn added(erased: &mut Erased, batch: &Batch) -> usize {
    let mut new = 0;
    for recorded in batch.events() {
        if let Event::SubjectErased(subject) = &recorded.event {
            erased.add(&recorded.app, recorded.position, subject);
            new += 1;
        }
    }
    new
}

/// What a look through the ledger came to.
struct Swept {
    /// Events that were blanked.
    blanked: usize,
    /// What was away when it began, and was not looked at.
    skipped: Option<Away>,
}

/// Blanks everything up to a position; nothing when told to stop.
async fn sweep(
    server: &Server,
    erased: &mut Erased,
    last: i64,
    stop: &CancellationToken,
) -> Result<Option<Swept>, Fault> {
    let ledger = &server.ledger;
    let skipped = ledger.away().await?;
    let (mut after, mut blanked) = (skipped.as_ref().map_or(0, |away| away.last), 0);
    let mut devices: HashSet<Uuid> = HashSet::new();
    while after < last {
        if stop.is_cancelled() {
            return Ok(None);
        }
        let page = ledger.read(after, PAGE_EVENTS.min(last - after)).await?;
        let Some(end) = page.last else { break };
        after = end;
        let unreadable = page.unreadable;
        let concerned = page.events.into_iter().filter(|e| erased.concerned(e));
        // Whom a phone is known by is needed until nothing is left to look at.
        let known = |e: &Recorded| matches!(e.event, Event::SubjectErased(_)) && skipped.is_some();
        let concerned: Vec<Recorded> = concerned.filter(|e| !known(e)).collect();
        devices.extend(concerned.iter().filter_map(|e| match e.stream {
            Stream::Device(stream) => Some(stream),
            _ => None,
        }));
        let mut positions: Vec<i64> = concerned.iter().map(|e| e.position).collect();
        positions.extend(mentioning(ledger, erased, &unreadable).await?);
        blanked += blank(ledger, &positions).await?;
    }
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let all = registry::erasures_to(&mut checkout.conn(), last).await?;
    drop(checkout);
    for stream in devices {
        let mut tx = ledger.database().ledger_write.begin().await?;
        lock(&mut tx.conn()).await?;
        let name = Stream::Device(stream).to_string();
        let page = match read_stream(&mut tx.conn(), &name, 0, DEVICE_EVENTS).await {
            // Its rows are made again when its beginning is back.
            Err(Fault::Detached { .. }) => continue,
            page => page?,
        };
        registry::fold_device_again(&mut tx.conn(), stream, &page.events, &all).await?;
        tx.commit().await?;
    }
    for row in &all {
        scrub(server, &row.erased).await?;
    }
    Ok(Some(Swept { blanked, skipped }))
}

/// Blanks what else is kept of a subject, now that its events are blank.
async fn scrub(server: &Server, erased: &SubjectErased) -> Result<(), Fault> {
    const CONNECTIONS: Sql = Sql {
        sqlite: "DELETE FROM connections WHERE device IN (SELECT value FROM json_each($1))",
        postgres: "DELETE FROM connections WHERE device = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    let database = server.ledger.database();
    if !erased.accounts.is_empty() {
        let mut tx = database.ledger_write.begin().await?;
        registry::blank_accounts(&mut tx.conn(), &erased.accounts).await?;
        tx.commit().await?;
    }
    let numbers: Vec<i64> = erased.devices.iter().map(|erased| erased.device).collect();
    let numbers = db::list(&numbers)?;
    let mut tx = database.presence.begin().await?;
    let sql = tx.conn().text(CONNECTIONS);
    on!(tx.conn(), c => sqlx::query(sql).bind(numbers).execute(&mut *c).await?.rows_affected());
    tx.commit().await
}

/// Appends wait while rows of the registry are made again.
async fn lock(conn: &mut Conn<'_>) -> Result<(), Fault> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position FROM head",
        postgres: "SELECT position FROM head FOR UPDATE",
    };
    let sql = conn.text(SQL);
    let _: (i64,) = on!(conn.again(), c => sqlx::query_as(sql).fetch_one(&mut *c).await?);
    Ok(())
}

/// Which of some events that this version cannot read are about the erased.
async fn mentioning(
    ledger: &Ledger,
    erased: &Erased,
    unreadable: &[(i64, String)],
) -> Result<Vec<i64>, Fault> {
    if unreadable.is_empty() {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = unreadable.iter().map(|(position, _)| *position).collect();
    let mut bodies = ledger.read_bodies(&positions).await?;
    bodies.retain(|(_, stream, body)| erased.mentioned(stream, body));
    Ok(bodies.into_iter().map(|(position, ..)| position).collect())
}

/// Blanks the private half of the events at some positions, keeping its hash; gives how many were
/// not blank yet.
async fn blank(ledger: &Ledger, positions: &[i64]) -> Result<usize, Fault> {
    static ERASED: LazyLock<Insert> =
        LazyLock::new(|| Insert::new("erased", &["position", "digest"], ""));
    const READ: Sql = Sql {
        sqlite: "SELECT position, private, private_salt FROM events WHERE private IS NOT NULL \
                 AND position IN (SELECT value FROM json_each($1))",
        postgres: "SELECT position, private, private_salt FROM events WHERE private IS NOT NULL \
                   AND position = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    const BLANK: Sql = Sql {
        sqlite: "UPDATE events SET private = NULL, private_salt = NULL \
                 WHERE position IN (SELECT value FROM json_each($1))",
        postgres: "UPDATE events SET private = NULL, private_salt = NULL WHERE position = ANY \
                   (ARRAY(SELECT value::bigint FROM json_array_elements_text($1::json)))",
    };
    if positions.is_empty() {
        return Ok(0);
    }
    let database = ledger.database();
    let mut tx = database.ledger_write.begin().await?;
    // First of all: whoever detaches events writes this row too, so that none goes in between.
    on!(tx.conn(), c => {
        sqlx::query("INSERT INTO erasing (one) VALUES (1)").execute(&mut *c).await?.rows_affected()
    });
    let (read, list) = (tx.conn().text(READ), db::list(positions)?);
    let rows: Vec<(i64, String, Vec<u8>)> = on!(tx.conn(), c => {
        sqlx::query_as(read).bind(list).fetch_all(&mut *c).await?
    });
    registry::blank_owners(&mut tx.conn(), positions).await?;
    if !rows.is_empty() {
        let digest = |salt: &[u8], private: &str| record::private_digest(salt, private).to_vec();
        let values = rows.iter().flat_map(|(position, private, salt)| {
            [(*position).into(), digest(salt, private).into()]
        });
        ERASED.run(&mut tx.conn(), values.collect()).await?;
        let blanked: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let (sql, list) = (tx.conn().text(BLANK), db::list(&blanked)?);
        on!(tx.conn(), c => {
            sqlx::query(sql).bind(list).execute(&mut *c).await?.rows_affected()
        });
    }
    on!(tx.conn(), c => {
        sqlx::query("DELETE FROM erasing").execute(&mut *c).await?.rows_affected()
    });
    // Why an event could not be folded may quote it.
    rebuild::blank(&mut tx.conn(), positions).await?;
    tx.commit().await?;
    set_aside::blank(&database.views, positions).await?;
    Ok(rows.len())
}

/// Has the database files forget former versions of rows: SQLite's write-ahead logs are moved and
/// cut to nothing, PostgreSQL's dead rows are removed, and its samples of names are taken anew. What
/// else is private is never sampled (`migrations/postgres/ledger/0014_unsampled.sql`).
async fn clean(ledger: &Ledger) -> Result<(), Fault> {
    let database = ledger.database();
    let views = database.views.live();
    for pool in [&database.ledger_write, &views.write, &database.presence] {
        let Pool::Sqlite(pool) = pool else { continue };
        for left in (0..TRIES).rev() {
            let mut writer = pool.acquire().await?;
            let (busy, _, _): (i64, i64, i64) =
                sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *writer).await?;
            drop(writer);
            match busy {
                0 => break,
                _ if left == 0 => return Err(Fault::stored("log", "somebody reads it for long")),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    const ROWS: &str = "VACUUM events, access_tokens, easemob_tokens, easemob_passwords, \
                        views_rebuild";
    // The samples lie in the last one, which whoever does not own the database has to leave alone.
    const SAMPLED: &str = "VACUUM (ANALYZE) accounts, devices, owners, pg_statistic";
    const VIEWS: &str = "VACUUM set_aside";
    let ledger = &database.ledger_write;
    for (pool, vacuum) in [(ledger, ROWS), (ledger, SAMPLED), (&views.write, VIEWS)] {
        let Pool::Postgres(pool) = pool else { continue };
        let mut own = pool.acquire().await?;
        sqlx::query("SET statement_timeout = 0").execute(&mut *own).await?;
        let done = sqlx::query(vacuum).execute(&mut *own).await;
        sqlx::query("RESET statement_timeout").execute(&mut *own).await?;
        done?;
    }
    Ok(())
}
