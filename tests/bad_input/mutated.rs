//! Requests that are nearly right: valid ones with fields dropped, doubled, retyped or nested,
//! bytes flipped or cut off, headers and paths bent, and a right sign half of the time. Chance has
//! a seed, so that a run can be repeated; [`super::calls`] has the valid requests.

use std::collections::BTreeMap;

use pushledger::http::{
    openapi,
    ums::codes::{Code, Interface},
};
use serde_json::{Value, json};
use sim::Caller;

use super::{
    antelope_status,
    calls::{self, Call, Names},
    easemob_error, ret_code, signed, upgrade,
};
use crate::{
    antelope::{self, ANN, APP_ID, KEY},
    easemob,
    harness::{ADMIN_TOKEN, PACKAGE, RawClient, RawReply},
    tencent,
    ums_v2::Ready,
};

/// Where chance begins, unless `PUSHLEDGER_TEST_SEED` says otherwise.
const SEED: u64 = 0x5eed_0000_0000_0001;
/// Requests of a run, and of five in a row those over Haier UMS.
const REQUESTS: usize = 5_000;
const UMS_OF_FIVE: usize = 2;
/// Requests after which valid bodies are made anew, as some can succeed only once.
const FRESH_REQUESTS: usize = 100;

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// JSON texts that are seldom what a field should be.
const ODD_VALUES: [&str; 24] = [
    "null",
    "true",
    "0",
    "-1",
    "2",
    "1.5",
    "1e999",
    "99999999999999999999",
    "\"\"",
    "\"01\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"门铃 🔔\"",
    "\"00000\"",
    "\"c-1\"",
    "[]",
    "{}",
    "[null]",
    "[[[]]]",
    "[\"c-1\",\"c-1\"]",
    "{\"type\":0,\"Id\":[\"c-1\"]}",
    "{\"\":{}}",
    "@long",
    "@deep",
];

/// What texts seldom hold, as it stands in JSON.
const ODD_CHARACTERS: [&str; 7] = ["\\u0000", "\\u0000x", "\\ud800", "🔔", "\\u0001", "'", " "];

/// Values that headers seldom have.
const ODD_HEADERS: [&str; 9] =
    ["", "0", "junk", "\u{95e8}\u{94c3}", "'; DROP TABLE events; --", "a\tb", "null", "-1", "%00"];

/// Names of headers that may be added or replaced.
const HEADERS: [&str; 16] = [
    "appId",
    "clientId",
    "accessToken",
    "timestamp",
    "sign",
    "sequenceId",
    "Idempotency-Key",
    "X-Request-ID",
    "If-Match",
    "Content-Type",
    "Content-Encoding",
    "Cookie",
    "Authorization",
    "X-APP-ID",
    "X-APP-Key",
    "X-Client-Token",
];

/// What is added to a path.
const TAILS: [&str; 7] = ["/", "?a=b", "/..", "%00", "%2e", "//x", "?appId=x&sign=%ff"];

fn odd_value(chance: &mut Chance) -> String {
    match chance.pick(&ODD_VALUES) {
        "@long" => format!("\"{}\"", "长".repeat(101 + chance.below(30_000))),
        "@deep" => {
            let depth = 1 + chance.below(20_000);
            "[".repeat(depth) + &"]".repeat(depth)
        }
        value => value.to_owned(),
    }
}

