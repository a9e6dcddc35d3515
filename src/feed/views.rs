//! The projection runner: follows the ledger and [folds](super::fold) each page once into every view
//! of the live generation. Any number of nodes may run it on one PostgreSQL: whoever holds the
//! checkpoint's row lock folds. A [rebuild](super::rebuild) hands in the next generation.

use std::{pin::pin, sync::Arc, time::Duration};

use domain::{
    Event, Recorded,
    message::{Ending, Progress, RecallResult, Recalled},
    task::chunk::{Kind, Outcome},
};
use projections::{Fault, db::Pool, live::Generation};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    effects,
    fold::{Folded, Page, Unfoldable, checkpoint, fold, reset},
    follow::{Batch, Follower},
};
use crate::{
    ledger::{Database, Ledger, Stored, generations::Checkpoint},
    metrics::Metrics,
};

/// Events folded in one transaction.
const PAGE_EVENTS: usize = 4_000;
/// Time between two folds while events keep coming: many that fold into the same pages of the
/// database cost little more than one, and what comes and goes in between costs nothing.
const PACE: Duration = Duration::from_millis(100);
/// The same while somebody waits for the views.
const PACE_WANTED: Duration = Duration::from_millis(20);
/// Pause after a fault, and before the checkpoint is looked at again when another node folds.
const PAUSE: Duration = Duration::from_millis(200);

/// How far the views have read.
#[derive(Debug, Clone)]
pub struct Views {
    position: watch::Receiver<i64>,
    wanted: watch::Sender<i64>,
    successor: mpsc::Sender<Successor>,
}

/// The position was not reached in time.
#[derive(Debug, thiserror::Error)]
#[error("the views have not reached that position yet")]
pub struct Behind;

impl Views {
    /// Returns once the views have read up to a position.
    ///
    /// # Errors
    /// [`Behind`] when they have not after `within`.
    pub async fn reached(&self, position: i64, within: Duration) -> Result<(), Behind> {
        let mut views = self.position.clone();
        if *views.borrow() < position {
            self.wanted.send_if_modified(|wanted| {
                let more = position > *wanted;
                *wanted = position.max(*wanted);
                more
            });
        }
        match tokio::time::timeout(within, views.wait_for(|at| *at >= position)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Behind),
        }
    }

    /// Position that the views include.
    #[must_use]
    pub fn position(&self) -> i64 {
        *self.position.borrow()
    }

    /// Has another generation take the place of the live one, once it knows as much; gives the
    /// former, which nobody finds any more, or nothing if the views stop.
    pub(super) async fn succeed(&self, next: Generation) -> Option<Arc<Generation>> {
        let (give, former) = oneshot::channel();
        self.successor.send((next, give)).await.ok()?;
        former.await.ok()
    }

    /// Told whenever the views move on from here.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<i64> {
        let mut views = self.position.clone();
        views.mark_unchanged();
        views
    }
}

/// Prepares the runner: reads the checkpoint, and starts the views over if they belong to another
/// ledger than this one. As that means that the ledger was rolled back, effects are paused: what is
/// missing here may have been sent to vendors and apps before.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn start(ledger: &Ledger, now: i64) -> Result<(Views, Runner), Fault> {
    let database = ledger.database();
    let live = database.views.live().number;
    // The pointer may have gone back with the ledger: then another generation tells of it.
    let mut strange = Vec::new();
    for number in database.generations.all().await?.into_iter().filter(|n| *n != live) {
        match database.generations.checkpoint(number).await {
            Ok(checkpoint) => match is_of(ledger, &checkpoint).await {
                Ok(true) => {}
                Ok(false) => strange.push(number),
                // What it read last is away: one that was being made then tells nothing.
                Err(Fault::Detached { .. }) => {}
                Err(fault) => return Err(fault),
            },
            // One that was being made when the process died tells nothing either.
            Err(fault) => tracing::warn!(number, %fault, "a generation of the views is not whole"),
        }
    }
    let mut tx = database.views.begin().await?;
    let checkpoint = checkpoint(&mut tx.conn()).await?;
    let same = is_of(ledger, &checkpoint).await?;
    // What is away could not be folded again, nor be compared.
    if let Some(away) = ledger.away().await?
        && (checkpoint.0 <= away.last || !same || !strange.is_empty())
    {
        return Err(away.fault());
    }
    if !same || !strange.is_empty() {
        // Paused first: after a crash in between the views still say that the ledger went back.
        let mut ledger = database.ledger_write.begin().await?;
        effects::pause(&mut ledger.conn(), "the ledger was rolled back", now).await?;
        ledger.commit().await?;
        tracing::warn!("the views saw another ledger than this: it was rolled back");
    }
    let mut position = checkpoint.0;
    if !same {
        reset(&mut tx.conn()).await?;
        position = 0;
    }
    tx.commit().await?;
    for number in strange {
        database.generations.remove(number).await?;
    }
    let (sender, receiver) = watch::channel(position);
    let wanted = watch::Sender::new(0);
    let (successor, successors) = mpsc::channel(1);
    let runner =
        Runner { ledger: ledger.clone(), position: sender, wanted: wanted.subscribe(), successors };
    Ok((Views { position: receiver, wanted, successor }, runner))
}

