//! How an app's messages are delivered, as an operator words it: section `delivery`.

use domain::app::DeliveryConfig;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InputError, bad};

/// Longest wait for a device's answer before the vendor is asked too, in ms.
const MAX_ACK_WAIT_MS: u32 = 300_000;
/// Longest time that an Easemob message is worth delivering, in seconds: 30 days.
const MAX_KEEP_SECONDS: u32 = 30 * 86_400;

/// How an app's messages are delivered. What is absent keeps its value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryInput {
    /// How long a connected device may stay silent before the vendor is asked too, in ms; 1 to
    /// 300,000, by default 5,000.
    pub ack_wait_ms: Option<u32>,
    /// How long an Easemob message is worth delivering, in seconds; 1 to 2,592,000, by default
    /// 86,400.
    pub keep_seconds: Option<u32>,
}

/// How an app's messages are delivered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryOutput {
    /// How long a connected device may stay silent before the vendor is asked too, in ms.
    pub ack_wait_ms: u32,
    /// How long an Easemob message is worth delivering, in seconds.
    pub keep_seconds: u32,
}

impl DeliveryInput {
    /// The section after a change.
    ///
    /// # Errors
    /// [`InputError::Bad`] says what is out of range.
    pub fn over(self, before: &DeliveryConfig) -> Result<DeliveryConfig, InputError> {
        let ack_wait_ms = self.ack_wait_ms.unwrap_or(before.ack_wait_ms);
        let keep_seconds = self.keep_seconds.unwrap_or(before.keep_seconds);
        if !(1..=MAX_ACK_WAIT_MS).contains(&ack_wait_ms) {
            return Err(bad("delivery.ackWaitMs must be 1 to 300000"));
        }
        if !(1..=MAX_KEEP_SECONDS).contains(&keep_seconds) {
            return Err(bad("delivery.keepSeconds must be 1 to 2592000"));
        }
        Ok(DeliveryConfig { ack_wait_ms, keep_seconds })
    }
}

impl DeliveryOutput {
    /// What is shown of a configuration.
    #[must_use]
    pub fn of(config: &DeliveryConfig) -> DeliveryOutput {
        DeliveryOutput { ack_wait_ms: config.ack_wait_ms, keep_seconds: config.keep_seconds }
    }
}
