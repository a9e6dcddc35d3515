//! What an answer waits for, and how much there may be of it: statistics of too much are refused, those
//! of just little enough are answered, and what no answer has room for is told as CSV.

use chrono::DateTime;
use futures_util::future;
use projections::on;
use serde_json::{Value, json};

use super::{answer, operator};
use crate::harness::{ADMIN_TOKEN, World};

/// Begin of the first quarter of an hour, and the length of each, in µs.
const BEGIN: i64 = 1_699_999_200_000_000;
const QUARTER: i64 = 900_000_000;
/// Quarters of an hour in 1,100 days.
const MOST: i64 = 1_100 * 96;

/// A view as if something had been pushed over two protocols in every quarter of an hour.
async fn years(world: &World) {
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MOST} - 1) \
         INSERT INTO delivery_stats \
         (app, bucket_at, protocol, kind, way, stage, ended, deliveries) \
         SELECT 'demo', {BEGIN} + CAST(i AS BIGINT) * {QUARTER}, protocol, 0, 'online', 'sent', '', 1 \
         FROM n, (SELECT 'ums' AS protocol UNION ALL SELECT 'easemob') AS protocols"
    );
    let mut tx = world.running.server.ledger.database().views.begin().await.unwrap();
    on!(tx.conn(), c => {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *c).await.unwrap();
    });
    tx.commit().await.unwrap();
}

/// A span of so many quarters of an hour.
fn span(quarters: i64) -> [String; 2] {
    [0, quarters].map(|at| {
        let at = DateTime::from_timestamp_micros(BEGIN + at * QUARTER).unwrap();
        at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_waits_for_the_position_that_it_is_asked_for_and_not_for_ever() {
    let world = World::new().await;
    world.register("c-1").await;
    let range = "range: { from: \"2026-01-01T00:00:00Z\", to: \"2026-01-02T00:00:00Z\" }";
    let asked = |position: i64| {
        let least = format!("atLeast: {position}");
        let of_app = |field: &str| format!("app(appId: \"demo\") {{ {field} }}");
        [
            format!("position({least})"),
            format!("apps({least}) {{ appId }}"),
            format!("app(appId: \"demo\", {least}) {{ appId }}"),
            of_app(&format!("deliveryStats({range}, {least}) {{ position }}")),
            of_app(&format!("funnel(of: {{ {range} }}, {least}) {{ position }}")),
            of_app(&format!("whyNotSent({range}, {least}) {{ position }}")),
        ]
    };
    let send = async |query: &str, header: Option<i64>| {
        let request = reqwest::Client::new().post(format!("{}/graphql", world.url));
        let mut request = request.bearer_auth(ADMIN_TOKEN);
        if let Some(position) = header {
            request = request.header("ledger-position", position.to_string());
        }
        let body = json!({ "query": format!("{{ {query} }}") }).to_string();
        let answer = request.body(body).send().await.unwrap();
        let included = answer.headers().get("ledger-position").cloned();
        let included = included.map(|text| text.to_str().unwrap().parse::<i64>().unwrap());
        let status = answer.status().as_u16();
        (status, included, answer.text().await.unwrap())
    };
    // What was just recorded is in each of them.
    for n in 2..8 {
        world.register(&format!("c-{n}")).await;
        let head = world.head().await;
        let query = &asked(head)[n - 2];
        let (_, _, told) = send(query, None).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert!(told["errors"].is_null(), "{query}: {told}");
        let first = told["data"].as_object().unwrap().values().next().unwrap();
        let position = match first.as_object().and_then(|app| app.values().next()) {
            Some(answer) => answer["position"].as_i64(),
            None => first.as_i64(),
        };
        assert!(position.is_none_or(|position| position >= head), "{query}: {told}");
        world.register(&format!("d-{n}")).await;
        let head = world.head().await;
        let (status, included, told) = send("apps { appId }", Some(head)).await;
        assert!(status == 200 && included.unwrap() >= head, "{status}: {told}");
    }
    // What does not come is waited for, but for some seconds only.
    let far = asked(1_000_000_000);
    let refused = future::join_all(far.iter().map(|query| send(query, None)));
    let (refused, by_header) = tokio::join!(refused, send("apps { appId }", Some(1_000_000_000)));
    for ((status, _, told), query) in refused.into_iter().zip(&far) {
        assert!(status == 200 && told.contains("not reached"), "{query}: {told}");
    }
    assert_eq!(by_header.0, 503, "{}", by_header.2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_too_much_are_refused_and_of_just_little_enough_are_answered() {
    let world = World::new().await;
    years(&world).await;
    let analyst = operator(&world, "analyst", Some("demo")).await;
    let ask = async |quarters: i64, more: &str| -> Result<Value, String> {
        let [from, to] = span(quarters);
        let query = format!(
            "{{ app(appId: \"demo\") {{ deliveryStats(range: {{ from: \"{from}\", to: \"{to}\" }}, \
             bucket: QUARTER{more}) {{ total {{ targets }} rows {{ begins }} }} }} }}"
        );
        let told = answer(&world, &analyst, &query).await;
        match told["errors"][0]["message"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(told["data"]["app"]["deliveryStats"].clone()),
        }
    };
    for (quarters, more, rows) in
        [(10_000, "", 10_000), (5_000, ", groupBy: [PROTOCOL]", 10_000), (1, "", 1)]
    {
        let told = ask(quarters, more).await.unwrap();
        assert_eq!(told["rows"].as_array().unwrap().len(), rows);
        assert_eq!(told["total"]["targets"], 2 * quarters);
    }
    let labels = |many: usize| format!(", filter: {{ labels: {:?} }}", vec!["l"; many]);
    assert_eq!(ask(1, &labels(200)).await.unwrap()["total"]["targets"], 0);
    for (quarters, more, why) in [
        (10_001, String::new(), "more than 10000 rows"),
        (5_001, ", groupBy: [PROTOCOL]".to_owned(), "more than 10000 rows"),
        (MOST, String::new(), "too much is asked for"),
        (MOST + 1, String::new(), "at most 1100 days"),
        (1, labels(201), "at most 200 items"),
    ] {
        let told = ask(quarters, &more).await.unwrap_err();
        assert!(told.contains(why), "{quarters}{more}: {told}");
    }
    // Slice by slice there is room for all of it.
    let [from, to] = span(MOST);
    let path = format!("/admin/v1/apps/demo/export?from={from}&to={to}&bucket=quarter");
    let request = reqwest::Client::new().get(format!("{}{path}", world.url));
    let csv = request.bearer_auth(&analyst.token).send().await.unwrap();
    assert_eq!(csv.status(), 200);
    let csv = csv.text().await.unwrap();
    assert_eq!(csv.trim_end().split("\r\n").count() as i64, MOST + 1);
    let many = vec!["l"; 201].join(",");
    let path = format!("/admin/v1/apps/demo/export?from={from}&labels={many}");
    let (status, refused, _) = analyst.get(&path, None).await.unwrap();
    assert!(status == 400 && refused.to_string().contains("at most 200"), "{refused}");
    world.stop().await;
}
