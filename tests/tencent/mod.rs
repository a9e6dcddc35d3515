//! Tencent IM over the wire: one file for each call or theme. The table in
//! `docs/protocols/tencent-im.md` says which test shows which sentence of the contract.

mod accounts;
mod batch;
mod devices;
mod gate;
mod limits;
mod linked;
mod roaming;
mod section;
mod send;
mod withdraw;

use domain::{
    Event, Recorded, Stream,
    facts::{Fact, Key},
    message::{MessageAccepted, MessageId},
};
use projections::chats;
use pushledger::tencent::sign;
use serde_json::{Value, json};
use sim::{Device, DeviceOptions, Incoming};

use crate::harness::{PATIENCE, RawClient, World, merge, until};

pub const APP: u32 = 1_400_009_999;
pub const KEY: &str = "k-0123456789abcdef";
/// A key of the app that is older.
pub const OLD_KEY: &str = "k-fedcba9876543210";
pub const ADMIN: &str = "administrator";
/// Signatures of tests are valid from then for ever, in seconds since the epoch.
const FROM: i64 = 1_600_000_000;
const EVER: i64 = 4_000_000_000;

pub const SENDMSG: &str = "/v4/openim/sendmsg";
pub const BATCH: &str = "/v4/openim/batchsendmsg";
pub const WITHDRAW: &str = "/v4/openim/admin_msgwithdraw";
pub const ROAM: &str = "/v4/openim/admin_getroammsg";
pub const IMPORT: &str = "/v4/im_open_login_svc/account_import";
pub const IMPORT_MANY: &str = "/v4/im_open_login_svc/multiaccount_import";

/// The section of the app's configuration.
pub fn section() -> Value {
    json!({ "sdkAppId": APP, "secretKeys": [KEY, OLD_KEY] })
}

/// Has the app `demo` speak Tencent IM.
pub async fn speak(world: &World, more: Value) {
    let mut section = section();
    merge(&mut section, more);
    crate::easemob::change_app(world, json!({ "tencent": section })).await;
}

/// A signature of an account.
pub fn usersig(user: &str) -> String {
    sign(KEY, APP, user, FROM, EVER)
}

/// The target of a call by the app's own account.
pub fn target(path: &str) -> String {
    let sig = usersig(ADMIN);
    format!("{path}?sdkappid={APP}&identifier={ADMIN}&usersig={sig}&random=7&contenttype=json")
}

/// A text as an element of `MsgBody`.
pub fn text(text: &str) -> Value {
    json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": text } }])
}

/// A message from Ann to Bob.
pub fn message(random: u32) -> Value {
    json!({ "From_Account": "Ann", "To_Account": "bob", "MsgSeq": 48_374, "MsgRandom": random,
            "MsgBody": text("red packet"), "CloudCustomData": "your cloud custom data" })
}

/// The same with other fields.
pub fn message_with(random: u32, more: Value) -> Value {
    let mut body = message(random);
    merge(&mut body, more);
    body
}

/// A world whose app speaks Tencent IM and has the accounts `Ann`, `bob` and `carl`.
pub struct Tencent {
    pub world: World,
}

impl Tencent {
    /// On the machine's clock.
    pub async fn new() -> Tencent {
        Tencent::of(World::new().await, json!({})).await
    }

    /// On a clock that the test moves.
    pub async fn with_clock() -> Tencent {
        Tencent::of(World::with_clock().await, json!({})).await
    }

    pub async fn of(world: World, more: Value) -> Tencent {
        speak(&world, more).await;
        let tencent = Tencent { world };
        let accounts = json!({ "Accounts": ["Ann", "bob", "carl"] });
        assert_eq!(tencent.call(IMPORT_MANY, &accounts).await["ErrorCode"], 0);
        tencent
    }

    /// Changes the Tencent side of the app.
    pub async fn configure(&self, section: Value) {
        crate::easemob::change_app(&self.world, json!({ "tencent": section })).await;
    }

