//! The stored text of every event. Each file in `tests/golden` fixes one; it is never changed, as
//! a ledger somewhere holds that text. `UPDATE_GOLDEN=1` writes the files that are missing.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use domain::{
    Event,
    account::{AccountOpened, AccountPrivate},
    app::{
        AppChanged, AppConfig, AppCreated, AppDeleted, JwtConfig, JwtKeys, SecretRef, UmsConfig,
    },
    device::{
        Channel, DeviceRegistered, DeviceReturned, DeviceUnregistered, DeviceUpdated, Identity,
        Profile,
    },
    event::Unreadable,
    message::{
        DeliveriesAdvanced, Ending, MessageAccepted, MessagePrivate, Progress, Protocol, RecallOp,
        RecallRequested, RecallResult, Recalled, Reporter, Sender, Step, Target,
    },
    owner::{OwnerPrivate, OwnerRemoved, OwnerSet},
    route::Strategy,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cast::raw;

/// An event as the ledger stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(rename = "type")]
    name: String,
    schema: i32,
    body: String,
    /// The private half; `None` when it has none, or had one that was erased.
    private: Option<String>,
}

impl Stored {
    /// The text of an event.
    pub(crate) fn of(event: &Event) -> Self {
        let (body, private) = event.encode().unwrap();
        Stored { name: event.name().to_owned(), schema: event.schema(), body, private }
    }

    /// The text after the private half was erased.
    pub(crate) fn erased(self) -> Self {
        Stored { private: None, ..self }
    }

    /// The event of the text.
    pub(crate) fn event(&self) -> Event {
        Event::decode(&self.name, self.schema, &self.body, self.private.as_deref()).unwrap()
    }
}

const ANN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000a);
const BOB: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000b);

fn text(text: &str) -> String {
    text.to_owned()
}

fn secret(reference: &str, fingerprint: &str) -> SecretRef {
    SecretRef { reference: text(reference), fingerprint: text(fingerprint) }
}

fn config() -> AppConfig {
    AppConfig {
        app_id: text("demo"),
        name: text("Demo \"演示\""),
        timezone: text("Asia/Shanghai"),
        ums: Some(UmsConfig {
            app_id: text("MB-DEMO-0001"),
            app_keys: vec![
                secret("app/demo/ums/app_key/1", "0123456789abcdef"),
                secret("app/demo/ums/app_key/2", "fedcba9876543210"),
            ],
            system_id: text("SV-DEMO-0001"),
            system_keys: vec![secret("app/demo/ums/system_key/1", "00112233445566ff")],
            app_packages: vec![text("com.demo.phone"), text("com.demo.fridge")],
            jwt: None,
        }),
    }
}

fn bare_config() -> AppConfig {
    AppConfig { name: text("Demo"), timezone: text("UTC"), ums: None, ..config() }
}

/// An app that signs its own tokens.
fn signing_config(jwt: JwtConfig) -> AppConfig {
    let ums = config().ums.map(|ums| UmsConfig { jwt: Some(jwt), ..ums });
    AppConfig { ums, ..config() }
}

fn profile() -> Profile {
    Profile {
        app_package: text("com.demo.speaker"),
        device_type: text("08"),
        type_id: Some(text("111c120024000810")),
        channel: Channel::M2m,
    }
}

fn bare_profile() -> Profile {
    let (app_package, device_type) = (text("com.demo.phone"), text("01"));
    Profile { app_package, device_type, type_id: None, channel: Channel::Jpush }
}

fn identity() -> Identity {
    Identity {
        client_id: text("client-1"),
        device_id: Some(text("0007A8B0C1D2")),
        former_device_id: Some(text("0007A8B0C1D1")),
        push_id: text("1a0018970a8e4c1b2f3"),
        device_name: Some(text("厨房")),
        user_name: Some(text("安\n")),
    }
}

fn bare_identity() -> Identity {
    Identity { client_id: text("client-1"), ..Identity::default() }
}

const SINCE: i64 = 1_700_000_000_123_456;

fn apps() -> Vec<(&'static str, Event)> {
    let secrets =
        vec![secret("secret/0190", "0f1e2d3c4b5a6978"), secret("secret/0191", "8796a5b4c3d2e1f0")];
    let hs256 = JwtConfig { keys: JwtKeys::Hs256(secrets), issuer: None, audience: None };
    let jwks = JwtConfig {
        keys: JwtKeys::JwksUrl(text("https://login.example.com/keys.json?v=\"1\"")),
        issuer: Some(text("https://login.example.com/")),
        audience: Some(text("push")),
    };
    vec![
        ("", AppCreated { config: config() }.into()),
        ("minimal", AppCreated { config: bare_config() }.into()),
        ("hs256", AppCreated { config: signing_config(hs256) }.into()),
        ("", AppChanged { config: config() }.into()),
        ("minimal", AppChanged { config: bare_config() }.into()),
        ("jwks", AppChanged { config: signing_config(jwks) }.into()),
        ("", AppDeleted {}.into()),
    ]
}