/// Changes a tree in one place; texts that no tree can hold are left as `"@n@"` and put in later.
fn bend(chance: &mut Chance, value: &mut Value, texts: &mut Vec<String>) {
    let inside = match value {
        Value::Object(fields) if !fields.is_empty() => {
            let name = fields.keys().nth(chance.below(fields.len())).unwrap().clone();
            match chance.below(6) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let moved = fields.remove(&name).unwrap();
                    fields.insert(name.to_uppercase(), moved);
                }
                2 => {
                    // The same name twice: a text that closes itself and opens the second.
                    let first = fields[&name].to_string();
                    texts.push(format!("{first},\"{name}\":{}", odd_value(chance)));
                    fields.insert(name, json!(format!("@{}@", texts.len() - 1)));
                }
                _ => return bend(chance, &mut fields[&name], texts),
            }
            return;
        }
        Value::Array(items) if !items.is_empty() && chance.one_in(2) => {
            let at = chance.below(items.len());
            &mut items[at]
        }
        other => other,
    };
    let text = match (&*inside, chance.below(6)) {
        (Value::String(text), 0..3) => {
            // Goes in before the closing quote.
            let mut quoted = json!(text).to_string();
            quoted.insert_str(quoted.len() - 1, chance.pick(&ODD_CHARACTERS));
            quoted
        }
        (inside, 3) => format!("[{inside}]"),
        (inside, 4) => format!("{{\"a\":{inside}}}"),
        _ => odd_value(chance),
    };
    texts.push(text);
    *inside = json!(format!("@{}@", texts.len() - 1));
}

fn mutated(chance: &mut Chance, body: &Value) -> Vec<u8> {
    let (mut body, mut texts) = (body.clone(), Vec::new());
    for _ in 0..chance.below(3) {
        bend(chance, &mut body, &mut texts);
    }
    let mut text = body.to_string();
    // A text may hold the place of an earlier one.
    for (at, inside) in texts.iter().enumerate().rev() {
        text = text.replacen(&format!("\"@{at}@\""), inside, 1);
    }
    let mut bytes = text.into_bytes();
    for _ in 0..chance.below(8).saturating_sub(5) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, u8::try_from(chance.below(256)).unwrap()),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
    bytes
}

fn bend_headers(chance: &mut Chance, headers: &mut Vec<(String, String)>) {
    for _ in 0..chance.below(6).saturating_sub(3) {
        let name = chance.pick(&HEADERS);
        let known = headers.iter().position(|(own, _)| own == name);
        match (known, chance.below(3)) {
            (Some(at), 0) => drop(headers.remove(at)),
            (Some(at), 1) => headers.push(headers[at].clone()),
            (Some(at), _) => headers[at].1 = chance.pick(&ODD_HEADERS).to_owned(),
            (None, _) => headers.push((name.to_owned(), chance.pick(&ODD_HEADERS).to_owned())),
        }
    }
}

/// A request before it goes out.
struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Town {
    ready: Ready,
    ums: Vec<(Interface, Value)>,
    others: Vec<Call>,
    easemob: Vec<Call>,
    antelope: Vec<Call>,
    tencent: Vec<(String, Value)>,
    /// The token of an app's server.
    token: String,
}

impl Town {
    async fn new() -> Town {
        let ready = Ready::new().await;
        let token = easemob::speak(&ready.world).await;
        antelope::speak(&ready.world).await;
        tencent::speak(&ready.world, json!({})).await;
        let (antelope, tencent) = (calls::antelope(), calls::tencent());
        let (ums, others, easemob) = (Vec::new(), Vec::new(), Vec::new());
        Town { ready, ums, others, easemob, antelope, tencent, token }
    }

    /// Every call with a body that is valid now.
    async fn refresh(&mut self, number: usize) {
        self.ums.clear();
        for interface in Interface::ALL {
            let body = self.ready.body(interface).await;
            self.ums.extend(calls::to_everybody(interface, &body));
            self.ums.push((interface, body));
        }
        let names = Names::new(&self.ready.world, &self.token, number).await;
        self.others = calls::others(&names);
        self.easemob = calls::easemob(&names);
    }

    fn request(&self, chance: &mut Chance, number: usize) -> Request {
        let mut request = if number % 5 < UMS_OF_FIVE {
            let (interface, body) = &self.ums[chance.below(self.ums.len())];
            self.ums_request(chance, *interface, body)
        } else {
            match chance.below(8) {
                0..3 => self.other_request(chance),
                3..6 => self.easemob_request(chance),
                6 => self.antelope_request(chance),
                _ => self.tencent_request(chance),
            }
        };
        bend_headers(chance, &mut request.headers);
        if chance.one_in(20) {
            request.target += chance.pick(&TAILS);
        }
        if chance.one_in(20) {
            request.method = chance.pick(&["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"]);
        }
        request
    }

