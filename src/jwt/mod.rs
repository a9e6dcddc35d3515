//! Access tokens that an app signs itself: JWTs whose `sub` is the UMS `userId`. The app's
//! configuration says what they are checked with; a token never chooses. The gate asks here for
//! every token that has a JWT's shape, if its app has such a configuration.

pub mod jwks;
pub mod settings;

use std::sync::Arc;

use domain::app::{JwtConfig, JwtKeys};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, decode_header,
    errors::ErrorKind,
};
use serde::Deserialize;

use crate::apps::named;
use jwks::{Fetcher, KeySet};

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// Longest user, in characters.
const MAX_NAME: usize = 100;
/// How far the clocks of an app's login service and of this server may differ, in seconds.
const LEEWAY_SECONDS: f64 = 30.0;

/// Why a token stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not a token of this app: wrong in form, unsigned, wrongly signed or not valid yet.
    Unknown,
    /// It ended.
    Expired,
    /// It was made for another client, or by or for another than the configuration says.
    Foreign,
    /// Nobody knows: the keys cannot be had now.
    Undecided,
}

/// What an app's tokens are checked with.
#[derive(Debug)]
pub struct Verifier {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
}

#[derive(Debug)]
enum Keys {
    Hs256(Vec<DecodingKey>),
    Jwks(Arc<KeySet>),
}

/// The claims that count. Times are in seconds since the epoch, with or without a fraction.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    #[serde(rename = "clientId")]
    client_id: Option<String>,
}

impl Verifier {
    /// A verifier for an app's configuration and the secrets, or the URL, that it refers to. Keys that the
    /// former verifier fetched from the same URL are kept.
    #[must_use]
    pub fn new(
        app: &str,
        config: &JwtConfig,
        secrets: &[String],
        former: Option<&Verifier>,
    ) -> Verifier {
        let keys = match &config.keys {
            JwtKeys::Hs256(_) => {
                let key = |secret: &String| DecodingKey::from_secret(secret.as_bytes());
                Keys::Hs256(secrets.iter().map(key).collect())
            }
            JwtKeys::JwksUrl(_) => {
                let url = secrets.first().map_or("", String::as_str);
                Keys::Jwks(match former.map(|former| &former.keys) {
                    Some(Keys::Jwks(known)) if known.url() == url => Arc::clone(known),
                    Some(Keys::Jwks(_) | Keys::Hs256(_)) | None => Arc::new(KeySet::new(app, url)),
                })
            }
        };
        Verifier { keys, issuer: config.issuer.clone(), audience: config.audience.clone() }
    }

    /// The user that a token stands for on a client.
    ///
    /// # Errors
    /// [`Refusal`] says why it stands for nobody.
    pub async fn user(
        &self,
        fetcher: &Fetcher,
        client_id: &str,
        token: &str,
    ) -> Result<String, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Unknown);
        }
        let header = decode_header(token).map_err(|_| Refusal::Unknown)?;
        if header.crit.is_some() {
            // It asks for more than is understood here.
            return Err(Refusal::Unknown);
        }
        let claims = self.signed(fetcher, &header, token).await?;
        if claims.client_id.is_some_and(|client| client != client_id) {
            return Err(Refusal::Foreign);
        }
        #[expect(clippy::cast_precision_loss, reason = "to the µs for the next 200 years")]
        let now = fetcher.now() as f64 / 1_000_000.0;
        if claims.exp + LEEWAY_SECONDS <= now {
            return Err(Refusal::Expired);
        }
        let early = claims.nbf.is_some_and(|from| now + LEEWAY_SECONDS < from);
        if early || named("sub", &claims.sub, MAX_NAME).is_err() {
            return Err(Refusal::Unknown);
        }
        Ok(claims.sub)
    }

    /// The claims of a token that the app signed.
    async fn signed(
        &self,
        fetcher: &Fetcher,
        header: &Header,
        token: &str,
    ) -> Result<Claims, Refusal> {
        match &self.keys {
            Keys::Hs256(secrets) => {
                let checked = secrets.iter().map(|key| self.check(token, key, Algorithm::HS256));
                // What a key did not sign is unknown to it; another may have signed it.
                let mut told = checked.filter(|checked| !matches!(checked, Err(Refusal::Unknown)));
                told.next().unwrap_or(Err(Refusal::Unknown))
            }
            // A public key is no secret: nothing that it "signs" as one counts.
            Keys::Jwks(_) if header.alg.family() == AlgorithmFamily::Hmac => Err(Refusal::Unknown),
            Keys::Jwks(keys) => {
                let found = keys.find(fetcher, header.kid.as_deref(), header.alg).await;
                let key = found.map_err(|_| Refusal::Undecided)?.ok_or(Refusal::Unknown)?;
                self.check(token, &key.key, header.alg)
            }
        }
    }

    /// Checks everything but the times, which are for our own clock to tell.
    fn check(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
    ) -> Result<Claims, Refusal> {
        let mut rules = Validation::new(algorithm);
        rules.validate_exp = false;
        rules.set_required_spec_claims(&["exp", "sub"]);
        if let Some(issuer) = &self.issuer {
            rules.set_issuer(&[issuer]);
            rules.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = &self.audience {
            rules.set_audience(&[audience]);
            rules.required_spec_claims.insert("aud".to_owned());
        }
        match decode(token, key, &rules) {
            Ok(decoded) => Ok(decoded.claims),
            Err(error) => Err(match error.kind() {
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => Refusal::Foreign,
                _ => Refusal::Unknown,
            }),
        }
    }
}

/// Whether a token has the form of a JWT; those that this server issues never have.
#[must_use]
pub fn looks_like_one(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}
