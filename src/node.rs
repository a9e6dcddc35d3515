//! The number of a node, which is part of the message ids that it makes: claimed at the start by a
//! lease, kept while the node runs, and replaced by another if it is lost.

use std::{sync::Arc, time::Duration};

use projections::Fault;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    app::Server,
    clock::Clock,
    feed::effects::{Lease, RENEW},
    ids::NODES,
    ledger::Ledger,
};

/// How long a node's number stays its own without being renewed.
const NUMBER_LEASE: Duration = Duration::from_secs(60);

/// A number that a node has.
pub struct Number {
    lease: Lease,
    clock: Clock,
    /// 0 to 999.
    pub number: i64,
    /// When it was last claimed or renewed, in µs: whoever had it before had it until an earlier
    /// millisecond.
    pub since: i64,
    /// Until when it is the node's, in µs.
    pub until: i64,
}

impl Number {
    /// The first number that no other node has.
    ///
    /// # Errors
    /// [`Fault`] when the database fails, or all are taken.
    pub async fn claim(ledger: &Ledger, clock: &Clock, node: Uuid) -> Result<Number, Fault> {
        for number in 0..NODES {
            let lease = Lease::new(ledger, clock, &format!("node/{number:03}"), node);
            let mut own = Number { lease, clock: clock.clone(), number, since: 0, until: 0 };
            if own.renew().await? {
                return Ok(own);
            }
        }
        Err(Fault::stored("node number", "all are taken"))
    }

    /// Has the number for a while longer; false if another node has it.
    async fn renew(&mut self) -> Result<bool, Fault> {
        let now = self.clock.now();
        let held = self.lease.hold_at(now, NUMBER_LEASE).await?;
        if held {
            let length = i64::try_from(NUMBER_LEASE.as_micros()).unwrap_or(i64::MAX);
            (self.since, self.until) = (now, now.saturating_add(length));
        }
        Ok(held)
    }
}

/// Renews the number until told to stop. One that another node took is given up at once, for
/// another; one that cannot be renewed is not used after its time.
pub async fn keep(server: Arc<Server>, node: Uuid, number: Number, stop: CancellationToken) {
    let pause = i64::try_from(RENEW.as_micros()).unwrap_or(i64::MAX);
    let (mut since, mut own) = (number.since, Some(number));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Counted from when it was renewed: the clock may have leapt while that was going on.
            () = server.clock.sleep_until(since.saturating_add(pause)) => {}
        }
        let renewed = again(&server, node, &mut own).await;
        if let Err(fault) = &renewed {
            tracing::warn!(%fault, "the node's number could not be renewed");
        }
        since = match (renewed, &own) {
            (Ok(()), Some(own)) => own.since,
            _ => server.clock.now(),
        };
    }
    let last = server.ids.stop();
    if let Some(own) = own {
        // What can't be given back runs out by itself.
        let _ = own.lease.end(last.max(server.clock.now() - 1)).await;
    }
}

async fn again(server: &Server, node: Uuid, own: &mut Option<Number>) -> Result<(), Fault> {
    let kept = match own {
        Some(own) => own.renew().await?,
        None => false,
    };
    if !kept {
        server.ids.stop();
        if let Some(lost) = own.take() {
            tracing::warn!(number = lost.number, "another node took this node's number");
        }
        let other = Number::claim(&server.ledger, &server.clock, node).await?;
        tracing::info!(number = other.number, "this node has another number");
        *own = Some(other);
    }
    if let Some(own) = own {
        server.ids.lend(own.number, own.since, own.until);
    }
    Ok(())
}
