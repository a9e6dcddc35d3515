//! Signatures of Tencent accounts (`UserSig`), which the app's server calls with and devices connect
//! with: who, of which app, from when and for how long, signed with one of the app's keys. The text
//! is JSON, compressed (zlib) and written in a base64 of its own.

use std::io::{Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::secrets::same;

/// Longest signature, in bytes, as it comes and once it is no longer compressed.
pub const MAX_SIG_BYTES: usize = 4 * 1024;

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSig {
    /// There is none.
    #[error("usersig is empty")]
    Empty,
    /// It is none.
    #[error("usersig is not valid")]
    Garbage,
    /// It is of another app.
    #[error("usersig is of another sdkappid")]
    OtherApp,
    /// It is another account's.
    #[error("usersig is of another identifier")]
    OtherAccount,
    /// Its time is over.
    #[error("usersig has expired")]
    Expired,
    /// None of the app's keys made it.
    #[error("usersig is not signed with a key of this app")]
    OtherKey,
}

/// What a signature says.
#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    app: u32,
    #[serde(rename = "TLS.expire")]
    expire: i64,
    #[serde(rename = "TLS.time")]
    time: i64,
    #[serde(rename = "TLS.userbuf", default, skip_serializing_if = "Option::is_none")]
    buffer: Option<String>,
    #[serde(rename = "TLS.sig")]
    sig: String,
}

