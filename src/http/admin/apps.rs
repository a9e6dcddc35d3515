//! `/admin/v1/apps`: create, list, read, change and delete apps. Secrets are in the answer once,
//! when they are made; later only their fingerprints are shown. Key lists overlap for rotation.

use axum::{
    Json,
    body::Bytes,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::app::{AppConfig, ChangeApp, CreateApp, DeleteApp, SecretRef, UmsConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Call, One, Refusal, named, positioned};
use crate::secrets::new_secret;

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
    app_id: Option<String>,
    /// A name for people.
    name: Option<String>,
    /// IANA zone in which the app's protocols write times; `Asia/Shanghai` by default.
    timezone: Option<String>,
    /// The Haier UMS V2 side.
    ums: Option<UmsInput>,
}

/// The Haier UMS V2 side of an app.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UmsInput {
    /// Header `appId` of terminals; made if absent.
    app_id: Option<String>,
    /// The key that signs terminal calls; one is made if no key is given.
    app_key: Option<String>,
    /// All keys that may sign terminal calls.
    app_keys: Option<Vec<KeyInput>>,
    /// Header `appId` of clouds; made if absent.
    system_id: Option<String>,
    /// The key that signs cloud calls; one is made if no key is given.
    system_key: Option<String>,
    /// All keys that may sign cloud calls.
    system_keys: Option<Vec<KeyInput>>,
    /// Packages that may register; empty: any.
    app_packages: Option<Vec<String>>,
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
    app_id: String,
    name: String,
    timezone: String,
    /// Version, as in `ETag`.
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ums: Option<UmsOutput>,
}

/// The Haier UMS V2 side of an app.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UmsOutput {
    app_id: String,
    /// The new terminal key, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    app_key: Option<String>,
    app_keys: Vec<KeyOutput>,
    system_id: String,
    /// The new cloud key, once.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_key: Option<String>,
    system_keys: Vec<KeyOutput>,
    app_packages: Vec<String>,
}

/// A key, by its fingerprint.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyOutput {
    fingerprint: String,
}

/// Secrets made or given in one call.
#[derive(Default)]
struct NewKeys {
    app: Option<String>,
    system: Option<String>,
}

/// Creates an app.
#[utoipa::path(post, path = "/admin/v1/apps", tag = "admin", request_body = AppInput,
    responses((status = 201, body = AppOutput), (status = 400, body = Refusal),
        (status = 401, body = Refusal), (status = 403, body = Refusal), (status = 409, body = Refusal)))]
pub async fn create(call: Call, body: Bytes) -> Result<Response, Refusal> {
    call.everywhere()?;
    let input: AppInput = call.body(&body)?;
    let app_id = input.app_id.clone().ok_or_else(|| Refusal::bad("appId is required"))?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if app_id.is_empty() || app_id.len() > MAX_UMS_ID || !app_id.chars().all(plain) {
        return Err(Refusal::bad("appId must have 1 to 40 characters of a-z, 0-9 and -"));
    }
    let before = AppConfig {
        name: app_id.clone(),
        timezone: "Asia/Shanghai".to_owned(),
        ums: None,
        app_id: app_id.clone(),
    };
    let (config, keys) = merge(&call, before, input).await?;
    let command = CreateApp { config: config.clone() };
    let done = call.execute(&app_id, &body, command).await?;
    call.server.directory.reload().await?;
    if done.repeated {
        let entry = call.app(&app_id).await?;
        return Ok(positioned(
            done,
            shown(StatusCode::OK, &entry.config, entry.version, NewKeys::default()),
        ));
    }
    Ok(positioned(done, shown(StatusCode::CREATED, &config, 1, keys)))
}

/// Lists the apps that the caller may see.
#[utoipa::path(get, path = "/admin/v1/apps", tag = "admin",
    responses((status = 200, body = Vec<AppOutput>), (status = 401, body = Refusal)))]
pub async fn list(call: Call) -> Result<Response, Refusal> {
    let apps = call.server.directory.all();
    let seen = apps.iter().filter(|app| call.operator.sees(app.id()));
    let apps: Vec<_> =
        seen.map(|app| output(&app.config, app.version, NewKeys::default())).collect();
    Ok(Json(apps).into_response())
}

/// Reads an app.
#[utoipa::path(get, path = "/admin/v1/apps/{appId}", tag = "admin",
    params(("appId" = String, Path)),
    responses((status = 200, body = AppOutput), (status = 404, body = Refusal)))]
pub async fn read(call: Call, Path(app_id): One) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    Ok(shown(StatusCode::OK, &app.config, app.version, NewKeys::default()))
}

/// Changes an app. With `If-Match`, only the version that the caller has seen.
#[utoipa::path(patch, path = "/admin/v1/apps/{appId}", tag = "admin", request_body = AppInput,
    params(("appId" = String, Path)),
    responses((status = 200, body = AppOutput), (status = 400, body = Refusal),
        (status = 404, body = Refusal), (status = 409, body = Refusal), (status = 412, body = Refusal)))]
pub async fn change(call: Call, Path(app_id): One, body: Bytes) -> Result<Response, Refusal> {
    let app = call.app(&app_id).await?;
    let input: AppInput = call.body(&body)?;
    if input.app_id.as_ref().is_some_and(|id| *id != app_id) {
        return Err(Refusal::bad("appId can't be changed"));
    }
    let expected = Some(if_match(&call.headers)?.unwrap_or(app.version));
    let (config, keys) = merge(&call, app.config.clone(), input).await?;
    let done = call.execute(&app_id, &body, ChangeApp { config, expected }).await?;
    call.server.directory.reload().await?;
    let entry = call.app(&app_id).await?;
    Ok(positioned(done, shown(StatusCode::OK, &entry.config, entry.version, keys)))
}

