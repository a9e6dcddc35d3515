//! Authorization at the vendors: what goes into the header of a call, and where it comes from.
//!
//! JPush takes a fixed pair. FCM and Huawei take an access token that is fetched, shared by all
//! calls until shortly before it expires, and fetched once however many wait for it. Apple takes a
//! token that we sign ourselves, no older than an hour and not renewed more often than every 20
//! minutes ("Establishing a token-based connection to APNs"). The sender calls this.

use std::sync::{Arc, Mutex, PoisonError};

use domain::vendor::Class;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::{
    config::{ApnsConfig, ConfigError, FcmConfig, VendorConfig},
    fcm,
    verdict::{Verdict, by_status},
};

/// µs of a second.
const SECOND: i64 = 1_000_000;
/// A fetched token is replaced so long before it expires, in µs, or halfway if that is later.
const EARLY_MICROS: i64 = 5 * 60 * SECOND;
/// A token of ours for Apple is replaced when it is so old, in µs.
const RENEW_MICROS: i64 = 40 * 60 * SECOND;
/// It is not replaced before it is so old, in µs: Apple refuses more.
const KEEP_MICROS: i64 = 20 * 60 * SECOND;
/// What failed is not tried again for so long, in µs.
const FAILED_MICROS: i64 = SECOND;
/// What we ask Google's token to live, in s.
const ASSERTION_SECONDS: i64 = 3600;
/// Idempotency keys are given up when they are so old, in µs; they live a day.
pub(super) const POOL_MICROS: i64 = 12 * 3600 * SECOND;

/// An app at a vendor: its configuration, its keys, and the tokens got with them. Kept as long as
/// the configuration stays, and shared by all who send.
pub struct Channel {
    pub(super) config: VendorConfig,
    pub(super) key: Option<EncodingKey>,
    pub(super) tokens: Flight<Token>,
    pub(super) pool: Flight<Pool>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Channel {
    /// The channel of a configuration.
    ///
    /// # Errors
    /// [`ConfigError::Key`] when a private key cannot be read.
    pub fn open(config: VendorConfig) -> Result<Channel, ConfigError> {
        let key = match &config {
            VendorConfig::Jpush(_) | VendorConfig::Huawei(_) => None,
            VendorConfig::Fcm(fcm) => {
                let pem = fcm.service_account.private_key.reveal();
                let key = EncodingKey::from_rsa_pem(pem.as_bytes());
                Some(key.map_err(|_| ConfigError::Key("private_key"))?)
            }
            VendorConfig::Apns(apns) => {
                let key = EncodingKey::from_ec_pem(apns.p8.reveal().as_bytes());
                Some(key.map_err(|_| ConfigError::Key("p8"))?)
            }
        };
        Ok(Channel { config, key, tokens: Flight::default(), pool: Flight::default() })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &VendorConfig {
        &self.config
    }

    fn sign<T: Serialize>(&self, header: &Header, claims: &T) -> Result<String, Verdict> {
        let key = self.key.as_ref().ok_or(Verdict::of(Class::Auth))?;
        jsonwebtoken::encode(header, claims, key).map_err(|_| Verdict::of(Class::Auth))
    }

    /// A token for Apple, signed now (µs since the epoch).
    pub(super) fn provider_token(&self, apns: &ApnsConfig, now: i64) -> Landed<Token> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            iat: i64,
        }
        let header =
            Header { kid: Some(apns.key_id.clone()), typ: None, ..Header::new(Algorithm::ES256) };
        let claims = Claims { iss: &apns.team_id, iat: now / SECOND };
        match self.sign(&header, &claims) {
            Ok(token) => Landed {
                result: Ok(Token { bearer: token.into(), keep_until: now + KEEP_MICROS }),
                good_until: now + RENEW_MICROS,
            },
            Err(verdict) => Landed::failed(verdict, now),
        }
    }

    /// What Google's token endpoint takes for an access token, signed now (µs since the epoch).
    pub(super) fn assertion(&self, config: &FcmConfig, now: i64) -> Result<String, Verdict> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iss: &'a str,
            scope: &'a str,
            aud: &'a str,
            iat: i64,
            exp: i64,
        }
        let account = &config.service_account;
        let header =
            Header { kid: account.private_key_id.clone(), ..Header::new(Algorithm::RS256) };
        let iat = now / SECOND;
        let claims = Claims {
            iss: &account.client_email,
            scope: fcm::SCOPE,
            aud: fcm::token_url(config),
            iat,
            exp: iat + ASSERTION_SECONDS,
        };
        self.sign(&header, &claims)
    }
}

/// A bearer token.
#[derive(Clone)]
pub(super) struct Token {
    /// What goes into the header.
    pub(super) bearer: Arc<str>,
    /// It is not replaced before, even if the vendor refuses it, in µs since the epoch.
    pub(super) keep_until: i64,
}

/// Idempotency keys that nobody has used yet.
pub(super) type Pool = Arc<Mutex<Vec<String>>>;

/// The answer of a token endpoint, good or bad, asked at a time (µs since the epoch).
pub(super) fn fetched(status: u16, body: &[u8], now: i64) -> Landed<Token> {
    #[derive(Deserialize, Default)]
    struct Answer {
        #[serde(default)]
        access_token: Option<String>,
        #[serde(default)]
        expires_in: Option<u32>,
        #[serde(default)]
        error: Option<serde_json::Value>,
    }
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    match (answer.access_token, answer.expires_in) {
        (Some(token), Some(seconds)) if (200..=299).contains(&status) => {
            let life = i64::from(seconds) * SECOND;
            let early = EARLY_MICROS.min(life / 2);
            Landed {
                result: Ok(Token { bearer: token.into(), keep_until: now }),
                good_until: now + life - early,
            }
        }
        _ => {
            let verdict = by_status(status);
            let refused = matches!(verdict.class, Class::Payload | Class::Config);
            let class = if refused { Class::Auth } else { verdict.class };
            let code = answer.error.as_ref().map(|error| match error.as_str() {
                Some(text) => text.to_owned(),
                None => error.to_string(),
            });
            let verdict = Verdict { class, code: code.or(verdict.code), ..Verdict::of(class) };
            Landed::failed(verdict, now)
        }
    }
}

/// Something that is fetched once for all who want it, and again when it is no longer good.
pub(super) struct Flight<T>(Mutex<Arc<OnceCell<Landed<T>>>>);

/// What a fetch brought.
pub(super) struct Landed<T> {
    pub(super) result: Result<T, Verdict>,
    /// When it is fetched again, in µs since the epoch.
    pub(super) good_until: i64,
}

impl<T> Landed<T> {
    /// A failure, which all get who ask until shortly after.
    pub(super) fn failed(verdict: Verdict, now: i64) -> Landed<T> {
        Landed { result: Err(verdict), good_until: now + FAILED_MICROS }
    }
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Flight(Mutex::default())
    }
}

impl<T: Clone> Flight<T> {
    /// What was fetched, if it is still good now (µs since the epoch) and not `spent`; else it is
    /// fetched, by the first who asks. Safe to cancel: another who waits then fetches.
    ///
    /// # Errors
    /// What the fetch failed with.
    pub(super) async fn get(
        &self,
        now: i64,
        spent: impl Fn(&T) -> bool,
        fetch: impl Future<Output = Landed<T>>,
    ) -> Result<T, Verdict> {
        let cell = {
            let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let over = current.get().is_some_and(|landed| {
                landed.good_until <= now || landed.result.as_ref().is_ok_and(&spent)
            });
            if over {
                *current = Arc::default();
            }
            current.clone()
        };
        cell.get_or_init(|| fetch).await.result.clone()
    }
}
