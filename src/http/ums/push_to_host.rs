//! `POST /ums/v2/msgPushToHost`: to the phones of whoever owns a physical device. The caller shows
//! the device's bind key instead of a login.

use domain::{
    message::RawJson,
    push::{Destinations, Mode, PushSender},
};
use serde_json::value::to_raw_value;

use super::{
    Reply,
    codes::{Input, Problem},
    fields::MAX_NAME,
    gate::Call,
    push::{MAX_EXPIRES_SECONDS, Push},
};
use crate::{app::Server, http::bind_key_fingerprint};

/// Longest bind key, in characters.
const MAX_BIND_KEY: usize = 1_024;

pub(super) async fn push_to_host(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let device_id = fields.required("deviceId", MAX_NAME)?;
    let bind_key = fields.required("encryptedData", MAX_BIND_KEY)?;
    let payload = fields.message()?.ok_or(Input::Missing)?;
    let destinations = to_raw_value(&serde_json::json!({ "deviceId": device_id }))
        .map_err(|cause| Problem::Fault(projections::Fault::stored("destination", cause)))?;
    let bind_key = bind_key_fingerprint(server, call.app.id(), &device_id, &bind_key);
    let push = Push {
        sender: call.certain_user()?.map_or(PushSender::Terminal, PushSender::User),
        to: Destinations::OwnerOf { device_id, bind_key },
        mode: Mode::Try,
        seconds: MAX_EXPIRES_SECONDS,
        burn: false,
        destinations: RawJson(destinations),
        payload: Some(payload),
    };
    push.execute(server, call).await
}
