//! An app that reaches its users by one vendor, whichever that is: what differs between the vendors
//! in a test that runs over all of them.

use std::time::Duration;

use domain::{
    Stream,
    facts::{Fact, Key},
    message::{Delivery, MessageId},
    route::Strategy,
    vendor::Vendor,
};
use serde_json::{Value, json};
use sim::{
    Admin,
    fakes::{
        self, Apns, ApnsFake, Fcm, FcmFake, Huawei, HuaweiFake, Jpush, JpushFake, Options, Outage,
        Recorded, Stats, TokenFault, VendorClock,
    },
};

use crate::{
    easemob::{self, Easemob, change_app, hello, ok},
    harness::{World, until},
};

/// When the clocks of a test begin, in ms.
pub(super) const BEGIN_MS: i64 = 1_700_000_000_000;
/// The certificate name that users are bound under.
const CERTIFICATE: &str = "cert";

/// Who signs Huawei's receipts.
pub(super) const RECEIPT_USER: &str = "receiptUser";
pub(super) const RECEIPT_KEY: &str = "c2VjcmV0";

/// A strict fake of any vendor.
pub(super) enum House {
    Jpush(JpushFake),
    Fcm(FcmFake),
    Apns(ApnsFake),
    Huawei(HuaweiFake),
}

macro_rules! of_any {
    ($house:expr, $fake:ident => $answer:expr) => {
        match $house {
            House::Jpush($fake) => $answer,
            House::Fcm($fake) => $answer,
            House::Apns($fake) => $answer,
            House::Huawei($fake) => $answer,
        }
    };
}

impl House {
    pub(super) async fn start(vendor: Vendor) -> House {
        let clock = VendorClock::standing_at(BEGIN_MS);
        let options = Options { clock, ..Options::default() };
        match vendor {
            Vendor::Jpush => {
                House::Jpush(JpushFake::start(Jpush::default(), options).await.unwrap())
            }
            Vendor::Fcm => House::Fcm(FcmFake::start(Fcm::default(), options).await.unwrap()),
            Vendor::Apns => House::Apns(ApnsFake::start(Apns::default(), options).await.unwrap()),
            Vendor::Huawei => {
                House::Huawei(HuaweiFake::start(Huawei::default(), options).await.unwrap())
            }
        }
    }

    /// What an operator gives for it.
    fn credentials(&self) -> Value {
        let url = of_any!(self, fake => fake.url());
        match self {
            House::Jpush(fake) => {
                let own = fake.credentials();
                json!({ "vendor": "jpush", "baseUrl": url, "appKey": own.app_key,
                        "masterSecret": own.master_secret })
            }
            House::Fcm(fake) => json!({ "vendor": "fcm", "baseUrl": url,
                                        "serviceAccount": fake.credentials().service_account() }),
            House::Apns(fake) => {
                let own = fake.credentials();
                json!({ "vendor": "apns", "baseUrl": url, "keyId": own.key_id,
                        "teamId": own.team_id, "p8": own.private_key, "topic": own.topics[0] })
            }
            House::Huawei(fake) => {
                let own = fake.credentials();
                json!({ "vendor": "huawei", "baseUrl": url, "clientId": own.client_id,
                        "tokenUrl": format!("{url}/oauth2/v3/token"),
                        "clientSecret": own.client_secret,
                        "receiptUser": RECEIPT_USER, "receiptKey": RECEIPT_KEY })
            }
        }
    }

    /// The same with a secret, or a key, that the vendor does not know.
    fn wrong_credentials(&self) -> Value {
        let mut wrong = self.credentials();
        match self {
            House::Jpush(_) => wrong["masterSecret"] = json!("no-such-secret"),
            House::Fcm(_) => wrong["serviceAccount"]["private_key_id"] = json!("no-such-key"),
            House::Apns(_) => wrong["keyId"] = json!("NOSUCHKEY1"),
            House::Huawei(_) => wrong["clientSecret"] = json!("no-such-secret"),
        }
        wrong
    }

    pub(super) fn stats(&self) -> Stats {
        of_any!(self, fake => fake.stats())
    }

    pub(super) fn accepted(&self, user: usize) -> u32 {
        of_any!(self, fake => fake.accepted(&self.token(user)))
    }

    pub(super) fn plan(&self, faults: impl IntoIterator<Item = fakes::Fault>) {
        of_any!(self, fake => fake.plan(faults));
    }

