//! Faults on demand: each is what it says, in each vendor's words, and what was taken is counted.

use serde_json::json;
use sim::fakes::{
    Apns, ApnsFake, Fake, Fakes, Fault, Fcm, FcmFake, Huawei, HuaweiFake, Jpush, JpushFake,
    Options, Outage, TokenFault, TokenRule, Vendor,
};

use crate::caller::{
    Answer, Sender, apns, assertion, device, fcm, fcm_token_call, huawei, huawei_token_call, jpush,
    within,
};

async fn fake<V: Vendor + Default>() -> Fake<V> {
    Fake::start(V::default(), Options::default()).await.unwrap()
}

struct All {
    jpush: JpushFake,
    fcm: FcmFake,
    apns: ApnsFake,
    huawei: HuaweiFake,
}

async fn all() -> All {
    let Fakes { jpush, fcm, apns, huawei } = Fakes::start(Options::default()).await.unwrap();
    All { jpush, fcm, apns, huawei }
}

impl All {
    /// Plans the fault with each, and gives their answers to the next push in this order: JPush,
    /// FCM, APNs, Huawei.
    async fn meet(&self, fault: &Fault) -> [Answer; 4] {
        let (to_jpush, to_apns) = (jpush(&self.jpush, &["t1"]), apns(&self.apns, &device(1)));
        let (to_fcm, to_huawei) = (fcm(&self.fcm, "t1").await, huawei(&self.huawei, &["t1"]).await);
        self.jpush.plan([fault.clone()]);
        self.fcm.plan([fault.clone()]);
        self.apns.plan([fault.clone()]);
        self.huawei.plan([fault.clone()]);
        [to_jpush.send().await, to_fcm.send().await, to_apns.send().await, to_huawei.send().await]
    }
}

#[tokio::test]
async fn too_many_is_429_or_huaweis_503_with_and_without_retry_after() {
    let all = all().await;
    for retry_after_seconds in [None, Some(7)] {
        let answers = all.meet(&Fault::TooMany { retry_after_seconds }).await;
        assert_eq!(answers.each_ref().map(|answer| answer.status), [429, 429, 429, 503]);
        for answer in &answers {
            let told = answer.headers.get("retry-after").map(String::as_str);
            assert_eq!(told, retry_after_seconds.map(|_| "7"));
        }
        assert_eq!(answers[0].body["error"]["code"], 2002);
        assert_eq!(answers[1].body["error"]["status"], "RESOURCE_EXHAUSTED");
        assert_eq!(answers[2].body["reason"], "TooManyRequests");
    }
    assert_eq!((all.jpush.accepted("t1"), all.huawei.accepted("t1")), (0, 0));
}

#[tokio::test]
async fn faults_of_the_server_have_each_vendors_body() {
    let all = all().await;
    let fault = |status| Fault::Status { status, retry_after_seconds: None };
    let answers = all.meet(&fault(500)).await;
    assert_eq!(answers.each_ref().map(|answer| answer.status), [500; 4]);
    assert_eq!(answers[0].body["error"]["code"], 1000);
    assert_eq!(answers[1].body["error"]["status"], "INTERNAL");
    assert_eq!(answers[2].body["reason"], "InternalServerError");
    assert_eq!(answers[3].body["code"], "81000001");
    let answers = all.meet(&fault(503)).await;
    assert_eq!(answers.each_ref().map(|answer| answer.status), [503; 4]);
    assert_eq!(answers[0].body["error"]["code"], 1030);
    assert_eq!(answers[1].body["error"]["status"], "UNAVAILABLE");
    assert_eq!(answers[2].body["reason"], "ServiceUnavailable");
}

#[tokio::test]
async fn quota_and_an_ended_credential_have_each_vendors_code() {
    let all = all().await;
    let answers = all.meet(&Fault::Quota).await;
    assert_eq!(answers.each_ref().map(|answer| answer.status), [400, 429, 429, 503]);
    assert_eq!(answers[0].body["error"]["code"], 1012);
    let answers = all.meet(&Fault::AuthExpired).await;
    assert_eq!(answers.each_ref().map(|answer| answer.status), [401, 401, 403, 401]);
    assert_eq!(answers[0].body["error"]["code"], 1004);
    assert_eq!(answers[1].body["error"]["status"], "UNAUTHENTICATED");
    assert_eq!(answers[2].body["reason"], "ExpiredProviderToken");
    assert_eq!(answers[3].body["code"], "80200003");
}

