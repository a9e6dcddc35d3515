//! A server that is killed in the middle of a task: whoever goes on with it records each chunk once,
//! and makes the calls that had no answer again with the keys that they had.

use std::{collections::BTreeMap, time::Duration};

use domain::message::MessageId;
use pushledger::clock::Clock;
use serde_json::{Value, json};
use sim::{
    Admin,
    fakes::{Fault, JpushFake},
};

use crate::{
    easemob::{APP, ORG, hello, ok, speak},
    harness::{PATIENCE, Place, Process, World, until},
    tasks::{chunks, count, recorded_once, register, statistics, token},
    vendors::Post,
};

/// Two calls of JPush for each chunk but the last, which has one: five chunks.
const DEVICES: usize = 9_000;
const CALLS: usize = 9;
/// Calls that are answered before the second server is killed: whichever they are, a chunk has all
/// of its own, and another has not.
const ANSWERED: usize = 5;

/// Taken, and answered when nobody waits for it any more.
const NEVER: Fault = Fault::Slow { ms: 600_000 };

/// A place with an app and its devices and no server, the vendor, and a token of the app.
async fn prepared() -> (Place, JpushFake, String) {
    let Post { world, jpush } = Post::on(World::new().await).await;
    let token = speak(&world).await;
    register(&world.running.server, (0..DEVICES).map(crate::tasks::token)).await;
    (world.stop().await, jpush, token)
}

/// How often each idempotency key came.
fn keys(jpush: &JpushFake) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for push in jpush.requests().into_iter().filter(|request| request.path == "/v3/push") {
        *keys.entry(push.json()["cid"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    keys
}

/// Has the vendor answer some calls and no others, also when those are made again.
fn answers_some(jpush: &JpushFake) {
    jpush.plan(vec![Fault::Slow { ms: 0 }; ANSWERED]);
    jpush.plan_share(NEVER, 1_000);
}

/// The app's server, at one of ours.
fn cloud(server: &Process, token: &str) -> Admin {
    Admin::new(format!("{}/{ORG}/{APP}", server.url()), token)
}

async fn data(cloud: &Admin, path: &str) -> Value {
    ok(cloud.get(path, None).await.unwrap())["data"].clone()
}

/// Waits for something that happens once a lease is over, which a server that was killed still has.
async fn after_the_lease(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 3, reached).await.expect(what);
}

/// What the ledger has of the task, and what JPush saw, once all is over.
async fn nothing_lost_and_nothing_twice(place: Place, jpush: &JpushFake, task: MessageId) {
    let world = World::start(place, Clock::System).await;
    let recorded = chunks(&world, task).await;
    assert_eq!(recorded_once(&recorded), DEVICES);
    let found = statistics(&world, task).await;
    let all = i64::try_from(DEVICES).unwrap();
    assert_eq!((found.targets(), count(&found, "jpush", "sent", "")), (all, all), "{found:?}");
    let seen = jpush.stats();
    assert_eq!((seen.tokens_distinct, seen.tokens_repeated), (DEVICES as u64, 0));
    assert!((0..DEVICES).all(|n| jpush.accepted(&token(n)) == 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_server_is_killed_twice_calls_again_with_the_same_keys() {
    let (place, jpush, token) = prepared().await;
    jpush.plan_share(NEVER, 1_000);
    let mut server = Process::start(&place).await;
    let body = json!({ "pushMessage": hello() });
    let task = ok(cloud(&server, &token).post("/push/task", Some(&body)).await.unwrap());
    let task = task["data"].as_i64().unwrap();
    // All calls are taken, and none is answered.
    until("the calls were not made", async || keys(&jpush).len() == CALLS).await;
    server.kill();
    jpush.clear_plans();

    answers_some(&jpush);
    let mut server = Process::start(&place).await;
    let path = format!("/push/task/{task}/statistics");
    after_the_lease("no chunk was recorded", async || {
        let again = keys(&jpush).values().all(|times| *times >= 2);
        again && data(&cloud(&server, &token), &path).await["sent"] != 0
    })
    .await;
    let sent = data(&cloud(&server, &token), &path).await["sent"].as_u64().unwrap();
    assert!(sent < DEVICES as u64, "nothing was left to do");
    server.kill();
    let before = keys(&jpush);
    jpush.clear_plans();

    let server = Process::start(&place).await;
    after_the_lease("the task never ended", async || {
        let found = data(&cloud(&server, &token), &format!("/push/task/{task}")).await;
        found["status"] == "finished"
    })
    .await;
    // What was recorded was not asked for again; what was not had its key of before.
    let keys = keys(&jpush);
    assert_eq!((before.len(), keys.len()), (CALLS, CALLS), "{keys:?}");
    let again = keys.iter().filter(|(key, times)| **times > before[*key]).count();
    assert!((CALLS - ANSWERED..CALLS).contains(&again), "{before:?}, {keys:?}");
    assert!(server.terminate().await);
    nothing_lost_and_nothing_twice(place, &jpush, MessageId(task)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_takes_a_task_over_from_one_that_was_killed() {
    let (place, jpush, token) = prepared().await;
    if !place.on_postgres() {
        // One database file is one server's.
        return;
    }
    let mut first = Process::start(&place).await;
    let began = cloud(&first, &token);
    answers_some(&jpush);
    let second = Process::start(&place).await;
    let other = cloud(&second, &token);
    let task =
        ok(began.post("/push/task", Some(&json!({ "pushMessage": hello() }))).await.unwrap());
    let task = task["data"].as_i64().unwrap();
    let path = format!("/push/task/{task}/statistics");
    after_the_lease("no chunk was recorded", async || {
        keys(&jpush).len() == CALLS && data(&other, &path).await["sent"] != 0
    })
    .await;
    let sent = data(&other, &path).await["sent"].as_u64().unwrap();
    assert!(sent < DEVICES as u64, "nothing was left to do");
    first.kill();
    let before = keys(&jpush);
    jpush.clear_plans();
    after_the_lease("nobody took the task over", async || {
        data(&other, &format!("/push/task/{task}")).await["status"] == "finished"
    })
    .await;
    let keys = keys(&jpush);
    assert_eq!((before.len(), keys.len()), (CALLS, CALLS), "{keys:?}");
    let again = keys.iter().filter(|(key, times)| **times > before[*key]).count();
    assert!((CALLS - ANSWERED..CALLS).contains(&again), "{before:?}, {keys:?}");
    assert!(second.terminate().await);
    nothing_lost_and_nothing_twice(place, &jpush, MessageId(task)).await;
}
