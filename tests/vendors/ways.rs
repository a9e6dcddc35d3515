//! The policy as a table, over the wire: strategy, whether the device is connected, whether it is
//! bound, and what the vendor says.

use domain::{
    message::{Delivery, Ending, Stage},
    route::Strategy,
    task::state::{State, Way},
    vendor::Vendor,
};
use serde_json::{Value, json};
use sim::Device;
use tokio::task::JoinHandle;

use super::{DAY, Post, token};
use crate::harness::{PACKAGE, World, merge, message, ok, registration};

use Strategy::{OnlineElseKept, OnlineElseVendor, PresentOnly, VendorElseOnline, VendorOnly};

/// What comes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Comes {
    /// The vendor takes it; nothing is kept.
    Vendor,
    /// It goes over our own channel at once; why no vendor was a way, if one was asked for.
    Online(Option<Ending>),
    /// It is kept until the device comes; why no vendor was a way, if one was asked for.
    Kept(Option<Ending>),
    /// It ends.
    Ends(Ending),
}

const STRATEGIES: [Strategy; 5] =
    [VendorElseOnline, OnlineElseKept, VendorOnly, OnlineElseVendor, PresentOnly];

/// A device of each kind: bound to a live token, to a dead one, to none.
const CLIENTS: [&str; 3] = ["live", "dead", "bare"];

async fn registered(post: &Post) {
    let world = &post.world;
    post.jpush.set_token(&token("dead"), Some(sim::fakes::TokenFault::Dead));
    for client in CLIENTS {
        let mut body = registration(client);
        if client == "bare" {
            // A speaker on the M2M channel, which is no push vendor's.
            merge(&mut body, json!({ "deviceType": "08", "collab3th": 1 }));
        }
        ok(&world.terminal(client), "/ums/v2/register", &body).await;
    }
}

/// A device that takes and acknowledges whatever comes.
pub(super) fn living(mut device: Device) -> JoinHandle<()> {
    tokio::spawn(async move { while device.next().await.is_some() {} })
}

/// The way of a push to a device that is away.
fn away(strategy: Strategy, client: &str) -> Comes {
    match (strategy, client) {
        (VendorElseOnline | VendorOnly | OnlineElseVendor, "live") => Comes::Vendor,
        (VendorElseOnline | OnlineElseVendor, "dead") => Comes::Kept(Some(Ending::DeadToken)),
        (VendorElseOnline, _) => Comes::Kept(Some(Ending::NoBinding)),
        (VendorOnly, "dead") => Comes::Ends(Ending::DeadToken),
        (VendorOnly, _) => Comes::Ends(Ending::NoBinding),
        (OnlineElseKept | OnlineElseVendor, _) => Comes::Kept(None),
        (PresentOnly, _) => Comes::Ends(Ending::NotPresent),
    }
}

/// The way of a push to a device that is connected and answers.
fn here(strategy: Strategy, client: &str) -> Comes {
    match strategy {
        OnlineElseKept | OnlineElseVendor | PresentOnly => Comes::Online(None),
        VendorElseOnline | VendorOnly => match away(strategy, client) {
            Comes::Kept(failed) => Comes::Online(failed),
            other => other,
        },
    }
}

/// What came of a delivery, be it a message's or a task's.
#[derive(Debug)]
pub(super) struct Found {
    vendor: Option<Vendor>,
    stage: Stage,
    ended: Option<Ending>,
    failed: Option<Ending>,
    /// It waits for the device alone.
    kept: bool,
}

impl Found {
    pub(super) fn of(delivery: &Delivery) -> Found {
        let &Delivery { vendor, stage, ended, failed, .. } = delivery;
        Found { vendor, stage, ended, failed, kept: delivery.open() && vendor.is_none() }
    }

    /// Why no vendor was a way is not part of a state.
    pub(super) fn of_state(state: State, failed: Option<Ending>) -> Found {
        let vendor = match state.way() {
            Way::Vendor(vendor) if !state.retrying() => Some(vendor),
            Way::Vendor(_) | Way::Online | Way::Undecided => None,
        };
        let kept = state.kept() && !state.retrying();
        Found { vendor, stage: state.stage(), ended: state.ended(), failed, kept }
    }
}

