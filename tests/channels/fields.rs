//! Where each name of a `pushMessage` goes at each vendor: the table in `docs/vendors.md` is held to
//! the requests that are sent, and each name of a vendor's object that has a place at JPush to that
//! place.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    notification::VENDOR_NAMES,
    vendor::{ONLINE, Observes, Vendor, capabilities},
};
use serde_json::{Value, json};

use super::{body, request};

/// A row of the table, a notification without what it is about, and one with it.
const PROBES: [(&str, &str, &str); 21] = [
    ("title", "{}", r#"{"title":"t"}"#),
    ("subTitle", "{}", r#"{"subTitle":"t"}"#),
    ("content", "{}", r#"{"content":"t"}"#),
    ("ext", "{}", r#"{"ext":{"order":"7"}}"#),
    ("config.clickAction.url", "{}", r#"{"config":{"clickAction":{"url":"https://a.example"}}}"#),
    ("config.clickAction.action", "{}", r#"{"config":{"clickAction":{"action":"a.OPEN"}}}"#),
    ("config.clickAction.activity", "{}", r#"{"config":{"clickAction":{"activity":"a.Order"}}}"#),
    ("config.badge.addNum", "{}", r#"{"config":{"badge":{"addNum":2}}}"#),
    ("config.badge.setNum", "{}", r#"{"config":{"badge":{"setNum":2}}}"#),
    (
        "config.badge.activity",
        r#"{"config":{"badge":{"addNum":2}}}"#,
        r#"{"config":{"badge":{"addNum":2,"activity":"a.Main"}}}"#,
    ),
    (
        "easemob",
        "{}",
        r#"{"easemob":{"title":"t","iconUrl":"https://a.example/i","needNotification":false,"badge":{"setNum":1},
            "operation":{"type":1,"openUrl":"https://a.example"},"channelId":"c","id":7}}"#,
    ),
    (
        "apns",
        "{}",
        r#"{"apns":{"invalidationTime":600000,"priority":5,"collapseId":"c","apnsId":"i","badge":4,
            "sound":"s","mutableContent":true,"contentAvailable":1,"categoryName":"c",
            "threadId":"t","title":"t","subTitle":"s","content":"c","titleLocKey":"k",
            "titleLocArgs":["a"],"subTitleLocKey":"k","subTitleLocArgs":["a"],"bodyLocKey":"k",
            "bodyLocArgs":["a"],"launchImage":"l","interruptionLevel":"passive",
            "ext":{"order":"7"}}}"#,
    ),
    (
        "fcm",
        "{}",
        r#"{"fcm":{"collapseKey":"c","priority":"normal","timeToLive":60,"dryRun":true,
            "restrictedPackageName":"p","data":{"order":"7"},"notification":{"title":"t",
            "body":"b","androidChannelId":"c","icon":"i"}}}"#,
    ),
    (
        "fcmV1",
        "{}",
        r#"{"fcmV1":{"data":{"order":"7"},"notification":{"title":"t","image":"i"},
            "androidConfig":{"collapseKey":"c","priority":"NORMAL","ttl":"60s",
            "androidNotification":{"channelId":"c"}},"webPushConfig":{"headers":{"TTL":"60"}},
            "apnsConfig":{"headers":{"apns-collapse-id":"c"}},"options":{"analyticsLabel":"l"}}}"#,
    ),
    ("xiaomi", "{}", r#"{"xiaomi":{"title":"t","channelId":"c","notifyId":7}}"#),
    (
        "vivo",
        "{}",
        r#"{"vivo":{"title":"t","classification":1,"category":"IM","pushMode":1,"notifyId":7}}"#,
    ),
    ("oppo", "{}", r#"{"oppo":{"title":"t","channelId":"c","offLineTtl":60}}"#),
    ("meizu", "{}", r#"{"meizu":{"title":"t","validTime":1,"notifyKey":"k"}}"#),
    (
        "huawei",
        "{}",
        r#"{"huawei":{"validateOnly":true,"message":{"android":{"urgency":"NORMAL",
            "category":"IM","receiptId":"r","targetUserType":1,"collapseKey":1,"notification":{
            "channelId":"c","importance":"LOW","title":"t"}}},"review":{"reviewSign":"s"}}}"#,
    ),
    (
        "honor",
        "{}",
        r#"{"honor":{"data":"d","androidConfig":{"ttl":"60s","androidNotification":{"title":"t",
            "importance":"LOW"}}}}"#,
    ),
    (
        "harmonyOS",
        "{}",
        r#"{"harmonyOS":{"pushType":0,"isTestMessage":true,"receiptId":"r","category":"IM",
            "title":"t","body":"b","addNum":1,"uri":"app://order","data":{"order":"7"}}}"#,
    ),
];

