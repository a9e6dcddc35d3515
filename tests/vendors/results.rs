//! The policy as a table over the wire with what the vendor answers as one more axis: strategy,
//! whether the device is here, whether it is bound, and what becomes of the call. The same for a
//! message and for a task.

use std::{collections::BTreeMap, time::Duration};

use domain::{
    Event,
    facts::{Fact, Key},
    message::{Ending, MessageId},
    route::Strategy,
    task::TaskAudience,
};
use pushledger::delivery::tasks::NewTask;
use serde_json::json;
use sim::{
    Device,
    fakes::{Fault, Outage},
};
use tokio::task::JoinHandle;

use super::{
    Post,
    ways::{Comes, Found, is},
};
use crate::{
    harness::{PATIENCE, merge, message, ok, registration, until},
    tasks::{chunks, create, task},
};

use Strategy::{OnlineElseKept, OnlineElseVendor, PresentOnly, VendorElseOnline, VendorOnly};

/// What the vendor answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Takes,
    /// It refuses what it is asked for.
    Payload,
    Quota,
    /// It does not know who asks.
    Credentials,
    /// It is asked too fast, and takes it later.
    Throttled,
    /// It is away for longer than it is asked again.
    Away,
}

const SAYS: [Says; 6] =
    [Says::Takes, Says::Payload, Says::Quota, Says::Credentials, Says::Throttled, Says::Away];

const CLIENTS: [&str; 2] = ["bound", "bare"];
/// How long a push is worth delivering: far longer than a vendor is asked again.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

impl Says {
    /// Why the vendor is no way, if it is none.
    fn refuses(self) -> Option<Ending> {
        match self {
            Says::Takes | Says::Throttled => None,
            Says::Payload => Some(Ending::Unfit),
            Says::Quota => Some(Ending::QuotaExhausted),
            Says::Credentials => Some(Ending::Misconfigured),
            Says::Away => Some(Ending::VendorUnavailable),
        }
    }

    async fn begin(self, post: &Post) {
        match self {
            Says::Takes => {}
            Says::Payload => post.jpush.plan_share(
                Fault::Raw {
                    status: 400,
                    content_type: "application/json".to_owned(),
                    body: r#"{"error":{"code":1005,"message":"too large"}}"#.to_owned(),
                },
                1_000,
            ),
            Says::Quota => post.jpush.plan_share(Fault::Quota, 1_000),
            Says::Credentials => post.configure("no-such-secret").await,
            Says::Throttled => {
                post.jpush.plan_share(Fault::TooMany { retry_after_seconds: None }, 1_000);
            }
            Says::Away => post.jpush.set_outage(Outage::Unavailable).await,
        }
    }
}

impl Post {
    /// Has the app use JPush with that secret.
    async fn configure(&self, secret: &str) {
        let credentials = json!({ "vendor": "jpush", "baseUrl": self.jpush.url(),
            "appKey": self.jpush.credentials().app_key, "masterSecret": secret });
        let vendors = json!({ "vendors": [{ "name": "jpush-cert", "credentials": credentials }] });
        let (status, body, _) =
            self.world.admin.patch("/admin/v1/apps/demo", Some(&vendors)).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
}

/// Whether the vendor is asked.
fn asked(strategy: Strategy, here: bool, client: &str) -> bool {
    client == "bound"
        && match strategy {
            VendorElseOnline | VendorOnly => true,
            OnlineElseVendor => !here,
            OnlineElseKept | PresentOnly => false,
        }
}

/// What comes of a push, however it came.
fn comes(strategy: Strategy, here: bool, client: &str, says: Says) -> Comes {
    let asked = asked(strategy, here, client);
    let online = |failed| if here { Comes::Online(failed) } else { Comes::Kept(failed) };
    match (strategy, asked, says.refuses()) {
        (_, true, None) => Comes::Vendor,
        (VendorOnly, true, Some(reason)) => Comes::Ends(reason),
        (_, true, reason) => online(reason),
        (VendorElseOnline, false, _) => online(Some(Ending::NoBinding)),
        (VendorOnly, false, _) => Comes::Ends(Ending::NoBinding),
        (PresentOnly, false, _) if !here => Comes::Ends(Ending::NotPresent),
        (_, false, _) => online(None),
    }
}

/// A device that takes and acknowledges whatever comes, and is back whenever its connection is gone.
fn living(mut device: Device) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            while device.next().await.is_some() {}
            while device.reconnect().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    })
}

/// What became of a push under each strategy for each client.
async fn found(post: &Post, id: MessageId, as_task: bool) -> BTreeMap<&'static str, Found> {
    let mut found = BTreeMap::new();
    if !as_task {
        for client in CLIENTS {
            found.insert(client, Found::of(&post.delivery(id, client).await));
        }
        return found;
    }
    let key = Key::Chunk(id, 1);
    let Fact::Chunk(Some(chunk)) = post.world.running.server.ledger.fact(key).await.unwrap() else {
        return found;
    };
    let (states, mut failed) = (chunk.deliveries(), BTreeMap::new());
    for recorded in chunks(&post.world, id).await {
        if let Event::ChunkDelivered(e) = recorded.event {
            let online = e.outcomes().filter(|(_, kind)| kind.online());
            failed.extend(online.map(|(device, kind)| (device, kind.reason)));
        }
    }
    for client in CLIENTS {
        let number = post.number(client).await;
        let failed = failed.get(&number).copied().flatten();
        found.insert(client, Found::of_state(states[&number], failed));
    }
    found
}

