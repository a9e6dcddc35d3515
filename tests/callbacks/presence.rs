//! How an app's server hears that a device went of which nobody was left to say so, and of one whose
//! new connection took over.

use std::time::Duration;

use pushledger::app::Running;
use serde_json::{Value, json};
use sim::{Device, DeviceOptions, receiver::Receiver};
use tokio::runtime::Runtime;

use super::{called, called_in_time, configure, receiver, until_count};
use crate::{
    antelope::{self, ANN, token},
    harness::{World, until},
    tencent::{APP, Tencent, usersig},
};

/// A world whose app is told of its Tencent users' devices.
async fn world() -> (Tencent, Receiver) {
    let world = World::with_clock().await;
    let server = receiver(&world).await;
    let section = json!({ "callbackUrl": server.url("/im"), "callbacks": ["State.StateChange"] });
    (Tencent::of(world, section).await, server)
}

/// What is told of Bob's devices.
fn told(action: &str, reason: &str) -> Value {
    json!({ "Action": action, "To_Account": "bob", "Reason": reason })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_heard_any_more_is_said_to_be_timed_out() {
    let (tencent, server) = world().await;
    // It answers no ping, as nobody reads what it gets.
    let phone = tencent.connect("bob", "phone").await;
    called(&server, 1).await;
    until("it was not given up", async || {
        tencent.world.clock.advance(Duration::from_secs(1));
        server.count() == 2
    })
    .await;
    let call = server.calls()[1].json();
    assert_eq!(call["Info"], told("Disconnect", "TimeOut"));
    assert!(call.get("KickedDevice").is_none(), "{call}");
    drop(phone);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_takes_over_names_what_it_kicked_and_only_that() {
    let (tencent, server) = world().await;
    let first = tencent.connect("bob", "phone").await;
    let calls = called(&server, 1).await;
    assert!(calls[0].json().get("KickedDevice").is_none(), "{}", calls[0].json());
    let second = tencent.connect("bob", "phone").await;
    let call = called(&server, 2).await[1].json();
    assert_eq!(call["Info"], told("Login", "Register"));
    assert_eq!(call["KickedDevice"], json!([{ "Platform": "Unknown" }]));
    // Another device of the account is not in its way, and what was kicked is not said to be gone.
    let other = tencent.connect("bob", "tablet").await;
    let call = called(&server, 3).await[2].json();
    assert_eq!((&call["Info"], call.get("KickedDevice")), (&told("Login", "Register"), None));
    until_count(&tencent.world, "answered", 3).await;
    assert_eq!(server.count(), 3);
    drop((first, second, other));
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_a_server_that_was_killed_are_said_to_be_gone_but_for_those_that_came_back() {
    let (tencent, server) = world().await;
    let world = &tencent.world;
    let states = receiver(world).await;
    let mut section = antelope::section();
    section["stateWebhook"] = json!(states.url("/state"));
    configure(world, json!({ "antelope": section })).await;
    // A server that can be killed: nothing of it runs any more once its runtime is gone.
    let runtime = Runtime::new().unwrap();
    let (config, clock) = (world.place.config(), world.clock.clone());
    let doomed = runtime.spawn(async move { Running::start(&config, clock).await });
    let doomed = doomed.await.unwrap().unwrap();
    let url = format!("http://{}", doomed.address);
    let of_bob = |url: &str, device: &str| {
        let options = DeviceOptions::of_tencent(url, APP, "bob", usersig("bob"), device);
        Device::connect(options)
    };
    let phone = of_bob(&url, "phone").await.unwrap();
    let tablet = of_bob(&url, "tablet").await.unwrap();
    let own = Device::connect(DeviceOptions::of_antelope(&url, token(ANN))).await.unwrap();
    called(&server, 2).await;
    assert_eq!(called(&states, 1).await[0].json()["data"], json!({ "device": ANN, "state": 1 }));
    runtime.shutdown_background();
    drop((phone, tablet, own, doomed));
    let back = tencent.connect("bob", "tablet").await;
    called(&server, 3).await;

    // Once the dead server's time is over, and all others had time to say whom they have.
    world.clock.advance(Duration::from_secs(31));
    let calls = called_in_time(world, &server, 4).await;
    assert_eq!(calls[3].json()["Info"], told("Disconnect", "TimeOut"));
    let calls = called_in_time(world, &states, 2).await;
    assert_eq!(calls[1].json()["data"], json!({ "device": ANN, "state": 0 }));
    until_count(world, "answered", 6).await;
    assert_eq!((server.count(), states.count()), (4, 2), "the tablet came back");
    drop(back);
    tencent.world.stop().await;
}
