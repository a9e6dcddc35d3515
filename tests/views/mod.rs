//! Views are folds of the ledger and nothing else: thrown away, they come back as they were, and
//! nobody notices.

mod commands;
mod facts;
pub mod history;
mod rebuilding;
mod rebuilt;
pub mod unreadable;

pub(crate) use history::live;

use std::sync::Arc;

use domain::Recorded;
use projections::{db::Pool, on};
use pushledger::{
    clock::Clock,
    ledger::{Database, Ledger},
    metrics::Metrics,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::harness::{PATIENCE, Place, World, dump};

/// A ledger on a place where no server runs, so that nothing is appended by itself.
pub struct Bare {
    pub ledger: Ledger,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Bare {
    pub async fn open(place: &Place) -> Bare {
        Bare::at(&place.database()).await
    }

    pub async fn at(url: &str) -> Bare {
        let database = Database::open(url).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let metrics = Arc::new(Metrics::default());
        let ledger = Ledger::start(database, Clock::System, metrics, &tasks, &stop);
        let ledger = ledger.await.unwrap();
        Bare { ledger, tasks, stop }
    }

    /// Everything that was ever recorded.
    pub async fn events(&self) -> Vec<Recorded> {
        let page = self.ledger.read(0, i64::MAX).await.unwrap();
        assert_eq!(page.unreadable, []);
        page.events
    }

    pub async fn close(self) {
        self.ledger.close();
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.ledger.database().close().await;
    }
}

/// What is stored in a place where no server runs.
#[derive(Debug)]
struct Stored {
    events: Vec<Recorded>,
    /// Position of the views, and their rows by table.
    position: i64,
    views: Vec<Vec<String>>,
    registry: Vec<Vec<String>>,
}

impl Stored {
    async fn read(place: &Place) -> Stored {
        let bare = Bare::open(place).await;
        let database = bare.ledger.database();
        let stored = Stored {
            events: bare.events().await,
            position: position(&database.views.live().read).await,
            views: tables(&database.views.live().read, projections::TABLES).await,
            registry: tables(&database.ledger_read, projections::registry::TABLES).await,
        };
        bare.close().await;
        stored
    }

    /// The tables of views and registry, in order.
    fn names() -> impl Iterator<Item = &'static str> {
        projections::TABLES.iter().chain(projections::registry::TABLES).copied()
    }

    /// Those that have a row.
    fn filled(&self) -> impl Iterator<Item = &'static str> {
        let rows = self.views.iter().chain(&self.registry);
        Stored::names().zip(rows).filter(|(_, rows)| !rows.is_empty()).map(|(name, _)| name)
    }
}

/// Waits until the views of a server have read everything.
async fn caught_up(world: &World) {
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
}

/// The rows of some tables.
async fn tables(pool: &Pool, names: &[&str]) -> Vec<Vec<String>> {
    let mut tables = Vec::new();
    for name in names {
        tables.push(dump(pool, name).await);
    }
    tables
}

/// How far the views have read.
async fn position(pool: &Pool) -> i64 {
    let mut checkout = pool.checkout().await.unwrap();
    let (position,): (i64,) = on!(checkout.conn(), c => {
        sqlx::query_as("SELECT position FROM checkpoint").fetch_one(&mut *c).await.unwrap()
    });
    position
}
