//! Huawei Push Kit: `POST /v1/{appId}/messages:send`, the same as `/v2/{projectId}/…`, and
//! `POST /oauth2/v3/token` for client credentials. A 200 is no success: the code in the body is.
//! Unknown members are refused as a broken structure, which the vendor does not promise to do.

mod body;

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Method;
use serde::Serialize;
use serde_json::json;

use self::body::{Push, Refused};
use super::{
    Books, Call, Fake, Fault, Mode, Purpose, Reply, Taken, TokenFault, Vendor,
    issued::{Issued, Worth, form},
};

/// How long an access token is good, in seconds.
const ACCESS_SECONDS: i64 = 3_600;

/// An app and its project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HuaweiCredentials {
    /// The app's id, in v1 URLs and as the client that asks for access tokens.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// The project's id, in v2 URLs.
    pub project_id: String,
}

/// The vendor's rules and memory.
pub struct Huawei {
    credentials: HuaweiCredentials,
    /// Whether the app may send with urgency `HIGH`.
    may_send_high: bool,
    issued: Issued,
    requests: AtomicU64,
}

impl Default for Huawei {
    fn default() -> Self {
        Self {
            credentials: HuaweiCredentials {
                client_id: "100000001".to_owned(),
                client_secret: "7e57feed0d0e7e57feed0d0e7e57feed".to_owned(),
                project_id: "388000000000000001".to_owned(),
            },
            may_send_high: false,
            issued: Issued::default(),
            requests: AtomicU64::new(0),
        }
    }
}

impl Huawei {
    /// The same for another app.
    #[must_use]
    pub fn with_credentials(self, credentials: HuaweiCredentials) -> Self {
        Self { credentials, ..self }
    }

    /// The same with the right to send with urgency `HIGH`.
    #[must_use]
    pub fn with_high_urgency(self) -> Self {
        Self { may_send_high: true, ..self }
    }
}

impl Fake<Huawei> {
    /// Who may push.
    #[must_use]
    pub fn credentials(&self) -> &HuaweiCredentials {
        &self.house.vendor.credentials
    }
}

impl Vendor for Huawei {
    const NAME: &'static str = "huawei";

    fn purpose(&self, path: &str) -> Purpose {
        match path {
            "/oauth2/v3/token" => Purpose::Token,
            _ if path.ends_with("/messages:send") => Purpose::Push,
            _ => Purpose::Other,
        }
    }

    fn take(&self, call: &Call<'_>, books: &Books) -> Taken {
        if call.path == "/oauth2/v3/token" {
            return self.issue(call, books).into();
        }
        self.push(call, books).unwrap_or_else(|Refused(code, text)| self.told(code, &text).into())
    }

    fn refuse(&self, fault: &Fault, call: &Call<'_>, books: &Books) -> Reply {
        match fault {
            Fault::AuthExpired if self.purpose(call.path) == Purpose::Token => {
                oauth_error(1101, "invalid client_secret")
            }
            Fault::AuthExpired => {
                call.authorization("Bearer").into_iter().for_each(|token| self.issued.end(token));
                self.told(80_200_003, "Oauth token is expired")
            }
            // The vendor has no other words for its limits than HTTP 503.
            Fault::TooMany { retry_after_seconds } => {
                Reply::empty(503).retry_after(*retry_after_seconds)
            }
            Fault::Quota => Reply::empty(503),
            Fault::Status { status: 500, .. } => self.told(81_000_001, "System inner error"),
            Fault::Status { status, retry_after_seconds } => {
                Reply::empty(*status).retry_after(*retry_after_seconds)
            }
            _ => self.take(call, books).reply,
        }
    }
}

impl Huawei {
    /// The envelope of every answer to a push.
    fn told(&self, code: u32, text: &str) -> Reply {
        let status = match code {
            80_000_000 | 80_100_000 => 200,
            80_200_001..=80_200_005 => 401,
            81_000_001 => 500,
            _ => 400,
        };
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let request = format!("17000000000000000{number:09}");
        let body = json!({"code": code.to_string(), "msg": text, "requestId": request});
        Reply::json(status, &body)
    }

