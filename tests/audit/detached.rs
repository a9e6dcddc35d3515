//! A ledger whose oldest events lie in an export: it goes on, says so to whoever asks for them, and
//! gets them back as they were.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use projections::Fault;
use pushledger::{
    app::Running,
    audit::{
        archive::{self, Export, Going, Moved, Opened},
        verify::{self, NotVerified},
    },
    clock::Clock,
    ledger::Ledger,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    archived::{seal_rest, tables},
    sealed, text, unlock,
};
use crate::{
    harness::{Backdoor, PACKAGE, Place, World, code, dump, message, ok, until},
    views::Bare,
};

/// Events of a file: few, so that there are many files.
const FILE_EVENTS: i64 = 8;
const ERASURES: &str = "/admin/v1/apps/demo/erasures";

/// What became of the pushes: their ids, the first by an idempotency key, and the callers.
pub(super) struct Pushes {
    keyed: String,
    pub(super) ids: Vec<String>,
}

/// A push by an idempotency key.
async fn keyed(world: &World) -> String {
    let (path, cloud) = ("/umse/v2/msgPush", world.cloud());
    let body = json!({ "dst": { "type": 0, "Id": ["client-0"] }, "message": {} }).to_string();
    let mut headers = cloud.headers(path, &body, world.clock.now() / 1_000);
    headers.push(("Idempotency-Key".to_owned(), "k-1".to_owned()));
    let reply = cloud.call_with(path, &body, &headers).await.unwrap();
    assert_eq!(reply.ret_code, "00000", "{reply:?}");
    reply.data["msgId"].as_str().unwrap().to_owned()
}

/// Pushes that are over: received by their devices.
pub(super) async fn pushes(world: &World) -> Pushes {
    let mut pushes = Pushes { keyed: String::new(), ids: Vec::new() };
    for n in 0..3 {
        let (user, client) = (format!("user-{n}"), format!("client-{n}"));
        let caller = world.register_of(&user, &client, json!({})).await;
        let mut device = world.connect(&caller).await;
        if n == 0 {
            pushes.keyed = keyed(world).await;
            assert_eq!(message(&mut device).await.0, pushes.keyed);
            world.until_status(&pushes.keyed, 2).await;
        }
        for round in 0..4 {
            let id = world.push(&client, json!({ "text": format!("payload-{n}-{round}") })).await;
            assert_eq!(message(&mut device).await.0, id);
            world.until_status(&id, 2).await;
            pushes.ids.push(id);
        }
    }
    pushes
}

/// A stopped server's place with those pushes, and where to export it to in a folder of its own.
pub(super) async fn pushed() -> (TempDir, PathBuf, Place) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    pushes(&world).await;
    (folder, directory, stopped(world).await)
}

/// Stops a server whose effects have read everything, and seals the rest.
pub(super) async fn stopped(world: World) -> Place {
    sealed(&world).await;
    let head = world.head().await;
    world.running.server.views.reached(head, Duration::from_secs(30)).await.unwrap();
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    seal_rest(&bare, &place).await;
    bare.close().await;
    // They note how far they are every few thousand events only.
    let mut backdoor = place.backdoor().await;
    backdoor.run("UPDATE subscriptions SET position = (SELECT position FROM head)").await;
    place
}

pub(super) async fn export(place: &Place, directory: &Path, detached: Option<&Path>) -> i64 {
    let bare = Bare::open(place).await;
    let detached = detached.map(|directory| Opened::open(directory).unwrap());
    let export = Export { detached, file_events: FILE_EVENTS, ..Export::default() };
    let events = export.write(&bare.ledger, directory).await.unwrap();
    bare.close().await;
    events
}

pub(super) async fn detach(
    place: &Place,
    directory: &Path,
    to: Option<i64>,
) -> Result<Moved, NotVerified> {
    let bare = Bare::open(place).await;
    let going = Going { to, before: None };
    let moved = archive::detach(&bare.ledger, directory, &[], going).await;
    bare.close().await;
    moved
}