/// What a request says: each value at its path, and each header.
fn leaves(vendor: Vendor, text: &str) -> BTreeMap<String, Value> {
    fn walk(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(value, &path, found);
                }
            }
            other => drop(found.insert(path.to_owned(), other.clone())),
        }
    }
    let mut found = BTreeMap::new();
    walk(&body(vendor, text), "", &mut found);
    let headers = request(vendor, text).headers.into_iter();
    found.extend(headers.map(|(name, value)| (format!("header {name}"), json!(value))));
    found
}

/// The paths at which a name changes a request.
fn changed(vendor: Vendor, before: &str, after: &str) -> BTreeSet<String> {
    let before = leaves(vendor, before);
    let after = leaves(vendor, after).into_iter();
    after.filter(|(path, value)| before.get(path) != Some(value)).map(|(path, _)| path).collect()
}

/// Whether a cell's path covers what changed. `*` is any name at the top that is the sender's own.
fn covers(path: &str, changed: &str) -> bool {
    let own = !changed.starts_with("aps.") && !changed.starts_with("header ");
    path == changed
        || changed.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
        || (path == "*" && own)
}

/// The cells of the table by row, in the order of the vendors.
fn table() -> BTreeMap<&'static str, Vec<&'static str>> {
    let page = include_str!("../../docs/vendors.md");
    let (_, section) = page.split_once("### Where each name goes").expect("the section");
    let (section, _) = section.split_once("\n### ").unwrap_or((section, ""));
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    let rows = rows.take_while(|line| line.starts_with("| `"));
    let row = |line: &'static str| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        (cells.next().unwrap().trim_matches('`'), cells.collect())
    };
    rows.map(row).collect()
}

#[test]
fn the_table_of_what_each_channel_tells_is_what_statistics_go_by() {
    let page = include_str!("../../docs/vendors.md");
    let (_, section) = page.split_once("### What each channel is bound to tell").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<(&str, [bool; 3])> = rows
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let name = cells.next().unwrap().trim_matches('`');
            let says: Vec<bool> = cells.map(|cell| cell == "yes").collect();
            (name, says.try_into().unwrap())
        })
        .collect();
    let of = |tells: Observes| [tells.received, tells.displayed, tells.clicked];
    let vendors = Vendor::ALL.into_iter().map(|own| (own.name(), of(capabilities(own))));
    let expected: Vec<_> = std::iter::once(("online", of(ONLINE))).chain(vendors).collect();
    assert_eq!(listed, expected);
}

