//! What was true at a position or a time: statistics from the journal, messages, tasks and the device
//! list; and what is asked of a time that has not come is refused.

use std::collections::BTreeMap;

use domain::{Recorded, task::TaskAudience};
use projections::{
    db::Pool,
    delivery_stats::{self, What},
    journal::{self, BLOCK_POSITIONS, SPAN_POSITIONS},
};
use pushledger::ledger::Database;
use serde_json::{Value, json};

use super::{ended, label, push, user};
use crate::{
    harness::{PATIENCE, Place, World, ok},
    tasks,
    views::live,
};

/// Folds events into tables that are empty, in pages.
async fn folded(events: &[Recorded], page: usize) -> (Place, Database) {
    let place = Place::new().await;
    let database = Database::open(&place.database()).await.unwrap();
    for page in events.chunks(page) {
        let mut tx = database.views.begin().await.unwrap();
        projections::apply(&mut tx.conn(), page).await.unwrap();
        tx.commit().await.unwrap();
    }
    (place, database)
}

type Cells = BTreeMap<(i64, String, String, String, String), i64>;

async fn cells_of_view(views: &Pool) -> Cells {
    let mut checkout = views.checkout().await.unwrap();
    let all = (i64::MIN, i64::MAX);
    let rows = delivery_stats::between(&mut checkout.conn(), "demo", all).await.unwrap();
    let key = |row: delivery_stats::StatsRow| {
        ((row.bucket_at, row.protocol, row.way, row.stage, row.ended), row.deliveries)
    };
    rows.into_iter().map(key).collect()
}

