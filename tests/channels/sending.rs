//! How calls are authorized, repeated and lost, against a vendor on this machine that counts.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, Version},
    response::{IntoResponse, Response},
};
use domain::vendor::{Class, Vendor};
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use pushledger::{
    clock::Clock,
    config::VENDOR_CALL,
    delivery::channel::{self, Channel, Clients, Sender, VendorConfig, Verdict},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::{
    EC_PUBLIC, NOW, RSA_PUBLIC, config_json, huawei::answer, notification, options, token,
};

/// A call that came.
#[derive(Clone)]
struct Came {
    path: String,
    authorization: String,
    version: Version,
    body: String,
}

/// What a vendor answers to a call, the `usize` counting those to the same path from 1.
type Answers = dyn Fn(&Came, usize) -> (u16, String) + Send + Sync;

#[derive(Clone)]
struct Fake {
    came: Arc<Mutex<Vec<Came>>>,
    answers: Arc<Answers>,
}

impl Fake {
    fn paths(&self, path: &str) -> Vec<Came> {
        let came = self.came.lock().unwrap();
        came.iter().filter(|came| came.path.starts_with(path)).cloned().collect()
    }
}

async fn handle(
    State(fake): State<Fake>,
    version: Version,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let authorization = headers.get("authorization").map(|it| it.to_str().unwrap().to_owned());
    let came = Came {
        path: uri.path().to_owned(),
        authorization: authorization.unwrap_or_default(),
        version,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let count = {
        let mut all = fake.came.lock().unwrap();
        all.push(came.clone());
        all.iter().filter(|other| other.path == came.path).count()
    };
    let (status, body) = (fake.answers)(&came, count);
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

/// A vendor at an address of this machine.
async fn fake(
    answers: impl Fn(&Came, usize) -> (u16, String) + Send + Sync + 'static,
) -> (Fake, String) {
    let fake = Fake { came: Arc::default(), answers: Arc::new(answers) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(handle).with_state(fake.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (fake, url)
}

fn open(vendor: Vendor, url: &str) -> Channel {
    let mut config = config_json(vendor);
    config["baseUrl"] = json!(url);
    if matches!(vendor, Vendor::Fcm | Vendor::Huawei) {
        config["tokenUrl"] = json!(format!("{url}/token"));
    }
    Channel::open(VendorConfig::parse(&config.to_string()).unwrap()).unwrap()
}

pub(super) fn sender(clock: &Clock) -> Sender {
    let client = || {
        let builder = reqwest::Client::builder().no_proxy();
        builder.redirect(reqwest::redirect::Policy::none())
    };
    let clients = Clients {
        standard: client().build().unwrap(),
        http2: client().http2_prior_knowledge().build().unwrap(),
    };
    Sender::new(clients, clock.clone(), VENDOR_CALL)
}

/// Sends the sample to two tokens, or to one where a call takes no more.
async fn push(sender: &Sender, channel: &Channel) -> Vec<Verdict> {
    let vendor = channel.config().vendor();
    let template =
        channel::template(channel.config(), &notification(super::SAMPLE), &options()).unwrap();
    let tokens: Vec<String> = (1..=2).map(|number| token(vendor, number)).collect();
    let most = channel::batch_tokens(vendor);
    let tokens: Vec<&str> = tokens.iter().take(most).map(String::as_str).collect();
    let request = template.prepare(&tokens, None).unwrap();
    let verdicts = sender.send(channel, &request, &tokens).await;
    assert_eq!(verdicts.len(), tokens.len());
    verdicts
}

fn all(verdicts: &[Verdict], class: Class) -> bool {
    verdicts.iter().all(|verdict| verdict.class == class)
}

fn granted(number: usize) -> (u16, String) {
    (200, json!({ "access_token": format!("t-{number}"), "expires_in": 3600 }).to_string())
}

const HUAWEI_PUSH: &str = "/v1/10001/messages:send";

#[tokio::test]
async fn an_access_token_is_fetched_once_for_all_who_wait_and_again_before_it_expires() {
    let (fake, url) = fake(|came, count| match came.path.as_str() {
        "/token" => granted(count),
        _ => (200, answer("80000000", "Success")),
    })
    .await;
    let clock = Clock::manual(NOW);
    let (sender, channel) = (sender(&clock), open(Vendor::Huawei, &url));
    for verdicts in join_all((0..20).map(|_| push(&sender, &channel))).await {
        assert!(all(&verdicts, Class::Ok));
    }
    assert_eq!(fake.paths("/token").len(), 1);
    let form = "grant_type=client_credentials&client_id=10001&client_secret=zq-client-secret";
    assert_eq!(fake.paths("/token")[0].body, form);
    clock.advance(Duration::from_secs(3299));
    push(&sender, &channel).await;
    assert_eq!(fake.paths("/token").len(), 1);
    clock.advance(Duration::from_secs(1));
    push(&sender, &channel).await;
    assert_eq!(fake.paths("/token").len(), 2);
    assert_eq!(fake.paths(HUAWEI_PUSH).last().unwrap().authorization, "Bearer t-2");
}

#[tokio::test]
async fn a_token_that_expired_early_is_replaced_and_the_call_made_once_more() {
    let (fake, url) = fake(|came, count| match came.path.as_str() {
        "/token" => granted(count),
        _ if came.authorization == "Bearer t-1" => (401, answer("80200003", "expired")),
        _ => (200, answer("80000000", "Success")),
    })
    .await;
    let (sender, channel) = (sender(&Clock::manual(NOW)), open(Vendor::Huawei, &url));
    assert!(all(&push(&sender, &channel).await, Class::Ok));
    assert_eq!((fake.paths("/token").len(), fake.paths(HUAWEI_PUSH).len()), (2, 2));
}

#[tokio::test]
async fn a_credential_that_stays_refused_is_wrong() {
    let (fake, url) = fake(|came, count| match came.path.as_str() {
        "/token" => granted(count),
        _ => (401, answer("80200001", "no")),
    })
    .await;
    let (sender, channel) = (sender(&Clock::manual(NOW)), open(Vendor::Huawei, &url));
    let verdicts = push(&sender, &channel).await;
    assert!(all(&verdicts, Class::Auth));
    assert_eq!(verdicts[0].code.as_deref(), Some("80200001"));
    assert_eq!((fake.paths("/token").len(), fake.paths(HUAWEI_PUSH).len()), (2, 2));
}

#[tokio::test]
async fn without_an_access_token_nothing_is_sent_and_the_next_second_asks_again() {
    let (fake, url) = fake(|came, count| match (came.path.as_str(), count) {
        ("/token", 1) => (401, json!({ "error": 1101, "error_description": "…" }).to_string()),
        ("/token", 2) => (503, String::new()),
        ("/token", _) => granted(count),
        _ => (200, answer("80000000", "Success")),
    })
    .await;
    let clock = Clock::manual(NOW);
    let (sender, channel) = (sender(&clock), open(Vendor::Huawei, &url));
    for verdicts in join_all((0..5).map(|_| push(&sender, &channel))).await {
        assert!(all(&verdicts, Class::Auth));
        assert_eq!(verdicts[0].code.as_deref(), Some("1101"));
    }
    assert_eq!(fake.paths("/token").len(), 1);
    clock.advance(Duration::from_secs(1));
    let verdicts = push(&sender, &channel).await;
    assert!(all(&verdicts, Class::Server) && !verdicts[0].maybe_delivered);
    assert_eq!(fake.paths(HUAWEI_PUSH).len(), 0);
    clock.advance(Duration::from_secs(1));
    assert!(all(&push(&sender, &channel).await, Class::Ok));
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_take_the_others_token_away() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let (_, url) = fake(move |came, count| match came.path.as_str() {
        "/token" => {
            counter.fetch_add(1, Ordering::SeqCst);
            granted(count)
        }
        _ => (200, answer("80000000", "Success")),
    })
    .await;
    let (sender, channel) = (sender(&Clock::manual(NOW)), open(Vendor::Huawei, &url));
    let mut other = Box::pin(push(&sender, &channel));
    {
        let mut given_up = Box::pin(push(&sender, &channel));
        // Once is enough to begin the fetch, and for the other to wait for it.
        assert!(futures_util::poll!(&mut given_up).is_pending());
        assert!(futures_util::poll!(&mut other).is_pending());
    }
    assert!(all(&other.await, Class::Ok));
    assert!((1..=2).contains(&asked.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn google_is_asked_with_a_signed_assertion() {
    let (fake, url) = fake(|came, count| match came.path.as_str() {
        "/token" => granted(count),
        _ => (200, json!({ "name": "projects/demo-p/messages/1" }).to_string()),
    })
    .await;
    let channel = open(Vendor::Fcm, &url);
    let verdicts = push(&sender(&Clock::manual(NOW)), &channel).await;
    assert_eq!(verdicts[0].id.as_deref(), Some("projects/demo-p/messages/1"));
    let form = &fake.paths("/token")[0].body;
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = form.strip_prefix(grant).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[format!("{url}/token")]);
    validation.validate_exp = false;
    let key = DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()).unwrap();
    let signed = jsonwebtoken::decode::<Value>(assertion, &key, &validation).unwrap();
    assert_eq!(signed.header.kid.as_deref(), Some("k1"));
    let claims = signed.claims;
    assert_eq!(claims["iss"], "push@demo-p.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/firebase.messaging");
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_700_000_000), &json!(1_700_003_600)));
    let call = &fake.paths("/v1/projects/demo-p/messages:send")[0];
    assert_eq!(call.authorization, "Bearer t-1");
}

/// The claims of a token for Apple, after its signature was checked.
fn apple_claims(came: &Came) -> Value {
    let token = came.authorization.strip_prefix("bearer ").unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let key = DecodingKey::from_ec_pem(EC_PUBLIC.as_bytes()).unwrap();
    let signed = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap();
    assert_eq!(signed.header.kid.as_deref(), Some("ABC123DEFG"));
    signed.claims
}

#[tokio::test]
async fn apples_token_is_signed_shared_and_renewed_within_its_hour_over_http2() {
    let (fake, url) = fake(|_, _| (200, String::new())).await;
    let clock = Clock::manual(NOW);
    let (sender, channel) = (sender(&clock), open(Vendor::Apns, &url));
    let minutes = |count: u64| Duration::from_secs(60 * count);
    for wait in [0, 39, 1] {
        clock.advance(minutes(wait));
        assert!(all(&push(&sender, &channel).await, Class::Ok));
    }
    let came = fake.paths("/3/device/");
    assert!(came.iter().all(|came| came.version == Version::HTTP_2));
    assert_eq!(came[0].path, format!("/3/device/{}", token(Vendor::Apns, 1)));
    let claims: Vec<_> = came.iter().map(apple_claims).collect();
    assert_eq!(claims[0], json!({ "iss": "DEF123GHIJ", "iat": 1_700_000_000 }));
    assert_eq!(came[0].authorization, came[1].authorization);
    assert_eq!(claims[2]["iat"], 1_700_002_400);
}

#[tokio::test]
async fn apples_token_is_not_renewed_before_apple_allows_it() {
    let (fake, url) =
        fake(|_, _| (403, json!({ "reason": "ExpiredProviderToken" }).to_string())).await;
    let clock = Clock::manual(NOW);
    let (sender, channel) = (sender(&clock), open(Vendor::Apns, &url));
    assert!(all(&push(&sender, &channel).await, Class::Auth));
    assert_eq!(fake.paths("/3/device/").len(), 1);
    clock.advance(Duration::from_secs(20 * 60));
    assert!(all(&push(&sender, &channel).await, Class::Auth));
    let came = fake.paths("/3/device/");
    assert_eq!(came.len(), 3);
    assert_eq!(came[0].authorization, came[1].authorization);
    assert_ne!(came[1].authorization, came[2].authorization);
}

#[tokio::test]
async fn jpush_gives_keys_from_a_pool_and_each_is_used_once() {
    let (fake, url) = fake(|came, count| match came.path.as_str() {
        "/v3/push/cid" => {
            let keys: Vec<_> = (0..100).map(|number| format!("k-{count}-{number}")).collect();
            (200, json!({ "cidlist": keys }).to_string())
        }
        _ => (200, json!({ "sendno": "0", "msg_id": "18" }).to_string()),
    })
    .await;
    let clock = Clock::manual(NOW);
    let (sender, channel) = (sender(&clock), open(Vendor::Jpush, &url));
    assert!(all(&push(&sender, &channel).await, Class::Ok));
    let basic = "Basic N2Q0MzFlNDJkZmE2YTZkNjkzYWMyZDA0OnpxLW1hc3Rlci1zZWNyZXQ=";
    assert_eq!(fake.paths("/v3/push")[0].authorization, basic);
    let keys = join_all((0..150).map(|_| sender.key(&channel))).await;
    let mut keys: Vec<String> = keys.into_iter().map(|key| key.unwrap().unwrap()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 150);
    assert_eq!(fake.paths("/v3/push/cid").len(), 2);
    clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(sender.key(&channel).await.unwrap().as_deref(), Some("k-3-99"));
    for vendor in [Vendor::Fcm, Vendor::Apns, Vendor::Huawei] {
        assert_eq!(sender.key(&open(vendor, &url)).await, Ok(None));
    }
}

#[tokio::test]
async fn a_pool_that_cannot_be_had_is_told_as_any_failure() {
    let error = json!({ "error": { "code": 1004, "message": "…" } }).to_string();
    for (status, body, class) in
        [(401, error.as_str(), Class::Auth), (200, "{}", Class::Server), (503, "", Class::Server)]
    {
        let body = body.to_owned();
        let (_, url) = fake(move |_, _| (status, body.clone())).await;
        let told = sender(&Clock::manual(NOW)).key(&open(Vendor::Jpush, &url)).await.unwrap_err();
        assert_eq!((told.class, told.maybe_delivered), (class, false));
    }
}

#[tokio::test]
async fn a_refused_connection_surely_delivered_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for vendor in [Vendor::Jpush, Vendor::Apns] {
        let verdicts = push(&sender(&Clock::manual(NOW)), &open(vendor, &url)).await;
        assert!(all(&verdicts, Class::Server), "{vendor:?}");
        assert!(verdicts.iter().all(|verdict| !verdict.maybe_delivered), "{vendor:?}");
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_call_may_have_delivered_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 64 * 1024];
            let _ = socket.read(&mut seen).await;
        }
    });
    let verdicts = push(&sender(&Clock::manual(NOW)), &open(Vendor::Jpush, &url)).await;
    assert!(all(&verdicts, Class::Server));
    assert!(verdicts.iter().all(|verdict| verdict.maybe_delivered && verdict.code.is_none()));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_and_understood_by_its_status() {
    let (_, url) = fake(|_, _| (403, "x".repeat(4 * 1024 * 1024))).await;
    let verdicts = push(&sender(&Clock::manual(NOW)), &open(Vendor::Jpush, &url)).await;
    assert!(all(&verdicts, Class::Config));
    assert_eq!(verdicts[0].code.as_deref(), Some("403"));
}

#[test]
fn a_key_that_cannot_be_read_is_found_when_the_channel_is_opened() {
    for (vendor, place) in [(Vendor::Apns, "/p8"), (Vendor::Fcm, "/serviceAccount/private_key")] {
        let mut config = config_json(vendor);
        for wrong in ["", "zq-no-key", EC_PUBLIC] {
            *config.pointer_mut(place).unwrap() = json!(wrong);
            let parsed = VendorConfig::parse(&config.to_string()).unwrap();
            let told = Channel::open(parsed).unwrap_err().to_string();
            assert!(!told.contains("zq"), "{told}");
        }
    }
}
