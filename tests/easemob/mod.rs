//! Easemob push over the wire: one file for each resource or theme. The table in
//! `docs/protocols/easemob-push.md` says which test shows which sentence of the contract.

mod binding;
mod dates;
mod devices;
mod envelope;
mod idempotency;
mod labels;
mod limits;
mod members;
mod messages;
mod push;
mod receipts;
mod refusals;
mod status;
mod sync;
mod tasks;
mod tokens;
mod users;

use serde_json::{Value, json};
use sim::{Admin, Device, DeviceOptions};

use crate::harness::{RawClient, RawReply, World};

pub const ORG: &str = "acme";
pub const APP: &str = "shop";
pub const CLIENT: &str = "client-1";
pub const PASSWORD: &str = "zq-password";
pub const SECRET: &str = "easemob-client-secret";

/// A world whose app speaks Easemob, and its server with an app token.
pub struct Easemob {
    pub world: World,
    pub cloud: Admin,
}

impl Easemob {
    /// An app that may call as often as a test likes, on the machine's clock.
    pub async fn new() -> Easemob {
        Easemob::of(World::new().await).await
    }

    /// The same on a clock that the test moves.
    pub async fn with_clock() -> Easemob {
        Easemob::of(World::with_clock().await).await
    }

    /// The same on a server of the test's own.
    pub async fn of(world: World) -> Easemob {
        let token = speak(&world).await;
        Easemob { cloud: Admin::new(base(&world), token), world }
    }

    /// Changes the Easemob side of the app.
    pub async fn configure(&self, section: Value) -> Value {
        change_app(&self.world, json!({ "easemob": section })).await["easemob"].clone()
    }

    /// A caller with that bearer token.
    pub fn with_token(&self, token: &str) -> Admin {
        Admin::new(base(&self.world), token)
    }

    /// Registers a user, whose password is [`PASSWORD`].
    pub async fn user(&self, name: &str) -> Value {
        let body = json!({ "username": name, "password": PASSWORD });
        ok(self.cloud.post("/users", Some(&body)).await.unwrap())["entities"][0].clone()
    }

    /// A token of a user.
    pub async fn token_of(&self, name: &str) -> String {
        let body = json!({ "grant_type": "password", "username": name, "password": PASSWORD });
        let answer = ok(self.cloud.post("/token", Some(&body)).await.unwrap());
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// Binds a user's device to a vendor.
    pub async fn bind(&self, name: &str, device: &str, notifier: &str, token: &str) -> Value {
        let body = json!({ "device_id": device, "device_token": token, "notifier_name": notifier });
        let path = format!("/users/{name}/push/binding");
        ok(self.cloud.put(&path, Some(&body)).await.unwrap())["entities"].clone()
    }

    /// Connects a device of a user.
    pub async fn connect(&self, name: &str, device: &str) -> Device {
        let token = self.token_of(name).await;
        Device::connect(DeviceOptions::of_easemob(&self.world.url, token, device)).await.unwrap()
    }

    /// Creates a label.
    pub async fn label(&self, name: &str) {
        ok(self.cloud.post("/push/label", Some(&json!({ "name": name }))).await.unwrap());
    }

    /// A call by hand, with the app's token and these headers.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> RawReply {
        let own = ("authorization".to_owned(), format!("Bearer {}", self.cloud.token));
        let more = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let headers: Vec<_> = std::iter::once(own).chain(more).collect();
        let target = format!("/{ORG}/{APP}{path}");
        RawClient::new(&self.world).send(method, &target, &headers, body).await
    }

    /// The events after a position, by name.
    pub async fn names_after(&self, position: i64) -> Vec<&'static str> {
        let page = self.world.running.server.ledger.read(position, 1_000).await.unwrap();
        page.events.iter().map(|recorded| recorded.event.name()).collect()
    }
}

