//! Where an app is called back about uplinks and deliveries, as an operator words it: section
//! `uplink`.

use domain::app::{CallUrl, UplinkConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InputError, Vault};

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

impl Vault<'_> {
    /// The section after a change.
    pub(super) async fn merge_uplink(
        self,
        app: &str,
        before: UplinkConfig,
        input: UplinkInput,
    ) -> Result<UplinkConfig, InputError> {
        let UplinkConfig { callback_url, report_url } = before;
        let (called, reports) = (input.callback_url, input.report_url);
        Ok(UplinkConfig {
            callback_url: self.url_or_none(app, "uplink.callbackUrl", callback_url, called).await?,
            report_url: self.url_or_none(app, "uplink.reportUrl", report_url, reports).await?,
        })
    }
}

impl UplinkOutput {
    /// What is shown of a configuration.
    #[must_use]
    pub fn of(config: &UplinkConfig) -> UplinkOutput {
        let shown = |url: &Option<CallUrl>| url.as_ref().map(ToString::to_string);
        UplinkOutput {
            callback_url: shown(&config.callback_url),
            report_url: shown(&config.report_url),
        }
    }
}
