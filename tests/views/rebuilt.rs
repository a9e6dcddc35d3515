//! Views that were thrown away, or belong to another ledger, are made again, row for row.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use projections::{db::Pool, message_status, on, registry};
use pushledger::{clock::Clock, feed::effects, ledger::Database};
use serde_json::{Value, json};

use super::{Stored, caught_up, history::live, position, tables};
use crate::harness::{ADMIN_TOKEN, Place, World, dump, message, ok, until};

/// Events of each page of a fold.
const PAGES: [usize; 3] = [1, 7, 10_000];

/// Checks that what a server left behind is what its events make of empty tables, whatever their
/// pages.
pub(super) async fn is_what_its_events_make(stored: &Stored) {
    let of_views = usize::try_from(stored.position).unwrap();
    for size in PAGES {
        let place = Place::new().await;
        let database = Database::open(&place.database()).await.unwrap();
        for page in stored.events[..of_views].chunks(size) {
            let mut tx = database.views.begin().await.unwrap();
            projections::apply(&mut tx.conn(), page).await.unwrap();
            tx.commit().await.unwrap();
        }
        for page in stored.events.chunks(size) {
            let mut tx = database.ledger_write.begin().await.unwrap();
            registry::apply(&mut tx.conn(), page).await.unwrap();
            tx.commit().await.unwrap();
        }
        let views = tables(&database.views.live().read, projections::TABLES).await;
        let registry = tables(&database.ledger_read, registry::TABLES).await;
        database.close().await;
        let names = Stored::names();
        let folded = views.iter().chain(&registry);
        let live = stored.views.iter().chain(&stored.registry);
        for (name, (folded, live)) in names.zip(folded.zip(live)) {
            assert_eq!(folded, live, "{name} in pages of {size}");
        }
    }
}

