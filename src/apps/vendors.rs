//! An app's push vendors as an operator words them: section `vendors`, a list that replaces the one
//! before. Credentials and addresses of a vendor are one sealed secret; `docs/vendors.md` has their
//! names.

use std::fmt;

use domain::app::{SecretRef, VendorRef};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{InputError, Vault, bad, keys::KeyOutput, named};
use crate::delivery::channel::{Channel, VendorConfig};

/// Most vendors of one app.
const MAX_VENDORS: usize = 20;
/// Longest certificate name and package, in characters.
const MAX_NAME: usize = 100;
/// Most packages of one vendor.
const MAX_PACKAGES: usize = 100;

/// A push vendor.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VendorInput {
    /// The certificate name, which devices are bound under (`notifier_name`); unique in the app.
    pub name: String,
    /// Packages whose UMS registrations it serves; absent or empty: every package that no other
    /// names.
    #[serde(default)]
    pub app_packages: Vec<String>,
    /// Which vendor, with what and where: names as in `docs/vendors.md`. A vendor that has a name
    /// of before may leave it out, and keeps what it has.
    #[schema(value_type = Option<Object>)]
    pub credentials: Option<Map<String, Value>>,
}

impl fmt::Debug for VendorInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VendorInput").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A push vendor; of its credentials only the fingerprint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VendorOutput {
    /// The certificate name.
    pub name: String,
    /// Which vendor.
    pub vendor: &'static str,
    /// Packages whose UMS registrations it serves; empty: every package that no other names.
    pub app_packages: Vec<String>,
    /// Its credentials.
    pub credentials: KeyOutput,
}

impl VendorOutput {
    /// What is shown of a vendor.
    #[must_use]
    pub fn of(config: &VendorRef) -> VendorOutput {
        VendorOutput {
            name: config.name.clone(),
            vendor: config.vendor.name(),
            app_packages: config.app_packages.clone(),
            credentials: KeyOutput { fingerprint: config.credentials.fingerprint.clone() },
        }
    }
}

impl Vault<'_> {
    /// The vendors after a change, with every new secret stored.
    pub(super) async fn replace_vendors(
        self,
        app: &str,
        before: &[VendorRef],
        input: Vec<VendorInput>,
    ) -> Result<Vec<VendorRef>, InputError> {
        if input.len() > MAX_VENDORS {
            return Err(bad("an app has at most 20 vendors"));
        }
        let secrets: Vec<SecretRef> = before.iter().map(|v| v.credentials.clone()).collect();
        let mut vendors: Vec<VendorRef> = Vec::with_capacity(input.len());
        for VendorInput { name, app_packages, credentials } in input {
            named("vendors.name", &name, MAX_NAME)?;
            if vendors.iter().any(|vendor| vendor.name == name) {
                return Err(bad(format!("two vendors are named {name}")));
            }
            if app_packages.len() > MAX_PACKAGES {
                return Err(bad("a vendor has at most 100 packages"));
            }
            app_packages.iter().try_for_each(|own| named("vendors.appPackages", own, MAX_NAME))?;
            let Some(credentials) = credentials else {
                let kept = before.iter().find(|vendor| vendor.name == name);
                let kept = kept.ok_or_else(|| bad(format!("{name} needs credentials")))?;
                vendors.push(VendorRef { app_packages, ..kept.clone() });
                continue;
            };
            let text = Value::Object(credentials).to_string();
            let wrong = |error| bad(format!("vendors.{name}.credentials: {error}"));
            let config = VendorConfig::parse(&text).map_err(wrong)?;
            let vendor = config.vendor();
            // Looks into its keys.
            Channel::open(config).map_err(wrong)?;
            let (credentials, _) = self.store(app, &secrets, &text).await?;
            vendors.push(VendorRef { name, vendor, app_packages, credentials });
        }
        Ok(vendors)
    }
}
