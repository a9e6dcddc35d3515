//! Judges events in order, one by one: what can be computed of each alone was computed before, on all
//! cores. [`super::verify`] feeds it a ledger or an export, and `archive` what it restores.

use std::collections::{BTreeMap, VecDeque};

use domain::{Event, Metadata, Recorded};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    history::{History, Name, Named, Part},
    merkle::{Hash, Tile, Tree},
    note::Checkpoint,
    tiles,
    verify::{NotVerified, Report, Wrong},
};
use crate::ledger::Stored;

/// An event with what could be computed of it alone.
pub(super) struct Looked {
    pub(super) stored: Stored,
    name: Name,
    leaf: Hash,
    wrong: Option<String>,
    /// Whether the tree has its leaf.
    pub(super) in_tree: bool,
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
    let in_tree = sealed.is_some();
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
    Looked { name, leaf, wrong: wrong.map(str::to_owned), in_tree, recorded, unknown, stored }
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
    /// The full tiles above the leaves.
    pub(super) above: BTreeMap<(u32, u64), Vec<Hash>>,
    pub(super) history: Option<History>,
    /// Checkpoints to come, in order of size.
    due: VecDeque<Checkpoint>,
    /// Events under the last checkpoint that was right.
    pub(super) sealed: u64,
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
            above: BTreeMap::new(),
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
    pub(super) fn take(&mut self, event: &Looked, mut full: impl FnMut(Tile)) -> Result<(), Wrong> {
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
        let above = &mut self.above;
        self.tree.push(event.leaf, |tile| {
            keep(above, &tile);
            full(tile);
        });
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
    pub(super) fn pass(&mut self, leaf: Hash) -> Result<(), Wrong> {
        self.last += 1;
        self.chain = Sha256::new().chain_update(self.chain).chain_update(leaf).finalize().into();
        let above = &mut self.above;
        self.tree.push(leaf, |tile| keep(above, &tile));
        self.report.away += 1;
        self.roots()
    }

    /// Compares the roots that are due at this size.
    fn roots(&mut self) -> Result<(), Wrong> {
        // What was right before this size: of two checkpoints of it, one may be wrong.
        let (size, agreed) = (self.tree.size(), self.sealed);
        while let Some(due) = self.due.pop_front_if(|due| due.size <= size) {
            if due.size < size || due.root != self.tree.root() {
                let reason = format!(
                    "this event, or one up to {}, is not what was signed: the checkpoint of {0} \
                     events has another root",
                    due.size
                );
                return Err(Wrong::new(tiles::signed(agreed) + 1, reason));
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

/// Keeps a full tile, if it is above the leaves: those are one for each 65,536 events.
fn keep(above: &mut BTreeMap<(u32, u64), Vec<Hash>>, tile: &Tile) {
    if tile.level > 0 {
        above.insert((tile.level, tile.number), tile.hashes.clone());
    }
}

/// Judges the history of an event in a further pass.
pub(super) fn again(history: &mut History, event: &Looked) -> Result<(), Wrong> {
    let Stored { position, version, .. } = event.stored;
    let named = Named { name: event.name, version, recorded: event.recorded.as_ref() };
    history.take(&named).map_err(|reason| Wrong::new(position, reason))
}

/// A page, once all of it is computed.
pub(super) async fn looked(page: Page) -> Result<Vec<Looked>, NotVerified> {
    page.await.map_err(|error| NotVerified::Other(error.to_string()))
}
