//! Antelope devices on the device socket.

use domain::message::Stage;
use pushledger::antelope::sign;
use serde_json::{Value, json};
use sim::{Device, DeviceOptions, Error, Incoming};

use super::{ANN, Antelope, BOB, EXPIRE, HELLO, HIGH, KEY, NOBODYS, message, seen, token};
use crate::harness::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_connects_with_its_token_in_a_header_or_in_the_query() {
    let antelope = Antelope::new().await;
    let url = &antelope.world.url;
    let mut by_header = Device::connect(DeviceOptions::of_antelope(url, token(BOB))).await.unwrap();
    let by_query = Device::connect_by_query(DeviceOptions::of_antelope(url, token(HIGH))).await;
    let mut by_query = by_query.unwrap();
    let (id, _) = antelope.push_to(&[BOB, HIGH], 2).await;
    for device in [&mut by_header, &mut by_query] {
        assert_eq!(message(device).await, (id.to_string(), seen(HELLO, 0)));
    }
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_known_from_its_first_connection_and_connecting_again_stores_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    drop(antelope.connect(BOB).await);
    let page = antelope.world.running.server.ledger.read(head, 9).await.unwrap();
    let names: Vec<_> = page.events.iter().map(|recorded| recorded.event.name()).collect();
    assert_eq!(names, ["device.admitted"]);
    let metadata = &page.events[0].metadata;
    assert_eq!((&*metadata.actor, &*metadata.via), ("terminal", "socket"));
    let mut again = antelope.connect(BOB).await;
    assert_eq!(antelope.world.head().await, head + 1);
    antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut again).await.1, seen(HELLO, 0));
    let query = "{ app(appId: \"demo\") { devices { nodes { clientId online } } } }";
    let shown = antelope.world.graphql(query).await;
    let items = shown["app"]["devices"]["nodes"].clone();
    assert_eq!(items, json!([{ "clientId": BOB.to_string(), "online": true }]));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_closes_the_one_before() {
    let antelope = Antelope::new().await;
    let mut first = antelope.connect(BOB).await;
    let mut second = antelope.connect(BOB).await;
    match first.next_within(PATIENCE).await {
        Some(Incoming::Closed { code, .. }) => assert_eq!(code, 4001),
        other => panic!("{other:?}"),
    }
    antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut second).await.1, seen(HELLO, 0));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_a_valid_token_is_401_and_stores_nothing() {
    let antelope = Antelope::new().await;
    let head = antelope.world.head().await;
    for wrong in [
        String::new(),
        "junk".to_owned(),
        sign(KEY, ANN, 0, 1),
        sign(KEY, NOBODYS, 0, EXPIRE),
        format!("{}0", token(ANN)),
    ] {
        for in_query in [false, true] {
            let options = DeviceOptions::of_antelope(&antelope.world.url, wrong.clone());
            let connected = match in_query {
                true => Device::connect_by_query(options).await,
                false => Device::connect(options).await,
            };
            let Err(Error::Refused { status, body }) = connected else { panic!("{wrong}") };
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(status, 401, "{body}");
            assert!(body["request_id"].is_string() && body["error"].is_string(), "{body}");
        }
    }
    assert_eq!(antelope.world.head().await, head);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_apps_devices_are_told_and_do_not_come_back() {
    let antelope = Antelope::new().await;
    let mut device = antelope.connect(BOB).await;
    antelope.world.admin.delete("/admin/v1/apps/demo", None).await.unwrap();
    match device.next_within(PATIENCE).await {
        Some(Incoming::Closed { code, .. }) => assert_eq!(code, 4002),
        other => panic!("{other:?}"),
    }
    let options = DeviceOptions::of_antelope(&antelope.world.url, token(BOB));
    let refused = Device::connect(options).await;
    assert!(matches!(refused, Err(Error::Refused { status: 401, .. })), "{refused:?}");
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_the_number_of_a_ums_client_is_another_device() {
    let antelope = Antelope::new().await;
    let client = BOB.to_string();
    let caller = antelope.world.register(&client).await;
    let mut terminal = antelope.world.connect(&caller).await;
    let mut device = antelope.connect(BOB).await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut device).await.0, id.to_string());
    let pushed = antelope.world.push(&client, json!({ "n": 1 })).await;
    assert_eq!(crate::harness::message(&mut terminal).await.0, pushed);
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_does_not_end_the_connection_that_it_opened() {
    let antelope = Antelope::with_clock().await;
    let now = u32::try_from(antelope.world.clock.now() / 1_000_000).unwrap();
    let options = DeviceOptions::of_antelope(&antelope.world.url, sign(KEY, BOB, 0, now));
    let mut device = Device::connect(options.clone()).await.unwrap();
    antelope.world.clock.advance(std::time::Duration::from_secs(1));
    antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut device).await.1, seen(HELLO, 0));
    let refused = Device::connect(options).await;
    assert!(matches!(refused, Err(Error::Refused { status: 401, .. })), "{refused:?}");
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_what_another_node_accepted_and_ends_its_sending_there() {
    let antelope = Antelope::new().await;
    let other = antelope.world.second().await;
    let url = format!("http://{}", other.address);
    let mut device = Device::connect(DeviceOptions::of_antelope(url, token(BOB))).await.unwrap();
    let number = antelope.number(BOB).await;
    let presence = &antelope.world.running.server.presence;
    crate::harness::until("it is not known to be there", async || {
        presence.present(&[number]).await.unwrap().contains(&number)
    })
    .await;
    let (id, _) = antelope.push_to(&[BOB], 2).await;
    assert_eq!(message(&mut device).await, (id.to_string(), seen(HELLO, 0)));
    device.next_within(std::time::Duration::from_millis(1)).await;
    antelope.until(id, BOB, |delivery| delivery.stage == Stage::Received).await;
    assert_eq!(antelope.delivery(id, BOB).await.ended, None);
    drop(device);
    other.shutdown().await;
    antelope.world.stop().await;
}
