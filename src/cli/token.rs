//! `pushledger token`: bearer tokens, for operators and for users on terminals.

use std::time::Duration;

use clap::Subcommand;

use super::{Failure, Offline, print_json};
use crate::{
    clock::Clock,
    config::Config,
    tokens::{DEFAULT_TTL, Role, Tokens},
};

/// Make bearer tokens.
#[derive(clap::Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A token for somebody who runs, reads or audits this server.
    Operator {
        /// Whose it is.
        name: String,
        /// What it may do.
        #[arg(long, value_enum)]
        role: Role,
        /// The one app that it is bound to; all if absent.
        #[arg(long)]
        app: Option<String>,
    },
    /// An access token for a user on a terminal.
    Access {
        /// The app.
        app: String,
        /// The UMS `userId`.
        user: String,
        /// The terminal's `clientId`.
        client: String,
        /// Seconds that it lives.
        #[arg(long, default_value_t = DEFAULT_TTL.as_secs())]
        ttl: u64,
    },
}

impl Token {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = offline.token(self.command).await;
        offline.close().await;
        done
    }
}

impl Offline {
    async fn token(&self, command: Command) -> Result<(), Failure> {
        let database = self.ledger.database();
        let (read, write) = (database.ledger_read.clone(), database.ledger_write.clone());
        let tokens = Tokens::new(read.clone(), write, Clock::System);
        let named = match &command {
            Command::Operator { app, .. } => app.as_deref(),
            Command::Access { app, .. } => Some(app.as_str()),
        };
        if let Some(named) = named {
            let mut checkout = read.checkout().await?;
            let apps = projections::registry::apps(&mut checkout.conn()).await?;
            if !apps.iter().any(|app| app.config.app_id == named && !app.deleted) {
                return Err(format!("no app is named {named}").into());
            }
        }
        match command {
            Command::Operator { name, role, app } => {
                let token = tokens.create_operator(&name, role, app.as_deref(), None).await?;
                print_json(&serde_json::json!({ "token": token }))
            }
            Command::Access { app, user, client, ttl } => {
                let ttl = Duration::from_secs(ttl);
                let (token, expires_at) = tokens.issue(&app, &user, &client, ttl).await?;
                let expires_at = expires_at / 1_000;
                print_json(&serde_json::json!({ "accessToken": token, "expiresAt": expires_at }))
            }
        }
    }
}
