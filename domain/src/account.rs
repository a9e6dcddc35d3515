//! An account: a user of an app, with one address per protocol. A UMS user is seen for the first
//! time when a terminal names it; an Easemob user is registered and removed by the app's server.

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

/// A user was removed: its Easemob name is free again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountClosed {
    /// The addresses that are free now; `None` once erased.
    #[serde(skip)]
    pub private: Option<AccountPrivate>,
}

/// Who the account is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AccountPrivate {
    /// The UMS `userId`, compared to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ums_user: Option<String>,
    /// The Easemob username in lower case, as it ignores case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The nickname that the user was registered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nickname: Option<String>,
}

with_private!(AccountOpened, AccountClosed);

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
    appends.push(Append {
        stream: Stream::Account(new_account),
        version: 1,
        event: AccountOpened { private: Some(private) }.into(),
    });
    Ok(new_account)
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

/// Removes an Easemob user with its devices and memberships.
#[derive(Debug, Clone)]
pub struct RemoveUser {
    /// The app.
    pub app: String,
    /// The name, in lower case.
    pub username: String,
}

impl Decide for RegisterUser {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        if facts.user(&self.app, &self.username)?.is_some() {
            return Err(Rejection::UserTaken(self.username.clone()).into());
        }
        let private = AccountPrivate {
            ums_user: None,
            username: Some(self.username.clone()),
            nickname: self.nickname.clone(),
        };
        let event = AccountOpened { private: Some(private) }.into();
        Ok(vec![Append { stream: Stream::Account(self.new_account), version: 1, event }])
    }
}

impl Decide for RemoveUser {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let user = known_user(facts, &self.app, &self.username)?;
        let keys = [Key::AccountDevices(user.account), Key::AccountLabels(user.account)];
        facts.want(keys.into_iter())?;
        let mut appends = device::unregister_all(&facts.devices_of_account(user.account)?);
        appends.extend(label::leave_all(facts, &self.app, user.account)?);
        let private =
            AccountPrivate { username: Some(user.username.clone()), ..Default::default() };
        let event = AccountClosed { private: Some(private) }.into();
        let stream = Stream::Account(user.account);
        appends.push(Append { stream, version: user.version + 1, event });
        Ok(appends)
    }
}