#[tokio::test]
async fn a_credential_that_ended_stays_so_until_there_is_another() {
    let all = all().await;
    let to_fcm = fcm(&all.fcm, "t1").await;
    let to_huawei = huawei(&all.huawei, &["t1"]).await;
    let to_apns = apns(&all.apns, &device(1));
    assert_eq!(to_apns.send().await.status, 200);
    all.fcm.plan([Fault::AuthExpired]);
    all.huawei.plan([Fault::AuthExpired]);
    all.apns.plan([Fault::AuthExpired]);
    for _ in 0..2 {
        assert_eq!(to_fcm.send().await.status, 401);
        assert_eq!(to_huawei.send().await.status, 401);
        assert_eq!(to_apns.send().await.status, 403);
    }
    let another = apns(&all.apns, &device(1)).headers.swap_remove(0).1;
    assert_eq!(to_apns.header("authorization", &another).send().await.status, 200);
    all.fcm.clock().advance_ms(1_000);
    assert_eq!(fcm(&all.fcm, "t1").await.send().await.status, 200);
    assert_eq!(huawei(&all.huawei, &["t1"]).await.send().await.status, 200);
}

#[tokio::test]
async fn a_reset_after_acceptance_is_counted_and_its_sender_sees_a_broken_connection() {
    let all = all().await;
    let senders = [
        jpush(&all.jpush, &["t1"]),
        fcm(&all.fcm, "t1").await,
        huawei(&all.huawei, &["t1"]).await,
        apns(&all.apns, &device(1)),
    ];
    for (fault, times) in [(Fault::Lost, 0), (Fault::Reset, 1)] {
        all.jpush.plan([fault.clone()]);
        all.fcm.plan([fault.clone()]);
        all.huawei.plan([fault.clone()]);
        all.apns.plan([fault]);
        for sender in &senders {
            assert!(sender.try_send().await.is_err());
        }
        let accepted =
            [all.jpush.accepted("t1"), all.fcm.accepted("t1"), all.huawei.accepted("t1")];
        assert_eq!((accepted, all.apns.accepted(&device(1))), ([times; 3], times));
    }
    let last = all.jpush.requests().pop().unwrap();
    assert_eq!((last.status, last.tokens_accepted), (None, 1));
    for sender in &senders {
        assert_eq!(sender.send().await.status, 200);
    }
    assert_eq!((all.jpush.accepted("t1"), all.jpush.stats().tokens_repeated), (2, 1));
}

#[tokio::test]
async fn a_slow_push_is_accepted_before_its_answer_comes() {
    let jpush_fake = fake::<Jpush>().await;
    jpush_fake.plan([Fault::Slow { ms: 3_600_000 }]);
    let push = jpush(&jpush_fake, &["t1"]);
    let sent = tokio::spawn(async move { push.try_send().await });
    let stats = within(jpush_fake.until(|stats| stats.tokens_accepted == 1)).await;
    assert_eq!((jpush_fake.accepted("t1"), stats.in_flight), (1, 1));
    sent.abort();
    within(jpush_fake.until(|stats| stats.in_flight == 0)).await;
}

