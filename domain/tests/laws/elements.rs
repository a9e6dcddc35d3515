//! What a message of a conversation is made of, and what a push vendor shows of it.

use domain::{
    chat::{
        elements::{Elements, Malformed},
        shown::{MAX_PUSH_BYTES, Wishes},
    },
    notification::{BadgeChange, Notification},
};

fn body(elements: &[(&str, &str)]) -> String {
    let element = |(kind, content): &(&str, &str)| {
        format!(r#"{{"MsgType":"{kind}","MsgContent":{content}}}"#)
    };
    format!("[{}]", elements.iter().map(element).collect::<Vec<_>>().join(","))
}

/// A good content of each kind.
const GOOD: [(&str, &str); 8] = [
    ("TIMTextElem", r#"{"Text":"hi"}"#),
    ("TIMLocationElem", r#"{"Desc":"here","Latitude":29.340656774469956,"Longitude":116}"#),
    ("TIMFaceElem", r#"{"Index":1,"Data":"smile"}"#),
    ("TIMCustomElem", r#"{"Data":"d","Desc":"order","Ext":"e","Sound":"s.aiff"}"#),
    ("TIMSoundElem", r#"{"Url":"u","UUID":"i","Size":1,"Second":2,"Download_Flag":2}"#),
    (
        "TIMImageElem",
        r#"{"UUID":"i","ImageFormat":255,"ImageInfoArray":[{"Type":1,"Size":1,"Width":1,"Height":1,"URL":"u"}]}"#,
    ),
    ("TIMFileElem", r#"{"Url":"u","UUID":"i","FileSize":1,"FileName":"f","Download_Flag":2}"#),
    (
        "TIMVideoFileElem",
        r#"{"VideoUrl":"u","VideoUUID":"i","VideoSize":1,"VideoSecond":1,"VideoFormat":"mp4","VideoDownloadFlag":2,"ThumbUrl":"u","ThumbUUID":"i","ThumbSize":1,"ThumbWidth":1,"ThumbHeight":1,"ThumbFormat":"JPG","ThumbDownloadFlag":2}"#,
    ),
];

#[test]
fn every_kind_of_element_is_taken_and_shown_one_after_the_other() {
    let all = Elements::parse(&body(&GOOD)).unwrap();
    let shown = "hi[位置][表情]order[语音][图片][文件][视频]";
    assert_eq!((all.shown.as_deref(), all.text.as_str()), (Some(shown), "hi\n"));
    let data = Elements::parse(&body(&[("TIMCustomElem", r#"{"Data":"d"}"#)])).unwrap();
    assert_eq!(data.shown, None);
    // What older clients send says not where it lies.
    let old = ("TIMSoundElem", r#"{"UUID":"i","Size":1,"Second":2}"#);
    assert!(Elements::parse(&body(&[old])).is_ok());
}

#[test]
fn a_field_that_is_missing_or_of_another_type_is_refused() {
    for (kind, content) in [
        ("TIMTextElem", "{}"),
        ("TIMTextElem", r#"{"Text":1}"#),
        ("TIMLocationElem", r#"{"Latitude":"1","Longitude":1}"#),
        ("TIMFaceElem", r#"{"Index":"1"}"#),
        ("TIMFaceElem", r#"{"Index":-1}"#),
        ("TIMCustomElem", r#"{"Data":{}}"#),
        ("TIMSoundElem", r#"{"UUID":"i","Size":1,"Second":2,"Download_Flag":1}"#),
        ("TIMImageElem", r#"{"UUID":"i","ImageFormat":5,"ImageInfoArray":[]}"#),
        ("TIMImageElem", r#"{"UUID":"i","ImageFormat":1,"ImageInfoArray":[]}"#),
        ("TIMImageElem", r#"{"UUID":"i","ImageFormat":1,"ImageInfoArray":[{"Type":4}]}"#),
        ("TIMFileElem", r#"{"UUID":"i","FileSize":1}"#),
        ("TIMVideoFileElem", r#"{"VideoUUID":"i"}"#),
        ("TIMOtherElem", "{}"),
    ] {
        let parsed = Elements::parse(&body(&[(kind, content)]));
        assert_eq!(parsed, Err(Malformed::Content), "{kind} {content}");
    }
    assert_eq!(Elements::parse("[]"), Err(Malformed::Content));
    assert_eq!(Elements::parse(&body(&[GOOD[3], GOOD[3]])), Err(Malformed::Content));
    for text in ["{}", "1", "\"x\"", "null", "["] {
        assert_eq!(Elements::parse(text), Err(Malformed::NotAList), "{text}");
    }
    for text in [
        "[1]",
        "[[]]",
        "[{}]",
        r#"[{"MsgType":"TIMTextElem"}]"#,
        r#"[{"MsgType":1,"MsgContent":{}}]"#,
    ] {
        assert_eq!(Elements::parse(text), Err(Malformed::NotAnElement), "{text}");
    }
}

#[test]
fn wishes_of_another_type_range_or_length_are_malformed() {
    for good in ["{}", r#"{"PushFlag":1}"#, r#"{"Ext":"{\"a\":1}","Desc":"x","Unknown":[]}"#] {
        assert!(Wishes::parse(good).is_ok(), "{good}");
    }
    let long = format!(r#"{{"Desc":"{}"}}"#, "x".repeat(MAX_PUSH_BYTES + 1));
    for bad in [
        "[]",
        "1",
        "null",
        r#"{"PushFlag":2}"#,
        r#"{"PushFlag":"0"}"#,
        r#"{"Title":1}"#,
        r#"{"Ext":"no json"}"#,
        r#"{"AndroidInfo":[]}"#,
        r#"{"AndroidInfo":{"HuaWeiImportance":"HIGH"}}"#,
        r#"{"AndroidInfo":{"VIVOClassification":2}}"#,
        r#"{"ApnsInfo":{"BadgeMode":2}}"#,
        &long,
    ] {
        assert!(Wishes::parse(bad).is_err(), "{bad:.60}");
    }
}

#[test]
fn no_vendor_is_asked_if_the_sender_says_so_or_there_is_nothing_to_show() {
    let nothing = |wishes: Option<&str>, elements: &[(&str, &str)]| {
        let wishes = wishes.map(|wishes| Wishes::parse(wishes).unwrap());
        Wishes::nothing(wishes.as_ref(), &Elements::parse(&body(elements)).unwrap())
    };
    let data = [("TIMCustomElem", r#"{"Data":"d"}"#)];
    assert!(!nothing(None, &GOOD[..1]));
    assert!(nothing(Some(r#"{"PushFlag":1}"#), &GOOD[..1]));
    assert!(nothing(None, &data) && nothing(Some("{}"), &data));
    assert!(!nothing(Some(r#"{"Desc":"look"}"#), &data));
}

fn shown(body: &str, push: &str) -> Notification {
    let payload = format!(
        r#"{{"From_Account":"a","To_Account":"b","MsgSeq":1,"MsgRandom":2,"MsgTime":3,"MsgKey":"1_2_3","MsgBody":{body}{push}}}"#
    );
    Notification::of_chat(&payload).unwrap()
}

#[test]
fn wishes_replace_what_the_elements_say_of_pushes() {
    let own = shown(&body(&GOOD[3..4]), "");
    assert_eq!((own.title.as_deref(), own.content.as_deref()), (None, Some("order")));
    assert_eq!(own.ext.read::<String>("ext").as_deref(), Some("e"));
    assert_eq!(own.vendor("apns").text(), r#"{"sound":"s.aiff"}"#);
    assert_eq!(own.badge.change, Some(BadgeChange::Add(1)));
    let push = r#","OfflinePushInfo":{"Title":"T","Desc":"D","Ext":"{}",
        "AndroidInfo":{"Sound":"a.mp3","HuaWeiChannelID":"h","HuaWeiImportance":"LOW",
            "XiaoMiChannelID":"x","OPPOChannelID":"o","GoogleChannelID":"g","VIVOClassification":1},
        "ApnsInfo":{"Sound":"b.caf","BadgeMode":1,"Title":"AT","SubTitle":"S","Image":"i",
            "MutableContent":1}}"#;
    let wished = shown(&body(&GOOD[3..4]), push);
    let texts = (wished.title.as_deref(), wished.content.as_deref(), wished.sub_title.as_deref());
    assert_eq!(texts, (Some("T"), Some("D"), Some("S")));
    assert_eq!(wished.ext.read::<String>("ext").as_deref(), Some("{}"));
    assert_eq!(wished.badge.change, None);
    for (vendor, text) in [
        ("apns", r#"{"sound":"b.caf","title":"AT","ext":{"image":"i"},"mutableContent":true}"#),
        (
            "huawei",
            r#"{"message":{"android":{"notification":{"channelId":"h","importance":"LOW","sound":"a.mp3"}}}}"#,
        ),
        ("fcmV1", r#"{"androidConfig":{"androidNotification":{"channelId":"g","sound":"a.mp3"}}}"#),
        ("xiaomi", r#"{"channelId":"x"}"#),
        ("oppo", r#"{"channelId":"o"}"#),
        ("vivo", r#"{"classification":1}"#),
    ] {
        assert_eq!(wished.vendor(vendor).text(), text, "{vendor}");
    }
    // Nothing of the element's own is left.
    let bare = shown(&body(&GOOD[3..4]), r#","OfflinePushInfo":{}"#);
    assert!(bare.ext.is_empty() && bare.vendors.is_empty());
    assert_eq!(bare.content.as_deref(), Some("order"));
}