pub(super) fn is(found: &Found, comes: Comes) -> bool {
    match comes {
        Comes::Vendor => found.vendor == Some(Vendor::Jpush) && found.stage == Stage::Sent,
        Comes::Online(failed) => {
            found.stage >= Stage::Received && found.vendor.is_none() && found.failed == failed
        }
        Comes::Kept(failed) => found.kept && found.failed == failed,
        Comes::Ends(reason) => found.ended == Some(reason),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_away_gets_a_message_as_its_strategy_and_its_binding_say() {
    let post = Post::new().await;
    registered(&post).await;
    for strategy in STRATEGIES {
        for client in CLIENTS {
            // A dead token is buried at its first use; here each push finds it again.
            if client == "dead" {
                ok(&post.world.terminal(client), "/ums/v2/register", &registration(client)).await;
            }
            let id = post.push(&[client], strategy, DAY).await;
            let comes = away(strategy, client);
            post.until(id, client, |delivery| is(&Found::of(delivery), comes)).await;
        }
    }
    assert_eq!(post.jpush.accepted(&token("live")), 3);
    assert_eq!(post.jpush.accepted(&token("dead")), 0);
    // What is kept comes when the device does, in order of availability; the rest does not.
    for client in CLIENTS {
        let kept: Vec<Strategy> = STRATEGIES
            .into_iter()
            .filter(|strategy| matches!(away(*strategy, client), Comes::Kept(_)))
            .collect();
        let mut device = post.world.connect(&post.world.terminal(client)).await;
        for _ in &kept {
            message(&mut device).await;
        }
        let marker = post.world.push(client, json!({ "marker": true })).await;
        assert_eq!(message(&mut device).await.0, marker, "{client} got more than {kept:?}");
    }
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_connected_gets_a_message_as_its_strategy_says() {
    let post = Post::new().await;
    registered(&post).await;
    let mut devices = Vec::new();
    for client in CLIENTS {
        devices.push(living(post.connected(client).await));
    }
    for strategy in STRATEGIES {
        for client in CLIENTS {
            if client == "dead" {
                ok(&post.world.terminal(client), "/ums/v2/register", &registration(client)).await;
            }
            let id = post.push(&[client], strategy, DAY).await;
            let comes = here(strategy, client);
            post.until(id, client, |delivery| is(&Found::of(delivery), comes)).await;
        }
    }
    // The vendor was asked only where it comes first.
    assert_eq!(post.jpush.accepted(&token("live")), 2);
    devices.iter().for_each(JoinHandle::abort);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_device_that_stays_silent_gets_the_message_from_its_vendor_too() {
    let post = Post::new().await;
    registered(&post).await;
    let options = sim::DeviceOptions {
        auto_ack: false,
        ..sim::DeviceOptions::new(&post.world.terminal("live"), PACKAGE)
    };
    let mut silent = sim::Device::connect(options).await.unwrap();
    post.present("live").await;
    let id = post.push(&["live"], OnlineElseVendor, DAY).await;
    let (own, _) = message(&mut silent).await;
    assert_eq!(own, id.to_string());
    assert_eq!(post.jpush.accepted(&token("live")), 0);
    let delivery = post.while_time_passes(id, "live", |delivery| delivery.vendor.is_some()).await;
    assert_eq!((delivery.stage, post.jpush.accepted(&token("live"))), (Stage::Sent, 1));
    // An acknowledgement that comes after all still counts.
    silent.ack(&own).await.unwrap();
    post.until(id, "live", |delivery| delivery.stage == Stage::Received).await;
    drop(silent);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_in_time_keeps_the_vendor_from_being_asked() {
    let post = Post::new().await;
    registered(&post).await;
    let device = living(post.connected("live").await);
    let first = post.push(&["live"], OnlineElseVendor, DAY).await;
    post.until(first, "live", |delivery| delivery.stage == Stage::Received).await;
    device.abort();
    post.world.clock.advance(std::time::Duration::from_secs(60));
    // The device is away now, so the next one goes to the vendor: after the first had its turn.
    let away = async || {
        let id = post.push(&["live"], VendorOnly, DAY).await;
        post.until(id, "live", |delivery| delivery.vendor.is_some()).await;
    };
    away().await;
    assert_eq!(post.delivery(first, "live").await.vendor, None);
    assert_eq!(post.jpush.accepted(&token("live")), 1);
    post.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_without_vendors_keeps_everything_as_before() {
    let world = World::new().await;
    world.register("c-1").await;
    let id = world.push("c-1", json!({ "n": 1 })).await;
    let info = world.status(&id).await;
    assert_eq!(info["devices"][0]["stage"], "accepted");
    let mut device = world.connect(&world.terminal("c-1")).await;
    assert_eq!(message(&mut device).await.0, id);
    drop(device);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn getmsgstat_tells_whether_the_vendor_took_a_message_and_why_it_did_not() {
    let post = Post::new().await;
    registered(&post).await;
    let world = &post.world;
    let taken = world.push("live", json!({})).await;
    let expected = json!({
        "mesgId": taken, "revTime": "2023-11-15 06:13:20", "pushTime": "2023-11-15 06:13:20",
        "status": 1,
        "devices": [{ "clientId": "live", "appPackage": PACKAGE, "status": 1, "stage": "sent" }],
    });
    assert_eq!(world.until_status(&taken, 1).await, expected);

    let refused = world.push("dead", json!({})).await;
    // The vendor is no way; the device may still come for it.
    let expected = json!({
        "mesgId": refused, "revTime": "2023-11-15 06:13:20", "status": 0,
        "devices": [{ "clientId": "dead", "appPackage": PACKAGE, "status": 0, "stage": "routed",
                      "reason": "dead_token" }],
    });
    let info = world.until(&refused, |info| info["devices"][0].get("reason").is_some()).await;
    assert_eq!(info, expected);

    let over = post.push(&["bare"], VendorOnly, DAY).await.to_string();
    let info = world.until(&over, |info| info["devices"][0].get("ended").is_some()).await;
    let share = &info["devices"][0];
    assert_eq!((&share["ended"], &share["reason"]), (&json!("no_binding"), &json!("no_binding")));
    assert_eq!((&info["status"], info.get("pushTime")), (&json!(0), None));
    post.world.stop().await;
}

/// An entry of JPush for one package.
fn jpush_of(fake: &sim::fakes::JpushFake, name: &str, package: &str) -> Value {
    let own = fake.credentials();
    let credentials = json!({ "vendor": "jpush", "baseUrl": fake.url(),
        "appKey": own.app_key, "masterSecret": own.master_secret });
    json!({ "name": name, "appPackages": [package], "credentials": credentials })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_package_of_a_device_chooses_the_account_at_jpush_that_it_is_pushed_through() {
    use sim::fakes::{Jpush, JpushFake, Options};
    let world = World::new().await;
    let one = JpushFake::start(Jpush::default(), Options::default()).await.unwrap();
    let other = JpushFake::start(Jpush::default(), Options::default()).await.unwrap();
    let vendors = json!({ "vendors": [
        jpush_of(&one, "one", "com.acme.one"), jpush_of(&other, "other", "com.acme.other") ] });
    let (status, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&vendors)).await.unwrap();
    assert_eq!(status, 200, "{body}");
    for (client, package) in [("c-1", "com.acme.one"), ("c-2", "com.acme.other")] {
        let mut body = registration(client);
        merge(&mut body, json!({ "appPackage": package }));
        ok(&world.terminal(client), "/ums/v2/register", &body).await;
        let id = world.push(client, json!({})).await;
        world.until_status(&id, 1).await;
    }
    let accepted = |client: &str| (one.accepted(&token(client)), other.accepted(&token(client)));
    assert_eq!((accepted("c-1"), accepted("c-2")), ((1, 0), (0, 1)));
    world.stop().await;
}
