//! Apps as an operator words them: input is checked and merged into a configuration, new secrets
//! go into the vault, and what is shown later has fingerprints only. The admin API, the command
//! line and the demo all come through here.

use domain::app::{AppConfig, SecretRef, UmsConfig};
use projections::db::Pool;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    jwt::settings::{self, JwtInput, JwtOutput},
    secrets::{MasterKey, Sealed, SecretError, new_secret},
};

/// Longest id, name or package, in characters.
const MAX_NAME: usize = 100;
/// Longest UMS id, in characters.
const MAX_UMS_ID: usize = 40;
/// Longest key, in characters.
const MAX_KEY: usize = 200;
/// Most keys of one list, and most packages.
const MAX_KEYS: usize = 10;
const MAX_PACKAGES: usize = 1_000;

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
}

/// The Haier UMS V2 side of an app.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UmsInput {
    /// Header `appId` of terminals; made if absent.
    pub app_id: Option<String>,
    /// The key that signs terminal calls; one is made if no key is given.
    pub app_key: Option<String>,
    /// All keys that may sign terminal calls.
    pub app_keys: Option<Vec<KeyInput>>,
    /// Header `appId` of clouds; made if absent.
    pub system_id: Option<String>,
    /// The key that signs cloud calls; one is made if no key is given.
    pub system_key: Option<String>,
    /// All keys that may sign cloud calls.
    pub system_keys: Option<Vec<KeyInput>>,
    /// Packages that may register; empty: any.
    pub app_packages: Option<Vec<String>>,
    /// Access tokens that the app signs itself; `null` ends it.
    #[serde(default, deserialize_with = "settings::given")]
    #[schema(value_type = Option<JwtInput>)]
    pub jwt: Option<Option<JwtInput>>,
}

/// A key of a list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum KeyInput {
    /// A new key, by value.
    Value(String),
    /// A key that the app has, by its fingerprint.
    #[serde(rename_all = "camelCase")]
    Keep {
        /// The fingerprint.
        fingerprint: String,
    },
    /// A new key that the server makes.
    Make {
        /// Always true.
        generate: bool,
    },
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
}

/// The Haier UMS V2 side of an app.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UmsOutput {
    /// Header `appId` of terminals.
    pub app_id: String,
    /// The new terminal key, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_key: Option<String>,
    /// Keys that may sign terminal calls.
    pub app_keys: Vec<KeyOutput>,
    /// Header `appId` of clouds.
    pub system_id: String,
    /// The new cloud key, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_key: Option<String>,
    /// Keys that may sign cloud calls.
    pub system_keys: Vec<KeyOutput>,
    /// Packages that may register; empty: any.
    pub app_packages: Vec<String>,
    /// Access tokens that the app signs itself, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtOutput>,
}

/// A key, by its fingerprint.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyOutput {
    /// The fingerprint.
    pub fingerprint: String,
}

/// Secrets made or given in one call: told once.
#[derive(Default)]
pub struct NewKeys {
    /// The last new key of terminals.
    pub app: Option<String>,
    /// The last new key of clouds.
    pub system: Option<String>,
    /// The last new secret of the app's own tokens.
    pub jwt: Option<String>,
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
    if app_id.is_empty() || app_id.len() > MAX_UMS_ID || !app_id.chars().all(plain) {
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
        Ok((config, keys))
    }

    async fn merge_ums(
        self,
        app: &str,
        before: Option<UmsConfig>,
        input: UmsInput,
        keys: &mut NewKeys,
    ) -> Result<UmsConfig, InputError> {
        let made = |prefix: &str| -> Result<String, InputError> {
            let random = new_secret().map_err(SecretError::from)?;
            Ok(format!("{prefix}-{}", random[..20].to_uppercase()))
        };
        let mut ums = match before {
            Some(ums) => ums,
            None => UmsConfig {
                app_id: made("MB")?,
                app_keys: Vec::new(),
                system_id: made("SV")?,
                system_keys: Vec::new(),
                app_packages: Vec::new(),
                jwt: None,
            },
        };
        if let Some(id) = input.app_id {
            named("ums.appId", &id, MAX_UMS_ID)?;
            ums.app_id = id;
        }
        if let Some(id) = input.system_id {
            named("ums.systemId", &id, MAX_UMS_ID)?;
            ums.system_id = id;
        }
        if ums.app_id == ums.system_id {
            return Err(bad("ums.appId and ums.systemId must differ"));
        }
        if let Some(packages) = input.app_packages {
            if packages.len() > MAX_PACKAGES {
                return Err(bad("an app has at most 1000 packages"));
            }
            packages.iter().try_for_each(|package| named("ums.appPackages", package, MAX_NAME))?;
            ums.app_packages = packages;
        }
        let wanted = wanted(input.app_key, input.app_keys, &ums.app_keys);
        (ums.app_keys, keys.app) = self.key_list(app, ums.app_keys, wanted).await?;
        let wanted = self::wanted(input.system_key, input.system_keys, &ums.system_keys);
        (ums.system_keys, keys.system) = self.key_list(app, ums.system_keys, wanted).await?;
        match input.jwt {
            Some(Some(jwt)) => {
                let (jwt, secret) = settings::replace(self, app, ums.jwt.as_ref(), jwt).await?;
                (ums.jwt, keys.jwt) = (Some(jwt), secret);
            }
            Some(None) => ums.jwt = None,
            None => {}
        }
        Ok(ums)
    }

