//! Push vendors on the wire. Each has one file with the same verbs in the same order:
//!
//! - `template(config, notification, options)` renders what all calls of a message have in common,
//!   once; [`Template::prepare`] then puts tokens into it, which is cheap.
//! - `classify(status, headers, body, tokens)` says what the answer means, for each token.
//!
//! Both are pure. [`Sender::send`] is the only thing here that touches the network. The delivery
//! machine calls them in that order, and decides with [`domain::vendor::retry`] what comes next.
//!
//! Facts on the vendors come from their public documents; the head of each file names them.

mod access;
pub mod apns;
pub mod config;
pub mod fcm;
mod fields;
pub mod huawei;
pub mod jpush;
mod sender;
mod template;
mod third_party;
mod verdict;

pub use access::Channel;
pub use config::{ConfigError, Secret, VendorConfig};
pub use sender::{Clients, Sender};
pub use template::{Options, Request, Template};
pub use verdict::Verdict;

use domain::{
    notification::Notification,
    vendor::{Unfit, Vendor},
};
use reqwest::header::HeaderMap;

/// Tokens that one call of a vendor takes at most.
#[must_use]
pub fn batch_tokens(vendor: Vendor) -> usize {
    match vendor {
        Vendor::Jpush => jpush::BATCH_TOKENS,
        Vendor::Fcm => fcm::BATCH_TOKENS,
        Vendor::Apns => apns::BATCH_TOKENS,
        Vendor::Huawei => huawei::BATCH_TOKENS,
    }
}

/// What all calls of a message to a vendor have in common.
///
/// # Errors
/// [`Unfit`] when the vendor cannot be sent this notification.
pub fn template(
    config: &VendorConfig,
    notification: &Notification,
    options: &Options,
) -> Result<Template, Unfit> {
    match config {
        VendorConfig::Jpush(config) => jpush::template(config, notification, options),
        VendorConfig::Fcm(config) => fcm::template(config, notification, options),
        VendorConfig::Apns(config) => apns::template(config, notification, options),
        VendorConfig::Huawei(config) => huawei::template(config, notification, options),
    }
}

/// What a vendor's answer means, one verdict for each token and in their order.
#[must_use]
pub fn classify(
    vendor: Vendor,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    tokens: &[&str],
) -> Vec<Verdict> {
    match vendor {
        Vendor::Jpush => jpush::classify(status, headers, body, tokens),
        Vendor::Fcm => fcm::classify(status, headers, body, tokens),
        Vendor::Apns => apns::classify(status, headers, body, tokens),
        Vendor::Huawei => huawei::classify(status, headers, body, tokens),
    }
}
