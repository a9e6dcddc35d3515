//! `/{org}/{app}/push/report/huawei`: what Huawei tells later of messages that it took.

use std::time::Duration;

use domain::{
    facts::{Fact, Key},
    message::{MessageId, Stage},
};
use serde_json::{Value, json};
use sim::{
    Admin,
    fakes::{Huawei, HuaweiFake, HuaweiReceipt, Options, ReceiptKey, VendorClock},
};

use super::{Easemob, base, change_app, hello, ok, refusal, refused};
use crate::harness::until;

const NOW_MS: i64 = 1_700_000_000_000;
const DELIVERED: i64 = 0;
const UNINSTALLED: i64 = 2;
const SWITCHED_OFF: i64 = 6;

/// An app that Huawei serves, with receipts, and users `u-0` … whose tokens are `token-0` ….
struct House {
    easemob: Easemob,
    huawei: HuaweiFake,
    key: ReceiptKey,
}

impl House {
    async fn new(users: usize) -> House {
        let easemob = Easemob::with_clock().await;
        let options = Options { clock: VendorClock::standing_at(NOW_MS), ..Options::default() };
        let huawei = HuaweiFake::start(Huawei::default(), options).await.unwrap();
        let (own, url) = (huawei.credentials(), huawei.url());
        let key = ReceiptKey { user: "receiptUser".to_owned(), secret: "c2VjcmV0".to_owned() };
        let credentials = json!({
            "vendor": "huawei", "baseUrl": url, "tokenUrl": format!("{url}/oauth2/v3/token"),
            "clientId": own.client_id, "clientSecret": own.client_secret,
            "receiptUser": key.user, "receiptKey": key.secret,
        });
        let vendors = json!([{ "name": "huawei-cert", "credentials": credentials }]);
        change_app(&easemob.world, json!({ "vendors": vendors })).await;
        for n in 0..users {
            let name = format!("u-{n}");
            easemob.user(&name).await;
            easemob.bind(&name, "phone", "huawei-cert", &format!("token-{n}")).await;
        }
        House { easemob, huawei, key }
    }

    /// What Huawei was told to call the message of its last push.
    async fn pushed(&self, path: &str, more: Value) -> String {
        let mut body = json!({ "pushMessage": hello() });
        crate::harness::merge(&mut body, more);
        let before = self.huawei.stats().pushes_accepted;
        ok(self.easemob.cloud.post(path, Some(&body)).await.unwrap());
        until("Huawei never got it", async || self.huawei.stats().pushes_accepted > before).await;
        let requests = self.huawei.requests();
        let push = requests.iter().rev().find(|r| r.path.ends_with("messages:send")).unwrap();
        push.json()["message"]["android"]["bi_tag"].as_str().unwrap().to_owned()
    }

    fn receipt(&self, tag: &str, token: &str, status: i64) -> HuaweiReceipt {
        HuaweiReceipt {
            bi_tag: tag.to_owned(),
            appid: self.huawei.credentials().client_id.clone(),
            token: token.to_owned(),
            status,
            timestamp: self.huawei.clock().now_ms(),
            request_id: "1700".to_owned(),
        }
    }

    fn address(&self) -> String {
        format!("{}/push/report/huawei", base(&self.easemob.world))
    }

    async fn tell(&self, receipts: &[HuaweiReceipt], times: usize) -> Vec<u16> {
        let (address, key) = (self.address(), Some(&self.key));
        self.huawei.post_receipts(&address, receipts, key, times).await.unwrap()
    }

    /// How many deliveries of a message are at least at a stage.
    async fn at(&self, id: &str, stage: Stage) -> usize {
        let key = Key::Message(MessageId(id.parse().unwrap()));
        let fact = self.easemob.world.running.server.ledger.fact(key).await.unwrap();
        let Fact::Message(Some(message)) = fact else { panic!("{fact:?}") };
        message.deliveries.values().filter(|delivery| delivery.stage >= stage).count()
    }

    async fn statistics(&self, task: &str) -> Value {
        let path = format!("/push/task/{task}/statistics");
        ok(self.easemob.cloud.get(&path, None).await.unwrap())["data"].clone()
    }

