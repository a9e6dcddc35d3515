//! Histories that nobody thought of. A history is a list of wishes; each becomes a command when
//! its turn comes, so that it can name messages and devices that are there by then.

use std::rc::Rc;

use domain::{
    Append, Decide, Rejection,
    app::{AppConfig, ChangeApp, CreateApp, DeleteApp, UmsConfig},
    device::{Channel, Identity, Profile, RegisterDevice, UnregisterDevice},
    facts::{Facts, Key, Stop},
    message::{
        AdvanceDeliveries, ExpireDeliveries, MessageId, Progress, Protocol, RecallMessage,
        RecallOp, ReportDelivery, Reporter, Step,
    },
    owner::{RemoveOwner, SetOwner},
    push::{Destinations, Mode, PushMessage, PushSender},
    route::Strategy as Way,
    task::{
        AdvanceChunk, CancelTask, CreateTask, EndChunk, FinishTask, RecordChunk, StartTask,
        TaskAudience, TaskLimits, Totals,
        chunk::{Delivered, Kind},
    },
};
use proptest::{
    collection::vec,
    option::{of, weighted},
    prelude::*,
    sample::{Index, select},
};
use uuid::Uuid;

use crate::{
    any_event::progress,
    cast::{APP, words},
    ledger::{Decision, Ledger, at},
};

/// Any command.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    CreateApp(CreateApp),
    ChangeApp(ChangeApp),
    DeleteApp(DeleteApp),
    SetOwner(SetOwner),
    RemoveOwner(RemoveOwner),
    Register(RegisterDevice),
    Unregister(UnregisterDevice),
    Push(PushMessage),
    Advance(AdvanceDeliveries),
    Expire(ExpireDeliveries),
    Report(ReportDelivery),
    Recall(RecallMessage),
    CreateTask(CreateTask),
    StartTask(StartTask),
    CancelTask(CancelTask),
    FinishTask(FinishTask),
    RecordChunk(RecordChunk),
    AdvanceChunk(AdvanceChunk),
    EndChunk(EndChunk),
}

impl Decide for Command {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        match self {
            Command::CreateApp(command) => command.decide(facts),
            Command::ChangeApp(command) => command.decide(facts),
            Command::DeleteApp(command) => command.decide(facts),
            Command::SetOwner(command) => command.decide(facts),
            Command::RemoveOwner(command) => command.decide(facts),
            Command::Register(command) => command.decide(facts),
            Command::Unregister(command) => command.decide(facts),
            Command::Push(command) => command.decide(facts),
            Command::Advance(command) => command.decide(facts),
            Command::Expire(command) => command.decide(facts),
            Command::Report(command) => command.decide(facts),
            Command::Recall(command) => command.decide(facts),
            Command::CreateTask(command) => command.decide(facts),
            Command::StartTask(command) => command.decide(facts),
            Command::CancelTask(command) => command.decide(facts),
            Command::FinishTask(command) => command.decide(facts),
            Command::RecordChunk(command) => command.decide(facts),
            Command::AdvanceChunk(command) => command.decide(facts),
            Command::EndChunk(command) => command.decide(facts),
        }
    }
}

/// A command in which messages and devices are still to be picked.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// Nothing is to be picked, save new ids.
    Plain(Command),
    /// Steps of some message.
    Advance(Index, Vec<(Index, Progress, bool)>),
    /// Expiry of some of a message's deliveries.
    Expire(Index, Vec<Index>),
    /// A report on some message.
    Report(Index, ReportDelivery),
    /// A recall of some message.
    Recall(Index, RecallOp),
    /// Something about some task.
    Task(Index, TaskWish),
}

/// What is to be done to a task.
#[derive(Debug, Clone)]
pub(crate) enum TaskWish {
    Start,
    Cancel,
    Finish,
    /// An attempt at some chunk's devices.
    Record(i64, u32, Vec<(i64, Kind)>),
    Advance(i64, Vec<(i64, Progress)>),
    /// The end of a chunk, at some time.
    End(i64, bool),
}

/// One turn of a history: a command, the ledger before and after, and what it came to.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) command: Command,
    pub(crate) before: Rc<Ledger>,
    pub(crate) decision: Decision,
    pub(crate) after: Rc<Ledger>,
}

impl Turn {
    /// The events that came of it; none for a refusal.
    pub(crate) fn appends(&self) -> &[Append] {
        self.decision.outcome.as_deref().unwrap_or_default()
    }
}

/// The id of the message that a turn pushes.
fn message_of_turn(turn: usize) -> MessageId {
    MessageId(at(0) * 1000 + i64::try_from(turn).unwrap())
}

