//! What the operator decides: command line first, then `PUSHLEDGER_…` variables, then a TOML file,
//! then defaults that start a server with no configuration at all.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
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
    /// A network that calls to apps' URLs may reach though it is not public; repeat it for more
    #[arg(
        long,
        env = "PUSHLEDGER_CALLBACK_ALLOW",
        global = true,
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub callback_allow: Option<Vec<IpNet>>,
    /// A network of proxies whose `X-Forwarded-For` says who calls; repeat it for more
    #[arg(
        long = "trusted-proxy",
        env = "PUSHLEDGER_TRUSTED_PROXY",
        global = true,
        value_name = "CIDR",
        value_delimiter = ','
    )]
    #[serde(rename = "trusted-proxy")]
    pub trusted_proxies: Option<Vec<IpNet>>,
    /// A file outside the data directory to which every signed checkpoint is appended
    #[arg(long, env = "PUSHLEDGER_WITNESS", global = true, value_name = "FILE")]
    pub witness: Option<PathBuf>,
    /// Days for which the access log is kept, 1 to 36,500 [default: 180]
    #[arg(
        long,
        env = "PUSHLEDGER_ACCESS_DAYS",
        global = true,
        value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..=36_500)
    )]
    pub access_days: Option<u32>,
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
    /// Networks beside the public Internet that calls to apps' URLs may reach.
    pub callback_allow: Vec<IpNet>,
    /// Networks of proxies whose `X-Forwarded-For` says who calls.
    pub trusted_proxies: Vec<IpNet>,
    /// The file that witnesses checkpoints, if there is one.
    pub witness: Option<PathBuf>,
    /// Days for which the access log is kept.
    pub access_days: u32,
    /// Devices of one chunk of a new task. No option: only the demo wants other chunks.
    pub chunk_devices: u32,
    /// Longest run of a query. No option: only tests want another.
    pub query_run: Duration,
    /// How long a call to a push vendor may take. No option: only tests are in a hurry.
    pub vendor_call: Duration,
    /// Time between two pings to who follows something, after each of which it has to have answered the
    /// one before, and its token has still to be known. No option: only tests want another.
    pub follow_beat: Duration,
}

/// Devices of one chunk: two calls of a vendor that takes many.
pub const CHUNK_DEVICES: u32 = 2_000;

/// Longest run of a query.
pub const QUERY_RUN: Duration = Duration::from_secs(10);
/// How long a call to a push vendor and its answer may take.
pub const VENDOR_CALL: Duration = Duration::from_secs(20);

/// Time between two pings to who follows something.
pub const FOLLOW_BEAT: Duration = Duration::from_secs(30);

/// Days for which the access log is kept, unless the operator says otherwise.
pub const ACCESS_DAYS: u32 = 180;
/// Longest that it may be kept: 100 years.
const MAX_ACCESS_DAYS: u32 = 36_500;

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
            callback_allow: self.callback_allow.or(file.callback_allow).unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.or(file.trusted_proxies).unwrap_or_default(),
            witness: self.witness.or(file.witness),
            access_days: self
                .access_days
                .or(file.access_days)
                .unwrap_or(ACCESS_DAYS)
                .clamp(1, MAX_ACCESS_DAYS),
            chunk_devices: CHUNK_DEVICES,
            query_run: QUERY_RUN,
            vendor_call: VENDOR_CALL,
            follow_beat: FOLLOW_BEAT,
            data,
        })
    }
}

fn read(file: &Path) -> Result<Options, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| ConfigError::Io(file.to_owned(), error))?;
    toml::from_str(&text).map_err(|error| ConfigError::Toml(file.to_owned(), error))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn networks(config: &Config) -> Vec<String> {
        config.callback_allow.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn networks_are_repeated_or_separated_by_commas_and_precede_those_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pushledger.toml");
        std::fs::write(&file, r#"callback-allow = ["192.168.0.0/16", "fd00::/8"]"#).unwrap();
        let config = |more: &[&str]| {
            let line = ["pushledger", "--config", file.to_str().unwrap()];
            let line = Line::try_parse_from(line.iter().chain(more)).unwrap();
            networks(&line.options.resolve().unwrap())
        };
        assert_eq!(config(&[]), ["192.168.0.0/16", "fd00::/8"]);
        let line = ["--callback-allow", "10.0.0.0/8,::1/128", "--callback-allow", "127.0.0.1/32"];
        assert_eq!(config(&line), ["10.0.0.0/8", "::1/128", "127.0.0.1/32"]);
        assert!(networks(&Options::default().resolve().unwrap()).is_empty());
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["10.0.0.0", "10.0.0.0/33", "localhost", ""] {
            assert!(Line::try_parse_from(["pushledger", "--callback-allow", text]).is_err());
            let file = format!("callback-allow = [\"{text}\"]");
            assert!(toml::from_str::<Options>(&file).is_err(), "{text}");
        }
    }
}
