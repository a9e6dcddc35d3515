//! A second opinion on what a key names: every device, owner and account folded by its own stream
//! alone, and then looked through from end to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use domain::{
    Event, Recorded, Stream,
    account::{Account, AccountPrivate},
    device::Device,
    facts::{Fact, Key},
    label::Label,
    message::{Message, Protocol},
    owner::Owner,
    task::{AppTask, Audience, RECENT_MICROS, Task, chunk::Chunk},
};
use uuid::Uuid;

use crate::ledger::Ledger;

/// What is known under a key.
pub(crate) fn named(ledger: &Ledger, key: &Key) -> Fact {
    match key {
        Key::Apps => ledger.folded(key),
        Key::Account { app, user } => Fact::Account(account(ledger, app, user)),
        Key::User { app, username } => {
            let named = |a: &AccountPrivate| a.username.as_deref() == Some(username);
            let found = open(ledger).into_iter().find(|(at, a)| at == app && named(&a.addresses));
            Fact::User(found.and_then(|(_, account)| account.user()).map(Arc::new))
        }
        Key::Tencent { app, user } => {
            let named = |a: &AccountPrivate| a.tencent.as_deref() == Some(user);
            let found = open(ledger).into_iter().find(|(at, a)| at == app && named(&a.addresses));
            Fact::Account(found.map(|(_, account)| account.account))
        }
        Key::Addresses(account) => {
            let found = open(ledger).into_iter().find(|(_, a)| a.account == *account);
            Fact::Addresses(found.map(|(_, account)| Arc::new(account)))
        }
        Key::Label { app, name } => {
            Fact::Label(labels(ledger, app).into_iter().find(|l| l.name == *name).map(Arc::new))
        }
        Key::LabelCount(app) => Fact::Count(i64::try_from(labels(ledger, app).len()).unwrap()),
        Key::Member { label, account } => Fact::Known(members(ledger, *label).contains(account)),
        Key::AccountLabels(account) => {
            let all =
                ledger.events().filter_map(|recorded| match (&recorded.stream, &recorded.event) {
                    (Stream::Label(label), Event::LabelCreated(e)) => {
                        Some((*label, e.name.clone()))
                    }
                    _ => None,
                });
            let own = all.filter(|(label, _)| members(ledger, *label).contains(account));
            let mut own: Vec<_> = own.collect();
            own.sort();
            Fact::Labels(Arc::new(own))
        }
        Key::Device(number) => devices(ledger, |_, device| device.number == *number),
        Key::Client { app, client } => devices(ledger, |at, device| {
            let ums = device.protocol == Protocol::Ums;
            ums && at == app && device.identity.client_id == *client
        }),
        Key::Cid { app, cid } => devices(ledger, |at, device| {
            let antelope = device.protocol == Protocol::Antelope;
            let own = antelope && device.identity.client_id == cid.to_string();
            at == app && (own || device.identity.cid == Some(*cid))
        }),
        Key::Hardware { app, id } => devices(ledger, |at, device| {
            at == app && device.identity.device_id.as_ref() == Some(id)
        }),
        Key::AccountDevices(account) => {
            devices(ledger, |_, device| device.account == Some(*account))
        }
        Key::Package { app, package } => Fact::Known(ledger.events().any(|recorded| {
            let Event::DeviceRegistered(e) = &recorded.event else { return false };
            recorded.app == *app && e.profile.app_package == *package
        })),
        Key::Owner { app, device_id } => Fact::Owner(owner(ledger, app, device_id)),
        Key::Message(id) => {
            let of = ledger.events().filter(|recorded| recorded.stream == Stream::Message(*id));
            let message = of.fold(None, |message, recorded| {
                Message::evolve(message, recorded.place(), &recorded.event)
            });
            Fact::Message(message.map(Arc::new))
        }
        Key::Task(id) => {
            let of = ledger.events().filter(|recorded| recorded.stream == Stream::Task(*id));
            let task = of
                .fold(None, |task, recorded| Task::evolve(task, recorded.place(), &recorded.event));
            Fact::Task(task.map(Arc::new))
        }
        Key::AppTasks(app) => Fact::Tasks(Arc::new(tasks(ledger, app))),
        Key::Chunk(task, chunk) => {
            let stream = Stream::Chunk(*task, *chunk);
            let of = ledger.events().filter(|recorded| recorded.stream == stream);
            let chunk = of.fold(None, |chunk, recorded| {
                Chunk::evolve(chunk, recorded.place(), &recorded.event)
            });
            Fact::Chunk(chunk.map(Arc::new))
        }
    }
}

