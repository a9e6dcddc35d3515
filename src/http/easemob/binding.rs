//! `/{org}/{app}/users/{username}/push/binding`: which push vendors a user's devices are bound to,
//! by the names of the app's certificates.

use domain::device::{Bind, BindDevice};
use projections::{Fault, registry};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Reply,
    errors::Problem,
    fields::{Fields, short},
    gate::Call,
};
use crate::app::Server;

/// Longest device id and certificate name, in characters.
pub const MAX_NAME: usize = 100;
/// Longest token of a vendor, in characters.
const MAX_TOKEN: usize = 4096;

/// Device, token and certificate name of each binding.
pub(super) type Bound = (String, String, String);

pub(super) async fn change(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let user = call.user(server).await?;
    let fields = call.fields()?;
    let device_id = parameter(&fields, "device_id", MAX_NAME)?;
    let token = parameter(&fields, "device_token", MAX_TOKEN)?;
    let notifier = parameter(&fields, "notifier_name", MAX_NAME)?;
    if device_id.is_empty() {
        return Err(invalid("device_id"));
    }
    let change = match (notifier.is_empty(), token.is_empty()) {
        (true, _) => Bind::Nothing,
        (false, true) => Bind::Without(notifier),
        (false, false) => Bind::Token(notifier, token),
    };
    let command = BindDevice {
        app: call.app.id().to_owned(),
        username: user.username.clone(),
        device_id: device_id.clone(),
        change,
        new_device: Uuid::now_v7(),
    };
    let done = call.execute(server, command).await?;
    let bound = of_account(server, user.account).await?;
    let own = bound.iter().filter(|(device, ..)| *device == device_id);
    Ok(Reply::entities(own.map(shown).collect()).after(done))
}

pub(super) async fn list(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let user = call.user(server).await?;
    let bound = of_account(server, user.account).await?;
    Ok(Reply::entities(bound.iter().map(shown).collect()))
}

/// The bindings of a user's devices, in order of device.
pub(super) async fn of_account(server: &Server, account: Uuid) -> Result<Vec<Bound>, Fault> {
    let mut checkout = server.ledger.database().ledger_read.checkout().await?;
    let devices = registry::by_account(&mut checkout.conn(), account).await?;
    let mut bound = Vec::new();
    for device in devices.into_iter().filter(|device| device.registered()) {
        let id = device.identity.client_id;
        let each = device.bound.into_iter();
        bound.extend(each.map(|(notifier, token)| (id.clone(), token, notifier)));
    }
    Ok(bound)
}

fn shown((device, token, notifier): &Bound) -> Value {
    json!({ "device_id": device, "device_token": token, "notifier_name": notifier })
}

/// A text that must be there, but may be empty.
fn parameter(fields: &Fields<'_>, name: &str, most: usize) -> Result<String, Problem> {
    let text = fields.text(name).ok().flatten().ok_or_else(|| invalid(name))?;
    short(name, &text, most)?;
    Ok(text)
}

fn invalid(name: &str) -> Problem {
    Problem::Illegal(format!("parameters is invalid : {name}"))
}