/// How far the live generation has read, if what it read is this ledger.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn position(ledger: &Ledger) -> Result<Option<i64>, Fault> {
    let mut tx = ledger.database().views.begin().await?;
    let read = checkpoint(&mut tx.conn()).await?;
    drop(tx);
    Ok(is_of(ledger, &read).await?.then_some(read.0))
}

/// Whether a checkpoint is of this ledger.
async fn is_of(ledger: &Ledger, (position, event_id): &Checkpoint) -> Result<bool, Fault> {
    let position = *position;
    if position == 0 {
        return Ok(true);
    }
    let page = ledger.read(position - 1, 1).await?;
    Ok(match page.events.first().filter(|event| event.position == position) {
        // Without an id it could not be read then, and another version of the program can.
        Some(event) => event_id.as_ref().is_none_or(|id| id == event.event_id.as_bytes()),
        // An event that this program can't read is there all the same.
        None => page.unreadable.iter().any(|(at, _)| *at == position),
    })
}

/// A generation that is to be live, and where to give back the former.
type Successor = (Generation, oneshot::Sender<Arc<Generation>>);

/// Folds the ledger into the live generation of the views for as long as it runs.
pub struct Runner {
    ledger: Ledger,
    position: watch::Sender<i64>,
    wanted: watch::Receiver<i64>,
    successors: mpsc::Receiver<Successor>,
}

