//! `POST /ums/v2/unreg`: a device wants nothing more.

use domain::device::UnregisterDevice;

use super::{Reply, codes::Problem, fields::MAX_NAME, gate::Call};
use crate::app::Server;

pub(super) async fn unreg(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let app_package = call.fields()?.required("appPackage", MAX_NAME)?;
    let command = UnregisterDevice {
        app: call.app.id().to_owned(),
        allowed_packages: call.app.ums_packages().to_vec(),
        client_id: call.client_id.clone(),
        app_package,
        user: call.user(),
    };
    Ok(Reply::done(call.execute(server, command).await?))
}
