//! Where the tree lies: its tiles, in the ledger's own database. A proof reads a few of them,
//! whatever the size of the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use projections::{
    Fault,
    db::{Conn, Insert, Value},
    on,
};

use super::merkle::{self, Hash, Run, TILE_HEIGHT, TILE_WIDTH, Tile, Tree};

/// Bytes of a hash.
const HASH_BYTES: usize = 32;

/// A tile that is there grows and never shrinks: who writes twice, or late, changes nothing.
static INSERT: LazyLock<Insert> = LazyLock::new(|| {
    let tail = "ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes \
                WHERE length(excluded.hashes) > length(tiles.hashes)";
    Insert::new("tiles", &["level", "number", "hashes"], tail)
});

/// Writes tiles.
pub(super) async fn write(conn: &mut Conn<'_>, tiles: Vec<Tile>) -> Result<(), Fault> {
    let mut values: Vec<Value> = Vec::with_capacity(tiles.len() * 3);
    for tile in tiles {
        values.extend([i64::from(tile.level).into(), signed(tile.number).into()]);
        values.push(tile.hashes.concat().into());
    }
    INSERT.run(conn, values).await
}

/// The hashes of a tile, as many as there are.
pub(super) async fn read(conn: &mut Conn<'_>, level: u32, number: u64) -> Result<Vec<Hash>, Fault> {
    const SQL: &str = "SELECT hashes FROM tiles WHERE level = $1 AND number = $2";
    let found: Option<(Vec<u8>,)> = on!(conn.again(), c => {
        let query = sqlx::query_as(SQL).bind(i64::from(level)).bind(signed(number));
        query.fetch_optional(&mut *c).await?
    });
    let bytes = found.map(|(bytes,)| bytes).unwrap_or_default();
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    match rest {
        [] => Ok(hashes.to_vec()),
        _ => Err(missing(level, number)),
    }
}

/// The tree of a size, as its tiles have it.
pub(super) async fn tree(conn: &mut Conn<'_>, size: u64) -> Result<Tree, Fault> {
    let mut edge = Vec::new();
    let mut left = size;
    for level in 0.. {
        if left == 0 {
            break;
        }
        let (number, width) = (left >> TILE_HEIGHT, left as usize % TILE_WIDTH);
        let mut hashes = match width {
            0 => Vec::new(),
            _ => read(conn, level, number).await?,
        };
        if hashes.len() < width {
            return Err(missing(level, number));
        }
        hashes.truncate(width);
        edge.push(hashes);
        left = number;
    }
    Ok(Tree::of_edge(size, edge))
}

/// The hashes over some runs of leaves.
pub(super) async fn over(conn: &mut Conn<'_>, runs: &[Run]) -> Result<Vec<Hash>, Fault> {
    let nodes = |run: &Run| merkle::subtrees(*run);
    let wanted: BTreeSet<_> = runs.iter().flat_map(nodes).map(|node| place(node).0).collect();
    let mut tiles: BTreeMap<(u32, u64), Vec<Hash>> = BTreeMap::new();
    for (level, number) in wanted {
        tiles.insert((level, number), read(conn, level, number).await?);
    }
    let hash = |node: (u32, u64)| {
        let (at, begin, width) = place(node);
        let hashes = tiles.get(&at).and_then(|hashes| hashes.get(begin..begin + width));
        hashes.map(merkle::subtree).ok_or_else(|| missing(at.0, at.1))
    };
    let run = |run: &Run| {
        let mut hashes = nodes(run).into_iter().rev().map(hash);
        let last = hashes.next().unwrap_or_else(|| Ok(merkle::empty()))?;
        hashes.try_fold(last, |right, left| Ok(merkle::node(&left?, &right)))
    };
    runs.iter().map(run).collect()
}

/// The tile that a node's subtree lies in, and which of the tile's hashes are under it.
fn place((level, index): (u32, u64)) -> ((u32, u64), usize, usize) {
    let height = level % TILE_HEIGHT;
    let first = index << height;
    let (number, begin) = (first >> TILE_HEIGHT, first as usize % TILE_WIDTH);
    ((level / TILE_HEIGHT, number), begin, 1 << height)
}

fn missing(level: u32, number: u64) -> Fault {
    Fault::stored("tree", format!("tile {number} of level {level} lacks hashes"))
}

/// A number as the databases have it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The same from a database, where none is below 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The leaves of the tiles that two indices lie in, and of those between; fewer where tiles lack.
pub(super) async fn leaves(conn: &mut Conn<'_>, first: u64, last: u64) -> Result<Vec<Hash>, Fault> {
    const SQL: &str = "SELECT number, hashes FROM tiles \
         WHERE level = 0 AND number BETWEEN $1 AND $2 ORDER BY number";
    let (first, last) = (signed(first >> TILE_HEIGHT), signed(last >> TILE_HEIGHT));
    let rows: Vec<(i64, Vec<u8>)> = on!(conn.again(), c => {
        sqlx::query_as(SQL).bind(first).bind(last).fetch_all(&mut *c).await?
    });
    let mut leaves = Vec::new();
    for (expected, (number, hashes)) in (first..).zip(rows) {
        let whole = hashes.len() == TILE_WIDTH * HASH_BYTES;
        if number != expected {
            break;
        }
        leaves.extend_from_slice(hashes.as_chunks::<HASH_BYTES>().0);
        if !whole {
            break;
        }
    }
    Ok(leaves)
}

/// The leaves of the events from one position to another; fewer where tiles lack.
pub(super) async fn of(conn: &mut Conn<'_>, first: i64, last: i64) -> Result<Vec<Hash>, Fault> {
    let (first, last) = (unsigned(first - 1), unsigned(last - 1));
    let all = leaves(conn, first, last).await?;
    let (skip, many) = (first as usize % TILE_WIDTH, (last - first) as usize + 1);
    Ok(all.into_iter().skip(skip).take(many).collect())
}
