//! An app: the tenant. Its events carry what it is configured to do and, of each secret, only a
//! reference and a fingerprint.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Append, Decide, Rejection, Stream,
    device::Binding,
    event::without_private,
    facts::{Facts, Stop},
    vendor::Vendor,
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
    /// Easemob push, if the app speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub easemob: Option<EasemobConfig>,
    /// Antelope custom messages, if the app speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub antelope: Option<AntelopeConfig>,
    /// Tencent IM, if the app speaks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tencent: Option<TencentConfig>,
    /// Where uplinks and reports are called back to, as UCloud words them.
    #[serde(default, skip_serializing_if = "UplinkConfig::is_default")]
    pub uplink: UplinkConfig,
    /// Receivers of any events, as Standard Webhooks has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookConfig>,
    /// The push vendors that its devices can be reached by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vendors: Vec<VendorRef>,
    /// How its messages are delivered, where that differs from the default.
    #[serde(default, skip_serializing_if = "DeliveryConfig::is_default")]
    pub delivery: DeliveryConfig,
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
    JwksUrl(CallUrl),
}

/// The Easemob side of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EasemobConfig {
    /// First part of the app key and of every path.
    pub org_name: String,
    /// Second part of the app key and of every path.
    pub app_name: String,
    /// The application's id, as answers show it.
    pub application: Uuid,
    /// Who asks for app tokens.
    pub client_id: String,
    /// Secrets that may ask for app tokens; several while a rotation overlaps.
    pub client_secrets: Vec<SecretRef>,
    /// Whether the push service is open.
    pub push_open: bool,
    /// How much may be asked for.
    #[serde(default)]
    pub limits: EasemobLimits,
}

/// How much may be asked for over Easemob's interface. The defaults are those of its documents. What
/// came later is stored only where it is not the default, as events of before are without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EasemobLimits {
    /// Users that one push may name.
    pub targets: u32,
    /// Tasks under way at once.
    pub running_tasks: u32,
    /// Tasks created within five minutes.
    pub created_tasks: u32,
    /// Labels of the app.
    pub labels: u32,
    /// Users of one label.
    pub label_users: u32,
    /// Calls a second of `push/sync`.
    pub sync_per_second: u32,
    /// Calls a second of `push/async`.
    pub async_per_second: u32,
    /// Calls a second of `push/single`.
    pub single_per_second: u32,
    /// Calls a second of `push/list/label` and `push/list`.
    pub list_per_second: u32,
    /// Calls a second of `push/task`.
    pub task_per_second: u32,
    /// Calls a second of `push/task/broadcast`.
    #[serde(skip_serializing_if = "is::<1>")]
    pub broadcast_per_second: u32,
    /// Calls a second of `push/message`, and as many of `push/message/{id}`.
    #[serde(skip_serializing_if = "is::<1>")]
    pub message_per_second: u32,
    /// Calls a second in which push vendors tell what became of messages.
    #[serde(skip_serializing_if = "is::<1_000>")]
    pub receipt_per_second: u32,
    /// Calls a second that ask for a task or cancel it.
    #[serde(skip_serializing_if = "is::<10>")]
    pub task_query_per_second: u32,
    /// Calls a second that create, read, list or delete labels.
    pub label_per_second: u32,
    /// Calls a second that read or change who is in a label.
    pub label_user_per_second: u32,
    /// Calls a second that register users, one or many.
    #[serde(skip_serializing_if = "is::<100>")]
    pub registration_per_second: u32,
    /// Calls a second that remove a page of users.
    #[serde(skip_serializing_if = "is::<30>")]
    pub batch_delete_per_second: u32,
    /// Calls a second of `users/batch/status`.
    #[serde(skip_serializing_if = "is::<50>")]
    pub batch_status_per_second: u32,
    /// Calls a second that read or change bindings.
    #[serde(skip_serializing_if = "is::<100>")]
    pub binding_per_second: u32,
    /// Calls a second of everything else that concerns users.
    pub user_per_second: u32,
    /// Calls a second of `token`.
    pub token_per_second: u32,
}

