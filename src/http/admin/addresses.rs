//! `/admin/v1/apps/{appId}/accounts/{protocol}/{name}/addresses` and
//! `/admin/v1/apps/{appId}/devices/{number}/addresses`: an account, or a device, of one protocol gets
//! its address in another, so that whoever pushes by that reaches it too.

use axum::{body::Bytes, extract::Path, http::StatusCode, response::Response};
use domain::{
    account::{Address, LinkAccount},
    cid::LinkDevice,
};
use projections::registry;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Call, Refusal, Two, positioned};
use crate::apps::{named, tencent::user_id};
use crate::http::easemob::username;

/// Longest UMS `userId`, in characters.
const MAX_NAME: usize = 100;

/// The addresses that an account gets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressesInput {
    /// A UMS `userId`.
    ums: Option<String>,
    /// An Easemob username; case does not count.
    easemob: Option<String>,
    /// A Tencent `UserID`.
    tencent: Option<String>,
}

/// The address that a device gets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CidInput {
    /// Its Antelope number, of the app's ranges.
    antelope: u32,
}

/// An address, checked as its protocol does.
fn address(protocol: &str, name: &str) -> Result<Address, Refusal> {
    match protocol {
        "ums" => {
            named("a UMS userId", name, MAX_NAME).map_err(Refusal::bad)?;
            Ok(Address::Ums(name.to_owned()))
        }
        "easemob" => {
            let name = username(name).ok_or_else(|| Refusal::bad("no Easemob username"))?;
            Ok(Address::Easemob(name))
        }
        "tencent" => {
            user_id("a Tencent UserID", name).map_err(Refusal::bad)?;
            Ok(Address::Tencent(name.to_owned()))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "accounts are of ums, easemob or tencent")),
    }
}

/// Gives an account its addresses in more protocols. What another account has, or another in its
/// place, is refused.
#[utoipa::path(put, path = "/admin/v1/apps/{appId}/accounts/{protocol}/{name}/addresses",
    tag = "admin",
    params(("appId" = String, Path), ("protocol" = String, Path), ("name" = String, Path)),
    request_body = AddressesInput,
    responses((status = 204), (status = 400, body = Refusal), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub async fn of_account(
    call: Call,
    Path((app_id, protocol, name)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: AddressesInput = call.body(&body)?;
    let given = [("ums", input.ums), ("easemob", input.easemob), ("tencent", input.tencent)];
    let given = given.iter().filter_map(|(protocol, name)| Some((protocol, name.as_deref()?)));
    let new: Result<Vec<Address>, Refusal> =
        given.map(|(protocol, name)| address(protocol, name)).collect();
    let (of, new) = (address(&protocol, &name)?, new?);
    let command = LinkAccount { app: app.id().to_owned(), of, new };
    let done = call.execute(&app_id, &body, command).await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}

/// Gives a device an Antelope number beside its own address.
#[utoipa::path(put, path = "/admin/v1/apps/{appId}/devices/{number}/addresses", tag = "admin",
    params(("appId" = String, Path), ("number" = i64, Path)), request_body = CidInput,
    responses((status = 204), (status = 400, body = Refusal), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub async fn of_device(
    call: Call,
    Path((app_id, number)): Two,
    body: Bytes,
) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: CidInput = call.body(&body)?;
    let owned = app.config.antelope.as_ref().is_some_and(|own| own.owns(input.antelope));
    if !owned {
        return Err(Refusal::bad("antelope must be a cid of the app's ranges"));
    }
    let device: i64 = number.parse().unwrap_or_default();
    let mut checkout = call.server.ledger.database().ledger_read.checkout().await?;
    let found = registry::by_numbers(&mut checkout.conn(), &[device]).await?;
    drop(checkout);
    if !found.iter().any(|(of, _)| *of == app_id) {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "no such device"));
    }
    let command = LinkDevice { app: app_id.clone(), device, cid: input.antelope };
    let done = call.execute(&app_id, &body, command).await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}
