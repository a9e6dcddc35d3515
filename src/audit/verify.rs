//! Checks a ledger from its first event to its last, live or exported, and names the first event
//! that is wrong. Whoever altered rows has to make their leaves anew, then the chain in the head, then
//! the tiles, and then cannot sign.
//!
//! Pages are read by one task, hashed and parsed on all cores, and judged in order; no more than a
//! few pages are in memory, and a bounded amount of what [`super::history`] remembers.

use std::{collections::VecDeque, path::Path, sync::Arc};

use domain::{Event, Metadata, Recorded};
use projections::{Fault, on};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use super::{
    Checkpoints, NoProof,
    archive::{self, Opened},
    history::{History, Name, Named, Part},
    keys,
    merkle::{Hash, Tile, Tree},
    note::{Checkpoint, Verifier},
    tiles,
    witness::Witness,
};
use crate::ledger::{Away, Ledger, Stored};

/// Events of a page.
pub(super) const PAGE: usize = 4_096;
/// Pages that are read ahead of the judgement.
pub(super) const PAGES_AHEAD: usize = 4;
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

/// An event with what could be computed of it alone.
pub(super) struct Looked {
    pub(super) stored: Stored,
    name: Name,
    leaf: Hash,
    wrong: Option<String>,
    recorded: Option<Recorded>,
    unknown: bool,
}

/// A page on its way to the judge.
pub(super) type Page = JoinHandle<Vec<Looked>>;

/// Computes what can be computed of each event alone. `sealed` has the leaves that the tiles have,
/// from the first event of the page on.
pub(super) fn look(page: Vec<Stored>, sealed: &[Hash]) -> Vec<Looked> {
    let mut sealed = sealed.iter();
    page.into_iter().map(|stored| look_at(stored, sealed.next())).collect()
}

fn look_at(stored: Stored, sealed: Option<&Hash>) -> Looked {
    let (leaf, wrong) = match stored.computed_leaf() {
        Ok(leaf) if leaf.as_slice() != stored.leaf => (leaf, Some("its leaf is not its hash")),
        Ok(leaf) if sealed.is_some_and(|sealed| *sealed != leaf) => {
            (leaf, Some("its leaf is another than when it was sealed"))
        }
        Ok(leaf) => (leaf, None),
        Err(reason) => ([0; 32], Some(reason)),
    };
    let name = Name::of(&stored.stream);
    let judged = stored.stream.starts_with("message/") || stored.stream.starts_with("task/");
    let recorded = judged.then(|| judged_part(&stored)).flatten();
    let unknown = judged && recorded.is_none();
    Looked { name, leaf, wrong: wrong.map(str::to_owned), recorded, unknown, stored }
}

/// The event without what is private and who caused it, which nothing is judged by.
fn judged_part(stored: &Stored) -> Option<Recorded> {
    let schema = i32::try_from(stored.schema).ok()?;
    Some(Recorded {
        position: stored.position,
        app: String::new(),
        stream: stored.stream.parse().ok()?,
        version: stored.version,
        recorded_at: stored.recorded_at,
        event_id: stored.event_id,
        metadata: Metadata::default(),
        event: Event::decode(&stored.name, schema, &stored.body, None).ok()?,
    })
}

/// Judges events in order.
pub(super) struct Judge {
    pub(super) last: i64,
    /// Id of the first event.
    pub(super) first: Option<Uuid>,
    pub(super) recorded_at: i64,
    pub(super) chain: Hash,
    pub(super) tree: Tree,
    history: Option<History>,
    /// Checkpoints to come, in order of size.
    due: VecDeque<Checkpoint>,
    /// Events under the last checkpoint that was right.
    sealed: u64,
    report: Report,
}

impl Judge {
    /// A judge who has seen nothing, and knows of checkpoints to come.
    pub(super) fn new(history: Option<History>) -> Judge {
        Judge {
            last: 0,
            first: None,
            recorded_at: 0,
            chain: [0; 32],
            tree: Tree::default(),
            history,
            due: VecDeque::new(),
            sealed: 0,
            report: Report { passes: 1, ..Report::default() },
        }
    }

    /// Expects the tree to have these roots, beside those that it is to have already.
    pub(super) fn expect(&mut self, more: impl IntoIterator<Item = Checkpoint>) {
        let mut due: Vec<Checkpoint> = self.due.drain(..).chain(more).collect();
        due.sort_by_key(|checkpoint| checkpoint.size);
        self.due = due.into();
    }

