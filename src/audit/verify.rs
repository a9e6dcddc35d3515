//! Checks a ledger from its first event to its last, live or exported, and names the first event
//! that is wrong. Whoever altered rows has to make their leaves anew, then the chain in the head, then
//! the tiles, and then cannot sign.
//!
//! Pages are read by one task, hashed and parsed on all cores, and judged in order; no more than a
//! few pages are in memory, and a bounded amount of what [`super::history`] remembers.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use projections::{Fault, on};
use tokio::sync::mpsc;

use super::{
    Checkpoints, NoProof,
    archive::{self, Opened},
    history::{History, Name, Part},
    judge::{Judge, Page, again, looked},
    keys,
    merkle::{TILE_HEIGHT, TILE_WIDTH, Tile},
    note::{Checkpoint, Verifier},
    reading::{PAGE, read},
    tiles,
    witness::Witness,
};
use crate::ledger::{Away, Ledger};

/// Checkpoints read at once.
const CHECKPOINTS: i64 = 1_000;

/// The first event that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event at position {position} is wrong: {reason}")]
pub struct Wrong {
    /// Its position, or that where one is missing.
    pub position: i64,
    /// What is wrong with it, for people.
    pub reason: String,
}

impl Wrong {
    pub(super) fn new(position: i64, reason: impl Into<String>) -> Wrong {
        Wrong { position, reason: reason.into() }
    }
}

/// Why a ledger was not found to be right.
#[derive(Debug, thiserror::Error)]
pub enum NotVerified {
    /// An event is wrong.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// It is not the events: a signature, the witness, a file of an export.
    #[error("{0}")]
    Other(String),
    /// It could not be read.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<NoProof> for NotVerified {
    fn from(none: NoProof) -> Self {
        match none {
            NoProof::Fault(fault) => NotVerified::Fault(fault),
            other => NotVerified::Other(other.to_string()),
        }
    }
}

/// What was found to be right.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Events that were checked.
    pub events: u64,
    /// Signed checkpoints whose root they have.
    pub checkpoints: u64,
    /// Events under the largest of those.
    pub sealed: u64,
    /// Events that this version of the program does not know; their hashes are right.
    pub unknown: u64,
    /// How often the ledger was read.
    pub passes: u64,
    /// Events that are away, of which only the leaves were checked, as the tree has them.
    #[serde(skip_serializing_if = "none")]
    pub away: u64,
    /// The name of the export that holds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_in: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over as it is")]
fn none(number: &u64) -> bool {
    *number == 0
}

/// The end of the ledger, as its head has it.
struct Head {
    position: i64,
    recorded_at: i64,
    chain: Vec<u8>,
}

/// How far the roots are known that the tree has to have.
struct Roots {
    known: u64,
    last: u64,
}

/// Checks a live ledger up to its head as it is now. With `trusted` keys the last checkpoint has to
/// be signed by one of them; else by one that the ledger itself lists. Of what is away the leaves are
/// checked, and all of it if the export that holds it is given.
///
/// # Errors
/// [`NotVerified`] says what is wrong first.
pub async fn live(
    ledger: &Ledger,
    witness: Option<Arc<dyn Witness>>,
    trusted: &[Verifier],
    detached: Option<Opened>,
) -> Result<Report, NotVerified> {
    let away = ledger.away().await?;
    let verified = as_it_is(ledger, witness, trusted, detached, away.clone()).await;
    match verified {
        Err(_) if ledger.away().await? != away => {
            let what = "events were detached or attached meanwhile; do it again afterwards";
            Err(NotVerified::Other(what.to_owned()))
        }
        verified => verified,
    }
}

async fn as_it_is(
    ledger: &Ledger,
    witness: Option<Arc<dyn Witness>>,
    trusted: &[Verifier],
    detached: Option<Opened>,
    away: Option<Away>,
) -> Result<Report, NotVerified> {
    let head = head(ledger).await?;
    let away = away.filter(|_| detached.is_none());
    let mut judge = Judge::new(Some(History::new(Part::default())));
    let last = signed_by(ledger, witness, trusted, &mut judge).await?;
    let mut pages = read(ledger.clone(), head.position, true, detached.clone());
    let mut roots = Roots { known: 0, last };
    let mut lacks = None;
    while let Some(page) = pages.recv().await {
        for event in &looked(page?).await? {
            if let Some(away) = &away
                && judge.last == 1
                && event.stored.position > 1
            {
                pass_over(ledger, away, &mut judge, &mut roots).await?;
            }
            if !event.in_tree && event.stored.position <= tiles::signed(last) {
                lacks = lacks.or(Some(event.stored.position));
            }
            if judge.tree.size() >= roots.known && roots.known < last {
                roots.known = more_roots(ledger, roots.known, last, &mut judge).await?;
            }
            judge.take(event, |_| {})?;
        }
    }
    if let Some(away) = &away
        && judge.last == 1
    {
        pass_over(ledger, away, &mut judge, &mut roots).await?;
    }
    judge.end(head.position)?;
    if (judge.recorded_at, judge.chain.as_slice()) != (head.recorded_at, head.chain.as_slice()) {
        let reason = "it, or one before it, is not the one that was appended: the chain in the \
                      head is another";
        let first = tiles::signed(judge.sealed) + 1;
        return Err(Wrong::new(first.min(head.position), reason).into());
    }
    beyond(ledger).await?;
    if let Some(position) = lacks {
        let what = format!("the tree lacks the leaf of the event at {position}");
        return Err(NotVerified::Other(what));
    }
    tree_above(ledger, &judge, last).await?;
    let again = || read(ledger.clone(), head.position, false, detached.clone());
    let report = finish(judge, again, away.as_ref().map(|_| ledger)).await?;
    Ok(Report { away_in: away.map(|away| away.export), ..report })
}

