//! Restores a store from an export, in one transaction: either all of it is there, with the same
//! positions, times, ids, hashes and registry, or nothing is, and it can be tried again. Every event
//! is checked on its way in. Effects stay paused afterwards: the ledger that the export came from
//! may still be running, and nothing must be sent twice.

use std::{path::Path, sync::LazyLock};

use domain::Recorded;
use projections::{
    Fault,
    db::{Conn, Insert, Sql, Value},
    on, registry,
};

use super::{
    super::{
        judge::{Judge, Looked, looked},
        note::Verifier,
        tiles,
        verify::{NotVerified, Report},
    },
    Manifest, Opened, credentials, other,
};
use crate::{
    feed::effects,
    ledger::{Database, write_stored},
    secrets::MasterKey,
};

static KEYS: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (app, key) DO UPDATE SET last = excluded.last";
    Insert::new("idempotency", &["app", "key", "request", "first", "last"], tail)
});
static AUDIT_KEYS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["number", "public_key", "sealed", "from_size", "created_at"];
    Insert::new("audit_keys", &columns, "")
});

/// Restores an export into an empty database. With `trusted` keys its checkpoint has to be signed by
/// one of them; else by one that the export lists. Credentials in it are those that its ledger's master
/// key sealed.
///
/// # Errors
/// [`NotVerified`] says what is wrong; nothing was written then.
pub async fn import(
    database: &Database,
    directory: &Path,
    trusted: &[Verifier],
    master: Option<&MasterKey>,
    now: i64,
) -> Result<Report, NotVerified> {
    let opened = Opened::open(directory)?;
    let Manifest { credentials, chain, .. } = &opened.manifest;
    let carried = match credentials {
        Some(_) => Some(credentials::checked(directory, chain, master)?),
        None => None,
    };
    let mut judge = Judge::new(None);
    judge.expect(opened.signed(&[], trusted)?);
    let mut tx = database.ledger_write.begin().await?;
    begin(&mut tx.conn()).await?;
    let mut pages = opened.read();
    while let Some(page) = pages.recv().await {
        let page = looked(page?).await?;
        let mut full = Vec::new();
        for event in &page {
            judge.take(event, |tile| full.push(tile))?;
        }
        tiles::write(&mut tx.conn(), full).await?;
        restore(&mut tx.conn(), page).await?;
    }
    opened.ends(&judge)?;
    tiles::write(&mut tx.conn(), judge.tree.edge()).await?;
    if let Some(carried) = carried {
        credentials::restore(&mut tx.conn(), carried).await?;
    }
    end(&mut tx.conn(), &opened, &judge, now).await?;
    tx.commit().await?;
    Ok(judge.report().0)
}

/// Locks the head; refuses a store that holds anything.
async fn begin(conn: &mut Conn<'_>) -> Result<(), NotVerified> {
    const SQL: Sql = Sql {
        sqlite: "SELECT position FROM head",
        postgres: "SELECT position FROM head FOR UPDATE",
    };
    if let Conn::Postgres(c) = conn.again() {
        for sql in
            ["SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0"]
        {
            sqlx::query(sql).execute(&mut *c).await.map_err(Fault::from)?;
        }
    }
    let sql = conn.text(SQL);
    let (head,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(sql).fetch_one(&mut *c).await.map_err(Fault::from)?
    });
    const OTHER: &str = "SELECT (SELECT COUNT(*) FROM events) + (SELECT COUNT(*) FROM secrets) + \
         (SELECT COUNT(*) FROM operators) + (SELECT COUNT(*) FROM audit_keys)";
    let (rows,): (i64,) = on!(conn.again(), c => {
        sqlx::query_as(OTHER).fetch_one(&mut *c).await.map_err(Fault::from)?
    });
    match (head, rows) {
        (0, 0) => Ok(()),
        _ => Err(other("the store is not empty: an import needs one that no server ran on")),
    }
}

/// Writes a page of events, and folds it into the registry and the index of idempotency keys.
async fn restore(conn: &mut Conn<'_>, page: Vec<Looked>) -> Result<(), NotVerified> {
    let rows: Vec<_> = page.into_iter().map(|looked| looked.stored).collect();
    let recorded: Result<Vec<Recorded>, NotVerified> = rows
        .iter()
        .map(|row| {
            let unknown = |why| other(format!("the event at {}: {why}", row.position));
            row.recorded().map_err(unknown)
        })
        .collect();
    let recorded = recorded?;
    write_stored(conn, rows).await?;
    registry::apply(conn, &recorded).await?;
    let mut keys: Vec<(&Recorded, i64)> = Vec::new();
    for event in &recorded {
        let Some(reference) = &event.metadata.idempotency else { continue };
        match keys.last_mut() {
            // Events of one command follow each other.
            Some((first, last))
                if first.app == event.app
                    && first.metadata.idempotency.as_ref() == Some(reference) =>
            {
                *last = event.position;
            }
            _ => keys.push((event, event.position)),
        }
    }
    let mut values: Vec<Value> = Vec::new();
    for (first, last) in keys {
        if let Some(reference) = &first.metadata.idempotency {
            let texts = [&first.app, &reference.key, &reference.request];
            values.extend(texts.map(|text| Value::from(text.as_str())));
            values.extend([first.position.into(), last.into()]);
        }
    }
    Ok(KEYS.run(conn, values).await?)
}

/// Writes what stands beside the events: the head, the checkpoint, its keys, and where effects are.
async fn end(
    conn: &mut Conn<'_>,
    opened: &Opened,
    judge: &Judge,
    now: i64,
) -> Result<(), NotVerified> {
    const HEAD: &str = "UPDATE head SET position = $1, recorded_at = $2, chain = $3";
    const CHECKPOINT: &str =
        "INSERT INTO checkpoints (size, root, note, signed_at) VALUES ($1, $2, $3, $4)";
    let root = judge.tree.root();
    on!(conn.again(), c => {
        let query = sqlx::query(HEAD).bind(judge.last).bind(judge.recorded_at);
        query.bind(judge.chain.as_slice()).execute(&mut *c).await.map_err(Fault::from)?;
        let query = sqlx::query(CHECKPOINT).bind(judge.last).bind(root.as_slice());
        let query = query.bind(&opened.note).bind(now);
        query.execute(&mut *c).await.map_err(Fault::from)?;
    });
    let mut values: Vec<Value> = Vec::new();
    for (number, (from_size, key)) in (1_i64..).zip(&opened.keys) {
        values.extend([number.into(), key.public().to_vec().into(), Value::Bytes(None)]);
        values.extend([tiles::signed(*from_size).into(), now.into()]);
    }
    AUDIT_KEYS.run(conn, values).await?;
    effects::restored(conn, judge.last, now).await?;
    Ok(())
}
