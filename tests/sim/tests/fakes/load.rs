//! The fakes as load runs use them: they look at less, keep nothing, and still count each token.

use serde_json::json;
use sim::fakes::{Apns, Fake, Fcm, Huawei, Jpush, Options, TokenFault, TokenRule, Vendor};

use crate::caller::{apns, device, fcm, huawei, jpush};

async fn fake<V: Vendor + Default>() -> Fake<V> {
    Fake::start(V::default(), Options::load()).await.unwrap()
}

#[tokio::test]
async fn a_batch_is_counted_by_token_and_kept_nowhere() {
    let fake = fake::<Jpush>().await;
    let rule = TokenRule::share(20, TokenFault::Dead);
    fake.add_token_rule(rule.clone());
    let tokens: Vec<String> = (0..1_000).map(|number| format!("180a{number:06}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let push = jpush(&fake, &tokens);
    for _ in 0..2 {
        assert_eq!(push.send().await.status, 200);
    }
    let dead = tokens.iter().filter(|token| rule.holds(token)).count() as u64;
    let stats = fake.stats();
    assert!(dead > 0 && fake.requests().is_empty());
    assert_eq!((stats.tokens_accepted, stats.tokens_refused), (2_000 - 2 * dead, 2 * dead));
    assert_eq!((stats.tokens_distinct, stats.tokens_repeated), (1_000 - dead, 1_000 - dead));
}

#[tokio::test]
async fn a_repeated_cid_sends_nothing_though_the_pool_is_not_asked() {
    let fake = fake::<Jpush>().await;
    let cid = format!("{}-3f1c6a0e-2b58-4e61-9d57-7a4d0f2b9c11", fake.credentials().app_key);
    let push = jpush(&fake, &["t1"]).with("/cid", json!(cid));
    let (first, second) = (push.send().await.body, push.send().await.body);
    assert_eq!((first, fake.accepted("t1")), (second, 1));
}

#[tokio::test]
async fn credentials_and_targets_are_still_looked_at() {
    let (jpush_fake, fcm_fake) = (fake::<Jpush>().await, fake::<Fcm>().await);
    let (apns_fake, huawei_fake) = (fake::<Apns>().await, fake::<Huawei>().await);
    let many = vec!["t"; 1_001];
    let senders = [
        (jpush(&jpush_fake, &["t1"]), jpush(&jpush_fake, &many)),
        (fcm(&fcm_fake, "t1").await, fcm(&fcm_fake, "no token").await),
        (apns(&apns_fake, &device(1)), apns(&apns_fake, "t1")),
        (huawei(&huawei_fake, &["t1"]).await, huawei(&huawei_fake, &many).await),
    ];
    for (good, bad) in senders {
        assert_eq!(good.send().await.status, 200);
        assert_eq!(bad.send().await.status, 400);
        let status = good.without("authorization").send().await.status;
        assert!([401, 403].contains(&status), "{status}");
    }
}