fn is<const DEFAULT: u32>(limit: &u32) -> bool {
    *limit == DEFAULT
}

impl Default for EasemobLimits {
    fn default() -> EasemobLimits {
        EasemobLimits {
            targets: 100,
            running_tasks: 3,
            created_tasks: 3,
            labels: 100,
            label_users: 20_000,
            sync_per_second: 1,
            async_per_second: 200,
            single_per_second: 10,
            list_per_second: 10,
            task_per_second: 1,
            broadcast_per_second: 1,
            message_per_second: 1,
            receipt_per_second: 1_000,
            task_query_per_second: 10,
            label_per_second: 10,
            label_user_per_second: 30,
            registration_per_second: 100,
            batch_delete_per_second: 30,
            batch_status_per_second: 50,
            binding_per_second: 100,
            user_per_second: 100,
            token_per_second: 300,
        }
    }
}

/// The Antelope side of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AntelopeConfig {
    /// Header `X-APP-ID` of the app's server.
    pub app_id: String,
    /// Keys that the app's server shows and that sign tokens; several while a rotation overlaps.
    pub app_keys: Vec<SecretRef>,
    /// The numbers that its devices may have: first and last of each range.
    pub cid_ranges: Vec<(u32, u32)>,
    /// Where devices' messages are called back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<CallUrl>,
    /// Where changes of devices' states are called back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_webhook: Option<CallUrl>,
}

impl AntelopeConfig {
    /// Whether a device may have that number.
    #[must_use]
    pub fn owns(&self, cid: u32) -> bool {
        self.cid_ranges.iter().any(|&(first, last)| (first..=last).contains(&cid))
    }
}

/// The Tencent IM side of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TencentConfig {
    /// The app's id in every call.
    pub sdk_app_id: u32,
    /// Keys that signatures of accounts are made with; several while a rotation overlaps.
    pub secret_keys: Vec<SecretRef>,
    /// The account in whose name the app's server calls.
    pub admin: String,
    /// Words that no message may contain, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Where the app's server is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<CallUrl>,
    /// What those calls are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_token: Option<SecretRef>,
    /// What it is called about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callbacks: Vec<TencentCallback>,
    /// How often it is called again about what happened, if it does not answer.
    #[serde(default, skip_serializing_if = "is_none_at_all")]
    pub retries: u8,
    /// Whether a message is refused if the server, asked before it is sent, does not answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuse_unanswered: bool,
}

fn is_none_at_all(number: &u8) -> bool {
    *number == 0
}

/// What an app's server may be called about, as Tencent IM names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TencentCallback {
    /// May a message be sent?
    #[serde(rename = "C2C.CallbackBeforeSendMsg")]
    BeforeSend,
    /// A message was sent, or could not be.
    #[serde(rename = "C2C.CallbackAfterSendMsg")]
    AfterSend,
    /// A message was read.
    #[serde(rename = "C2C.CallbackAfterMsgReport")]
    AfterReport,
    /// A message was withdrawn.
    #[serde(rename = "C2C.CallbackAfterMsgWithDraw")]
    AfterWithdraw,
    /// A device of an account came or went.
    #[serde(rename = "State.StateChange")]
    StateChange,
}

impl TencentCallback {
    /// All of them.
    pub const ALL: [TencentCallback; 5] = [
        TencentCallback::BeforeSend,
        TencentCallback::AfterSend,
        TencentCallback::AfterReport,
        TencentCallback::AfterWithdraw,
        TencentCallback::StateChange,
    ];

    /// Its name on the wire.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            TencentCallback::BeforeSend => "C2C.CallbackBeforeSendMsg",
            TencentCallback::AfterSend => "C2C.CallbackAfterSendMsg",
            TencentCallback::AfterReport => "C2C.CallbackAfterMsgReport",
            TencentCallback::AfterWithdraw => "C2C.CallbackAfterMsgWithDraw",
            TencentCallback::StateChange => "State.StateChange",
        }
    }
}

