//! Every fault of every vendor, on a push to one user and in the middle of a task: what our
//! statistics say is what the vendor itself counted. Targets are the sum of all outcomes, whoever was
//! sent it was taken for by the vendor, and nobody gets it twice but where a vendor cannot know
//! a call that is repeated.

use std::time::Duration;

use domain::{message::Ending, route::Strategy, vendor::Vendor};
use serde_json::json;
use sim::fakes::{Fault, HuaweiReceipt, ReceiptKey, TokenFault};

use super::line::{House, Line, RECEIPT_KEY, RECEIPT_USER};
use crate::{
    easemob,
    harness::{Place, World},
};

const USERS: usize = 6;

/// What becomes of whom a fault meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// Everybody gets it once.
    Once,
    /// Everybody gets it; what was taken before the connection broke comes again, but from JPush,
    /// which knows the call by its `cid`.
    OnceOrAgain,
    /// Whom the vendor refuses does not get it.
    ToWhomItTakes,
}

fn faults(vendor: Vendor) -> Vec<(Fault, Comes)> {
    use Comes::{Once, OnceOrAgain, ToWhomItTakes};
    let status = |status, retry_after_seconds| Fault::Status { status, retry_after_seconds };
    let failing = |how| Fault::Failing { tokens: 1, how };
    let mut faults = vec![
        (Fault::TooMany { retry_after_seconds: None }, Once),
        (Fault::TooMany { retry_after_seconds: Some(40) }, Once),
        (status(500, None), Once),
        (status(503, None), Once),
        (status(503, Some(40)), Once),
        (Fault::Slow { ms: 100 }, Once),
        // Apple takes many calls over one connection, so others may be lost with it, taken as they were.
        (Fault::Lost, if vendor == Vendor::Apns { OnceOrAgain } else { Once }),
        (Fault::GoAway, Once),
        (Fault::Reset, OnceOrAgain),
        (Fault::Quota, ToWhomItTakes),
        (failing(TokenFault::Throttled), Once),
        (failing(TokenFault::Unavailable), Once),
    ];
    // Of many, JPush does not say which it cannot use; a credential of it does not end.
    if vendor != Vendor::Jpush {
        faults.push((failing(TokenFault::Malformed), ToWhomItTakes));
        faults.push((failing(TokenFault::WrongApp), ToWhomItTakes));
        faults.push((failing(TokenFault::Dead), ToWhomItTakes));
        faults.push((Fault::AuthExpired, Once));
    }
    faults
}

impl Line {
    /// Apple wants a credential to be kept for 20 minutes: so much time passes before one may end.
    async fn credentials_grow_old(&self, fault: &Fault) {
        if *fault == Fault::AuthExpired {
            self.pass(Duration::from_secs(21 * 60));
        }
        self.has_a_number().await;
    }
}

/// Has a fault meet a push to one user, and then a task, and counts.
async fn counted(line: Line, fault: Fault, comes: Comes) {
    let vendor = line.vendor;
    let said = format!("{vendor:?}, {fault:?}");
    let accepted = || (0..USERS).map(|user| line.house.accepted(user)).collect::<Vec<u32>>();
    // What a vendor wants for access is there already, and its word on a token is believed.
    let first = line.push(USERS - 1, Strategy::VendorOnly).await;
    line.until(first, |delivery| delivery.vendor == Some(vendor)).await;
    line.credentials_grow_old(&fault).await;
    line.house.plan([fault.clone()]);
    let single = line.push(0, Strategy::VendorOnly).await;
    let settled = |delivery: &domain::message::Delivery| {
        delivery.vendor.is_some() || delivery.ended.is_some()
    };
    let delivery = line.while_time_passes(single, settled).await;
    let sent = delivery.ended.is_none();
    assert_eq!(sent, accepted()[0] > 0, "{said}: {delivery:?}");
    assert!(sent || comes == Comes::ToWhomItTakes, "{said}: {delivery:?}");
    assert_ne!(delivery.ended, Some(Ending::ExpiredUnsent), "{said}");

    let before = accepted();
    line.credentials_grow_old(&fault).await;
    // A credential that is new and over again is wrong.
    let times = if fault == Fault::AuthExpired { 1 } else { 2 };
    line.house.plan(vec![fault.clone(); times]);
    let task = line.task().await;
    line.house.answered(1).await;
    let found = line.outcome(task).await;
    let times = accepted().into_iter().zip(before).map(|(now, before)| now - before);
    let times: Vec<u32> = times.collect();
    let taken = times.iter().filter(|times| **times > 0).count();
    assert_eq!(found["targets"], json!(USERS), "{said}: {found}");
    assert_eq!(found["sent"], json!(taken), "{said}: {times:?} {found}");
    if comes != Comes::ToWhomItTakes {
        assert_eq!((taken, &found["ended"]), (USERS, &json!({})), "{said}: {found}");
    }
    let again = comes == Comes::OnceOrAgain && vendor != Vendor::Jpush;
    let most = if again { 3 } else { 1 };
    assert!(times.iter().all(|times| *times <= most), "{said}: {times:?}");
    line.stop().await;
}

