//! Histories that nobody thought of. A history is a list of wishes; each becomes a command when
//! its turn comes, so that it can name messages and devices that are there by then.

use std::rc::Rc;

use domain::{
    Append, Decide, Event, Rejection, Stream,
    account::{RegisterUser, RemoveUser},
    app::{ChangeApp, CreateApp, DeleteApp},
    cid::AdmitDevice,
    device::{BindDevice, Binding, BuryToken, Device, RegisterDevice, UnregisterDevice},
    facts::{Fact, Facts, Key, Stop},
    label::{ChangeMembers, CreateLabel, DeleteLabel},
    message::{
        AdvanceDeliveries, ExpireDeliveries, MessageId, Progress, RecallMessage, RecallOp,
        ReportDelivery, Reporter, Step,
    },
    owner::{RemoveOwner, SetOwner},
    push::PushMessage,
    task::{
        AdvanceChunk, CancelTask, CreateTask, EndChunk, FinishTask, RecordChunk, StartTask, Totals,
        chunk::{Delivered, Kind},
    },
    vendor::Vendor,
};
use proptest::sample::Index;
use uuid::Uuid;

use crate::{
    cast::APP,
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
    RegisterUser(RegisterUser),
    RemoveUser(RemoveUser),
    CreateLabel(CreateLabel),
    DeleteLabel(DeleteLabel),
    ChangeMembers(ChangeMembers),
    Register(RegisterDevice),
    Unregister(UnregisterDevice),
    Bind(BindDevice),
    Bury(BuryToken),
    Admit(AdmitDevice),
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
            Command::RegisterUser(command) => command.decide(facts),
            Command::RemoveUser(command) => command.decide(facts),
            Command::CreateLabel(command) => command.decide(facts),
            Command::DeleteLabel(command) => command.decide(facts),
            Command::ChangeMembers(command) => command.decide(facts),
            Command::Register(command) => command.decide(facts),
            Command::Unregister(command) => command.decide(facts),
            Command::Bind(command) => command.decide(facts),
            Command::Bury(command) => command.decide(facts),
            Command::Admit(command) => command.decide(facts),
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
    Plain(Box<Command>),
    /// Steps of some message.
    Advance(Index, Vec<(Index, Progress, Teller)>),
    /// Expiry of some of a message's deliveries.
    Expire(Index, Vec<Index>),
    /// A report on some message.
    Report(Index, ReportDelivery),
    /// A recall of some message.
    Recall(Index, RecallOp),
    /// A verdict on some token that some device has or, for the second, had at any time.
    Bury(Index, Index),
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
    /// The end of a chunk, late or not.
    End(i64, bool),
}

/// Who tells of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Teller {
    /// The server, of its own channel or of no vendor in particular.
    Server,
    /// The device.
    Socket,
    /// The server, of that vendor.
    Vendor(Vendor),
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
        Command::RegisterUser(c) => c.new_account = fresh(2),
        Command::CreateLabel(c) => c.new_label = fresh(4),
        Command::Register(c) => (c.new_device, c.new_account) = (fresh(3), fresh(2)),
        Command::Bind(c) => c.new_device = fresh(3),
        Command::Admit(c) => c.new_device = fresh(3),
        Command::Push(c) => (c.id, c.new_account) = (message_of_turn(turn), fresh(2)),
        Command::CreateTask(c) => {
            c.id = message_of_turn(turn);
            c.now = at(i64::try_from(turn).unwrap());
        }
        Command::Report(c) => c.request = format!("request {turn}"),
        Command::CreateApp(_)
        | Command::ChangeApp(_)
        | Command::DeleteApp(_)
        | Command::RemoveOwner(_)
        | Command::RemoveUser(_)
        | Command::DeleteLabel(_)
        | Command::ChangeMembers(_)
        | Command::Unregister(_)
        | Command::Bury(_)
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
    /// A command as it is.
    pub(crate) fn plain(command: Command) -> Wish {
        Wish::Plain(Box::new(command))
    }

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
            Wish::Plain(command) => *command,
            Wish::Advance(message, steps) => {
                let message = pick(message)?;
                let step = |(index, what, teller)| {
                    let (by, vendor) = match teller {
                        Teller::Server => (Reporter::Server, None),
                        Teller::Socket => (Reporter::Socket, None),
                        Teller::Vendor(vendor) => (Reporter::Server, Some(vendor)),
                    };
                    Step { by, vendor, ..Step::of_server(device(message, index), what) }
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
                wish.command(*task.get((!tasks.is_empty()).then_some(&tasks)?))
            }
            Wish::Bury(device, token) => {
                let devices = numbers(ledger);
                let number = *device.get((!devices.is_empty()).then_some(&devices)?);
                let tokens = tokens(ledger, number);
                let binding = token.get((!tokens.is_empty()).then_some(&tokens)?).clone();
                let (notifier, token) = (binding.notifier, binding.token);
                let code = "410".to_owned();
                Command::Bury(BuryToken { device: number, notifier, token, code })
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
                Command::CancelTask(CancelTask { app: APP.to_owned(), task, totals, kept: true })
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

/// The numbers of all devices.
fn numbers(ledger: &Ledger) -> Vec<i64> {
    let first = |event: &Event| match event {
        Event::DeviceRegistered(_) | Event::DeviceAdmitted(_) => true,
        Event::DeviceBound(e) => e.device.is_none(),
        _ => false,
    };
    let first = ledger.events().filter(|recorded| first(&recorded.event));
    first.map(|recorded| recorded.position).collect()
}

/// What a device was ever bound to.
fn tokens(ledger: &Ledger, number: i64) -> Vec<Binding> {
    let Fact::Devices(now) = ledger.fact(&Key::Device(number)) else { return Vec::new() };
    let Some(stream) = now.first().map(|device| device.stream) else { return Vec::new() };
    let (mut device, mut tokens) = (None, Vec::new());
    for recorded in ledger.events().filter(|recorded| recorded.stream == Stream::Device(stream)) {
        device = Device::evolve(device, stream, recorded.place(), &recorded.event);
        tokens.extend(device.iter().flat_map(Device::bindings));
    }
    tokens
}

/// Whether a decision for one of these keys may change by events that touch the others.
pub(crate) fn disjoint(used: &[Key], touched: &[Key]) -> bool {
    !used.iter().any(|key| touched.contains(key))
}

/// The refusal of a decision, if it is one.
pub(crate) fn refusal(decision: &Decision) -> Option<&Rejection> {
    decision.outcome.as_ref().err()
}
