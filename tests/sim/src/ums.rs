//! A caller of Haier UMS V2: a terminal (`/ums`) or an app's server (`/umse`), which signs each
//! request as the protocol says.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    Error,
    http::{self, Exchange},
};

/// The `sign` header: SHA-256, in lower-case hexadecimal, over path, body, app id, app key and
/// timestamp. The path has no query. Of the body, every space, TAB, CR and LF byte is left out,
/// inside strings too; of the key, its outer white space and every `"`.
#[must_use]
pub fn sign(path: &str, body: &[u8], app_id: &str, app_key: &str, timestamp: &str) -> String {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let body: Vec<u8> = body.iter().copied().filter(|byte| !blank(byte)).collect();
    let key = app_key.trim().replace('"', "");
    let hash = Sha256::new()
        .chain_update(path)
        .chain_update(body)
        .chain_update(app_id)
        .chain_update(key)
        .chain_update(timestamp)
        .finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Now, in milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a simulated caller has a clock of its own")]
pub(crate) fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// Who calls. It has no `Debug`, so that its key and token do not get into logs.
#[derive(Clone)]
pub struct Caller {
    /// Where the server is, such as `http://127.0.0.1:8600`.
    pub base_url: String,
    /// The app's id, or the system's id for `/umse`.
    pub app_id: String,
    /// The key that signs.
    pub app_key: String,
    /// The terminal's id; an app's server has none.
    pub client_id: Option<String>,
    /// The token of the user that is logged in.
    pub access_token: Option<String>,
}

/// What UMS answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `00000` for success; empty if the answer has none.
    pub ret_code: String,
    /// Text for developers.
    pub ret_info: String,
    /// The result, or `null`.
    pub data: Value,
    /// Headers with lower-case names.
    pub headers: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(default)]
    ret_code: String,
    #[serde(default)]
    ret_info: String,
    #[serde(default)]
    data: Value,
}

impl Caller {
    /// A caller without client id and user.
    #[must_use]
    pub fn new(
        base_url: impl Into<String>,
        app_id: impl Into<String>,
        app_key: impl Into<String>,
    ) -> Self {
        let (base_url, app_id, app_key) = (base_url.into(), app_id.into(), app_key.into());
        Self { base_url, app_id, app_key, client_id: None, access_token: None }
    }

    /// The same caller on that terminal.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// The same caller with a user logged in.
    #[must_use]
    pub fn with_access_token(mut self, access_token: impl Into<String>) -> Self {
        self.access_token = Some(access_token.into());
        self
    }

    /// Posts a body as it is, signed now.
    ///
    /// # Errors
    /// No answer, or one that is not the UMS envelope; a `retCode` other than `00000` is an answer.
    pub async fn call(&self, path: &str, body: &str) -> Result<Reply, Error> {
        self.call_with(path, body, &self.headers(path, body, now_ms())).await
    }

    /// Posts a body with these headers and no others, for calls that leave out or falsify some.
    ///
    /// # Errors
    /// As for [`Caller::call`].
    pub async fn call_with(
        &self,
        path: &str,
        body: &str,
        headers: &[(String, String)],
    ) -> Result<Reply, Error> {
        let mut request = http::client()?.post(self.url(path)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let Exchange { status, headers, body } = http::exchange(request).await?;
        match serde_json::from_str(&body) {
            Ok(Envelope { ret_code, ret_info, data }) => {
                Ok(Reply { status, ret_code, ret_info, data, headers })
            }
            Err(_) => Err(Error::Unreadable { status, body }),
        }
    }

    /// The headers of a call: all that the protocol lists, with a `sequenceId` of its own and the
    /// sign for that time (milliseconds since the epoch).
    #[must_use]
    pub fn headers(&self, path: &str, body: &str, timestamp_ms: i64) -> Vec<(String, String)> {
        let timestamp = timestamp_ms.to_string();
        let path = path.split('?').next().unwrap_or(path);
        let sign = sign(path, body.as_bytes(), &self.app_id, &self.app_key, &timestamp);
        let headers = [
            ("appId", Some(self.app_id.clone())),
            ("appVersion", Some("1.0.0".to_owned())),
            ("clientId", self.client_id.clone()),
            ("sequenceId", Some(sequence_id(timestamp_ms))),
            ("accessToken", self.access_token.clone()),
            ("sign", Some(sign)),
            ("timestamp", Some(timestamp)),
            ("language", Some("zh-cn".to_owned())),
            ("timezone", Some("Asia/Shanghai".to_owned())),
            ("Content-Type", Some("application/json;charset=UTF-8".to_owned())),
        ];
        let present = |(name, value): (&str, Option<String>)| Some((name.to_owned(), value?));
        headers.into_iter().filter_map(present).collect()
    }

    /// The call as a `curl` command, signed now, to paste into a POSIX shell. It has only the
    /// headers that a server needs.
    #[must_use]
    pub fn curl(&self, path: &str, body: &str) -> String {
        const NEEDED: [&str; 5] = ["appId", "clientId", "accessToken", "timestamp", "sign"];
        let mut command = format!("curl -sS {}", quoted(&self.url(path)));
        let headers = self.headers(path, body, now_ms()).into_iter();
        for (name, value) in headers.filter(|(name, _)| NEEDED.contains(&name.as_str())) {
            command += &format!(" \\\n  -H {}", quoted(&format!("{name}: {value}")));
        }
        command + &format!(" \\\n  -d {}", quoted(body))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url.trim_end_matches('/'))
    }
}

