//! Standard Webhooks, as the specification has them.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};
use sim::receiver::Answer;

use super::{
    WEBHOOKS as PATH, called, called_in_time, called_when_due, count, hand_in, listed, receiver,
    until_count,
};
use crate::harness::{World, until};

async fn create(world: &World, body: Value) -> Value {
    let (status, webhook, _) = world.admin.post(PATH, Some(&body)).await.unwrap();
    assert_eq!(status, 201, "{webhook}");
    webhook
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_the_events_that_it_asked_for_signed_and_as_the_ledger_has_them() {
    let world = World::new().await;
    let server = receiver(&world).await;
    let webhook =
        create(&world, json!({ "url": server.url("/"), "events": ["uplink.received"] })).await;
    let secret = webhook["secret"].as_str().unwrap();
    world.register("c-1").await;
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    let call = &called(&server, 1).await[0];
    assert!(call.is_signed_with(secret));
    assert!(!call.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    let body = call.json();
    assert_eq!(body["type"], "uplink.received");
    assert_eq!(body["data"]["private"]["content"], "hello");
    let position = body["data"]["position"].as_i64().unwrap();
    let page = world.running.server.ledger.read(position - 1, 1).await.unwrap();
    let id = format!("msg_{}", page.events[0].event_id.simple());
    assert_eq!(call.headers["webhook-id"], id);
    until_count(&world, "answered", 1).await;
    assert_eq!(server.count(), 1, "it got what it did not ask for, or what it caused");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_is_replaced_calls_are_signed_with_both_and_no_secret_is_told_twice() {
    let world = World::new().await;
    let server = receiver(&world).await;
    let given = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let webhook = create(
        &world,
        json!({ "url": server.url("/"), "events": ["uplink.*"],
        "secret": given }),
    )
    .await;
    let id = webhook["id"].as_str().unwrap();
    let (status, rotated, _) =
        world.admin.post(&format!("{PATH}/{id}/rotate"), None).await.unwrap();
    assert_eq!(status, 200, "{rotated}");
    let secret = rotated["secret"].as_str().unwrap();
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    let call = &called(&server, 1).await[0];
    assert!(call.is_signed_with(given) && call.is_signed_with(secret));
    let none = json!({ "keep": 0 });
    let (_, last, _) = world.admin.post(&format!("{PATH}/{id}/rotate"), Some(&none)).await.unwrap();
    hand_in(&world.url, &[("gw-2", "185", "hello")]).await;
    let call = &called(&server, 2).await[1];
    assert!(call.is_signed_with(last["secret"].as_str().unwrap()));
    assert!(!call.is_signed_with(given) && !call.is_signed_with(secret));
    let (_, list, _) = world.admin.get(PATH, None).await.unwrap();
    assert_eq!(list[0]["secret"], Value::Null);
    assert_eq!(list[0]["secrets"].as_array().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_says_when_in_seconds_or_as_a_date_is_called_then_and_no_earlier() {
    for date in [false, true] {
        let world = World::with_clock().await;
        let server = receiver(&world).await;
        let after = DateTime::from_timestamp_micros(world.clock.now() + 90_000_000).unwrap();
        // A date has whole seconds, and so has the clock here.
        let (after, wait) = match date {
            true => (after.format("%a, %d %b %Y %H:%M:%S GMT").to_string(), 90_000_000),
            false => ("60".to_owned(), 60_000_000),
        };
        let due = world.clock.now() + wait;
        server.plan([Answer::With(429, "retry-after", after)]);
        create(&world, json!({ "url": server.url("/"), "events": ["uplink.*"] })).await;
        hand_in(&world.url, &[("gw-1", "185", "first")]).await;
        called(&server, 1).await;
        until_count(&world, "postponed", 1).await;
        // What comes meanwhile waits too.
        hand_in(&world.url, &[("gw-2", "185", "second")]).await;
        until_count(&world, "postponed", 2).await;
        let calls = called_when_due(&world, &server, 1, due).await;
        assert_eq!(calls[1].at, due);
        called(&server, 3).await;
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_gone_is_switched_off_until_an_operator_switches_it_on() {
    let world = World::new().await;
    let server = receiver(&world).await;
    server.plan([Answer::Status(410, String::new())]);
    let webhook = create(&world, json!({ "url": server.url("/"), "events": ["uplink.*"] })).await;
    let id = webhook["id"].as_str().unwrap();
    hand_in(&world.url, &[("gw-1", "185", "first")]).await;
    until("it was not switched off", async || {
        world.admin.get(PATH, None).await.unwrap().1[0]["disabled"] == true
    })
    .await;
    until_count(&world, "given_up", 1).await;
    assert_eq!(listed(&world, "given_up").await[0]["reason"], "gone");
    hand_in(&world.url, &[("gw-2", "185", "second")]).await;
    let (status, on, _) = world.admin.post(&format!("{PATH}/{id}/enable"), None).await.unwrap();
    assert_eq!((status, &on["disabled"]), (200, &json!(false)));
    hand_in(&world.url, &[("gw-3", "185", "third")]).await;
    let calls = called(&server, 2).await;
    assert_eq!(calls[1].json()["data"]["private"]["content"], "third");
    let (status, ..) = world.admin.delete(&format!("{PATH}/{id}"), None).await.unwrap();
    assert_eq!(status, 204);
    hand_in(&world.url, &[("gw-4", "185", "fourth")]).await;
    assert_eq!(count(&world.admin, "given_up").await, 1);
    assert_eq!(server.count(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_refused_with_what_is_wrong_in_it() {
    let world = World::new().await;
    let head = world.head().await;
    for body in [
        json!({}),
        json!({ "url": "ftp://example.com" }),
        json!({ "url": "https://example.com", "events": ["nothing.happened"] }),
        json!({ "url": "https://example.com", "secret": "whsec_c2hvcnQ=" }),
        json!({ "url": "https://example.com", "secret": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }),
    ] {
        assert_eq!(world.admin.post(PATH, Some(&body)).await.unwrap().0, 400, "{body}");
    }
    for verb in ["rotate", "enable"] {
        let path = format!("{PATH}/01900000-0000-7000-8000-000000000001/{verb}");
        assert_eq!(world.admin.post(&path, None).await.unwrap().0, 404);
    }
    assert_eq!(world.head().await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_in_the_end_is_listed_for_30_days() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    create(&world, json!({ "url": server.url("/"), "events": ["uplink.*"] })).await;
    let mut last = 0;
    for round in 1..=2 {
        server.plan([Answer::Status(500, String::new())]);
        let taken = hand_in(&world.url, &[(&format!("gw-{round}"), "185", "hello")]).await;
        assert_eq!(taken, (200, json!({ "accepted": 1, "repeated": 0 })));
        called(&server, 2 * round - 1).await;
        until_count(&world, "postponed", 1).await;
        called_in_time(&world, &server, 2 * round).await;
        until_count(&world, "answered", i64::try_from(round).unwrap()).await;
        let rows = listed(&world, "answered").await;
        assert_eq!(rows.len(), 1, "in round {round}");
        let query = "{ app(appId: \"demo\") { callbacks(outcome: ANSWERED) { \
            nodes { attempts { status reason } } } } }";
        let attempts = json!([{ "status": 500, "reason": "status" },
                              { "status": 200, "reason": null }]);
        let shown = world.graphql(query).await["app"]["callbacks"]["nodes"].clone();
        assert_eq!(shown, json!([{ "attempts": attempts }]));
        let told = rows[0]["attempts"].as_array().unwrap().iter();
        let told = told.map(|own| json!({ "status": own["status"], "reason": own["reason"] }));
        assert_eq!(json!(told.collect::<Vec<_>>()), attempts);
        let position = rows[0]["position"].as_i64().unwrap();
        assert!(position > last);
        last = position;
        world.clock.advance(Duration::from_secs(31 * 86_400));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_no_events_by_name_is_not_told_how_the_app_is_configured() {
    let world = World::new().await;
    let (all, named) = (receiver(&world).await, receiver(&world).await);
    create(&world, json!({ "url": all.url("/") })).await;
    create(&world, json!({ "url": named.url("/"), "events": ["app.*"] })).await;
    super::configure(&world, json!({ "uplink": { "callbackUrl": "http://a.example/?token=s3" } }))
        .await;
    hand_in(&world.url, &[("gw-1", "185", "hello")]).await;
    let told = called(&named, 1).await;
    assert!(told.iter().all(|call| call.json()["type"] == "app.changed"));
    let told = called(&all, 1).await;
    assert_eq!(told[0].json()["type"], "uplink.received");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_left_alone_for_an_hour_at_most_and_another_secret_has_it_called_at_once() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    server.plan([Answer::With(503, "retry-after", "7200".to_owned())]);
    let webhook = create(&world, json!({ "url": server.url("/"), "events": ["uplink.*"] })).await;
    hand_in(&world.url, &[("gw-1", "185", "first")]).await;
    let called_at = called(&server, 1).await[0].at;
    until_count(&world, "postponed", 1).await;
    let due = listed(&world, "postponed").await[0]["dueAt"].as_i64().unwrap() * 1_000;
    assert_eq!((due - called_at) / 1_000_000, 3_600);
    hand_in(&world.url, &[("gw-2", "185", "second")]).await;
    until_count(&world, "postponed", 2).await;
    assert_eq!(listed(&world, "postponed").await[0]["reason"], "circuit_open");
    // The clock stands still.
    let path = format!("{PATH}/{}/rotate", webhook["id"].as_str().unwrap());
    let (_, rotated, _) = world.admin.post(&path, None).await.unwrap();
    let call = &called(&server, 2).await[1];
    assert_eq!(call.json()["data"]["private"]["content"], "second");
    assert!(call.is_signed_with(rotated["secret"].as_str().unwrap()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_not_called_about_and_is_no_part_of_what_is() {
    let world = World::with_clock().await;
    let (server, uplinks) = (receiver(&world).await, receiver(&world).await);
    server.plan([Answer::Status(500, String::new())]);
    uplinks.answer(Answer::Status(500, String::new()));
    create(&world, json!({ "url": server.url("/"), "events": ["uplink.*"] })).await;
    super::configure(&world, json!({ "uplink": { "callbackUrl": uplinks.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "18500001111", "words-of-a-phone")]).await;
    let whole = called(&server, 1).await[0].json();
    assert_eq!(whole["data"]["private"]["content"], "words-of-a-phone");
    called(&uplinks, 1).await;
    until_count(&world, "postponed", 1).await;
    // UCloud's pushes wait a second in memory; a server that stops has them wait in the view.
    let world = world.restart().await;
    until_count(&world, "postponed", 2).await;
    crate::audit::erase(&world, json!({ "phone": "18500001111" })).await;
    called_in_time(&world, &server, 2).await;
    let mut blank = whole;
    blank["data"].as_object_mut().unwrap().remove("private");
    assert_eq!(server.calls()[1].json(), blank);
    // What UCloud's push would say is all of a person.
    until_count(&world, "given_up", 1).await;
    let row = &listed(&world, "given_up").await[0];
    assert_eq!((&row["kind"], &row["reason"]), (&json!("ucloud_uplink"), &json!("erased")));
    assert_eq!(uplinks.count(), 1);
    world.stop().await;
}
