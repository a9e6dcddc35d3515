//! Changes at random, of the ledger's tables and of an export's files: whatever it is, `verify` finds it,
//! and says where. `PUSHLEDGER_TEST_SEED` repeats the run whose seed a failure prints.

use std::path::{Path, PathBuf};

use pushledger::{
    audit::{
        archive::Export,
        verify::{self, NotVerified},
    },
    ledger::Stored,
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    archived::exported,
    tampered::{Dice, flip, keep, ledger, mend, stored, verified},
};
use crate::{
    harness::{Backdoor, Place},
    views::Bare,
};

/// Changes that one run tries.
const ROUNDS: usize = 60;
/// Events of a file of the export: few, so that there are many.
const FILE_EVENTS: i64 = 40;

/// Dice that nobody has thrown before, unless somebody wants to see a failure again.
#[expect(clippy::print_stdout, reason = "it is shown when the test fails")]
fn dice() -> Dice {
    let seed = std::env::var("PUSHLEDGER_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1);
    println!("PUSHLEDGER_TEST_SEED={seed}");
    Dice(seed)
}

/// Columns whose values are exchanged, with what stands there meanwhile.
const COLUMNS: [(&str, &str); 13] = [
    ("app", "'x'"),
    ("stream", "'x'"),
    ("version", "-1"),
    ("type", "'x'"),
    ("schema", "-1"),
    ("recorded_at", "-1"),
    ("event_id", "BLOB"),
    ("metadata", "'x'"),
    ("body", "'x'"),
    ("private", "NULL"),
    ("private_salt", "NULL"),
    ("leaf", "BLOB"),
    ("position", "-1"),
];

/// The value of a column, worded so that two can be compared.
fn value(row: &Stored, column: &str) -> String {
    match column {
        "app" => row.app.clone(),
        "stream" => row.stream.clone(),
        "version" => row.version.to_string(),
        "type" => row.name.clone(),
        "schema" => row.schema.to_string(),
        "recorded_at" => row.recorded_at.to_string(),
        "event_id" => row.event_id.to_string(),
        "metadata" => row.metadata.clone(),
        "body" => row.body.clone(),
        "private" => format!("{:?}", row.private),
        "private_salt" => format!("{:?}", row.salt),
        "leaf" => format!("{:?}", row.leaf),
        _ => row.position.to_string(),
    }
}

/// A blob of one byte.
fn blob(place: &Place) -> &'static str {
    if place.on_postgres() { "'\\x00'::bytea" } else { "x'00'" }
}

