//! Who else keeps the checkpoints. What only the server has, whoever has the server can roll back;
//! a witness outside remembers the last checkpoint, and nothing is signed that does not go on from
//! it. The witness here is a file; another kind is another [`Witness`].

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    pin::Pin,
};

/// Bytes at the end of a file that are searched for the last checkpoint.
const TAIL_BYTES: u64 = 64 * 1024;

/// What a witness answers later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Keeps checkpoints where the server's own data is not.
pub trait Witness: Send + Sync {
    /// The last note that it has, if it has any.
    fn last(&self) -> Later<'_, Option<String>>;
    /// Keeps a note; durable once this returns.
    fn append<'a>(&'a self, note: &'a str) -> Later<'a, ()>;
}

/// A file to which notes are appended, each with an empty line after it. It is only ever appended
/// to, so that the system can be told to allow nothing else.
#[derive(Debug, Clone)]
pub struct FileWitness(PathBuf);

impl FileWitness {
    /// The witness at a path; the file is made with the first note.
    #[must_use]
    pub fn new(path: &Path) -> FileWitness {
        FileWitness(path.to_owned())
    }
}

impl Witness for FileWitness {
    fn last(&self) -> Later<'_, Option<String>> {
        let path = self.0.clone();
        Box::pin(blocking(move || match File::open(&path) {
            Ok(mut file) => Ok(last_of(&tail(&mut file)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }))
    }

    fn append<'a>(&'a self, note: &'a str) -> Later<'a, ()> {
        let (path, note) = (self.0.clone(), note.to_owned());
        Box::pin(blocking(move || {
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
            // What was cut off by a crash is closed, so that it does not run into this one.
            let end = tail(&mut file)?;
            let close = if end.is_empty() || end.ends_with("\n\n") { "" } else { "\n\n" };
            file.write_all(format!("{close}{note}\n").as_bytes())?;
            file.sync_all()
        }))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The end of a file.
fn tail(file: &mut File) -> io::Result<String> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last whole note of a text: a block of lines, and a block of signatures.
#[must_use]
pub fn last_of(text: &str) -> Option<String> {
    let blocks: Vec<&str> = text.split("\n\n").collect();
    // What follows the last empty line is not whole.
    let whole = blocks.split_last().map_or(&[][..], |(_, whole)| whole);
    let signed = |pair: &[&str]| match pair {
        [text, signatures] if signatures.starts_with('\u{2014}') => {
            Some(format!("{}\n\n{signatures}\n", text.trim_start_matches('\n')))
        }
        _ => None,
    };
    whole.windows(2).rev().find_map(signed)
}

/// Whether a file lies in a directory, by whatever way either is named; neither has to be there yet.
#[must_use]
pub fn lies_in(file: &Path, directory: &Path) -> bool {
    resolved(file).starts_with(resolved(directory))
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|up| Some((up, std::fs::canonicalize(up).ok()?)));
    match there {
        Some((up, real)) => real.join(path.strip_prefix(up).unwrap_or(Path::new(""))),
        None => path,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn note(n: usize) -> String {
        format!("origin\n{n}\nroot\n\n\u{2014} key signature{n}\n\u{2014} key other\n")
    }

    #[tokio::test]
    async fn the_last_whole_note_is_found_whatever_a_crash_left_behind_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("witness");
        let witness = FileWitness::new(&path);
        assert_eq!(witness.last().await.unwrap(), None);
        for n in 0..3 {
            witness.append(&note(n)).await.unwrap();
            assert_eq!(witness.last().await.unwrap(), Some(note(n)));
        }
        let whole = std::fs::read_to_string(&path).unwrap();
        let torn = format!("{}\n", note(9));
        for cut in torn.char_indices().map(|(at, _)| at) {
            std::fs::write(&path, format!("{whole}{}", &torn[..cut])).unwrap();
            assert_eq!(witness.last().await.unwrap(), Some(note(2)), "{cut}");
            witness.append(&note(3)).await.unwrap();
            assert_eq!(witness.last().await.unwrap(), Some(note(3)), "{cut}");
        }
        let many: String = (0..2_000).map(|n| note(n) + "\n").collect();
        std::fs::write(&path, many).unwrap();
        assert_eq!(witness.last().await.unwrap(), Some(note(1_999)));
    }
}
