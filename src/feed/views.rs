//! The projection runner: follows the ledger, folds each page once into every view, and commits
//! all rows together with the checkpoint, so that a view has seen each event exactly once.
//!
//! Any number of nodes may run it on one PostgreSQL: whoever holds the checkpoint's row lock folds.

use std::{pin::pin, time::Duration};

use domain::{
    Event, Recorded,
    message::{Ending, Progress, RecallResult, Recalled},
    task::chunk::{Kind, Outcome},
};
use projections::{Fault, db::Conn, on};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    effects,
    follow::{Batch, Follower},
};
use crate::{
    ledger::{Database, Ledger, Stored},
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
    let mut tx = database.views_write.begin().await?;
    let (position, event_id) = checkpoint(&mut tx.conn()).await?;
    // What is away could not be folded again, nor be compared.
    if let Some(away) = ledger.away().await?
        && position <= away.last
    {
        return Err(away.fault());
    }
    let same = match (position, event_id) {
        (0, _) => true,
        (position, event_id) => {
            let page = ledger.read(position - 1, 1).await?;
            match page.events.first().filter(|event| event.position == position) {
                Some(event) => event_id.is_some_and(|id| id == event.event_id.as_bytes()),
                // An event that this program can't read is there all the same.
                None => page.unreadable.iter().any(|(at, _)| *at == position),
            }
        }
    };
    if !same {
        if let Some(away) = ledger.away().await? {
            return Err(away.fault());
        }
        // Paused first: after a crash in between the views still say that the ledger went back.
        let mut ledger = database.ledger_write.begin().await?;
        effects::pause(&mut ledger.conn(), "the ledger was rolled back", now).await?;
        ledger.commit().await?;
        tracing::warn!("the views saw another ledger than this: it was rolled back");
    }
    let position = if same { position } else { reset(&mut tx.conn()).await? };
    tx.commit().await?;
    let (sender, receiver) = watch::channel(position);
    let wanted = watch::Sender::new(0);
    let runner = Runner { ledger: ledger.clone(), position: sender, wanted: wanted.subscribe() };
    Ok((Views { position: receiver, wanted }, runner))
}

/// Folds the ledger into the views for as long as it runs.
pub struct Runner {
    ledger: Ledger,
    position: watch::Sender<i64>,
    wanted: watch::Receiver<i64>,
}

