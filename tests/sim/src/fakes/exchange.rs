//! One request and its answer, between the server and the vendors.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use hyper::{HeaderMap, Method, Version};
use serde_json::Value;
use tokio::sync::Notify;

use super::{Books, Fault};

/// A request that was read to its end.
pub struct Call<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path without the query.
    pub path: &'a str,
    /// The query.
    pub query: Option<&'a str>,
    /// Protocol.
    pub version: Version,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Body.
    pub body: &'a Bytes,
    /// The fault that was planned for it.
    pub fault: Option<&'a Fault>,
    /// The connection it came on.
    pub connection: &'a Connection,
}

impl<'a> Call<'a> {
    /// A header's value, if it is there once and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The media type of the body, without its parameters.
    #[must_use]
    pub fn media_type(&self) -> &'a str {
        self.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }

    /// What follows the scheme in `Authorization`.
    #[must_use]
    pub fn authorization(&self, scheme: &str) -> Option<&'a str> {
        let (given, credential) = self.header("authorization")?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then_some(credential.trim())
    }
}

/// What a vendor remembers of a connection.
#[derive(Default)]
pub struct Connection {
    pub(super) end: Notify,
    pub(super) goodbye: Notify,
    pub(super) leaving: Notify,
    pub(super) reset: AtomicBool,
    /// The credential last used here, and since when (milliseconds since the epoch).
    pub(super) credential: Mutex<Option<(String, i64)>>,
}

impl Connection {
    /// Resets the connection: the peer gets no answer on it any more.
    pub(super) fn cut(&self) {
        self.reset.store(true, Ordering::Release);
        self.end.notify_one();
    }

    /// Takes no more requests, and returns when the peer is told so before anything else.
    pub(super) async fn say_goodbye(&self) {
        self.goodbye.notify_one();
        self.leaving.notified().await;
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers beside the content type.
    pub headers: Vec<(&'static str, String)>,
    /// Content type; none without a body.
    pub content_type: Option<String>,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// An answer in JSON.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        let content_type = Some("application/json; charset=UTF-8".to_owned());
        Self { status, headers: Vec::new(), content_type, body: body.to_string().into() }
    }

    /// An answer without a body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), content_type: None, body: Bytes::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The same with `Retry-After`, if it is to have one.
    #[must_use]
    pub fn retry_after(self, seconds: Option<u32>) -> Self {
        match seconds {
            Some(seconds) => self.with("retry-after", seconds),
            None => self,
        }
    }
}

/// A vendor's answer to a request, and how many tokens it accepted.
pub struct Taken {
    /// The answer.
    pub reply: Reply,
    /// Tokens accepted.
    pub tokens: usize,
}

impl From<Reply> for Taken {
    fn from(reply: Reply) -> Self {
        Self { reply, tokens: 0 }
    }
}

/// What an address is for: pushes and tokens have a plan of faults each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sends messages.
    Push,
    /// Issues access tokens.
    Token,
    /// Anything else.
    Other,
}

/// A vendor's rules. One request is judged at a time by what it says alone; faults, connections
/// and notes are the server's.
pub trait Vendor: Send + Sync + 'static {
    /// Its name, in lower case.
    const NAME: &'static str;
    /// Whether it speaks HTTP/2 and nothing else; otherwise HTTP/1.1.
    const HTTP2: bool = false;

    /// Learns where it listens.
    fn listening(&self, _url: &str) {}

    /// What this path is for.
    fn purpose(&self, path: &str) -> Purpose;

    /// Answers a request as the vendor would.
    fn take(&self, call: &Call<'_>, books: &Books) -> Taken;

    /// The vendor's words for a planned refusal ([`Fault::TooMany`], [`Fault::Status`],
    /// [`Fault::Quota`], [`Fault::AuthExpired`]).
    fn refuse(&self, fault: &Fault, call: &Call<'_>, books: &Books) -> Reply;
}