    pub(super) fn plan_share(&self, fault: fakes::Fault, per_mille: u16) {
        of_any!(self, fake => fake.plan_share(fault, per_mille));
    }

    pub(super) fn clear_plans(&self) {
        of_any!(self, fake => fake.clear_plans());
    }

    pub(super) fn set_token(&self, user: usize, fault: Option<TokenFault>) {
        of_any!(self, fake => fake.set_token(&self.token(user), fault));
    }

    pub(super) async fn set_outage(&self, outage: Outage) {
        of_any!(self, fake => fake.set_outage(outage).await);
    }

    /// The calls that pushed, or tried to.
    pub(super) fn pushes(&self) -> Vec<Recorded> {
        let requests = of_any!(self, fake => fake.requests());
        let pushed = |path: &str| {
            path == "/v3/push" || path.ends_with(":send") || path.starts_with("/3/device/")
        };
        requests.into_iter().filter(|request| pushed(&request.path)).collect()
    }

    /// Waits until it has answered a call, of whatever kind, and that many pushes.
    pub(super) async fn answered(&self, pushes: usize) {
        until("the vendor was never asked", async || {
            let stats = self.stats();
            stats.requests > 0 && stats.in_flight == 0 && self.pushes().len() >= pushes
        })
        .await;
    }

    fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap();
        of_any!(self, fake => fake.clock().advance_ms(ms));
    }

    /// The token of a user's device, in a form that the vendor gives.
    pub(super) fn token(&self, user: usize) -> String {
        match self {
            House::Jpush(_) => format!("180a0f76070{user:08}"),
            House::Fcm(_) => format!("cR-f:APA91b{user:08}"),
            House::Apns(_) => format!("{user:064x}"),
            House::Huawei(_) => format!("IQAAAACy0g{user:08}"),
        }
    }
}

/// An app on a clock that the test moves, and the vendor that it has.
pub(super) struct Line {
    pub(super) vendor: Vendor,
    pub(super) easemob: Easemob,
    pub(super) house: House,
}

impl Line {
    /// With so many users, each with a device that is bound to the vendor and away.
    pub(super) async fn of(vendor: Vendor, users: usize) -> Line {
        Line::on(World::with_clock().await, vendor, users).await
    }

    /// The same on a server of the test's own.
    pub(super) async fn on(world: World, vendor: Vendor, users: usize) -> Line {
        let easemob = Easemob::of(world).await;
        let line = Line { vendor, easemob, house: House::start(vendor).await };
        line.configure(line.house.credentials()).await;
        for user in 0..users {
            line.easemob.user(&name(user)).await;
            line.bind(user).await;
        }
        line
    }

    pub(super) async fn bind(&self, user: usize) {
        self.bind_to(user, &self.house.token(user)).await;
    }

    /// Binds a user's device to another token than its own.
    pub(super) async fn bind_to(&self, user: usize, token: &str) {
        self.easemob.bind(&name(user), "phone", CERTIFICATE, token).await;
    }

    /// Whether a user's device is bound.
    pub(super) async fn bound(&self, user: usize) -> bool {
        let path = format!("/users/{}/push/binding", name(user));
        let bindings = ok(self.easemob.cloud.get(&path, None).await.unwrap());
        !bindings["entities"].as_array().unwrap().is_empty()
    }

    async fn configure(&self, credentials: Value) {
        let vendors = json!([{ "name": CERTIFICATE, "credentials": credentials }]);
        change_app(&self.easemob.world, json!({ "vendors": vendors })).await;
    }

    /// Has the app reach the device of one more user by another vendor.
    pub(super) async fn beside(&self, other: &House, user: usize) {
        let vendors = json!([{ "name": CERTIFICATE, "credentials": self.house.credentials() },
                             { "name": "other", "credentials": other.credentials() }]);
        change_app(&self.easemob.world, json!({ "vendors": vendors })).await;
        self.easemob.user(&name(user)).await;
        self.easemob.bind(&name(user), "phone", "other", &other.token(user)).await;
    }

    /// Has the app use credentials that are wrong, or right again.
    pub(super) async fn mend(&self, right: bool) {
        let (right_ones, wrong) = (self.house.credentials(), self.house.wrong_credentials());
        self.configure(if right { right_ones } else { wrong }).await;
    }

