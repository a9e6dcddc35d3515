//! An app's own tokens as operators word them: input becomes configuration, secrets go into the
//! vault, and what is shown has fingerprints only. `apps` comes here with the section `ums.jwt`.

use domain::app::{JwtConfig, JwtKeys, SecretRef};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::apps::{
    InputError, Vault, bad,
    keys::{KeyInput, KeyOutput, shown, wanted},
    named,
};

/// Shortest secret, in bytes: HS256 asks for a key as long as its hash.
const MIN_SECRET_BYTES: usize = 32;
/// Longest issuer and audience, in characters.
const MAX_CLAIM: usize = 200;

/// Access tokens that the app signs itself (JWT). It replaces what was there before; `null` ends
/// it. Either secrets or a URL.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtInput {
    /// The secret that signs tokens (HS256), 32 to 200 characters; its bytes are the key.
    pub hs256_secret: Option<String>,
    /// All secrets that may sign tokens.
    pub hs256_secrets: Option<Vec<KeyInput>>,
    /// Where the public keys are (JWKS); `http` or `https`.
    pub jwks_url: Option<String>,
    /// The claim `iss` that tokens must have; absent: any.
    pub issuer: Option<String>,
    /// What tokens must have in their claim `aud`; absent: they must have no such claim.
    pub audience: Option<String>,
}

/// Access tokens that the app signs itself (JWT).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtOutput {
    /// The new secret, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hs256_secret: Option<String>,
    /// Secrets that may sign tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hs256_secrets: Option<Vec<KeyOutput>>,
    /// Where the public keys are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The claim `iss` that tokens must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What tokens must have in their claim `aud`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

impl JwtOutput {
    /// What is shown of a configuration, with a secret that was made just now.
    #[must_use]
    pub fn of(config: &JwtConfig, secret: Option<String>) -> JwtOutput {
        let (hs256_secrets, jwks_url) = match &config.keys {
            JwtKeys::Hs256(secrets) => (Some(shown(secrets)), None),
            JwtKeys::JwksUrl(url) => (None, Some(url.to_string())),
        };
        let (issuer, audience) = (config.issuer.clone(), config.audience.clone());
        JwtOutput { hs256_secret: secret, hs256_secrets, jwks_url, issuer, audience }
    }
}

/// Tells `null` apart from what is absent.
///
/// # Errors
/// Those of the section itself.
pub fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<JwtInput>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The section after a change, with every new secret stored, and the last new secret.
///
/// # Errors
/// [`InputError`] says what is wrong.
pub async fn replace(
    vault: Vault<'_>,
    app: &str,
    before: Option<&JwtConfig>,
    input: JwtInput,
) -> Result<(JwtConfig, Option<String>), InputError> {
    for (what, claim) in [("ums.jwt.issuer", &input.issuer), ("ums.jwt.audience", &input.audience)]
    {
        claim.iter().try_for_each(|claim| named(what, claim, MAX_CLAIM))?;
    }
    let (before, before_url): (&[SecretRef], _) = match before.map(|before| &before.keys) {
        Some(JwtKeys::Hs256(secrets)) => (secrets, None),
        Some(JwtKeys::JwksUrl(url)) => (&[], Some(url)),
        None => (&[], None),
    };
    let secrets = match (input.hs256_secret, input.hs256_secrets) {
        (None, None) => None,
        (one, list) => wanted(one, list, before),
    };
    let (keys, secret) = match (secrets, input.jwks_url) {
        (Some(secrets), None) => {
            let short = |key: &KeyInput| matches!(key, KeyInput::Value(value) if value.len() < MIN_SECRET_BYTES);
            if secrets.iter().any(short) {
                return Err(bad("a secret of ums.jwt must have 32 to 200 characters"));
            }
            let (list, told) = vault.key_list(app, before.to_vec(), Some(secrets)).await?;
            (JwtKeys::Hs256(list), told)
        }
        (None, Some(url)) => {
            let url = vault.url(app, "ums.jwt.jwksUrl", before_url, url).await?;
            (JwtKeys::JwksUrl(url), None)
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(bad("ums.jwt needs either hs256Secret or hs256Secrets, or jwksUrl"));
        }
    };
    Ok((JwtConfig { keys, issuer: input.issuer, audience: input.audience }, secret))
}
