//! `getmsgstat`, of terminals and of clouds: how a message is doing, as the protocol's one number
//! and, beyond it, for each device. It folds the message's own stream, so it is never behind.

use std::sync::Arc;

use domain::{
    Rejection,
    device::Device,
    facts::{Fact, Key},
    message::{Delivery, Ending, Message, MessageId, RecallResult, Sender, Stage},
    ums,
};
use projections::registry;
use serde::Serialize;

use super::{Reply, codes::Problem, fields::MAX_NAME, gate::Call};
use crate::{app::Server, directory::AppEntry};

/// `MessageInfo`, and each device's share.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageInfo {
    /// Spelled as the document spells it.
    mesg_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    rev_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    push_time: Option<String>,
    status: i64,
    devices: Vec<DeviceInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceInfo {
    client_id: String,
    app_package: String,
    status: i64,
    stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ending>,
    /// Why it ended or, while it goes on over our own channel, why no vendor was a way.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Ending>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recall: Option<RecallResult>,
}

pub(super) async fn getmsgstat(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    // The terminal's document misspells it; both work everywhere.
    let id: MessageId = match fields.text("msgId", MAX_NAME)? {
        Some(id) => id,
        None => fields.required("megId", MAX_NAME)?,
    }
    .parse()?;
    let Fact::Message(Some(message)) = server.ledger.fact(Key::Message(id)).await? else {
        return Err(Rejection::UnknownMessage.into());
    };
    if message.app != call.app.id() || !may_read(server, call, &message).await? {
        return Err(Rejection::UnknownMessage.into());
    }
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let numbers: Vec<i64> = message.deliveries.keys().copied().collect();
    let devices = registry::by_numbers(&mut checkout.conn(), &numbers).await?;
    let user = match message.sender {
        Sender::User(account) => {
            registry::users(&mut checkout.conn(), &[account]).await?.remove(&account)
        }
        Sender::Terminal | Sender::Cloud => None,
    };
    let share = |(_, device): &(String, Device)| {
        message.deliveries.get(&device.number).map(|delivery| device_info(device, delivery))
    };
    let devices: Vec<_> = devices.iter().filter_map(share).collect();
    call.tells(server, devices.len(), [format!("message:{id}")])?;
    Reply::data(&message_info(&call.app, id, &message, user, devices))
}

fn message_info(
    app: &AppEntry,
    id: MessageId,
    message: &Message,
    user_id: Option<String>,
    devices: Vec<DeviceInfo>,
) -> MessageInfo {
    MessageInfo {
        mesg_id: id.to_string(),
        user_id,
        rev_time: app.time(message.accepted_at),
        push_time: message.pushed_at.map(|at| app.time(at)),
        status: ums::message_status(message),
        devices,
    }
}

fn device_info(device: &Device, delivery: &Delivery) -> DeviceInfo {
    DeviceInfo {
        client_id: device.identity.client_id.clone(),
        app_package: device.profile.app_package.clone(),
        status: ums::delivery_status(delivery),
        stage: delivery.stage,
        ended: delivery.ended,
        reason: delivery.failed.or(delivery.ended),
        recall: delivery.recall.map(|(_, result)| result),
    }
}

/// The app's cloud may, the sender may, and so may a recipient, be it the user or the device.
async fn may_read(server: &Server, call: &Call, message: &Message) -> Result<bool, Problem> {
    if call.interface.of_cloud() {
        return Ok(true);
    }
    let user = call.certain_user()?;
    let account = match &user {
        Some(user) => server.ledger.fact(Key::account(call.app.id(), user)).await?,
        None => Fact::Account(None),
    };
    if let Fact::Account(Some(account)) = account {
        let addressed = |delivery: &Delivery| delivery.account == Some(account);
        if message.sender == Sender::User(account) || message.deliveries.values().any(addressed) {
            return Ok(true);
        }
    }
    let client = call.client_id.clone();
    let key = Key::Client { app: call.app.id().to_owned(), client };
    let own: Arc<Vec<Arc<Device>>> = match server.ledger.fact(key).await? {
        Fact::Devices(devices) => devices,
        _ => Arc::default(),
    };
    let account = match account {
        Fact::Account(account) => account,
        _ => None,
    };
    // A device that has a user is spoken for by that user alone.
    let speaks = |device: &&Arc<Device>| device.account.is_none() || device.account == account;
    Ok(own.iter().filter(speaks).any(|d| message.deliveries.contains_key(&d.number)))
}
