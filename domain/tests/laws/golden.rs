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
    account::{AccountClosed, AccountOpened, AccountPrivate},
    app::{
        AntelopeConfig, AppChanged, AppConfig, AppCreated, AppDeleted, CallUrl, DeliveryConfig,
        EasemobConfig, EasemobLimits, JwtConfig, JwtKeys, SecretRef, UmsConfig, UplinkConfig,
        VendorRef,
    },
    cid::{Cid, DeviceAdmitted},
    device::{
        Channel, DeviceBound, DeviceRegistered, DeviceReturned, DeviceUnregistered, DeviceUpdated,
        Endpoint, Identity, Profile, TokenDied,
    },
    event::Unreadable,
    label::{LabelCreated, LabelDeleted, LabelMembersChanged},
    message::{
        DeliveriesAdvanced, Ending, MessageAccepted, MessagePrivate, Progress, Protocol, RecallOp,
        RecallRequested, RecallResult, Recalled, Reporter, Sender, Step, Target,
    },
    owner::{OwnerPrivate, OwnerRemoved, OwnerSet},
    resend::Resend,
    route::Strategy,
    task::{Audience, How, TaskCreated, TaskEnded, TaskStarted, Totals},
    vendor::Vendor,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{cast::raw, golden_callbacks, golden_tasks, golden_tencent};

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
        easemob: None,
        antelope: None,
        tencent: None,
        uplink: UplinkConfig::default(),
        webhooks: Vec::new(),
        vendors: Vec::new(),
        delivery: DeliveryConfig::default(),
    }
}

/// An app that speaks Easemob and reaches its devices by vendors.
fn easemob_config() -> AppConfig {
    AppConfig {
        easemob: Some(EasemobConfig {
            org_name: text("acme"),
            app_name: text("shop"),
            application: ANN,
            client_id: text("YXA6-demo"),
            client_secrets: vec![secret("secret/1", "0123456789abcdef")],
            push_open: true,
            limits: EasemobLimits { targets: 7, ..EasemobLimits::default() },
        }),
        vendors: vec![VendorRef {
            name: text("jpush-cert"),
            vendor: Vendor::Jpush,
            app_packages: vec![text("com.demo.phone")],
            credentials: secret("secret/2", "00112233445566ff"),
        }],
        delivery: DeliveryConfig { ack_wait_ms: 3_000, keep_seconds: 600 },
        ..bare_config()
    }
}

/// The same with limits of its own.
fn limited_config() -> AppConfig {
    let mut config = easemob_config();
    if let Some(easemob) = &mut config.easemob {
        easemob.limits = EasemobLimits {
            broadcast_per_second: 2,
            message_per_second: 3,
            task_query_per_second: 4,
            receipt_per_second: 9,
            registration_per_second: 5,
            batch_delete_per_second: 6,
            batch_status_per_second: 7,
            binding_per_second: 8,
            ..EasemobLimits::default()
        };
    }
    config
}

