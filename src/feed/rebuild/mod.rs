//! Rebuilds of the views without downtime. Somebody asks for one ([`record`]); a node that gets the
//! lease makes the next generation beside the live one ([`build`]), has the pointer name it, and
//! removes the former once no node reads it. Every node follows the pointer. Whatever ends a rebuild
//! before that, a crash too, leaves the live generation as it is; the half-made one is removed.

mod build;
mod record;
mod shown;

use std::{sync::Arc, time::Duration};

use projections::{Fault, live::Generation};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    effects::{LEASE, Lease, RENEW},
    set_aside,
    views::Views,
};
use crate::{
    clock::Clock,
    ledger::{Ledger, generations::Generations},
    metrics::Metrics,
};
use build::{Built, Why, build};

pub(crate) use record::blank;
pub use record::{Rebuild, State, Status, ask, cancel, status};
pub use shown::{RebuildShown, RebuildStatus};

/// Name of the lease, and of the subscriber in the metrics.
pub const NAME: &str = "rebuild";
/// Time between two looks at the pointer, and at what is asked for.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for readers of a generation that is live no more.
const LEAVE: Duration = Duration::from_secs(60);

/// Rebuilds as a node sees and makes them.
pub struct Rebuilds {
    ledger: Ledger,
    views: Views,
    clock: Clock,
    metrics: Arc<Metrics>,
    node: Uuid,
    asked: Notify,
}

impl Rebuilds {
    /// Of a node.
    #[must_use]
    pub fn new(
        ledger: &Ledger,
        views: &Views,
        clock: &Clock,
        metrics: &Arc<Metrics>,
        node: Uuid,
    ) -> Rebuilds {
        let (ledger, views, clock) = (ledger.clone(), views.clone(), clock.clone());
        let (metrics, asked) = (Arc::clone(metrics), Notify::new());
        Rebuilds { ledger, views, clock, metrics, node, asked }
    }