/// Deletes an app: its calls are refused from then on. Its history stays.
#[utoipa::path(delete, path = "/admin/v1/apps/{appId}", tag = "admin",
    params(("appId" = String, Path)),
    responses((status = 204), (status = 404, body = Refusal)))]
pub async fn delete(call: Call, Path(app_id): One) -> Result<Response, Refusal> {
    call.everywhere()?;
    let app = call.app(&app_id).await?;
    let command = DeleteApp { app_id: app.id().to_owned() };
    let done = call.execute(&app_id, b"", command).await?;
    call.server.directory.reload().await?;
    Ok(positioned(done, StatusCode::NO_CONTENT))
}

fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim_matches('"');
    text.parse().map(Some).map_err(|_| Refusal::bad("If-Match must be a version"))
}

/// The configuration after the change, with every new secret stored.
async fn merge(
    call: &Call,
    before: AppConfig,
    input: AppInput,
) -> Result<(AppConfig, NewKeys), Refusal> {
    let mut config = before;
    let mut keys = NewKeys::default();
    if let Some(name) = input.name {
        named("name", &name, MAX_NAME)?;
        config.name = name;
    }
    if let Some(timezone) = input.timezone {
        let known: Result<chrono_tz::Tz, _> = timezone.parse();
        known.map_err(|_| Refusal::bad("timezone must be an IANA zone"))?;
        config.timezone = timezone;
    }
    if let Some(ums) = input.ums {
        let before = config.ums.take();
        config.ums = Some(merge_ums(call, &config.app_id, before, ums, &mut keys).await?);
    }
    Ok((config, keys))
}

async fn merge_ums(
    call: &Call,
    app: &str,
    before: Option<UmsConfig>,
    input: UmsInput,
    keys: &mut NewKeys,
) -> Result<UmsConfig, Refusal> {
    let made = |prefix: &str| -> Result<String, Refusal> {
        let random = new_secret().map_err(|error| Refusal::internal(&error))?;
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
        return Err(Refusal::bad("ums.appId and ums.systemId must differ"));
    }
    if let Some(packages) = input.app_packages {
        if packages.len() > MAX_PACKAGES {
            return Err(Refusal::bad("an app has at most 1000 packages"));
        }
        packages.iter().try_for_each(|package| named("ums.appPackages", package, MAX_NAME))?;
        ums.app_packages = packages;
    }
    let wanted = wanted(input.app_key, input.app_keys, &ums.app_keys);
    (ums.app_keys, keys.app) = key_list(call, app, ums.app_keys, wanted).await?;
    let wanted = self::wanted(input.system_key, input.system_keys, &ums.system_keys);
    (ums.system_keys, keys.system) = key_list(call, app, ums.system_keys, wanted).await?;
    Ok(ums)
}

/// The list that a caller wants; `None` leaves it as it is.
fn wanted(
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

/// Stores new keys; gives the list and the last key that was made here.
async fn key_list(
    call: &Call,
    app: &str,
    before: Vec<SecretRef>,
    wanted: Option<Vec<KeyInput>>,
) -> Result<(Vec<SecretRef>, Option<String>), Refusal> {
    let Some(wanted) = wanted else { return Ok((before, None)) };
    if wanted.is_empty() || wanted.len() > MAX_KEYS {
        return Err(Refusal::bad("a list has 1 to 10 keys"));
    }
    let (mut list, mut told) = (Vec::new(), None);
    for key in wanted {
        let value = match key {
            KeyInput::Keep { fingerprint } => {
                let kept = before.iter().find(|key| key.fingerprint == fingerprint);
                let kept = kept.ok_or_else(|| Refusal::bad("no key has that fingerprint"))?;
                list.push(kept.clone());
                continue;
            }
            KeyInput::Value(value) => {
                named("a key", &value, MAX_KEY)?;
                value
            }
            KeyInput::Make { generate: false } => {
                return Err(Refusal::bad("generate must be true"));
            }
            KeyInput::Make { generate: true } => {
                new_secret().map_err(|error| Refusal::internal(&error))?
            }
        };
        let master = &call.server.master;
        let print = master.fingerprint(&[b"secret", app.as_bytes(), value.as_bytes()]);
        let fingerprint = print[..16].to_owned();
        // The same key again needs no new row.
        if let Some(kept) = before.iter().find(|key| key.fingerprint == fingerprint) {
            list.push(kept.clone());
            continue;
        }
        let reference = format!("secret/{}", Uuid::now_v7());
        let pool = &call.server.ledger.database().ledger_write;
        master.put(pool, app, &reference, &value).await?;
        list.push(SecretRef { reference, fingerprint });
        told = Some(value);
    }
    Ok((list, told))
}

fn shown(status: StatusCode, config: &AppConfig, version: i64, keys: NewKeys) -> Response {
    let mut response = (status, Json(output(config, version, keys))).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

fn output(config: &AppConfig, version: i64, keys: NewKeys) -> AppOutput {
    let list = |keys: &[SecretRef]| {
        keys.iter().map(|key| KeyOutput { fingerprint: key.fingerprint.clone() }).collect()
    };
    let ums = config.ums.as_ref().map(|ums| UmsOutput {
        app_id: ums.app_id.clone(),
        app_key: keys.app,
        app_keys: list(&ums.app_keys),
        system_id: ums.system_id.clone(),
        system_key: keys.system,
        system_keys: list(&ums.system_keys),
        app_packages: ums.app_packages.clone(),
    });
    AppOutput {
        app_id: config.app_id.clone(),
        name: config.name.clone(),
        timezone: config.timezone.clone(),
        version,
        ums,
    }
}
