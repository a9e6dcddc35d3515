//! Sends what the channels prepared, and has the answer classified. All that touches the network is
//! here. The delivery machine calls [`Sender::key`] before it notes a batch, and [`Sender::send`]
//! for each attempt.

use std::{sync::PoisonError, time::Duration};

use bytes::Bytes;
use domain::vendor::{Class, Vendor};
use reqwest::{
    Client, RequestBuilder, Response, Version,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use super::{
    access::{Channel, Landed, POOL_MICROS, Token, fetched},
    classify,
    config::VendorConfig,
    fcm, huawei, jpush,
    template::Request,
    verdict::{Verdict, for_all},
};
use crate::clock::Clock;

/// A call for an access token or for idempotency keys takes no longer.
const FETCH: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read. A list of 1,000 dead tokens has about 200,000.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Idempotency keys fetched at once.
const POOL_KEYS: usize = 100;
/// Times that an emptied pool is filled for one caller, while others empty it.
const POOL_TRIES: usize = 8;

/// The HTTP clients to send with. They should not follow redirects: no vendor sends any, and a
/// redirect is then told as `config`.
#[derive(Debug, Clone)]
pub struct Clients {
    /// For all calls.
    pub standard: Client,
    /// One that speaks HTTP/2 from the first byte, for Apple at an address without TLS, where
    /// nothing else can agree on it: simulated ones.
    pub http2: Client,
}

/// Sends over the vendors' networks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    clients: Clients,
    clock: Clock,
    /// A call and its answer take no longer.
    call: Duration,
}

/// What came back.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sender {
    /// A sender over these clients, whose pushes take no longer than that. How the clients resolve,
    /// and whom they may reach, is theirs.
    #[must_use]
    pub fn new(clients: Clients, clock: Clock, call: Duration) -> Sender {
        Sender { clients, clock, call }
    }

    /// An idempotency key for one batch, if the vendor has such keys: with the same key the same
    /// call, sent again within 12 hours, is not pushed again.
    ///
    /// # Errors
    /// The verdict on the call that asked the vendor for keys.
    pub async fn key(&self, channel: &Channel) -> Result<Option<String>, Verdict> {
        let VendorConfig::Jpush(config) = &channel.config else { return Ok(None) };
        for _ in 0..POOL_TRIES {
            let fetch = async {
                let request = self.clients.standard.get(jpush::pool_url(config, POOL_KEYS));
                let request = request
                    .basic_auth(&config.app_key, Some(config.master_secret.reveal()))
                    .timeout(FETCH);
                let answer = self.call(Vendor::Jpush, request).await;
                let now = self.clock.now();
                match answer.map(|answer| (jpush::pool(&answer.body), answer)) {
                    Ok((keys, _)) if !keys.is_empty() => Landed {
                        result: Ok(std::sync::Arc::new(std::sync::Mutex::new(keys))),
                        good_until: now + POOL_MICROS,
                    },
                    Ok((_, answer)) => Landed::failed(refused(&answer), now),
                    Err(verdict) => Landed::failed(unsent(verdict), now),
                }
            };
            let empty = |pool: &super::access::Pool| {
                pool.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
            };
            let pool = channel.pool.get(self.clock.now(), empty, fetch).await?;
            let key = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if key.is_some() {
                return Ok(key);
            }
        }
        Err(Verdict::of(Class::Throttled))
    }

    /// Sends a prepared call for its tokens: one verdict for each, in their order. An access token
    /// that the vendor calls expired is replaced, and the call made once more.
    pub async fn send(
        &self,
        channel: &Channel,
        request: &Request,
        tokens: &[&str],
    ) -> Vec<Verdict> {
        let access = match self.access(channel, None).await {
            Ok(access) => access,
            Err(verdict) => return for_all(verdict, tokens),
        };
        let verdicts = self.attempt(channel, request, access.as_ref(), tokens).await;
        let Some(expired) = access.filter(|_| wants_refresh(&verdicts)) else {
            return settled(verdicts);
        };
        match self.access(channel, Some(&expired)).await {
            Ok(Some(fresh)) if fresh.bearer != expired.bearer => {
                settled(self.attempt(channel, request, Some(&fresh), tokens).await)
            }
            Ok(_) => settled(verdicts),
            Err(verdict) => for_all(verdict, tokens),
        }
    }

    /// The token of a vendor that wants one; another than `expired`, unless it is too young.
    async fn access(
        &self,
        channel: &Channel,
        expired: Option<&Token>,
    ) -> Result<Option<Token>, Verdict> {
        let now = self.clock.now();
        let spent = |token: &Token| {
            expired.is_some_and(|old| old.bearer == token.bearer) && token.keep_until <= now
        };
        let token = match &channel.config {
            VendorConfig::Jpush(_) => return Ok(None),
            VendorConfig::Fcm(config) => {
                let fetch = async {
                    match channel.assertion(config, now) {
                        Ok(assertion) => {
                            let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                            let form = [("grant_type", grant), ("assertion", &assertion)];
                            self.fetch(Vendor::Fcm, fcm::token_url(config), &form).await
                        }
                        Err(verdict) => Landed::failed(verdict, now),
                    }
                };
                channel.tokens.get(now, spent, fetch).await?
            }
            VendorConfig::Huawei(config) => {
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", &config.client_id),
                    ("client_secret", config.client_secret.reveal()),
                ];
                let fetch = self.fetch(Vendor::Huawei, huawei::token_url(config), &form);
                channel.tokens.get(now, spent, fetch).await?
            }
            VendorConfig::Apns(config) => {
                let sign = async { channel.provider_token(config, now) };
                channel.tokens.get(now, spent, sign).await?
            }
        };
        Ok(Some(token))
    }

    async fn fetch(&self, vendor: Vendor, url: &str, form: &[(&str, &str)]) -> Landed<Token> {
        let request = self.clients.standard.post(url).form(form).timeout(FETCH);
        match self.call(vendor, request).await {
            Ok(answer) => fetched(answer.status, &answer.body, self.clock.now()),
            Err(verdict) => Landed::failed(unsent(verdict), self.clock.now()),
        }
    }

    async fn attempt(
        &self,
        channel: &Channel,
        request: &Request,
        access: Option<&Token>,
        tokens: &[&str],
    ) -> Vec<Verdict> {
        let vendor = channel.config.vendor();
        let plain = request.url.starts_with("http://");
        let client = match vendor {
            Vendor::Apns if plain => &self.clients.http2,
            _ => &self.clients.standard,
        };
        let mut call = client
            .request(request.method.clone(), &request.url)
            .timeout(self.call)
            // Shares the bytes.
            .body(Bytes::clone(&request.body));
        for (name, value) in &request.headers {
            call = call.header(*name, value);
        }
        if vendor == Vendor::Apns {
            call = call.version(Version::HTTP_2);
        }
        call = match (&channel.config, access) {
            (VendorConfig::Jpush(config), _) => {
                call.basic_auth(&config.app_key, Some(config.master_secret.reveal()))
            }
            (VendorConfig::Apns(_), Some(token)) => {
                call.header(AUTHORIZATION, as_apple_has_it(token))
            }
            (_, Some(token)) => call.bearer_auth(&token.bearer),
            (_, None) => call,
        };
        match self.call(vendor, call).await {
            Ok(answer) => classify(vendor, answer.status, &answer.headers, &answer.body, tokens),
            Err(verdict) => for_all(verdict, tokens),
        }
    }

    /// Makes a call and reads the answer, as far as it is bounded; what is longer is cut, and then
    /// understood by its status.
    async fn call(&self, vendor: Vendor, request: RequestBuilder) -> Result<Answer, Verdict> {
        let lost = |error: reqwest::Error| {
            // Without the address: Apple's has the token.
            let error = error.without_url();
            tracing::debug!(vendor = vendor.name(), ?error, "no answer");
            no_answer(&error)
        };
        let response = request.send().await.map_err(lost)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = read(response).await.map_err(lost)?;
        Ok(Answer { status, headers, body })
    }
}

