//! What the vendors' own clients send is accepted: their recorded requests are replayed, byte for
//! byte of what matters, at the time they were made. `tests/sim/recordings/record` records anew.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sim::fakes::{Apns, Fake, Fcm, Jpush, Options, Vendor, VendorClock};

use crate::caller::{Answer, Sender};

#[derive(Deserialize)]
struct Recording {
    client: String,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    at_ms: i64,
    version: String,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// Replays a recording, and gives the fake and its answers.
async fn replayed<V: Vendor + Default>(recording: &str, client: &str) -> (Fake<V>, Vec<Answer>) {
    let Recording { client: recorded, requests } = serde_json::from_str(recording).unwrap();
    assert!(recorded.starts_with(client), "{recorded}");
    let clock = VendorClock::standing_at(requests[0].at_ms);
    let options = Options { clock: clock.clone(), ..Options::default() };
    let fake = Fake::start(V::default(), options).await.unwrap();
    let mut answers = Vec::new();
    for request in requests {
        clock.advance_ms(request.at_ms - clock.now_ms());
        let headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let url = format!("{}{}", fake.url(), request.path);
        let mut sender =
            Sender::new(url, &headers, &request.body).anew(request.version == "HTTP/2.0");
        sender.method = request.method.parse().unwrap();
        // A form is a text in the recording.
        if let Some(text) = request.body.as_str() {
            sender = sender.body(text);
        }
        answers.push(sender.send().await);
    }
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    (fake, answers)
}

#[tokio::test]
async fn jpushs_own_client_is_understood() {
    let recording = include_str!("../../recordings/jpush.json");
    let (fake, answers) = replayed::<Jpush>(recording, "jpush==").await;
    assert_eq!(answers.len(), 4);
    assert_eq!(fake.accepted("180a0f76070a1b2c3d4"), 3);
    assert_eq!(fake.accepted("180a0f76070a1b2c3d6"), 1);
    assert_eq!(fake.requests()[0].json()["options"]["time_to_live"], 3_600);
}

#[tokio::test]
async fn firebases_own_client_is_understood() {
    let recording = include_str!("../../recordings/fcm.json");
    let (fake, answers) = replayed::<Fcm>(recording, "firebase-admin==").await;
    assert_eq!(answers[0].body["token_type"], "Bearer");
    assert_eq!(fake.accepted("fcm-token_1:APA91bSample"), 1);
    assert_eq!(fake.requests()[1].json()["message"]["android"]["ttl"], "3600s");
}

#[tokio::test]
async fn a_client_of_apns_is_understood() {
    let recording = include_str!("../../recordings/apns.json");
    let (fake, _) = replayed::<Apns>(recording, "@parse/node-apn@").await;
    let device = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
    assert_eq!(fake.accepted(device), 1);
    let request = &fake.requests()[0];
    assert_eq!(request.json()["aps"]["alert"]["title"], "Courier");
    assert_eq!(request.header("apns-push-type"), Some("alert"));
}
