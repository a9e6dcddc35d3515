//! The real program as a process that dies: what it answered is there, and devices get each
//! message once. A task that it was in the middle of goes on: [`task`].

mod task;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use pushledger::clock::Clock;
use serde_json::json;
use sim::{Caller, Device, DeviceOptions, Incoming};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    PACKAGE, Place, Process, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY, World, ok, until,
};

/// Devices, each with a caller that pushes to it all the time.
const CLIENTS: usize = 6;
/// Pause of a caller or a device before it tries again to reach a server that is gone.
const AGAIN: Duration = Duration::from_millis(10);
/// After this a caller takes its answer for lost with the server.
const LOST: Duration = Duration::from_secs(3);

/// An address that stays while the server behind it comes and goes.
struct Door {
    url: String,
    to: watch::Sender<Option<SocketAddr>>,
    forwarding: JoinHandle<()>,
}

impl Door {
    async fn new() -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to, target) = watch::channel(None);
        let forwarding = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut outside, _) = listener.accept().await.unwrap();
                let target: Option<SocketAddr> = *target.borrow();
                connections.spawn(async move {
                    let Some(target) = target else { return };
                    let Ok(mut inside) = TcpStream::connect(target).await else { return };
                    // Either end may break off at any time.
                    let _ = copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Door { url, to, forwarding }
    }

    fn caller(&self, client: &str) -> Caller {
        Caller::new(&self.url, UMS_APP, UMS_KEY).with_client_id(client)
    }

    fn cloud(&self) -> Caller {
        Caller::new(&self.url, UMS_SYSTEM, UMS_SYSTEM_KEY)
    }
}

/// What callers were answered and what devices showed, each with its client.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<(usize, String)>>>);

impl Noted {
    fn add(&self, client: usize, id: String) {
        self.0.lock().unwrap().push((client, id));
    }

    fn all(&self) -> Vec<(usize, String)> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Callers and devices that do not rest.
struct Load {
    answered: Noted,
    shown: Noted,
    enough: CancellationToken,
    callers: JoinSet<()>,
    devices: JoinSet<()>,
}

impl Load {
    fn start(door: &Door) -> Load {
        let (answered, shown, enough) =
            (Noted::default(), Noted::default(), CancellationToken::new());
        let (mut callers, mut devices) = (JoinSet::new(), JoinSet::new());
        for client in 0..CLIENTS {
            callers.spawn(push(door.cloud(), client, answered.clone(), enough.clone()));
            let caller = door.caller(&format!("c-{client}"));
            devices.spawn(listen(DeviceOptions::new(&caller, PACKAGE), client, shown.clone()));
        }
        Load { answered, shown, enough, callers, devices }
    }

    /// Waits until so many more pushes were answered.
    async fn answers(&self, more: usize) {
        let goal = self.answered.count() + more;
        until("the pushes were not answered", async || self.answered.count() >= goal).await;
    }
}

/// Pushes one message after the other; what fails is not tried again.
async fn push(cloud: Caller, client: usize, answered: Noted, enough: CancellationToken) {
    let body = json!({ "dst": { "type": 0, "Id": [format!("c-{client}")] }, "message": {} });
    let body = body.to_string();
    while !enough.is_cancelled() {
        match timeout(LOST, cloud.call("/umse/v2/msgPush", &body)).await {
            Ok(Ok(reply)) if reply.ret_code == "00000" => {
                answered.add(client, reply.data["msgId"].as_str().unwrap().to_owned());
            }
            Ok(Ok(reply)) => assert!(reply.ret_code.starts_with('A'), "{reply:?}"),
            Ok(Err(_)) | Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Shows what comes, and connects again whenever the connection is gone.
async fn listen(options: DeviceOptions, client: usize, shown: Noted) {
    let mut device = loop {
        match Device::connect(options.clone()).await {
            Ok(device) => break device,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    loop {
        match device.next().await {
            Some(Incoming::Message { id, .. }) => shown.add(client, id),
            Some(Incoming::Closed { .. }) | None => {
                while device.reconnect().await.is_err() {
                    tokio::time::sleep(AGAIN).await;
                }
            }
            other => panic!("no message but {other:?}"),
        }
    }
}

/// A place with an app and its devices, and no server.
async fn prepared() -> Place {
    let world = World::new().await;
    for client in 0..CLIENTS {
        world.register(&format!("c-{client}")).await;
    }
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kill_9_and_each_device_shows_each_message_once() {
    let place = prepared().await;
    let door = Door::new().await;
    let mut load = Load::start(&door);
    for _ in 0..5 {
        let mut server = Process::start(&place).await;
        door.to.send_replace(Some(server.address));
        load.answers(50).await;
        server.kill();
        door.to.send_replace(None);
    }
    load.enough.cancel();
    while let Some(ended) = load.callers.join_next().await {
        ended.unwrap();
    }
    let server = Process::start(&place).await;
    door.to.send_replace(Some(server.address));
    let answered: BTreeSet<(usize, String)> = load.answered.all().into_iter().collect();
    assert!(answered.len() >= 250);
    until("an answered push was never shown", async || {
        let shown: BTreeSet<(usize, String)> = load.shown.all().into_iter().collect();
        answered.is_subset(&shown)
    })
    .await;
    let cloud = door.cloud();
    for (_, id) in load.shown.all() {
        // A push whose answer was lost may be there too; what is shown is there in any case.
        until("a delivery was not recorded", async || {
            let info = ok(&cloud, "/umse/v2/getmsgstat", &json!({ "msgId": id })).await;
            info["status"] == 2
        })
        .await;
    }
    let shown = load.shown.all();
    let once: BTreeSet<&(usize, String)> = shown.iter().collect();
    assert_eq!(once.len(), shown.len(), "a message was shown twice");
    load.devices.shutdown().await;
    assert!(server.terminate().await);
    door.forwarding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_loses_no_answered_push_and_no_acknowledgement() {
    let place = prepared().await;
    let door = Door::new().await;
    let mut load = Load::start(&door);
    let server = Process::start(&place).await;
    door.to.send_replace(Some(server.address));
    load.answers(150).await;
    assert!(server.terminate().await, "the server did not end well");
    door.to.send_replace(None);
    load.enough.cancel();
    while let Some(ended) = load.callers.join_next().await {
        ended.unwrap();
    }
    load.devices.shutdown().await;
    door.forwarding.abort();
    let world = World::start(place, Clock::System).await;
    assert!(load.shown.count() > 0);
    for (_, id) in load.answered.all() {
        let status = world.status(&id).await["status"].as_i64().unwrap();
        assert!((0..=2).contains(&status));
    }
    // A device acknowledges before it shows.
    for (_, id) in load.shown.all() {
        assert_eq!(world.status(&id).await["status"], 2, "{id}");
    }
    world.stop().await;
}
