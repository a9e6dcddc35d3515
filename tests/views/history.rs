//! A long history of everything that callers, devices and operators do, in an order that only its
//! seed knows.

use std::time::Duration;

use domain::{
    Decide,
    facts::{Fact, Key},
    message::MessageId,
    route::Strategy,
    task::{TaskAudience, TaskLimits},
};
use pushledger::{
    delivery::tasks::NewTask,
    ledger::{Context, Lane, Refused},
};
use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Incoming};

use super::commands;
use crate::{
    harness::{PACKAGE, World, merge, registration},
    tasks,
};

const CLIENTS: usize = 8;
const USERS: usize = 3;
const MACHINES: usize = 3;

/// A sequence that looks random and is the same for the same seed (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { Some(items[self.below(items.len())].clone()) }
    }
}

/// Lives through so many steps.
pub(crate) async fn live(world: &World, seed: u64, steps: usize) {
    let (messages, tasks, devices) = (Vec::new(), Vec::new(), Vec::new());
    let mut life =
        Life { world, random: Random(seed), messages, chats: Vec::new(), tasks, devices };
    for client in 0..CLIENTS {
        life.register(client, None).await;
    }
    for begin in commands::BEGINNING {
        assert!(life.execute(|_| begin()).await);
    }
    // Callbacks and conversations have chances of their own, so that they change nobody else's.
    let (mut others, mut here) = (Random(seed ^ u64::MAX), Random(seed.rotate_left(32) ^ 1));
    for step in 0..steps {
        life.step().await;
        if step % 4 == 0 {
            life.execute(|_| commands::of_callbacks(&mut others)).await;
            life.execute(|_| commands::of_links(&mut others)).await;
            life.converse(&mut others).await;
            life.execute(|_| commands::of_presence(&mut here)).await;
        }
    }
}

struct Life<'a> {
    world: &'a World,
    random: Random,
    messages: Vec<String>,
    chats: Vec<MessageId>,
    tasks: Vec<MessageId>,
    devices: Vec<Device>,
}