impl TencentConfig {
    /// Whether the app's server is called about that.
    #[must_use]
    pub fn calls(&self, callback: TencentCallback) -> bool {
        self.callback_url.is_some() && self.callbacks.contains(&callback)
    }
}

/// Where an app's server is called about uplinks and deliveries, as UCloud words it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkConfig {
    /// Where uplinks go (`MsgType` 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<CallUrl>,
    /// Where reports on deliveries go (`MsgType` 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_url: Option<CallUrl>,
}

impl UplinkConfig {
    fn is_default(&self) -> bool {
        *self == UplinkConfig::default()
    }
}

/// A receiver of an app's events, as Standard Webhooks has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookConfig {
    /// Its id.
    pub id: Uuid,
    /// Where it is.
    pub url: CallUrl,
    /// Names of the events that it wants, `device.*` for all of a family; empty: all but those
    /// about the app's own configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// What calls are signed with, newest first; several while a rotation overlaps.
    pub secrets: Vec<SecretRef>,
    /// Whether it is not called: it said that it is gone, or an operator switched it off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

impl WebhookConfig {
    /// Whether it wants events of that name. The configuration names other receivers, which are
    /// only told of to who asks for it by name.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix('*') {
            Some(family) => event.starts_with(family),
            None => event == wanted,
        };
        let by_default = self.events.is_empty() && !event.starts_with("app.");
        by_default || self.events.iter().any(fits)
    }
}

/// A push vendor that an app has credentials for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorRef {
    /// The certificate name, which devices are bound under (Easemob's `notifier_name`).
    pub name: String,
    /// Which vendor.
    pub vendor: Vendor,
    /// Packages whose UMS registrations it serves; empty: every package that no other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub app_packages: Vec<String>,
    /// Credentials and addresses.
    pub credentials: SecretRef,
}

/// How an app's messages are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DeliveryConfig {
    /// How long a connected device may stay silent before the vendor is asked too, in ms.
    pub ack_wait_ms: u32,
    /// How long an Easemob message is worth delivering, in seconds.
    pub keep_seconds: u32,
}

impl Default for DeliveryConfig {
    fn default() -> DeliveryConfig {
        DeliveryConfig { ack_wait_ms: 5_000, keep_seconds: 86_400 }
    }
}

impl DeliveryConfig {
    fn is_default(&self) -> bool {
        *self == DeliveryConfig::default()
    }
}

impl AppConfig {
    /// An app that speaks no protocol yet.
    #[must_use]
    pub fn new(app_id: &str, name: &str, timezone: &str) -> AppConfig {
        AppConfig {
            app_id: app_id.to_owned(),
            name: name.to_owned(),
            timezone: timezone.to_owned(),
            ums: None,
            easemob: None,
            antelope: None,
            tencent: None,
            uplink: UplinkConfig::default(),
            webhooks: Vec::new(),
            vendors: Vec::new(),
            delivery: DeliveryConfig::default(),
        }
    }

    /// The vendor that a binding leads to: by its certificate name or, for the token of a UMS
    /// registration, JPush for the device's package.
    #[must_use]
    pub fn vendor_of(&self, binding: &Binding, package: &str) -> Option<&VendorRef> {
        if let Some(notifier) = &binding.notifier {
            return self.vendors.iter().find(|vendor| vendor.name == *notifier);
        }
        let jpush = || self.vendors.iter().filter(|vendor| vendor.vendor == Vendor::Jpush);
        let named = jpush().find(|vendor| vendor.app_packages.iter().any(|own| own == package));
        named.or_else(|| jpush().find(|vendor| vendor.app_packages.is_empty()))
    }
}

/// Where a secret lies, and enough to recognise it, but not the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Name of the row in the table of secrets.
    pub reference: String,
    /// Keyed hash of the secret, 16 hex digits.
    pub fingerprint: String,
}

