//! The operator's side: JSON calls to `/admin/v1/...` with a bearer token.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::Value;

use crate::{
    Error,
    http::{self, Exchange},
};

/// Status, body (`null` if empty) and headers with lower-case names.
pub type Answer = (u16, Value, HashMap<String, String>);

/// A client of the admin API. It has no `Debug`, so that its token does not get into logs.
#[derive(Clone)]
pub struct Admin {
    /// Where the server is, such as `http://127.0.0.1:8600`.
    pub base_url: String,
    /// The bearer token; an empty one is not sent.
    pub token: String,
}

impl Admin {
    /// A client with that token.
    #[must_use]
    pub fn new(base_url: impl Into<String>, token: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), token: token.into() }
    }

    /// `GET`.
    ///
    /// # Errors
    /// No answer, or a body that is neither empty nor JSON; any status is an answer.
    pub async fn get(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send(Method::GET, path, body).await
    }

    /// `POST`.
    ///
    /// # Errors
    /// As for [`Admin::get`].
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send(Method::POST, path, body).await
    }

    /// `PUT`.
    ///
    /// # Errors
    /// As for [`Admin::get`].
    pub async fn put(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send(Method::PUT, path, body).await
    }

    /// `PATCH`.
    ///
    /// # Errors
    /// As for [`Admin::get`].
    pub async fn patch(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send(Method::PATCH, path, body).await
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As for [`Admin::get`].
    pub async fn delete(&self, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        self.send(Method::DELETE, path, body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Error> {
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        let mut request = http::client()?.request(method, url);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let Exchange { status, headers, body } = http::exchange(request).await?;
        let value = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&body) };
        let value = value.map_err(|_| Error::Unreadable { status, body })?;
        Ok((status, value, headers))
    }
}
