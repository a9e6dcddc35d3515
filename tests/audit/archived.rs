//! A ledger that travels: exported, checked where it lies, restored into the other database and
//! back, and equal in every column.

use std::{path::Path, process::Command};

use projections::{
    db::{Conn, Pool},
    on,
};
use pushledger::{
    audit::{
        archive::{self, Carried},
        verify::{self, NotVerified},
    },
    clock::Clock,
    feed::effects,
    ledger::Database,
    secrets::MasterKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{keys, live, sealed, text};
use crate::{
    harness::{Place, World, message, until},
    views::{Bare, history},
};

/// Every table that a restored store has in common with the one that it came from.
const SAME: [&str; 3] = ["events", "idempotency", "erased"];

/// Every row of each table, worded the same from either database.
pub(super) async fn tables(database: &Database) -> Vec<(String, Vec<String>)> {
    let mut tables = Vec::new();
    for name in SAME.iter().chain(projections::registry::TABLES).chain(&["head", "tiles"]) {
        tables.push(((*name).to_owned(), worded(&database.ledger_read, name).await));
    }
    tables
}

/// All rows of a table, its columns in order of name; bytes are in hexadecimal.
async fn worded(pool: &Pool, table: &str) -> Vec<String> {
    let mut checkout = pool.checkout().await.unwrap();
    let columns = match checkout.conn() {
        Conn::Sqlite(_) => format!(
            "SELECT name, CASE type WHEN 'BLOB' THEN 'nullif(hex(' || name || '), '''')' ELSE name END \
             FROM pragma_table_info('{table}') ORDER BY name"
        ),
        Conn::Postgres(_) => format!(
            "SELECT column_name::text, CASE data_type WHEN 'bytea' \
             THEN 'upper(encode(' || column_name || ', ''hex''))' ELSE column_name::text END \
             FROM information_schema.columns WHERE table_schema = 'public' \
             AND table_name = '{table}' AND is_generated = 'NEVER' ORDER BY 1"
        ),
    };
    let columns: Vec<(String, String)> = on!(checkout.conn(), c => {
        sqlx::query_as(sqlx::AssertSqlSafe(columns)).fetch_all(&mut *c).await.unwrap()
    });
    assert!(columns.len() >= 2, "{table}");
    let value = |(name, value): &(String, String)| {
        format!("'{name}=' || COALESCE(CAST({value} AS TEXT), 'none')")
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let sql = format!("SELECT {} FROM {table}", values.join(" || ' ' || "));
    let rows: Vec<(String,)> = on!(checkout.conn(), c => {
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *c).await.unwrap()
    });
    let mut rows: Vec<String> = rows.into_iter().map(|(row,)| row).collect();
    rows.sort_unstable();
    rows
}

/// A ledger with a rich history, all of it sealed and in a folder.
pub(super) async fn exported(directory: &Path) -> Place {
    let world = World::with_clock().await;
    history::live(&world, 3, 120).await;
    world.register("client-k").await;
    let (path, cloud) = ("/umse/v2/msgPush", world.cloud());
    let body = json!({ "dst": { "type": 0, "Id": ["client-k"] }, "message": {} }).to_string();
    let mut headers = cloud.headers(path, &body, world.clock.now() / 1_000);
    headers.push(("Idempotency-Key".to_owned(), "k-1".to_owned()));
    assert_eq!(cloud.call_with(path, &body, &headers).await.unwrap().ret_code, "00000");
    sealed(&world).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let head = bare.ledger.head();
    seal_rest(&bare, &place).await;
    assert_eq!(
        archive::write(&bare.ledger, directory, Some(carried(&bare, &place).await)).await.unwrap(),
        head
    );
    bare.close().await;
    place
}

/// The master key of a place.
async fn master_of(place: &Place) -> MasterKey {
    let database = Database::open(&place.database()).await.unwrap();
    let master = MasterKey::load(None, place.directory.path(), &database).await.unwrap();
    database.close().await;
    master
}

/// All credentials.
async fn carried(bare: &Bare, place: &Place) -> Carried {
    let database = bare.ledger.database();
    let master = MasterKey::load(None, place.directory.path(), database).await.unwrap();
    Carried { master, locked: None }
}

/// Seals what came while the server stopped.
pub(super) async fn seal_rest(bare: &Bare, place: &Place) {
    let database = bare.ledger.database();
    let master = MasterKey::load(None, place.directory.path(), database);
    let master = master.await.unwrap();
    let (read, write) = (&database.ledger_read, &database.ledger_write);
    let sealer = pushledger::audit::sealer::Sealer::open(read, write, &master, None);
    sealer.await.unwrap().seal(0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_is_the_same_in_either_database_and_back_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    let place = exported(&first).await;
    let master = master_of(&place).await;
    let original = Database::open(&place.database()).await.unwrap();
    let expected = tables(&original).await;
    original.close().await;
    assert!(expected.iter().any(|(name, rows)| name == "idempotency" && !rows.is_empty()));
    // To the other database if the test has one, else to another of the same; and back.
    let there = Place::new().await;
    let between = tempfile::tempdir().unwrap();
    let other = match there.on_postgres() {
        true => format!("sqlite:{}", between.path().display()),
        false => there.database(),
    };
    let back = Place::new().await;
    let mut from = first.clone();
    for (name, url) in [("second", other), ("third", back.database())] {
        let database = Database::open(&url).await.unwrap();
        archive::import(&database, &from, &[], Some(&master), 1).await.unwrap();
        for (restored, original) in tables(&database).await.iter().zip(&expected) {
            assert_eq!(restored, original, "{name}");
        }
        database.close().await;
        from = folder.path().join(name);
        let bare = Bare::at(&url).await;
        archive::write(&bare.ledger, &from, Some(carried(&bare, &place).await)).await.unwrap();
        bare.close().await;
        for file in std::fs::read_dir(&first).unwrap() {
            let file = file.unwrap().file_name();
            let read = |folder: &Path| std::fs::read(folder.join(&file)).unwrap();
            assert!(read(&first) == read(&from), "{} of {name}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_fails_leaves_nothing_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    let master = master_of(&exported(&export).await).await;
    let file = export.join("events-000000000001.jsonl.zst");
    let whole = std::fs::read(&file).unwrap();
    let place = Place::new().await;
    let database = Database::open(&place.database()).await.unwrap();
    let empty = tables(&database).await;
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let refused = archive::import(&database, &export, &[], Some(&master), 1).await;
        assert!(matches!(refused, Err(NotVerified::Wrong(_))), "{cut}: {refused:?}");
        assert_eq!(tables(&database).await, empty, "{cut}");
    }
    std::fs::write(&file, &whole).unwrap();
    let report = archive::import(&database, &export, &[], Some(&master), 1).await.unwrap();
    assert!(report.events > 100);
    // A store that holds something takes no other.
    let again = archive::import(&database, &export, &[], Some(&master), 1).await;
    assert!(matches!(again, Err(NotVerified::Other(_))), "{again:?}");
    let is_paused = effects::paused(&database.ledger_read).await.unwrap();
    assert!(is_paused.is_some());
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_for_its_owner_alone_and_a_manifest_that_was_cut_off_is_none() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("made").join("export");
    let place = exported(&export).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&export), 0o700);
    let files = || std::fs::read_dir(&export).unwrap().map(|file| file.unwrap().path());
    for file in files() {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert!(file.extension().is_none_or(|extension| extension != "part"), "{}", file.display());
    }
    assert!(files().count() >= 5);
    // A run that was cut off while it wrote the manifest can be repeated.
    std::fs::rename(export.join("manifest.json"), export.join("manifest.json.part")).unwrap();
    let bare = Bare::open(&place).await;
    archive::write(&bare.ledger, &export, Some(carried(&bare, &place).await)).await.unwrap();
    bare.close().await;
    verify::export(&export, &[], &[]).await.unwrap();
    assert!(!export.join("manifest.json.part").exists());
    // What is for analysis alone holds no credentials, and says so.
    let parquet = folder.path().join("parquet");
    let mut refused = command(&place);
    refused.arg("export").arg(&parquet).args(["--format", "parquet", "--credentials"]);
    let (done, said) = run(&mut refused);
    assert!(!done && said.contains("hold no credentials"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_somebody_put_into_an_export_are_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    let master = master_of(&exported(&export).await).await;
    let place = Place::new().await;
    let database = Database::open(&place.database()).await.unwrap();
    let import = async |key: Option<&MasterKey>| {
        archive::import(&database, &export, &[], key, 1).await.map_err(|error| error.to_string())
    };
    // Another operator's token, with the manifest to match.
    let file = export.join("credentials.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    let hash = |text: &str| pushledger::secrets::hex(&Sha256::digest(text));
    let mut altered: Value = serde_json::from_str(&whole).unwrap();
    altered["operators"][0][1] = json!(hash("a token of mine"));
    let altered = altered.to_string();
    let manifest = export.join("manifest.json");
    let listed = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, listed.replace(&hash(&whole), &hash(&altered))).unwrap();
    std::fs::write(&file, &altered).unwrap();
    // Its events are right all the same.
    verify::export(&export, &[], &[]).await.unwrap();
    assert!(import(Some(&master)).await.unwrap_err().contains("was not sealed"));
    std::fs::write(&manifest, &listed).unwrap();
    std::fs::write(&file, &whole).unwrap();
    assert!(import(Some(&master_of(&place).await)).await.unwrap_err().contains("was not sealed"));
    assert!(import(None).await.unwrap_err().contains("bring the master key"));
    import(Some(&master)).await.unwrap();
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_byte_of_an_export_that_was_altered_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    exported(&export).await;
    let report = verify::export(&export, &[], &[]).await.unwrap();
    let note = std::fs::read_to_string(export.join("checkpoint")).unwrap();
    verify::export(&export, &[note], &[]).await.unwrap();
    let mut tried = 0;
    for entry in std::fs::read_dir(&export).unwrap() {
        let path = entry.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        let step = whole.len().div_ceil(60);
        for at in (0..whole.len()).step_by(step) {
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            std::fs::write(&path, &altered).unwrap();
            let found = verify::export(&export, &[], &[]).await;
            let located = match &found {
                Err(NotVerified::Wrong(wrong)) => {
                    (1..=report.events as i64).contains(&wrong.position)
                }
                Err(NotVerified::Other(_)) => path.extension().is_none_or(|e| e != "zst"),
                Ok(_) | Err(NotVerified::Fault(_)) => false,
            };
            assert!(located, "byte {at} of {}: {found:?}", path.display());
            tried += 1;
        }
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(tried > 200, "{tried}");
    verify::export(&export, &[], &[]).await.unwrap();
}

/// Rewrites the lines of an export's events, with the hash in its manifest.
fn rewrite(export: &Path, change: impl FnOnce(&mut Vec<Value>)) {
    let file = export.join("events-000000000001.jsonl.zst");
    let text = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    change(&mut lines);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_export_that_were_changed_removed_swapped_or_inserted_are_located() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    exported(&export).await;
    let file = export.join("events-000000000001.jsonl.zst");
    let whole = std::fs::read(&file).unwrap();
    type Change = fn(&mut Vec<Value>);
    let changes: [(&str, Change, i64); 5] = [
        ("changed", |lines| lines[41]["body"] = json!("{}"), 42),
        ("removed", |lines| drop(lines.remove(41)), 42),
        ("swapped", |lines| lines.swap(41, 60), 42),
        ("inserted", |lines| lines.insert(41, lines[7].clone()), 42),
        ("renumbered", |lines| lines[41]["position"] = json!(40), 42),
    ];
    for (what, change, position) in changes {
        rewrite(&export, change);
        match verify::export(&export, &[], &[]).await {
            Err(NotVerified::Wrong(wrong)) => {
                assert_eq!(wrong.position, position, "{what}: {wrong}")
            }
            other => panic!("{what}: {other:?}"),
        }
        std::fs::write(&file, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_an_export_at_random_are_located() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    exported(&export).await;
    let file = export.join("events-000000000001.jsonl.zst");
    let whole = std::fs::read(&file).unwrap();
    let events = verify::export(&export, &[], &[]).await.unwrap().events;
    let mut dice = super::tampered::Dice(23);
    for round in 0..40 {
        let at = dice.below(events as i64 - 1) as usize;
        let other = at + 1 + dice.below(events as i64 - 1 - at as i64) as usize;
        rewrite(&export, |lines| match round % 4 {
            0 => drop(lines.remove(at)),
            1 => lines.swap(at, other),
            2 => lines.insert(at, lines[other].clone()),
            // Any of its values.
            _ => {
                let line = lines[at].as_object_mut().unwrap();
                let keys: Vec<String> = line.keys().cloned().collect();
                let key = &keys[dice.below(keys.len() as i64) as usize];
                line[key] = match &line[key] {
                    Value::Number(number) => json!(number.as_i64().unwrap() + 1),
                    value => {
                        let text = value.as_str().unwrap();
                        // Another digit, or another letter.
                        let last = if text.ends_with('0') { "1" } else { "0" };
                        json!(format!("{}{last}", &text[..text.len().saturating_sub(1)]))
                    }
                };
            }
        });
        match verify::export(&export, &[], &[]).await {
            Err(NotVerified::Wrong(wrong)) => {
                assert_eq!(wrong.position, at as i64 + 1, "round {round}: {wrong}");
            }
            other => panic!("round {round} at {}: {other:?}", at + 1),
        }
        std::fs::write(&file, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_leaves_nothing_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    let digits = std::fs::read(exported(&export).await.directory.path().join("master.key"));
    let place = Place::new().await;
    std::fs::write(place.directory.path().join("master.key"), digits.unwrap()).unwrap();
    let database = Database::open(&place.database()).await.unwrap();
    let empty = tables(&database).await;
    database.close().await;
    // Later and later, until one got through before it was killed.
    let mut killed = 0;
    for step in 1_u64.. {
        let mut import = command(&place);
        import.arg("import").arg(&export).stdout(std::process::Stdio::null());
        let mut import = import.spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(step * step * 5)).await;
        let ended = import.try_wait().unwrap();
        import.kill().unwrap();
        import.wait().unwrap();
        let database = Database::open(&place.database()).await.unwrap();
        let now = tables(&database).await;
        database.close().await;
        if ended.is_some_and(|status| status.success()) {
            assert_ne!(now, empty);
            break;
        }
        if now != empty {
            // Killed after its commit: then all of it is there.
            let bare = Bare::open(&place).await;
            verify::live(&bare.ledger, None, &[], None).await.unwrap();
            bare.close().await;
            break;
        }
        killed += 1;
    }
    assert!(killed > 0);
    let events = verify::export(&export, &[], &[]).await.unwrap().events;
    let bare = Bare::open(&place).await;
    assert_eq!(bare.ledger.head() as u64, events);
    bare.close().await;
}

pub(super) fn command(place: &Place) -> Command {
    let config = place.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    command.args(["--database", &config.database]).arg("--data").arg(&config.data);
    command
}

pub(super) fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_restored_acts_only_once_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    let world = World::new().await;
    live(&world, 0..1).await;
    sealed(&world).await;
    let key = keys(&world).await[0].to_string();
    let place = world.stop().await;
    let phrase = folder.path().join("passphrase");
    std::fs::write(&phrase, "correct horse battery staple\n").unwrap();
    let mut writes = command(&place);
    writes.arg("export").arg(&export).args(["--credentials", "--passphrase-file"]).arg(&phrase);
    let (done, text_) = run(&mut writes);
    assert!(done, "{text_}");
    let (done, text_) = run(command(&place).arg("verify"));
    assert!(done && text_.contains("\"events\":"), "{text_}");
    let (done, text_) =
        run(command(&place).arg("verify").arg("--export").arg(&export).args(["--key", &key]));
    assert!(done && text_.contains("\"events\":"), "{text_}");
    let restored = Place::new().await;
    let import = || {
        let mut import = command(&restored);
        import.arg("import").arg(&export).args(["--key", &key, "--passphrase-file"]).arg(&phrase);
        import
    };
    std::fs::write(&phrase, "another horse battery staple").unwrap();
    assert!(!run(&mut import()).0);
    std::fs::write(&phrase, "correct horse battery staple").unwrap();
    let (done, text_) = run(&mut import());
    assert!(done, "{text_}");
    let master = |place: &Place| std::fs::read(place.directory.path().join("master.key")).unwrap();
    assert_eq!(master(&restored), master(&place));
    // Everything is there; the token of the admin too.
    let world = World::start(restored, Clock::System).await;
    let metric = async |line: &str| text(&world, "/metrics").await.1.lines().any(|l| l == line);
    until("effects are not paused", async || metric("pushledger_effects_paused 1").await).await;
    let caller = world.register("client-new").await;
    let gone = json!({ "appPackage": crate::harness::PACKAGE });
    let id = world.push("client-new", json!({})).await;
    crate::harness::ok(&caller, "/ums/v2/unreg", &gone).await;
    let (done, text_) = run(command(&world.place).arg("resume"));
    assert!(done && text_.contains("go on"), "{text_}");
    // The ending of what was addressed to a device that went is an effect.
    world.until(&id, |info| info["devices"][0]["ended"] == "unregistered").await;
    assert!(metric("pushledger_effects_paused 0").await);
    sealed(&world).await;
    let caller = world.register("client-later").await;
    let mut device = world.connect(&caller).await;
    world.push("client-later", json!({})).await;
    message(&mut device).await;
    world.stop().await;
}

#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_in_the_parquet_files_with_its_values() {
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };
    let folder = tempfile::tempdir().unwrap();
    let place = exported(&folder.path().join("export")).await;
    let bare = Bare::open(&place).await;
    let rows = bare.ledger.read_stored(0, i64::MAX).await.unwrap();
    let directory = folder.path().join("parquet");
    let written = archive::write_parquet(&bare.ledger, &directory, None).await.unwrap();
    assert_eq!(written as usize, rows.len());
    assert!(archive::write_parquet(&bare.ledger, &directory, None).await.is_err());
    bare.close().await;
    let file = std::fs::File::open(directory.join("events-000000000001.parquet")).unwrap();
    let file = SerializedFileReader::new(file).unwrap();
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Long(number) => json!(number),
        Field::Bool(is) => json!(is),
        Field::Str(text) => json!(text),
        other => json!(other.to_string()),
    };
    let read = file.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Value>()
    });
    for (row, read) in rows.iter().zip(read.collect::<Vec<_>>()) {
        let expected = serde_json::to_value(row).unwrap();
        for name in ["position", "app", "stream", "version", "type", "schema", "metadata", "body"] {
            assert_eq!(read[name], expected[name], "{name} of {}", row.position);
        }
        assert_eq!(read["private"], expected["private"]);
        assert_eq!(read["leaf"], expected["leaf"]);
        assert_eq!(read["event_id"], expected["eventId"]);
        assert_eq!(read["erased"], row.erased.is_some());
    }
}
