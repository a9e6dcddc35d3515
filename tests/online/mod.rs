//! The device socket: what `docs/socket.md` promises, with devices that behave well and devices
//! that do not.

mod client;
mod closing;
mod expiry;
mod frames;
mod handshake;
mod heartbeat;
mod kept;
mod presence;
mod recall;
mod window;

use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Incoming};

use crate::harness::{PACKAGE, PATIENCE, World, message, ok, until};

/// A device that leaves every answer to the test.
async fn quiet(caller: &Caller) -> Device {
    let options = DeviceOptions { auto_ack: false, ..DeviceOptions::new(caller, PACKAGE) };
    Device::connect(options).await.unwrap()
}

/// The code with which the server closes a connection, whatever came before.
async fn close_code(device: &mut Device) -> u16 {
    loop {
        match device.next_within(PATIENCE).await {
            Some(Incoming::Closed { code, .. }) => return code,
            Some(_) => {}
            None => panic!("the connection stayed"),
        }
    }
}

/// The next frame, which has to be a control.
async fn control(device: &mut Device) -> (String, String) {
    match device.next_within(PATIENCE).await {
        Some(Incoming::Control { op, id }) => (op, id),
        other => panic!("no control but {other:?}"),
    }
}

/// Checks that nothing else is on its way to a device: what is pushed now comes next.
async fn nothing_else_comes(world: &World, client: &str, device: &mut Device) {
    let marker = world.push(client, json!({ "marker": true })).await;
    assert_eq!(message(device).await.0, marker);
}

/// Many pushes to one client, one after the other; gives their ids in order of acceptance.
async fn push_many(world: &World, client: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for n in 0..count {
        ids.push(world.push(client, json!({ "n": n })).await);
    }
    ids
}

/// A push by the cloud as a test words it; gives the message id.
async fn push_as(world: &World, body: Value) -> String {
    let data = ok(&world.cloud(), "/umse/v2/msgPush", &body).await;
    data["msgId"].as_str().unwrap().to_owned()
}

/// A device's share of a message.
async fn share(world: &World, id: &str, client: &str) -> Value {
    let info = world.status(id).await;
    let devices = info["devices"].as_array().unwrap();
    let found = devices.iter().find(|device| device["clientId"] == client);
    found.unwrap_or_else(|| panic!("{client} has no share of {info}")).clone()
}

/// Waits until a device's share of a message ended, and checks why.
async fn ends(world: &World, id: &str, client: &str, reason: &str) {
    until("the delivery never ended", async || !share(world, id, client).await["ended"].is_null())
        .await;
    assert_eq!(share(world, id, client).await["ended"], reason);
}

/// Waits until the server knows that a device has a message.
async fn received(world: &World, id: &str, client: &str) {
    until("the acknowledgement was never recorded", async || {
        share(world, id, client).await["stage"] == "received"
    })
    .await;
}
