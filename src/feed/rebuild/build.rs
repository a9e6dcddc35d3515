//! Makes the next generation of the views: folds the ledger from position 1 into it, by the code
//! that folds the live one, while that goes on. It never overtakes the live one on this node, so
//! that each event is counted once, and gives it over when less than a page is missing.

use std::{collections::BTreeSet, time::Duration};

use projections::{Fault, db::Pool, live::Generation};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Rebuilds, record};
use crate::{
    feed::{
        fold::{Folded, Page, Unfoldable, checkpoint, fold},
        set_aside,
    },
    ledger::may_pass,
};

/// Time between two notes of how far it is; a cancellation is seen as soon.
const NOTE: Duration = Duration::from_millis(250);
/// Faults of the database that may pass, one after the other, after which it is given up, and the
/// pause between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Events of a page: more than the live views fold at once, as nobody waits for them. What a message
/// went through within a page is written once, and nothing of it is read again.
const PAGE: i64 = 32_000;
/// Pages that are read and decoded ahead.
const AHEAD: usize = 1;

/// What came of it.
pub(super) enum Built {
    /// It can be made live.
    Made(Generation),
    /// It stopped.
    Not(Why),
}

/// Why a generation was not made.
pub(super) enum Why {
    /// Somebody cancelled it, or took it over.
    Cancelled,
    /// This node ends, or lost its lease.
    Interrupted,
    /// No view can fold the event at this position, for this reason.
    Unfoldable(i64, String),
}

/// One generation on its way.
struct Making<'a> {
    rebuilds: &'a Rebuilds,
    number: i64,
    but: BTreeSet<i64>,
    begun: Instant,
    ending: &'a CancellationToken,
}

/// Makes a generation.
pub(super) async fn build(
    rebuilds: &Rebuilds,
    number: i64,
    keep_aside: bool,
    ending: &CancellationToken,
) -> Result<Built, Fault> {
    let database = rebuilds.ledger.database();
    let but = match keep_aside {
        true => set_aside::positions(&database.views).await?.into_iter().collect(),
        false => BTreeSet::new(),
    };
    let making = Making { rebuilds, number, but, begun: Instant::now(), ending };
    let views = database.generations.open_to_make(number).await?;
    let stopped = making.fold_up(&views).await;
    views.close().await;
    if let Some(why) = stopped? {
        return Ok(Built::Not(why));
    }
    database.generations.finish(number).await?;
    let generation = database.generations.open(number).await?;
    // What came while all that was written out.
    match making.fold_up(&generation.write).await {
        Ok(None) => Ok(Built::Made(generation)),
        Ok(Some(why)) => {
            generation.close().await;
            Ok(Built::Not(why))
        }
        Err(fault) => {
            generation.close().await;
            Err(fault)
        }
    }
}

impl Making<'_> {
    /// Folds until less than a page is missing, and no event of those that were there when that was
    /// so for the first time; or gives why it stopped.
    async fn fold_up(&self, views: &Pool) -> Result<Option<Why>, Fault> {
        let (mut after, mut faults) = (position(views).await?, 0);
        let mut pages = self.read_ahead(after);
        let (mut goal, mut noted) = (None, None::<Instant>);
        loop {
            let target = self.rebuilds.views.position();
            if noted.is_none_or(|at| at.elapsed() >= NOTE) {
                if !self.note(after, target).await? {
                    return Ok(Some(Why::Cancelled));
                }
                noted = Some(Instant::now());
            }
            if target - after < PAGE {
                goal.get_or_insert(target);
            }
            if goal.is_some_and(|goal| after >= goal) {
                let still_wanted = self.note(after, target.max(after)).await?;
                return Ok((!still_wanted).then_some(Why::Cancelled));
            }
            if self.ending.is_cancelled() {
                return Ok(Some(Why::Interrupted));
            }
            let folded = match pages.recv().await {
                Some(Ok(page)) => self.fold_page(views, &page).await,
                Some(Err(fault)) => Err(fault),
                None => {
                    pages = self.read_ahead(after);
                    continue;
                }
            };
            match folded {
                Ok(Step::To(position)) => (after, faults) = (position, 0),
                Ok(Step::Unfoldable(at, reason)) => {
                    return Ok(Some(Why::Unfoldable(at, reason)));
                }
                Err(fault) if faults < TRIES && may_pass(&fault) => {
                    tracing::warn!(%fault, "a page of a rebuild could not be folded");
                    faults += 1;
                    tokio::time::sleep(PAUSE).await;
                    after = position(views).await?;
                    pages = self.read_ahead(after);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Folds a page.
    async fn fold_page(&self, views: &Pool, page: &Page) -> Result<Step, Fault> {
        match fold(views, page, Unfoldable::Stops(&self.but)).await? {
            Folded::Here { .. } => Ok(Step::To(page.last)),
            Folded::Elsewhere(_) => Err(Fault::stored("generation", "somebody else makes it too")),
            Folded::Stopped(position, reason) => Ok(Step::Unfoldable(position, reason)),
        }
    }

    /// Reads and decodes what comes after a position, up to where the live views are by then, on a
    /// task of its own: while a page is written, the other core has the next ones ready. It ends
    /// with the first fault, or when nobody takes the pages any more.
    fn read_ahead(&self, mut after: i64) -> mpsc::Receiver<Result<Page, Fault>> {
        let (ledger, live) = (self.rebuilds.ledger.clone(), self.rebuilds.views.clone());
        let (give, pages) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            loop {
                let limit = PAGE.min(live.position() - after);
                if limit <= 0 {
                    return;
                }
                let page = ledger.read(after, limit).await.and_then(|page| {
                    Page::read(after, page)
                        .ok_or_else(|| Fault::stored("ledger", "ends before the views"))
                });
                let last = page.as_ref().ok().map(|page| page.last);
                let (Ok(()), Some(last)) = (give.send(page).await, last) else { return };
                after = last;
            }
        });
        pages
    }

    async fn note(&self, position: i64, target: i64) -> Result<bool, Fault> {
        let millis = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let rate = position.saturating_mul(1_000) / millis.max(1);
        self.rebuilds.metrics.lag(super::NAME, target - position);
        let ledger = &self.rebuilds.ledger.database().ledger_write;
        record::note(ledger, self.number, (position, target, rate)).await
    }
}

/// What came of a page.
enum Step {
    /// The generation is at this position.
    To(i64),
    /// The event at a position cannot be folded.
    Unfoldable(i64, String),
}

async fn position(views: &Pool) -> Result<i64, Fault> {
    let mut tx = views.begin().await?;
    Ok(checkpoint(&mut tx.conn()).await?.0)
}
