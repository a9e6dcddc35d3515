//! `/{org}/{app}/users`: register, list, read and remove users.

use std::{collections::BTreeSet, sync::Arc};

use domain::{
    Rejection,
    account::{RegisterUser, RemoveUser, User},
    object::raw,
};
use futures_util::future::join_all;
use projections::registry;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use super::{
    Reply, binding,
    errors::Problem,
    fields::{Fields, MAX_USERNAME_BYTES, Page, cursor, username},
    gate::{Call, user_of},
    millis,
};
use crate::{
    app::Server,
    ledger::{Done, Refused},
};

/// Users registered in one call.
const MAX_BATCH: usize = 60;
/// Longest password, and longest nickname, in characters.
const MAX_PASSWORD: usize = 64;
const MAX_NICKNAME: usize = 100;
/// Users of a page, unless the caller says otherwise.
const PAGE: i64 = 10;

/// A user that is to be registered.
pub(super) struct NewUser {
    /// The name, in lower case.
    pub(super) username: String,
    /// Without one, only the app's server gets tokens for it.
    pub(super) password: Option<String>,
    /// The nickname.
    pub(super) nickname: Option<String>,
}

/// A user as answers show it.
pub(super) fn entity(user: &User) -> Value {
    let at = millis(user.opened_at);
    let mut entity = json!({ "uuid": user.account, "type": "user", "created": at, "modified": at,
                             "username": user.username, "activated": true });
    if let Some(nickname) = &user.nickname {
        entity["nickname"] = json!(nickname);
    }
    entity
}

pub(super) fn illegal_name(name: &str) -> Problem {
    if name.len() > MAX_USERNAME_BYTES {
        return Problem::Illegal("USERNAME_TOO_LONG".to_owned());
    }
    Problem::Illegal(format!("username {name} is not legal"))
}

fn new_user(fields: &Fields<'_>) -> Result<NewUser, Problem> {
    let long = |text: &str, most| text.chars().count() > most;
    let name = fields.required("username")?;
    let username = username(&name).ok_or_else(|| illegal_name(&name))?;
    let password = fields.text("password")?.filter(|password| !password.is_empty());
    let missing = || Problem::Illegal("password or pin must provided".to_owned());
    let password = password.ok_or_else(missing)?;
    if long(&password, MAX_PASSWORD) {
        return Err(Problem::Illegal("PASSWORD_TOO_LONG".to_owned()));
    }
    let nickname = fields.text("nickname")?.filter(|nickname| !nickname.is_empty());
    if nickname.as_ref().is_some_and(|nickname| long(nickname, MAX_NICKNAME)) {
        return Err(Problem::Illegal("NICKNAME_TOO_LONG".to_owned()));
    }
    Ok(NewUser { username, password: Some(password), nickname })
}

/// Registers a user, and gives it as the ledger has it.
pub(super) async fn create(
    server: &Server,
    call: &Call,
    new: NewUser,
) -> Result<Arc<User>, Problem> {
    let NewUser { username, password, nickname } = new;
    let taken = || Problem::from(Rejection::UserTaken(username.clone()));
    if user_of(server, call.app.id(), &username).await?.is_some() {
        return Err(taken());
    }
    let (app, new_account) = (call.app.id().to_owned(), Uuid::now_v7());
    // First the password: there is never a user without the one that it was registered with.
    if let Some(password) = password {
        server.easemob.passwords.set(new_account, &password).await?;
    }
    let command = RegisterUser { app, username: username.clone(), nickname, new_account };
    let done = call.execute(server, command).await;
    // After anything else the user may be there.
    if let Err(Problem::Refused(Refused::Rejected(_) | Refused::Overloaded)) = &done {
        forget(server, new_account).await;
    }
    done?;
    let user = user_of(server, call.app.id(), &username).await?;
    // It may have been removed again at once.
    user.ok_or_else(|| Rejection::UnknownUser(username).into())
}