/// Changes something, anything; gives what, and the position that has to be named. Nothing if what the
/// dice say changes nothing.
async fn tamper(
    place: &Place,
    backdoor: &mut Backdoor,
    all: &[Stored],
    dice: &mut Dice,
) -> Option<(String, i64)> {
    let last = all.len() as i64;
    let one = 1 + dice.below(last - 1);
    let other = one + 1 + dice.below(last - one);
    let (first, second) = (&all[one as usize - 1], &all[other as usize - 1]);
    let copied = |at: i64| {
        format!(
            "INSERT INTO events SELECT {at}, app, stream || '0', version, type, schema, \
             recorded_at, event_id, metadata, body, private, private_salt, leaf FROM kept \
             WHERE position = {other}"
        )
    };
    let (sql, named) = match dice.below(8) {
        0 => (vec![format!("DELETE FROM events WHERE position = {one}")], one),
        1 => (vec![format!("DELETE FROM events WHERE position > {one}")], one + 1),
        // One column of two rows, or all of them.
        2 | 3 => {
            let (column, meanwhile) = COLUMNS[dice.below(13) as usize];
            if value(first, column) == value(second, column) {
                return None;
            }
            let meanwhile = meanwhile.replace("BLOB", blob(place));
            let of = |at: i64| format!("(SELECT {column} FROM kept WHERE position = {at})");
            // By the name of a row that stays, as its position may be what is exchanged.
            let row =
                |own: &Stored| format!("stream = '{}' AND version = {}", own.stream, own.version);
            let by = |own: &Stored, at: i64| match column {
                "stream" | "version" => format!("position = {at}"),
                _ => row(own),
            };
            let set = |value: &str, own: &Stored, at: i64| {
                format!("UPDATE events SET {column} = {value} WHERE {}", by(own, at))
            };
            let sql = vec![
                set(&meanwhile, first, one),
                set(&of(one), second, other),
                set(&of(other), first, one),
            ];
            (sql, one)
        }
        // One that all later ones make room for.
        4 => {
            let sql = vec![
                format!("UPDATE events SET position = -position WHERE position >= {one}"),
                "UPDATE events SET position = 1 - position WHERE position < 0".to_owned(),
                copied(one),
            ];
            (sql, one)
        }
        5 => {
            let at = [last + 1, 0, -7][dice.below(3) as usize];
            (vec![copied(at)], at)
        }
        6 => {
            let digest = blob(place);
            let known = first.erased.is_some();
            let sql = match known {
                true => format!("DELETE FROM erased WHERE position = {one}"),
                false => format!("INSERT INTO erased (position, digest) VALUES ({one}, {digest})"),
            };
            (vec![sql], one)
        }
        _ => {
            let bare = Bare::open(place).await;
            let column = dice.below(13) as usize;
            let row = if column == 12 { second } else { first };
            let name = flip(&bare.ledger.database().ledger_write, row, column, dice).await;
            bare.close().await;
            return name.map(|name| (format!("a flipped {name}"), row.position));
        }
    };
    for sql in &sql {
        backdoor.run(sql).await;
    }
    Some((sql.join("; "), named))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_of_a_ledger_at_random_is_found_where_it_is() {
    let (place, mut backdoor) = ledger().await;
    keep(&mut backdoor).await;
    backdoor.run("CREATE TABLE kept_erased AS SELECT * FROM erased").await;
    // Nothing of the database keeps anybody from anything.
    backdoor.run("DROP INDEX events_stream").await;
    let all = stored(&place).await;
    let mut dice = dice();
    let mut tried = 0;
    while tried < ROUNDS {
        let Some((what, named)) = tamper(&place, &mut backdoor, &all, &mut dice).await else {
            continue;
        };
        let at = match verified(&place).await {
            Err(NotVerified::Wrong(wrong)) => wrong.position,
            // Without its first event's id the ledger has another name.
            Err(NotVerified::Other(_)) if named == 1 => 1,
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(at, named, "{what}");
        mend(&mut backdoor).await;
        backdoor.run("DELETE FROM erased").await;
        backdoor.run("INSERT INTO erased SELECT * FROM kept_erased").await;
        tried += 1;
    }
    verified(&place).await.unwrap();
}

/// The file that holds the event at a position, and which of its lines that is.
fn file_of(export: &Path, position: i64) -> (PathBuf, usize) {
    let before = (position - 1) % FILE_EVENTS;
    let file = format!("events-{:012}.jsonl.zst", position - before);
    (export.join(file), before as usize)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = zstd::decode_all(std::fs::File::open(file).unwrap()).unwrap();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn write(file: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(file, zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
}

/// Changes an export; gives what, and the positions of which one has to be named.
fn alter(export: &Path, events: i64, dice: &mut Dice) -> Option<(String, (i64, i64))> {
    let one = 1 + dice.below(events - 1);
    let other = one + 1 + dice.below(events - one);
    let ((file, at), (second, there)) = (file_of(export, one), file_of(export, other));
    let mut own = lines(&file);
    let count = own.len() as i64;
    let first = one - at as i64;
    let exactly = |what: &str| Some((format!("{what} {one} {other}"), (one, one)));
    match dice.below(9) {
        0 => {
            own.remove(at);
            write(&file, &own);
            exactly("removed")
        }
        1 if file == second => {
            own.swap(at, there);
            write(&file, &own);
            exactly("swapped")
        }
        1 => {
            let mut others = lines(&second);
            std::mem::swap(&mut own[at], &mut others[there]);
            write(&file, &own);
            write(&second, &others);
            exactly("swapped across files")
        }
        2 => {
            own.insert(at, lines(&second)[there].clone());
            write(&file, &own);
            exactly("inserted")
        }
        // One value of another event.
        3 | 4 => {
            let others = lines(&second);
            let keys: Vec<String> = own[at].as_object().unwrap().keys().cloned().collect();
            let key = &keys[dice.below(keys.len() as i64) as usize];
            if own[at][key] == others[there][key] {
                return None;
            }
            own[at][key] = others[there][key].clone();
            // What that event lacks is a null here, which no line has.
            write(&file, &own);
            exactly(&format!("another {key}"))
        }
        5 => {
            let mut bytes = std::fs::read(&file).unwrap();
            let byte = dice.below(bytes.len() as i64) as usize;
            bytes[byte] ^= 1 << dice.below(8);
            std::fs::write(&file, bytes).unwrap();
            Some((format!("byte {byte} of {}", file.display()), (first, first + count)))
        }
        6 => {
            let bytes = std::fs::read(&file).unwrap();
            let cut = dice.below(bytes.len() as i64) as usize;
            std::fs::write(&file, &bytes[..cut]).unwrap();
            Some((format!("cut at {cut}"), (first, first + count - 1)))
        }
        7 if file != second => {
            let [a, b] = [&file, &second].map(|file| std::fs::read(file).unwrap());
            std::fs::write(&file, b).unwrap();
            std::fs::write(&second, a).unwrap();
            Some(("files exchanged".to_owned(), (first, first)))
        }
        8 => {
            std::fs::remove_file(&file).unwrap();
            Some(("a file removed".to_owned(), (first, first)))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_of_an_export_at_random_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, export] = ["whole", "export"].map(|name| folder.path().join(name));
    let place = exported(&folder.path().join("first")).await;
    let bare = Bare::open(&place).await;
    let few = Export { file_events: FILE_EVENTS, ..Export::default() };
    let events = few.write(&bare.ledger, &whole).await.unwrap();
    bare.close().await;
    let mut dice = dice();
    let mut tried = 0;
    while tried < ROUNDS {
        let _ = std::fs::remove_dir_all(&export);
        std::fs::create_dir(&export).unwrap();
        for file in std::fs::read_dir(&whole).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), export.join(file.file_name())).unwrap();
        }
        let Some((what, (from, to))) = alter(&export, events, &mut dice) else { continue };
        match verify::export(&export, &[], &[]).await {
            Err(NotVerified::Wrong(wrong)) => {
                assert!(
                    (from..=to).contains(&wrong.position),
                    "{what}: {wrong}, not {from} to {to}"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
        tried += 1;
    }
    verify::export(&whole, &[], &[]).await.unwrap();
}
