//! What cannot have happened is found where it is, even by whoever makes every hash anew; and an export
//! that tells another story than a checkpoint which somebody kept is no way out.

use domain::{route::Strategy, task::TaskAudience};
use pushledger::{
    audit::{
        archive,
        verify::{self, NotVerified},
    },
    ledger::Stored,
};
use serde_json::{Value, json};

use super::{
    archived::{command, run, seal_rest},
    live, sealed,
    tampered::{chain_made_anew, keep, leaf_made_anew, mend, stored, verified, wrong},
    text, unlock,
};
use crate::{
    analysts::ended,
    harness::{Backdoor, Place, World, message, until},
    tasks,
    views::Bare,
};

/// A ledger with messages and a task that a device took, whose triggers, tiles and checkpoints are gone.
async fn unsealed() -> (Place, Backdoor, Vec<Stored>) {
    let world = World::new().await;
    live(&world, 0..2).await;
    let caller = world.register("client-9").await;
    let new = tasks::task(TaskAudience::Everyone, Strategy::OnlineElseKept);
    let task = tasks::create(&world, new).await;
    ended(&world, task).await;
    let mut device = world.connect(&caller).await;
    assert_eq!(message(&mut device).await.0, task.to_string());
    until("nobody has it", async || {
        let chunks = tasks::chunks(&world, task).await;
        chunks.iter().any(|event| event.event.name() == "deliveries.advanced")
    })
    .await;
    drop(device);
    let place = world.stop().await;
    let mut backdoor = place.backdoor().await;
    for sql in unlock(&place) {
        backdoor.run(sql).await;
    }
    for sql in ["DELETE FROM tiles", "DELETE FROM checkpoints"] {
        backdoor.run(sql).await;
    }
    keep(&mut backdoor).await;
    let all = stored(&place).await;
    (place, backdoor, all)
}

