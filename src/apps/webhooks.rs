//! Webhooks of an app as operators word them. A secret is told once, when it is made; two of a
//! webhook overlap while one replaces the other.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    Event,
    app::{SecretRef, WebhookConfig},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    InputError, Vault, bad,
    keys::{self, KeyOutput},
};
use crate::{
    callback::SECRET_PREFIX,
    secrets::{SecretError, new_secret},
};

/// Webhooks of one app.
pub const MAX_WEBHOOKS: usize = 1_000;
/// Names of events that one may ask for.
const MAX_EVENTS: usize = 100;
/// Secrets that sign at once, newest first.
const MAX_SECRETS: usize = 5;
/// Bytes of a secret, as the specification has it.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A new webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookInput {
    /// Where it is.
    pub url: String,
    /// Names of the events that it wants; `device.*` for a family; all but `app.*` if absent or
    /// empty.
    #[serde(default)]
    pub events: Vec<String>,
    /// `whsec_` and the base64 of 24 to 64 bytes; made if absent.
    pub secret: Option<String>,
}

/// Another secret for a webhook.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateInput {
    /// The new secret; made if absent.
    pub secret: Option<String>,
    /// Former secrets that go on signing, 0 to 4; 1 if absent.
    pub keep: Option<usize>,
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookOutput {
    /// Its id, which is also that of the receiver.
    #[schema(value_type = String)]
    id: Uuid,
    /// Where it is.
    url: String,
    /// Names of the events that it wants; empty: all but `app.*`.
    events: Vec<String>,
    /// Whether it is not called: it answered 410.
    disabled: bool,
    /// The new secret, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Secrets that calls are signed with, newest first.
    secrets: Vec<KeyOutput>,
}

impl WebhookOutput {
    /// What is shown of a webhook, with a secret that was made just now.
    #[must_use]
    pub fn of(webhook: &WebhookConfig, secret: Option<String>) -> WebhookOutput {
        WebhookOutput {
            id: webhook.id,
            url: webhook.url.to_string(),
            events: webhook.events.clone(),
            disabled: webhook.disabled,
            secret,
            secrets: keys::shown(&webhook.secrets),
        }
    }
}

impl Vault<'_> {
    /// A new webhook, and its secret.
    ///
    /// # Errors
    /// [`InputError`] says what is wrong.
    pub async fn new_webhook(
        self,
        app: &str,
        input: WebhookInput,
    ) -> Result<(WebhookConfig, String), InputError> {
        let url = self.url(app, "url", None, input.url).await?;
        wanted(&input.events)?;
        let (secret, value) = self.webhook_secret(app, &[], input.secret).await?;
        let (id, events, secrets) = (Uuid::now_v7(), input.events, vec![secret]);
        Ok((WebhookConfig { id, url, events, secrets, disabled: false }, value))
    }

    /// The webhook with another secret before the former, and that secret.
    ///
    /// # Errors
    /// [`InputError`] says what is wrong.
    pub async fn rotate_webhook(
        self,
        app: &str,
        before: &WebhookConfig,
        input: RotateInput,
    ) -> Result<(WebhookConfig, String), InputError> {
        let keep = input.keep.unwrap_or(1);
        if keep >= MAX_SECRETS {
            return Err(bad(format!("keep must be less than {MAX_SECRETS}")));
        }
        let mut webhook = before.clone();
        let (secret, value) = self.webhook_secret(app, &before.secrets, input.secret).await?;
        webhook.secrets.retain(|own| own.fingerprint != secret.fingerprint);
        webhook.secrets.truncate(keep);
        webhook.secrets.insert(0, secret);
        Ok((webhook, value))
    }

    async fn webhook_secret(
        self,
        app: &str,
        before: &[SecretRef],
        given: Option<String>,
    ) -> Result<(SecretRef, String), InputError> {
        let value = match given {
            Some(value) => value,
            None => {
                let random = || new_secret().map_err(SecretError::from);
                format!("{SECRET_PREFIX}{}", STANDARD.encode(random()? + &random()?))
            }
        };
        let bytes = value.strip_prefix(SECRET_PREFIX).map(|text| STANDARD.decode(text));
        if !bytes.is_some_and(|bytes| bytes.is_ok_and(|b| SECRET_BYTES.contains(&b.len()))) {
            return Err(bad("secret must be whsec_ and the base64 of 24 to 64 bytes"));
        }
        let (secret, _) = self.store(app, before, &value).await?;
        Ok((secret, value))
    }
}

/// Whether some event fits each name.
fn wanted(events: &[String]) -> Result<(), InputError> {
    if events.len() > MAX_EVENTS {
        return Err(bad(format!("events has at most {MAX_EVENTS} names")));
    }
    let known = |wanted: &String| {
        let family = wanted.strip_suffix('*');
        Event::ALL.iter().any(|(name, _)| match family {
            Some(family) => name.starts_with(family),
            None => name == wanted,
        })
    };
    match events.iter().find(|wanted| !known(wanted)) {
        Some(_) => Err(bad("events must name events, or a family of them such as device.*")),
        None => Ok(()),
    }
}
