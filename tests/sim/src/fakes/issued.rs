//! Access tokens that a vendor's token endpoint issued: FCM's and Huawei's.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Tokens that are remembered; beyond, those that are over are forgotten.
const ISSUED_MAX: usize = 10_000;

/// What a bearer token is worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Good,
    Over,
    Unknown,
}

/// The tokens, each with the time it is good until, in milliseconds since the epoch.
#[derive(Default)]
pub(super) struct Issued(Mutex<HashMap<String, i64>>);

impl Issued {
    /// Issues the token that belongs to this request for one: the same for the same bytes, so
    /// that a recorded exchange can be replayed.
    pub(super) fn issue(&self, asked: &[u8], now_ms: i64, seconds: i64) -> String {
        let token = URL_SAFE_NO_PAD.encode(Sha256::digest(asked));
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if issued.len() >= ISSUED_MAX {
            issued.retain(|_, until| *until > now_ms);
        }
        issued.insert(token.clone(), now_ms + seconds * 1_000);
        token
    }

    pub(super) fn worth(&self, token: &str, now_ms: i64) -> Worth {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            Some(until) if *until > now_ms => Worth::Good,
            Some(_) => Worth::Over,
            None => Worth::Unknown,
        }
    }

    /// Ends a token before its time.
    pub(super) fn end(&self, token: &str) {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = issued.get_mut(token) {
            *until = i64::MIN;
        }
    }
}

/// The fields of a form; the first of each name counts.
pub(super) fn form(body: &[u8]) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    for (name, value) in form_urlencoded::parse(body) {
        fields.entry(name.into_owned()).or_insert(value.into_owned());
    }
    fields
}