impl Life<'_> {
    async fn step(&mut self) {
        let client = self.random.below(CLIENTS);
        let user = self.random.pick(&[None, Some(0), Some(1), Some(2)]).unwrap();
        match self.random.below(32) {
            0 | 1 => self.register(client, user).await,
            2 => {
                let caller = self.caller(client, user).await;
                self.call(&caller, "/ums/v2/unreg", json!({ "appPackage": PACKAGE })).await;
            }
            3..=6 => self.push_to_clients().await,
            7 | 8 => self.push_to_users().await,
            9..=11 => self.report(client, user).await,
            12 | 13 => self.take_back().await,
            14..=16 => self.connect(client, user).await,
            17 => self.own().await,
            // Tasks are kept for devices, handed to them, expire, and are cancelled.
            18 if client < CLIENTS / 2 => self.task().await,
            18 => {
                let change = json!({ "name": format!("Name {client}") });
                self.world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
            }
            19..=22 => drop(self.execute(commands::of_users_and_labels).await),
            23 | 24 => drop(self.execute(commands::of_bindings).await),
            25 => self.bury().await,
            26 | 27 => self.push_to_easemob_users().await,
            28..=30 => self.hear_from_vendors().await,
            _ => {
                let seconds = 1 + self.random.below(20) as u64;
                self.world.clock.advance(Duration::from_secs(seconds));
            }
        }
    }

    async fn caller(&self, client: usize, user: Option<usize>) -> Caller {
        let client = format!("c-{client}");
        match user {
            Some(user) => self.world.user(&format!("user-{user}"), &client).await,
            None => self.world.terminal(&client),
        }
    }

    /// Calls; a refusal is part of life, a failure is not.
    async fn call(&self, caller: &Caller, path: &str, body: Value) -> Option<Value> {
        let reply = caller.call(path, &body.to_string()).await.unwrap();
        assert!(!reply.ret_code.starts_with('A'), "{path} {body}: {}", reply.ret_code);
        (reply.ret_code == "00000").then_some(reply.data)
    }

    async fn register(&mut self, client: usize, user: Option<usize>) {
        let caller = self.caller(client, user).await;
        let mut body = registration(&format!("c-{client}"));
        let machine = self.random.below(MACHINES);
        merge(&mut body, json!({ "deviceId": format!("m-{machine}") }));
        if let Some(user) = user {
            merge(&mut body, json!({ "userId": format!("user-{user}") }));
        }
        self.call(&caller, "/ums/v2/register", body).await;
    }

    async fn push(&mut self, path: &str, dst: Value) {
        let (seconds, burn) = (1 + self.random.below(60), self.random.below(4) == 0);
        let body = json!({ "dst": dst, "message": { "text": "门铃" }, "expires": seconds,
                           "isBurn": burn });
        if let Some(data) = self.call(&self.world.cloud(), path, body).await {
            self.messages.push(data["msgId"].as_str().unwrap().to_owned());
        }
    }

    async fn push_to_clients(&mut self) {
        let clients: Vec<String> = (0..1 + self.random.below(CLIENTS))
            .map(|_| format!("c-{}", self.random.below(CLIENTS + 1)))
            .collect();
        let path = self.random.pick(&["/umse/v2/msgPush", "/umse/v2/msgPushtry"]).unwrap();
        self.push(path, json!({ "type": 0, "Id": clients })).await;
    }

    async fn push_to_users(&mut self) {
        let users: Vec<String> = (0..1 + self.random.below(USERS))
            .map(|_| format!("user-{}", self.random.below(USERS)))
            .collect();
        let dst = json!({ "type": 2, "Id": users, "devType": ["01"] });
        self.push("/umse/v2/msgPushtry", dst).await;
    }

    async fn report(&mut self, client: usize, user: Option<usize>) {
        let Some(id) = self.random.pick(&self.messages) else { return };
        let caller = self.caller(client, user).await;
        let status = 2 + self.random.below(3);
        let body = json!({ "appPackage": PACKAGE, "msgId": id, "status": status });
        self.call(&caller, "/ums/v2/report", body).await;
    }

    async fn take_back(&mut self) {
        let Some(id) = self.random.pick(&self.messages) else { return };
        let op = self.random.pick(&["recall", "replace"]).unwrap();
        let path = format!("/admin/v1/apps/demo/messages/{id}/{op}");
        let (status, body, _) = self.world.admin.post(&path, None).await.unwrap();
        assert!(matches!(status, 200 | 409), "{status} {body}");
    }

    /// A device comes, if it may, and those that are here say something about what they got.
    async fn connect(&mut self, client: usize, user: Option<usize>) {
        let caller = self.caller(client, user).await;
        let auto_ack = self.random.below(2) == 0;
        let options = DeviceOptions { auto_ack, ..DeviceOptions::new(&caller, PACKAGE) };
        if let Ok(device) = Device::connect(options).await {
            self.devices.push(device);
        }
        if self.devices.len() > CLIENTS / 2 {
            self.devices.remove(0);
        }
        for device in &mut self.devices {
            while let Some(incoming) = device.next_within(Duration::from_millis(5)).await {
                let answer = match (incoming, self.random.below(4)) {
                    (Incoming::Message { id, .. }, 0) => device.ack(&id).await,
                    (Incoming::Message { id, .. }, 1) => device.report(&id, 3).await,
                    (Incoming::Control { op, id }, 0 | 1) => device.ack_control(&id, &op).await,
                    (Incoming::Control { id, .. }, 2) => device.report(&id, 4).await,
                    _ => Ok(()),
                };
                // Its connection may have been closed; that is life too.
                drop(answer);
            }
        }
    }

    async fn task(&mut self) {
        if let Some(id) = self.random.pick(&self.tasks)
            && self.random.below(2) == 0
        {
            // Most have ended by now.
            drop(tasks::cancel(self.world, id).await);
            return;
        }
        let strategy = self.random.pick(&Strategy::ALL).unwrap();
        let keep_seconds = 1 + u32::try_from(self.random.below(60)).unwrap();
        let limits = TaskLimits { running: 1_000, created: 1_000 };
        let new = tasks::task(TaskAudience::Everyone, strategy);
        let id = tasks::create(self.world, NewTask { keep_seconds, limits, ..new }).await;
        self.tasks.push(id);
    }

    /// Executes a command that no caller can give yet; a refusal is part of life here too.
    /// Gives whether it was accepted.
    async fn execute<C>(&mut self, make: impl FnOnce(&mut Random) -> C) -> bool
    where
        C: Decide + Send + Sync + 'static,
    {
        let context = Context { app: "demo".to_owned(), ..Context::default() };
        let command = make(&mut self.random);
        let ledger = &self.world.running.server.ledger;
        match ledger.execute(Lane::Bulk, context, command).await {
            Ok(_) => true,
            Err(Refused::Rejected(_)) => false,
            Err(refused) => panic!("{refused}"),
        }
    }

    async fn fact(&self, key: Key) -> Fact {
        self.world.running.server.ledger.fact(key).await.unwrap()
    }

    /// A vendor says that some token of some device is dead, or one that nobody has.
    async fn bury(&mut self) {
        let name = self.random.pick(&commands::USERNAMES).unwrap();
        let key = match self.random.below(3) {
            0 => {
                let client = format!("c-{}", self.random.below(CLIENTS));
                Key::Client { app: "demo".to_owned(), client }
            }
            _ => match self.fact(Key::user("demo", name)).await {
                Fact::User(Some(user)) => Key::AccountDevices(user.account),
                _ => return,
            },
        };
        let Fact::Devices(devices) = self.fact(key).await else { panic!("no devices") };
        let Some(device) = self.random.pick(&devices) else { return };
        self.execute(|random| commands::bury(random, &device)).await;
    }

    async fn push_to_easemob_users(&mut self) {
        let (ids, clock) = (&self.world.running.server.ids, &self.world.clock);
        let id = ids.next(clock).await.unwrap();
        let now = clock.now();
        if self.execute(|random| commands::push(random, id, now)).await {
            self.messages.push(id.to_string());
        }
    }

    /// A Tencent account sends to another, and some message of a conversation is shown or withdrawn.
    async fn converse(&mut self, others: &mut Random) {
        let server = &self.world.running.server;
        let (ids, clock) = (&server.ids, &server.clock);
        let new = [ids.next(clock).await.unwrap(), ids.next(clock).await.unwrap()];
        let now = clock.now();
        if self.execute(|_| commands::chat(others, new, now)).await {
            self.chats.push(new[0]);
        }
        let Some(id) = others.pick(&self.chats) else { return };
        // One that a word stopped is none.
        let Fact::Message(Some(message)) = self.fact(Key::Message(id)).await else { return };
        let devices: Vec<i64> = message.deliveries.keys().copied().collect();
        self.execute(|_| commands::after_chat(others, id, &devices)).await;
    }

    /// Vendors take deliveries of some message, or do not.
    async fn hear_from_vendors(&mut self) {
        let Some(id) = self.random.pick(&self.messages) else { return };
        let id: MessageId = id.parse().unwrap();
        let Fact::Message(Some(message)) = self.fact(Key::Message(id)).await else {
            panic!("message {id} is not there");
        };
        let devices: Vec<i64> = message.deliveries.keys().copied().collect();
        self.execute(|random| commands::outcomes(random, id, &devices)).await;
    }

    async fn own(&mut self) {
        let machine = self.random.below(MACHINES);
        let path = format!("/admin/v1/apps/demo/owners/m-{machine}");
        if self.random.below(4) == 0 {
            self.world.admin.delete(&path, None).await.unwrap();
            return;
        }
        let user = format!("user-{}", self.random.below(USERS));
        let owner = json!({ "userId": user, "bindKey": "k" });
        assert_eq!(self.world.admin.put(&path, Some(&owner)).await.unwrap().0, 204);
        let body = json!({ "deviceId": format!("m-{machine}"), "encryptedData": "k",
                           "message": {} });
        let host = self.world.terminal("host");
        if let Some(data) = self.call(&host, "/ums/v2/msgPushToHost", body).await {
            self.messages.push(data["msgId"].as_str().unwrap().to_owned());
        }
    }
}
