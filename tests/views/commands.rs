//! Commands that are given to the ledger itself, as no interface leads to them: on Easemob users,
//! labels and bindings, and what vendors say.

use domain::{
    Append, Decide,
    account::{Address, ImportAccounts, LinkAccount, RegisterUser, RemoveUser},
    callback::{
        CallbacksCalled, CallbacksReplayed, Group, Kind, Outcome, Reason, RecordCallbacks,
        ReplayCallbacks, State,
    },
    chat::{Recipient, SendChat},
    cid::{AdmitDevice, LinkDevice},
    device::{Bind, BindDevice, BuryToken, Device},
    facts::{Facts, Stop},
    label::{ChangeMembers, CreateLabel, DeleteLabel},
    message::{
        AdvanceDeliveries, Ending, MessageId, MessagePrivate, Progress, Protocol, RawJson, Step,
        WithdrawMessage,
    },
    presence::{NotePresence, PresenceChanged},
    push::{Destinations, Mode, PushMessage, PushSender},
    resend::Resend,
    route::Strategy,
    task::packed::Packed,
    terminal::AdmitTerminal,
    vendor::Vendor,
};
use uuid::Uuid;

use super::history::Random;

/// Names of Easemob users; one of them is a UMS user's too.
pub(super) const USERNAMES: [&str; 4] = ["user-0", "ann", "bob", "carl"];
/// Names of labels.
pub(super) const LABELS: [&str; 2] = ["news", "sports"];
/// Names of Tencent users.
const TALKERS: [&str; 2] = ["Ann", "Bob"];
const NOTIFIERS: [&str; 3] = ["apns", "fcm", "huawei"];

/// Some command.
pub(super) struct Any(Box<dyn Decide + Send + Sync>);

impl Decide for Any {
    fn decide(&self, facts: &Facts) -> Result<Vec<Append>, Stop> {
        self.0.decide(facts)
    }
}

fn any(command: impl Decide + Send + Sync + 'static) -> Any {
    Any(Box::new(command))
}

fn one(random: &mut Random, names: &[&str]) -> String {
    random.pick(names).unwrap().to_owned()
}

fn some(random: &mut Random, names: &[&str]) -> Vec<String> {
    (0..=random.below(names.len())).map(|_| one(random, names)).collect()
}

/// What every history begins with: an Antelope device, and a user in a label, with a device.
pub(super) const BEGINNING: [fn() -> Any; 7] = [
    || any(AdmitDevice { app: "demo".to_owned(), cid: 7, new_device: Uuid::now_v7() }),
    || any(register("ann".to_owned(), None)),
    || any(create("news".to_owned())),
    || any(change("news".to_owned(), vec!["ann".to_owned()], true)),
    || any(bind("ann".to_owned(), "phone".to_owned(), Bind::Seen)),
    || any(import(TALKERS)),
    || any(link(Address::Easemob("ann".to_owned()), Address::Tencent("ann".to_owned()))),
];

fn import(names: [&str; 2]) -> ImportAccounts {
    let account = |name: &str| (name.to_owned(), None, Uuid::now_v7());
    ImportAccounts { app: "demo".to_owned(), accounts: names.map(account).to_vec() }
}

fn link(of: Address, new: Address) -> LinkAccount {
    LinkAccount { app: "demo".to_owned(), of, new: vec![new] }
}

/// A message between Tencent accounts, of which a word may stop it.
pub(super) fn chat(random: &mut Random, [id, copy]: [MessageId; 2], now: i64) -> SendChat {
    let raw = |value| RawJson(serde_json::value::to_raw_value(&value).unwrap());
    let (from, name) = (one(random, &TALKERS), one(random, &["Ann", "Bob", "ann"]));
    let private = MessagePrivate {
        destinations: raw(serde_json::json!(name)),
        payload: Some(raw(serde_json::json!({ "MsgBody": [] }))),
        caller: Some("127.0.0.1".to_owned()),
    };
    let copy = (random.below(4) == 0).then_some(copy);
    SendChat {
        app: "demo".to_owned(),
        new_sender: None,
        from,
        to: vec![Recipient { name, id, copy, private }],
        seq: u32::try_from(random.below(9)).unwrap(),
        random: u32::try_from(random.below(9)).unwrap(),
        time: now / 1_000_000,
        strategy: random.pick(&Strategy::ALL).unwrap(),
        expires_at: now + 60_000_000,
        uncounted: random.below(5) == 0,
        unsynced: random.below(5) == 0,
        callback: random.below(2) == 0,
        words: vec!["bad".to_owned()],
        text: one(random, &["bad", "good", "fine", "well"]),
    }
}

