//! Whole requests as they go out, one file each. `UPDATE_GOLDEN=1` writes them anew; look at the
//! difference, as a vendor will.

use std::{collections::BTreeMap, fs, path::Path};

use domain::{notification::Notification, vendor::Vendor};
use pushledger::delivery::channel::Request;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{SAMPLE, notification, template, token};

#[derive(Serialize)]
struct Golden<'a> {
    method: &'a str,
    url: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    body: Box<RawValue>,
}

/// The request with one member a line; the body stays the bytes that are sent.
fn text(request: &Request) -> String {
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let golden = Golden {
        method: request.method.as_str(),
        url: &request.url,
        headers: request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        body: RawValue::from_string(body).unwrap(),
    };
    serde_json::to_string_pretty(&golden).unwrap() + "\n"
}

fn check(name: &str, notification: &Notification, tokens: usize, key: Option<&str>) {
    for vendor in Vendor::ALL {
        let given: Vec<String> = (1..=tokens).map(|number| token(vendor, number)).collect();
        let most = pushledger::delivery::channel::batch_tokens(vendor);
        let tokens: Vec<&str> = given.iter().take(most).map(String::as_str).collect();
        let request = template(vendor, notification).unwrap().prepare(&tokens, key).unwrap();
        let file = format!("tests/channels/golden/{}-{name}.json", vendor.name());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, text(&request)).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text(&request), "{file} differs; UPDATE_GOLDEN=1 writes it anew");
    }
}

#[test]
fn a_notification_without_anything_goes_out_as_committed() {
    check("minimal", &Notification::default(), 1, None);
}

#[test]
fn the_sample_goes_out_as_committed() {
    check("sample", &notification(SAMPLE), 1, None);
}

#[test]
fn a_payload_of_another_protocol_goes_out_as_committed() {
    check("opaque", &Notification::opaque(r#"{"n":1}"#), 1, None);
}

#[test]
fn a_notification_with_everything_goes_out_as_committed() {
    let everything = notification(include_str!("everything.json"));
    let cid = "7d431e42dfa6a6d693ac2d04-3f1c6a0e-2b58-4e61-9d57-7a4d0f2b9c11";
    check("everything", &everything, 2, Some(cid));
}
