//! The demo's own app server: it prints each callback that it gets, and whether its sign is right.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    screen::{say, styled},
    settings::{ANTELOPE_APP, ANTELOPE_KEY, TENCENT_TOKEN},
};
use crate::secrets::{hex, same};

/// Characters of a callback that are shown.
const SHOWN_CHARS: usize = 300;

/// Starts it on a port of its own; it ends with `stop`.
pub(super) async fn start(
    secret: Arc<str>,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/uplink", post(uplink))
        .route("/antelope", post(antelope))
        .route("/antelope/state", post(antelope))
        .route("/tencent", post(tencent))
        .route("/webhook", post(webhook))
        .with_state(secret);
    let stop = stop.clone();
    tracker.spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        // Without it nobody is told of callbacks, and all else goes on.
        let _ = serving.await;
    });
    Ok(address)
}

async fn uplink(body: Bytes) -> Json<Value> {
    told("UCloud uplink", None, &body);
    Json(json!({ "code": 0, "message": "ok" }))
}

async fn antelope(headers: HeaderMap, body: Bytes) -> Json<Value> {
    let digest = Md5::new().chain_update(ANTELOPE_APP).chain_update(&body);
    let wanted = hex(&digest.chain_update(ANTELOPE_KEY).finalize());
    let event = headers.get("x-topvdn-event").and_then(|event| event.to_str().ok());
    let what = format!("Antelope {}", event.unwrap_or_default());
    told(&what, Some(is(&headers, "x-event-sign", &wanted)), &body);
    Json(json!({}))
}

async fn tencent(uri: Uri, body: Bytes) -> Json<Value> {
    let parts = uri.query().unwrap_or_default().split('&').filter_map(|part| part.split_once('='));
    let (mut sign, mut time) = ("", "");
    for (name, value) in parts {
        match name {
            "Sign" => sign = value,
            "RequestTime" => time = value,
            _ => {}
        }
    }
    let wanted = hex(&Sha256::new().chain_update(TENCENT_TOKEN).chain_update(time).finalize());
    told("Tencent", Some(same(wanted.as_bytes(), sign.as_bytes())), &body);
    Json(json!({ "ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": "" }))
}

async fn webhook(State(secret): State<Arc<str>>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let key = secret.strip_prefix(crate::callback::SECRET_PREFIX);
    let key = key.and_then(|key| STANDARD.decode(key).ok()).unwrap_or_default();
    let wanted = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).map(|mac| {
        let id = header("webhook-id").unwrap_or_default();
        let time = header("webhook-timestamp").unwrap_or_default();
        let mac = mac.chain_update(id).chain_update(".").chain_update(time);
        let digest = mac.chain_update(".").chain_update(&body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(digest))
    });
    let right = wanted.is_ok_and(|wanted| is(&headers, "webhook-signature", &wanted));
    told("Webhook", Some(right), &body);
    Json(json!({}))
}

/// Whether a header is what it should be.
fn is(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    let shown = headers.get(name).map(axum::http::HeaderValue::as_bytes).unwrap_or_default();
    same(shown, wanted.as_bytes())
}

fn told(what: &str, signed: Option<bool>, body: &[u8]) {
    let sign = match signed {
        Some(true) => "sign is right",
        Some(false) => "sign is WRONG",
        None => "no sign",
    };
    let text = String::from_utf8_lossy(body);
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    let what = styled("36", &format!("Callback {what}"));
    say(&format!("    {what} ({sign})  {shown}{more}"));
}
