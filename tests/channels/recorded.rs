//! Our requests beside those that the vendors' own clients made for the same notification, field by
//! field. Both went to the same strict fake, with the same credentials, at the same time: ours go
//! there now, theirs are the recordings of `tests/sim/recordings`. What both send is equal in
//! name, type and value; what only one sends, or sends otherwise, is listed here with its reason.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{notification::Notification, vendor::Class};
use pushledger::{
    clock::Clock,
    delivery::channel::{self, Channel, Options, VendorConfig},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sim::fakes::{self, Apns, Fake, Fcm, Jpush, Recorded, VendorClock};

use super::{notification, options, sending::sender};

/// What a vendor's own client sent.
#[derive(Deserialize)]
struct Recording {
    requests: Vec<Request>,
}

/// A request, of either side.
#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    at_ms: i64,
    version: String,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Value,
}

/// Headers of the connection, which the recordings leave out.
const OF_CONNECTION: [&str; 2] = ["host", "content-length"];

impl Request {
    fn of(came: &Recorded) -> Request {
        let headers = came.headers.iter().filter(|(name, _)| !OF_CONNECTION.contains(&&**name));
        let text = || Value::from(came.body.clone());
        Request {
            at_ms: came.at_ms,
            version: came.version.clone(),
            method: came.method.clone(),
            path: came.path.clone(),
            headers: headers.cloned().collect(),
            body: serde_json::from_str(&came.body).unwrap_or_else(|_| text()),
        }
    }

    /// Every field by its path, with its value. A text that has fields of its own is opened.
    fn fields(&self) -> BTreeMap<String, Value> {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let mut fields = BTreeMap::new();
        for (name, value) in [("version", &*self.version), ("method", &self.method), ("path", path)]
        {
            fields.insert(name.to_owned(), json!(value));
        }
        form(&mut fields, "query", query);
        for (name, value) in &self.headers {
            match value.split_once(' ').filter(|_| name == "authorization") {
                Some((scheme, credential)) => {
                    fields.insert("authorization".to_owned(), json!(scheme));
                    opened(&mut fields, "authorization.credential", credential);
                }
                None => drop(fields.insert(format!("header.{name}"), json!(value))),
            }
        }
        match self.body.as_str() {
            Some(text) => form(&mut fields, "form", text),
            None => leaves(&mut fields, "body", &self.body),
        }
        fields
    }
}

