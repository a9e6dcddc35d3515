//! The document's own requests, as they stand there, save for tokens and keys, which it made up.

use pushledger::antelope::sign;
use serde_json::{Value, json};

use super::{EXPIRE, KEY, message, seen};
use crate::{
    easemob::change_app,
    harness::{RawClient, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_requests_are_answered_as_it_says() {
    let world = World::new().await;
    let ranges = [[1_003_000, 1_003_999], [5_003_000, 5_003_999]];
    let section = json!({ "appId": "Test", "appKeys": [KEY], "cidRanges": ranges });
    change_app(&world, json!({ "antelope": section })).await;
    let token = |cid| sign(KEY, cid, 3_356_753_920, EXPIRE);
    let options = sim::DeviceOptions::of_antelope(&world.url, token(5_003_062));
    let mut device = sim::Device::connect(options).await.unwrap();
    let of_device = format!(
        r#"{{
    "msg": "aGVsbG8=",
    "flag": 2,
    "callback": 1,
    "access_tokens": ["{}"]
}}"#,
        token(5_003_062)
    );
    let batch = r#"{
    "proxy": 0,
    "payload": {
        "msg": "aGVsbG8=",
        "flag": 3,
        "clients": [5003062, 1003775]
    }
}"#;
    let proxied = r#"{
    "proxy": 1,
    "payload": [
        {
            "from": 1003200,
            "to": 5003062,
            "flag": 3,
            "msg": "aGVsbG8="
        }    
    ]
}"#;
    let common = [("Content-Type", "application/json"), ("Cache-Control", "no-cache")];
    let client = [("X-Client-Token", token(1_003_200))];
    let server = [("X-APP-ID", "Test".to_owned()), ("X-APP-Key", KEY.to_owned())];
    for (path, credentials, body, source) in [
        ("/v2/message/client/push", &client[..], of_device.as_str(), 1_003_200),
        ("/v2/message/server/push", &server[..], batch, 0),
        ("/v2/message/server/push", &server[..], proxied, 1_003_200),
    ] {
        let common = common.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let headers: Vec<(String, String)> = common
            .chain(credentials.iter().cloned())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let reply = RawClient::new(&world).send("POST", path, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(answer, json!({ "request_id": reply.headers["x-request-id"] }));
        assert_eq!(message(&mut device).await.1, seen("aGVsbG8=", source));
    }
    world.stop().await;
}
