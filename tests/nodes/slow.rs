//! An append that takes its time, while others wait for it.

use domain::{
    Event,
    message::{MessageAccepted, MessageId, Protocol, Sender, Target},
    route::Strategy,
};
use futures_util::future::join_all;
use pushledger::{ledger::leaf, secrets::hex};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{PUSH, accepted, at, history, to};
use crate::harness::{World, message, ok, until};

/// Another node's append of a push to one device, in a transaction that is not over: it holds the
/// head and has written its event.
async fn append_slowly(other: &mut PgConnection, device: i64) -> MessageId {
    let id = MessageId(1_600_000_000_000_999_000);
    let accepted = MessageAccepted {
        protocol: Protocol::Ums,
        sender: Sender::Cloud,
        strategy: Strategy::OnlineElseVendor,
        expires_at: i64::MAX,
        burn: false,
        resend: None,
        callback: false,
        targets: vec![Target { device, account: None }],
        unresolved: 0,
        chat: None,
        users: 0,
        unbound: 0,
        private: None,
    };
    let (body, _) = Event::from(accepted).encode().unwrap();
    let run = |sql: String| sqlx::query(sqlx::AssertSqlSafe(sql));
    run("BEGIN".to_owned()).execute(&mut *other).await.unwrap();
    let (position, at): (i64, i64) =
        sqlx::query_as("SELECT position + 1, recorded_at FROM head FOR UPDATE")
            .fetch_one(&mut *other)
            .await
            .unwrap();
    let (event_id, stream) = (Uuid::now_v7(), format!("message/{id}"));
    let metadata = r#"{"actor":"cloud","via":"ums"}"#;
    let header: [&[u8]; 9] = [
        &position.to_be_bytes(),
        b"demo",
        stream.as_bytes(),
        &1_i64.to_be_bytes(),
        b"message.accepted",
        &1_i64.to_be_bytes(),
        &at.to_be_bytes(),
        event_id.as_bytes(),
        metadata.as_bytes(),
    ];
    let leaf = hex(&leaf(&header, &body, &[], ""));
    let event_id = hex(event_id.as_bytes());
    let insert = format!(
        "INSERT INTO events VALUES ({position}, 'demo', '{stream}', 1, 'message.accepted', 1, \
         {at}, '\\x{event_id}', '{metadata}', '{body}', NULL, NULL, '\\x{leaf}')"
    );
    run(insert).execute(&mut *other).await.unwrap();
    let head = format!(
        "UPDATE head SET position = {position}, chain = sha256(chain || '\\x{leaf}'::bytea)"
    );
    run(head).execute(&mut *other).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_overtakes_an_append_that_takes_its_time() {
    let world = World::new().await;
    on_postgres!(world);
    let second = world.second().await;
    let caller = world.register("c-1").await;
    let data = world.graphql("{ app(appId: \"demo\") { devices { nodes { number } } } }").await;
    let number = data["app"]["devices"]["nodes"][0]["number"].as_i64().unwrap();
    let mut here = world.connect(&caller).await;
    let before = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut here).await.0, before);
    world.until_status(&before, 2).await;
    let mut other = PgConnection::connect(&world.place.database()).await.unwrap();
    let slow = append_slowly(&mut other, number).await.to_string();
    let head = world.head().await;
    let clouds = [world.cloud(), at(&second, &world.cloud())];
    let pushes = (0..20).map(|n| {
        let cloud = clouds[n % 2].clone();
        async move {
            let data = ok(&cloud, PUSH, &to("c-1", json!({ "n": n }))).await;
            data["msgId"].as_str().unwrap().to_owned()
        }
    });
    let release = async {
        const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
             AND datname = current_database() \
             AND (query LIKE '%FROM head FOR UPDATE' OR query LIKE '%UPDATE head SET%')";
        let mut watcher = PgConnection::connect(&world.place.database()).await.unwrap();
        until("the nodes never waited", async || {
            let (waiting,): (i64,) = sqlx::query_as(WAITING).fetch_one(&mut watcher).await.unwrap();
            waiting == 2
        })
        .await;
        // Both nodes wait, and no reader sees what is not committed, or anything after it.
        for server in [&world.running.server, &second.server] {
            assert_eq!(server.ledger.fresh_head().await.unwrap(), head);
            assert_eq!(server.ledger.read(head, 10).await.unwrap().last, None);
            assert!(server.hub.position() <= head && server.views.position() <= head);
        }
        sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    };
    let (ids, ()) = tokio::join!(join_all(pushes), release);
    let events = history(&world).await;
    let accepted = accepted(&events);
    assert_eq!(accepted[&slow], head + 1);
    let mut expected: Vec<&String> = ids.iter().chain([&slow]).collect();
    expected.sort_by_key(|id| accepted[*id]);
    let mut came = Vec::new();
    while came.len() < expected.len() {
        came.push(message(&mut here).await.0);
    }
    assert!(came.iter().eq(expected), "the device saw another order");
    drop(here);
    second.shutdown().await;
    world.stop().await;
}