async fn counted_as_the_vendor_does(vendor: Vendor) {
    for (fault, comes) in faults(vendor) {
        counted(Line::of(vendor, USERS).await, fault, comes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_jpush_does_wrong_is_counted_as_jpush_counts_it() {
    counted_as_the_vendor_does(Vendor::Jpush).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fcm_does_wrong_is_counted_as_fcm_counts_it() {
    counted_as_the_vendor_does(Vendor::Fcm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_apns_does_wrong_is_counted_as_apns_counts_it() {
    counted_as_the_vendor_does(Vendor::Apns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_huawei_does_wrong_is_counted_as_huawei_counts_it() {
    counted_as_the_vendor_does(Vendor::Huawei).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_answers_too_late_is_asked_for_again_and_counted_as_it_counts_it() {
    for vendor in Vendor::ALL {
        let mut place = Place::new().await;
        place.vendor_call = Duration::from_secs(2);
        let line = Line::on(World::with_clock_at(place).await, vendor, USERS).await;
        counted(line, Fault::Slow { ms: 3_000 }, Comes::OnceOrAgain).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_told_again_and_again_of_what_came_twice_count_once() {
    let line = Line::of(Vendor::Huawei, USERS).await;
    let House::Huawei(fake) = &line.house else { panic!("no Huawei") };
    fake.plan([Fault::Reset]);
    let task = line.task().await;
    line.house.answered(1).await;
    line.outcome(task).await;
    let pushes = line.house.pushes();
    assert_eq!((pushes.len(), line.house.accepted(0)), (2, 2), "nothing came twice");
    let tag = pushes[0].json()["message"]["android"]["bi_tag"].as_str().unwrap().to_owned();
    // The last user's device never says that it has it.
    let receipt = |user: usize| HuaweiReceipt {
        bi_tag: tag.clone(),
        appid: fake.credentials().client_id.clone(),
        token: line.house.token(user),
        status: 0,
        timestamp: fake.clock().now_ms(),
        request_id: "1700".to_owned(),
    };
    // Each push has a receipt of its own.
    let twice: Vec<HuaweiReceipt> = (0..USERS - 1).chain(0..USERS - 1).map(receipt).collect();
    let url = format!("{}/push/report/huawei", easemob::base(&line.easemob.world));
    let key = ReceiptKey { user: RECEIPT_USER.to_owned(), secret: RECEIPT_KEY.to_owned() };
    assert_eq!(fake.post_receipts(&url, &twice, Some(&key), 3).await.unwrap(), [200; 3]);
    let found = line.outcome(task).await;
    let shown = (&found["targets"], &found["sent"], &found["received"], &found["unobservable"]);
    assert_eq!(shown, (&json!(USERS), &json!(USERS), &json!(USERS - 1), &json!(1)), "{found}");
    line.stop().await;
}
