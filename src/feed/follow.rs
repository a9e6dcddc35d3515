//! Reads the ledger in order, each event once: from memory while this node commits it and the
//! reader keeps up, from the database otherwise.

use std::{sync::Arc, time::Duration};

use domain::Recorded;
use projections::Fault;
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

use crate::ledger::{Ledger, Page};

/// Events read from the database at once.
const PAGE_EVENTS: i64 = 2_000;

/// A place in the ledger from which everything after is read in order.
pub struct Follower {
    ledger: Ledger,
    next: i64,
    groups: broadcast::Receiver<Arc<Vec<Recorded>>>,
    head: watch::Receiver<i64>,
    early: Option<Arc<Vec<Recorded>>>,
    page: i64,
    pace: Duration,
    hurried: Option<(Duration, watch::Receiver<i64>)>,
    last: Instant,
}

/// What comes next.
pub enum Batch {
    /// A group as it was committed here.
    Shared(Arc<Vec<Recorded>>),
    /// A page from the database.
    Read(Page),
}

impl Batch {
    /// The events that could be read.
    #[must_use]
    pub fn events(&self) -> &[Recorded] {
        match self {
            Batch::Shared(events) => events,
            Batch::Read(page) => &page.events,
        }
    }

    /// Position and reason of those that could not.
    #[must_use]
    pub fn unreadable(&self) -> &[(i64, String)] {
        match self {
            Batch::Shared(_) => &[],
            Batch::Read(page) => &page.unreadable,
        }
    }

    /// Position of the first event, readable or not.
    #[must_use]
    pub fn first(&self) -> i64 {
        let event = self.events().first().map(|event| event.position);
        let unreadable = self.unreadable().first().map(|(position, _)| *position);
        event.into_iter().chain(unreadable).min().unwrap_or(0)
    }

    /// Position of the last event.
    #[must_use]
    pub fn last(&self) -> i64 {
        match self {
            Batch::Shared(events) => events.last().map_or(0, |event| event.position),
            Batch::Read(page) => page.last.unwrap_or(0),
        }
    }
}

impl Follower {
    /// Follows the ledger after a position.
    #[must_use]
    pub fn new(ledger: &Ledger, after: i64) -> Follower {
        // Subscribe before anything is read, so that nothing falls in between.
        let (groups, head) = (ledger.groups(), ledger.watch());
        let (ledger, next) = (ledger.clone(), after + 1);
        let (page, pace, last) = (PAGE_EVENTS, Duration::ZERO, Instant::now());
        Follower { ledger, next, groups, head, early: None, page, pace, hurried: None, last }
    }

    /// Reads at most so many events at once from the database.
    #[must_use]
    pub fn in_pages_of(self, page: i64) -> Follower {
        Follower { page, ..self }
    }

    /// Lets some time pass between batches while many come: a reader that nobody waits for in
    /// that time works less for more. The first after a quiet time comes at once.
    #[must_use]
    pub fn paced(self, pace: Duration) -> Follower {
        Follower { pace, ..self }
    }

    /// Takes another pace while somebody waits for a position that was not read yet.
    #[must_use]
    pub fn hurried(self, pace: Duration, wanted: watch::Receiver<i64>) -> Follower {
        Follower { hurried: Some((pace, wanted)), ..self }
    }

    /// The position before the next event.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.next - 1
    }

    /// The next events; waits for some. Safe to cancel.
    ///
    /// # Errors
    /// [`Fault`] when the database fails; the next call tries again.
    pub async fn next(&mut self) -> Result<Batch, Fault> {
        loop {
            if let Some(batch) = self.ready().await? {
                self.last = Instant::now();
                return Ok(batch);
            }
            tokio::select! {
                group = self.groups.recv() => self.early = group.ok(),
                changed = self.head.changed() => if changed.is_err() {
                    // The ledger is gone: nothing will ever come.
                    std::future::pending::<()>().await;
                },
            }
            self.rest().await;
        }
    }

    /// Lets the pace pass since the last batch.
    async fn rest(&mut self) {
        if self.pace.is_zero() {
            return;
        }
        let (next, last) = (self.next, self.last);
        let paced = tokio::time::sleep_until(last + self.pace);
        match &mut self.hurried {
            None => paced.await,
            Some((pace, wanted)) => {
                let wanted = async { wanted.wait_for(|at| *at >= next).await.is_ok() };
                let early = tokio::select! {
                    () = paced => false,
                    early = wanted => early,
                };
                if early {
                    tokio::time::sleep_until(last + *pace).await;
                }
            }
        }
    }

    /// The next events, if there are any by now.
    ///
    /// # Errors
    /// [`Fault`] when the database fails; the next call tries again.
    pub async fn ready(&mut self) -> Result<Option<Batch>, Fault> {
        loop {
            let group = match self.early.take() {
                Some(group) => Some(group),
                None => match self.groups.try_recv() {
                    Ok(group) => Some(group),
                    Err(broadcast::error::TryRecvError::Lagged(_)) => continue,
                    Err(_) => None,
                },
            };
            let Some(group) = group else {
                if *self.head.borrow_and_update() < self.next {
                    return Ok(None);
                }
                return self.read().await;
            };
            let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
            if last.position < self.next {
                continue;
            }
            if first.position == self.next {
                self.next = last.position + 1;
                return Ok(Some(Batch::Shared(group)));
            }
            // Something is missing before it: read up to it, then take it.
            self.early = Some(group);
            return self.read().await;
        }
    }

    async fn read(&mut self) -> Result<Option<Batch>, Fault> {
        let page = self.ledger.read(self.next - 1, self.page).await?;
        let Some(last) = page.last else { return Ok(None) };
        self.next = last + 1;
        Ok(Some(Batch::Read(page)))
    }
}
