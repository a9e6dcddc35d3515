//! The Haier UMS V2 side of an app as an operator words it: section `ums`.

use domain::app::UmsConfig;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    InputError, Vault, bad,
    keys::{self, KeyInput, KeyOutput, NewKeys},
    named,
};
use crate::{
    jwt::settings::{self, JwtInput, JwtOutput},
    secrets::{SecretError, new_secret},
};

/// Longest package, in characters.
const MAX_PACKAGE: usize = 100;
/// Longest UMS id, in characters.
const MAX_UMS_ID: usize = 40;
/// Most packages.
const MAX_PACKAGES: usize = 1_000;

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

impl UmsOutput {
    /// What is shown of a configuration, with keys that were made just now.
    #[must_use]
    pub fn of(ums: &UmsConfig, new: &mut NewKeys) -> UmsOutput {
        UmsOutput {
            app_id: ums.app_id.clone(),
            app_key: new.app.take(),
            app_keys: keys::shown(&ums.app_keys),
            system_id: ums.system_id.clone(),
            system_key: new.system.take(),
            system_keys: keys::shown(&ums.system_keys),
            app_packages: ums.app_packages.clone(),
            jwt: ums.jwt.as_ref().map(|jwt| JwtOutput::of(jwt, new.jwt.take())),
        }
    }
}

impl Vault<'_> {
    pub(super) async fn merge_ums(
        self,
        app: &str,
        before: Option<UmsConfig>,
        input: UmsInput,
        new: &mut NewKeys,
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
            packages
                .iter()
                .try_for_each(|package| named("ums.appPackages", package, MAX_PACKAGE))?;
            ums.app_packages = packages;
        }
        let wanted = keys::wanted(input.app_key, input.app_keys, &ums.app_keys);
        (ums.app_keys, new.app) = self.key_list(app, ums.app_keys, wanted).await?;
        let wanted = keys::wanted(input.system_key, input.system_keys, &ums.system_keys);
        (ums.system_keys, new.system) = self.key_list(app, ums.system_keys, wanted).await?;
        match input.jwt {
            Some(Some(jwt)) => {
                let (jwt, secret) = settings::replace(self, app, ums.jwt.as_ref(), jwt).await?;
                (ums.jwt, new.jwt) = (Some(jwt), secret);
            }
            Some(None) => ums.jwt = None,
            None => {}
        }
        Ok(ums)
    }
}
