//! The views as readers find them. They are made in generations, of which one is live: a rebuild
//! makes the next beside it, and then takes its place, while readers go on. So nobody keeps a pool
//! of the views; whoever reads asks here each time for a connection.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    Fault,
    db::{Checkout, Pool, Tx},
};

/// One generation of the views, open.
#[derive(Debug)]
pub struct Generation {
    /// 1, 2, 3, …
    pub number: i64,
    /// Where it is read.
    pub read: Pool,
    /// Where events are folded into it: one connection.
    pub write: Pool,
}

impl Generation {
    /// Closes every connection, waiting for those in use.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// The generation that is live, whichever it is by now; cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveViews(Arc<RwLock<Arc<Generation>>>);

impl LiveViews {
    /// The views, of which this generation is live.
    #[must_use]
    pub fn new(live: Generation) -> LiveViews {
        LiveViews(Arc::new(RwLock::new(Arc::new(live))))
    }

    /// The live generation. It may be closed at any time, once another is: do not keep it.
    #[must_use]
    pub fn live(&self) -> Arc<Generation> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes another generation the live one; gives the former, which new readers do not see.
    #[must_use]
    pub fn succeed(&self, next: Generation) -> Arc<Generation> {
        let mut live = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *live, Arc::new(next))
    }

    /// Takes a connection that reads.
    ///
    /// # Errors
    /// [`Fault::Database`] if none is to be had.
    pub async fn checkout(&self) -> Result<Checkout, Fault> {
        loop {
            let live = self.live();
            match live.read.checkout().await {
                Err(fault) if self.went(&live, &fault) => {}
                checkout => return checkout,
            }
        }
    }

    /// Begins a transaction that only reads, and sees one moment of the views. It is to be short.
    ///
    /// # Errors
    /// [`Fault::Database`] if it cannot begin.
    pub async fn snapshot(&self) -> Result<Tx, Fault> {
        loop {
            let live = self.live();
            match live.read.snapshot().await {
                Err(fault) if self.went(&live, &fault) => {}
                snapshot => return snapshot,
            }
        }
    }

    /// Begins a transaction that writes.
    ///
    /// # Errors
    /// [`Fault::Database`] if it cannot begin.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        loop {
            let live = self.live();
            match live.write.begin().await {
                Err(fault) if self.went(&live, &fault) => {}
                tx => return tx,
            }
        }
    }

    /// Whether a generation failed only because another took its place in this very moment.
    fn went(&self, generation: &Generation, fault: &Fault) -> bool {
        let closed = matches!(fault, Fault::Database(sqlx::Error::PoolClosed));
        closed && self.live().number != generation.number
    }

    /// Closes the live generation.
    pub async fn close(&self) {
        self.live().close().await;
    }
}
