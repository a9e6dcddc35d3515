//! Golden files are only ever added to. `golden.sha256` has the hash of each, so that one that was
//! changed or removed is noticed; `sha256sum -c ../golden.sha256` in their folder says the same.
//! `UPDATE_GOLDEN=1` adds the lines of new files, and touches no other.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Hashes by the names of files, as the manifest has them.
fn listed() -> BTreeMap<String, String> {
    let text = fs::read_to_string(tests().join("golden.sha256")).unwrap();
    let line = |line: &str| {
        let (hash, name) = line.split_once("  ").unwrap();
        (name.to_owned(), hash.to_owned())
    };
    text.lines().map(line).collect()
}

/// Hashes by the names of the files that are there.
fn there() -> BTreeMap<String, String> {
    let hashed = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let mut hash = String::new();
        for byte in Sha256::digest(fs::read(entry.path()).unwrap()) {
            write!(hash, "{byte:02x}").unwrap();
        }
        (entry.file_name().into_string().unwrap(), hash)
    };
    fs::read_dir(tests().join("golden")).unwrap().map(hashed).collect()
}

#[test]
fn no_golden_file_was_changed_or_removed_and_each_is_listed() {
    let (mut listed, there) = (listed(), there());
    for (name, hash) in &listed {
        let now = there.get(name).unwrap_or_else(|| panic!("{name} was removed"));
        assert_eq!(now, hash, "{name} was changed: an event that was stored is never another");
    }
    let new: Vec<_> = there.into_iter().filter(|(name, _)| !listed.contains_key(name)).collect();
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1") && !new.is_empty() {
        listed.extend(new);
        let mut text = String::new();
        for (name, hash) in &listed {
            writeln!(text, "{hash}  {name}").unwrap();
        }
        fs::write(tests().join("golden.sha256"), text).unwrap();
    } else {
        assert_eq!(new, [], "not listed in golden.sha256: run with UPDATE_GOLDEN=1 and commit it");
    }
}
