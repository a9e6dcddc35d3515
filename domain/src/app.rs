//! An app: the tenant. Its events carry what it is configured to do and, of each secret, only a
//! reference and a fingerprint.

use serde::{Deserialize, Serialize};

use crate::{
    Append, Decide, Rejection, Stream,
    event::without_private,
    facts::{Facts, Stop},
};

/// What an app is configured to do, without any secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppConfig {
    /// The id that the operator chose.
    pub app_id: String,
    /// A name for people.
    pub name: String,
    /// IANA zone in which this app's protocols write times.
    pub timezone: String,
    /// Haier UMS V2, if the app speaks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ums: Option<UmsConfig>,
}

/// The Haier UMS V2 side of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UmsConfig {
    /// Header `appId` of terminal calls.
    pub app_id: String,
    /// Keys that may sign terminal calls; several while a rotation overlaps.
    pub app_keys: Vec<SecretRef>,
    /// Header `appId` of cloud calls.
    pub system_id: String,
    /// Keys that may sign cloud calls.
    pub system_keys: Vec<SecretRef>,
    /// Packages that may register; empty: any.
    pub app_packages: Vec<String>,
    /// Access tokens that the app signs itself (JWT), if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtConfig>,
}

/// Access tokens that an app signs itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtConfig {
    /// What their signatures are checked with.
    pub keys: JwtKeys,
    /// The claim `iss` that they must have; `None`: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// One of the values that their claim `aud` must have; `None`: they must have no such claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// Keys of one kind, so that a token cannot choose how it is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JwtKeys {
    /// Secrets of HS256; several while a rotation overlaps.
    Hs256(Vec<SecretRef>),
    /// URL of a set of public keys (JWKS).
    JwksUrl(String),
}

/// Where a secret lies, and enough to recognise it, but not the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Name of the row in the table of secrets.
    pub reference: String,
    /// Keyed hash of the secret, 16 hex digits.
    pub fingerprint: String,
}

impl AppConfig {
    /// The protocol ids that no other app may have.
    fn public_ids(&self) -> impl Iterator<Item = &str> {
        self.ums.iter().flat_map(|ums| [ums.app_id.as_str(), ums.system_id.as_str()])
    }
}

/// An app was created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppCreated {
    /// Its configuration.
    pub config: AppConfig,
}

/// An app's configuration was replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppChanged {
    /// The whole new configuration.
    pub config: AppConfig,
}

/// An app was deleted: its calls are refused from here on. Its history stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppDeleted {}

without_private!(AppCreated, AppChanged, AppDeleted);

/// An app as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Version of its stream.
    pub version: i64,
    /// Its configuration.
    pub config: AppConfig,
    /// Whether it was deleted. The id stays taken.
    pub deleted: bool,
}

/// Creates an app.
#[derive(Debug, Clone)]
pub struct CreateApp {
    /// Its configuration.
    pub config: AppConfig,
}

/// Replaces an app's configuration.
#[derive(Debug, Clone)]
pub struct ChangeApp {
    /// The whole new configuration.
    pub config: AppConfig,
    /// The version that the caller has seen (`If-Match`).
    pub expected: Option<i64>,
}

/// Deletes an app.
#[derive(Debug, Clone)]
pub struct DeleteApp {
    /// Its id.
    pub app_id: String,
}

impl Decide for CreateApp {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let apps = facts.apps()?;
        if apps.iter().any(|app| app.config.app_id == self.config.app_id) {
            return Err(Rejection::AppTaken(self.config.app_id.clone()).into());
        }
        ids_are_free(&apps, &self.config)?;
        let event = AppCreated { config: self.config.clone() }.into();
        Ok(vec![Append { stream: Stream::App(self.config.app_id.clone()), version: 1, event }])
    }
}

impl Decide for ChangeApp {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let apps = facts.apps()?;
        let app = find(&apps, &self.config.app_id)?;
        if self.expected.is_some_and(|version| version != app.version) {
            return Err(Rejection::VersionMoved { current: app.version }.into());
        }
        ids_are_free(&apps, &self.config)?;
        if app.config == self.config {
            return Ok(Vec::new());
        }
        let event = AppChanged { config: self.config.clone() }.into();
        Ok(vec![append(app, event)])
    }
}

impl Decide for DeleteApp {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let apps = facts.apps()?;
        Ok(vec![append(find(&apps, &self.app_id)?, AppDeleted {}.into())])
    }
}

fn append(app: &App, event: crate::Event) -> Append {
    let stream = Stream::App(app.config.app_id.clone());
    Append { stream, version: app.version + 1, event }
}

fn find<'a>(apps: &'a [App], app_id: &str) -> Result<&'a App, Rejection> {
    let alive = |app: &&App| app.config.app_id == app_id && !app.deleted;
    apps.iter().find(alive).ok_or(Rejection::UnknownApp)
}

fn ids_are_free(apps: &[App], config: &AppConfig) -> Result<(), Rejection> {
    let others = || apps.iter().filter(|app| !app.deleted && app.config.app_id != config.app_id);
    for id in config.public_ids() {
        if others().any(|app| app.config.public_ids().any(|taken| taken == id)) {
            return Err(Rejection::AppTaken(id.to_owned()));
        }
    }
    Ok(())
}
