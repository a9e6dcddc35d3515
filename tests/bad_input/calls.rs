//! One valid request for every described operation, and the names that its path needs. A test
//! counts that none is missing.

use domain::facts::{Fact, Key};
use pushledger::http::ums::codes::Interface;
use serde_json::{Value, json};
use sim::Admin;

use crate::{
    antelope::{self, ANN, BOB, HELLO},
    easemob::{APP, CLIENT, ORG, PASSWORD, SECRET, hello},
    harness::{PACKAGE, World},
    tencent,
};

/// Method, target and body.
pub(super) type Call = (&'static str, String, Value);

/// Where a webhook is, and an event that seldom happens to it.
const HOOK: &str = "http://a.example.com/";
const RARE: &str = "label.deleted";

/// What requests name and only the server can say.
pub(super) struct Names {
    app: String,
    message: String,
    webhook: String,
    device: i64,
    operator: i64,
    task: i64,
}

impl Names {
    /// Makes an app of that number that nobody needs, and what is not there any more in `demo`.
    pub(super) async fn new(world: &World, easemob: &str, number: usize) -> Names {
        let app = format!("spare-{number}");
        let post =
            async |path: &str, body: Value| world.admin.post(path, Some(&body)).await.unwrap().1;
        post("/admin/v1/apps", json!({ "appId": app })).await;
        let hook = json!({ "url": HOOK, "events": [RARE] });
        let hook = post(&format!("/admin/v1/apps/{app}/webhooks"), hook).await;
        post("/admin/v1/operators", json!({ "name": "n", "role": "analyst" })).await;
        let (_, operators, _) = world.admin.get("/admin/v1/operators", None).await.unwrap();
        let server = Admin::new(&world.url, easemob);
        let task = json!({ "strategy": 3, "pushMessage": hello() });
        let (_, task, _) = server.post(&own("push/task"), Some(&task)).await.unwrap();
        let key = Key::Client { app: "demo".to_owned(), client: "c-1".to_owned() };
        let devices = world.running.server.ledger.fact(key).await.unwrap();
        let Fact::Devices(devices) = devices else { panic!("no devices") };
        Names {
            app,
            message: world.push("c-1", json!({})).await,
            webhook: hook["id"].as_str().unwrap().to_owned(),
            device: devices[0].number,
            operator: operators.as_array().unwrap().last().unwrap()["number"].as_i64().unwrap(),
            // Too many may run just now.
            task: task["data"]["taskId"].as_i64().or(task["data"].as_i64()).unwrap_or(1),
        }
    }
}

/// The path of a call over Easemob's interface.
fn own(path: &str) -> String {
    format!("/{ORG}/{APP}/{path}")
}

/// A push of a terminal or a cloud, with the destinations of the other types.
pub(super) fn to_everybody(interface: Interface, push: &Value) -> Vec<(Interface, Value)> {
    let destinations = [
        json!({ "type": 1, "Id": ["mac-1"] }),
        json!({ "type": 2, "Id": ["ann"], "devType": ["01"] }),
        json!({ "type": 3, "Id": ["ann"], "appType": [PACKAGE] }),
    ];
    if push.get("dst").is_none() {
        return Vec::new();
    }
    let to = |dst| {
        let mut push = push.clone();
        push["dst"] = dst;
        (interface, push)
    };
    destinations.into_iter().map(to).collect()
}

/// Calls of the admin API on an app that nobody needs, uplinks, queries and handshakes.
pub(super) fn others(names: &Names) -> Vec<Call> {
    let Names { app: own, message, webhook, device, operator, .. } = names;
    let spare = |rest: &str| format!("/admin/v1/apps/{own}{rest}");
    let app = json!({ "name": "Spare", "timezone": "Asia/Tokyo",
                      "ums": { "appKeys": [{ "generate": true }, "key"], "appPackages": ["p"] } });
    let mut new = app.clone();
    new["appId"] = json!(format!("new-{own}"));
    let query = |query: String| json!({ "query": query, "variables": { "id": message } });
    let hook = |rest: &str| spare(&format!("/webhooks/{webhook}{rest}"));
    let audit = |rest: &str| format!("/admin/v1/audit/{rest}");
    let uplink = json!({ "id": message, "phone": "185", "content": "Hi", "extendCode": "7",
                         "userId": "ann", "replyTime": 1_700_000_000 });
    let message_of = format!("/admin/v1/apps/demo/messages/{message}");
    vec![
        ("GET", "/admin/v1/apps".to_owned(), json!({})),
        ("POST", "/admin/v1/apps".to_owned(), new),
        ("GET", spare(""), json!({})),
        ("PATCH", spare(""), app),
        ("DELETE", spare(""), json!({})),
        (
            "POST",
            spare("/access-tokens"),
            json!({ "userId": "u", "clientId": "c", "ttlSeconds": 9 }),
        ),
        ("PUT", spare("/owners/mac"), json!({ "userId": "u", "bindKey": "k" })),
        ("DELETE", spare("/owners/mac"), json!({})),
        ("POST", format!("{message_of}/recall"), json!({})),
        ("POST", format!("{message_of}/replace"), json!({})),
        ("GET", spare("/webhooks"), json!({})),
        ("POST", spare("/webhooks"), json!({ "url": HOOK, "events": [RARE] })),
        ("DELETE", hook(""), json!({})),
        ("POST", hook("/rotate"), json!({ "keep": 1 })),
        ("POST", hook("/enable"), json!({})),
        ("GET", spare("/callbacks?outcome=given_up&limit=9"), json!({})),
        ("GET", spare("/callbacks/receivers"), json!({})),
        ("POST", spare("/callbacks/replay"), json!({ "receiver": webhook, "callbacks": [1] })),
        ("GET", spare("/erasures?limit=9"), json!({})),
        ("GET", "/admin/v1/access?app=demo&limit=9".to_owned(), json!({})),
        ("GET", "/admin/v1/views/rebuild".to_owned(), json!({})),
        ("POST", "/admin/v1/views/rebuild".to_owned(), json!({ "keepAside": true })),
        ("DELETE", "/admin/v1/views/rebuild".to_owned(), json!({})),
        ("GET", "/admin/v1/views/set-aside?limit=9".to_owned(), json!({})),
        (
            "POST",
            spare("/erasures"),
            json!({ "subject": { "user": { "protocol": "ums", "name": "u" } },
                    "reason": "objection" }),
        ),
        ("PUT", spare("/accounts/ums/u/addresses"), json!({ "easemob": "u" })),
        (
            "PUT",
            format!("/admin/v1/apps/demo/devices/{device}/addresses"),
            json!({ "antelope": 5_009_999 }),
        ),
        ("GET", spare("/events?after=0&limit=5&wait=0"), json!({})),
        ("GET", spare("/export?from=2026-01-01T00:00:00Z&bucket=total"), json!({})),
        ("GET", audit("checkpoint"), json!({})),
        ("GET", audit("keys"), json!({})),
        ("GET", audit("inclusion?position=1"), json!({})),
        ("GET", audit("consistency?from=1"), json!({})),
        ("GET", "/admin/v1/operators".to_owned(), json!({})),
        ("POST", "/admin/v1/operators".to_owned(), json!({ "name": "n", "role": "analyst" })),
        ("DELETE", format!("/admin/v1/operators/{operator}"), json!({})),
        ("POST", "/uplink/v1/messages".to_owned(), json!({ "source": "s", "messages": [uplink] })),
        ("POST", "/graphql".to_owned(), query("{ apps { appId timezone } }".to_owned())),
        (
            "POST",
            "/graphql".to_owned(),
            query(
                "query($id: ID!) { app(appId: \"demo\") { message(id: $id) { id } } }".to_owned(),
            ),
        ),
        ("GET", "/connect".to_owned(), json!({})),
    ]
}

/// Calls over Easemob's interface, on users that come and go; none of them waits for an outcome.
pub(super) fn easemob(names: &Names) -> Vec<Call> {
    let task = |rest: &str| own(&format!("push/task/{}{rest}", names.task));
    let user = json!({ "username": "ann", "password": PASSWORD, "nickname": "Ann" });
    let names = json!({ "usernames": ["ann", "bob"] });
    let push = json!({ "strategy": 3, "targets": ["ann", "bob"], "pushMessage": {
        "title": "Hi", "content": "Hello", "ext": { "n": 1 }, "apns": { "badge": 1 },
        "config": { "clickAction": { "url": "x" }, "badge": { "addNum": 1 } } } });
    let to_label = json!({ "strategy": 3, "targets": ["vip"], "pushMessage": hello() });
    let binding =
        json!({ "device_id": "phone", "device_token": "token", "notifier_name": "jpush" });
    vec![
        (
            "POST",
            own("token"),
            json!({ "grant_type": "client_credentials", "client_id": CLIENT,
                    "client_secret": SECRET, "ttl": 60 }),
        ),
        ("POST", own("token"), json!({ "grant_type": "inherit", "username": "ann", "ttl": "60" })),
        ("POST", own("users"), user),
        ("GET", own("users?limit=2"), json!({})),
        ("DELETE", own("users?limit=1"), json!({})),
        ("GET", own("users/ann"), json!({})),
        ("DELETE", own("users/ann"), json!({})),
        ("GET", own("users/ann/status"), json!({})),
        ("POST", own("users/batch/status"), names.clone()),
        ("PUT", own("users/ann/push/binding"), binding),
        ("GET", own("users/ann/push/binding"), json!({})),
        ("POST", own("push/label"), json!({ "name": "vip", "description": "d" })),
        ("GET", own("push/label?limit=1"), json!({})),
        ("GET", own("push/label/vip"), json!({})),
        ("DELETE", own("push/label/vip"), json!({})),
        ("POST", own("push/label/vip/user"), names.clone()),
        ("GET", own("push/label/vip/user"), json!({})),
        ("GET", own("push/label/vip/user/ann"), json!({})),
        ("DELETE", own("push/label/vip/user"), names),
        ("POST", own("push/async/ann"), push.clone()),
        ("POST", own("push/message"), push["pushMessage"].clone()),
        ("GET", own("push/message/1"), json!({})),
        ("POST", own("push/message/1"), json!({})),
        ("POST", own("push/task/broadcast"), json!({ "pushMsgId": 1, "strategy": 3 })),
        ("POST", own("push/list"), push.clone()),
        ("POST", own("push/list/label"), to_label),
        ("POST", own("push/task"), json!({ "strategy": 3, "pushMessage": hello() })),
        (
            "POST",
            own("push/report/huawei"),
            json!({ "statuses": [{ "biTag": "1", "appid": "1", "token": "token", "status": 0,
                                   "timestamp": 1, "requestId": "1" }] }),
        ),
        ("GET", task(""), json!({})),
        ("GET", task("/statistics"), json!({})),
        ("DELETE", task(""), json!({})),
        ("POST", own("push/single"), push),
        ("POST", own("push/sync/nobody"), json!({ "pushMessage": hello() })),
    ]
}

/// Calls over Antelope's interface, of the app's server and of a device.
pub(super) fn antelope() -> Vec<Call> {
    let tokens = [antelope::token(ANN), antelope::token(BOB)];
    let proxied = json!({ "from": ANN, "to": BOB, "flag": 3, "msg": HELLO });
    let hook = json!({ "webhook": "http://a.example.com/", "state_webhook": "" });
    let own = |path: &str| format!("/v2/{path}");
    vec![
        (
            "POST",
            own("message/client/push"),
            json!({ "msg": HELLO, "flag": 2, "callback": 1, "access_tokens": tokens }),
        ),
        (
            "POST",
            own("message/server/push"),
            json!({ "proxy": 0, "payload": { "msg": HELLO, "flag": 3, "clients": [ANN, BOB] } }),
        ),
        ("POST", own("message/server/push"), json!({ "proxy": 1, "payload": [proxied, proxied] })),
        ("GET", own("apps/webhook"), json!({})),
        ("POST", own("apps/webhook"), hook),
        ("POST", own("devices/state?page=1&size=9"), json!({ "cids": [ANN, BOB] })),
        ("GET", own("devices/ids"), json!({})),
        ("POST", own("devices/tokens"), json!({ "cids": [ANN], "duration": 9 })),
    ]
}

/// Calls over Tencent's interface.
pub(super) fn tencent() -> Vec<(String, Value)> {
    let named = |more: Value| {
        let mut body = json!({ "From_Account": "Ann", "To_Account": "bob" });
        crate::harness::merge(&mut body, more);
        body
    };
    let call = |path: &str, body: Value| (tencent::target(path), body);
    let push = json!({ "Title": "t", "Desc": "d", "Ext": "{}", "ApnsInfo": { "BadgeMode": 0 } });
    let wishes = json!({ "MsgLifeTime": 9, "SyncOtherMachine": 1, "OfflinePushInfo": push,
        "SendMsgControl": ["NoUnread"], "ForbidCallbackControl": [], "MsgTimeStamp": 1 });
    let span = json!({ "MaxCnt": 9, "MinTime": 0, "MaxTime": 4_000_000_000_u32 });
    vec![
        call(tencent::IMPORT, json!({ "UserID": "dave", "Nick": "Dave" })),
        call(tencent::IMPORT_MANY, json!({ "Accounts": ["Ann", "bob"] })),
        call(tencent::SENDMSG, tencent::message_with(1, wishes)),
        call(tencent::BATCH, tencent::message_with(2, json!({ "To_Account": ["bob", "carl"] }))),
        call(tencent::WITHDRAW, named(json!({ "MsgKey": "1_2_3" }))),
        call(tencent::ROAM, named(span)),
    ]
}