/// Whether a push still waits for the vendor, as far as is recorded.
async fn waits(post: &Post, id: MessageId, as_task: bool) -> bool {
    let number = post.number("bound").await;
    let key = if as_task { Key::Chunk(id, 1) } else { Key::Message(id) };
    match post.world.running.server.ledger.fact(key).await.unwrap() {
        Fact::Chunk(chunk) => chunk.is_some_and(|chunk| chunk.deliveries()[&number].retrying()),
        Fact::Message(Some(message)) => message.deliveries[&number].wants_vendor(),
        other => panic!("{other:?}"),
    }
}

/// Whether something is so in the end, while as much time passes as is given each time.
async fn within_patience(
    mut so: impl AsyncFnMut() -> bool,
    mut passes: impl AsyncFnMut() -> Duration,
    clock: &pushledger::clock::Clock,
) -> bool {
    let reached = async {
        while !so().await {
            clock.advance(passes().await);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 2, reached).await.is_ok()
}

/// One push under each strategy, and what became of each.
async fn as_the_table_says(here: bool, says: Says, as_task: bool) {
    let post = Post::new().await;
    let world = &post.world;
    let mut devices = Vec::new();
    for client in CLIENTS {
        let mut body = registration(client);
        if client == "bare" {
            // A speaker on the M2M channel, which is no push vendor's.
            merge(&mut body, json!({ "deviceType": "08", "collab3th": 1 }));
        }
        ok(&world.terminal(client), "/ums/v2/register", &body).await;
        if here {
            devices.push(living(post.connected(client).await));
        }
    }
    says.begin(&post).await;
    let mut pushes = Vec::new();
    for strategy in Strategy::ALL {
        let id = match as_task {
            true => {
                let keep_seconds = KEEP.as_secs().try_into().unwrap();
                let mut new = task(TaskAudience::Everyone, strategy);
                (new.limits.running, new.limits.created) = (10, 10);
                create(world, NewTask { keep_seconds, ..new }).await
            }
            false => post.push(&CLIENTS, strategy, KEEP).await,
        };
        pushes.push((strategy, id));
    }
    // What is not as the table says, of all or of what no vendor is asked for.
    let other = async |all: bool| {
        let mut other = Vec::new();
        for (strategy, id) in &pushes {
            let mut found = found(&post, *id, as_task).await;
            for client in CLIENTS.into_iter().filter(|c| all || !asked(*strategy, here, c)) {
                let (found, comes) = (found.remove(client), comes(*strategy, here, client, says));
                if !found.as_ref().is_some_and(|found| is(found, comes)) {
                    other.push((*strategy, client, found, comes));
                }
            }
        }
        other
    };
    // What asks for no vendor is over before any time passes.
    let over = async || other(false).await.is_empty();
    if !within_patience(over, async || Duration::ZERO, &world.clock).await {
        panic!("{says:?}: our own channel waits for the vendor: {:?}", other(false).await);
    }
    if says == Says::Throttled {
        until("the vendor was not asked", async || post.jpush.stats().faults > 0).await;
        post.jpush.clear_plans();
    }
    let step = Duration::from_secs(if says == Says::Away { 10 } else { 1 });
    // Once the vendor is not asked again, time stands still: who is here comes back and stays.
    let passes = async || {
        for (strategy, id) in &pushes {
            if asked(*strategy, here, "bound") && waits(&post, *id, as_task).await {
                return step;
            }
        }
        Duration::ZERO
    };
    let over = async || other(true).await.is_empty();
    if !within_patience(over, passes, &world.clock).await {
        panic!("{says:?}: {:?}", other(true).await);
    }
    let taken = |comes: &Comes| *comes == Comes::Vendor;
    let all = Strategy::ALL.map(|strategy| comes(strategy, here, "bound", says));
    let accepted = post.jpush.accepted(&super::token("bound"));
    assert_eq!(usize::try_from(accepted).unwrap(), all.iter().filter(|c| taken(c)).count());
    // What is kept comes when the device does; the rest does not.
    for client in CLIENTS.iter().filter(|_| !here) {
        let all = Strategy::ALL.map(|strategy| comes(strategy, here, client, says));
        let mut device = world.connect(&world.terminal(client)).await;
        let kept: Vec<usize> =
            (0..all.len()).filter(|at| matches!(all[*at], Comes::Kept(_))).collect();
        let mut got = Vec::new();
        for _ in &kept {
            let (id, _) = message(&mut device).await;
            got.extend(pushes.iter().position(|(_, own)| own.to_string() == id));
        }
        got.sort_unstable();
        assert_eq!(got, kept, "{client}");
        device.close().await.ok();
    }
    devices.iter().for_each(JoinHandle::abort);
    post.world.stop().await;
}

async fn whatever_the_vendor_answers(here: bool, as_task: bool) {
    for says in SAYS {
        as_the_table_says(here, says, as_task).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_who_is_away_goes_as_strategy_binding_and_the_vendors_answer_say() {
    whatever_the_vendor_answers(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_for_who_is_away_goes_as_strategy_binding_and_the_vendors_answer_say() {
    whatever_the_vendor_answers(false, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_who_is_here_goes_as_strategy_binding_and_the_vendors_answer_say() {
    whatever_the_vendor_answers(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_for_who_is_here_goes_as_strategy_binding_and_the_vendors_answer_say() {
    whatever_the_vendor_answers(true, true).await;
}
