//! Callbacks over the wire: uplinks come in, the app's server is called as its protocol says, and
//! neither a dead receiver, nor a lying one, nor a kill loses any.

mod antelope;
mod changes;
mod engine;
mod feed;
mod presence;
mod replays;
mod reports;
mod schedules;
mod stops;
mod tencent;
mod ucloud;
mod webhooks;

use std::time::Duration;

use serde_json::{Value, json};
use sim::{
    Admin,
    receiver::{Answer, Called, Receiver},
};

use crate::harness::{PATIENCE, World, until};

/// Changes the app `demo`.
async fn configure(world: &World, section: Value) {
    let (status, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&section)).await.unwrap();
    assert_eq!(status, 200, "{body}");
}

/// A receiver on the world's clock.
pub async fn receiver(world: &World) -> Receiver {
    let clock = world.clock.clone();
    Receiver::start(move || clock.now()).await.unwrap()
}

/// Waits until a receiver was called so often.
async fn called(receiver: &Receiver, calls: usize) -> Vec<Called> {
    receiver.after(calls, PATIENCE).await.expect("the calls never came")
}

/// Has the clock stand just before the time of the next call, and then at it: gives all calls up to
/// that one. Whatever leads to it has to be over.
async fn called_when_due(
    world: &World,
    receiver: &Receiver,
    calls: usize,
    due: i64,
) -> Vec<Called> {
    const JUST_BEFORE: Duration = Duration::from_millis(1);
    let left = u64::try_from(due - world.clock.now()).expect("it is due already");
    world.clock.advance(Duration::from_micros(left) - JUST_BEFORE);
    assert_eq!(receiver.count(), calls, "it came before it was due");
    world.clock.advance(JUST_BEFORE);
    called(receiver, calls + 1).await
}

/// Waits until the server knows what came of so many calls, and since when.
async fn judged(world: &World, calls: usize) {
    let known = || {
        let metrics = world.running.server.metrics.render();
        let lines = metrics.lines().filter(|line| line.contains("_callback_calls_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum::<usize>()
    };
    until("the answer was never read", async || known() >= calls).await;
}

/// Waits until a receiver was called so often, while time passes.
async fn called_in_time(world: &World, receiver: &Receiver, calls: usize) -> Vec<Called> {
    until("the calls never came", async || {
        world.clock.advance(Duration::from_millis(20));
        receiver.count() >= calls
    })
    .await;
    receiver.calls()
}

/// A gateway hands in uplinks: id, phone and content of each.
pub(crate) async fn hand_in(url: &str, uplinks: &[(&str, &str, &str)]) -> (u16, Value) {
    let messages: Vec<Value> = uplinks
        .iter()
        .map(|(id, phone, content)| {
            json!({ "id": id, "phone": phone, "content": content, "replyTime": 1_573_552_778 })
        })
        .collect();
    post(url, &json!({ "messages": messages })).await
}

/// The same with a body of the test's own.
async fn post(url: &str, body: &Value) -> (u16, Value) {
    post_for("demo", url, body.to_string()).await
}

/// The same for an app, with bytes of the test's own.
async fn post_for(app: &str, url: &str, body: String) -> (u16, Value) {
    let client = reqwest::Client::new();
    let request = client
        .post(format!("{url}/uplink/v1/messages"))
        .bearer_auth(crate::harness::ADMIN_TOKEN)
        .header("x-app-id", app)
        .header("content-type", "application/json")
        .body(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

/// Where the app `demo` has its webhooks.
pub const WEBHOOKS: &str = "/admin/v1/apps/demo/webhooks";

/// Makes a webhook of the app `demo` that wants uplinks; gives its id.
async fn hook(world: &World, url: &str) -> String {
    hook_of(world, json!({ "url": url, "events": ["uplink.*"] })).await
}

/// Makes a webhook of the app `demo`; gives its id.
pub async fn hook_of(world: &World, hook: Value) -> String {
    let (status, webhook, _) = world.admin.post(WEBHOOKS, Some(&hook)).await.unwrap();
    assert_eq!(status, 201, "{webhook}");
    webhook["id"].as_str().unwrap().to_owned()
}

/// How many callbacks stand somewhere.
async fn count(admin: &Admin, outcome: &str) -> i64 {
    let path = "/admin/v1/apps/demo/callbacks/receivers";
    let (_, counts, _) = admin.get(path, None).await.unwrap();
    let counts = counts.as_array().cloned().unwrap_or_default();
    let own = counts.iter().filter(|count| count["outcome"] == outcome);
    own.map(|count| count["callbacks"].as_i64().unwrap()).sum()
}

/// Hands in uplinks whose contents are these numbers.
async fn hand_in_numbers(url: &str, numbers: std::ops::Range<usize>) {
    let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
    for some in texts.chunks(500) {
        let uplinks: Vec<_> = some.iter().map(|text| (text.as_str(), "1", text.as_str())).collect();
        let (status, body) = hand_in(url, &uplinks).await;
        assert_eq!((status, &body["accepted"]), (200, &json!(some.len())), "{body}");
    }
}

/// Contents of all entries of some calls about uplinks, in order.
fn contents(calls: &[Called]) -> Vec<String> {
    let entries = calls.iter().flat_map(|call| call.json()["Data"].as_array().unwrap().clone());
    entries.map(|entry| entry["ReplyContent"].as_str().unwrap().to_owned()).collect()
}

/// The same as numbers.
fn numbers(calls: &[Called]) -> Vec<usize> {
    contents(calls).iter().map(|text| text.parse().unwrap()).collect()
}

/// Has a receiver of uplinks fail until it is left alone: three are given up, the others wait. What
/// is handed in are numbers from 0 on.
async fn dead(world: &World, receiver: &Receiver, numbers: usize) {
    receiver.answer(Answer::Status(500, String::new()));
    for number in 0..3 {
        hand_in_numbers(&world.url, number..number + 1).await;
        called_in_time(world, receiver, number * 4 + 4).await;
    }
    until_count(world, "given_up", 3).await;
    hand_in_numbers(&world.url, 3..numbers).await;
    until_count(world, "postponed", i64::try_from(numbers).unwrap() - 3).await;
    assert_eq!(receiver.count(), 12, "it was not left alone");
}

/// Waits until so many callbacks stand somewhere.
pub async fn until_count(world: &World, outcome: &str, callbacks: i64) {
    let so = async || count(&world.admin, outcome).await == callbacks;
    until(&format!("never {callbacks} callbacks were {outcome}"), so).await;
}

/// The callbacks that stand somewhere.
async fn listed(world: &World, outcome: &str) -> Vec<Value> {
    let path = format!("/admin/v1/apps/demo/callbacks?outcome={outcome}");
    let (status, page, _) = world.admin.get(&path, None).await.unwrap();
    assert_eq!(status, 200, "{page}");
    page["callbacks"].as_array().unwrap().clone()
}

/// Asks again for what a receiver gave up.
async fn replay(world: &World, receiver: &Value, callbacks: Option<Value>) {
    let mut body = json!({ "receiver": receiver });
    if let Some(callbacks) = callbacks {
        body["callbacks"] = callbacks;
    }
    let path = "/admin/v1/apps/demo/callbacks/replay";
    let (status, body, _) = world.admin.post(path, Some(&body)).await.unwrap();
    assert_eq!(status, 202, "{body}");
}