fn accounts_and_owners() -> Vec<(&'static str, Event)> {
    let which = || Some(OwnerPrivate { device_id: text("0007A8B0C1D2") });
    let bind_key = || text("9f86d081884c7d65");
    let user = AccountPrivate { ums_user: text("用户-1000\u{1F600}") };
    vec![
        ("", AccountOpened { private: Some(user) }.into()),
        ("minimal", AccountOpened { private: None }.into()),
        ("", OwnerSet { account: ANN, bind_key: bind_key(), private: which() }.into()),
        ("minimal", OwnerSet { account: ANN, bind_key: bind_key(), private: None }.into()),
        ("", OwnerRemoved { private: which() }.into()),
        ("minimal", OwnerRemoved { private: None }.into()),
    ]
}

fn devices() -> Vec<(&'static str, Event)> {
    let (device, registered_at) = (42, SINCE);
    let (account, former_account) = (Some(ANN), Some(BOB));
    let (rich, bare) = (|| Some(identity()), || Some(bare_identity()));
    let updated = |account, former_account, profile, private| {
        DeviceUpdated { device, registered_at, account, former_account, profile, private }.into()
    };
    let returned = |account, former_account, profile, private| {
        DeviceReturned { device, registered_at, account, former_account, profile, private }.into()
    };
    let registered =
        |account, profile, private| DeviceRegistered { account, profile, private }.into();
    vec![
        ("", registered(account, profile(), rich())),
        ("minimal", registered(None, bare_profile(), bare())),
        ("erased", registered(account, profile(), None)),
        ("", updated(account, former_account, profile(), rich())),
        ("minimal", updated(None, None, bare_profile(), bare())),
        ("", DeviceUnregistered { device, account, private: rich() }.into()),
        ("minimal", DeviceUnregistered { device, account: None, private: bare() }.into()),
        ("", returned(account, former_account, profile(), rich())),
        ("minimal", returned(None, None, bare_profile(), bare())),
    ]
}

