//! The simulated device.

use std::time::Duration;

use serde_json::json;
use sim::{Caller, Device, DeviceOptions, Error, Incoming};
use tokio_tungstenite::tungstenite::Message;

use crate::script::{APP_KEY, Peer, Server};

fn options(server: &Server) -> DeviceOptions {
    let caller = Caller::new(server.url(), "MB-DEMOX-0001", APP_KEY).with_client_id("c-1");
    DeviceOptions::new(&caller.with_access_token("t-1"), "com.acme.app")
}

async fn connected(server: &Server, options: DeviceOptions) -> (Device, Peer) {
    let (device, peer) = tokio::join!(Device::connect(options), server.accept());
    (device.unwrap(), peer)
}

fn id(incoming: Option<Incoming>) -> String {
    match incoming {
        Some(Incoming::Message { id, .. } | Incoming::Control { id, .. }) => id,
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn credentials_are_sent_in_headers_or_in_the_query() {
    let server = Server::start().await;
    let (_device, peer) = connected(&server, options(&server)).await;
    peer.check(str::to_lowercase);
    assert_eq!(peer.credentials["accesstoken"], "t-1");

    let connecting = Device::connect_by_query(options(&server));
    let (device, peer) = tokio::join!(connecting, server.accept());
    device.unwrap();
    peer.check(str::to_owned);
    assert_eq!(peer.credentials["accessToken"], "t-1");
}

#[tokio::test]
async fn a_message_is_passed_up_once_and_each_copy_is_acknowledged_across_connections_too() {
    let server = Server::start().await;
    let (mut device, mut peer) = connected(&server, options(&server)).await;
    for number in ["1", "1", "2"] {
        peer.message(number).await;
    }
    assert_eq!(id(device.next().await), "1");
    assert_eq!(id(device.next().await), "2");
    let ack = |id: &str| json!({"t": "ack", "id": id});
    peer.hears(&[ack("1"), ack("1"), ack("2")]).await;

    let (again, mut peer) = tokio::join!(device.reconnect(), server.accept());
    again.unwrap();
    peer.message("2").await;
    peer.message("3").await;
    assert_eq!(id(device.next().await), "3");
    peer.hears(&[ack("2"), ack("3")]).await;
    assert_eq!(device.duplicates(), 2);
}

#[tokio::test]
async fn a_payload_arrives_byte_for_byte() {
    let server = Server::start().await;
    let (mut device, mut peer) = connected(&server, options(&server)).await;
    peer.message("1").await;
    let expected = Incoming::Message {
        id: "1".to_owned(),
        protocol: "ums".to_owned(),
        payload: json!({"msgName": "门铃", "n": 1.0}),
        raw_payload: r#"{"msgName":"门铃",  "n":1.0}"#.to_owned(),
        expires_at: 9,
    };
    assert_eq!(device.next().await, Some(expected));
}

#[tokio::test]
async fn a_device_that_does_not_acknowledge_by_itself_says_only_what_it_is_told() {
    let server = Server::start().await;
    let manual = DeviceOptions { auto_ack: false, auto_report: Some(4), ..options(&server) };
    let (mut device, mut peer) = connected(&server, manual).await;
    peer.message("1").await;
    peer.send(r#"{"t":"control","op":"replace","id":"2"}"#).await;
    assert_eq!(id(device.next().await), "1");
    assert_eq!(id(device.next().await), "2");
    device.report("1", 3).await.unwrap();
    device.ack_control("2", "replace").await.unwrap();
    device.ack("1").await.unwrap();
    device.send_raw("{}").await.unwrap();
    peer.hears(&[
        json!({"t": "report", "id": "1", "status": 3}),
        json!({"t": "ack", "id": "2", "op": "replace"}),
        json!({"t": "ack", "id": "1"}),
        json!({}),
    ])
    .await;
}

#[tokio::test]
async fn automatic_reports_follow_the_ack_and_a_displayed_message_answers_its_recall_with_one() {
    let server = Server::start().await;
    let reporting = DeviceOptions { auto_report: Some(3), ..options(&server) };
    let (mut device, mut peer) = connected(&server, reporting).await;
    peer.message("1").await;
    peer.send(r#"{"t":"control","op":"recall","id":"1"}"#).await;
    peer.send(r#"{"t":"control","op":"recall","id":"2"}"#).await;
    for expected in ["1", "1", "2"] {
        assert_eq!(id(device.next().await), expected);
    }
    peer.hears(&[
        json!({"t": "ack", "id": "1"}),
        json!({"t": "report", "id": "1", "status": 2}),
        json!({"t": "report", "id": "1", "status": 3}),
        json!({"t": "report", "id": "1", "status": 3}),
        json!({"t": "ack", "id": "2", "op": "recall"}),
    ])
    .await;
}

#[tokio::test]
async fn receipts_refusals_and_unknown_frames_are_passed_up() {
    let server = Server::start().await;
    let (mut device, mut peer) = connected(&server, options(&server)).await;
    peer.send(r#"{"t":"receipt","id":"1","status":3}"#).await;
    peer.send(r#"{"t":"refused","reason":"no such frame"}"#).await;
    peer.send(r#"{"t":"other"}"#).await;
    let reason = "no such frame".to_owned();
    assert_eq!(device.next().await, Some(Incoming::Receipt { id: "1".to_owned(), status: 3 }));
    assert_eq!(device.next().await, Some(Incoming::Refused { id: None, reason }));
    let text = r#"{"t":"other"}"#.to_owned();
    assert_eq!(device.next().await, Some(Incoming::Unknown { text }));
}

#[tokio::test]
async fn a_refused_handshake_gives_its_status_and_body() {
    let server = Server::start().await;
    let body = r#"{"retCode":"D00001","retInfo":"bad sign","data":null}"#;
    let refusing = server.answer("401 Unauthorized", body);
    let (device, _) = tokio::join!(Device::connect(options(&server)), refusing);
    assert!(matches!(
        device.unwrap_err(),
        Error::Refused { status: 401, body: answered } if answered == body
    ));
}

#[tokio::test]
async fn the_server_s_goodbye_and_a_cut_end_the_connection_with_their_codes() {
    let server = Server::start().await;
    let (mut device, peer) = connected(&server, options(&server)).await;
    let (incoming, ()) = tokio::join!(device.next(), peer.close(4001, "replaced"));
    assert_eq!(incoming, Some(Incoming::Closed { code: 4001, reason: "replaced".to_owned() }));
    assert_eq!(device.next().await, None);

    let (again, peer) = tokio::join!(device.reconnect(), server.accept());
    again.unwrap();
    drop(peer);
    assert!(matches!(device.next().await, Some(Incoming::Closed { code: 1006, .. })));
    assert_eq!(device.next().await, None);
}

#[tokio::test]
async fn a_device_that_says_goodbye_has_sent_its_answers_before() {
    let server = Server::start().await;
    let (mut device, mut peer) = connected(&server, options(&server)).await;
    peer.message("1").await;
    assert_eq!(id(device.next().await), "1");
    let goodbye = async {
        peer.hears(&[json!({"t": "ack", "id": "1"})]).await;
        peer.closed().await;
    };
    let (closed, ()) = tokio::join!(device.close(), goodbye);
    closed.unwrap();
    assert_eq!(device.next().await, None);
}

#[tokio::test]
async fn giving_up_waiting_loses_no_message_and_no_ack() {
    const MESSAGES: usize = 200;
    let server = Server::start().await;
    let (mut device, mut peer) = connected(&server, options(&server)).await;
    let sending = async {
        for number in 0..MESSAGES {
            peer.message(&number.to_string()).await;
        }
        for number in 0..MESSAGES {
            peer.hears(&[json!({"t": "ack", "id": number.to_string()})]).await;
        }
    };
    let receiving = async {
        let mut seen = Vec::new();
        while seen.len() < MESSAGES {
            let incoming = device.next_within(Duration::from_micros(20)).await;
            seen.extend(incoming.map(|incoming| id(Some(incoming))));
            tokio::task::yield_now().await;
        }
        seen
    };
    let ((), seen) = tokio::join!(sending, receiving);
    let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn pings_are_answered_while_the_device_waits() {
    let server = Server::start().await;
    let (mut device, mut peer) = connected(&server, options(&server)).await;
    let pinging = async {
        peer.ping().await;
        let pong = peer.frame().await;
        peer.message("1").await;
        pong
    };
    let (incoming, pong) = tokio::join!(device.next(), pinging);
    assert_eq!(id(incoming), "1");
    assert!(matches!(pong, Message::Pong(bytes) if bytes == "are you there"));
}
