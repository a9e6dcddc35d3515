//! `pushledger rebuild`: throws the views away. The next `serve` makes them again from the ledger;
//! nothing is sent again, since effects keep their place in the ledger's own database.

use super::{Failure, say};
use crate::{config::Config, ledger::Database};

/// Throw the views away; the next start makes them again.
#[derive(clap::Args)]
pub(crate) struct Rebuild {}

impl Rebuild {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        Database::drop_views(&config.database).await?;
        say("The views are gone; the next start of the server makes them again.");
        Ok(())
    }
}
