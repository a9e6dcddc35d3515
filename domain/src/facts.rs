//! What a decision may know. A decider asks by [`Key`]; a key that is not loaded stops it with
//! [`Stop::Need`], the shell loads it and runs the decider again. So deciders stay pure and
//! synchronous, and the ledger knows exactly which facts a decision rests on: when one of them
//! moves before the commit, the command is decided again.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use uuid::Uuid;

use crate::{
    Event, Rejection, Stream,
    app::App,
    device::Device,
    message::{Message, MessageId},
    owner::Owner,
};

/// The name of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// All apps.
    Apps,
    /// The account of a UMS user.
    Account {
        /// The app.
        app: String,
        /// The UMS `userId`.
        user: String,
    },
    /// Devices by client id.
    Client {
        /// The app.
        app: String,
        /// The client id.
        client: String,
    },
    /// Devices by hardware id.
    Hardware {
        /// The app.
        app: String,
        /// The UMS `deviceId`.
        id: String,
    },
    /// Devices of an account.
    AccountDevices(Uuid),
    /// Whether any device ever registered with a package.
    Package {
        /// The app.
        app: String,
        /// The package.
        package: String,
    },
    /// The ownership of a physical device.
    Owner {
        /// The app.
        app: String,
        /// The UMS `deviceId`.
        device_id: String,
    },
    /// A message.
    Message(MessageId),
}

impl Key {
    /// The key of a user's account.
    #[must_use]
    pub fn account(app: &str, user: &str) -> Key {
        Key::Account { app: app.to_owned(), user: user.to_owned() }
    }
}

/// What is known under a key. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// All apps, deleted ones too.
    Apps(Arc<Vec<App>>),
    /// The account, if it was opened.
    Account(Option<Uuid>),
    /// Devices in order of number, unregistered ones too.
    Devices(Arc<Vec<Arc<Device>>>),
    /// Whether a package is known.
    Package(bool),
    /// The ownership, if there ever was one.
    Owner(Option<Arc<Owner>>),
    /// The message, if there is one.
    Message(Option<Arc<Message>>),
}

/// Why a decision stopped.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// These facts are needed first.
    Need(Vec<Key>),
    /// The business says no.
    Rejected(Rejection),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Stop::Rejected(rejection)
    }
}

/// The facts loaded for one decision, and a note of which were used.
#[derive(Debug, Default)]
pub struct Facts {
    loaded: HashMap<Key, Fact>,
    used: RefCell<Vec<Key>>,
}

impl Facts {
    /// Adds a loaded fact.
    pub fn insert(&mut self, key: Key, fact: Fact) {
        self.loaded.insert(key, fact);
    }

    /// The keys that were asked for and answered, for the ledger to watch.
    #[must_use]
    pub fn into_used(self) -> Vec<Key> {
        self.used.into_inner()
    }