impl Runner {
    /// Follows until told to stop. While one page is folded, the next is read.
    pub async fn run(self, metrics: std::sync::Arc<Metrics>, stop: CancellationToken) {
        let mut gatherer = self.gatherer(*self.position.borrow());
        let mut next = None;
        loop {
            let page = match next.take() {
                Some(page) => page,
                None => tokio::select! {
                    () = stop.cancelled() => return,
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
            // Another node folds: go on from where it got to.
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

    /// Folds a page; gives the position to go on from when another node has moved the views.
    async fn fold(
        &self,
        page: Gathered,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Option<i64> {
        loop {
            match fold_page(self.ledger.database(), &page).await {
                Ok(Folded::Here { aside }) => {
                    metrics.set_aside(aside);
                    count(metrics, &page.events);
                    self.position.send_replace(page.last);
                    return None;
                }
                Ok(Folded::Elsewhere(position)) => {
                    self.position.send_replace(position);
                    return Some(position);
                }
                Err(fault) => {
                    tracing::error!(%fault, "a page could not be folded; it is tried again");
                    tokio::select! {
                        () = stop.cancelled() => return None,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// A page on its way into the views.
struct Gathered {
    events: Vec<Recorded>,
    unreadable: Vec<(i64, String)>,
    first: i64,
    last: i64,
}

/// Collects whatever has been committed by now, up to a page.
struct Gatherer {
    follower: Follower,
    partial: Option<Gathered>,
}

impl Gatherer {
    /// The next page; waits for the first event of it. Safe to cancel: what was collected stays.
    async fn page(&mut self) -> Result<Gathered, Fault> {
        loop {
            let more = match &self.partial {
                None => Some(self.follower.next().await?),
                Some(page) if page.events.len() >= PAGE_EVENTS => None,
                // What can't be read now is read for the next page.
                Some(_) => self.follower.ready().await.unwrap_or_default(),
            };
            let Some(more) = more else { break };
            let page = self.partial.get_or_insert_with(|| Gathered {
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
    for page in rows.chunks(PAGE_EVENTS) {
        let (Some(first), Some(last)) = (page.first(), page.last()) else { continue };
        let (first, last) = (first.position, last.position);
        let mut gathered = Gathered { events: Vec::new(), unreadable: Vec::new(), first, last };
        for row in page {
            match row.recorded() {
                Ok(event) => gathered.events.push(event),
                Err(error) => gathered.unreadable.push((row.position, error)),
            }
        }
        if let Folded::Elsewhere(_) = fold_page(database, &gathered).await? {
            return Err(Fault::stored("views", "somebody else folds them"));
        }
    }
    Ok(())
}

enum Folded {
    /// All of it but so many events that were set aside.
    Here { aside: usize },
    /// Another node did; the views are at this position.
    Elsewhere(i64),
}

async fn fold_page(database: &Database, page: &Gathered) -> Result<Folded, Fault> {
    let mut tx = database.views_write.begin().await?;
    let (position, _) = checkpoint(&mut tx.conn()).await?;
    if position != page.first - 1 {
        return Ok(Folded::Elsewhere(position));
    }
    let event_id = page.events.last().filter(|event| event.position == page.last);
    let event_id = event_id.map(|event| event.event_id.as_bytes().to_vec());
    let mut aside = page.unreadable.clone();
    match projections::apply(&mut tx.conn(), &page.events).await {
        Ok(()) => {}
        Err(fault @ Fault::Stored { .. }) => {
            drop(tx);
            tx = database.views_write.begin().await?;
            aside.extend(one_by_one(&mut tx.conn(), &page.events, fault).await?);
        }
        Err(fault) => return Err(fault),
    }
    for (position, error) in &aside {
        tracing::error!(position, error, "an event was set aside");
        const SQL: &str = "INSERT INTO set_aside (position, error) VALUES ($1, $2)";
        on!(tx.conn(), c => {
            sqlx::query(SQL).bind(*position).bind(error).execute(&mut *c).await?.rows_affected()
        });
    }
    const SQL: &str = "UPDATE checkpoint SET position = $1, event_id = $2";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(page.last).bind(event_id).execute(&mut *c).await?.rows_affected()
    });
    tx.commit().await?;
    Ok(Folded::Here { aside: aside.len() })
}

/// Folds a page event by event, to find those that no view can fold.
async fn one_by_one(
    conn: &mut Conn<'_>,
    events: &[Recorded],
    fault: Fault,
) -> Result<Vec<(i64, String)>, Fault> {
    tracing::error!(%fault, "a page is folded event by event");
    let mut aside = Vec::new();
    for event in events {
        match projections::apply(conn, std::slice::from_ref(event)).await {
            Ok(()) => {}
            Err(fault @ Fault::Stored { .. }) => aside.push((event.position, fault.to_string())),
            Err(fault) => return Err(fault),
        }
    }
    Ok(aside)
}

/// Reads and locks the checkpoint.
async fn checkpoint(conn: &mut Conn<'_>) -> Result<(i64, Option<Vec<u8>>), Fault> {
    const SQL: projections::db::Sql = projections::db::Sql {
        sqlite: "SELECT position, event_id FROM checkpoint",
        postgres: "SELECT position, event_id FROM checkpoint FOR UPDATE",
    };
    let sql = conn.text(SQL);
    Ok(on!(conn.again(), c => sqlx::query_as(sql).fetch_one(&mut *c).await?))
}

/// Empties the views.
async fn reset(conn: &mut Conn<'_>) -> Result<i64, Fault> {
    for table in projections::TABLES.iter().chain(&["set_aside"]) {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
        on!(conn.again(), c => sqlx::query(sql).execute(&mut *c).await?.rows_affected());
    }
    const SQL: &str = "UPDATE checkpoint SET position = 0, event_id = NULL";
    on!(conn.again(), c => sqlx::query(SQL).execute(&mut *c).await?.rows_affected());
    Ok(0)
}

/// What an outcome of a chunk counts as.
fn progress(kind: Kind) -> Option<Progress> {
    match (kind.outcome, kind.reason) {
        (Outcome::Sent, _) => Some(Progress::Sent),
        (Outcome::Ended, Some(reason)) => Some(Progress::Ended(reason)),
        (Outcome::Online, Some(reason)) => Some(Progress::Failed(reason)),
        (Outcome::Ended | Outcome::Online | Outcome::Retrying, _) => None,
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
