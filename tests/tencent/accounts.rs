//! `account_import` and `multiaccount_import`.

use domain::{Event, account::AccountPrivate};
use serde_json::json;

use super::{IMPORT, IMPORT_MANY, Tencent};

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_there_once_it_was_imported_and_importing_again_changes_nothing() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    let body = json!({ "UserID": "dave", "Nick": "Dave", "FaceUrl": "https://example.com/d.png" });
    let answer = tencent.call(IMPORT, &body).await;
    assert_eq!(answer, json!({ "ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0 }));
    let events = tencent.events(head).await;
    let private = AccountPrivate {
        tencent: Some("dave".to_owned()),
        nickname: Some("Dave".to_owned()),
        ..AccountPrivate::default()
    };
    let Event::AccountOpened(opened) = &events[0].event else { panic!("{events:?}") };
    assert_eq!((opened.private.as_ref(), events.len()), (Some(&private), 1));
    assert_eq!((&*events[0].metadata.actor, &*events[0].metadata.via), ("cloud", "tencent"));
    let renamed = json!({ "UserID": "dave", "Nick": "David" });
    for again in [body, json!({ "Identifier": "dave" }), renamed] {
        assert_eq!(tencent.call(IMPORT, &again).await["ErrorCode"], 0);
    }
    assert_eq!(tencent.events(head).await.len(), 1);
    // Names are compared to the letter.
    assert_eq!(tencent.call(IMPORT, &json!({ "UserID": "Dave" })).await["ErrorCode"], 0);
    assert_eq!(tencent.events(head).await.len(), 2);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_accounts_are_imported_at_once_and_those_that_cannot_be_are_named() {
    let tencent = Tencent::new().await;
    let head = tencent.world.head().await;
    let long = "x".repeat(33);
    let answer = tencent.call(IMPORT_MANY, &json!({ "Accounts": ["eve", "bob", long] })).await;
    assert_eq!((&answer["ErrorCode"], &answer["FailAccounts"]), (&json!(0), &json!([long])));
    let list = json!({ "AccountList": [{ "UserID": "fay", "Nick": "Fay" }, { "UserID": "eve" }] });
    assert_eq!(tencent.call(IMPORT_MANY, &list).await["FailAccounts"], json!([]));
    assert_eq!(tencent.events(head).await.len(), 2);
    tencent.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_make_no_sense_are_70402_and_no_json_60003() {
    let tencent = Tencent::new().await;
    for body in [
        json!({}),
        json!({ "UserID": "" }),
        json!({ "UserID": 7 }),
        json!({ "UserID": "x".repeat(33) }),
        json!({ "UserID": "a\u{0}" }),
        json!({ "UserID": "gil", "Nick": "x".repeat(101) }),
        json!({ "UserID": "gil", "Nick": 1 }),
    ] {
        tencent.refused(IMPORT, &body, 70_402).await;
    }
    for body in [
        json!({}),
        json!({ "Accounts": [] }),
        json!({ "Accounts": "gil" }),
        json!({ "Accounts": [7] }),
        json!({ "AccountList": [{}] }),
        json!({ "Accounts": vec!["x"; 101] }),
    ] {
        tencent.refused(IMPORT_MANY, &body, 70_402).await;
    }
    for path in [IMPORT, IMPORT_MANY] {
        tencent.refused(path, &json!([]), 60_003).await;
    }
    tencent.world.stop().await;
}
