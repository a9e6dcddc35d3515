//! Which facts an event may change: what makes a cache of them true.

use uuid::Uuid;

use super::{Key, Place};
use crate::{Event, Stream, account::AccountPrivate, device::Identity, owner::OwnerPrivate};

/// The keys whose facts an event may change.
#[must_use]
pub fn touched(place: Place<'_>, event: &Event) -> Vec<Key> {
    let app = || place.app.to_owned();
    match event {
        Event::AppCreated(_) | Event::AppChanged(_) | Event::AppDeleted(_) => vec![Key::Apps],
        Event::AccountOpened(e) => account_keys(place, e.private.as_ref()),
        Event::AccountLinked(e) => account_keys(place, e.private.as_ref()),
        Event::AccountClosed(e) => account_keys(place, e.private.as_ref()),
        Event::LabelCreated(e) => vec![Key::label(place.app, &e.name), Key::LabelCount(app())],
        Event::LabelDeleted(e) => vec![Key::label(place.app, &e.name), Key::LabelCount(app())],
        Event::LabelMembersChanged(e) => {
            let mut keys = vec![Key::label(place.app, &e.name)];
            if let Stream::Label(label) = *place.stream {
                let accounts = || e.joined.iter().chain(&e.left).copied();
                keys.extend(accounts().map(|account| Key::Member { label, account }));
                keys.extend(accounts().map(Key::AccountLabels));
            }
            keys
        }
        Event::DeviceRegistered(e) => {
            let package = e.profile.app_package.clone();
            let mut keys = device_keys(place, place.position, [e.account, None], &e.private);
            keys.push(Key::Package { app: app(), package });
            keys
        }
        Event::DeviceUpdated(e) => {
            device_keys(place, e.device, [e.account, e.former_account], &e.private)
        }
        Event::DeviceReturned(e) => {
            device_keys(place, e.device, [e.account, e.former_account], &e.private)
        }
        Event::DeviceUnregistered(e) => device_keys(place, e.device, [e.account, None], &e.private),
        Event::DeviceBound(e) => {
            let number = e.device.unwrap_or(place.position);
            let mut keys = device_keys(place, number, [Some(e.account), None], &None);
            let cid = e.private.as_ref().and_then(|private| private.cid);
            keys.extend(cid.map(|cid| Key::cid(place.app, cid)));
            keys
        }
        Event::DeviceAdmitted(e) => {
            let cid = e.private.iter().map(|cid| Key::cid(place.app, cid.cid));
            cid.chain([Key::Device(place.position)]).collect()
        }
        Event::DeviceLinked(e) => {
            let names = e.private.as_ref().map(|private| private.identity.clone());
            device_keys(place, e.device, [e.account, None], &names)
        }
        Event::TokenDied(e) => device_keys(place, e.device, [e.account, None], &e.private),
        Event::OwnerSet(e) => owner_key(place.app, e.private.as_ref()),
        Event::OwnerRemoved(e) => owner_key(place.app, e.private.as_ref()),
        // Names led there too, which only their own events tell: see `Decide::alone`.
        Event::SubjectErased(e) => {
            let accounts = e.accounts.iter();
            let accounts = accounts.flat_map(|id| [Key::Addresses(*id), Key::AccountDevices(*id)]);
            accounts.chain(e.devices.iter().map(|erased| Key::Device(erased.device))).collect()
        }
        Event::MessageAccepted(_)
        | Event::MessageFiltered(_)
        | Event::DeliveriesAdvanced(_)
        | Event::RecallRequested(_)
        | Event::TaskCreated(_)
        | Event::TaskStarted(_)
        | Event::ChunkDelivered(_)
        | Event::TaskEnded(_)
        | Event::PresenceChanged(_)
        | Event::UplinkReceived(_)
        | Event::CallbacksCalled(_)
        | Event::CallbacksReplayed(_) => match place.stream {
            Stream::Message(id) => vec![Key::Message(*id)],
            Stream::Task(id) => vec![Key::Task(*id), Key::AppTasks(app())],
            Stream::Chunk(id, chunk) => vec![Key::Chunk(*id, *chunk)],
            Stream::App(_)
            | Stream::Account(_)
            | Stream::Device(_)
            | Stream::Owner(_)
            | Stream::Label(_)
            | Stream::Presence(_)
            | Stream::Uplink(_)
            | Stream::Callbacks(_)
            | Stream::Erasure(_) => Vec::new(),
        },
    }
}

/// Whether an event may change facts that none of its keys name: a label that is deleted does not
/// say who was in it, nor does an erasure tell names. It is seldom, so that all facts are read anew.
#[must_use]
pub fn forgets(event: &Event) -> bool {
    matches!(event, Event::SubjectErased(_) | Event::LabelDeleted(_))
}

fn account_keys(place: Place<'_>, private: Option<&AccountPrivate>) -> Vec<Key> {
    let mut keys = Vec::new();
    if let Some(private) = private {
        let app = place.app;
        keys.extend(private.ums_user.iter().map(|user| Key::account(app, user)));
        keys.extend(private.username.iter().map(|username| Key::user(app, username)));
        keys.extend(private.tencent.iter().map(|user| Key::tencent(app, user)));
    }
    if let Stream::Account(account) = *place.stream {
        keys.push(Key::Addresses(account));
    }
    keys
}

fn device_keys(
    place: Place<'_>,
    number: i64,
    accounts: [Option<Uuid>; 2],
    identity: &Option<Identity>,
) -> Vec<Key> {
    let app = place.app;
    let accounts = accounts.into_iter().flatten().map(Key::AccountDevices);
    let names = identity.iter().flat_map(|identity| {
        let ids = identity.device_id.iter().chain(&identity.former_device_id);
        let hardware = ids.map(|id| Key::Hardware { app: app.to_owned(), id: id.clone() });
        let client = Key::Client { app: app.to_owned(), client: identity.client_id.clone() };
        let cid = identity.cid.map(|cid| Key::cid(app, cid));
        hardware.chain([client]).chain(cid)
    });
    accounts.chain(names).chain([Key::Device(number)]).collect()
}

fn owner_key(app: &str, private: Option<&OwnerPrivate>) -> Vec<Key> {
    let key = |p: &OwnerPrivate| Key::Owner { app: app.to_owned(), device_id: p.device_id.clone() };
    private.map(key).into_iter().collect()
}
