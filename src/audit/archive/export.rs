//! Writes an export. A file gets its name once it is whole, and the manifest is written last: without
//! it there is no export, and what a run that was cut off left behind is written over.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    super::{Checkpoints, keys, reading::rows, tiles::signed, verify::NotVerified},
    CHECKPOINT, COLUMNS, Carried, FORMAT, KEYS, MANIFEST, Manifest, Opened, Range, credentials,
    file_hash, other, private_file,
};
use crate::{
    ledger::{Ledger, Stored, store::private_directory},
    secrets::hex,
};

/// Events of one file.
const RANGE_EVENTS: i64 = 100_000;
/// How hard zstd tries.
const LEVEL: i32 = 3;

/// How an export is written.
#[derive(Clone)]
pub struct Export {
    /// Credentials that come along.
    pub carried: Option<Carried>,
    /// The export that holds what is away.
    pub detached: Option<Opened>,
    /// Events of a file.
    pub file_events: i64,
}

impl Default for Export {
    fn default() -> Export {
        Export { carried: None, detached: None, file_events: RANGE_EVENTS }
    }
}

/// Writes the sealed part of a ledger into a folder, which must hold no export yet; gives the
/// number of events.
///
/// # Errors
/// [`NotVerified`] when nothing is sealed, or something cannot be read or written.
pub async fn write(
    ledger: &Ledger,
    directory: &Path,
    carried: Option<Carried>,
) -> Result<i64, NotVerified> {
    Export { carried, ..Export::default() }.write(ledger, directory).await
}

impl Export {
    /// Writes it.
    ///
    /// # Errors
    /// [`NotVerified`] when nothing is sealed, or something cannot be read or written.
    pub async fn write(self, ledger: &Ledger, directory: &Path) -> Result<i64, NotVerified> {
        let mut checkout = ledger.database().ledger_read.checkout().await?;
        let last = Checkpoints::last(&mut checkout.conn()).await?;
        let last = last.ok_or_else(|| other("nothing was sealed yet"))?;
        let origin = keys::origin(&mut checkout.conn()).await?;
        let origin = origin.ok_or_else(|| other("the ledger has no first event"))?;
        let keys = keys::all(&mut checkout.conn()).await?;
        drop(checkout);
        let failed = |error: io::Error| other(format!("{}: {error}", directory.display()));
        private_directory(directory).map_err(failed)?;
        if directory.join(MANIFEST).exists() {
            return Err(other(format!("{} holds an export already", directory.display())));
        }
        let away = ledger.away().await?;
        if let Some(away) = away.filter(|_| self.detached.is_none()) {
            return Err(away.fault().into());
        }
        let events = signed(last.size);
        let Written { ranges, chain, recorded_at } = self.events(ledger, directory, events).await?;
        let lines = keys.iter().map(|key| format!("{} {}\n", key.from_size, key.verifier(&origin)));
        let file = |name: &str, text: &str| {
            let aside = directory.join(format!("{name}.part"));
            let mut file = private_file(&aside).map_err(failed)?;
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&aside, directory.join(name)).map_err(failed)
        };
        file(KEYS, &lines.collect::<String>())?;
        let keys = file_hash(&directory.join(KEYS)).map_err(failed)?;
        file(CHECKPOINT, &last.note)?;
        let (columns, chain) = (COLUMNS.map(str::to_owned).to_vec(), hex(&chain));
        let credentials = match self.carried {
            Some(own) => Some(credentials::write(ledger, directory, own, &chain).await?),
            None => None,
        };
        let format = FORMAT;
        let manifest = Manifest {
            format,
            origin,
            events,
            recorded_at,
            chain,
            columns,
            ranges,
            keys,
            credentials,
        };
        // Whoever sees the manifest sees all files.
        let sync = || File::open(directory).and_then(|own| own.sync_all()).map_err(failed);
        sync()?;
        file(MANIFEST, &manifest.text()?)?;
        sync()?;
        Ok(events)
    }

    /// Writes the files of events up to a position. While one page is compressed, others are read.
    async fn events(
        &self,
        ledger: &Ledger,
        directory: &Path,
        events: i64,
    ) -> Result<Written, NotVerified> {
        let failed = |error: io::Error| other(format!("{}: {error}", directory.display()));
        let mut written = Written { ranges: Vec::new(), chain: [0; 32], recorded_at: 0 };
        let (mut first, mut next, mut file) = (1, 1, None);
        let mut pages = rows(ledger.clone(), events, self.detached.clone()).await?;
        while let Some(page) = pages.recv().await {
            let mut page = page?;
            while !page.is_empty() {
                let end = events.min(first + self.file_events - 1);
                let room = usize::try_from(end + 1 - next).unwrap_or(usize::MAX);
                let rest = page.split_off(room.min(page.len()));
                for stored in &page {
                    if stored.position != next {
                        return Err(other(format!("there is no event at {next}")));
                    }
                    let chained = Sha256::new().chain_update(written.chain);
                    written.chain = chained.chain_update(&stored.leaf).finalize().into();
                    written.recorded_at = stored.recorded_at;
                    next += 1;
                }
                let open = match file.take() {
                    Some(open) => open,
                    None => EventsFile::create(directory, first).map_err(failed)?,
                };
                let done = tokio::task::spawn_blocking(move || open.write(&page));
                let open = done.await.map_err(other)?.map_err(failed)?;
                if next > end {
                    written.ranges.push(open.finish(first, end).map_err(failed)?);
                    first = next;
                } else {
                    file = Some(open);
                }
                page = rest;
            }
        }
        match next > events {
            true => Ok(written),
            false => Err(other(format!("there is no event at {next}"))),
        }
    }
}

/// The files of events, and how these end.
struct Written {
    ranges: Vec<Range>,
    chain: [u8; 32],
    recorded_at: i64,
}

/// Counts the hash of what is written through it.
struct Hashing {
    file: File,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file of events on its way.
struct EventsFile {
    aside: PathBuf,
    path: PathBuf,
    name: String,
    encoder: zstd::Encoder<'static, Hashing>,
}

impl EventsFile {
    fn create(directory: &Path, first: i64) -> io::Result<EventsFile> {
        let name = format!("events-{first:012}.jsonl.zst");
        let (aside, path) = (directory.join(format!("{name}.part")), directory.join(&name));
        let hashing = Hashing { file: private_file(&aside)?, hash: Sha256::new() };
        let mut encoder = zstd::Encoder::new(hashing, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(EventsFile { aside, path, name, encoder })
    }

    fn write(mut self, page: &[Stored]) -> io::Result<EventsFile> {
        let mut lines = Vec::with_capacity(page.len() * 512);
        for stored in page {
            serde_json::to_writer(&mut lines, stored)?;
            lines.push(b'\n');
        }
        self.encoder.write_all(&lines)?;
        Ok(self)
    }

    fn finish(self, first: i64, last: i64) -> io::Result<Range> {
        let Hashing { file, hash } = self.encoder.finish()?;
        file.sync_all()?;
        fs::rename(&self.aside, &self.path)?;
        Ok(Range { file: self.name, first, last, sha256: hex(&hash.finalize()) })
    }
}
