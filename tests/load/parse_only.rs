//! The upper limit that a load run is compared with: the same HTTP stack, which parses a push and
//! answers, and keeps nothing.
#![expect(clippy::print_stdout, reason = "the load script waits for this line")]

use std::collections::HashMap;

use axum::{Router, body::Bytes, routing::post};
use serde_json::value::RawValue;

async fn push(body: Bytes) -> &'static str {
    match serde_json::from_slice::<HashMap<&str, &RawValue>>(&body) {
        Ok(fields) if fields.contains_key("dst") => {
            r#"{"retCode":"00000","retInfo":"success","data":{"msgId":"1700000000000000000"}}"#
        }
        Ok(_) | Err(_) => r#"{"retCode":"B00001","retInfo":"missing","data":null}"#,
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8609".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/umse/v2/msgPush", post(push))).await
}
