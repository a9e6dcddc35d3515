//! `POST /ums/v2/report`: a device says that it received, displayed or answered a message.

use domain::message::{Progress, ReportDelivery};

use super::{
    Reply,
    codes::{Input, Problem},
    fields::MAX_NAME,
    gate::Call,
};
use crate::app::Server;

pub(super) async fn report(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let fields = call.fields()?;
    let app_package = fields.required("appPackage", MAX_NAME)?;
    let message = fields.required("msgId", MAX_NAME)?;
    let stage = match fields.number("status")?.ok_or(Input::Missing)? {
        2 => Progress::Received,
        3 => Progress::Displayed,
        4 => Progress::Acknowledged,
        _ => return Err(Input::OutOfRange.into()),
    };
    let command = ReportDelivery {
        app: call.app.id().to_owned(),
        allowed_packages: call.app.ums_packages().to_vec(),
        client_id: call.client_id.clone(),
        app_package,
        user: call.user(),
        message: message.parse()?,
        stage,
        request: call.request(),
    };
    Ok(Reply::done(call.execute(server, command).await?))
}
