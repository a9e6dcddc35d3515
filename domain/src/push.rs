//! The push command: destinations in, one message with its deliveries out. Every protocol's push
//! is this command with another face.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream, USUAL_BYTES, account,
    device::Device,
    facts::{Facts, Key, Stop},
    message::{MessageAccepted, MessageId, MessagePrivate, Protocol, Sender, Target},
    resend::Resend,
    route::Strategy,
};

/// Deliveries that one message may name.
pub const MAX_DELIVERIES: usize = 4096;

/// Where a push wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destinations {
    /// Devices by client id, whoever's they are.
    Clients(Vec<String>),
    /// Devices by hardware id, whoever's they are.
    Hardware(Vec<String>),
    /// Devices of one user by hardware id.
    HardwareOf(String, Vec<String>),
    /// Devices of these users, of these device types.
    Types(Vec<String>, Vec<String>),
    /// Devices of these users, of these app packages.
    Packages(Vec<String>, Vec<String>),
    /// Every device of these Easemob users, whose names are in lower case.
    Users(Vec<String>),
    /// Antelope devices by their numbers.
    Cids(Vec<u32>),
    /// The phones of whoever owns this physical device and knows its bind key.
    OwnerOf {
        /// The hardware id.
        device_id: String,
        /// Keyed hash of the bind key that the caller showed.
        bind_key: String,
    },
}

/// What to do about destinations that lead nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Refuse the push.
    Strict,
    /// Leave them out; refuse the push if none is left.
    Try,
    /// Leave them out, even if none is left.
    TryOrNobody,
}

/// Pushes a message.
#[derive(Debug, Clone)]
pub struct PushMessage {
    /// The app.
    pub app: String,
    /// The new message's id.
    pub id: MessageId,
    /// How it came.
    pub protocol: Protocol,
    /// Who sends it.
    pub sender: PushSender,
    /// Where it goes.
    pub destinations: Destinations,
    /// What to do about destinations that lead nowhere.
    pub mode: Mode,
    /// How it is to travel.
    pub strategy: Strategy,
    /// When it expires, in µs since the epoch.
    pub expires_at: i64,
    /// Whether it burns after display.
    pub burn: bool,
    /// How often it is sent to a device that does not answer, if that is for the caller to say.
    pub resend: Option<Resend>,
    /// Whether the app's server is to be told of it.
    pub callback: bool,
    /// The caller's own words.
    pub private: MessagePrivate,
    /// Account of the sending user, if this opens it.
    pub new_account: Uuid,
}

/// Who sends a push, by the caller's own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushSender {
    /// A user by UMS `userId`.
    User(String),
    /// A terminal without a user.
    Terminal,
    /// The app's server.
    Cloud,
}

/// Devices that a push reaches, and the destinations that reached none.
#[derive(Default)]
struct Reached {
    devices: BTreeMap<i64, Option<Uuid>>,
    unresolved: u32,
    /// Easemob users that there are, and those of them without a device.
    users: u32,
    unbound: u32,
}

impl Decide for PushMessage {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let mut appends = Vec::new();
        let reached = self.resolve(facts)?;
        let strict = self.mode == Mode::Strict;
        if strict && reached.unresolved > 0 {
            return Err(Rejection::NotRegistered.into());
        }
        if reached.devices.is_empty() && self.mode != Mode::TryOrNobody {
            return Err(Rejection::NobodyRegistered.into());
        }
        let count = reached.devices.len();
        if count > MAX_DELIVERIES {
            let limit = MAX_DELIVERIES;
            return Err(Rejection::TooManyDeliveries { reached: count, limit }.into());
        }
        let sender = match &self.sender {
            PushSender::User(user) => Sender::User(account::of_user(
                facts,
                &self.app,
                user,
                self.new_account,
                &mut appends,
            )?),
            PushSender::Terminal => Sender::Terminal,
            PushSender::Cloud => Sender::Cloud,
        };
        let targets = reached.devices.into_iter();
        let event = MessageAccepted {
            protocol: self.protocol,
            sender,
            strategy: self.strategy,
            expires_at: self.expires_at,
            burn: self.burn,
            resend: self.resend,
            callback: self.callback,
            targets: targets.map(|(device, account)| Target { device, account }).collect(),
            unresolved: reached.unresolved,
            chat: None,
            users: reached.users,
            unbound: reached.unbound,
            private: Some(self.private.clone()),
        };
        let stream = Stream::Message(self.id);
        appends.push(Append { stream, version: 1, event: event.into() });
        Ok(appends)
    }

    fn bytes(&self) -> usize {
        USUAL_BYTES + self.private.bytes()
    }
}

