//! What is just within a limit is taken; each test of refusals has what is just beyond it.

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
    tencent.configure(json!({ "words": vec!["w".repeat(50); 1_000] })).await;
    tencent.configure(json!({ "words": ["w".repeat(100)] })).await;
    tencent.world.stop().await;
}