impl Runner {
    /// Follows until told to stop. While one page is folded, the next is read.
    pub async fn run(mut self, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut gatherer = self.gatherer(*self.position.borrow());
        let mut next = None;
        loop {
            let page = match next.take() {
                Some(page) => page,
                None => tokio::select! {
                    () = stop.cancelled() => return,
                    Some(successor) = self.successors.recv() => {
                        let Some(position) = self.succeed(successor, &metrics, &stop).await else {
                            return;
                        };
                        gatherer = self.gatherer(position);
                        continue;
                    }
                    page = gatherer.page() => page,
                },
            };
            let page = match page {
                Ok(page) => page,
                Err(fault) => {
                    tracing::error!(%fault, "the views cannot read the ledger");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let mut folding = pin!(self.fold(page, &metrics, &stop));
            let moved = loop {
                tokio::select! {
                    moved = &mut folding => break moved,
                    page = gatherer.page(), if next.is_none() => next = Some(page),
                }
            };
            // Another node folds: go on from where it got to. Or another generation is to be live,
            // and what was read ahead is read again.
            if let Some(position) = moved {
                next = None;
                gatherer = self.gatherer(position);
            }
        }
    }

    fn gatherer(&self, position: i64) -> Gatherer {
        let follower = Follower::new(&self.ledger, position).paced(PACE);
        let follower = follower.hurried(PACE_WANTED, self.wanted.clone());
        Gatherer { follower, partial: None }
    }

    /// Folds a page; gives the position to go on from when another node has moved the views, or
    /// another generation waits.
    async fn fold(&self, page: Page, metrics: &Metrics, stop: &CancellationToken) -> Option<i64> {
        loop {
            let live = self.ledger.database().views.live();
            match fold(&live.write, &page, Unfoldable::SetAside).await {
                Ok(Folded::Here { aside }) => {
                    metrics.set_aside(aside);
                    count(metrics, &page.events);
                    self.position.send_replace(page.last);
                    return (!self.successors.is_empty()).then_some(page.last);
                }
                Ok(Folded::Elsewhere(position)) => {
                    self.position.send_replace(position);
                    return Some(position);
                }
                // Another generation may do better: it is let in.
                Ok(Folded::Stopped(..)) | Err(_) if !self.successors.is_empty() => {
                    return Some(*self.position.borrow());
                }
                Ok(Folded::Stopped(position, reason)) => {
                    tracing::error!(position, reason, "a page could not be folded");
                }
                Err(fault) => {
                    tracing::error!(%fault, "a page could not be folded; it is tried again");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Makes another generation the live one, as soon as it knows all that this one was said to
    /// know; gives the position to go on from, or nothing when told to stop before.
    async fn succeed(
        &self,
        (next, former): Successor,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Option<i64> {
        let known = *self.position.borrow();
        let position = loop {
            match catch_up(&self.ledger, &next.write, known, metrics).await {
                Ok(position) if position >= known => break position,
                Ok(_) => {}
                Err(fault) => {
                    tracing::error!(%fault, "a generation of the views could not catch up");
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        };
        let live = self.ledger.database().views.succeed(next);
        self.position.send_replace(position);
        // Whoever asked may be gone; then the former closes with its last reader.
        let _ = former.send(live);
        Some(position)
    }
}

/// Folds a page, on the way up to a position, into a generation that is to be live; gives where it
/// is then. What the former generation folded is counted, so it is not counted again.
async fn catch_up(
    ledger: &Ledger,
    views: &Pool,
    known: i64,
    metrics: &Metrics,
) -> Result<i64, Fault> {
    let mut tx = views.begin().await?;
    let (position, _) = checkpoint(&mut tx.conn()).await?;
    drop(tx);
    if position >= known {
        return Ok(position);
    }
    let limit = i64::try_from(PAGE_EVENTS).unwrap_or(i64::MAX).min(known - position);
    let page = Page::read(position, ledger.read(position, limit).await?);
    let page = page.ok_or_else(|| Fault::stored("page", "empty"))?;
    match fold(views, &page, Unfoldable::SetAside).await? {
        Folded::Here { aside } => {
            metrics.set_aside(aside);
            Ok(page.last)
        }
        Folded::Elsewhere(position) => Ok(position),
        Folded::Stopped(position, reason) => {
            Err(Fault::stored("event", format!("at {position}: {reason}")))
        }
    }
}

/// Collects whatever has been committed by now, up to a page.
struct Gatherer {
    follower: Follower,
    partial: Option<Page>,
}

impl Gatherer {
    /// The next page; waits for the first event of it. Safe to cancel: what was collected stays.
    async fn page(&mut self) -> Result<Page, Fault> {
        loop {
            let more = match &self.partial {
                None => Some(self.follower.next().await?),
                Some(page) if page.events.len() >= PAGE_EVENTS => None,
                // What can't be read now is read for the next page.
                Some(_) => self.follower.ready().await.unwrap_or_default(),
            };
            let Some(more) = more else { break };
            let page = self.partial.get_or_insert_with(|| Page {
                events: Vec::new(),
                unreadable: Vec::new(),
                first: more.first(),
                last: 0,
            });
            page.last = more.last();
            page.unreadable.extend_from_slice(more.unreadable());
            match more {
                Batch::Shared(events) => page.events.extend(events.iter().cloned()),
                Batch::Read(read) => page.events.extend(read.events),
            }
        }
        self.partial.take().ok_or_else(|| Fault::stored("page", "empty"))
    }
}

/// Folds events that are away into views that have read nothing yet: rows in order, from position 1.
///
/// # Errors
/// [`Fault`] when the database fails, or the views have read other events.
pub async fn fold_rows(database: &Database, rows: &[Stored]) -> Result<(), Fault> {
    let views = database.views.live();
    for page in rows.chunks(PAGE_EVENTS) {
        let (Some(first), Some(last)) = (page.first(), page.last()) else { continue };
        let (first, last) = (first.position, last.position);
        let mut gathered = Page { events: Vec::new(), unreadable: Vec::new(), first, last };
        for row in page {
            match row.recorded() {
                Ok(event) => gathered.events.push(event),
                Err(error) => gathered.unreadable.push((row.position, error)),
            }
        }
        if let Folded::Elsewhere(_) = fold(&views.write, &gathered, Unfoldable::SetAside).await? {
            return Err(Fault::stored("views", "somebody else folds them"));
        }
    }
    Ok(())
}

/// What an outcome of a chunk counts as.
fn progress(kind: Kind) -> Option<Progress> {
    match (kind.outcome, kind.reason) {
        (Outcome::Sent, _) => Some(Progress::Sent),
        (Outcome::Ended, Some(reason)) => Some(Progress::Ended(reason)),
        (Outcome::Online, Some(reason)) => Some(Progress::Failed(reason)),
        (Outcome::Ended | Outcome::Online | Outcome::Retrying | Outcome::Either, _) => None,
    }
}

fn count(metrics: &Metrics, events: &[Recorded]) {
    for event in events {
        match &event.event {
            Event::MessageAccepted(e) => metrics.accepted(e.targets.len()),
            Event::ChunkDelivered(e) => e.counts.iter().for_each(|count| {
                let devices = count.devices.into();
                if e.attempt == 1 {
                    metrics.accepted(usize::try_from(count.devices).unwrap_or(usize::MAX));
                }
                if let Some(what) = progress(count.kind) {
                    metrics.advanced_many(what, devices);
                }
            }),
            Event::DeliveriesAdvanced(e) => e.steps.iter().for_each(|s| metrics.advanced(s.what)),
            Event::RecallRequested(e) => {
                let stopped = |r: &&Recalled| r.result == RecallResult::StoppedBeforeSending;
                let stopped = e.results.iter().filter(stopped);
                stopped.for_each(|_| metrics.advanced(Progress::Ended(Ending::Recalled)));
            }
            _ => {}
        }
    }
}
