//! What analysts ask: lists, statistics, subscriptions and exports, and that nobody is told of an app
//! that is not theirs.

mod as_of;
mod explorer;
mod fold;
mod kinds;
mod limits;
mod lists;
pub mod live;
mod others;
mod statistics;

use domain::{
    Decide, Event, Stream,
    account::RegisterUser,
    callback::{Attempt, CallbacksCalled, Group, Kind, Outcome, Reason, RecordCallbacks, State},
    device::{Bind, BindDevice},
    label::{ChangeMembers, CreateLabel},
    message::{MessageId, Protocol, RawJson},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy,
    uplink::{AcceptUplink, Source, UplinkPrivate, UplinkReceived},
};
use pushledger::ledger::{Context, Done, Lane};
use serde_json::{Value, json};
use sim::Admin;
use uuid::Uuid;

use crate::{
    harness::{PATIENCE, World, until},
    tasks,
};

/// Executes a command of an app, as no interface leads to all of them.
async fn execute(world: &World, app: &str, command: impl Decide + Send + Sync + 'static) -> Done {
    let context = Context { app: app.to_owned(), ..Context::default() };
    world.running.server.ledger.execute(Lane::Interactive, context, command).await.unwrap()
}

/// Another app, with nothing in it.
async fn another(world: &World, app: &str) {
    let body = json!({ "appId": app, "name": format!("Name of {app}") });
    let (status, body, _) = world.admin.post("/admin/v1/apps", Some(&body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
}

/// Registers an Easemob user of an app with a phone that is bound to FCM, and puts it in a label.
async fn user(world: &World, app: &str, name: &str, label: &str) {
    let (app, username) = (app.to_owned(), name.to_owned());
    let nickname = Some(format!("nick-{name}"));
    let command = RegisterUser {
        app: app.clone(),
        username: username.clone(),
        nickname,
        new_account: Uuid::now_v7(),
    };
    execute(world, &app, command).await;
    let (device_id, change) =
        (format!("phone-{name}"), Bind::Token("fcm".to_owned(), format!("token-{name}")));
    let bind = BindDevice {
        app: app.clone(),
        username: username.clone(),
        device_id,
        change,
        new_device: Uuid::now_v7(),
    };
    execute(world, &app, bind).await;
    let (usernames, join, most) = (vec![username], true, 1_000);
    let join = ChangeMembers { app: app.clone(), name: label.to_owned(), usernames, join, most };
    execute(world, &app, join).await;
}

async fn label(world: &World, app: &str, name: &str) {
    let (name, description) = (name.to_owned(), format!("about {name}"));
    let command = CreateLabel {
        app: app.to_owned(),
        name,
        description,
        most: 100,
        new_label: Uuid::now_v7(),
    };
    execute(world, app, command).await;
}

/// Pushes to some Easemob users of an app.
async fn push(world: &World, app: &str, users: &[&str]) -> MessageId {
    let id = world.running.server.ids.next(&world.clock).await.unwrap();
    let command = PushMessage {
        app: app.to_owned(),
        id,
        protocol: Protocol::Easemob,
        sender: PushSender::Cloud,
        mode: Mode::Try,
        strategy: Strategy::OnlineElseKept,
        expires_at: world.clock.now() + 60_000_000,
        burn: false,
        resend: None,
        callback: false,
        private: tasks::task(domain::task::TaskAudience::Everyone, Strategy::PresentOnly).private,
        destinations: Destinations::Users(users.iter().map(|user| (*user).to_owned()).collect()),
        new_account: Uuid::now_v7(),
    };
    execute(world, app, command).await;
    id
}

/// Records that a callback about an event of an app was called twice and given up; gives its receiver.
async fn given_up(world: &World, app: &str, position: i64) -> Uuid {
    let (status, reason, receiver) = (Some(500), Some(Reason::Status), Uuid::now_v7());
    let state = State { outcome: Outcome::GivenUp, calls: 2, reason, status, due_at: None };
    let attempt = |n: i64| Attempt { at: world.clock.now() + n, took: 7, status, reason };
    let group = Group::of(state, false, vec![position]).after((0..2).map(attempt).collect());
    let groups = vec![group];
    let called = CallbacksCalled { kind: Kind::UcloudUplink, receiver, groups };
    execute(world, app, RecordCallbacks { called, new_record: Uuid::now_v7() }).await;
    receiver
}

/// An uplink of a phone to an app.
async fn uplink(world: &World, app: &str, from: &str, content: &str) {
    let private = UplinkPrivate {
        id: None,
        from: from.to_owned(),
        content: RawJson(serde_json::value::to_raw_value(content).unwrap()),
        extend_code: None,
        user_id: None,
    };
    let uplink = UplinkReceived { source: Source::Sms, written_at: 1, private: Some(private) };
    execute(world, app, AcceptUplink { uplink, new_uplink: Uuid::now_v7() }).await;
}

/// Waits until a task has ended.
pub async fn ended(world: &World, task: MessageId) {
    let (ledger, stream) = (&world.running.server.ledger, Stream::Task(task).to_string());
    until("the task never ended", async || {
        let events = ledger.read_stream(&stream, 0, 10).await.unwrap().events;
        events.iter().any(|event| matches!(event.event, Event::TaskEnded(_)))
    })
    .await;
}

/// An operator of a role, bound to an app or to none.
pub async fn operator(world: &World, role: &str, app: Option<&str>) -> Admin {
    let body = json!({ "name": "an operator", "role": role, "appId": app });
    let (status, body, _) = world.admin.post("/admin/v1/operators", Some(&body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    Admin::new(&world.url, body["token"].as_str().unwrap())
}

/// The whole answer to a query, once the views include everything.
pub async fn answer(world: &World, operator: &Admin, query: &str) -> Value {
    let head = world.head().await;
    world.running.server.views.reached(head, PATIENCE).await.unwrap();
    let body = json!({ "query": query });
    let (status, answer, _) = operator.post("/graphql", Some(&body)).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    answer
}
