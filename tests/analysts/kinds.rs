//! Kinds of devices are few for each app: whatever comes beyond them is told apart no more, and counted all
//! the same.

use futures_util::{StreamExt as _, stream};
use projections::device_kinds::{MAX_KINDS, OTHER_NAME};
use serde_json::{Value, json};

use super::answer;
use crate::harness::{World, merge, ok, registration};

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_more_kinds_than_an_app_has_room_for_are_counted_together() {
    let world = World::new().await;
    let package = |n: usize| format!("com.acme.app{n}");
    let register = async |n: usize| {
        let client = format!("client-{n}");
        let mut body = registration(&client);
        merge(&mut body, json!({ "appPackage": package(n) }));
        ok(&world.terminal(&client), "/ums/v2/register", &body).await;
    };
    // The first of all has the first kind; the last three find no room.
    register(0).await;
    stream::iter(1..MAX_KINDS).for_each_concurrent(16, register).await;
    for n in MAX_KINDS..MAX_KINDS + 3 {
        register(n).await;
    }
    for n in [0, MAX_KINDS - 1, MAX_KINDS, MAX_KINDS + 1, MAX_KINDS + 2] {
        world.push(&format!("client-{n}"), json!({})).await;
    }
    let from = chrono::DateTime::from_timestamp_micros(world.clock.now()).unwrap();
    let from = (from - chrono::Duration::days(1)).to_rfc3339();
    let query = format!(
        "{{ app(appId: \"demo\") {{ deliveryStats(range: {{ from: \"{from}\" }}, \
         groupBy: [APP_PACKAGE]) {{ rows {{ appPackage counts {{ targets }} }} }} }} }}"
    );
    let told = answer(&world, &world.admin, &query).await;
    assert!(told["errors"].is_null(), "{told}");
    let rows = told["data"]["app"]["deliveryStats"]["rows"].as_array().unwrap();
    let mut counted: Vec<(&str, i64)> = rows
        .iter()
        .map(|row: &Value| {
            (row["appPackage"].as_str().unwrap(), row["counts"]["targets"].as_i64().unwrap())
        })
        .collect();
    counted.sort_unstable();
    let (first, last) = (package(0), package(MAX_KINDS - 1));
    assert_eq!(counted, [(OTHER_NAME, 3), (&first, 1), (&last, 1)], "{told}");
    world.stop().await;
}