    /// The next event; `full` is given each tile that it fills.
    pub(super) fn take(&mut self, event: &Looked, full: impl FnMut(Tile)) -> Result<(), Wrong> {
        let Stored { position, recorded_at, version, .. } = event.stored;
        let expected = self.last + 1;
        if position < expected {
            let at = if position < 1 { position } else { expected };
            return Err(Wrong::new(at, format!("{position} is where {expected} comes next")));
        }
        if position > expected {
            return Err(Wrong::new(expected, format!("it is missing: {position} comes next")));
        }
        if let Some(reason) = &event.wrong {
            return Err(Wrong::new(position, reason.as_str()));
        }
        if recorded_at < self.recorded_at {
            return Err(Wrong::new(position, "it was recorded before the one before it"));
        }
        (self.last, self.recorded_at) = (position, recorded_at);
        self.first.get_or_insert(event.stored.event_id);
        self.chain =
            Sha256::new().chain_update(self.chain).chain_update(event.leaf).finalize().into();
        self.tree.push(event.leaf, full);
        self.report.events += 1;
        self.report.unknown += u64::from(event.unknown);
        if let Some(history) = &mut self.history {
            let recorded = event.recorded.as_ref();
            let named = Named { name: event.name, version, recorded };
            history.take(&named).map_err(|reason| Wrong::new(position, reason))?;
        }
        self.roots()
    }

    /// The next event, of which only the leaf is here.
    fn pass(&mut self, leaf: Hash) -> Result<(), Wrong> {
        self.last += 1;
        self.chain = Sha256::new().chain_update(self.chain).chain_update(leaf).finalize().into();
        self.tree.push(leaf, |_| {});
        self.report.away += 1;
        self.roots()
    }

    /// Compares the roots that are due at this size.
    fn roots(&mut self) -> Result<(), Wrong> {
        let size = self.tree.size();
        while let Some(due) = self.due.pop_front_if(|due| due.size <= size) {
            if due.size < size || due.root != self.tree.root() {
                let reason = format!(
                    "this event, or one up to {}, is not what was signed: the checkpoint of {0} \
                     events has another root",
                    due.size
                );
                return Err(Wrong::new(tiles::signed(self.sealed) + 1, reason));
            }
            self.sealed = size;
            (self.report.sealed, self.report.checkpoints) = (size, self.report.checkpoints + 1);
        }
        Ok(())
    }

    /// Nothing comes any more, and so many should have come.
    pub(super) fn end(&self, head: i64) -> Result<(), Wrong> {
        let due = self.due.front().map_or(0, |due| tiles::signed(due.size));
        match self.last < head.max(due) {
            true => Err(Wrong::new(self.last + 1, "it is missing, and so are all after it")),
            false => Ok(()),
        }
    }

