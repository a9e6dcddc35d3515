//! `/{org}/{app}/push/async/{target}` and `push/single`, and what all pushes have in common.

use domain::{
    Event,
    message::{MessageAccepted, Protocol, Sender},
    route::Strategy,
};
use serde_json::{Value, json};

use super::{Easemob, hello, ok, refused};

/// The last push that was accepted.
async fn accepted(easemob: &Easemob) -> MessageAccepted {
    let head = easemob.world.head().await;
    let page = easemob.world.running.server.ledger.read(head - 1, 1).await.unwrap();
    match &page.events[0].event {
        Event::MessageAccepted(accepted) => accepted.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_push_is_answered_at_once_in_the_documents_shape() {
    let easemob = Easemob::with_clock().await;
    easemob.user("test1").await;
    let message = json!({ "title": "环信推送", "content": "你好，欢迎使用环信推送服务",
                          "sub_title": "环信" });
    let body = json!({ "strategy": 3, "pushMessage": message });
    let answer = ok(easemob.cloud.post("/push/async/Test1", Some(&body)).await.unwrap());
    let success = json!([{ "pushStatus": "ASYNC_SUCCESS", "data": "", "desc": "success" }]);
    assert_eq!(answer["data"], success);
    let accepted = accepted(&easemob).await;
    assert_eq!((accepted.protocol, accepted.sender), (Protocol::Easemob, Sender::Cloud));
    assert_eq!(accepted.strategy, Strategy::OnlineElseVendor);
    assert_eq!(accepted.expires_at, 1_700_000_000_000_000 + 86_400 * 1_000_000);
    let payload = accepted.private.unwrap().payload.unwrap();
    assert_eq!(serde_json::from_str::<Value>(payload.0.get()).unwrap(), message);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_several_users_answers_once_for_each_as_it_was_named() {
    let easemob = Easemob::new().await;
    for name in ["test1", "test2"] {
        easemob.user(name).await;
        easemob.bind(name, "phone", "jpush", name).await;
    }
    let targets = json!(["Test2", "test1", "nobody", "test1"]);
    let body = json!({ "targets": targets, "pushMessage": { "title": "Hello", "subTitle": "Hello",
                       "content": "Hello", "vivo": {} } });
    let head = easemob.world.head().await;
    let answer = ok(easemob.cloud.post("/push/single", Some(&body)).await.unwrap());
    let each =
        |id: &str| json!({ "id": id, "pushStatus": "ASYNC_SUCCESS", "desc": "async success." });
    assert_eq!(
        answer["data"],
        json!([each("Test2"), each("test1"), each("nobody"), each("test1")])
    );
    let page = easemob.world.running.server.ledger.read(head, 1).await.unwrap();
    let Event::MessageAccepted(accepted) = &page.events[0].event else { panic!("{page:?}") };
    assert_eq!((accepted.targets.len(), accepted.unresolved, accepted.users), (2, 1, 2));
    assert_eq!(accepted.private.clone().unwrap().destinations.0.get(), targets.to_string());
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_100_targets_are_taken_counted_before_duplicates_go() {
    let easemob = Easemob::new().await;
    let push = |targets: Value| json!({ "targets": targets, "pushMessage": hello() });
    let items = "targets must have 1 to 100 items";
    let texts = "targets must be a list of strings";
    for (targets, description) in [
        (json!(vec!["ann"; 101]), items),
        (json!([]), items),
        (Value::Null, "targets must be provided"),
        (json!("ann"), texts),
        (json!([1]), texts),
        (json!([["ann"]]), texts),
        (json!(["a\u{0}b"]), "targets must not contain U+0000"),
    ] {
        let answer = easemob.cloud.post("/push/single", Some(&push(targets))).await.unwrap();
        refused(&answer, 400, "IllegalArgumentException", description);
    }
    let answer = easemob.cloud.post("/push/single", Some(&push(json!(vec!["ann"; 100])))).await;
    assert_eq!(ok(answer.unwrap())["data"].as_array().unwrap().len(), 100);
    easemob.configure(json!({ "limits": { "targets": 2 } })).await;
    let three = push(json!(["a", "b", "c"]));
    let answer = easemob.cloud.post("/push/single", Some(&three)).await.unwrap();
    let description = "targets must have 1 to 2 items";
    refused(&answer, 400, "IllegalArgumentException", description);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strategy_is_2_unless_another_of_0_to_4_is_named() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    for (given, strategy) in [
        (Value::Null, Strategy::VendorOnly),
        (json!(0), Strategy::VendorElseOnline),
        (json!(1), Strategy::OnlineElseKept),
        (json!(2), Strategy::VendorOnly),
        (json!(3), Strategy::OnlineElseVendor),
        (json!(4), Strategy::PresentOnly),
    ] {
        let body = json!({ "strategy": given, "pushMessage": hello() });
        ok(easemob.cloud.post("/push/async/ann", Some(&body)).await.unwrap());
        assert_eq!(accepted(&easemob).await.strategy, strategy, "{given}");
    }
    let one_of = "strategy must be 0, 1, 2, 3 or 4";
    for (strategy, description) in [
        (json!(5), one_of),
        (json!(-1), one_of),
        (json!("3"), "strategy must be an integer"),
        (json!(1.5), "strategy must be an integer"),
        (json!([]), "strategy must be an integer"),
    ] {
        let body = json!({ "strategy": strategy, "pushMessage": hello() });
        let answer = easemob.cloud.post("/push/async/ann", Some(&body)).await.unwrap();
        refused(&answer, 400, "IllegalArgumentException", description);
    }
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_push_message_is_a_bad_request_that_says_what_is_wrong() {
    let easemob = Easemob::new().await;
    easemob.user("ann").await;
    let head = easemob.world.head().await;
    let long = "x".repeat(65_536);
    for (message, detail) in [
        (Value::Null, "pushMessage must be provided"),
        (json!("text"), "pushMessage must be an object"),
        (json!([]), "pushMessage must be an object"),
        (json!({ "title": 1 }), "title must be a string"),
        (json!({ "title": "x".repeat(33) }), "title must not be longer than 32 characters"),
        (json!({ "title": "安".repeat(17) }), "title must not be longer than 32 characters"),
        (json!({ "subTitle": "x".repeat(11) }), "subTitle must not be longer than 10 characters"),
        (json!({ "content": "x".repeat(101) }), "content must not be longer than 100 characters"),
        (json!({ "apns": [] }), "apns must be an object"),
        (json!({ "other": long }), "pushMessage must not be longer than 64 KiB"),
    ] {
        let body = json!({ "targets": ["ann"], "pushMessage": message });
        for path in ["/push/sync/ann", "/push/async/ann", "/push/single"] {
            let answer = easemob.cloud.post(path, Some(&body)).await.unwrap();
            refused(&answer, 400, "MessageException", "bad_request");
            assert_eq!(answer.1["detail"], detail);
        }
    }
    assert_eq!(easemob.world.head().await, head, "a refused push stored something");
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_worth_delivering_as_long_as_the_app_says() {
    let easemob = Easemob::with_clock().await;
    super::change_app(&easemob.world, json!({ "delivery": { "keepSeconds": 60 } })).await;
    let body = json!({ "pushMessage": hello() });
    ok(easemob.cloud.post("/push/async/ann", Some(&body)).await.unwrap());
    assert_eq!(accepted(&easemob).await.expires_at, 1_700_000_060_000_000);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_nobody_is_accepted_and_remembered_as_such() {
    let easemob = Easemob::new().await;
    let body = json!({ "pushMessage": hello() });
    for target in ["nobody", "a%20b", "%E5%AE%89"] {
        let path = format!("/push/async/{target}");
        ok(easemob.cloud.post(&path, Some(&body)).await.unwrap());
        let accepted = accepted(&easemob).await;
        assert_eq!((accepted.targets.len(), accepted.unresolved), (0, 1));
    }
    let answer = easemob.cloud.post("/push/async/a%00b", Some(&body)).await.unwrap();
    let description = "target must not contain U+0000";
    refused(&answer, 400, "IllegalArgumentException", description);
    easemob.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_jpush_takes_a_push_with_the_objects_of_all_its_vendors() {
    let (easemob, jpush) = super::tasks::audience().await;
    let message = json!({
        "title": "Hello", "content": "Hello",
        "config": { "clickAction": { "url": "https://a.example" }, "badge": { "addNum": 1 } },
        "apns": { "badge": 1, "sound": "ping", "mutableContent": true, "threadId": "t",
                  "interruptionLevel": "active", "titleLocKey": "k", "collapseId": "c" },
        "xiaomi": { "channelId": "c" },
        "vivo": { "classification": 1, "category": "IM", "pushMode": 0 },
        "oppo": { "channelId": "c" },
        "meizu": { "validTime": 1 },
        "huawei": { "message": { "android": { "category": "IM", "urgency": "NORMAL",
            "targetUserType": 1, "receiptId": "r",
            "notification": { "channelId": "c", "importance": "NORMAL" } } } },
        "honor": { "androidConfig": { "androidNotification": { "importance": "NORMAL" } } },
        "harmonyOS": { "category": "IM", "title": "t", "body": "b", "addNum": 1, "pushType": 0,
                       "isTestMessage": false, "uri": "app://order", "data": { "order": "7" } },
    });
    let push = json!({ "pushMessage": message });
    let answer = ok(easemob.cloud.post("/push/sync/u-0", Some(&push)).await.unwrap());
    assert_eq!(answer["data"][0]["pushStatus"], "SUCCESS", "{answer}");
    assert_eq!(jpush.accepted("token-0"), 1);
    let requests = jpush.requests();
    let sent = requests.iter().find(|request| request.path == "/v3/push").unwrap().json();
    let channels = sent["options"]["third_party_channel"].as_object().unwrap();
    let names: Vec<&str> = channels.keys().map(String::as_str).collect();
    assert_eq!(names, ["honor", "huawei", "oppo", "vivo", "xiaomi"]);
    easemob.world.stop().await;
}