/// Two phones write, and one of them is erased, as is a user.
async fn some_write_and_are_erased(world: &World) {
    let wrote = |phone: &str| json!({ "id": phone, "phone": phone, "content": "yes" });
    let wrote = json!({ "messages": [wrote("185"), wrote("186")] });
    let gateway = reqwest::Client::new().post(format!("{}/uplink/v1/messages", world.url));
    let gateway = gateway.bearer_auth(ADMIN_TOKEN).header("x-app-id", "demo");
    let answer = gateway.body(wrote.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let erasures = "/admin/v1/apps/demo/erasures";
    let user = json!({ "user": { "protocol": "ums", "name": "user-1" } });
    for subject in [json!({ "phone": "185" }), user] {
        let body = json!({ "subject": subject, "reason": "objection" });
        let (status, answer, _) = world.admin.post(erasures, Some(&body)).await.unwrap();
        assert_eq!(status, 202, "{answer}");
    }
    until("an erasure is not done", async || {
        let (_, all, _) = world.admin.get(erasures, None).await.unwrap();
        all.as_array().unwrap().iter().all(|erasure| erasure["done"] == true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_any_history_makes_the_same_rows_in_every_view_and_in_the_registry() {
    let mut filled = BTreeSet::new();
    for seed in [1, u64::MAX / 3] {
        let world = World::with_clock().await;
        live(&world, seed, 250).await;
        some_write_and_are_erased(&world).await;
        caught_up(&world).await;
        let clock = world.clock.clone();
        let place = world.stop().await;
        let before = Stored::read(&place).await;
        let kinds = before.events.iter().map(|recorded| recorded.event.name());
        let kinds = kinds.fold(BTreeMap::new(), |mut kinds: BTreeMap<&str, usize>, name| {
            *kinds.entry(name).or_default() += 1;
            kinds
        });
        assert!(kinds.len() >= 14, "seed {seed} has no rich history: {kinds:?}");
        is_what_its_events_make(&before).await;
        filled.extend(before.filled());
        // The same by the server itself, from nothing.
        Database::drop_views(&place.database()).await.unwrap();
        let world = World::start(place, clock).await;
        caught_up(&world).await;
        let after = Stored::read(&world.stop().await).await;
        assert!(after.position >= before.position);
        is_what_its_events_make(&after).await;
    }
    // A comparison of nothing with nothing shows nothing. The sums of the journal need a history of
    // 65,536 positions, which `analysts::as_of` has.
    let filled =
        |name: &&str| filled.contains(name) || ["journal_sums", "journal_spans"].contains(name);
    let empty: Vec<_> = Stored::names().filter(|name| !filled(name)).collect();
    assert_eq!(empty, [""; 0], "no history has a row of these");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_are_ahead_of_the_ledger_or_of_another_one_are_made_again() {
    let world = World::with_clock().await;
    live(&world, 7, 100).await;
    caught_up(&world).await;
    let clock = world.clock.clone();
    let mut place = world.stop().await;
    let another = "event_id = (SELECT event_id FROM checkpoint)";
    let blob = if place.on_postgres() { "'\\x0000'" } else { "x'0000'" };
    let tampered = [
        format!("position = position + 1000, {another}"),
        "position = position + 1000, event_id = NULL".to_owned(),
        format!("event_id = {blob}"),
    ];
    for set in tampered {
        let database = Database::open(&place.database()).await.unwrap();
        let mut tx = database.views.begin().await.unwrap();
        let statements = [
            format!("UPDATE checkpoint SET {set}"),
            "DELETE FROM deliveries".to_owned(),
            "UPDATE messages SET app = 'another'".to_owned(),
            "INSERT INTO set_aside VALUES (1, 'another')".to_owned(),
        ];
        for sql in statements {
            on!(tx.conn(), c => {
                sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *c).await.unwrap();
            });
        }
        tx.commit().await.unwrap();
        database.close().await;
        let world = World::start(place, clock.clone()).await;
        caught_up(&world).await;
        let views = world.running.server.ledger.database().views.live().read.clone();
        assert_eq!(dump(&views, "set_aside").await, Vec::<String>::new());
        assert!(position(&views).await <= world.head().await);
        // The ledger was rolled back: what it misses may have been sent, so an operator decides.
        let database = world.running.server.ledger.database();
        let paused = effects::paused(&database.ledger_read).await.unwrap();
        assert_eq!(paused.as_deref(), Some("the ledger was rolled back"));
        assert!(effects::resume(&database.ledger_write).await.unwrap());
        place = world.stop().await;
        is_what_its_events_make(&Stored::read(&place).await).await;
    }
}

/// How many deliveries the view has.
async fn deliveries(views: &Pool) -> usize {
    let mut checkout = views.checkout().await.unwrap();
    const SQL: &str = "SELECT message FROM messages";
    let messages: Vec<(i64,)> =
        on!(checkout.conn(), c => sqlx::query_as(SQL).fetch_all(&mut *c).await.unwrap());
    let messages: Vec<i64> = messages.into_iter().map(|(message,)| message).collect();
    message_status::deliveries(&mut checkout.conn(), &messages).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_views_sends_none_of_10_000_delivered_messages_again() {
    const CLIENTS: usize = 200;
    const PUSHES: usize = 50;
    let world = World::new().await;
    let clients: Vec<String> = (0..CLIENTS).map(|n| format!("c-{n}")).collect();
    let arrive = async |client: &String| world.connect(&world.register(client).await).await;
    let devices = join_all(clients.iter().map(arrive)).await;
    let listening = devices.into_iter().map(|mut device| {
        tokio::spawn(async move {
            for _ in 0..PUSHES {
                message(&mut device).await;
            }
            device.close().await.unwrap();
        })
    });
    let listening: Vec<_> = listening.collect();
    let push = async |world: &World, message: Value| {
        let body = json!({ "dst": { "type": 0, "Id": clients }, "message": message });
        let data = ok(&world.cloud(), "/umse/v2/msgPush", &body).await;
        data["msgId"].as_str().unwrap().to_owned()
    };
    for n in 0..PUSHES {
        push(&world, json!({ "n": n })).await;
    }
    for device in listening {
        device.await.unwrap();
    }
    let views = world.running.server.ledger.database().views.live().read.clone();
    until("not all were recorded", async || dump(&views, "pending").await.is_empty()).await;
    let head = world.head().await;
    caught_up(&world).await;
    let before = tables(&views, projections::TABLES).await;
    assert_eq!(deliveries(&views).await, CLIENTS * PUSHES);
    let place = world.stop().await;
    Database::drop_views(&place.database()).await.unwrap();
    let world = World::start(place, Clock::System).await;
    caught_up(&world).await;
    let views = world.running.server.ledger.database().views.live().read.clone();
    assert_eq!(tables(&views, projections::TABLES).await, before);
    // New devices, which remember nothing: whatever came again would come before this.
    let arrive = async |client: &String| world.connect(&world.terminal(client)).await;
    let mut devices = join_all(clients.iter().map(arrive)).await;
    let next = push(&world, json!({ "next": true })).await;
    for device in &mut devices {
        assert_eq!(message(device).await.0, next);
    }
    // Nothing but this one happened since.
    let since = world.running.server.ledger.read(head, i64::MAX).await.unwrap().events;
    assert!(since.iter().all(|recorded| recorded.stream.to_string().ends_with(&next)));
    drop(devices);
    world.stop().await;
}