fn leaves(fields: &mut BTreeMap<String, Value>, path: &str, value: &Value) {
    match value {
        Value::Object(names) => {
            for (name, value) in names {
                leaves(fields, &format!("{path}.{name}"), value);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                leaves(fields, &format!("{path}[{at}]"), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            fields.insert(path.to_owned(), value.clone());
        }
    }
}

fn form(fields: &mut BTreeMap<String, Value>, path: &str, text: &str) {
    for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = percent_encoding::percent_decode_str(value).decode_utf8().unwrap();
        opened(fields, &format!("{path}.{name}"), &value);
    }
}

/// A text, or a signed token by what is in it; its signature is another each time.
fn opened(fields: &mut BTreeMap<String, Value>, path: &str, text: &str) {
    let part = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let parts: Vec<&str> = text.split('.').collect();
    match parts[..] {
        [header, claims, _] if part(header).is_some() => {
            leaves(fields, &format!("{path}.header"), &part(header).unwrap());
            leaves(fields, &format!("{path}.claims"), &part(claims).unwrap());
        }
        _ => drop(fields.insert(path.to_owned(), json!(text))),
    }
}

/// A field, and why.
type Listed = [(&'static str, &'static str)];

/// What may be different between two requests.
#[derive(Default)]
struct Differences {
    ours: &'static Listed,
    theirs: &'static Listed,
    /// Sent by both, and of one type, with another value.
    values: &'static Listed,
}

/// Compares a request of ours with one of theirs: each field is equal or listed, and what is listed
/// is really different.
fn compare(what: &str, ours: &Request, theirs: &Request, differences: &Differences) {
    let (ours, theirs) = (ours.fields(), theirs.fields());
    let names = |listed: &Listed| -> BTreeSet<String> {
        listed.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    let only = |these: &BTreeMap<String, Value>, those: &BTreeMap<String, Value>| {
        these.keys().filter(|name| !those.contains_key(*name)).cloned().collect::<BTreeSet<_>>()
    };
    let both = || ours.iter().filter_map(|(name, own)| Some((name, own, theirs.get(name)?)));
    for (name, own, other) in both() {
        let (own_type, other_type) = (std::mem::discriminant(own), std::mem::discriminant(other));
        assert_eq!(own_type, other_type, "{what}: {name} is {own}, and theirs {other}");
    }
    let unequal = both().filter(|(_, own, other)| own != other);
    let found = [
        only(&ours, &theirs),
        only(&theirs, &ours),
        unequal.map(|(name, ..)| name.clone()).collect(),
    ];
    let listed = [differences.ours, differences.theirs, differences.values].map(names);
    assert_eq!(found, listed, "{what}: only ours, only theirs, unequal: {ours:#?} {theirs:#?}");
}

/// Sends a notification to tokens with the credentials of a fake, when the recording was made.
struct Session<V: fakes::Vendor> {
    fake: Fake<V>,
    theirs: Vec<Request>,
    clock: Clock,
}

impl<V: fakes::Vendor + Default> Session<V> {
    async fn at_the_time_of(recording: &str) -> Session<V> {
        let Recording { requests: theirs } = serde_json::from_str(recording).unwrap();
        let at_ms = theirs[0].at_ms;
        let clock = VendorClock::standing_at(at_ms);
        let options = fakes::Options { clock, ..fakes::Options::default() };
        let fake = Fake::start(V::default(), options).await.unwrap();
        Session { fake, theirs, clock: Clock::manual(at_ms * 1_000) }
    }

    /// Pushes to each list of tokens in turn; gives all requests that the vendor got.
    async fn ours(&self, config: Value, shown: &Notification, calls: &[&[&str]]) -> Vec<Request> {
        let config = VendorConfig::parse(&config.to_string()).unwrap();
        let channel = Channel::open(config).unwrap();
        let options = Options { now: self.clock.now(), ..options() };
        let template = channel::template(channel.config(), shown, &options).unwrap();
        let sender = sender(&self.clock);
        for tokens in calls {
            let key = sender.key(&channel).await.unwrap();
            let request = template.prepare(tokens, key.as_deref()).unwrap();
            let verdicts = sender.send(&channel, &request, tokens).await;
            assert!(verdicts.iter().all(|verdict| verdict.class == Class::Ok), "{verdicts:?}");
        }
        self.fake.requests().iter().map(Request::of).collect()
    }
}

/// The notification of the recordings, with a number that is added to that on the icon, or set.
fn shown(badge: &str) -> Notification {
    let text = json!({ "title": "Courier", "content": "Parcel at the door",
                       "ext": { "order": "7" }, "config": { "badge": { badge: 1 } } });
    notification(&text.to_string())
}

#[tokio::test]
async fn a_push_to_jpush_is_that_of_its_own_client() {
    let recording = include_str!("../sim/recordings/jpush.json");
    let session = Session::<Jpush>::at_the_time_of(recording).await;
    let own = session.fake.credentials();
    let config = json!({ "vendor": "jpush", "baseUrl": session.fake.url(),
                         "appKey": own.app_key, "masterSecret": own.master_secret });
    let one = ["180a0f76070a1b2c3d4"];
    let three = ["180a0f76070a1b2c3d4", "180a0f76070a1b2c3d5", "180a0f76070a1b2c3d6"];
    let ours = session.ours(config, &shown("addNum"), &[&one, &three]).await;
    let [pool, one, three] = &ours[..] else { panic!("{} requests", ours.len()) };
    let theirs = &session.theirs;
    let asked = Differences {
        theirs: &[
            ("header.content-type", "a GET has no content"),
            ("header.user-agent", "names their client"),
        ],
        values: &[("query.count", "we fetch keys for many batches at once")],
        ..Differences::default()
    };
    compare("the call for keys", pool, &theirs[2], &asked);
    let without = Differences {
        ours: &[
            ("body.cid", "their client leaves it out unless told; ours repeats a call by it"),
            ("body.notification.android.extras.messageId", "knows what came by socket too"),
            ("body.notification.ios.extras.messageId", "the same"),
        ],
        theirs: &[("header.user-agent", "names their client")],
        values: &[("header.content-type", "theirs has a colon for `=` in its charset")],
    };
    compare("a push to one", one, &theirs[0], &without);
    compare("a push to three", three, &theirs[1], &without);
    let pooled = Differences {
        ours: &[
            ("body.notification.android.extras.messageId", "knows what came by socket too"),
            ("body.notification.ios.extras.messageId", "the same"),
        ],
        theirs: &[("header.user-agent", "names their client")],
        values: &[
            ("body.cid", "another of the vendor's keys"),
            ("header.content-type", "theirs has a colon for `=` in its charset"),
        ],
    };
    compare("a push with a key", one, &theirs[3], &pooled);
    // A key has the vendor's form in both.
    let key = |request: &Request| request.body["cid"].as_str().map(|cid| cid.len());
    assert!(key(one).is_some() && key(one) == key(&theirs[3]));
}

#[tokio::test]
async fn a_push_to_fcm_is_that_of_its_own_client() {
    let recording = include_str!("../sim/recordings/fcm.json");
    let session = Session::<Fcm>::at_the_time_of(recording).await;
    let mut account = session.fake.credentials().service_account();
    account["token_uri"] = json!("https://oauth2.googleapis.com/token");
    let url = session.fake.url();
    let config = json!({ "vendor": "fcm", "baseUrl": url, "tokenUrl": format!("{url}/token"),
                         "serviceAccount": account });
    let ours = session.ours(config, &shown("setNum"), &[&["fcm-token_1:APA91bSample"]]).await;
    let [access, push] = &ours[..] else { panic!("{} requests", ours.len()) };
    let asked = Differences {
        theirs: &[
            ("header.user-agent", "names their client"),
            ("header.x-goog-api-client", "the same"),
        ],
        values: &[
            ("form.assertion.claims.aud", "ours is the fake's address, which theirs was led to"),
            (
                "form.assertion.claims.scope",
                "ours asks for messaging alone, theirs for all it can do",
            ),
        ],
        ..Differences::default()
    };
    compare("the call for an access token", access, &session.theirs[0], &asked);
    let pushed = Differences {
        ours: &[
            ("body.message.apns.headers.apns-expiration", "Apple's devices know no `ttl`"),
            ("body.message.apns.payload.aps.sound", "their sample names no sound"),
            ("body.message.data.messageId", "knows what came by socket too"),
        ],
        theirs: &[
            ("header.user-agent", "names their client"),
            ("header.x-firebase-client", "the same"),
            ("header.x-goog-api-client", "the same"),
            ("header.x-goog-api-format-version", "asks for details of errors, which come without"),
        ],
        values: &[("authorization.credential", "the token that the endpoint gave for each")],
    };
    compare("the push", push, &session.theirs[1], &pushed);
}

#[tokio::test]
async fn a_push_to_apns_is_that_of_a_client_made_for_it() {
    let recording = include_str!("../sim/recordings/apns.json");
    let session = Session::<Apns>::at_the_time_of(recording).await;
    let own = session.fake.credentials();
    let config = json!({ "vendor": "apns", "baseUrl": session.fake.url(), "keyId": own.key_id,
                         "teamId": own.team_id, "p8": own.private_key, "topic": own.topics[0] });
    let device = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
    let ours = session.ours(config, &shown("setNum"), &[&[device]]).await;
    let [push] = &ours[..] else { panic!("{} requests", ours.len()) };
    let pushed = Differences {
        ours: &[
            ("body.aps.sound", "their sample names no sound"),
            ("body.messageId", "knows what came by socket too"),
            ("header.accept", "our client always says it"),
            ("header.content-type", "their client leaves it out; the body is JSON all the same"),
        ],
        theirs: &[
            ("authorization.credential.header.typ", "Apple's document has `alg` and `kid` alone"),
            ("header.apns-id", "Apple makes one unless the sender does, and says it back"),
        ],
        ..Differences::default()
    };
    compare("the push", push, &session.theirs[0], &pushed);
}
