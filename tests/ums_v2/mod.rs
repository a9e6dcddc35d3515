//! Haier UMS V2 over the wire: one file for each call or theme. The table in
//! `docs/protocols/haier-ums-v2.md` says which test shows which sentence of the contract.

mod codes;
mod conformance;
mod destinations;
mod devlist;
mod examples;
mod gateway;
mod getmsgstat;
mod idempotency;
mod message;
mod parameters;
mod push;
mod push_to_host;
mod register;
mod report;
mod states;
mod unreg;

use pushledger::http::ums::codes::Interface;
use serde_json::{Value, json};
use sim::{Caller, Reply};

use crate::harness::{PACKAGE, SIGNED_AT_MS, World, merge, ok, registration};

pub const REGISTER: &str = "/ums/v2/register";
pub const UNREG: &str = "/ums/v2/unreg";
pub const DEVLIST: &str = "/ums/v2/devlist";
pub const PUSH: &str = "/ums/v2/msgPush";
pub const TRY: &str = "/ums/v2/msgPushtry";
pub const STATUS: &str = "/ums/v2/getmsgstat";
pub const REPORT: &str = "/ums/v2/report";
pub const TO_HOST: &str = "/ums/v2/msgPushToHost";
pub const CLOUD_DEVLIST: &str = "/umse/v2/devlist";
pub const CLOUD_PUSH: &str = "/umse/v2/msgPush";
pub const CLOUD_TRY: &str = "/umse/v2/msgPushtry";
pub const CLOUD_STATUS: &str = "/umse/v2/getmsgstat";

/// Calls with a body as it is, and expects the envelope as it always is.
async fn call(caller: &Caller, path: &str, body: &str) -> Reply {
    let reply = caller.call(path, body).await.unwrap();
    assert_eq!(reply.status, 200, "{path} {body}");
    assert_eq!(reply.headers["content-type"], "application/json;charset=UTF-8");
    reply
}

/// Calls and gives the code of a refusal, which has no data and stored nothing.
async fn refusal(world: &World, caller: &Caller, path: &str, body: &Value) -> String {
    let before = world.head().await;
    let reply = call(caller, path, &body.to_string()).await;
    assert_ne!(reply.ret_code, "00000", "{path} {body} was accepted");
    assert_eq!(reply.data, Value::Null);
    assert_eq!(world.head().await, before, "{path} {body} was refused, but stored something");
    reply.ret_code
}

/// Calls with an idempotency key.
async fn keyed(caller: &Caller, path: &str, body: &str, key: &str) -> Reply {
    let mut headers = caller.headers(path, body, SIGNED_AT_MS);
    headers.push(("Idempotency-Key".to_owned(), key.to_owned()));
    caller.call_with(path, body, &headers).await.unwrap()
}

/// The devices that a cloud sees of a user.
async fn devices_of(world: &World, user: &str) -> Vec<Value> {
    let data = ok(&world.cloud(), CLOUD_DEVLIST, &json!({ "userid": user })).await;
    data.as_array().unwrap().clone()
}

/// One text for a list of texts.
fn each(list: &[Value], field: &str) -> String {
    let texts: Vec<&str> = list.iter().map(|item| item[field].as_str().unwrap()).collect();
    texts.join(" ")
}

/// Makes a second app, with the ids `MB-OTHER` and `SV-OTHER` and the same key for both.
async fn other_app(world: &World) -> (Caller, Caller) {
    let ums = json!({ "appId": "MB-OTHER", "appKey": "another key",
                      "systemId": "SV-OTHER", "systemKey": "another key" });
    let app = json!({ "appId": "other", "ums": ums });
    let (status, body, _) = world.admin.post("/admin/v1/apps", Some(&app)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    let caller = |id: &str| Caller::new(&world.url, id, "another key");
    (caller("MB-OTHER"), caller("SV-OTHER"))
}

/// Changes the app `demo`.
async fn change_app(world: &World, change: Value) -> Value {
    let (status, body, _) = world.admin.patch("/admin/v1/apps/demo", Some(&change)).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

/// Names the owner of a physical device.
async fn set_owner(world: &World, device: &str, user: &str, bind_key: &str) {
    let path = format!("/admin/v1/apps/demo/owners/{device}");
    let owner = json!({ "userId": user, "bindKey": bind_key });
    let (status, body, _) = world.admin.put(&path, Some(&owner)).await.unwrap();
    assert_eq!(status, 204, "{body}");
}

/// A world in which every call can succeed, and who makes it.
pub struct Ready {
    pub world: World,
    ann: Caller,
    cloud: Caller,
}

impl Ready {
    /// Ann has a phone, owns a lock, and the app lists its packages.
    pub async fn new() -> Ready {
        let world = World::new().await;
        change_app(&world, json!({ "ums": { "appPackages": [PACKAGE, "com.acme.other"] } })).await;
        let ann = world.register_of("ann", "c-1", json!({ "deviceId": "mac-1" })).await;
        set_owner(&world, "lock", "ann", "bind key").await;
        let cloud = world.cloud();
        Ready { world, ann, cloud }
    }

    /// Who makes a call.
    pub fn caller(&self, interface: Interface) -> &Caller {
        if interface.of_cloud() { &self.cloud } else { &self.ann }
    }

    /// A body with every parameter of a call, with which it will succeed once.
    pub async fn body(&self, interface: Interface) -> Value {
        let mut registration = registration("c-1");
        let more = json!({ "userId": "ann", "deviceId": "mac-1", "userName": "Ann",
                           "deviceName": "hall", "typeId": "201c80" });
        merge(&mut registration, more);
        ok(&self.ann, REGISTER, &registration).await;
        match interface {
            Interface::Register => registration,
            Interface::Unregister => json!({ "appPackage": PACKAGE }),
            Interface::Devices => json!({}),
            Interface::Push
            | Interface::PushTry
            | Interface::CloudPush
            | Interface::CloudPushTry => json!({
                "dst": { "type": 0, "Id": ["c-1"] },
                "message": { "msgName": "m" }, "expires": 60, "isBurn": false,
            }),
            Interface::Status | Interface::CloudStatus => {
                json!({ "msgId": self.world.push("c-1", json!({})).await })
            }
            Interface::Report => {
                let id = self.world.push("c-1", json!({})).await;
                json!({ "appPackage": PACKAGE, "msgId": id, "status": 2 })
            }
            Interface::PushToHost => {
                json!({ "deviceId": "lock", "encryptedData": "bind key", "message": {} })
            }
            Interface::CloudDevices => json!({ "userid": "ann" }),
        }
    }
}