impl Claims {
    /// What a key makes of them.
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    fn signed_by(&self, key: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length");
        let Claims { identifier, app, time, expire, .. } = self;
        let text = format!(
            "TLS.identifier:{identifier}\nTLS.sdkappid:{app}\nTLS.time:{time}\nTLS.expire:{expire}\n"
        );
        mac.update(text.as_bytes());
        if let Some(buffer) = &self.buffer {
            mac.update(format!("TLS.userbuf:{buffer}\n").as_bytes());
        }
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// A signature of an account, valid from a time on for some seconds.
#[must_use]
pub fn sign(key: &str, app: u32, identifier: &str, time: i64, expire: i64) -> String {
    let (version, identifier) = ("2.0".to_owned(), identifier.to_owned());
    let mut claims =
        Claims { version, identifier, app, expire, time, buffer: None, sig: String::new() };
    claims.sig = claims.signed_by(key);
    let text = serde_json::to_vec(&claims).unwrap_or_default();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    // Memory takes all that is written.
    let packed = packed.write_all(&text).and_then(|()| packed.finish()).unwrap_or_default();
    STANDARD.encode(packed).replace('+', "*").replace('/', "-").replace('=', "_")
}

/// Checks that a signature is of that app and account, at a time in seconds since the epoch.
///
/// # Errors
/// [`BadSig`] says why it is not.
pub fn verify(
    keys: &[String],
    app: u32,
    identifier: &str,
    sig: &str,
    now: i64,
) -> Result<(), BadSig> {
    if sig.is_empty() {
        return Err(BadSig::Empty);
    }
    let claims = unpacked(sig).ok_or(BadSig::Garbage)?;
    if claims.app != app {
        return Err(BadSig::OtherApp);
    }
    if claims.identifier != identifier {
        return Err(BadSig::OtherAccount);
    }
    if now > claims.time.saturating_add(claims.expire) {
        return Err(BadSig::Expired);
    }
    // Every key is looked at, so that the time tells nothing of how many there are before it.
    let made = |key: &String| same(claims.signed_by(key).as_bytes(), claims.sig.as_bytes());
    let ours = keys.iter().map(made).fold(false, |any, own| any | own);
    if ours { Ok(()) } else { Err(BadSig::OtherKey) }
}

/// What a signature says, if it is one.
fn unpacked(sig: &str) -> Option<Claims> {
    if sig.len() > MAX_SIG_BYTES {
        return None;
    }
    let base64 = sig.replace('*', "+").replace('-', "/").replace('_', "=");
    let packed = STANDARD.decode(base64).ok()?;
    let mut text = Vec::new();
    let most = u64::try_from(MAX_SIG_BYTES).unwrap_or(u64::MAX);
    // What is longer breaks off, and is no JSON then.
    ZlibDecoder::new(packed.as_slice()).take(most).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    const KEY: &str = "k-0123456789abcdef";
    const APP: u32 = 1_400_009_999;
    /// Made by other means: the app above, `ops_admin`, 1750000000 and 604800, in stored blocks.
    const STORED: &str = "eAEBtgBJ-3siVExTLnZlciI6ICIyLjAiLCAiVExTLmlkZW50aWZpZXIiOiAib3BzX2FkbW\
        luIiwgIlRMUy5zZGthcHBpZCI6IDE0MDAwMDk5OTksICJUTFMuZXhwaXJlIjogNjA0ODAwLCAiVExTLnRpbWUiOiAxN\
        zUwMDAwMDAwLCAiVExTLnNpZyI6ICIvOVZNZjVIR1VCUkZMaEdNYUpLSkJzVnMvZThXa2lMV01mQ3dTL05aWm5rPSJ9\
        OLgzdw__";
    const TIME: i64 = 1_750_000_000;

    fn verified(key: &str, app: u32, identifier: &str, sig: &str, now: i64) -> Result<(), BadSig> {
        verify(&["another".to_owned(), key.to_owned()], app, identifier, sig, now)
    }

    #[test]
    fn a_signature_that_was_made_by_other_means_is_valid_up_to_and_in_its_last_second() {
        assert_eq!(verified(KEY, APP, "ops_admin", STORED, TIME), Ok(()));
        assert_eq!(verified(KEY, APP, "ops_admin", STORED, TIME + 604_800), Ok(()));
        let late = verified(KEY, APP, "ops_admin", STORED, TIME + 604_801);
        assert_eq!(late, Err(BadSig::Expired));
    }

    #[test]
    fn the_digest_is_that_of_the_four_lines() {
        let claims = unpacked(STORED).unwrap();
        assert_eq!(claims.sig, "/9VMf5HGUBRFLhGMaJKJBsVs/e8WkiLWMfCwS/NZZnk=");
        assert_eq!(claims.signed_by(KEY), claims.sig);
    }

    #[test]
    fn what_is_signed_here_is_valid_here_and_says_why_it_is_not_elsewhere() {
        let sig = sign(KEY, APP, "安", TIME, 60);
        assert_eq!(verified(KEY, APP, "安", &sig, TIME), Ok(()));
        assert_eq!(verified("other", APP, "安", &sig, TIME), Err(BadSig::OtherKey));
        assert_eq!(verified(KEY, APP + 1, "安", &sig, TIME), Err(BadSig::OtherApp));
        assert_eq!(verified(KEY, APP, "an", &sig, TIME), Err(BadSig::OtherAccount));
        assert_eq!(verified(KEY, APP, "安", "", TIME), Err(BadSig::Empty));
        for garbage in ["x", "eJw_", "****", &sig[1..], &"A".repeat(5_000)] {
            assert_eq!(verified(KEY, APP, "安", garbage, TIME), Err(BadSig::Garbage), "{garbage}");
        }
    }

    #[test]
    fn what_unpacks_to_more_than_a_signature_can_be_is_none() {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
        packed.write_all(&vec![b' '; 4_000_000]).unwrap();
        let bomb = STANDARD.encode(packed.finish().unwrap());
        let bomb = bomb.replace('+', "*").replace('/', "-").replace('=', "_");
        let mut small = ZlibEncoder::new(Vec::new(), Compression::best());
        small.write_all(&vec![b' '; 1_000_000]).unwrap();
        let small = STANDARD.encode(small.finish().unwrap());
        let small = small.replace('+', "*").replace('/', "-").replace('=', "_");
        assert!(small.len() < MAX_SIG_BYTES);
        assert_eq!(verified(KEY, APP, "a", &small, TIME), Err(BadSig::Garbage));
        assert_eq!(verified(KEY, APP, "a", &bomb, TIME), Err(BadSig::Garbage));
    }
}