pub(super) async fn attach(place: &Place, directory: &Path) -> Result<Moved, NotVerified> {
    let bare = Bare::open(place).await;
    let moved = archive::attach(&bare.ledger, directory, &[]).await;
    bare.close().await;
    moved
}

pub(super) async fn all(place: &Place) -> Vec<(String, Vec<String>)> {
    let bare = Bare::open(place).await;
    let all = tables(bare.ledger.database()).await;
    bare.close().await;
    all
}

fn is_detached<T>(answer: &Result<T, Fault>, last: i64) -> bool {
    matches!(answer, Err(Fault::Detached { last: at, export }) if *at == last && export == "export")
}

/// Every way to read says what is away, or gives what is here; never less than was asked for.
async fn reads(ledger: &Ledger, whole: &[domain::Recorded], last: i64) {
    let head = ledger.head();
    for at in 0..head {
        let page = ledger.read(at, 3).await;
        match at {
            _ if at >= last => assert_eq!(page.unwrap().events[0], whole[at as usize]),
            _ => assert!(is_detached(&page, last), "after {at}: {page:?}"),
        }
        let one = ledger.read_at(&[at + 1]).await;
        match at {
            _ if at == 0 || at >= last => assert_eq!(one.unwrap().events.len(), 1),
            _ => assert!(is_detached(&one, last), "at {}: {one:?}", at + 1),
        }
        let event = &whole[at as usize];
        let stream = event.stream.to_string();
        let begins = whole.iter().position(|e| e.stream == event.stream).unwrap() as i64 + 1;
        let read = ledger.read_stream(&stream, 0, i64::MAX).await;
        let many = ledger.read_streams(std::slice::from_ref(&stream), i64::MAX).await;
        let own = whole.iter().filter(|e| e.stream == event.stream).map(|e| e.position);
        if begins <= last && own.into_iter().any(|at| (2..=last).contains(&at)) {
            assert!(is_detached(&read, last), "{stream}: {read:?}");
            assert!(is_detached(&many, last), "{stream}: {many:?}");
        } else {
            let expected = whole.iter().filter(|e| e.stream == event.stream).count();
            assert_eq!(read.unwrap().events.len(), expected, "{stream}");
            assert_eq!(many.unwrap().events.len(), expected, "{stream}");
        }
        // The last stream that began before it, or the event itself.
        let before = ledger.before(event.recorded_at).await.unwrap();
        let exact = whole.iter().filter(|e| e.recorded_at < event.recorded_at).count() as i64;
        assert!(before <= exact && (exact <= last || before == exact), "{before} {exact}");
        let begin = |e: &&domain::Recorded| e.version == 1;
        let missed = whole[before as usize..exact as usize].iter().find(begin);
        assert!(missed.is_none(), "{missed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_detached_is_named_to_whoever_asks_and_comes_back_as_it_was() {
    let (folder, directory, place) = pushed().await;
    let before = all(&place).await;
    let head = export(&place, &directory, None).await;
    let bare = Bare::open(&place).await;
    let whole = bare.events().await;
    bare.close().await;
    // As many states as a crash between two transactions could leave.
    for last in [2, 3, head / 3, head / 2] {
        let moved = detach(&place, &directory, Some(last)).await.unwrap();
        assert_eq!(moved.away, last);
        let bare = Bare::open(&place).await;
        reads(&bare.ledger, &whole, last).await;
        let report = verify::live(&bare.ledger, None, &[], None).await.unwrap();
        assert_eq!((report.away, report.away_in.as_deref()), (last as u64 - 1, Some("export")));
        assert_eq!(report.events + report.away, head as u64);
        let opened = Some(Opened::open(&directory).unwrap());
        let report = verify::live(&bare.ledger, None, &[], opened).await.unwrap();
        assert_eq!((report.events, report.away, report.passes), (head as u64, 0, 1));
        bare.close().await;
    }
    let moved = detach(&place, &directory, None).await.unwrap();
    assert_eq!(moved.away, head - 1, "{moved:?}");
    assert_eq!(detach(&place, &directory, None).await.unwrap().events, 0);
    // An export of what is left needs what is away, and is that of the whole.
    let second = folder.path().join("second");
    let bare = Bare::open(&place).await;
    let refused = archive::write(&bare.ledger, &second, None).await;
    assert!(matches!(refused, Err(NotVerified::Fault(Fault::Detached { .. }))), "{refused:?}");
    bare.close().await;
    assert_eq!(export(&place, &second, Some(&directory)).await, head);
    verify::export(&second, &[], &[]).await.unwrap();
    let moved = attach(&place, &second).await.unwrap();
    assert_eq!((moved.events, moved.away), (head - 2, 0));
    assert_eq!(all(&place).await, before);
    assert_eq!(attach(&place, &second).await.unwrap(), Moved::default());
    let bare = Bare::open(&place).await;
    assert_eq!(bare.events().await, whole);
    let report = verify::live(&bare.ledger, None, &[], None).await.unwrap();
    assert_eq!((report.events, report.away), (head as u64, 0));
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detaching_or_attaching_that_is_cut_off_leaves_nothing_half_done_and_goes_on() {
    let (_folder, directory, place) = pushed().await;
    let before = all(&place).await;
    let head = export(&place, &directory, None).await;
    for round in 0..2 {
        for step in 1_u64.. {
            let bare = Bare::open(&place).await;
            let cut = Duration::from_millis(step * step * 2);
            let done = match round {
                0 => {
                    let to = Some((2 + step as i64 * 9).min(head - 1));
                    let going = Going { to, before: None };
                    let moving = archive::detach(&bare.ledger, &directory, &[], going);
                    let moved = tokio::time::timeout(cut, moving).await;
                    moved.is_ok_and(|moved| moved.unwrap().away == head - 1)
                }
                _ => {
                    let moving = archive::attach(&bare.ledger, &directory, &[]);
                    let moved = tokio::time::timeout(cut, moving).await;
                    moved.is_ok_and(|moved| moved.unwrap().away == 0)
                }
            };
            // What was under way is over once the database is closed.
            bare.close().await;
            let bare = Bare::open(&place).await;
            let away = bare.ledger.away().await.unwrap().map_or(0, |away| away.last);
            let report = verify::live(&bare.ledger, None, &[], None).await.unwrap();
            assert_eq!(report.events + report.away, head as u64, "{away}");
            bare.close().await;
            if done {
                break;
            }
        }
    }
    assert_eq!(all(&place).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_goes_on_without_its_beginning_and_refuses_what_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    let Pushes { keyed: first, ids } = pushes(&world).await;
    let place = stopped(world).await;
    let head = export(&place, &directory, None).await;
    detach(&place, &directory, None).await.unwrap();
    let world = World::start(place, Clock::System).await;
    // Views and registry stay; a new push is decided as ever.
    let query =
        |id: &str| format!("{{ app(appId: \"demo\") {{ message(id: \"{id}\") {{ id }} }} }}");
    let known = world.graphql(&query(&ids[5])).await;
    assert_eq!(known["app"]["message"]["id"], json!(ids[5]), "{known}");
    let caller = world.user("user-1", "client-1").await;
    let mut device = world.connect(&caller).await;
    let id = world.push("client-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    // An idempotency key is remembered for ever.
    assert_eq!(keyed(&world).await, first);
    // A message that is away is never taken for one that is not there, nor for a new one.
    let report = json!({ "appPackage": PACKAGE, "msgId": ids[5], "status": 3 });
    let refused = code(&caller, "/ums/v2/report", &report).await;
    let unknown = json!({ "appPackage": PACKAGE, "msgId": "1", "status": 3 });
    assert_eq!(refused, code(&caller, "/ums/v2/report", &unknown).await);
    let recall = format!("/admin/v1/apps/demo/messages/{}/recall", ids[5]);
    let (status, body, _) = world.admin.post(&recall, None).await.unwrap();
    assert_eq!(status, 410, "{body}");
    let report = json!({ "appPackage": PACKAGE, "msgId": id, "status": 3 });
    ok(&caller, "/ums/v2/report", &report).await;
    // Events: named by all ways to read them.
    for (path, expected) in [
        ("/admin/v1/apps/demo/events?after=0&wait=0".to_owned(), 410),
        (format!("/admin/v1/apps/demo/events?after={}&wait=0", head - 1), 200),
        ("/admin/v1/audit/inclusion?position=5".to_owned(), 200),
        (format!("/admin/v1/audit/consistency?from=5&to={}", head - 2), 200),
    ] {
        let (status, body) = text(&world, &path).await;
        assert_eq!(status, expected, "{path}: {body}");
        assert!(status == 200 || body.contains("in the export export"), "{body}");
    }
    sealed(&world).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    let report = verify::live(&bare.ledger, None, &[], None).await.unwrap();
    assert_eq!(report.away as i64, head - 2);
    bare.close().await;
    attach(&place, &directory).await.unwrap();
    let bare = Bare::open(&place).await;
    assert_eq!(bare.events().await.len() as i64, bare.ledger.head());
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_over_sealed_and_compared_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    let Pushes { ids, .. } = pushes(&world).await;
    // One that its device does not get.
    world.register("client-away").await;
    let before = world.head().await;
    world.push("client-away", json!({})).await;
    world.push("client-0", json!({})).await;
    let place = stopped(world).await;
    let head = export(&place, &directory, None).await;
    let moved = detach(&place, &directory, Some(3)).await.unwrap();
    let limit = moved.limit.unwrap();
    assert_eq!(limit.position, before, "{limit:?}");
    assert!(limit.reason.contains("still has to get"), "{limit:?}");
    let refused = detach(&place, &directory, Some(before + 1)).await;
    assert!(matches!(&refused, Err(NotVerified::Other(why)) if why.contains("still has to get")));
    // A row that is another than the exported, the tree's or what was signed.
    let mut backdoor = place.backdoor().await;
    let kept = all(&place).await;
    for sql in unlock(&place) {
        backdoor.run(sql).await;
    }
    backdoor.run("UPDATE events SET body = body || ' ' WHERE position = 9").await;
    let refused = detach(&place, &directory, None).await;
    assert!(
        matches!(&refused, Err(NotVerified::Wrong(wrong)) if wrong.position == 9),
        "{refused:?}"
    );
    backdoor
        .run("UPDATE events SET body = substr(body, 1, length(body) - 1) WHERE position = 9")
        .await;
    assert_eq!(all(&place).await, kept);
    // An export with another byte, and that of another ledger.
    let file = directory.join("events-000000000009.jsonl.zst");
    let whole = std::fs::read(&file).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    std::fs::write(&file, &altered).unwrap();
    assert!(detach(&place, &directory, None).await.is_err());
    assert!(attach(&place, &directory).await.is_err());
    std::fs::write(&file, &whole).unwrap();
    let world = World::new().await;
    let other = stopped(world).await;
    let foreign = folder.path().join("foreign");
    export(&other, &foreign, None).await;
    assert!(detach(&place, &foreign, None).await.is_err());
    assert!(attach(&place, &foreign).await.is_err());
    assert_eq!(all(&place).await, kept);
    assert!(ids.len() > 10 && head > before);
}

async fn refused(place: &Place, statements: &[&str]) {
    let mut backdoor = place.backdoor().await;
    let all = format!("BEGIN; {}; COMMIT", statements.join("; "));
    let sql = sqlx::AssertSqlSafe(all);
    use sqlx::Executor;
    let error = match &mut backdoor {
        Backdoor::Sqlite(own) => own.execute(sql).await.map(drop).unwrap_err(),
        Backdoor::Postgres(own) => own.execute(sql).await.map(drop).unwrap_err(),
    };
    assert!(error.to_string().contains("append-only"), "{statements:?}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_lets_no_event_go_that_is_not_noted_as_detached() {
    let world = World::new().await;
    pushes(&world).await;
    let place = stopped(world).await;
    let guard = "INSERT INTO detaching VALUES (1, 2, 1000000)";
    let noted = "INSERT INTO detached VALUES (1, 5, 1, 'x')";
    let streams = "INSERT INTO detached_streams SELECT stream, MIN(position), 1, MAX(version) \
                   FROM events WHERE position BETWEEN 2 AND 5 GROUP BY stream";
    let delete = "DELETE FROM events WHERE position = 3";
    for statements in [
        vec![delete],
        vec![guard, delete],
        vec![guard, noted, delete],
        vec![noted, streams, delete],
        vec![guard, noted, streams, "DELETE FROM events WHERE position = 1"],
        vec![guard, noted, streams, "DELETE FROM events WHERE position = 6"],
        vec![guard, noted, streams, "DELETE FROM checkpoints", delete],
    ] {
        refused(&place, &statements).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_made_again_from_the_export_and_never_without() {
    let (_folder, directory, place) = pushed().await;
    let views = async |place: &Place| {
        let bare = Bare::open(place).await;
        let mut all = Vec::new();
        for table in projections::TABLES {
            all.push(dump(&bare.ledger.database().views.live().read, table).await);
        }
        bare.close().await;
        all
    };
    let before = views(&place).await;
    let head = export(&place, &directory, None).await;
    detach(&place, &directory, Some(head / 2)).await.unwrap();
    let command = |detached: bool| {
        let config = place.config();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pushledger"));
        command.args(["--database", &config.database]).arg("--data").arg(&config.data);
        command.args(["rebuild", "--force"]);
        if detached {
            command.arg("--detached").arg(&directory);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (done, said) = command(false);
    assert!(!done && said.contains("detached, in the export export"), "{said}");
    assert_eq!(views(&place).await, before);
    let (done, said) = command(true);
    assert!(done, "{said}");
    let world = World::start(place, Clock::System).await;
    let head = world.head().await;
    world.running.server.views.reached(head, Duration::from_secs(30)).await.unwrap();
    let place = world.stop().await;
    assert_eq!(views(&place).await, before);
    // Views that are empty cannot be made by the server alone: it says why it does not start.
    pushledger::ledger::Database::drop_views(&place.database()).await.unwrap();
    let refused = Running::start(&place.config(), Clock::System).await.err().unwrap();
    assert!(refused.to_string().contains("detached"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_is_done_once_what_is_away_is_back_and_blank() {
    let (_folder, directory, place) = pushed().await;
    export(&place, &directory, None).await;
    detach(&place, &directory, None).await.unwrap();
    let world = World::start(place, Clock::System).await;
    let subject = json!({ "user": { "protocol": "ums", "name": "user-1" } });
    let body = json!({ "subject": subject, "reason": "consent_withdrawn" });
    let (status, erasure, _) = world.admin.post(ERASURES, Some(&body)).await.unwrap();
    assert_eq!(status, 202, "{erasure}");
    let done = async || {
        let (_, list, _): (_, Value, _) = world.admin.get(ERASURES, None).await.unwrap();
        list[0]["done"] == true
    };
    let ledger = &world.running.server.ledger;
    // Beside the server, which notices.
    assert!(!done().await);
    archive::attach(ledger, &directory, &[]).await.unwrap();
    until("the erasure is not done", async || done().await).await;
    let events = dump(&ledger.database().ledger_read, "events").await.join("\n");
    assert!(!events.contains("payload-1-") && events.contains("payload-2-"));
    sealed(&world).await;
    let place = world.stop().await;
    let bare = Bare::open(&place).await;
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
    // The export is older than the erasure: nothing goes for it.
    let mut backdoor = place.backdoor().await;
    backdoor.run("UPDATE subscriptions SET position = (SELECT position FROM head)").await;
    let refused = detach(&place, &directory, None).await;
    assert!(matches!(&refused, Err(NotVerified::Wrong(wrong)) if wrong.reason.contains("erased")));
}