    /// Asks for many facts at once, so that they are loaded together.
    ///
    /// # Errors
    /// [`Stop::Need`] names those that are missing.
    pub fn want(&self, keys: impl Iterator<Item = Key>) -> Result<(), Stop> {
        let missing: Vec<Key> = keys.filter(|key| !self.loaded.contains_key(key)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Stop::Need(missing)) }
    }

    fn get(&self, key: &Key) -> Result<&Fact, Stop> {
        let fact = self.loaded.get(key).ok_or_else(|| Stop::Need(vec![key.clone()]))?;
        self.used.borrow_mut().push(key.clone());
        Ok(fact)
    }

    /// All apps.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn apps(&self) -> Result<Arc<Vec<App>>, Stop> {
        match self.get(&Key::Apps)? {
            Fact::Apps(apps) => Ok(Arc::clone(apps)),
            other => mismatch(&Key::Apps, other),
        }
    }

    /// The account of a UMS user.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn account(&self, app: &str, user: &str) -> Result<Option<Uuid>, Stop> {
        let key = Key::account(app, user);
        match self.get(&key)? {
            Fact::Account(account) => Ok(*account),
            other => mismatch(&key, other),
        }
    }

    /// Devices by any of the keys that name devices.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn devices(&self, key: &Key) -> Result<Arc<Vec<Arc<Device>>>, Stop> {
        match self.get(key)? {
            Fact::Devices(devices) => Ok(Arc::clone(devices)),
            other => mismatch(key, other),
        }
    }

    /// Devices by client id.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn devices_of_client(
        &self,
        app: &str,
        client: &str,
    ) -> Result<Arc<Vec<Arc<Device>>>, Stop> {
        self.devices(&Key::Client { app: app.to_owned(), client: client.to_owned() })
    }

    /// Devices of an account.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn devices_of_account(&self, account: Uuid) -> Result<Arc<Vec<Arc<Device>>>, Stop> {
        self.devices(&Key::AccountDevices(account))
    }

    /// Whether any device ever registered with a package.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn package_known(&self, app: &str, package: &str) -> Result<bool, Stop> {
        let key = Key::Package { app: app.to_owned(), package: package.to_owned() };
        match self.get(&key)? {
            Fact::Package(known) => Ok(*known),
            other => mismatch(&key, other),
        }
    }

    /// The ownership of a physical device.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn owner(&self, app: &str, device_id: &str) -> Result<Option<Arc<Owner>>, Stop> {
        let key = Key::Owner { app: app.to_owned(), device_id: device_id.to_owned() };
        match self.get(&key)? {
            Fact::Owner(owner) => Ok(owner.clone()),
            other => mismatch(&key, other),
        }
    }

    /// A message.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn message(&self, id: MessageId) -> Result<Option<Arc<Message>>, Stop> {
        let key = Key::Message(id);
        match self.get(&key)? {
            Fact::Message(message) => Ok(message.clone()),
            other => mismatch(&key, other),
        }
    }
}

/// A loader that answers a key with another kind of fact is a bug, not an input.
#[expect(clippy::panic, reason = "the loader's match over keys fixes the kind of each fact")]
fn mismatch<T>(key: &Key, fact: &Fact) -> T {
    panic!("{key:?} was answered with {fact:?}")
}

/// Where an event stands, as far as folding it needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its position in the ledger.
    pub position: i64,
    /// The app.
    pub app: &'a str,
    /// Its stream.
    pub stream: &'a Stream,
    /// Its place in that stream.
    pub version: i64,
    /// When it was recorded, in µs since the epoch.
    pub recorded_at: i64,
}

/// The keys whose facts an event may change.
#[must_use]
pub fn touched(place: Place<'_>, event: &Event) -> Vec<Key> {
    let app = || place.app.to_owned();
    match event {
        Event::AppCreated(_) | Event::AppChanged(_) | Event::AppDeleted(_) => vec![Key::Apps],
        Event::AccountOpened(e) => {
            let user = e.private.as_ref().map(|p| p.ums_user.clone());
            user.map(|user| Key::Account { app: app(), user }).into_iter().collect()
        }
        Event::DeviceRegistered(e) => {
            let package = e.profile.app_package.clone();
            let mut keys = device_keys(place.app, e.account, None, e.private.as_ref());
            keys.push(Key::Package { app: app(), package });
            keys
        }
        Event::DeviceUpdated(e) => {
            device_keys(place.app, e.account, e.former_account, e.private.as_ref())
        }
        Event::DeviceReturned(e) => {
            device_keys(place.app, e.account, e.former_account, e.private.as_ref())
        }
        Event::DeviceUnregistered(e) => device_keys(place.app, e.account, None, e.private.as_ref()),
        Event::OwnerSet(e) => owner_key(place.app, e.private.as_ref()),
        Event::OwnerRemoved(e) => owner_key(place.app, e.private.as_ref()),
        Event::MessageAccepted(_) | Event::DeliveriesAdvanced(_) | Event::RecallRequested(_) => {
            match place.stream {
                Stream::Message(id) => vec![Key::Message(*id)],
                Stream::App(_) | Stream::Account(_) | Stream::Device(_) | Stream::Owner(_) => {
                    Vec::new()
                }
            }
        }
    }
}

