//! Vendors that refuse, fail, answer late or not at all, and servers that stop in between.

use std::time::Duration;

use domain::{
    Event,
    message::{Ending, Stage},
    route::Strategy,
};
use sim::fakes::{Fault, Outage, TokenFault};

use super::{DAY, Post, token};
use crate::harness::{PATIENCE, World, message};

async fn post_with(clients: &[&str]) -> Post {
    let post = Post::new().await;
    for client in clients {
        post.world.register(client).await;
    }
    post
}

#[tokio::test(flavor = "multi_thread")]
async fn one_push_to_many_devices_is_one_call() {
    let names: Vec<String> = (0..50).map(|n| format!("c-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let post = post_with(&names).await;
    let id = post.push(&names, Strategy::VendorOnly, DAY).await;
    for name in &names {
        post.until(id, name, |delivery| delivery.stage == Stage::Sent).await;
    }
    assert_eq!(post.jpush.stats().pushes_accepted, 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_was_away_for_ten_minutes_gets_everything_that_is_still_valid_once() {
    let post = post_with(&["a", "b", "c"]).await;
    post.jpush.set_outage(Outage::Unavailable).await;
    let lasting = post.push(&["a", "b"], Strategy::VendorOnly, DAY).await;
    let brief = post.push(&["c"], Strategy::VendorOnly, Duration::from_secs(60)).await;
    // The brief one expires, and says why.
    let ended = post.while_time_passes(brief, "c", |delivery| delivery.ended.is_some()).await;
    assert_eq!(ended.ended, Some(Ending::ExpiredUnsent));
    for _ in 0..600 {
        post.world.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert!(post.delivery(lasting, "a").await.wants_vendor());
    // Attempts stayed few: no storm.
    let refused = post.jpush.stats().requests;
    assert!(refused <= 20, "{refused} calls in ten minutes of outage");
    post.jpush.set_outage(Outage::None).await;
    for client in ["a", "b"] {
        let sent = |delivery: &domain::message::Delivery| delivery.vendor.is_some();
        post.while_time_passes(lasting, client, sent).await;
        assert_eq!(post.jpush.accepted(&token(client)), 1);
    }
    assert_eq!(post.jpush.accepted(&token("c")), 0);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_was_lost_is_made_again_and_pushed_once() {
    let post = post_with(&["a"]).await;
    post.jpush.plan([Fault::Reset]);
    let id = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    post.while_time_passes(id, "a", |delivery| delivery.vendor.is_some()).await;
    assert_eq!(post.jpush.accepted(&token("a")), 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_a_restart_lost_is_made_again_with_its_cid_and_pushed_once() {
    let Post { world, jpush } = post_with(&["a", "b"]).await;
    // Taken at once, and answered when the server that asked is gone.
    jpush.plan([Fault::Slow { ms: 60_000 }]);
    let post = Post { world, jpush };
    let id = post.push(&["a", "b"], Strategy::VendorOnly, DAY).await;
    let taken = post.jpush.until(|seen| seen.tokens_accepted == 2);
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
    let Post { world, jpush } = post;
    let post = Post { world: world.restart().await, jpush };
    for client in ["a", "b"] {
        post.while_time_passes(id, client, |delivery| delivery.vendor.is_some()).await;
        assert_eq!(post.jpush.accepted(&token(client)), 1);
    }
    let pushes = post.jpush.requests().into_iter().filter(|request| request.path == "/v3/push");
    let cids: Vec<_> = pushes.map(|push| push.json()["cid"].clone()).collect();
    assert_eq!(cids.len(), 2, "{cids:?}");
    assert_eq!(cids[0], cids[1]);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_call_waits_and_comes_through() {
    let post = post_with(&["a"]).await;
    post.jpush.plan([Fault::TooMany { retry_after_seconds: None }]);
    let id = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    post.while_time_passes(id, "a", |delivery| delivery.vendor.is_some()).await;
    assert_eq!(post.jpush.accepted(&token("a")), 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_is_buried_with_its_code_and_never_used_again() {
    let post = post_with(&["a", "b"]).await;
    // Another token that works vouches for the verdict.
    let vouching = post.push(&["b"], Strategy::VendorOnly, DAY).await;
    post.until(vouching, "b", |delivery| delivery.vendor.is_some()).await;
    post.jpush.set_token(&token("a"), Some(TokenFault::Dead));
    let first = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    let ended = post.until(first, "a", |delivery| delivery.ended.is_some()).await;
    assert_eq!(ended.ended, Some(Ending::DeadToken));
    let asked = post.jpush.stats().requests;
    let second = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    let ended = post.until(second, "a", |delivery| delivery.ended.is_some()).await;
    assert_eq!(ended.ended, Some(Ending::NoBinding));
    assert_eq!(post.jpush.stats().requests, asked);
    let page = post.world.running.server.ledger.read(0, 1_000).await.unwrap();
    let died = page.events.iter().find_map(|recorded| match &recorded.event {
        Event::TokenDied(e) => Some(e.code.clone()),
        _ => None,
    });
    assert!(died.is_some_and(|code| !code.is_empty()));
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_believed_dead_by_a_vendor_that_takes_nothing() {
    let post = post_with(&["a"]).await;
    post.jpush.set_token(&token("a"), Some(TokenFault::WrongApp));
    let id = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    post.until(id, "a", |delivery| delivery.ended.is_some()).await;
    let page = post.world.running.server.ledger.read(0, 1_000).await.unwrap();
    assert!(!page.events.iter().any(|recorded| matches!(recorded.event, Event::TokenDied(_))));
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_that_the_vendor_cannot_read_is_halved_until_the_bad_token_is_alone() {
    let names = ["a", "b", "c", "d"];
    let post = post_with(&names).await;
    let refusal = Fault::Raw {
        status: 400,
        content_type: "application/json".to_owned(),
        body: r#"{"error":{"code":1003,"message":"bad audience"}}"#.to_owned(),
    };
    // The whole, the half with the bad token, and the bad token itself.
    post.jpush.plan([refusal.clone(), refusal.clone(), refusal]);
    let id = post.push(&names, Strategy::VendorOnly, DAY).await;
    post.until(id, "a", |delivery| delivery.ended.is_some()).await;
    for name in ["b", "c", "d"] {
        post.until(id, name, |delivery| delivery.vendor.is_some()).await;
        assert_eq!(post.jpush.accepted(&token(name)), 1);
    }
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_vendor_survives_a_restart() {
    let Post { world, jpush } = post_with(&["a", "b"]).await;
    jpush.set_outage(Outage::Unavailable).await;
    let post = Post { world, jpush };
    let vendor_first = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    let online_first = post.push(&["b"], Strategy::OnlineElseVendor, DAY).await;
    let Post { world, jpush } = post;
    let world: World = world.restart().await;
    jpush.set_outage(Outage::None).await;
    let post = Post { world, jpush };
    for (id, client) in [(vendor_first, "a"), (online_first, "b")] {
        post.while_time_passes(id, client, |delivery| delivery.vendor.is_some()).await;
        assert_eq!(post.jpush.accepted(&token(client)), 1);
    }
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_end_a_vendor_only_push_and_keep_the_others_for_our_own_channel() {
    let post = post_with(&["a"]).await;
    let wrong = serde_json::json!({ "vendors": [{ "name": "jpush-cert", "credentials": {
        "vendor": "jpush", "baseUrl": post.jpush.url(), "appKey": "no-such-key",
        "masterSecret": "no-such-secret" } }] });
    let (status, body, _) =
        post.world.admin.patch("/admin/v1/apps/demo", Some(&wrong)).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let only = post.push(&["a"], Strategy::VendorOnly, DAY).await;
    let ended = post.until(only, "a", |delivery| delivery.ended.is_some()).await;
    assert_eq!(ended.ended, Some(Ending::Misconfigured));
    let kept = post.push(&["a"], Strategy::VendorElseOnline, DAY).await;
    let failed = post.until(kept, "a", |delivery| delivery.failed.is_some()).await;
    assert_eq!((failed.failed, failed.ended), (Some(Ending::Misconfigured), None));
    let mut device = post.world.connect(&post.world.terminal("a")).await;
    assert_eq!(message(&mut device).await.0, kept.to_string());
    drop(device);
    post.world.stop().await;
}
