//! Events of a newer version of the program, which this one cannot read.

use projections::on;
use pushledger::{
    clock::Clock,
    feed::effects,
    ledger::{Database, leaf},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::harness::{PATIENCE, World, dump, message};

const METADATA: &str = r#"{"actor":"server","via":"test"}"#;

/// Appends an event as another version of the program would; gives its position.
pub async fn append(world: &World, stream: &str, name: &str, schema: i64, body: &str) -> i64 {
    append_private(world, stream, (name, schema), body, None).await
}

/// The same with something private in it.
pub async fn append_private(
    world: &World,
    stream: &str,
    (name, schema): (&str, i64),
    body: &str,
    private: Option<&str>,
) -> i64 {
    const INSERT: &str = "INSERT INTO events (position, app, stream, version, type, schema, \
         recorded_at, event_id, metadata, body, leaf, private, private_salt) \
         VALUES ($1, 'demo', $2, 1, $3, $4, $5, $6, $9, $7, $8, $10, $11)";
    let salt = private.map(|_| [7_u8; 16].to_vec());
    let lock = if world.place.on_postgres() { " FOR UPDATE" } else { "" };
    let head = format!("SELECT position, recorded_at, chain FROM head{lock}");
    let id = Uuid::now_v7();
    let mut tx = world.running.server.ledger.database().ledger_write.begin().await.unwrap();
    let (position, at, chain): (i64, i64, Vec<u8>) = on!(tx.conn(), c => {
        sqlx::query_as(sqlx::AssertSqlSafe(head)).fetch_one(&mut *c).await.unwrap()
    });
    let position = position + 1;
    let header: [&[u8]; 9] = [
        &position.to_be_bytes(),
        b"demo",
        stream.as_bytes(),
        &1_i64.to_be_bytes(),
        name.as_bytes(),
        &schema.to_be_bytes(),
        &at.to_be_bytes(),
        id.as_bytes(),
        METADATA.as_bytes(),
    ];
    let hidden = (salt.as_deref().unwrap_or_default(), private.unwrap_or_default());
    let leaf = leaf(&header, body, hidden.0, hidden.1);
    let chain = Sha256::new().chain_update(&chain).chain_update(leaf).finalize().to_vec();
    on!(tx.conn(), c => {
        sqlx::query(INSERT)
            .bind(position)
            .bind(stream)
            .bind(name)
            .bind(schema)
            .bind(at)
            .bind(&id.as_bytes()[..])
            .bind(body)
            .bind(&leaf[..])
            .bind(METADATA)
            .bind(private)
            .bind(salt)
            .execute(&mut *c)
            .await
            .unwrap();
        sqlx::query("UPDATE head SET position = $1, chain = $2")
            .bind(position)
            .bind(chain)
            .execute(&mut *c)
            .await
            .unwrap();
    });
    tx.commit().await.unwrap();
    position
}

/// Positions that were set aside, as the first column of the table's rows.
pub(super) async fn set_aside(world: &World) -> Vec<i64> {
    let rows = dump(&world.running.server.ledger.database().views.live().read, "set_aside").await;
    let first = |row: &String| {
        let row = row.trim_start_matches('(');
        row.split(',').next().unwrap().parse().unwrap()
    };
    let mut positions: Vec<i64> = rows.iter().map(first).collect();
    positions.sort_unstable();
    positions
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_set_aside_and_counted_and_stops_nothing() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let before = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, before);
    let device_stream = format!("device/{}", Uuid::now_v7());
    let foreign = [
        append(&world, &device_stream, "device.renamed", 1, "{}").await,
        append(&world, "task/1", "message.accepted", 1, "{}").await,
        append(&world, "message/7", "message.accepted", 99, "{}").await,
        append(&world, "message/8", "deliveries.advanced", 1, r#"{"steps":"many"}"#).await,
        // With what stands between events, and between their columns, where they are read together.
        append(&world, "task/3", "task.started", 1, "{\"\u{1e}\u{1f}\":1}").await,
        append(&world, "task/4", "task.started", 1, "{\"\u{1e}99\u{1f}\u{1f}\u{1f}\":1}").await,
    ];
    let views = &world.running.server.views;
    views.reached(foreign[5], PATIENCE).await.unwrap();
    assert_eq!(set_aside(&world).await, foreign);
    let shown = metrics(&world).await;
    assert!(shown.contains("\npushledger_events_set_aside_total 6\n"), "{shown}");
    // Commands, the gateway and the views go on.
    let after = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, after);
    world.until_status(&after, 2).await;
    let query = "{ app(appId: \"demo\") { messages { nodes { id } } } }";
    let data = world.graphql(query).await;
    let expected = json!([{ "id": after }, { "id": before }]);
    assert_eq!(data["app"]["messages"]["nodes"], expected);
    drop(device);
    // With such an event at the very end, the views are still known as this ledger's.
    let last = append(&world, "task/2", "task.started", 1, "{}").await;
    world.running.server.views.reached(last, PATIENCE).await.unwrap();
    let all = [&foreign[..], &[last]].concat();
    let world = world.restart().await;
    assert_eq!(world.running.server.views.position(), last);
    assert_eq!(set_aside(&world).await, all);
    // A replay sets the same aside.
    let place = world.stop().await;
    Database::drop_views(&place.database()).await.unwrap();
    let world = World::start(place, Clock::System).await;
    world.running.server.views.reached(last, PATIENCE).await.unwrap();
    assert_eq!(set_aside(&world).await, all);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_another_version_can_read_by_now_is_no_sign_of_a_rollback() {
    let world = World::new().await;
    world.register("c-1").await;
    let last = world.head().await;
    world.running.server.views.reached(last, PATIENCE).await.unwrap();
    let place = world.stop().await;
    // As a version leaves it that cannot read the last event.
    let database = Database::open(&place.database()).await.unwrap();
    let mut tx = database.views.begin().await.unwrap();
    on!(tx.conn(), c => {
        sqlx::query("UPDATE checkpoint SET event_id = NULL").execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
    database.close().await;
    let world = World::start(place, Clock::System).await;
    let database = world.running.server.ledger.database();
    assert!(effects::paused(&database.ledger_read).await.unwrap().is_none());
    assert_eq!(world.running.server.views.position(), last);
    world.stop().await;
}

/// The metrics as an operator reads them.
pub(super) async fn metrics(world: &World) -> String {
    let mut client = crate::harness::RawClient::new(world);
    let reply = client.send("GET", "/metrics", &[], b"").await;
    String::from_utf8(reply.body).unwrap()
}
