//! A sender of pushes that says exactly what a test wants, right or wrong.

use std::{collections::HashMap, future::Future, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sim::fakes::{ApnsFake, FcmFake, HuaweiFake, JpushFake};

/// How long a step may take, in seconds.
const STEP_SECONDS_MAX: u64 = 20;

/// A time that the fakes' clocks stand at, in milliseconds since the epoch.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;
/// The same in seconds.
pub(crate) const NOW: i64 = NOW_MS / 1_000;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Value,
}

/// A request in the making.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client,
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Sender {
    pub(crate) fn new(url: String, headers: &[(&str, &str)], body: &Value) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        Self::over(client, url, headers, body)
    }

    fn over(client: Client, url: String, headers: &[(&str, &str)], body: &Value) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let (headers, body) = (headers.collect(), body.to_string());
        Self { client, method: Method::POST, url, headers, body }
    }

    /// The same with this header, instead of the one that was there.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(given, _)| given != name);
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// The same with a member of the body replaced, or removed if `value` is null.
    pub(crate) fn with(self, pointer: &str, value: Value) -> Self {
        let mut body: Value = serde_json::from_str(&self.body).unwrap();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(name);
        } else {
            parent.insert(name.to_owned(), value);
        }
        self.body(&body.to_string())
    }

    pub(crate) fn to(mut self, path: &str) -> Self {
        let scheme = self.url.find("://").unwrap() + 3;
        let end = self.url[scheme..].find('/').map_or(self.url.len(), |at| scheme + at);
        self.url = format!("{}{path}", &self.url[..end]);
        self
    }

    /// The same on a connection of its own.
    pub(crate) fn anew(mut self, http2: bool) -> Self {
        self.client = if http2 { http2_client() } else { Client::builder().build().unwrap() };
        self
    }

    /// The same with another client.
    #[cfg(feature = "tls")]
    pub(crate) fn through(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    pub(crate) async fn try_send(&self) -> reqwest::Result<Answer> {
        let mut request = self.client.request(self.method.clone(), &self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = within(request.body(self.body.clone()).send()).await?;
        let status = answer.status().as_u16();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
        let headers = headers.collect();
        let body = within(answer.bytes()).await?;
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| json!(text(&body)));
        Ok(Answer { status, headers, body })
    }

    pub(crate) async fn send(&self) -> Answer {
        self.try_send().await.unwrap()
    }
}

/// A step that comes to its end.
pub(crate) async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(STEP_SECONDS_MAX), step).await.unwrap()
}

/// Digits of a device token that ends in this number.
pub(crate) fn device(number: u32) -> String {
    format!("{number:064x}")
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A push of the sample notification to these registration ids.
pub(crate) fn jpush(fake: &JpushFake, tokens: &[&str]) -> Sender {
    let credentials = fake.credentials();
    let authorization = basic(&credentials.app_key, &credentials.master_secret);
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    let body = json!({
        "platform": "all",
        "audience": {"registration_id": tokens},
        "notification": {
            "alert": "Parcel at the door",
            "android": {"alert": "Parcel at the door", "title": "Courier", "extras": {"order": "7"}},
            "ios": {"alert": {"title": "Courier", "body": "Parcel at the door"}, "badge": "+1"},
        },
        "options": {"time_to_live": 3600, "sendno": 18, "apns_production": true},
    });
    Sender::new(format!("{}/v3/push", fake.url()), &headers, &body)
}

/// An assertion of FCM's service account, with these claims instead of good ones.
pub(crate) fn assertion(fake: &FcmFake, changed: Value) -> String {
    let credentials = fake.credentials();
    let mut claims = json!({
        "iss": credentials.client_email,
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": credentials.token_uri,
        "iat": fake.clock().now_seconds(),
        "exp": fake.clock().now_seconds() + 3_600,
    });
    let changed = changed.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(changed);
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(credentials.private_key_id);
    let key = EncodingKey::from_rsa_pem(credentials.private_key.as_bytes()).unwrap();
    encode(&header, &claims, &key).unwrap()
}

/// A call of FCM's token endpoint.
pub(crate) fn fcm_token_call(fake: &FcmFake, assertion: &str) -> Sender {
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let sender = Sender::new(format!("{}/token", fake.url()), &headers, &Value::Null);
    sender.body(&format!("grant_type={grant}&assertion={assertion}"))
}

/// A push of the sample notification to this token, with a fresh access token.
pub(crate) async fn fcm(fake: &FcmFake, token: &str) -> Sender {
    let answer = fcm_token_call(fake, &assertion(fake, json!({}))).send().await;
    let authorization = format!("Bearer {}", answer.body["access_token"].as_str().unwrap());
    let project = fake.credentials().project_id;
    let url = format!("{}/v1/projects/{project}/messages:send", fake.url());
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    let body = json!({"message": {
        "token": token,
        "notification": {"title": "Courier", "body": "Parcel at the door"},
        "data": {"order": "7"},
        "android": {"ttl": "3600s", "priority": "high"},
    }});
    Sender::new(url, &headers, &body)
}

/// A provider token, signed with this key in PEM.
pub(crate) fn provider_token(team: &str, key_id: &str, key: &str, issued: i64) -> String {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key_id.to_owned());
    let key = EncodingKey::from_ec_pem(key.as_bytes()).unwrap();
    encode(&header, &json!({"iss": team, "iat": issued}), &key).unwrap()
}

pub(crate) fn http2_client() -> Client {
    Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
}

/// A push of the sample notification to this device.
pub(crate) fn apns(fake: &ApnsFake, token: &str) -> Sender {
    let credentials = fake.credentials();
    let issued = fake.clock().now_seconds();
    let key = &credentials.private_key;
    let provider = provider_token(&credentials.team_id, &credentials.key_id, key, issued);
    let authorization = format!("bearer {provider}");
    let headers = [
        ("authorization", &*authorization),
        ("apns-topic", &*credentials.topics[0]),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
        ("apns-expiration", "1767229200"),
        ("apns-id", "123e4567-e89b-42d3-a456-426614174000"),
    ];
    let alert = json!({"title": "Courier", "body": "Parcel at the door"});
    let body = json!({"aps": {"alert": alert, "badge": 1}, "order": "7"});
    let url = format!("{}/3/device/{token}", fake.url());
    Sender::over(http2_client(), url, &headers, &body)
}

/// A call of Huawei's token endpoint.
pub(crate) fn huawei_token_call(fake: &HuaweiFake) -> Sender {
    let credentials = fake.credentials();
    let (id, secret) = (&credentials.client_id, &credentials.client_secret);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let url = format!("{}/oauth2/v3/token", fake.url());
    Sender::new(url, &headers, &Value::Null)
        .body(&format!("grant_type=client_credentials&client_id={id}&client_secret={secret}"))
}

/// A push of the sample notification to these tokens, with a fresh access token.
pub(crate) async fn huawei(fake: &HuaweiFake, tokens: &[&str]) -> Sender {
    let answer = huawei_token_call(fake).send().await;
    let authorization = format!("Bearer {}", answer.body["access_token"].as_str().unwrap());
    let url = format!("{}/v1/{}/messages:send", fake.url(), fake.credentials().client_id);
    let headers = [("authorization", &*authorization), ("content-type", "application/json")];
    let body = json!({"message": {
        "android": {"ttl": "3600s", "notification": {
            "title": "Courier",
            "body": "Parcel at the door",
            "click_action": {"type": 3},
            "badge": {"add_num": 1, "class": "com.example.app.Main"},
        }},
        "data": "{\"order\":\"7\"}",
        "token": tokens,
    }});
    Sender::new(url, &headers, &body)
}