    /// Asks for one; false while one is wanted or runs.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn ask(&self, keep_aside: bool) -> Result<bool, Fault> {
        let pool = &self.ledger.database().ledger_write;
        let asked = ask(pool, keep_aside, self.clock.now()).await?;
        self.asked.notify_one();
        Ok(asked)
    }

    /// Cancels it; false if none is wanted or runs.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn cancel(&self) -> Result<bool, Fault> {
        cancel(&self.ledger.database().ledger_write, self.clock.now()).await
    }

    /// Where it stands.
    ///
    /// # Errors
    /// [`Fault`] when the database fails.
    pub async fn status(&self) -> Result<Status, Fault> {
        status(&self.ledger.database().ledger_read).await
    }

    /// Follows the pointer, and makes what is asked for, until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut looked = false;
        while !stop.is_cancelled() {
            match self.look(looked, &stop).await {
                Ok(()) => looked = true,
                Err(fault) => tracing::warn!(%fault, "a rebuild could not be looked after"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.asked.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self, looked: bool, stop: &CancellationToken) -> Result<(), Fault> {
        let status = self.status().await?;
        let moved = self.follow(status.live).await?;
        if moved || !looked {
            let pool = &self.ledger.database().ledger_write;
            record::reads(pool, &self.node.to_string(), status.live).await?;
            self.metrics.views_generation(status.live);
        }
        let over = status.rebuild.is_none_or(|rebuild| rebuild.state.is_over());
        let lease = Lease::new(&self.ledger, &self.clock, NAME, self.node);
        if over && looked || !lease.hold(LEASE).await? {
            return Ok(());
        }
        let ending = stop.child_token();
        let mut working = std::pin::pin!(self.work(&ending));
        let worked = tokio::select! {
            worked = &mut working => worked,
            () = lost(&lease) => {
                ending.cancel();
                working.await
            }
        };
        // What can't be given back runs out by itself.
        let _ = lease.release().await;
        worked
    }

    /// Does what there is to do for the one node that has the lease.
    async fn work(&self, ending: &CancellationToken) -> Result<(), Fault> {
        let pool = &self.ledger.database().ledger_write;
        let status = self.status().await?;
        match status.rebuild {
            Some(Rebuild { state: State::Running, generation: Some(generation), .. }) => {
                // Whoever had the lease is gone.
                let ended = (State::Interrupted, None, None);
                record::end(pool, generation, ended, self.clock.now()).await?;
                self.metrics.rebuilt(State::Interrupted);
                self.clean(status.live).await
            }
            Some(rebuild) if rebuild.state == State::Wanted => {
                self.clean(status.live).await?;
                let before = rebuild.generation.unwrap_or(0).max(status.live);
                let there = self.ledger.database().generations.all().await?;
                let number = there.into_iter().fold(before, i64::max) + 1;
                if !record::begin(pool, number, self.clock.now()).await? {
                    return Ok(());
                }
                tracing::info!(generation = number, "the views are rebuilt");
                let built = build(self, number, rebuild.keep_aside, ending).await;
                self.metrics.lag(NAME, 0);
                match built {
                    Ok(Built::Made(generation)) => self.swap(generation).await,
                    Ok(Built::Not(why)) => self.not_made(number, why).await,
                    Err(fault) => {
                        let reason = fault.to_string();
                        self.failed(number, State::Failed, None, Some(&reason)).await
                    }
                }
            }
            _ => {
                // Whoever swapped the live one in may have died before this.
                set_aside::blank_erased(self.ledger.database()).await?;
                self.clean(status.live).await
            }
        }
    }

    async fn not_made(&self, number: i64, why: Why) -> Result<(), Fault> {
        match why {
            Why::Cancelled => self.failed(number, State::Cancelled, None, None).await,
            Why::Interrupted => self.failed(number, State::Interrupted, None, None).await,
            Why::Unfoldable(position, reason) => {
                self.failed(number, State::Failed, Some(position), Some(&reason)).await
            }
        }
    }

    /// Notes why a generation was not made, and removes what there is of it.
    async fn failed(
        &self,
        number: i64,
        state: State,
        stopped_at: Option<i64>,
        reason: Option<&str>,
    ) -> Result<(), Fault> {
        tracing::warn!(generation = number, ?state, stopped_at, "the views were not rebuilt");
        let pool = &self.ledger.database().ledger_write;
        let now = self.clock.now();
        let noted = record::end(pool, number, (state, stopped_at, reason), now).await;
        self.metrics.rebuilt(state);
        self.ledger.database().generations.remove(number).await?;
        noted
    }

    /// Has the pointer name a generation, and readers find it; removes the former.
    async fn swap(&self, next: Generation) -> Result<(), Fault> {
        let database = self.ledger.database();
        let number = next.number;
        match record::swap(&database.ledger_write, number, self.clock.now()).await {
            Ok(true) => {}
            Ok(false) => {
                next.close().await;
                return self.failed(number, State::Cancelled, None, None).await;
            }
            // Nobody knows whether the pointer names it: it stays, and the next look tells.
            Err(fault) => {
                next.close().await;
                return Err(fault);
            }
        }
        self.metrics.rebuilt(State::Done);
        let Some(former) = self.views.succeed(next).await else { return Ok(()) };
        record::reads(&database.ledger_write, &self.node.to_string(), number).await?;
        self.metrics.views_generation(number);
        tracing::info!(generation = number, "a rebuilt generation of the views is live");
        close(&former).await;
        self.until_nobody_reads(number).await?;
        // What was erased while it was made may be quoted in it.
        set_aside::blank_erased(database).await?;
        database.generations.remove(former.number).await
    }

    /// Opens the generation that the pointer names, if another node moved it, and has readers find
    /// it; false if they do already.
    async fn follow(&self, live: i64) -> Result<bool, Fault> {
        let database = self.ledger.database();
        if database.views.live().number == live {
            return Ok(false);
        }
        let next = database.generations.open(live).await?;
        let Some(former) = self.views.succeed(next).await else { return Ok(false) };
        close(&former).await;
        Ok(true)
    }

    /// Waits until every node that runs reads this generation, for a bounded time: one that does
    /// not by then is ill.
    async fn until_nobody_reads(&self, live: i64) -> Result<(), Fault> {
        let database = self.ledger.database();
        let (pool, until) = (&database.ledger_write, Instant::now() + LEAVE);
        if let Generations::Schemas(..) = database.generations {
            // A node that is just starting may have read the pointer, and not said so yet.
            tokio::time::sleep(LOOK).await;
        }
        while record::readers(pool, self.clock.now()).await?.iter().any(|at| *at != Some(live)) {
            if Instant::now() >= until {
                tracing::warn!("a node reads a former generation of the views; it is removed");
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Removes generations that nobody reads: half-made ones, and former ones.
    async fn clean(&self, live: i64) -> Result<(), Fault> {
        let database = self.ledger.database();
        record::forget_readers(&database.ledger_write, self.clock.now()).await?;
        let mut read = record::readers(&database.ledger_write, self.clock.now()).await?;
        read.extend([Some(live), Some(database.views.live().number)]);
        for number in database.generations.all().await? {
            if !read.contains(&Some(number)) {
                tracing::info!(generation = number, "a generation that nobody reads is removed");
                database.generations.remove(number).await?;
            }
        }
        Ok(())
    }
}

/// Closes a generation once its last reader is done; one that takes too long is left to it.
async fn close(former: &Generation) {
    if tokio::time::timeout(LEAVE, former.close()).await.is_err() {
        tracing::warn!(generation = former.number, "a former generation is still read");
    }
}

/// Returns once a lease is lost.
async fn lost(lease: &Lease) {
    loop {
        tokio::time::sleep(RENEW).await;
        match lease.hold(LEASE).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(fault) => tracing::warn!(%fault, "a lease could not be renewed"),
        }
    }
}
