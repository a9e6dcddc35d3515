//! The Tencent IM side of an app as an operator words it: section `tencent`.

use domain::app::{TencentCallback, TencentConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    InputError, Vault, bad,
    keys::{self, KeyInput, KeyOutput, NewKeys},
    named,
};

/// Longest `UserID`, in bytes.
pub const MAX_USER_BYTES: usize = 32;
/// Longest callback token, in characters.
const MAX_TOKEN: usize = 64;
/// Most words that no message may contain, and the longest of them, in characters.
const MAX_WORDS: usize = 1_000;
const MAX_WORD: usize = 100;
/// Most calls after the first.
const MAX_RETRIES: u8 = 3;
/// The account in whose name the app's server calls, unless the operator says otherwise.
const ADMIN: &str = "administrator";

/// The Tencent IM side of an app.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TencentInput {
    /// The app's id in every call. Required at first.
    pub sdk_app_id: Option<u32>,
    /// The key that signatures of accounts are made with; one is made if no key is given.
    pub secret_key: Option<String>,
    /// All such keys.
    pub secret_keys: Option<Vec<KeyInput>>,
    /// The account in whose name the app's server calls; `administrator` by default.
    pub admin: Option<String>,
    /// Words that no message may contain, whatever their case.
    pub words: Option<Vec<String>>,
    /// Where the app's server is called; `""` for nowhere.
    pub callback_url: Option<String>,
    /// What those calls are signed with; `""` for nothing.
    pub callback_token: Option<String>,
    /// What it is called about, by the names of the protocol; `C2C.CallbackAfterSendMsg` by default.
    pub callbacks: Option<Vec<String>>,
    /// How often it is called again about what happened, if it does not answer: 0 to 3.
    pub retries: Option<u8>,
    /// Whether a message is refused if the server, asked before it is sent, does not answer.
    pub refuse_unanswered: Option<bool>,
}

/// The Tencent IM side of an app.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TencentOutput {
    /// The app's id in every call.
    pub sdk_app_id: u32,
    /// The new key, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Keys that signatures of accounts may be made with.
    pub secret_keys: Vec<KeyOutput>,
    /// The account in whose name the app's server calls.
    pub admin: String,
    /// Words that no message may contain.
    pub words: Vec<String>,
    /// Where the app's server is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// What those calls are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_token: Option<KeyOutput>,
    /// What it is called about.
    pub callbacks: Vec<String>,
    /// How often it is called again about what happened, if it does not answer.
    pub retries: u8,
    /// Whether a message is refused if the server, asked before it is sent, does not answer.
    pub refuse_unanswered: bool,
}

impl TencentOutput {
    /// What is shown of a configuration, with a key that was made just now.
    #[must_use]
    pub fn of(tencent: &TencentConfig, new: &mut NewKeys) -> TencentOutput {
        let token = tencent.callback_token.as_ref();
        TencentOutput {
            sdk_app_id: tencent.sdk_app_id,
            secret_key: new.tencent.take(),
            secret_keys: keys::shown(&tencent.secret_keys),
            admin: tencent.admin.clone(),
            words: tencent.words.clone(),
            callback_url: tencent.callback_url.as_ref().map(ToString::to_string),
            callback_token: token.and_then(|t| keys::shown(std::slice::from_ref(t)).pop()),
            callbacks: tencent.callbacks.iter().map(|own| own.command().to_owned()).collect(),
            retries: tencent.retries,
            refuse_unanswered: tencent.refuse_unanswered,
        }
    }
}

impl Vault<'_> {
    pub(super) async fn merge_tencent(
        self,
        app: &str,
        before: Option<TencentConfig>,
        input: TencentInput,
        new: &mut NewKeys,
    ) -> Result<TencentConfig, InputError> {
        let mut tencent = match before {
            Some(tencent) => tencent,
            None => TencentConfig {
                sdk_app_id: 0,
                secret_keys: Vec::new(),
                admin: ADMIN.to_owned(),
                words: Vec::new(),
                callback_url: None,
                callback_token: None,
                callbacks: vec![TencentCallback::AfterSend],
                retries: 0,
                refuse_unanswered: false,
            },
        };
        tencent.sdk_app_id = input.sdk_app_id.unwrap_or(tencent.sdk_app_id);
        if tencent.sdk_app_id == 0 {
            return Err(bad("tencent.sdkAppId must be a number above 0"));
        }
        if let Some(admin) = input.admin {
            user_id("tencent.admin", &admin)?;
            tencent.admin = admin;
        }
        if let Some(words) = input.words {
            tencent.words = listed(&words)?;
        }
        let (what, before) = ("tencent.callbackUrl", tencent.callback_url.take());
        tencent.callback_url = self.url_or_none(app, what, before, input.callback_url).await?;
        if let Some(names) = input.callbacks {
            tencent.callbacks = known(&names)?;
        }
        if let Some(retries) = input.retries {
            if retries > MAX_RETRIES {
                return Err(bad("tencent.retries is at most 3"));
            }
            tencent.retries = retries;
        }
        tencent.refuse_unanswered = input.refuse_unanswered.unwrap_or(tencent.refuse_unanswered);
        if let Some(token) = input.callback_token {
            tencent.callback_token = match token.as_str() {
                "" => None,
                token => {
                    named("tencent.callbackToken", token, MAX_TOKEN)?;
                    let before: Vec<_> = tencent.callback_token.into_iter().collect();
                    Some(self.store(app, &before, token).await?.0)
                }
            };
        }
        let before = tencent.secret_keys;
        let wanted = keys::wanted(input.secret_key, input.secret_keys, &before);
        (tencent.secret_keys, new.tencent) = self.key_list(app, before, wanted).await?;
        Ok(tencent)
    }
}

/// The name of an account: 1 to 32 bytes, no control characters.
///
/// # Errors
/// [`InputError::Bad`] says which name is wrong.
pub fn user_id(what: &str, user: &str) -> Result<(), InputError> {
    named(what, user, MAX_USER_BYTES)?;
    if user.len() > MAX_USER_BYTES {
        return Err(bad(format!("{what} has at most {MAX_USER_BYTES} bytes")));
    }
    Ok(())
}

fn listed(words: &[String]) -> Result<Vec<String>, InputError> {
    if words.len() > MAX_WORDS {
        return Err(bad("tencent.words has at most 1000 words"));
    }
    for word in words {
        named("a word of tencent.words", word, MAX_WORD)?;
    }
    Ok(words.iter().map(|word| word.to_lowercase()).collect())
}

fn known(names: &[String]) -> Result<Vec<TencentCallback>, InputError> {
    let all = TencentCallback::ALL;
    let of = |name: &String| all.into_iter().find(|callback| callback.command() == name);
    let found: Option<Vec<TencentCallback>> = names.iter().map(of).collect();
    let mut found = found.ok_or_else(|| {
        let names = all.map(TencentCallback::command).join(", ");
        bad(format!("tencent.callbacks may have: {names}"))
    })?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
