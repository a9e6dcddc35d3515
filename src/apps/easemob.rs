//! The Easemob side of an app as an operator words it: section `easemob`.

use domain::app::{EasemobConfig, EasemobLimits};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    InputError, Vault, bad,
    keys::{self, KeyInput, KeyOutput, NewKeys},
    named,
};
use crate::secrets::{SecretError, new_secret};

/// Longest part of a path and longest client id, in characters.
const MAX_NAME: usize = 100;
/// Users that one push may name at most, whatever the app's own limit.
const MAX_TARGETS: u32 = 1_000;
/// What any other limit may be at most.
const MAX_LIMIT: u32 = 1_000_000;
/// The organization of an app that names none.
const ORG: &str = "pushledger";

/// What a path can begin with elsewhere, now or in a protocol to come: no organization's name.
pub const RESERVED: [&str; 13] = [
    "admin", "connect", "docs", "graphql", "healthz", "metrics", "openapi", "readyz", "ums",
    "umse", "uplink", "v2", "v4",
];

/// The Easemob side of an app.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EasemobInput {
    /// First part of the app key and of every path; `pushledger` if absent. Case does not count.
    pub org_name: Option<String>,
    /// Second part of the app key and of every path; the app's id if absent.
    pub app_name: Option<String>,
    /// Who asks for app tokens; made if absent.
    pub client_id: Option<String>,
    /// The secret that asks for app tokens; one is made if none is given.
    pub client_secret: Option<String>,
    /// All secrets that may ask for app tokens. Tokens end with the secret that asked for them.
    pub client_secrets: Option<Vec<KeyInput>>,
    /// Whether the push service is open; true by default.
    pub push_open: Option<bool>,
    /// How much may be asked for; what is absent keeps its value.
    #[schema(value_type = Option<Object>)]
    pub limits: Option<Map<String, Value>>,
}

/// The Easemob side of an app.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EasemobOutput {
    /// First part of the app key and of every path.
    pub org_name: String,
    /// Second part of the app key and of every path.
    pub app_name: String,
    /// The application's id, as answers show it.
    pub application: String,
    /// Who asks for app tokens.
    pub client_id: String,
    /// The new client secret, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Secrets that may ask for app tokens.
    pub client_secrets: Vec<KeyOutput>,
    /// Whether the push service is open.
    pub push_open: bool,
    /// How much may be asked for.
    #[schema(value_type = Object)]
    pub limits: Map<String, Value>,
}

impl EasemobOutput {
    /// What is shown of a configuration, with a secret that was made just now.
    #[must_use]
    pub fn of(easemob: &EasemobConfig, new: &mut NewKeys) -> EasemobOutput {
        EasemobOutput {
            org_name: easemob.org_name.clone(),
            app_name: easemob.app_name.clone(),
            application: easemob.application.to_string(),
            client_id: easemob.client_id.clone(),
            client_secret: new.easemob.take(),
            client_secrets: keys::shown(&easemob.client_secrets),
            push_open: easemob.push_open,
            limits: all(&easemob.limits),
        }
    }
}

impl Vault<'_> {
    pub(super) async fn merge_easemob(
        self,
        app: &str,
        before: Option<EasemobConfig>,
        input: EasemobInput,
        new: &mut NewKeys,
    ) -> Result<EasemobConfig, InputError> {
        let mut easemob = match before {
            Some(easemob) => easemob,
            None => EasemobConfig {
                org_name: ORG.to_owned(),
                app_name: app.to_owned(),
                application: Uuid::now_v7(),
                client_id: new_secret().map_err(SecretError::from)?[..20].to_owned(),
                client_secrets: Vec::new(),
                push_open: true,
                limits: EasemobLimits::default(),
            },
        };
        if let Some(name) = input.org_name {
            part_of_path("easemob.orgName", &name)?;
            if RESERVED.contains(&name.to_lowercase().as_str()) {
                return Err(bad(format!("easemob.orgName: {name} is the server's own")));
            }
            easemob.org_name = name;
        }
        if let Some(name) = input.app_name {
            part_of_path("easemob.appName", &name)?;
            easemob.app_name = name;
        }
        if let Some(id) = input.client_id {
            named("easemob.clientId", &id, MAX_NAME)?;
            easemob.client_id = id;
        }
        if let Some(open) = input.push_open {
            easemob.push_open = open;
        }
        if let Some(limits) = input.limits {
            easemob.limits = limited(&easemob.limits, limits)?;
        }
        let before = easemob.client_secrets;
        let wanted = keys::wanted(input.client_secret, input.client_secrets, &before);
        (easemob.client_secrets, new.easemob) = self.key_list(app, before, wanted).await?;
        Ok(easemob)
    }
}

fn part_of_path(what: &str, name: &str) -> Result<(), InputError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(bad(format!("{what} must have 1 to {MAX_NAME} letters, digits, hyphens and underscores")))
}

/// All limits by name, those too that are not stored as long as they are the default.
fn all(limits: &EasemobLimits) -> Map<String, Value> {
    let mut all = match serde_json::to_value(limits) {
        Ok(Value::Object(all)) => all,
        Ok(_) | Err(_) => Map::new(),
    };
    for (name, limit) in [
        ("broadcastPerSecond", limits.broadcast_per_second),
        ("messagePerSecond", limits.message_per_second),
        ("receiptPerSecond", limits.receipt_per_second),
        ("taskQueryPerSecond", limits.task_query_per_second),
        ("registrationPerSecond", limits.registration_per_second),
        ("batchDeletePerSecond", limits.batch_delete_per_second),
        ("batchStatusPerSecond", limits.batch_status_per_second),
        ("bindingPerSecond", limits.binding_per_second),
    ] {
        all.insert(name.to_owned(), limit.into());
    }
    all
}

/// The limits after a change: those given over those there are.
fn limited(before: &EasemobLimits, given: Map<String, Value>) -> Result<EasemobLimits, InputError> {
    let wrong = |error: serde_json::Error| bad(format!("easemob.limits: {error}"));
    let mut all = all(before);
    all.extend(given);
    for (name, value) in &all {
        let most = if name == "targets" { MAX_TARGETS } else { MAX_LIMIT };
        let fits = value.as_u64().is_some_and(|limit| (1..=u64::from(most)).contains(&limit));
        if !fits {
            return Err(bad(format!("easemob.limits.{name} must be 1 to {most}")));
        }
    }
    serde_json::from_value(Value::Object(all)).map_err(wrong)
}