fn paths(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_names_says_where_each_goes_and_nothing_else() {
    let table = table();
    for (row, before, after) in PROBES {
        let cells = table.get(row).unwrap_or_else(|| panic!("the table has no row {row}"));
        assert_eq!(cells.len(), Vendor::ALL.len(), "{row}: {cells:?}");
        for (vendor, cell) in Vendor::ALL.into_iter().zip(cells) {
            let changed = changed(vendor, before, after);
            let (at, name) = (paths(cell), vendor.name());
            if let Some(reason) = cell.strip_prefix("– ") {
                assert!(reason.len() > 2, "{row} has no place at {name}, and the table no reason");
                assert!(changed.is_empty(), "{row} goes to {changed:?} at {name}");
                continue;
            }
            assert!(!at.is_empty(), "{row} at {name} is neither a place nor a reason: {cell}");
            for path in &at {
                let used = changed.iter().any(|changed| covers(path, changed));
                assert!(used, "{row} does not go to {path} at {name}, but to {changed:?}");
            }
            for changed in &changed {
                let told = at.iter().any(|path| covers(path, changed));
                assert!(told, "{row} goes to {changed} at {name}, which the table does not say");
            }
        }
    }
    let rows: BTreeSet<&str> = table.keys().copied().collect();
    let probed: BTreeSet<&str> = PROBES.iter().map(|(row, ..)| *row).collect();
    assert_eq!(rows, probed);
    let names: BTreeSet<&str> = rows.iter().filter_map(|row| row.split('.').next()).collect();
    let own = VENDOR_NAMES.into_iter().filter(|name| *name != "jpush");
    let documented: BTreeSet<&str> =
        ["title", "subTitle", "content", "ext", "config"].into_iter().chain(own).collect();
    assert_eq!((names.len(), &names), (16, &documented));
}

#[test]
fn jpush_gets_the_objects_of_its_vendors_in_its_own_names() {
    let text = |name: &str| PROBES.iter().find(|(row, ..)| *row == name).unwrap().2;
    let channels = |name| body(Vendor::Jpush, text(name))["options"]["third_party_channel"].clone();
    for (name, expected) in [
        ("xiaomi", json!({ "channel_id": "c" })),
        ("vivo", json!({ "classification": 1, "category": "IM", "push_mode": 1 })),
        ("oppo", json!({ "channel_id": "c" })),
        (
            "huawei",
            json!({ "category": "IM", "urgency": "NORMAL", "receipt_id": "r",
                    "target_user_type": 1, "channel_id": "c", "importance": "LOW" }),
        ),
        ("honor", json!({ "importance": "LOW" })),
    ] {
        assert_eq!(channels(name), json!({ name: expected }));
    }
    assert_eq!(channels("meizu"), Value::Null);
    let apns = body(Vendor::Jpush, text("apns"));
    assert_eq!(apns["options"]["apns_collapse_id"], "c");
    assert_eq!(
        apns["notification"]["ios"],
        json!({
            "alert": { "title": "t", "subtitle": "s", "body": "c", "title-loc-key": "k",
                       "title-loc-args": ["a"], "subtitle-loc-key": "k",
                       "subtitle-loc-args": ["a"], "loc-key": "k", "loc-args": ["a"],
                       "launch-image": "l" },
            "sound": "s", "badge": 4, "category": "c", "thread-id": "t",
            "interruption-level": "passive", "mutable-content": true, "content-available": true,
            "extras": { "messageId": "1700000000000000001", "order": "7" },
        })
    );
    let hmos = body(Vendor::Jpush, text("harmonyOS"))["notification"]["hmos"].clone();
    assert_eq!(
        hmos,
        json!({
            "alert": "b", "title": "t", "category": "IM", "test_message": true, "receipt_id": "r",
            "badge_add_num": 1, "push_type": 0, "intent": { "url": "app://order" },
            "extras": { "messageId": "1700000000000000001", "order": "7" },
        })
    );
}

#[test]
fn the_object_in_jpush_s_own_names_is_laid_over_those_of_its_vendors() {
    let sent = body(
        Vendor::Jpush,
        r#"{"xiaomi":{"channelId":"c"},"apns":{"sound":"s"},"jpush":{"notification":{"ios":{"sound":"own"}},
            "options":{"third_party_channel":{"xiaomi":{"skip_quota":true},"huawei":{"importance":"LOW"}}}}}"#,
    );
    assert_eq!(
        sent["options"]["third_party_channel"],
        json!({ "xiaomi": { "channel_id": "c", "skip_quota": true },
                "huawei": { "importance": "LOW" } })
    );
    assert_eq!(sent["notification"]["ios"]["sound"], "own");
}

#[test]
fn what_a_vendor_cannot_do_by_itself_travels_as_a_pair_that_the_sender_can_take() {
    let click = r#"{"config":{"clickAction":{"url":"https://a.example","activity":"a.Order"},
                    "badge":{"addNum":3}}}"#;
    let action = json!({ "url": "https://a.example", "activity": "a.Order" });
    let apns = body(Vendor::Apns, click);
    assert_eq!((&apns["clickAction"], &apns["badgeAddNum"]), (&action, &json!(3)));
    let fcm = body(Vendor::Fcm, click)["message"]["data"].clone();
    let text: Value = serde_json::from_str(fcm["clickAction"].as_str().unwrap()).unwrap();
    assert_eq!((&text, &fcm["badgeAddNum"]), (&action, &json!("3")));
    let ios = body(Vendor::Jpush, click)["notification"]["ios"].clone();
    assert_eq!((&ios["extras"]["clickAction"], &ios["badge"]), (&action, &json!("+3")));
    // A pair of the sender's with that name stays as it is.
    let own = click.replacen('{', r#"{"ext":{"clickAction":"mine","badgeAddNum":"mine"},"#, 1);
    for sent in [body(Vendor::Apns, &own), body(Vendor::Fcm, &own)["message"]["data"].clone()] {
        assert_eq!((&sent["clickAction"], &sent["badgeAddNum"]), (&json!("mine"), &json!("mine")));
    }
}