#[tokio::test]
async fn the_first_tokens_of_a_batch_fail_as_planned() {
    let huawei_fake = fake::<Huawei>().await;
    huawei_fake.plan([Fault::Failing { tokens: 2, how: TokenFault::Dead }]);
    let answer = huawei(&huawei_fake, &["a", "b", "c"]).await.send().await;
    let listed = answer.body["msg"].as_str().unwrap();
    assert!(listed.contains(r#""illegal_tokens":["a","b"]"#), "{listed}");
    let fcm_fake = fake::<Fcm>().await;
    fcm_fake.plan([Fault::Failing { tokens: 1, how: TokenFault::Dead }]);
    assert_eq!(fcm(&fcm_fake, "t1").await.send().await.status, 404);
}

#[tokio::test]
async fn an_answer_can_be_anything() {
    let fcm_fake = fake::<Fcm>().await;
    let (content_type, body) = ("text/html".to_owned(), "<h1>Bad gateway</h1>".to_owned());
    fcm_fake.plan([Fault::Raw { status: 502, content_type, body }]);
    let answer = fcm(&fcm_fake, "t1").await.send().await;
    assert_eq!((answer.status, answer.body), (502, json!("<h1>Bad gateway</h1>")));
    assert_eq!(answer.headers["content-type"], "text/html");
}

#[tokio::test]
async fn after_a_goodbye_the_next_push_comes_on_another_connection() {
    let (apns_fake, jpush_fake) = (fake::<Apns>().await, fake::<Jpush>().await);
    apns_fake.plan([Fault::GoAway]);
    jpush_fake.plan([Fault::GoAway]);
    let senders: [Sender; 2] = [apns(&apns_fake, &device(1)), jpush(&jpush_fake, &["t1"])];
    for sender in &senders {
        assert_eq!(sender.send().await.status, 200);
        assert_eq!(sender.send().await.status, 200);
    }
    assert_eq!((apns_fake.stats().connections, jpush_fake.stats().connections), (2, 2));
}

#[tokio::test]
async fn the_token_endpoint_fails_apart_from_pushes() {
    let (fcm_fake, huawei_fake) = (fake::<Fcm>().await, fake::<Huawei>().await);
    let fault = Fault::Status { status: 503, retry_after_seconds: None };
    let push = fcm(&fcm_fake, "t1").await;
    fcm_fake.plan_token_calls([fault.clone(), Fault::AuthExpired]);
    huawei_fake.plan_token_calls([fault]);
    assert_eq!(push.send().await.status, 200);
    let call = fcm_token_call(&fcm_fake, &assertion(&fcm_fake, json!({})));
    assert_eq!(call.send().await.status, 503);
    assert_eq!(call.send().await.body["error"], "invalid_grant");
    assert_eq!(call.send().await.status, 200);
    assert_eq!(huawei_token_call(&huawei_fake).send().await.status, 503);
}

#[tokio::test]
async fn an_outage_answers_503_or_refuses_connections_until_it_is_lifted() {
    let all = all().await;
    let senders = [
        jpush(&all.jpush, &["t1"]),
        fcm(&all.fcm, "t1").await,
        huawei(&all.huawei, &["t1"]).await,
        apns(&all.apns, &device(1)),
    ];
    for outage in [Outage::Unavailable, Outage::Refused, Outage::None] {
        within(all.jpush.set_outage(outage)).await;
        within(all.fcm.set_outage(outage)).await;
        within(all.huawei.set_outage(outage)).await;
        within(all.apns.set_outage(outage)).await;
        for sender in &senders {
            let answer = sender.try_send().await;
            match outage {
                Outage::Unavailable => assert_eq!(answer.unwrap().status, 503),
                Outage::Refused => assert!(answer.unwrap_err().is_connect()),
                Outage::None => assert_eq!(answer.unwrap().status, 200),
            }
        }
    }
    assert_eq!((all.jpush.accepted("t1"), all.apns.accepted(&device(1))), (1, 1));
}

#[tokio::test]
async fn a_share_of_pushes_and_a_share_of_tokens_fail() {
    let fcm_fake = fake::<Fcm>().await;
    let rule = TokenRule::share(200, TokenFault::Dead);
    fcm_fake.add_token_rule(rule.clone());
    let push = fcm(&fcm_fake, "t").await;
    let mut dead = 0;
    for number in 0..200 {
        let token = format!("t{number}");
        let status = push.clone().with("/message/token", json!(token)).send().await.status;
        assert_eq!(status, if rule.holds(&token) { 404 } else { 200 });
        dead += u32::from(status == 404);
    }
    assert!((20..60).contains(&dead), "{dead}");
    fcm_fake.plan_share(Fault::Quota, 500);
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(push.send().await.status == 429);
    }
    assert!((60..140).contains(&refused), "{refused}");
    fcm_fake.clear_plans();
    assert_ne!(push.send().await.status, 429);
}
