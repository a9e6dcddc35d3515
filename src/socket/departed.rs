//! Devices whose server died: nobody was left to note that they went, so the node that holds the
//! lease does. A device that the ledger has as connected, in the view `noted_presence`, and that no
//! living node knows, is noted to be gone. This looks only when a node is missing, and once at the
//! start: a node that stops says itself what becomes of its devices.

use std::{sync::Arc, time::Duration};

use domain::{
    Event, Metadata, Recorded,
    presence::{Manner, NotePresence, PresenceChanged},
};
use futures_util::{StreamExt, stream};
use projections::{Fault, noted};
use uuid::Uuid;

use crate::{
    app::Server,
    ledger::{Context, Lane},
};

/// Time between two looks at which nodes live.
const LOOK: Duration = Duration::from_secs(1);
/// How long a node that lives may take to have all its connections in the table again, in µs: it
/// finds out within 10 s that it was forgotten.
const SETTLE_MICROS: i64 = 15_000_000;
/// Devices looked for at once.
const PAGE: i64 = 1_000;
/// Devices whose notes wait for one commit.
const CONCURRENT: usize = 256;
/// Longest wait for the views to know what was noted.
const VIEWS: Duration = Duration::from_secs(10);

/// Notes those that are gone, each time that a node is missing. Safe to cancel.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn run(server: &Arc<Server>) -> Result<(), Fault> {
    let mut nodes = server.presence.living().await?;
    loop {
        server.clock.sleep_until(server.clock.now() + SETTLE_MICROS).await;
        note_all(server).await?;
        loop {
            let living = server.presence.living().await?;
            let all_live = nodes.is_subset(&living);
            nodes = living;
            if !all_live {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Goes through all that the ledger has as connected. Whoever came only now may not be in the table
/// of those who are.
async fn note_all(server: &Arc<Server>) -> Result<(), Fault> {
    let until = server.clock.now() - SETTLE_MICROS;
    let (mut after, mut noted) = (0, 0);
    loop {
        let mut views = server.ledger.database().views.checkout().await?;
        let rows = noted::page(&mut views.conn(), after, until, PAGE).await?;
        drop(views);
        let Some(last) = rows.last() else { break };
        after = last.device;
        let devices: Vec<i64> = rows.iter().map(|row| row.device).collect();
        let present = server.presence.present(&devices).await?;
        let absent = rows.into_iter().filter(|row| !present.contains(&row.device));
        let positions: Vec<i64> = absent.map(|row| row.position).collect();
        let events = server.ledger.read_here(&positions).await?.events;
        noted = stream::iter(events)
            .map(|came| note(server, came))
            .buffer_unordered(CONCURRENT)
            .fold(noted, async |last: i64, position| last.max(position))
            .await;
    }
    // The next look is not to find the same again.
    if server.views.reached(noted, VIEWS).await.is_err() {
        tracing::warn!("devices whose server died wait for the views");
    }
    Ok(())
}

/// Notes that a device went of which an event says that it came; gives the note's position.
async fn note(server: &Arc<Server>, came: Recorded) -> i64 {
    let Event::PresenceChanged(changed) = came.event else { return 0 };
    // It may have come back here just now; then its session has noted that, or will after this.
    if server.hub.connected(changed.device) {
        return 0;
    }
    let changed = PresenceChanged { online: false, how: Some(Manner::TimedOut), ..changed };
    let command = NotePresence { changed, new_note: Uuid::now_v7() };
    let (actor, via) = ("server".to_owned(), "presence".to_owned());
    let metadata = Metadata { actor, via, ..Metadata::default() };
    match server.ledger.execute(Lane::Bulk, Context { app: came.app, metadata }, command).await {
        Ok(done) => done.last,
        Err(refused) => {
            tracing::warn!(%refused, "that a device went was not recorded");
            0
        }
    }
}