/// Pushes several messages to Antelope devices, all or none.
#[derive(Debug, Clone)]
pub struct PushMessages(pub Vec<PushMessage>);

impl Decide for PushMessages {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        // All facts at once: rounds of loading are bounded.
        facts.want(self.0.iter().flat_map(PushMessage::cids))?;
        let appends: Result<Vec<_>, Stop> = self.0.iter().map(|push| push.decide(facts)).collect();
        Ok(appends?.into_iter().flatten().collect())
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(Decide::bytes).sum()
    }
}

impl PushMessage {
    /// The keys of the Antelope devices that it goes to.
    fn cids(&self) -> impl Iterator<Item = Key> {
        let cids: &[u32] = match &self.destinations {
            Destinations::Cids(cids) => cids,
            Destinations::Clients(_)
            | Destinations::Hardware(_)
            | Destinations::HardwareOf(..)
            | Destinations::Types(..)
            | Destinations::Packages(..)
            | Destinations::Users(_)
            | Destinations::OwnerOf { .. } => &[],
        };
        cids.iter().map(|cid| Key::cid(&self.app, *cid))
    }

    fn resolve(&self, facts: &Facts) -> Result<Reached, Stop> {
        let app = self.app.clone();
        match &self.destinations {
            Destinations::Clients(clients) => by_name(facts, clients, |client| Key::Client {
                app: app.clone(),
                client: client.clone(),
            }),
            Destinations::Hardware(ids) => {
                by_name(facts, ids, |id| Key::Hardware { app: app.clone(), id: id.clone() })
            }
            Destinations::HardwareOf(user, ids) => {
                let account = facts.account(&self.app, user)?;
                let theirs = match account {
                    Some(account) => facts.devices_of_account(account)?,
                    None => std::sync::Arc::default(),
                };
                Ok(by_trait(&[(account, &theirs[..])], ids, |d| d.identity.device_id.as_deref()))
            }
            Destinations::Types(users, types) => {
                self.of_users(facts, users, types, |d| Some(&d.profile.device_type))
            }
            Destinations::Packages(users, packages) => {
                self.of_users(facts, users, packages, |d| Some(&d.profile.app_package))
            }
            Destinations::Users(users) => by_username(facts, &self.app, users),
            Destinations::Cids(cids) => by_name(facts, cids, |cid| Key::cid(&app, *cid)),
            Destinations::OwnerOf { device_id, bind_key } => {
                self.of_owner(facts, device_id, bind_key)
            }
        }
    }

