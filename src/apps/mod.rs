//! Apps as an operator words them: input is checked and merged into a configuration, new secrets
//! go into the vault, and what is shown later has fingerprints only. The admin API, the command
//! line and the demo all come through here. Each section of an app has a file.

pub mod antelope;
pub mod delivery;
pub mod easemob;
pub mod keys;
pub mod tencent;
pub mod ums;
pub mod uplink;
pub mod vendors;
pub mod webhooks;

use domain::app::{AppConfig, CallUrl};
use projections::db::Pool;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::secrets::{MasterKey, Sealed, SecretError};
use antelope::{AntelopeInput, AntelopeOutput};
use delivery::{DeliveryInput, DeliveryOutput};
use easemob::{EasemobInput, EasemobOutput};
use keys::NewKeys;
use tencent::{TencentInput, TencentOutput};
use ums::{UmsInput, UmsOutput};
use uplink::{UplinkInput, UplinkOutput};
use vendors::{VendorInput, VendorOutput};

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Longest id of an app, in characters.
const MAX_APP_ID: usize = 40;
/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 1_000;

/// A new app, or what to change of one. What is absent keeps its value or gets a default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppInput {
    /// Id of the app: 1 to 40 of `a-z`, `0-9`, `-`. Required to create, and fixed then.
    pub app_id: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// IANA zone in which the app's protocols write times; `Asia/Shanghai` by default.
    pub timezone: Option<String>,
    /// The Haier UMS V2 side.
    pub ums: Option<UmsInput>,
    /// The Easemob side.
    pub easemob: Option<EasemobInput>,
    /// The Antelope side.
    pub antelope: Option<AntelopeInput>,
    /// The Tencent IM side.
    pub tencent: Option<TencentInput>,
    /// Where it is called back about uplinks and deliveries.
    pub uplink: Option<UplinkInput>,
    /// All push vendors that its devices can be reached by, in the order in which they are asked
    /// for.
    pub vendors: Option<Vec<VendorInput>>,
    /// How its messages are delivered.
    pub delivery: Option<DeliveryInput>,
}

/// An app. Secrets are present only in the answer to the call that made them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppOutput {
    /// The id that the operator chose.
    pub app_id: String,
    /// A name for people.
    pub name: String,
    /// IANA zone of times on the wire.
    pub timezone: String,
    /// Version, as in `ETag`.
    pub version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The Haier UMS V2 side.
    pub ums: Option<UmsOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The Easemob side.
    pub easemob: Option<EasemobOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The Antelope side.
    pub antelope: Option<AntelopeOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The Tencent IM side.
    pub tencent: Option<TencentOutput>,
    /// Where it is called back about uplinks and deliveries.
    pub uplink: UplinkOutput,
    /// The push vendors that its devices can be reached by.
    pub vendors: Vec<VendorOutput>,
    /// How its messages are delivered.
    pub delivery: DeliveryOutput,
}

/// Why an app cannot be as the caller words it.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Something in the input is wrong.
    #[error("{0}")]
    Bad(String),
    /// A secret cannot be stored.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Something in the input is wrong.
pub(crate) fn bad(detail: impl ToString) -> InputError {
    InputError::Bad(detail.to_string())
}

/// Where new secrets go.
#[derive(Clone, Copy)]
pub struct Vault<'a> {
    /// Seals them.
    pub master: &'a MasterKey,
    /// Keeps them.
    pub pool: &'a Pool,
    /// Remembers which were put there.
    pub sealed: &'a Sealed,
}

/// A text that names something: 1 to `most` characters, no control characters.
///
/// # Errors
/// [`InputError::Bad`] says which text is wrong.
pub fn named(what: &str, text: &str, most: usize) -> Result<(), InputError> {
    let count = text.chars().count();
    if count == 0 || count > most || text.chars().any(char::is_control) {
        return Err(bad(format!("{what} must have 1 to {most} printable characters")));
    }
    Ok(())
}

/// A URL that could be called. Whether its host may be reached shows only when it is: names move.
///
/// # Errors
/// [`InputError::Bad`] says which URL is wrong.
pub fn callable(what: &str, url: String) -> Result<String, InputError> {
    let wrong = || bad(format!("{what} must be a URL of http or https without user or fragment"));
    let parsed: Url = url.parse().map_err(|_| wrong())?;
    let plain = parsed.username().is_empty() && parsed.password().is_none();
    let plain = plain && parsed.fragment().is_none() && url.len() <= MAX_URL_BYTES;
    if !plain || !matches!(parsed.scheme(), "http" | "https") {
        return Err(wrong());
    }
    Ok(url)
}