/// Devices show a message of a conversation, or it is withdrawn.
pub(super) fn after_chat(random: &mut Random, message: MessageId, devices: &[i64]) -> Any {
    if random.below(3) == 0 {
        return any(WithdrawMessage { app: "demo".to_owned(), message });
    }
    let step = |device: &i64| Step::of_server(*device, Progress::Displayed);
    any(AdvanceDeliveries { message, steps: devices.iter().map(step).collect() })
}

/// A Tencent user connects a device, or an account or device gets one more address.
pub(super) fn of_links(random: &mut Random) -> Any {
    let app = "demo".to_owned();
    let user = one(random, &["Ann", "Bob", "ann"]);
    match random.below(4) {
        0 | 1 => {
            let (device_id, new_device) = ("phone".to_owned(), Uuid::now_v7());
            any(AdmitTerminal { app, user, device_id, new_device })
        }
        2 => {
            let (of, new) = (one(random, &USERNAMES), one(random, &["Bob", "ann", "Eve"]));
            any(link(Address::Easemob(of), Address::Tencent(new)))
        }
        _ => {
            let device = 1 + i64::try_from(random.below(40)).unwrap();
            any(LinkDevice { app, device, cid: 70 + u32::try_from(random.below(5)).unwrap() })
        }
    }
}

fn register(username: String, nickname: Option<String>) -> RegisterUser {
    RegisterUser { app: "demo".to_owned(), username, nickname, new_account: Uuid::now_v7() }
}

fn create(name: String) -> CreateLabel {
    let (description, new_label) = ("What it is for".to_owned(), Uuid::now_v7());
    CreateLabel { app: "demo".to_owned(), name, description, most: 2, new_label }
}

fn change(name: String, usernames: Vec<String>, join: bool) -> ChangeMembers {
    ChangeMembers { app: "demo".to_owned(), name, usernames, join, most: 3 }
}

fn bind(username: String, device_id: String, change: Bind) -> BindDevice {
    let (app, new_device) = ("demo".to_owned(), Uuid::now_v7());
    BindDevice { app, username, device_id, change, new_device }
}

/// A command on an Easemob user or a label.
pub(super) fn of_users_and_labels(random: &mut Random) -> Any {
    let app = "demo".to_owned();
    let (username, name) = (one(random, &USERNAMES), one(random, &LABELS));
    match random.below(10) {
        0..=2 => {
            let nickname = random.pick(&[None, Some("A".to_owned())]).unwrap();
            any(register(username, nickname))
        }
        3 => any(RemoveUser { app, username }),
        4 | 5 => any(create(name)),
        6 => any(DeleteLabel { app, name }),
        verb => {
            let usernames = some(random, &USERNAMES);
            any(change(name, usernames, verb < 9))
        }
    }
}

/// What came of callbacks to some receiver that nobody has, or that an operator asks for them again.
pub(super) fn of_callbacks(random: &mut Random) -> Any {
    let kind = random.pick(&Kind::ALL).unwrap();
    let receiver = Uuid::from_u128(kind as u128 + 1);
    let position = |random: &mut Random| 1 + i64::try_from(random.below(30)).unwrap();
    if random.below(5) == 0 {
        let some = random.below(2) == 0;
        let callbacks = some.then(|| Packed::growing([position(random)]));
        let replayed = CallbacksReplayed { kind, receiver, callbacks };
        return any(ReplayCallbacks { replayed, new_record: Uuid::now_v7() });
    }
    let mut free: Vec<i64> = (1..=30).collect();
    let groups = (0..=random.below(3)).map(|_| {
        let outcome = random.pick(&Outcome::ALL).unwrap();
        let (calls, again) = (u32::try_from(random.below(3)).unwrap(), random.below(2) == 0);
        // Each callback is in one group of an event.
        let positions = (0..=random.below(4)).map(|_| free.swap_remove(random.below(free.len())));
        let state = State {
            outcome,
            calls,
            reason: (outcome != Outcome::Answered).then_some(Reason::Timeout),
            status: None,
            due_at: (outcome == Outcome::Postponed).then_some(i64::MAX),
        };
        Group::of(state, again, positions.collect())
    });
    let called = CallbacksCalled { kind, receiver, groups: groups.collect() };
    any(RecordCallbacks { called, new_record: Uuid::now_v7() })
}

