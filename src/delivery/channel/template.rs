//! A call with holes: what is the same for all tokens of a message is rendered once, and each call
//! only copies it and writes its tokens. Every channel file makes one of these.

use bytes::Bytes;
use domain::{
    message::MessageId,
    object::Object,
    vendor::{Unfit, Vendor},
};

use super::batch_tokens;

/// What a call needs to know beside the notification.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The message: travels with the notification, so that a device knows it from the copy that
    /// it gets over its socket.
    pub message: MessageId,
    /// How long the vendor may try, in s. 0: now or never.
    pub ttl_seconds: u32,
    /// Now, in µs since the epoch.
    pub now: i64,
}

/// A call that is ready to be sent, save for its authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Always `POST` so far.
    pub method: reqwest::Method,
    /// The whole address.
    pub url: String,
    /// Its own headers, in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Bytes,
}

/// What all calls of a message to a vendor have in common.
#[derive(Debug, Clone)]
pub struct Template {
    pub(super) vendor: Vendor,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<Piece>,
}

/// A piece of a body.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// The same for all calls.
    Text(String),
    /// The tokens as JSON strings with commas between them.
    Tokens,
    /// A member `cid` with the idempotency key, and a comma; nothing if there is no key.
    Cid,
}

impl Template {
    /// Whose it is.
    #[must_use]
    pub fn vendor(&self) -> Vendor {
        self.vendor
    }

    /// Whether this vendor can have given the token.
    #[must_use]
    pub fn takes(&self, token: &str) -> bool {
        well_formed(self.vendor, token)
    }

    /// The call for some tokens. `key` is what [`Sender::key`](super::Sender::key) gave for this
    /// batch: the same key again is the same call again.
    ///
    /// # Errors
    /// [`Unfit`] when there are too few or too many tokens, or one that this vendor cannot have
    /// given.
    pub fn prepare(&self, tokens: &[&str], key: Option<&str>) -> Result<Request, Unfit> {
        if tokens.is_empty() {
            return Err(Unfit::NoToken);
        }
        if tokens.len() > batch_tokens(self.vendor) {
            return Err(Unfit::TooManyTokens);
        }
        if !tokens.iter().all(|token| self.takes(token)) {
            return Err(Unfit::MalformedToken);
        }
        let mut url = self.url.clone();
        if self.vendor == Vendor::Apns {
            url.push_str(tokens[0]);
        }
        let room = self.body.iter().map(|piece| piece.room(tokens)).sum();
        let mut body = Vec::with_capacity(room);
        for piece in &self.body {
            piece.write(&mut body, tokens, key);
        }
        let method = reqwest::Method::POST;
        Ok(Request { method, url, headers: self.headers.clone(), body: body.into() })
    }
}

/// Longest token, in bytes. Real ones have at most some hundreds.
const MAX_TOKEN_BYTES: usize = 4096;

/// APNs has the token in the address, where only hexadecimal digits are harmless. The others have
/// it in a JSON string, where everything is.
fn well_formed(vendor: Vendor, token: &str) -> bool {
    let length = (1..=MAX_TOKEN_BYTES).contains(&token.len());
    length && (vendor != Vendor::Apns || token.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Piece {
    /// About how many bytes it takes.
    fn room(&self, tokens: &[&str]) -> usize {
        match self {
            Piece::Text(text) => text.len(),
            Piece::Tokens => tokens.iter().map(|token| token.len() + 3).sum(),
            Piece::Cid => 80,
        }
    }

    fn write(&self, body: &mut Vec<u8>, tokens: &[&str], key: Option<&str>) {
        match self {
            Piece::Text(text) => body.extend_from_slice(text.as_bytes()),
            Piece::Tokens => {
                for (at, token) in tokens.iter().enumerate() {
                    if at > 0 {
                        body.push(b',');
                    }
                    quote(body, token);
                }
            }
            Piece::Cid => {
                if let Some(key) = key {
                    body.extend_from_slice(b"\"cid\":");
                    quote(body, key);
                    body.push(b',');
                }
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "writing text into memory cannot fail")]
fn quote(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a string");
}

/// The members of an object as they follow a first one: `,"a":1}`, or `}` if there are none.
pub(super) fn following(object: &Object) -> String {
    let mut text = object.text();
    text.remove(0);
    if !object.is_empty() {
        text.insert(0, ',');
    }
    text
}