    /// Every user must exist and have a device (strict), and every trait must be met by one.
    fn of_users(
        &self,
        facts: &Facts,
        users: &[String],
        wanted: &[String],
        of: impl Fn(&Device) -> Option<&str>,
    ) -> Result<Reached, Stop> {
        let users: BTreeSet<&String> = users.iter().collect();
        facts.want(users.iter().map(|user| Key::account(&self.app, user)))?;
        let mut accounts = Vec::new();
        let mut unresolved = 0;
        for user in users {
            match facts.account(&self.app, user)? {
                Some(account) => accounts.push(account),
                None if self.mode == Mode::Strict => return Err(Rejection::IllegalUser.into()),
                None => unresolved += 1,
            }
        }
        facts.want(accounts.iter().map(|account| Key::AccountDevices(*account)))?;
        let mut lists = Vec::new();
        for account in accounts {
            lists.push((Some(account), facts.devices_of_account(account)?));
        }
        let slices: Vec<_> = lists.iter().map(|(account, list)| (*account, &list[..])).collect();
        let mut reached = by_trait(&slices, wanted, &of);
        let wants = |d: &Device| of(d).is_some_and(|it| wanted.iter().any(|w| w == it));
        let misses =
            |list: &[std::sync::Arc<Device>]| !list.iter().any(|d| d.registered() && wants(d));
        let alone = slices.iter().filter(|(_, list)| misses(list)).count();
        reached.unresolved += unresolved + u32::try_from(alone).unwrap_or(u32::MAX);
        Ok(reached)
    }

    fn of_owner(&self, facts: &Facts, device_id: &str, bind_key: &str) -> Result<Reached, Stop> {
        let owner = facts.owner(&self.app, device_id)?.and_then(|owner| owner.held.clone());
        let (account, expected) = owner.ok_or(Rejection::NoOwner)?;
        // Both are keyed hashes, so comparing them tells nothing about the key.
        if expected != bind_key {
            return Err(Rejection::WrongBindKey.into());
        }
        let devices = facts.devices_of_account(account)?;
        let phones = [PHONE.to_owned()];
        Ok(by_trait(&[(Some(account), &devices[..])], &phones, |d| Some(&d.profile.device_type)))
    }
}

/// The device type of a phone.
const PHONE: &str = "01";

/// Devices of Easemob users. They never change their user, so they are addressed as devices.
fn by_username(facts: &Facts, app: &str, usernames: &[String]) -> Result<Reached, Stop> {
    let usernames: BTreeSet<&String> = usernames.iter().collect();
    facts.want(usernames.iter().map(|username| Key::user(app, username)))?;
    let mut reached = Reached::default();
    let mut accounts = Vec::new();
    for username in usernames {
        match facts.user(app, username)? {
            Some(user) => accounts.push(user.account),
            None => reached.unresolved += 1,
        }
    }
    facts.want(accounts.iter().map(|account| Key::AccountDevices(*account)))?;
    for account in accounts {
        let devices = facts.devices_of_account(account)?;
        let mut found = devices.iter().filter(|device| device.registered()).peekable();
        reached.users += 1;
        reached.unbound += u32::from(found.peek().is_none());
        reached.devices.extend(found.map(|device| (device.number, None)));
    }
    Ok(reached)
}

/// Devices found by a name that is looked up for each destination.
fn by_name<N: Ord>(facts: &Facts, names: &[N], key: impl Fn(&N) -> Key) -> Result<Reached, Stop> {
    let names: BTreeSet<&N> = names.iter().collect();
    facts.want(names.iter().map(|name| key(name)))?;
    let mut reached = Reached::default();
    for name in names {
        let devices = facts.devices(&key(name))?;
        let before = reached.devices.len();
        let found = devices.iter().filter(|device| device.registered());
        reached.devices.extend(found.map(|device| (device.number, None)));
        reached.unresolved += u32::from(reached.devices.len() == before);
    }
    Ok(reached)
}

/// Devices of known accounts whose trait is one of those wanted; a trait that none has is an
/// unresolved destination.
fn by_trait<'a>(
    accounts: &[(Option<Uuid>, &'a [std::sync::Arc<Device>])],
    wanted: &[String],
    of: impl Fn(&'a Device) -> Option<&'a str>,
) -> Reached {
    let mut reached = Reached::default();
    for name in wanted.iter().collect::<BTreeSet<_>>() {
        let before = reached.devices.len();
        for (account, devices) in accounts {
            let found = devices.iter().filter(|d| d.registered() && of(d) == Some(name.as_str()));
            reached.devices.extend(found.map(|device| (device.number, *account)));
        }
        reached.unresolved += u32::from(reached.devices.len() == before);
    }
    reached
}