    fn push(&self, call: &Call<'_>, books: &Books) -> Result<Taken, Refused> {
        let HuaweiCredentials { client_id, project_id, .. } = &self.credentials;
        let v1 = call.path.strip_prefix("/v1/").map(|rest| (rest, client_id));
        let v2 = || call.path.strip_prefix("/v2/").map(|rest| (rest, project_id));
        let Some((rest, own)) = v1.or_else(v2).filter(|_| call.method == Method::POST) else {
            return Ok(Reply::empty(404).into());
        };
        let Some(id) = rest.strip_suffix("/messages:send") else {
            return Ok(Reply::empty(404).into());
        };
        let refused = |code, text: &str| Err(Refused(code, text.to_owned()));
        let Some(bearer) = call.authorization("Bearer") else {
            return refused(80_200_001, "Oauth authentication error");
        };
        match self.issued.worth(bearer, books.clock.now_ms()) {
            Worth::Good if id == own => {}
            Worth::Good | Worth::Unknown => {
                return refused(80_200_001, "Oauth authentication error");
            }
            Worth::Over => return refused(80_200_003, "Oauth token is expired"),
        }
        if books.mode == Mode::Load {
            return self.send(&body::load(call.body)?, call, books);
        }
        if call.media_type() != "application/json" {
            return refused(80_100_003, "Illegal payload, not application/json");
        }
        let push = body::strict(call.body)?;
        let value: serde_json::Value = serde_json::from_slice(call.body).unwrap_or_default();
        let urgency = value.pointer("/message/android/urgency").and_then(|value| value.as_str());
        if urgency == Some("HIGH") && !self.may_send_high {
            return refused(80_300_011, "No permission to send high priority messages");
        }
        self.send(&push, call, books)
    }

    fn send(&self, push: &Push<'_>, call: &Call<'_>, books: &Books) -> Result<Taken, Refused> {
        let Some(tokens) = &push.tokens else {
            if !push.validate_only {
                books.accept_audience();
            }
            return Ok(self.told(80_000_000, "Success").into());
        };
        let targets = || tokens.iter().map(AsRef::as_ref);
        let mut faults = books.faults(call, targets());
        for (token, fault) in targets().zip(&mut faults) {
            if token.is_empty() || token.contains(char::is_whitespace) {
                *fault = Some(TokenFault::Malformed);
            }
        }
        if faults.contains(&Some(TokenFault::Unavailable)) {
            books.refuse(faults.len());
            return Err(Refused(81_000_001, "System inner error".to_owned()));
        }
        if faults.contains(&Some(TokenFault::Throttled)) {
            books.refuse(faults.len());
            return Ok(Reply::empty(503).into());
        }
        let failed = faults.iter().flatten().count();
        if failed == faults.len() {
            books.refuse(failed);
            let foreign = faults.iter().all(|fault| *fault == Some(TokenFault::WrongApp));
            let (code, text) = if foreign {
                (80_300_002, "No permission to send message to these tokens")
            } else {
                (80_300_007, "All the tokens are invalid")
            };
            return Err(Refused(code, text.to_owned()));
        }
        let accepted = if push.validate_only { 0 } else { books.accept(targets(), &faults) };
        let reply = if failed == 0 {
            self.told(80_000_000, "Success")
        } else {
            let illegal = targets().zip(&faults).filter(|(_, fault)| fault.is_some());
            let illegal: Vec<&str> = illegal.map(|(token, _)| token).collect();
            let (success, failure) = (faults.len() - failed, failed);
            // The list is text inside the text.
            let counts = json!({"success": success, "failure": failure, "illegal_tokens": illegal});
            self.told(80_100_000, &counts.to_string())
        };
        Ok(Taken { reply, tokens: accepted })
    }

    /// The token endpoint.
    fn issue(&self, call: &Call<'_>, books: &Books) -> Reply {
        if call.method != Method::POST {
            return Reply::empty(404);
        }
        if call.media_type() != "application/x-www-form-urlencoded" {
            return oauth_error(1101, "invalid request");
        }
        let fields = form(call.body);
        let field = |name: &str| fields.get(name).map(String::as_str);
        if field("grant_type") != Some("client_credentials") {
            return oauth_error(1101, "unsupported grant_type");
        }
        let HuaweiCredentials { client_id, client_secret, .. } = &self.credentials;
        if field("client_id") != Some(client_id) {
            return oauth_error(1101, "invalid client_id");
        }
        if field("client_secret") != Some(client_secret) {
            return oauth_error(1101, "invalid client_secret");
        }
        let (now, number) = (books.clock.now_ms(), self.requests.fetch_add(1, Ordering::Relaxed));
        let asked = format!("{client_secret} {now} {number}");
        let token = self.issued.issue(asked.as_bytes(), now, ACCESS_SECONDS);
        let answer =
            json!({"access_token": token, "expires_in": ACCESS_SECONDS, "token_type": "Bearer"});
        Reply::json(200, &answer)
    }
}

fn oauth_error(error: u32, text: &str) -> Reply {
    Reply::json(400, &json!({"error": error, "error_description": text}))
}
