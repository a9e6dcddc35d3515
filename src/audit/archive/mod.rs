//! An export: a folder that holds the sealed part of a ledger, so that it can be kept, checked and
//! restored anywhere. Events lie in files of 100,000, one JSON line each, compressed with zstd;
//! beside them are the manifest, the signed checkpoint, and the keys that sign.
//!
//! [`write`] makes one, [`Opened`] reads it, [`import`] restores a store from it. [`detach`] has the oldest
//! events lie there alone, until [`attach`] puts them back.

mod credentials;
mod detach;
mod export;
mod import;
#[cfg(feature = "parquet")]
mod parquet;

pub use credentials::{Carried, Locked, master_key};
pub(super) use detach::holds;
pub use detach::{Going, KEEP_DAYS, Limit, Moved, attach, check, compact, detach, fold};
pub use export::{Export, write};
pub use import::import;
#[cfg(feature = "parquet")]
pub use parquet::write_parquet;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use projections::Fault;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    judge::{Judge, Page, look},
    keys::origin_of,
    note::{Checkpoint, Verifier},
    reading::{PAGE, PAGES_AHEAD},
    verify::{NotVerified, Wrong},
};
use crate::{ledger::Stored, secrets::hex};

/// The number of this form.
const FORMAT: u32 = 1;
/// Longest line of an event, in bytes.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;
/// Names of the files beside the events.
const MANIFEST: &str = "manifest.json";
const CHECKPOINT: &str = "checkpoint";
const KEYS: &str = "keys";
/// Names of an event's values, in the order in which lines have them.
const COLUMNS: [&str; 14] = [
    "position",
    "app",
    "stream",
    "version",
    "type",
    "schema",
    "recordedAt",
    "eventId",
    "metadata",
    "body",
    "private",
    "salt",
    "leaf",
    "erased",
];

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// Which ledger, as its checkpoints name it.
    origin: String,
    /// Events, from position 1 on.
    events: i64,
    /// When the last was recorded, in µs since the epoch.
    recorded_at: i64,
    /// The running hash over all leaves.
    chain: String,
    columns: Vec<String>,
    ranges: Vec<Range>,
    /// Hash of the file with keys.
    keys: String,
    /// Hash of the file with credentials, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credentials: Option<String>,
}

/// One file of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Range {
    file: String,
    first: i64,
    last: i64,
    sha256: String,
}

impl Manifest {
    /// Its only text: whatever else a file holds was altered.
    fn text(&self) -> Result<String, Fault> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|cause| Fault::stored("manifest", cause))
    }
}

/// An export that is there to be read.
#[derive(Debug, Clone)]
pub struct Opened {
    directory: PathBuf,
    manifest: Manifest,
    /// The signed checkpoint.
    note: String,
    /// Each key, with the size from which on it signs.
    keys: Vec<(u64, Verifier)>,
}

fn other(what: impl std::fmt::Display) -> NotVerified {
    NotVerified::Other(what.to_string())
}

impl Opened {
    /// Opens an export.
    ///
    /// # Errors
    /// [`NotVerified`] when what lies beside its events is not as it was written.
    pub fn open(directory: &Path) -> Result<Opened, NotVerified> {
        let text = |file: &str| {
            let path = directory.join(file);
            std::fs::read_to_string(&path).map_err(|e| other(format!("{}: {e}", path.display())))
        };
        let written = text(MANIFEST)?;
        let manifest: Manifest = serde_json::from_str(&written)
            .map_err(|error| other(format!("{MANIFEST}: {error}")))?;
        let mut first = 1;
        for range in &manifest.ranges {
            let plain = Path::new(&range.file).file_name() == Some(range.file.as_ref());
            if range.first != first || range.last < first || !plain {
                return Err(other(format!("{MANIFEST}: no range begins at {first}")));
            }
            first = range.last + 1;
        }
        if manifest.format != FORMAT
            || manifest.columns != COLUMNS
            || manifest.events != first - 1
            || manifest.text()? != written
        {
            return Err(other(format!("{MANIFEST} is not as this program writes it")));
        }
        let key = |line: &str| {
            let (from, key) = line.split_once(' ')?;
            Some((from.parse().ok()?, key.parse().ok()?))
        };
        let keys: Option<Vec<(u64, Verifier)>> = text(KEYS)?.lines().map(key).collect();
        let keys = keys.ok_or_else(|| other(format!("{KEYS}: what is no key")))?;
        let credentials = manifest.credentials.iter().map(|hash| (credentials::FILE, hash));
        for (file, hash) in credentials.chain([(KEYS, &manifest.keys)]) {
            let now =
                file_hash(&directory.join(file)).map_err(|e| other(format!("{file}: {e}")))?;
            if now != *hash {
                return Err(other(format!("{file} is not the file that was written")));
            }
        }
        Ok(Opened { directory: directory.to_owned(), manifest, note: text(CHECKPOINT)?, keys })
    }

    /// What the export's checkpoint and others say, once their signatures are found good.
    ///
    /// # Errors
    /// [`NotVerified::Other`] when one is not signed, or of another ledger.
    pub(super) fn signed(
        &self,
        more: &[String],
        trusted: &[Verifier],
    ) -> Result<Vec<Checkpoint>, NotVerified> {
        let own: Vec<Verifier> = self.keys.iter().map(|(_, key)| key.clone()).collect();
        let keys = if trusted.is_empty() { &own } else { trusted };
        let signed = |note: &String| {
            let checkpoint = Checkpoint::verified(note, keys).map_err(other)?;
            match checkpoint.origin == self.manifest.origin {
                true => Ok(checkpoint),
                false => Err(other("the checkpoint is of another ledger")),
            }
        };
        let own = signed(&self.note)?;
        if own.size != super::tiles::unsigned(self.manifest.events) {
            return Err(other("the export's checkpoint is not of all its events"));
        }
        std::iter::once(Ok(own)).chain(more.iter().map(signed)).collect()
    }

