//! What the query API reads, over the ledger, presence and the views of this server.

pub mod auditors;

use std::{collections::HashSet, sync::Arc, time::Duration};

use domain::Recorded;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use graphql::{Later, Sources};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{feed::views::Views, ledger::Ledger, socket::presence::Presence};

/// Longest wait for a position that a query demands.
pub const MAX_WAIT: Duration = Duration::from_secs(5);

/// The sources of a server. What loads for many fields at once is run among `tasks`.
#[must_use]
pub fn sources(
    ledger: &Ledger,
    views: &Views,
    presence: &Arc<Presence>,
    tasks: TaskTracker,
) -> Sources {
    Sources {
        registry: ledger.database().ledger_read.clone(),
        views: ledger.database().views.clone(),
        history: Arc::new(History(ledger.clone())),
        presence: Arc::new(Connected(Arc::clone(presence))),
        progress: Arc::new(Progress(views.clone())),
        spawn: Arc::new(move |task| drop(tasks.spawn(task.in_current_span()))),
    }
}

/// The ledger as the query API reads it.
struct History(Ledger);

impl graphql::History for History {
    fn stream<'a>(&'a self, stream: &'a str, after: i64, limit: i64) -> Later<'a, Vec<Recorded>> {
        Box::pin(async move { Ok(self.0.read_stream(stream, after, limit).await?.events) })
    }

    fn streams<'a>(&'a self, streams: &'a [String], limit: i64) -> Later<'a, Vec<Recorded>> {
        Box::pin(async move { Ok(self.0.read_streams(streams, limit).await?.events) })
    }

    fn at<'a>(&'a self, positions: &'a [i64]) -> Later<'a, Vec<Recorded>> {
        Box::pin(async move { Ok(self.0.read_at(positions).await?.events) })
    }

    fn after(&self, position: i64, limit: i64) -> Later<'_, (Vec<Recorded>, Option<i64>)> {
        Box::pin(async move {
            let page = self.0.read(position, limit).await?;
            Ok((page.events, page.last))
        })
    }

    fn before(&self, time: i64) -> Later<'_, i64> {
        Box::pin(self.0.before(time))
    }

    fn head(&self) -> Later<'_, i64> {
        Box::pin(self.0.fresh_head())
    }

    fn now(&self) -> i64 {
        self.0.now()
    }

    fn heads(&self) -> BoxStream<'static, i64> {
        told(self.0.watch(), Duration::ZERO)
    }
}

/// Presence as the query API reads it.
struct Connected(Arc<Presence>);

impl graphql::Presence for Connected {
    fn present<'a>(&'a self, devices: &'a [i64]) -> Later<'a, HashSet<i64>> {
        Box::pin(self.0.present(devices))
    }
}

/// How far the views are.
struct Progress(Views);

impl graphql::Progress for Progress {
    fn position(&self) -> i64 {
        self.0.position()
    }

    fn reached(&self, position: i64) -> Later<'_, bool> {
        Box::pin(async move { Ok(self.0.reached(position, MAX_WAIT).await.is_ok()) })
    }

    fn positions(&self, pace: Duration) -> BoxStream<'static, i64> {
        told(self.0.watch(), pace)
    }
}

/// A number now, and whenever it is another, at that pace at most; ends with whoever tells it.
fn told(mut watched: watch::Receiver<i64>, pace: Duration) -> BoxStream<'static, i64> {
    watched.mark_changed();
    let begin = (watched, Instant::now());
    stream::unfold(begin, move |(mut watched, next)| async move {
        watched.changed().await.ok()?;
        tokio::time::sleep_until(next).await;
        let now = *watched.borrow_and_update();
        Some((now, (watched, Instant::now() + pace)))
    })
    .boxed()
}
