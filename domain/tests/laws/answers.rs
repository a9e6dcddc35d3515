//! What an accepted command leaves behind, and what it is answered when it comes again.

use std::{rc::Rc, sync::Arc};

use domain::{
    Append, Event, Rejection,
    account::User,
    device::{Bind, Binding, Device, Status},
    facts::{Fact, Key},
    label::Label,
    message::{Delivery, MessageId, Progress, Stage},
    task::{How, Task, chunk::Chunk},
};
use proptest::{prelude::*, test_runner::TestCaseError};
use uuid::Uuid;

use crate::{
    cast::APP,
    histories::{Command, Turn, refusal},
    ledger::{Decision, Ledger},
};

/// Whether a law held.
pub(crate) type Verdict = Result<(), TestCaseError>;

/// After a command was accepted, the facts say what it asked for.
pub(crate) fn nothing_is_lost(turn: &Turn) -> Verdict {
    let after = &turn.after;
    if turn.decision.outcome.is_err() {
        return Ok(());
    }
    match &turn.command {
        Command::CreateApp(c) => prop_assert!(has_app(after, |app| app.config == c.config)),
        Command::ChangeApp(c) => prop_assert!(has_app(after, |app| app.config == c.config)),
        Command::DeleteApp(c) => {
            prop_assert!(has_app(after, |app| app.deleted && app.config.app_id == c.app_id));
        }
        Command::SetOwner(c) => {
            let account = account(after, &c.user);
            let held = account.map(|account| (account, c.bind_key.clone()));
            prop_assert!(held.is_some());
            prop_assert_eq!(owner(after, &c.device_id), held);
        }
        Command::RemoveOwner(c) => prop_assert_eq!(owner(after, &c.device_id), None),
        Command::RegisterUser(c) => {
            let user = user(after, &c.username);
            let of = user.map(|user| (user.account, user.nickname.clone()));
            prop_assert_eq!(of, Some((c.new_account, c.nickname.clone())));
        }
        Command::RemoveUser(c) => {
            let account = user(&turn.before, &c.username).map(|user| user.account);
            prop_assert_eq!(user(after, &c.username), None);
            prop_assert!(account.is_some_and(|account| is_gone(after, account)));
        }
        Command::CreateLabel(c) => {
            let label = label(after, &c.name);
            let of = label.map(|label| (label.stream, label.members));
            prop_assert_eq!(of, Some((c.new_label, 0)));
        }
        Command::DeleteLabel(c) => prop_assert_eq!(label(after, &c.name), None),
        Command::ChangeMembers(c) => {
            let label = label(after, &c.name).map(|label| label.stream);
            for user in c.usernames.iter().filter_map(|username| user(after, username)) {
                let member = label.map(|label| is_member(after, label, user.account));
                prop_assert_eq!(member, Some(c.join));
            }
        }
        Command::Bind(c) => {
            let bound = handset(after, &c.username, &c.device_id).map(|d| d.bound.clone());
            let kept = match &c.change {
                Bind::Seen => bound.is_some(),
                Bind::Token(notifier, token) => {
                    bound.is_some_and(|b| b.contains(&(notifier.clone(), token.clone())))
                }
                Bind::Without(notifier) => {
                    bound.is_none_or(|b| b.iter().all(|(name, _)| name != notifier))
                }
                Bind::Nothing => bound.is_none_or(|b| b.is_empty()),
            };
            prop_assert!(kept);
        }
        Command::Bury(c) => {
            let Fact::Devices(devices) = after.fact(&Key::Device(c.device)) else { panic!() };
            let dead = Binding { notifier: c.notifier.clone(), token: c.token.clone() };
            prop_assert!(devices.iter().all(|device| !device.bindings().contains(&dead)));
            let status = |ledger: &Ledger| match ledger.fact(&Key::Device(c.device)) {
                Fact::Devices(devices) => devices.first().map(|device| device.status),
                _ => None,
            };
            prop_assert_eq!(status(after), status(&turn.before));
        }
        Command::Admit(c) => {
            let Fact::Devices(found) = after.fact(&Key::cid(APP, c.cid)) else { panic!() };
            let cids: Vec<_> = found.iter().map(|device| device.cid()).collect();
            prop_assert_eq!(cids, [Some(c.cid)]);
        }
        Command::Register(c) => {
            let device = device(after, &c.identity.client_id, &c.profile.app_package);
            prop_assert!(device.registered());
            prop_assert_eq!((&device.profile, &device.identity), (&c.profile, &c.identity));
            if let Some(user) = &c.user {
                prop_assert_eq!(device.account, account(after, user));
            }
        }
        Command::Unregister(c) => {
            let device = device(after, &c.client_id, &c.app_package);
            prop_assert_eq!(device.status, Status::Unregistered);
        }
        Command::Push(c) => {
            let message = after.message(c.id);
            prop_assert_eq!((message.expires_at, message.burn), (c.expires_at, c.burn));
            prop_assert_eq!(message.resend, c.resend);
            let fresh =
                |d: &Delivery| (d.stage, d.ended, d.recall) == (Stage::Accepted, None, None);
            prop_assert!(message.deliveries.values().all(fresh));
        }
        Command::Advance(c) => {
            let message = after.message(c.message);
            for step in &c.steps {
                let Some(delivery) = message.deliveries.get(&step.device) else { continue };
                let told = stage_of(step.what);
                prop_assert!(told.is_none_or(|stage| delivery.stage >= stage));
                if step.what == Progress::Sent && step.vendor.is_some() {
                    prop_assert!(delivery.vendor.is_some());
                }
                if let Progress::Failed(_) = step.what {
                    prop_assert!(!delivery.wants_vendor());
                }
            }
        }
        Command::Expire(c) => {
            let message = after.message(c.message);
            let of = c.devices.iter().filter_map(|device| message.deliveries.get(device));
            for delivery in of {
                let at_vendor = delivery.vendor.is_some();
                prop_assert!((at_vendor || !delivery.open()) && !delivery.recalling());
            }
        }
        Command::Report(c) => {
            let device = device(after, &c.client_id, &c.app_package);
            let message = after.message(c.message);
            let delivery = &message.deliveries[&device.number];
            prop_assert_eq!(delivery.reported, stage_of(c.stage));
            prop_assert!(Some(delivery.stage) >= delivery.reported);
        }
        Command::Recall(c) => {
            let message = after.message(c.message);
            prop_assert!(message.deliveries.values().all(|d| d.recall.is_some() && !d.open()));
        }
        Command::CreateTask(c) => prop_assert_eq!(task(after, c.id).strategy, c.strategy),
        Command::StartTask(c) => {
            let task = task(after, c.task);
            let due = task.start_at.is_none_or(|start| start <= c.now);
            prop_assert!(task.started.is_some() || task.ended.is_some() || !due);
        }
        Command::CancelTask(c) => prop_assert_eq!(task(after, c.task).ended, Some(How::Cancelled)),
        Command::FinishTask(c) => prop_assert!(task(after, c.task).ended.is_some()),
        Command::RecordChunk(c) => {
            let made = chunk(after, c.task, c.chunk).map_or(0, |chunk| chunk.attempt);
            prop_assert!(made >= c.attempt || turn.appends().is_empty());
        }
        Command::AdvanceChunk(c) => {
            let chunk = chunk(after, c.task, c.chunk);
            let deliveries = chunk.map(|chunk| chunk.deliveries()).unwrap_or_default();
            for step in &c.steps {
                let Some(state) = deliveries.get(&step.device) else { continue };
                prop_assert!(stage_of(step.what).is_none_or(|stage| state.stage() >= stage));
            }
        }
        Command::EndChunk(c) => {
            let expired = c.now == i64::MAX;
            if let Some(chunk) = chunk(after, c.task, c.chunk).filter(|_| expired) {
                prop_assert!(chunk.states.iter().all(|state| !state.open()));
            }
        }
    }
    Ok(())
}

