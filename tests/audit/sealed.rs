//! Checkpoints, proofs, keys and the witness, as an auditor sees them over HTTP and GraphQL.

use projections::on;
use pushledger::{
    app::{Running, StartError},
    audit::{
        keys::rotate,
        merkle::{consistent, includes},
        note::{Checkpoint, NoteError},
        witness::last_of,
    },
    clock::Clock,
    config::Config,
    feed::effects,
};
use serde_json::json;
use sim::Admin;

use super::{hash, hashes, keys, leaves, live, sealed, text, unlock, witnessed};
use crate::harness::{Place, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_proved_to_be_under_the_signed_root_and_each_root_goes_on_from_those_before()
{
    let world = World::new().await;
    let first = sealed(&world).await;
    live(&world, 0..3).await;
    let last = sealed(&world).await;
    assert!(last.size > first.size + 15 && last.origin == first.origin);
    let (from, to) = ((first.size, &first.root), (last.size, &last.root));
    let path = format!("/admin/v1/audit/consistency?from={}&to={}", first.size, last.size);
    let (status, proof, _) = world.admin.get(&path, None).await.unwrap();
    assert_eq!(status, 200, "{proof}");
    assert!(consistent(from, to, &hashes(&proof)));
    assert!(!consistent((first.size - 1, &first.root), to, &hashes(&proof)));
    let leaves = leaves(&world.running.server.ledger.database().ledger_read).await;
    for (index, leaf) in (0..last.size).zip(&leaves) {
        let path = format!("/admin/v1/audit/inclusion?position={}&size={}", index + 1, last.size);
        let (_, proof, _) = world.admin.get(&path, None).await.unwrap();
        assert_eq!(hash(&proof["leaf"]), *leaf, "{proof}");
        assert!(includes(*leaf, index, last.size, &hashes(&proof), &last.root), "{proof}");
        assert!(!includes(*leaf, index, last.size, &hashes(&proof), &first.root));
    }
    by_hand(&world, &last).await;
    // In GraphQL the same.
    let query = format!(
        "{{ audit {{ checkpoint inclusion(position: 2, size: {0}) {{ position size leaf proof }} \
         consistency(from: {1}, to: {0}) {{ from to proof }} }} }}",
        last.size, first.size
    );
    let data = world.graphql(&query).await;
    let note = data["audit"]["checkpoint"].as_str().unwrap();
    Checkpoint::verified(note, &keys(&world).await).unwrap();
    let proof = &data["audit"]["inclusion"];
    assert!(includes(hash(&proof["leaf"]), 1, last.size, &hashes(proof), &last.root));
    assert!(consistent(from, to, &hashes(&data["audit"]["consistency"])));
    // After a restart the tree goes on where it was.
    let world = world.restart().await;
    live(&world, 3..4).await;
    let later = sealed(&world).await;
    let path = format!("/admin/v1/audit/consistency?from={}&to={}", last.size, later.size);
    let (_, proof, _) = world.admin.get(&path, None).await.unwrap();
    assert!(consistent((last.size, &last.root), (later.size, &later.root), &hashes(&proof)));
    world.stop().await;
}

/// Checks a proof with the program that `docs/audit.md` shows.
async fn by_hand(world: &World, last: &Checkpoint) {
    let page = include_str!("../../docs/audit.md");
    let program = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    for position in [1, 2, last.size - 1, last.size] {
        let path = format!("/admin/v1/audit/inclusion?position={position}&size={}", last.size);
        let (_, proof, _) = world.admin.get(&path, None).await.unwrap();
        let call = format!(
            "decoded = base64.b64decode\nproof = {proof}\nprint(root(decoded(proof['leaf']), \
             proof['position'], proof['size'], [decoded(hash) for hash in proof['proof']]).hex())"
        );
        let mut python = std::process::Command::new("python3");
        let output = python.arg("-c").arg(format!("{program}\n{call}")).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let expected = pushledger::secrets::hex(&last.root);
        assert_eq!(printed.trim(), expected, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_for_auditors_and_of_what_is_sealed() {
    let world = World::new().await;
    let size = sealed(&world).await.size;
    let mut tokens = Vec::new();
    for role in ["auditor", "analyst"] {
        let body = json!({ "name": role, "role": role });
        let (_, made, _) = world.admin.post("/admin/v1/operators", Some(&body)).await.unwrap();
        tokens.push(made["token"].as_str().unwrap().to_owned());
    }
    let auditor = Admin::new(&world.url, &tokens[0]);
    let analyst = Admin::new(&world.url, &tokens[1]);
    for path in ["keys", "inclusion?position=1", "consistency?from=1"] {
        let path = format!("/admin/v1/audit/{path}");
        assert_eq!(auditor.get(&path, None).await.unwrap().0, 200, "{path}");
        assert_eq!(analyst.get(&path, None).await.unwrap().0, 403, "{path}");
    }
    let query = json!({ "query": "{ audit { checkpoint } }" });
    let (_, body, _) = auditor.post("/graphql", Some(&query)).await.unwrap();
    assert!(body["data"]["audit"]["checkpoint"].is_string(), "{body}");
    let (_, body, _) = analyst.post("/graphql", Some(&query)).await.unwrap();
    assert_eq!(body["errors"][0]["message"], "this needs the role auditor");
    let beyond = size + 1_000;
    for wrong in [
        "inclusion".to_owned(),
        "inclusion?position=0".to_owned(),
        "inclusion?position=-1".to_owned(),
        "inclusion?position=x".to_owned(),
        format!("inclusion?position={}", i64::MAX),
        format!("inclusion?position=1&size={beyond}"),
        "inclusion?position=2&size=1".to_owned(),
        "inclusion?position=1&size=0".to_owned(),
        "inclusion?position=1&more=1".to_owned(),
        "consistency?from=0".to_owned(),
        "consistency?from=1&to=0".to_owned(),
        format!("consistency?from=1&to={beyond}"),
        "consistency?from=99999999999999999999".to_owned(),
    ] {
        let path = format!("/admin/v1/audit/{wrong}");
        let (status, body, _) = auditor.get(&path, None).await.unwrap();
        assert_eq!(status, 400, "{path}: {body}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_vouched_for_by_the_old_one_which_never_signs_again() {
    let world = World::new().await;
    let before = sealed(&world).await;
    let old = keys(&world).await;
    let database = world.running.server.ledger.database();
    let now = world.clock.now();
    let key = rotate(&database.ledger_write, &world.running.server.master, now).await.unwrap();
    assert_eq!((key.number, key.from_size), (2, before.size + 1));
    live(&world, 0..1).await;
    sealed(&world).await;
    let both = keys(&world).await;
    assert_eq!((both.len(), &both[..1]), (2, &old[..]));
    const SQL: &str = "SELECT note FROM checkpoints WHERE size > $1 ORDER BY size";
    let mut checkout = database.ledger_read.checkout().await.unwrap();
    let size = i64::try_from(before.size).unwrap();
    let notes: Vec<(String,)> = on!(checkout.conn(), c => {
        sqlx::query_as(SQL).bind(size).fetch_all(&mut *c).await.unwrap()
    });
    drop(checkout);
    Checkpoint::verified(&notes[0].0, &old).unwrap();
    for (note,) in &notes {
        Checkpoint::verified(note, &both[1..]).unwrap();
    }
    for (note,) in &notes[1..] {
        assert_eq!(Checkpoint::verified(note, &old), Err(NoteError::Unsigned));
    }
    const LEFT: &str = "SELECT number FROM audit_keys WHERE sealed IS NOT NULL";
    let mut checkout = database.ledger_read.checkout().await.unwrap();
    let left: Vec<(i64,)> =
        on!(checkout.conn(), c => sqlx::query_as(LEFT).fetch_all(&mut *c).await.unwrap());
    assert_eq!(left, [(2,)]);
    drop(checkout);
    world.stop().await;
}

/// Whether the server says that it refuses to sign.
async fn refuses(world: &World) -> bool {
    text(world, "/metrics").await.1.lines().any(|line| line == "pushledger_seals_refused 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_rolled_back_is_not_signed_again_also_once_it_has_grown() {
    let outside = tempfile::tempdir().unwrap();
    let witness = outside.path().join("witness");
    let world = witnessed(Place::new().await, &witness).await.with_app().await;
    live(&world, 0..2).await;
    let seen = sealed(&world).await;
    let of_witness = async || last_of(&std::fs::read_to_string(&witness).unwrap()).unwrap();
    until("the witness was not told", async || {
        Checkpoint::unverified(&of_witness().await).unwrap() == seen
    })
    .await;
    let place = world.stop().await;
    let mut backdoor = place.backdoor().await;
    for sql in unlock(&place) {
        backdoor.run(sql).await;
    }
    // As it was when the app was made.
    for table in ["devices", "accounts"] {
        backdoor.run(&format!("DELETE FROM {table}")).await;
    }
    for sql in [
        "DELETE FROM events WHERE position > 1",
        "DELETE FROM checkpoints",
        "DELETE FROM tiles",
        "UPDATE head SET position = 1",
    ] {
        backdoor.run(sql).await;
    }
    drop(backdoor);
    let world = witnessed(place, &witness).await;
    // The rollback paused it; whoever says that this ledger goes on still gets no signature.
    let database = world.running.server.ledger.database();
    assert!(effects::resume(&database.ledger_write).await.unwrap());
    until("it signed what is shorter", async || refuses(&world).await).await;
    assert_eq!(text(&world, "/admin/v1/audit/checkpoint").await.0, 404);
    live(&world, 0..4).await;
    assert!(world.head().await > i64::try_from(seen.size).unwrap());
    let world = witnessed(world.stop().await, &witness).await;
    until("it signed other events", async || refuses(&world).await).await;
    assert_eq!(text(&world, "/admin/v1/audit/checkpoint").await.0, 404);
    assert_eq!(Checkpoint::unverified(&of_witness().await).unwrap(), seen);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_within_the_data_directory_is_refused() {
    let place = Place::new().await;
    let data = place.directory.path();
    let link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(data, link.path().join("link")).unwrap();
    for witness in [data.join("w"), data.join("a/b/../w"), link.path().join("link/w")] {
        let config = Config { witness: Some(witness), ..place.config() };
        let refused = Running::start(&config, Clock::System).await.err().unwrap();
        assert!(matches!(refused, StartError::Witness(..)), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_witness_of_another_ledger_is_refused_and_one_that_missed_the_last_is_told() {
    let outside = tempfile::tempdir().unwrap();
    let witness = outside.path().join("witness");
    let world = witnessed(Place::new().await, &witness).await.with_app().await;
    let seen = sealed(&world).await;
    let place = world.stop().await;
    std::fs::remove_file(&witness).unwrap();
    let world = witnessed(place, &witness).await;
    live(&world, 0..1).await;
    let last = sealed(&world).await;
    until("the witness was not told", async || {
        let text = std::fs::read_to_string(&witness).unwrap_or_default();
        last_of(&text).is_some_and(|note| Checkpoint::unverified(&note).unwrap() == last)
    })
    .await;
    let text = std::fs::read_to_string(&witness).unwrap();
    let first = last_of(&text.split_inclusive("\n\n").take(2).collect::<String>()).unwrap();
    assert_eq!(Checkpoint::unverified(&first).unwrap(), seen);
    world.stop().await;
    let other = witnessed(Place::new().await, &witness).await.with_app().await;
    until("it took over another's witness", async || refuses(&other).await).await;
    other.stop().await;
}