async fn read(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    Ok(body)
}

/// There was no answer. What never found a connection was surely not delivered; of anything else
/// we can't know.
fn no_answer(error: &reqwest::Error) -> Verdict {
    let class = if error.is_builder() { Class::Config } else { Class::Server };
    let unsent = error.is_builder() || error.is_connect();
    Verdict { maybe_delivered: !unsent, ..Verdict::of(class) }
}

/// The verdict on a call that was not a push: nothing was delivered by it.
fn unsent(verdict: Verdict) -> Verdict {
    Verdict { maybe_delivered: false, ..verdict }
}

/// The verdict on an answer without keys.
fn refused(answer: &Answer) -> Verdict {
    let verdicts = jpush::classify(answer.status, &answer.headers, &answer.body, &[""; 2]);
    let verdict = verdicts.into_iter().next().unwrap_or(Verdict::of(Class::Server));
    let class = if verdict.class == Class::Ok { Class::Server } else { verdict.class };
    unsent(Verdict { class, ..verdict })
}

fn wants_refresh(verdicts: &[Verdict]) -> bool {
    verdicts.iter().any(|verdict| verdict.class == Class::AuthRefresh)
}

/// What is still called expired after that is wrong.
fn settled(mut verdicts: Vec<Verdict>) -> Vec<Verdict> {
    for verdict in &mut verdicts {
        if verdict.class == Class::AuthRefresh {
            verdict.class = Class::Auth;
        }
    }
    verdicts
}

/// The header with a token for Apple, whose documents and clients have its scheme in small letters.
fn as_apple_has_it(token: &Token) -> HeaderValue {
    // A signed token is three texts in base64, which always fit.
    let value = HeaderValue::try_from(format!("bearer {}", token.bearer));
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
