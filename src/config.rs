//! What the operator decides: command line first, then `PUSHLEDGER_…` variables, then a TOML file,
//! then defaults that start a server with no configuration at all.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Options of every command that opens the database.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Options {
    /// A TOML file with any of these options.
    #[arg(long, env = "PUSHLEDGER_CONFIG", global = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where the master key and, with SQLite, the databases are [default: ./data]
    #[arg(long, env = "PUSHLEDGER_DATA", global = true)]
    pub data: Option<PathBuf>,
    /// `sqlite:DIRECTORY` or `postgres://…` [default: SQLite in the data directory]
    #[arg(long, env = "PUSHLEDGER_DATABASE", global = true, hide_env_values = true)]
    pub database: Option<String>,
    /// Address to listen on [default: 127.0.0.1:8600]
    #[arg(long, env = "PUSHLEDGER_LISTEN", global = true)]
    pub listen: Option<String>,
    /// 64 hex digits that seal secrets [default: made in DATA/master.key at the first start]
    #[arg(long, env = "PUSHLEDGER_MASTER_KEY", global = true, hide_env_values = true)]
    pub master_key: Option<String>,
    /// The admin's bearer token [default: made and printed once at the first start]
    #[arg(long, env = "PUSHLEDGER_ADMIN_TOKEN", global = true, hide_env_values = true)]
    pub admin_token: Option<String>,
}

/// The options with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the master key lies.
    pub data: PathBuf,
    /// URL of the database.
    pub database: String,
    /// Address to listen on.
    pub listen: String,
    /// The master key, if it is given.
    pub master_key: Option<String>,
    /// The admin's token, if it is given.
    pub admin_token: Option<String>,
}

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// It is not what it should be.
    #[error("{0}: {1}")]
    Toml(PathBuf, toml::de::Error),
}

impl Options {
    /// Fills in the file's values and the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] when a file is named that cannot be used.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let data = self.data.or(file.data).unwrap_or_else(|| PathBuf::from("data"));
        let embedded = || format!("sqlite:{}", data.display());
        Ok(Config {
            database: self.database.or(file.database).unwrap_or_else(embedded),
            listen: self.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:8600".to_owned()),
            master_key: self.master_key.or(file.master_key),
            admin_token: self.admin_token.or(file.admin_token),
            data,
        })
    }
}

fn read(file: &Path) -> Result<Options, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| ConfigError::Io(file.to_owned(), error))?;
    toml::from_str(&text).map_err(|error| ConfigError::Toml(file.to_owned(), error))
}
