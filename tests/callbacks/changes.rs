//! Receivers that change, are removed or say that they are gone, while callbacks wait for them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sim::receiver::Answer;

use super::{
    WEBHOOKS, called, called_in_time, configure, contents, count, dead, hand_in, hand_in_numbers,
    hook, listed, numbers, receiver, until_count,
};
use crate::harness::{World, ok, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_to_where_the_receiver_is_when_it_is_called() {
    let world = World::new().await;
    let (old, new) = (receiver(&world).await, receiver(&world).await);
    let (held, go) = Answer::held(200);
    old.answer(held);
    configure(&world, json!({ "uplink": { "callbackUrl": old.url("/") } })).await;
    hand_in(&world.url, &[("gw-1", "1", "first")]).await;
    called(&old, 1).await;
    hand_in(&world.url, &[("gw-2", "1", "second")]).await;
    configure(&world, json!({ "uplink": { "callbackUrl": new.url("/") } })).await;
    go.notify_one();
    called(&new, 1).await;
    assert_eq!(
        (contents(&old.calls()), contents(&new.calls())),
        (vec!["first".to_owned()], vec!["second".to_owned()])
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_url_gets_at_once_what_waits_for_a_dead_one() {
    let world = World::with_clock().await;
    let (old, new) = (receiver(&world).await, receiver(&world).await);
    configure(&world, json!({ "uplink": { "callbackUrl": old.url("/") } })).await;
    dead(&world, &old, 20).await;
    configure(&world, json!({ "uplink": { "callbackUrl": new.url("/") } })).await;
    // The clock stands still.
    until_count(&world, "answered", 17).await;
    assert_eq!(numbers(&new.calls()), (3..20).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_asks_again_has_a_dead_receiver_called_at_once() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 10).await;
    server.answer(Answer::ok());
    let row = &listed(&world, "given_up").await[0];
    let body = json!({ "receiver": row["receiver"] });
    let path = "/admin/v1/apps/demo/callbacks/replay";
    let (status, asked, _) = world.admin.post(path, Some(&body)).await.unwrap();
    assert_eq!((status, asked), (202, json!({ "asked": 3, "more": false })));
    until_count(&world, "answered", 10).await;
    let mut all = numbers(&server.calls()[12..]);
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    let (status, asked, _) = world.admin.post(path, Some(&body)).await.unwrap();
    assert_eq!((status, asked), (202, json!({ "asked": 0, "more": false })));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_webhook_that_is_gone_is_not_called_any_more() {
    let world = World::new().await;
    let server = receiver(&world).await;
    server.answer(Answer::Silence);
    let (gone, go) = Answer::held(410);
    server.plan([gone]);
    hook(&world, &server.url("/")).await;
    hand_in_numbers(&world.url, 0..500).await;
    called(&server, 32).await;
    until("some were never read", async || {
        let metrics = reqwest::get(format!("{}/metrics", world.url)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        metrics.contains("pushledger_lag_events{subscriber=\"callbacks\"} 0\n")
    })
    .await;
    go.notify_one();
    until_count(&world, "given_up", 469).await;
    assert!(listed(&world, "given_up").await.iter().all(|row| row["reason"] == "gone"));
    assert_eq!(server.count(), 32);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_receiver_that_is_removed_is_given_up_even_if_it_was_left_alone() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 100).await;
    configure(&world, json!({ "uplink": { "callbackUrl": "" } })).await;
    // The clock stands still.
    until_count(&world, "given_up", 100).await;
    let rows = listed(&world, "given_up").await;
    let removed = rows.iter().filter(|row| row["reason"] == "not_configured");
    assert!(removed.count() >= 47, "of the 50 newest");
    assert_eq!(server.count(), 12);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_may_answer_at_length() {
    let world = World::new().await;
    let server = receiver(&world).await;
    server.answer(Answer::Flood(1 << 20));
    hook(&world, &server.url("/")).await;
    hand_in(&world.url, &[("gw-1", "1", "hello")]).await;
    until_count(&world, "answered", 1).await;
    assert!(listed(&world, "answered").await.is_empty(), "it was called again");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_report_of_an_event_has_an_id_and_no_call_has_more_than_200() {
    let world = World::new().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "reportUrl": server.url("/") } })).await;
    for number in 0..201 {
        world.register_of("ann", &format!("c-{number}"), json!({})).await;
    }
    let body =
        json!({ "dst": { "type": 2, "Id": ["ann"], "devType": ["01"] }, "message": { "n": 1 } });
    let data = ok(&world.cloud(), "/umse/v2/msgPush", &body).await;
    let path = format!("/admin/v1/apps/demo/messages/{}/recall", data["msgId"].as_str().unwrap());
    assert_eq!(world.admin.post(&path, None).await.unwrap().0, 200);
    let calls = called(&server, 2).await;
    let (mut ids, mut phones) = (Vec::new(), Vec::new());
    for (call, wanted) in calls.iter().zip([200, 1]) {
        let entries = call.json()["Data"].as_array().unwrap().clone();
        assert_eq!(entries.len(), wanted);
        phones.extend(entries.iter().map(|entry| entry["Phone"].to_string()));
        ids.extend(call.headers["x-entry-ids"].split(',').map(str::to_owned));
    }
    for mut all in [ids, phones] {
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 201);
    }
    until_count(&world, "answered", 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_gets_what_each_antelope_device_said_in_order_once_it_is_back() {
    let antelope = crate::antelope::Antelope::with_clock().await;
    let world = &antelope.world;
    let server = receiver(world).await;
    server.answer(Answer::Status(500, String::new()));
    let body = json!({ "webhook": server.url("/"), "state_webhook": "" });
    assert_eq!(antelope.server("POST", "/v2/apps/webhook", &body).await.0, 200);
    let devices = [crate::antelope::ANN, crate::antelope::BOB];
    let word = |number: usize| STANDARD.encode(format!("{number:03}"));
    let say = async |number: usize| {
        for device in devices {
            let push =
                json!({ "msg": word(number), "flag": 3, "callback": 1, "access_tokens": [] });
            let token = pushledger::antelope::sign(crate::antelope::KEY, device, 0, 2_000_000_000);
            let headers = [("X-Client-Token", token.as_str())];
            let path = "/v2/message/client/push";
            let answer = antelope.raw("POST", path, &headers, push.to_string().as_bytes()).await;
            assert_eq!(answer.0, 200, "{answer:?}");
        }
    };
    for number in 0..30 {
        say(number).await;
    }
    until("it was not left alone", async || {
        world.clock.advance(Duration::from_millis(20));
        world.running.server.metrics.render().contains("pushledger_circuits_open 1")
    })
    .await;
    for number in 30..60 {
        say(number).await;
    }
    let before = server.count();
    server.answer(Answer::ok());
    until("it never got what waited", async || {
        world.clock.advance(Duration::from_millis(20));
        let given_up = usize::try_from(count(&world.admin, "given_up").await).unwrap();
        count(&world.admin, "postponed").await == 0 && server.count() - before + given_up >= 120
    })
    .await;
    let said: Vec<Value> = server.calls()[before..].iter().map(|call| call.json()).collect();
    for device in devices {
        let own = said.iter().filter(|body| body["data"]["from"] == device);
        let number = |body: &Value| (0..60).find(|number| body["data"]["msg"] == word(*number));
        let own: Vec<usize> = own.map(|body| number(body).unwrap()).collect();
        assert!(own.is_sorted() && own.len() >= 50, "{own:?}");
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_whose_calls_come_to_nothing_is_called_again_after_its_pause_by_a_probe() {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    configure(&world, json!({ "uplink": { "callbackUrl": server.url("/") } })).await;
    dead(&world, &server, 5).await;
    // The probe makes the protocol's four calls, a second apart; then it is left alone again.
    let calls = called_in_time(&world, &server, 16).await;
    assert!(calls[12].at - calls[11].at >= 5_000_000, "{} µs", calls[12].at - calls[11].at);
    for pair in calls[12..16].windows(2) {
        let gap = pair[1].at - pair[0].at;
        assert!((1_000_000..1_500_000).contains(&gap), "{gap} µs apart");
    }
    until_count(&world, "given_up", 4).await;
    let calls = called_in_time(&world, &server, 17).await;
    assert!(calls[16].at - calls[15].at >= 10_000_000, "{} µs", calls[16].at - calls[15].at);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_a_query_is_a_secret_and_is_called_whole() {
    let world = World::new().await;
    let server = receiver(&world).await;
    let (url, hooked) = (server.url("/in?key=zq-secret-1"), server.url("/hook?key=zq-secret-2"));
    let (_, app, _) = {
        let change = json!({ "uplink": { "callbackUrl": url } });
        world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap()
    };
    let shown = app["uplink"]["callbackUrl"].as_str().unwrap().to_owned();
    assert_eq!(shown, server.url("/in?…"));
    let id = hook(&world, &hooked).await;
    // What is shown, given back, stands for what there is; elsewhere it stands for nothing.
    configure(&world, json!({ "uplink": { "callbackUrl": shown } })).await;
    let elsewhere = json!({ "uplink": { "reportUrl": shown } });
    let (status, refused, _) =
        world.admin.patch("/admin/v1/apps/demo", Some(&elsewhere)).await.unwrap();
    assert_eq!(status, 400, "{refused}");
    hand_in(&world.url, &[("gw-1", "1", "first")]).await;
    let mut targets: Vec<_> = called(&server, 2).await.into_iter().map(|c| c.target).collect();
    targets.sort_unstable();
    assert_eq!(targets, ["/hook?key=zq-secret-2", "/in?key=zq-secret-1"]);
    // Nobody is shown it: neither readers of the configuration nor of events.
    let query = "{ app(appId: \"demo\") { events(first: 100) { nodes { type body } } } }";
    let told = world.graphql(query).await.to_string();
    assert!(told.contains("app.changed"), "{told}");
    let (_, app, _) = world.admin.get("/admin/v1/apps/demo", None).await.unwrap();
    let (_, hooks, _) = world.admin.get(WEBHOOKS, None).await.unwrap();
    assert!(hooks.to_string().contains(&id), "{hooks}");
    let pool = &world.running.server.ledger.database().ledger_read;
    let events = crate::harness::dump(pool, "events").await.join("\n");
    let apps = crate::harness::dump(pool, "apps").await.join("\n");
    for text in [told, app.to_string(), hooks.to_string(), events, apps] {
        assert!(!text.contains("zq-secret"), "{text}");
    }
    // It outlives a restart.
    let world = world.restart().await;
    hand_in(&world.url, &[("gw-2", "1", "second")]).await;
    called(&server, 4).await;
    world.stop().await;
}
