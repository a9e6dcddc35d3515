//! Old schemas of an event are read as today's. As no event has a second schema yet, the chain is
//! tested with forms that `owner.set` never had.

use domain::{
    Event,
    event::Unreadable,
    object::Object,
    owner::{OwnerPrivate, OwnerSet},
    upcast::{Halves, UPCASTERS, Upcaster},
};
use serde::de::Error as _;
use uuid::Uuid;

const ANN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000a);

/// Schema −1 called the account its owner, and schema 0 kept the key in two halves.
const OF_A_TEST: &[Upcaster] = &[
    Upcaster {
        name: "owner.set",
        from: -1,
        change: |mut halves| {
            let owner = halves.body.take("owner").ok_or_else(|| missing("owner"))?;
            halves.body.set("account", owner);
            Ok(halves)
        },
    },
    Upcaster {
        name: "owner.set",
        from: 0,
        change: |mut halves| {
            let half = |name| halves.body.read::<String>(name).ok_or_else(|| missing(name));
            let key = half("left")? + &half("right")?;
            halves.body.put("bind_key", &key);
            if let Some(private) = &mut halves.private {
                let device = private.take("mac").ok_or_else(|| missing("mac"))?;
                private.set("device_id", device);
            }
            Ok(halves)
        },
    },
];

fn missing(name: &str) -> serde_json::Error {
    serde_json::Error::custom(format!("{name} is missing"))
}

const OLDEST: &str =
    r#"{"owner":"01900000-0000-7000-8000-00000000000a","left":"9f86","right":"d081"}"#;
const PRIVATE: &str = r#"{"mac":"0007A8"}"#;

fn set(device: Option<&str>) -> Event {
    let private = device.map(|device| OwnerPrivate { device_id: device.to_owned() });
    OwnerSet { account: ANN, bind_key: "9f86d081".to_owned(), private }.into()
}

fn read(schema: i32, body: &str, private: Option<&str>) -> Result<Event, Unreadable> {
    Event::decode_with(OF_A_TEST, "owner.set", schema, body, private)
}

#[test]
fn an_event_of_an_old_schema_is_read_by_every_change_since_one_after_the_other() {
    assert_eq!(read(-1, OLDEST, Some(PRIVATE)).unwrap(), set(Some("0007A8")));
    let newer = OLDEST.replace("owner", "account");
    assert_eq!(read(0, &newer, Some(PRIVATE)).unwrap(), set(Some("0007A8")));
    let today = set(Some("0007A8"));
    assert_eq!((today.name(), today.schema()), ("owner.set", 1), "it is today's event then");
    let (body, private) = today.encode().unwrap();
    assert_eq!(read(1, &body, private.as_deref()).unwrap(), today, "today's is not changed");
}

#[test]
fn an_erased_event_of_an_old_schema_is_read_as_an_erased_one() {
    assert_eq!(read(-1, OLDEST, None).unwrap(), set(None));
}

#[test]
fn a_schema_that_nothing_leads_from_is_unknown_and_a_body_that_does_not_fit_is_told_so() {
    for schema in [-2, 2, i32::MAX, i32::MIN] {
        let unknown = read(schema, OLDEST, None);
        assert!(matches!(&unknown, Err(Unreadable::Unknown { schema: s, .. }) if *s == schema));
    }
    let other = Event::decode_with(OF_A_TEST, "owner.removed", 0, "{}", None);
    assert!(matches!(other, Err(Unreadable::Unknown { .. })));
    for (body, private) in [("[]", None), ("{}", None), (OLDEST, Some("{}")), (OLDEST, Some("7"))] {
        let event = read(-1, body, private);
        assert!(matches!(event, Err(Unreadable::Body { .. })), "{body} {private:?}: {event:?}");
    }
}

#[test]
fn why_an_event_cannot_be_read_never_quotes_what_is_private_in_it() {
    let (body, _) = set(Some("0007A8")).encode().unwrap();
    let wrong = r#""words-of-somebody""#;
    for (schema, body) in [(1, body.as_str()), (-1, OLDEST)] {
        let told = read(schema, body, Some(wrong)).unwrap_err().to_string();
        assert!(told.contains("owner.set") && !told.contains("somebody"), "{told}");
    }
    // What is not private is told, to find out what is wrong.
    let told = read(1, wrong, None).unwrap_err().to_string();
    assert!(told.contains("somebody"), "{told}");
}

#[test]
fn values_that_an_upcaster_does_not_touch_stay_as_they_were_written() {
    let text = r#"{"payload":{"n":1.000000000000000000001,"e":1e400},"old":true}"#;
    let halves = Halves { body: Object::parse(text).unwrap(), private: None };
    let mut body = halves.body;
    body.take("old");
    assert_eq!(body.text(), r#"{"payload":{"n":1.000000000000000000001,"e":1e400}}"#);
}

#[test]
fn from_every_schema_that_an_event_ever_had_upcasters_lead_to_todays() {
    for (name, schema) in Event::ALL {
        let leads = |from: i32| {
            UPCASTERS.iter().filter(move |upcaster| (upcaster.name, upcaster.from) == (*name, from))
        };
        assert!((1..*schema).all(|from| leads(from).count() == 1), "{name} to {schema}");
    }
    let known = |upcaster: &Upcaster| {
        let mut all = Event::ALL.iter();
        all.any(|(name, schema)| *name == upcaster.name && (1..*schema).contains(&upcaster.from))
    };
    assert!(
        UPCASTERS.iter().all(known),
        "an upcaster leads beyond today's schema, or from nothing"
    );
}
