//! Antelope custom messages over the wire: one file for each call or theme. The table in
//! `docs/protocols/antelope.md` says which test shows which sentence of the contract.

mod client_push;
mod devices;
mod examples;
mod ids;
mod limits;
mod requests;
mod resend;
mod section;
mod server_push;
mod state;
mod tokens;
mod webhook;

use domain::message::{Delivery, MessageAccepted, MessageId};
use domain::{Event, Stream, facts::Fact, facts::Key};
use pushledger::antelope::sign;
use serde_json::{Value, json};
use sim::{Device, DeviceOptions, Incoming};

use crate::harness::{PATIENCE, RawClient, World, until};

pub const APP_ID: &str = "Demo";
pub const KEY: &str = "0123456789abcdef0123456789abcdef";
/// A key of the app that is older.
pub const OLD_KEY: &str = "fedcba9876543210fedcba9876543210";
/// When tokens of tests end, in seconds since the epoch.
pub const EXPIRE: u32 = 2_000_000_000;
pub const ANN: u32 = 5_000_001;
pub const BOB: u32 = 5_003_062;
/// A number beyond what 31 bits hold.
pub const HIGH: u32 = 4_000_000_000;
/// A number that no app has.
pub const NOBODYS: u32 = 6_000_000;
/// "hello".
pub const HELLO: &str = "aGVsbG8=";

/// The section of the app's configuration.
pub fn section() -> Value {
    json!({ "appId": APP_ID, "appKeys": [KEY, OLD_KEY],
            "cidRanges": [[5_000_000, 5_009_999], [HIGH, HIGH + 9]] })
}

/// Has the app `demo` speak Antelope.
pub async fn speak(world: &World) {
    crate::easemob::change_app(world, json!({ "antelope": section() })).await;
}

/// The token of a device.
pub fn token(cid: u32) -> String {
    sign(KEY, cid, 0, EXPIRE)
}

/// Status and body of an answer, whose `request_id` is its header's.
pub type Answer = (u16, Value);

/// A world whose app speaks Antelope.
pub struct Antelope {
    pub world: World,
}

impl Antelope {
    /// On the machine's clock.
    pub async fn new() -> Antelope {
        Antelope::of(World::new().await).await
    }

    /// On a clock that the test moves.
    pub async fn with_clock() -> Antelope {
        Antelope::of(World::with_clock().await).await
    }

    async fn of(world: World) -> Antelope {
        speak(&world).await;
        Antelope { world }
    }

    /// A call with these headers, as it is.
    pub async fn raw(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let reply = RawClient::new(&self.world).send(method, target, &headers, body).await;
        assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8", "{reply:?}");
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["request_id"], reply.headers["x-request-id"], "{body}");
        assert_eq!(body["error"].is_string(), reply.status != 200, "{body}");
        (reply.status, body)
    }

    /// A call of the app's server.
    pub async fn server(&self, method: &str, target: &str, body: &Value) -> Answer {
        let headers = [("X-APP-ID", APP_ID), ("X-APP-Key", KEY)];
        let body = if method == "GET" { String::new() } else { body.to_string() };
        self.raw(method, target, &headers, body.as_bytes()).await
    }

    /// A push by the app's server.
    pub async fn push(&self, body: &Value) -> Answer {
        self.server("POST", "/v2/message/server/push", body).await
    }

    /// A push to these devices that has to be accepted; gives the message.
    pub async fn push_to(&self, cids: &[u32], flag: i64) -> (MessageId, MessageAccepted) {
        let head = self.world.head().await;
        let payload = json!({ "msg": HELLO, "flag": flag, "clients": cids });
        let answer = self.push(&json!({ "proxy": 0, "payload": payload })).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
        self.accepted(head).await.remove(0)
    }

    /// A push by a device.
    pub async fn push_by(&self, cid: u32, body: &Value) -> Answer {
        let headers = [("X-Client-Token", &*token(cid))];
        self.raw("POST", "/v2/message/client/push", &headers, body.to_string().as_bytes()).await
    }

    /// The messages that were accepted after a position.
    pub async fn accepted(&self, after: i64) -> Vec<(MessageId, MessageAccepted)> {
        let page = self.world.running.server.ledger.read(after, 1_000).await.unwrap();
        let accepted = page.events.into_iter().filter_map(|recorded| {
            match (recorded.stream, recorded.event) {
                (Stream::Message(id), Event::MessageAccepted(accepted)) => Some((id, accepted)),
                _ => None,
            }
        });
        accepted.collect()
    }

    /// A device that leaves every answer to the test.
    pub async fn quiet(&self, cid: u32) -> Device {
        let options = DeviceOptions::of_antelope(&self.world.url, token(cid));
        let device = Device::connect(DeviceOptions { auto_ack: false, ..options }).await.unwrap();
        self.counts(cid).await;
        device
    }

    /// A device that answers by itself.
    pub async fn connect(&self, cid: u32) -> Device {
        let options = DeviceOptions::of_antelope(&self.world.url, token(cid));
        let device = Device::connect(options).await.unwrap();
        self.counts(cid).await;
        device
    }

    /// Waits until a device that has connected counts as here, which is a moment later.
    async fn counts(&self, cid: u32) {
        let number = self.number(cid).await;
        let hub = &self.world.running.server.hub;
        until("the device never counted as connected", async || hub.connected(number)).await;
    }

    /// The device's number in the ledger.
    pub async fn number(&self, cid: u32) -> i64 {
        let fact = self.world.running.server.ledger.fact(Key::cid("demo", cid)).await.unwrap();
        let Fact::Devices(devices) = fact else { panic!("no devices") };
        devices.first().expect("the device never connected").number
    }

    /// How a delivery stands.
    pub async fn delivery(&self, id: MessageId, cid: u32) -> Delivery {
        let number = self.number(cid).await;
        let fact = self.world.running.server.ledger.fact(Key::Message(id)).await.unwrap();
        let Fact::Message(Some(message)) = fact else { panic!("no message {id}") };
        message.deliveries[&number].clone()
    }

    /// Waits until a delivery stands as wanted.
    pub async fn until(&self, id: MessageId, cid: u32, wanted: impl Fn(&Delivery) -> bool) {
        until("the delivery never got there", async || wanted(&self.delivery(id, cid).await)).await;
    }
}

/// The next message of a device: its id and what it sees of it.
pub async fn message(device: &mut Device) -> (String, Value) {
    match device.next_within(PATIENCE).await {
        Some(Incoming::Message { id, protocol, payload, .. }) => {
            assert_eq!(protocol, "antelope");
            (id, payload)
        }
        other => panic!("no message but {other:?}"),
    }
}

/// What a device sees of a message.
pub fn seen(body: &str, source: u32) -> Value {
    json!({ "name": "PopMessage", "body": body, "sourceId": source })
}
