//! A second opinion on what a key names: every device, owner and account folded by its own stream
//! alone, and then looked through from end to end.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    Event, Recorded, Stream,
    device::Device,
    facts::{Fact, Key},
    message::Message,
    owner::Owner,
};
use uuid::Uuid;

use crate::ledger::Ledger;

/// What is known under a key.
pub(crate) fn named(ledger: &Ledger, key: &Key) -> Fact {
    match key {
        Key::Apps => ledger.folded(key),
        Key::Account { app, user } => Fact::Account(account(ledger, app, user)),
        Key::Client { app, client } => {
            devices(ledger, |at, device| at == app && device.identity.client_id == *client)
        }
        Key::Hardware { app, id } => devices(ledger, |at, device| {
            at == app && device.identity.device_id.as_ref() == Some(id)
        }),
        Key::AccountDevices(account) => {
            devices(ledger, |_, device| device.account == Some(*account))
        }
        Key::Package { app, package } => Fact::Package(ledger.events().any(|recorded| {
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
    }
}

fn account(ledger: &Ledger, app: &str, user: &str) -> Option<Uuid> {
    ledger.events().find_map(|recorded| match (&recorded.stream, &recorded.event) {
        (Stream::Account(id), Event::AccountOpened(e)) if recorded.app == app => {
            let private = e.private.as_ref()?;
            (private.ums_user == user).then_some(*id)
        }
        _ => None,
    })
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
