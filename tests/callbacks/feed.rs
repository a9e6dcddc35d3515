//! The feed: the same events as webhooks get, from any position on.

use serde_json::{Value, json};

use super::{hand_in, hand_in_numbers};
use crate::harness::{ADMIN_TOKEN, PATIENCE, World, until};

const PATH: &str = "/admin/v1/apps/demo/events";

async fn read(world: &World, query: &str) -> Value {
    let (status, page, _) = world.admin.get(&format!("{PATH}?{query}"), None).await.unwrap();
    assert_eq!(status, 200, "{page}");
    page
}

fn contents(page: &Value) -> Vec<Value> {
    let events = page["events"].as_array().unwrap().iter();
    events.map(|event| event["data"]["private"]["content"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_on_where_it_was_sees_each_event_once() {
    let world = World::new().await;
    for number in 0..5 {
        let text = number.to_string();
        hand_in(&world.url, &[(&format!("gw-{number}"), "1", &text)]).await;
    }
    let (mut after, mut seen) = (0, Vec::new());
    for _ in 0..3 {
        let page = read(&world, &format!("after={after}&limit=2&types=uplink.*&wait=0")).await;
        after = page["next"].as_i64().unwrap();
        seen.extend(contents(&page));
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    let page = read(&world, &format!("after={after}&types=uplink.received&wait=0")).await;
    assert_eq!(page["events"], json!([]));
    let all = read(&world, "wait=0").await;
    assert_eq!(all["events"][0]["type"], "app.created");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_is_answered_when_something_happens() {
    let world = World::new().await;
    let head = world.head().await;
    let query = format!("after={head}&wait=60");
    let waits = read(&world, &query);
    let happens = hand_in(&world.url, &[("gw-1", "1", "now")]);
    let (page, _) = tokio::join!(waits, happens);
    assert_eq!(contents(&page), ["now"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_also_come_as_they_happen_and_the_last_id_says_where_to_go_on() {
    let world = World::new().await;
    hand_in(&world.url, &[("gw-1", "1", "one"), ("gw-2", "1", "two")]).await;
    let listen = async |last: &str| {
        let client = reqwest::Client::new();
        let request = client
            .get(format!("{}{PATH}?types=uplink.*", world.url))
            .bearer_auth(ADMIN_TOKEN)
            .header("accept", "text/event-stream")
            .header("last-event-id", last);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut answer = answer;
        let first = async {
            let mut text = String::new();
            while !text.contains("\n\n") {
                text += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
            }
            text
        };
        tokio::time::timeout(PATIENCE, first).await.expect("no event came")
    };
    let first = listen("0").await;
    assert!(first.contains("event: uplink.received") && first.contains("one"), "{first}");
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let second = listen(id).await;
    assert!(second.contains("two") && !second.contains("\"one\""), "{second}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_shows_nothing_of_other_apps_and_refuses_what_it_does_not_know() {
    let world = World::new().await;
    let other = json!({ "appId": "other" });
    assert_eq!(world.admin.post("/admin/v1/apps", Some(&other)).await.unwrap().0, 201);
    let page = read(&world, "wait=0").await;
    assert!(!page.to_string().contains("\"other\""), "{page}");
    for query in ["limit=0", "limit=1001", "wait=61", "after=x", "nonsense=1"] {
        let (status, ..) = world.admin.get(&format!("{PATH}?{query}"), None).await.unwrap();
        assert_eq!(status, 400, "{query}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_see_each_event_once_and_in_order_while_others_write() {
    let world = World::new().await;
    let head = world.head().await;
    let reader = async |types: &str| {
        let (mut after, mut seen) = (head, Vec::new());
        while seen.len() < 300 {
            let page = read(&world, &format!("after={after}&limit=50&wait=20{types}")).await;
            let next = page["next"].as_i64().unwrap();
            assert!(next >= after);
            after = next;
            seen.extend(contents(&page).iter().map(|text| text.as_str().unwrap().to_owned()));
        }
        seen
    };
    let write = async |part: usize| {
        for number in 0..30 {
            let first = (part * 30 + number) * 5;
            hand_in_numbers(&world.url, first..first + 5).await;
        }
    };
    let (first, second, ..) =
        tokio::join!(reader(""), reader("&types=uplink.*"), write(0), write(1));
    assert_eq!(first, second);
    let mut all: Vec<usize> = first.iter().map(|text| text.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..300).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_ends_when_its_operator_loses_the_token() {
    let world = World::new().await;
    let operator = json!({ "name": "reader", "role": "admin", "appId": "demo" });
    let (status, made, _) = world.admin.post("/admin/v1/operators", Some(&operator)).await.unwrap();
    assert_eq!(status, 201, "{made}");
    let client = reqwest::Client::new();
    let request = client
        .get(format!("{}{PATH}?after=0", world.url))
        .bearer_auth(made["token"].as_str().unwrap())
        .header("accept", "text/event-stream");
    let mut answer = request.send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    let (_, operators, _) = world.admin.get("/admin/v1/operators", None).await.unwrap();
    let own = operators.as_array().unwrap().iter().find(|own| own["name"] == "reader").unwrap();
    let path = format!("/admin/v1/operators/{}", own["number"]);
    let (status, body, _) = world.admin.delete(&path, None).await.unwrap();
    assert_eq!(status, 204, "{body}");
    let ends = async { while answer.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(PATIENCE, ends).await.expect("it went on");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_events_says_how_far_it_looked() {
    let world = World::new().await;
    hand_in(&world.url, &[("gw-1", "1", "hello")]).await;
    let head = world.head().await;
    let page = read(&world, "after=0&types=label.*&wait=0").await;
    assert_eq!(page["events"], json!([]));
    let next = page["next"].as_i64().unwrap();
    assert!(next >= head, "{next} of {head}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_at_4_mib_and_the_next_goes_on_there() {
    let world = World::new().await;
    let long = "a".repeat(16 * 1024);
    let ids: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    for some in ids.chunks(50) {
        let uplinks: Vec<_> = some.iter().map(|id| (id.as_str(), "1", long.as_str())).collect();
        assert_eq!(hand_in(&world.url, &uplinks).await.0, 200);
    }
    let page = read(&world, "types=uplink.*&limit=1000&wait=0").await;
    // An event has some 300 bytes beside its content.
    let first = contents(&page).len();
    assert!((240..=256).contains(&first), "{first} events");
    let after = page["next"].as_i64().unwrap();
    let rest = read(&world, &format!("after={after}&types=uplink.*&limit=1000&wait=0")).await;
    assert_eq!(first + contents(&rest).len(), 300);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_256_read_at_once() {
    let world = World::new().await;
    let client = reqwest::Client::new();
    let listen = || {
        let request = client.get(format!("{}{PATH}?after=0", world.url)).bearer_auth(ADMIN_TOKEN);
        request.header("accept", "text/event-stream").send()
    };
    let mut readers = Vec::new();
    for number in 0..256 {
        let reader = listen().await.unwrap();
        assert_eq!(reader.status(), 200, "reader {number}");
        readers.push(reader);
    }
    assert_eq!(listen().await.unwrap().status(), 503);
    readers.pop();
    until("no place was given back", async || listen().await.unwrap().status() == 200).await;
    drop(readers);
    world.stop().await;
}