/// 20 digits: `yyyyMMddHHmmss`, then six that count. The count begins anywhere, so that two
/// processes with one client id rarely meet.
fn sequence_id(timestamp_ms: i64) -> String {
    const COUNTS: u32 = 1_000_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    let count = CALLS.fetch_add(1, Ordering::Relaxed).wrapping_add(start) % COUNTS;
    let second = DateTime::from_timestamp_millis(timestamp_ms).unwrap_or_default();
    format!("{}{count:06}", second.format("%Y%m%d%H%M%S"))
}

/// One word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP_ID: &str = "MB-DEMOX-0001";
    const APP_KEY: &str = "00112233445566778899aabbccddeeff";
    const TIMESTAMP: &str = "1700000000000";

    fn signed(path: &str, body: &str) -> String {
        sign(path, body.as_bytes(), APP_ID, APP_KEY, TIMESTAMP)
    }

    fn caller() -> Caller {
        Caller::new("http://127.0.0.1:8600/", APP_ID, APP_KEY).with_client_id("it's me")
    }

    #[test]
    fn an_empty_body_is_signed_as_an_empty_string() {
        let expected = "d7bf7d7408ba7cf10ffa1306c577028b9174f0d27b6b841e1c424ce262d56055";
        assert_eq!(signed("/ums/v2/devlist", ""), expected);
    }

    #[test]
    fn white_space_anywhere_in_the_body_does_not_change_the_sign() {
        let expected = "c1b9765832508da7e63c457a2c20ffc743aac112e9b58991ccd34212d0b59b3e";
        let compact = r#"{"appPackage":"com.acme.app","msgId":"m1","status":2}"#;
        let pretty = "{\r\n\t\"appPackage\": \"com.acme.app\",\n  \"msgId\": \"m 1\",\n  \
                      \"status\": 2\n}";
        assert_eq!(signed("/ums/v2/report", compact), expected);
        assert_eq!(signed("/ums/v2/report", pretty), expected);
    }

    #[test]
    fn text_beyond_ascii_is_signed_as_its_utf8_bytes() {
        let expected = "d59726b8ab708654a0663f3a38491d72b32aea4e9436349930681561087a525f";
        let body = r#"{"dst":{"type":0,"Id":["c-1"]},"message":{"msgName":"门铃"}}"#;
        assert_eq!(signed("/ums/v2/msgPush", body), expected);
    }

    #[test]
    fn quotes_and_outer_white_space_of_the_key_do_not_count() {
        let key = format!(" \"{APP_KEY}\"\n");
        assert_eq!(sign("/p", b"", APP_ID, &key, TIMESTAMP), signed("/p", ""));
    }

    #[test]
    fn a_query_is_not_signed_and_absent_credentials_are_not_sent() {
        let headers = caller().headers("/ums/v2/devlist?a=b", "", 1_700_000_000_000);
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        assert_eq!(value("sign"), Some(signed("/ums/v2/devlist", "")));
        assert_eq!(value("accessToken"), None);
        assert_eq!(value("clientId").as_deref(), Some("it's me"));
    }

    #[test]
    fn sequence_ids_are_20_digits_and_never_the_same() {
        let (one, two) = (sequence_id(1_700_000_000_000), sequence_id(1_700_000_000_000));
        assert_ne!(one, two);
        assert!(one.starts_with("20231114221320"), "{one}");
        assert!(one.len() == 20 && one.bytes().all(|byte| byte.is_ascii_digit()), "{one}");
    }

    #[test]
    fn a_curl_line_quotes_what_the_shell_would_read() {
        let curl = caller().curl("/ums/v2/devlist", r#"{"a":"it's"}"#);
        assert!(curl.starts_with("curl -sS 'http://127.0.0.1:8600/ums/v2/devlist'"));
        assert!(curl.contains(r"-H 'clientId: it'\''s me'"), "{curl}");
        assert!(curl.ends_with(r#"-d '{"a":"it'\''s"}'"#), "{curl}");
    }
}
