//! `POST /ums/v2/register`: a device registers its channel, at first start or after login.

use domain::{
    Rejection,
    device::{Channel, Identity, Profile, RegisterDevice},
};
use uuid::Uuid;

use super::{
    Reply,
    codes::{Input, Problem},
    fields::{MAX_NAME, MAX_TYPE_ID},
    gate::Call,
};
use crate::app::Server;

/// The device types of the protocol.
pub(super) const DEVICE_TYPES: [&str; 8] = ["01", "02", "03", "04", "05", "06", "07", "08"];

pub(super) async fn register(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let client_id = fields.required("clientId", MAX_NAME)?;
    let push_id = fields.required("pushId", MAX_NAME)?;
    let device_type = fields.required("deviceType", MAX_NAME)?;
    let channel = fields.number("collab3th")?.ok_or(Input::Missing)?;
    if client_id != call.client_id {
        return Err(Input::Rule.into());
    }
    if !DEVICE_TYPES.contains(&device_type.as_str()) {
        return Err(Input::UnknownDeviceType.into());
    }
    let channel = match channel {
        0 => Channel::Jpush,
        1 => Channel::M2m,
        _ => return Err(Rejection::UnsupportedChannel.into()),
    };
    let user = fields.text("userId", MAX_NAME)?;
    if user.is_some() && user != Some(call.require_user()?) {
        return Err(Rejection::IllegalUser.into());
    }
    let command = RegisterDevice {
        app: call.app.id().to_owned(),
        allowed_packages: call.app.ums_packages().to_vec(),
        user,
        profile: Profile {
            app_package: package(call, fields.text("appPackage", MAX_NAME)?),
            device_type,
            type_id: fields.text("typeId", MAX_TYPE_ID)?,
            channel,
        },
        identity: Identity {
            client_id,
            device_id: fields.text("deviceId", MAX_NAME)?,
            former_device_id: None,
            push_id,
            device_name: fields.text("deviceName", MAX_NAME)?,
            user_name: fields.text("userName", MAX_NAME)?,
            cid: None,
        },
        new_device: Uuid::now_v7(),
        new_account: Uuid::now_v7(),
    };
    Ok(Reply::done(call.execute(server, command).await?))
}

/// The document's table lacks `appPackage`, so clients may not send it: then it is the app's first
/// package, or else the app's own id.
fn package(call: &Call, given: Option<String>) -> String {
    let first = || call.app.ums_packages().first().cloned();
    let own = || call.app.config.ums.as_ref().map(|ums| ums.app_id.clone());
    given.or_else(first).or_else(own).unwrap_or_default()
}
