//! `POST /{org}/{app}/push/report/huawei`: what Huawei tells of messages that it took. The address is
//! one of Easemob's; what is posted there, and its signature, follow Huawei's documents "Message
//! receipts". An app's own server may hand receipts on with its token.

use domain::vendor::Vendor;
use serde_json::json;

use super::{Reply, errors::Problem, gate::Call};
use crate::{
    app::Server,
    delivery::{
        channel::{VendorConfig, huawei},
        receipts,
    },
    directory::AppEntry,
};

/// Huawei's header with which a call proves that it is Huawei's.
pub(super) const SIGNATURE: &str = "x-huawei-callback-id";

pub(super) async fn huawei(server: &Server, call: &Call) -> Result<Reply, Problem> {
    let receipts = huawei::receipts(&call.body).ok_or(Problem::NotJson)?;
    receipts::record(server, &call.app, Vendor::Huawei, receipts).await?;
    Ok(Reply::data(json!({ "code": "0", "message": "success" })))
}

/// Whether one of an app's vendors signed a call.
pub(super) fn signed(app: &AppEntry, signature: &str, now: i64) -> bool {
    app.vendors.iter().any(|(_, channel)| match channel.config() {
        VendorConfig::Huawei(config) => huawei::signed(config, signature, now),
        VendorConfig::Jpush(_) | VendorConfig::Fcm(_) | VendorConfig::Apns(_) => false,
    })
}