/// Another body for an event.
fn edited(row: &Stored, edit: impl FnOnce(&mut Value)) -> String {
    let mut body: Value = serde_json::from_str(&row.body).unwrap();
    edit(&mut body);
    format!("body = '{}'", body.to_string().replace('\'', "''"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_story_that_cannot_be_true_is_found_at_its_event() {
    let (place, mut backdoor, all) = unsealed().await;
    verified(&place).await.unwrap();
    let last = |name: &str, stream: &str| {
        let own = |row: &&Stored| row.name == name && row.stream.starts_with(stream);
        all.iter().rfind(own).unwrap_or_else(|| panic!("no {name}"))
    };
    let step = last("deliveries.advanced", "message/");
    let recall = last("recall.requested", "message/");
    let of_chunk = last("deliveries.advanced", "task/");
    let (chunk, ended) = (last("chunk.delivered", "task/"), last("task.ended", "task/"));
    let started = last("task.started", "task/");
    let another = |body: &mut Value| body["steps"][0]["device"] = json!(1);
    let again = |body: &mut Value| {
        let steps = body["steps"].as_array_mut().unwrap();
        steps.extend(steps.last().cloned());
    };
    let elsewhere = |to: &str| format!("stream = '{to}', version = 1");
    let faults: [(&Stored, String, &str); 15] = [
        // Order, and versions.
        (step, "version = version + 1000".to_owned(), "of its stream"),
        (ended, "version = 1000".to_owned(), "of its stream"),
        (step, "recorded_at = 1".to_owned(), "recorded before"),
        // A report of what nobody sent, or not to that device; and a stage that does not rise.
        (step, elsewhere("message/1"), "that nothing accepted"),
        (recall, elsewhere("message/1"), "that nothing accepted"),
        (step, edited(step, another), "no such delivery"),
        (step, edited(step, again), " and then "),
        (of_chunk, edited(of_chunk, another), "not in the chunk"),
        (of_chunk, edited(of_chunk, again), " and then "),
        // Targets are the sum of what became of them.
        (chunk, edited(chunk, |body| body["counts"][0]["devices"] = json!(99)), "outcomes"),
        (chunk, edited(chunk, |body| body["last"] = json!(99_999)), "not those that it says"),
        (chunk, edited(chunk, |body| body["attempt"] = json!(2)), "had not started"),
        (chunk, elsewhere("task/1/chunk/1"), "had not started"),
        (ended, edited(ended, |body| body["totals"]["devices"] = json!(99)), "whose chunks were"),
        (started, elsewhere("task/1"), "not waiting"),
    ];
    for (row, set, why) in faults {
        let position = row.position;
        backdoor.run(&format!("UPDATE events SET {set} WHERE position = {position}")).await;
        leaf_made_anew(&place, position).await;
        let (at, reason) = wrong(&place, &set).await;
        assert_eq!(at, position, "{set}: {reason}");
        assert!(reason.contains(why), "{set}: {reason}");
        mend(&mut backdoor).await;
    }
    // The head says that something else was appended last, or that there is more.
    backdoor.run("CREATE TABLE kept_head AS SELECT * FROM head").await;
    let blob = if place.on_postgres() { "'\\x00'::bytea" } else { "x'00'" };
    for set in [format!("chain = {blob}"), "recorded_at = recorded_at + 1".to_owned()] {
        backdoor.run(&format!("UPDATE head SET {set}")).await;
        let (at, reason) = wrong(&place, &set).await;
        assert!((1..=all.len() as i64).contains(&at) && reason.contains("chain"), "{at}: {reason}");
        for sql in ["DELETE FROM head", "INSERT INTO head SELECT * FROM kept_head"] {
            backdoor.run(sql).await;
        }
    }
    backdoor.run("UPDATE head SET position = position + 1").await;
    let (at, reason) = wrong(&place, "the head").await;
    assert_eq!(at, all.len() as i64 + 1, "{reason}");
    let (done, said) = run(command(&place).arg("verify"));
    assert!(!done && said.contains(&format!("position {at} is wrong")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_signed_anew_is_found_by_a_checkpoint_that_somebody_kept() {
    let folder = tempfile::tempdir().unwrap();
    let [kept, export] = ["kept", "export"].map(|name| folder.path().join(name));
    let world = World::new().await;
    live(&world, 0..1).await;
    let checkpoint = sealed(&world).await;
    let (_, note) = text(&world, "/admin/v1/audit/checkpoint").await;
    std::fs::write(&kept, &note).unwrap();
    let place = world.stop().await;
    let mut backdoor = place.backdoor().await;
    for sql in unlock(&place) {
        backdoor.run(sql).await;
    }
    let verify = |place: &Place, more: &[&std::path::Path]| {
        let mut verify = command(place);
        verify.args(["verify", "--export"]).arg(&export);
        run(more.iter().fold(&mut verify, |verify, file| verify.arg("--checkpoint").arg(file)))
    };
    for (altered, at) in [(false, 0), (true, 5)] {
        if altered {
            backdoor
                .run(&format!("UPDATE events SET body = body || ' ' WHERE position = {at}"))
                .await;
            leaf_made_anew(&place, at).await;
            chain_made_anew(&place).await;
            for sql in ["DELETE FROM tiles", "DELETE FROM checkpoints"] {
                backdoor.run(sql).await;
            }
            std::fs::remove_dir_all(&export).unwrap();
        }
        let bare = Bare::open(&place).await;
        seal_rest(&bare, &place).await;
        archive::write(&bare.ledger, &export, None).await.unwrap();
        bare.close().await;
        // By itself it is right, and signed by the key; but it does not go on from what was kept.
        verify::export(&export, &[], &[]).await.unwrap();
        let (done, said) = verify(&place, &[]);
        assert!(done, "{said}");
        let found = verify::export(&export, std::slice::from_ref(&note), &[]).await;
        let (done, said) = verify(&place, &[&kept]);
        assert_eq!(done, !altered, "{said}");
        match found {
            Ok(report) => assert!(!altered && report.sealed >= checkpoint.size, "{report:?}"),
            Err(NotVerified::Wrong(wrong)) => {
                assert!(altered && wrong.position <= at, "{wrong}");
                assert!(said.contains(&format!("position {} is wrong", wrong.position)), "{said}");
            }
            other => panic!("{other:?}"),
        }
    }
    // What nobody signed is no checkpoint.
    let forged = note.replacen(&format!("\n{}\n", checkpoint.size), "\n1\n", 1);
    assert_ne!(forged, note);
    let found = verify::export(&export, &[forged], &[]).await;
    assert!(matches!(found, Err(NotVerified::Other(_))), "{found:?}");
}