/// A URL that an app's configuration names. One that may hold a credential, as it has a query, is a
/// secret itself, and only what precedes that is in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CallUrl {
    /// The whole URL.
    Open(String),
    /// Where it leads, and where the whole of it lies.
    Sealed {
        /// Its scheme, host, port and path.
        origin: String,
        /// The whole URL.
        secret: SecretRef,
    },
}

impl CallUrl {
    /// The secret that it is, if it is one.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretRef> {
        match self {
            CallUrl::Open(_) => None,
            CallUrl::Sealed { secret, .. } => Some(secret),
        }
    }
}

/// The URL as everybody may see it; an ellipsis stands for what is sealed.
impl fmt::Display for CallUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallUrl::Open(url) => f.write_str(url),
            CallUrl::Sealed { origin, .. } => write!(f, "{origin}?…"),
        }
    }
}

impl AppConfig {
    /// All URLs that it names.
    pub fn urls(&self) -> impl Iterator<Item = &CallUrl> {
        let jwks = self.ums.as_ref().and_then(|ums| match &ums.jwt.as_ref()?.keys {
            JwtKeys::JwksUrl(url) => Some(url),
            JwtKeys::Hs256(_) => None,
        });
        let antelope = self.antelope.iter().flat_map(|own| [&own.webhook, &own.state_webhook]);
        let tencent = self.tencent.iter().map(|own| &own.callback_url);
        let uplink = [&self.uplink.callback_url, &self.uplink.report_url];
        let own = antelope.chain(tencent).chain(uplink).filter_map(Option::as_ref);
        own.chain(jwks).chain(self.webhooks.iter().map(|webhook| &webhook.url))
    }

    /// The protocol ids that no other app may have.
    fn public_ids(&self) -> impl Iterator<Item = &str> {
        self.ums.iter().flat_map(|ums| [ums.app_id.as_str(), ums.system_id.as_str()])
    }

    /// The path that no other app may have.
    fn easemob_path(&self) -> Option<(String, String)> {
        let path = |easemob: &EasemobConfig| {
            (easemob.org_name.to_lowercase(), easemob.app_name.to_lowercase())
        };
        self.easemob.as_ref().map(path)
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

/// Switches a webhook of an app off.
#[derive(Debug, Clone)]
pub struct DisableWebhook {
    /// The app.
    pub app_id: String,
    /// The webhook.
    pub webhook: Uuid,
}

impl Decide for DisableWebhook {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        let apps = facts.apps()?;
        let app = find(&apps, &self.app_id)?;
        let mut config = app.config.clone();
        let own = config.webhooks.iter_mut().find(|own| own.id == self.webhook && !own.disabled);
        let Some(own) = own else { return Ok(Vec::new()) };
        own.disabled = true;
        Ok(vec![append(app, AppChanged { config }.into())])
    }
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
    if let Some((org, name)) = config.easemob_path() {
        let path = Some((org.clone(), name.clone()));
        if others().any(|app| app.config.easemob_path() == path) {
            return Err(Rejection::AppTaken(format!("{org}#{name}")));
        }
    }
    if let Some(tencent) = &config.tencent {
        let mut others = others().filter_map(|app| app.config.tencent.as_ref());
        if others.any(|other| other.sdk_app_id == tencent.sdk_app_id) {
            return Err(Rejection::AppTaken(tencent.sdk_app_id.to_string()));
        }
    }
    if let Some(antelope) = &config.antelope {
        let others = || others().filter_map(|app| app.config.antelope.as_ref());
        if others().any(|other| other.app_id == antelope.app_id) {
            return Err(Rejection::AppTaken(antelope.app_id.clone()));
        }
        // The number alone says whose a device is.
        for &(first, last) in &antelope.cid_ranges {
            let meets = |&(other_first, other_last): &(u32, u32)| {
                first <= other_last && other_first <= last
            };
            if others().any(|other| other.cid_ranges.iter().any(meets)) {
                return Err(Rejection::AppTaken(format!("a cid of {first} to {last}")));
            }
        }
    }
    Ok(())
}