/// The answer to the same command right after it was accepted, without a key.
pub(crate) fn second_answer(turn: &Turn, second: &Decision) -> Verdict {
    let refused = refusal(second);
    match &turn.command {
        Command::CreateApp(c) => {
            prop_assert_eq!(refused, Some(&Rejection::AppTaken(c.config.app_id.clone())));
        }
        Command::ChangeApp(c) => match c.expected.filter(|_| !turn.appends().is_empty()) {
            Some(version) => {
                let moved = Rejection::VersionMoved { current: version + 1 };
                prop_assert_eq!(refused, Some(&moved));
            }
            None => prop_assert_eq!(&second.outcome, &Ok(Vec::new())),
        },
        Command::RegisterUser(c) => {
            prop_assert_eq!(refused, Some(&Rejection::UserTaken(c.username.clone())));
        }
        Command::RemoveUser(c) => {
            prop_assert_eq!(refused, Some(&Rejection::UnknownUser(c.username.clone())));
        }
        Command::CreateLabel(c) => {
            prop_assert_eq!(refused, Some(&Rejection::LabelTaken(c.name.clone())));
        }
        Command::DeleteLabel(c) => {
            prop_assert_eq!(refused, Some(&Rejection::UnknownLabel(c.name.clone())));
        }
        Command::DeleteApp(_) => prop_assert_eq!(refused, Some(&Rejection::UnknownApp)),
        Command::RemoveOwner(_) => prop_assert_eq!(refused, Some(&Rejection::NoOwner)),
        Command::Unregister(_) => prop_assert_eq!(refused, Some(&Rejection::NotRegistered)),
        Command::Report(_) => prop_assert_eq!(refused, Some(&Rejection::ReportedBefore)),
        Command::Recall(_) => prop_assert_eq!(refused, Some(&Rejection::NothingToRecall)),
        Command::CancelTask(_) => prop_assert_eq!(refused, Some(&Rejection::TaskOver)),
        Command::CreateTask(_) => {
            let many = matches!(refused, Some(Rejection::TooManyTasks { .. }));
            prop_assert!(many || second.outcome.is_ok());
        }
        Command::StartTask(_)
        | Command::FinishTask(_)
        | Command::RecordChunk(_)
        | Command::AdvanceChunk(_)
        | Command::EndChunk(_)
        | Command::SetOwner(_)
        | Command::ChangeMembers(_)
        | Command::Bind(_)
        | Command::Bury(_)
        | Command::Admit(_)
        | Command::Expire(_) => {
            prop_assert_eq!(&second.outcome, &Ok(Vec::new()));
        }
        Command::Advance(c) => {
            // An answer that came before its recall was asked for is one when it comes again.
            let answers = c.steps.iter().any(|step| matches!(step.what, Progress::Recalled(_)));
            prop_assert!(answers || second.outcome == Ok(Vec::new()));
        }
        Command::Register(_) => {
            let appends = second.outcome.as_deref().unwrap_or_default();
            let updated = matches!(appends, [Append { event: Event::DeviceUpdated(e), .. }]
                if e.former_account.is_none());
            prop_assert!(updated, "{second:?}");
        }
        Command::Push(_) => {
            let first = turn.appends().last().map(|append| &append.event);
            let appends = second.outcome.as_deref().unwrap_or_default();
            prop_assert_eq!(appends.len(), 1);
            prop_assert_eq!(appends.last().map(|append| &append.event), first);
        }
    }
    Ok(())
}

