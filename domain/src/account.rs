//! An account: a user of an app, with one address per protocol.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Stream,
    event::with_private,
    facts::{Facts, Stop},
};

/// A user of the app was seen for the first time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountOpened {
    /// The user's addresses; `None` once erased.
    #[serde(skip)]
    pub private: Option<AccountPrivate>,
}

/// Who the account is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountPrivate {
    /// The UMS `userId`, compared to the letter.
    pub ums_user: String,
}

with_private!(AccountOpened);

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
    appends.push(Append {
        stream: Stream::Account(new_account),
        version: 1,
        event: AccountOpened { private: Some(AccountPrivate { ums_user: user.to_owned() }) }.into(),
    });
    Ok(new_account)
}
