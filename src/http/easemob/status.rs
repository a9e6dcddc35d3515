//! Whether users are online: whether any of their devices is connected, to any node.

use projections::registry;
use serde_json::{Value, json};

use super::{
    Reply,
    errors::Problem,
    fields::MAX_PAGE,
    gate::{Call, user_of},
};
use crate::app::Server;

pub(super) async fn one(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let user = call.user(server).await?;
    let online = online(server, call, &[call.name().to_owned()]).await?;
    Ok(Reply::data(json!({ user.username.as_str(): word(online[0]) })))
}

/// A user that does not exist is offline.
pub(super) async fn many(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let most = usize::try_from(MAX_PAGE).unwrap_or(usize::MAX);
    let names = call.fields()?.texts("usernames", most)?;
    let online = online(server, call, &names).await?;
    let each =
        names.iter().zip(online).map(|(name, online)| json!({ name.as_str(): word(online) }));
    Ok(Reply::data(each.collect::<Vec<Value>>()))
}

fn word(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}

/// For each name, in its order, whether that user is online.
async fn online(server: &Server, call: &Call, names: &[String]) -> Result<Vec<bool>, Problem> {
    let mut devices: Vec<Vec<i64>> = Vec::with_capacity(names.len());
    for name in names {
        let Some(user) = user_of(server, call.app.id(), name).await? else {
            devices.push(Vec::new());
            continue;
        };
        let mut checkout = server.ledger.database().ledger_read.checkout().await?;
        let own = registry::by_account(&mut checkout.conn(), user.account).await?;
        let here = own.iter().filter(|device| device.registered());
        devices.push(here.map(|device| device.number).collect());
    }
    let present = server.presence.present(&devices.concat()).await?;
    Ok(devices.iter().map(|own| own.iter().any(|device| present.contains(device))).collect())
}