/// The stage that a step tells of.
fn stage_of(what: Progress) -> Option<Stage> {
    match what {
        Progress::Sent => Some(Stage::Sent),
        Progress::Received => Some(Stage::Received),
        Progress::Displayed => Some(Stage::Displayed),
        Progress::Acknowledged => Some(Stage::Acknowledged),
        Progress::Failed(_) | Progress::Ended(_) | Progress::Recalled(_) => None,
    }
}

/// A task that is there.
pub(crate) fn task(ledger: &Ledger, id: MessageId) -> Arc<Task> {
    match ledger.fact(&Key::Task(id)) {
        Fact::Task(Some(task)) => task,
        other => panic!("no task {id}: {other:?}"),
    }
}

/// A chunk, if an attempt at it was recorded.
pub(crate) fn chunk(ledger: &Ledger, task: MessageId, chunk: i64) -> Option<Arc<Chunk>> {
    let Fact::Chunk(found) = ledger.fact(&Key::Chunk(task, chunk)) else { return None };
    found
}

fn has_app(ledger: &Ledger, wanted: impl Fn(&domain::app::App) -> bool) -> bool {
    let Fact::Apps(apps) = ledger.fact(&Key::Apps) else { return false };
    apps.iter().any(wanted)
}

fn account(ledger: &Ledger, user: &str) -> Option<Uuid> {
    let Fact::Account(account) = ledger.fact(&Key::account(APP, user)) else { return None };
    account
}

fn owner(ledger: &Ledger, device_id: &str) -> Option<(Uuid, String)> {
    let key = Key::Owner { app: APP.to_owned(), device_id: device_id.to_owned() };
    let Fact::Owner(owner) = ledger.fact(&key) else { return None };
    owner.and_then(|owner| owner.held.clone())
}

fn device(ledger: &Ledger, client: &str, package: &str) -> Rc<Device> {
    let key = Key::Client { app: APP.to_owned(), client: client.to_owned() };
    let Fact::Devices(devices) = ledger.fact(&key) else { panic!("{key:?} are no devices") };
    let device = devices.iter().find(|device| device.profile.app_package == package);
    Rc::new(Device::clone(device.expect("a device of that client and package")))
}

/// An Easemob user.
pub(crate) fn user(ledger: &Ledger, username: &str) -> Option<Arc<User>> {
    let Fact::User(user) = ledger.fact(&Key::user(APP, username)) else { return None };
    user
}

/// A label.
pub(crate) fn label(ledger: &Ledger, name: &str) -> Option<Arc<Label>> {
    let Fact::Label(label) = ledger.fact(&Key::label(APP, name)) else { return None };
    label
}

/// Whether an account is in a label.
pub(crate) fn is_member(ledger: &Ledger, label: Uuid, account: Uuid) -> bool {
    ledger.fact(&Key::Member { label, account }) == Fact::Known(true)
}

/// The devices of an account.
pub(crate) fn devices_of(ledger: &Ledger, account: Uuid) -> Arc<Vec<Arc<Device>>> {
    let Fact::Devices(devices) = ledger.fact(&Key::AccountDevices(account)) else {
        return Arc::default();
    };
    devices
}

/// Whether nothing is left of an account: no registered device, no place in any label.
pub(crate) fn is_gone(ledger: &Ledger, account: Uuid) -> bool {
    let Fact::Labels(labels) = ledger.fact(&Key::AccountLabels(account)) else { return false };
    let there =
        |stream: &Uuid, name: &str| label(ledger, name).is_some_and(|l| l.stream == *stream);
    let in_none = !labels.iter().any(|(stream, name)| there(stream, name));
    in_none && !devices_of(ledger, account).iter().any(|device| device.registered())
}

/// The device of an Easemob user by its id.
fn handset(ledger: &Ledger, username: &str, device_id: &str) -> Option<Arc<Device>> {
    let devices = devices_of(ledger, user(ledger, username)?.account);
    devices.iter().find(|device| device.identity.client_id == device_id).cloned()
}
