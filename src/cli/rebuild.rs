//! `pushledger rebuild`: throws the views away. The next `serve` makes them again from the ledger;
//! nothing is sent again, since effects keep their place in the ledger's own database.

use super::{Failure, Offline, say};
use crate::{clock::Clock, config::Config, feed::effects, ledger::Database};

/// Throw the views away; the next start makes them again.
#[derive(clap::Args)]
pub(crate) struct Rebuild {
    /// Do it even if a server seems to run on the database.
    #[arg(long)]
    force: bool,
}

impl Rebuild {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let running = effects::nodes(&offline.ledger, Clock::System.now()).await;
        offline.close().await;
        if running? > 0 && !self.force {
            return Err("a server runs on this database, or died less than a minute ago; \
                        stop it first, or use --force"
                .into());
        }
        Database::drop_views(&config.database).await?;
        say("The views are gone; the next start of the server makes them again.");
        Ok(())
    }
}
