//! An account: a user of an app, with one address per protocol. A UMS user is seen for the first
//! time when a terminal names it; an Easemob user is registered and removed by the app's server, and
//! a Tencent account is imported by it. An operator may give an account its address in one more
//! protocol, so that whoever pushes by that name reaches the same devices.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream, device,
    event::with_private,
    facts::{Facts, Key, Stop},
    label,
};

/// A user of the app was seen for the first time, or registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountOpened {
    /// The user's addresses; `None` once erased.
    #[serde(skip)]
    pub private: Option<AccountPrivate>,
}

/// A user got an address in one more protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountLinked {
    /// When the account was opened, in µs since the epoch.
    pub opened_at: i64,
    /// All addresses that it has now; `None` once erased.
    #[serde(skip)]
    pub private: Option<AccountPrivate>,
}

/// A user was removed: its addresses are free again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountClosed {
    /// The addresses that are free now; `None` once erased.
    #[serde(skip)]
    pub private: Option<AccountPrivate>,
}

/// Who the account is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccountPrivate {
    /// The UMS `userId`, compared to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ums_user: Option<String>,
    /// The Easemob username in lower case, as it ignores case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The Tencent `UserID`, compared to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tencent: Option<String>,
    /// The nickname that the user was registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
}

with_private!(AccountOpened, AccountLinked, AccountClosed);

/// An account as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its stream.
    pub account: Uuid,
    /// Version of its stream.
    pub version: i64,
    /// When it was opened, in µs since the epoch.
    pub opened_at: i64,
    /// Its addresses.
    pub addresses: AccountPrivate,
}

/// An Easemob user as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its account.
    pub account: Uuid,
    /// Version of the account's stream.
    pub version: i64,
    /// When it was registered, in µs since the epoch.
    pub opened_at: i64,
    /// Its name, in lower case.
    pub username: String,
    /// Its nickname.
    pub nickname: Option<String>,
}

/// The name of a user in one protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A UMS `userId`.
    Ums(String),
    /// An Easemob username, in lower case.
    Easemob(String),
    /// A Tencent `UserID`.
    Tencent(String),
}

impl Address {
    /// The name itself.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Address::Ums(name) | Address::Easemob(name) | Address::Tencent(name) => name,
        }
    }

    fn key(&self, app: &str) -> Key {
        match self {
            Address::Ums(name) => Key::account(app, name),
            Address::Easemob(name) => Key::user(app, name),
            Address::Tencent(name) => Key::tencent(app, name),
        }
    }

    /// The account that has it.
    fn holder(&self, facts: &Facts, app: &str) -> Result<Option<Uuid>, Stop> {
        match self {
            Address::Ums(name) => facts.account(app, name),
            Address::Easemob(name) => Ok(facts.user(app, name)?.map(|user| user.account)),
            Address::Tencent(name) => facts.tencent(app, name),
        }
    }

    /// Where an account keeps it.
    fn place<'a>(&self, addresses: &'a mut AccountPrivate) -> &'a mut Option<String> {
        match self {
            Address::Ums(_) => &mut addresses.ums_user,
            Address::Easemob(_) => &mut addresses.username,
            Address::Tencent(_) => &mut addresses.tencent,
        }
    }
}

/// The account of a UMS user as a decision sees it: there, or about to be opened.
///
/// # Errors
/// [`Stop::Need`] when the account is not loaded.
pub fn of_user(
    facts: &Facts,
    app: &str,
    user: &str,
    new_account: Uuid,
    appends: &mut Vec<Append>,
) -> Result<Uuid, Stop> {
    if let Some(account) = facts.account(app, user)? {
        return Ok(account);
    }
    let private = AccountPrivate { ums_user: Some(user.to_owned()), ..AccountPrivate::default() };
    appends.push(opened(new_account, private));
    Ok(new_account)
}

fn opened(account: Uuid, private: AccountPrivate) -> Append {
    let event = AccountOpened { private: Some(private) }.into();
    Append { stream: Stream::Account(account), version: 1, event }
}

/// The first event of a Tencent account.
pub(crate) fn imported(account: Uuid, user: &str) -> Append {
    let private = AccountPrivate { tencent: Some(user.to_owned()), ..AccountPrivate::default() };
    opened(account, private)
}

/// The Easemob user of that name.
///
/// # Errors
/// [`Rejection::UnknownUser`], or [`Stop::Need`] when it is not loaded.
pub(crate) fn known_user(facts: &Facts, app: &str, username: &str) -> Result<Arc<User>, Stop> {
    let user = facts.user(app, username)?;
    user.ok_or_else(|| Rejection::UnknownUser(username.to_owned()).into())
}

/// Registers an Easemob user.
#[derive(Debug, Clone)]
pub struct RegisterUser {
    /// The app.
    pub app: String,
    /// The name, in lower case.
    pub username: String,
    /// The nickname, if one was given.
    pub nickname: Option<String>,
    /// The new account.
    pub new_account: Uuid,
}

