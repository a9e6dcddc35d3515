//! What a decision may know. A decider asks by [`Key`]; a key that is not loaded stops it with
//! [`Stop::Need`], the shell loads it and runs the decider again. So deciders stay pure and
//! synchronous, and the ledger knows exactly which facts a decision rests on: when one of them
//! moves before the commit, the command is decided again.

mod touched;

pub use touched::{forgets, touched};

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    Event, Rejection, Stream,
    account::{Account, User},
    app::App,
    device::Device,
    erasure::SubjectErased,
    label::Label,
    message::{Message, MessageId, Protocol},
    owner::Owner,
    task::{self, AppTask, Task, chunk::Chunk},
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
    /// An Easemob user.
    User {
        /// The app.
        app: String,
        /// The username, in lower case.
        username: String,
    },
    /// The account of a Tencent user.
    Tencent {
        /// The app.
        app: String,
        /// The Tencent `UserID`.
        user: String,
    },
    /// An account with its addresses.
    Addresses(Uuid),
    /// A label.
    Label {
        /// The app.
        app: String,
        /// The label's name.
        name: String,
    },
    /// How many labels an app has.
    LabelCount(String),
    /// Whether an account is in a label.
    Member {
        /// The label's stream.
        label: Uuid,
        /// The account.
        account: Uuid,
    },
    /// The labels that an account is in.
    AccountLabels(Uuid),
    /// A device by its number.
    Device(i64),
    /// UMS devices by client id.
    Client {
        /// The app.
        app: String,
        /// The client id.
        client: String,
    },
    /// The Antelope device of a number.
    Cid {
        /// The app.
        app: String,
        /// The device's number in the protocol.
        cid: u32,
    },
    /// UMS devices by hardware id.
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
    /// A task.
    Task(MessageId),
    /// An app's tasks, as far as limits count them.
    AppTasks(String),
    /// A chunk of a task.
    Chunk(MessageId, i64),
}

impl Key {
    /// The key of a user's account.
    #[must_use]
    pub fn account(app: &str, user: &str) -> Key {
        Key::Account { app: app.to_owned(), user: user.to_owned() }
    }

    /// The key of an Easemob user.
    #[must_use]
    pub fn user(app: &str, username: &str) -> Key {
        Key::User { app: app.to_owned(), username: username.to_owned() }
    }

    /// The key of a Tencent user's account.
    #[must_use]
    pub fn tencent(app: &str, user: &str) -> Key {
        Key::Tencent { app: app.to_owned(), user: user.to_owned() }
    }

    /// The key of an Antelope device.
    #[must_use]
    pub fn cid(app: &str, cid: u32) -> Key {
        Key::Cid { app: app.to_owned(), cid }
    }

    /// The key of a label.
    #[must_use]
    pub fn label(app: &str, name: &str) -> Key {
        Key::Label { app: app.to_owned(), name: name.to_owned() }
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
    /// The Easemob user, if it is registered.
    User(Option<Arc<User>>),
    /// The account with its addresses, if it is open.
    Addresses(Option<Arc<Account>>),
    /// The label, if there is one.
    Label(Option<Arc<Label>>),
    /// Streams and names of labels, in order of stream.
    Labels(Arc<Vec<(Uuid, String)>>),
    /// A number of things.
    Count(i64),
    /// Whether a package is known, or an account is a member.
    Known(bool),
    /// The ownership, if there ever was one.
    Owner(Option<Arc<Owner>>),
    /// The message, if there is one.
    Message(Option<Arc<Message>>),
    /// The task, if there is one.
    Task(Option<Arc<Task>>),
    /// Tasks in order of creation.
    Tasks(Arc<Vec<AppTask>>),
    /// The chunk, if an attempt at it was recorded.
    Chunk(Option<Arc<Chunk>>),
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
    /// [`Stop::Need`] names those that are missing, each once.
    pub fn want(&self, keys: impl Iterator<Item = Key>) -> Result<(), Stop> {
        let mut named = HashSet::new();
        let missing = keys.filter(|key| !self.loaded.contains_key(key));
        let missing: Vec<Key> = missing.filter(|key| named.insert(key.clone())).collect();
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

    /// The account of a Tencent user.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn tencent(&self, app: &str, user: &str) -> Result<Option<Uuid>, Stop> {
        let key = Key::tencent(app, user);
        match self.get(&key)? {
            Fact::Account(account) => Ok(*account),
            other => mismatch(&key, other),
        }
    }

    /// An account with its addresses.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn addresses(&self, account: Uuid) -> Result<Option<Arc<Account>>, Stop> {
        let key = Key::Addresses(account);
        match self.get(&key)? {
            Fact::Addresses(account) => Ok(account.clone()),
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
            Fact::Known(known) => Ok(*known),
            other => mismatch(&key, other),
        }
    }

