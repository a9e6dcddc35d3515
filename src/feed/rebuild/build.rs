//! Makes the next generation of the views: folds the ledger from position 1 into it, by the code
//! that folds the live one, while that goes on. It never overtakes the live one on this node, so
//! that each event is counted once, and gives it over when less than a page is missing.

use std::{collections::BTreeSet, time::Duration};

use projections::{Fault, db::Pool, live::Generation};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Rebuilds, record};
use crate::{
    feed::{
        fold::{Folded, Page, Unfoldable, checkpoint, fold},
        set_aside,
        views::PAGE_EVENTS,
    },
    ledger::may_pass,
};

/// Time between two notes of how far it is; a cancellation is seen as soon.
const NOTE: Duration = Duration::from_millis(250);
/// Faults of the database that may pass, one after the other, after which it is given up, and the
/// pause between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Events of a page.
#[expect(clippy::cast_possible_wrap, reason = "some thousand")]
const PAGE: i64 = PAGE_EVENTS as i64;

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
        let (mut after, mut next, mut faults) = (position(views).await?, None, 0);
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
            match self.fold_page(views, after, next.take(), target).await {
                Ok(Step::To(position, ahead)) => (after, next, faults) = (position, ahead, 0),
                Ok(Step::Unfoldable(at, reason)) => {
                    return Ok(Some(Why::Unfoldable(at, reason)));
                }
                Err(fault) if faults < TRIES && may_pass(&fault) => {
                    tracing::warn!(%fault, "a page of a rebuild could not be folded");
                    faults += 1;
                    tokio::time::sleep(PAUSE).await;
                    after = position(views).await?;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Folds a page, and reads the one after it meanwhile.
    async fn fold_page(
        &self,
        views: &Pool,
        after: i64,
        page: Option<Page>,
        target: i64,
    ) -> Result<Step, Fault> {
        let page = match page {
            Some(page) => page,
            None => self
                .read(after, target)
                .await?
                .ok_or_else(|| Fault::stored("ledger", "ends before the views"))?,
        };
        let folding = fold(views, &page, Unfoldable::Stops(&self.but));
        let (folded, ahead) = tokio::join!(folding, self.read(page.last, target));
        match folded? {
            Folded::Here { .. } => Ok(Step::To(page.last, ahead?)),
            Folded::Elsewhere(_) => Err(Fault::stored("generation", "somebody else makes it too")),
            Folded::Stopped(position, reason) => Ok(Step::Unfoldable(position, reason)),
        }
    }

    async fn read(&self, after: i64, target: i64) -> Result<Option<Page>, Fault> {
        if after >= target {
            return Ok(None);
        }
        let limit = PAGE.min(target - after);
        Ok(Page::read(after, self.rebuilds.ledger.read(after, limit).await?))
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
    /// It is folded; the next one was read already.
    To(i64, Option<Page>),
    /// The event at a position cannot be folded.
    Unfoldable(i64, String),
}

async fn position(views: &Pool) -> Result<i64, Fault> {
    let mut tx = views.begin().await?;
    Ok(checkpoint(&mut tx.conn()).await?.0)
}
