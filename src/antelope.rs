//! Tokens of Antelope devices, `cid_control_expire_digest`: an app mints them itself with one of its
//! keys. The interface (`http/antelope`) and the device socket check them here, as the vendor's own
//! library does.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::{
    directory::{AppEntry, Directory},
    secrets::{SecretError, hex, same},
};

/// µs of a second.
const SECOND: i64 = 1_000_000;

/// Whose a valid token is.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The app that minted it.
    pub app: Arc<AppEntry>,
    /// The device's number.
    pub cid: u32,
}

/// The token of a device until a time, in seconds since the epoch. `control` has bits for video
/// alone, so any will do.
#[must_use]
#[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
pub fn sign(key: &str, cid: u32, control: u32, expire: u32) -> String {
    let mut mac = Hmac::<Md5>::new_from_slice(key.as_bytes()).expect("any length");
    for number in [cid, control, expire] {
        mac.update(&number.to_le_bytes());
    }
    format!("{cid}_{control}_{expire}_{}", hex(&mac.finalize().into_bytes()))
}

/// Whose a token is, if it is valid at a time (µs since the epoch). Its number says whose app's keys
/// can have made it; the whole text must be what one of them makes.
///
/// # Errors
/// [`SecretError`] when the app cannot be looked up.
pub async fn holder(
    directory: &Directory,
    token: &str,
    now: i64,
) -> Result<Option<Holder>, SecretError> {
    let Some([cid, control, expire]) = numbers(token) else { return Ok(None) };
    if cid == 0 || i64::from(expire) < now.div_euclid(SECOND) {
        return Ok(None);
    }
    let Some(app) = directory.antelope_of_cid(cid).await? else { return Ok(None) };
    let made = |key: &String| same(sign(key, cid, control, expire).as_bytes(), token.as_bytes());
    Ok(app.antelope_keys.iter().any(made).then_some(Holder { app, cid }))
}

/// The numbers of a token, if it has its form.
fn numbers(token: &str) -> Option<[u32; 3]> {
    let mut parts = token.split('_');
    let mut number = || parts.next()?.parse().ok();
    let numbers = [number()?, number()?, number()?];
    (parts.next().is_some() && parts.next().is_none()).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn tokens_are_what_the_vendors_library_makes() {
        let low = "5000001_0_2000000000_944b3b01cadee37471f00380c749c002";
        assert_eq!(sign(KEY, 5_000_001, 0, 2_000_000_000), low);
        // A number beyond what 31 bits hold.
        let high = "4000000000_3356753920_2000000000_23a9b9c790c601f77bbe1c86d3c324a4";
        assert_eq!(sign(KEY, 4_000_000_000, 3_356_753_920, 2_000_000_000), high);
    }

    #[test]
    fn a_token_has_three_numbers_of_32_bits_and_one_part_more() {
        assert_eq!(numbers("5_0_7_d"), Some([5, 0, 7]));
        assert_eq!(numbers("4294967295_4294967295_4294967295_"), Some([u32::MAX; 3]));
        for text in ["", "5_0_7", "5_0_7_d_e", "4294967296_0_7_d", "-1_0_7_d", "5_x_7_d", "5__7_d"]
        {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