/// A device that comes or goes, as far as its app is told of that.
pub(super) fn of_presence(random: &mut Random) -> NotePresence {
    let (device, online) = (1 + i64::try_from(random.below(4)).unwrap(), random.below(2) == 0);
    let changed = PresenceChanged { device, online, account: None, how: None, private: None };
    NotePresence { changed, new_note: Uuid::now_v7() }
}

/// A command on a device of an Easemob user. Some device ids are client ids of UMS devices.
pub(super) fn of_bindings(random: &mut Random) -> BindDevice {
    let (notifier, token) = (one(random, &NOTIFIERS), format!("t-{}", random.below(3)));
    let change = match random.below(8) {
        0 => Bind::Seen,
        1 => Bind::Without(notifier),
        2 => Bind::Nothing,
        _ => Bind::Token(notifier, token),
    };
    let device_id = one(random, &["c-0", "c-1", "phone"]);
    bind(one(random, &USERNAMES), device_id, change)
}

/// The verdict on a token that a device has, or had.
pub(super) fn bury(random: &mut Random, device: &Device) -> BuryToken {
    let binding = random.pick(&device.bindings());
    let (notifier, token) = binding.map_or((None, "gone".to_owned()), |b| (b.notifier, b.token));
    BuryToken { device: device.number, notifier, token, code: "410".to_owned() }
}

/// A push to some Easemob users, in any way.
pub(super) fn push(random: &mut Random, id: MessageId, now: i64) -> PushMessage {
    let raw = |json| RawJson(serde_json::value::to_raw_value(&json).unwrap());
    let seconds = 1 + i64::try_from(random.below(60)).unwrap();
    let usernames = some(random, &USERNAMES);
    // Some go to the Antelope device, and wait for its answer.
    let resend = random.pick(&[None, Some(Resend::UntilAnswered), Some(Resend::Once)]).unwrap();
    let destinations = match resend {
        Some(_) => Destinations::Cids(vec![7, 8]),
        None => Destinations::Users(usernames.clone()),
    };
    PushMessage {
        app: "demo".to_owned(),
        id,
        protocol: Protocol::Easemob,
        sender: PushSender::Cloud,
        mode: random.pick(&[Mode::Strict, Mode::Try, Mode::TryOrNobody]).unwrap(),
        strategy: random.pick(&Strategy::ALL).unwrap(),
        expires_at: now + seconds * 1_000_000,
        burn: random.below(4) == 0,
        resend,
        callback: resend.is_some(),
        private: MessagePrivate {
            destinations: raw(serde_json::json!({ "targets": usernames })),
            payload: Some(raw(serde_json::json!({ "title": "门铃" }))),
            caller: None,
        },
        destinations,
        new_account: Uuid::now_v7(),
    }
}

/// What vendors, and the server, say of some deliveries of a message.
pub(super) fn outcomes(
    random: &mut Random,
    message: MessageId,
    devices: &[i64],
) -> AdvanceDeliveries {
    let reasons = [
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
    let mut steps = Vec::new();
    for _ in 0..random.below(4) {
        let Some(device) = random.pick(devices) else { break };
        let reason = random.pick(&reasons).unwrap();
        let vendor = random.pick(&Vendor::ALL);
        let word = Some("word of the vendor".to_owned());
        let step = |what| Step::of_server(device, what);
        steps.push(match random.below(6) {
            0 => Step { vendor, word, ..step(Progress::Ended(reason)) },
            1 | 2 => Step { vendor, word, ..step(Progress::Failed(reason)) },
            3 => step(Progress::Sent),
            _ => Step { vendor, word, ..step(Progress::Sent) },
        });
    }
    AdvanceDeliveries { message, steps }
}
