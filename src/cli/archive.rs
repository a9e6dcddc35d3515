//! `pushledger export`, `import`, `detach`, `attach` and `resume`: a ledger on its way to another place.

use std::path::{Path, PathBuf};

use super::{Failure, Offline, access::log_read, print_json, say};
use crate::{
    audit::{
        archive::{self, Carried, Locked, Opened},
        note::Verifier,
        sealer::{NAME, Sealer},
        witness::{FileWitness, Witness},
    },
    clock::Clock,
    config::Config,
    feed::effects::{self, LEASE, Lease},
    ledger::{Database, Ledger},
    secrets::MasterKey,
};

/// A day, in µs.
const DAY_MICROS: i64 = 86_400_000_000;
/// Shortest passphrase, in bytes.
const MIN_PASSPHRASE_BYTES: usize = 12;

/// Write the sealed part of the ledger into a folder.
#[derive(clap::Args)]
pub(crate) struct Export {
    /// The folder; it must hold no export yet.
    directory: PathBuf,
    /// Add apps' and vendors' keys, sealed under the master key, and hashes of tokens and passwords.
    #[arg(long)]
    credentials: bool,
    /// A file with a passphrase, under which the master key comes along.
    #[arg(long, value_name = "FILE", requires = "credentials")]
    passphrase_file: Option<PathBuf>,
    /// `jsonl`, which can be restored and verified, or `parquet`, for analysis alone.
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// The export that holds what is detached; the new one then holds all.
    #[arg(long, value_name = "DIR")]
    detached: Option<PathBuf>,
}

impl Export {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = self.write(&offline, &config).await;
        offline.close().await;
        let events = done?;
        say(&format!("{events} events are in {}.", self.directory.display()));
        Ok(())
    }

    async fn write(&self, offline: &Offline, config: &Config) -> Result<i64, Failure> {
        if let (Format::Parquet, true) = (self.format, self.credentials) {
            return Err("Parquet files hold no credentials: they are for analysis alone".into());
        }
        let fields: &[&str] = match self.credentials {
            true => &["private", "credentials"],
            false => &["private"],
        };
        log_read(offline.ledger.database(), "export", None, fields).await?;
        seal(offline, config).await?;
        let locked = match &self.passphrase_file {
            Some(file) => {
                let digits = MasterKey::digits(config.master_key.as_deref(), &config.data)?;
                Some(Locked::new(&passphrase(file)?, &digits)?)
            }
            None => None,
        };
        let master = offline.master.clone();
        let carried = self.credentials.then_some(Carried { master, locked });
        let detached = self.detached.as_deref().map(Opened::open).transpose()?;
        if let Some(away) = offline.ledger.away().await?
            && detached.is_none()
        {
            return Err(format!("{}, or name it by --detached", away.fault()).into());
        }
        if let Format::Parquet = self.format {
            return parquet(&offline.ledger, &self.directory, detached).await;
        }
        let export = archive::Export { carried, detached, ..archive::Export::default() };
        Ok(export.write(&offline.ledger, &self.directory).await?)
    }
}

/// In what form events are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Jsonl,
    Parquet,
}

#[cfg(feature = "parquet")]
async fn parquet(
    ledger: &Ledger,
    directory: &Path,
    detached: Option<Opened>,
) -> Result<i64, Failure> {
    Ok(archive::write_parquet(ledger, directory, detached).await?)
}

#[cfg(not(feature = "parquet"))]
async fn parquet(_: &Ledger, _: &Path, _: Option<Opened>) -> Result<i64, Failure> {
    std::future::ready(Err("this program was built without the feature `parquet`".into())).await
}

/// The passphrase in a file, without the end of its line.
fn passphrase(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)?;
    let text = text.trim_end_matches(['\r', '\n']);
    match text.len() >= MIN_PASSPHRASE_BYTES {
        true => Ok(text.to_owned()),
        false => Err("a passphrase has at least 12 bytes".into()),
    }
}

