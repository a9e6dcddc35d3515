//! `pushledger rebuild`: throws the views away. The next `serve` makes them again from the ledger;
//! nothing is sent again, since effects keep their place in the ledger's own database.

use std::path::PathBuf;

use super::{Failure, Offline, say};
use crate::{audit::archive, clock::Clock, config::Config, feed::effects, ledger::Database};

/// Throw the views away; the next start makes them again.
#[derive(clap::Args)]
pub(crate) struct Rebuild {
    /// Do it even if a server seems to run on the database.
    #[arg(long)]
    force: bool,
    /// The export that holds what is detached, if anything is: it is folded at once.
    #[arg(long, value_name = "DIR")]
    detached: Option<PathBuf>,
}

impl Rebuild {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let running = effects::nodes(&offline.ledger, Clock::System.now()).await;
        let away = offline.ledger.away().await;
        // Whether the export is right is known before the views are gone.
        let right = match &self.detached {
            Some(directory) => archive::check(&offline.ledger, directory).await,
            None => Ok(()),
        };
        offline.close().await;
        if running? > 0 && !self.force {
            return Err("a server runs on this database, or died less than a minute ago; \
                        stop it first, or use --force"
                .into());
        }
        let (away, detached) = match (away?, self.detached) {
            (Some(away), None) => {
                return Err(format!("{}, or name it by --detached", away.fault()).into());
            }
            (away, detached) => (away, detached),
        };
        right?;
        Database::drop_views(&config.database).await?;
        if let (Some(_), Some(directory)) = (away, detached) {
            let offline = Offline::open(&config).await?;
            let folded = archive::fold(&offline.ledger, &directory).await;
            offline.close().await;
            folded?;
        }
        say("The views are gone; the next start of the server makes them again.");
        Ok(())
    }
}
