//! `POST /ums/v2/devlist` and `/umse/v2/devlist`: the registered devices of a user.

use domain::{
    device::Device,
    facts::{Fact, Key},
};
use serde::Serialize;

use super::{
    Reply,
    codes::{Input, Problem},
    fields::{Fields, MAX_NAME},
    gate::Call,
};
use crate::{app::Server, directory::AppEntry};

/// `UserRegInfo`; what is absent is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserRegInfo<'a> {
    user_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<&'a str>,
    client_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_name: Option<&'a str>,
    push_id: &'a str,
    device_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_id: Option<&'a str>,
    app_package: &'a str,
    reg_time: String,
    status: i64,
    collab3th: i64,
}

pub(super) async fn devlist(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let user = if call.interface.of_cloud() {
        let fields = call.fields()?;
        // The document spells it without the capital.
        match fields.text("userid", MAX_NAME)? {
            Some(user) => user,
            None => fields.required("userId", MAX_NAME)?,
        }
    } else {
        no_parameters(&call.body)?;
        call.require_user()?
    };
    let account = match server.ledger.fact(Key::account(call.app.id(), &user)).await? {
        Fact::Account(account) => account,
        _ => None,
    };
    let devices = match account {
        Some(account) => match server.ledger.fact(Key::AccountDevices(account)).await? {
            Fact::Devices(devices) => devices,
            _ => Default::default(),
        },
        None => Default::default(),
    };
    let registered = devices.iter().filter(|device| device.registered());
    let list: Vec<_> = registered.map(|device| info(&call.app, &user, device)).collect();
    if !list.is_empty() {
        let about = account.map(|account| format!("account:{account}"));
        call.tells(server, list.len(), about)?;
    }
    Reply::data(&list)
}

/// A terminal's list takes no parameters: no body, an empty text, or an object.
fn no_parameters(body: &[u8]) -> Result<(), Input> {
    let body = body.trim_ascii();
    if body.is_empty() || body == br#""""# || body == b"null" {
        return Ok(());
    }
    Fields::parse(body).map(|_| ())
}

fn info<'a>(app: &AppEntry, user: &'a str, device: &'a Device) -> UserRegInfo<'a> {
    UserRegInfo {
        user_id: user,
        user_name: device.identity.user_name.as_deref(),
        client_id: &device.identity.client_id,
        device_id: device.identity.device_id.as_deref(),
        device_name: device.identity.device_name.as_deref(),
        push_id: &device.identity.push_id,
        device_type: &device.profile.device_type,
        type_id: device.profile.type_id.as_deref(),
        app_package: &device.profile.app_package,
        reg_time: app.time(device.registered_at),
        status: device.status as i64,
        collab3th: device.profile.channel as i64,
    }
}