/// The tree above its leaves lies there as the events make it: else no proof would hold.
async fn tree_above(ledger: &Ledger, judge: &Judge, sealed: u64) -> Result<(), NotVerified> {
    let edge: Vec<Tile> = judge.tree.edge();
    let edge = edge.iter().map(|tile| ((tile.level, tile.number), &tile.hashes));
    let made: BTreeMap<_, _> = judge.above.iter().map(|(at, own)| (*at, own)).chain(edge).collect();
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    for level in 1.. {
        let hashes = sealed >> (TILE_HEIGHT * level);
        if hashes == 0 {
            return Ok(());
        }
        for number in 0..hashes.div_ceil(TILE_WIDTH as u64) {
            let width = hashes - number * TILE_WIDTH as u64;
            let width = usize::try_from(width).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
            let stored = tiles::read(&mut checkout.conn(), level, number).await?;
            let made = made.get(&(level, number)).and_then(|own| own.get(..width));
            if made.is_none() || stored.get(..width) != made {
                let what = format!("tile {number} of level {level} of the tree is another");
                return Err(NotVerified::Other(what));
            }
        }
    }
    Ok(())
}

/// Has a history know of the streams whose beginnings are away.
async fn begun(ledger: &Ledger, history: &mut History) -> Result<(), Fault> {
    let mut after = 0;
    loop {
        let page = ledger.detached_streams(after, PAGE as i64).await?;
        let Some((last, ..)) = page.last() else { return Ok(()) };
        after = *last;
        for (_, stream, version) in &page {
            history.away(Name::of(stream), *version);
        }
    }
}

/// Checks an export, and that the trees of some checkpoints are in it. With `trusted` keys its own
/// checkpoint and those have to be signed by one of them; else by one that the export lists.
///
/// # Errors
/// [`NotVerified`] says what is wrong first.
pub async fn export(
    directory: &Path,
    checkpoints: &[String],
    trusted: &[Verifier],
) -> Result<Report, NotVerified> {
    let opened = archive::Opened::open(directory)?;
    let mut judge = Judge::new(Some(History::new(Part::default())));
    judge.expect(opened.signed(checkpoints, trusted)?);
    let mut pages = opened.read();
    while let Some(page) = pages.recv().await {
        for event in &looked(page?).await? {
            judge.take(event, |_| {})?;
        }
    }
    opened.ends(&judge)?;
    finish(judge, || opened.read(), None).await
}

/// Judges the parts of the history that were left, each in a pass of its own over all pages. `lacking`
/// is the ledger, if the beginning of it is not among them.
async fn finish(
    judge: Judge,
    pages: impl Fn() -> mpsc::Receiver<Result<Page, NotVerified>>,
    lacking: Option<&Ledger>,
) -> Result<Report, NotVerified> {
    let (mut report, mut parts) = judge.report();
    while let Some(part) = parts.pop() {
        let mut history = History::new(part);
        let mut pages = pages();
        let mut lacking = lacking;
        while let Some(page) = pages.recv().await {
            for event in &looked(page?).await? {
                if event.stored.position > 1
                    && let Some(ledger) = lacking.take()
                {
                    begun(ledger, &mut history).await?;
                }
                again(&mut history, event)?;
            }
        }
        parts.extend(history.left());
        report.passes += 1;
    }
    Ok(report)
}

