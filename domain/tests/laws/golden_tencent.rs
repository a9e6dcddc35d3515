//! Examples of what came with Tencent IM: conversations, accounts and devices that got an address in
//! one more protocol, and new fields of older events; see [`golden`](crate::golden).

use domain::{
    Event,
    account::{AccountClosed, AccountLinked, AccountOpened, AccountPrivate},
    app::{AppChanged, AppConfig, AppCreated, CallUrl, SecretRef, TencentCallback, TencentConfig},
    chat::{Chat, MessageFiltered},
    cid::{DeviceLinked, Linked},
    device::{Channel, DeviceBound, DeviceUpdated, Endpoint, Identity, Profile},
    message::{MessageAccepted, MessagePrivate, Protocol, Sender, Target},
    presence::PresenceChanged,
    route::Strategy,
};
use uuid::Uuid;

use crate::cast::raw;

const ANN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0a11);
const BOB: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0b0b);
const SINCE: i64 = 1_700_000_000_123_456;
const CID: u32 = 4_000_000_000;

fn text(text: &str) -> String {
    text.to_owned()
}

fn secret(reference: &str) -> SecretRef {
    SecretRef { reference: text(reference), fingerprint: text("89abcdef01234567") }
}

fn configs(bare: AppConfig) -> [AppConfig; 2] {
    let minimal = TencentConfig {
        sdk_app_id: 1_400_009_999,
        secret_keys: vec![secret("secret/6")],
        admin: text("administrator"),
        words: Vec::new(),
        callback_url: None,
        callback_token: None,
        callbacks: Vec::new(),
        retries: 0,
        refuse_unanswered: false,
    };
    let rich = TencentConfig {
        words: vec![text("坏")],
        callback_url: Some(CallUrl::Open(text("https://example.com/im"))),
        callback_token: Some(secret("secret/7")),
        callbacks: TencentCallback::ALL.to_vec(),
        retries: 3,
        refuse_unanswered: true,
        ..minimal.clone()
    };
    [minimal, rich].map(|tencent| AppConfig { tencent: Some(tencent), ..bare.clone() })
}

fn chat(uncounted: bool, unsynced: bool) -> Chat {
    let (seq, random, time) = (u32::MAX, 2_837_546, 1_557_481_126);
    Chat { to: BOB, seq, random, time, uncounted, unsynced }
}

fn private() -> Option<MessagePrivate> {
    let payload = r#"{"From_Account":"jared","To_Account":"Jonh","MsgSeq":48374,"MsgBody":[{}]}"#;
    Some(MessagePrivate {
        destinations: raw(r#""Jonh""#),
        payload: Some(raw(payload)),
        caller: Some(text("203.0.113.7")),
    })
}

fn messages() -> Vec<(&'static str, Event)> {
    let sent = |chat, strategy, private| MessageAccepted {
        protocol: Protocol::Tencent,
        sender: Sender::User(ANN),
        strategy,
        expires_at: SINCE,
        burn: false,
        resend: None,
        callback: true,
        targets: vec![Target { device: 42, account: Some(BOB) }],
        unresolved: 0,
        chat: Some(chat),
        users: 1,
        unbound: 0,
        private,
    };
    let (now, ever) = (Strategy::PresentOnly, Strategy::OnlineElseVendor);
    let filtered = |chat, callback, private| {
        MessageFiltered { sender: ANN, chat, strategy: ever, callback, private }.into()
    };
    vec![
        ("tencent", sent(chat(false, false), ever, private()).into()),
        ("tencent-switches", sent(chat(true, true), now, private()).into()),
        ("", filtered(chat(true, true), true, private())),
        ("minimal", filtered(chat(false, false), false, None)),
    ]
}

fn links() -> Vec<(&'static str, Event)> {
    let addresses = AccountPrivate {
        ums_user: Some(text("用户-1000")),
        username: Some(text("ann")),
        tencent: Some(text("Ann")),
        nickname: Some(text("安")),
    };
    let imported = AccountPrivate { tencent: Some(text("Ann")), ..AccountPrivate::default() };
    let identity = Identity {
        client_id: text("client-1"),
        device_id: Some(text("0007A8B0C1D2")),
        cid: Some(CID),
        ..Identity::default()
    };
    let profile = Profile {
        app_package: text("com.demo.phone"),
        device_type: text("01"),
        type_id: None,
        channel: Channel::Jpush,
    };
    let updated = DeviceUpdated {
        device: 42,
        registered_at: SINCE,
        account: Some(ANN),
        former_account: None,
        profile: profile.clone(),
        private: Some(identity.clone()),
    };
    let bound = |protocol, cid| {
        let private = Some(Endpoint { device_id: text("phone-1"), tokens: Vec::new(), cid });
        DeviceBound { device: None, account: ANN, protocol, notifiers: Vec::new(), private }.into()
    };
    let rich = DeviceLinked {
        device: 42,
        registered_at: SINCE,
        updated: true,
        account: Some(ANN),
        protocol: Protocol::Ums,
        profile,
        notifiers: vec![text("jpush-cert")],
        private: Some(Linked { identity, tokens: vec![text("token-a")] }),
    };
    let bare = DeviceLinked {
        updated: false,
        account: None,
        notifiers: Vec::new(),
        private: None,
        ..rich.clone()
    };
    vec![
        ("tencent", AccountOpened { private: Some(imported) }.into()),
        ("", AccountLinked { opened_at: SINCE, private: Some(addresses.clone()) }.into()),
        ("minimal", AccountLinked { opened_at: SINCE, private: None }.into()),
        ("linked", AccountClosed { private: Some(addresses) }.into()),
        ("", rich.into()),
        ("minimal", bare.into()),
        ("linked", updated.into()),
        ("tencent", bound(Protocol::Tencent, None)),
        ("linked", bound(Protocol::Easemob, Some(CID))),
    ]
}

pub(crate) fn examples(bare: AppConfig) -> Vec<(&'static str, Event)> {
    let [minimal, rich] = configs(bare);
    let (account, how, private) = (Some(ANN), None, None);
    let presence = PresenceChanged { device: 42, online: true, account, how, private };
    let mut all = vec![
        ("tencent", AppCreated { config: minimal }.into()),
        ("tencent", AppChanged { config: rich }.into()),
        ("account", presence.into()),
    ];
    all.extend(messages());
    all.extend(links());
    all
}
