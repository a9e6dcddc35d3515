//! `pushledger sign`: the headers of a UMS call, for curl or a debugger.

use std::path::PathBuf;

use super::{Failure, say};
use crate::{clock::Clock, http::ums::sign::sign};

/// Print the headers of a UMS call.
#[derive(clap::Args)]
pub(crate) struct Sign {
    /// Path of the call, such as `/ums/v2/msgPush`.
    path: String,
    /// The app's UMS `appId`, or its `systemId` for `/umse`.
    #[arg(long)]
    app_id: String,
    /// The key that signs.
    #[arg(long, env = "PUSHLEDGER_APP_KEY", hide_env_values = true)]
    key: String,
    /// The body, as it will be sent.
    #[arg(long, default_value = "", conflicts_with = "body_file")]
    body: String,
    /// A file with the body.
    #[arg(long)]
    body_file: Option<PathBuf>,
    /// Milliseconds since the epoch [default: now]
    #[arg(long)]
    timestamp: Option<i64>,
}

impl Sign {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let body = match self.body_file {
            Some(file) => std::fs::read(file)?,
            None => self.body.into_bytes(),
        };
        let timestamp = self.timestamp.unwrap_or_else(|| Clock::System.now() / 1_000).to_string();
        let sign = sign(&self.path, &body, &self.app_id, &self.key, &timestamp);
        say(&format!("appId: {}", self.app_id));
        say(&format!("timestamp: {timestamp}"));
        say(&format!("sign: {sign}"));
        Ok(())
    }
}
