//! Apps beside each other: however much one has to send, or however long its vendor takes, another's
//! push waits for none of its calls, and its task for none of its tasks.

use domain::{Event, Recorded, Stream, message::Progress, route::Strategy, task::TaskAudience};
use pushledger::{delivery::tasks, ledger::Context};
use serde_json::json;
use sim::{Caller, fakes::Fault};

use super::{Post, token};
use crate::{
    harness::{World, ok, registration, until},
    tasks::{chunks, context, create, register, task},
};

/// Chunks of the great task, and the devices of each, which are one call.
const CHUNKS: usize = 400;
const CHUNK: u32 = 5;
/// Chunks of one task that are sent at once.
const CALLS: u64 = 8;
/// Tasks of one app that are worked on at once.
const TASKS: usize = 64;

const SYSTEM: (&str, &str) = ("SV-OTHER", "11112222333344445555666677778888");
const APP: (&str, &str) = ("MB-OTHER", "88887777666655554444333322221111");

/// Has a second app reach one device by the same vendor.
async fn other_app(post: &Post) -> Caller {
    let own = post.jpush.credentials();
    let credentials = json!({ "vendor": "jpush", "baseUrl": post.jpush.url(),
        "appKey": own.app_key, "masterSecret": own.master_secret });
    let app = json!({
        "appId": "other", "name": "Other", "timezone": "Asia/Shanghai",
        "ums": { "appId": APP.0, "appKey": APP.1, "systemId": SYSTEM.0, "systemKey": SYSTEM.1 },
        "vendors": [{ "name": "jpush-cert", "credentials": credentials }],
    });
    let (status, body, _) = post.world.admin.post("/admin/v1/apps", Some(&app)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    let terminal = Caller::new(&post.world.url, APP.0, APP.1).with_client_id("other");
    ok(&terminal, "/ums/v2/register", &registration("other")).await;
    Caller::new(&post.world.url, SYSTEM.0, SYSTEM.1)
}

async fn push(cloud: &Caller) {
    let body = json!({ "dst": { "type": 0, "Id": ["other"] }, "message": {} });
    ok(cloud, "/umse/v2/msgPush", &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_no_call_of_another_apps_task() {
    let post = Post::on(World::in_chunks_of(CHUNK).await).await;
    let devices = CHUNKS * CHUNK as usize;
    register(&post.world.running.server, (0..devices).map(|n| format!("push-c-{n}"))).await;
    let cloud = other_app(&post).await;
    // What is asked for the great task is never answered: as much as may be is under way.
    post.jpush.plan_share(Fault::Slow { ms: 600_000 }, 1_000);
    create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    let calls = async || post.jpush.stats().pushes_accepted == CALLS;
    until("the task's calls were not made", calls).await;
    push(&cloud).await;
    until("the push waits", async || post.jpush.accepted(&token("other")) == 1).await;
    assert_eq!(post.jpush.stats().pushes_accepted, CALLS + 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_comes_by_in_the_middle_of_another_apps_task() {
    let post = Post::on(World::in_chunks_of(CHUNK).await).await;
    let devices = CHUNKS * CHUNK as usize;
    register(&post.world.running.server, (0..devices).map(|n| format!("push-c-{n}"))).await;
    let cloud = other_app(&post).await;
    // Until the push is sent a call takes a second, and so the task nearly a minute at least.
    post.jpush.plan_share(Fault::Slow { ms: 1_000 }, 1_000);
    let great = create(&post.world, task(TaskAudience::Everyone, Strategy::VendorOnly)).await;
    until("the task never began", async || !chunks(&post.world, great).await.is_empty()).await;
    push(&cloud).await;
    let events = async || post.world.running.server.ledger.read(0, i64::MAX).await.unwrap().events;
    let sent = |recorded: &Recorded| match &recorded.event {
        Event::DeliveriesAdvanced(e) if recorded.app == "other" => {
            e.steps.iter().any(|step| step.what == Progress::Sent)
        }
        _ => false,
    };
    until("the push waits", async || events().await.iter().any(sent)).await;
    post.jpush.clear_plans();
    let chunk =
        |recorded: &Recorded| matches!(recorded.stream, Stream::Chunk(of, _) if of == great);
    until("it was sent after all of the task", async || {
        let events = events().await;
        events.iter().position(sent) < events.iter().rposition(chunk)
    })
    .await;
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_waits_for_none_of_another_apps_however_many_those_are() {
    let post = Post::on(World::in_chunks_of(CHUNK).await).await;
    register(&post.world.running.server, ["push-c-0".to_owned()]).await;
    other_app(&post).await;
    // Its vendor asks for a pause at once, so that all its tasks wait.
    post.jpush.plan([Fault::TooMany { retry_after_seconds: Some(3_000) }]);
    for number in 0..TASKS + 8 {
        let mut new = task(TaskAudience::Everyone, Strategy::VendorOnly);
        (new.limits.running, new.limits.created) = (1_000, 1_000);
        let first = create(&post.world, new).await;
        if number == 0 {
            until("nothing was put off", async || !chunks(&post.world, first).await.is_empty())
                .await;
        }
    }
    let context = Context { app: "other".to_owned(), ..context() };
    let new = task(TaskAudience::Everyone, Strategy::VendorOnly);
    tasks::create(&post.world.running.server, context, new).await.unwrap();
    until("the task waits", async || post.jpush.accepted(&token("other")) == 1).await;
    assert_eq!(post.jpush.accepted("push-c-0"), 0);
    post.world.stop().await;
}