impl Vault<'_> {
    /// A URL that could be called, in place of the one there was. What may hold a credential is
    /// stored as a secret; the former as it is shown stands for itself.
    ///
    /// # Errors
    /// [`InputError`] says which URL is wrong.
    pub async fn url(
        self,
        app: &str,
        what: &str,
        before: Option<&CallUrl>,
        url: String,
    ) -> Result<CallUrl, InputError> {
        let kept = |own: &&CallUrl| own.secret().is_some() && own.to_string() == url;
        if let Some(before) = before.filter(kept) {
            return Ok(before.clone());
        }
        if url.ends_with("?…") {
            return Err(bad(format!("{what} is shown without its query, and needs the whole")));
        }
        let url = callable(what, url)?;
        let mut open: Url = url.parse().map_err(|_| bad(format!("{what} must be a URL")))?;
        if open.query().is_none_or(str::is_empty) {
            return Ok(CallUrl::Open(url));
        }
        open.set_query(None);
        let before: Vec<_> = before.and_then(CallUrl::secret).cloned().into_iter().collect();
        let (secret, _) = self.store(app, &before, &url).await?;
        Ok(CallUrl::Sealed { origin: open.into(), secret })
    }

    /// The same, or nowhere for an empty text.
    ///
    /// # Errors
    /// [`InputError`] says which URL is wrong.
    pub async fn url_or_none(
        self,
        app: &str,
        what: &str,
        before: Option<CallUrl>,
        new: Option<String>,
    ) -> Result<Option<CallUrl>, InputError> {
        match new {
            None => Ok(before),
            Some(url) if url.is_empty() => Ok(None),
            Some(url) => self.url(app, what, before.as_ref(), url).await.map(Some),
        }
    }
}

/// The configuration of a new app, with every secret stored.
///
/// # Errors
/// [`InputError`] says what is wrong.
pub async fn new_app(
    vault: Vault<'_>,
    input: AppInput,
) -> Result<(AppConfig, NewKeys), InputError> {
    let app_id = input.app_id.clone().ok_or_else(|| bad("appId is required"))?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if app_id.is_empty() || app_id.len() > MAX_APP_ID || !app_id.chars().all(plain) {
        return Err(bad("appId must have 1 to 40 characters of a-z, 0-9 and -"));
    }
    let before = AppConfig::new(&app_id, &app_id, "Asia/Shanghai");
    vault.merge(before, input).await
}

impl Vault<'_> {
    /// The configuration after a change, with every new secret stored.
    ///
    /// # Errors
    /// [`InputError`] says what is wrong.
    pub async fn merge(
        self,
        before: AppConfig,
        input: AppInput,
    ) -> Result<(AppConfig, NewKeys), InputError> {
        let mut config = before;
        let mut keys = NewKeys::default();
        if let Some(name) = input.name {
            named("name", &name, MAX_NAME)?;
            config.name = name;
        }
        if let Some(timezone) = input.timezone {
            let known: Result<chrono_tz::Tz, _> = timezone.parse();
            known.map_err(|_| bad("timezone must be an IANA zone"))?;
            config.timezone = timezone;
        }
        if let Some(ums) = input.ums {
            let before = config.ums.take();
            config.ums = Some(self.merge_ums(&config.app_id, before, ums, &mut keys).await?);
        }
        if let Some(easemob) = input.easemob {
            let (app, before) = (&config.app_id, config.easemob.take());
            config.easemob = Some(self.merge_easemob(app, before, easemob, &mut keys).await?);
        }
        if let Some(antelope) = input.antelope {
            let (app, before) = (&config.app_id, config.antelope.take());
            config.antelope = Some(self.merge_antelope(app, before, antelope, &mut keys).await?);
        }
        if let Some(tencent) = input.tencent {
            let (app, before) = (&config.app_id, config.tencent.take());
            config.tencent = Some(self.merge_tencent(app, before, tencent, &mut keys).await?);
        }
        if let Some(uplink) = input.uplink {
            let before = std::mem::take(&mut config.uplink);
            config.uplink = self.merge_uplink(&config.app_id, before, uplink).await?;
        }
        if let Some(vendors) = input.vendors {
            config.vendors = self.replace_vendors(&config.app_id, &config.vendors, vendors).await?;
        }
        if let Some(delivery) = input.delivery {
            config.delivery = delivery.over(&config.delivery)?;
        }
        Ok((config, keys))
    }
}

/// An app as it is shown; with keys that were made just now.
#[must_use]
pub fn output(config: &AppConfig, version: i64, mut keys: NewKeys) -> AppOutput {
    AppOutput {
        app_id: config.app_id.clone(),
        name: config.name.clone(),
        timezone: config.timezone.clone(),
        version,
        ums: config.ums.as_ref().map(|ums| UmsOutput::of(ums, &mut keys)),
        easemob: config.easemob.as_ref().map(|easemob| EasemobOutput::of(easemob, &mut keys)),
        antelope: config.antelope.as_ref().map(|antelope| AntelopeOutput::of(antelope, &mut keys)),
        tencent: config.tencent.as_ref().map(|tencent| TencentOutput::of(tencent, &mut keys)),
        uplink: UplinkOutput::of(&config.uplink),
        vendors: config.vendors.iter().map(VendorOutput::of).collect(),
        delivery: DeliveryOutput::of(&config.delivery),
    }
}
