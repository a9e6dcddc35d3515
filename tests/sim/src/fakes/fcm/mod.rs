//! FCM HTTP v1: `POST /v1/projects/{project}/messages:send`, and the OAuth endpoint `POST /token`
//! that gives access tokens for assertions which a service account signed (RS256).

mod body;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use hyper::Method;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Value, json};

use self::body::{Send, Target};
use super::{
    Books, Call, Fake, Fault, Mode, Purpose, Reply, Taken, TokenFault, Vendor,
    issued::{Issued, Worth, form},
};

/// How long an access token is good, in seconds.
const ACCESS_SECONDS: i64 = 3_599;
/// How long an assertion may be good, in seconds.
const ASSERTION_SECONDS_MAX: i64 = 3_600;
/// How far the sender's clock may be ahead, in seconds.
const SKEW_SECONDS: i64 = 300;
/// The grant that the token endpoint knows.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// The vendor's own token endpoint: an assertion for it is as good as one for the fake's.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// Scopes that allow sending; one is enough.
const SCOPES: [&str; 3] = [
    "https://www.googleapis.com/auth/firebase.messaging",
    "https://www.googleapis.com/auth/firebase",
    "https://www.googleapis.com/auth/cloud-platform",
];

/// A service account of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcmCredentials {
    /// The project.
    pub project_id: String,
    /// The account's name, `iss` of an assertion.
    pub client_email: String,
    /// The key's name, `kid` of an assertion.
    pub private_key_id: String,
    /// The key, in PEM. It is a key for tests, the same in every process.
    pub private_key: String,
    /// Where access tokens are had.
    pub token_uri: String,
}

impl FcmCredentials {
    /// The account as the JSON file that the vendor's console hands out.
    #[must_use]
    pub fn service_account(&self) -> Value {
        json!({
            "type": "service_account",
            "project_id": self.project_id,
            "private_key_id": self.private_key_id,
            "private_key": self.private_key,
            "client_email": self.client_email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.token_uri,
        })
    }
}

/// The vendor's rules and memory.
pub struct Fcm {
    credentials: FcmCredentials,
    public_key: &'static [u8],
    token_url: OnceLock<String>,
    issued: Issued,
    sent: AtomicU64,
}

impl Default for Fcm {
    fn default() -> Self {
        Self {
            credentials: FcmCredentials {
                project_id: "demo-p".to_owned(),
                client_email: "sender@demo-p.iam.gserviceaccount.com".to_owned(),
                private_key_id: "7e57000000000000000000000000000000000001".to_owned(),
                private_key: include_str!("../../../keys/fcm.pem").to_owned(),
                token_uri: TOKEN_URL.to_owned(),
            },
            public_key: include_bytes!("../../../keys/fcm.pub.pem"),
            token_url: OnceLock::new(),
            issued: Issued::default(),
            sent: AtomicU64::new(0),
        }
    }
}

impl Fake<Fcm> {
    /// Who may push, with the fake's own token endpoint.
    #[must_use]
    pub fn credentials(&self) -> FcmCredentials {
        let Fcm { credentials, token_url, .. } = &self.house.vendor;
        let token_uri = token_url.get().unwrap_or(&credentials.token_uri).clone();
        FcmCredentials { token_uri, ..credentials.clone() }
    }
}

/// A refusal: status, the vendor's name of it, its `FcmError` if it has one, text and field.
struct Refused {
    status: u16,
    name: &'static str,
    error: Option<&'static str>,
    text: String,
    field: Option<String>,
}

impl Refused {
    fn new(status: u16, name: &'static str, error: Option<&'static str>, text: &str) -> Self {
        Self { status, name, error, text: text.to_owned(), field: None }
    }

    fn argument(field: &str, text: &str) -> Self {
        let refused = Self::new(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"), text);
        Self { field: Some(field.to_owned()), ..refused }
    }

    fn unauthenticated(text: &str) -> Self {
        Self::new(401, "UNAUTHENTICATED", None, text)
    }

    fn reply(&self) -> Reply {
        let mut details = Vec::new();
        if let Some(code) = self.error {
            let kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
            details.push(json!({"@type": kind, "errorCode": code}));
        }
        if let Some(field) = &self.field {
            let violation = json!({"field": field, "description": self.text});
            let kind = "type.googleapis.com/google.rpc.BadRequest";
            details.push(json!({"@type": kind, "fieldViolations": [violation]}));
        }
        let mut error = json!({"code": self.status, "message": self.text, "status": self.name});
        if !details.is_empty() {
            error["details"] = Value::Array(details);
        }
        Reply::json(self.status, &json!({"error": error}))
    }
}

impl Vendor for Fcm {
    const NAME: &'static str = "fcm";

