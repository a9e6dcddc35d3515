//! What an operator gives for a vendor: credentials and, for tests and regions, other addresses. It
//! is one JSON object whose `vendor` says which; a name that is not known is refused. Secrets never
//! show in `Debug` and never in an error.

use std::fmt;

use domain::vendor::Vendor;
use reqwest::Url;
use serde::{Deserialize, Deserializer};

/// Credentials and addresses of an app at one vendor.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "vendor", rename_all = "snake_case")]
pub enum VendorConfig {
    /// JPush.
    Jpush(JpushConfig),
    /// Firebase Cloud Messaging.
    Fcm(FcmConfig),
    /// Apple.
    Apns(ApnsConfig),
    /// Huawei.
    Huawei(HuaweiConfig),
}

/// An app at JPush: what its console shows.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JpushConfig {
    /// AppKey.
    pub app_key: String,
    /// Master Secret.
    pub master_secret: Secret,
    /// Whether iPhones have the production build.
    #[serde(default = "yes")]
    pub apns_production: bool,
    /// Instead of `https://api.jpush.cn`.
    #[serde(default)]
    pub base_url: Option<String>,
}

/// A project at Firebase.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FcmConfig {
    /// The key file of a service account, as it was downloaded.
    pub service_account: ServiceAccount,
    /// Instead of `https://fcm.googleapis.com`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Where access tokens come from, instead of what the key file says.
    #[serde(default)]
    pub token_url: Option<String>,
}

/// What we need of Google's key file; it has more.
#[derive(Debug, Clone, Deserialize)]
pub struct ServiceAccount {
    /// The project that sends.
    pub project_id: String,
    /// Who signs.
    pub client_email: String,
    /// With what, an RSA key in PEM.
    pub private_key: Secret,
    /// Which of its keys that is.
    #[serde(default)]
    pub private_key_id: Option<String>,
    /// Where access tokens come from.
    #[serde(default)]
    pub token_uri: Option<String>,
}

/// An app at Apple.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApnsConfig {
    /// Id of the signing key.
    pub key_id: String,
    /// Id of the team.
    pub team_id: String,
    /// The signing key, the text of the `.p8` file.
    pub p8: Secret,
    /// Bundle id of the app.
    pub topic: String,
    /// Whether the devices have the production build.
    #[serde(default = "yes")]
    pub production: bool,
    /// Instead of `https://api.push.apple.com` and its sandbox.
    #[serde(default)]
    pub base_url: Option<String>,
}

/// An app at Huawei.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HuaweiConfig {
    /// Client ID of the app.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The id in the address of a push, if it is another than the Client ID.
    #[serde(default)]
    pub app_id: Option<String>,
    /// The user name and the key that sign receipts, as Huawei's console has them; without both no
    /// receipt is taken from there.
    #[serde(default)]
    pub receipt_user: Option<String>,
    /// The key.
    #[serde(default)]
    pub receipt_key: Option<Secret>,
    /// Instead of `https://push-api.cloud.huawei.com`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Instead of `https://oauth-login.cloud.huawei.com/oauth2/v3/token`.
    #[serde(default)]
    pub token_url: Option<String>,
}

fn yes() -> bool {
    true
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By way of any value, as serde would quote a value of the wrong type.
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Secret(text)),
            _ => Err(serde::de::Error::custom("a secret must be a string")),
        }
    }
}

/// What an operator gave cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an object of a known vendor, or a name is missing, unknown or of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// An address is not one.
    #[error("{0} must be an http or https address without query")]
    Address(&'static str),
    /// A name that goes into addresses or headers has other characters than it may.
    #[error("{0} must have 1 to 200 letters, digits, dots, colons, hyphens and underscores")]
    Name(&'static str),
    /// A key cannot be read.
    #[error("{0} is not a private key in PEM of the right kind")]
    Key(&'static str),
}

/// Characters of a name in an address or a header.
const MAX_NAME_CHARS: usize = 200;

impl VendorConfig {
    /// Understands what an operator gave.
    ///
    /// # Errors
    /// [`ConfigError`] says what is wrong, without telling secrets. Keys are only looked into by
    /// [`Channel::open`](super::Channel::open).
    pub fn parse(text: &str) -> Result<VendorConfig, ConfigError> {
        let config: VendorConfig = serde_json::from_str(text)?;
        let (base, token) = config.addresses();
        address("baseUrl", base)?;
        address("tokenUrl", token)?;
        match &config {
            VendorConfig::Jpush(jpush) => name("appKey", &jpush.app_key)?,
            VendorConfig::Fcm(fcm) => {
                address("token_uri", fcm.service_account.token_uri.as_deref())?;
                name("project_id", &fcm.service_account.project_id)?;
            }
            VendorConfig::Apns(apns) => {
                name("keyId", &apns.key_id)?;
                name("teamId", &apns.team_id)?;
                name("topic", &apns.topic)?;
            }
            VendorConfig::Huawei(huawei) => {
                name("clientId", &huawei.client_id)?;
                name("appId", huawei.app_id.as_ref().unwrap_or(&huawei.client_id))?;
            }
        }
        Ok(config)
    }

    /// Whose it is.
    #[must_use]
    pub fn vendor(&self) -> Vendor {
        match self {
            VendorConfig::Jpush(_) => Vendor::Jpush,
            VendorConfig::Fcm(_) => Vendor::Fcm,
            VendorConfig::Apns(_) => Vendor::Apns,
            VendorConfig::Huawei(_) => Vendor::Huawei,
        }
    }

    fn addresses(&self) -> (Option<&str>, Option<&str>) {
        match self {
            VendorConfig::Jpush(config) => (config.base_url.as_deref(), None),
            VendorConfig::Fcm(config) => (config.base_url.as_deref(), config.token_url.as_deref()),
            VendorConfig::Apns(config) => (config.base_url.as_deref(), None),
            VendorConfig::Huawei(config) => {
                (config.base_url.as_deref(), config.token_url.as_deref())
            }
        }
    }
}

/// An address to which paths can be added: the given one without a slash at its end, or the
/// vendor's own.
pub(super) fn base<'a>(given: Option<&'a str>, own: &'a str) -> &'a str {
    given.unwrap_or(own).trim_end_matches('/')
}

fn address(what: &'static str, given: Option<&str>) -> Result<(), ConfigError> {
    let Some(given) = given else { return Ok(()) };
    let url = Url::parse(given).map_err(|_| ConfigError::Address(what))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if plain { Ok(()) } else { Err(ConfigError::Address(what)) }
}

fn name(what: &'static str, given: &str) -> Result<(), ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".:-_".contains(&b);
    let fits = (1..=MAX_NAME_CHARS).contains(&given.len()) && given.bytes().all(allowed);
    // A name of dots alone would climb the path.
    let climbs = given.bytes().all(|b| b == b'.');
    if fits && !climbs { Ok(()) } else { Err(ConfigError::Name(what)) }
}
