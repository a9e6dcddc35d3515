//! `pushledger app`: creates, lists and deletes apps, straight on the database; a running server
//! sees it within a moment.

use clap::Subcommand;
use domain::app::{CreateApp, DeleteApp};

use super::{Failure, Offline, print_json};
use crate::{
    apps::{AppInput, Vault, new_app, output, ums::UmsInput},
    config::Config,
    ledger::Refused,
    secrets::Sealed,
};

/// Work with apps.
#[derive(clap::Args)]
pub(crate) struct App {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an app; its secrets are printed once.
    Create {
        /// 1 to 40 of `a-z`, `0-9`, `-`.
        app_id: String,
        /// A name for people.
        #[arg(long)]
        name: Option<String>,
        /// IANA zone in which its protocols write times.
        #[arg(long)]
        timezone: Option<String>,
        /// A package that may register; repeat it for more. None: any.
        #[arg(long = "package")]
        packages: Vec<String>,
    },
    /// List all apps, as JSON lines.
    List,
    /// Delete an app: its calls are refused from then on. Its history stays.
    Delete {
        /// Its id.
        app_id: String,
    },
}

impl App {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = offline.app(self.command).await;
        offline.close().await;
        done
    }
}

impl Offline {
    async fn app(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Create { app_id, name, timezone, packages } => {
                let pool = &self.ledger.database().ledger_write;
                let ums = UmsInput { app_packages: Some(packages), ..UmsInput::default() };
                let (app_id, ums) = (Some(app_id), Some(ums));
                let input = AppInput { app_id, name, timezone, ums, ..AppInput::default() };
                let sealed = Sealed::default();
                let vault = Vault { master: &self.master, pool, sealed: &sealed };
                let (config, keys) = new_app(vault, input).await?;
                let command = CreateApp { config: config.clone() };
                if let Err(failure) = self.execute(&config.app_id, command).await {
                    if let Some(Refused::Rejected(_)) = failure.downcast_ref() {
                        sealed.remove(pool).await?;
                    }
                    return Err(failure);
                }
                print_json(&output(&config, 1, keys))
            }
            Command::List => {
                let mut checkout = self.ledger.database().ledger_read.checkout().await?;
                let apps = projections::registry::apps(&mut checkout.conn()).await?;
                apps.iter().filter(|app| !app.deleted).try_for_each(|app| {
                    print_json(&output(&app.config, app.version, Default::default()))
                })
            }
            Command::Delete { app_id } => {
                self.execute(&app_id.clone(), DeleteApp { app_id }).await?;
                Ok(())
            }
        }
    }
}