/// Checks the signature of the last checkpoint and of what the witness has, which the events then
/// have to agree with; gives the size of the last checkpoint.
async fn signed_by(
    ledger: &Ledger,
    witness: Option<Arc<dyn Witness>>,
    trusted: &[Verifier],
    judge: &mut Judge,
) -> Result<u64, NotVerified> {
    let refused = |what: &str, why: String| NotVerified::Other(format!("{what}: {why}"));
    let seen = match witness {
        Some(witness) => witness.last().await.map_err(|e| refused("the witness", e.to_string()))?,
        None => None,
    };
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let mut conn = checkout.conn();
    let last = Checkpoints::last(&mut conn).await?;
    if last.is_none() && seen.is_none() {
        return Ok(0);
    }
    let origin = match keys::origin(&mut conn).await {
        Ok(Some(origin)) => origin,
        Ok(None) => return Err(Wrong::new(1, "it is missing").into()),
        Err(Fault::Stored { .. }) => return Err(Wrong::new(1, "its id is none").into()),
        Err(fault) => return Err(fault.into()),
    };
    let own: Vec<Verifier> =
        keys::all(&mut conn).await?.iter().map(|key| key.verifier(&origin)).collect();
    let keys = if trusted.is_empty() { &own } else { trusted };
    if let Some(last) = &last {
        let checkpoint = Checkpoint::verified(&last.note, keys);
        let checkpoint =
            checkpoint.map_err(|error| refused("the last checkpoint", error.to_string()))?;
        if checkpoint.origin != origin {
            return Err(
                Wrong::new(1, "the checkpoints are of a ledger with another first event").into()
            );
        }
    }
    // Whoever removes the checkpoints here does not reach what was seen of them.
    if let Some(note) = seen {
        let seen = Checkpoint::verified(&note, keys);
        let seen = seen.map_err(|error| refused("the witness", error.to_string()))?;
        if seen.origin != origin {
            return Err(refused("the witness", "it is of another ledger".to_owned()));
        }
        judge.expect([seen]);
    }
    Ok(last.map_or(0, |last| last.size))
}

/// Expects the next checkpoints that are kept; gives the size up to which all are known.
async fn more_roots(
    ledger: &Ledger,
    after: u64,
    last: u64,
    judge: &mut Judge,
) -> Result<u64, NotVerified> {
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let kept = Checkpoints::after(&mut checkout.conn(), after, CHECKPOINTS).await?;
    let mut up_to = last;
    if kept.len() as i64 == CHECKPOINTS {
        up_to = kept.last().map_or(last, |kept| kept.size);
    }
    let mut due = Vec::new();
    for kept in kept.into_iter().take_while(|kept| kept.size <= last) {
        match Checkpoint::unverified(&kept.note) {
            Ok(noted) if (noted.size, noted.root) == (kept.size, kept.root) => due.push(noted),
            _ => {
                let what =
                    format!("the checkpoint of {} events is not what its note says", kept.size);
                return Err(NotVerified::Other(what));
            }
        }
    }
    judge.expect(due);
    Ok(up_to)
}

async fn head(ledger: &Ledger) -> Result<Head, Fault> {
    const SQL: &str = "SELECT position, recorded_at, chain FROM head";
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let (position, recorded_at, chain): (i64, i64, Vec<u8>) =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_one(&mut *c).await?);
    Ok(Head { position, recorded_at, chain })
}

/// No event lies beyond the head.
async fn beyond(ledger: &Ledger) -> Result<(), NotVerified> {
    const SQL: &str = "SELECT position, (SELECT MAX(position) FROM events) FROM head";
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let (head, last): (i64, Option<i64>) = on!(checkout.conn(), c => {
        sqlx::query_as(SQL).fetch_one(&mut *c).await.map_err(Fault::from)?
    });
    match last {
        Some(last) if last > head => {
            Err(Wrong::new(head + 1, "nothing was appended there: the head is before it").into())
        }
        _ => Ok(()),
    }
}

/// Takes what is away by its leaves, which the tree has.
async fn pass_over(
    ledger: &Ledger,
    away: &Away,
    judge: &mut Judge,
    roots: &mut Roots,
) -> Result<(), NotVerified> {
    if let Some(history) = &mut judge.history {
        begun(ledger, history).await?;
    }
    while judge.last < away.last {
        let first = judge.last + 1;
        let last = away.last.min(judge.last + PAGE as i64);
        let mut checkout = ledger.database().ledger_read.checkout().await?;
        let leaves = tiles::of(&mut checkout.conn(), first, last).await?;
        drop(checkout);
        if leaves.len() as i64 != last - first + 1 {
            let missing = first + leaves.len() as i64;
            return Err(Wrong::new(missing, "it is away, and its leaf is not in the tree").into());
        }
        for leaf in leaves {
            if judge.tree.size() >= roots.known && roots.known < roots.last {
                roots.known = more_roots(ledger, roots.known, roots.last, judge).await?;
            }
            judge.pass(leaf)?;
        }
    }
    judge.recorded_at = away.recorded_at;
    Ok(())
}