fn messages() -> Vec<(&'static str, Event)> {
    let rich = MessageAccepted {
        protocol: Protocol::Ums,
        sender: Sender::User(ANN),
        strategy: Strategy::OnlineElseKept,
        expires_at: SINCE,
        burn: true,
        targets: vec![
            Target { device: 42, account: Some(BOB) },
            Target { device: 43, account: None },
        ],
        unresolved: 3,
        private: Some(MessagePrivate {
            destinations: raw(r#"{"type": 2, "devType": ["01", "08"]}"#),
            payload: Some(raw(r#"{"msgName":"你好","n":1.10,"big":12345678901234567890,"n":2}"#)),
        }),
    };
    let bare = MessagePrivate { destinations: raw("null"), payload: None };
    let minimal = MessageAccepted {
        sender: Sender::Cloud,
        burn: false,
        targets: Vec::new(),
        unresolved: 0,
        private: Some(bare),
        ..rich.clone()
    };
    let nothing = MessagePrivate { destinations: raw("{}"), payload: Some(raw("null")) };
    let from_terminal =
        MessageAccepted { sender: Sender::Terminal, private: Some(nothing), ..minimal.clone() };
    let erased = MessageAccepted { private: None, ..rich.clone() };
    vec![
        ("", rich.into()),
        ("minimal", minimal.into()),
        ("terminal", from_terminal.into()),
        ("erased", erased.into()),
    ]
}

/// Every word that a step can say.
const PROGRESS: [Progress; 14] = [
    Progress::Sent,
    Progress::Received,
    Progress::Displayed,
    Progress::Acknowledged,
    Progress::Ended(Ending::ExpiredOffline),
    Progress::Ended(Ending::ExpiredUnacknowledged),
    Progress::Ended(Ending::OwnerChanged),
    Progress::Ended(Ending::Unregistered),
    Progress::Ended(Ending::Recalled),
    Progress::Recalled(RecallResult::Requested),
    Progress::Recalled(RecallResult::StoppedBeforeSending),
    Progress::Recalled(RecallResult::ReplacedUnseen),
    Progress::Recalled(RecallResult::TooLate),
    Progress::Recalled(RecallResult::Unknown),
];

/// Where a word is in [`PROGRESS`]; a new word makes the compiler ask for its place, and its
/// example in a file of its own.
fn place(what: Progress) -> usize {
    match what {
        Progress::Sent => 0,
        Progress::Received => 1,
        Progress::Displayed => 2,
        Progress::Acknowledged => 3,
        Progress::Ended(ending) => match ending {
            Ending::ExpiredOffline => 4,
            Ending::ExpiredUnacknowledged => 5,
            Ending::OwnerChanged => 6,
            Ending::Unregistered => 7,
            Ending::Recalled => 8,
        },
        Progress::Recalled(result) => match result {
            RecallResult::Requested => 9,
            RecallResult::StoppedBeforeSending => 10,
            RecallResult::ReplacedUnseen => 11,
            RecallResult::TooLate => 12,
            RecallResult::Unknown => 13,
        },
    }
}

fn deliveries() -> Vec<(&'static str, Event)> {
    let reporters = [Reporter::Server, Reporter::Socket, Reporter::Rest];
    let steps = (42..).zip(PROGRESS).zip(reporters.into_iter().cycle());
    let step = |((device, what), by)| {
        let request = (by == Reporter::Rest).then(|| text("0190-request"));
        Step { device, what, by, request }
    };
    let results = [
        RecallResult::Requested,
        RecallResult::StoppedBeforeSending,
        RecallResult::ReplacedUnseen,
        RecallResult::TooLate,
        RecallResult::Unknown,
    ];
    let results = (42..).zip(results).map(|(device, result)| Recalled { device, result });
    let (accepted, expires_at) = (41, SINCE);
    let recall = |op, results| RecallRequested { accepted, expires_at, op, results }.into();
    vec![
        ("", DeliveriesAdvanced { accepted, steps: steps.map(step).collect() }.into()),
        ("minimal", DeliveriesAdvanced { accepted, steps: Vec::new() }.into()),
        ("", recall(RecallOp::Recall, results.collect())),
        ("minimal", recall(RecallOp::Replace, Vec::new())),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join("golden")
}

/// Every example and the name of its file.
fn examples() -> Vec<(String, Event)> {
    let all = [apps(), accounts_and_owners(), devices(), messages(), deliveries()];
    let named = |(variant, event): (&str, Event)| {
        let variant = if variant.is_empty() { String::new() } else { format!(".{variant}") };
        (format!("{}.{}{variant}.json", event.name(), event.schema()), event)
    };
    all.into_iter().flatten().map(named).collect()
}

/// Writes a file that is missing; one that is there is never touched.
fn add_missing(name: &str, event: &Event) {
    let mut text = serde_json::to_string_pretty(&Stored::of(event)).unwrap();
    text.push('\n');
    let file = OpenOptions::new().write(true).create_new(true).open(folder().join(name));
    if let Ok(mut file) = file {
        file.write_all(text.as_bytes()).unwrap();
    }
}

fn read(name: &str) -> Stored {
    let text = fs::read_to_string(folder().join(name))
        .unwrap_or_else(|_| panic!("{name} is missing: run with UPDATE_GOLDEN=1 and commit it"));
    serde_json::from_str(&text).unwrap_or_else(|cause| panic!("{name}: {cause}"))
}

#[test]
fn every_event_has_an_example_with_everything_in_it() {
    let rich: BTreeSet<String> = examples().into_iter().map(|(name, _)| name).collect();
    assert_eq!(rich.len(), examples().len(), "two examples have one name");
    for (name, schema) in Event::ALL {
        assert!(rich.contains(&format!("{name}.{schema}.json")), "no example of {name} {schema}");
    }
}

#[test]
fn every_word_that_a_step_can_say_is_in_an_example() {
    assert!(PROGRESS.iter().enumerate().all(|(index, what)| place(*what) == index));
}

#[test]
fn every_event_is_written_and_read_as_its_file_says() {
    let update = std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1");
    for (name, event) in examples() {
        if update {
            add_missing(&name, &event);
        }
        let stored = read(&name);
        assert_eq!(Stored::of(&event), stored, "{name} is written differently");
        assert_eq!(stored.event(), event, "{name} is read differently");
    }
}

#[test]
fn every_file_can_still_be_read() {
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stored = read(&name);
        assert!(name.starts_with(&format!("{}.{}.", stored.name, stored.schema)), "{name}");
        assert_eq!(stored.event().name(), stored.clone().erased().event().name());
    }
}

#[test]
fn what_is_not_known_or_does_not_fit_is_unreadable() {
    let unknown = |name, schema| {
        let event = Event::decode(name, schema, "{}", None);
        matches!(event, Err(Unreadable::Unknown { .. }))
    };
    assert!(unknown("app.renamed", 1));
    assert!(unknown("app.deleted", 2));
    for (name, body, private) in [
        ("owner.removed", "", None),
        ("owner.set", "{}", None),
        ("owner.removed", "{}", Some("{}")),
        ("message.accepted", "[]", None),
    ] {
        let event = Event::decode(name, 1, body, private);
        assert!(matches!(event, Err(Unreadable::Body { .. })), "{name}: {event:?}");
    }
}