/// Seals what is not sealed yet, unless a server does that.
async fn seal(offline: &Offline, config: &Config) -> Result<(), Failure> {
    let (database, clock) = (offline.ledger.database(), Clock::System);
    let lease = Lease::new(&offline.ledger, &clock, NAME, uuid::Uuid::now_v7());
    let paused = effects::paused(&database.ledger_read).await?.is_some();
    if offline.ledger.head() == 0 || paused || !lease.hold(LEASE).await? {
        return Ok(());
    }
    let witness = config.witness.as_deref().map(FileWitness::new);
    let witness =
        witness.map(|witness| std::sync::Arc::new(witness) as std::sync::Arc<dyn Witness>);
    let (read, write) = (&database.ledger_read, &database.ledger_write);
    let mut sealer = Sealer::open(read, write, &offline.master, witness).await?;
    loop {
        let before = sealer.sealed();
        sealer.seal(clock.now()).await?;
        if sealer.sealed() == before || !lease.hold(LEASE).await? {
            break;
        }
    }
    Ok(lease.release().await?)
}

/// Restore an empty store from an export; effects stay paused.
#[derive(clap::Args)]
pub(crate) struct Import {
    /// The folder with the export.
    directory: PathBuf,
    /// A key that you trust, as `pushledger audit keys` prints it; repeat it for more. Without any,
    /// the keys that the export itself lists are believed.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<Verifier>,
    /// A file with the passphrase of an export that has the master key in it.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Import {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        if let Some(file) = &self.passphrase_file {
            let digits = archive::master_key(&self.directory, &passphrase(file)?)?;
            let digits = digits.ok_or("the export has no master key in it")?;
            MasterKey::place(&config.data, &digits)?;
        }
        // Needed only for credentials; whether it is theirs shows then.
        let digits = MasterKey::digits(config.master_key.as_deref(), &config.data).ok();
        let master = digits.map(|digits| MasterKey::parse(&digits)).transpose()?;
        let database = Database::open(&config.database).await?;
        let now = Clock::System.now();
        let done = match log_read(&database, "import", None, &["private"]).await {
            Ok(()) => {
                let (keys, master) = (&self.keys, master.as_ref());
                let done = archive::import(&database, &self.directory, keys, master, now).await;
                done.map_err(Failure::from)
            }
            Err(failure) => Err(failure),
        };
        database.close().await;
        print_json(&done?)?;
        say("Effects are paused: once the ledger that this came from is gone for good, \
             `pushledger resume`.");
        Ok(())
    }
}

/// Remove events that lie in an export from the ledger; they can be attached again.
#[derive(clap::Args)]
pub(crate) struct Detach {
    /// The folder with the export. Keep it: what is detached lies nowhere else.
    directory: PathBuf,
    /// The last position to go; as many as may go if absent.
    #[arg(long, value_name = "POSITION")]
    to: Option<i64>,
    /// Days for which every event stays: a late report about a message that went is refused.
    #[arg(long, value_name = "DAYS", default_value_t = archive::KEEP_DAYS)]
    keep_days: u32,
    /// A key that you trust, as `pushledger audit keys` prints it; repeat it for more.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<Verifier>,
    /// Then have the database files shrink; while they do, nothing can be appended.
    #[arg(long)]
    compact: bool,
}

impl Detach {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let before = Clock::System.now() - i64::from(self.keep_days) * DAY_MICROS;
        let going = archive::Going { to: self.to, before: Some(before) };
        let mut done = archive::detach(&offline.ledger, &self.directory, &self.keys, going).await;
        if self.compact && done.is_ok() {
            done = archive::compact(&offline.ledger).await.map_err(Into::into).and(done);
        }
        offline.close().await;
        print_json(&done?)
    }
}

/// Put events back that were detached.
#[derive(clap::Args)]
pub(crate) struct Attach {
    /// The folder with an export that holds them.
    directory: PathBuf,
    /// A key that you trust, as `pushledger audit keys` prints it; repeat it for more.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<Verifier>,
}

impl Attach {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let offline = Offline::open(&config).await?;
        let done = archive::attach(&offline.ledger, &self.directory, &self.keys).await;
        offline.close().await;
        print_json(&done?)
    }
}

/// Have effects go on in a store that was restored.
#[derive(clap::Args)]
pub(crate) struct Resume {}

impl Resume {
    pub(crate) async fn run(self, config: Config) -> Result<(), Failure> {
        let database = Database::open(&config.database).await?;
        let resumed = effects::resume(&database.ledger_write).await;
        database.close().await;
        say(match resumed? {
            true => "Effects go on.",
            false => "Effects were not paused.",
        });
        Ok(())
    }
}
