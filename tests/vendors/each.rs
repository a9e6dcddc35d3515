//! What holds for every vendor at the end of the delivery machine, as tables over all of them: who
//! is told what, what is asked again, and that statistics say what the vendor itself counted.

use std::time::Duration;

use domain::{
    Event,
    message::{Ending, Stage},
    route::Strategy,
    vendor::Vendor,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sim::fakes::{Fault, Outage, TokenFault};

use super::line::{BEGIN_MS, Line, name};
use crate::{
    easemob::{hello, ok},
    harness::message,
};

const VENDOR_ONLY: Strategy = Strategy::VendorOnly;

/// `sent` and `ended` of a task's statistics.
fn came_to(found: &Value) -> (i64, Value) {
    (found["sent"].as_i64().unwrap(), found["ended"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_takes_is_sent_and_counted_as_the_vendor_counts_it() {
    for vendor in Vendor::ALL {
        let line = Line::of(vendor, 5).await;
        let body = json!({ "pushMessage": hello() });
        let path = format!("/push/sync/{}", name(0));
        let answer = line.easemob.cloud.post(&path, Some(&body)).await.unwrap();
        let position = answer.2["ledger-position"].parse().unwrap();
        let answer = &ok(answer)["data"][0];
        assert_eq!(answer["pushStatus"], "SUCCESS", "{vendor:?}: {answer}");
        let page = line.easemob.world.running.server.ledger.read_at(&[position]).await.unwrap();
        let word = answer["data"]["data"]["requestId"].as_str().unwrap();
        let own = page.events[0].stream.to_string();
        assert!(!word.is_empty() && !own.ends_with(word), "{vendor:?} has no id of its own");

        let task = line.task().await;
        let found = line.outcome(task).await;
        assert_eq!(came_to(&found), (5, json!({})), "{vendor:?}: {found}");
        let cells = found["deliveries"].as_array().unwrap();
        assert!(cells.iter().all(|cell| cell["channel"] == vendor.name()), "{vendor:?}: {found}");
        let stats = line.house.stats();
        assert_eq!((stats.tokens_accepted, stats.tokens_refused), (6, 0), "{vendor:?}");
        let each: Vec<u32> = (0..5).map(|user| line.house.accepted(user)).collect();
        assert_eq!(each, [2, 1, 1, 1, 1], "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_died_is_unbound_with_the_vendors_word_and_never_used_again() {
    for (vendor, code) in [
        (Vendor::Jpush, "1011"),
        (Vendor::Fcm, "UNREGISTERED"),
        (Vendor::Apns, "Unregistered"),
        (Vendor::Huawei, "80300007"),
    ] {
        let line = Line::of(vendor, 2).await;
        // Another token that works vouches for the verdict, where it could mean something else.
        let vouching = line.push(1, VENDOR_ONLY).await;
        line.until(vouching, |delivery| delivery.vendor == Some(vendor)).await;
        line.house.set_token(0, Some(TokenFault::Dead));
        let first = line.push(0, VENDOR_ONLY).await;
        let ended = line.until(first, |delivery| delivery.ended.is_some()).await;
        assert_eq!(ended.ended, Some(Ending::DeadToken), "{vendor:?}");
        let server = &line.easemob.world.running.server;
        let page = server.ledger.read(0, 1_000).await.unwrap();
        let codes: Vec<&str> = page
            .events
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Event::TokenDied(died) => Some(died.code.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(codes, [code], "{vendor:?}");
        assert!(!line.bound(0).await && line.bound(1).await, "{vendor:?}");
        let asked = line.house.pushes().len();
        let second = line.push(0, VENDOR_ONLY).await;
        let ended = line.until(second, |delivery| delivery.ended.is_some()).await;
        assert_eq!(ended.ended, Some(Ending::NoBinding), "{vendor:?}");
        assert_eq!(line.house.pushes().len(), asked, "{vendor:?}");
        let found = line.outcome(line.task().await).await;
        assert_eq!(came_to(&found), (1, json!({ "no_binding": 1 })), "{vendor:?}: {found}");
        assert_eq!((line.house.accepted(0), line.house.accepted(1)), (0, 2), "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_is_asked_too_fast_is_left_alone_for_as_long_as_it_wants() {
    for vendor in Vendor::ALL {
        for task in [false, true] {
            let line = Line::of(vendor, 1).await;
            line.house.plan([Fault::TooMany { retry_after_seconds: Some(90) }]);
            if task {
                let task = line.task().await;
                line.house.answered(1).await;
                let found = line.outcome(task).await;
                assert_eq!(came_to(&found), (1, json!({})), "{vendor:?}: {found}");
            } else {
                let id = line.push(0, VENDOR_ONLY).await;
                line.house.answered(1).await;
                line.while_time_passes(id, |delivery| delivery.vendor == Some(vendor)).await;
            }
            let pushes = line.house.pushes();
            assert_eq!((pushes.len(), line.house.accepted(0)), (2, 1), "{vendor:?}");
            let waited = pushes[1].at_ms - pushes[0].at_ms;
            assert!(waited >= 90_000, "{vendor:?} was asked again after {waited} ms");
            line.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_delays_what_is_still_valid_and_nothing_comes_twice() {
    for vendor in Vendor::ALL {
        for outage in [Outage::Unavailable, Outage::Refused] {
            let line = Line::of(vendor, 3).await;
            // What a vendor wants for access is there already, so that pushes themselves fail.
            let before = line.push(2, VENDOR_ONLY).await;
            line.until(before, |delivery| delivery.vendor == Some(vendor)).await;
            line.house.set_outage(outage).await;
            let lasting = line.push(0, VENDOR_ONLY).await;
            let kept = line.push(1, Strategy::OnlineElseVendor).await;
            let task = line.task().await;
            for _ in 0..600 {
                line.pass(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
            assert!(line.delivery(lasting).await.wants_vendor(), "{vendor:?} {outage:?}");
            // Attempts stayed few: no storm.
            let asked = line.house.stats().requests;
            assert!(asked <= 60, "{vendor:?} {outage:?}: {asked} calls in ten minutes");
            line.house.set_outage(Outage::None).await;
            for id in [lasting, kept] {
                line.while_time_passes(id, |delivery| delivery.vendor == Some(vendor)).await;
            }
            let found = line.outcome(task).await;
            assert_eq!(came_to(&found), (3, json!({})), "{vendor:?} {outage:?}: {found}");
            let each: Vec<u32> = (0..3).map(|user| line.house.accepted(user)).collect();
            assert_eq!(each, [2, 2, 2], "{vendor:?} {outage:?}");
            line.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_end_or_keep_what_is_pushed_until_an_operator_mends_them() {
    for vendor in Vendor::ALL {
        let line = Line::of(vendor, 2).await;
        line.mend(false).await;
        let only = line.push(0, VENDOR_ONLY).await;
        let ended = line.until(only, |delivery| delivery.ended.is_some()).await;
        assert_eq!(ended.ended, Some(Ending::Misconfigured), "{vendor:?}");
        let found = line.outcome(line.task().await).await;
        assert_eq!(came_to(&found), (0, json!({ "misconfigured": 2 })), "{vendor:?}: {found}");
        let kept = line.push(0, Strategy::VendorElseOnline).await;
        let failed = line.until(kept, |delivery| delivery.failed.is_some()).await;
        let why = (failed.failed, failed.ended);
        assert_eq!(why, (Some(Ending::Misconfigured), None), "{vendor:?}");
        let mut device = line.easemob.connect(&name(0), "phone").await;
        assert_eq!(message(&mut device).await.0, kept.to_string(), "{vendor:?}");
        drop(device);
        // It is nobody's token that is wrong.
        assert!(line.bound(0).await && line.bound(1).await, "{vendor:?}");
        assert_eq!(line.house.stats().tokens_accepted, 0, "{vendor:?}");
        line.mend(true).await;
        let found = line.outcome(line.task().await).await;
        assert_eq!(came_to(&found), (2, json!({})), "{vendor:?}: {found}");
        assert_eq!(line.house.stats().tokens_accepted, 2, "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_over_before_its_time_is_replaced_and_the_call_made_once_more() {
    // JPush alone is asked with what does not end.
    for vendor in [Vendor::Fcm, Vendor::Apns, Vendor::Huawei] {
        let line = Line::of(vendor, 1).await;
        let first = line.push(0, VENDOR_ONLY).await;
        line.until(first, |delivery| delivery.vendor == Some(vendor)).await;
        // Apple wants one to be kept for 20 minutes.
        line.pass(Duration::from_secs(21 * 60));
        line.house.plan([Fault::AuthExpired]);
        let second = line.push(0, VENDOR_ONLY).await;
        line.until(second, |delivery| delivery.vendor == Some(vendor)).await;
        let shown = |at: usize| {
            let pushes = line.house.pushes();
            pushes[at].header("authorization").map(str::to_owned)
        };
        assert_eq!((line.house.pushes().len(), line.house.accepted(0)), (3, 2), "{vendor:?}");
        assert!(shown(0) == shown(1) && shown(1) != shown(2), "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_vendor_survives_a_restart_and_comes_once() {
    for vendor in Vendor::ALL {
        let line = Line::of(vendor, 3).await;
        line.house.set_outage(Outage::Unavailable).await;
        let vendor_first = line.push(0, VENDOR_ONLY).await;
        let online_first = line.push(1, Strategy::OnlineElseVendor).await;
        let task = line.task().await;
        line.house.answered(0).await;
        let line = line.restart().await;
        line.house.set_outage(Outage::None).await;
        for id in [vendor_first, online_first] {
            line.while_time_passes(id, |delivery| delivery.vendor == Some(vendor)).await;
        }
        let found = line.outcome(task).await;
        assert_eq!(came_to(&found), (3, json!({})), "{vendor:?}: {found}");
        let each: Vec<u32> = (0..3).map(|user| line.house.accepted(user)).collect();
        assert_eq!(each, [2, 2, 1], "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_among_many_are_told_apart_and_the_others_get_it_once() {
    for vendor in Vendor::ALL {
        let line = Line::of(vendor, 5).await;
        for user in [1, 3] {
            line.house.set_token(user, Some(TokenFault::Dead));
        }
        let found = line.outcome(line.task().await).await;
        let each: Vec<u32> = (0..5).map(|user| line.house.accepted(user)).collect();
        assert_eq!(each, [1, 0, 1, 0, 1], "{vendor:?}");
        // JPush takes the call and does not say which of many are dead.
        let silent = vendor == Vendor::Jpush;
        let expected = if silent { (5, json!({})) } else { (3, json!({ "dead_token": 2 })) };
        assert_eq!(came_to(&found), expected, "{vendor:?}: {found}");
        for user in 0..5 {
            let lives = silent || ![1, 3].contains(&user);
            assert_eq!(line.bound(user).await, lives, "{vendor:?}: {user}");
        }
        let calls = if matches!(vendor, Vendor::Jpush | Vendor::Huawei) { 1 } else { 5 };
        assert_eq!(line.house.pushes().len(), calls, "{vendor:?}");
        let stats = line.house.stats();
        assert_eq!((stats.tokens_accepted, stats.tokens_refused), (3, 2), "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_failed_as_a_whole_is_asked_for_again_as_a_whole() {
    for vendor in [Vendor::Jpush, Vendor::Huawei] {
        for fault in [
            Fault::Status { status: 500, retry_after_seconds: None },
            Fault::Failing { tokens: 1, how: TokenFault::Throttled },
            Fault::Failing { tokens: 1, how: TokenFault::Unavailable },
            Fault::Lost,
        ] {
            let line = Line::of(vendor, 3).await;
            line.house.plan([fault.clone()]);
            let found = line.outcome(line.task().await).await;
            assert_eq!(came_to(&found), (3, json!({})), "{vendor:?} {fault:?}: {found}");
            let stats = line.house.stats();
            let accepted = (stats.tokens_accepted, stats.tokens_repeated);
            assert_eq!(accepted, (3, 0), "{vendor:?} {fault:?}");
            assert_eq!(line.house.pushes().len(), 2, "{vendor:?} {fault:?}");
            line.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_and_counted_once() {
    for vendor in Vendor::ALL {
        let line = Line::of(vendor, 1).await;
        line.house.plan([Fault::Reset]);
        let id = line.push(0, VENDOR_ONLY).await;
        let sent = line.while_time_passes(id, |delivery| delivery.vendor == Some(vendor)).await;
        assert_eq!((sent.stage, sent.ended), (Stage::Sent, None), "{vendor:?}");
        // JPush alone knows a call that is repeated.
        let shown = if vendor == Vendor::Jpush { 1 } else { 2 };
        assert_eq!(line.house.accepted(0), shown, "{vendor:?}");
        assert_eq!(line.house.pushes().len(), 2, "{vendor:?}");
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_device_got_after_it_died_stays_bound() {
    // Apple alone says since when.
    for task in [false, true] {
        let line = Line::of(Vendor::Apns, 4).await;
        line.pass(Duration::from_secs(60));
        let other = format!("{:064x}", 0xf00d);
        line.bind_to(3, &other).await;
        line.bind(3).await;
        // User 0 had it before, 1 and 2 got it after; 3 had it before, lost it, and got it again.
        let since = |seconds: i64| Some(TokenFault::DeadSince(BEGIN_MS + seconds * 1_000));
        for (user, seconds) in [(0, 30), (1, -1), (2, -3_600), (3, 30)] {
            line.house.set_token(user, since(seconds));
        }
        if task {
            let found = line.outcome(line.task().await).await;
            assert_eq!(came_to(&found), (0, json!({ "dead_token": 4 })), "{found}");
        } else {
            for user in 0..4 {
                let id = line.push(user, VENDOR_ONLY).await;
                let ended = line.until(id, |delivery| delivery.ended.is_some()).await;
                assert_eq!(ended.ended, Some(Ending::DeadToken), "{user}");
            }
        }
        for (user, lives) in [(0, false), (1, true), (2, true), (3, true)] {
            assert_eq!(line.bound(user).await, lives, "{user}, as a task: {task}");
        }
        line.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_calls_are_made_at_once_and_no_more_over_connections_that_are_used_again() {
    for (vendor, most) in
        [(Vendor::Jpush, 16), (Vendor::Huawei, 16), (Vendor::Fcm, 256), (Vendor::Apns, 256)]
    {
        let line = Line::of(vendor, 4).await;
        // A call for each push, or for each of its users, and more of them than may be made at once.
        let pushes = if most == 16 { 40 } else { 80 };
        line.house.plan_share(Fault::Slow { ms: 600_000 }, 1_000);
        let users: Vec<String> = (0..4).map(name).collect();
        let body = json!({ "targets": users, "strategy": 2, "pushMessage": hello() });
        let push = || line.easemob.cloud.post("/push/single", Some(&body));
        let pushed = join_all((0..pushes).map(|_| push())).await;
        pushed.into_iter().for_each(|answer| drop(ok(answer.unwrap())));
        // None is answered before as many as may be are made.
        let made = async || line.house.stats().in_flight_most >= most;
        crate::harness::until("not as many calls at once as may be", made).await;
        line.house.clear_plans();
        let taken = async || line.house.stats().tokens_accepted == 4 * pushes;
        crate::harness::until("not all was sent", taken).await;
        let seen = line.house.stats();
        assert_eq!(seen.in_flight_most, most, "{vendor:?}: calls at once");
        line.house.answered(0).await;
        for _ in 0..10 {
            let id = line.push(0, VENDOR_ONLY).await;
            line.until(id, |delivery| delivery.vendor == Some(vendor)).await;
        }
        let used = line.house.stats().connections - seen.connections;
        assert_eq!(used, 0, "{vendor:?}: calls one after the other want connections of their own");
        line.stop().await;
    }
}
