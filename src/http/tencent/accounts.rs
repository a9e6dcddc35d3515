//! `account_import` and `multiaccount_import`: accounts are there once they were imported. One that
//! is there already is no error, and stays as it is.

use domain::{account::ImportAccounts, object::Object};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Reply, errors::Problem, fields::optional, gate::Call};
use crate::{
    app::Server,
    apps::{named, tencent::user_id},
};

/// Accounts that one call may import.
const MAX_ACCOUNTS: usize = 100;
/// Longest nickname, in characters.
const MAX_NICK: usize = 100;

/// An account, as newer clients word it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    #[serde(rename = "UserID")]
    user: String,
    nick: Option<String>,
}

pub(super) async fn import(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let body = call.body()?;
    // Older clients have `Identifier`.
    let name = |name: &'static str| optional::<String>(&body, name, Problem::Field(name));
    let user = name("UserID")?.or(name("Identifier")?).ok_or(Problem::Field("UserID"))?;
    user_id("UserID", &user)?;
    let nick = nick(name("Nick")?)?;
    let accounts = vec![(user, nick, Uuid::now_v7())];
    let command = ImportAccounts { app: call.app.id().to_owned(), accounts };
    let done = call.execute(server, None, command).await?;
    Ok(Reply { done: Some(done), ..Reply::default() })
}

pub(super) async fn import_many(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let named = listed(&call.body()?)?;
    if named.is_empty() || named.len() > MAX_ACCOUNTS {
        return Err(Problem::Account(format!("a call imports 1 to {MAX_ACCOUNTS} accounts")));
    }
    let (mut accounts, mut failed) = (Vec::new(), Vec::new());
    for Account { user, nick: given } in named {
        match (user_id("UserID", &user), nick(given)) {
            (Ok(()), Ok(nick)) => accounts.push((user, nick, Uuid::now_v7())),
            (Err(_), _) | (_, Err(_)) => failed.push(user),
        }
    }
    let command = ImportAccounts { app: call.app.id().to_owned(), accounts };
    let done = call.execute(server, None, command).await?;
    Ok(Reply::of(json!({ "FailAccounts": failed }), Some(done)))
}

/// The accounts of a call: their names, or objects with more.
fn listed(body: &Object) -> Result<Vec<Account>, Problem> {
    let wrong = || Problem::Field("AccountList");
    if let Some(list) = optional(body, "AccountList", wrong())? {
        return Ok(list);
    }
    let names: Option<Vec<String>> = optional(body, "Accounts", wrong())?;
    let named = |user| Account { user, nick: None };
    Ok(names.ok_or_else(wrong)?.into_iter().map(named).collect())
}

/// A nickname; an empty one is none.
fn nick(nick: Option<String>) -> Result<Option<String>, Problem> {
    let nick = nick.filter(|nick| !nick.is_empty());
    if let Some(nick) = &nick {
        named("Nick", nick, MAX_NICK)?;
    }
    Ok(nick)
}