    fn ums_request(&self, chance: &mut Chance, interface: Interface, body: &Value) -> Request {
        let body = mutated(chance, body);
        let (caller, path) = (self.ready.caller(interface), interface.path());
        let signs: &[u8] = if chance.one_in(2) { b"{}" } else { &body };
        let headers = signed(caller, path, signs);
        Request { method: "POST", target: path.to_owned(), headers, body }
    }

    fn easemob_request(&self, chance: &mut Chance) -> Request {
        let (method, target, body) = &self.easemob[chance.below(self.easemob.len())];
        let body = mutated(chance, body);
        let headers = vec![("Authorization".to_owned(), format!("Bearer {}", self.token))];
        Request { method, target: target.clone(), headers, body }
    }

    fn antelope_request(&self, chance: &mut Chance) -> Request {
        let (method, target, body) = &self.antelope[chance.below(self.antelope.len())];
        let body = mutated(chance, body);
        let own = [("X-Client-Token", antelope::token(ANN))];
        let server = [("X-APP-ID", APP_ID.to_owned()), ("X-APP-Key", KEY.to_owned())];
        let headers = if target.contains("/client/") { &own[..] } else { &server[..] };
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Request { method, target: target.clone(), headers: headers.collect(), body }
    }

    fn tencent_request(&self, chance: &mut Chance) -> Request {
        let (target, body) = &self.tencent[chance.below(self.tencent.len())];
        let body = mutated(chance, body);
        Request { method: "POST", target: target.clone(), headers: Vec::new(), body }
    }

    fn other_request(&self, chance: &mut Chance) -> Request {
        let (method, target, body) = &self.others[chance.below(self.others.len())];
        let body = mutated(chance, body);
        let headers = if target == "/connect" {
            let caller: &Caller = self.ready.caller(Interface::Register);
            let mut headers = upgrade(&[("appPackage", PACKAGE)]);
            headers.extend(signed(caller, target, b""));
            headers
        } else {
            let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let bearer = format!("Bearer {ADMIN_TOKEN}");
            vec![header("Authorization", &bearer), header("X-App-Id", "demo")]
        };
        Request { method, target: target.clone(), headers, body }
    }
}

/// What the gateway may say before a call is looked at.
const GATEWAY: [Code; 6] = [
    Code::AppRefused,
    Code::Duplicate,
    Code::BadSign,
    Code::UnknownToken,
    Code::ExpiredToken,
    Code::ForeignToken,
];

/// Whether the request was accepted, if the answer is one that its door may give.
fn accepted(request: &Request, reply: &RawReply) -> Result<bool, &'static str> {
    if reply.status >= 500 {
        return Err("a fault");
    }
    let path = request.target.split('?').next().unwrap();
    if path.starts_with("/acme/") && reply.status >= 400 {
        easemob_error(reply);
    }
    if path.starts_with("/v2/") && reply.status >= 400 {
        antelope_status(reply);
    }
    if path.starts_with("/v4/") {
        return Ok(tencent::answered(reply)["ErrorCode"] == 0);
    }
    if path == "/uplink/v1/messages" && reply.status == 409 {
        // Those of its messages that are new were taken.
        return Ok(true);
    }
    if ["/admin/", "/uplink/", "/graphql"].iter().any(|door| path.starts_with(door)) {
        let kind = reply.headers.get("content-type").map(String::as_str);
        if reply.status >= 400 && kind != Some("application/problem+json") {
            return Err("no problem document");
        }
        if path == "/graphql" && kind == Some("application/json") {
            let told: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            if told.get("data").is_none() && !told["errors"].is_array() {
                return Err("neither data nor errors");
            }
        }
    }
    if !path.starts_with("/ums") {
        return Ok(reply.status < 400);
    }
    let code = ret_code(reply);
    let interface = Interface::ALL.into_iter().find(|interface| interface.path() == path);
    let known = match interface {
        None => (reply.status, &*code) == (404, "C00002"),
        Some(_) if request.method != "POST" => (reply.status, &*code) == (405, "B00007"),
        Some(interface) => {
            let listed = interface.listed().iter().filter(|code| **code != Code::Internal);
            let may = listed.chain(&GATEWAY).chain([&Code::Success]).any(|may| may.code() == code);
            reply.status == 200 && may
        }
    };
    if known { Ok(code == "00000") } else { Err("a code that this call does not have") }
}