/// Plays a history.
pub(crate) fn turns(wishes: Vec<Wish>) -> Vec<Turn> {
    let mut before = Rc::new(Ledger::default());
    let mut turns = Vec::new();
    for (turn, wish) in wishes.into_iter().enumerate() {
        let Some(command) = wish.command(&before, turn) else { continue };
        let decision = before.decide(&command);
        let mut after = Ledger::clone(&before);
        for append in decision.outcome.iter().flatten() {
            after.append(APP, append.clone());
        }
        let after = Rc::new(after);
        turns.push(Turn { command, before, decision, after: Rc::clone(&after) });
        before = after;
    }
    turns
}

/// The same command as it comes in another turn: with ids of its own.
pub(crate) fn renewed(mut command: Command, turn: usize) -> Command {
    let fresh = |kind: u128| Uuid::from_u128(kind << 64 | u128::try_from(turn).unwrap());
    match &mut command {
        Command::SetOwner(c) => (c.new_owner, c.new_account) = (fresh(1), fresh(2)),
        Command::Register(c) => (c.new_device, c.new_account) = (fresh(3), fresh(2)),
        Command::Push(c) => (c.id, c.new_account) = (message_of_turn(turn), fresh(2)),
        Command::CreateTask(c) => {
            (c.id, c.now) =
                (message_of_turn(turn), at(1) + i64::try_from(turn).unwrap() * 1_000_000)
        }
        Command::Report(c) => c.request = format!("request {turn}"),
        Command::CreateApp(_)
        | Command::ChangeApp(_)
        | Command::DeleteApp(_)
        | Command::RemoveOwner(_)
        | Command::Unregister(_)
        | Command::Advance(_)
        | Command::Expire(_)
        | Command::Recall(_)
        | Command::StartTask(_)
        | Command::CancelTask(_)
        | Command::FinishTask(_)
        | Command::RecordChunk(_)
        | Command::AdvanceChunk(_)
        | Command::EndChunk(_) => {}
    }
    command
}

impl Wish {
    /// The command; `None` when it is about a message and there is none yet.
    fn command(self, ledger: &Ledger, turn: usize) -> Option<Command> {
        let messages = ledger.messages();
        let pick = |index: Index| (!messages.is_empty()).then(|| *index.get(&messages));
        let device = |message: MessageId, index: Index| {
            let mut devices: Vec<i64> =
                ledger.message(message).deliveries.keys().copied().collect();
            devices.push(i64::MAX);
            *index.get(&devices)
        };
        let command = match self {
            Wish::Plain(command) => command,
            Wish::Advance(message, steps) => {
                let message = pick(message)?;
                let step = |(index, what, socket)| {
                    let by = if socket { Reporter::Socket } else { Reporter::Server };
                    Step { by, ..Step::of_server(device(message, index), what) }
                };
                let steps = steps.into_iter().map(step).collect();
                Command::Advance(AdvanceDeliveries { message, steps })
            }
            Wish::Expire(message, devices) => {
                let message = pick(message)?;
                let devices = devices.into_iter().map(|index| device(message, index)).collect();
                Command::Expire(ExpireDeliveries { message, devices })
            }
            Wish::Report(message, report) => {
                Command::Report(ReportDelivery { message: pick(message)?, ..report })
            }
            Wish::Recall(message, op) => {
                Command::Recall(RecallMessage { app: APP.to_owned(), message: pick(message)?, op })
            }
            Wish::Task(task, wish) => {
                let tasks = ledger.tasks();
                wish.command(*(!tasks.is_empty()).then(|| task.get(&tasks))?)
            }
        };
        Some(renewed(command, turn))
    }
}

impl TaskWish {
    fn command(self, task: MessageId) -> Command {
        let totals = Totals::default();
        match self {
            TaskWish::Start => {
                Command::StartTask(StartTask { task, now: at(60), chunk_devices: 3 })
            }
            TaskWish::Cancel => {
                Command::CancelTask(CancelTask { app: APP.to_owned(), task, totals })
            }
            TaskWish::Finish => Command::FinishTask(FinishTask { task, totals }),
            TaskWish::Record(chunk, attempt, devices) => {
                let delivered = |(device, kind)| Delivered { device, kind, word: None };
                let deliveries = devices.into_iter().map(delivered).collect();
                Command::RecordChunk(RecordChunk { task, chunk, attempt, deliveries })
            }
            TaskWish::Advance(chunk, steps) => {
                let step = |(device, what)| Step::of_server(device, what);
                let steps = steps.into_iter().map(step).collect();
                Command::AdvanceChunk(AdvanceChunk { task, chunk, steps })
            }
            TaskWish::End(chunk, late) => {
                let now = if late { i64::MAX } else { at(60) };
                Command::EndChunk(EndChunk { task, chunk, now })
            }
        }
    }
}

