//! What a `pushMessage` may be, as Easemob's document "configure push notifications" says it.

use domain::{
    notification::{
        Badge, BadgeChange, ClickAction, DEFAULT_CONTENT, DEFAULT_TITLE, Fault, Malformed,
        Notification, VENDOR_NAMES, width,
    },
    object::{Object, raw},
};
use proptest::prelude::*;

fn parsed(text: &str) -> Notification {
    Notification::parse(text).unwrap()
}

fn refused(text: &str) -> (&'static str, Fault) {
    let Malformed { key, fault } = Notification::parse(text).unwrap_err();
    (key, fault)
}

#[test]
fn every_documented_name_is_understood() {
    let notification = parsed(
        r#"{"title":"Courier","subTitle":"Today","content":"Parcel at the door","ext":{"order":"7"},
            "config":{"clickAction":{"url":"https://a.example","action":"a.OPEN","activity":"a.Main"},
                      "badge":{"addNum":1,"setNum":0,"activity":"a.Main"}},
            "easemob":{"style":1},"apns":{"sound":"ping.caf"},"fcm":{},"fcmV1":{"type":"DATA"},
            "xiaomi":{},"vivo":{},"oppo":{},"meizu":{},"huawei":{},"honor":{},"harmonyOS":{}}"#,
    );
    assert_eq!(notification.title(), "Courier");
    assert_eq!(notification.sub_title.as_deref(), Some("Today"));
    assert_eq!(notification.content(), "Parcel at the door");
    assert_eq!(notification.ext.text(), r#"{"order":"7"}"#);
    let click = ClickAction {
        url: Some("https://a.example".to_owned()),
        action: Some("a.OPEN".to_owned()),
        activity: Some("a.Main".to_owned()),
    };
    assert_eq!(notification.click, click);
    let badge = Badge { change: Some(BadgeChange::Add(1)), activity: Some("a.Main".to_owned()) };
    assert_eq!(notification.badge, badge);
    assert_eq!(notification.vendors.len(), VENDOR_NAMES.len() - 1);
    assert_eq!(notification.vendor("fcmV1").text(), r#"{"type":"DATA"}"#);
    assert!(notification.others.is_empty() && !notification.silent);
}

#[test]
fn what_is_absent_null_or_empty_has_the_documented_default() {
    for text in [
        "{}",
        r#"{"title":null,"subTitle":null,"content":null,"ext":null,"config":null,"apns":null}"#,
        r#"{"title":"","subTitle":"","content":"","ext":{},"config":{"clickAction":null,"badge":{}}}"#,
    ] {
        let notification = parsed(text);
        assert_eq!(notification, Notification::default(), "{text}");
        assert_eq!(notification.title(), DEFAULT_TITLE);
        assert_eq!(notification.content(), DEFAULT_CONTENT);
    }
}

#[test]
fn the_subtitle_has_two_spellings_and_the_documented_one_wins() {
    assert_eq!(parsed(r#"{"sub_title":"b"}"#).sub_title.as_deref(), Some("b"));
    assert_eq!(parsed(r#"{"sub_title":"b","subTitle":"a"}"#).sub_title.as_deref(), Some("a"));
    assert_eq!(refused(r#"{"sub_title":7}"#), ("sub_title", Fault::NotText));
}

#[test]
fn a_refusal_names_the_key_that_is_wrong() {
    let cases = [
        ("[]", "pushMessage", Fault::NotAnObject),
        ("no json", "pushMessage", Fault::NotAnObject),
        (r#"{"title":7}"#, "title", Fault::NotText),
        (r#"{"subTitle":{}}"#, "subTitle", Fault::NotText),
        (r#"{"content":[]}"#, "content", Fault::NotText),
        (r#"{"ext":"a"}"#, "ext", Fault::NotAnObject),
        (r#"{"config":[]}"#, "config", Fault::NotAnObject),
        (r#"{"config":{"clickAction":"a"}}"#, "config.clickAction", Fault::NotAnObject),
        (r#"{"config":{"clickAction":{"url":1}}}"#, "config.clickAction.url", Fault::NotText),
        (r#"{"config":{"clickAction":{"action":1}}}"#, "config.clickAction.action", Fault::NotText),
        (
            r#"{"config":{"clickAction":{"activity":1}}}"#,
            "config.clickAction.activity",
            Fault::NotText,
        ),
        (r#"{"config":{"badge":1}}"#, "config.badge", Fault::NotAnObject),
        (r#"{"config":{"badge":{"addNum":"1"}}}"#, "config.badge.addNum", Fault::NotANumber),
        (r#"{"config":{"badge":{"setNum":1.5}}}"#, "config.badge.setNum", Fault::NotANumber),
        (r#"{"config":{"badge":{"activity":1}}}"#, "config.badge.activity", Fault::NotText),
        (r#"{"apns":"a"}"#, "apns", Fault::NotAnObject),
        (r#"{"harmonyOS":[]}"#, "harmonyOS", Fault::NotAnObject),
    ];
    for (text, key, fault) in cases {
        assert_eq!(refused(text), (key, fault), "{text}");
    }
    let said = Notification::parse(r#"{"config":{"badge":{"addNum":"1"}}}"#).unwrap_err();
    assert_eq!(said.to_string(), "config.badge.addNum must be an integer");
}

#[test]
fn a_chinese_character_counts_two_in_title_and_content_and_one_in_the_subtitle() {
    assert_eq!(width("ab环信，c"), 9);
    let title = |text: &str| Notification::parse(&format!(r#"{{"title":"{text}"}}"#));
    assert!(title(&"环".repeat(16)).is_ok() && title(&"a".repeat(32)).is_ok());
    let too_long = Malformed { key: "title", fault: Fault::TooLong(32) };
    assert_eq!(title(&"a".repeat(33)), Err(too_long.clone()));
    assert_eq!(title(&format!("a{}", "环".repeat(16))), Err(too_long));
    let content = |text: &str| Notification::parse(&format!(r#"{{"content":"{text}"}}"#));
    assert!(content(&"环".repeat(50)).is_ok() && content(&"环".repeat(51)).is_err());
    let sub_title = |text: &str| Notification::parse(&format!(r#"{{"subTitle":"{text}"}}"#));
    assert!(sub_title(&"环".repeat(10)).is_ok() && sub_title(&"环".repeat(11)).is_err());
}

#[test]
fn ext_has_ten_pairs_and_1024_characters_at_most() {
    let ext = |pairs: usize| {
        let mut ext = Object::new();
        (0..pairs).for_each(|at| ext.put(&format!("k{at}"), &at));
        format!(r#"{{"ext":{}}}"#, ext.text())
    };
    assert_eq!(parsed(&ext(10)).ext.len(), 10);
    assert_eq!(refused(&ext(11)), ("ext", Fault::TooMany(10)));
    let long = |length: usize| format!(r#"{{"ext":{{"k":"{}"}}}}"#, "环".repeat(length));
    assert_eq!(parsed(&long(1016)).ext.text().chars().count(), 1024);
    assert_eq!(refused(&long(1017)), ("ext", Fault::TooLong(1024)));
}

#[test]
fn the_badge_is_what_is_meant_by_two_numbers() {
    let badge =
        |numbers: &str| parsed(&format!(r#"{{"config":{{"badge":{numbers}}}}}"#)).badge.change;
    assert_eq!(badge(r#"{"addNum":0,"setNum":0}"#), None, "the document's template");
    assert_eq!(badge(r#"{"addNum":2,"setNum":0}"#), Some(BadgeChange::Add(2)));
    assert_eq!(badge(r#"{"addNum":2,"setNum":5}"#), Some(BadgeChange::Set(5)));
    assert_eq!(badge(r#"{"setNum":0}"#), Some(BadgeChange::Set(0)));
    assert_eq!(badge(r#"{"addNum":-1}"#), None);
    assert_eq!(badge(r#"{"setNum":-1}"#), None);
}

#[test]
fn names_that_nobody_knows_are_kept_and_ignored() {
    let notification = parsed(r#"{"agora":{"a":1},"title":"t","later":[1,2]}"#);
    assert_eq!(notification.others.text(), r#"{"agora":{"a":1},"later":[1,2]}"#);
    // Not a name of Easemob's: nobody promised what it is.
    assert_eq!(parsed(r#"{"jpush":7}"#).others.text(), r#"{"jpush":7}"#);
    assert_eq!(parsed(r#"{"jpush":{"a":7}}"#).vendor("jpush").text(), r#"{"a":7}"#);
}

#[test]
fn numbers_of_any_size_and_precision_pass_through() {
    let ext =
        r#"{"id":9007199254740993,"long":123456789012345678901234567890,"exact":0.10,"far":1e999}"#;
    let notification = parsed(&format!(r#"{{"ext":{ext},"huawei":{ext}}}"#));
    assert_eq!(notification.ext.text(), ext);
    assert_eq!(notification.vendor("huawei").text(), ext);
}

#[test]
fn a_payload_of_another_protocol_travels_in_base64_and_shows_nothing() {
    let notification = Notification::opaque(r#"{"n":1}"#);
    assert!(notification.silent);
    assert_eq!(notification.ext.text(), r#"{"content":"eyJuIjoxfQ=="}"#);
}

#[test]
fn the_last_of_equal_names_counts() {
    assert_eq!(Object::parse(r#"{"a":1,"b":2,"a":3}"#).unwrap().text(), r#"{"b":2,"a":3}"#);
    assert_eq!(parsed(r#"{"title":"a","title":"b"}"#).title(), "b");
}

#[test]
fn merging_lays_objects_over_each_other_and_replaces_the_rest() {
    let mut below = Object::parse(r#"{"a":{"x":1,"y":{"z":[1]}},"b":2,"c":3}"#).unwrap();
    let above = Object::parse(r#"{"a":{"y":{"z":[2],"w":null}},"b":{"n":1},"d":4}"#).unwrap();
    below.merge(above);
    let merged = r#"{"a":{"x":1,"y":{"z":[2],"w":null}},"b":{"n":1},"c":3,"d":4}"#;
    assert_eq!(below.text(), merged);
}

#[test]
fn deep_objects_are_merged_without_end_of_the_stack() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(50_000), "}".repeat(50_000));
    let deep = serde_json::value::RawValue::from_string(deep).unwrap();
    let mut below = Object::new();
    below.set("a", deep.clone());
    let mut above = Object::new();
    above.set("a", deep);
    below.merge(above.clone());
    assert_eq!(below.text(), above.text());
}

proptest! {
    #[test]
    fn any_text_is_understood_or_refused(text in "\\PC*") {
        let _ = Notification::parse(&text);
    }

    #[test]
    fn any_value_in_any_place_is_understood_or_refused(
        name in prop::sample::select(vec!["title", "subTitle", "content", "ext", "config", "apns"]),
        value in prop::sample::select(vec!["1", "\"a\"", "[]", "{}", "null", "true", "-1.5e3", "\"\\ud800\""]),
    ) {
        let _ = Notification::parse(&format!("{{\"{name}\":{value}}}"));
    }

    #[test]
    fn an_object_is_written_as_it_was_read(pairs in prop::collection::btree_map("[a-z]{1,4}", any::<i64>(), 0..8)) {
        let mut object = Object::new();
        for (name, value) in &pairs {
            object.set(name, raw(value));
        }
        prop_assert_eq!(Object::parse(&object.text()).unwrap(), object);
    }
}