/// Removes an Easemob user with its devices and memberships, and whatever other addresses it has.
#[derive(Debug, Clone)]
pub struct RemoveUser {
    /// The app.
    pub app: String,
    /// The name, in lower case.
    pub username: String,
}

/// Imports Tencent accounts; those that are there stay as they are.
#[derive(Debug, Clone)]
pub struct ImportAccounts {
    /// The app.
    pub app: String,
    /// The `UserID` and the nickname of each, with its new account, should it be new.
    pub accounts: Vec<(String, Option<String>, Uuid)>,
}

/// Gives an account its address in one more protocol.
#[derive(Debug, Clone)]
pub struct LinkAccount {
    /// The app.
    pub app: String,
    /// An address that the account has.
    pub of: Address,
    /// The ones that it gets.
    pub new: Vec<Address>,
}

impl Decide for RegisterUser {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        if facts.user(&self.app, &self.username)?.is_some() {
            return Err(Rejection::UserTaken(self.username.clone()).into());
        }
        let private = AccountPrivate {
            username: Some(self.username.clone()),
            nickname: self.nickname.clone(),
            ..AccountPrivate::default()
        };
        Ok(vec![opened(self.new_account, private)])
    }
}

impl Decide for RemoveUser {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let user = known_user(facts, &self.app, &self.username)?;
        let account = user.account;
        let devices = Key::AccountDevices(account);
        facts.want([devices, Key::AccountLabels(account), Key::Addresses(account)].into_iter())?;
        let mut appends = device::unregister_all(&facts.devices_of_account(account)?);
        appends.extend(label::leave_all(facts, &self.app, account)?);
        let addresses = facts.addresses(account)?.map(|account| account.addresses.clone());
        let private = AccountPrivate { nickname: None, ..addresses.unwrap_or_default() };
        let event = AccountClosed { private: Some(private) }.into();
        appends.push(Append { stream: Stream::Account(account), version: user.version + 1, event });
        Ok(appends)
    }
}

impl Decide for ImportAccounts {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let names = || self.accounts.iter().map(|(name, ..)| name);
        facts.want(names().map(|name| Key::tencent(&self.app, name)))?;
        let mut appends = Vec::new();
        for (at, (name, nickname, account)) in self.accounts.iter().enumerate() {
            let twice = names().take(at).any(|earlier| earlier == name);
            if twice || facts.tencent(&self.app, name)?.is_some() {
                continue;
            }
            let private = AccountPrivate {
                tencent: Some(name.clone()),
                nickname: nickname.clone(),
                ..AccountPrivate::default()
            };
            appends.push(opened(*account, private));
        }
        Ok(appends)
    }
}

impl Decide for LinkAccount {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let all = std::iter::once(&self.of).chain(&self.new);
        facts.want(all.map(|address| address.key(&self.app)))?;
        let unknown = || Rejection::UnknownUser(self.of.name().to_owned());
        let account = self.of.holder(facts, &self.app)?.ok_or_else(unknown)?;
        let before = facts.addresses(account)?.ok_or_else(unknown)?;
        let mut addresses = before.addresses.clone();
        for address in &self.new {
            let holder = address.holder(facts, &self.app)?;
            let place = address.place(&mut addresses);
            let other = holder.is_some_and(|holder| holder != account);
            if other || place.as_deref().is_some_and(|own| own != address.name()) {
                return Err(Rejection::AddressTaken(address.name().to_owned()).into());
            }
            *place = Some(address.name().to_owned());
        }
        if addresses == before.addresses {
            return Ok(Vec::new());
        }
        let event = AccountLinked { opened_at: before.opened_at, private: Some(addresses) }.into();
        let stream = Stream::Account(account);
        Ok(vec![Append { stream, version: before.version + 1, event }])
    }
}

impl Account {
    /// The account after one more event of its stream; `None` once it was closed.
    #[must_use]
    pub fn evolve(
        account: Uuid,
        place: crate::facts::Place<'_>,
        event: &crate::Event,
    ) -> Option<Account> {
        let (opened_at, private) = match event {
            crate::Event::AccountOpened(e) => (place.recorded_at, &e.private),
            crate::Event::AccountLinked(e) => (e.opened_at, &e.private),
            // Nothing else goes on.
            _ => return None,
        };
        let addresses = private.clone().unwrap_or_default();
        Some(Account { account, version: place.version, opened_at, addresses })
    }

    /// The Easemob user that it is, if it has such an address.
    #[must_use]
    pub fn user(&self) -> Option<User> {
        Some(User {
            account: self.account,
            version: self.version,
            opened_at: self.opened_at,
            username: self.addresses.username.clone()?,
            nickname: self.addresses.nickname.clone(),
        })
    }
}