fn create_task() -> impl Strategy<Value = Command> {
    let audience = prop_oneof![
        3 => Just(TaskAudience::Everyone),
        1 => vec(user(), 0..3).prop_map(TaskAudience::Users),
        1 => Just(TaskAudience::Label("nobody".to_owned())),
    ];
    (audience, select(&Way::ALL), of(select(vec![at(30), at(90)]))).prop_map(
        |(audience, strategy, start_at)| {
            Command::CreateTask(CreateTask {
                app: APP.to_owned(),
                id: MessageId(0),
                protocol: Protocol::Easemob,
                audience,
                strategy,
                keep_seconds: 3_600,
                start_at,
                now: 0,
                limits: TaskLimits { running: 3, created: 4 },
                private: words(),
            })
        },
    )
}

fn task_wish() -> impl Strategy<Value = TaskWish> {
    let chunk = || 1..3_i64;
    let devices = proptest::collection::btree_map(1..8_i64, crate::any_event::kind(), 1..6);
    prop_oneof![
        3 => Just(TaskWish::Start),
        1 => Just(TaskWish::Cancel),
        1 => Just(TaskWish::Finish),
        6 => (chunk(), 1..4_u32, devices).prop_map(|(chunk, attempt, devices)| {
            TaskWish::Record(chunk, attempt, devices.into_iter().collect())
        }),
        4 => (chunk(), vec((1..8_i64, progress()), 1..5))
            .prop_map(|(chunk, steps)| TaskWish::Advance(chunk, steps)),
        1 => (chunk(), any::<bool>()).prop_map(|(chunk, late)| TaskWish::End(chunk, late)),
    ]
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn user() -> impl Strategy<Value = String> {
    word(&["ann", "bob"])
}

fn client() -> impl Strategy<Value = String> {
    word(&["client-1", "client-2", "client-3"])
}

fn hardware() -> impl Strategy<Value = String> {
    word(&["mac-1", "mac-2", "mac-3"])
}

fn device_type() -> impl Strategy<Value = String> {
    word(&["01", "01", "08"])
}

fn package() -> impl Strategy<Value = String> {
    word(&["com.shop.a", "com.shop.a", "com.shop.b"])
}

fn app_command() -> impl Strategy<Value = Command> {
    let config = (word(&["a", "b"]), word(&["one", "two"]), word(&["id-1", "id-2", "id-3"]));
    let config = config.prop_map(|(app_id, name, system_id)| {
        let ums = UmsConfig {
            app_id: format!("MB-{app_id}"),
            app_keys: Vec::new(),
            system_id,
            system_keys: Vec::new(),
            app_packages: Vec::new(),
            jwt: None,
        };
        AppConfig { ums: Some(ums), ..AppConfig::new(&app_id, &name, "UTC") }
    });
    (config, of(1i64..4), 0..5).prop_map(|(config, expected, verb)| match verb {
        0 => Command::DeleteApp(DeleteApp { app_id: config.app_id }),
        1 | 2 => Command::CreateApp(CreateApp { config }),
        _ => Command::ChangeApp(ChangeApp { config, expected }),
    })
}

fn owner_command() -> impl Strategy<Value = Command> {
    (hardware(), user(), word(&["key-1", "key-2"]), any::<bool>()).prop_map(
        |(device_id, user, bind_key, set)| {
            let (app, new) = (APP.to_owned(), Uuid::nil());
            let (new_owner, new_account) = (new, new);
            if set {
                let set = SetOwner { app, device_id, user, bind_key, new_owner, new_account };
                Command::SetOwner(set)
            } else {
                Command::RemoveOwner(RemoveOwner { app, device_id })
            }
        },
    )
}

fn register() -> impl Strategy<Value = Command> {
    let who = (client(), of(hardware()), of(user()));
    (who, package(), device_type(), any::<bool>()).prop_map(
        |((client_id, device_id, user), app_package, device_type, m2m)| {
            let channel = if m2m { Channel::M2m } else { Channel::Jpush };
            Command::Register(RegisterDevice {
                app: APP.to_owned(),
                allowed_packages: Vec::new(),
                user,
                profile: Profile { app_package, device_type, type_id: None, channel },
                identity: Identity { client_id, device_id, ..Identity::default() },
                new_device: Uuid::nil(),
                new_account: Uuid::nil(),
            })
        },
    )
}

fn unregister() -> impl Strategy<Value = Command> {
    (client(), package(), weighted(0.8, user())).prop_map(|(client_id, app_package, user)| {
        let (app, allowed_packages) = (APP.to_owned(), Vec::new());
        Command::Unregister(UnregisterDevice {
            app,
            allowed_packages,
            client_id,
            app_package,
            user,
        })
    })
}

fn destinations() -> impl Strategy<Value = Destinations> {
    let users = || vec(word(&["ann", "bob", "eve"]), 0..3);
    prop_oneof![
        4 => vec(client(), 1..5).prop_map(Destinations::Clients),
        2 => vec(hardware(), 0..4).prop_map(Destinations::Hardware),
        1 => (user(), vec(hardware(), 0..4))
            .prop_map(|(user, ids)| Destinations::HardwareOf(user, ids)),
        1 => (users(), vec(device_type(), 0..3))
            .prop_map(|(users, types)| Destinations::Types(users, types)),
        1 => (users(), vec(package(), 0..3))
            .prop_map(|(users, packages)| Destinations::Packages(users, packages)),
        1 => (hardware(), word(&["key-1", "key-2"]))
            .prop_map(|(device_id, bind_key)| Destinations::OwnerOf { device_id, bind_key }),
    ]
}

fn push() -> impl Strategy<Value = Command> {
    let mode = select(&[Mode::Strict, Mode::Try, Mode::Try, Mode::TryOrNobody]);
    let sender = prop_oneof![
        user().prop_map(PushSender::User),
        Just(PushSender::Terminal),
        Just(PushSender::Cloud),
    ];
    let strategy = select(&Way::ALL);
    let how = (mode, strategy, any::<bool>());
    (destinations(), how, sender).prop_map(|(destinations, (mode, strategy, burn), sender)| {
        Command::Push(PushMessage {
            app: APP.to_owned(),
            id: MessageId(0),
            protocol: Protocol::Ums,
            sender,
            destinations,
            mode,
            strategy,
            expires_at: at(86_400),
            burn,
            private: words(),
            new_account: Uuid::nil(),
        })
    })
}

fn report() -> impl Strategy<Value = Wish> {
    let stage = select(&[Progress::Received, Progress::Displayed, Progress::Acknowledged]);
    (any::<Index>(), client(), package(), of(user()), stage).prop_map(
        |(message, client_id, app_package, user, stage)| {
            let report = ReportDelivery {
                app: APP.to_owned(),
                allowed_packages: Vec::new(),
                client_id,
                app_package,
                user,
                message: MessageId(0),
                stage,
                request: String::new(),
            };
            Wish::Report(message, report)
        },
    )
}

/// A history without recalls, as far as callers and senders can see to it.
pub(crate) fn quiet_history() -> impl Strategy<Value = Vec<Wish>> {
    let quiet = |wish: &Wish| match wish {
        Wish::Recall(..) => false,
        Wish::Plain(Command::Push(push)) => !push.burn,
        Wish::Plain(_)
        | Wish::Advance(..)
        | Wish::Expire(..)
        | Wish::Report(..)
        | Wish::Task(..) => true,
    };
    history().prop_map(move |wishes| wishes.into_iter().filter(quiet).collect())
}

/// Any history.
pub(crate) fn history() -> impl Strategy<Value = Vec<Wish>> {
    let steps = vec((any::<Index>(), progress(), any::<bool>()), 1..6);
    let op = select(&[RecallOp::Recall, RecallOp::Replace]);
    let wish = prop_oneof![
        1 => app_command().prop_map(Wish::Plain),
        1 => owner_command().prop_map(Wish::Plain),
        5 => register().prop_map(Wish::Plain),
        1 => unregister().prop_map(Wish::Plain),
        3 => push().prop_map(Wish::Plain),
        6 => (any::<Index>(), steps).prop_map(|(message, steps)| Wish::Advance(message, steps)),
        1 => (any::<Index>(), vec(any::<Index>(), 0..4))
            .prop_map(|(message, devices)| Wish::Expire(message, devices)),
        3 => report(),
        2 => (any::<Index>(), op).prop_map(|(message, op)| Wish::Recall(message, op)),
        2 => create_task().prop_map(Wish::Plain),
        6 => (any::<Index>(), task_wish()).prop_map(|(task, wish)| Wish::Task(task, wish)),
    ];
    vec(wish, 1..60)
}

/// Whether a decision for one of these keys may change by events that touch the others.
pub(crate) fn disjoint(used: &[Key], touched: &[Key]) -> bool {
    !used.iter().any(|key| touched.contains(key))
}

/// The refusal of a decision, if it is one.
pub(crate) fn refusal(decision: &Decision) -> Option<&Rejection> {
    decision.outcome.as_ref().err()
}
