//! What the logs keep to themselves, however detailed they are.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use sim::{Admin, Caller, Device, DeviceOptions};
use tokio::net::TcpListener;

use crate::{
    harness::{ADMIN_TOKEN, PACKAGE, Place, Process, code, message, ok, until},
    jwt::Signer,
};

/// Every value that is somebody's business only; each is unlike anything else.
const USER: &str = "zq-user-13800001111";
const CLIENT: &str = "zq-client-7f31";
const PUSH_ID: &str = "zq-push-id-90ab";
const HARDWARE: &str = "zq-hardware-55aa";
const PAYLOAD: &str = "zq-payload-your-code-is-4711";
const BIND_KEY: &str = "zq-bind-key-c0ffee";
const REPEAT_KEY: &str = "zq-idempotency-1234";
const APP_KEY: &str = "zq-app-key-0123456789abcdef0123456789";
const SYSTEM_KEY: &str = "zq-system-key-fedcba9876543210fedcba98";
const TOKEN_SECRET: &str = "zq-token-secret-13579bdf2468ace013579bdf";
const ANTELOPE_KEY: &str = "zq-antelope-key-0123456789abcdef";
const ANTELOPE_MESSAGE: &str = "enEtcGF5bG9hZC15b3VyLWNvZGU=";
const CID: u32 = 4_271_836_519;
const TENCENT_KEY: &str = "zq-tencent-key-8c1d";
const TENCENT_TOKEN: &str = "zq-callback-token-77";
const TENCENT_USER: &str = "zq-tencent-user-91";
const KEYS_QUERY: &str = "zq-jwks-query-97531";

fn admin(process: &Process) -> Admin {
    Admin::new(process.url(), ADMIN_TOKEN)
}

