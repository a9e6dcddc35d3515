//! Accounts, names and words as many and as long as they may be are taken. What is beyond is among what
//! else each call refuses (the limits in `docs/protocols/tencent-im.md` name the tests).

use serde_json::{Value, json};

use super::{BATCH, IMPORT, IMPORT_MANY, Tencent, message_with};

#[tokio::test(flavor = "multi_thread")]
async fn imports_sends_and_names_as_long_as_they_may_be_are_taken() {
    let tencent = Tencent::new().await;
    let account = json!({ "UserID": "u".repeat(32), "Nick": "n".repeat(100) });
    assert_eq!(tencent.call(IMPORT, &account).await["ErrorCode"], 0);
    let all: Vec<String> = (0..500).map(|number| format!("user-{number}")).collect();
    for some in all.chunks(100) {
        let imported = tencent.call(IMPORT_MANY, &json!({ "Accounts": some })).await;
        assert_eq!((&imported["ErrorCode"], &imported["FailAccounts"]), (&json!(0), &json!([])));
    }
    let head = tencent.world.head().await;
    let sent = tencent.call(BATCH, &message_with(1, json!({ "To_Account": all }))).await;
    assert_eq!((&sent["ErrorCode"], &sent["ErrorList"]), (&json!(0), &Value::Null), "{sent}");
    assert_eq!(tencent.accepted(head).await.len(), 500);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_up_to_1000_words_of_up_to_100_characters() {
    let tencent = Tencent::new().await;
    let many: Vec<String> = (0..1_000).map(|number| format!("{number:050}")).collect();
    for words in [many, vec!["w".repeat(100)]] {
        tencent.configure(json!({ "words": words })).await;
        let (status, app, _) = tencent.world.admin.get("/admin/v1/apps/demo", None).await.unwrap();
        assert_eq!((status, &app["tencent"]["words"]), (200, &json!(words)));
    }
    tencent.world.stop().await;
}