/// Has the app speak Easemob, as often as a test likes; gives the token of its server.
pub async fn speak(world: &World) -> String {
    let limits = json!({
        "syncPerSecond": 10_000, "asyncPerSecond": 10_000, "singlePerSecond": 10_000,
        "listPerSecond": 10_000, "taskPerSecond": 10_000, "broadcastPerSecond": 10_000,
        "messagePerSecond": 10_000, "taskQueryPerSecond": 10_000, "receiptPerSecond": 10_000, "labelPerSecond": 10_000,
        "labelUserPerSecond": 10_000, "registrationPerSecond": 10_000,
        "batchDeletePerSecond": 10_000, "batchStatusPerSecond": 10_000,
        "bindingPerSecond": 10_000, "userPerSecond": 10_000, "tokenPerSecond": 10_000,
    });
    let section = json!({ "orgName": ORG, "appName": APP, "clientId": CLIENT,
                          "clientSecret": SECRET, "limits": limits });
    change_app(world, json!({ "easemob": section })).await;
    token(&Admin::new(base(world), ""), json!({})).await
}

/// The address of the app's calls.
pub fn base(world: &World) -> String {
    format!("{}/{ORG}/{APP}", world.url)
}

/// A new app token, with more in the request.
pub async fn token(caller: &Admin, more: Value) -> String {
    let mut body = json!({ "grant_type": "client_credentials", "client_id": CLIENT,
                           "client_secret": SECRET });
    crate::harness::merge(&mut body, more);
    let answer = ok(caller.post("/token", Some(&body)).await.unwrap());
    answer["access_token"].as_str().unwrap().to_owned()
}

pub async fn change_app(world: &World, change: Value) -> Value {
    let (status, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

/// The body of an answer that has to be a success.
pub fn ok(answer: sim::Answer) -> Value {
    assert_eq!(answer.0, 200, "{}", answer.1);
    answer.1
}

/// Status, type and description of an answer that has to be a refusal with all five names.
pub fn refusal(answer: &sim::Answer) -> (u16, String, String) {
    let (status, body, _) = answer;
    assert!(*status >= 400, "{status} {body}");
    five_names(body);
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (*status, text("error"), text("error_description"))
}

/// The classes of errors whose `error` is not the name of a class itself.
pub const EXCEPTIONS: [(&str, &str); 15] = [
    ("auth_bad_access_token", "org.apache.usergrid.rest.exceptions.SecurityException"),
    ("duplicate_unique_property_exists", "DuplicateUniquePropertyExistsException"),
    ("illegal_argument", "IllegalArgumentException"),
    ("invalid_grant", "OAuthProblemException"),
    ("json_parse", "JsonParseException"),
    ("organization_application_not_found", "OrganizationApplicationNotFoundException"),
    ("reach_limit", "ReachLimitException"),
    ("request_entity_too_large", "RequestEntityTooLargeException"),
    ("resource_not_found", "NotFoundException"),
    ("service_resource_not_found", "ResourceNotFoundException"),
    ("service_resource_not_found", "UserNotFoundException"),
    ("service_unavailable", "ServiceUnavailableException"),
    ("unauthorized", "org.apache.usergrid.rest.exceptions.SecurityException"),
    ("unsupported_service_operation", "UnsupportedServiceOperationException"),
    ("web_application", "WebApplicationException"),
];

/// Checks that a refusal has the five names, and no other but `detail`; and that its class is the
/// one of its error.
pub fn five_names(body: &Value) {
    let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name}: {body}"));
    let (error, exception) = (text("error"), text("exception"));
    let named = error.ends_with("Exception") && exception == error;
    assert!(named || EXCEPTIONS.contains(&(error, exception)), "{error} is no {exception}");
    assert!(!text("error_description").is_empty(), "{body}");
    assert!(body["timestamp"].is_i64() && body["duration"].is_i64(), "{body}");
    let names = body.as_object().unwrap().keys();
    let others = names.filter(|name| {
        let five = ["error", "exception", "timestamp", "duration", "error_description"];
        !five.contains(&name.as_str())
    });
    assert!(others.into_iter().all(|name| name == "detail"), "{body}");
}

/// Checks that an answer is a refusal of that status and type, in these words.
pub fn refused(answer: &sim::Answer, status: u16, error: &str, description: &str) {
    let expected = (status, error.to_owned(), description.to_owned());
    assert_eq!(refusal(answer), expected, "{}", answer.1);
}

/// The `pushMessage` of a test.
pub fn hello() -> Value {
    json!({ "title": "Hello", "subTitle": "Hello", "content": "Hello" })
}
