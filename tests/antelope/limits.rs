//! Lists, ranges and keys as many as there may be are taken. What is beyond is refused: keys here, the
//! rest among what else each call refuses (the limits in `docs/protocols/antelope.md` name the tests).

use serde_json::{Value, json};

use super::{ANN, Antelope, BOB, HELLO, token};

#[tokio::test(flavor = "multi_thread")]
async fn lists_as_long_as_they_may_be_are_taken() {
    let antelope = Antelope::new().await;
    let tokens = vec![token(BOB); 1_000];
    let push = json!({ "msg": HELLO, "flag": 3, "callback": 0, "access_tokens": tokens });
    assert_eq!(antelope.push_by(ANN, &push).await.0, 200);
    let payload = json!({ "msg": HELLO, "flag": 3, "clients": vec![BOB; 1_000] });
    assert_eq!(antelope.push(&json!({ "proxy": 0, "payload": payload })).await.0, 200);
    let head = antelope.world.head().await;
    let item = json!({ "from": ANN, "to": BOB, "flag": 3, "msg": HELLO });
    assert_eq!(antelope.push(&json!({ "proxy": 1, "payload": vec![item; 200] })).await.0, 200);
    assert_eq!(antelope.accepted(head).await.len(), 200);
    let body = json!({ "cids": vec![ANN; 1_000] });
    let (status, minted) = antelope.server("POST", "/v2/devices/tokens", &body).await;
    assert_eq!((status, minted["tokens"].as_array().unwrap().len()), (200, 1_000));
    antelope.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_up_to_100_ranges_and_10_keys() {
    let antelope = Antelope::new().await;
    let ranges: Vec<Value> = (0..100).map(|n| json!([n * 10 + 1, n * 10 + 2])).collect();
    let keys = |many: u32| (0..many).map(|n| format!("{n:032}")).collect::<Vec<_>>();
    let create = async |keys: Vec<String>| {
        let section = json!({ "appId": "Othr", "cidRanges": ranges, "appKeys": keys });
        let app = json!({ "appId": "other", "antelope": section });
        antelope.world.admin.post("/admin/v1/apps", Some(&app)).await.unwrap()
    };
    let (status, refused, _) = create(keys(11)).await;
    assert_eq!(status, 400, "{refused}");
    let (status, made, _) = create(keys(10)).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["antelope"]["cidRanges"].as_array().unwrap().len(), 100);
    assert_eq!(made["antelope"]["appKeys"].as_array().unwrap().len(), 10);
    antelope.world.stop().await;
}
