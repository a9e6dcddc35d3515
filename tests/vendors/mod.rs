//! The delivery machine with strict fake vendors at the other end: which way a delivery goes, what
//! it does when a vendor refuses, fails or is away, and that nothing is lost or sent twice.
//! [`each`] runs over all vendors ([`line`] is an app with any of them); the rest has JPush.

mod apps;
mod chat;
mod crossing;
mod each;
mod every_fault;
mod faults;
mod held;
mod line;
mod outage;
mod results;
mod ways;

use std::time::Duration;

use domain::{
    Metadata,
    facts::{Fact, Key},
    message::{Delivery, MessageId, MessagePrivate, Protocol, RawJson},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
};
use pushledger::ledger::{Context, Lane};
use serde_json::{Value, json, value::RawValue};
use sim::{
    Device,
    fakes::{Jpush, JpushFake, Options},
};
use uuid::Uuid;

use crate::harness::{PATIENCE, World, until};

/// A server on a clock that the test moves, whose app reaches its devices by JPush too.
pub(crate) struct Post {
    pub(crate) world: World,
    pub(crate) jpush: JpushFake,
}

impl Post {
    pub(crate) async fn new() -> Post {
        Post::on(World::with_clock().await).await
    }

    pub(crate) async fn on(world: World) -> Post {
        let jpush = JpushFake::start(Jpush::default(), Options::default()).await.unwrap();
        let own = jpush.credentials();
        let credentials = json!({
            "vendor": "jpush", "baseUrl": jpush.url(),
            "appKey": own.app_key, "masterSecret": own.master_secret,
        });
        let vendors = json!({ "vendors": [{ "name": "jpush-cert", "credentials": credentials }] });
        let (status, body, _) =
            world.admin.patch("/admin/v1/apps/demo", Some(&vendors)).await.unwrap();
        assert_eq!(status, 200, "{body}");
        Post { world, jpush }
    }

    /// Pushes to clients under a strategy, as no protocol but Easemob's can word it.
    pub(crate) async fn push(
        &self,
        clients: &[&str],
        strategy: Strategy,
        keep: Duration,
    ) -> MessageId {
        let server = &self.world.running.server;
        let (now, mut id) = (server.clock.now(), None);
        // It may be getting its number again, if the clock has just leapt.
        until("the server has no number", async || {
            id = server.ids.next(&server.clock).await;
            id.is_some()
        })
        .await;
        let id = id.unwrap();
        let json = |value: Value| RawJson(RawValue::from_string(value.to_string()).unwrap());
        let command = PushMessage {
            app: "demo".to_owned(),
            id,
            protocol: Protocol::Ums,
            sender: PushSender::Cloud,
            destinations: Destinations::Clients(clients.iter().map(|c| (*c).to_owned()).collect()),
            mode: Mode::Strict,
            strategy,
            expires_at: now + i64::try_from(keep.as_micros()).unwrap(),
            burn: false,
            resend: None,
            callback: false,
            private: MessagePrivate {
                destinations: json(Value::Null),
                payload: Some(json(json!({ "text": "hello" }))),
                caller: None,
            },
            new_account: Uuid::nil(),
        };
        let context = Context { app: "demo".to_owned(), metadata: Metadata::default() };
        server.ledger.execute(Lane::Interactive, context, command).await.unwrap();
        id
    }

    pub(crate) async fn number(&self, client: &str) -> i64 {
        let ledger = &self.world.running.server.ledger;
        let key = Key::Client { app: "demo".to_owned(), client: client.to_owned() };
        let Fact::Devices(devices) = ledger.fact(key).await.unwrap() else { panic!("no devices") };
        devices[0].number
    }

    /// A device that the server knows to be connected: the handshake ends a moment before.
    async fn connected(&self, client: &str) -> Device {
        let device = self.world.connect(&self.world.terminal(client)).await;
        self.present(client).await;
        device
    }

    pub(crate) async fn present(&self, client: &str) {
        let number = self.number(client).await;
        let hub = &self.world.running.server.hub;
        until("the device never counted as connected", async || hub.connected(number)).await;
    }

    pub(crate) async fn delivery(&self, id: MessageId, client: &str) -> Delivery {
        let ledger = &self.world.running.server.ledger;
        let Fact::Message(Some(message)) = ledger.fact(Key::Message(id)).await.unwrap() else {
            panic!("no message")
        };
        message.deliveries[&self.number(client).await].clone()
    }

    /// Waits until a delivery is as wanted.
    pub(crate) async fn until(
        &self,
        id: MessageId,
        client: &str,
        so: impl Fn(&Delivery) -> bool,
    ) -> Delivery {
        let reached = tokio::time::timeout(PATIENCE, async {
            while !so(&self.delivery(id, client).await) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let late = reached.await.is_err();
        assert!(!late, "{client} got no further than {:?}", self.delivery(id, client).await);
        self.delivery(id, client).await
    }

    /// The same, while time passes a second at a time.
    async fn while_time_passes(
        &self,
        id: MessageId,
        client: &str,
        so: impl Fn(&Delivery) -> bool,
    ) -> Delivery {
        until("the delivery never got so far", async || {
            self.world.clock.advance(Duration::from_secs(1));
            so(&self.delivery(id, client).await)
        })
        .await;
        self.delivery(id, client).await
    }
}

/// What a device registers as its vendor's token.
fn token(client: &str) -> String {
    format!("push-{client}")
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
