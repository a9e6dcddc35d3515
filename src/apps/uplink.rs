//! Where an app is called back about uplinks and deliveries, as an operator words it: section
//! `uplink`.

use domain::app::UplinkConfig;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InputError, antelope::webhook};

/// Where an app is called back, as UCloud words it. What is absent keeps its value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UplinkInput {
    /// Where uplinks go (`MsgType` 0); `""` for nowhere.
    pub callback_url: Option<String>,
    /// Where reports on deliveries go (`MsgType` 2); `""` for nowhere.
    pub report_url: Option<String>,
}

/// Where an app is called back, as UCloud words it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UplinkOutput {
    /// Where uplinks go (`MsgType` 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Where reports on deliveries go (`MsgType` 2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_url: Option<String>,
}

impl UplinkInput {
    /// The section after a change.
    ///
    /// # Errors
    /// [`InputError::Bad`] says what is no URL.
    pub fn over(self, before: &UplinkConfig) -> Result<UplinkConfig, InputError> {
        let url = |what: &str, new: Option<String>, old: &Option<String>| match new {
            Some(url) => webhook(what, url),
            None => Ok(old.clone()),
        };
        Ok(UplinkConfig {
            callback_url: url("uplink.callbackUrl", self.callback_url, &before.callback_url)?,
            report_url: url("uplink.reportUrl", self.report_url, &before.report_url)?,
        })
    }
}

impl UplinkOutput {
    /// What is shown of a configuration.
    #[must_use]
    pub fn of(config: &UplinkConfig) -> UplinkOutput {
        let UplinkConfig { callback_url, report_url } = config.clone();
        UplinkOutput { callback_url, report_url }
    }
}
