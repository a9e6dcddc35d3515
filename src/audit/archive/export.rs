//! Writes an export. A file gets its name once it is whole, and the manifest is written last: without
//! it there is no export, and what a run that was cut off left behind is written over.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    super::{
        Checkpoints, keys,
        tiles::signed,
        verify::{NotVerified, PAGE},
    },
    CHECKPOINT, COLUMNS, Carried, FORMAT, KEYS, MANIFEST, Manifest, Range, credentials, file_hash,
    other,
};
use crate::{
    ledger::{Ledger, Stored},
    secrets::hex,
};

/// Events of one file.
const RANGE_EVENTS: i64 = 100_000;
/// How hard zstd tries.
const LEVEL: i32 = 3;

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
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    let last = Checkpoints::last(&mut checkout.conn()).await?;
    let last = last.ok_or_else(|| other("nothing was sealed yet"))?;
    let origin = keys::origin(&mut checkout.conn()).await?;
    let origin = origin.ok_or_else(|| other("the ledger has no first event"))?;
    let keys = keys::all(&mut checkout.conn()).await?;
    drop(checkout);
    let failed = |error: io::Error| other(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    if directory.join(MANIFEST).exists() {
        return Err(other(format!("{} holds an export already", directory.display())));
    }
    let events = signed(last.size);
    let (mut ranges, mut chain, mut recorded_at) = (Vec::new(), [0; 32], 0);
    let mut first = 1;
    while first <= events {
        let end = events.min(first + RANGE_EVENTS - 1);
        let mut file = EventsFile::create(directory, first).map_err(failed)?;
        let mut after = first - 1;
        while after < end {
            let limit = (end - after).min(PAGE as i64);
            let page = ledger.read_stored(after, limit).await?;
            let Some(last) = page.last() else {
                return Err(other(format!("there is no event after {after}")));
            };
            (after, recorded_at) = (last.position, last.recorded_at);
            for stored in &page {
                let next = Sha256::new().chain_update(chain).chain_update(&stored.leaf);
                chain = next.finalize().into();
            }
            let written = tokio::task::spawn_blocking(move || file.write(&page));
            file = written.await.map_err(other)?.map_err(failed)?;
        }
        ranges.push(file.finish(first, end).map_err(failed)?);
        first = end + 1;
    }
    let lines = keys.iter().map(|key| format!("{} {}\n", key.from_size, key.verifier(&origin)));
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        let mut file = File::create(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    };
    file(KEYS, &lines.collect::<String>())?;
    let keys = file_hash(&directory.join(KEYS)).map_err(failed)?;
    file(CHECKPOINT, &last.note)?;
    let credentials = match carried {
        Some(carried) => Some(credentials::write(ledger, directory, carried).await?),
        None => None,
    };
    let (columns, chain) = (COLUMNS.map(str::to_owned).to_vec(), hex(&chain));
    let format = FORMAT;
    let manifest =
        Manifest { format, origin, events, recorded_at, chain, columns, ranges, keys, credentials };
    file(MANIFEST, &manifest.text()?)?;
    Ok(events)
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
        let hashing = Hashing { file: File::create(&aside)?, hash: Sha256::new() };
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