/// Every described operation, with how many requests were made from it.
struct Operations {
    requests: BTreeMap<(String, String), usize>,
}

impl Operations {
    fn new() -> Operations {
        let document: Value = serde_json::from_str(openapi::document()).unwrap();
        let mut requests = BTreeMap::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                requests.insert((method.to_uppercase(), path.clone()), 0);
            }
        }
        Operations { requests }
    }

    fn count(&mut self, method: &str, target: &str) {
        let path: Vec<&str> = target.split('?').next().unwrap().split('/').collect();
        let fits = |described: &str| {
            let parts: Vec<&str> = described.split('/').collect();
            let same = |(own, part): (&&str, &&str)| part.starts_with('{') || own == part;
            parts.len() == path.len() && path.iter().zip(&parts).all(same)
        };
        let all = self.requests.iter_mut();
        let described = all.filter(|((known, path), _)| known == method && fits(path));
        // Of those that fit, the one with the fewest names to fill in.
        if let Some((_, count)) = described.min_by_key(|((_, path), _)| path.matches('{').count()) {
            *count += 1;
        }
    }
}

/// Where chance begins in this run.
fn seed() -> u64 {
    let Ok(text) = std::env::var("PUSHLEDGER_TEST_SEED") else { return SEED };
    let seed = text.strip_prefix("0x").map_or_else(|| text.parse(), |t| u64::from_str_radix(t, 16));
    seed.expect("PUSHLEDGER_TEST_SEED is a number, perhaps in hexadecimal after 0x")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_nearly_right_never_cause_a_fault_and_store_nothing_when_refused() {
    let seed = seed();
    let (mut chance, mut operations) = (Chance(seed), Operations::new());
    let mut town = Town::new().await;
    let mut raw = RawClient::new(&town.ready.world);
    let (mut taken, mut refused, mut head) = (0, 0, 0);
    for number in 0..REQUESTS {
        if number % FRESH_REQUESTS == 0 {
            town.refresh(number).await;
            head = town.ready.world.head().await;
        }
        let request = town.request(&mut chance, number);
        let Request { method, target, headers, body } = &request;
        operations.count(method, target);
        let shown = format!(
            "request {number} of seed {seed:#x}: {method} {target} {headers:?} {:.2000}",
            String::from_utf8_lossy(body)
        );
        let reply = raw.send(method, target, headers, body).await;
        let accepted = match accepted(&request, &reply) {
            Ok(accepted) => accepted,
            Err(what) => panic!("{what}: {reply:?} to {shown}"),
        };
        let before = std::mem::replace(&mut head, town.ready.world.head().await);
        if accepted {
            taken += 1;
            continue;
        }
        refused += 1;
        // What the server does by itself, such as ending deliveries, may go on meanwhile.
        let new = town.ready.world.running.server.ledger.read(before, 1_000).await.unwrap();
        let called = new.events.iter().find(|e| {
            ["ums", "admin", "easemob", "antelope", "tencent", "uplink"].contains(&&*e.metadata.via)
        });
        assert!(called.is_none(), "{called:?} was stored though refused: {reply:?} to {shown}");
    }
    // Chance must try both sides of every door.
    assert!(taken > REQUESTS / 10 && refused > REQUESTS / 2, "{taken} taken, {refused} refused");
    for (operation, requests) in &operations.requests {
        assert!(*requests > 0, "no request of seed {seed:#x} was for {operation:?}");
    }
    town.ready.world.stop().await;
}