    /// A request as it is. The answer is always 200 and has its three fields.
    pub async fn raw(&self, method: &str, target: &str, body: &[u8]) -> Value {
        let reply = RawClient::new(&self.world).send(method, target, &[], body).await;
        answered(&reply)
    }

    /// A call by the app's own account.
    pub async fn call(&self, path: &str, body: &Value) -> Value {
        self.raw("POST", &target(path), body.to_string().as_bytes()).await
    }

    /// A call that has to be refused with a code, and stores nothing.
    pub async fn refused(&self, path: &str, body: &Value, code: u32) {
        let head = self.world.head().await;
        let answer = self.call(path, body).await;
        assert_eq!(answer["ErrorCode"], code, "{body} {answer}");
        assert_eq!(answer["ActionStatus"], "FAIL", "{answer}");
        assert_ne!(answer["ErrorInfo"], "", "{answer}");
        assert_eq!(self.world.head().await, head, "{body} stored something");
    }

    /// A message that has to be accepted; gives its key.
    pub async fn send(&self, body: &Value) -> String {
        let answer = self.call(SENDMSG, body).await;
        assert_eq!(answer["ErrorCode"], 0, "{answer}");
        answer["MsgKey"].as_str().unwrap().to_owned()
    }

    /// The events after a position.
    pub async fn events(&self, after: i64) -> Vec<Recorded> {
        self.world.running.server.ledger.read(after, 2_000).await.unwrap().events
    }

    /// The messages that were accepted after a position.
    pub async fn accepted(&self, after: i64) -> Vec<(MessageId, MessageAccepted)> {
        let accepted = |recorded: Recorded| match (recorded.stream, recorded.event) {
            (Stream::Message(id), Event::MessageAccepted(accepted)) => Some((id, accepted)),
            _ => None,
        };
        self.events(after).await.into_iter().filter_map(accepted).collect()
    }

    /// The account of a `UserID`.
    pub async fn account(&self, user: &str) -> uuid::Uuid {
        let fact = self.world.running.server.ledger.fact(Key::tencent("demo", user)).await.unwrap();
        let Fact::Account(Some(account)) = fact else { panic!("{user} is no account") };
        account
    }

    /// How many messages an account has not read.
    pub async fn unread(&self, user: &str) -> i64 {
        let account = self.account(user).await;
        let (server, head) = (&self.world.running.server, self.world.head().await);
        server.views.reached(head, PATIENCE).await.unwrap();
        let mut views = server.ledger.database().views.checkout().await.unwrap();
        chats::unread(&mut views.conn(), account, head).await.unwrap()
    }

    /// Connects a device of an account, which answers by itself.
    pub async fn connect(&self, user: &str, device: &str) -> Device {
        self.connect_with(user, device, None).await
    }

    /// The same, reporting by itself up to a stage.
    pub async fn connect_with(&self, user: &str, device: &str, reports: Option<u8>) -> Device {
        let options = DeviceOptions::of_tencent(&self.world.url, APP, user, usersig(user), device);
        let options = DeviceOptions { auto_report: reports, ..options };
        let device = Device::connect(options).await.unwrap();
        let here = async || {
            let account = self.account(user).await;
            let fact = self.world.running.server.ledger.fact(Key::AccountDevices(account)).await;
            let Fact::Devices(devices) = fact.unwrap() else { panic!("no devices") };
            devices.iter().any(|device| self.world.running.server.hub.connected(device.number))
        };
        until("the device never counted as connected", here).await;
        device
    }
}

/// The body of an answer, which must be the protocol's own.
pub fn answered(reply: &crate::harness::RawReply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8", "{reply:?}");
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert!(body["ErrorCode"].is_u64() && body["ErrorInfo"].is_string(), "{body}");
    assert_eq!(body["ActionStatus"] == "FAIL", body["ErrorCode"] != 0, "{body}");
    body
}

/// The next message of a device: its protocol and what it sees of it.
pub async fn next(device: &mut Device) -> (String, Value) {
    match device.next_within(PATIENCE).await {
        Some(Incoming::Message { protocol, payload, .. }) => (protocol, payload),
        other => panic!("no message but {other:?}"),
    }
}
