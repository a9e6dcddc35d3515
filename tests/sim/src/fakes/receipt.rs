//! Delivery receipts that Huawei posts to an app's address, once or again, as vendors do when an
//! answer gets lost. JPush's receipts have no public format, so there are none.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;

use super::{Fake, Huawei};
use crate::{Error, http};

/// What is told of one token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HuaweiReceipt {
    /// `android.bi_tag` of the push.
    pub bi_tag: String,
    /// The app.
    pub appid: String,
    /// The token.
    pub token: String,
    /// 0 delivered, 2 app not there, 5 not the device's token, 6 notifications off, …
    pub status: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// `requestId` of the answer to the push.
    pub request_id: String,
}

/// Who signs receipts, as set in the vendor's console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptKey {
    /// The name.
    pub user: String,
    /// The secret: its bytes as they are, which is the older of the vendor's two ways.
    pub secret: String,
}

impl ReceiptKey {
    /// The header `X-HUAWEI-CALLBACK-ID`.
    #[must_use]
    pub fn header(&self, timestamp_ms: i64, nonce: &str) -> String {
        let signed = format!("{timestamp_ms}{nonce}{}", self.user);
        // A key of any length is good.
        let value = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes())
            .map(|key| STANDARD.encode(key.chain_update(signed).finalize().into_bytes()))
            .unwrap_or_default();
        format!("timestamp={timestamp_ms}; nonce={nonce}; value={value}")
    }
}

impl Fake<Huawei> {
    /// Posts receipts to an address so many times, and gives the status of each answer.
    ///
    /// # Errors
    /// The address does not answer.
    pub async fn post_receipts(
        &self,
        url: &str,
        receipts: &[HuaweiReceipt],
        key: Option<&ReceiptKey>,
        times: usize,
    ) -> Result<Vec<u16>, Error> {
        let body = json!({"statuses": receipts}).to_string();
        let mut answers = Vec::new();
        for time in 0..times {
            let mut request = http::client()?.post(url).body(body.clone());
            request = request.header("content-type", "application/json");
            if let Some(key) = key {
                let nonce = format!("11111111-2222-4333-8444-{time:012}");
                let header = key.header(self.clock().now_ms(), &nonce);
                request = request.header("x-huawei-callback-id", header);
            }
            answers.push(http::exchange(request).await?.status);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_signed_over_time_nonce_and_user() {
        let secret = "c2VjcmV0LWRlbW8ta2V5LTAwMQ==".to_owned();
        let key = ReceiptKey { user: "receiptUser".to_owned(), secret };
        let header = key.header(1_700_000_000_000, "11111111-2222-4333-8444-555555555555");
        assert!(header.ends_with("value=wEPMKoIH9mzXyHV7xQEZ8yR4doac6NAZtShVoTi6JyY="), "{header}");
    }
}