/// An operator's call that works.
async fn post(process: &Process, path: &str, body: Value) -> Value {
    let (status, answer, _) = admin(process).post(path, Some(&body)).await.unwrap();
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

fn push(to: &str) -> Value {
    json!({ "dst": { "type": 0, "Id": [to] }, "message": { "body": { "text": PAYLOAD } } })
}

/// Registration, push, receipt, report, status, and a recall, over REST and the socket.
async fn the_usual(process: &Process, token: &str) {
    let terminal = Caller::new(process.url(), "MB-LOGS", APP_KEY).with_client_id(CLIENT);
    let terminal = terminal.with_access_token(token);
    let cloud = Caller::new(process.url(), "SV-LOGS", SYSTEM_KEY);
    let registration = json!({
        "clientId": CLIENT, "userId": USER, "pushId": PUSH_ID, "deviceId": HARDWARE,
        "deviceType": "01", "collab3th": 0, "appPackage": PACKAGE,
    });
    ok(&terminal, "/ums/v2/register", &registration).await;
    ok(&terminal, "/ums/v2/devlist", &json!({})).await;
    let mut device = Device::connect(DeviceOptions::new(&terminal, PACKAGE)).await.unwrap();
    for _ in 0..3 {
        let sent = ok(&cloud, "/umse/v2/msgPush", &push(CLIENT)).await;
        let (id, _) = message(&mut device).await;
        assert_eq!(sent["msgId"], id);
        ok(
            &terminal,
            "/ums/v2/report",
            &json!({ "appPackage": PACKAGE, "msgId": id, "status": 3 }),
        )
        .await;
        until("the report was never seen", async || {
            ok(&cloud, "/umse/v2/getmsgstat", &json!({ "msgId": id })).await["status"] == 3
        })
        .await;
        // Too late for a recall; it is asked for all the same.
        let path = format!("/admin/v1/apps/logs/messages/{id}/recall");
        post(process, &path, json!({})).await;
    }
    ok(&cloud, "/umse/v2/devlist", &json!({ "userId": USER })).await;
    device
        .send_raw(format!(r#"{{"t":"report","id":"{PAYLOAD}","status":"{USER}"}}"#))
        .await
        .unwrap();
    device.send_raw(format!("{PAYLOAD} is no frame")).await.unwrap();
    while device.next().await.is_some() {
        // Whatever it says to that, it ends.
        device.close().await.unwrap();
    }
}

/// Calls that are refused at every stage: the sign, the token, the text, the fields, the rules.
async fn the_refused(process: &Process, token: &str) {
    let cloud = Caller::new(process.url(), "SV-LOGS", SYSTEM_KEY);
    let wrong = Caller::new(process.url(), "MB-LOGS", SYSTEM_KEY).with_client_id(CLIENT);
    let stale = Caller::new(process.url(), "MB-LOGS", APP_KEY).with_client_id(CLIENT);
    let stale = stale.with_access_token(format!("{token}{REPEAT_KEY}"));
    for caller in [&wrong, &stale] {
        assert_ne!(code(caller, "/ums/v2/devlist", &json!({ "userId": USER })).await, "00000");
    }
    for body in
        [format!("{{\"dst\": {PAYLOAD}"), format!("[\"{PAYLOAD}\"]"), push(USER).to_string()]
    {
        let reply = cloud.call("/umse/v2/msgPush", &body).await.unwrap();
        assert_ne!(reply.ret_code, "00000", "{body}");
    }
    let mut much = push(CLIENT);
    much["message"]["body"]["text"] = PAYLOAD.repeat(20_000).into();
    assert_ne!(code(&cloud, "/umse/v2/msgPush", &much).await, "00000");
    let stranger = Admin::new(process.url(), format!("{ADMIN_TOKEN}-{BIND_KEY}"));
    let (status, _, _) = stranger.get("/admin/v1/apps/logs", None).await.unwrap();
    assert_eq!(status, 401);
    let query = json!({ "query": format!("{{ {PAYLOAD} }}") });
    let (_, answer, _) = admin(process).post("/graphql", Some(&query)).await.unwrap();
    assert!(!answer["errors"].is_null(), "{answer}");
}

/// Calls with tokens that the app signed: good, expired, and one whose key nobody can fetch.
async fn the_self_signed(process: &Process) -> Vec<String> {
    let signer = Signer::hs256(TOKEN_SECRET);
    let good = signer.sign(&json!({ "sub": USER, "exp": 4_000_000_000_i64, "clientId": CLIENT }));
    let expired = signer.sign(&json!({ "sub": USER, "exp": 1_000_000_000, "clientId": CLIENT }));
    let unsigned = Signer::new(Algorithm::ES256, "zq-kid").sign(&json!({ "sub": USER, "exp": 1 }));
    // Nobody listens on the port of a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/keys?key={KEYS_QUERY}");
    for (jwt, token, expected) in [
        (json!({ "hs256Secret": TOKEN_SECRET }), &good, "00000"),
        (json!({ "hs256Secret": TOKEN_SECRET }), &expired, "D00004"),
        (json!({ "jwksUrl": url }), &unsigned, "A00001"),
    ] {
        let change = json!({ "ums": { "jwt": jwt } });
        let changed = admin(process).patch("/admin/v1/apps/logs", Some(&change)).await.unwrap();
        assert_eq!(changed.0, 200, "{}", changed.1);
        let terminal = Caller::new(process.url(), "MB-LOGS", APP_KEY).with_client_id(CLIENT);
        let terminal = terminal.with_access_token(token);
        assert_eq!(code(&terminal, "/ums/v2/devlist", &json!({})).await, expected);
    }
    vec![good, expired, unsigned]
}

/// Antelope's calls, by server and by device, good and refused, and a device that connects with its
/// token in the query.
async fn the_antelope(process: &Process) -> String {
    let section = json!({ "antelope": { "appId": "Logs", "appKey": ANTELOPE_KEY,
                                        "cidRanges": [[CID, CID]] } });
    let changed = admin(process).patch("/admin/v1/apps/logs", Some(&section)).await.unwrap();
    assert_eq!(changed.0, 200, "{}", changed.1);
    let token = pushledger::antelope::sign(ANTELOPE_KEY, CID, 0, 4_000_000_000);
    let options = DeviceOptions::of_antelope(process.url(), &token);
    let mut device = Device::connect_by_query(options).await.unwrap();
    let open = Admin::new(process.url(), "");
    let path = format!("/v2/message/client/push?client_token={token}");
    // Its base64 is as private as what it says.
    let body = json!({ "msg": ANTELOPE_MESSAGE, "callback": 1, "access_tokens": [token] });
    assert_eq!(open.post(&path, Some(&body)).await.unwrap().0, 200);
    message(&mut device).await;
    let wrong =
        json!({ "msg": ANTELOPE_MESSAGE, "callback": ANTELOPE_MESSAGE, "access_tokens": [] });
    assert_eq!(open.post(&path, Some(&wrong)).await.unwrap().0, 400);
    let stranger = format!("{path}{REPEAT_KEY}");
    assert_eq!(open.post(&stranger, Some(&body)).await.unwrap().0, 401);
    token
}

/// Tencent's calls, good and refused, asked for and called back about at a server that is gone, and a
/// device that connects with its signature.
async fn the_tencent(process: &Process) -> String {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let section = json!({ "tencent": {
        "sdkAppId": 1_400_000_001, "secretKey": TENCENT_KEY, "callbackToken": TENCENT_TOKEN,
        "callbackUrl": format!("http://{gone}/im?key={KEYS_QUERY}"), "words": [BIND_KEY],
        "callbacks": ["C2C.CallbackBeforeSendMsg", "C2C.CallbackAfterSendMsg"] } });
    let changed = admin(process).patch("/admin/v1/apps/logs", Some(&section)).await.unwrap();
    assert_eq!(changed.0, 200, "{}", changed.1);
    let sign = |user| pushledger::tencent::sign(TENCENT_KEY, 1_400_000_001, user, 0, 4_000_000_000);
    let own = sign("administrator");
    let open = Admin::new(process.url(), "");
    let call = async |service: &str, body: Value| {
        let path =
            format!("/v4/{service}?sdkappid=1400000001&identifier=administrator&usersig={own}");
        open.post(&path, Some(&body)).await.unwrap().1["ErrorCode"].clone()
    };
    let accounts = json!({ "UserID": TENCENT_USER });
    assert_eq!(call("im_open_login_svc/account_import", accounts).await, 0);
    let sig = sign(TENCENT_USER);
    let options =
        DeviceOptions::of_tencent(process.url(), 1_400_000_001, TENCENT_USER, &sig, CLIENT);
    let mut device = Device::connect(options).await.unwrap();
    for (words, code) in [(PAYLOAD, 0), (BIND_KEY, 80_001)] {
        let body = json!([{ "MsgType": "TIMTextElem", "MsgContent": { "Text": words } }]);
        let body = json!({ "To_Account": TENCENT_USER, "MsgRandom": code, "MsgBody": body });
        assert_eq!(call("openim/sendmsg", body).await, code);
    }
    message(&mut device).await;
    let nobody = json!({ "To_Account": PAYLOAD, "MsgRandom": 1, "MsgBody": [REPEAT_KEY] });
    assert_eq!(call("openim/sendmsg", nobody).await, 90_010);
    sig
}

/// Uplinks, good and refused, that are called back to a server that is gone; gives the secret that
/// the calls are signed with.
async fn the_called_back(process: &Process) -> String {
    // Nobody listens on the port of a listener that is gone.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/hook?key={KEYS_QUERY}");
    let webhook = json!({ "url": url, "events": ["uplink.*"] });
    let made = post(process, "/admin/v1/apps/logs/webhooks", webhook).await;
    let section = json!({ "uplink": { "callbackUrl": url } });
    let changed = admin(process).patch("/admin/v1/apps/logs", Some(&section)).await.unwrap();
    assert_eq!(changed.0, 200, "{}", changed.1);
    let client = reqwest::Client::new();
    for (content, expected) in [(json!(PAYLOAD), 200), (json!([PAYLOAD]), 400)] {
        let message = json!({ "id": REPEAT_KEY, "phone": USER, "content": content });
        let request = client.post(format!("{}/uplink/v1/messages", process.url()));
        let request = request.bearer_auth(ADMIN_TOKEN).header("x-app-id", "logs");
        let answer = request.body(json!({ "messages": [message] }).to_string()).send().await;
        assert_eq!(answer.unwrap().status(), expected);
    }
    until("nothing was called back", async || {
        let path = "/admin/v1/apps/logs/callbacks?outcome=postponed";
        let page = admin(process).get(path, None).await.unwrap().1;
        page["callbacks"].as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    made["secret"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_or_secret_is_logged_even_at_trace_level() {
    let place = Place::new().await;
    let process = Process::logging(&place, "trace").await;
    let app = json!({
        "appId": "logs", "name": "Logs", "ums": {
            "appId": "MB-LOGS", "appKey": APP_KEY, "systemId": "SV-LOGS", "systemKey": SYSTEM_KEY,
        },
    });
    post(&process, "/admin/v1/apps", app).await;
    let wanted = json!({ "userId": USER, "clientId": CLIENT });
    let token = post(&process, "/admin/v1/apps/logs/access-tokens", wanted).await;
    let token = token["accessToken"].as_str().unwrap().to_owned();
    let owner = json!({ "userId": USER, "bindKey": BIND_KEY });
    let path = format!("/admin/v1/apps/logs/owners/{HARDWARE}");
    let (status, answer, _) = admin(&process).put(&path, Some(&owner)).await.unwrap();
    assert!(status < 300, "{status} {answer}");
    the_usual(&process, &token).await;
    the_refused(&process, &token).await;
    let mut signed = the_self_signed(&process).await;
    signed.push(the_antelope(&process).await);
    signed.push(the_called_back(&process).await);
    signed.push(the_tencent(&process).await);

    let log = process.log().await;
    let statement =
        |line: &String| line.contains(r#""level":"DEBUG""#) && line.contains("INSERT INTO events");
    assert!(log.iter().any(statement), "not that detailed");
    assert!(log.iter().any(|line| line.contains("the call failed")), "no fetch of keys failed");
    let cid = &*CID.to_string();
    let kept = [
        USER,
        CLIENT,
        PUSH_ID,
        HARDWARE,
        PAYLOAD,
        BIND_KEY,
        REPEAT_KEY,
        APP_KEY,
        SYSTEM_KEY,
        TOKEN_SECRET,
        KEYS_QUERY,
        ANTELOPE_KEY,
        ANTELOPE_MESSAGE,
        TENCENT_KEY,
        TENCENT_TOKEN,
        TENCENT_USER,
        cid,
    ];
    let tokens = signed.iter().map(String::as_str).chain([token.as_str(), ADMIN_TOKEN]);
    for kept in kept.into_iter().chain(tokens) {
        let told = log.iter().find(|line| line.contains(kept));
        assert!(told.is_none(), "{kept} is in the log: {}", told.map_or("", String::as_str));
    }
}