    /// Time passes for the app and for the vendor.
    pub(super) fn pass(&self, time: Duration) {
        self.house.advance(time);
        self.easemob.world.clock.advance(time);
    }

    /// Waits until the server may make message ids at the time that it is now.
    pub(super) async fn has_a_number(&self) {
        let server = &self.easemob.world.running.server;
        until("the server has no number", async || server.ids.next(&server.clock).await.is_some())
            .await;
    }

    /// Pushes to a user; gives the message.
    pub(super) async fn push(&self, user: usize, strategy: Strategy) -> MessageId {
        let body = json!({ "targets": [name(user)], "strategy": number(strategy),
                           "pushMessage": hello() });
        let answer = self.easemob.cloud.post("/push/single", Some(&body)).await.unwrap();
        let position = answer.2["ledger-position"].parse().unwrap();
        ok(answer);
        let page = self.easemob.world.running.server.ledger.read_at(&[position]).await.unwrap();
        let Stream::Message(id) = page.events[0].stream else { panic!("{page:?}") };
        id
    }

    /// The only delivery of a message.
    pub(super) async fn delivery(&self, id: MessageId) -> Delivery {
        let fact = self.easemob.world.running.server.ledger.fact(Key::Message(id)).await.unwrap();
        let Fact::Message(Some(message)) = fact else { panic!("no message") };
        message.deliveries.values().next().unwrap().clone()
    }

    /// Waits until the only delivery of a message is as wanted.
    pub(super) async fn until(&self, id: MessageId, so: impl Fn(&Delivery) -> bool) -> Delivery {
        until("the delivery never got so far", async || so(&self.delivery(id).await)).await;
        self.delivery(id).await
    }

    /// The same, while time passes a second at a time.
    pub(super) async fn while_time_passes(
        &self,
        id: MessageId,
        so: impl Fn(&Delivery) -> bool,
    ) -> Delivery {
        until("the delivery never got so far", async || {
            self.pass(Duration::from_secs(1));
            so(&self.delivery(id).await)
        })
        .await;
        self.delivery(id).await
    }

    /// A push to everyone by the vendor alone, as a task; gives its id.
    pub(super) async fn task(&self) -> i64 {
        self.task_as(Strategy::VendorOnly).await
    }

    /// A push to everyone, as a task; gives its id.
    pub(super) async fn task_as(&self, strategy: Strategy) -> i64 {
        let body = json!({ "strategy": number(strategy), "pushMessage": hello() });
        let answer = ok(self.easemob.cloud.post("/push/task", Some(&body)).await.unwrap());
        answer["data"].as_i64().unwrap()
    }

    /// Waits for a task to end while time passes, and gives what it came to. Whatever that is, its
    /// targets are the sum of its outcomes.
    pub(super) async fn outcome(&self, task: i64) -> Value {
        let get = async |path: String| ok(self.easemob.cloud.get(&path, None).await.unwrap());
        until("the task never ended", async || {
            self.pass(Duration::from_secs(1));
            let task = get(format!("/push/task/{task}")).await;
            task["data"]["status"] == "finished"
        })
        .await;
        let found = get(format!("/push/task/{task}/statistics")).await["data"].clone();
        let cells = found["deliveries"].as_array().unwrap();
        let all: i64 = cells.iter().map(|cell| cell["deliveries"].as_i64().unwrap()).sum();
        assert_eq!(Some(all), found["targets"].as_i64(), "{:?}: {found}", self.vendor);
        found
    }

    /// Stops the server and starts it again; the vendor goes on.
    pub(super) async fn restart(self) -> Line {
        let Line { vendor, easemob: Easemob { world, cloud }, house } = self;
        let world = world.restart().await;
        let cloud = Admin::new(easemob::base(&world), cloud.token);
        Line { vendor, easemob: Easemob { world, cloud }, house }
    }

    pub(super) async fn stop(self) {
        self.easemob.world.stop().await;
    }
}

pub(super) fn name(user: usize) -> String {
    format!("u-{user}")
}

fn number(strategy: Strategy) -> u8 {
    match strategy {
        Strategy::VendorElseOnline => 0,
        Strategy::OnlineElseKept => 1,
        Strategy::VendorOnly => 2,
        Strategy::OnlineElseVendor => 3,
        Strategy::PresentOnly => 4,
    }
}
