//! What comes back of what was detached, what never goes, and what is answered meanwhile.

use std::{path::Path, process::Command, time::Duration};

use projections::on;
use pushledger::{
    audit::{
        archive::{self, Going},
        verify::{self, NotVerified},
    },
    clock::Clock,
    ledger::Database,
};
use serde_json::{Value, json};
use sim::Incoming;

use super::{
    detached::{Pushes, all, detach, export, pushed, pushes, stopped},
    text,
};
use crate::{
    analysts::live::Follower,
    easemob,
    harness::{ADMIN_TOKEN, PACKAGE, PATIENCE, Place, World, code, until},
    tencent,
    views::{Bare, unreadable::append},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_and_what_was_recorded_lately_stays() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    pushes(&world).await;
    let aside = append(&world, "task/1", "task.started", 9, "{}").await;
    world.running.server.views.reached(aside, PATIENCE).await.unwrap();
    world.register("client-later").await;
    let place = stopped(world).await;
    export(&place, &directory, None).await;
    let moved = detach(&place, &directory, Some(2)).await.unwrap();
    let limit = moved.limit.unwrap();
    assert_eq!(limit.position, aside - 1);
    assert!(limit.reason.contains("set aside"), "{limit:?}");
    let bare = Bare::open(&place).await;
    let whole = bare.ledger.read(aside, 100).await.unwrap().events;
    let at = bare.ledger.read(3, 1).await.unwrap().events[0].recorded_at;
    let going = Going { to: None, before: Some(at) };
    let moved = archive::detach(&bare.ledger, &directory, &[], going).await.unwrap();
    let limit = moved.limit.unwrap();
    assert!(limit.position < 4 && limit.reason.contains("lately"), "{limit:?}");
    let going = Going { to: Some(aside - 1), before: Some(at) };
    let refused = archive::detach(&bare.ledger, &directory, &[], going).await;
    assert!(matches!(&refused, Err(NotVerified::Other(why)) if why.contains("lately")));
    assert!(!whole.is_empty());
    bare.close().await;
}

