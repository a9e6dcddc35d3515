//! Push vendors on the wire: what is sent to each ([`golden`], and one file a vendor), what its
//! answers mean (the same files), what holds for all of them ([`conformance`]), and how calls are
//! authorized and lost ([`sending`]). No vendor is called.

mod apns;
mod conformance;
mod fcm;
mod fields;
mod golden;
mod huawei;
mod jpush;
mod recorded;
mod sending;

use domain::{
    message::MessageId,
    notification::Notification,
    vendor::{Class, Unfit, Vendor},
};
use pushledger::delivery::channel::{
    self, Options, Request, Template, VendorConfig, Verdict, classify,
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Made for these tests; they open nothing.
pub(crate) const EC_KEY: &str = include_str!("keys/ec.pem");
pub(crate) const EC_PUBLIC: &str = include_str!("keys/ec.pub.pem");
pub(crate) const RSA_KEY: &str = include_str!("keys/rsa.pem");
pub(crate) const RSA_PUBLIC: &str = include_str!("keys/rsa.pub.pem");

/// 2023-11-14 22:13:20 UTC, in µs.
pub(crate) const NOW: i64 = 1_700_000_000_000_000;

/// What an operator gives.
pub(crate) fn config_json(vendor: Vendor) -> Value {
    match vendor {
        Vendor::Jpush => json!({
            "vendor": "jpush", "appKey": "7d431e42dfa6a6d693ac2d04",
            "masterSecret": "zq-master-secret",
        }),
        Vendor::Fcm => json!({
            "vendor": "fcm",
            "serviceAccount": {
                "type": "service_account", "project_id": "demo-p", "private_key_id": "k1",
                "private_key": RSA_KEY, "client_email": "push@demo-p.iam.gserviceaccount.com",
                "token_uri": "https://oauth2.googleapis.com/token",
            },
        }),
        Vendor::Apns => json!({
            "vendor": "apns", "keyId": "ABC123DEFG", "teamId": "DEF123GHIJ", "p8": EC_KEY,
            "topic": "com.example.app",
        }),
        Vendor::Huawei => json!({
            "vendor": "huawei", "clientId": "10001", "clientSecret": "zq-client-secret",
        }),
    }
}

pub(crate) fn config(vendor: Vendor) -> VendorConfig {
    VendorConfig::parse(&config_json(vendor).to_string()).unwrap()
}

/// The sample of the golden requests.
pub(crate) const SAMPLE: &str = r#"{"title":"Courier","content":"Parcel at the door",
    "ext":{"order":"7"},"config":{"badge":{"addNum":1}}}"#;

pub(crate) fn notification(text: &str) -> Notification {
    Notification::parse(text).unwrap()
}

pub(crate) fn options() -> Options {
    Options { message: MessageId(1_700_000_000_000_000_001), ttl_seconds: 3600, now: NOW }
}

pub(crate) fn template(vendor: Vendor, notification: &Notification) -> Result<Template, Unfit> {
    channel::template(&config(vendor), notification, &options())
}

/// A token as this vendor would give it.
pub(crate) fn token(vendor: Vendor, number: usize) -> String {
    match vendor {
        Vendor::Jpush => format!("180a0f76070{number:08}"),
        Vendor::Fcm => format!("cR-f:APA91b{number:08}"),
        Vendor::Apns => format!("{number:064x}"),
        Vendor::Huawei => format!("IQAAAACy0g{number:08}"),
    }
}

/// The call for one token.
pub(crate) fn request(vendor: Vendor, text: &str) -> Request {
    let made = template(vendor, &notification(text)).unwrap();
    made.prepare(&[&token(vendor, 1)], None).unwrap()
}

/// The body of the call for one token.
pub(crate) fn body(vendor: Vendor, text: &str) -> Value {
    serde_json::from_slice(&request(vendor, text).body).unwrap()
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    pairs.iter().map(pair).collect()
}

/// The verdict on an answer to a call with one token.
pub(crate) fn verdict(vendor: Vendor, status: u16, pairs: &[(&str, &str)], body: &str) -> Verdict {
    let one = token(vendor, 1);
    let verdicts = classify(vendor, status, &headers(pairs), body.as_bytes(), &[&one]);
    assert_eq!(verdicts.len(), 1);
    verdicts.into_iter().next().unwrap()
}

/// A row of a table of codes: HTTP status, body, class, code, suspicion.
pub(crate) type Row = (u16, String, Class, &'static str, bool);

pub(crate) fn check_rows(vendor: Vendor, rows: &[Row]) {
    for (status, body, class, code, suspect) in rows {
        let verdict = verdict(vendor, *status, &[], body);
        let got = (verdict.class, verdict.code.as_deref(), verdict.suspect);
        assert_eq!(got, (*class, Some(*code), *suspect), "{status} {body}");
        assert_eq!(verdict.id, None, "{status} {body}");
    }
}