/// Tasks that have not ended or were created less than five minutes before the newest.
fn tasks(ledger: &Ledger, app: &str) -> Vec<AppTask> {
    let mut tasks: Vec<AppTask> = Vec::new();
    for recorded in ledger.events().filter(|recorded| recorded.app == app) {
        let Stream::Task(id) = recorded.stream else { continue };
        match &recorded.event {
            Event::TaskCreated(e) => tasks.push(AppTask {
                task: id,
                everyone: e.audience == Audience::Everyone,
                created_at: recorded.recorded_at,
                start_at: e.start_at,
                started: false,
                ended: false,
            }),
            Event::TaskStarted(_) => {
                tasks
                    .iter_mut()
                    .filter(|task| task.task == id)
                    .for_each(|task| task.started = true);
            }
            _ => tasks.iter_mut().filter(|task| task.task == id).for_each(|task| task.ended = true),
        }
    }
    let newest = tasks.last().map_or(0, |task| task.created_at);
    tasks.retain(|task| !task.ended || newest - task.created_at < RECENT_MICROS);
    tasks
}

fn account(ledger: &Ledger, app: &str, user: &str) -> Option<Uuid> {
    let named = |a: &AccountPrivate| a.ums_user.as_deref() == Some(user);
    let found = open(ledger).into_iter().find(|(at, a)| at == app && named(&a.addresses));
    found.map(|(_, account)| account.account)
}

/// Accounts that are open, each with its app.
fn open(ledger: &Ledger) -> Vec<(String, Account)> {
    let mut open: Vec<(String, Account)> = Vec::new();
    for recorded in ledger.events() {
        let Stream::Account(account) = recorded.stream else { continue };
        let version = recorded.version;
        match &recorded.event {
            Event::AccountOpened(e) => {
                let addresses = e.private.clone().unwrap_or_default();
                let opened_at = recorded.recorded_at;
                let account = Account { account, version, opened_at, addresses };
                open.push((recorded.app.clone(), account));
            }
            Event::AccountLinked(e) => {
                let own = open.iter_mut().find(|(_, own)| own.account == account).unwrap();
                own.1.version = version;
                own.1.addresses = e.private.clone().unwrap_or_default();
            }
            _ => open.retain(|(_, own)| own.account != account),
        }
    }
    open
}

/// Labels that are there, in order of creation.
fn labels(ledger: &Ledger, app: &str) -> Vec<Label> {
    let mut labels: Vec<Label> = Vec::new();
    for recorded in ledger.events().filter(|recorded| recorded.app == app) {
        let Stream::Label(stream) = recorded.stream else { continue };
        let version = recorded.version;
        if let Event::LabelCreated(e) = &recorded.event {
            let (name, description) = (e.name.clone(), e.description.clone());
            let created_at = recorded.recorded_at;
            labels.push(Label { stream, version, created_at, name, description, members: 0 });
        } else if matches!(recorded.event, Event::LabelDeleted(_)) {
            labels.retain(|label| label.stream != stream);
        } else if let Some(label) = labels.iter_mut().find(|label| label.stream == stream) {
            label.version = version;
        }
    }
    for label in &mut labels {
        label.members = i64::try_from(members(ledger, label.stream).len()).unwrap();
    }
    labels
}

fn members(ledger: &Ledger, label: Uuid) -> BTreeSet<Uuid> {
    let mut members = BTreeSet::new();
    for recorded in ledger.events().filter(|recorded| recorded.stream == Stream::Label(label)) {
        if let Event::LabelMembersChanged(e) = &recorded.event {
            members.extend(&e.joined);
            members.retain(|member| !e.left.contains(member));
        } else if matches!(recorded.event, Event::LabelDeleted(_)) {
            members.clear();
        }
    }
    members
}

fn devices(ledger: &Ledger, named: impl Fn(&str, &Device) -> bool) -> Fact {
    let mut all: BTreeMap<Uuid, (&str, Option<Device>)> = BTreeMap::new();
    for recorded in ledger.events() {
        let Stream::Device(stream) = recorded.stream else { continue };
        let (_, device) = all.entry(stream).or_insert((&recorded.app, None));
        *device = Device::evolve(device.take(), stream, recorded.place(), &recorded.event);
    }
    let mut named: Vec<Arc<Device>> = all
        .into_values()
        .filter_map(|(app, device)| device.filter(|device| named(app, device)))
        .map(Arc::new)
        .collect();
    named.sort_by_key(|device| device.number);
    Fact::Devices(Arc::new(named))
}

fn owner(ledger: &Ledger, app: &str, device_id: &str) -> Option<Arc<Owner>> {
    let last = ledger.events().filter(|recorded| recorded.app == app).filter_map(
        |Recorded { stream, version, event, .. }| {
            let Stream::Owner(stream) = stream else { return None };
            let (private, held) = match event {
                Event::OwnerSet(e) => (&e.private, Some((e.account, e.bind_key.clone()))),
                Event::OwnerRemoved(e) => (&e.private, None),
                _ => return None,
            };
            let named = private.as_ref().is_some_and(|private| private.device_id == device_id);
            named.then(|| Arc::new(Owner { stream: *stream, version: *version, held }))
        },
    );
    last.last()
}
