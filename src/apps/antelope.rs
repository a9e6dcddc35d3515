//! The Antelope side of an app as an operator words it: section `antelope`.

use domain::app::AntelopeConfig;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    InputError, Vault, bad,
    keys::{self, KeyInput, KeyOutput, NewKeys},
};
use crate::secrets::{SecretError, new_secret};

/// Longest header `X-APP-ID`, in characters.
const MAX_APP_ID: usize = 40;
/// Characters of an id that is made here, as the vendor's have.
const MADE_APP_ID: usize = 4;
/// Characters of a key.
const KEY_CHARS: usize = 32;
/// Most ranges of numbers.
const MAX_RANGES: usize = 100;

/// The Antelope side of an app.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AntelopeInput {
    /// Header `X-APP-ID` of the app's server; made if absent.
    pub app_id: Option<String>,
    /// The key that the app's server shows and that signs tokens, of 32 characters; one is made if
    /// no key is given.
    pub app_key: Option<String>,
    /// All such keys.
    pub app_keys: Option<Vec<KeyInput>>,
    /// The numbers that its devices may have: first and last of each range. No two apps share any.
    pub cid_ranges: Option<Vec<(u32, u32)>>,
    /// Where devices' messages are called back to; `""` for nowhere.
    pub webhook: Option<String>,
    /// Where changes of devices' states are called back to; `""` for nowhere.
    pub state_webhook: Option<String>,
}

/// The Antelope side of an app.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AntelopeOutput {
    /// Header `X-APP-ID` of the app's server.
    pub app_id: String,
    /// The new key, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_key: Option<String>,
    /// Keys that the app's server may show and that may sign tokens.
    pub app_keys: Vec<KeyOutput>,
    /// The numbers that its devices may have.
    pub cid_ranges: Vec<(u32, u32)>,
    /// Where devices' messages are called back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Where changes of devices' states are called back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_webhook: Option<String>,
}

impl AntelopeOutput {
    /// What is shown of a configuration, with a key that was made just now.
    #[must_use]
    pub fn of(antelope: &AntelopeConfig, new: &mut NewKeys) -> AntelopeOutput {
        AntelopeOutput {
            app_id: antelope.app_id.clone(),
            app_key: new.antelope.take(),
            app_keys: keys::shown(&antelope.app_keys),
            cid_ranges: antelope.cid_ranges.clone(),
            webhook: antelope.webhook.as_ref().map(ToString::to_string),
            state_webhook: antelope.state_webhook.as_ref().map(ToString::to_string),
        }
    }
}

impl Vault<'_> {
    pub(super) async fn merge_antelope(
        self,
        app: &str,
        before: Option<AntelopeConfig>,
        input: AntelopeInput,
        new: &mut NewKeys,
    ) -> Result<AntelopeConfig, InputError> {
        let mut antelope = match before {
            Some(antelope) => antelope,
            None => AntelopeConfig {
                app_id: new_secret().map_err(SecretError::from)?[..MADE_APP_ID].to_owned(),
                app_keys: Vec::new(),
                cid_ranges: Vec::new(),
                webhook: None,
                state_webhook: None,
            },
        };
        if let Some(id) = input.app_id {
            if !(1..=MAX_APP_ID).contains(&id.len()) || !graphic(&id) {
                return Err(bad("antelope.appId must have 1 to 40 characters of ASCII, no space"));
            }
            antelope.app_id = id;
        }
        if let Some(ranges) = input.cid_ranges {
            antelope.cid_ranges = ranges;
        }
        ranged(&antelope.cid_ranges)?;
        let (own, state) = (antelope.webhook.take(), antelope.state_webhook.take());
        antelope.webhook = self.url_or_none(app, "antelope.webhook", own, input.webhook).await?;
        antelope.state_webhook =
            self.url_or_none(app, "antelope.stateWebhook", state, input.state_webhook).await?;
        let before = antelope.app_keys;
        let wanted = keys::wanted(input.app_key, input.app_keys, &before);
        let ill = |key: &KeyInput| match key {
            KeyInput::Value(value) => value.len() != KEY_CHARS || !graphic(value),
            KeyInput::Keep { .. } | KeyInput::Make { .. } => false,
        };
        if wanted.iter().flatten().any(ill) {
            return Err(bad("a key of antelope must have 32 characters of ASCII, no space"));
        }
        (antelope.app_keys, new.antelope) = self.key_list(app, before, wanted).await?;
        Ok(antelope)
    }
}

/// Whether a text can stand in a header.
fn graphic(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn ranged(ranges: &[(u32, u32)]) -> Result<(), InputError> {
    if ranges.is_empty() || ranges.len() > MAX_RANGES {
        return Err(bad("antelope.cidRanges must have 1 to 100 ranges"));
    }
    if ranges.iter().any(|&(first, last)| first == 0 || first > last) {
        return Err(bad("a range of antelope.cidRanges is first and last, from 1 on"));
    }
    let mut ordered = ranges.to_vec();
    ordered.sort_unstable();
    if ordered.windows(2).any(|two| two[1].0 <= two[0].1) {
        return Err(bad("two ranges of antelope.cidRanges overlap"));
    }
    Ok(())
}