    /// Has all of it survive a loss of power.
    fn sync(&self) -> io::Result<()> {
        let files = self.manifest.ranges.iter().map(|range| range.file.as_str());
        for file in files.chain([MANIFEST, CHECKPOINT, KEYS]) {
            File::open(self.directory.join(file))?.sync_all()?;
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Reads all events, ahead of the judge.
    pub(super) fn read(&self) -> mpsc::Receiver<Result<Page, NotVerified>> {
        let runtime = tokio::runtime::Handle::current();
        self.pages((1, i64::MAX), move |page| runtime.spawn_blocking(move || look(page, &[])))
    }

    /// Reads the events from one position to another, as they lie there.
    pub(super) fn rows(
        &self,
        first: i64,
        last: i64,
    ) -> mpsc::Receiver<Result<Vec<Stored>, NotVerified>> {
        self.pages((first, last), |page| page)
    }

    /// Reads the files that hold events from one position to another, ahead of whoever takes pages.
    fn pages<T: Send + 'static>(
        &self,
        (first, last): (i64, i64),
        make: impl Fn(Vec<Stored>) -> T + Send + 'static,
    ) -> mpsc::Receiver<Result<T, NotVerified>> {
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        let opened = self.clone();
        tokio::task::spawn_blocking(move || {
            let ranges = opened.manifest.ranges.iter();
            for range in ranges.filter(|range| first <= range.last && range.first <= last) {
                let wanted = |page: Vec<Stored>| {
                    let outside = |row: &Stored| {
                        (range.first..first).contains(&row.position)
                            || (last.saturating_add(1)..=range.last).contains(&row.position)
                    };
                    let page: Vec<Stored> = page.into_iter().filter(|row| !outside(row)).collect();
                    page.is_empty() || pages.blocking_send(Ok(make(page))).is_ok()
                };
                match opened.range(range, wanted) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(wrong) => {
                        // Whoever reads no more needs no reason.
                        let _ = pages.blocking_send(Err(wrong));
                        return;
                    }
                }
            }
        });
        receiver
    }

    /// Reads the events of a file page by page; false if `take` wants no more.
    fn range(
        &self,
        range: &Range,
        mut take: impl FnMut(Vec<Stored>) -> bool,
    ) -> Result<bool, NotVerified> {
        let mut next = range.first;
        let file = &range.file;
        let broken = |at: i64, why: &dyn std::fmt::Display| {
            Wrong::new(at, format!("it cannot be read in {file}: {why}"))
        };
        let path = self.directory.join(file);
        let opened = File::open(&path).map_err(|error| broken(next, &error))?;
        let decoder = zstd::Decoder::new(opened).map_err(|error| broken(next, &error))?;
        let mut lines = BufReader::new(decoder);
        let (mut page, mut line) = (Vec::with_capacity(PAGE), Vec::new());
        while next <= range.last {
            line.clear();
            let read = lines.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            let stored = match read {
                Ok(0) => Err(Wrong::new(next, format!("it is missing: {file} ends before it"))),
                Ok(_) => serde_json::from_slice(&line).map_err(|error| broken(next, &error)),
                Err(error) => Err(broken(next, &error)),
            };
            match stored {
                Ok(stored) => page.push(stored),
                Err(wrong) => {
                    // What comes before it is judged first.
                    take(page);
                    return Err(wrong.into());
                }
            }
            next += 1;
            if page.len() == PAGE {
                let full = std::mem::replace(&mut page, Vec::with_capacity(PAGE));
                if !take(full) {
                    return Ok(false);
                }
            }
        }
        if !take(page) {
            return Ok(false);
        }
        let mut rest = [0; 1];
        match lines.read(&mut rest) {
            Ok(0) => {}
            Ok(_) => {
                let reason = format!("{file} has events after {}", range.last);
                return Err(Wrong::new(range.last + 1, reason).into());
            }
            Err(error) => return Err(broken(range.last, &error).into()),
        }
        let hash = file_hash(&path).map_err(|error| broken(range.first, &error))?;
        if hash != range.sha256 {
            let reason = format!("{file}, which begins with it, is not the file that was written");
            return Err(Wrong::new(range.first, reason).into());
        }
        Ok(true)
    }

    /// The events that were judged are all, and end as the manifest says.
    pub(super) fn ends(&self, judge: &Judge) -> Result<(), NotVerified> {
        let Manifest { events, recorded_at, chain, .. } = &self.manifest;
        judge.end(*events)?;
        let first = judge.first.map(origin_of);
        if first.is_some_and(|origin| origin != self.manifest.origin) {
            return Err(
                Wrong::new(1, "the manifest names a ledger with another first event").into()
            );
        }
        if judge.recorded_at != *recorded_at || hex(&judge.chain) != *chain {
            return Err(other(format!("{MANIFEST} does not say how the events end")));
        }
        Ok(())
    }
}

/// Makes a file that only its owner may read, in place of one of that name.
fn private_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The hash of a file, in hexadecimal.
fn file_hash(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(bytes);
        let read = bytes.len();
        file.consume(read);
    }
}
