//! A chat message at a push vendor: what its sender wishes to be shown, in each vendor's words.

use domain::vendor::Vendor;
use serde_json::{Value, json};

use super::line::{House, Line, name};
use crate::{
    easemob::Easemob,
    tencent::{IMPORT_MANY, Tencent, message_with},
};

/// All that `OfflinePushInfo` can say.
fn wishes() -> Value {
    let android = json!({ "Sound": "bell.mp3", "HuaWeiChannelID": "hw", "XiaoMiChannelID": "mi",
        "OPPOChannelID": "op", "GoogleChannelID": "goo", "VIVOClassification": 1,
        "HuaWeiImportance": "NORMAL", "ExtAsHuaweiIntentParam": 1 });
    let apns = json!({ "Sound": "bell.caf", "BadgeMode": 1, "Title": "for Apple",
        "SubTitle": "second", "Image": "https://example.com/i.png", "MutableContent": 1 });
    json!({ "PushFlag": 0, "Title": "A red packet", "Desc": "from Ann",
            "Ext": r#"{"entity":{"k":"v"}}"#, "AndroidInfo": android, "ApnsInfo": apns })
}

/// The body that a vendor gets of a message of Ann's to one whose device is away.
async fn pushed(vendor: Vendor, info: Value) -> Value {
    let Line { easemob: Easemob { world, .. }, house, .. } = Line::of(vendor, 1).await;
    crate::tencent::speak(&world, json!({})).await;
    let path = format!("/admin/v1/apps/demo/accounts/easemob/{}/addresses", name(0));
    let linked = world.admin.put(&path, Some(&json!({ "tencent": "dora" }))).await.unwrap();
    assert_eq!(linked.0, 204, "{}", linked.1);
    let tencent = Tencent { world };
    let accounts = json!({ "Accounts": ["Ann"] });
    assert_eq!(tencent.call(IMPORT_MANY, &accounts).await["ErrorCode"], 0);
    let to = json!({ "To_Account": "dora", "OfflinePushInfo": info });
    tencent.send(&message_with(1, to)).await;
    house.answered(1).await;
    let body = body(&house);
    tencent.world.stop().await;
    body
}

fn body(house: &House) -> Value {
    let pushes = house.pushes();
    assert_eq!((pushes.len(), pushes[0].status), (1, Some(200)), "{pushes:?}");
    serde_json::from_str(&pushes[0].body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sender_wishes_is_shown_in_each_vendors_words() {
    let fcm = "/message/android/notification";
    let huawei = "/message/android/notification";
    for (vendor, wanted) in [
        (
            Vendor::Jpush,
            vec![
                ("/notification/android/title", json!("A red packet")),
                ("/notification/android/alert", json!("from Ann")),
                ("/notification/ios/alert/subtitle", json!("second")),
                ("/notification/ios/badge", Value::Null),
            ],
        ),
        (
            Vendor::Fcm,
            vec![
                ("/message/notification/title", json!("A red packet")),
                ("/message/notification/body", json!("from Ann")),
                (&format!("{fcm}/channel_id"), json!("goo")),
                (&format!("{fcm}/sound"), json!("bell.mp3")),
            ],
        ),
        (
            Vendor::Apns,
            vec![
                ("/aps/alert/title", json!("for Apple")),
                ("/aps/alert/subtitle", json!("second")),
                ("/aps/alert/body", json!("from Ann")),
                ("/aps/sound", json!("bell.caf")),
                ("/aps/mutable-content", json!(1)),
                ("/aps/badge", Value::Null),
                ("/image", json!("https://example.com/i.png")),
            ],
        ),
        (
            Vendor::Huawei,
            vec![
                (&format!("{huawei}/title"), json!("A red packet")),
                (&format!("{huawei}/body"), json!("from Ann")),
                (&format!("{huawei}/channel_id"), json!("hw")),
                (&format!("{huawei}/importance"), json!("NORMAL")),
                (&format!("{huawei}/sound"), json!("bell.mp3")),
                (&format!("{huawei}/badge"), Value::Null),
                // Which page of the app to open nobody says, so there is no intent to carry `Ext`.
                (&format!("{huawei}/click_action"), json!({ "type": 3 })),
            ],
        ),
    ] {
        let body = pushed(vendor, wishes()).await;
        for (pointer, value) in wanted {
            let found = body.pointer(pointer).unwrap_or(&Value::Null);
            assert_eq!(found, &value, "{vendor:?}, {pointer}: {body}");
        }
        // What the sender has for the app itself goes with it.
        assert!(body.to_string().contains("entity"), "{vendor:?}: {body}");
        // Without wishes its text is shown, and the number on the icon grows.
        let body = pushed(vendor, json!({ "PushFlag": 0 })).await;
        assert!(body.to_string().contains("red packet"), "{vendor:?}: {body}");
        let (grows, by) = match vendor {
            Vendor::Jpush => ("/notification/ios/badge", json!("+1")),
            Vendor::Fcm => ("/message/data/badgeAddNum", json!("1")),
            // Its number cannot be added to; the app can do it.
            Vendor::Apns => ("/badgeAddNum", json!(1)),
            Vendor::Huawei => ("/message/android/notification/badge/add_num", json!(1)),
        };
        assert_eq!(body.pointer(grows), Some(&by), "{vendor:?}: {body}");
    }
}