    /// An Easemob user.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn user(&self, app: &str, username: &str) -> Result<Option<Arc<User>>, Stop> {
        let key = Key::user(app, username);
        match self.get(&key)? {
            Fact::User(user) => Ok(user.clone()),
            other => mismatch(&key, other),
        }
    }

    /// A label.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn label(&self, app: &str, name: &str) -> Result<Option<Arc<Label>>, Stop> {
        let key = Key::label(app, name);
        match self.get(&key)? {
            Fact::Label(label) => Ok(label.clone()),
            other => mismatch(&key, other),
        }
    }

    /// How many labels an app has.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn label_count(&self, app: &str) -> Result<i64, Stop> {
        let key = Key::LabelCount(app.to_owned());
        match self.get(&key)? {
            Fact::Count(count) => Ok(*count),
            other => mismatch(&key, other),
        }
    }

    /// Whether an account is in a label.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn is_member(&self, label: Uuid, account: Uuid) -> Result<bool, Stop> {
        let key = Key::Member { label, account };
        match self.get(&key)? {
            Fact::Known(known) => Ok(*known),
            other => mismatch(&key, other),
        }
    }

    /// Streams and names of the labels that an account is in.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn labels_of_account(&self, account: Uuid) -> Result<Arc<Vec<(Uuid, String)>>, Stop> {
        let key = Key::AccountLabels(account);
        match self.get(&key)? {
            Fact::Labels(labels) => Ok(Arc::clone(labels)),
            other => mismatch(&key, other),
        }
    }

    /// A device by its number.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn device(&self, number: i64) -> Result<Option<Arc<Device>>, Stop> {
        Ok(self.devices(&Key::Device(number))?.first().cloned())
    }

    /// The Antelope device of a number.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn device_of_cid(&self, app: &str, cid: u32) -> Result<Option<Arc<Device>>, Stop> {
        Ok(self.devices(&Key::cid(app, cid))?.first().cloned())
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

    /// A task.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn task(&self, id: MessageId) -> Result<Option<Arc<Task>>, Stop> {
        let key = Key::Task(id);
        match self.get(&key)? {
            Fact::Task(task) => Ok(task.clone()),
            other => mismatch(&key, other),
        }
    }

    /// An app's tasks, as far as limits count them.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn tasks_of_app(&self, app: &str) -> Result<Arc<Vec<AppTask>>, Stop> {
        let key = Key::AppTasks(app.to_owned());
        match self.get(&key)? {
            Fact::Tasks(tasks) => Ok(Arc::clone(tasks)),
            other => mismatch(&key, other),
        }
    }

    /// A chunk of a task.
    ///
    /// # Errors
    /// [`Stop::Need`] if not loaded.
    pub fn chunk(&self, task: MessageId, chunk: i64) -> Result<Option<Arc<Chunk>>, Stop> {
        let key = Key::Chunk(task, chunk);
        match self.get(&key)? {
            Fact::Chunk(chunk) => Ok(chunk.clone()),
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

impl Fact {
    /// The fact after one more event that [`touched`] its key.
    #[must_use]
    pub fn evolve(self, key: &Key, place: Place<'_>, event: &Event) -> Fact {
        if let Event::SubjectErased(erased) = event {
            return self.without(erased);
        }
        match (self, place.stream) {
            (Fact::Apps(apps), _) => Fact::Apps(Arc::new(evolve_apps(&apps, place, event))),
            (Fact::Account(_), Stream::Account(id)) => {
                Fact::Account(Some(*id).filter(|_| !matches!(event, Event::AccountClosed(_))))
            }
            (Fact::Addresses(_), Stream::Account(id)) => {
                Fact::Addresses(Account::evolve(*id, place, event).map(Arc::new))
            }
            (Fact::Devices(devices), Stream::Device(stream)) => {
                Fact::Devices(Arc::new(evolve_devices(&devices, key, *stream, place, event)))
            }
            (Fact::User(_), Stream::Account(id)) => {
                let account = Account::evolve(*id, place, event);
                Fact::User(account.and_then(|account| account.user()).map(Arc::new))
            }
            (Fact::Label(label), Stream::Label(stream)) => {
                Fact::Label(Label::evolve(label, *stream, place, event))
            }
            (Fact::Labels(labels), Stream::Label(stream)) => {
                Fact::Labels(Arc::new(evolve_labels(&labels, key, *stream, event)))
            }
            (Fact::Count(count), _) => match event {
                Event::LabelCreated(_) => Fact::Count(count + 1),
                _ => Fact::Count(count - 1),
            },
            (Fact::Known(known), _) => Fact::Known(match (key, event) {
                (Key::Member { account, .. }, Event::LabelMembersChanged(e)) => {
                    e.joined.contains(account)
                }
                (Key::Member { label, .. }, Event::LabelDeleted(_)) => {
                    known && *place.stream != Stream::Label(*label)
                }
                _ => true,
            }),
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
            (Fact::Task(task), _) => {
                let before = task.map(Arc::unwrap_or_clone);
                Fact::Task(Task::evolve(before, place, event).map(Arc::new))
            }
            (Fact::Tasks(tasks), _) => {
                Fact::Tasks(Arc::new(task::evolve_tasks(&tasks, place, event)))
            }
            (Fact::Chunk(chunk), _) => {
                let before = chunk.map(Arc::unwrap_or_clone);
                Fact::Chunk(Chunk::evolve(before, place, event).map(Arc::new))
            }
            (unconcerned, _) => unconcerned,
        }
    }
}

impl Fact {
    /// The fact after a subject was erased, as far as that subject's keys are concerned.
    fn without(self, erased: &SubjectErased) -> Fact {
        match self {
            Fact::Devices(devices) => {
                let mut devices = Arc::unwrap_or_clone(devices);
                devices.retain(|device| !erased.has_device(device.number));
                Fact::Devices(Arc::new(devices))
            }
            Fact::Addresses(Some(account)) if erased.has_account(account.account) => {
                Fact::Addresses(None)
            }
            unconcerned => unconcerned,
        }
    }
}

fn evolve_apps(apps: &[App], place: Place<'_>, event: &Event) -> Vec<App> {
    let mut apps = apps.to_vec();
    let id = if let Stream::App(id) = place.stream { id.as_str() } else { "" };
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

fn evolve_labels(
    labels: &[(Uuid, String)],
    key: &Key,
    stream: Uuid,
    event: &Event,
) -> Vec<(Uuid, String)> {
    // Whoever is among its members now joined; whoever is not left, or it was deleted.
    let mut labels = labels.to_vec();
    labels.retain(|(label, _)| *label != stream);
    if let (Key::AccountLabels(account), Event::LabelMembersChanged(e)) = (key, event)
        && e.joined.contains(account)
    {
        let at = labels.partition_point(|(label, _)| *label < stream);
        labels.insert(at, (stream, e.name.clone()));
    }
    labels
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
        Key::Client { client, .. } => {
            device.protocol == Protocol::Ums && device.identity.client_id == *client
        }
        Key::Cid { cid, .. } => device.cid() == Some(*cid),
        Key::Hardware { id, .. } => device.identity.device_id.as_ref() == Some(id),
        Key::AccountDevices(account) => device.account == Some(*account),
        Key::Device(number) => device.number == *number,
        Key::Apps
        | Key::Account { .. }
        | Key::User { .. }
        | Key::Tencent { .. }
        | Key::Addresses(_)
        | Key::Label { .. }
        | Key::LabelCount(_)
        | Key::Member { .. }
        | Key::AccountLabels(_)
        | Key::Package { .. }
        | Key::Owner { .. }
        | Key::Message(_)
        | Key::Task(_)
        | Key::AppTasks(_)
        | Key::Chunk(..) => false,
    }
}
