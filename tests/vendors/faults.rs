//! What only JPush does, and what is the same whichever vendor fails: batches in one call, halving,
//! verdicts that nobody believes. What holds for every vendor is in [`each`](super::each).

use std::time::Duration;

use domain::{
    Event,
    message::{Ending, Stage},
    route::Strategy,
};
use sim::fakes::{Fault, Outage, TokenFault};

use super::{DAY, Post, token};
use crate::harness::PATIENCE;

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
    let refusal = unreadable();
    // The whole, the half with the bad token but not the other, and the bad token itself.
    let taken = Fault::Slow { ms: 0 };
    post.jpush.plan([refusal.clone(), refusal.clone(), taken, refusal]);
    let id = post.push(&names, Strategy::VendorOnly, DAY).await;
    post.until(id, "a", |delivery| delivery.ended.is_some()).await;
    for name in ["b", "c", "d"] {
        post.until(id, name, |delivery| delivery.vendor.is_some()).await;
        assert_eq!(post.jpush.accepted(&token(name)), 1);
    }
    post.world.stop().await;
}

/// What JPush says of an audience, or of something else, that it cannot read.
fn unreadable() -> Fault {
    Fault::Raw {
        status: 400,
        content_type: "application/json".to_owned(),
        body: r#"{"error":{"code":1003,"message":"bad audience"}}"#.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_vendor_cannot_read_costs_few_calls_and_no_token() {
    let names: Vec<String> = (0..64).map(|n| format!("c-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let post = post_with(&names).await;
    // Other messages are taken all the while.
    let before = post.push(&names[..1], Strategy::VendorOnly, DAY).await;
    post.until(before, names[0], |delivery| delivery.vendor.is_some()).await;
    post.jpush.plan_share(unreadable(), 1_000);
    for names in [&names[..], &names[..1]] {
        let id = post.push(names, Strategy::VendorOnly, DAY).await;
        for name in names {
            post.until(id, name, |delivery| delivery.ended.is_some()).await;
        }
    }
    let stats = post.jpush.stats();
    // The whole, 2 halves, 4 quarters, 8 eighths; and the one of the other message.
    assert_eq!(stats.faults, 16, "{stats:?}");
    let page = post.world.running.server.ledger.read(0, 10_000).await.unwrap();
    assert!(!page.events.iter().any(|recorded| matches!(recorded.event, Event::TokenDied(_))));
    post.world.stop().await;
}