    /// Stores new keys; gives the list and the last new key.
    pub(crate) async fn key_list(
        self,
        app: &str,
        before: Vec<SecretRef>,
        wanted: Option<Vec<KeyInput>>,
    ) -> Result<(Vec<SecretRef>, Option<String>), InputError> {
        let Some(wanted) = wanted else { return Ok((before, None)) };
        if wanted.is_empty() || wanted.len() > MAX_KEYS {
            return Err(bad("a list has 1 to 10 keys"));
        }
        let (mut list, mut told) = (Vec::new(), None);
        for key in wanted {
            let value = match key {
                KeyInput::Keep { fingerprint } => {
                    let kept = before.iter().find(|key| key.fingerprint == fingerprint);
                    let kept = kept.ok_or_else(|| bad("no key has that fingerprint"))?;
                    list.push(kept.clone());
                    continue;
                }
                KeyInput::Value(value) => {
                    named("a key", &value, MAX_KEY)?;
                    value
                }
                KeyInput::Make { generate: false } => {
                    return Err(bad("generate must be true"));
                }
                KeyInput::Make { generate: true } => new_secret().map_err(SecretError::from)?,
            };
            let print = self.master.fingerprint(&[b"secret", app.as_bytes(), value.as_bytes()]);
            let fingerprint = print[..16].to_owned();
            // The same key again needs no new row.
            if let Some(kept) = before.iter().find(|key| key.fingerprint == fingerprint) {
                list.push(kept.clone());
                continue;
            }
            let reference = format!("secret/{}", Uuid::now_v7());
            self.sealed.note(&reference);
            self.master.put(self.pool, app, &reference, &value).await?;
            list.push(SecretRef { reference, fingerprint });
            told = Some(value);
        }
        Ok((list, told))
    }
}

/// The list that a caller wants; `None` leaves it as it is.
pub(crate) fn wanted(
    one: Option<String>,
    list: Option<Vec<KeyInput>>,
    before: &[SecretRef],
) -> Option<Vec<KeyInput>> {
    match (one, list) {
        (Some(one), None) => Some(vec![KeyInput::Value(one)]),
        (Some(one), Some(mut list)) => {
            list.insert(0, KeyInput::Value(one));
            Some(list)
        }
        (None, Some(list)) => Some(list),
        (None, None) if before.is_empty() => Some(vec![KeyInput::Make { generate: true }]),
        (None, None) => None,
    }
}

/// Keys as they are shown.
pub(crate) fn shown(keys: &[SecretRef]) -> Vec<KeyOutput> {
    keys.iter().map(|key| KeyOutput { fingerprint: key.fingerprint.clone() }).collect()
}

/// An app as it is shown; with keys that were made just now.
#[must_use]
pub fn output(config: &AppConfig, version: i64, keys: NewKeys) -> AppOutput {
    let ums = config.ums.as_ref().map(|ums| UmsOutput {
        app_id: ums.app_id.clone(),
        app_key: keys.app,
        app_keys: shown(&ums.app_keys),
        system_id: ums.system_id.clone(),
        system_key: keys.system,
        system_keys: shown(&ums.system_keys),
        app_packages: ums.app_packages.clone(),
        jwt: ums.jwt.as_ref().map(|jwt| JwtOutput::of(jwt, keys.jwt)),
    });
    AppOutput {
        app_id: config.app_id.clone(),
        name: config.name.clone(),
        timezone: config.timezone.clone(),
        version,
        ums,
    }
}
