//! A vendor that is away for ten minutes and then is back: what is still worth delivering comes, what
//! is not says why, and the vendor is asked few times meanwhile. The same for every vendor, for a
//! message and for a task.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    message::{Ending, MessageId, Stage},
    route::Strategy,
    vendor::Vendor,
};
use serde_json::{Value, json};
use sim::fakes::{Fault, Outage};

use super::line::{House, Line, name};
use crate::{
    easemob::change_app,
    harness::{message, until},
    tasks::chunks,
};

use Strategy::{OnlineElseVendor, VendorElseOnline, VendorOnly};

const USERS: usize = 6;
/// Seconds that what is brief is worth delivering.
const BRIEF: usize = 60;
const DAY: usize = 86_400;
/// Whose device comes when the vendor will not be asked any more before its message expires.
const LATE: usize = 3;
const LATE_AT: usize = 57;
/// How often one call is made within ten minutes of outage, at most: at once, twice after pauses that
/// are short while the vendor does not count as away, and after pauses that double from 40 s.
const ATTEMPTS: u64 = 8;

impl Line {
    /// How long what is pushed from now on is worth delivering.
    async fn keep(&self, seconds: usize) {
        let delivery = json!({ "delivery": { "keepSeconds": seconds } });
        change_app(&self.easemob.world, delivery).await;
    }

    /// So many seconds pass one by one.
    async fn seconds(&self, seconds: usize) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn came_to(found: &Value) -> [Value; 3] {
    ["sent", "received", "ended"].map(|name| found[name].clone())
}

async fn ten_minutes(vendor: Vendor, outage: Outage) {
    let said = format!("{vendor:?}, {outage:?}");
    let line = Line::of(vendor, USERS).await;
    // What a vendor wants for access is there already, so that pushes themselves fail.
    let before = line.push(USERS - 1, VendorOnly).await;
    line.until(before, |delivery| delivery.vendor == Some(vendor)).await;
    let asked = line.house.stats().requests;
    line.house.set_outage(outage).await;

    line.keep(BRIEF).await;
    let only = line.push(0, VendorOnly).await;
    let first = line.push(1, VendorElseOnline).await;
    let never = line.push(2, OnlineElseVendor).await;
    let late = line.push(LATE, OnlineElseVendor).await;
    let (brief, kept) = (line.task().await, line.task_as(OnlineElseVendor).await);
    line.keep(DAY).await;
    let lasting = line.push(4, VendorOnly).await;
    let great = line.task().await;

    line.seconds(LATE_AT).await;
    let mut device = line.easemob.connect(&name(LATE), "phone").await;
    let got = [message(&mut device).await.0, message(&mut device).await.0];
    assert_eq!(BTreeSet::from(got), BTreeSet::from([late.to_string(), kept.to_string()]), "{said}");
    line.until(late, |delivery| delivery.stage == Stage::Received).await;
    drop(device);
    line.seconds(600 - LATE_AT).await;
    assert!(line.delivery(lasting).await.wants_vendor(), "{said}");
    let calls = match vendor {
        // A call each, and one for all of a task.
        Vendor::Jpush | Vendor::Huawei => 5 + 3,
        Vendor::Fcm | Vendor::Apns => 5 + 3 * USERS as u64,
    };
    let asked = line.house.stats().requests - asked;
    assert!(asked <= ATTEMPTS * calls, "{said}: {asked} times in ten minutes for {calls} calls");
    line.house.set_outage(Outage::None).await;

    line.while_time_passes(lasting, |delivery| delivery.vendor == Some(vendor)).await;
    let all = json!(USERS);
    let found = line.outcome(great).await;
    assert_eq!(came_to(&found), [all.clone(), json!(0), json!({})], "{said}: {found}");

    let ended = async |id| line.until(id, |delivery| delivery.ended.is_some()).await.ended;
    assert_eq!(ended(only).await, Some(Ending::ExpiredUnsent), "{said}");
    assert_eq!(ended(never).await, Some(Ending::ExpiredOffline), "{said}");
    // No way but the vendor's, or kept for what was left of its time.
    let either = [Some(Ending::ExpiredUnsent), Some(Ending::ExpiredOffline)];
    assert!(either.contains(&ended(first).await), "{said}");
    let delivery = line.delivery(late).await;
    assert_eq!((delivery.vendor, delivery.ended), (None, None), "{said}");

    let found = line.outcome(brief).await;
    let expired = json!({ "expired_unsent": USERS });
    assert_eq!(came_to(&found), [json!(0), json!(0), expired], "{said}: {found}");
    let expired = [json!(1), json!(1), json!({ "expired_offline": USERS - 1 })];
    until("what is kept of a task never ended", async || {
        came_to(&line.outcome(kept).await) == expired
    })
    .await;

    let accepted: Vec<u32> = (0..USERS).map(|user| line.house.accepted(user)).collect();
    assert_eq!(accepted, [1, 1, 1, 1, 2, 2], "{said}: something came twice, or too late");
    line.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_asked_again_of_a_vendor_while_another_is_left_alone_for_longer() {
    let line = Line::of(Vendor::Jpush, 1).await;
    let other = House::start(Vendor::Huawei).await;
    line.beside(&other, 1).await;
    line.house.plan([Fault::Status { status: 503, retry_after_seconds: None }]);
    other.plan([Fault::TooMany { retry_after_seconds: None }]);
    let task = line.task().await;
    let world = &line.easemob.world;
    let recorded = async || !chunks(world, MessageId(task)).await.is_empty();
    until("nothing was put off", recorded).await;
    // One is asked again within two seconds, the other after ten.
    line.pass(Duration::from_secs(5));
    until("it waits for the other vendor", async || line.house.accepted(0) == 1).await;
    assert_eq!(other.accepted(1), 0);
    let found = line.outcome(task).await;
    assert_eq!(came_to(&found), [json!(2), json!(0), json!({})], "{found}");
    assert_eq!((line.house.accepted(0), other.accepted(1)), (1, 1));
    line.stop().await;
}

async fn unavailable_or_refusing(vendor: Vendor) {
    for outage in [Outage::Unavailable, Outage::Refused] {
        ten_minutes(vendor, outage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_jpush_lose_nothing_and_what_expires_says_why() {
    unavailable_or_refusing(Vendor::Jpush).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_fcm_lose_nothing_and_what_expires_says_why() {
    unavailable_or_refusing(Vendor::Fcm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_apns_lose_nothing_and_what_expires_says_why() {
    unavailable_or_refusing(Vendor::Apns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_huawei_lose_nothing_and_what_expires_says_why() {
    unavailable_or_refusing(Vendor::Huawei).await;
}
