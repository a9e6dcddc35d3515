//! The registry: apps, accounts, devices, labels, owners. The only view that is folded inside the append,
//! so it is never behind: strict checks, uniqueness and the device list read it without waiting.
//!
//! Rows are intervals of positions, so that "as of position P" is a WHERE:
//! `from_position <= P AND (to_position IS NULL OR to_position > P)`.

mod accounts;
mod apps;
pub mod audience;
mod devices;
mod erasures;
mod labels;
mod owners;
mod tasks;

pub use accounts::{AccountRow, account, account_page, by_ids, named, tencent, user_page, users};
pub use apps::apps;
pub use devices::{
    COUNT_OF_CIDS, PAGE_OF_CIDS, Wanted, by_account, by_accounts, by_cids, by_client, by_numbers,
    count_of_cids, page_of_cids, page_of_devices,
};
pub use erasures::{
    ErasureRow, Names, accounts_ever, blank_accounts, blank_owners, erasure_page, erasures_to,
    fold_device_again,
};
pub use labels::{MemberRow, label, label_page, labels_of, member, member_page};
pub use tasks::{TaskRow, open_tasks};

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use domain::{
    Event, Recorded, Stream,
    account::User,
    device::Device,
    facts::{Fact, Key},
};
use uuid::Uuid;

use crate::{Fault, db::Conn};

/// Names of the registry's tables.
pub const TABLES: &[&str] =
    &["apps", "accounts", "devices", "labels", "label_members", "owners", "tasks", "erasures"];

/// Whether an event changes the registry.
#[must_use]
pub fn concerns(recorded: &Recorded) -> bool {
    match recorded.stream {
        Stream::Message(_)
        | Stream::Chunk(..)
        | Stream::Presence(_)
        | Stream::Uplink(_)
        | Stream::Callbacks(_) => false,
        Stream::App(_)
        | Stream::Account(_)
        | Stream::Device(_)
        | Stream::Owner(_)
        | Stream::Label(_)
        | Stream::Task(_)
        | Stream::Erasure(_) => true,
    }
}

/// Folds events into the registry, in the transaction that appends them.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn apply(conn: &mut Conn<'_>, page: &[Recorded]) -> Result<(), Fault> {
    let page: Vec<&Recorded> = page.iter().filter(|recorded| concerns(recorded)).collect();
    if page.is_empty() {
        return Ok(());
    }
    // A name that an erasure freed may be taken again in the same page: what was erased ends first.
    for part in page.split_inclusive(|e| matches!(e.event, Event::SubjectErased(_))) {
        accounts::apply(conn, part).await?;
        devices::apply(conn, part).await?;
        labels::apply(conn, part).await?;
        owners::apply(conn, part).await?;
        tasks::apply(conn, part).await?;
        apps::apply(conn, part).await?;
        erasures::apply(conn, part).await?;
    }
    Ok(())
}

/// Loads facts of many keys; those that are not the registry's are left out. What one push names by
/// the hundred takes one statement a kind: Easemob users, Antelope devices, devices of accounts.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn load_all(conn: &mut Conn<'_>, keys: &[Key]) -> Result<Vec<(Key, Fact)>, Fault> {
    let mut facts = Vec::with_capacity(keys.len());
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut cids: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    let mut owners: Vec<Uuid> = Vec::new();
    for key in keys {
        match key {
            Key::User { app, username } => users.entry(app).or_default().push(username),
            Key::Cid { app, cid } => cids.entry(app).or_default().push(*cid),
            Key::AccountDevices(account) => owners.push(*account),
            other => facts.extend(load(conn, other).await?.map(|fact| (other.clone(), fact))),
        }
    }
    for (app, names) in users {
        let found = accounts::users_named(conn, app, &names).await?;
        let mut found: HashMap<String, User> =
            found.into_iter().map(|user| (user.username.clone(), user)).collect();
        for name in names {
            let user = found.remove(name).map(Arc::new);
            facts.push((Key::user(app, name), Fact::User(user)));
        }
    }
    for (app, cids) in cids {
        let found = by_cids(conn, app, &cids).await?;
        let mut found = grouped(found, Device::cid);
        for cid in cids {
            facts.push((Key::cid(app, cid), devices_fact(found.remove(&cid).unwrap_or_default())));
        }
    }
    if !owners.is_empty() {
        let found = devices::by_accounts(conn, &owners).await?;
        let mut found = grouped(found, |device| device.account);
        for owner in owners {
            let devices = devices_fact(found.remove(&owner).unwrap_or_default());
            facts.push((Key::AccountDevices(owner), devices));
        }
    }
    Ok(facts)
}

/// Devices by a trait of theirs, in their order.
fn grouped<T: Eq + Hash>(
    devices: Vec<Device>,
    of: impl Fn(&Device) -> Option<T>,
) -> HashMap<T, Vec<Device>> {
    let mut groups: HashMap<T, Vec<Device>> = HashMap::new();
    for device in devices {
        if let Some(group) = of(&device) {
            groups.entry(group).or_default().push(device);
        }
    }
    groups
}

/// Loads the fact of a registry key; `None` for keys that are not the registry's.
///
/// # Errors
/// [`Fault`] when the database fails.
pub async fn load(conn: &mut Conn<'_>, key: &Key) -> Result<Option<Fact>, Fault> {
    Ok(Some(match key {
        Key::Apps => Fact::Apps(Arc::new(apps(conn).await?)),
        Key::Account { app, user } => Fact::Account(account(conn, app, user).await?),
        Key::User { app, username } => {
            let found = accounts::users_named(conn, app, &[username]).await?;
            Fact::User(found.into_iter().next().map(Arc::new))
        }
        Key::Tencent { app, user } => Fact::Account(tencent(conn, app, user).await?),
        Key::Addresses(account) => {
            Fact::Addresses(accounts::addresses(conn, *account).await?.map(Arc::new))
        }
        Key::Label { app, name } => {
            Fact::Label(labels::label(conn, app, name).await?.map(Arc::new))
        }
        Key::LabelCount(app) => Fact::Count(labels::count(conn, app).await?),
        Key::Member { label, account } => {
            Fact::Known(labels::member(conn, *label, *account).await?.is_some())
        }
        Key::AccountLabels(account) => {
            Fact::Labels(Arc::new(labels::of_account(conn, *account).await?))
        }
        Key::Device(number) => {
            let found = by_numbers(conn, &[*number]).await?;
            devices_fact(found.into_iter().map(|(_, device)| device).collect())
        }
        Key::Client { app, client } => devices_fact(by_client(conn, app, client).await?),
        Key::Cid { app, cid } => devices_fact(by_cids(conn, app, &[*cid]).await?),
        Key::Hardware { app, id } => devices_fact(devices::by_hardware(conn, app, id).await?),
        Key::AccountDevices(account) => devices_fact(by_account(conn, *account).await?),
        Key::Package { app, package } => {
            Fact::Known(devices::package_known(conn, app, package).await?)
        }
        Key::Owner { app, device_id } => {
            Fact::Owner(owners::owner(conn, app, device_id).await?.map(Arc::new))
        }
        Key::AppTasks(app) => Fact::Tasks(Arc::new(tasks::of_app(conn, app).await?)),
        Key::Message(_) | Key::Task(_) | Key::Chunk(..) => return Ok(None),
    }))
}

fn devices_fact(devices: Vec<Device>) -> Fact {
    Fact::Devices(Arc::new(devices.into_iter().map(Arc::new).collect()))
}

fn uuid(text: &str) -> Result<Uuid, Fault> {
    text.parse().map_err(|cause| Fault::stored("uuid", cause))
}
