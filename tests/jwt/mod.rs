//! Access tokens that an app signs itself, on every call that asks who the user is: checked with a
//! secret ([`hs256`]) or with keys from a URL ([`jwks`]), and configured by operators ([`settings`]).

mod hs256;
mod jwks;
mod settings;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair,
    },
};
use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use sim::{Caller, Device, DeviceOptions, Error};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::harness::{PACKAGE, World, code, merge};

pub const DEVLIST: &str = "/ums/v2/devlist";
pub const SECRET: &str = "an app's own secret of 32 bytes or more";

/// The app's login service.
#[derive(Clone)]
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Signer {
    /// One with a secret.
    pub fn hs256(secret: &str) -> Signer {
        let key = EncodingKey::from_secret(secret.as_bytes());
        Signer { key, algorithm: Algorithm::HS256, kid: None }
    }

    /// One with a new private key for an algorithm.
    pub fn new(algorithm: Algorithm, kid: &str) -> Signer {
        let ec = |curve: &'static EcdsaSigningAlgorithm| {
            let key = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new()).unwrap();
            EncodingKey::from_ec_der(key.as_ref())
        };
        let key = match algorithm {
            Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => {
                let key = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
                EncodingKey::from_ed_der(key.as_ref())
            }
            _ => {
                let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
                let key: Pkcs8V1Der<'_> = key.as_der().unwrap();
                // Of PKCS #8 only the key inside is wanted; what precedes it has a fixed length.
                EncodingKey::from_rsa_der(&key.as_ref()[26..])
            }
        };
        Signer { key, algorithm, kid: Some(kid.to_owned()) }
    }

    /// The same key for another algorithm.
    pub fn with(&self, algorithm: Algorithm) -> Signer {
        Signer { algorithm, ..self.clone() }
    }

    /// The same key under another name, or none.
    pub fn named(&self, kid: Option<&str>) -> Signer {
        Signer { kid: kid.map(str::to_owned), ..self.clone() }
    }

    /// What it publishes, without saying for which algorithm.
    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk.as_object_mut().unwrap().remove("alg");
        merge(&mut jwk, json!({ "kid": self.kid }));
        jwk
    }

    pub fn header(&self) -> Header {
        Header { kid: self.kid.clone(), ..Header::new(self.algorithm) }
    }

    pub fn sign(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.key).unwrap()
    }

    /// A token of Ann for an hour.
    pub fn ann(&self, world: &World) -> String {
        self.sign(&claims(world, json!({})))
    }
}

/// The claims of Ann for an hour, and more or other ones; `null` leaves one out.
pub fn claims(world: &World, more: Value) -> Value {
    let mut claims = json!({ "sub": "ann", "exp": seconds(world) + 3600 });
    merge(&mut claims, more);
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// Now, in seconds since the epoch.
pub fn seconds(world: &World) -> i64 {
    world.clock.now() / 1_000_000
}

/// Changes the section `ums.jwt` of the app `demo`, and gives what it is then.
pub async fn configure(world: &World, jwt: Value) -> Value {
    let change = json!({ "ums": { "jwt": jwt } });
    let (status, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body["ums"]["jwt"].clone()
}

/// What a call that needs a login says to a token on terminal `c-1`.
pub async fn judged(world: &World, token: &str) -> String {
    code(&world.terminal("c-1").with_access_token(token), DEVLIST, &json!({})).await
}

/// A server of public keys on loopback.
pub struct KeyServer {
    pub url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<(StatusCode, String)>>,
    open: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl KeyServer {
    /// A server that publishes the keys of some signers.
    pub async fn new(signers: &[&Signer]) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = KeyServer::on(listener);
        server.publish(signers);
        server
    }

    /// A server on an address of the test's choice, which publishes nothing.
    pub fn on(listener: TcpListener) -> KeyServer {
        let url = format!("http://{}/keys?for=demo", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new((StatusCode::OK, r#"{"keys":[]}"#.to_owned())));
        let open = watch::Sender::new(true);
        let (counter, current, opened) = (Arc::clone(&asked), Arc::clone(&answer), open.clone());
        let handler = get(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            let (current, mut opened) = (Arc::clone(&current), opened.subscribe());
            async move {
                // The server lives as long as its handlers.
                let _ = opened.wait_for(|open| *open).await;
                let (status, body) = current.lock().unwrap().clone();
                (status, [(header::LOCATION, "/keys")], body).into_response()
            }
        });
        let router = Router::new().route("/keys", handler);
        let serving = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        KeyServer { url, asked, answer, open, serving }
    }

    pub fn publish(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.answer(200, &json!({ "keys": keys }).to_string());
    }

    pub fn answer(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        *self.answer.lock().unwrap() = (status, body.to_owned());
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers only while it is open.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    pub fn configuration(&self) -> Value {
        json!({ "jwksUrl": self.url })
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A connection, or the status and code with which it is refused.
pub async fn connect(caller: &Caller) -> Result<Device, (u16, String)> {
    match Device::connect(DeviceOptions::new(caller, PACKAGE)).await {
        Ok(device) => Ok(device),
        Err(Error::Refused { status, body }) => {
            let body: Value = serde_json::from_str(&body).unwrap();
            Err((status, body["retCode"].as_str().unwrap().to_owned()))
        }
        Err(error) => panic!("neither connected nor refused: {error}"),
    }
}
