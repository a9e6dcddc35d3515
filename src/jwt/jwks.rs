//! The public keys of an app's tokens, fetched from the URL that its configuration names (JWKS, RFC
//! 7517) and kept in memory. A verifier asks for the key of a token; only then, and only if what is
//! kept does not do, the set is fetched: by one task at a time for each app, while nothing but
//! calls with tokens of that app waits.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use crate::{
    clock::Clock,
    outbound::{CallError, Limits, Outbound},
};

/// How long a set is used without being fetched again, in µs: 5 minutes. A key that left the set
/// counts no longer than that.
const FRESH_MICROS: i64 = 5 * 60 * 1_000_000;
/// How long a set is used while it cannot be fetched again, in µs: a day.
const STALE_MICROS: i64 = 24 * 3600 * 1_000_000;
/// Least time between two fetches of a set, in µs: 10 seconds.
const PAUSE_MICROS: i64 = 10 * 1_000_000;
/// What a fetch may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(5), bytes: 256 * 1024, cut: false };
/// Most keys of a set.
const MAX_KEYS: usize = 100;

/// What fetching needs, shared by all apps.
#[derive(Clone)]
pub struct Fetcher {
    outbound: Arc<Outbound>,
    clock: Clock,
    tasks: TaskTracker,
}

impl Fetcher {
    /// A fetcher whose fetches are tracked as these tasks.
    #[must_use]
    pub fn new(outbound: Arc<Outbound>, clock: Clock, tasks: TaskTracker) -> Fetcher {
        Fetcher { outbound, clock, tasks }
    }

    /// The time by which tokens and keys are judged, in µs since the epoch.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.now()
    }
}

/// The keys cannot be had, so nothing can be said about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;

/// A public key.
#[derive(Debug)]
pub struct Key {
    /// What a signature is checked with.
    pub key: DecodingKey,
    id: Option<String>,
    algorithms: Vec<Algorithm>,
}

/// The keys of one app.
#[derive(Debug)]
pub struct KeySet {
    app: String,
    url: String,
    known: RwLock<Known>,
    /// Held by whoever fetches, and for a moment by those who wait for that.
    turn: Arc<Mutex<()>>,
}

/// What is known of a set, and since when.
#[derive(Debug, Clone, Default)]
struct Known {
    keys: Arc<Vec<Arc<Key>>>,
    /// When the keys were fetched.
    fetched_at: Option<i64>,
    /// When the last fetch ended, whether it worked or not.
    tried_at: Option<i64>,
    /// Whether the last fetch failed.
    failed: bool,
}

impl KeySet {
    /// A set of which nothing is known yet.
    #[must_use]
    pub fn new(app: &str, url: &str) -> KeySet {
        let (app, url) = (app.to_owned(), url.to_owned());
        KeySet { app, url, known: RwLock::default(), turn: Arc::default() }
    }

    /// Where it comes from.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The key for a token with that `kid` and algorithm, if there is one. Without a `kid` it is
    /// the only one for the algorithm.
    ///
    /// # Errors
    /// [`Unavailable`] when that cannot be told, as the set cannot be fetched.
    pub async fn find(
        self: &Arc<Self>,
        fetcher: &Fetcher,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Option<Arc<Key>>, Unavailable> {
        let (known, now) = (self.known(), fetcher.now());
        let found = known.pick(id, algorithm);
        if found.is_some() && within(known.fetched_at, now, FRESH_MICROS) {
            return Ok(found);
        }
        if !within(known.tried_at, now, PAUSE_MICROS) {
            if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                // A task of its own: a caller that goes away does not break it off.
                let (keys, fetcher) = (Arc::clone(self), fetcher.clone());
                fetcher.tasks.clone().spawn(async move {
                    keys.fetch(&fetcher, now).await;
                    drop(turn);
                });
            }
            // While fetches fail, nobody waits whom the keys at hand can serve.
            let serves = found.is_some() && within(known.fetched_at, now, STALE_MICROS);
            if !(known.failed && serves) {
                drop(self.turn.lock().await);
            }
        }
        let (known, now) = (self.known(), fetcher.now());
        match known.pick(id, algorithm) {
            Some(key) if within(known.fetched_at, now, STALE_MICROS) => Ok(Some(key)),
            None if known.fetched_at.is_some() && !known.failed => Ok(None),
            Some(_) | None => Err(Unavailable),
        }
    }

    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, fetcher: &Fetcher, since: i64) {
        // Whoever had the turn before may have done it.
        if self.known().tried_at.is_some_and(|at| at >= since) {
            return;
        }
        let fetched = get(&fetcher.outbound, &self.url).await;
        let now = fetcher.now();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.tried_at = Some(now);
        known.failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                known.keys = Arc::new(keys);
                known.fetched_at = Some(now);
            }
            Err(error) => {
                tracing::warn!(app = self.app, %error, "the keys of an app's tokens are not had");
            }
        }
    }
}

impl Known {
    fn pick(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let fits = |key: &&Arc<Key>| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        };
        let mut fitting = self.keys.iter().filter(fits);
        let first = fitting.next()?;
        let only = id.is_some() || fitting.next().is_none();
        only.then(|| Arc::clone(first))
    }
}

