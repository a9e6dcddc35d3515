//! Lists of keys as operators word them: new ones by value or made here, those that an app has by
//! their fingerprints. Two keys of a list overlap while one replaces the other.

use domain::app::SecretRef;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{InputError, Vault, bad, named};
use crate::secrets::{SecretError, new_secret};

/// Longest key, in characters.
const MAX_KEY: usize = 200;
/// Most keys of one list.
const MAX_KEYS: usize = 10;

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
    /// The last new client secret of the Easemob side.
    pub easemob: Option<String>,
    /// The last new key of the Antelope side.
    pub antelope: Option<String>,
    /// The last new key of the Tencent side.
    pub tencent: Option<String>,
}

impl Vault<'_> {
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
            let (secret, new) = self.store(app, &before, &value).await?;
            list.push(secret);
            if new {
                told = Some(value);
            }
        }
        Ok((list, told))
    }

    /// Stores a secret, and gives it with whether it is new: one that is there needs no other row.
    pub(super) async fn store(
        self,
        app: &str,
        before: &[SecretRef],
        value: &str,
    ) -> Result<(SecretRef, bool), InputError> {
        let print = self.master.fingerprint(&[b"secret", app.as_bytes(), value.as_bytes()]);
        let fingerprint = print[..16].to_owned();
        if let Some(kept) = before.iter().find(|key| key.fingerprint == fingerprint) {
            return Ok((kept.clone(), false));
        }
        let reference = format!("secret/{}", Uuid::now_v7());
        self.sealed.note(&reference);
        self.master.put(self.pool, app, &reference, value).await?;
        Ok((SecretRef { reference, fingerprint }, true))
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
