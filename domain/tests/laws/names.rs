//! Names and numbers that other parts store or send: of streams, messages, states and metadata.

use domain::{IdempotencyRef, Metadata, Rejection, Stream, device::Status, message::MessageId};
use proptest::prelude::*;
use uuid::Uuid;

#[test]
fn streams_are_named_by_their_kind_and_id() {
    let id = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    let text = "01900000-0000-7000-8000-000000000001";
    for (stream, name) in [
        (Stream::App("a/b".to_owned()), "app/a/b".to_owned()),
        (Stream::Account(id), format!("account/{text}")),
        (Stream::Device(id), format!("device/{text}")),
        (Stream::Owner(id), format!("owner/{text}")),
        (Stream::Label(id), format!("label/{text}")),
        (Stream::Message(MessageId(17)), "message/17".to_owned()),
        (Stream::Task(MessageId(17)), "task/17".to_owned()),
        (Stream::Chunk(MessageId(17), 3), "task/17/chunk/3".to_owned()),
        (Stream::Presence(id), format!("presence/{text}")),
        (Stream::Uplink(id), format!("uplink/{text}")),
        (Stream::Callbacks(id), format!("callbacks/{text}")),
    ] {
        assert_eq!(stream.to_string(), name);
        assert_eq!(name.parse::<Stream>().unwrap(), stream);
    }
}

#[test]
fn what_is_no_stream_is_not_taken_for_one() {
    for text in [
        "",
        "app",
        "device/17",
        "message/",
        "message/-1",
        "message/x",
        "task/x",
        "task/1/chunk/x",
        "/",
        "a/b",
    ] {
        assert!(text.parse::<Stream>().is_err(), "{text:?}");
    }
}

#[test]
fn a_message_id_is_1_to_19_digits_and_nothing_else() {
    for (text, number) in [("0", 0), ("17", 17), ("9223372036854775807", i64::MAX)] {
        assert_eq!(text.parse::<MessageId>(), Ok(MessageId(number)));
    }
    let nine = "9".repeat(19);
    for text in ["", "-1", "+1", " 1", "1 ", "1.0", "１", "abc", &nine, &"0".repeat(20)] {
        assert_eq!(text.parse::<MessageId>(), Err(Rejection::UnknownMessage), "{text:?}");
    }
}

#[test]
fn the_numbers_of_a_registration_are_the_protocols() {
    for (number, status) in
        [(1, Status::Registered), (2, Status::Unregistered), (3, Status::Updated)]
    {
        assert_eq!(status as i64, number);
        assert_eq!(Status::from_number(number), Some(status));
    }
    for number in [-1, 0, 4] {
        assert_eq!(Status::from_number(number), None);
    }
}

#[test]
fn metadata_is_stored_without_what_it_does_not_know() {
    let bare =
        Metadata { actor: "server".to_owned(), via: "internal".to_owned(), ..Metadata::default() };
    let full = Metadata {
        actor: "operator:3".to_owned(),
        via: "admin".to_owned(),
        request: Some("r-1".to_owned()),
        causation: Some(17),
        idempotency: Some(IdempotencyRef { key: "aa".to_owned(), request: "bb".to_owned() }),
    };
    for (metadata, text) in [
        (bare, r#"{"actor":"server","via":"internal"}"#),
        (
            full,
            concat!(
                r#"{"actor":"operator:3","via":"admin","request":"r-1","causation":17,"#,
                r#""idempotency":{"key":"aa","request":"bb"}}"#
            ),
        ),
    ] {
        assert_eq!(serde_json::to_string(&metadata).unwrap(), text);
        assert_eq!(serde_json::from_str::<Metadata>(text).unwrap(), metadata);
    }
}

proptest! {
    #[test]
    fn the_name_of_a_stream_leads_back_to_it(app in any::<String>(), id: u128, number in 0i64..) {
        let id = Uuid::from_u128(id);
        for stream in [
            Stream::App(app),
            Stream::Account(id),
            Stream::Device(id),
            Stream::Owner(id),
            Stream::Label(id),
            Stream::Message(MessageId(number)),
        ] {
            prop_assert_eq!(stream.to_string().parse::<Stream>().unwrap(), stream);
        }
    }

    #[test]
    fn no_text_breaks_the_parsers(text in any::<String>()) {
        let parsed: Result<MessageId, _> = text.parse();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert!(parsed.is_err() || digits);
        if let Ok(stream) = text.parse::<Stream>() {
            prop_assert!(matches!(stream, Stream::App(_)) || text.contains('/'));
        }
    }
}
