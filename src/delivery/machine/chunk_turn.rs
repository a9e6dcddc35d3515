//! A chunk's turn to send. A task has few of them, so a chunk whose vendor takes its time gives its
//! own back: devices of the chunks after it do not wait for that vendor. Such chunks are bounded by
//! places of their own, as what a vendor is asked for is in memory until it answers.

use std::{pin::pin, time::Duration};

use domain::{
    message::Ending,
    route::{Route, after_vendor},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{room::Place, task::Job};

/// After this, devices do not wait for what a vendor says of others.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// What a chunk holds while it sends.
pub(super) struct ChunkTurn {
    /// One of its task's turns, unless it was given back. None also if the semaphore were closed,
    /// which nobody does.
    own: Option<OwnedSemaphorePermit>,
    /// Instead, a place among the chunks whose vendor is slow.
    _slow: Option<Place>,
}

impl ChunkTurn {
    pub(super) fn of(own: Option<OwnedSemaphorePermit>) -> ChunkTurn {
        ChunkTurn { own, _slow: None }
    }

    /// Waits for what is asked of vendors, and gives the turn back while that takes its time, as soon
    /// as there is a place.
    pub(super) async fn during<T>(&mut self, job: &Job, asking: impl Future<Output = T>) -> T {
        let mut asking = pin!(asking);
        loop {
            tokio::select! {
                asked = &mut asking => return asked,
                () = job.server.clock.sleep(SLOW), if self.own.is_some() => self.give_back(job),
            }
        }
    }

    /// Gives the turn back if there is a place. Where devices get it from vendors alone it is kept:
    /// nobody gains by the next chunk's being asked for as well.
    pub(super) fn give_back(&mut self, job: &Job) {
        let online = after_vendor(job.strategy, Ending::VendorUnavailable) == Route::Online;
        if self.own.is_some()
            && online
            && let Some(place) = job.slow_place()
        {
            *self = ChunkTurn { own: None, _slow: Some(place) };
        }
    }
}
