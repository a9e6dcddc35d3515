//! The stored texts of uplinks, presence and callbacks; see [`golden`](crate::golden).

use domain::{
    Event,
    app::{AppChanged, AppConfig, CallUrl, SecretRef, UplinkConfig, WebhookConfig},
    callback::{self, Attempt, CallbacksCalled, CallbacksReplayed, Group, Reason},
    cid::Cid,
    erasure::{ErasedDevice, ErasurePrivate, Grounds, SubjectErased},
    message::Protocol,
    presence::{Manner, PresenceChanged},
    task::packed::Packed,
    uplink::{Source, UplinkPrivate, UplinkReceived},
};
use uuid::Uuid;

use crate::cast::raw;

const RECEIVER: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000a);
const HOOK: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_000b);

fn text(text: &str) -> String {
    text.to_owned()
}

fn secret(reference: &str, fingerprint: &str) -> SecretRef {
    SecretRef { reference: text(reference), fingerprint: text(fingerprint) }
}

pub(crate) fn uplinks() -> Vec<(&'static str, Event)> {
    let private = UplinkPrivate {
        id: Some(text("gw-1")),
        from: text("18512345678"),
        content: raw("\"好的，收到了\""),
        extend_code: Some(text("12345")),
        user_id: Some(text("xxx-uhost-001")),
    };
    let bare = UplinkPrivate { id: None, extend_code: None, user_id: None, ..private.clone() };
    let bare = UplinkPrivate { from: text("c-1"), content: raw("{\"n\": 1.50}"), ..bare };
    let device = Source::Device { device: 42, protocol: Protocol::Antelope };
    let written_at = 1_573_552_778;
    let uplink = |source, private| UplinkReceived { source, written_at, private }.into();
    let presence = |online, how, private| {
        PresenceChanged { device: 42, online, account: None, how, private }.into()
    };
    let private_cid = Some(Cid { cid: 5_003_062 });
    vec![
        ("", uplink(Source::Sms, Some(private))),
        ("device", uplink(device, Some(bare))),
        ("erased", uplink(Source::Sms, None)),
        ("", presence(true, None, private_cid)),
        ("took_over", presence(true, Some(Manner::TookOver), private_cid)),
        ("timed_out", presence(false, Some(Manner::TimedOut), private_cid)),
        ("erased", presence(false, None, None)),
    ]
}

pub(crate) fn callbacks() -> Vec<(&'static str, Event)> {
    let state = |outcome, calls, reason| callback::State {
        outcome,
        calls,
        reason,
        status: None,
        due_at: None,
    };
    let postponed = callback::State {
        status: Some(503),
        due_at: Some(1_700_000_300_000_000),
        ..state(callback::Outcome::Postponed, 2, Some(Reason::Status))
    };
    let (answered, given_up) = (callback::Outcome::Answered, callback::Outcome::GivenUp);
    let groups = vec![
        Group::of(state(answered, 1, None), false, vec![17, 18, 19, 40]),
        Group::of(postponed, false, vec![20]),
        Group::of(state(given_up, 4, Some(Reason::Timeout)), true, vec![21, 23]),
    ];
    let stopped = vec![
        Group::of(state(callback::Outcome::Postponed, 0, Some(Reason::Stopped)), false, vec![24]),
        Group::of(state(given_up, 0, Some(Reason::Unreadable)), false, vec![25]),
    ];
    let attempt = |at, status, reason| Attempt { at, took: 21, status, reason };
    let attempts = vec![
        attempt(1_700_000_000_000_000, None, Some(Reason::Timeout)),
        attempt(1_700_000_005_000_000, Some(500), Some(Reason::Status)),
        attempt(1_700_000_305_000_000, Some(200), None),
    ];
    let tried = vec![Group::of(state(answered, 3, None), false, vec![26]).after(attempts)];
    let (kind, receiver) = (callback::Kind::Webhook, RECEIVER);
    let all = CallbacksReplayed { kind, receiver, callbacks: None };
    let some = CallbacksReplayed { callbacks: Some(Packed::growing([21, 23])), ..all.clone() };
    let kind = callback::Kind::UcloudUplink;
    vec![
        ("", CallbacksCalled { kind: callback::Kind::Webhook, receiver, groups }.into()),
        ("minimal", CallbacksCalled { kind, receiver, groups: Vec::new() }.into()),
        ("stopped", CallbacksCalled { kind, receiver, groups: stopped }.into()),
        ("attempts", CallbacksCalled { kind, receiver, groups: tried }.into()),
        ("", some.into()),
        ("minimal", all.into()),
    ]
}

/// Erasures of a user with its devices, and of a phone.
pub(crate) fn erasures() -> Vec<(&'static str, Event)> {
    let user = SubjectErased {
        grounds: Grounds::ConsentWithdrawn,
        accounts: vec![HOOK],
        devices: vec![ErasedDevice { device: 7, stream: RECEIVER }],
        phone: false,
        private: None,
    };
    let phone = SubjectErased {
        grounds: Grounds::LegalObligation,
        accounts: Vec::new(),
        devices: Vec::new(),
        phone: true,
        private: Some(ErasurePrivate { phone: text("+8613800138000") }),
    };
    vec![("", phone.into()), ("user", user.into())]
}

pub(crate) fn configured(bare: AppConfig) -> Vec<(&'static str, Event)> {
    let sealed = CallUrl::Sealed {
        origin: text("https://example.com/uplink"),
        secret: secret("secret/6", "8899aabbccddeeff"),
    };
    let sealed = UplinkConfig { callback_url: Some(sealed), report_url: None };
    let sealed = AppChanged { config: AppConfig { uplink: sealed, ..bare.clone() } };
    let open = (
        "callbacks",
        AppChanged {
            config: AppConfig {
                uplink: UplinkConfig {
                    callback_url: Some(CallUrl::Open(text("https://example.com/uplink"))),
                    report_url: Some(CallUrl::Open(text("https://example.com/report"))),
                },
                webhooks: vec![WebhookConfig {
                    id: HOOK,
                    url: CallUrl::Open(text("https://example.com/hook")),
                    events: vec![text("uplink.received"), text("device.*")],
                    secrets: vec![secret("secret/5", "0011223344556677")],
                    disabled: true,
                }],
                ..bare
            },
        }
        .into(),
    );
    vec![open, ("sealed-url", sealed.into())]
}