async fn cells_of_journal(views: &Pool, position: i64) -> Cells {
    let mut checkout = views.checkout().await.unwrap();
    let mut cells: Cells = BTreeMap::new();
    journal::moved(&mut checkout.conn(), "demo", position, |key, deliveries| {
        let What::In(cell) = key.what else { return };
        let stage = projections::db::name_of(cell.stage).unwrap();
        let ended = cell.ended.map_or("", domain::message::Ending::name).to_owned();
        let (protocol, way) = (key.protocol.name().to_owned(), cell.way.name().to_owned());
        *cells.entry((key.bucket_at, protocol, way, stage, ended)).or_default() += deliveries;
    })
    .await
    .unwrap();
    cells.retain(|_, deliveries| *deliveries != 0);
    cells
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_tells_what_a_fold_up_to_any_position_counts_also_across_its_spans() {
    let world = World::with_clock().await;
    live(&world, 11, 200).await;
    let mut events = world.running.server.ledger.read(0, i64::MAX).await.unwrap().events;
    world.stop().await;
    // The same far apart, so that it fills several spans, with events at the borders of blocks.
    let step = (3 * SPAN_POSITIONS) / i64::try_from(events.len()).unwrap();
    for event in &mut events {
        let spread = event.position * step;
        let near = spread.div_euclid(BLOCK_POSITIONS) * BLOCK_POSITIONS;
        event.position = match event.position % 3 {
            0 if spread - near < step => near,
            1 if spread - near < step => (near - 1).max(spread - step + 1),
            _ => spread,
        };
    }
    assert!(events.windows(2).all(|pair| pair[0].position < pair[1].position));
    let (_place, all) = folded(&events, 50).await;
    let cuts = (0..events.len()).step_by(events.len() / 12).chain([events.len() - 1]);
    for cut in cuts {
        let known = &events[..=cut];
        let (_place, then) = folded(known, 10_000).await;
        let position = events[cut].position;
        let counted = cells_of_view(&then.views.live().read).await;
        assert_eq!(cells_of_journal(&all.views.live().read, position).await, counted, "{position}");
        // Nothing happened until the next event.
        let next = events.get(cut + 1).map_or(i64::MAX, |next| next.position) - 1;
        assert_eq!(cells_of_journal(&all.views.live().read, next).await, counted, "{next}");
        then.close().await;
    }
    all.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_a_task_and_the_devices_are_told_as_they_were() {
    let world = World::with_clock().await;
    let device = world.register("c-1").await;
    let registered = world.head().await;
    let id = world.push("c-1", json!({ "n": 1 })).await;
    let pushed = world.head().await;
    label(&world, "demo", "news").await;
    user(&world, "demo", "ann", "news").await;
    push(&world, "demo", &["ann"]).await;
    world.clock.advance(std::time::Duration::from_secs(1));
    let report = json!({ "appPackage": crate::harness::PACKAGE, "msgId": id, "status": 3 });
    ok(&device, "/ums/v2/report", &report).await;
    let reported = world.head().await;
    let audience = TaskAudience::Label("news".to_owned());
    let new = tasks::task(audience, domain::route::Strategy::OnlineElseKept);
    let task = tasks::create(&world, new).await;
    ended(&world, task).await;
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    let ask = async |as_of: &str, fields: &str| {
        let query =
            format!("{{ asOf(moment: {as_of}) {{ app(appId: \"demo\") {{ {fields} }} }} }}");
        world.graphql(&query).await["asOf"]["app"].clone()
    };
    let message = async |as_of: String| {
        let fields = format!(
            "message(id: \"{id}\") {{ asOf deliveries {{ stage umsStatus device \
             timeline {{ position }} }} counts {{ targets stage(of: DISPLAYED) {{ reached }} }} \
             timeline(device: {registered}) {{ position }} events {{ position }} }}"
        );
        ask(&as_of, &fields).await["message"].clone()
    };
    assert_eq!(message(registered.to_string()).await, Value::Null);
    for (as_of, displayed) in [(pushed, 0), (reported, 1)] {
        let seen = message(as_of.to_string()).await;
        assert_eq!(seen["asOf"], as_of);
        assert_eq!(seen["counts"]["targets"], 1);
        assert_eq!(seen["counts"]["stage"]["reached"], displayed, "{seen}");
        let last = |list: &Value| list.as_array().unwrap().last().unwrap()["position"].clone();
        assert_eq!(last(&seen["events"]), as_of);
        assert_eq!(last(&seen["timeline"]), as_of);
        assert_eq!(last(&seen["deliveries"][0]["timeline"]), as_of);
    }
    // A time is as of its last event.
    let at = world.running.server.ledger.read(pushed - 1, 1).await.unwrap().events[0].recorded_at;
    let time = chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
    let seen = message(format!("\"{time}\"")).await;
    assert_eq!(seen["counts"]["stage"]["reached"], 0, "{seen}");
    assert!(seen["asOf"].as_i64().unwrap() < reported);

    // Statistics, funnels and tasks.
    let range = "range: { from: \"2023-01-01T00:00:00Z\" }";
    let counted = async |as_of: &str| {
        let fields = format!(
            "deliveryStats({range}, groupBy: [DEVICE_TYPE]) {{ position \
             total {{ targets }} rows {{ deviceType counts {{ targets latencies {{ deliveries }} }} }} }} \
             range: funnel(of: {{ {range} }}) {{ position counts {{ targets }} }} \
             label: funnel(of: {{ label: \"news\" }}) {{ counts {{ targets }} }} \
             message: funnel(of: {{ message: \"{id}\" }}) {{ counts {{ targets }} }} \
             task: funnel(of: {{ task: \"{task}\" }}) {{ counts {{ targets }} }} \
             why: whyNotSent({range}) {{ position targets }} \
             own: task(id: \"{task}\") {{ asOf state statistics {{ targets }} }} \
             devices {{ nodes {{ number }} }}"
        );
        ask(as_of, &fields).await
    };
    let then = counted(&pushed.to_string()).await;
    assert_eq!(then["deliveryStats"]["position"], pushed);
    assert_eq!(then["deliveryStats"]["rows"][0]["deviceType"], "01");
    for name in ["range", "message"] {
        assert_eq!(then[name]["counts"]["targets"], 1, "{name}: {then}");
    }
    assert_eq!(then["range"]["position"], pushed);
    assert_eq!(then["why"], json!({ "position": pushed, "targets": 1 }));
    assert_eq!(then["label"]["counts"]["targets"], 0);
    assert_eq!((&then["task"], &then["own"]), (&Value::Null, &Value::Null));
    assert_eq!(then["devices"]["nodes"], json!([{ "number": registered }]));
    let now = counted(&head.to_string()).await;
    assert_eq!(now["deliveryStats"]["total"]["targets"], 3, "{now}");
    for name in ["label", "task"] {
        assert_eq!(now[name]["counts"]["targets"], 1, "{name}: {now}");
    }
    let own = json!({ "asOf": head, "state": "FINISHED", "statistics": { "targets": 1 } });
    assert_eq!(now["own"], own);
    assert_eq!(counted("0").await["deliveryStats"]["total"]["targets"], 0);

    // As of a time they are what they are as of the last event by then.
    let events = world.running.server.ledger.read(0, i64::MAX).await.unwrap().events;
    for position in [pushed, reported, head] {
        let at = events[usize::try_from(position).unwrap() - 1].recorded_at;
        let last = events.partition_point(|event| event.recorded_at <= at);
        let time = chrono::DateTime::from_timestamp_micros(at).unwrap().to_rfc3339();
        let told = counted(&format!("\"{time}\"")).await;
        assert_eq!(told, counted(&last.to_string()).await);
        assert_eq!(told["deliveryStats"]["position"], last);
    }

    // What has not come is refused, everywhere.
    for as_of in ["1000000", "-1", "1.5", "\"2999-01-01T00:00:00Z\"", "\"yesterday\"", "true"] {
        for field in ["position".to_owned(), "app(appId: \"demo\") { appId }".to_owned()] {
            let query = format!("{{ asOf(moment: {as_of}) {{ {field} }} }}");
            let body = json!({ "query": query });
            let (_, answer, _) = world.admin.post("/graphql", Some(&body)).await.unwrap();
            let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty() && message != "internal error", "{field}: {answer}");
        }
    }
    world.stop().await;
}