    fn listening(&self, url: &str) {
        // A vendor listens once.
        let _ = self.token_url.set(format!("{url}/token"));
    }

    fn purpose(&self, path: &str) -> Purpose {
        match path {
            "/token" => Purpose::Token,
            _ if path.ends_with("/messages:send") => Purpose::Push,
            _ => Purpose::Other,
        }
    }

    fn take(&self, call: &Call<'_>, books: &Books) -> Taken {
        if call.path == "/token" {
            return self.issue(call, books).into();
        }
        self.push(call, books).unwrap_or_else(|refused| refused.reply().into())
    }

    fn refuse(&self, fault: &Fault, call: &Call<'_>, books: &Books) -> Reply {
        let token_call = self.purpose(call.path) == Purpose::Token;
        let (refused, retry_after) = match fault {
            Fault::AuthExpired if token_call => {
                return oauth_error("invalid_grant", "Invalid JWT Signature.");
            }
            Fault::AuthExpired => {
                call.authorization("Bearer").into_iter().for_each(|token| self.issued.end(token));
                (Refused::unauthenticated(UNAUTHENTICATED), None)
            }
            Fault::TooMany { retry_after_seconds } => (quota(), *retry_after_seconds),
            Fault::Quota => (quota(), None),
            Fault::Status { status: 503, retry_after_seconds } => {
                (unavailable(), *retry_after_seconds)
            }
            Fault::Status { status, retry_after_seconds } => {
                let text = "An internal error has occurred.";
                let refused = Refused::new(*status, "INTERNAL", Some("INTERNAL"), text);
                (refused, *retry_after_seconds)
            }
            _ => return self.take(call, books).reply,
        };
        refused.reply().retry_after(retry_after)
    }
}

const UNAUTHENTICATED: &str =
    "Request had invalid authentication credentials. Expected OAuth 2 access token.";

fn quota() -> Refused {
    let text = "Quota exceeded for quota metric 'Messages'.";
    Refused::new(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"), text)
}

fn unavailable() -> Refused {
    let text = "The service is currently unavailable.";
    Refused::new(503, "UNAVAILABLE", Some("UNAVAILABLE"), text)
}

impl Fcm {
    fn push(&self, call: &Call<'_>, books: &Books) -> Result<Taken, Refused> {
        let project = call.path.strip_prefix("/v1/projects/");
        let project = project.and_then(|rest| rest.strip_suffix("/messages:send"));
        let Some(project) = project.filter(|_| call.method == Method::POST) else {
            return Ok(Reply::empty(404).into());
        };
        let bearer = call.authorization("Bearer").ok_or_else(|| {
            Refused::unauthenticated("Request is missing required authentication credential.")
        })?;
        if self.issued.worth(bearer, books.clock.now_ms()) != Worth::Good {
            return Err(Refused::unauthenticated(UNAUTHENTICATED));
        }
        if project != self.credentials.project_id {
            let text = format!(
                "Permission 'cloudmessaging.messages.create' denied on resource \
                 '//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
            );
            return Err(Refused::new(403, "PERMISSION_DENIED", None, &text));
        }
        let send = if books.mode == Mode::Load {
            body::load(call.body)
        } else if call.media_type() != "application/json" {
            let text = "Invalid JSON payload received. Unexpected token.".to_owned();
            Err(body::Fault { field: String::new(), text })
        } else {
            body::strict(call.body)
        };
        let send = send.map_err(|fault| Refused::argument(&fault.field, &fault.text))?;
        self.send(&send, call, books)
    }

    fn send(&self, send: &Send<'_>, call: &Call<'_>, books: &Books) -> Result<Taken, Refused> {
        let project = &self.credentials.project_id;
        if send.validate_only {
            // The vendor's name for a message that was only looked at.
            let name = format!("projects/{project}/messages/fake_message_id");
            return Ok(Reply::json(200, &json!({ "name": name })).into());
        }
        let mut tokens = 0;
        if let Target::Token(token) = &send.target {
            let faults = books.faults(call, std::iter::once(token.as_ref()));
            let formed = |byte: u8| byte.is_ascii_alphanumeric() || b":_-".contains(&byte);
            let malformed = token.is_empty() || !token.bytes().all(formed);
            let fault = if malformed { Some(TokenFault::Malformed) } else { faults[0] };
            if let Some(fault) = fault {
                books.refuse(1);
                return Err(refused_token(fault));
            }
            tokens = books.accept(std::iter::once(token.as_ref()), &faults);
        } else {
            books.accept_audience();
        }
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let name = format!("projects/{project}/messages/0:{}%{number:016x}", books.clock.now_ms());
        Ok(Taken { reply: Reply::json(200, &json!({ "name": name })), tokens })
    }

    /// The token endpoint.
    fn issue(&self, call: &Call<'_>, books: &Books) -> Reply {
        if call.method != Method::POST {
            return Reply::empty(404);
        }
        if call.media_type() != "application/x-www-form-urlencoded" {
            return oauth_error("invalid_request", "Bad Request");
        }
        let fields = form(call.body);
        if fields.get("grant_type").map(String::as_str) != Some(JWT_BEARER) {
            return oauth_error("unsupported_grant_type", "Invalid grant_type");
        }
        let Some(assertion) = fields.get("assertion") else {
            return oauth_error("invalid_request", "Missing parameter: assertion");
        };
        if let Err((error, text)) = self.check_assertion(assertion, books.clock.now_seconds()) {
            return oauth_error(error, text);
        }
        let now = books.clock.now_ms();
        let token = self.issued.issue(assertion.as_bytes(), now, ACCESS_SECONDS);
        let answer =
            json!({"access_token": token, "expires_in": ACCESS_SECONDS, "token_type": "Bearer"});
        Reply::json(200, &answer)
    }

    fn check_assertion(
        &self,
        assertion: &str,
        now: i64,
    ) -> Result<(), (&'static str, &'static str)> {
        let signature = ("invalid_grant", "Invalid JWT Signature.");
        let header = decode_header(assertion).map_err(|_| signature)?;
        if header.kid.is_some_and(|kid| kid != self.credentials.private_key_id) {
            return Err(signature);
        }
        let mut validation = Validation::new(Algorithm::RS256);
        // The times are the vendor's, and so are the words for the rest.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let key = DecodingKey::from_rsa_pem(self.public_key).map_err(|_| signature)?;
        let claims = decode::<Assertion>(assertion, &key, &validation).map_err(|_| signature)?;
        let Assertion { iss, scope, aud, iat, exp } = claims.claims;
        if iss != self.credentials.client_email {
            return Err(("invalid_grant", "Invalid grant: account not found"));
        }
        if aud != TOKEN_URL && self.token_url.get() != Some(&aud) {
            return Err(("invalid_grant", "Invalid JWT: audience"));
        }
        if exp <= now || iat > now + SKEW_SECONDS || exp - iat > ASSERTION_SECONDS_MAX {
            let text = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a \
                        reasonable timeframe. Check your iat and exp values in the JWT claim.";
            return Err(("invalid_grant", text));
        }
        if !scope.split(' ').any(|scope| SCOPES.contains(&scope)) {
            return Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided."));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Assertion {
    iss: String,
    scope: String,
    aud: String,
    iat: i64,
    exp: i64,
}

fn oauth_error(error: &str, text: &str) -> Reply {
    Reply::json(400, &json!({"error": error, "error_description": text}))
}

fn refused_token(fault: TokenFault) -> Refused {
    match fault {
        TokenFault::Dead | TokenFault::DeadSince(_) => {
            let text = "Requested entity was not found.";
            Refused::new(404, "NOT_FOUND", Some("UNREGISTERED"), text)
        }
        TokenFault::Malformed => {
            let text = "The registration token is not a valid FCM registration token";
            Refused::argument("message.token", text)
        }
        TokenFault::WrongApp => {
            let text = "SenderId mismatch";
            Refused::new(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"), text)
        }
        TokenFault::Throttled => quota(),
        TokenFault::Unavailable => unavailable(),
    }
}
