//! `POST /{org}/{app}/token`: tokens of apps (`client_credentials`) and of users (`password`, and
//! `inherit`, with which an app gets a token for a user without a password). The body is JSON
//! whatever the `Content-Type` says: common clients send a form's there.

use std::sync::Arc;

use domain::{Rejection, account::User};
use serde_json::{Value, json};

use super::{
    Reply,
    errors::{Denied, Problem},
    fields::{Fields, username, wrong},
    gate::{Call, Caller, bearer, caller, user_of},
    users::{self, NewUser},
};
use crate::{
    app::Server,
    easemob::tokens::{APP_SECONDS, Holder, USER_SECONDS},
    secrets::same,
};

/// The largest `expires_in`: clients read it as 32 bits.
const MAX_SECONDS: i64 = i32::MAX as i64;

pub(super) async fn token(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    match fields.required("grant_type")?.as_str() {
        "client_credentials" => of_app(server, call, &fields).await,
        "password" => of_password(server, call, &fields).await,
        "inherit" => inherited(server, call, &fields).await,
        _ => Err(wrong("grant_type", "is unknown")),
    }
}

async fn of_app(server: &Server, call: &Call, fields: &Fields<'_>) -> Result<Reply, Problem> {
    let given = |name| fields.text(name).map(|text| text.filter(|text| !text.is_empty()));
    let missing = |text: &str| Problem::Illegal(text.to_owned());
    let id = given("client_id")?.ok_or_else(|| missing("client_id must be provided."))?;
    let secret =
        given("client_secret")?.ok_or_else(|| missing("client_secret must be provided"))?;
    let life = life(fields, APP_SECONDS)?;
    if !same(id.as_bytes(), call.easemob().client_id.as_bytes()) {
        return Err(Problem::BadGrant("client_id does not match"));
    }
    let fits = |(_, own): &&(String, String)| same(own.as_bytes(), secret.as_bytes());
    let print = call.app.easemob_secrets.iter().find(fits);
    let (print, _) = print.ok_or(Problem::BadGrant("client_secret does not match"))?;
    let holder = Holder::App(print.clone());
    let token = server.easemob.tokens.issue(call.app.id(), holder, life).await?;
    let application = call.easemob().application.to_string();
    Ok(issued(&token, life, "application", json!(application)))
}

async fn of_password(server: &Server, call: &Call, fields: &Fields<'_>) -> Result<Reply, Problem> {
    let name = fields.required("username")?;
    let password = fields.required("password")?;
    let life = life(fields, USER_SECONDS)?;
    let user = user_of(server, call.app.id(), &name).await?;
    let account = user.as_ref().map(|user| user.account);
    let fits = server.easemob.passwords.fits(account, &password).await?;
    match user.filter(|_| fits) {
        Some(user) => of_user(server, call, &user, life).await,
        None => Err(Problem::BadGrant("invalid password")),
    }
}

async fn inherited(server: &Server, call: &Call, fields: &Fields<'_>) -> Result<Reply, Problem> {
    match caller(server, &call.app, bearer(&call.headers)).await? {
        Caller::App => {}
        Caller::Nobody | Caller::Vendor | Caller::User(..) => {
            return Err(Problem::Denied(Denied::NotAllowed));
        }
    }
    let name = fields.required("username")?;
    let create = fields.flag("autoCreateUser")?;
    let life = life(fields, USER_SECONDS)?;
    let user = match user_of(server, call.app.id(), &name).await? {
        Some(user) => user,
        None if create => {
            let legal = username(&name);
            let username = legal.ok_or_else(|| users::illegal_name(&name))?;
            let new = NewUser { username, password: None, nickname: None };
            users::create(server, call, new).await?
        }
        None => return Err(Rejection::UnknownUser(name).into()),
    };
    of_user(server, call, &user, life).await
}

async fn of_user(
    server: &Server,
    call: &Call,
    user: &Arc<User>,
    life: Option<i64>,
) -> Result<Reply, Problem> {
    let holder = Holder::User(user.account, user.username.clone());
    let token = server.easemob.tokens.issue(call.app.id(), holder, life).await?;
    Ok(issued(&token, life, "user", users::entity(user)))
}

fn issued(token: &str, life: Option<i64>, whose: &str, holder: Value) -> Reply {
    let seconds = life.unwrap_or(MAX_SECONDS).min(MAX_SECONDS);
    Reply::data(json!({ "access_token": token, "expires_in": seconds, whose: holder }))
}

/// How long a token is to live, in seconds; `None`: for ever, which is written 0. Clients send it
/// as a number or as a text.
fn life(fields: &Fields<'_>, default: i64) -> Result<Option<i64>, Problem> {
    let bad = || wrong("ttl", "must be a number of seconds, 0 or more");
    let Some(raw) = fields.raw("ttl") else { return Ok(Some(default)) };
    let text: String = match raw.get().starts_with('"') {
        true => serde_json::from_str(raw.get()).map_err(|_| bad())?,
        false => raw.get().to_owned(),
    };
    let seconds: i64 = text.parse().map_err(|_| bad())?;
    match seconds {
        0 => Ok(None),
        1.. => Ok(Some(seconds)),
        _ => Err(bad()),
    }
}
