//! The view `journal`: what each event moved among the cells of the statistics, so that these can be
//! told as of any position without a fold from the begin. Moves lie in blocks of 1,024 positions, a
//! few bytes each ([`coded`]); 64 blocks together are a span, and once a span is over its sums are
//! kept too. As of a position are then the sums of the spans before it, the blocks of its own span
//! before it, and of its own block the moves up to it.

mod coded;

use std::{collections::BTreeMap, sync::LazyLock};

use domain::Recorded;

use crate::{
    Fault,
    db::{self, Conn, Insert, Sql, Value},
    delivery_stats::{Key, Moved},
    on, rows,
};

/// Positions of one block.
pub const BLOCK_POSITIONS: i64 = 1_024;
/// Blocks of one span.
const SPAN_BLOCKS: i64 = 64;
/// Positions of one span.
pub const SPAN_POSITIONS: i64 = BLOCK_POSITIONS * SPAN_BLOCKS;
/// Rows that are read at once.
const READ_ROWS: i64 = 64;

static UPSERT: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (block, app) DO UPDATE SET moved = excluded.moved";
    Insert::new("journal", &["block", "app", "moved"], tail)
});
static INSERT_SUMS: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("journal_sums", &["app", "span", "moved"], ""));
static UPSERT_CLOSED: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (one) DO UPDATE SET closed = excluded.closed";
    Insert::new("journal_spans", &["one", "closed"], tail)
});

/// Writes down what the events of a page moved, by app, in order.
pub(crate) async fn append(
    conn: &mut Conn<'_>,
    moves: &BTreeMap<String, Vec<Moved>>,
) -> Result<(), Fault> {
    let block_of = |moved: &Moved| moved.position.div_euclid(BLOCK_POSITIONS);
    let mut blocks: BTreeMap<(i64, String), Vec<Moved>> = BTreeMap::new();
    for (app, moved) in moves {
        for own in moved.chunk_by(|one, next| block_of(one) == block_of(next)) {
            let Some(first) = own.first() else { continue };
            blocks.insert((block_of(first), app.clone()), own.to_vec());
        }
    }
    if blocks.is_empty() {
        return Ok(());
    }
    const SQL: Sql = rows!(
        "SELECT j.block, j.app, j.moved FROM ",
        " JOIN journal j ON j.block = CAST(list.value->>0 AS BIGINT) \
         AND j.app = list.value->>1"
    );
    let (sql, keys) = (conn.text(SQL), db::list(&blocks.keys().collect::<Vec<_>>())?);
    let before: Vec<(i64, String, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(sql).bind(keys).fetch_all(&mut *c).await?
    });
    for (block, app, bytes) in before {
        let mut moved = coded::decode(block * BLOCK_POSITIONS, &bytes)?;
        if let Some(own) = blocks.get_mut(&(block, app)) {
            moved.append(own);
            *own = moved;
        }
    }
    let values = blocks.into_iter().flat_map(|((block, app), moved)| {
        let bytes = coded::encode(block * BLOCK_POSITIONS, &moved);
        [block.into(), app.into(), Value::from(bytes)]
    });
    let values = values.collect();
    UPSERT.run(conn, values).await
}

/// Sums the spans that are over with a page.
pub(crate) async fn close(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let Some(last) = page.last() else { return Ok(()) };
    let open = last.position.div_euclid(SPAN_POSITIONS);
    let closed = closed(conn).await?;
    for span in closed..open {
        let mut sums: BTreeMap<String, BTreeMap<Key, i64>> = BTreeMap::new();
        let blocks = span * SPAN_BLOCKS..(span + 1) * SPAN_BLOCKS;
        for block in blocks {
            const SQL: &str = "SELECT app, moved FROM journal WHERE block = $1";
            let rows: Vec<(String, Vec<u8>)> = on!(conn.again(), c => {
                sqlx::query_as(SQL).bind(block).fetch_all(&mut *c).await?
            });
            for (app, bytes) in rows {
                let sums = sums.entry(app).or_default();
                for moved in coded::decode(block * BLOCK_POSITIONS, &bytes)? {
                    *sums.entry(moved.key).or_default() += moved.deliveries;
                }
            }
        }
        let position = span * SPAN_POSITIONS;
        let values = sums.into_iter().flat_map(|(app, sums)| {
            let moved = sums.into_iter().filter(|(_, deliveries)| *deliveries != 0);
            let moved = moved.map(|(key, deliveries)| Moved { position, key, deliveries });
            let bytes = coded::encode(position, &moved.collect::<Vec<_>>());
            [app.into(), span.into(), Value::from(bytes)]
        });
        let values = values.collect();
        INSERT_SUMS.run(conn, values).await?;
    }
    if closed < open {
        UPSERT_CLOSED.run(conn, vec![1.into(), open.into()]).await?;
    }
    Ok(())
}

/// How many spans are summed.
async fn closed(conn: &mut Conn<'_>) -> Result<i64, Fault> {
    const SQL: &str = "SELECT closed FROM journal_spans";
    let found: Option<(i64,)> =
        on!(conn.again(), c => sqlx::query_as(SQL).fetch_optional(&mut *c).await?);
    Ok(found.map_or(0, |(closed,)| closed))
}

/// Tells what the events of an app moved up to a position. The sum of all that is told of a key is
/// what was counted there as of the position, if the views include it.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn moved(
    conn: &mut Conn<'_>,
    app: &str,
    position: i64,
    mut tell: impl FnMut(&Key, i64),
) -> Result<(), Fault> {
    let whole = position.saturating_add(1).div_euclid(SPAN_POSITIONS);
    let whole = whole.min(closed(conn).await?);
    let mut span = 0;
    const SUMS: &str = "SELECT span, moved FROM journal_sums \
         WHERE app = $1 AND span >= $2 AND span < $3 ORDER BY span LIMIT $4";
    loop {
        let rows: Vec<(i64, Vec<u8>)> = on!(conn.again(), c => {
            let query = sqlx::query_as(SUMS).bind(app).bind(span).bind(whole).bind(READ_ROWS);
            query.fetch_all(&mut *c).await?
        });
        let Some((last, _)) = rows.last() else { break };
        span = last + 1;
        for (own, bytes) in rows {
            for moved in coded::decode(own * SPAN_POSITIONS, &bytes)? {
                tell(&moved.key, moved.deliveries);
            }
        }
    }
    const BLOCKS: &str = "SELECT block, moved FROM journal \
         WHERE app = $1 AND block >= $2 AND block <= $3 ORDER BY block LIMIT $4";
    let (mut block, last) = (whole * SPAN_BLOCKS, position.div_euclid(BLOCK_POSITIONS));
    loop {
        let rows: Vec<(i64, Vec<u8>)> = on!(conn.again(), c => {
            let query = sqlx::query_as(BLOCKS).bind(app).bind(block).bind(last).bind(READ_ROWS);
            query.fetch_all(&mut *c).await?
        });
        let Some((last, _)) = rows.last() else { break };
        block = last + 1;
        for (own, bytes) in rows {
            let moved = coded::decode(own * BLOCK_POSITIONS, &bytes)?;
            for moved in moved.iter().take_while(|moved| moved.position <= position) {
                tell(&moved.key, moved.deliveries);
            }
        }
    }
    Ok(())
}
