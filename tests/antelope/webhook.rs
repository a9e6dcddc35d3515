//! `/v2/apps/webhook`: where the app is called back.

use serde_json::{Value, json};

use super::{APP_ID, Antelope, KEY};
use crate::easemob::change_app;

const PATH: &str = "/v2/apps/webhook";

async fn read(antelope: &Antelope) -> (Value, Value) {
    let (status, body) = antelope.server("GET", PATH, &json!(null)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body.as_object().unwrap().len(), 3, "{body}");
    (body["webhook"].clone(), body["state_webhook"].clone())
}

async fn write(antelope: &Antelope, body: Value) -> (u16, Value) {
    antelope.server("POST", PATH, &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_is_set_read_and_deleted_by_an_empty_text_and_what_is_left_out_stays() {
    let antelope = Antelope::new().await;
    let (hook, state) = ("http://app.example.com/api/url?x=1", "https://app.example.com/state");
    assert_eq!(read(&antelope).await, (json!(""), json!("")));
    let (status, body) = write(&antelope, json!({ "webhook": hook })).await;
    assert_eq!((status, body.as_object().unwrap().len()), (200, 1), "{body}");
    assert_eq!(read(&antelope).await, (json!(hook), json!("")));
    assert_eq!(write(&antelope, json!({ "state_webhook": state })).await.0, 200);
    assert_eq!(read(&antelope).await, (json!(hook), json!(state)));
    assert_eq!(write(&antelope, json!({})).await.0, 200);
    assert_eq!(write(&antelope, json!({ "webhook": "" })).await.0, 200);
    assert_eq!(read(&antelope).await, (json!(""), json!(state)));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_one_event_of_the_app_by_its_server_and_what_changes_nothing_is_none() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    write(&antelope, json!({ "webhook": "http://a.example.com/" })).await;
    write(&antelope, json!({ "webhook": "http://a.example.com/" })).await;
    let page = antelope.world.running.server.ledger.read(head, 9).await.unwrap();
    let [changed] = &page.events[..] else { panic!("{:?}", page.events) };
    assert_eq!(changed.event.name(), "app.changed");
    let metadata = &changed.metadata;
    assert_eq!((&*metadata.actor, &*metadata.via), ("cloud", "antelope"));
    // The operator sees it, and a change of something else leaves it.
    let shown = change_app(&antelope.world, json!({ "name": "Renamed" })).await;
    assert_eq!(shown["antelope"]["webhook"], "http://a.example.com/");
    assert_eq!(read(&antelope).await.0, json!("http://a.example.com/"));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_url_is_400_and_changes_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    let long = format!("http://a.example.com/{}", "x".repeat(1_000));
    for url in [
        json!("nonsense"),
        json!("ftp://a.example.com/"),
        json!("http://"),
        json!("http://user:word@a.example.com/"),
        json!("http://a.example.com/#part"),
        json!(long),
        json!(7),
        json!(["http://a.example.com/"]),
    ] {
        for name in ["webhook", "state_webhook"] {
            let (status, body) = write(&antelope, json!({ name: url })).await;
            assert_eq!(status, 400, "{url}: {body}");
        }
    }
    assert_eq!(write(&antelope, json!([])).await.0, 400);
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_are_all_made() {
    let antelope = Antelope::new().await;
    let (hook, state) = (
        json!({ "webhook": "http://a.example.com/1" }),
        json!({ "state_webhook": "http://a.example.com/2" }),
    );
    let (one, two) = tokio::join!(write(&antelope, hook), write(&antelope, state));
    assert_eq!((one.0, two.0), (200, 200));
    let both = (json!("http://a.example.com/1"), json!("http://a.example.com/2"));
    assert_eq!(read(&antelope).await, both);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_changes_once() {
    let antelope = Antelope::new().await;
    let call = async |url: &str| {
        let headers = [("X-APP-ID", APP_ID), ("X-APP-Key", KEY), ("Idempotency-Key", "once")];
        let body = json!({ "webhook": url }).to_string();
        antelope.raw("POST", PATH, &headers, body.as_bytes()).await.0
    };
    assert_eq!(call("http://a.example.com/1").await, 200);
    write(&antelope, json!({ "webhook": "http://a.example.com/2" })).await;
    let head = antelope.world.head().await;
    assert_eq!(call("http://a.example.com/1").await, 200);
    assert_eq!(call("http://a.example.com/3").await, 400);
    assert_eq!(antelope.world.head().await, head);
    assert_eq!(read(&antelope).await.0, json!("http://a.example.com/2"));
    antelope.world.stop().await;
}