/// Whether something happened less than a while ago. What the future holds, did not: a clock that
/// was set back has keys fetched anew.
fn within(at: Option<i64>, now: i64, micros: i64) -> bool {
    at.is_some_and(|at| (0..micros).contains(&now.saturating_sub(at)))
}

/// A set cannot be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("its URL is none")]
    Url,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the answer's status is {0}")]
    Status(StatusCode),
    #[error("the answer is no key set")]
    Form,
    #[error("the set has {0} keys, and {MAX_KEYS} are the most")]
    Size(usize),
}

async fn get(outbound: &Outbound, url: &str) -> Result<Vec<Arc<Key>>, FetchError> {
    let url = url.parse().map_err(|_| FetchError::Url)?;
    let answer = outbound.send(Request::new(Method::GET, url), LIMITS).await?;
    if answer.status != StatusCode::OK {
        return Err(FetchError::Status(answer.status));
    }
    parse(&answer.body)
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys of a set that can check a signature; others are left out, as RFC 7517 has it.
fn parse(text: &[u8]) -> Result<Vec<Arc<Key>>, FetchError> {
    let set: Set = serde_json::from_slice(text).map_err(|_| FetchError::Form)?;
    if set.keys.len() > MAX_KEYS {
        return Err(FetchError::Size(set.keys.len()));
    }
    Ok(set.keys.into_iter().filter_map(key).map(Arc::new).collect())
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let (common, signs) = (&jwk.common, PublicKeyUse::Signature);
    let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
    let meant = common.public_key_use.as_ref().is_none_or(|meant| *meant == signs)
        && common.key_operations.as_ref().is_none_or(verifies);
    let mut algorithms = able(&jwk.algorithm).to_vec();
    if let Some(named) = common.key_algorithm {
        let named = Algorithm::try_from(named).ok()?;
        algorithms.retain(|algorithm| *algorithm == named);
    }
    if !meant || algorithms.is_empty() {
        return None;
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { key, id: jwk.common.key_id, algorithms })
}

/// What a key of a kind can do. A secret has no place in a public set: it can do nothing.
fn able(parameters: &AlgorithmParameters) -> &'static [Algorithm] {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDSA],
        _ => &[],
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use serde_json::json;

    use super::*;

    fn algorithms(key: Value) -> Vec<Algorithm> {
        let set = json!({ "keys": [key] }).to_string();
        let keys = parse(set.as_bytes()).unwrap();
        keys.iter().flat_map(|key| key.algorithms.clone()).collect()
    }

    #[test]
    fn a_key_can_do_what_its_kind_and_its_own_words_say() {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let ec = |curve: &str| json!({ "kty": "EC", "crv": curve, "x": "AQ", "y": "AQ" });
        let okp = |curve: &str| json!({ "kty": "OKP", "crv": curve, "x": "AQ" });
        let rsa = |more: Value| {
            let mut key = json!({ "kty": "RSA", "n": "AQ", "e": "AQAB" });
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        let all = vec![RS256, RS384, RS512, PS256, PS384, PS512];
        for (key, expected) in [
            (rsa(json!({})), all.clone()),
            (rsa(json!({ "use": "sig", "key_ops": ["verify"] })), all),
            (rsa(json!({ "alg": "RS256" })), vec![RS256]),
            (rsa(json!({ "alg": "PS512" })), vec![PS512]),
            (rsa(json!({ "alg": "ES256" })), vec![]),
            (rsa(json!({ "alg": "HS256" })), vec![]),
            (rsa(json!({ "alg": "none" })), vec![]),
            (rsa(json!({ "alg": "RSA-OAEP" })), vec![]),
            (rsa(json!({ "use": "enc" })), vec![]),
            (rsa(json!({ "key_ops": ["encrypt"] })), vec![]),
            (rsa(json!({ "n": "?" })), vec![]),
            (rsa(json!({ "kid": 7 })), vec![]),
            (ec("P-256"), vec![ES256]),
            (ec("P-384"), vec![ES384]),
            (ec("P-521"), vec![]),
            (ec("secp256k1"), vec![]),
            (ec("Ed25519"), vec![]),
            (okp("Ed25519"), vec![EdDSA]),
            (okp("X25519"), vec![]),
            (okp("P-256"), vec![]),
            (json!({ "kty": "oct", "k": "AQ" }), vec![]),
            (json!({ "kty": "oct", "k": "AQ", "alg": "HS256" }), vec![]),
            (json!({ "kty": "new" }), vec![]),
            (json!({}), vec![]),
            (json!("key"), vec![]),
        ] {
            assert_eq!(algorithms(key.clone()), expected, "{key}");
        }
    }

    #[test]
    fn a_set_has_at_most_100_keys_and_may_have_none() {
        let set = |count| json!({ "keys": vec![json!({ "kty": "new" }); count] }).to_string();
        assert!(parse(set(0).as_bytes()).unwrap().is_empty());
        assert!(parse(set(100).as_bytes()).is_ok());
        assert!(matches!(parse(set(101).as_bytes()), Err(FetchError::Size(101))));
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert!(matches!(parse(text.as_bytes()), Err(FetchError::Form)), "{text}");
        }
    }
}
