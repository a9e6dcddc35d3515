//! What is private may be blanked, and nothing else may ever change: the database holds to that, and
//! a blank breaks no proof.

use std::path::Path;

use projections::{db::Tx, on};
use pushledger::{
    audit::{archive, verify},
    ledger::Database,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    archived::{seal_rest, tables},
    live, sealed,
};
use crate::{
    analysts::operator,
    easemob::Easemob,
    harness::{Backdoor, Place, World, dump, ok, until},
    views::Bare,
};

pub(super) const ERASURES: &str = "/admin/v1/apps/demo/erasures";

/// Everything that must be found nowhere once its subject is erased.
const NEEDLES: [&str; 6] =
    ["alice-7f3a", "client-9c1e", "push-client-9c1e", "payload-51d0", "Kitchen-b2", "mac-77aa"];

/// Tables beside the registry's and the views that tell of people.
const PRIVATE_TABLES: [&str; 4] =
    ["events", "access_tokens", "easemob_tokens", "easemob_passwords"];

/// Asks for an erasure; waits until it is done.
pub(crate) async fn erase(world: &World, subject: Value) -> Value {
    let body = json!({ "subject": subject, "reason": "consent_withdrawn" });
    let (status, erasure, _) = world.admin.post(ERASURES, Some(&body)).await.unwrap();
    assert_eq!(status, 202, "{erasure}");
    let position = erasure["position"].clone();
    until("the erasure is not done", async || {
        let (_, list, _) = world.admin.get(ERASURES, None).await.unwrap();
        let own = list.as_array().unwrap().iter().find(|own| own["position"] == position);
        own.unwrap()["done"] == true
    })
    .await;
    erasure
}

/// Which of some texts any file below a directory holds, and in which file.
pub(super) fn found(directory: &Path, needles: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for needle in needles {
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(format!("{needle} in {}", path.display()));
            }
        }
    }
    found
}

/// Has PostgreSQL write its files anew, by the statements that the document gives.
async fn rewrite(place: &Place) {
    let document = include_str!("../../docs/audit.md");
    let (_, rest) = document.split_once("```sql\n").expect("statements");
    let (statements, _) = rest.split_once("```").expect("their end");
    let mut backdoor = place.backdoor().await;
    for statement in statements.lines() {
        backdoor.run(statement).await;
    }
}

/// Which of some texts are in PostgreSQL's samples of columns, and of which table.
async fn sampled_in_postgres(place: &Place, needles: &[&str]) -> Vec<String> {
    let sql = "SELECT needle || ' in a sample of ' || tablename FROM pg_stats, unnest($1::text[]) \
               needle WHERE position(needle IN concat(most_common_vals::text, \
               histogram_bounds::text)) > 0";
    asked_of_postgres(place, sql, needles).await
}

/// Which of some texts any file of a database of PostgreSQL holds, and of which table or index:
/// its own files too, where the samples lie.
async fn found_in_postgres(place: &Place, needles: &[&str]) -> Vec<String> {
    let sql = "SELECT needle || ' in ' || relation.oid::regclass::text \
         FROM pg_class relation, unnest($1::text[]) needle \
         WHERE pg_relation_filepath(relation.oid) IS NOT NULL \
         AND position(convert_to(needle, 'UTF8') IN COALESCE(pg_read_binary_file( \
         pg_relation_filepath(relation.oid), 0, 1000000000, true), '')) > 0";
    asked_of_postgres(place, sql, needles).await
}

async fn asked_of_postgres(place: &Place, sql: &'static str, needles: &[&str]) -> Vec<String> {
    let Backdoor::Postgres(mut conn) = place.backdoor().await else { panic!("no PostgreSQL") };
    let rows = sqlx::query_as(sql).bind(needles).fetch_all(&mut conn).await.unwrap();
    rows.into_iter().map(|(found,): (String,)| found).collect()
}

/// Tables that hold something of a subject, in whichever database.
pub(super) async fn dumped(world: &World) -> String {
    let database = world.running.server.ledger.database();
    let mut all = String::new();
    for table in projections::registry::TABLES.iter().chain(&PRIVATE_TABLES) {
        all.push_str(&dump(&database.ledger_read, table).await.join("\n"));
    }
    for table in projections::TABLES.iter().chain(&["set_aside"]) {
        all.push_str(&dump(&database.views.live().read, table).await.join("\n"));
    }
    all
}

