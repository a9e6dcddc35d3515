//! One call of an attempt at a chunk: when it may be made, for whom it still has to be, and what the
//! vendor says of each.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use domain::device::Binding;
use projections::Fault;

use super::{
    lane::{Closed, Once, Turn, VendorLane},
    task::Job,
};

/// A device with the ways to it over vendors that are still to be tried, best first.
pub(super) struct Candidate {
    pub(super) number: i64,
    pub(super) ways: Vec<(Arc<VendorLane>, Binding)>,
}

pub(super) type Batch = Vec<(Candidate, Binding)>;

/// One call, and what it came to.
pub(super) struct Called {
    pub(super) lane: Arc<VendorLane>,
    pub(super) batch: Batch,
    pub(super) said: Vec<Once>,
    /// The batch's idempotency key by its hash, if it is to be sent again as it was.
    pub(super) key: Option<(u64, String)>,
}

/// Makes one call of a chunk's attempt, for those of a batch who still wait for the vendor.
pub(super) async fn call(
    job: &Job,
    (chunk, attempt): (i64, u32),
    lane: Arc<VendorLane>,
    mut batch: Batch,
    mut key: Option<String>,
) -> Called {
    let expires_at = job.started.expires_at;
    // A chunk does not wait here for a vendor that is left alone: others have their turn, and what of
    // it goes another way is recorded now.
    let place = tokio::select! {
        () = job.cancelled.cancelled() => None,
        place = lane.enter(&job.server, expires_at) => Some(place),
    };
    if matches!(&place, Some(Ok(place)) if place.waited) {
        let all = batch.len();
        batch = job.still_wanted(chunk, batch).await;
        // A part that is sent again is another call than the whole.
        key = key.filter(|_| batch.len() == all);
    }
    let said = match &place {
        // Nothing that is recorded of a cancelled task is tried again.
        None => vec![Once::Again(0); batch.len()],
        Some(Err(Closed::ForGood(said))) => vec![Once::Said(said.clone()); batch.len()],
        Some(Err(Closed::Until(at))) => {
            vec![Once::Unasked(at - job.server.clock.now()); batch.len()]
        }
        Some(Ok(_)) => job.said(&lane, &batch, attempt, &mut key).await,
    };
    drop(place);
    let again = said.iter().all(|said| !matches!(said, Once::Said(_)));
    let key = key.filter(|_| again).map(|key| (hash_of(&batch), key));
    Called { lane, batch, said, key }
}

/// The hash of a batch's tokens.
pub(super) fn hash_of(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    batch.iter().for_each(|(_, binding)| binding.token.hash(&mut hasher));
    hasher.finish()
}

impl Job {
    /// Which devices of a chunk still wait for a vendor, as the ledger has it now: none that has it
    /// by another way, and all before the first attempt is recorded.
    pub(super) async fn wanted(&self, chunk: i64) -> Result<impl Fn(i64) -> bool + use<>, Fault> {
        let states = self.recorded(chunk).await?.map(|chunk| chunk.deliveries());
        Ok(move |device| match &states {
            Some(states) => states.get(&device).is_some_and(|state| state.open()),
            None => true,
        })
    }

    /// Those of a batch who still wait for a vendor.
    async fn still_wanted(&self, chunk: i64, mut batch: Batch) -> Batch {
        match self.wanted(chunk).await {
            Ok(wanted) => batch.retain(|(candidate, _)| wanted(candidate.number)),
            // Twice is better than never.
            Err(fault) => tracing::warn!(%fault, task = %self.id, "a chunk could not be looked at"),
        }
        batch
    }

    /// What a vendor says of a batch at once.
    async fn said(
        &self,
        lane: &VendorLane,
        batch: &Batch,
        attempt: u32,
        key: &mut Option<String>,
    ) -> Vec<Once> {
        if batch.is_empty() {
            return Vec::new();
        }
        match self.wording.of(lane, self.server.clock.now()) {
            Ok(template) => {
                let tokens: Vec<&str> = batch.iter().map(|(_, b)| b.token.as_str()).collect();
                let expires_at = self.started.expires_at;
                let turn = Turn { message: self.id, attempt, expires_at };
                lane.once(&self.server, &template, &tokens, turn, key).await
            }
            Err(said) => vec![Once::Said(said); batch.len()],
        }
    }
}
