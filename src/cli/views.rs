//! `pushledger views`: rebuilds of the views while servers run on them, and the events that they
//! could not fold. It works beside the servers, on the same database: one of them makes what is
//! asked for here.

use std::time::Duration;

use clap::Subcommand;
use projections::db::Pool;
use serde_json::json;

use super::{Failure, Offline, print_json, say};
use crate::{
    clock::Clock,
    config::Config,
    feed::{
        effects,
        rebuild::{self, RebuildStatus, State},
        set_aside,
    },
};

/// Events that are read at once.
const PAGE_EVENTS: i64 = 100;
/// Time between two looks at a rebuild that is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Rebuild the views while they are read, and see what they could not fold.
#[derive(clap::Args)]
pub(crate) struct Views {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Ask for a rebuild; a server that runs makes it, else the next that starts.
    Rebuild(Rebuild),
    /// Print the generation that is read, and where the last rebuild stands.
    Status,
    /// Cancel the rebuild; the views that are read stay.
    Cancel,
    /// Print the events that the views could not read or fold.
    SetAside,
}

#[derive(clap::Args)]
struct Rebuild {
    /// Set aside again what is set aside now and still cannot be folded, instead of stopping there.
    #[arg(long)]
    keep_aside: bool,
    /// Wait until it is over; fails unless the rebuilt views are live then.
    #[arg(long)]
    wait: bool,
}

impl Views {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = match self.verb {
            Verb::Rebuild(rebuild) => rebuild.run(&offline).await,
            Verb::Status => status(&offline).await,
            Verb::Cancel => cancel(&offline).await,
            Verb::SetAside => list(&offline).await,
        };
        offline.close().await;
        done
    }
}

impl Rebuild {
    async fn run(self, offline: &Offline) -> Result<(), Failure> {
        let (pool, now) = (&offline.ledger.database().ledger_write, Clock::System.now());
        if !rebuild::ask(pool, self.keep_aside, now).await? {
            return Err("a rebuild is under way".into());
        }
        let nodes = effects::nodes(&offline.ledger, now).await?;
        say(match nodes {
            0 => "No server runs on this database: the next that starts rebuilds the views.",
            _ => "A server begins within a second; the views that are read stay until it is done.",
        });
        if self.wait && nodes > 0 { wait(pool).await } else { Ok(()) }
    }
}

/// Waits until a rebuild is over, and says how far it is.
async fn wait(pool: &Pool) -> Result<(), Failure> {
    let mut told = -1.0;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(rebuild) = rebuild::status(pool).await?.rebuild else { return Ok(()) };
        if rebuild.percent() > told {
            told = rebuild.percent();
            let left = rebuild.seconds_left().map(|left| format!(", {left} s left"));
            let left = left.unwrap_or_default();
            say(&format!("{told:.1} %, {} events/s{left}", rebuild.rate));
        }
        match rebuild.state {
            State::Wanted | State::Running => {}
            State::Done => return Ok(()),
            State::Cancelled => return Err("it was cancelled".into()),
            State::Interrupted => return Err("its server ended; ask again".into()),
            State::Failed => {
                let at = rebuild.stopped_at.map(|at| format!(" at position {at}"));
                let (at, reason) = (at.unwrap_or_default(), rebuild.reason.unwrap_or_default());
                return Err(format!("it failed{at}: {reason}").into());
            }
        }
    }
}

async fn status(offline: &Offline) -> Result<(), Failure> {
    let status = rebuild::status(&offline.ledger.database().ledger_read).await?;
    print_json(&RebuildStatus::from(status))
}

async fn cancel(offline: &Offline) -> Result<(), Failure> {
    let pool = &offline.ledger.database().ledger_write;
    match rebuild::cancel(pool, Clock::System.now()).await? {
        true => say("The rebuild is cancelled; the views that are read stay."),
        false => return Err("no rebuild is under way".into()),
    }
    Ok(())
}

async fn list(offline: &Offline) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let page = set_aside::page(&offline.ledger, after, PAGE_EVENTS).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.position;
        for aside in page {
            print_json(&json!({
                "position": aside.position,
                "app": aside.app,
                "type": aside.name,
                "schema": aside.schema,
                "error": aside.error,
                "readable": aside.readable,
            }))?;
        }
    }
}