/// Sets an event aside that a statement finds, for a reason that quotes the subject.
async fn set_aside(world: &World, position: &'static str) {
    let database = world.running.server.ledger.database();
    let mut checkout = database.ledger_read.checkout().await.unwrap();
    let (position,): (i64,) = on!(checkout.conn(), c => {
        sqlx::query_as(position).fetch_one(&mut *c).await.unwrap()
    });
    drop(checkout);
    let mut tx = database.views.begin().await.unwrap();
    const SQL: &str = "INSERT INTO set_aside (position, error) VALUES ($1, 'no such alice-7f3a')";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(position).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
}

/// A user with a device that was pushed to, owns a physical device and has a name; and another.
async fn subject(world: &World) {
    let more = json!({ "deviceName": "Kitchen-b2", "deviceId": "mac-77aa" });
    let caller = world.register_of("alice-7f3a", "client-9c1e", more).await;
    world.register_of("bob-stays", "client-stays", json!({})).await;
    let owner = json!({ "userId": "alice-7f3a", "bindKey": "k" });
    let owners = "/admin/v1/apps/demo/owners/mac-77aa";
    assert_eq!(world.admin.put(owners, Some(&owner)).await.unwrap().0, 204);
    world.push("client-9c1e", json!({ "text": "payload-51d0" })).await;
    world.push("client-stays", json!({ "text": "payload-stays" })).await;
    let mut again = crate::harness::registration("client-9c1e");
    crate::harness::merge(&mut again, json!({ "userId": "alice-7f3a" }));
    ok(&caller, "/ums/v2/register", &again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_is_erased_is_found_nowhere_and_every_proof_still_holds() {
    let world = World::new().await;
    subject(&world).await;
    if world.place.on_postgres() {
        // It keeps samples of the columns that statements look for.
        world.place.backdoor().await.run("ANALYZE").await;
        assert!(!sampled_in_postgres(&world.place, &NEEDLES).await.is_empty());
    }
    set_aside(&world, "SELECT MIN(position) FROM events WHERE private LIKE '%alice-7f3a%'").await;
    let before = dumped(&world).await;
    NEEDLES.iter().for_each(|needle| assert!(before.contains(needle), "{needle}"));
    let checkpoint = sealed(&world).await;
    let user = json!({ "user": { "protocol": "ums", "name": "alice-7f3a" } });
    let erasure = erase(&world, user.clone()).await;
    assert_eq!(erasure["devices"].as_array().unwrap().len(), 1, "{erasure}");
    assert_eq!(erasure["reason"], "consent_withdrawn");
    let after = dumped(&world).await;
    NEEDLES.iter().for_each(|needle| assert!(!after.contains(needle), "{needle} in {after}"));
    for needle in ["bob-stays", "client-stays", "payload-stays"] {
        assert!(after.contains(needle), "{needle}");
    }
    if let Place { directory, .. } = &world.place
        && !world.place.on_postgres()
    {
        // The log may hold only what came since, and nothing came of the subject.
        assert_eq!(found(directory.path(), &NEEDLES), Vec::<String>::new());
        assert!(!found(directory.path(), &["payload-stays"]).is_empty());
    }
    if world.place.on_postgres() {
        assert_eq!(sampled_in_postgres(&world.place, &NEEDLES).await, Vec::<String>::new());
        // What a transaction that is open meanwhile may still see outlives one time. How long one
        // takes depends on all that the server has to write.
        let mut left = vec!["everything".to_owned()];
        for _ in 0..8 {
            if !left.is_empty() {
                rewrite(&world.place).await;
                left = found_in_postgres(&world.place, &NEEDLES).await;
            }
        }
        assert_eq!(left, Vec::<String>::new());
        assert!(!found_in_postgres(&world.place, &["payload-stays"]).await.is_empty());
    }
    // The name leads to nobody.
    let body = json!({ "subject": user, "reason": "objection" });
    assert_eq!(world.admin.post(ERASURES, Some(&body)).await.unwrap().0, 404);
    // A device that was erased is told of, without another event.
    let device = json!({ "subject": { "device": erasure["devices"][0] }, "reason": "objection" });
    let head = world.head().await;
    let (status, again, _) = world.admin.post(ERASURES, Some(&device)).await.unwrap();
    assert_eq!((status, &again["position"]), (200, &erasure["position"]));
    assert_eq!(world.head().await, head);
    // Whoever asks is told of by number, in the answer and in the event.
    let eraser = operator(&world, "admin", None).await;
    let (_, all, _) = eraser.get("/admin/v1/operators", None).await.unwrap();
    let numbers = all.as_array().unwrap().iter().map(|own| own["number"].as_i64().unwrap());
    let asker = format!("operator:{}", numbers.max().unwrap());
    let phone = json!({ "subject": { "phone": "13900000000" }, "reason": "child" });
    let (status, asked, _) = eraser.post(ERASURES, Some(&phone)).await.unwrap();
    assert_eq!(
        (status, &asked["askedBy"], &asked["reason"]),
        (202, &json!(asker), &json!("child"))
    );
    assert_ne!(erasure["askedBy"], asked["askedBy"]);
    let query =
        "{ app(appId: \"demo\") { events(types: [\"subject.*\"]) { nodes { actor body } } } }";
    let events = world.graphql(query).await["app"]["events"]["nodes"].clone();
    let last = events.as_array().unwrap().last().unwrap().to_string();
    assert!(last.contains(&asker) && last.contains("child"), "{last}");
    // Who comes back is somebody new.
    world.register_of("alice-7f3a", "client-9c1e", json!({})).await;
    world.push("client-9c1e", json!({ "text": "hello again" })).await;
    let later = sealed(&world).await;
    assert!(later.size > checkpoint.size);
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
}

/// Only PostgreSQL keeps samples, and takes none of a table that an erasure has emptied.
#[tokio::test(flavor = "multi_thread")]
async fn samples_that_a_former_version_took_of_what_is_private_go_at_the_next_start() {
    const OWN: [(&str, &str); 4] = [
        ("access_tokens", "ums_user"),
        ("access_tokens", "client_id"),
        ("easemob_tokens", "username"),
        ("easemob_passwords", "hash"),
    ];
    let easemob = Easemob::new().await;
    let world = &easemob.world;
    if !world.place.on_postgres() {
        return;
    }
    for (name, client) in [("alice-7f3a", "client-9c1e"), ("alice-7f3b", "client-9c1f")] {
        world.register_of(name, client, json!({})).await;
        easemob.user(name).await;
        easemob.token_of(name).await;
    }
    let mut backdoor = world.place.backdoor().await;
    for (table, column) in OWN {
        let sampled = format!("ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS -1");
        backdoor.run(&sampled).await;
    }
    backdoor.run("ANALYZE").await;
    let needles = ["alice-7f3", "client-9c1", "$argon2id$"];
    let tables = OWN.map(|(table, _)| table);
    let sampled = sampled_in_postgres(&world.place, &needles).await;
    for table in tables {
        assert!(sampled.iter().any(|own| own.ends_with(table)), "none of {table}: {sampled:?}");
    }
    backdoor.run("DELETE FROM _sqlx_migrations WHERE version = 14").await;
    let world = easemob.world.restart().await;
    backdoor.run("ANALYZE").await;
    let sampled = sampled_in_postgres(&world.place, &needles).await;
    for table in tables {
        assert!(!sampled.iter().any(|own| own.ends_with(table)), "{sampled:?}");
    }
    for name in ["alice-7f3a", "alice-7f3b"] {
        for protocol in ["ums", "easemob"] {
            erase(&world, json!({ "user": { "protocol": protocol, "name": name } })).await;
        }
    }
    for table in tables.into_iter().filter(|table| *table != "easemob_tokens") {
        let pool = &world.running.server.ledger.database().ledger_read;
        assert_eq!(dump(pool, table).await, Vec::<String>::new(), "{table} is not empty");
    }
    assert_eq!(sampled_in_postgres(&world.place, &needles).await, Vec::<String>::new());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_made_again_after_an_erasure_equals_the_live_one() {
    let world = World::new().await;
    subject(&world).await;
    for n in 0..3 {
        let name = format!("twin-{n}");
        world.register_of(&name, &format!("client-{name}"), json!({})).await;
        erase(&world, json!({ "user": { "protocol": "ums", "name": name } })).await;
    }
    erase(&world, json!({ "user": { "protocol": "ums", "name": "alice-7f3a" } })).await;
    world.register_of("alice-7f3a", "client-9c1e", json!({})).await;
    sealed(&world).await;
    let place = world.stop().await;
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    let bare = Bare::open(&place).await;
    seal_rest(&bare, &place).await;
    archive::write(&bare.ledger, &export, None).await.unwrap();
    let expected = tables(bare.ledger.database()).await;
    bare.close().await;
    let other = Place::new().await;
    let database = Database::open(&other.database()).await.unwrap();
    archive::import(&database, &export, &[], None, 1).await.unwrap();
    for (restored, original) in tables(&database).await.iter().zip(&expected) {
        assert_eq!(restored, original);
        // An export shows the blank, and so does what is restored from it.
        assert!(!restored.1.iter().any(|row| row.contains("twin-")), "{restored:?}");
    }
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_makes_no_sense_is_refused_and_stores_nothing() {
    let world = World::new().await;
    world.register("client-a").await;
    let head = world.head().await;
    for (status, body) in [
        (400, json!({})),
        (400, json!({ "subject": { "device": 1 } })),
        (400, json!({ "subject": { "device": 1 }, "reason": "because" })),
        (400, json!({ "subject": { "device": 1, "phone": "1" }, "reason": "child" })),
        (400, json!({ "subject": { "phone": "" }, "reason": "child" })),
        (
            400,
            json!({ "subject": { "user": { "protocol": "sms", "name": "a" } }, "reason": "child" }),
        ),
        (404, json!({ "subject": { "device": 999 }, "reason": "child" })),
        (
            404,
            json!({ "subject": { "user": { "protocol": "ums", "name": "a" } }, "reason": "child" }),
        ),
    ] {
        let (answer, problem, _) = world.admin.post(ERASURES, Some(&body)).await.unwrap();
        assert_eq!(answer, status, "{body}: {problem}");
    }
    assert_eq!(world.head().await, head);
    for query in ["?limit=0", "?limit=101", "?limit=x", "?what=1"] {
        let path = format!("{ERASURES}{query}");
        assert_eq!(world.admin.get(&path, None).await.unwrap().0, 400, "{query}");
    }
    world.stop().await;
}

async fn run(tx: &mut Tx, sql: String) -> Result<u64, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(sql);
    on!(tx.conn(), c => sqlx::query(sql).execute(&mut *c).await.map(|done| done.rows_affected()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_blanks_what_is_private_and_every_proof_still_holds() {
    let world = World::new().await;
    live(&world, 0..2).await;
    sealed(&world).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let pool = bare.ledger.database().ledger_write.clone();
    let all = bare.ledger.read_stored(0, i64::MAX).await.unwrap();
    let row = all.iter().rfind(|row| row.private.is_some()).unwrap();
    let (position, private) = (row.position, row.private.as_deref().unwrap());
    let salt = row.salt.as_deref().unwrap();
    let digest = Sha256::new().chain_update(salt).chain_update(private).finalize().to_vec();
    let mut tx = pool.begin().await.unwrap();
    run(&mut tx, "INSERT INTO erasing (one) VALUES (1)".to_owned()).await.unwrap();
    const SQL: &str = "INSERT INTO erased (position, digest) VALUES ($1, $2)";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(position).bind(digest).execute(&mut *c).await.unwrap();
    });
    let blank = "UPDATE events SET private = NULL, private_salt = NULL";
    assert_eq!(run(&mut tx, format!("{blank} WHERE position = {position}")).await.unwrap(), 1);
    run(&mut tx, "DELETE FROM erasing".to_owned()).await.unwrap();
    tx.commit().await.unwrap();
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    let after = bare.ledger.read_stored(position - 1, 1).await.unwrap().remove(0);
    assert_eq!((&after.private, &after.salt, &after.leaf), (&None, &None, &row.leaf));
    assert_eq!(after.computed_leaf().unwrap().as_slice(), row.leaf);
    // While something is erased, nothing else may change; and one that is noted nowhere may not.
    let before = dump(&pool, "events").await;
    for sql in [
        format!("{blank}, body = '{{}}' WHERE position = {position}"),
        format!("UPDATE events SET private = '{{}}' WHERE position = {position}"),
        format!("{blank} WHERE position = {}", position - 1),
        format!("DELETE FROM events WHERE position = {position}"),
    ] {
        let mut tx = pool.begin().await.unwrap();
        run(&mut tx, "INSERT INTO erasing (one) VALUES (1)".to_owned()).await.unwrap();
        let refused = run(&mut tx, sql.clone()).await.expect_err(&sql);
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
        drop(tx);
        assert_eq!(dump(&pool, "events").await, before, "{sql}");
    }
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rebuild_left_behind_of_the_erased_is_blanked_at_the_next_start() {
    let world = World::new().await;
    subject(&world).await;
    erase(&world, json!({ "user": { "protocol": "ums", "name": "alice-7f3a" } })).await;
    // As a swap leaves it whose node died before it had looked.
    set_aside(&world, "SELECT MAX(position) FROM erased").await;
    let world = world.restart().await;
    until("it is still told", async || !dumped(&world).await.contains("alice-7f3a")).await;
    world.stop().await;
}