pub(super) async fn register(server: &Server, call: &Call) -> Result<Reply, Problem> {
    if call.body.trim_ascii_start().first() != Some(&b'[') {
        let user = create(server, call, new_user(&call.fields()?)?).await?;
        return Ok(Reply::entities(vec![entity(&user)]));
    }
    let items: Vec<&RawValue> = serde_json::from_slice(&call.body).map_err(|_| Problem::NotJson)?;
    if items.is_empty() || items.len() > MAX_BATCH {
        return Err(Problem::Illegal(format!("1 to {MAX_BATCH} users can be registered at once")));
    }
    let mut fields = Vec::with_capacity(items.len());
    for item in items {
        fields.push(Fields::parse(item.get().as_bytes())?);
    }
    let mut seen = BTreeSet::new();
    let each = fields.iter().map(|fields| {
        let new = new_user(fields).and_then(|new| match seen.insert(new.username.clone()) {
            true => Ok(new),
            false => Err(Rejection::UserTaken(new.username).into()),
        });
        let name = fields.text("username").ok().flatten().unwrap_or_default();
        async move {
            let made = match new {
                Ok(new) => create(server, call, new).await,
                Err(problem) => Err(problem),
            };
            (name, made)
        }
    });
    let (mut entities, mut failed) = (Vec::new(), Vec::new());
    for (name, made) in join_all(each).await {
        let reason = match made {
            Ok(user) => {
                entities.push(entity(&user));
                continue;
            }
            Err(Problem::Illegal(reason)) => reason,
            Err(Problem::Refused(Refused::Rejected(Rejection::UserTaken(name)))) => {
                format!("the {name} already exists")
            }
            Err(problem) => return Err(problem),
        };
        failed.push(json!({ "username": name, "registerUserFailReason": reason }));
    }
    let data = (!failed.is_empty()).then(|| raw(&failed));
    Ok(Reply { data, ..Reply::entities(entities) })
}

pub(super) async fn read(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let user = call.user(server).await?;
    let mut shown = entity(&user);
    let bound = binding::of_account(server, user.account).await?;
    let info = |(device, token, notifier): &(String, String, String)| json!({ "device_Id": device, "device_token": token, "notifier_name": notifier });
    if !bound.is_empty() {
        shown["pushInfo"] = bound.iter().map(info).collect();
    }
    Ok(Reply { count: Some(1), ..Reply::entities(vec![shown]) })
}

pub(super) async fn list(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let (users, cursor) = page(server, call).await?;
    let entities: Vec<Value> = users.iter().map(entity).collect();
    Ok(Reply { count: Some(entities.len()), cursor, ..Reply::entities(entities) })
}

pub(super) async fn remove(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let user = call.user(server).await?;
    let done = remove_one(server, call, &user).await?;
    Ok(Reply::entities(vec![entity(&user)]).after(done))
}

pub(super) async fn remove_page(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let (users, cursor) = page(server, call).await?;
    let mut removed = Vec::with_capacity(users.len());
    let each = users.iter().map(|user| remove_one(server, call, user));
    for (user, done) in users.iter().zip(join_all(each).await) {
        match done {
            Ok(_) => removed.push(entity(user)),
            // Somebody else removed it meanwhile.
            Err(Problem::Refused(Refused::Rejected(Rejection::UnknownUser(_)))) => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(Reply { count: Some(removed.len()), cursor, ..Reply::entities(removed) })
}

/// The users that a query asks for, and the cursor to go on with, if there are more.
async fn page(server: &Server, call: &Call) -> Result<(Vec<User>, Option<String>), Problem> {
    let page = Page::of(&call.query, PAGE)?;
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let (app, limit) = (call.app.id(), page.limit + 1);
    let mut found = registry::user_page(&mut checkout.conn(), app, page.position(), limit).await?;
    let cursor = page.more(&mut found).map(|(position, _)| cursor(*position, ""));
    Ok((found.into_iter().map(|(_, user)| user).collect(), cursor))
}

/// Removes a user with its devices, memberships, password and tokens.
async fn remove_one(server: &Server, call: &Call, user: &User) -> Result<Done, Problem> {
    let (app, username) = (call.app.id().to_owned(), user.username.clone());
    let done = call.execute(server, RemoveUser { app, username }).await?;
    forget(server, user.account).await;
    if let Err(fault) = server.easemob.tokens.remove(user.account).await {
        tracing::warn!(%fault, "the tokens of a user that is gone could not be removed");
    }
    Ok(done)
}

/// Forgets the password of an account that nobody has.
async fn forget(server: &Server, account: Uuid) {
    if let Err(fault) = server.easemob.passwords.remove(account).await {
        tracing::warn!(%fault, "a password that nobody needs could not be removed");
    }
}