fn device_keys(
    app: &str,
    account: Option<Uuid>,
    former: Option<Uuid>,
    identity: Option<&crate::device::Identity>,
) -> Vec<Key> {
    let accounts = account.into_iter().chain(former).map(Key::AccountDevices);
    let names = identity.into_iter().flat_map(|identity| {
        let ids = identity.device_id.iter().chain(&identity.former_device_id);
        let hardware = ids.map(|id| Key::Hardware { app: app.to_owned(), id: id.clone() });
        let client = Key::Client { app: app.to_owned(), client: identity.client_id.clone() };
        hardware.chain([client])
    });
    accounts.chain(names).collect()
}

fn owner_key(app: &str, private: Option<&crate::owner::OwnerPrivate>) -> Vec<Key> {
    let key = |p: &crate::owner::OwnerPrivate| Key::Owner {
        app: app.to_owned(),
        device_id: p.device_id.clone(),
    };
    private.map(key).into_iter().collect()
}

impl Fact {
    /// The fact after one more event that [`touched`] its key.
    #[must_use]
    pub fn evolve(self, key: &Key, place: Place<'_>, event: &Event) -> Fact {
        match (self, place.stream) {
            (Fact::Apps(apps), _) => Fact::Apps(Arc::new(evolve_apps(&apps, place, event))),
            (Fact::Account(_), Stream::Account(id)) => Fact::Account(Some(*id)),
            (Fact::Devices(devices), Stream::Device(stream)) => {
                Fact::Devices(Arc::new(evolve_devices(&devices, key, *stream, place, event)))
            }
            (Fact::Package(_), _) => Fact::Package(true),
            (Fact::Owner(_), Stream::Owner(stream)) => {
                let held = if let Event::OwnerSet(e) = event {
                    Some((e.account, e.bind_key.clone()))
                } else {
                    None
                };
                let owner = Owner { stream: *stream, version: place.version, held };
                Fact::Owner(Some(Arc::new(owner)))
            }
            (Fact::Message(message), _) => {
                let before = message.map(Arc::unwrap_or_clone);
                Fact::Message(Message::evolve(before, place, event).map(Arc::new))
            }
            (unconcerned, _) => unconcerned,
        }
    }
}

fn evolve_apps(apps: &[App], place: Place<'_>, event: &Event) -> Vec<App> {
    let mut apps = apps.to_vec();
    let id = match place.stream {
        Stream::App(id) => id.as_str(),
        Stream::Account(_) | Stream::Device(_) | Stream::Owner(_) | Stream::Message(_) => "",
    };
    let version = place.version;
    if let Event::AppCreated(e) = event {
        apps.push(App { version, config: e.config.clone(), deleted: false });
    } else if let Some(app) = apps.iter_mut().find(|app| app.config.app_id == id) {
        app.version = version;
        if let Event::AppChanged(e) = event {
            app.config = e.config.clone();
        }
        app.deleted = matches!(event, Event::AppDeleted(_));
    }
    apps
}

fn evolve_devices(
    devices: &[Arc<Device>],
    key: &Key,
    stream: Uuid,
    place: Place<'_>,
    event: &Event,
) -> Vec<Arc<Device>> {
    let mut devices = devices.to_vec();
    let index = devices.iter().position(|device| device.stream == stream);
    let before = index.map(|index| Arc::unwrap_or_clone(devices.remove(index)));
    let after = Device::evolve(before, stream, place, event);
    if let Some(device) = after.filter(|device| belongs(key, device)) {
        let index = devices.partition_point(|other| other.number < device.number);
        devices.insert(index, Arc::new(device));
    }
    devices
}

/// Whether a device is among those that a key names.
fn belongs(key: &Key, device: &Device) -> bool {
    match key {
        Key::Client { client, .. } => device.identity.client_id == *client,
        Key::Hardware { id, .. } => device.identity.device_id.as_ref() == Some(id),
        Key::AccountDevices(account) => device.account == Some(*account),
        Key::Apps
        | Key::Account { .. }
        | Key::Package { .. }
        | Key::Owner { .. }
        | Key::Message(_) => false,
    }
}
