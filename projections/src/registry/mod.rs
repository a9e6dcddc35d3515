//! The registry: apps, accounts, devices, labels, owners. The only view that is folded inside the append,
//! so it is never behind: strict checks, uniqueness and the device list read it without waiting.
//!
//! Rows are intervals of positions, so that "as of position P" is a WHERE:
//! `from_position <= P AND (to_position IS NULL OR to_position > P)`.

mod accounts;
mod apps;
pub mod audience;
mod devices;
mod labels;
mod owners;
mod tasks;

pub use accounts::{AccountRow, account, account_page, by_ids, named, user_page, users};
pub use apps::apps;
pub use devices::{
    COUNT_OF_CIDS, PAGE_OF_CIDS, Wanted, by_account, by_accounts, by_cids, by_client, by_numbers,
    count_of_cids, page_of_cids, page_of_devices,
};
pub use labels::{MemberRow, label, label_page, labels_of, member, member_page};
pub use tasks::{TaskRow, open_tasks};

use std::sync::Arc;

use domain::{
    Recorded, Stream,
    device::Device,
    facts::{Fact, Key},
};
use uuid::Uuid;

use crate::{Fault, db::Conn};

/// Names of the registry's tables.
pub const TABLES: &[&str] =
    &["apps", "accounts", "devices", "labels", "label_members", "owners", "tasks"];

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
        | Stream::Task(_) => true,
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
    accounts::apply(conn, &page).await?;
    devices::apply(conn, &page).await?;
    labels::apply(conn, &page).await?;
    owners::apply(conn, &page).await?;
    tasks::apply(conn, &page).await?;
    apps::apply(conn, &page).await
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
            Fact::User(accounts::user(conn, app, username).await?.map(Arc::new))
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
