//! `pushledger verify`: checks a ledger, or an export of one, and names the first event that is
//! wrong. It ends with 0 only if nothing is.

use std::{path::PathBuf, sync::Arc};

use super::{Failure, Offline, print_json};
use crate::{
    audit::{
        archive::Opened,
        note::Verifier,
        verify,
        witness::{FileWitness, Witness},
    },
    config::Config,
};

/// Check the ledger, or an export of it, from the first event to the last.
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// An export, instead of the ledger; no database is needed.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// A file with a signed checkpoint that the export has to go on from; repeat it for more.
    #[arg(long = "checkpoint", value_name = "FILE", requires = "export")]
    checkpoints: Vec<PathBuf>,
    /// The export that holds what is detached, to check that too.
    #[arg(long, value_name = "DIR", conflicts_with = "export")]
    detached: Option<PathBuf>,
    /// A key that you trust, as `pushledger audit keys` prints it; repeat it for more. Without any,
    /// the keys that the ledger itself lists are believed.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<Verifier>,
}

impl Verify {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let report = match &self.export {
            Some(directory) => {
                let notes = self.checkpoints.iter().map(std::fs::read_to_string);
                let notes = notes.collect::<Result<Vec<_>, _>>()?;
                verify::export(directory, &notes, &self.keys).await?
            }
            None => {
                let witness = config.witness.as_deref().map(FileWitness::new);
                let witness = witness.map(|witness| Arc::new(witness) as Arc<dyn Witness>);
                let detached = self.detached.as_deref().map(Opened::open).transpose()?;
                let offline = Offline::open(&config).await?;
                let report = verify::live(&offline.ledger, witness, &self.keys, detached).await;
                offline.close().await;
                report?
            }
        };
        print_json(&report)
    }
}