    async fn bindings(&self, user: &str) -> usize {
        let path = format!("/users/{user}/push/binding");
        let found = ok(self.easemob.cloud.get(&path, None).await.unwrap());
        found["entities"].as_array().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_raises_the_delivery_of_its_token_and_twice_counts_once() {
    let house = House::new(3).await;
    let more = json!({ "targets": ["u-0", "u-1", "u-2"] });
    let id = house.pushed("/push/single", more).await;
    until("it was never sent", async || house.at(&id, Stage::Sent).await == 3).await;
    let receipts = [
        house.receipt(&id, "token-0", DELIVERED),
        house.receipt(&id, "token-1", DELIVERED),
        house.receipt(&id, "token-2", SWITCHED_OFF),
    ];
    assert_eq!(house.tell(&receipts, 1).await, [200]);
    assert_eq!(house.at(&id, Stage::Received).await, 2);
    assert_eq!(house.bindings("u-2").await, 1, "switched off is not dead");
    let head = house.easemob.world.head().await;
    assert_eq!(house.tell(&receipts, 2).await, [200, 200]);
    assert_eq!(house.easemob.world.head().await, head, "it was recorded twice");
    house.easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_a_task_count_in_its_statistics() {
    let house = House::new(5).await;
    let task = house.pushed("/push/task", json!({})).await;
    until("it was never sent", async || house.statistics(&task).await["sent"] == 5).await;
    let receipts = [0, 1, 3].map(|n| house.receipt(&task, &format!("token-{n}"), DELIVERED));
    assert_eq!(house.tell(&receipts, 2).await, [200, 200]);
    until("the receipts never counted", async || house.statistics(&task).await["received"] == 3)
        .await;
    let found = house.statistics(&task).await;
    let shown = (&found["targets"], &found["sent"], &found["unobservable"]);
    assert_eq!(shown, (&json!(5), &json!(5), &json!(2)), "{found}");
    assert!(found["latencyMs"]["received"]["p50"].is_i64(), "{found}");
    house.easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_receipt_calls_dead_is_unbound_unless_the_device_got_it_later() {
    let house = House::new(2).await;
    let id = house.pushed("/push/single", json!({ "targets": ["u-0", "u-1"] })).await;
    until("it was never sent", async || house.at(&id, Stage::Sent).await == 2).await;
    let task = house.pushed("/push/list", json!({ "targets": ["u-1"] })).await;
    until("it was never sent", async || house.statistics(&task).await["sent"] == 1).await;
    let dead = house.receipt(&id, "token-0", UNINSTALLED);
    let of_task = house.receipt(&task, "token-1", UNINSTALLED);
    // The app was installed again, and got the same token.
    house.easemob.world.clock.advance(Duration::from_secs(5));
    house.easemob.bind("u-0", "phone", "huawei-cert", "").await;
    house.easemob.bind("u-0", "phone", "huawei-cert", "token-0").await;
    assert_eq!(house.tell(&[dead.clone(), of_task], 1).await, [200]);
    assert_eq!((house.bindings("u-0").await, house.bindings("u-1").await), (1, 0));
    let later = HuaweiReceipt { timestamp: NOW_MS + 6_000, ..dead };
    assert_eq!(house.tell(&[later], 2).await, [200, 200]);
    assert_eq!(house.bindings("u-0").await, 0);
    house.easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_key_or_holds_the_apps_token_can_tell_anything() {
    let house = House::new(1).await;
    let id = house.pushed("/push/single", json!({ "targets": ["u-0"] })).await;
    until("it was never sent", async || house.at(&id, Stage::Sent).await == 1).await;
    let receipts = [house.receipt(&id, "token-0", DELIVERED)];
    let head = house.easemob.world.head().await;
    let another =
        |user: &str, secret: &str| ReceiptKey { user: user.to_owned(), secret: secret.to_owned() };
    let keys = [another("receiptUser", "other"), another("other", "c2VjcmV0"), another("", "")];
    let strangers = keys.iter().map(Some).chain([None]);
    for key in strangers {
        let told = house.huawei.post_receipts(&house.address(), &receipts, key, 1).await;
        assert_eq!(told.unwrap(), [401], "{key:?}");
    }
    // A signature of some time ago says nothing of now.
    house.huawei.clock().advance_ms(-601_000);
    assert_eq!(house.tell(&receipts, 1).await, [401]);
    house.huawei.clock().advance_ms(601_000);
    let stranger = Admin::new(base(&house.easemob.world), "");
    let answer = stranger.post("/push/report/huawei", Some(&json!({ "statuses": [] }))).await;
    assert_eq!(refusal(&answer.unwrap()).1, "unauthorized");
    assert_eq!(house.easemob.world.head().await, head);
    // The newer way: the key is what the console shows in base64.
    let newer = another("receiptUser", "secret");
    let told = house.huawei.post_receipts(&house.address(), &receipts, Some(&newer), 1).await;
    assert_eq!(told.unwrap(), [200]);
    assert_eq!(house.at(&id, Stage::Received).await, 1);
    let own = json!({ "statuses": receipts });
    let answer = house.easemob.cloud.post("/push/report/huawei", Some(&own)).await.unwrap();
    assert_eq!(ok(answer), json!({ "code": "0", "message": "success" }));
    house.easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_nothing_here_are_taken_and_change_nothing() {
    let house = House::new(1).await;
    let id = house.pushed("/push/single", json!({ "targets": ["u-0"] })).await;
    until("it was never sent", async || house.at(&id, Stage::Sent).await == 1).await;
    let head = house.easemob.world.head().await;
    for (tag, token) in
        [("", "token-0"), ("task-91", "token-0"), ("17", "token-0"), (id.as_str(), "token-9")]
    {
        let receipts = [DELIVERED, UNINSTALLED].map(|status| house.receipt(tag, token, status));
        assert_eq!(house.tell(&receipts, 1).await, [200], "{tag} {token}");
    }
    for body in [json!({}), json!({ "statuses": [{}] }), json!({ "statuses": 1 })] {
        let answer = house.easemob.cloud.post("/push/report/huawei", Some(&body)).await.unwrap();
        refused(&answer, 400, "json_parse", "Unexpected character");
    }
    assert_eq!(house.easemob.world.head().await, head);
    house.easemob.world.stop().await;
}