/// An app that speaks Antelope.
fn antelope_config(webhook: Option<&str>) -> AppConfig {
    let antelope = AntelopeConfig {
        app_id: text("Demo"),
        app_keys: vec![
            secret("secret/3", "89abcdef01234567"),
            secret("secret/4", "76543210fedcba98"),
        ],
        cid_ranges: vec![(5_000_000, 5_009_999), (4_000_000_000, u32::MAX)],
        state_webhook: webhook.map(|url| CallUrl::Open(format!("{url}/state"))),
        webhook: webhook.map(|url| CallUrl::Open(url.to_owned())),
    };
    AppConfig { antelope: Some(antelope), ..bare_config() }
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
        cid: None,
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
        keys: JwtKeys::JwksUrl(CallUrl::Open(text("https://login.example.com/keys.json?v=\"1\""))),
        issuer: Some(text("https://login.example.com/")),
        audience: Some(text("push")),
    };
    vec![
        ("", AppCreated { config: config() }.into()),
        ("minimal", AppCreated { config: bare_config() }.into()),
        ("easemob", AppCreated { config: easemob_config() }.into()),
        ("easemob-limits", AppCreated { config: limited_config() }.into()),
        ("antelope", AppCreated { config: antelope_config(None) }.into()),
        (
            "antelope",
            AppChanged { config: antelope_config(Some("https://example.com/hook")) }.into(),
        ),
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
    let user = AccountPrivate {
        ums_user: Some(text("用户-1000\u{1F600}")),
        ..AccountPrivate::default()
    };
    let registered = AccountPrivate {
        username: Some(text("ann")),
        nickname: Some(text("安")),
        ..AccountPrivate::default()
    };
    vec![
        ("", AccountOpened { private: Some(user) }.into()),
        ("easemob", AccountOpened { private: Some(registered.clone()) }.into()),
        ("", AccountClosed { private: Some(registered) }.into()),
        ("minimal", AccountClosed { private: None }.into()),
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

fn labels() -> Vec<(&'static str, Event)> {
    let name = || text("post-90s");
    let (joined, left) = (vec![ANN], vec![BOB]);
    let nobody = Vec::new;
    vec![
        ("", LabelCreated { name: name(), description: text("born after 1990") }.into()),
        ("minimal", LabelCreated { name: name(), description: String::new() }.into()),
        ("", LabelDeleted { name: name() }.into()),
        ("", LabelMembersChanged { name: name(), joined, left }.into()),
        ("minimal", LabelMembersChanged { name: name(), joined: nobody(), left: nobody() }.into()),
    ]
}

fn bindings() -> Vec<(&'static str, Event)> {
    let endpoint = || {
        let tokens = vec![text("token-a"), text("token-b")];
        Some(Endpoint { device_id: text("phone-1"), tokens, cid: None })
    };
    let bare = Endpoint { device_id: text("phone-1"), tokens: Vec::new(), cid: None };
    let notifiers = || vec![text("apns-cert"), text("jpush-cert")];
    let (account, code) = (ANN, text("1003"));
    let protocol = Protocol::Easemob;
    let notifiers_of = |all: bool| if all { notifiers() } else { Vec::new() };
    let binding = |device, all, private| DeviceBound {
        device,
        account,
        protocol,
        notifiers: notifiers_of(all),
        private,
    };
    let first = binding(None, false, Some(bare));
    let bound = |private| binding(Some(42), true, private);
    let died = TokenDied {
        device: 42,
        account: Some(ANN),
        notifier: Some(text("jpush-cert")),
        code: code.clone(),
        private: Some(bare_identity()),
    };
    let bare = TokenDied { device: 42, account: None, notifier: None, code, private: None };
    vec![
        ("", bound(endpoint()).into()),
        ("minimal", first.into()),
        ("erased", bound(None).into()),
        ("", DeviceAdmitted { private: Some(Cid { cid: 4_000_000_000 }) }.into()),
        ("erased", DeviceAdmitted { private: None }.into()),
        ("", died.into()),
        ("minimal", bare.into()),
    ]
}

fn messages() -> Vec<(&'static str, Event)> {
    let rich = MessageAccepted {
        protocol: Protocol::Ums,
        sender: Sender::User(ANN),
        strategy: Strategy::OnlineElseKept,
        expires_at: SINCE,
        burn: true,
        resend: None,
        callback: false,
        targets: vec![
            Target { device: 42, account: Some(BOB) },
            Target { device: 43, account: None },
        ],
        unresolved: 3,
        chat: None,
        users: 0,
        unbound: 0,
        private: Some(MessagePrivate {
            destinations: raw(r#"{"type": 2, "devType": ["01", "08"]}"#),
            payload: Some(raw(r#"{"msgName":"你好","n":1.10,"big":12345678901234567890,"n":2}"#)),
            caller: None,
        }),
    };
    let bare = MessagePrivate { destinations: raw("null"), payload: None, caller: None };
    let minimal = MessageAccepted {
        sender: Sender::Cloud,
        burn: false,
        targets: Vec::new(),
        unresolved: 0,
        private: Some(bare),
        ..rich.clone()
    };
    let payload = Some(raw("null"));
    let nothing = MessagePrivate { destinations: raw("{}"), payload, caller: None };
    let from_terminal =
        MessageAccepted { sender: Sender::Terminal, private: Some(nothing), ..minimal.clone() };
    let erased = MessageAccepted { private: None, ..rich.clone() };
    let to_users = |strategy| MessageAccepted {
        protocol: Protocol::Easemob,
        sender: Sender::Cloud,
        strategy,
        burn: false,
        users: 3,
        unbound: 1,
        ..rich.clone()
    };
    let antelope = |resend, callback| MessageAccepted {
        protocol: Protocol::Antelope,
        sender: Sender::Terminal,
        strategy: Strategy::PresentOnly,
        burn: false,
        resend: Some(resend),
        callback,
        private: Some(MessagePrivate {
            destinations: raw("[5003062,1003775]"),
            payload: Some(raw(r#"{"name":"PopMessage","body":"aGVsbG8=","sourceId":1003200}"#)),
            caller: None,
        }),
        ..rich.clone()
    };
    vec![
        ("antelope-2", antelope(Resend::UntilAnswered, true).into()),
        ("antelope-3", antelope(Resend::Once, false).into()),
        ("strategy-0", to_users(Strategy::VendorElseOnline).into()),
        ("strategy-2", to_users(Strategy::VendorOnly).into()),
        ("strategy-3", to_users(Strategy::OnlineElseVendor).into()),
        ("strategy-4", to_users(Strategy::PresentOnly).into()),
        ("", rich.into()),
        ("minimal", minimal.into()),
        ("terminal", from_terminal.into()),
        ("erased", erased.into()),
    ]
}

/// Every reason for an ending.
pub(crate) const ENDINGS: [Ending; 15] = [
    Ending::ExpiredOffline,
    Ending::ExpiredUnacknowledged,
    Ending::OwnerChanged,
    Ending::Unregistered,
    Ending::Recalled,
    Ending::NoBinding,
    Ending::NotPresent,
    Ending::DeadToken,
    Ending::Muted,
    Ending::Unfit,
    Ending::QuotaExhausted,
    Ending::Misconfigured,
    Ending::VendorUnavailable,
    Ending::ExpiredUnsent,
    Ending::Unacknowledged,
];

/// Where a reason is in [`ENDINGS`]; a new one makes the compiler ask for its place, and its
/// example in a file of its own.
fn place(ending: Ending) -> usize {
    match ending {
        Ending::ExpiredOffline => 0,
        Ending::ExpiredUnacknowledged => 1,
        Ending::OwnerChanged => 2,
        Ending::Unregistered => 3,
        Ending::Recalled => 4,
        Ending::NoBinding => 5,
        Ending::NotPresent => 6,
        Ending::DeadToken => 7,
        Ending::Muted => 8,
        Ending::Unfit => 9,
        Ending::QuotaExhausted => 10,
        Ending::Misconfigured => 11,
        Ending::VendorUnavailable => 12,
        Ending::ExpiredUnsent => 13,
        Ending::Unacknowledged => 14,
    }
}

/// How many of [`ENDINGS`] there were when the example with vendors was written.
const OF_VENDORS: usize = 14;

/// The words of steps before there were vendors.
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

/// What vendors say: every reason, as an ending and as a failure that is not the end.
fn of_vendors() -> DeliveriesAdvanced {
    let taken = Step {
        device: 41,
        what: Progress::Sent,
        by: Reporter::Server,
        request: None,
        vendor: Some(Vendor::Jpush),
        word: Some(text("29560231134892035")),
    };
    let refused = |(device, what)| Step {
        device,
        what,
        vendor: Some(Vendor::Apns),
        word: Some(text("410 Unregistered")),
        ..taken.clone()
    };
    let known = || ENDINGS.into_iter().take(OF_VENDORS);
    let (endings, failures) = (known().map(Progress::Ended), known().map(Progress::Failed));
    let steps = (42..).zip(endings.chain(failures)).map(refused);
    let steps = [taken.clone()].into_iter().chain(steps).collect();
    DeliveriesAdvanced { accepted: 1_000, steps }
}

fn deliveries() -> Vec<(&'static str, Event)> {
    let reporters = [Reporter::Server, Reporter::Socket, Reporter::Rest];
    let steps = (42..).zip(PROGRESS).zip(reporters.into_iter().cycle());
    let step = |((device, what), by)| {
        let request = (by == Reporter::Rest).then(|| text("0190-request"));
        Step { device, what, by, request, vendor: None, word: None }
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
    let ended = Step::of_server(42, Progress::Ended(Ending::Unacknowledged));
    let unacknowledged = DeliveriesAdvanced { accepted, steps: vec![ended] };
    let recall = |op, results| RecallRequested { accepted, expires_at, op, results }.into();
    vec![
        ("", DeliveriesAdvanced { accepted, steps: steps.map(step).collect() }.into()),
        ("minimal", DeliveriesAdvanced { accepted, steps: Vec::new() }.into()),
        ("vendors", of_vendors().into()),
        ("unacknowledged", unacknowledged.into()),
        ("", recall(RecallOp::Recall, results.collect())),
        ("minimal", recall(RecallOp::Replace, Vec::new())),
    ]
}

fn tasks() -> Vec<(&'static str, Event)> {
    let rich = TaskCreated {
        audience: Audience::Label { label: ANN, name: text("post-90s") },
        protocol: Protocol::Easemob,
        strategy: Strategy::VendorOnly,
        keep_seconds: 86_400,
        start_at: Some(SINCE),
        unresolved: 0,
        private: Some(MessagePrivate {
            destinations: raw(r#"{"targets": ["post-90s"]}"#),
            payload: Some(raw(r#"{"title":"你好"}"#)),
            caller: None,
        }),
    };
    let to_users =
        TaskCreated { audience: Audience::Users(vec![ANN, BOB]), unresolved: 2, ..rich.clone() };
    let minimal =
        TaskCreated { audience: Audience::Everyone, start_at: None, private: None, ..rich.clone() };
    let totals = Totals { users: 5, unbound: 1, devices: 4, chunks: 2 };
    let ended = |how, totals| TaskEnded { how, totals }.into();
    vec![
        ("", rich.into()),
        ("users", to_users.into()),
        ("minimal", minimal.into()),
        ("", TaskStarted { expires_at: SINCE, chunk_devices: 2_000 }.into()),
        ("", ended(How::Finished, totals)),
        ("cancelled", ended(How::Cancelled, Totals::default())),
    ]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join("golden")
}

/// Every example and the name of its file.
fn examples() -> Vec<(String, Event)> {
    let all = [
        apps(),
        accounts_and_owners(),
        labels(),
        devices(),
        bindings(),
        messages(),
        deliveries(),
        tasks(),
        golden_tasks::chunks(),
        golden_callbacks::uplinks(),
        golden_callbacks::configured(bare_config()),
        golden_callbacks::callbacks(),
        golden_callbacks::erasures(),
        golden_tencent::examples(bare_config()),
    ];
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
fn every_reason_for_an_ending_is_in_an_example() {
    assert!(ENDINGS.iter().enumerate().all(|(index, ending)| place(*ending) == index));
    // It is called in metrics and statistics what it is called in events.
    let stored = |ending: Ending| serde_json::to_value(ending).unwrap();
    assert!(ENDINGS.into_iter().all(|ending| stored(ending) == ending.name()));
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
