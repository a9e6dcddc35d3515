//! The UMS sign: lower-case hex of
//! `SHA-256(path ‖ body without white space ‖ appId ‖ appKey ‖ timestamp)`.
//!
//! White space (space, TAB, CR, LF) goes everywhere, inside JSON strings too: it is an operation on
//! the bytes as they came, before any parsing.

use sha2::{Digest, Sha256};

use crate::secrets::hex;

/// The sign of a call.
#[must_use]
pub fn sign(path: &str, body: &[u8], app_id: &str, app_key: &str, timestamp: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(path);
    for run in body.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        hash.update(run);
    }
    hash.update(app_id);
    hash.update(app_key.trim().replace('"', ""));
    hash.update(timestamp);
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::sign;

    const APP: &str = "MB-DEMOX-0001";
    const KEY: &str = "00112233445566778899aabbccddeeff";
    const AT: &str = "1700000000000";

    #[test]
    fn an_empty_body_is_signed_as_nothing() {
        assert_eq!(
            sign("/ums/v2/devlist", b"", APP, KEY, AT),
            "d7bf7d7408ba7cf10ffa1306c577028b9174f0d27b6b841e1c424ce262d56055"
        );
    }

    #[test]
    fn white_space_does_not_count_even_inside_strings() {
        let compact = br#"{"appPackage":"com.acme.app","msgId":"m1","status":2}"#;
        let pretty =
            b"{\r\n\t\"appPackage\": \"com.acme.app\",\n  \"msgId\": \"m 1\",\n \"status\": 2\n}\n";
        let expected = "c1b9765832508da7e63c457a2c20ffc743aac112e9b58991ccd34212d0b59b3e";
        assert_eq!(sign("/ums/v2/report", compact, APP, KEY, AT), expected);
        assert_eq!(sign("/ums/v2/report", pretty, APP, KEY, AT), expected);
    }

    #[test]
    fn text_is_signed_as_raw_utf8_and_the_key_is_trimmed() {
        let body = r#"{"dst":{"type":0,"Id":["c-1"]},"message":{"msgName":"门铃"}}"#;
        let key = format!(" \"{KEY}\" ");
        assert_eq!(
            sign("/ums/v2/msgPush", body.as_bytes(), APP, &key, AT),
            "d59726b8ab708654a0663f3a38491d72b32aea4e9436349930681561087a525f"
        );
    }
}
