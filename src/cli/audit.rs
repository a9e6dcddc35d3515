//! `pushledger audit`: the keys that sign checkpoints, and the last checkpoint, straight from the
//! database.

use clap::Subcommand;

use super::{Failure, Offline, print_json, say};
use crate::{
    audit::{Audit, keys},
    clock::Clock,
    config::Config,
};

/// See and rotate the keys that sign checkpoints.
#[derive(clap::Args)]
pub(crate) struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List all keys, as JSON lines.
    Keys,
    /// Print the last checkpoint.
    Checkpoint,
    /// Make a key that signs from the next checkpoint on; that one is signed by the old key too.
    Rotate,
}

impl Command {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = offline.audit(self.what).await;
        offline.close().await;
        done
    }
}

impl Offline {
    async fn audit(&self, what: What) -> Result<(), Failure> {
        let database = self.ledger.database();
        let audit = Audit::new(&database.ledger_read);
        match what {
            What::Keys => audit.keys().await?.iter().try_for_each(|(key, text)| {
                print_json(&serde_json::json!({
                    "number": key.number,
                    "key": text,
                    "fromSize": key.from_size,
                    "createdAt": key.created_at / 1_000,
                }))
            }),
            What::Checkpoint => {
                say(audit.checkpoint().await?.note.trim_end());
                Ok(())
            }
            What::Rotate => {
                let now = Clock::System.now();
                let key = keys::rotate(&database.ledger_write, &self.master, now).await?;
                say(&format!("Key {} signs from the next checkpoint on.", key.number));
                Ok(())
            }
        }
    }
}
