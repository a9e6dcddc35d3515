//! Frames of a device that are wrong, too long, or reports.

use serde_json::json;
use sim::Incoming;

use super::{close_code, nothing_else_comes, quiet};
use crate::harness::{PATIENCE, World, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_not_understood_is_refused_and_the_connection_stays() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    let frames = [
        ("no json", None),
        ("{}", None),
        ("[]", None),
        (r#"{"t":"subscribe"}"#, None),
        (r#"{"t":"ack"}"#, None),
        (r#"{"t":"ack","id":7}"#, None),
        (r#"{"t":"ack","id":"1","op":"forget"}"#, None),
        (r#"{"t":"ack","id":"seven"}"#, Some("seven")),
        (r#"{"t":"ack","id":"99999999999999999999"}"#, Some("99999999999999999999")),
        (r#"{"t":"report","id":"1"}"#, None),
        (r#"{"t":"report","id":"1","status":"3"}"#, None),
        (r#"{"t":"report","id":"1","status":1}"#, Some("1")),
        (r#"{"t":"report","id":"1","status":5}"#, Some("1")),
        (r#"{"t":"report","id":"","status":3}"#, Some("")),
        (r#"{"t":"report","id":"1","status":3}"#, Some("1")),
    ];
    for (frame, expected) in frames {
        device.send_raw(frame).await.unwrap();
        match device.next_within(PATIENCE).await {
            Some(Incoming::Refused { id, reason }) => {
                assert_eq!(id.as_deref(), expected, "{frame}");
                assert!(!reason.is_empty());
            }
            other => panic!("{frame} was not refused: {other:?}"),
        }
    }
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_longer_than_64_kib_closes_with_1009() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = world.connect(&caller).await;
    device.send_raw("x".repeat(65_536)).await.unwrap();
    let next = device.next_within(PATIENCE).await;
    assert!(matches!(next, Some(Incoming::Refused { .. })), "{next:?}");
    for length in [65_537, 1_000_000, 1_048_576, 1_048_577, 1_500_000] {
        device.send_raw("x".repeat(length)).await.unwrap();
        assert_eq!(close_code(&mut device).await, 1009, "{length}");
        device.reconnect().await.unwrap();
    }
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_gets_a_receipt_once_it_is_durable_and_a_status_never_falls() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    for (reported, expected) in [(2, 2), (2, 2), (3, 3), (4, 4), (3, 4), (2, 4), (4, 4)] {
        device.report(&id, reported).await.unwrap();
        let receipt = Incoming::Receipt { id: id.clone(), status: reported };
        assert_eq!(device.next_within(PATIENCE).await, Some(receipt));
        assert_eq!(world.status(&id).await["status"], expected);
    }
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_overtakes_the_acknowledgement_stands_for_it() {
    let world = World::new().await;
    let caller = world.register("c-1").await;
    let mut device = quiet(&caller).await;
    let id = world.push("c-1", json!({})).await;
    assert_eq!(message(&mut device).await.0, id);
    device.report(&id, 3).await.unwrap();
    let receipt = Incoming::Receipt { id: id.clone(), status: 3 };
    assert_eq!(device.next_within(PATIENCE).await, Some(receipt));
    drop(device);
    let mut device = world.connect(&caller).await;
    nothing_else_comes(&world, "c-1", &mut device).await;
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_can_neither_report_nor_acknowledge_what_is_not_its_own() {
    let world = World::new().await;
    let (one, other) = (world.register("c-1").await, world.register("c-2").await);
    let id = world.push("c-1", json!({})).await;
    let mut thief = quiet(&other).await;
    thief.ack(&id).await.unwrap();
    thief.report(&id, 4).await.unwrap();
    match thief.next_within(PATIENCE).await {
        Some(Incoming::Refused { id: of, .. }) => assert_eq!(of.as_deref(), Some(id.as_str())),
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(world.status(&id).await["status"], 0);
    let mut device = world.connect(&one).await;
    assert_eq!(message(&mut device).await.0, id);
    drop((device, thief));
    world.stop().await;
}