    /// What was found, and the parts of the history that were left for other passes.
    pub(super) fn report(self) -> (Report, Vec<Part>) {
        let left = self.history.map(History::left).unwrap_or_default();
        (self.report, left)
    }
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
    while let Some(page) = pages.recv().await {
        for event in &looked(page?).await? {
            if let Some(away) = &away
                && judge.last == 1
                && event.stored.position > 1
            {
                if let Some(history) = &mut judge.history {
                    begun(ledger, history).await?;
                }
                pass_over(ledger, away, &mut judge, &mut roots).await?;
            }
            if judge.tree.size() >= roots.known && roots.known < last {
                roots.known = more_roots(ledger, roots.known, last, &mut judge).await?;
            }
            judge.take(event, |_| {})?;
        }
    }
    judge.end(head.position)?;
    if (judge.recorded_at, judge.chain.as_slice()) != (head.recorded_at, head.chain.as_slice()) {
        let reason = "it, or one before it, is not the one that was appended: the chain in the \
                      head is another";
        let first = tiles::signed(judge.sealed) + 1;
        return Err(Wrong::new(first.min(head.position), reason).into());
    }
    beyond(ledger).await?;
    let again = || read(ledger.clone(), head.position, false, detached.clone());
    let report = finish(judge, again, away.as_ref().map(|_| ledger)).await?;
    Ok(Report { away_in: away.map(|away| away.export), ..report })
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

/// Judges the history of an event in a further pass.
pub(super) fn again(history: &mut History, event: &Looked) -> Result<(), Wrong> {
    let Stored { position, version, .. } = event.stored;
    let named = Named { name: event.name, version, recorded: event.recorded.as_ref() };
    history.take(&named).map_err(|reason| Wrong::new(position, reason))
}

pub(super) async fn looked(page: Page) -> Result<Vec<Looked>, NotVerified> {
    page.await.map_err(|error| NotVerified::Other(error.to_string()))
}

/// Checks the signature of the last checkpoint and of what the witness has, which the events then
/// have to agree with; gives the size of the last checkpoint.
async fn signed_by(
    ledger: &Ledger,
    witness: Option<Arc<dyn Witness>>,
    trusted: &[Verifier],
    judge: &mut Judge,
) -> Result<u64, NotVerified> {
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let mut conn = checkout.conn();
    let Some(last) = Checkpoints::last(&mut conn).await? else { return Ok(0) };
    let origin = match keys::origin(&mut conn).await {
        Ok(Some(origin)) => origin,
        Ok(None) => return Err(Wrong::new(1, "it is missing").into()),
        Err(Fault::Stored { .. }) => return Err(Wrong::new(1, "its id is none").into()),
        Err(fault) => return Err(fault.into()),
    };
    let own: Vec<Verifier> =
        keys::all(&mut conn).await?.iter().map(|key| key.verifier(&origin)).collect();
    let keys = if trusted.is_empty() { &own } else { trusted };
    let refused = |what: &str, why: String| NotVerified::Other(format!("{what}: {why}"));
    let checkpoint = Checkpoint::verified(&last.note, keys);
    let checkpoint =
        checkpoint.map_err(|error| refused("the last checkpoint", error.to_string()))?;
    if checkpoint.origin != origin {
        return Err(
            Wrong::new(1, "the checkpoints are of a ledger with another first event").into()
        );
    }
    if let Some(witness) = witness {
        let seen =
            witness.last().await.map_err(|error| refused("the witness", error.to_string()))?;
        if let Some(note) = seen {
            let seen = Checkpoint::verified(&note, keys);
            let seen = seen.map_err(|error| refused("the witness", error.to_string()))?;
            if seen.origin != origin {
                return Err(refused("the witness", "it is of another ledger".to_owned()));
            }
            judge.expect([seen]);
        }
    }
    Ok(last.size)
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

/// Reads a live ledger up to a position, ahead of the judge.
fn read(
    ledger: Ledger,
    to: i64,
    with_tiles: bool,
    detached: Option<Opened>,
) -> mpsc::Receiver<Result<Page, NotVerified>> {
    let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        let mut rows = match rows(ledger.clone(), to, detached).await {
            Ok(rows) => rows,
            Err(failed) => return drop(pages.send(Err(failed)).await),
        };
        while let Some(page) = rows.recv().await {
            let page = match page {
                Ok(page) if with_tiles => {
                    sealed(&ledger, &page).await.map(|sealed| (page, sealed)).map_err(Into::into)
                }
                page => page.map(|page| (page, Vec::new())),
            };
            let page =
                page.map(|(page, sealed)| tokio::task::spawn_blocking(move || look(page, &sealed)));
            let failed = page.is_err();
            if pages.send(page).await.is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The leaves of some rows that are sealed.
async fn sealed(ledger: &Ledger, page: &[Stored]) -> Result<Vec<Hash>, Fault> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(Vec::new()) };
    // Where some are missing the leaves are those of others; but that is judged first.
    let span = last.position.saturating_sub(first.position);
    if first.position < 1 || span >= PAGE as i64 {
        return Ok(Vec::new());
    }
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    tiles::of(&mut checkout.conn(), first.position, last.position).await
}

/// Reads the rows of a ledger up to a position, page by page, ahead of whoever takes them; those
/// that are away from the export that holds them, if it is at hand.
pub(super) async fn rows(
    ledger: Ledger,
    to: i64,
    detached: Option<Opened>,
) -> Result<mpsc::Receiver<Result<Vec<Stored>, NotVerified>>, NotVerified> {
    let away = ledger.away().await?;
    if let (Some(away), Some(opened)) = (&away, &detached) {
        archive::holds(opened, away)?;
    }
    let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        // Before the first there is nothing; should somebody have put something there, it is seen.
        let mut after = i64::MIN;
        if let Some(away) = away {
            // Nothing else is left of the beginning; if somebody put something there, it is seen too.
            let first = some(&ledger, after, away.last.min(to)).await;
            let first = first.map(Option::unwrap_or_default).map_err(Into::into);
            if pages.send(first).await.is_err() {
                return;
            }
            let mut own = detached.map(|opened| opened.rows(2, away.last.min(to)));
            while let Some(own) = &mut own
                && let Some(page) = own.recv().await
            {
                if pages.send(page).await.is_err() {
                    return;
                }
            }
            after = away.last;
        }
        while after < to {
            let page = match some(&ledger, after, to).await {
                Ok(Some(page)) => Ok(page),
                Ok(None) => return,
                Err(fault) => Err(fault.into()),
            };
            after = page.iter().flatten().last().map_or(to, |last: &Stored| last.position);
            if pages.send(page).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The next rows up to a position.
async fn some(ledger: &Ledger, after: i64, to: i64) -> Result<Option<Vec<Stored>>, Fault> {
    let mut page = ledger.read_stored(after, PAGE as i64).await?;
    page.retain(|stored| stored.position <= to);
    Ok(Some(page).filter(|page| !page.is_empty()))
}

/// Takes what is away by its leaves, which the tree has.
async fn pass_over(
    ledger: &Ledger,
    away: &Away,
    judge: &mut Judge,
    roots: &mut Roots,
) -> Result<(), NotVerified> {
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
