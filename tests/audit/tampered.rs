//! Whatever somebody changes behind the server's back, `verify` finds it and says where.

use std::sync::Arc;

use projections::{db::Pool, on};
use pushledger::{
    audit::{
        note::Checkpoint,
        verify::{self, NotVerified, Report},
        witness::{FileWitness, Witness, last_of},
    },
    ledger::Stored,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{erased::erase, live, sealed, unlock, witnessed};
use crate::{
    harness::{Backdoor, Place, World, until},
    views::Bare,
};

/// Numbers that only look like chance: a failure can be seen again.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// A ledger with some history, all of it sealed, whose triggers are gone.
pub(super) async fn ledger() -> (Place, Backdoor) {
    let world = World::new().await;
    live(&world, 0..3).await;
    // Some of it is blank.
    erase(&world, json!({ "user": { "protocol": "ums", "name": "user-2" } })).await;
    sealed(&world).await;
    let place = world.stop().await;
    let mut backdoor = place.backdoor().await;
    for sql in unlock(&place) {
        backdoor.run(sql).await;
    }
    (place, backdoor)
}

pub(super) async fn verified(place: &Place) -> Result<Report, NotVerified> {
    let bare = Bare::open(place).await;
    let report = verify::live(&bare.ledger, None, &[], None).await;
    bare.close().await;
    report
}

/// The position that `verify` names, and why.
pub(super) async fn wrong(place: &Place, what: &str) -> (i64, String) {
    match verified(place).await {
        Err(NotVerified::Wrong(wrong)) => (wrong.position, wrong.reason),
        other => panic!("{what}: {other:?}"),
    }
}

pub(super) async fn stored(place: &Place) -> Vec<Stored> {
    let bare = Bare::open(place).await;
    let all = bare.ledger.read_stored(0, i64::MAX).await.unwrap();
    bare.close().await;
    all
}

/// A copy of the events to mend them from.
pub(super) async fn keep(backdoor: &mut Backdoor) {
    backdoor.run("CREATE TABLE kept AS SELECT * FROM events").await;
}

pub(super) async fn mend(backdoor: &mut Backdoor) {
    backdoor.run("DELETE FROM events").await;
    backdoor.run("INSERT INTO events SELECT * FROM kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_nobody_touched_is_right() {
    let (place, _) = ledger().await;
    let report = verified(&place).await.unwrap();
    let events = stored(&place).await.len() as u64;
    assert_eq!((report.events, report.unknown, report.passes), (events, 0, 1));
    assert!(report.checkpoints >= 1 && report.sealed > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_changed_is_found_where_it_is() {
    let (place, mut backdoor) = ledger().await;
    keep(&mut backdoor).await;
    let all = stored(&place).await;
    let mut dice = Dice(7);
    let other = if place.on_postgres() { "'\\x00'::bytea" } else { "x'00'" };
    for column in [
        "app = app || 'x'".to_owned(),
        "stream = stream || '1'".to_owned(),
        "version = version + 1000".to_owned(),
        "type = 'app.changed.'".to_owned(),
        "schema = 2".to_owned(),
        "recorded_at = recorded_at + 1".to_owned(),
        format!("event_id = {other}"),
        "metadata = '{}'".to_owned(),
        "body = body || ' '".to_owned(),
        "private = COALESCE(private, '') || ' '".to_owned(),
        "private = NULL, private_salt = NULL".to_owned(),
        format!("leaf = {other}"),
    ] {
        let erases = column.starts_with("private = NULL");
        let position = loop {
            let at = dice.below(all.len() as i64);
            if !erases || all[at as usize].private.is_some() {
                break at + 1;
            }
        };
        backdoor.run(&format!("UPDATE events SET {column} WHERE position = {position}")).await;
        assert_eq!(wrong(&place, &column).await.0, position, "{column}");
        mend(&mut backdoor).await;
    }
    verified(&place).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_removed_swapped_inserted_or_added_are_found_where_they_are() {
    let (place, mut backdoor) = ledger().await;
    keep(&mut backdoor).await;
    let last = stored(&place).await.len() as i64;
    let mut dice = Dice(11);
    for _ in 0..4 {
        let position = 1 + dice.below(last);
        backdoor.run(&format!("DELETE FROM events WHERE position = {position}")).await;
        assert_eq!(wrong(&place, "removed").await.0, position);
        mend(&mut backdoor).await;
        // Two that change places.
        let first = 1 + dice.below(last - 1);
        let second = first + 1 + dice.below(last - first);
        for (from, to) in [(first, -1), (second, first), (-1, second)] {
            let sql = format!("UPDATE events SET position = {to} WHERE position = {from}");
            backdoor.run(&sql).await;
        }
        assert_eq!(wrong(&place, "swapped").await.0, first);
        mend(&mut backdoor).await;
        // One that all later ones make room for.
        for sql in [
            format!("UPDATE events SET position = -position WHERE position >= {position}"),
            "UPDATE events SET position = 1 - position WHERE position < 0".to_owned(),
            format!(
                "INSERT INTO events SELECT {position}, app, stream || '0', version, type, schema, \
                 recorded_at, event_id, metadata, body, private, private_salt, leaf FROM kept \
                 WHERE position = {position}"
            ),
        ] {
            backdoor.run(&sql).await;
        }
        assert_eq!(wrong(&place, "inserted").await.0, position);
        mend(&mut backdoor).await;
    }
    for (at, named) in [(last + 1, last + 1), (0, 0), (-7, -7)] {
        let sql = format!(
            "INSERT INTO events SELECT {at}, app, stream || '0', version, type, schema, \
             recorded_at, event_id, metadata, body, private, private_salt, leaf FROM kept \
             WHERE position = 1"
        );
        backdoor.run(&sql).await;
        assert_eq!(wrong(&place, "added").await.0, named);
        mend(&mut backdoor).await;
    }
    // All that came after a position.
    backdoor.run(&format!("DELETE FROM events WHERE position > {}", last - 5)).await;
    assert_eq!(wrong(&place, "cut off").await.0, last - 4);
}

/// The leaf that a row has now, written into it.
pub(super) async fn leaf_made_anew(place: &Place, position: i64) {
    let bare = Bare::open(place).await;
    let row = bare.ledger.read_stored(position - 1, 1).await.unwrap().remove(0);
    let leaf = row.computed_leaf().unwrap().to_vec();
    let mut tx = bare.ledger.database().ledger_write.begin().await.unwrap();
    const SQL: &str = "UPDATE events SET leaf = $1 WHERE position = $2";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(leaf).bind(position).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_makes_leaves_and_tiles_anew_cannot_make_the_signature() {
    let (place, mut backdoor) = ledger().await;
    let position = stored(&place).await.len() as i64 / 2;
    let sql = format!("UPDATE events SET body = body || ' ' WHERE position = {position}");
    backdoor.run(&sql).await;
    leaf_made_anew(&place, position).await;
    // The leaf was kept when it was sealed.
    let (named, reason) = wrong(&place, "leaf").await;
    assert_eq!(named, position, "{reason}");
    assert!(reason.contains("sealed"), "{reason}");
    // Without the tiles the signed roots say that it is one of those under them.
    backdoor.run("DELETE FROM tiles").await;
    let (named, reason) = wrong(&place, "tiles").await;
    assert!(named <= position && reason.contains("signed"), "{named}: {reason}");
    // Without any checkpoint there is the chain.
    backdoor.run("DELETE FROM checkpoints").await;
    let (_, reason) = wrong(&place, "checkpoints").await;
    assert!(reason.contains("chain"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_was_altered_is_found() {
    let (place, mut backdoor) = ledger().await;
    let blob = if place.on_postgres() { "'\\x00'" } else { "x'00'" };
    for sql in [
        "UPDATE checkpoints SET note = replace(note, 'pushledger', 'pushledge')".to_owned(),
        format!("UPDATE audit_keys SET public_key = {blob}"),
        "DELETE FROM audit_keys".to_owned(),
    ] {
        backdoor.run(&sql).await;
        let report = verified(&place).await;
        assert!(matches!(report, Err(NotVerified::Other(_) | NotVerified::Fault(_))), "{report:?}");
    }
}

/// The chain over the leaves that are there now, written into the head.
pub(super) async fn chain_made_anew(place: &Place) {
    let chain = stored(place).await.iter().fold(vec![0; 32], |chain, row| {
        Sha256::new().chain_update(chain).chain_update(&row.leaf).finalize().to_vec()
    });
    let bare = Bare::open(place).await;
    let mut tx = bare.ledger.database().ledger_write.begin().await.unwrap();
    on!(tx.conn(), c => {
        sqlx::query("UPDATE head SET chain = $1").bind(chain).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_removes_the_checkpoints_too_is_found_by_what_the_witness_saw() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("witness");
    let world = witnessed(Place::new().await, &file).await.with_app().await;
    live(&world, 0..1).await;
    let seen = sealed(&world).await;
    until("the witness was not told", async || {
        let note = last_of(&std::fs::read_to_string(&file).unwrap());
        note.is_some_and(|note| Checkpoint::unverified(&note).unwrap() == seen)
    })
    .await;
    let place = world.stop().await;
    let mut backdoor = place.backdoor().await;
    for sql in unlock(&place) {
        backdoor.run(sql).await;
    }
    backdoor.run("UPDATE events SET body = body || ' ' WHERE position = 5").await;
    leaf_made_anew(&place, 5).await;
    chain_made_anew(&place).await;
    for sql in ["DELETE FROM tiles", "DELETE FROM checkpoints"] {
        backdoor.run(sql).await;
    }
    // Nothing here tells.
    assert_eq!(verified(&place).await.unwrap().sealed, 0);
    let bare = Bare::open(&place).await;
    let witness = || Some(Arc::new(FileWitness::new(&file)) as Arc<dyn Witness>);
    let found = verify::live(&bare.ledger, witness(), &[], None).await;
    assert!(matches!(&found, Err(NotVerified::Wrong(wrong)) if wrong.position <= 5), "{found:?}");
    bare.close().await;
    backdoor.run("DELETE FROM audit_keys").await;
    let bare = Bare::open(&place).await;
    let found = verify::live(&bare.ledger, witness(), &[], None).await;
    assert!(matches!(found, Err(NotVerified::Other(_))), "{found:?}");
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_lacks_tiles_or_has_others_is_found_though_every_event_is_right() {
    let world = World::new().await;
    world.register("client-0").await;
    for _ in 0..260 {
        world.push("client-0", json!({})).await;
    }
    sealed(&world).await;
    let place = world.stop().await;
    let mut backdoor = place.backdoor().await;
    backdoor.run("CREATE TABLE kept AS SELECT * FROM tiles").await;
    let other = match place.on_postgres() {
        true => "decode(repeat('00', 32), 'hex')",
        false => "zeroblob(32)",
    };
    for (sql, said) in [
        (
            "DELETE FROM tiles WHERE level = 0 AND number = 0".to_owned(),
            "lacks the leaf of the event at 1",
        ),
        ("DELETE FROM tiles WHERE level = 1".to_owned(), "tile 0 of level 1"),
        (format!("UPDATE tiles SET hashes = {other} WHERE level = 1"), "tile 0 of level 1"),
    ] {
        backdoor.run(&sql).await;
        let found = verified(&place).await;
        assert!(matches!(&found, Err(NotVerified::Other(why)) if why.contains(said)), "{found:?}");
        backdoor.run("DELETE FROM tiles").await;
        backdoor.run("INSERT INTO tiles SELECT * FROM kept").await;
    }
    verified(&place).await.unwrap();
}

/// Puts another body under an event, as if it had been appended so.
async fn rewritten(pool: &Pool, position: i64, body: &str) {
    let mut tx = pool.begin().await.unwrap();
    const SQL: &str = "UPDATE events SET body = $1 WHERE position = $2";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(body).bind(position).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_have_happened_is_found_even_if_every_hash_is_right() {
    let (place, mut backdoor) = ledger().await;
    keep(&mut backdoor).await;
    for sql in ["DELETE FROM tiles", "DELETE FROM checkpoints"] {
        backdoor.run(sql).await;
    }
    let all = stored(&place).await;
    let report = |row: &&Stored| {
        row.name == "deliveries.advanced" && row.body.contains("\"what\":\"received\"")
    };
    let report = all.iter().find(report).expect("a report");
    let again = report.body.replace("received", "sent");
    let accepted = all.iter().find(|row| row.stream == report.stream).unwrap().position;
    let another = report.body.replace(&format!("\"accepted\":{accepted}"), "\"accepted\":1");
    assert!(again != report.body && another != report.body);
    for (body, why) in [(again, "was Sent and then Sent"), (another, "the push at 1")] {
        let bare = Bare::open(&place).await;
        rewritten(&bare.ledger.database().ledger_write, report.position, &body).await;
        bare.close().await;
        leaf_made_anew(&place, report.position).await;
        let (position, reason) = wrong(&place, why).await;
        assert_eq!(position, report.position, "{reason}");
        assert!(reason.contains(why), "{reason}");
        mend(&mut backdoor).await;
    }
}

/// One bit of a value of a row is another, in the database; gives the column, or nothing if the row
/// has no value there.
pub(super) async fn flip(
    pool: &Pool,
    row: &Stored,
    column: usize,
    dice: &mut Dice,
) -> Option<&'static str> {
    const COLUMNS: [&str; 13] = [
        "app",
        "stream",
        "type",
        "metadata",
        "body",
        "private",
        "event_id",
        "private_salt",
        "leaf",
        "version",
        "schema",
        "recorded_at",
        "position",
    ];
    let name = COLUMNS[column];
    let mut bit =
        |length: usize| (dice.below(i64::try_from(length).unwrap()) as usize, 1 << dice.below(7));
    let mut tx = pool.begin().await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("UPDATE events SET {name} = $1 WHERE position = $2"));
    let text = [
        Some(&row.app),
        Some(&row.stream),
        Some(&row.name),
        Some(&row.metadata),
        Some(&row.body),
        row.private.as_ref(),
    ];
    let bytes = [Some(row.event_id.as_bytes().to_vec()), row.salt.clone(), Some(row.leaf.clone())];
    let number = [row.version, row.schema, row.recorded_at, row.position];
    if let Some(text) = text.get(column) {
        let mut altered = (*text)?.clone().into_bytes();
        if altered.is_empty() {
            return None;
        }
        // Texts stay texts: another letter, as a database takes no others.
        let (at, _) = bit(altered.len());
        altered[at] = if altered[at] == b'x' { b'y' } else { b'x' };
        let altered = String::from_utf8(altered).ok()?;
        on!(tx.conn(), c => {
            let query = sqlx::query(sql).bind(altered).bind(row.position);
            query.execute(&mut *c).await.unwrap();
        });
    } else if let Some(bytes) = bytes.get(column - text.len()) {
        let mut altered = bytes.clone()?;
        let (at, mask) = bit(altered.len());
        altered[at] ^= mask;
        on!(tx.conn(), c => {
            let query = sqlx::query(sql).bind(altered).bind(row.position);
            query.execute(&mut *c).await.unwrap();
        });
    } else {
        let number = number[column - text.len() - bytes.len()];
        // Beyond every position, so that none is there already.
        let altered = number ^ (1 << (20 + dice.below(10)));
        on!(tx.conn(), c => {
            let query = sqlx::query(sql).bind(altered).bind(row.position);
            query.execute(&mut *c).await.unwrap();
        });
    }
    tx.commit().await.unwrap();
    Some(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_byte_of_any_column_that_was_flipped_is_found_at_its_event() {
    let (place, mut backdoor) = ledger().await;
    keep(&mut backdoor).await;
    let all = stored(&place).await;
    let seed = std::env::var("PUSHLEDGER_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let mut dice = Dice(seed.unwrap_or(4_711));
    let bare = Bare::open(&place).await;
    let mut tried = 0;
    while tried < 78 {
        let column = tried % 13;
        let row = &all[dice.below(all.len() as i64) as usize];
        let pool = &bare.ledger.database().ledger_write;
        let Some(name) = flip(pool, row, column, &mut dice).await else { continue };
        let found = verify::live(&bare.ledger, None, &[], None).await;
        let at = match found {
            Err(NotVerified::Wrong(wrong)) => wrong.position,
            // Without its first event's id the ledger has another name.
            Err(NotVerified::Other(_)) if row.position == 1 => 1,
            other => panic!("{name} of {}: {other:?}", row.position),
        };
        assert_eq!(at, row.position, "{name}");
        mend(&mut backdoor).await;
        tried += 1;
    }
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
}