/// How far a generation of the views has read, set to that.
async fn half_made(place: &Place, number: i64, position: i64) {
    let database = Database::open(&place.database()).await.unwrap();
    let generation = database.generations.open(number).await.unwrap();
    let mut tx = generation.write.begin().await.unwrap();
    const SQL: &str = "UPDATE checkpoint SET position = $1";
    on!(tx.conn(), c => {
        sqlx::query(SQL).bind(position).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
    generation.close().await;
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_was_half_made_when_events_went_keeps_no_server_from_starting() {
    let (_folder, directory, place) = pushed().await;
    export(&place, &directory, None).await;
    half_made(&place, 2, 5).await;
    detach(&place, &directory, None).await.unwrap();
    let world = World::start(place, Clock::System).await;
    let database = world.running.server.ledger.database();
    until("it was not removed", async || database.generations.all().await.unwrap() == [1]).await;
    assert!(pushledger::feed::effects::paused(&database.ledger_read).await.unwrap().is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_behind_what_is_away_is_named_where_it_is() {
    let (_folder, directory, place) = pushed().await;
    let head = export(&place, &directory, None).await;
    detach(&place, &directory, Some(head / 2)).await.unwrap();
    let mut backdoor = place.backdoor().await;
    for sql in super::unlock(&place) {
        backdoor.run(sql).await;
    }
    backdoor.run("DELETE FROM events WHERE position > 1").await;
    let bare = Bare::open(&place).await;
    match verify::live(&bare.ledger, None, &[], None).await {
        Err(NotVerified::Wrong(wrong)) => assert_eq!(wrong.position, head / 2 + 1, "{wrong}"),
        other => panic!("{other:?}"),
    }
    bare.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_of_what_is_away_cannot_be_altered_unseen() {
    let (_folder, directory, place) = pushed().await;
    let head = export(&place, &directory, None).await;
    let last = head / 2;
    detach(&place, &directory, Some(last)).await.unwrap();
    let mut backdoor = place.backdoor().await;
    for table in ["detached", "tiles"] {
        backdoor.run(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    for (sql, position) in [
        ("UPDATE detached SET last = last - 1", last),
        ("DELETE FROM detached", 2),
        ("DELETE FROM tiles", 2),
    ] {
        backdoor.run(sql).await;
        let bare = Bare::open(&place).await;
        match verify::live(&bare.ledger, None, &[], None).await {
            Err(NotVerified::Wrong(wrong)) => {
                assert_eq!(wrong.position, position, "{sql}: {wrong}")
            }
            other => panic!("{sql}: {other:?}"),
        }
        bare.close().await;
        for table in ["detached", "tiles"] {
            backdoor.run(&format!("DELETE FROM {table}")).await;
            backdoor.run(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
        }
    }
    let bare = Bare::open(&place).await;
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    bare.close().await;
}

fn run(place: &Place, arguments: &[&str]) -> (bool, String) {
    let config = place.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushledger"));
    command.args(arguments).args(["--database", &config.database]).arg("--data").arg(&config.data);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_keeps_a_month_gives_room_back_and_never_guesses_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let [directory, foreign] = ["export", "foreign"].map(|name| folder.path().join(name));
    let (directory, foreign) = (directory.to_str().unwrap(), foreign.to_str().unwrap());
    let other = stopped(World::new().await).await;
    export(&other, Path::new(foreign), None).await;
    let world = World::new().await;
    pushes(&world).await;
    for _ in 0..100 {
        // Nobody is there to get it: it is over at once.
        let body = json!({ "dst": { "type": 0, "Id": ["nobody"] },
                           "message": { "filler": "x".repeat(20_000) } });
        code(&world.cloud(), "/umse/v2/msgPush", &body).await;
    }
    let place = stopped(world).await;
    let before = all(&place).await;
    let head = export(&place, Path::new(directory), None).await;
    let (done, said) = run(&place, &["detach", directory]);
    assert!(done && said.contains("\"events\":0") && said.contains("lately"), "{said}");
    let size = || std::fs::metadata(place.directory.path().join("ledger.db")).unwrap().len();
    let full = (!place.on_postgres()).then(size);
    let (done, said) = run(&place, &["detach", directory, "--keep-days", "0", "--compact"]);
    assert!(done && said.contains(&format!("\"events\":{}", head - 2)), "{said}");
    if let Some(full) = full {
        assert!(size() < full, "{} of {full}", size());
    }
    let bare = Bare::open(&place).await;
    verify::live(&bare.ledger, None, &[], None).await.unwrap();
    let first = bare.ledger.read_at(&[1]).await.unwrap().events[0].recorded_at;
    bare.close().await;
    // A time from which only the first event is here is no reason to show what was then.
    let time = chrono::DateTime::from_timestamp_micros(first + 1_000_000).unwrap().to_rfc3339();
    let (done, said) = run(&place, &["replay", "--as-of", &time, "--view", "messages"]);
    assert!(!done && said.contains("detached"), "{said}");
    // Statistics need no event to be as they were.
    let (at, view) = ((head / 2).to_string(), "statistics");
    let (done, said) = run(&place, &["replay", "--as-of", &at, "--view", view]);
    assert!(done && said.contains("\"delivery_stats\""), "{said}");
    // Views are not thrown away for an export that cannot bring them back.
    for wrong in [foreign, "/nowhere"] {
        let (done, said) = run(&place, &["rebuild", "--force", "--detached", wrong]);
        assert!(!done, "{said}");
    }
    let world = World::start(place, Clock::System).await;
    let place = world.stop().await;
    let (done, said) = run(&place, &["attach", directory]);
    assert!(done && said.contains("\"away\":0"), "{said}");
    let now = all(&place).await;
    let events = |tables: &[(String, Vec<String>)]| tables[0].clone();
    assert_eq!(events(&now), events(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_says_in_its_words_that_a_message_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let easemob = easemob::Easemob::new().await;
    tencent::speak(&easemob.world, json!({})).await;
    let Pushes { ids, .. } = pushes(&easemob.world).await;
    let kept = easemob.cloud.post("/push/message", Some(&easemob::hello())).await.unwrap();
    let kept = easemob::ok(kept)["data"].clone();
    easemob.label("news").await;
    let body = json!({ "strategy": 4, "pushMessage": easemob::hello(), "targets": ["news"] });
    let task = easemob.cloud.post("/push/list/label", Some(&body)).await.unwrap();
    let task = easemob::ok(task)["data"]["taskId"].clone();
    let tencent = tencent::Tencent::of(easemob.world, json!({})).await;
    let mut phone = tencent.connect("bob", "phone").await;
    let key = tencent.send(&tencent::message(1)).await;
    tencent::next(&mut phone).await;
    drop(phone);
    let token = easemob.cloud.token.clone();
    let path = format!("/push/task/{}", task);
    let cloud = sim::Admin::new(easemob::base(&tencent.world), &token);
    until("the task is not over", async || {
        cloud.get(&path, None).await.unwrap().1["data"]["status"] == "finished"
    })
    .await;
    let (path_of_task, before) = (path, tencent.world.head().await);
    let place = stopped(tencent.world).await;
    export(&place, &directory, None).await;
    let moved = detach(&place, &directory, None).await.unwrap();
    assert_eq!(moved.away, before - 1, "{moved:?}");
    let tencent = tencent::Tencent { world: World::start(place, Clock::System).await };
    let world = &tencent.world;
    // UMS: as of a message that never was.
    let own = world.user("user-1", "client-1").await;
    let asked = json!({ "msgId": ids[5] });
    for (caller, path, body) in [
        (&world.cloud(), "/umse/v2/getmsgstat", asked.clone()),
        (&own, "/ums/v2/getmsgstat", json!({ "megId": ids[5] })),
        (&own, "/ums/v2/report", json!({ "appPackage": PACKAGE, "msgId": ids[5], "status": 3 })),
    ] {
        assert_eq!(code(caller, path, &body).await, "H32007", "{path}");
    }
    // A device that still says something about it is told so, and stays connected.
    let mut device = world.connect(&own).await;
    device.ack(&ids[5]).await.unwrap();
    device.report(&ids[5], 3).await.unwrap();
    let refused = device.next_within(PATIENCE).await;
    assert!(format!("{refused:?}").contains("no such message"), "{refused:?}");
    let id = world.push("client-1", json!({})).await;
    assert!(matches!(device.next_within(PATIENCE).await,
        Some(Incoming::Message { id: own, .. }) if own == id));
    // Easemob: what is folded is known, what lies in the ledger alone is not.
    let cloud = sim::Admin::new(easemob::base(world), &token);
    for path in [path_of_task.clone(), format!("{path_of_task}/statistics")] {
        easemob::ok(cloud.get(&path, None).await.unwrap());
    }
    let broadcast = json!({ "pushMsgId": kept, "strategy": 4 });
    for (answer, what) in [
        (cloud.get(&format!("/push/message/{kept}"), None).await, "read"),
        (cloud.post("/push/task/broadcast", Some(&broadcast)).await, "broadcast"),
        (cloud.delete(&path_of_task, None).await, "cancel"),
    ] {
        let (status, ..) = easemob::refusal(&answer.unwrap());
        assert_eq!(status, 400, "{what}");
    }
    // Tencent: withdrawing is refused; a conversation goes back as far as there are messages.
    let withdraw = json!({ "From_Account": "Ann", "To_Account": "bob", "MsgKey": key });
    tencent.refused(tencent::WITHDRAW, &withdraw, 20_022).await;
    let roam = json!({ "From_Account": "bob", "To_Account": "Ann", "MaxCnt": 100,
                       "MinTime": 0, "MaxTime": 4_000_000_000_u32 });
    tencent.send(&tencent::message(2)).await;
    let told = tencent.call(tencent::ROAM, &roam).await;
    assert_eq!((&told["MsgCnt"], &told["Complete"]), (&json!(1), &json!(1)), "{told}");
    // Operators: gone.
    for path in ["recall", "replace"] {
        let path = format!("/admin/v1/apps/demo/messages/{}/{path}", ids[5]);
        assert_eq!(world.admin.post(&path, None).await.unwrap().0, 410, "{path}");
    }
    // GraphQL: what the views have, and `DETACHED` for what they do not.
    let query = format!(
        "{{ app(appId: \"demo\") {{ message(id: \"{}\") {{ id deliveries {{ stage }} \
         events {{ type }} }} }} }}",
        ids[5]
    );
    let (status, told, _) =
        world.admin.post("/graphql", Some(&json!({ "query": query }))).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(told["errors"][0]["extensions"]["code"], "DETACHED", "{told}");
    assert_eq!(told["data"]["app"]["message"]["id"], json!(ids[5]), "{told}");
    let from = chrono::DateTime::from_timestamp_micros(world.clock.now()).unwrap();
    let from = (from - chrono::Duration::days(1)).to_rfc3339();
    let query = format!(
        "{{ asOf(moment: 12) {{ app(appId: \"demo\") {{ devices {{ nodes {{ number }} }} \
         deliveryStats(range: {{ from: \"{from}\" }}) {{ position }} }} }} }}"
    );
    let told = world.graphql(&query).await["asOf"]["app"].clone();
    assert!(!told["devices"]["nodes"].as_array().unwrap().is_empty(), "{told}");
    assert_eq!(told["deliveryStats"]["position"], 12, "{told}");
    let mut follower = Follower::admitted(world, ADMIN_TOKEN).await;
    let events = "subscription { events(appId: \"demo\", after: 0) { position } }";
    follower.subscribe("1", events).await;
    let told = follower.next().await.unwrap().to_string();
    assert!(told.contains("\"DETACHED\""), "{told}");
    drop(follower);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_about_what_is_away_are_not_made_again_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    let receiver = crate::callbacks::receiver(&world).await;
    receiver.answer(sim::receiver::Answer::Status(410, String::new()));
    let hook = json!({ "url": receiver.url("/"), "events": ["device.registered"] });
    let hook = crate::callbacks::hook_of(&world, hook).await;
    world.register("client-0").await;
    crate::callbacks::until_count(&world, "given_up", 1).await;
    let list = "/admin/v1/apps/demo/callbacks";
    let (_, told, _) = world.admin.get(list, None).await.unwrap();
    let position = told["callbacks"][0]["position"].clone();
    assert!(position.is_i64(), "{told}");
    pushes(&world).await;
    let place = stopped(world).await;
    export(&place, &directory, None).await;
    detach(&place, &directory, None).await.unwrap();
    let world = World::start(place, Clock::System).await;
    let replay = format!("{list}/replay");
    let asked = json!({ "receiver": hook, "callbacks": [position] });
    let (status, refused, _) = world.admin.post(&replay, Some(&asked)).await.unwrap();
    assert_eq!(status, 410, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("in the export export"), "{refused}");
    // Whoever asks for all that can be made again is told that there is none.
    let all = json!({ "receiver": hook });
    let (status, asked, _): (u16, Value, _) = world.admin.post(&replay, Some(&all)).await.unwrap();
    assert_eq!((status, &asked["asked"]), (202, &json!(0)), "{asked}");
    let (status, _) = text(&world, list).await;
    assert_eq!(status, 200);
    tokio::time::timeout(Duration::from_secs(30), world.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_callback_waits_stays_until_it_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("export");
    let world = World::new().await;
    let receiver = crate::callbacks::receiver(&world).await;
    receiver.answer(sim::receiver::Answer::With(503, "retry-after", "3600".to_owned()));
    world.register("client-before").await;
    let hook = json!({ "url": receiver.url("/"), "events": ["device.registered"] });
    crate::callbacks::hook_of(&world, hook).await;
    world.register("client-waits").await;
    crate::callbacks::until_count(&world, "postponed", 1).await;
    let list = "/admin/v1/apps/demo/callbacks?outcome=postponed";
    let (_, told, _): (_, Value, _) = world.admin.get(list, None).await.unwrap();
    let waits = told["callbacks"][0]["position"].as_i64().unwrap();
    pushes(&world).await;
    let later = world.clock.now() + 2 * 3_600_000_000;
    let place = stopped(world).await;
    export(&place, &directory, None).await;
    let moved = detach(&place, &directory, None).await.unwrap();
    let limit = moved.limit.unwrap();
    assert_eq!(limit.position, waits - 1);
    assert!(limit.reason.contains("callback"), "{limit:?}");
    // Two hours later it is called again, and that is recorded.
    receiver.answer(sim::receiver::Answer::ok());
    let world = World::start(place, Clock::manual(later)).await;
    crate::callbacks::until_count(&world, "postponed", 0).await;
    let place = stopped(world).await;
    let moved = detach(&place, &directory, None).await.unwrap();
    assert!(moved.away > waits, "{moved:?}");
    assert!(moved.limit.is_none_or(|limit| !limit.reason.contains("callback")));
}
