//! `/{org}/{app}/push/label/{label}/user`: who is in a label.

use domain::label::ChangeMembers;
use projections::registry;
use serde_json::{Map, Value, json};

use super::{
    Reply,
    errors::Problem,
    fields::{MAX_PAGE, Page, cursor},
    gate::{Call, user_of},
    labels::{find, legal},
    millis,
};
use crate::app::Server;

/// Why a user that does not exist is not in a label.
const NOBODY: &str = "appUser not exists";

/// Puts users into a label, or takes them out. Each name goes to `success` if its user is, or is
/// not, in the label now.
pub(super) async fn change(server: &Server, call: &Call, join: bool) -> Result<Reply, Problem> {
    let most = usize::try_from(MAX_PAGE).unwrap_or(usize::MAX);
    let names = call.fields()?.texts("usernames", most)?;
    let label = legal(call.name())?.to_owned();
    let (mut success, mut fail, mut usernames) = (Vec::new(), Map::new(), Vec::new());
    for name in names {
        match user_of(server, call.app.id(), &name).await? {
            Some(user) => {
                usernames.push(user.username.clone());
                success.push(Value::String(name));
            }
            None => {
                fail.insert(name, json!(NOBODY));
            }
        }
    }
    let command = ChangeMembers {
        app: call.app.id().to_owned(),
        name: label,
        usernames,
        join,
        most: i64::from(call.easemob().limits.label_users),
    };
    let done = call.execute(server, command).await?;
    Ok(Reply::data(json!({ "success": success, "fail": fail })).after(done))
}

pub(super) async fn list(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let page = Page::of(&call.query, MAX_PAGE)?;
    let label = find(server, call, call.name()).await?;
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let after = page.after.clone().unwrap_or_default();
    let conn = &mut checkout.conn();
    let mut found = registry::member_page(conn, label.stream, &after, page.limit + 1).await?;
    let cursor = page.more(&mut found).map(|row| cursor(row.after.0, &row.after.1));
    let members = found.iter().map(|row| member(&row.username, row.joined_at));
    Ok(Reply { cursor, ..Reply::data(members.collect::<Vec<Value>>()) })
}

/// A user that is not in the label has no fields.
pub(super) async fn read(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let label = find(server, call, call.name()).await?;
    let name = call.names.get(1).map_or("", String::as_str);
    let Some(user) = user_of(server, call.app.id(), name).await? else {
        return Ok(Reply::data(json!({})));
    };
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let joined = registry::member(&mut checkout.conn(), label.stream, user.account).await?;
    Ok(Reply::data(joined.map_or_else(|| json!({}), |at| member(&user.username, at))))
}

fn member(username: &str, joined_at: i64) -> Value {
    json!({ "username": username, "created": millis(joined_at) })
}
